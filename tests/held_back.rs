//! Metrics that the store cannot take: no metric call fails because of the store. They count in the process, the log
//! says why once, the statistics count them, and the store gets what they counted when it has room.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use log::Level;
use pytheus_backend_rs::{Backend, Definition, ErrorKind, Lifetime, MetricFamily, MetricType};

use support::process::fork;
use support::shared_file::*;
use support::*;

/// Opens a file of one segment.
fn small(file: &TestFile) -> Backend {
    Backend::open(&file.url(&format!("size_limit={SEGMENT}"))).unwrap()
}

/// Makes metrics until the file is full: the last one is held back.
fn fill_up(family: &MetricFamily, file: &TestFile) {
    remember_log();
    let is_full = || !log_records(Level::Error, &[file.path.to_str().unwrap(), "size limit"]).is_empty();
    let mut made = 0;
    while !is_full() {
        made += 1;
        family.metric(&[&format!("filler {made}")]).unwrap().inc(1.0).unwrap();
    }
    assert!(made > 4_000, "{made}");
}

fn labelled(backend: &Backend, name: &str) -> MetricFamily {
    declare(backend, name, MetricType::Counter, &["a"])
}

/// Waits until a look-up asks the store again.
fn wait_for_the_next_attempt() {
    std::thread::sleep(std::time::Duration::from_millis(1100));
}

#[test]
fn a_full_file_holds_new_metrics_back_and_gets_what_they_counted_when_there_is_room() {
    let file = TestFile::new();
    let backend = small(&file);
    let fillers = labelled(&backend, "fillers_total");
    let late = labelled(&backend, "late_total");
    let levels = declare(&backend, "late_level", MetricType::Gauge, &["a"]);
    let seconds = declare_with_buckets(&backend, "late_seconds", MetricType::Histogram, &["a"], &[1.0]);
    fill_up(&fillers, &file);
    let (counted, level) = (late.metric(&["x"]).unwrap(), levels.metric(&["x"]).unwrap());
    let seconds = seconds.metric(&["x"]).unwrap();
    counted.inc(2.0).unwrap();
    level.set(7.0).unwrap();
    level.dec(1.0).unwrap();
    seconds.observe(0.5).unwrap();
    seconds.observe(3.0).unwrap();
    assert_eq!((counted.get().unwrap(), level.get().unwrap()), (2.0, 6.0), "they count in this process");
    assert_eq!((seconds.get_count().unwrap(), seconds.get_sum().unwrap()), (2.0, 3.5));
    // The store has no room for a family either.
    counter(&backend, "latest_total").inc(1.0).unwrap();
    assert_eq!(backend.statistics().metrics_held_back, 5);
    assert_eq!(lines(&backend, "late_total{"), [""; 0], "no scrape shows what one process alone knows");
    let reason = [file.path.to_str().unwrap(), "size limit"];
    assert_eq!(log_records(Level::Error, &reason).len(), 1, "each cause is logged once");
    let report = Backend::open(&file.url("start=attach")).unwrap().check().unwrap();
    assert!(report.faults().iter().any(|fault| fault.contains("it is full")), "{report:?}");
    // Another process makes room for metrics; a family needs room of its own.
    labelled(&file.open(), "fillers_total").clear().unwrap();
    backend.flush(PATIENCE).unwrap();
    assert_eq!(backend.statistics().metrics_held_back, 1);
    counted.inc(1.0).unwrap();
    let other = file.open();
    assert_eq!(lines(&other, "late_total{"), ["late_total{a=\"x\"} 3"]);
    assert_eq!(lines(&other, "late_level{"), ["late_level{a=\"x\"} 6"]);
    assert_eq!(lines(&other, "late_seconds_count{"), ["late_seconds_count{a=\"x\"} 2"]);
    assert_eq!(lines(&other, "late_seconds_sum{"), ["late_seconds_sum{a=\"x\"} 3.5"]);
    assert_eq!(late.metric(&["x"]).unwrap().get().unwrap(), 3.0);
}

#[test]
fn a_scrape_a_look_up_and_a_close_offer_the_metrics_again() {
    let offers: [fn(&Backend, &MetricFamily); 4] = [
        |backend, _| drop(backend.collect(None).unwrap()),
        |_, family| {
            wait_for_the_next_attempt();
            family.metric(&["another"]).unwrap();
        },
        |_, family| {
            wait_for_the_next_attempt();
            family.metric(&["late"]).unwrap();
        },
        |backend, _| backend.close().unwrap(),
    ];
    for offer in offers {
        let file = TestFile::new();
        let backend = small(&file);
        let family = labelled(&backend, "fillers_total");
        fill_up(&family, &file);
        family.metric(&["late"]).unwrap().inc(5.0).unwrap();
        let other = file.open();
        labelled(&other, "fillers_total").remove(&["filler 1"]).unwrap();
        labelled(&other, "fillers_total").remove(&["filler 2"]).unwrap();
        offer(&backend, &family);
        assert_eq!(lines(&other, "fillers_total{a=\"late\"}"), ["fillers_total{a=\"late\"} 5"]);
    }
}

