//! Programs that close descriptors which are not theirs, and open their own files under the same numbers, as
//! daemons do. The store notices, and never touches the files of the program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod support;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use log::Level;
use pytheus_backend_rs::{Backend, MetricFamily, MetricType};

use support::process::fork;
use support::shared_file::{SEGMENT, TestFile};
use support::*;

const CONTENTS: &[u8] = &[7; 5_000];

/// Closes all descriptors but the standard ones, and opens one of the program's own files under each number.
fn close_all_and_open_own(folder: &Path) -> (Vec<File>, PathBuf) {
    let numbers: Vec<i32> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .filter(|number| *number > 2)
        .collect();
    let most = *numbers.iter().max().unwrap();
    // SAFETY: the program closes what it does not know, as a daemon does.
    (3..=most).for_each(|number| unsafe { assert!(libc::close(number) <= 0) });
    let path = folder.join("own");
    fs::write(&path, CONTENTS).unwrap();
    let own = || File::options().read(true).write(true).open(&path).unwrap();
    let files: Vec<File> = std::iter::repeat_with(own).take(most as usize + 3).collect();
    assert!(files.iter().any(|file| file.as_raw_fd() == most));
    (files, path)
}

fn make_many(family: &MetricFamily, prefix: &str) -> bool {
    (0..10_000).all(|index| {
        let metric = family.metric(&[&format!("{prefix}{index}")]);
        metric.is_ok_and(|metric| metric.inc(1.0).is_ok())
    })
}

#[test]
fn a_program_that_closes_all_descriptors_keeps_its_files_and_counts_on() {
    let file = TestFile::new();
    fork(|| {
        let backend = file.open();
        let family = declare(&backend, "hits", MetricType::Counter, &["a"]);
        let (files, path) = close_all_and_open_own(file.folder());
        let is_good = make_many(&family, "parent");
        fork(|| make_many(&family, "child")).join();
        let shown = backend.collect(None).unwrap().families[0].series().len();
        drop(family);
        drop(backend);
        assert_eq!(fs::read(&path).unwrap(), CONTENTS);
        // They are open, and not locked.
        let is_open = |file: &File| {
            file.metadata().is_ok()
                && rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
        };
        is_good
            && shown == 20_000
            && files.first().is_some_and(is_open)
            && files.iter().all(|file| file.metadata().is_ok())
    })
    .join();
    assert!(file.size() > SEGMENT);
    assert_eq!(file.open().collect(None).unwrap().families[0].series().len(), 20_000);
}

#[test]
fn a_reader_whose_descriptor_was_closed_reads_on() {
    let file = TestFile::new();
    let writer = file.open();
    let family = declare(&writer, "hits", MetricType::Counter, &["a"]);
    fork(|| {
        let reader = Backend::open(&file.url("start=attach")).unwrap();
        let (_files, path) = close_all_and_open_own(file.folder());
        let text = reader.collect_text();
        drop(reader);
        text.is_ok_and(|text| text.contains("# TYPE hits")) && fs::read(path).unwrap() == CONTENTS
    })
    .join();
    drop(family);
}

#[test]
fn without_descriptor_and_name_new_metrics_are_held_back_and_old_ones_count() {
    remember_log();
    let file = TestFile::new();
    fork(|| {
        let backend = file.open();
        let family = declare(&backend, "hits", MetricType::Counter, &["a"]);
        let metric = family.metric(&["old"]).unwrap();
        let (_files, path) = close_all_and_open_own(file.folder());
        fs::remove_file(&file.path).unwrap();
        metric.inc(1.0).unwrap();
        family.metric(&["new"]).unwrap().inc(1.0).unwrap();
        assert_eq!(log_records(Level::Error, &["cannot be opened again"]).len(), 1);
        // Another file of that name is not the one that is mapped.
        let other = file.open();
        family.metric(&["newer"]).unwrap().inc(1.0).unwrap();
        metric.inc(1.0).unwrap();
        metric.get().unwrap() == 2.0
            && !other.collect_text().unwrap().contains("newer")
            && fs::read(path).unwrap() == CONTENTS
    })
    .join();
}

#[test]
fn the_descriptor_is_none_of_the_standard_ones() {
    let file = TestFile::new();
    fork(|| {
        // SAFETY: plain system calls. The child needs no standard streams.
        (0..3).for_each(|number| unsafe { assert!(libc::close(number) <= 0) });
        let backend = file.open();
        let family = declare(&backend, "hits", MetricType::Counter, &["a"]);
        let is_free = |number: i32| fs::read_link(format!("/proc/self/fd/{number}")).is_err();
        let is_good = family.metric(&["b"]).is_ok() && (0..3).all(is_free);
        fork(|| family.metric(&["c"]).is_ok() && (0..3).all(is_free)).join();
        is_good
    })
    .join();
}
