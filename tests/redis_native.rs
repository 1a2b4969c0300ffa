//! Native histograms in the Redis store: what it writes, how it merges the histograms of several processes, and that
//! nothing is lost or counted twice when processes are killed, replies are lost and the schema falls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use pytheus_backend_rs::{
    Backend, Definition, FamilySamples, Lifetime, Metric, MetricFamily, MetricType, Native, NativeHistogram,
};

use support::process::{Process, Random, SharedNumbers, fork, live_for};
use support::proxy::Proxy;
use support::writers::rounds;
use support::*;

fn definition(native: Native, buckets: Option<&[f64]>) -> Definition {
    let definition = Definition::new("wait", "", MetricType::Histogram, &["a"], buckets.unwrap_or_default());
    definition.unwrap().with_native(native, buckets.is_some()).unwrap()
}

fn family(backend: &Backend, native: Native) -> MetricFamily {
    backend.declare(definition(native, None), &["a"], Lifetime::Backend).unwrap()
}

/// The series `{"a":"x"}` of a process.
fn waits(backend: &Backend, native: Native) -> Arc<Metric> {
    family(backend, native).metric(&["x"]).unwrap()
}

fn collected(backend: &Backend) -> FamilySamples {
    let mut families = backend.collect(None).unwrap().families;
    assert_eq!(families.len(), 1);
    families.remove(0)
}

/// The native histogram of the only series, and its number of observations.
fn shown(backend: &Backend) -> (NativeHistogram, f64) {
    let family = collected(backend);
    let series = family.series().next().unwrap();
    (series.native().unwrap(), series.count())
}

/// What another process shows, which does not declare the family.
fn shown_elsewhere(server: &Server) -> (NativeHistogram, f64) {
    wait_until("the family is declared", || server.run_words::<bool>("HEXISTS pytheus:families wait"));
    shown(&open(server, ""))
}

/// Counts values, away from the bounds of buckets, in the buckets of a schema.
fn reference(values: impl IntoIterator<Item = f64>, schema: i32) -> NativeHistogram {
    let mut sides = [BTreeMap::new(), BTreeMap::new()];
    for value in values {
        let index = (value.abs().log2() * 2f64.powi(schema)).ceil() as i32;
        *sides[usize::from(value < 0.0)].entry(index).or_default() += 1;
    }
    let [positive, negative] = sides.map(|side| side.into_iter().collect());
    NativeHistogram { schema, zero_count: 0, positive, negative }
}

/// 2 to the power of a number of eighths, in the middle of a bucket of schema 3.
fn middle(eighths: i32) -> f64 {
    ((f64::from(eighths) - 0.5) / 8.0).exp2()
}

