//! Gauges of which every process has its own value: the modes, who lives, and what the dead leave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod support;

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use pytheus_backend_rs::{
    Backend, Definition, ErrorKind, GaugeMode, Lifetime, Metric, MetricFamily, MetricType,
};

use support::process::{Process, SharedNumbers, fork};
use support::shared_file::{RawRecord, TestFile, fnv};
use support::*;

const MODES: [&str; 10] =
    ["all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent"];

fn definition(name: &str, labels: &[&str], mode: &str) -> Definition {
    let gauge = Definition::new(name, "", MetricType::Gauge, labels, &[]).unwrap();
    gauge.with_mode(GaugeMode::from_name(mode).unwrap()).unwrap()
}

fn family(backend: &Backend, mode: &str) -> MetricFamily {
    backend.declare(definition(mode, &[], mode), &[], Lifetime::Backend).unwrap()
}

/// Declares a gauge of each mode, whose name is that of the mode.
fn gauges(backend: &Backend) -> Vec<Arc<Metric>> {
    MODES.iter().map(|mode| family(backend, mode).metric(&[]).unwrap()).collect()
}

/// Returns the value that a scrape shows of each mode that merges.
fn merged(backend: &Backend) -> Vec<(&'static str, f64)> {
    let text = backend.collect_text().unwrap();
    let value = |mode: &'static str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{mode} ")))?;
        Some((mode, line.parse().unwrap()))
    };
    MODES.into_iter().filter_map(value).collect()
}

/// Returns how many processes a scrape shows with the mode `all`, and with `liveall`.
fn processes(backend: &Backend) -> (usize, usize) {
    (lines(backend, "all{").len(), lines(backend, "liveall{").len())
}

/// A child that has set all gauges to a value, and lives until it is killed.
fn child(ready: &SharedNumbers, set: impl FnOnce()) -> Process {
    let before = ready.get(0);
    let process = fork(|| {
        set();
        ready.add(0, 1);
        loop {
            // SAFETY: a plain system call.
            unsafe { libc::pause() };
        }
    });
    wait_until("the child has set its gauges", || ready.get(0) > before);
    process
}

fn set(gauges: &[Arc<Metric>], value: f64) {
    gauges.iter().for_each(|gauge| gauge.set(value).unwrap());
}

#[test]
fn each_process_has_its_own_value_and_a_kill_is_seen_at_the_next_scrape() {
    let (file, ready) = (TestFile::new(), SharedNumbers::new(1));
    let backend = file.open();
    let own = gauges(&backend);
    set(&own, 5.0);
    // One child uses handles that it has inherited, the other one opens the file.
    let first = child(&ready, || set(&own, 2.0));
    let second = child(&ready, || {
        let backend = file.open();
        set(&gauges(&backend), 9.0);
        // It stays open.
        std::mem::forget(backend);
    });
    let reader = Backend::open(&file.url("start=attach")).unwrap();
    for backend in [&backend, &reader] {
        assert_eq!(
            merged(backend),
            [
                ("min", 2.0),
                ("livemin", 2.0),
                ("max", 9.0),
                ("livemax", 9.0),
                ("sum", 16.0),
                ("livesum", 16.0),
                ("mostrecent", 9.0),
                ("livemostrecent", 9.0),
            ]
        );
        assert_eq!(processes(backend), (3, 3));
    }
    assert!(lines(&backend, "liveall").contains(&format!("liveall{{pid=\"{}\"}} 5", std::process::id())));
    first.kill();
    second.kill();
    for backend in [&backend, &reader] {
        assert_eq!(
            merged(backend),
            [
                ("min", 2.0),
                ("livemin", 5.0),
                ("max", 9.0),
                ("livemax", 5.0),
                ("sum", 16.0),
                ("livesum", 5.0),
                ("mostrecent", 9.0),
                ("livemostrecent", 5.0),
            ]
        );
        assert_eq!(processes(backend), (3, 1));
    }
    // What the dead have left stays when others take their places; in `all`, it ends then.
    let third = child(&ready, || set(&own, 6.0));
    let fourth = child(&ready, || set(&own, 7.0));
    assert_eq!(
        merged(&backend),
        [
            ("min", 2.0),
            ("livemin", 5.0),
            ("max", 9.0),
            ("livemax", 7.0),
            ("sum", 29.0),
            ("livesum", 18.0),
            ("mostrecent", 7.0),
            ("livemostrecent", 7.0),
        ]
    );
    assert_eq!(processes(&backend), (3, 3));
    third.kill();
    fourth.kill();
    assert_eq!(backend.check().unwrap().faults(), [""; 0]);
    assert_eq!(reader.check().unwrap().faults(), [""; 0]);
    assert_eq!(own[0].get().unwrap(), 5.0, "a program reads its own value");
    file.assert_index_is_sound();
}

