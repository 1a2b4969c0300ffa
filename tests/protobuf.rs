//! A scrape in protobuf, as another implementation of protobuf decodes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use prost::Message;
use pytheus_backend_rs::{
    Backend, Definition, ErrorKind, Exporter, ExporterOptions, ForeignFamily, Format, Lifetime, MetricType,
    NameRule, Native, RenderOptions,
};
use support::http::Client;
use support::*;

const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// The messages of `metrics.proto`, with the fields that this library writes.
#[derive(Clone, PartialEq, Message)]
struct Family {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(int32, optional, tag = "3")]
    metric_type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
    #[prost(string, optional, tag = "5")]
    unit: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Value>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Value>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Value {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(uint64, optional, tag = "1")]
    count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    quantiles: Vec<Quantile>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Quantile {
    #[prost(double, optional, tag = "1")]
    quantile: Option<f64>,
    #[prost(double, optional, tag = "2")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "9")]
    negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "10")]
    negative_deltas: Vec<i64>,
    #[prost(message, repeated, tag = "12")]
    positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "13")]
    positive_deltas: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Span {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

impl Histogram {
    /// Returns the indexes and counts of the native buckets above and below zero.
    fn native_buckets(&self) -> [Vec<(i32, u64)>; 2] {
        let side = |spans: &[Span], deltas: &[i64]| {
            let (mut index, mut indexes) = (0, Vec::new());
            for span in spans {
                index += span.offset.unwrap();
                indexes.extend(index..index + span.length.unwrap() as i32);
                index += span.length.unwrap() as i32;
            }
            assert_eq!(indexes.len(), deltas.len());
            let counts = deltas.iter().scan(0, |count, delta| {
                *count += delta;
                Some(*count as u64)
            });
            indexes.into_iter().zip(counts).collect()
        };
        [side(&self.positive_spans, &self.positive_deltas), side(&self.negative_spans, &self.negative_deltas)]
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

fn decode(mut body: &[u8]) -> Vec<Family> {
    let mut families = Vec::new();
    while !body.is_empty() {
        families.push(Family::decode_length_delimited(&mut body).unwrap());
    }
    families
}

fn rendered(backend: &Backend, parameters: &str, foreign: &[ForeignFamily]) -> Vec<Family> {
    let format = Format::negotiate(Some(&format!("{PROTOBUF}{parameters}")));
    assert!(format.is_protobuf());
    let options = RenderOptions { format, foreign, ..Default::default() };
    decode(&backend.render(&options).unwrap().body)
}

fn memory() -> Backend {
    Backend::open("memory:").unwrap()
}

fn labels(metric: &Metric) -> Vec<(&str, &str)> {
    let text = |text: &'_ Option<String>| text.as_deref().unwrap().to_owned().leak() as &str;
    metric.labels.iter().map(|label| (text(&label.name), text(&label.value))).collect()
}

fn value(value: f64) -> Option<Value> {
    Some(Value { value: Some(value) })
}

fn buckets(all: &[(f64, u64)]) -> Vec<Bucket> {
    let bucket = |&(bound, count)| Bucket { cumulative_count: Some(count), upper_bound: Some(bound) };
    all.iter().map(bucket).collect()
}

#[test]
fn each_type_has_its_number_and_message() {
    let backend = memory();
    let plain = |name, metric_type| declare(&backend, name, metric_type, &[]).metric(&[]).unwrap();
    plain("a_total", MetricType::Counter).inc(2.5).unwrap();
    plain("b", MetricType::Gauge).set(-1.0).unwrap();
    plain("c", MetricType::Untyped).set(f64::NAN).unwrap();
    let summary = plain("d", MetricType::Summary);
    let bounds = [0.5, 10.0];
    let histogram = declare_with_buckets(&backend, "e", MetricType::Histogram, &[], &bounds);
    let histogram = histogram.metric(&[]).unwrap();
    for observed in [0.25, 0.5, 1.0, 300.0] {
        summary.observe(observed).unwrap();
        histogram.observe(observed).unwrap();
    }
    let families = rendered(&backend, "", &[]);
    let described: Vec<_> = families
        .iter()
        .map(|family| (family.name.as_deref().unwrap(), family.metric_type.unwrap(), family.metrics.len()))
        .collect();
    assert_eq!(described, [("a_total", 0, 1), ("b", 1, 1), ("c", 3, 1), ("d", 2, 1), ("e", 4, 1)]);
    assert!(
        families.iter().all(|family| family.help.as_deref() == Some("Some help.") && family.unit.is_none())
    );
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|index| families[index].metrics[0].clone());
    assert_eq!(a, Metric { counter: value(2.5), ..Default::default() });
    assert_eq!(b, Metric { gauge: value(-1.0), ..Default::default() });
    assert!(c.untyped.unwrap().value.unwrap().is_nan());
    let summary = Summary { count: Some(4), sum: Some(301.75), quantiles: Vec::new() };
    assert_eq!(d, Metric { summary: Some(summary), ..Default::default() });
    let histogram = Histogram {
        count: Some(4),
        sum: Some(301.75),
        buckets: buckets(&[(0.5, 2), (10.0, 3), (f64::INFINITY, 4)]),
        ..Default::default()
    };
    assert_eq!(e, Metric { histogram: Some(histogram), ..Default::default() });
}

#[test]
fn an_info_and_a_state_set_are_gauges_and_a_gauge_histogram_has_its_own_number() {
    let backend = memory();
    declare(&backend, "a", MetricType::Info, &[]).set_info(&[], &[("version", "1")]).unwrap();
    let definition = Definition::state_set(NameRule::Legacy, "b", "", &["x"], &["on", "off"]).unwrap();
    let states = backend.declare(definition, &["x"], Lifetime::Backend).unwrap();
    states.metric(&["1"]).unwrap().set_state("off", true).unwrap();
    let ages = declare_with_buckets(&backend, "c", MetricType::GaugeHistogram, &[], &[0.5]);
    let ages = ages.metric(&[]).unwrap();
    ages.observe(1.5).unwrap();
    ages.observe(0.25).unwrap();
    ages.unobserve(0.25).unwrap();
    ages.unobserve(0.25).unwrap();
    let families = rendered(&backend, "", &[]);
    let described: Vec<_> = families
        .iter()
        .map(|family| (family.name.as_deref().unwrap(), family.metric_type.unwrap()))
        .collect();
    assert_eq!(described, [("a_info", 1), ("b", 1), ("c", 5)]);
    let info = &families[0].metrics[0];
    assert_eq!((labels(info), info.gauge), (vec![("version", "1")], value(1.0)));
    let states: Vec<_> = families[1].metrics.iter().map(|metric| (labels(metric), metric.gauge)).collect();
    let state = |name, is_on| (vec![("x", "1"), ("b", name)], value(is_on));
    assert_eq!(states, [state("on", 0.0), state("off", 1.0)]);
    let expected = buckets(&[(0.5, 0), (f64::INFINITY, 1)]);
    let histogram = Histogram { count: Some(1), sum: Some(1.25), buckets: expected, ..Default::default() };
    assert_eq!(families[2].metrics[0].histogram, Some(histogram));
}

#[test]
fn labels_and_help_are_not_escaped() {
    let backend = memory();
    let definition = Definition::new("m", "a \\ \"b\"\nc", MetricType::Gauge, &["a", "b"], &[]).unwrap();
    let family = backend.declare(definition, &["b", "a"], Lifetime::Backend).unwrap();
    family.metric(&["", "\\ \" \n é \u{1} \0"]).unwrap().set(1.0).unwrap();
    let families = rendered(&backend, "", &[]);
    assert_eq!(families[0].help.as_deref(), Some("a \\ \"b\"\nc"));
    assert_eq!(labels(&families[0].metrics[0]), [("a", "\\ \" \n é \u{1} \u{FFFD}"), ("b", "")]);
}

#[test]
fn names_are_escaped_as_the_client_asks() {
    let backend = memory();
    let definition =
        Definition::with_names(NameRule::Utf8, "my.time", "", MetricType::Gauge, &["http.path"], &[])
            .unwrap();
    let family = backend.declare(definition, &["http.path"], Lifetime::Backend).unwrap();
    family.metric(&["/"]).unwrap().set(1.0).unwrap();
    for (parameters, name, label) in [
        ("", "my_time", "http_path"),
        (";escaping=dots", "my_dot_time", "http_dot_path"),
        (";escaping=allow-utf-8", "my.time", "http.path"),
    ] {
        let families = rendered(&backend, parameters, &[]);
        assert_eq!(families[0].name.as_deref(), Some(name));
        assert_eq!(labels(&families[0].metrics[0]), [(label, "/")]);
    }
}

#[test]
fn a_unit_is_told_where_the_name_ends_with_it() {
    let backend = memory();
    for (name, metric_type) in [("a_seconds_total", MetricType::Counter), ("b_seconds", MetricType::Gauge)] {
        let definition = Definition::new(name, "", metric_type, &[], &[]).unwrap();
        let definition = definition.with_unit("seconds").unwrap();
        backend.declare(definition, &[], Lifetime::Backend).unwrap();
    }
    let families = rendered(&backend, "", &[]);
    assert!(families.iter().all(|family| family.unit.as_deref() == Some("seconds")), "{families:?}");
}

#[test]
fn messages_of_every_length_are_decoded() {
    let backend = memory();
    let family = declare(&backend, "m", MetricType::Gauge, &["a"]);
    let lengths = [0, 1, 90, 110, 120, 127, 128, 129, 16_370, 16_384, 16_400, 2_100_000];
    let values: Vec<String> = lengths.iter().map(|&length| "x".repeat(length)).collect();
    for (index, value) in values.iter().enumerate() {
        family.metric(&[value]).unwrap().set(index as f64).unwrap();
    }
    let families = rendered(&backend, "", &[]);
    let metrics: Vec<_> =
        families[0].metrics.iter().map(|metric| (labels(metric)[0].1, metric.gauge)).collect();
    assert_eq!(metrics.len(), values.len());
    for (index, text) in values.iter().enumerate() {
        assert!(metrics.contains(&(text, value(index as f64))), "{}", text.len());
    }
}

#[test]
fn families_of_the_caller_are_shown_in_whole_series() {
    let foreign = |name, metric_type| {
        ForeignFamily::new(Definition::new(name, "", metric_type, &[], &[]).unwrap(), NameRule::Legacy, 0)
    };
    let mut counter = foreign("a_total", MetricType::Counter);
    counter.push("", &[("x", "1")], 3.0).unwrap();
    counter.push("_created", &[("x", "1")], 1e9).unwrap();
    counter.push("_created", &[("x", "2")], 1e9).unwrap();
    let mut histogram = foreign("b", MetricType::Histogram);
    let mut summary = foreign("c", MetricType::Summary);
    for (bound, count) in [("1", 1.0), ("+Inf", 4.0)] {
        histogram.push("_bucket", &[("x", "good"), ("le", bound)], count).unwrap();
        histogram.push("_bucket", &[("x", "odd"), ("le", bound)], count + 0.5).unwrap();
    }
    histogram.push("_sum", &[("x", "good")], 7.5).unwrap();
    summary.push("", &[("quantile", "0.9")], 5.0).unwrap();
    summary.push("_sum", &[], 8.0).unwrap();
    summary.push("_count", &[], 2.0).unwrap();
    summary.push("_count", &[("x", "odd")], 0.5).unwrap();
    let families = rendered(&memory(), "", &[counter, histogram, summary]);
    let [a, b, c] = [0, 1, 2].map(|index| &families[index].metrics);
    assert_eq!((a.len(), b.len(), c.len()), (1, 1, 1), "what is no count, or has no value, is left out");
    assert_eq!((labels(&a[0]), a[0].counter), (vec![("x", "1")], value(3.0)));
    assert_eq!(labels(&b[0]), [("x", "good")]);
    let expected = Histogram {
        count: Some(4),
        sum: Some(7.5),
        buckets: buckets(&[(1.0, 1), (f64::INFINITY, 4)]),
        ..Default::default()
    };
    assert_eq!(b[0].histogram, Some(expected));
    let quantiles = vec![Quantile { quantile: Some(0.9), value: Some(5.0) }];
    assert_eq!(c[0].summary, Some(Summary { count: Some(2), sum: Some(8.0), quantiles }));
}

#[test]
fn a_family_whose_names_are_taken_is_left_out() {
    let backend = memory();
    for (name, metric_type) in [("h", MetricType::Histogram), ("h_count", MetricType::Counter)] {
        declare(&backend, name, metric_type, &[]).metric(&[]).unwrap();
    }
    let families = rendered(&backend, "", &[]);
    let names: Vec<_> = families.iter().map(|family| family.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["h"]);
}

#[test]
fn the_exporter_answers_in_protobuf() {
    let backend = memory();
    counter(&backend, "requests_total").inc(3.0).unwrap();
    let exporter = Exporter::start(&backend, ExporterOptions::default()).unwrap();
    let mut client = Client::connect(exporter.address());
    client.send(&format!("GET /metrics HTTP/1.1\r\nHost: test\r\nAccept: {PROTOBUF},*/*;q=0.1\r\n\r\n"));
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("content-type")), (200, PROTOBUF));
    let families = decode(&answer.body);
    assert_eq!(families[0].metrics, [Metric { counter: value(3.0), ..Default::default() }]);
}

