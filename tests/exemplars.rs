//! Exemplars: what a scrape shows of them, what is refused, and what threads and killed processes leave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use prost::Message;
use pytheus_backend_rs::{
    Backend, Definition, ErrorKind, Exemplar, Format, Lifetime, Metric, MetricType, Native, RenderOptions,
};
use support::process::{Process, SharedNumbers, fork};
use support::shared_file::TestFile;
use support::*;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";
const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
const TRACE: &[(&str, &str)] =
    &[("trace_id", "0af7651916cd43dd8448eb211c80319c"), ("span_id", "b7ad6b716920\"31")];

fn jobs(backend: &Backend) -> Arc<Metric> {
    let definition = Definition::new("jobs_total", "", MetricType::Counter, &[], &[]).unwrap();
    metric(backend, definition.with_exemplars().unwrap())
}

fn times(backend: &Backend) -> Arc<Metric> {
    let definition = Definition::new("times", "", MetricType::Histogram, &[], &[1.0, 2.0, 4.0]).unwrap();
    metric(backend, definition.with_exemplars().unwrap())
}

fn metric(backend: &Backend, definition: Definition) -> Arc<Metric> {
    backend.declare(definition, &[], Lifetime::Backend).unwrap().metric(&[]).unwrap()
}

fn memory() -> Backend {
    Backend::open("memory:").unwrap()
}

fn rendered(backend: &Backend, accept: &str) -> Vec<u8> {
    let format = Format::negotiate(Some(accept));
    backend.render(&RenderOptions { format, ..RenderOptions::default() }).unwrap().body
}

fn text(backend: &Backend, accept: &str) -> String {
    String::from_utf8(rendered(backend, accept)).unwrap()
}

/// Returns the exemplars of the one series of the family at `index`.
fn exemplars(backend: &Backend, index: usize) -> Vec<Exemplar> {
    let snapshot = backend.collect(None).unwrap();
    let mut series = snapshot.families[index].series();
    series.next().map_or_else(Vec::new, |series| series.exemplars().to_vec())
}

