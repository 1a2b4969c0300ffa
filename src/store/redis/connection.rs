//! One connection to the server, with a deadline for all that it does but name resolution, which is the
//! system's.
//!
//! redis-rs encodes commands and parses replies; the socket is ours, for two reasons. Its read
//! time-out holds for each reply, ours for the whole exchange. And a forked child must close the
//! sockets that it inherits, so their numbers must be known ([`SocketSlot`]).

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::ToSocketAddrs;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use redis::{Cmd, Parser, Value};
use socket2::{Domain, SockAddr, Type};

use super::options::{Address, RedisOptions};
use crate::model::error::{Error, ErrorKind, Result};

/// The number of a connection's socket, where a forked child finds it. -1: none.
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

    /// Takes the number out, so that nobody else closes the socket.
    pub(crate) fn take(&self) -> Option<RawFd> {
        let socket = self.0.swap(-1, Ordering::AcqRel);
        (socket >= 0).then_some(socket)
    }
}

/// How long to wait before a Unix socket whose server has too many waiting clients is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// An open socket, whose number stands in its slot meanwhile.
struct Socket {
    inner: socket2::Socket,
    slot: Option<Arc<SocketSlot>>,
}

/// A connection that is logged in and answers.
pub(crate) struct Connection {
    socket: Socket,
    parser: Parser,
    address: Address,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Connection({})", self.address)
    }
}

impl Connection {
    /// Connects, logs in, selects the database, and sees that the server answers. A child that is forked
    /// meanwhile finds the socket in the slot, if there is one.
    pub(crate) fn open(
        options: &RedisOptions,
        deadline: Instant,
        slot: Option<&Arc<SocketSlot>>,
    ) -> Result<Self> {
        let address = &options.address;
        let socket = connect(address, deadline, slot).map_err(|error| unreachable(address, &error))?;
        if let (Address::Tcp { .. }, true) = (address, options.keepalive) {
            socket.inner.set_keepalive(true).map_err(|error| unreachable(address, &error))?;
        }
        let mut connection = Self { socket, parser: Parser::new(), address: address.clone() };
        for reply in connection.exchange(&handshake(options), deadline)? {
            if let Value::ServerError(error) = reply {
                return Err(refused(address, &error));
            }
        }
        Ok(connection)
    }

    /// Shows the socket's number to a child that may be forked.
    pub(crate) fn register(&mut self, slot: &Arc<SocketSlot>) {
        self.socket.show_in(slot);
    }

