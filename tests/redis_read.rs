//! What the Redis store reads: values of this and of other processes, their families, and text that other
//! programs wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;

use pytheus_backend_rs::{
    Definition, ErrorKind, Format, Lifetime, MetricType, NameRule, Others, RenderOptions, Snapshot,
};
use serde_json::json;

use support::*;

/// Returns the series of one family: labels as JSON, and the value.
fn values(snapshot: &Snapshot, name: &str) -> BTreeMap<String, f64> {
    let family = snapshot.families.iter().find(|family| family.definition.name() == name);
    let series = family.unwrap_or_else(|| panic!("{name} is not in the snapshot")).series();
    series.map(|series| (json!(series.labels()).to_string(), series.value())).collect()
}

#[test]
fn a_scrape_shows_every_change_that_happened_before_it() {
    let server = Server::start();
    // The flush interval is so long that nothing arrives without a scrape.
    let backend = open(&server, "flush_interval_ms=3600000");
    let requests = counter(&backend, "requests_total");
    for n in 1..200 {
        requests.inc(1.0).unwrap();
        assert_eq!(lines(&backend, "requests_total"), [format!("requests_total {n}")]);
    }
    requests.inc(1.0).unwrap();
    assert_eq!(requests.get().unwrap(), 200.0, "a read shows every change, too");
}

