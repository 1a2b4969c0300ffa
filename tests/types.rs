//! Infos, state sets and gauge histograms in every store: what a scrape shows, what several backends of one
//! store do with each other's values, and which mistakes are refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use pytheus_backend_rs::{
    Backend, Definition, ErrorKind, Format, Lifetime, Metric, MetricFamily, MetricType, NameRule, Refusal,
    RenderOptions,
};
use support::process::fork;
use support::shared_file::TestFile;
use support::*;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

/// Calls `test` with two backends of each store that processes share, and with one of memory twice.
fn in_each_store(test: impl Fn(&Backend, &Backend)) {
    let memory = Backend::open("memory:").unwrap();
    test(&memory, &memory);
    let file = TestFile::new();
    test(&file.open(), &file.open());
    let server = Server::start();
    test(&open(&server, ""), &open(&server, ""));
}

fn shown(backend: &Backend, accept: &str) -> String {
    let format = Format::negotiate(Some(accept));
    backend.render(&RenderOptions { format, ..Default::default() }).unwrap().into_text()
}

fn state_set(backend: &Backend, name: &str, label_names: &[&str], states: &[&str]) -> MetricFamily {
    let definition = Definition::state_set(NameRule::Legacy, name, "Help.", label_names, states).unwrap();
    backend.declare(definition, label_names, Lifetime::Backend).unwrap()
}

// Infos.

#[test]
fn a_scrape_shows_the_labels_that_an_info_was_given_last() {
    in_each_store(|one, other| {
        let [first, second] = [one, other].map(|backend| declare(backend, "build", MetricType::Info, &[]));
        assert_eq!(lines(one, "build"), [""; 0], "no labels were set");
        first.set_info(&[], &[("version", "1"), ("commit", "a")]).unwrap();
        flush(one);
        second.set_info(&[], &[("version", "2")]).unwrap();
        flush(other);
        assert_eq!(lines(one, "build"), ["build_info{version=\"2\"} 1"]);
        first.set_info(&[], &[("commit", "a"), ("version", "1")]).unwrap();
        flush(one);
        let text = shown(other, "");
        assert!(
            text.contains("# TYPE build_info gauge\nbuild_info{commit=\"a\",version=\"1\"} 1\n"),
            "{text}"
        );
        let text = shown(other, OPEN_METRICS);
        assert!(text.contains("# TYPE build info\nbuild_info{commit=\"a\",version=\"1\"} 1\n"), "{text}");
    });
}

#[test]
fn an_info_with_declared_labels_has_one_set_for_each_of_their_values() {
    in_each_store(|one, _| {
        let family = declare(one, "node_info", MetricType::Info, &["node"]);
        family.set_info(&["a"], &[("zone", "1")]).unwrap();
        family.set_info(&["b"], &[("zone", "1")]).unwrap();
        family.set_info(&["a"], &[("zone", "2"), ("color", "é")]).unwrap();
        let expected =
            ["node_info{color=\"é\",node=\"a\",zone=\"2\"} 1", "node_info{node=\"b\",zone=\"1\"} 1"];
        assert_eq!(lines(one, "node"), expected);
        assert!(shown(one, OPEN_METRICS).contains("# TYPE node info\nnode_info{"), "the suffix stands once");
        family.remove(&["a"]).unwrap();
        assert_eq!(lines(one, "node"), expected[1..]);
        assert_eq!(family.remove(&["a"]).unwrap_err().kind(), ErrorKind::NotFound);
        family.clear().unwrap();
        assert_eq!(lines(one, "node"), [""; 0]);
        family.set_info(&["a"], &[("zone", "3")]).unwrap();
        assert_eq!(lines(one, "node"), ["node_info{node=\"a\",zone=\"3\"} 1"]);
    });
}

