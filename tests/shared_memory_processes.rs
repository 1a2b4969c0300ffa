//! Processes that share a metrics file: forked, killed at any moment, or short-lived.
//!
//! When a process is killed, every operation that had returned is in the file. The interrupted operation may
//! be in the file or not. An observation consists of two additions (bucket, then sum), so its first may be
//! there alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod support;

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use log::Level;
use pytheus_backend_rs::{Backend, Definition, Lifetime, Metric, MetricFamily, MetricType, Native};

use support::process::{EndOnDrop, Process, Random, SharedNumbers, fork, live_for};
use support::shared_file::TestFile;
use support::writers::rounds;
use support::*;

const BUCKETS: [f64; 2] = [1.0, 10.0];

fn requests(backend: &Backend) -> std::sync::Arc<Metric> {
    counter(backend, "requests_total")
}

fn times(backend: &Backend) -> std::sync::Arc<Metric> {
    declare_with_buckets(backend, "time", MetricType::Histogram, &[], &BUCKETS).metric(&[]).unwrap()
}

fn hits(backend: &Backend) -> MetricFamily {
    declare(backend, "hits", MetricType::Counter, &["a"])
}

/// Returns label value and value of all metrics of the family `hits`, read by a new backend. Asserts that
/// each exists once.
fn all_hits(file: &TestFile) -> std::collections::BTreeMap<String, f64> {
    let snapshot = file.open().collect(None).unwrap();
    let family = snapshot.families.iter().find(|family| family.definition.name() == "hits").unwrap();
    let map: std::collections::BTreeMap<_, _> =
        family.series().map(|series| (series.labels()["a"].clone(), series.value())).collect();
    assert_eq!(map.len(), family.series().len());
    map
}

// Counting.

#[test]
fn counts_of_several_processes_add_up_exactly() {
    let file = TestFile::new();
    let (processes, increments, observations) = (8, 100_000, 20_000);
    // Half of the children use their parent's handles, half open the file themselves.
    let backend = file.open();
    let (inherited_requests, inherited_times) = (requests(&backend), times(&backend));
    let children: Vec<Process> = (0..processes)
        .map(|number| {
            let (file, requests_of_parent, times_of_parent) = (&file, &inherited_requests, &inherited_times);
            fork(move || {
                let own = (number % 2 == 0).then(|| file.open());
                let requests = own.as_ref().map_or_else(|| requests_of_parent.clone(), requests);
                let times = own.as_ref().map_or_else(|| times_of_parent.clone(), times);
                for index in 0..increments {
                    requests.inc(1.0).unwrap();
                    if index % (increments / observations) == 0 {
                        times.observe(f64::from(index % 3) * 5.0).unwrap();
                    }
                }
                true
            })
        })
        .collect();
    children.into_iter().for_each(Process::join);
    let total = f64::from(processes) * f64::from(increments);
    assert_eq!(inherited_requests.get().unwrap(), total);
    let count = f64::from(processes) * f64::from(observations);
    assert_eq!(inherited_times.get_count().unwrap(), count);
    let one: f64 = (0..increments).step_by(5).map(|index| f64::from(index % 3) * 5.0).sum();
    assert_eq!(inherited_times.get_sum().unwrap(), one * f64::from(processes));
    assert_eq!(requests(&file.open()).get().unwrap(), total);
}

