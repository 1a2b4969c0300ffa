//! The promise of the batch protocol as a property: after any steps, with connections cut anywhere and
//! batches sent again any number of times, the server holds the values of a memory store after the same
//! steps. If the server loses all data in between, it has every series again, every gauge as it was, and all
//! later counts. If it is emptied on purpose, it has the later changes and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use pytheus_backend_rs::{Backend, MetricFamily, MetricType};

use support::proxy::{Direction, Proxy};
use support::*;

#[derive(Debug, Clone)]
enum Step {
    /// A change of one of three metrics of each family. Amounts are whole numbers, so sums are exact in any
    /// order.
    Count(usize, u16),
    Observe(usize, u16),
    Set(usize, i16),
    Add(usize, i16),
    Remove(usize),
    Clear,
    Cut(bool, usize),
    SwallowReply,
    /// Data on the existing connections arrives late, when they are released.
    Hold,
    Release,
    FlushScript,
    Flush,
    Scrape,
    /// The server restarts without its data.
    Lose,
    /// The server is emptied on purpose.
    Empty,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_usize, any::<u16>()).prop_map(|(which, amount)| Step::Count(which, amount)),
        3 => (0..3_usize, any::<u16>()).prop_map(|(which, value)| Step::Observe(which, value)),
        3 => (0..3_usize, any::<i16>()).prop_map(|(which, value)| Step::Set(which, value)),
        3 => (0..3_usize, any::<i16>()).prop_map(|(which, amount)| Step::Add(which, amount)),
        1 => (0..3_usize).prop_map(Step::Remove),
        1 => Just(Step::Clear),
        // Most positions lie within one exchange, some several batches later.
        5 => (any::<bool>(), prop_oneof![0..40_usize, 0..1_500_usize])
            .prop_map(|(is_reply, position)| Step::Cut(is_reply, position)),
        1 => Just(Step::SwallowReply),
        1 => Just(Step::Hold),
        1 => Just(Step::Release),
        1 => Just(Step::FlushScript),
        4 => Just(Step::Flush),
        2 => Just(Step::Scrape),
        1 => Just(Step::Lose),
        2 => Just(Step::Empty),
    ]
}

const BOUNDS: [f64; 2] = [100.0, 30_000.0];

/// The same families in one of the stores.
struct World {
    backend: Backend,
    families: [MetricFamily; 3],
}

impl World {
    fn new(backend: Backend) -> Self {
        let families = [
            declare(&backend, "requests_total", MetricType::Counter, &["n"]),
            declare(&backend, "level", MetricType::Gauge, &["n"]),
            declare_with_buckets(&backend, "size", MetricType::Histogram, &["n"], &BOUNDS),
        ];
        Self { backend, families }
    }

    fn apply(&self, step: &Step) {
        let metric =
            |family: usize, which: usize| self.families[family].metric(&[&which.to_string()]).unwrap();
        match *step {
            Step::Count(which, amount) => metric(0, which).inc(f64::from(amount)).unwrap(),
            Step::Set(which, value) => metric(1, which).set(f64::from(value)).unwrap(),
            Step::Add(which, amount) => metric(1, which).inc(f64::from(amount)).unwrap(),
            Step::Observe(which, value) => metric(2, which).observe(f64::from(value)).unwrap(),
            // There may be no such metric.
            Step::Remove(which) => self.families.iter().for_each(|family| {
                let _ = family.remove(&[&which.to_string()]);
            }),
            Step::Clear => self.families.iter().for_each(|family| family.clear().unwrap()),
            _ => {}
        }
    }
}

/// The possible values of a sum. When the server loses all data, confirmed counts are gone. Unconfirmed
/// counts may be lost too, or arrive later.
#[derive(Debug, Default, Clone, Copy)]
struct Range {
    low: f64,
    high: f64,
    unconfirmed: f64,
}

impl Range {
    fn add(&mut self, amount: f64) {
        self.low += amount;
        self.high += amount;
        self.unconfirmed += amount;
    }

    fn lose(&mut self) {
        self.low = 0.0;
        self.high = self.unconfirmed;
    }
}