fn native_histogram(buckets: &[f64], keeps_buckets: bool) -> Definition {
    let definition = Definition::new("n", "", MetricType::Histogram, &[], buckets).unwrap();
    definition.with_native(Native::default(), keeps_buckets).unwrap()
}

/// Returns the one histogram of a backend, as protobuf and as text.
fn shown(backend: &Backend) -> (Histogram, String) {
    let family = rendered(backend, "", &[]).remove(0);
    assert_eq!(family.metric_type, Some(4));
    let text = backend.render(&RenderOptions::default()).unwrap().body;
    (family.metrics[0].histogram.clone().unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn a_native_histogram_has_its_buckets_in_protobuf_and_count_and_sum_in_text() {
    let backend = memory();
    let family = backend.declare(native_histogram(&[], false), &[], Lifetime::Backend).unwrap();
    let metric = family.metric(&[]).unwrap();
    let (empty, _) = shown(&backend);
    assert_eq!((empty.count, empty.schema, empty.zero_threshold), (Some(0), Some(3), Some(2f64.powi(-128))));
    assert_eq!(empty.positive_spans, [Span { offset: Some(0), length: Some(0) }]);
    for value in [0.0, 1.0, 1.5, 1.5, 1000.0, -1.0, -2.0] {
        metric.observe(value).unwrap();
    }
    let (native, text) = shown(&backend);
    assert_eq!((native.count, native.sum, native.zero_count), (Some(7), Some(1001.0), Some(1)));
    assert_eq!(native.native_buckets(), [vec![(0, 1), (5, 2), (80, 1)], vec![(0, 1), (8, 1)]]);
    assert_eq!(native.buckets, []);
    let lines = "n_bucket{le=\"+Inf\"} 7\nn_sum 1001\nn_count 7\n";
    assert_eq!(text, format!("# HELP n \n# TYPE n histogram\n{lines}"));
    assert_eq!((metric.get_count().unwrap(), metric.get_bucket(f64::INFINITY).unwrap()), (7.0, 7.0));
}

#[test]
fn a_native_histogram_beside_classic_buckets_has_both() {
    let backend = memory();
    let family = backend.declare(native_histogram(&[1.0, 2.0], true), &[], Lifetime::Backend).unwrap();
    let metric = family.metric(&[]).unwrap();
    for value in [0.5, 1.5, 1000.0] {
        metric.observe(value).unwrap();
    }
    let (native, text) = shown(&backend);
    assert_eq!((native.count, native.sum), (Some(3), Some(1002.0)));
    assert_eq!(native.native_buckets(), [vec![(-8, 1), (5, 1), (80, 1)], vec![]]);
    let classic: Vec<_> = native.buckets.iter().map(|bucket| bucket.cumulative_count.unwrap()).collect();
    assert_eq!(classic, [1, 2, 3]);
    assert!(text.contains("n_bucket{le=\"2\"} 2\n"), "{text}");
}

/// Prometheus refuses a scrape with a native histogram whose observations are not those in its buckets, unless the
/// sum is not a number.
#[test]
fn an_observation_that_is_no_number_is_in_no_native_bucket() {
    for definition in [native_histogram(&[], false), native_histogram(&[1.0], true)] {
        let backend = memory();
        let metric = backend.declare(definition, &[], Lifetime::Backend).unwrap().metric(&[]).unwrap();
        metric.observe(1.0).unwrap();
        metric.observe(f64::NAN).unwrap();
        let (native, _) = shown(&backend);
        assert_eq!(native.native_buckets(), [vec![(0, 1)], vec![]]);
        assert!(native.sum.unwrap().is_nan());
        assert_eq!((native.count, metric.get_count().unwrap()), (Some(2), 2.0));
    }
}

#[test]
fn a_native_histogram_is_declared_alike_everywhere() {
    let backend = memory();
    let declare = |definition| backend.declare(definition, &[], Lifetime::Backend);
    declare(native_histogram(&[], false)).unwrap();
    let classic = Definition::new("n", "", MetricType::Histogram, &[], &[]).unwrap();
    let wide = classic.clone().with_native(Native::new(2, 100).unwrap(), false).unwrap();
    for other in [classic, wide, native_histogram(&[], true)] {
        let error = declare(other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains("native buckets of schema 3 and size 384"), "{error}");
    }
    let counter = Definition::new("c", "", MetricType::Counter, &[], &[]).unwrap();
    let error = counter.with_native(Native::default(), true).unwrap_err();
    assert_eq!(error.message(), "metric family \"c\": a counter cannot be a native histogram");
}