#[test]
fn a_killed_process_loses_no_count() {
    let file = TestFile::new();
    let (slots, kills) = (8, 20);
    // For each slot the increments and observations that have returned.
    let completed = SharedNumbers::new(2 * slots);
    let ends = SharedNumbers::new(1);
    let start = |slot: usize| {
        let (file, completed, ends) = (&file, &completed, &ends);
        fork(move || {
            let backend = file.open();
            let (requests, times) = (requests(&backend), times(&backend));
            while ends.get(0) == 0 {
                requests.inc(1.0).unwrap();
                completed.add(2 * slot, 1);
                times.observe(5.0).unwrap();
                completed.add(2 * slot + 1, 1);
            }
            true
        })
    };
    let mut children: Vec<Process> = (0..slots).map(start).collect();
    let mut random = Random::new();
    for _ in 0..kills {
        let slot = random.below(slots as u64) as usize;
        let (before, more) = (completed.get(2 * slot), 1 + random.below(3_000));
        wait_until("the process counts", || completed.get(2 * slot) >= before + more);
        std::mem::replace(&mut children[slot], start(slot)).kill();
    }
    ends.add(0, 1);
    children.into_iter().for_each(Process::join);
    let backend = file.open();
    let of = |kind: usize| (0..slots).map(|slot| completed.get(2 * slot + kind)).sum::<u64>() as f64;
    let (incremented, observed) = (of(0), of(1));
    assert!(incremented > f64::from(kills));
    // Each killed process may have completed one operation without noting it.
    let may_be_more = f64::from(kills);
    let value = requests(&backend).get().unwrap();
    assert!((incremented..=incremented + may_be_more).contains(&value), "{value}, noted {incremented}");
    let count = times(&backend).get_count().unwrap();
    assert!((observed..=observed + may_be_more).contains(&count), "{count}, noted {observed}");
    // An observation adds to the bucket first and to the sum second.
    let sum = times(&backend).get_sum().unwrap() / 5.0;
    assert!((observed..=count).contains(&sum), "{sum}, noted {observed}, counted {count}");
}

fn sizes(backend: &Backend) -> std::sync::Arc<Metric> {
    let definition = Definition::new("size", "", MetricType::Histogram, &[], &[]).unwrap();
    let definition = definition.with_native(Native::new(5, 128).unwrap(), false).unwrap();
    backend.declare(definition, &[], Lifetime::Backend).unwrap().metric(&[]).unwrap()
}

#[test]
fn a_killed_process_loses_no_observation_of_a_native_histogram() {
    let file = TestFile::new();
    // With `make test-long` 8 processes, which observe 1,000,000 values each.
    let (slots, each, kills) = if rounds() > 2 { (8, 1_000_000, 20) } else { (4, 10_000, 20) };
    let observed = SharedNumbers::new(slots);
    let ends = SharedNumbers::new(1);
    // Half of the children use their parent's handle, half open the file themselves.
    let backend = file.open();
    let inherited = sizes(&backend);
    let start = |slot: usize| {
        let (file, observed, ends, inherited) = (&file, &observed, &ends, &inherited);
        fork(move || {
            live_for(600);
            let own = slot.is_multiple_of(2).then(|| file.open());
            let sizes = own.as_ref().map_or_else(|| std::sync::Arc::clone(inherited), sizes);
            while ends.get(0) == 0 || observed.get(slot) < each {
                // The range of the values grows with their number, so the schema falls meanwhile.
                let number = observed.get(slot);
                sizes.observe(1.03f64.powi((number * 7 % (number / 20 + 1)) as i32 % 300)).unwrap();
                observed.add(slot, 1);
            }
            true
        })
    };
    let mut children: Vec<Process> = (0..slots).map(start).collect();
    let mut random = Random::new();
    for _ in 0..kills {
        let slot = random.below(slots as u64) as usize;
        let (before, more) = (observed.get(slot), 1 + random.below(each / 20));
        wait_until("the process counts", || observed.get(slot) >= before + more);
        std::mem::replace(&mut children[slot], start(slot)).kill();
    }
    ends.add(0, 1);
    children.into_iter().for_each(Process::join);
    let noted: u64 = (0..slots).map(|slot| observed.get(slot)).sum();
    let snapshot = file.open().collect(None).unwrap();
    let series = snapshot.families[0].series().next().unwrap();
    let native = series.native().unwrap();
    // Each killed process may have completed one observation without noting it.
    let counted = native.count();
    assert!((noted..=noted + kills).contains(&counted), "{counted}, noted {noted}");
    assert_eq!(series.count(), counted as f64);
    assert!(native.schema < 5, "the schema has not fallen in {noted} observations");
    assert_eq!(file.open().check().unwrap().faults(), [""; 0]);
}

