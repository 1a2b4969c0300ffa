//! A socket whose number a forked child can find, with a deadline for each exchange.
//!
//! A child inherits the descriptors of its parent's connections and must close them. So each connection notes the
//! number of its socket in a [`SocketSlot`], which outlives the connection.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::ToSocketAddrs;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Type};

use super::options::Address;

/// How long to wait before connecting again to a Unix socket whose backlog is full.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Keeps a peer that hangs up from killing the program: a write is an error then, and not SIGPIPE. Apple's systems have
/// an option of the socket instead.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: i32 = libc::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: i32 = 0;

/// The number of a connection's socket, or -1.
#[derive(Debug)]
pub(crate) struct SocketSlot(AtomicI32);

impl Default for SocketSlot {
    fn default() -> Self {
        Self(AtomicI32::new(-1))
    }
}

impl SocketSlot {
    fn put(&self, socket: RawFd) {
        self.0.store(socket, Ordering::Release);
    }

    /// Takes the number out. The caller is then the only one that may close the socket by its number.
    pub(crate) fn take(&self) -> Option<RawFd> {
        let socket = self.0.swap(-1, Ordering::AcqRel);
        (socket >= 0).then_some(socket)
    }
}

/// An open socket, whose number stands in its slot until it is closed.
pub(crate) struct Socket {
    inner: socket2::Socket,
    slot: Option<Arc<SocketSlot>>,
}

impl Socket {
    /// Connects to `address` before `deadline`. Resolving a host name takes as long as the system allows.
    pub(crate) fn connect(
        address: &Address,
        deadline: Instant,
        slot: Option<&Arc<SocketSlot>>,
    ) -> io::Result<Self> {
        match address {
            Address::Unix { path } => Self::connect_unix(path, deadline, slot),
            Address::Tcp { host, port } => {
                let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                for candidate in (host.as_str(), *port).to_socket_addrs()? {
                    let socket = Self::new(Domain::for_address(candidate), slot)?;
                    match socket.inner.connect_timeout(&candidate.into(), remaining(deadline)?) {
                        Ok(()) => {
                            socket.inner.set_tcp_nodelay(true)?;
                            return Ok(socket);
                        }
                        Err(error) => last_error = error,
                    }
                }
                Err(last_error)
            }
        }
    }

    /// Connects to a Unix socket. That succeeds or fails at once, except while the server's backlog is full; then
    /// the only way is to try again.
    fn connect_unix(path: &Path, deadline: Instant, slot: Option<&Arc<SocketSlot>>) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        let socket = Self::new(Domain::UNIX, slot)?;
        socket.inner.set_nonblocking(true)?;
        while let Err(error) = socket.inner.connect(&address) {
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
        let mut socket = Self { inner: socket2::Socket::new(domain, Type::STREAM, None)?, slot: None };
        if let Some(slot) = slot {
            socket.show_in(slot);
        }
        #[cfg(target_vendor = "apple")]
        socket.inner.set_nosigpipe(true)?;
        Ok(socket)
    }

    /// Notes the number of the socket in `slot`.
    pub(crate) fn show_in(&mut self, slot: &Arc<SocketSlot>) {
        slot.put(self.inner.as_raw_fd());
        self.slot = Some(Arc::clone(slot));
    }

    /// Turns TCP keep-alive on.
    pub(crate) fn keep_alive(&self) -> io::Result<()> {
        self.inner.set_keepalive(true)
    }

    /// Returns whether the peer has closed the connection, or has sent something unasked. It does not wait.
    pub(crate) fn has_ended(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        match self.inner.recv_with_flags(&mut byte, flags) {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    /// Returns the socket for one exchange that ends at `deadline`.
    pub(crate) fn until(&mut self, deadline: Instant) -> WithDeadline<'_> {
        WithDeadline { socket: self, deadline }
    }

    fn set_timeouts(&self, left: Duration) -> io::Result<()> {
        self.inner.set_read_timeout(Some(left)).and(self.inner.set_write_timeout(Some(left)))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // This runs before the socket is closed. Afterwards the number may belong to another file of the program.
        if let Some(slot) = &self.slot {
            slot.take();
        }
    }
}

/// A socket on which each read and write may take what is left of the time.
pub(crate) struct WithDeadline<'socket> {
    socket: &'socket mut Socket,
    deadline: Instant,
}

impl Read for WithDeadline<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_timeouts(remaining(self.deadline)?)?;
        self.socket.inner.read(buffer)
    }
}

impl Write for WithDeadline<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_timeouts(remaining(self.deadline)?)?;
        self.socket.inner.send_with_flags(bytes, NO_SIGNAL)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns whether an error means that the time was over.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
