//! Exemplars on a Redis server: what processes write and show, and what a scrape reads for them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use pytheus_backend_rs::{
    Backend, Definition, Format, Lifetime, Metric, MetricFamily, MetricType, RenderOptions,
};
use support::cluster::Cluster;
use support::*;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

fn jobs(backend: &Backend) -> MetricFamily {
    let definition = Definition::new("jobs_total", "", MetricType::Counter, &["a"], &[]).unwrap();
    backend.declare(definition.with_exemplars().unwrap(), &["a"], Lifetime::Backend).unwrap()
}

fn all_times(backend: &Backend) -> MetricFamily {
    let definition = Definition::new("times", "", MetricType::Histogram, &[], &[1.0, 2.0, 4.0]).unwrap();
    backend.declare(definition.with_exemplars().unwrap(), &[], Lifetime::Backend).unwrap()
}

fn times(backend: &Backend) -> Arc<Metric> {
    all_times(backend).metric(&[]).unwrap()
}

fn text(backend: &Backend) -> String {
    let format = Format::negotiate(Some(OPEN_METRICS));
    backend.render(&RenderOptions { format, ..Default::default() }).unwrap().into_text()
}

/// Returns the lines of a scrape that have an exemplar, without the time of it.
fn shown(backend: &Backend) -> Vec<String> {
    let text = text(backend);
    let lines = text.lines().filter(|line| line.contains(" # {"));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

fn inc(jobs: &Metric, trace: &str) {
    jobs.inc_with_exemplar(2.0, &[("trace_id", trace)]).unwrap();
}

#[test]
fn every_process_shows_the_newest_exemplar() {
    let server = Server::start();
    let (first, second) = (open(&server, ""), open(&server, ""));
    let (one, other) = (jobs(&first).metric(&["x"]).unwrap(), jobs(&second).metric(&["x"]).unwrap());
    one.inc(1.0).unwrap();
    assert_eq!(shown(&first), [""; 0]);
    inc(&one, "first");
    flush(&first);
    for backend in [&first, &second] {
        assert_eq!(shown(backend), ["jobs_total{a=\"x\"} 3 # {trace_id=\"first\"} 2"]);
    }
    // A process does not know what others have sent, so its first exemplar is taken at once.
    inc(&other, "second");
    flush(&second);
    for backend in [&first, &second, &open(&server, "")] {
        assert_eq!(shown(backend), ["jobs_total{a=\"x\"} 5 # {trace_id=\"second\"} 2"]);
    }
    // One of a process whose clock is ahead.
    let later = "9999999999999 7 {\"trace_id\":\"later\"}";
    server.run_command::<()>(&["HSET", "{jobs_total}:meta", "exemplar 0 {\"a\":\"x\"}", later]);
    wait_until("the slot takes another exemplar", || one.takes_exemplar(2.0));
    inc(&one, "third");
    flush(&first);
    assert_eq!(shown(&second), ["jobs_total{a=\"x\"} 7 # {trace_id=\"later\"} 7"]);
    assert_eq!(first.check().unwrap().faults(), [""; 0]);
}

#[test]
fn a_histogram_shows_one_for_each_quarter_of_its_buckets() {
    let server = Server::start();
    let backend = open(&server, "");
    let times = times(&backend);
    for (value, trace) in [(0.5, "a"), (1.5, "b"), (9.0, "ü \"")] {
        times.observe_with_exemplar(value, &[("trace_id", trace), ("span_id", "s")]).unwrap();
    }
    times.observe_with_exemplar(0.25, &[("trace_id", "dropped")]).unwrap();
    let expected = [
        "times_bucket{le=\"1.0\"} 2 # {span_id=\"s\",trace_id=\"a\"} 0.5",
        "times_bucket{le=\"2.0\"} 3 # {span_id=\"s\",trace_id=\"b\"} 1.5",
        "times_bucket{le=\"+Inf\"} 4 # {span_id=\"s\",trace_id=\"ü \\\"\"} 9",
    ];
    assert_eq!(shown(&backend), expected);
    assert_eq!(shown(&open(&server, "")), expected);
    let protobuf = Format::negotiate(Some(
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
    ));
    let body = backend.render(&RenderOptions { format: protobuf, ..Default::default() }).unwrap().body;
    assert_eq!(body.windows(8).filter(|bytes| bytes == b"trace_id").count(), 3);
}

#[test]
fn exemplars_stand_beside_the_created_times_and_go_with_their_series() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = jobs(&backend);
    for label in ["x", "y"] {
        inc(&family.metric(&[label]).unwrap(), label);
    }
    flush(&backend);
    let meta = || hash(&server, "{jobs_total}:meta");
    let found = meta();
    let fields: Vec<&str> = found.keys().map(String::as_str).collect();
    let of =
        |label: &str| [format!("created {{\"a\":\"{label}\"}}"), format!("exemplar 0 {{\"a\":\"{label}\"}}")];
    let mut expected = [of("x"), of("y")].concat();
    expected.sort_unstable();
    assert_eq!(fields, expected);
    let value = &found["exemplar 0 {\"a\":\"x\"}"];
    let (time, rest) = value.split_once(' ').unwrap();
    assert!(time.parse::<u64>().unwrap() > 1_700_000_000_000, "{value}");
    assert_eq!(rest, "2 {\"trace_id\":\"x\"}");
    family.remove(&["x"]).unwrap();
    flush(&backend);
    assert_eq!(meta().into_keys().collect::<Vec<_>>(), of("y"));
    // What is no exemplar is not shown.
    server.run_command::<()>(&["HSET", "{jobs_total}:meta", "exemplar 0 {\"a\":\"y\"}", "1 nan {}"]);
    assert_eq!(shown(&backend), [""; 0]);
    family.clear().unwrap();
    flush(&backend);
    assert!(!keys(&server).contains("{jobs_total}:meta"));
}