/// Takes the times out of the exemplars of a text, and checks that each has three digits behind the point.
fn without_times(text: &str) -> String {
    let line = |line: &str| match line.contains(" # {") {
        true => {
            let (rest, time) = line.rsplit_once(' ').unwrap();
            assert_eq!(time.split_once('.').unwrap().1.len(), 3, "{line}");
            assert!(time.parse::<f64>().unwrap() > 1.7e9, "{line}");
            format!("{rest}\n")
        }
        false => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn open_metrics_shows_the_exemplars_of_counters_and_buckets_and_the_old_text_none() {
    let file = TestFile::new();
    for backend in [memory(), file.open()] {
        let (jobs, times) = (jobs(&backend), times(&backend));
        jobs.inc(1.0).unwrap();
        jobs.inc_with_exemplar(2.0, TRACE).unwrap();
        for value in [0.5, 1.5, 9.0] {
            times.observe_with_exemplar(value, &[("trace_id", "a")]).unwrap();
        }
        let trace = "# {trace_id=\"0af7651916cd43dd8448eb211c80319c\",span_id=\"b7ad6b716920\\\"31\"} 2";
        let expected = format!(
            "# HELP jobs \n# TYPE jobs counter\njobs_total 3 {trace}\n\
             # HELP times \n# TYPE times histogram\n\
             times_bucket{{le=\"1.0\"}} 1 # {{trace_id=\"a\"}} 0.5\n\
             times_bucket{{le=\"2.0\"}} 2 # {{trace_id=\"a\"}} 1.5\n\
             times_bucket{{le=\"4.0\"}} 2\n\
             times_bucket{{le=\"+Inf\"}} 3 # {{trace_id=\"a\"}} 9\n\
             times_sum 11\ntimes_count 3\n# EOF\n"
        );
        assert_eq!(without_times(&text(&backend, OPEN_METRICS)), expected);
        assert!(!text(&backend, "").contains("trace_id"));
    }
    // An attached reader shows them, too, and the file is sound.
    let attached = Backend::open(&file.url("start=attach")).unwrap();
    assert_eq!(text(&attached, OPEN_METRICS).matches("trace_id").count(), 4);
    assert_eq!(file.open().check().unwrap().faults(), [""; 0]);
}

#[derive(Clone, PartialEq, Message)]
struct ShownFamily {
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<ShownMetric>,
}

#[derive(Clone, PartialEq, Message)]
struct ShownMetric {
    #[prost(message, optional, tag = "3")]
    counter: Option<ShownCounter>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<ShownHistogram>,
}

#[derive(Clone, PartialEq, Message)]
struct ShownCounter {
    #[prost(message, optional, tag = "2")]
    exemplar: Option<ShownExemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct ShownHistogram {
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<ShownCounterOfBucket>,
    #[prost(message, repeated, tag = "16")]
    exemplars: Vec<ShownExemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct ShownCounterOfBucket {
    #[prost(message, optional, tag = "3")]
    exemplar: Option<ShownExemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct ShownExemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<ShownLabel>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<ShownTime>,
}

#[derive(Clone, PartialEq, Message)]
struct ShownLabel {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ShownTime {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanoseconds: i32,
}

#[test]
fn protobuf_shows_the_exemplars_of_counters_buckets_and_native_histograms() {
    let backend = memory();
    jobs(&backend).inc_with_exemplar(2.0, TRACE).unwrap();
    times(&backend).observe_with_exemplar(1.5, TRACE).unwrap();
    let native = Definition::new("native", "", MetricType::Histogram, &[], &[]).unwrap();
    let native = native.with_native(Native::default(), false).unwrap().with_exemplars().unwrap();
    let native = metric(&backend, native);
    for value in [1.0, 2.0, 4.0, 8.0, f64::NAN] {
        native.observe_with_exemplar(value, TRACE).unwrap();
    }
    let mut body = &rendered(&backend, PROTOBUF)[..];
    let mut family = || ShownFamily::decode_length_delimited(&mut body).unwrap().metrics.remove(0);
    let counter = family().counter.unwrap().exemplar.unwrap();
    let labels: Vec<_> =
        counter.labels.iter().map(|label| (label.name.as_str(), label.value.as_str())).collect();
    assert_eq!((labels.as_slice(), counter.value), (TRACE, 2.0));
    let time = counter.timestamp.unwrap();
    assert!(time.seconds > 1_700_000_000 && time.nanoseconds % 1_000_000 == 0);
    let buckets = family().histogram.unwrap().buckets;
    let values: Vec<_> = buckets.iter().map(|bucket| bucket.exemplar.as_ref().map(|one| one.value)).collect();
    assert_eq!(values, [None, Some(1.5), None, None]);
    let mut values: Vec<_> = family().histogram.unwrap().exemplars.iter().map(|one| one.value).collect();
    values.sort_unstable_by(f64::total_cmp);
    assert_eq!(values, [1.0, 2.0, 4.0, 8.0], "a value that is not a number is no example");
}

#[test]
fn what_cannot_be_shown_is_refused_and_not_counted() {
    let backend = memory();
    let (jobs, times) = (jobs(&backend), times(&backend));
    let long = "x".repeat(121);
    for labels in [&[][..], &[("trace_id", long.as_str())], &[("a", "1"), ("a", "2")], &[("a.b", "1")]] {
        for error in [jobs.inc_with_exemplar(1.0, labels), times.observe_with_exemplar(1.0, labels)] {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    }
    let error = jobs.inc_with_exemplar(1.0, &[("trace_id", &long)]).unwrap_err();
    assert!(
        error.message().starts_with("counter \"jobs_total\": invalid exemplar labels {trace_id="),
        "{error}"
    );
    assert!(error.message().contains("129 characters: expected at most 128"), "{error}");
    let error = jobs.inc_with_exemplar(-1.0, TRACE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    // A family without the option, and an operation of another type.
    let plain = counter(&backend, "plain_total");
    let error = plain.inc_with_exemplar(1.0, TRACE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType);
    assert!(error.message().contains("\"plain_total\": it is declared without exemplars"), "{error}");
    assert_eq!(times.inc_with_exemplar(1.0, TRACE).unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(jobs.observe_with_exemplar(1.0, TRACE).unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!((jobs.get().unwrap(), times.get_count().unwrap(), plain.get().unwrap()), (0.0, 0.0, 0.0));
    assert_eq!((exemplars(&backend, 0), exemplars(&backend, 1)), (vec![], vec![]));
    for metric_type in [MetricType::Gauge, MetricType::Summary, MetricType::GaugeHistogram, MetricType::Info]
    {
        let definition = Definition::new("other", "", metric_type, &[], &[]).unwrap();
        let error = definition.with_exemplars().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains("only a counter or histogram"), "{error}");
    }
}

#[test]
fn an_exemplar_stays_for_a_tenth_of_a_second_and_the_next_one_replaces_it() {
    let file = TestFile::new();
    for backend in [memory(), file.open()] {
        let jobs = jobs(&backend);
        assert!(jobs.takes_exemplar(1.0) && !jobs.takes_exemplar(f64::NAN));
        let mut replaced = 0;
        wait_until("the exemplar is replaced", || {
            let before = exemplars(&backend, 0);
            let takes = jobs.takes_exemplar(1.0);
            jobs.inc_with_exemplar(1.0, TRACE).unwrap();
            let after = exemplars(&backend, 0);
            if before.is_empty() {
                assert!(takes && after.len() == 1);
                return false;
            }
            let age = after[0].milliseconds() - before[0].milliseconds();
            // Time may pass between the question and the write.
            assert!(age == 0 || age >= 100, "replaced after {age} ms");
            assert!(age > 0 || !takes);
            replaced += usize::from(age > 0);
            replaced == 2
        });
        assert!(!counter(&backend, "plain_total").takes_exemplar(1.0));
    }
}

/// A new version of a program may have exemplars while the old one still counts, and the other way around.
#[test]
fn programs_with_and_without_exemplars_count_in_one_series_of_a_file() {
    for has_exemplars_first in [true, false] {
        let file = TestFile::new();
        let (first, second) = (file.open(), file.open());
        let plain = |backend| counter(backend, "jobs_total");
        let (one, other) = match has_exemplars_first {
            true => (jobs(&first), plain(&second)),
            false => (plain(&first), jobs(&second)),
        };
        let with = if has_exemplars_first { &one } else { &other };
        with.inc_with_exemplar(1.0, TRACE).unwrap();
        one.inc(1.0).unwrap();
        other.inc(1.0).unwrap();
        for backend in [&first, &second] {
            let text = text(backend, OPEN_METRICS);
            assert!(text.contains("jobs_total 3"), "{text}");
            // A series that was made without slots has none.
            assert_eq!(text.contains("trace_id"), has_exemplars_first, "{text}");
        }
        assert_eq!(first.check().unwrap().faults(), [""; 0]);
    }
}

#[test]
fn a_series_that_gets_the_place_of_another_one_shows_nothing_of_it() {
    let file = TestFile::new();
    let backend = file.open();
    let definition = Definition::new("jobs_total", "", MetricType::Counter, &["a"], &[]).unwrap();
    let family = backend.declare(definition.with_exemplars().unwrap(), &["a"], Lifetime::Backend).unwrap();
    let old = family.metric(&["x"]).unwrap();
    old.inc_with_exemplar(1.0, TRACE).unwrap();
    let size = file.committed();
    family.remove(&["x"]).unwrap();
    let new = family.metric(&["y"]).unwrap();
    assert_eq!(file.committed(), size, "the record is used again");
    assert_eq!(exemplars(&backend, 0), []);
    // The handle of the removed series changes nothing.
    old.inc_with_exemplar(1.0, TRACE).unwrap();
    assert_eq!((exemplars(&backend, 0), new.get().unwrap()), (vec![], 0.0));
    new.inc_with_exemplar(1.0, TRACE).unwrap();
    assert_eq!(exemplars(&backend, 0).len(), 1);
}

#[test]
fn a_series_that_has_ended_begins_anew_without_its_exemplars() {
    let file = TestFile::new();
    for backend in [memory(), file.open()] {
        let definition = Definition::new("jobs_total", "", MetricType::Counter, &["a"], &[]).unwrap();
        let definition = definition.with_exemplars().unwrap().with_series_ttl(1.0).unwrap();
        let family = backend.declare(definition, &["a"], Lifetime::Backend).unwrap();
        let job = family.metric(&["x"]).unwrap();
        let inc = |trace| job.inc_with_exemplar(1.0, &[("trace_id", trace)]).unwrap();
        let shown = || {
            let text = without_times(&text(&backend, OPEN_METRICS));
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        inc("first");
        assert_eq!(shown(), ["jobs_total{a=\"x\"} 1 # {trace_id=\"first\"} 1"]);
        wait_until("the series has ended", || shown().is_empty());
        job.inc(1.0).unwrap();
        assert_eq!(shown(), ["jobs_total{a=\"x\"} 1"], "it has begun anew");
        wait_until("the slot takes another exemplar", || job.takes_exemplar(1.0));
        inc("second");
        assert_eq!(shown(), ["jobs_total{a=\"x\"} 2 # {trace_id=\"second\"} 1"]);
        wait_until("the series has ended again", || shown().is_empty());
        assert!(job.takes_exemplar(1.0));
        inc("third");
        assert_eq!(shown(), ["jobs_total{a=\"x\"} 1 # {trace_id=\"third\"} 1"], "with its first change");
    }
    assert_eq!(file.open().check().unwrap().faults(), [""; 0]);
}

/// Returns labels that fit each other and the value, so that a mixture of two exemplars shows.
fn labels_of(number: u64) -> [String; 2] {
    let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    [format!("{id:032x}"), format!("{number:x}").repeat((number % 3 + 1) as usize)]
}

fn observe(times: &Metric, number: u64) {
    let [trace, span] = labels_of(number);
    times.observe_with_exemplar(number as f64, &[("trace_id", &trace), ("span_id", &span)]).unwrap();
}

/// Checks that each exemplar is whole, and returns the sum of their times.
fn check_whole(exemplars: &[Exemplar]) -> u64 {
    for exemplar in exemplars {
        let [trace, span] = labels_of(exemplar.value() as u64);
        let labels: Vec<_> = exemplar.labels().collect();
        assert_eq!(labels, [("trace_id", trace.as_str()), ("span_id", span.as_str())]);
    }
    exemplars.iter().map(|exemplar| exemplar.milliseconds()).sum()
}

#[test]
fn each_exemplar_that_is_read_is_whole_while_eight_threads_write() {
    let backend = memory();
    let times = times(&backend);
    let ends = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (times, ends) = (&times, &ends);
            scope.spawn(move || {
                let mut number = thread;
                while !ends.load(std::sync::atomic::Ordering::Relaxed) {
                    observe(times, number);
                    number += 8;
                }
            });
        }
        let (mut changes, mut last) = (0, 0);
        wait_until("the exemplars change", || {
            let sum = check_whole(&exemplars(&backend, 0));
            changes += usize::from(sum != last);
            last = sum;
            changes > 10
        });
        ends.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn each_exemplar_that_is_read_is_whole_while_four_processes_write_and_are_killed() {
    let file = TestFile::new();
    let backend = file.open();
    let times = times(&backend);
    let (slots, kills) = (4, 20);
    let observed = SharedNumbers::new(slots);
    let start = |slot: usize| {
        let (file, observed, times) = (&file, &observed, &times);
        fork(move || {
            // Half of the children use their parent's handle, half open the file themselves.
            let own = slot.is_multiple_of(2).then(|| file.open());
            let own_times = own.as_ref().map(self::times);
            loop {
                observe(own_times.as_ref().unwrap_or(times), observed.get(slot) * 4 + slot as u64);
                observed.add(slot, 1);
            }
        })
    };
    let mut children: Vec<Process> = (0..slots).map(start).collect();
    for kill in 0..kills {
        let slot = kill % slots;
        let before = observed.get(slot);
        wait_until("the process counts", || {
            check_whole(&exemplars(&backend, 0));
            observed.get(slot) >= before + 2_000
        });
        std::mem::replace(&mut children[slot], start(slot)).kill();
    }
    let last = check_whole(&exemplars(&backend, 0));
    wait_until("later exemplars replace what killed processes left", || {
        check_whole(&exemplars(&backend, 0)) != last && exemplars(&backend, 0).len() >= 2
    });
    children.into_iter().for_each(Process::kill);
    let noted: u64 = (0..slots).map(|slot| observed.get(slot)).sum();
    let counted = times.get_count().unwrap() as u64;
    // Each killed process may have counted one observation without noting it.
    assert!((noted..=noted + (kills + slots) as u64).contains(&counted), "{counted}, noted {noted}");
    assert_eq!(backend.check().unwrap().faults(), [""; 0]);
}