/// What is known of a gauge. Its process remembers it when the server loses it, but not when the server is
/// emptied.
#[derive(Debug, Clone, Copy)]
struct Level {
    /// `None` if it cannot be known which changes were applied before the server was emptied.
    value: Option<f64>,
    is_confirmed: bool,
}

impl Level {
    fn set(value: i16) -> Self {
        Self { value: Some(f64::from(value)), is_confirmed: false }
    }

    fn add(before: Option<Self>, amount: i16) -> Self {
        let before = before.map_or(Some(0.0), |level| level.value);
        Self { value: before.map(|value| value + f64::from(amount)), is_confirmed: false }
    }

    fn empty(&mut self) {
        self.value = self.is_confirmed.then_some(0.0);
    }
}

/// The values that a process must read.
#[derive(Debug, Default)]
struct Model {
    requests: [Option<Range>; 3],
    levels: [Option<Level>; 3],
    /// Whether the server has lost its data, or was emptied, since the last scrape. The process may not have
    /// noticed.
    is_unseen: bool,
    /// The sum and the three buckets.
    sizes: [Option<[Range; 4]>; 3],
}

impl Model {
    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Count(which, amount) => {
                self.requests[which].get_or_insert_default().add(f64::from(amount));
            }
            Step::Set(which, value) => self.levels[which] = Some(Level::set(value)),
            Step::Add(which, amount) => self.levels[which] = Some(Level::add(self.levels[which], amount)),
            Step::Observe(which, value) => {
                let cells = self.sizes[which].get_or_insert_default();
                cells[0].add(f64::from(value));
                cells[1 + BOUNDS.iter().filter(|&&bound| f64::from(value) > bound).count()].add(1.0);
            }
            Step::Remove(which) => {
                self.requests[which] = None;
                self.levels[which] = None;
                self.sizes[which] = None;
            }
            Step::Clear => *self = Self { is_unseen: self.is_unseen, ..Self::default() },
            Step::Lose | Step::Empty => {
                self.ranges().for_each(Range::lose);
                for level in self.levels.iter_mut().flatten() {
                    match step {
                        // The process takes both events for one, of either kind.
                        _ if self.is_unseen => level.value = None,
                        // The process remembers the gauge.
                        Step::Lose => {}
                        _ => level.empty(),
                    }
                }
                self.is_unseen = true;
            }
            _ => {}
        }
    }

    fn ranges(&mut self) -> impl Iterator<Item = &mut Range> {
        let sizes = self.sizes.iter_mut().flatten().flatten();
        self.requests.iter_mut().flatten().chain(sizes)
    }

    /// Notes that the server has all changes.
    fn confirm(&mut self) {
        self.ranges().for_each(|range| range.unconfirmed = 0.0);
        self.levels.iter_mut().flatten().for_each(|level| level.is_confirmed = true);
    }

    /// Returns the lowest and highest possible value of each sample.
    fn samples(&self) -> BTreeMap<String, (f64, f64)> {
        let mut samples = BTreeMap::new();
        for which in 0..3 {
            if let Some(range) = self.requests[which] {
                samples.insert(format!("requests_total{{n=\"{which}\"}}"), (range.low, range.high));
            }
            if let Some(level) = self.levels[which] {
                let (low, high) = (level.value.unwrap_or(f64::MIN), level.value.unwrap_or(f64::MAX));
                samples.insert(format!("level{{n=\"{which}\"}}"), (low, high));
            }
            let Some([sum, buckets @ ..]) = &self.sizes[which] else { continue };
            samples.insert(format!("size_sum{{n=\"{which}\"}}"), (sum.low, sum.high));
            let mut count = (0.0, 0.0);
            for (bucket, bound) in buckets.iter().zip(["100", "30000", "+Inf"]) {
                count = (count.0 + bucket.low, count.1 + bucket.high);
                samples.insert(format!("size_bucket{{n=\"{which}\",le=\"{bound}\"}}"), count);
            }
            samples.insert(format!("size_count{{n=\"{which}\"}}"), count);
        }
        samples
    }

    fn check(&self, text: &str) {
        let expected = self.samples();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let read: BTreeMap<&str, f64> = lines
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(sample, value)| (sample, value.parse().unwrap()))
            .collect();
        assert_eq!(read.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "which series");
        for (sample, (low, high)) in &expected {
            let value = read[sample.as_str()];
            assert!((*low..=*high).contains(&value), "{sample} is {value}, expected {low} to {high}");
        }
    }
}

