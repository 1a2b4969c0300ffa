//! The sockets that the exporters of this process have open.
//!
//! A forked child closes them at once. Otherwise a client would not notice that the parent has closed the
//! connection, and the port would stay in use after the parent's exit. The list must be correct at every
//! moment, so a socket is opened, listed, unlisted and closed under one lock, which the forking thread takes.
//! The lock is a leaf: a thread never holds it while it waits, logs, or takes another lock.
//!
//! The descriptors of the runtime itself (an epoll instance, its duplicate, and an eventfd) stay open in the
//! child, because tokio does not expose their numbers. They keep no socket open, and nothing in the child
//! uses them.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::process::descriptor::Noted;
use crate::process::fork::{self, ForkGuard, Participant, Rank};

type List = Vec<Noted>;

static OPEN: Mutex<List> = Mutex::new(Vec::new());

/// Registers the list for forks. Call it before the first socket is opened.
pub(super) fn install() {
    fork::register_static(Rank::Leaf, &LockedList);
}

fn lock() -> MutexGuard<'static, List> {
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
        list.extend(Noted::new(socket.as_raw_fd()));
        Ok(Self(Some(socket)))
    }

    /// Converts the socket to another type, under the lock. A descriptor that `convert` opens is not listed.
    pub(super) fn try_map<U: AsRawFd>(
        mut self,
        convert: impl FnOnce(T) -> io::Result<U>,
    ) -> io::Result<Guarded<U>> {
        let mut list = lock();
        let socket = self.0.take().ok_or(io::ErrorKind::NotConnected)?;
        let noted = Noted::new(socket.as_raw_fd());
        let converted = convert(socket);
        if converted.is_err() {
            list.retain(|known| Some(*known) != noted);
        }
        Ok(Guarded(Some(converted?)))
    }

    /// Returns the socket. It is present until `self` is dropped.
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
            let noted = Noted::new(socket.as_raw_fd());
            list.retain(|known| Some(*known) != noted);
            // Close it under the lock: a child must not inherit a socket that is no longer listed.
            drop(socket);
        }
    }
}

/// The participant that locks the list for a fork.
struct LockedList;

impl Participant for LockedList {
    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_> {
        Box::new(lock())
    }
}

impl ForkGuard for MutexGuard<'static, List> {
    /// Closes all listed sockets. Their owners belong to threads that do not exist in the child, so no owner
    /// closes them.
    fn forked(&mut self) {
        self.drain(..).for_each(Noted::close_inherited);
    }
}
