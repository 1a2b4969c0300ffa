//! When a series began: in which stores it is known, which formats show it, and who changes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::time::SystemTime;

use prost::Message;
use pytheus_backend_rs::{
    Backend, Exporter, ExporterOptions, ForeignFamily, Format, MetricType, NameRule, RenderOptions,
};
use support::cluster::Cluster;
use support::http::Client;
use support::process::fork;
use support::shared_file::TestFile;
use support::*;

const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

/// The messages of `metrics.proto`, with the fields that say when a series began.
#[derive(Clone, PartialEq, Message)]
struct Family {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Counter>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Counter {
    #[prost(message, optional, tag = "3")]
    created: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Summary {
    #[prost(message, optional, tag = "4")]
    created: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Histogram {
    #[prost(message, optional, tag = "15")]
    created: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanoseconds: i32,
}

/// Returns when the series of a scrape in protobuf began, in milliseconds, by name and first label value.
fn created(backend: &Backend) -> BTreeMap<String, Option<u64>> {
    created_beside(backend, &[])
}

fn created_beside(backend: &Backend, foreign: &[ForeignFamily]) -> BTreeMap<String, Option<u64>> {
    let format = Format::negotiate(Some(PROTOBUF));
    let body = backend.render(&RenderOptions { format, foreign, ..Default::default() }).unwrap().body;
    let (mut body, mut found) = (&body[..], BTreeMap::new());
    while !body.is_empty() {
        let family = Family::decode_length_delimited(&mut body).unwrap();
        for metric in family.metrics {
            let label = metric.labels.first().map(|label| format!(" {}", label.value)).unwrap_or_default();
            let timestamp = metric.counter.and_then(|counter| counter.created);
            let timestamp = timestamp.or(metric.summary.and_then(|summary| summary.created));
            let timestamp = timestamp.or(metric.histogram.and_then(|histogram| histogram.created));
            let milliseconds = timestamp.map(|timestamp| {
                assert_eq!(timestamp.nanoseconds % 1_000_000, 0);
                timestamp.seconds as u64 * 1_000 + timestamp.nanoseconds as u64 / 1_000_000
            });
            found.insert(format!("{}{label}", family.name), milliseconds);
        }
    }
    found
}

/// Returns when the series began that protobuf shows under this name and label value.
fn created_of(backend: &Backend, series: &str) -> Option<u64> {
    created(backend)[series]
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

fn wait_for_another_millisecond() {
    let before = now();
    wait_until("time passes", || now() > before);
}

fn open_metrics(backend: &Backend, created_samples: bool) -> String {
    let format = Format::negotiate(Some(OPEN_METRICS));
    backend.render(&RenderOptions { format, created_samples, ..Default::default() }).unwrap().into_text()
}

/// Makes a metric of each type.
fn make_each_type(backend: &Backend) {
    let metric =
        |name: &str, metric_type| declare(backend, name, metric_type, &["a"]).metric(&["x"]).unwrap();
    metric("c_total", MetricType::Counter).inc(1.0).unwrap();
    metric("g", MetricType::Gauge).set(1.0).unwrap();
    metric("u", MetricType::Untyped).set(1.0).unwrap();
    metric("s", MetricType::Summary).observe(1.0).unwrap();
    declare_with_buckets(backend, "h", MetricType::Histogram, &["a"], &[2.0])
        .metric(&["x"])
        .unwrap()
        .observe(1.0)
        .unwrap();
}

fn check_each_type(backend: &Backend) {
    let before = now();
    make_each_type(backend);
    let found = created(backend);
    let after = now();
    assert_eq!(found.len(), 5);
    for (series, created) in found {
        match series.as_str() {
            "g x" | "u x" => assert_eq!(created, None),
            _ => assert!((before..=after).contains(&created.unwrap()), "{series} {created:?}"),
        }
    }
    let hidden = open_metrics(backend, false);
    assert!(!hidden.contains("_created"), "{hidden}");
    let shown = open_metrics(backend, true);
    let lines: Vec<&str> = shown.lines().filter(|line| line.contains("_created")).collect();
    assert_eq!(lines.len(), 3, "{shown}");
    for (name, series) in [("c", "c_total x"), ("s", "s x"), ("h", "h x")] {
        let start = format!("{name}_created{{a=\"x\"}} ");
        let line = lines.iter().find_map(|line| line.strip_prefix(&start)).unwrap();
        let milliseconds = (line.parse::<f64>().unwrap() * 1e3).round() as u64;
        assert_eq!(Some(milliseconds), created_of(backend, series));
    }
    let text = RenderOptions { created_samples: true, ..Default::default() };
    assert!(!backend.render(&text).unwrap().into_text().contains("_created"));
}

#[test]
fn protobuf_says_when_a_series_began_and_open_metrics_if_it_is_told_to() {
    check_each_type(&Backend::open("memory:").unwrap());
    let file = TestFile::new();
    check_each_type(&file.open());
    let attached = Backend::open(&file.url("start=attach")).unwrap();
    assert_eq!(created(&attached), created(&file.open()));
    check_each_type(&open(&Server::start(), ""));
}

#[test]
fn the_exporter_shows_created_samples_if_it_is_told_to() {
    let backend = Backend::open("memory:").unwrap();
    make_each_type(&backend);
    for created_samples in [false, true] {
        let options = ExporterOptions { created_samples, ..Default::default() };
        let exporter = Exporter::start(&backend, options).unwrap();
        let mut client = Client::connect(exporter.address());
        client.send(&format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {OPEN_METRICS}\r\n\r\n"));
        let answer = client.answer();
        assert_eq!(answer.text().contains("\nh_created{a=\"x\"} "), created_samples, "{}", answer.text());
        assert!(!client.get("/metrics").text().contains("_created"));
    }
}

#[test]
fn samples_of_the_caller_say_when_a_series_began() {
    let family = |name, metric_type| {
        let definition = pytheus_backend_rs::Definition::new(name, "", metric_type, &[], &[]).unwrap();
        ForeignFamily::new(definition, NameRule::Legacy, 0)
    };
    let mut counter = family("c", MetricType::Counter);
    counter.push("", &[("a", "known")], 1.0).unwrap();
    counter.push("_created", &[("a", "known")], 1_700_000_000.123).unwrap();
    counter.push("", &[("a", "early")], 1.0).unwrap();
    counter.push("_created", &[("a", "early")], -5.0).unwrap();
    counter.push("", &[("a", "odd")], 1.0).unwrap();
    counter.push("_created", &[("a", "odd")], f64::NAN).unwrap();
    let mut summary = family("s", MetricType::Summary);
    summary.push("_count", &[], 1.0).unwrap();
    summary.push("_created", &[], 1.0).unwrap();
    let mut histogram = family("h", MetricType::Histogram);
    histogram.push("_bucket", &[("le", "+Inf")], 1.0).unwrap();
    histogram.push("_created", &[], 2.5).unwrap();
    let found = created_beside(&Backend::open("memory:").unwrap(), &[counter, summary, histogram]);
    let expected = [
        ("c early", None),
        ("c known", Some(1_700_000_000_123)),
        ("c odd", None),
        ("h", Some(2_500)),
        ("s", Some(1_000)),
    ];
    assert_eq!(found, expected.map(|(series, created)| (series.to_owned(), created)).into());
}

#[test]
fn a_series_that_is_used_again_after_its_removal_begins_anew() {
    let (file, server) = (TestFile::new(), Server::start());
    for backend in [Backend::open("memory:").unwrap(), file.open(), open(&server, "")] {
        let family = declare(&backend, "c_total", MetricType::Counter, &["a"]);
        family.metric(&["x"]).unwrap().inc(1.0).unwrap();
        let first = created_of(&backend, "c_total x").unwrap();
        wait_for_another_millisecond();
        family.metric(&["x"]).unwrap().inc(1.0).unwrap();
        assert_eq!(created_of(&backend, "c_total x"), Some(first), "it goes on");
        family.remove(&["x"]).unwrap();
        family.metric(&["x"]).unwrap().inc(1.0).unwrap();
        let second = created_of(&backend, "c_total x").unwrap();
        assert!(second > first);
        wait_for_another_millisecond();
        family.clear().unwrap();
        family.metric(&["x"]).unwrap().inc(1.0).unwrap();
        assert!(created_of(&backend, "c_total x").unwrap() > second);
    }
}

#[test]
fn a_child_changes_no_time_and_adds_its_own() {
    let file = TestFile::new();
    for (backend, is_shared) in [(Backend::open("memory:").unwrap(), false), (file.open(), true)] {
        let family = declare(&backend, "c_total", MetricType::Counter, &["a"]);
        let metric = family.metric(&["parent"]).unwrap();
        metric.inc(1.0).unwrap();
        let before = created_of(&backend, "c_total parent");
        assert!(before.is_some());
        wait_for_another_millisecond();
        fork(|| {
            metric.inc(1.0).unwrap();
            family.metric(&["child"]).unwrap().inc(1.0).unwrap();
            created_of(&backend, "c_total parent") == before && created_of(&backend, "c_total child") > before
        })
        .join();
        let found = created(&backend);
        assert_eq!(found["c_total parent"], before);
        assert_eq!(found.contains_key("c_total child"), is_shared);
    }
}

#[test]
fn two_processes_agree_and_one_that_is_killed_leaves_its_times() {
    let file = TestFile::new();
    let before = now();
    let is_ready = support::process::SharedNumbers::new(1);
    let child = fork(|| {
        let backend = file.open();
        make_each_type(&backend);
        is_ready.add(0, 1);
        loop {
            counter(&backend, "busy_total").inc(1.0).unwrap();
        }
    });
    wait_until("the child counts", || is_ready.get(0) == 1);
    let after = now();
    let first = file.open();
    let seen = created(&first);
    child.kill();
    wait_for_another_millisecond();
    // The series go on in another process.
    make_each_type(&first);
    let second = file.open();
    for series in ["c_total x", "s x", "h x"] {
        let created = seen[series].unwrap();
        assert!((before..=after).contains(&created), "{series}");
        assert_eq!(created_of(&first, series), Some(created));
        assert_eq!(created_of(&second, series), Some(created));
    }
}

#[test]
fn series_of_a_program_that_does_not_write_the_time_are_shown_without_it() {
    let file = TestFile::new();
    let backend = file.open();
    let family = declare(&backend, "c_total", MetricType::Counter, &["a"]);
    family.metric(&["old"]).unwrap().inc(1.0).unwrap();
    family.metric(&["new"]).unwrap().inc(2.0).unwrap();
    let record = file.record(r#"{"a":"old"}"#);
    // Such a program leaves these bytes as they are: zeros where it appends a record, and the time of the last
    // metric where it reuses one, which then has another generation.
    // A scrape takes the time of a record once for each generation, so each one here is that of a new process.
    let time = file.word(record.offset + 48);
    file.set_word(record.offset + 48, 0);
    let expected = BTreeMap::from([("c_total new".to_owned(), created_of(&backend, "c_total new"))]);
    let with_old = |created| {
        let mut all = expected.clone();
        all.insert("c_total old".to_owned(), created);
        all
    };
    assert_eq!(created(&file.open()), with_old(None));
    assert_eq!(lines(&backend, "c_total"), ["c_total{a=\"new\"} 2", "c_total{a=\"old\"} 1"]);
    file.set_word(record.offset + 48, time);
    assert_eq!(created(&file.open()), with_old(Some(time & 0xffff_ffff_ffff)));
    file.set_word(record.offset + 8, record.generation + 2);
    assert_eq!(created(&file.open()), with_old(None));
    assert!(open_metrics(&file.open(), true).contains("\nc_total{a=\"old\"} 1\n"));
    assert!(backend.check().unwrap().faults().is_empty());
}

#[test]
fn a_series_that_waited_for_room_began_when_it_was_first_used() {
    let file = TestFile::new();
    let backend = Backend::open(&file.url("size_limit=1048576")).unwrap();
    let family = declare(&backend, "c_total", MetricType::Counter, &["a"]);
    let mut made = 0;
    while backend.statistics().metrics_held_back == 0 {
        made += 1;
        family.metric(&[&made.to_string()]).unwrap().inc(1.0).unwrap();
    }
    let after = now();
    assert!(!created(&backend).contains_key(&format!("c_total {made}")));
    wait_for_another_millisecond();
    family.remove(&["1"]).unwrap();
    wait_until("the store takes it", || {
        backend.flush(PATIENCE).is_ok() && backend.statistics().metrics_held_back == 0
    });
    assert!(created_of(&backend, &format!("c_total {made}")).unwrap() <= after);
}

// On a server.

#[test]
fn processes_of_a_server_agree_and_a_scrape_reads_the_times_only_to_show_them_and_when_they_change() {
    let server = Server::start();
    let (first, second) = (open(&server, ""), open(&server, ""));
    make_each_type(&first);
    flush(&first);
    let times = created(&first);
    wait_for_another_millisecond();
    make_each_type(&second);
    assert_eq!(created(&second), times);
    assert_eq!(created(&first), times);
    let text = |backend: &Backend| open_metrics(backend, false);
    let before = server.calls_of("hscan");
    text(&first);
    first.collect(None).unwrap();
    assert_eq!(created(&first), times);
    assert_eq!(server.calls_of("hscan"), before, "nothing has changed");
    declare(&second, "c_total", MetricType::Counter, &["a"]).metric(&["y"]).unwrap().inc(1.0).unwrap();
    flush(&second);
    text(&first);
    assert_eq!(server.calls_of("hscan"), before, "the text does not show them");
    let found = created(&first);
    assert_eq!(server.calls_of("hscan"), before + 1, "those of one family have changed");
    assert!(found["c_total y"] > found["c_total x"]);
    assert_eq!(found.len(), times.len() + 1);
}

#[test]
fn the_times_stand_in_a_hash_of_each_family() {
    let server = Server::start();
    let backend = open(&server, "");
    make_each_type(&backend);
    counter(&backend, "plain_total").inc(1.0).unwrap();
    flush(&backend);
    let times = created(&backend);
    for (key, labels, series) in [
        ("c_total", r#"{"a":"x"}"#, "c_total x"),
        ("s", r#"{"a":"x"}"#, "s x"),
        ("h", r#"{"a":"x"}"#, "h x"),
        ("plain_total", "{}", "plain_total"),
    ] {
        let expected = times[series].unwrap().to_string();
        assert_eq!(
            hash(&server, &format!("{{{key}}}:meta")),
            map(&[(&format!("created {labels}"), &expected)])
        );
    }
    assert!(!keys(&server).contains("{g}:meta"));
    declare_with_buckets(&backend, "h", MetricType::Histogram, &["a"], &[2.0]).remove(&["x"]).unwrap();
    flush(&backend);
    assert!(!keys(&server).contains("{h}:meta"), "the time goes with the series");
    // Another program does not write it.
    server.run_command::<()>(&["HSET", "c_total", r#"{"a":"other"}"#, "7"]);
    assert_eq!(created_of(&backend, "c_total other"), None);
    assert!(open_metrics(&backend, true).contains("\nc_total{a=\"other\"} 7\n"));
}

#[test]
fn many_series_of_a_server_have_their_times() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "c_total", MetricType::Counter, &["a"]);
    for index in 0..5_000 {
        family.metric(&[&index.to_string()]).unwrap().inc(1.0).unwrap();
    }
    let times = created(&backend);
    assert_eq!(times.len(), 5_000);
    assert!(times.values().all(Option::is_some));
    assert_eq!(created(&open(&server, "")), times);
}

#[test]
fn a_user_whose_keys_do_not_include_the_times_counts_without_them() {
    let server = Server::start();
    server.run_words::<()>(
        "ACL SETUSER app on nopass +@all ~pytheus:families ~c_total ~{c_total}:writers ~s ~{s}:writers ~h ~{h}:writers \
         ~g ~{g}:writers ~u ~{u}:writers",
    );
    let backend = Backend::open(&format!("redis://app:x@127.0.0.1:{}", server.port())).unwrap();
    make_each_type(&backend);
    let found = created(&backend);
    assert_eq!(found.len(), 5);
    assert!(found.values().all(Option::is_none), "{found:?}");
    assert!(!keys(&server).contains("{c_total}:meta"));
    assert_eq!(lines(&backend, "c_total"), ["c_total{a=\"x\"} 1"]);
}

#[test]
fn a_server_that_was_emptied_begins_new_times() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "c_total", MetricType::Counter, &["a"]);
    family.metric(&["x"]).unwrap().inc(1.0).unwrap();
    let first = created_of(&backend, "c_total x").unwrap();
    wait_for_another_millisecond();
    server.run_words::<()>("FLUSHALL");
    family.metric(&["x"]).unwrap().inc(1.0).unwrap();
    assert!(created_of(&backend, "c_total x").unwrap() > first);
    assert_eq!(keys(&server).len(), 4);
}

#[test]
fn each_master_of_a_cluster_has_the_times_of_its_families() {
    let cluster = Cluster::start();
    let backend = Backend::open(&cluster.url("")).unwrap();
    make_each_type(&backend);
    let found = created(&backend);
    for series in ["c_total x", "s x", "h x"] {
        assert!(found[series].is_some(), "{series}");
    }
    assert_eq!(created(&Backend::open(&cluster.url("")).unwrap()), found);
}

#[test]
fn a_series_that_begins_while_its_slot_moves_does_not_stop_the_move() {
    let cluster = Cluster::start();
    let backend = Backend::open(&cluster.url("")).unwrap();
    let family = declare(&backend, "requests_total", MetricType::Counter, &["a"]);
    family.metric(&["x"]).unwrap().inc(1.0).unwrap();
    flush(&backend);
    let slot = cluster.slot("requests_total");
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    cluster.begin_move(slot, to);
    for key in ["requests_total", "{requests_total}:writers"] {
        cluster.move_key(key, from, to);
    }
    family.metric(&["y"]).unwrap().inc(1.0).unwrap();
    flush(&backend);
    // This fails if the other node has made the key already.
    cluster.move_key("{requests_total}:meta", from, to);
    assert_eq!(lines(&backend, "requests_total").len(), 2);
}
