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
///
/// The program may close every descriptor and open its own files under the same numbers. So each use checks
/// that the number still refers to the socket. If it does not, the socket is not used and not closed.
#[derive(Debug)]
pub(super) struct Guarded<T: AsRawFd> {
    socket: Option<T>,
    noted: Noted,
}

impl<T: AsRawFd> Guarded<T> {
    /// Opens a socket. `open` must not wait.
    pub(super) fn open<E: From<io::Error>>(open: impl FnOnce() -> Result<T, E>) -> Result<Self, E> {
        let mut list = lock();
        let socket = open()?;
        let noted =
            Noted::new(socket.as_raw_fd()).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        list.push(noted);
        Ok(Self { socket: Some(socket), noted })
    }

    /// Converts the socket to another type, under the lock. A descriptor that `convert` opens is not listed.
    pub(super) fn try_map<U: AsRawFd>(
        mut self,
        convert: impl FnOnce(T) -> io::Result<U>,
    ) -> io::Result<Guarded<U>> {
        let mut list = lock();
        let (socket, noted) = (self.socket.take().ok_or(io::ErrorKind::NotConnected)?, self.noted);
        let converted = convert(socket);
        if converted.is_err() {
            list.retain(|known| *known != noted);
        }
        Ok(Guarded { socket: Some(converted?), noted })
    }

    /// Returns what identifies the socket.
    pub(super) fn noted(&self) -> Noted {
        self.noted
    }

    /// Returns the socket, or an error if the program has closed it.
    pub(super) fn get(&self) -> io::Result<&T> {
        let socket = self.socket.as_ref().filter(|_| self.noted.is_same());
        socket.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Returns the socket to change it, or an error if the program has closed it.
    pub(super) fn get_mut(&mut self) -> io::Result<&mut T> {
        let socket = self.socket.as_mut().filter(|_| self.noted.is_same());
        socket.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<T: AsRawFd> Drop for Guarded<T> {
    fn drop(&mut self) {
        let mut list = lock();
        if let Some(socket) = self.socket.take() {
            list.retain(|known| *known != self.noted);
            if self.noted.is_same() {
                // Close it under the lock: a child must not inherit a socket that is no longer listed.
                drop(socket);
            } else {
                std::mem::forget(socket);
            }
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
