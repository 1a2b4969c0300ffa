//! The shared-memory store with several users: reading needs permission, counting needs what `mode` gives,
//! and a process that gives up its privileges goes on. The tests need root, to become other users.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod support;

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use pytheus_backend_rs::{Backend, MetricType};

use support::process::{SharedNumbers, as_nobody, as_user, fork, is_root};
use support::shared_file::{SEGMENT, TestFile, filled};
use support::*;

const NOBODY: u32 = 65534;
const OTHER: u32 = 65533;

fn lacks_root() -> bool {
    if !is_root() {
        eprintln!("not tested: only root can become another user");
    }
    !is_root()
}

/// Returns a file in a folder that every user may enter, and that belongs to `user` with `mode`.
fn file_of(user: u32, mode: u32) -> TestFile {
    let file = filled();
    fs::set_permissions(file.folder(), fs::Permissions::from_mode(0o777)).unwrap();
    chown(&file.path, Some(user), Some(user)).unwrap();
    fs::set_permissions(&file.path, fs::Permissions::from_mode(mode)).unwrap();
    file
}

#[test]
fn a_reader_needs_permission_and_not_ownership() {
    if lacks_root() {
        return;
    }
    let file = file_of(NOBODY, 0o644);
    let before = file.bytes();
    let url = file.url("start=attach");
    // Root, the owner, and a user who may only read.
    for user in [0, NOBODY, OTHER] {
        as_user(user, user, || {
            let backend = Backend::open(&url).unwrap();
            backend.check().unwrap().faults().is_empty()
                && backend.collect_text().unwrap().contains("requests_total")
        });
    }
    assert_eq!(file.bytes(), before);
    let file = file_of(NOBODY, 0o600);
    let url = file.url("start=attach");
    as_user(OTHER, OTHER, || Backend::open(&url).unwrap_err().message().contains("Permission denied"));
}

#[test]
fn a_file_of_another_user_is_refused_unless_mode_says_that_users_share_it() {
    if lacks_root() {
        return;
    }
    let file = file_of(NOBODY, 0o666);
    for (user, options, is_refused) in [
        (0, "", true),
        (OTHER, "", true),
        (OTHER, "mode=0644", true),
        (OTHER, "mode=0666", false),
        (OTHER, "mode=0660", false),
        (0, "mode=0666", false),
        (NOBODY, "", false),
    ] {
        let url = file.url(options);
        as_user(user, user, || match Backend::open(&url) {
            Ok(_) => !is_refused,
            Err(error) => {
                let message = error.message();
                is_refused
                    && message.contains("belongs to the user 65534")
                    && message.contains("set the option \"mode\"")
            }
        });
    }
    // The permissions of the file decide, whatever the option says.
    let file = file_of(NOBODY, 0o644);
    let url = file.url("mode=0666");
    as_user(OTHER, OTHER, || Backend::open(&url).unwrap_err().message().contains("Permission denied"));
}

#[test]
fn users_of_one_group_count_in_one_file_that_grows() {
    if lacks_root() {
        return;
    }
    let file = TestFile::new();
    fs::set_permissions(file.folder(), fs::Permissions::from_mode(0o777)).unwrap();
    let url = file.url("mode=0660");
    const METRICS: usize = 9_000;
    for user in [NOBODY, OTHER] {
        as_user(user, NOBODY, || {
            let backend = Backend::open(&url).unwrap();
            let family = declare(&backend, "hits", MetricType::Counter, &["user", "a"]);
            (0..METRICS).all(|index| {
                let metric = family.metric(&[&user.to_string(), &index.to_string()]);
                metric.is_ok_and(|metric| metric.inc(1.0).is_ok())
            })
        });
    }
    assert_eq!(fs::metadata(&file.path).unwrap().uid(), NOBODY);
    let backend = Backend::open(&file.url("mode=0660")).unwrap();
    assert_eq!(backend.collect(None).unwrap().families[0].series().len(), 2 * METRICS);
}

