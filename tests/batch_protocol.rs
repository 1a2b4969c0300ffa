//! The promise of the batch protocol as a property: whatever is counted, set, removed and scraped, wherever
//! connections are cut meanwhile and however often batches are sent again, the server ends with what the
//! memory store holds after the same steps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use pytheus_backend_rs::{Backend, MetricFamily, MetricType};

use support::proxy::{Direction, Proxy};
use support::*;

#[derive(Debug, Clone)]
enum Step {
    /// On one of three metrics of each family. Whole numbers, so that sums are exact in any order.
    Count(usize, u16),
    Observe(usize, u16),
    Set(usize, i16),
    Add(usize, i16),
    Remove(usize),
    Clear,
    Cut(bool, usize),
    SwallowReply,
    FlushScript,
    Flush,
    Scrape,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_usize, any::<u16>()).prop_map(|(which, amount)| Step::Count(which, amount)),
        3 => (0..3_usize, any::<u16>()).prop_map(|(which, value)| Step::Observe(which, value)),
        3 => (0..3_usize, any::<i16>()).prop_map(|(which, value)| Step::Set(which, value)),
        3 => (0..3_usize, any::<i16>()).prop_map(|(which, amount)| Step::Add(which, amount)),
        1 => (0..3_usize).prop_map(Step::Remove),
        1 => Just(Step::Clear),
        // Most positions are within one exchange, some are several batches away.
        5 => (any::<bool>(), prop_oneof![0..40_usize, 0..1_500_usize])
            .prop_map(|(is_reply, position)| Step::Cut(is_reply, position)),
        1 => Just(Step::SwallowReply),
        1 => Just(Step::FlushScript),
        4 => Just(Step::Flush),
        2 => Just(Step::Scrape),
    ]
}

/// The same families in some store.
struct World {
    backend: Backend,
    families: [MetricFamily; 3],
}

impl World {
    fn new(backend: Backend) -> Self {
        let families = [
            declare(&backend, "requests_total", MetricType::Counter, &["n"]),
            declare(&backend, "level", MetricType::Gauge, &["n"]),
            declare_with_buckets(&backend, "size", MetricType::Histogram, &["n"], &[100.0, 30_000.0]),
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
            // It may be that there is none.
            Step::Remove(which) => self.families.iter().for_each(|family| {
                let _ = family.remove(&[&which.to_string()]);
            }),
            Step::Clear => self.families.iter().for_each(|family| family.clear().unwrap()),
            _ => {}
        }
    }
}

/// What the server holds, hash by hash.
fn stored(server: &Server) -> BTreeMap<String, BTreeMap<String, f64>> {
    let hash = |name: &str| -> BTreeMap<String, String> { server.run_command(&["HGETALL", name]) };
    let numbers = |name: &&str| {
        let fields = hash(name).into_iter().map(|(field, text)| (field, text.parse().unwrap()));
        ((*name).to_owned(), fields.collect())
    };
    ["requests_total", "level", "size"].iter().map(numbers).collect()
}

fn check(server: &Server, steps: &[Step]) {
    server.run_words::<()>("FLUSHALL");
    let proxy = Proxy::start(server.port());
    let here = World::new(Backend::open("memory:").unwrap());
    let options =
        "flush_interval_ms=1&socket_timeout=0.1&connect_timeout=0.2&collect_timeout=0.2&shutdown_timeout=20";
    let there = World::new(Backend::open(&proxy.url(options)).unwrap());
    for step in steps {
        here.apply(step);
        there.apply(step);
        match step {
            Step::Cut(false, position) => proxy.cut_after(Direction::Request, *position),
            Step::Cut(true, position) => proxy.cut_after(Direction::Reply, *position),
            Step::SwallowReply => proxy.swallow_reply(),
            Step::FlushScript => server.run_words::<()>("SCRIPT FLUSH"),
            // What fails is sent later.
            Step::Flush => drop(there.backend.flush(PATIENCE)),
            Step::Scrape => drop(there.backend.collect(None)),
            _ => {}
        }
    }
    proxy.forget_cuts();
    flush_at_last(&there.backend);
    let expected = here.backend.collect_text().unwrap();
    let others = open(server, "");
    assert_eq!(sorted(&others), sorted(&here.backend), "what another process reads");
    let mut text = Err(String::new());
    wait_until("it is read", || {
        text = there.backend.collect_text().map_err(|error| error.to_string());
        text.is_ok()
    });
    assert_eq!(text.unwrap(), expected, "what this process reads");
    // Every value is there once: no field is left of what was removed.
    let fields: usize = stored(server).values().map(BTreeMap::len).sum();
    assert!(fields <= expected.lines().count(), "{:?}", stored(server));
    there.backend.close().unwrap();
    others.close().unwrap();
}

/// The lines of a scrape; the order of families is each process's own.
fn sorted(backend: &Backend) -> Vec<String> {
    let mut lines: Vec<String> = backend.collect_text().unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn whatever_is_cut_the_server_ends_with_what_the_memory_store_holds() {
    let server = Server::start();
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in prop::collection::vec(step(), 1..40))| check(&server, &steps));
}
