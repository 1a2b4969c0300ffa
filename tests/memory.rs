//! The memory store: what a scrape shows, when metrics go, and how threads meet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Barrier;

use pytheus_backend_rs::{Backend, Definition, ErrorKind, Lifetime, MetricFamily, MetricType};

use support::*;

fn memory() -> Backend {
    Backend::open("memory:").unwrap()
}

fn labelled(backend: &Backend, name: &str) -> MetricFamily {
    declare(backend, name, MetricType::Counter, &["method"])
}

/// Declares a family that ends with its last handle.
fn declare_for_handle(backend: &Backend, name: &str) -> MetricFamily {
    let definition = Definition::new(name, "Some help.", MetricType::Counter, &[], &[]).unwrap();
    backend.declare(definition, &[], Lifetime::Handle).unwrap()
}

/// The sample lines of a scrape, without help and types.
fn lines(backend: &Backend) -> Vec<String> {
    let text = backend.collect_text().unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn each_type_is_shown_in_the_order_of_declaration() {
    let backend = memory();
    let plain = |name, metric_type| declare(&backend, name, metric_type, &[]).metric(&[]).unwrap();
    let untyped = plain("z_odd", MetricType::Untyped);
    let gauge = plain("b_size", MetricType::Gauge);
    let counter = plain("c_total", MetricType::Counter);
    let summary = plain("d_bytes", MetricType::Summary);
    let histogram =
        declare_with_buckets(&backend, "e_seconds", MetricType::Histogram, &[], &[0.5, 10.0, f64::INFINITY])
            .metric(&[])
            .unwrap();
    untyped.set(-1.5).unwrap();
    gauge.set(8.0).unwrap();
    gauge.inc(-1.0).unwrap();
    gauge.dec(0.75).unwrap();
    counter.inc(2.5).unwrap();
    summary.observe(3.0).unwrap();
    summary.observe(-1.0).unwrap();
    for value in [0.5, 0.25, 0.75, 10.0, 11.0] {
        histogram.observe(value).unwrap();
    }
    assert_eq!(
        lines(&backend),
        [
            "z_odd -1.5",
            "b_size 6.25",
            "c_total 2.5",
            "d_bytes_sum 2",
            "d_bytes_count 2",
            "e_seconds_bucket{le=\"0.5\"} 2",
            "e_seconds_bucket{le=\"10\"} 4",
            "e_seconds_bucket{le=\"+Inf\"} 5",
            "e_seconds_sum 22.5",
            "e_seconds_count 5",
        ]
    );
    assert_eq!(histogram.get_bucket(10.0).unwrap(), 4.0);
    assert_eq!(histogram.get_bucket(f64::INFINITY).unwrap(), 5.0);
}

#[test]
fn a_histogram_without_buckets_has_the_default_ones() {
    let backend = memory();
    declare(&backend, "seconds", MetricType::Histogram, &[]).metric(&[]).unwrap();
    let bounds = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];
    let mut expected: Vec<String> =
        bounds.iter().map(|bound| format!("seconds_bucket{{le=\"{bound}\"}} 0")).collect();
    expected.extend(["seconds_sum 0".to_owned(), "seconds_count 0".to_owned()]);
    assert_eq!(lines(&backend), expected);
}

#[test]
fn infinities_and_nan_are_counted_and_shown() {
    let backend = memory();
    let family = declare(&backend, "size", MetricType::Gauge, &["method"]);
    family.metric(&["down"]).unwrap().dec(f64::INFINITY).unwrap();
    family.metric(&["nan"]).unwrap().set(f64::NAN).unwrap();
    family.metric(&["up"]).unwrap().set(f64::INFINITY).unwrap();
    let histogram = declare_with_buckets(&backend, "seconds", MetricType::Histogram, &[], &[1.0]);
    histogram.metric(&[]).unwrap().observe(f64::NAN).unwrap();
    assert_eq!(
        lines(&backend),
        [
            "size{method=\"down\"} -Inf",
            "size{method=\"nan\"} NaN",
            "size{method=\"up\"} +Inf",
            "seconds_bucket{le=\"1\"} 0",
            "seconds_bucket{le=\"+Inf\"} 1",
            "seconds_sum NaN",
            "seconds_count 1",
        ]
    );
}

