//! The processes that count in the file, and what dead ones have left, for the report of [`survey`](super::survey).
//!
//! The file has no list of its writers, because counting needs none. So the living ones are those that have mapped the
//! file for writing, as `/proc` shows of each process that this user may see. A process with gauges of its own has a
//! place besides, and the lock of the place shows every reader whether the process lives.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::errors::failed;
use super::file::SharedFile;
use super::layout::IN_HAND_AT;
use super::lock;
use super::place_locks::is_locked;
use super::record::word;
use crate::cell::segment::load;
use crate::model::error::Result;
use crate::model::report::{Report, Writer};
use crate::model::sample::Milliseconds;
use crate::process::service::has_ended;
use crate::process::usage::start_time_of;

/// How the name of a draft begins; the process id follows.
const DRAFT: &str = ".pytheus-backend-rs.";
/// A draft lives for milliseconds. One that is older belongs to no process that still works.
const OLD: Duration = Duration::from_secs(60);

/// The process that has or had a place in the file, by its series.
#[derive(Debug, Default)]
pub(super) struct Owner {
    /// Its number, if a series of it shows one.
    pub(super) pid: Option<u32>,
    /// When its first series began.
    pub(super) since: Option<Milliseconds>,
    pub(super) series: usize,
}

/// Adds the writers and the leftovers of dead ones. `owners` are the owners of places.
pub(super) fn report(file: &SharedFile, owners: BTreeMap<u64, Owner>, report: &mut Report) -> Result<()> {
    let mut writers = mapped(file);
    let seen: Vec<u32> = writers.iter().map(|writer| writer.pid).collect();
    for (place, owner) in owners {
        let is_alive = is_locked(file.descriptor()?, place)
            .map_err(|error| failed(file.path(), "cannot be locked", error))?;
        if let Some(pid) = owner.pid
            && !(is_alive && seen.contains(&pid))
        {
            let since = owner.since.map(|since| since.get() / 1000);
            writers.push(Writer { pid, is_alive: Some(is_alive), since, ..Writer::default() });
        }
        if !is_alive {
            let process = owner.pid.map_or("a process".to_owned(), |pid| format!("process {pid}"));
            report.leftover(format!(
                "{} series of {process}, which has ended: the next process with gauges of its own uses the records again",
                owner.series
            ));
        }
    }
    writers.sort_by_key(|writer| writer.pid);
    writers.into_iter().for_each(|writer| report.writer(writer));
    if let Some(pid) = lock::left_by(file)? {
        let in_hand = load(word(file, file.segment(0)?, 0, IN_HAND_AT)?) != 0;
        let record = if in_hand { ", with a record that it was removing or using again" } else { "" };
        report.leftover(format!(
            "the lock is held by process {pid}, which has ended{record}: the next new series puts it in order"
        ));
    }
    drafts(file.path(), report);
    Ok(())
}

/// Returns the processes that have mapped the file for writing, by the numbers that they see themselves.
fn mapped(file: &SharedFile) -> Vec<Writer> {
    let mut writers = Vec::new();
    let Ok(metadata) = fs::metadata(file.path()) else { return writers };
    let name = file.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(outer) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let read = |file: &str| fs::read_to_string(format!("/proc/{outer}/{file}"));
        let Ok(maps) = read("maps") else { continue };
        if !maps.lines().any(|line| is_written(line, metadata.ino(), &name)) {
            continue;
        }
        let inner = read("status").ok().and_then(|status| inner_pid(&status)).unwrap_or(outer);
        writers.push(Writer {
            pid: inner,
            program: read("comm").ok().map(|name| name.trim_end().to_owned()),
            is_alive: Some(true),
            since: start_time_of(&outer.to_string()).map(|seconds| seconds as u64),
            ..Writer::default()
        });
    }
    writers
}

/// Returns whether a line of `/proc/pid/maps` is of this file, mapped so that the process can write. The device is not
/// compared, because some file systems show another one there.
fn is_written(line: &str, inode: u64, name: &str) -> bool {
    let mut fields = line.split_ascii_whitespace();
    let (permissions, found) = (fields.nth(1), fields.nth(2));
    let is_named = || line.contains(&format!("/{name}"));
    permissions.is_some_and(|text| text.starts_with("rw") && text.ends_with('s'))
        && found.and_then(|text| text.parse().ok()) == Some(inode)
        && is_named()
}

/// Returns the number of a process in its own pid namespace, from `/proc/pid/status`.
fn inner_pid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().last()?.parse().ok()
}

/// Reports the drafts of metrics files beside this one whose makers have ended.
fn drafts(path: &Path, report: &mut Report) {
    let Some(folder) = path.parent() else { return };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(DRAFT).and_then(|rest| rest.split('.').next()?.parse().ok());
        let changed = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = changed.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > OLD));
        if pid.is_some_and(has_ended) && is_old {
            report.leftover(format!(
                "{}: the draft of a file whose process has ended; no program reads it, and it may be deleted",
                entry.path().display()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_that_of_a_writer_if_it_is_shared_and_writable() {
        let line =
            |permissions: &str| format!("7f00-7f10 {permissions} 00000000 00:1a 42   /dev/shm/metrics");
        assert!(is_written(&line("rw-s"), 42, "metrics"));
        assert!(is_written(&format!("{} (deleted)", line("rw-s")), 42, "metrics"));
        for permissions in ["r--s", "rw-p", "---s"] {
            assert!(!is_written(&line(permissions), 42, "metrics"), "{permissions}");
        }
        assert!(!is_written(&line("rw-s"), 41, "metrics") && !is_written(&line("rw-s"), 42, "other"));
        assert!(!is_written("7f00-7f10 rw-s", 42, "metrics") && !is_written("", 0, ""));
    }

    #[test]
    fn a_process_is_named_by_the_number_that_it_sees_itself() {
        assert_eq!(inner_pid("Name:\tx\nNSpid:\t1234\t5\nNSpgid:\t9\n"), Some(5));
        assert_eq!(inner_pid("Name:\tx\n"), None);
    }
}