#[test]
fn processes_killed_while_creating_and_removing_metrics_leave_a_sound_file() {
    let file = TestFile::new();
    let (slots, kills) = (4, 60);
    let rounds = SharedNumbers::new(slots + 2);
    // Metrics that are never removed: one before the others and, by the steady process, one among them.
    let backend = file.open();
    let kept = hits(&backend).metric(&["kept"]).unwrap();
    let ends = SharedNumbers::new(1);
    let steady = {
        let (file, rounds, ends) = (&file, &rounds, &ends);
        fork(move || {
            let backend = file.open();
            let family = hits(&backend);
            let own: Vec<_> =
                (0..20).map(|index| family.metric(&[&format!("own-{index}")]).unwrap()).collect();
            let mut round = 0_u64;
            while ends.get(0) == 0 {
                own[round as usize % 20].inc(1.0).unwrap();
                rounds.add(slots, 1);
                let mine = family.metric(&[&format!("steady-{}", round % 50)]).unwrap();
                mine.inc(1.0).unwrap();
                assert_eq!(mine.get().unwrap(), 1.0, "only this process counts in it");
                family.remove(&[&format!("steady-{}", round % 50)]).unwrap();
                if round.is_multiple_of(64) {
                    let found = backend.collect(None).unwrap();
                    let names = found.families[0].series().map(|series| series.labels());
                    assert_eq!(names.collect::<BTreeSet<_>>().len(), found.families[0].series().len());
                }
                round += 1;
            }
            (0..20).all(|index| own[index].get().unwrap() > 0.0)
        })
    };
    let start = |slot: usize| {
        let (file, rounds, ends) = (&file, &rounds, &ends);
        fork(move || {
            let backend = file.open();
            let family = hits(&backend);
            let kept = family.metric(&["kept"]).unwrap();
            let mut round = 0;
            while ends.get(0) == 0 {
                // Values have several sizes. The slot's previous process may have created the metric.
                let value = format!("{slot}-{}-{}", round % 7, "x".repeat(round % 5 * 40));
                let metric = family.metric(&[&value]).unwrap();
                metric.inc(1.0).unwrap();
                assert!(metric.get().unwrap() >= 1.0);
                kept.inc(1.0).unwrap();
                rounds.add(slot, 1);
                if round % 3 > 0 {
                    family.remove(&[&value]).unwrap();
                }
                round += 1;
            }
            true
        })
    };
    let mut children: Vec<Process> = (0..slots).map(start).collect();
    let mut random = Random::new();
    for kill in 0..kills {
        let slot = random.below(slots as u64) as usize;
        let (before, more) = (rounds.get(slot), 1 + random.below(15));
        wait_until("the process goes on", || rounds.get(slot) >= before + more);
        let pause = Duration::from_micros(random.below(300));
        std::thread::sleep(pause);
        // First, because both would make and remove the same metrics.
        children.remove(slot).kill();
        children.insert(slot, start(slot));
        if kill % 6 == 0 {
            file.open().collect(None).unwrap();
        }
    }
    let steady_before = rounds.get(slots);
    wait_until("the process that was never killed goes on", || rounds.get(slots) > steady_before + 20);
    ends.add(0, 1);
    steady.join();
    children.into_iter().for_each(Process::join);
    let noted: u64 = (0..slots).map(|slot| rounds.get(slot)).sum();
    let value = kept.get().unwrap();
    let range = noted as f64..=(noted + kills) as f64;
    assert!(range.contains(&value), "{value}, noted {noted}");
    let found = all_hits(&file);
    assert_eq!(found["kept"], value);
    let own: f64 = (0..20).map(|index| found[&format!("own-{index}")]).sum();
    assert_eq!(own, rounds.get(slots) as f64);
    // The records are intact, and space was reused: at most the 4 × 35 values, plus those that one process has
    // at a time, in each of 5 sizes.
    let records = file.records();
    assert!(records.len() < 22 + 4 * 35 + 5 * 10, "{} records after {noted} rounds", records.len());
    file.assert_index_is_sound();
    let family = hits(&backend);
    family.clear().unwrap();
    assert!(all_hits(&file).is_empty());
}