#[test]
fn the_file_and_a_scrape_are_bounded_by_the_processes_that_live_at_one_time() {
    let (file, ready) = (TestFile::new(), SharedNumbers::new(1));
    let backend = file.open();
    let own = gauges(&backend);
    set(&own, 1.0);
    let run = |rounds: u32| {
        for round in 0..rounds {
            let pair = [0, 1].map(|number| {
                let set = || set(&own, f64::from(round) + f64::from(number));
                child(&ready, set)
            });
            assert_eq!(processes(&backend), (3, 3));
            pair.into_iter().for_each(Process::kill);
        }
    };
    run(2);
    let (end, scrape) = (file.committed(), backend.collect_text().unwrap().lines().count());
    // 200 processes in all.
    run(98);
    assert_eq!(file.committed(), end, "the file has not grown");
    assert_eq!(backend.collect_text().unwrap().lines().count(), scrape);
    assert_eq!(processes(&backend), (3, 1));
    assert_eq!(merged(&backend)[0], ("min", 0.0));
    // 1 + (0 + 1) + … for the first two rounds and for the other 98.
    let sum = |rounds: u32| (0..rounds).map(|round| f64::from(2 * round + 1)).sum::<f64>();
    assert!(merged(&backend).contains(&("sum", 1.0 + sum(2) + sum(98))));
    file.assert_index_is_sound();
}

#[test]
fn two_hundred_processes_at_one_time_are_all_shown_and_their_places_used_again() {
    let (file, ready) = (TestFile::new(), SharedNumbers::new(1));
    let backend = file.open();
    let own = gauges(&backend);
    set(&own, 1.0);
    let all =
        |count: usize| -> Vec<Process> { (0..count).map(|_| child(&ready, || set(&own, 1.0))).collect() };
    let first = all(200);
    assert_eq!(processes(&backend), (201, 201));
    assert!(merged(&backend).contains(&("livesum", 201.0)));
    first.into_iter().for_each(Process::kill);
    assert_eq!(processes(&backend).1, 1);
    let end = file.committed();
    let second = all(200);
    assert_eq!(file.committed(), end, "the second 200 use the records of the first");
    assert!(merged(&backend).contains(&("sum", 401.0)));
    second.into_iter().for_each(Process::kill);
}

#[test]
fn a_child_that_only_adds_to_an_inherited_gauge_begins_at_zero() {
    let (file, ready) = (TestFile::new(), SharedNumbers::new(1));
    let backend = file.open();
    let gauge = family(&backend, "sum").metric(&[]).unwrap();
    gauge.set(10.0).unwrap();
    let process = child(&ready, || {
        gauge.inc(2.0).unwrap();
        gauge.dec(0.5).unwrap();
        assert_eq!(gauge.get().unwrap(), 1.5);
    });
    assert_eq!(lines(&backend, "sum"), ["sum 11.5"]);
    assert_eq!(gauge.get().unwrap(), 10.0);
    process.kill();
    // A grandchild of a child that never used the gauge has a value, too.
    let process = child(&ready, || {
        fork(|| gauge.inc(3.0).is_ok() && gauge.get().unwrap() == 3.0).join();
    });
    assert_eq!(lines(&backend, "sum"), ["sum 14.5"]);
    process.kill();
}