#[test]
fn an_exemplar_of_a_series_that_another_process_has_removed_is_dropped() {
    let server = Server::start();
    let (first, second) = (open(&server, ""), open(&server, ""));
    let (job, times) = (jobs(&first).metric(&["x"]).unwrap(), times(&first));
    let keep = |trace: &str| {
        for metric in [&job, &times] {
            wait_until("the slot takes another exemplar", || metric.takes_exemplar(1.0));
            metric.keep_exemplar(1.0, &[("trace_id", trace)]).unwrap();
        }
        flush(&first);
    };
    let kept = || {
        let metas = ["{jobs_total}:meta", "{times}:meta"].map(|key| hash(&server, key));
        metas.map(|meta| meta.keys().filter(|field| field.starts_with("exemplar ")).count())
    };
    keep("a");
    assert_eq!(kept(), [1, 1], "the series are there, though nothing was counted");
    let of_second = jobs(&second);
    of_second.metric(&["x"]).unwrap();
    of_second.remove(&["x"]).unwrap();
    all_times(&second).clear().unwrap();
    flush(&second);
    assert_eq!(kept(), [0, 0]);
    keep("b");
    assert_eq!(kept(), [0, 0]);
    job.inc(1.0).unwrap();
    times.observe(1.0).unwrap();
    keep("c");
    assert_eq!(kept(), [1, 1], "the series have begun again");
}

#[test]
fn a_scrape_reads_exemplars_only_to_show_them_and_when_they_change() {
    let server = Server::start();
    let (first, second) = (open(&server, ""), open(&server, ""));
    let job = jobs(&first).metric(&["x"]).unwrap();
    inc(&job, "a");
    counter(&first, "plain_total").inc(1.0).unwrap();
    flush(&first);
    assert_eq!(shown(&second).len(), 1);
    let before = server.calls_of("hscan");
    assert_eq!(shown(&second).len(), 1);
    second.collect(None).unwrap();
    assert_eq!(server.calls_of("hscan"), before, "nothing has changed");
    wait_until("the slot takes another exemplar", || job.takes_exemplar(2.0));
    inc(&job, "b");
    flush(&first);
    second.render(&RenderOptions::default()).unwrap();
    assert_eq!(server.calls_of("hscan"), before, "the text does not show them");
    assert_eq!(shown(&second), ["jobs_total{a=\"x\"} 4 # {trace_id=\"b\"} 2"]);
    assert_eq!(server.calls_of("hscan"), before + 1, "those of one family have changed");
}

/// A new version of a program may have exemplars while the old one still counts.
#[test]
fn a_program_without_exemplars_counts_in_the_same_series() {
    let server = Server::start();
    let (first, second) = (open(&server, ""), open(&server, ""));
    let with = jobs(&first).metric(&["x"]).unwrap();
    let without = declare(&second, "jobs_total", MetricType::Counter, &["a"]).metric(&["x"]).unwrap();
    inc(&with, "a");
    without.inc(1.0).unwrap();
    flush(&first);
    flush(&second);
    assert_eq!(shown(&first), ["jobs_total{a=\"x\"} 3 # {trace_id=\"a\"} 2"]);
    assert!(text(&second).contains("jobs_total{a=\"x\"} 3\n"));
}

#[test]
fn a_server_that_was_emptied_gets_the_next_one() {
    let server = Server::start();
    let backend = open(&server, "");
    let job = jobs(&backend).metric(&["x"]).unwrap();
    inc(&job, "a");
    flush(&backend);
    server.run_words::<()>("FLUSHALL");
    wait_until("the slot takes another exemplar", || job.takes_exemplar(2.0));
    inc(&job, "b");
    assert_eq!(shown(&backend), ["jobs_total{a=\"x\"} 2 # {trace_id=\"b\"} 2"]);
}

#[test]
fn each_master_of_a_cluster_has_the_exemplars_of_its_families() {
    let cluster = Cluster::start();
    let open = || Backend::open(&cluster.url("")).unwrap();
    let (first, second) = (open(), open());
    let job = jobs(&first).metric(&["x"]).unwrap();
    inc(&job, "a");
    times(&first).observe_with_exemplar(1.5, &[("trace_id", "b")]).unwrap();
    flush(&first);
    let expected =
        ["jobs_total{a=\"x\"} 2 # {trace_id=\"a\"} 2", "times_bucket{le=\"2.0\"} 1 # {trace_id=\"b\"} 1.5"];
    assert_eq!(shown(&first), expected);
    assert_eq!(shown(&second), expected);
    // An exemplar that comes while the slot of its family moves does not stop the move.
    let slot = cluster.slot("jobs_total");
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    cluster.begin_move(slot, to);
    for key in ["jobs_total", "{jobs_total}:writers"] {
        cluster.move_key(key, from, to);
    }
    wait_until("the slot takes another exemplar", || job.takes_exemplar(2.0));
    inc(&job, "c");
    flush(&first);
    cluster.move_slots(&[slot], to);
    assert_eq!(cluster.owner(slot), to);
    assert_eq!(shown(&second)[0], "jobs_total{a=\"x\"} 4 # {trace_id=\"a\"} 2");
}