#[test]
fn processes_killed_while_the_index_grows_leave_each_series_once() {
    let file = TestFile::new();
    let (slots, kills) = (4, 40);
    let made = SharedNumbers::new(slots);
    let ends = SharedNumbers::new(1);
    let start = |slot: usize| {
        let (file, made, ends) = (&file, &made, &ends);
        fork(move || {
            let backend = file.open();
            let family = hits(&backend);
            while ends.get(0) == 0 {
                // The killed process of this slot may have made the series without noting it.
                let number = made.get(slot);
                family.metric(&[&format!("{slot}-{number}")]).unwrap().inc(1.0).unwrap();
                made.add(slot, 1);
                family.metric(&[&format!("{slot}-{}", number / 2)]).unwrap().inc(1.0).unwrap();
            }
            true
        })
    };
    let mut children: Vec<Process> = (0..slots).map(start).collect();
    let mut random = Random::new();
    for _ in 0..kills {
        let slot = random.below(slots as u64) as usize;
        let (before, more) = (made.get(slot), 1 + random.below(100));
        wait_until("the process makes series", || made.get(slot) >= before + more);
        std::thread::sleep(Duration::from_micros(random.below(300)));
        std::mem::replace(&mut children[slot], start(slot)).kill();
    }
    ends.add(0, 1);
    children.into_iter().for_each(Process::join);
    // A writer finishes what the last killed one had begun.
    hits(&file.open()).metric(&["the last"]).unwrap();
    file.assert_index_is_sound();
    assert_eq!(file.open().check().unwrap().faults(), [""; 0]);
    let found = all_hits(&file);
    let live = file.records().iter().filter(|record| record.kind == 3 && record.is_live()).count();
    assert_eq!(found.len(), live, "no series has two records");
    for slot in 0..slots {
        for number in 0..made.get(slot) {
            assert!(found[&format!("{slot}-{number}")] >= 1.0);
        }
    }
}

#[test]
fn short_lived_processes_leave_nothing_behind() {
    let file = TestFile::new();
    let mut after_ten = None;
    for number in 1..=300 {
        fork(|| {
            let backend = file.open();
            requests(&backend).inc(1.0).unwrap();
            times(&backend).observe(5.0).unwrap();
            hits(&backend).metric(&["x"]).unwrap().inc(1.0).unwrap();
            backend.collect_text().unwrap().contains("requests_total")
        })
        .join();
        if number == 10 {
            after_ten = Some((file.size(), file.committed(), file.records().len()));
        }
    }
    assert_eq!(Some((file.size(), file.committed(), file.records().len())), after_ten);
    assert_eq!(std::fs::read_dir(file.folder()).unwrap().count(), 1, "only the metrics file");
    let backend = file.open();
    assert_eq!(requests(&backend).get().unwrap(), 300.0);
    assert_eq!(times(&backend).get_count().unwrap(), 300.0);
    assert_eq!(backend.collect_text().unwrap().lines().count(), 2 + 1 + 2 + 1 + 2 + 5);
}

#[test]
fn processes_that_start_at_once_share_one_file() {
    for _ in 0..20 {
        let file = TestFile::new();
        let start = SharedNumbers::new(1);
        let children: Vec<Process> = (0..8)
            .map(|number| {
                let (file, start) = (&file, &start);
                fork(move || {
                    while start.get(0) == 0 {
                        std::hint::spin_loop();
                    }
                    let backend = file.open();
                    requests(&backend).inc(1.0).unwrap();
                    let family = hits(&backend);
                    family.metric(&["same"]).unwrap().inc(1.0).unwrap();
                    family.metric(&[&number.to_string()]).unwrap().inc(1.0).unwrap();
                    true
                })
            })
            .collect();
        start.add(0, 1);
        children.into_iter().for_each(Process::join);
        assert_eq!(requests(&file.open()).get().unwrap(), 8.0);
        let found = all_hits(&file);
        assert_eq!((found.len(), found["same"]), (9, 8.0));
        assert_eq!(file.records().len(), 2 + 1 + 9);
        assert_eq!(std::fs::read_dir(file.folder()).unwrap().count(), 1, "no drafts are left");
    }
}