/// A process that is no child of the test.
struct KillOnDrop(i32);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // SAFETY: a plain system call. The process ends only here.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
    }
}

#[test]
fn a_killed_process_is_dead_though_its_child_lives_in_another_pid_namespace() {
    let (file, ready) = (TestFile::new(), SharedNumbers::new(2));
    let process = child(&ready, || {
        let backend = file.open();
        let gauges = gauges(&backend);
        set(&gauges, 2.0);
        // SAFETY: a plain system call. Without the right to it, the grandchild has the namespace of all.
        unsafe { libc::unshare(libc::CLONE_NEWPID) };
        let grandchild = fork(|| {
            // SAFETY: plain system calls. It outlives its parent, and the test ends it.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) };
            set(&gauges, 3.0);
            ready.add(0, 1);
            loop {
                unsafe { libc::pause() };
            }
        });
        ready.add(1, grandchild.pid() as u64);
        wait_until("the grandchild has set its gauges", || ready.get(0) == 1);
        std::mem::forget(backend);
    });
    let grandchild = KillOnDrop(ready.get(1) as i32);
    let backend = file.open();
    assert!(merged(&backend).contains(&("livesum", 5.0)));
    process.kill();
    assert_eq!(
        processes(&backend),
        (2, 1),
        "the grandchild has inherited what the killed process has mapped"
    );
    assert!(merged(&backend).contains(&("livesum", 3.0)));
    drop(grandchild);
    wait_until("the grandchild is dead", || processes(&backend) == (2, 0));
}

#[test]
fn a_removed_series_is_gone_from_all_processes() {
    let (file, ready) = (TestFile::new(), SharedNumbers::new(1));
    let backend = file.open();
    let jobs = |backend: &Backend| {
        backend.declare(definition("jobs", &["queue"], "sum"), &["queue"], Lifetime::Backend).unwrap()
    };
    let process = child(&ready, || {
        let backend = file.open();
        for queue in ["a", "b"] {
            jobs(&backend).metric(&[queue]).unwrap().set(1.0).unwrap();
        }
        std::mem::forget(backend);
    });
    let own = jobs(&backend);
    own.metric(&["a"]).unwrap().set(2.0).unwrap();
    assert_eq!(lines(&backend, "jobs"), ["jobs{queue=\"a\"} 3", "jobs{queue=\"b\"} 1"]);
    own.remove(&["a"]).unwrap();
    assert_eq!(lines(&backend, "jobs"), ["jobs{queue=\"b\"} 1"]);
    own.remove(&["b"]).unwrap();
    assert_eq!(own.remove(&["b"]).unwrap_err().kind(), ErrorKind::NotFound);
    own.metric(&["a"]).unwrap().set(4.0).unwrap();
    assert_eq!(lines(&backend, "jobs"), ["jobs{queue=\"a\"} 4"]);
    own.clear().unwrap();
    assert_eq!(lines(&backend, "jobs"), [""; 0]);
    process.kill();
}