/// Returns all hashes of the server.
fn stored(server: &Server) -> BTreeMap<String, BTreeMap<String, f64>> {
    let hash = |name: &str| -> BTreeMap<String, String> { server.run_command(&["HGETALL", name]) };
    let numbers = |name: &&str| {
        let fields = hash(name).into_iter().map(|(field, text)| (field, text.parse().unwrap()));
        ((*name).to_owned(), fields.collect())
    };
    ["requests_total", "level", "size"].iter().map(numbers).collect()
}

fn check(server: &mut Server, steps: &[Step]) {
    server.run_words::<()>("FLUSHALL");
    let proxy = Proxy::start(server.port());
    let here = World::new(Backend::open("memory:").unwrap());
    // Until the server has said that it has no replicas and no append-only file, the replay log keeps confirmed
    // batches, and sends them again after a loss. The model has no such log.
    let options = "flush_interval_ms=1&socket_timeout=0.05&connect_timeout=0.2&collect_timeout=0.2&\
                   shutdown_timeout=20&replay_log_mb=0";
    let there = World::new(Backend::open(&proxy.url(options)).unwrap());
    let mut model = Model::default();
    for step in steps {
        here.apply(step);
        there.apply(step);
        model.apply(step);
        match step {
            Step::Cut(false, position) => proxy.cut_after(Direction::Request, *position),
            Step::Cut(true, position) => proxy.cut_after(Direction::Reply, *position),
            Step::SwallowReply => proxy.swallow_reply(),
            Step::Hold => proxy.hold_connections(Direction::Request),
            Step::Release => proxy.release(),
            Step::FlushScript => server.run_words::<()>("SCRIPT FLUSH"),
            Step::Lose => server.lose_data(),
            Step::Empty => server.run_words::<()>("FLUSHALL"),
            // A failed flush is sent later.
            Step::Flush if there.backend.flush(PATIENCE).is_ok() => model.confirm(),
            Step::Scrape if there.backend.collect(None).is_ok() => {
                model.confirm();
                model.is_unseen = false;
            }
            _ => {}
        }
    }
    proxy.forget_cuts();
    proxy.release();
    flush_at_last(&there.backend);
    let mut text = Err(String::new());
    wait_until("it is read", || {
        text = there.backend.collect_text().map_err(|error| error.to_string());
        text.is_ok()
    });
    let text = text.unwrap();
    model.check(&text);
    let others = open(server, "");
    let read = others.collect_text().unwrap();
    if steps.iter().any(|step| matches!(step, Step::Empty)) {
        // A series that has not changed since is not on the server. Its own process shows it with 0.
        let (read, text) = (samples(&read), samples(&text));
        assert!(
            read.iter().all(|sample| text.contains(sample)),
            "another process reads {read:?} of {text:?}"
        );
        let missing: Vec<&&str> = text.iter().filter(|sample| !read.contains(sample)).collect();
        assert!(missing.iter().all(|sample| sample.ends_with(" 0")), "another process misses {missing:?}");
    } else {
        assert_eq!(sorted(&read), sorted(&text), "what another process reads");
    }
    let expected = here.backend.collect_text().unwrap();
    if !steps.iter().any(|step| matches!(step, Step::Lose | Step::Empty)) {
        assert_eq!(text, expected, "the memory store holds the same");
    }
    // Each value exists once, and no field of a removed metric is left.
    let fields: usize = stored(server).values().map(BTreeMap::len).sum();
    assert!(fields <= expected.lines().count(), "{:?}", stored(server));
    there.backend.close().unwrap();
    others.close().unwrap();
}

/// Returns the sorted lines of a scrape, because each process has its own order of families.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// Returns the sample lines of a scrape.
fn samples(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn the_server_ends_with_the_values_of_the_memory_store_wherever_connections_are_cut() {
    let server = RefCell::new(Server::start());
    let config = ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in prop::collection::vec(step(), 1..40))| check(&mut server.borrow_mut(), &steps));
}