// Forks.

#[test]
fn children_forked_while_threads_create_and_remove_metrics_count_and_create_their_own() {
    let file = TestFile::new();
    let backend = file.open();
    let family = hits(&backend);
    let total = requests(&backend);
    let forks = 60;
    let ends = AtomicBool::new(false);
    let by_threads = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let _end = EndOnDrop(&ends);
        for thread in 0..3 {
            let (family, total, ends, by_threads, backend) = (&family, &total, &ends, &by_threads, &backend);
            scope.spawn(move || {
                let mut round = 0;
                while !ends.load(Ordering::Relaxed) {
                    let value = format!("thread-{thread}-{}", round % 10);
                    family.metric(&[&value]).unwrap().inc(1.0).unwrap();
                    total.inc(1.0).unwrap();
                    by_threads.fetch_add(1, Ordering::Relaxed);
                    family.remove(&[&value]).unwrap();
                    if round % 16 == 0 {
                        backend.collect(None).unwrap();
                    }
                    round += 1;
                }
            });
        }
        let mut children = Vec::new();
        for number in 0..forks {
            let before = by_threads.load(Ordering::Relaxed);
            wait_until("the threads go on", || by_threads.load(Ordering::Relaxed) > before + 5);
            let (family, total, backend) = (&family, &total, &backend);
            children.push(fork(move || {
                total.inc(1.0).unwrap();
                let value = format!("child-{number}");
                let metric = family.metric(&[&value]).unwrap();
                metric.inc(2.0).unwrap();
                let gone = family.metric(&["gone"]).unwrap();
                gone.inc(1.0).unwrap();
                // Another child may have removed it first.
                let _ = family.remove(&["gone"]);
                let late = counter(backend, "declared_by_children_total");
                late.inc(1.0).unwrap();
                total.inc(1.0).unwrap();
                metric.get().unwrap() == 2.0
                    && backend.collect_text().unwrap().contains(&format!("hits{{a=\"{value}\"}} 2\n"))
            }));
            if children.len() == 4 {
                children.drain(..).for_each(Process::join);
            }
        }
        children.into_iter().for_each(Process::join);
    });
    let counted = by_threads.load(Ordering::Relaxed) as f64 + 2.0 * f64::from(forks);
    assert_eq!(total.get().unwrap(), counted);
    assert_eq!(counter(&backend, "declared_by_children_total").get().unwrap(), f64::from(forks));
    let found = all_hits(&file);
    assert_eq!(found.len(), forks as usize, "{found:?}");
    assert!((0..forks).all(|number| found[&format!("child-{number}")] == 2.0));
}