#[test]
fn another_mode_in_another_process_is_a_conflict_at_the_declaration() {
    let file = TestFile::new();
    let (one, other) = (file.open(), file.open());
    let declare = |backend: &Backend, mode: &str| {
        backend.declare(definition("jobs", &[], mode), &[], Lifetime::Backend).map(drop)
    };
    declare(&one, "livemax").unwrap();
    declare(&other, "livemax").unwrap();
    let third = file.open();
    let error = declare(&third, "livesum").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(
        error.message().contains("with the mode livemax") && error.message().contains("livesum"),
        "{error}"
    );
    let plain = Definition::new("jobs", "", MetricType::Gauge, &[], &[]).unwrap();
    let error = third.declare(plain, &[], Lifetime::Backend).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[test]
fn two_backends_of_one_process_are_two_processes_with_one_id() {
    let file = TestFile::new();
    let (one, other) = (file.open(), file.open());
    set(&gauges(&one), 1.0);
    set(&gauges(&other), 2.0);
    let pid = std::process::id();
    let expected = [format!("liveall{{pid=\"{pid}\"}} 1"), format!("liveall{{pid=\"{pid}-1\"}} 2")];
    assert_eq!(lines(&one, "liveall"), expected);
    assert_eq!(lines(&other, "liveall"), expected);
    drop(other);
}

#[test]
fn in_memory_a_gauge_with_a_mode_is_the_gauge_of_its_process() {
    let backend = Backend::open("memory:").unwrap();
    set(&gauges(&backend), 3.0);
    for mode in MODES {
        assert_eq!(lines(&backend, &format!("{mode} ")), [format!("{mode} 3")]);
    }
}

#[test]
fn a_process_that_lost_its_descriptors_lives_again_with_its_next_scrape() {
    let (file, ready) = (TestFile::new(), SharedNumbers::new(1));
    let backend = file.open();
    let own = gauges(&backend);
    set(&own, 1.0);
    let process = fork(|| {
        let own = file.open();
        set(&gauges(&own), 2.0);
        // SAFETY: plain system calls. This process only uses the engine.
        assert_eq!(unsafe { libc::close_range(3, u32::MAX, 0) }, 0);
        ready.add(0, 1);
        wait_until("the parent has scraped", || ready.get(0) == 2);
        own.collect_text().unwrap();
        ready.add(0, 1);
        wait_until("the parent has scraped again", || ready.get(0) == 4);
        true
    });
    wait_until("the child has closed its descriptors", || ready.get(0) == 1);
    assert_eq!(processes(&backend), (2, 1));
    ready.add(0, 1);
    wait_until("the child has scraped", || ready.get(0) == 3);
    assert_eq!(processes(&backend), (2, 2));
    ready.add(0, 1);
    process.join();
}

/// Replaces the text of a family's record.
fn give_text(file: &TestFile, family: &RawRecord, text: &str) {
    let kind_and_size = u64::from(family.kind) | family.size << 32;
    let sum = fnv(&[kind_and_size, 0, text.len() as u64], text.as_bytes());
    file.handle().write_all_at(text.as_bytes(), family.offset + 64).unwrap();
    file.set_word(family.offset + 32, sum);
}

#[test]
fn a_program_that_does_not_know_such_gauges_leaves_them_out_and_writes_nothing_to_them() {
    let file = TestFile::new();
    let backend = file.open();
    counter(&backend, "hits_total").inc(1.0).unwrap();
    family(&backend, "sum").metric(&[]).unwrap().set(2.0).unwrap();
    let records = file.records();
    let known = records.iter().find(|record| record.text.starts_with("sum\n")).unwrap();
    // A type that no program knows, as this one is to programs that were made before it.
    give_text(&file, known, &known.text.replace("\"processgauge\"", "\"processxxxxx\""));
    let older = file.open();
    assert_eq!(lines(&older, "hits_total"), ["hits_total 1"]);
    assert_eq!(lines(&older, "sum"), [""; 0]);
    let plain = Definition::new("sum", "", MetricType::Gauge, &[], &[]).unwrap();
    let error = older.declare(plain, &[], Lifetime::Backend).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(
        error.message().contains("\"sum\" is already declared in the metrics file by another program"),
        "{error}"
    );
    counter(&older, "hits_total").inc(1.0).unwrap();
    assert_eq!(file.records().len(), records.len());
    give_text(&file, known, &known.text);
    assert_eq!(lines(&backend, "sum"), ["sum 2"]);
    assert_eq!(lines(&backend, "hits_total"), ["hits_total 2"]);
}