#[test]
fn an_info_refuses_what_cannot_be_shown() {
    let backend = Backend::open("memory:").unwrap();
    let family = declare(&backend, "build", MetricType::Info, &["node"]);
    for (values, info, reason) in [
        (&["a"][..], &[][..], "at least one label"),
        (&["a"], &[("node", "b")], "\"node\" is declared"),
        (&["a"], &[("__x", "b")], "reserved"),
        (&["a"], &[("", "b")], "not empty"),
        (&["a"], &[("x", "1"), ("x", "2")], "given twice"),
        (&[], &[("x", "1")], "has 1 labels"),
    ] {
        let error = family.set_info(values, info).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains(reason), "{error}");
    }
    assert_eq!(family.metric(&["a"]).unwrap_err().kind(), ErrorKind::WrongType);
    let gauge = declare(&backend, "g", MetricType::Gauge, &[]);
    assert_eq!(gauge.set_info(&[], &[("x", "1")]).unwrap_err().kind(), ErrorKind::WrongType);
    let definition = Definition::new("brief", "", MetricType::Info, &[], &[]).unwrap();
    let brief = backend.declare(definition, &[], Lifetime::Handle).unwrap();
    assert_eq!(brief.set_info(&[], &[("x", "1")]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(lines(&backend, "build"), [""; 0]);
}

// State sets.

#[test]
fn a_state_set_shows_each_state() {
    in_each_store(|one, other| {
        let [set, same] = [one, other].map(|backend| {
            state_set(backend, "job", &["a"], &["idle", "busy", "sick"]).metric(&["x"]).unwrap()
        });
        set.set_state("busy", true).unwrap();
        set.set_state("sick", true).unwrap();
        set.set_state("sick", false).unwrap();
        flush(one);
        let expected =
            ["job{a=\"x\",job=\"idle\"} 0", "job{a=\"x\",job=\"busy\"} 1", "job{a=\"x\",job=\"sick\"} 0"];
        assert_eq!(lines(other, "job"), expected);
        assert!(shown(other, "").contains("# TYPE job gauge\n"));
        assert!(shown(other, OPEN_METRICS).contains("# TYPE job stateset\n"));
        assert!(same.get_state("busy").unwrap() && !same.get_state("idle").unwrap());
        same.choose_state("idle").unwrap();
        flush(other);
        assert!(set.get_state("idle").unwrap() && !set.get_state("busy").unwrap());
        let unknown = set.get_state("none").unwrap_err();
        assert_eq!(
            unknown.message(),
            "stateset \"job\" has no state \"none\": expected one of idle, busy, sick"
        );
        assert_eq!(set.set_state("none", true), Err(Refusal::UnknownState));
        assert_eq!(set.choose_state("none"), Err(Refusal::UnknownState));
        assert_eq!(set.set(1.0), Err(Refusal::WrongType));
        assert_eq!(set.get().unwrap_err().kind(), ErrorKind::WrongType);
    });
}

#[test]
fn processes_that_switch_different_states_lose_nothing() {
    let file = TestFile::new();
    let states: Vec<String> = (0..52).map(|number| format!("s{number}")).collect();
    let states: Vec<&str> = states.iter().map(String::as_str).collect();
    let family = state_set(&file.open(), "flags", &[], &states);
    let metric = family.metric(&[]).unwrap();
    let children: Vec<_> = (0..4)
        .map(|child| {
            let (metric, own) = (Arc::clone(&metric), states[13 * child..][..13].to_vec());
            fork(move || {
                (0..2_000).all(|round| {
                    let mut switched = own.iter().map(|state| metric.set_state(state, round % 2 == 1));
                    switched.all(|result| result.is_ok())
                })
            })
        })
        .collect();
    children.into_iter().for_each(|child| child.join());
    assert!(states.iter().all(|state| metric.get_state(state).unwrap()));
}

#[test]
fn on_a_server_the_states_that_were_sent_last_replace_all() {
    let server = Server::start();
    let (one, other) = (open(&server, ""), open(&server, ""));
    let [first, second] =
        [&one, &other].map(|backend| state_set(backend, "flags", &[], &["a", "b"]).metric(&[]).unwrap());
    first.set_state("a", true).unwrap();
    flush(&one);
    second.set_state("b", true).unwrap();
    flush(&other);
    assert_eq!(server.run_words::<String>("GET flags"), "2");
    first.set_state("b", true).unwrap();
    flush(&one);
    assert_eq!(server.run_words::<String>("GET flags"), "3", "a process remembers its own states");
}

#[test]
fn states_in_another_order_are_a_conflict() {
    let file = TestFile::new();
    let (one, other) = (file.open(), file.open());
    state_set(&one, "flags", &[], &["a", "b"]);
    let definition = Definition::state_set(NameRule::Legacy, "flags", "Help.", &[], &["b", "a"]).unwrap();
    let error = other.declare(definition, &[], Lifetime::Backend).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("with states a, b"), "{error}");
}