    /// Whether a connection on which nothing is awaited is of no use any more: the server has ended it, or
    /// says something unasked. Looks, and does not wait.
    pub(crate) fn has_ended(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        match self.socket.inner.recv_with_flags(&mut byte, flags) {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    /// Sends commands and reads one reply for each. After an error the connection is of no use: a late
    /// reply would be taken for the next one's.
    pub(crate) fn exchange(&mut self, commands: &[Cmd], deadline: Instant) -> Result<Vec<Value>> {
        let mut request = Vec::new();
        for command in commands {
            command.write_packed_command(&mut request);
        }
        if let Err(error) = (WithDeadline { socket: &mut self.socket, deadline }).write_all(&request) {
            // A server that has hung up may have said why.
            return Err(match self.read_reply(deadline) {
                Ok(Value::ServerError(reason)) if !is_timeout(&error) => refused(&self.address, &reason),
                _ => broken(&self.address, &error),
            });
        }
        let mut replies = Vec::with_capacity(commands.len());
        for _ in commands {
            match self.read_reply(deadline) {
                Ok(reply) => replies.push(reply),
                Err(error) => {
                    return Err(match replies.last() {
                        Some(Value::ServerError(reason)) if !error.is_timeout() => {
                            refused(&self.address, reason)
                        }
                        _ => unreadable(&self.address, &error),
                    });
                }
            }
        }
        Ok(replies)
    }

    fn read_reply(&mut self, deadline: Instant) -> redis::RedisResult<Value> {
        self.parser.parse_value(WithDeadline { socket: &mut self.socket, deadline })
    }
}

fn handshake(options: &RedisOptions) -> Vec<Cmd> {
    let mut commands = Vec::new();
    if options.username.is_some() || options.password.is_some() {
        let mut auth = redis::cmd("AUTH");
        auth.arg(&options.username).arg(options.password.as_deref().unwrap_or_default());
        commands.push(auth);
    }
    if options.database != 0 {
        let mut select = redis::cmd("SELECT");
        select.arg(options.database);
        commands.push(select);
    }
    if let Some(name) = &options.client_name {
        let mut set_name = redis::cmd("CLIENT");
        set_name.arg("SETNAME").arg(name);
        commands.push(set_name);
    }
    commands.push(redis::cmd("PING"));
    commands
}

fn connect(address: &Address, deadline: Instant, slot: Option<&Arc<SocketSlot>>) -> io::Result<Socket> {
    match address {
        Address::Unix { path } => connect_unix(path, deadline, slot),
        Address::Tcp { host, port } => {
            let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for candidate in (host.as_str(), *port).to_socket_addrs()? {
                let socket = Socket::new(Domain::for_address(candidate), slot)?;
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

/// A Unix socket connects at once or, while too many clients wait for its server, not at all: then there is
/// nothing to wait for but time.
fn connect_unix(path: &Path, deadline: Instant, slot: Option<&Arc<SocketSlot>>) -> io::Result<Socket> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, slot)?;
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

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

impl Socket {
    /// A socket that is not connected. Between its making and its noting lie a few instructions: a child that
    /// is forked right there keeps it open, which costs the child a descriptor and nobody a value.
    fn new(domain: Domain, slot: Option<&Arc<SocketSlot>>) -> io::Result<Self> {
        let mut socket = Self { inner: socket2::Socket::new(domain, Type::STREAM, None)?, slot: None };
        if let Some(slot) = slot {
            socket.show_in(slot);
        }
        Ok(socket)
    }

    fn show_in(&mut self, slot: &Arc<SocketSlot>) {
        slot.put(self.inner.as_raw_fd());
        self.slot = Some(Arc::clone(slot));
    }

    fn set_timeouts(&self, left: Duration) -> io::Result<()> {
        self.inner.set_read_timeout(Some(left)).and(self.inner.set_write_timeout(Some(left)))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Before the socket closes: a number that is free again may be somebody else's by then.
        if let Some(slot) = &self.slot {
            slot.take();
        }
    }
}

/// The socket for one exchange: each read and write may take what is left of the time.
struct WithDeadline<'socket> {
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
        self.socket.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

fn unreachable(address: &Address, error: &io::Error) -> Error {
    let reason = if is_timeout(error) { "no answer in time".to_owned() } else { error.to_string() };
    Error::new(ErrorKind::Unavailable, format!("cannot connect to {address}: {reason}"))
}

fn broken(address: &Address, error: &io::Error) -> Error {
    if is_timeout(error) {
        return Error::new(ErrorKind::Timeout, format!("{address} did not answer in time"));
    }
    Error::new(ErrorKind::Unavailable, format!("the connection to {address} broke: {error}"))
}

fn unreadable(address: &Address, error: &redis::RedisError) -> Error {
    if error.is_timeout() {
        return Error::new(ErrorKind::Timeout, format!("{address} did not answer in time"));
    }
    Error::new(ErrorKind::Unavailable, format!("the connection to {address} broke: {error}"))
}

/// The error for a server that answers, but does not serve.
pub(crate) fn refused(address: &Address, error: &redis::ServerError) -> Error {
    // A server that does not know a command repeats its arguments, and AUTH's is the password.
    let details = error.details().unwrap_or_default().split(", with args").next().unwrap_or_default();
    Error::new(ErrorKind::Unavailable, format!("{address} refuses: {} {details}", error.code()))
}
