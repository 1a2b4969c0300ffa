//! What the exporters of this process have open: sockets, and the descriptors with which they wait for them.
//!
//! A forked child closes all of it at once, so that a client sees its connection end when the parent ends it,
//! and the port is free when the parent is gone. For that the list must be right at every moment: a socket is
//! opened, listed, taken out and closed under one lock, which the fork handlers take. It is never held while
//! anything waits, logs, or takes another lock of the engine.

use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use super::Server;

/// The exporters of this process and what they have open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) servers: Vec<Weak<Server>>,
    descriptors: Vec<RawFd>,
}

static OPEN: Mutex<Open> = Mutex::new(Open { servers: Vec::new(), descriptors: Vec::new() });

pub(super) fn lock() -> MutexGuard<'static, Open> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket that forked children close.
#[derive(Debug)]
pub(super) struct Guarded<T: AsRawFd>(Option<T>);

impl<T: AsRawFd> Guarded<T> {
    /// Opens a socket. `open` must not wait.
    pub(super) fn open<E>(open: impl FnOnce() -> Result<T, E>) -> Result<Self, E> {
        let mut list = lock();
        let socket = open()?;
        list.descriptors.push(socket.as_raw_fd());
        Ok(Self(Some(socket)))
    }

    /// Lets another type own the socket. What `convert` opens besides is not listed.
    pub(super) fn try_map<U: AsRawFd>(
        mut self,
        convert: impl FnOnce(T) -> io::Result<U>,
    ) -> io::Result<Guarded<U>> {
        let mut list = lock();
        let Some(socket) = self.0.take() else { return Err(io::ErrorKind::NotConnected.into()) };
        let number = socket.as_raw_fd();
        let converted = convert(socket);
        if converted.is_err() {
            list.forget(number);
        }
        Ok(Guarded(Some(converted?)))
    }

    /// The socket. It is there as long as this is.
    pub(super) fn get(&self) -> io::Result<&T> {
        self.0.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    pub(super) fn get_mut(&mut self) -> io::Result<&mut T> {
        self.0.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<T: AsRawFd> Drop for Guarded<T> {
    fn drop(&mut self) {
        let mut list = lock();
        if let Some(socket) = self.0.take() {
            list.forget(socket.as_raw_fd());
            // Under the lock: a child must not inherit a socket that is not in the list any more.
            drop(socket);
        }
    }
}

impl Open {
    fn forget(&mut self, number: RawFd) {
        if let Some(index) = self.descriptors.iter().position(|&known| known == number) {
            self.descriptors.swap_remove(index);
        }
    }
}

/// The descriptors with which the runtime of an exporter waits. The runtime does not show them, so they are
/// looked for: an epoll descriptor that waits for the listening socket is ours, and so is what else it waits
/// for when nobody has connected yet. They hold no socket open; without them (no `/proc`) a child has three
/// descriptors that it does not need.
#[derive(Debug)]
pub(super) struct Waiting(Vec<RawFd>);

impl Waiting {
    pub(super) fn find(listener: &impl AsRawFd) -> Self {
        let found = find_waiting(listener.as_raw_fd()).unwrap_or_default();
        lock().descriptors.extend(&found);
        Self(found)
    }
}

impl Drop for Waiting {
    /// To be dropped before the runtime: a number that is free may be somebody else's.
    fn drop(&mut self) {
        let mut list = lock();
        self.0.iter().for_each(|&number| list.forget(number));
    }
}

fn find_waiting(listener: RawFd) -> io::Result<Vec<RawFd>> {
    let inode = inode_of(listener)?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")?.flatten() {
        if fs::read_link(entry.path()).ok().as_deref() != Some(Path::new("anon_inode:[eventpoll]")) {
            continue;
        }
        let name = entry.file_name();
        let about = fs::read_to_string(Path::new("/proc/self/fdinfo").join(&name)).unwrap_or_default();
        let targets: Vec<Target> = about.lines().filter_map(Target::parse).collect();
        let waits_for_listener = |target: &Target| target.number == listener && target.inode == Some(inode);
        if targets.iter().any(waits_for_listener) {
            found.extend(name.to_str().and_then(|name| name.parse::<RawFd>().ok()));
            found.extend(targets.iter().map(|target| target.number).filter(|&number| number != listener));
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// A line of an epoll descriptor's `fdinfo`: `tfd: 7 events: 19 data: 0 pos:0 ino:3a2 sdev:9`.
struct Target {
    number: RawFd,
    inode: Option<u64>,
}

impl Target {
    fn parse(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("tfd:")?;
        let inode = rest.split_whitespace().find_map(|word| word.strip_prefix("ino:"));
        Some(Self {
            number: rest.split_whitespace().next()?.parse().ok()?,
            inode: inode.and_then(|text| u64::from_str_radix(text, 16).ok()),
        })
    }
}

fn inode_of(number: RawFd) -> io::Result<u64> {
    let link = fs::read_link(format!("/proc/self/fd/{number}"))?;
    let text = link.to_string_lossy();
    let inode = text.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
    inode.and_then(|text| text.parse().ok()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The exporters, held across a fork.
#[derive(Debug)]
pub(crate) struct ForkGuard(MutexGuard<'static, Open>);

/// Holds the exporters across a fork.
pub(crate) fn lock_for_fork() -> ForkGuard {
    ForkGuard(lock())
}

impl ForkGuard {
    /// In the child: closes what the parent has open, and forgets its exporters.
    pub(crate) fn forked(&mut self) {
        for number in self.0.descriptors.drain(..) {
            // SAFETY: the number was in the list at the fork, so it is an open descriptor of an exporter of the
            // parent. Its owner is memory of a thread that does not exist here, and is never dropped.
            #[allow(unsafe_code)]
            unsafe {
                libc::close(number);
            }
        }
        // Another thread may have been dropping one.
        mem::forget(mem::take(&mut self.0.servers));
    }
}