#[test]
fn the_order_of_label_names_does_not_matter() {
    let backend = memory();
    let family = declare(&backend, "requests_total", MetricType::Counter, &["path", "method"]);
    let reversed = declare(&backend, "requests_total", MetricType::Counter, &["method", "path"]);
    family.metric(&["/a", "GET"]).unwrap().inc(1.0).unwrap();
    reversed.metric(&["GET", "/a"]).unwrap().inc(2.0).unwrap();
    assert_eq!(lines(&backend), ["requests_total{method=\"GET\",path=\"/a\"} 3"]);
}

#[test]
fn a_family_of_the_backend_outlives_its_handles() {
    let backend = memory();
    for _ in 0..2 {
        labelled(&backend, "requests_total").metric(&["GET"]).unwrap().inc(1.0).unwrap();
    }
    assert_eq!(lines(&backend), ["requests_total{method=\"GET\"} 2"]);
}

#[test]
fn a_family_of_a_handle_lives_as_long_as_its_handles() {
    let backend = memory();
    let family = declare_for_handle(&backend, "requests_total");
    let twin = declare_for_handle(&backend, "requests_total");
    let (metric, twin_metric) = (family.metric(&[]).unwrap(), twin.metric(&[]).unwrap());
    metric.inc(3.0).unwrap();
    assert_eq!(twin_metric.get().unwrap(), 0.0, "families of handles share nothing");
    assert_eq!(lines(&backend), ["requests_total 3"], "a scrape shows a name once: the first declared");

    drop(metric);
    let metric = family.metric(&[]).unwrap();
    assert_eq!(metric.get().unwrap(), 0.0, "a metric goes with its last handle");
    drop(family);
    metric.inc(5.0).unwrap();
    assert_eq!(metric.get().unwrap(), 5.0, "a metric outlives the handle of its family");
    drop(metric);
    assert_eq!(lines(&backend), ["requests_total 0"], "the twin is left");
    drop((twin, twin_metric));
    assert_eq!(backend.collect_text().unwrap(), "");
}

#[test]
fn a_removed_metric_is_gone_and_can_be_created_again() {
    let backend = memory();
    let family = labelled(&backend, "requests_total");
    let (get, post) = (family.metric(&["GET"]).unwrap(), family.metric(&["POST"]).unwrap());
    get.inc(1.0).unwrap();
    post.inc(2.0).unwrap();
    family.remove(&["GET"]).unwrap();
    assert_eq!(family.remove(&["GET"]).unwrap_err().kind(), ErrorKind::NotFound);
    get.inc(100.0).unwrap();
    assert_eq!(lines(&backend), ["requests_total{method=\"POST\"} 2"]);
    family.metric(&["GET"]).unwrap().inc(5.0).unwrap();
    assert_eq!(lines(&backend), ["requests_total{method=\"GET\"} 5", "requests_total{method=\"POST\"} 2"]);
    family.clear().unwrap();
    post.inc(1.0).unwrap();
    assert!(lines(&backend).is_empty());
    assert_eq!(family.metric(&["POST"]).unwrap().get().unwrap(), 0.0);
}

#[test]
fn handles_work_after_their_backend_is_dropped() {
    let backend = memory();
    let family = labelled(&backend, "requests_total");
    let metric = family.metric(&["GET"]).unwrap();
    backend.close().unwrap();
    backend.close().unwrap();
    drop(backend);
    metric.inc(1.0).unwrap();
    family.metric(&["POST"]).unwrap().inc(1.0).unwrap();
    family.clear().unwrap();
    metric.inc(1.0).unwrap();
}

#[test]
fn backends_share_nothing() {
    let backend = memory();
    let other = Backend::open("memory:").unwrap();
    counter(&backend, "requests_total").inc(1.0).unwrap();
    gauge(&other, "requests_total").set(9.0).unwrap();
    assert_eq!(lines(&backend), ["requests_total 1"]);
    assert_eq!(lines(&other), ["requests_total 9"]);
}

/// Each thread declares the same families and asks for the same metrics for itself.
#[test]
fn threads_that_create_the_same_metrics_share_them() {
    const THREADS: u32 = 8;
    const REPETITIONS: u32 = 2_000;
    let backend = memory();
    let start = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for index in 0..REPETITIONS {
                    let family = labelled(&backend, &format!("family_{}", index % 10));
                    family.metric(&[&format!("{}", index % 50)]).unwrap().inc(1.0).unwrap();
                }
            });
        }
    });
    let families = backend.collect(None).unwrap().families;
    let values: Vec<f64> =
        families.iter().flat_map(|family| family.series()).map(|series| series.value()).collect();
    assert_eq!(values.len(), 50);
    assert_eq!(values.iter().sum::<f64>(), f64::from(THREADS * REPETITIONS));
}
