//! Coming from pytheus-backend-rs 0.0.9, or from pytheus' own Redis backend: their histograms and summaries
//! are found, named by `check`, and moved; counters and gauges are counted on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;

use pytheus_backend_rs::MetricType;

use support::*;

const BOUNDS: [f64; 3] = [0.005, 1.0, 2.5];

/// Observes as an old program does, which adds to each bucket whose bound is not below the value.
fn old_observe(server: &Server, name: &str, labels: Option<&str>, bounds: &[(&str, f64)], value: f64) {
    let add = |part: &str, amount: f64| match labels {
        Some(labels) => server.run_command::<()>(&[
            "HINCRBYFLOAT",
            &format!("{name}:{part}"),
            labels,
            &amount.to_string(),
        ]),
        None => server.run_command::<()>(&["INCRBYFLOAT", &format!("{name}:{part}"), &amount.to_string()]),
    };
    add("sum", value);
    for (spelling, bound) in bounds {
        add(spelling, f64::from(u8::from(value <= *bound)));
    }
    add("count", 1.0);
}

const OLD_BOUNDS: [(&str, f64); 4] = [("0.005", 0.005), ("1.0", 1.0), ("2.5", 2.5), ("+Inf", f64::INFINITY)];

#[test]
fn histograms_and_summaries_of_the_old_layout_are_named_and_moved() {
    let server = Server::start();
    for value in [0.001, 0.5, 0.5, 2.0, 7.0] {
        old_observe(&server, "time", None, &OLD_BOUNDS, value);
        old_observe(&server, "latency", Some(r#"{"path":"/"}"#), &OLD_BOUNDS, value);
        // pytheus' own backend writes JSON with spaces.
        old_observe(&server, "latency", Some(r#"{"path": "/b"}"#), &OLD_BOUNDS, value);
        old_observe(&server, "size", None, &[], value);
    }
    old_observe(&server, "unknown", None, &[], 1.0);
    let backend = open(&server, "");
    let time = declare_with_buckets(&backend, "time", MetricType::Histogram, &[], &BOUNDS);
    let latency = declare_with_buckets(&backend, "latency", MetricType::Histogram, &["path"], &BOUNDS);
    let size = declare(&backend, "size", MetricType::Summary, &[]).metric(&[]).unwrap();
    // The new program has counted before, and counts on.
    let time = time.metric(&[]).unwrap();
    time.observe(0.5).unwrap();
    flush(&backend);
    let faults = backend.check().unwrap().faults().join("\n");
    for key in ["time:count", "latency:count", "size:count"] {
        assert!(faults.contains(&format!("Redis key \"{key}\" is of the layout")), "{faults}");
    }
    assert!(faults.contains("pytheus-backend-rs migrate"), "{faults}");

    let report = backend.migrate().unwrap();
    assert!(report.facts().iter().any(|fact| fact == "\"latency\": 2 label sets moved"), "{report:?}");
    assert_eq!(report.faults().len(), 1, "{report:?}");
    assert!(
        report.faults()[0].contains("\"unknown:count\"") && report.faults()[0].contains("declared"),
        "{report:?}"
    );
    let buckets = |metric: &std::sync::Arc<pytheus_backend_rs::Metric>| {
        [0.005, 1.0, 2.5, f64::INFINITY].map(|bound| metric.get_bucket(bound).unwrap())
    };
    assert_eq!(buckets(&time), [1.0, 4.0, 5.0, 6.0], "with the observation of the new program");
    assert_eq!((time.get_sum().unwrap(), time.get_count().unwrap()), (10.501, 6.0));
    for path in ["/", "/b"] {
        let metric = latency.metric(&[path]).unwrap();
        assert_eq!(buckets(&metric), [1.0, 3.0, 4.0, 5.0], "{path}");
        assert_eq!(metric.get_sum().unwrap(), 10.001);
    }
    assert_eq!((size.get_sum().unwrap(), size.get_count().unwrap()), (10.001, 5.0));
    assert_eq!(server.value("time:count"), 0.0);
    assert_eq!(server.value("unknown:count"), 1.0);
    assert!(backend.check().unwrap().is_sound());
    assert!(server.run_words::<i64>("TTL latency") > 0);

    // Again: nothing is moved twice.
    let again = backend.migrate().unwrap();
    assert!(again.facts().iter().any(|fact| fact == "nothing is left to be moved"), "{again:?}");
    assert_eq!(time.get_count().unwrap(), 6.0);
}

#[test]
fn an_old_program_may_count_on_while_its_values_are_moved() {
    let server = Server::start();
    let backend = open(&server, "");
    let time = declare_with_buckets(&backend, "time", MetricType::Histogram, &[], &BOUNDS);
    let time = time.metric(&[]).unwrap();
    flush(&backend);
    // An old program makes all keys of a metric before it observes.
    for (spelling, _) in OLD_BOUNDS {
        server.run_command::<()>(&["INCRBYFLOAT", &format!("time:{spelling}"), "0"]);
    }
    std::thread::scope(|scope| {
        let old = scope.spawn(|| {
            for n in 0..200 {
                old_observe(&server, "time", None, &OLD_BOUNDS, f64::from(n % 4));
            }
        });
        while !old.is_finished() {
            backend.migrate().unwrap();
        }
    });
    backend.migrate().unwrap();
    assert_eq!((time.get_sum().unwrap(), time.get_count().unwrap()), (300.0, 200.0));
    assert_eq!(time.get_bucket(1.0).unwrap(), 100.0);
    assert!(backend.check().unwrap().is_sound());
}

#[test]
fn labels_in_the_old_spelling_get_the_new_one() {
    let server = Server::start();
    server.run_command::<()>(&["HSET", "level", r#"{"b": "1", "a": "x"}"#, "5"]);
    let backend = open(&server, "");
    let level = declare(&backend, "level", MetricType::Gauge, &["a", "b"]).metric(&["x", "1"]).unwrap();
    flush(&backend);
    backend.migrate().unwrap();
    assert_eq!(hash(&server, "level"), BTreeMap::from([(r#"{"a":"x","b":"1"}"#.to_owned(), "5".to_owned())]));
    level.set(7.0).unwrap();
    assert_eq!(lines(&backend, "level"), ["level{a=\"x\",b=\"1\"} 7"]);
}

#[test]
fn a_declared_family_is_not_taken_for_a_part_of_another() {
    let server = Server::start();
    let backend = open(&server, "");
    declare(&backend, "size", MetricType::Summary, &[]).metric(&[]).unwrap().observe(1.0).unwrap();
    counter(&backend, "size:count").inc(3.0).unwrap();
    flush(&backend);
    assert!(backend.check().unwrap().is_sound());
    backend.migrate().unwrap();
    assert_eq!(server.value("size:count"), 3.0);
    assert_eq!(server.field("size", "{}#sum"), 1.0);
}
