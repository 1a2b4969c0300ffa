//! The metrics file of a service that was given no path.
//!
//! Its name is made of what identifies the root process of the service ([`Service`]): the boot of the
//! machine, the pid namespace, the process id and its start time. So all processes of the service compute the
//! same name, and no other service does. The last process of a service removes the file; files that killed
//! services have left are removed when the next service starts.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::process::service::{Service, may_run, pid_namespace, runs_this_program};

const PREFIX: &str = "pytheus-backend-rs-";
/// Memory that all processes of a machine or container share.
const SHARED_FOLDER: &str = "/dev/shm";

/// The file of this process's service.
#[derive(Debug, Clone)]
pub(super) struct ServiceFile {
    pub(super) path: PathBuf,
    pub(super) service: Service,
}

impl ServiceFile {
    /// Finds the file of this process's service. `parent` is a process that is known to belong to it.
    pub(super) fn find(parent: Option<i32>) -> Self {
        let service = Service::find(parent);
        // A daemon goes on counting in the file of the process that it was forked from, which has ended. So
        // prefer a file that a process of the service has mapped.
        let mapped = service.members.iter().find_map(|&pid| mapped_files(pid).ok()?.into_iter().next());
        let name = Name { pid: service.root(), start_time: service.start_time, ..Name::of_this_system() };
        let path = mapped.unwrap_or_else(|| folder().join(name.to_string()));
        Self { path, service }
    }

    /// Returns whether this process is the first of its service.
    pub(super) fn is_of_root(&self) -> bool {
        self.service.members.len() == 1
    }

    /// Removes the files of services whose processes have all ended.
    pub(super) fn sweep(&self) {
        let Some(folder) = self.path.parent() else { return };
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().and_then(Name::parse).is_some_and(|name| name.is_left(&entry.path())) {
                // Another process may remove it first, and files of other users stay.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Removes the file if no other process may still need it.
    pub(super) fn leave(&self) {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let root = self.service.root();
        let is_over = root == own || !may_run(root, self.service.start_time);
        if is_over && !is_mapped_by_others(&self.path, own) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The parts of a file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    boot: String,
    namespace: u64,
    pid: i32,
    start_time: u64,
}

impl Name {
    fn of_this_system() -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot = boot.trim().split('-').next().filter(|boot| !boot.is_empty()).unwrap_or("0").to_owned();
        Self { boot, namespace: pid_namespace(), pid: 0, start_time: 0 }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(PREFIX)?.split('-');
        let mut next = || parts.next();
        let name = Self {
            boot: next()?.to_owned(),
            namespace: next()?.parse().ok()?,
            pid: next()?.parse().ok()?,
            start_time: next()?.parse().ok()?,
        };
        next().is_none().then_some(name)
    }

    /// Returns whether all processes that used the file of this name at `path` have ended.
    fn is_left(&self, path: &Path) -> bool {
        let system = Self::of_this_system();
        if self.boot != system.boot {
            return true;
        }
        // The processes of another pid namespace cannot be seen from here. Process 1 of a helper is not
        // process 1 of the application.
        self.namespace == system.namespace
            && !may_run(self.pid, self.start_time)
            && !is_mapped_by_others(path, 0)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { boot, namespace, pid, start_time } = self;
        write!(formatter, "{PREFIX}{boot}-{namespace}-{pid}-{start_time}")
    }
}

fn folder() -> PathBuf {
    let shared = Path::new(SHARED_FOLDER);
    let is_usable = rustix::fs::access(shared, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    if is_usable { shared.to_owned() } else { std::env::temp_dir() }
}

/// Returns the files of services that the process has mapped. Fails if this process may not see them.
fn mapped_files(pid: i32) -> std::io::Result<Vec<PathBuf>> {
    let maps = fs::read(format!("/proc/{pid}/maps"))?;
    let mut found = Vec::new();
    for line in maps.split(|byte| *byte == b'\n') {
        // The path is the last of six fields. A file that was removed is marked at the end of its path.
        let Some(at) = line.iter().position(|byte| *byte == b'/') else { continue };
        let path = Path::new(OsStr::from_bytes(&line[at..]));
        if path.file_name().and_then(OsStr::to_str).and_then(Name::parse).is_some() {
            found.push(path.to_owned());
        }
    }
    Ok(found)
}

/// Returns whether a process other than `own` may have the file mapped.
fn is_mapped_by_others(path: &Path, own: i32) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let Ok(owner) = fs::metadata(path).map(|metadata| metadata.uid()) else { return false };
    processes.flatten().any(|process| {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            return false;
        };
        if pid == own {
            return false;
        }
        match mapped_files(pid) {
            Ok(files) => files.iter().any(|file| file == path),
            // A process that gave up privileges hides its maps. It may have the file if it runs the same
            // program. Processes that are about to end have no maps.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                user_of(pid) == Some(owner) && runs_this_program(pid)
            }
            Err(_) => false,
        }
    })
}

/// Returns the effective user of a process, which every process may see.
fn user_of(pid: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back() {
        let name = Name { boot: "1c2f".to_owned(), namespace: 4_026_531_836, pid: 17, start_time: 5_000 };
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        for other in
            ["metrics", "pytheus-backend-rs-", "pytheus-backend-rs-1c2f-1-2", "pytheus-backend-rs-a-1-2-3-4"]
        {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