#[test]
fn a_label_value_that_is_too_long_costs_its_own_metric() {
    remember_log();
    let file = TestFile::new();
    let backend = file.open();
    let family = labelled(&backend, "hits_total");
    for index in 0..3 {
        let long = format!("{index}{}", "x".repeat(2 << 20));
        family.metric(&[&long]).unwrap().inc(1.0).unwrap();
        assert_eq!(family.metric(&[&long]).unwrap().get().unwrap(), 1.0);
    }
    family.metric(&["short"]).unwrap().inc(1.0).unwrap();
    assert_eq!(backend.statistics().metrics_held_back, 3);
    assert_eq!(lines(&backend, "hits_total{"), ["hits_total{a=\"short\"} 1"]);
    assert_eq!(log_records(Level::Error, &[file.path.to_str().unwrap(), "too large"]).len(), 1);
    let buckets: Vec<f64> = (0..200_000).map(f64::from).collect();
    let odd = declare_with_buckets(&backend, "odd_seconds", MetricType::Histogram, &[], &buckets);
    odd.metric(&[]).unwrap().observe(0.5).unwrap();
    assert_eq!(odd.metric(&[]).unwrap().get_count().unwrap(), 1.0);
}

#[test]
fn a_child_leaves_what_was_held_back_before_the_fork_to_its_parent() {
    let file = TestFile::new();
    let backend = small(&file);
    let family = labelled(&backend, "fillers_total");
    fill_up(&family, &file);
    let late = family.metric(&["late"]).unwrap();
    late.inc(5.0).unwrap();
    fork(|| {
        late.inc(2.0).unwrap();
        labelled(&file.open(), "fillers_total").remove(&["filler 1"]).unwrap();
        labelled(&file.open(), "fillers_total").remove(&["filler 2"]).unwrap();
        backend.close().is_ok()
    })
    .join();
    assert_eq!(lines(&file.open(), "fillers_total{a=\"late\"}"), ["fillers_total{a=\"late\"} 2"]);
    backend.flush(PATIENCE).unwrap();
    assert_eq!(lines(&file.open(), "fillers_total{a=\"late\"}"), ["fillers_total{a=\"late\"} 7"]);
}

#[test]
fn removing_a_metric_that_is_held_back_removes_the_series_of_other_processes() {
    let file = TestFile::new();
    let backend = small(&file);
    let fillers = labelled(&backend, "fillers_total");
    fill_up(&fillers, &file);
    fillers.metric(&["x"]).unwrap().inc(1.0).unwrap();
    assert_eq!(backend.statistics().metrics_held_back, 2);
    let other = file.open();
    let of_other = labelled(&other, "fillers_total");
    of_other.clear().unwrap();
    of_other.metric(&["x"]).unwrap().inc(2.0).unwrap();
    fillers.remove(&["x"]).unwrap();
    assert_eq!(lines(&other, "fillers_total{a=\"x\""), [""; 0]);
}

#[test]
fn a_metric_that_is_removed_while_it_is_held_back_never_reaches_the_store() {
    let file = TestFile::new();
    let backend = small(&file);
    let family = labelled(&backend, "fillers_total");
    fill_up(&family, &file);
    let late = family.metric(&["late"]).unwrap();
    late.inc(5.0).unwrap();
    family.remove(&["late"]).unwrap();
    assert_eq!(family.remove(&["late"]).unwrap_err().kind(), ErrorKind::NotFound);
    family.clear().unwrap();
    late.inc(5.0).unwrap();
    backend.flush(PATIENCE).unwrap();
    assert_eq!(lines(&file.open(), "fillers_total{"), [""; 0]);
    assert_eq!(backend.statistics().metrics_held_back, 0);
}

#[test]
fn a_mistake_in_the_program_is_still_an_error() {
    let file = TestFile::new();
    let backend = small(&file);
    let family = labelled(&backend, "fillers_total");
    fill_up(&family, &file);
    assert_eq!(family.metric(&["a", "b"]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let other = Definition::new("fillers_total", "", MetricType::Gauge, &[], &[]).unwrap();
    assert_eq!(backend.declare(other, &[], Lifetime::Backend).unwrap_err().kind(), ErrorKind::Conflict);
}
