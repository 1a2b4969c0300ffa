//! Determines which processes form a service: those that descend from one program by `fork` or by Python's
//! `multiprocessing`.
//!
//! A store without a name uses this, so that all workers of a server find the same store, whether the program
//! was loaded before or after the fork. If one of the processes starts a different program, that program is
//! another service.
//!
//! `fork` keeps the addresses of the stack, the code and the heap, and `exec` randomizes them. So two
//! processes with the same three addresses and the same executable descend from one `exec`. `multiprocessing`
//! may start its children with `exec`; they are recognized by their command lines.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::{Pid, getpid};

/// The largest number of ancestors that are visited.
const MOST_ANCESTORS: usize = 64;
/// Arguments with which `multiprocessing`, and Celery's copy of it, start a child by `exec`.
const SPAWNED: [&str; 2] = ["--multiprocessing-fork", "--billiard-fork"];
/// A part of the program that `multiprocessing` gives to the server that forks its children.
const FORK_SERVER: &str = "forkserver import main";

/// A service, as far as this process can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    /// The processes from the root of the service down to this one.
    pub(crate) members: Vec<i32>,
    /// The start time of the root, in clock ticks since boot. 0 if the system does not provide it.
    pub(crate) start_time: u64,
    /// The reason why the service may have more processes than this process can see.
    pub(crate) doubt: Option<String>,
}

impl Service {
    /// Finds the service of this process. `parent` is a process that is known to belong to the service.
    pub(crate) fn find(parent: Option<i32>) -> Self {
        let own = getpid().as_raw_nonzero().get();
        let Some(current) = own_process() else {
            let doubt = "/proc does not show the processes of this system".to_owned();
            return Self { members: vec![own], start_time: 0, doubt: Some(doubt) };
        };
        let mut ancestors = vec![current];
        while let Some(next) = ancestors.last().filter(|last| last.parent > 0).map(|last| last.parent) {
            match Process::read(next) {
                Some(process) if ancestors.len() < MOST_ANCESTORS => ancestors.push(process),
                _ => break,
            }
        }
        let told = parent.and_then(|parent| ancestors.iter().position(|process| process.pid == parent));
        let mut root = told.unwrap_or(0);
        let mut doubt = None;
        while let Some(parent) = ancestors.get(root + 1) {
            match ancestors[root].descent_from(parent) {
                Descent::Same => root += 1,
                Descent::Other => break,
                Descent::Unknown => {
                    let pid = parent.pid;
                    doubt =
                        Some(format!("this process may not see whether process {pid} runs the same program"));
                    break;
                }
            }
        }
        // The mount option hidepid of `/proc` hides the processes of other users. A process that leads its
        // process group was probably started separately, so a hidden parent causes no doubt.
        let last = &ancestors[root];
        if root + 1 == ancestors.len() && last.parent > 0 && last.group != last.pid {
            let pid = last.parent;
            doubt = Some(format!("process {pid}, which started process {}, is hidden", last.pid));
        }
        let start_time = ancestors[root].start_time;
        let members = ancestors[..=root].iter().rev().map(|process| process.pid).collect();
        Self { members, start_time, doubt }
    }

    /// Returns the root: the process from which all other members descend.
    pub(crate) fn root(&self) -> i32 {
        self.members[0]
    }
}

/// Returns whether the process that was started at `start_time` may still run.
pub(crate) fn may_run(pid: i32, start_time: u64) -> bool {
    match Process::read(pid) {
        Some(process) => process.start_time == start_time && !process.is_zombie,
        None => exists(pid),
    }
}

/// Returns whether no running process of this pid namespace has this number. A zombie counts as ended.
pub(crate) fn has_ended(pid: i32) -> bool {
    match Process::read(pid) {
        Some(process) => process.is_zombie,
        None => !exists(pid),
    }
}

/// Returns whether a process has this number, even if `/proc` hides it.
fn exists(pid: i32) -> bool {
    Pid::from_raw(pid)
        .is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// Returns the inode of this process's pid namespace, or 0 if the system does not provide it.
pub(crate) fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino())
}

/// Returns whether the process runs the same executable as this process.
pub(crate) fn runs_this_program(pid: i32) -> bool {
    has_same_program(pid, getpid().as_raw_nonzero().get())
}