#[test]
fn a_native_histogram_is_one_field_beside_the_sum_and_the_classic_buckets() {
    let server = Server::start();
    let backend = open(&server, "");
    let both = definition(Native::default(), Some(&[1.0]));
    let metric = backend.declare(both, &["a"], Lifetime::Backend).unwrap().metric(&["x"]).unwrap();
    for value in [0.0, 0.5, 1.5, -4.0, f64::NAN] {
        metric.observe(value).unwrap();
    }
    flush(&backend);
    metric.observe(1.5).unwrap();
    flush(&backend);
    let expected = [
        (r#"{"a":"x"}#sum"#, "nan"),
        (r#"{"a":"x"}#le=1"#, "3"),
        (r#"{"a":"x"}#le=+Inf"#, "3"),
        (r#"{"a":"x"}#native"#, "3;1;"),
    ];
    let mut fields = hash(&server, "wait");
    let native = fields.get_mut(r#"{"a":"x"}#native"#).unwrap();
    // The buckets may be in any order.
    assert!(["3;1;-8:1,5:2;16:1", "3;1;5:2,-8:1;16:1"].contains(&native.as_str()), "{native}");
    native.truncate("3;1;".len());
    assert_eq!(fields, map(&expected));
    assert_eq!(metric.get_count().unwrap(), 6.0);
    assert_eq!(metric.get_bucket(1.0).unwrap(), 3.0);
    // An observation that is not a number is in no native bucket.
    let (native, count) = shown(&backend);
    assert_eq!((native.count(), count), (5, 6.0));
}

#[test]
fn a_native_histogram_alone_has_no_classic_buckets() {
    let server = Server::start();
    let backend = open(&server, "");
    let metric = waits(&backend, Native::default());
    flush(&backend);
    assert_eq!(hash(&server, "wait"), map(&[(r#"{"a":"x"}#sum"#, "0")]), "a new metric");
    assert_eq!(shown(&backend), (NativeHistogram { schema: 3, ..NativeHistogram::default() }, 0.0));
    metric.observe(3.0).unwrap();
    flush(&backend);
    let expected = [(r#"{"a":"x"}#sum"#, "3"), (r#"{"a":"x"}#native"#, "3;0;13:1;")];
    assert_eq!(hash(&server, "wait"), map(&expected));
    assert_eq!((metric.get_count().unwrap(), metric.get_sum().unwrap()), (1.0, 3.0));
    assert_eq!(metric.get_bucket(f64::INFINITY).unwrap(), 1.0);
}

#[test]
fn histograms_whose_schemas_have_fallen_apart_are_merged_exactly() {
    let server = Server::start();
    let native = Native::new(3, 48).unwrap();
    let (narrow, wide) = (open(&server, ""), open(&server, ""));
    let (in_narrow, in_wide) = (waits(&narrow, native), waits(&wide, native));
    let first: Vec<f64> = (0..16).map(middle).collect();
    first.iter().for_each(|&value| in_narrow.observe(value).unwrap());
    flush(&narrow);
    assert_eq!(shown(&narrow).0, reference(first.clone(), 3));
    // More than a third of the buckets that a series has room for, so that this process has a lower schema.
    let second: Vec<f64> = (-30..30).map(|octave| -middle(octave * 8)).collect();
    second.iter().for_each(|&value| in_wide.observe(value).unwrap());
    flush(&wide);
    first.iter().for_each(|&value| in_narrow.observe(value).unwrap());
    flush(&narrow);
    let (merged, count) = shown_elsewhere(&server);
    assert!(merged.schema < 0, "{}", merged.schema);
    assert_eq!(count, 92.0);
    assert_eq!(merged, reference(first.iter().chain(&first).chain(&second).copied(), merged.schema));
}

#[test]
fn the_server_lowers_the_schema_when_the_processes_together_have_too_many_buckets() {
    let server = Server::start();
    let native = Native::new(3, 48).unwrap();
    let mut values = Vec::new();
    for process in 0..10 {
        let backend = open(&server, "");
        let metric = waits(&backend, native);
        // Each of them has room for its ten buckets.
        for value in (process * 10..process * 10 + 10).map(middle) {
            metric.observe(value).unwrap();
            values.push(value);
        }
        flush(&backend);
        let (merged, _) = shown(&backend);
        let expected = if values.len() <= 48 {
            3
        } else if values.len() <= 90 {
            2
        } else {
            1
        };
        assert_eq!(merged, reference(values.iter().copied(), merged.schema));
        assert!(merged.positive.len() <= 48 && merged.schema >= expected, "{}", merged.schema);
    }
}

#[test]
fn with_no_room_left_at_the_lowest_schema_values_count_in_the_nearest_bucket() {
    let server = Server::start();
    let native = Native::new(8, 16).unwrap();
    let mut count = 0;
    for process in 0..12 {
        let backend = open(&server, "");
        let metric = waits(&backend, native);
        for octave in 0..4 {
            let value = middle((process * 4 + octave) * 8);
            metric.observe(if octave == 0 { -value } else { value }).unwrap();
            count += 1;
        }
        flush(&backend);
    }
    let (merged, shown) = shown_elsewhere(&server);
    assert_eq!((merged.count(), shown), (count, count as f64));
    assert_eq!((merged.schema, merged.positive.len() + merged.negative.len()), (1, 16));
}

#[test]
fn a_removed_series_leaves_nothing_behind() {
    let server = Server::start();
    let (backend, other) = (open(&server, ""), open(&server, ""));
    let (family, metric) = (family(&backend, Native::default()), waits(&other, Native::default()));
    family.metric(&["x"]).unwrap().observe(1.0).unwrap();
    family.metric(&["y"]).unwrap().observe(1.0).unwrap();
    metric.observe(1000.0).unwrap();
    flush(&other);
    flush(&backend);
    family.remove(&["x"]).unwrap();
    flush(&backend);
    let fields: Vec<_> = hash(&server, "wait").into_keys().collect();
    assert_eq!(fields, [r#"{"a":"y"}#native"#, r#"{"a":"y"}#sum"#]);
}

#[test]
fn a_value_that_is_no_histogram_is_reported_and_replaced() {
    let server = Server::start();
    let backend = open(&server, "");
    let metric = waits(&backend, Native::default());
    metric.observe(1.0).unwrap();
    flush(&backend);
    let field = r#"{"a":"x"}#native"#;
    assert_eq!(open(&server, "").check().unwrap().faults(), [""; 0]);
    server.run_command::<()>(&["HSET", "wait", field, "9;0;;"]);
    let faults = open(&server, "").check().unwrap().faults().join("\n");
    assert!(faults.contains(r#""9;0;;" is not a native histogram"#), "{faults}");
    assert_eq!(metric.get_count().unwrap_err().kind(), pytheus_backend_rs::ErrorKind::Store);
    assert_eq!(shown_elsewhere(&server).1, 0.0);
    server.run_command::<()>(&["HSET", "wait", field, "x"]);
    remember_log();
    metric.observe(2.0).unwrap();
    flush(&backend);
    let records = log_records(log::Level::Error, &["#native: the value was not a native histogram"]);
    assert_eq!(records.len(), 1);
    assert_eq!(hash(&server, "wait")[field], "3;0;8:1;");
}

#[test]
fn large_families_are_read_in_pieces_with_their_native_histograms() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = family(&backend, Native::default());
    for number in 0..4_000 {
        family.metric(&[&number.to_string()]).unwrap().observe(f64::from(number)).unwrap();
    }
    flush(&backend);
    for _ in 0..2 {
        let families = collected(&backend);
        assert_eq!(families.series().len(), 4_000);
        for series in families.series() {
            let native = series.native().unwrap();
            assert_eq!((native.count(), series.count()), (1, 1.0));
            assert_eq!(native.zero_count == 1, series.value() == 0.0);
        }
        family.metric(&["0"]).unwrap().observe(0.0).unwrap();
        family.metric(&["0"]).unwrap().observe(0.0).unwrap();
        family.remove(&["0"]).unwrap();
        family.metric(&["0"]).unwrap().observe(0.0).unwrap();
    }
}

#[test]
fn observations_whose_reply_is_lost_are_counted_once() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let backend = Backend::open(&proxy.url("socket_timeout=0.2&flush_interval_ms=1")).unwrap();
    let metric = waits(&backend, Native::default());
    flush(&backend);
    for round in 1..=3 {
        let (batches, swallowed) = (server.calls_of("evalsha"), proxy.held_back());
        proxy.swallow_reply();
        (0..10).for_each(|eighths| metric.observe(middle(eighths)).unwrap());
        flush(&backend);
        assert!(
            proxy.held_back() > swallowed && server.calls_of("evalsha") >= batches + 2,
            "it was sent twice"
        );
        assert_eq!(shown_elsewhere(&server).0.count(), 10 * round);
    }
}

/// What each process has done: begun, and known to be on the server.
const BEGUN: usize = 0;
const SENT: usize = 1;

#[test]
fn killed_processes_lose_no_observation_that_was_sent() {
    let server = Server::start();
    // With `make test-long` 8 processes, which observe 1,000,000 values each.
    let is_long = rounds() > 2;
    let (slots, each, kills) = if is_long { (8, 1_000_000, 20) } else { (4, 20_000, 8) };
    let (numbers, ends) = (SharedNumbers::new(2 * slots), SharedNumbers::new(1));
    let native = Native::new(5, 128).unwrap();
    let start = |slot: usize| {
        let (server, numbers, ends) = (&server, &numbers, &ends);
        let begun = move || numbers.get(2 * slot + BEGUN);
        Some(fork(move || {
            live_for(600);
            let backend = open(server, "flush_interval_ms=1");
            let metric = waits(&backend, native);
            while ends.get(0) == 0 || begun() < each {
                for _ in 0..each / 100 {
                    // The range of the values grows with their number, so the schema falls meanwhile.
                    let number = begun();
                    numbers.add(2 * slot + BEGUN, 1);
                    let range = (number * 400 / each + 1).min(400) as i32;
                    metric.observe(1.03f64.powi((number % 1_000) as i32 % range)).unwrap();
                }
                flush(&backend);
                numbers.add(2 * slot + SENT, begun() - numbers.get(2 * slot + SENT));
            }
            true
        }))
    };
    let mut children: Vec<Option<Process>> = (0..slots).map(start).collect();
    let mut random = Random::new();
    // What the killed processes had begun, and perhaps not sent.
    let mut in_doubt = 0;
    for _ in 0..kills {
        let slot = random.below(slots as u64) as usize;
        let (before, more) = (numbers.get(2 * slot + BEGUN), 1 + random.below(each / 20));
        wait_until("the process counts", || numbers.get(2 * slot + BEGUN) >= before + more);
        children[slot].take().unwrap().kill();
        let doubt = numbers.get(2 * slot + BEGUN) - numbers.get(2 * slot + SENT);
        in_doubt += doubt;
        // They are not done again.
        numbers.add(2 * slot + SENT, doubt);
        children[slot] = start(slot);
    }
    ends.add(0, 1);
    children.into_iter().flatten().for_each(Process::join);
    let begun: u64 = (0..slots).map(|slot| numbers.get(2 * slot + BEGUN)).sum();
    let (merged, count) = shown_elsewhere(&server);
    assert!(begun >= each * slots as u64);
    assert!(
        (begun - in_doubt..=begun).contains(&merged.count()),
        "{} of {begun}, {in_doubt} in doubt",
        merged.count()
    );
    assert_eq!(merged.count() as f64, count);
    assert!(merged.schema < 5, "the schema has not fallen");
    assert_eq!(open(&server, "").check().unwrap().faults(), [""; 0]);
}