#[test]
fn metrics_that_only_other_processes_created_are_read() {
    let server = Server::start();
    let writer = open(&server, "");
    counter(&writer, "requests_total").inc(4.0).unwrap();
    declare(&writer, "errors_total", MetricType::Counter, &["b", "a"])
        .metric(&["1", "2"])
        .unwrap()
        .inc(5.0)
        .unwrap();
    declare(&writer, "size", MetricType::Summary, &[]).metric(&[]).unwrap().observe(2.0).unwrap();
    let time = declare_with_buckets(&writer, "time", MetricType::Histogram, &["a"], &[1.0, 2.0]);
    time.metric(&["x"]).unwrap().observe(1.5).unwrap();
    flush(&writer);
    let reader = open(&server, "");
    let own = counter(&reader, "zebra_total");
    own.inc(1.0).unwrap();
    let empty = declare(&reader, "errors_total", MetricType::Counter, &["a", "b"]);
    assert_eq!(
        reader.collect_text().unwrap(),
        "# HELP zebra_total Some help.\n# TYPE zebra_total counter\nzebra_total 1\n\
         # HELP errors_total Some help.\n# TYPE errors_total counter\nerrors_total{a=\"2\",b=\"1\"} 5\n\
         # HELP requests_total Some help.\n# TYPE requests_total counter\nrequests_total 4\n\
         # HELP size Some help.\n# TYPE size summary\nsize_sum 2\nsize_count 1\n\
         # HELP time Some help.\n# TYPE time histogram\n\
         time_bucket{a=\"x\",le=\"1\"} 0\ntime_bucket{a=\"x\",le=\"2\"} 1\n\
         time_bucket{a=\"x\",le=\"+Inf\"} 1\ntime_sum{a=\"x\"} 1.5\ntime_count{a=\"x\"} 1\n"
    );
    let some = reader.collect(Some(&[empty])).unwrap();
    assert_eq!(some.families.len(), 1, "the requested families only");
    assert_eq!(values(&some, "errors_total"), [(r#"{"a":"2","b":"1"}"#.to_owned(), 5.0)].into());
}

#[test]
fn families_of_other_processes_are_appended_on_request() {
    let server = Server::start();
    let (writer, reader) = (open(&server, ""), open(&server, ""));
    counter(&writer, "theirs_total").inc(1.0).unwrap();
    counter(&writer, "both_total").inc(2.0).unwrap();
    flush(&writer);
    let own = declare(&reader, "own_total", MetricType::Counter, &[]);
    declare(&reader, "both_total", MetricType::Counter, &[]);
    let options = RenderOptions { families: Some(&[own]), others: Others::Append, ..Default::default() };
    let asked_for = "# HELP own_total Some help.\n# TYPE own_total counter\n";
    let others = "# HELP theirs_total Some help.\n# TYPE theirs_total counter\ntheirs_total 1\n";
    assert_eq!(reader.render(&options).unwrap().into_text(), format!("{asked_for}{others}"));
    let alone = reader.render(&RenderOptions { others: Others::None, ..options }).unwrap();
    assert_eq!(alone.into_text(), asked_for);
}

#[test]
fn names_of_other_programs_are_escaped_for_the_client() {
    let server = Server::start();
    let definition = r#"{"type":"counter","help":"","labels":["http.method"]}"#;
    server.run_command::<()>(&["HSET", "pytheus:families", "http.requests_total", definition]);
    server.run_command::<()>(&["HSET", "http.requests_total", r#"{"http.method":"GET"}"#, "3"]);
    let reader = open(&server, "");
    assert_eq!(lines(&reader, "http"), [r#"http_requests_total{http_method="GET"} 3"#]);
    let format = Format::negotiate(Some("text/plain;version=1.0.0;escaping=allow-utf-8"));
    let text = reader.render(&RenderOptions { format, ..Default::default() }).unwrap().into_text();
    assert!(text.ends_with("\n{\"http.requests_total\",\"http.method\"=\"GET\"} 3\n"), "{text}");
}

#[test]
fn a_name_whose_key_is_taken_is_refused() {
    let server = Server::start();
    let backend = open(&server, "");
    for name in ["pytheus:families", "{requests_total}:writers"] {
        let definition =
            Definition::with_names(NameRule::Utf8, name, "", MetricType::Counter, &[], &[]).unwrap();
        let error = backend.declare(definition, &[], Lifetime::Backend).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains(name), "{error}");
    }
}

#[test]
fn foreign_spellings_of_labels_and_bounds_are_read() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "requests_total", MetricType::Counter, &["a", "b"]);
    family.metric(&["x", "1"]).unwrap().inc(1.0).unwrap();
    for (field, value) in [(r#"{"b": "1", "a": "x"}"#, "10"), (r#"{"b":1,"a":"x"}"#, "100")] {
        server.run_command::<()>(&["HSET", "requests_total", field, value]);
    }
    server.run_command::<()>(&["HSET", "requests_total", r#"{"a": "y", "b": "\u00e9"}"#, "1e1"]);
    assert_eq!(
        values(&backend.collect(None).unwrap(), "requests_total"),
        [(r#"{"a":"x","b":"1"}"#.to_owned(), 111.0), (r#"{"a":"y","b":"é"}"#.to_owned(), 10.0)].into()
    );
    declare_with_buckets(&backend, "size", MetricType::Histogram, &[], &[0.5, 10.0]).metric(&[]).unwrap();
    for (field, value) in
        [("{}#le=0.50", "1"), ("{}#le=1e1", "2"), ("{}#le=inf", "4"), ("{ }#sum", "7"), ("{}#le=3", "8")]
    {
        server.run_command::<()>(&["HSET", "size", field, value]);
    }
    assert_eq!(
        lines(&backend, "size"),
        [
            "size_bucket{le=\"0.5\"} 1",
            "size_bucket{le=\"10\"} 11",
            "size_bucket{le=\"+Inf\"} 15",
            "size_sum 7",
            "size_count 15"
        ]
    );
}

#[test]
fn additions_of_pytheus_backend_rs_0_0_9_to_the_same_keys_count() {
    let server = Server::start();
    let backend = open(&server, "");
    let requests = counter(&backend, "requests_total");
    let labels = declare(&backend, "errors_total", MetricType::Counter, &["z", "bob"]);
    let errors = labels.metric(&["1", "cat"]).unwrap();
    // The commands that 0.0.9 sends, as MONITOR shows them.
    let field = r#"{"bob":"cat","z":"1"}"#;
    for _ in 0..3 {
        requests.inc(0.25).unwrap();
        errors.inc(0.5).unwrap();
        flush(&backend);
        server.run_words::<()>("INCRBYFLOAT requests_total 2.0");
        server.run_command::<()>(&["HINCRBYFLOAT", "errors_total", field, "3.0"]);
    }
    assert_eq!((requests.get().unwrap(), errors.get().unwrap()), (6.75, 10.5));
    assert_eq!(lines(&backend, "errors_total"), ["errors_total{bob=\"cat\",z=\"1\"} 10.5"]);
}

#[test]
fn each_kind_of_value_can_be_read() {
    let server = Server::start();
    let backend = open(&server, "");
    let requests = declare(&backend, "requests_total", MetricType::Counter, &["a"]).metric(&["x"]).unwrap();
    requests.inc(2.0).unwrap();
    assert_eq!(requests.get().unwrap(), 2.0);
    let level = gauge(&backend, "level");
    level.set(-1.0).unwrap();
    assert_eq!(level.get().unwrap(), -1.0);
    let size = declare(&backend, "size", MetricType::Summary, &[]).metric(&[]).unwrap();
    size.observe(2.5).unwrap();
    assert_eq!((size.get_sum().unwrap(), size.get_count().unwrap()), (2.5, 1.0));
    let time = declare_with_buckets(&backend, "time", MetricType::Histogram, &[], &[1.0, 2.0]);
    let time = time.metric(&[]).unwrap();
    [0.5, 1.5, 1.5, 9.0].iter().for_each(|&value| time.observe(value).unwrap());
    assert_eq!((time.get_sum().unwrap(), time.get_count().unwrap()), (12.5, 4.0));
    let buckets = [1.0, 2.0, f64::INFINITY].map(|bound| time.get_bucket(bound).unwrap());
    assert_eq!(buckets, [1.0, 3.0, 4.0]);
    assert_eq!(time.get_bucket(1.5).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(time.get().unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(level.get_sum().unwrap_err().kind(), ErrorKind::WrongType);
}

#[test]
fn scrapes_from_many_threads_are_all_answered() {
    let server = Server::start();
    let backend = open(&server, "pipeline_threads=3");
    let requests = counter(&backend, "requests_total");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    requests.inc(1.0).unwrap();
                    assert!(requests.get().unwrap() >= 1.0);
                    assert_eq!(backend.collect(None).unwrap().families.len(), 1);
                }
            });
        }
    });
    assert_eq!(requests.get().unwrap(), 200.0);
}