/// The relation of a process to its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Descent {
    /// Both belong to the same service.
    Same,
    /// The process runs another program, which the parent started.
    Other,
    /// This process lacks the permission to see the relation.
    Unknown,
}

/// The data of a process in `/proc`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    start_time: u64,
    /// Whether it has ended, but its parent has not collected its exit status.
    is_zombie: bool,
    /// The start addresses of the code, the stack and the heap. `None` if this process may not see them.
    addresses: Option<[u64; 3]>,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the name in parentheses, and may hold spaces and parentheses itself.
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let addresses = [field(26)?, field(28)?, field(47)?];
        Some(Self {
            pid,
            parent: field(4)? as i32,
            group: field(5)? as i32,
            start_time: field(22)?,
            is_zombie: matches!(fields.first(), Some(&"Z" | &"X")),
            addresses: (addresses[1] != 0).then_some(addresses),
        })
    }

    fn descent_from(&self, parent: &Self) -> Descent {
        let arguments = arguments(self.pid);
        let is_forked = match (self.addresses, parent.addresses) {
            (Some(own), Some(of_parent)) => own == of_parent && has_same_program(self.pid, parent.pid),
            // The process or its parent belongs to another user, so the addresses are hidden. A forked child
            // keeps the command line of its parent; a program that is started by `exec` usually has other
            // arguments.
            _ if !has_same_program(self.pid, parent.pid) => false,
            _ if !arguments.is_empty() && arguments == self::arguments(parent.pid) => true,
            // The command lines may differ because a server has changed its own to show its state. A
            // supervisor in the same language starts its programs in separate process groups.
            _ if self.group == parent.group => return Descent::Unknown,
            _ => false,
        };
        let is_spawned = || {
            let is_mark = |argument: &str| SPAWNED.contains(&argument) || argument.contains(FORK_SERVER);
            // Without this check, an orphan would count as a child of the process that has adopted it.
            arguments.iter().any(|argument| is_mark(argument)) && has_same_program(self.pid, parent.pid)
        };
        if is_forked || is_spawned() { Descent::Same } else { Descent::Other }
    }
}

/// Returns this process, if `/proc` belongs to its own pid namespace.
fn own_process() -> Option<Process> {
    let own = getpid().as_raw_nonzero().get();
    let link = fs::read_link("/proc/self").ok()?;
    (link.to_str()?.parse() == Ok(own)).then(|| Process::read(own))?
}

/// Returns whether two processes run the same executable.
fn has_same_program(one: i32, other: i32) -> bool {
    let executable = |pid: i32| {
        let metadata = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    // The size of the code is visible to all users, unlike the executable.
    let code_size = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        text.split_ascii_whitespace().nth(3).map(str::to_owned)
    };
    match (executable(one), executable(other)) {
        (Some(one), Some(other)) => one == other,
        _ => code_size(one).is_some_and(|size| code_size(other) == Some(size)),
    }
}

/// Returns the arguments with which the process was started.
fn arguments(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.split('\0').filter(|argument| !argument.is_empty()).map(str::to_owned).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_another_one_has_started_is_a_service_of_its_own() {
        let service = Service::find(None);
        assert_eq!(service.members.last(), Some(&getpid().as_raw_nonzero().get()));
        assert!(service.start_time > 0);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let own = own_process().unwrap();
        // Between `fork` and `exec` the child is still this program.
        let descent = loop {
            let process = Process::read(child.id() as i32).unwrap();
            match process.descent_from(&own) {
                Descent::Same => std::thread::yield_now(),
                descent => break descent,
            }
        };
        assert_eq!(descent, Descent::Other);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_has_ended_does_not_run() {
        let own = own_process().unwrap();
        assert!(may_run(own.pid, own.start_time));
        assert!(!may_run(own.pid, own.start_time + 1), "its number was given to another process");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        let start_time = Process::read(pid).unwrap().start_time;
        while may_run(pid, start_time) {
            std::thread::yield_now();
        }
        assert!(Process::read(pid).is_some(), "it is a zombie");
        child.wait().unwrap();
        assert!(!may_run(pid, start_time));
    }
}
