//! A socket whose number a forked child can find, with a deadline for each exchange.
//!
//! A child inherits the descriptors of its parent's connections and must close them. So each connection notes
//! the number of its socket in a [`SocketSlot`], which outlives the connection.
//!
//! The program may close every descriptor and open its own files under the same numbers. So the number lies
//! above the standard ones, and each use first checks that it still refers to the socket. If it does not, the
//! connection has ended, and the number is not closed: it belongs to the program.

use std::io::{self, Read, Write};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Type};

use crate::process::descriptor::{Noted, above_standard};

/// How long to wait before connecting again to a Unix socket whose backlog is full.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// How long an exchange waits before it calls its idle function.
const IDLE_EVERY: Duration = Duration::from_millis(100);

/// Turns SIGPIPE into an error, so that a server that hangs up does not kill the program. Apple's systems
/// have an option of the socket instead.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: i32 = libc::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: i32 = 0;

/// The numbers of the sockets of open connections: of one connection, or of those to the nodes of a cluster.
#[derive(Debug, Default)]
pub(crate) struct SocketSlot(Mutex<Vec<Noted>>);

impl SocketSlot {
    fn put(&self, socket: Noted) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    }

    fn take(&self, socket: Noted) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|noted| *noted != socket);
    }

    /// Closes the sockets of the parent in a forked child. A thread that opened or closed a connection at the
    /// fork holds the lock for ever. Then the child keeps the sockets, which costs it as many descriptors.
    pub(crate) fn close_inherited(&self) {
        if let Ok(mut sockets) = self.0.try_lock() {
            sockets.drain(..).for_each(Noted::close_inherited);
        }
    }
}

/// An open socket, whose number stands in its slot until it is closed.
pub(crate) struct Socket {
    /// Dropped only while the number still refers to it.
    inner: ManuallyDrop<socket2::Socket>,
    noted: Noted,
    slot: Option<Arc<SocketSlot>>,
}

impl Socket {
    /// Connects to `address` before `deadline`.
    pub(crate) fn connect(
        address: &SockAddr,
        deadline: Instant,
        slot: Option<&Arc<SocketSlot>>,
    ) -> io::Result<Self> {
        if address.is_unix() {
            return Self::connect_unix(address, deadline, slot);
        }
        let socket = Self::new(address.domain(), slot)?;
        socket.inner.connect_timeout(address, remaining(deadline)?)?;
        socket.inner.set_tcp_nodelay(true)?;
        Ok(socket)
    }

    /// Connects to a Unix socket. That succeeds or fails at once, except while the server's backlog is full;
    /// then the only way is to try again.
    fn connect_unix(
        address: &SockAddr,
        deadline: Instant,
        slot: Option<&Arc<SocketSlot>>,
    ) -> io::Result<Self> {
        let socket = Self::new(Domain::UNIX, slot)?;
        socket.inner.set_nonblocking(true)?;
        while let Err(error) = socket.inner.connect(address) {
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(error);
            }
            std::thread::sleep(remaining(deadline)?.min(BUSY_PAUSE));
        }
        socket.inner.set_nonblocking(false)?;
        Ok(socket)
    }

    /// Makes a socket that is not connected.
    ///
    /// A child that is forked between the two statements keeps the socket open. That costs the child one
    /// descriptor, and no value.
    fn new(domain: Domain, slot: Option<&Arc<SocketSlot>>) -> io::Result<Self> {
        let inner = socket2::Socket::new(domain, Type::STREAM, None)?;
        let inner = socket2::Socket::from(above_standard(OwnedFd::from(inner))?);
        let noted = Noted::new(inner.as_raw_fd()).ok_or_else(closed_by_program)?;
        let mut socket = Self { inner: ManuallyDrop::new(inner), noted, slot: None };
        if let Some(slot) = slot {
            socket.show_in(slot);
        }
        #[cfg(target_vendor = "apple")]
        socket.inner.set_nosigpipe(true)?;
        Ok(socket)
    }

    /// Notes the number of the socket in `slot`.
    pub(crate) fn show_in(&mut self, slot: &Arc<SocketSlot>) {
        if let Some(before) = self.slot.replace(Arc::clone(slot)) {
            before.take(self.noted);
        }
        slot.put(self.noted);
    }

    /// Returns the socket after checking that its number still refers to it.
    ///
    /// A race remains that no check can close: the program may close the number between the check and the use.
    fn checked(&self) -> io::Result<&socket2::Socket> {
        if self.noted.is_same() { Ok(&self.inner) } else { Err(closed_by_program()) }
    }

    /// Turns TCP keep-alive on.
    pub(crate) fn keep_alive(&self) -> io::Result<()> {
        self.checked()?.set_keepalive(true)
    }

    /// Reads what has arrived, without waiting.
    pub(crate) fn read_at_once(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the bytes are initialized, and the call only writes to them.
        #[allow(unsafe_code)]
        let uninitialized = unsafe { &mut *(std::ptr::from_mut(buffer) as *mut [MaybeUninit<u8>]) };
        self.checked()?.recv_with_flags(uninitialized, libc::MSG_DONTWAIT)
    }

    /// Returns the socket for one exchange under `terms`.
    pub(crate) fn under<'exchange, 'idle>(
        &'exchange mut self,
        terms: &'exchange mut Terms<'idle>,
    ) -> Exchange<'exchange, 'idle> {
        Exchange { socket: self, terms }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // This runs before the socket is closed. Afterwards the number may belong to another file of the
        // program.
        if let Some(slot) = &self.slot {
            slot.take(self.noted);
        }
        if self.noted.is_same() {
            // SAFETY: this is the only place that drops it, and it is not used afterwards.
            #[allow(unsafe_code)]
            unsafe {
                ManuallyDrop::drop(&mut self.inner);
            }
        }
    }
}

/// The limits of one exchange with the server, in time and memory.
pub(crate) struct Terms<'idle> {
    pub(crate) deadline: Instant,
    /// About how many bytes of memory the replies may take. It protects against a server that never stops
    /// answering.
    pub(crate) memory: usize,
    /// Called every [`IDLE_EVERY`] while the server does not answer.
    pub(crate) idle: &'idle mut dyn FnMut(),
}

/// A socket under [`Terms`].
pub(crate) struct Exchange<'exchange, 'idle> {
    socket: &'exchange mut Socket,
    terms: &'exchange mut Terms<'idle>,
}

impl Exchange<'_, '_> {
    /// Calls `attempt` with a time-out until it does not time out, or the deadline has passed.
    fn wait(
        &mut self,
        mut attempt: impl FnMut(&socket2::Socket, Duration) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            let left = remaining(self.terms.deadline)?;
            match attempt(self.socket.checked()?, left.min(IDLE_EVERY)) {
                Err(error) if is_timeout(&error) => (self.terms.idle)(),
                result => return result,
            }
        }
    }
}

impl Read for Exchange<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait(|mut socket, time| {
            socket.set_read_timeout(Some(time))?;
            socket.read(buffer)
        })
    }
}

impl Write for Exchange<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(|socket, time| {
            socket.set_write_timeout(Some(time))?;
            socket.send_with_flags(bytes, NO_SIGNAL)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns whether an error means a timeout.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

fn closed_by_program() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the program has closed the descriptor of the connection")
}

/// Returns the end of the first of `count` equal parts of the time until `deadline`.
pub(crate) fn share_of(deadline: Instant, count: usize) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / u32::try_from(count).unwrap_or(1)
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