// Gauge histograms.

fn gauge_histogram(backend: &Backend) -> Arc<Metric> {
    let family = declare_with_buckets(backend, "age", MetricType::GaugeHistogram, &[], &[1.0, 10.0]);
    family.metric(&[]).unwrap()
}

#[test]
fn a_gauge_histogram_also_goes_down_but_not_below_zero() {
    in_each_store(|one, other| {
        let [first, second] = [one, other].map(gauge_histogram);
        for value in [0.5, 5.0, 50.0] {
            first.observe(value).unwrap();
        }
        flush(one);
        second.unobserve(5.0).unwrap();
        flush(other);
        let expected = ["age_bucket{le=\"1\"} 1", "age_bucket{le=\"10\"} 1", "age_bucket{le=\"+Inf\"} 2"];
        assert_eq!(lines(one, "age_bucket"), expected);
        let text = shown(one, "");
        assert!(
            text.contains("# TYPE age histogram\n") && text.contains("age_sum 50.5\nage_count 2\n"),
            "{text}"
        );
        let text = shown(one, OPEN_METRICS);
        assert!(text.contains("# TYPE age gaugehistogram\n"), "{text}");
        assert!(text.contains("age_gsum 50.5\nage_gcount 2\n"), "{text}");
        second.unobserve(5.0).unwrap();
        second.unobserve(100.0).unwrap();
        flush(other);
        let expected = ["age_bucket{le=\"1\"} 1", "age_bucket{le=\"10\"} 1", "age_bucket{le=\"+Inf\"} 1"];
        assert_eq!(lines(one, "age_bucket"), expected, "-1 is shown as 0");
        assert!(shown(one, OPEN_METRICS).contains("age_gsum 0\nage_gcount 1\n"));
        assert_eq!((first.get_sum().unwrap(), first.get_count().unwrap()), (0.0, 1.0));
        assert_eq!(first.get_bucket(10.0).unwrap(), 1.0);
        second.observe(5.0).unwrap();
        flush(other);
        assert_eq!(first.get_bucket(10.0).unwrap(), 1.0, "what is hidden still counts");
    });
}

#[test]
fn the_sum_of_a_gauge_histogram_is_shown_as_it_is() {
    in_each_store(|one, _| {
        let family = declare_with_buckets(one, "drift", MetricType::GaugeHistogram, &[], &[-1.0, 1.0]);
        family.metric(&[]).unwrap().observe(-5.0).unwrap();
        gauge_histogram(one).observe(f64::NAN).unwrap();
        flush(one);
        let text = shown(one, OPEN_METRICS);
        assert!(text.contains("drift_gsum -5\ndrift_gcount 1\n"), "a bound is below 0: {text}");
        assert!(!text.contains("age_gsum"), "no parser of OpenMetrics takes such a sum: {text}");
        assert!(shown(one, "").contains("age_sum NaN\nage_count 1\n"));
    });
}

#[test]
fn only_a_gauge_histogram_takes_observations_back() {
    let backend = Backend::open("memory:").unwrap();
    for metric_type in [MetricType::Histogram, MetricType::Summary, MetricType::Gauge] {
        let metric = declare(&backend, metric_type.name(), metric_type, &[]).metric(&[]).unwrap();
        assert_eq!(metric.unobserve(1.0), Err(Refusal::WrongType));
    }
}

// All.

#[test]
fn new_metrics_that_a_full_file_holds_back_keep_their_values() {
    let file = TestFile::new();
    let backend = Backend::open(&file.url("size_limit=2097152")).unwrap();
    let filler = declare(&backend, "filler", MetricType::Gauge, &["n"]);
    let set = state_set(&backend, "flags", &["n"], &["a", "b"]);
    let mut number = 0;
    while backend.statistics().metrics_held_back == 0 {
        filler.metric(&[&format!("{number}{}", "x".repeat(1000))]).unwrap();
        number += 1;
    }
    let metric = set.metric(&["1"]).unwrap();
    metric.set_state("a", true).unwrap();
    metric.set_state("b", true).unwrap();
    metric.set_state("a", false).unwrap();
    filler.clear().unwrap();
    for removed in 0..number {
        let _ = filler.remove(&[&format!("{removed}{}", "x".repeat(1000))]);
    }
    assert!(!metric.get_state("a").unwrap() && metric.get_state("b").unwrap());
}