#[test]
fn a_child_has_a_lock_of_its_own() {
    let file = TestFile::new();
    let backend = file.open();
    let family = hits(&backend);
    // The parent has locked the file before, so the child inherits a handle for that.
    family.metric(&["parent"]).unwrap();
    let steps = SharedNumbers::new(2);
    let child = fork(|| {
        // While another process holds the lock, the child must not pass it with its parent's handle.
        family.metric(&["child"]).unwrap();
        steps.add(0, 1);
        true
    });
    child.join();
    let lock = file.lock();
    let child = fork(|| {
        // The child has inherited the test's lock, which is not the engine's.
        // SAFETY: a plain system call on a handle of this process.
        unsafe { libc::close(lock.0.as_raw_fd()) };
        steps.add(1, 1);
        let made = family.metric(&["late"]).is_ok();
        steps.add(1, 1);
        made
    });
    wait_until("the child begins", || steps.get(1) == 1);
    for _ in 0..100 {
        assert_eq!(steps.get(1), 1, "the child waits for the lock");
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(lock);
    child.join();
    // A child's lock excludes its parent, although both handles come from one open file.
    let family = &family;
    let children: Vec<Process> = (0..4)
        .map(|number| {
            fork(move || {
                (0..300).all(|index| {
                    let value = format!("{number}-{index}");
                    family.metric(&[&value]).is_ok_and(|metric| metric.inc(1.0).is_ok())
                })
            })
        })
        .collect();
    for index in 0..300 {
        family.metric(&[&format!("parent-{index}")]).unwrap().inc(1.0).unwrap();
    }
    children.into_iter().for_each(Process::join);
    let found = all_hits(&file);
    assert_eq!(found.len(), 3 + 5 * 300);
    assert_eq!(found.values().filter(|value| **value == 1.0).count(), 5 * 300);
    file.records();
}

#[test]
fn a_child_forked_during_an_append_can_append() {
    let file = TestFile::new();
    let backend = file.open();
    let family = hits(&backend);
    let ends = AtomicBool::new(false);
    let made = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let _end = EndOnDrop(&ends);
        let (family, ends, made) = (&family, &ends, &made);
        scope.spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let value = made.fetch_add(1, Ordering::Relaxed).to_string();
                family.metric(&[&value]).unwrap();
            }
        });
        for number in 0..30 {
            let before = made.load(Ordering::Relaxed);
            wait_until("the thread appends", || made.load(Ordering::Relaxed) > before);
            let child = fork(move || family.metric(&[&format!("child-{number}")]).is_ok());
            child.join();
        }
    });
    let found = all_hits(&file);
    assert!((0..30).all(|number| found.contains_key(&format!("child-{number}"))));
}

#[test]
fn a_process_stopped_while_holding_the_lock_costs_others_only_a_timeout() {
    remember_log();
    let file = TestFile::new();
    let backend = file.open();
    let family = hits(&backend);
    let known = family.metric(&["known"]).unwrap();
    let locked = SharedNumbers::new(1);
    let stopped = fork(|| {
        let _lock = file.lock();
        locked.add(0, 1);
        loop {
            std::thread::park();
        }
    });
    wait_until("the lock is taken", || locked.get(0) == 1);
    stopped.signal(libc::SIGSTOP);
    family.metric(&["new"]).unwrap().inc(1.0).unwrap();
    assert_eq!(log_records(Level::Error, &["locked by another process"]).len(), 1);
    known.inc(1.0).unwrap();
    assert_eq!(known.get().unwrap(), 1.0);
    assert!(backend.collect_text().unwrap().contains("hits{a=\"known\"} 1\n"));
    family.metric(&["known"]).unwrap().inc(1.0).unwrap();
    // The lock ends with the process.
    stopped.kill();
    wait_until("what was held back is in the file", || {
        backend.collect(None).unwrap();
        all_hits(&file).get("new") == Some(&1.0)
    });
}

/// A service starts with hundreds of workers, each of which makes its series. They all want the lock at once.
#[test]
fn a_burst_of_processes_that_make_metrics_is_refused_nothing() {
    const PROCESSES: usize = 100;
    const METRICS: usize = 200;
    let file = TestFile::new();
    let workers: Vec<Process> = (0..PROCESSES)
        .map(|worker| {
            let file = &file;
            fork(move || {
                let backend = file.open();
                let family = hits(&backend);
                (0..METRICS).all(|index| {
                    let metric = family.metric(&[&format!("{worker}-{index}")]);
                    metric.unwrap().inc(1.0).is_ok()
                })
            })
        })
        .collect();
    workers.into_iter().for_each(Process::join);
    assert_eq!(all_hits(&file).len(), PROCESSES * METRICS);
    assert!(file.open().check().unwrap().faults().is_empty());
}