/// A server that root starts loads the backend, forks, and its workers become another user.
#[test]
fn workers_that_give_up_the_rights_of_root_make_metrics_and_let_the_file_grow() {
    if lacks_root() {
        return;
    }
    let file = TestFile::new();
    let backend = file.open();
    let family = declare(&backend, "hits", MetricType::Counter, &["worker", "a"]);
    let workers: Vec<_> = (0..3)
        .map(|worker| {
            let family = &family;
            fork(move || {
                // SAFETY: plain system calls.
                let is_other = unsafe { libc::setgid(NOBODY) == 0 && libc::setuid(NOBODY) == 0 };
                is_other
                    && (0..5_000).all(|index| {
                        let labels = [worker.to_string(), index.to_string()];
                        let metric = family.metric(&[&labels[0], &labels[1]]);
                        metric.is_ok_and(|metric| metric.inc(1.0).is_ok())
                    })
            })
        })
        .collect();
    workers.into_iter().for_each(support::process::Process::join);
    assert!(file.size() > SEGMENT);
    let snapshot = backend.collect(None).unwrap();
    assert_eq!(snapshot.families[0].series().len(), 15_000);
    assert!(backend.check().unwrap().faults().is_empty());
}

/// The workers of a server that has given up the rights of root before it forks. A worker cannot open the
/// file anew, and has its parent's `flock`.
#[test]
fn children_that_cannot_open_the_file_anew_make_metrics() {
    if lacks_root() {
        return;
    }
    let file = TestFile::new();
    let backend = file.open();
    let family = declare(&backend, "hits", MetricType::Counter, &["a"]);
    as_nobody(|| {
        let killed = fork(|| {
            for index in 0.. {
                let _ = family.metric(&[&format!("killed-{index}")]);
                let _ = family.remove(&[&format!("killed-{index}")]);
            }
            true
        });
        let family = &family;
        let make =
            |writer: usize| (0..500).all(|index| family.metric(&[&format!("{writer}-{index}")]).is_ok());
        let writers: Vec<_> = (1..4).map(|writer| fork(move || make(writer))).collect();
        let is_made = make(0);
        killed.kill();
        writers.into_iter().for_each(support::process::Process::join);
        is_made && make(4)
    });
    let snapshot = backend.collect(None).unwrap();
    let series = snapshot.families[0].series();
    assert_eq!(series.filter(|series| !series.key().contains("killed")).count(), 2_500);
    assert!(backend.check().unwrap().faults().is_empty());
}

/// Every user who may read a file can take its `flock`, and keep it.
#[test]
fn a_reader_who_keeps_the_flock_does_not_stop_new_series() {
    if lacks_root() {
        return;
    }
    for operation in [libc::LOCK_SH, libc::LOCK_EX] {
        let file = TestFile::new();
        fs::set_permissions(file.folder(), fs::Permissions::from_mode(0o755)).unwrap();
        let backend = Backend::open(&file.url("mode=0644")).unwrap();
        let family = declare(&backend, "hits", MetricType::Counter, &["a"]);
        let steps = SharedNumbers::new(1);
        let outsider = fork(|| {
            // SAFETY: plain system calls.
            let is_other = unsafe { libc::setgid(NOBODY) == 0 && libc::setuid(NOBODY) == 0 };
            let handle = fs::File::open(&file.path).unwrap();
            // SAFETY: a plain system call.
            let is_locked = unsafe { libc::flock(handle.as_raw_fd(), operation) == 0 };
            steps.add(0, u64::from(is_other && is_locked));
            loop {
                std::thread::park();
            }
        });
        wait_until("the reader has the lock", || steps.get(0) == 1);
        // Several writers exclude each other, and one that is killed leaves no lock.
        let killed = fork(|| {
            for index in 0.. {
                let _ = family.metric(&[&format!("killed-{index}")]);
                let _ = family.remove(&[&format!("killed-{index}")]);
            }
            true
        });
        let family = &family;
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                fork(move || (0..200).all(|index| family.metric(&[&format!("{writer}-{index}")]).is_ok()))
            })
            .collect();
        killed.kill();
        writers.into_iter().for_each(support::process::Process::join);
        outsider.kill();
        assert!((0..200).all(|index| family.metric(&[&format!("late-{index}")]).is_ok()));
        let snapshot = backend.collect(None).unwrap();
        let keys: Vec<&str> = snapshot.families[0].series().map(|series| series.key()).collect();
        assert!(keys.iter().filter(|key| !key.contains("killed")).count() == 800, "{}", keys.len());
        assert!(backend.check().unwrap().faults().is_empty());
    }
}
