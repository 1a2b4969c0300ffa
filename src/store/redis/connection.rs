//! One connection to the server: the login, and the exchange of commands for replies before a deadline.
//!
//! redis-rs encodes the commands and parses the replies. The socket is ours ([`super::socket`]), because
//! redis-rs applies its read timeout to each reply instead of the whole exchange, and does not show the
//! number of its socket.
//!
//! A connection for scrapes may [track](Connection::track) what it reads. The server then says which of the keys
//! have changed since.

use std::borrow::Borrow;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use redis::{Cmd, ServerError, Value};
use socket2::SockAddr;

use super::client_name::client_name;
use super::frames::{Fields, Frame, Frames};
use super::options::{Address, RedisOptions};
use super::reply::{is_wrong_type, text};
use super::resolver::resolve;
use super::socket::{Socket, SocketSlot, Terms, is_timeout, share_of};
use super::tls::{self, Tls};
use super::tracking::Changes;
use super::transport::{Transport, is_silence};
use crate::model::error::{Error, ErrorKind, Result};

/// About how much memory the replies to a login, or to batches, may take.
pub(crate) const SMALL: usize = 8 << 20;

/// About how much memory the replies to a scrape may take: enough for a million values.
pub(crate) const LARGE: usize = 256 << 20;

/// How many groups of commands for a read are under way at a time: while this process takes in the replies to one,
/// the server works on the next.
const UNDER_WAY: usize = 2;

/// A server to connect to, and how to log in there.
#[derive(Clone, Copy)]
pub(crate) struct Target<'options> {
    address: &'options Address,
    tls: Option<&'options Tls>,
    username: Option<&'options str>,
    password: Option<&'options str>,
    database: u32,
    client_name: Option<&'options str>,
    keepalive: bool,
}

impl<'options> Target<'options> {
    /// The server at `address`, which holds values.
    pub(crate) fn server(address: &'options Address, options: &'options RedisOptions) -> Self {
        Self {
            address,
            tls: options.tls.as_ref(),
            username: options.username.as_deref(),
            password: options.password.as_deref(),
            database: options.database,
            client_name: options.client_name.as_deref(),
            keepalive: options.keepalive,
        }
    }

    /// The Sentinel at `address`.
    pub(crate) fn sentinel(address: &'options Address, options: &'options RedisOptions) -> Self {
        Self {
            tls: options.sentinel_tls.as_ref(),
            username: options.sentinel_username.as_deref(),
            password: options.sentinel_password.as_deref(),
            database: 0,
            ..Self::server(address, options)
        }
    }
}

/// A connection that is logged in and has answered a `PING`.
pub(crate) struct Connection {
    transport: Transport,
    frames: Frames,
    address: Address,
    run_id: Option<Arc<str>>,
    /// The changes of keys that were read here. `None` if the server does not track them.
    changes: Option<Changes>,
}

/// A reply to a command that reads the values of a family.
#[derive(Debug)]
pub(crate) enum Reply {
    Fields(Fields),
    Value(Value),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Connection({})", self.address)
    }
}

/// Why an exchange failed.
struct Failure {
    error: Error,
    /// Whether the server has answered, and refuses to serve.
    is_refusal: bool,
}

impl Default for Reply {
    fn default() -> Self {
        Self::Value(Value::Nil)
    }
}

impl Reply {
    /// Returns whether the command did not fit the type of its key.
    pub(crate) fn is_wrong_type(&self) -> bool {
        matches!(self, Self::Value(value) if is_wrong_type(value))
    }

    /// Calls `visit` with the text of each element of an array, and with `None` for an element without a value.
    /// Returns `None` if the reply is no array.
    pub(crate) fn visit_texts(&self, mut visit: impl FnMut(Option<&[u8]>)) -> Option<()> {
        match self {
            Self::Fields(fields) => fields.texts().for_each(visit),
            Self::Value(Value::Array(values)) => values.iter().for_each(|value| match value {
                Value::BulkString(text) => visit(Some(text)),
                _ => visit(None),
            }),
            Self::Value(_) => return None,
        }
        Some(())
    }

    /// Returns the reply as redis-rs parses it.
    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Fields(fields) => fields.into_value(),
            Self::Value(value) => value,
        }
    }
}

impl Connection {
    /// Connects, logs in, selects the database, and checks that the server answers.
    ///
    /// Tries all addresses of a host name. Each address gets its share of the time, so that an address that
    /// does not answer does not use all of it up. If there is a `slot`, a child that is forked meanwhile
    /// finds the socket in it.
    pub(crate) fn open(
        target: Target<'_>,
        deadline: Instant,
        slot: Option<&Arc<SocketSlot>>,
        idle: &mut dyn FnMut(),
    ) -> Result<Self> {
        let addresses =
            resolve(target.address, deadline).map_err(|error| unreachable(target.address, &error))?;
        Self::open_any(target, &addresses, deadline, slot, idle)
    }

    fn open_any(
        target: Target<'_>,
        addresses: &[SockAddr],
        deadline: Instant,
        slot: Option<&Arc<SocketSlot>>,
        idle: &mut dyn FnMut(),
    ) -> Result<Self> {
        let mut last = late(target.address);
        for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
            match Self::open_at(target, address, share_of(deadline, left), slot, idle) {
                Ok(connection) => return Ok(connection),
                // The server has answered, so another address would not help.
                Err(failure) if failure.is_refusal => return Err(failure.error),
                Err(failure) => last = failure.error,
            }
        }
        Err(last)
    }

    fn open_at(
        target: Target<'_>,
        socket_address: &SockAddr,
        deadline: Instant,
        slot: Option<&Arc<SocketSlot>>,
        idle: &mut dyn FnMut(),
    ) -> std::result::Result<Self, Failure> {
        let Target { address, tls, .. } = target;
        let failed = |error| Failure { error: unreachable(address, &error), is_refusal: false };
        let socket = Socket::connect(socket_address, deadline, slot).map_err(failed)?;
        let host = address.host_and_port().map(|(host, _)| host);
        if host.is_some() && target.keepalive {
            socket.keep_alive().map_err(failed)?;
        }
        let mut terms = Terms { deadline, memory: SMALL, idle };
        let transport = Transport::new(socket, tls.zip(host), &mut terms).map_err(|error| {
            // A server without TLS waits for the rest of a command, so silence may mean that TLS is missing.
            let is_silent = is_timeout(&error);
            let hint =
                is_silent.then_some("no answer in time to the start of TLS: does it speak TLS at this port?");
            let reason = tls::explain(&error).or(hint.map(str::to_owned));
            let error = match reason {
                Some(reason) => {
                    Error::new(ErrorKind::Unavailable, format!("cannot connect to {address}: {reason}"))
                }
                None => unreachable(address, &error),
            };
            // A server that was reached, but must not be trusted, is no reason to try another address.
            Failure { error, is_refusal: !is_silent }
        })?;
        let mut connection = Self {
            transport,
            frames: Frames::default(),
            address: address.clone(),
            run_id: None,
            changes: None,
        };
        let replies = connection.try_exchange(&[login(target)], &mut terms);
        let replies = replies.map_err(|failure| with_hint(failure, tls.is_some()))?;
        for reply in replies {
            if let Ok(Value::ServerError(error)) = reply.value() {
                return Err(Failure { error: refused(address, &error), is_refusal: true });
            }
        }
        let mut introduction = Vec::new();
        if target.client_name.is_none() {
            introduction.push(command("CLIENT", &["SETNAME", &client_name()]));
        }
        introduction.push(command("INFO", &["server"]));
        // The user may lack permission for either command. Then the server shows no name, or its run is
        // unknown.
        let info = connection.try_exchange(&[introduction], &mut terms)?.pop();
        let info = info.and_then(|reply| reply.value().ok()).and_then(text);
        connection.run_id = info.and_then(|info| run_id(&info)).map(Arc::from);
        Ok(connection)
    }

    /// Returns the address of the server.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Returns the id of the server's present run, if the server has told it.
    pub(crate) fn run_id(&self) -> Option<&Arc<str>> {
        self.run_id.as_ref()
    }

    /// Stores the number of the socket in `slot`, so that a forked child can close it.
    pub(crate) fn register(&mut self, slot: &Arc<SocketSlot>) {
        self.transport.socket.show_in(slot);
    }

    /// Returns whether the server has ended the connection, or has sent something unasked. Does not wait.
    /// Must not be called while a reply is outstanding.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.transport.has_ended()
    }

    /// Sends commands and reads one reply for each.
    ///
    /// After an error the connection must be dropped: a late reply would be taken for that of the next
    /// command.
    pub(crate) fn exchange(
        &mut self,
        commands: &[impl Borrow<Cmd>],
        mut terms: Terms<'_>,
    ) -> Result<Vec<Value>> {
        let frames = self.try_exchange(&[commands], &mut terms).map_err(|failure| failure.error)?;
        frames.iter().map(|frame| self.value(frame)).collect()
    }

    /// Does the same for commands that read values: the elements of arrays are not parsed. The commands of each
    /// group are sent at once, and at most [`UNDER_WAY`] groups are under way, so that the server serves others
    /// in between.
    pub(crate) fn read(&mut self, groups: &[Vec<&Cmd>], mut terms: Terms<'_>) -> Result<Vec<Reply>> {
        let frames = self.try_exchange(groups, &mut terms).map_err(|failure| failure.error)?;
        let reply = |frame: Frame| match frame.into_fields() {
            Ok(fields) => Ok(Reply::Fields(fields)),
            Err(frame) => self.value(&frame).map(Reply::Value),
        };
        frames.into_iter().map(reply).collect()
    }

    /// Asks the server to tell from now on when a key changes that was read on this connection. Returns whether it
    /// will: an old server cannot, and the user may lack the permission.
    pub(crate) fn track(&mut self, terms: Terms<'_>) -> Result<bool> {
        let commands = [command("HELLO", &["3"]), command("CLIENT", &["TRACKING", "ON", "NOLOOP"])];
        let replies = self.exchange(&commands, terms)?;
        let tracks = !replies.iter().any(|reply| matches!(reply, Value::ServerError(_)));
        self.changes = tracks.then(Changes::default);
        Ok(tracks)
    }

    /// Takes what the server has told of changes since the last call. `None` if it does not tell.
    pub(crate) fn take_changes(&mut self) -> Option<Changes> {
        self.changes.as_mut().map(std::mem::take)
    }

    /// Sends a command without waiting for its reply. [`read_posted`](Self::read_posted) must read the reply
    /// before anything else is done with the connection.
    pub(crate) fn post(&mut self, command: &Cmd, mut terms: Terms<'_>) -> Result<()> {
        let request = command.get_packed_command();
        let written = self.transport.write_all(&request, &mut terms);
        written.map_err(|error| broken(&self.address, &error))
    }

    /// Reads the reply to a posted command.
    pub(crate) fn read_posted(&mut self, mut terms: Terms<'_>) -> Result<Value> {
        let frame = self.next_reply(&mut terms);
        let frame = frame.map_err(|error| {
            if is_timeout(&error) { late(&self.address) } else { broken(&self.address, &error) }
        })?;
        self.value(&frame)
    }

    fn try_exchange<Command: Borrow<Cmd>>(
        &mut self,
        groups: &[impl AsRef<[Command]>],
        terms: &mut Terms<'_>,
    ) -> std::result::Result<Vec<Frame>, Failure> {
        if self.changes.is_some() {
            self.hear_changes(terms).map_err(|error| {
                let error = broken(&self.address, &error);
                Failure { error, is_refusal: false }
            })?;
        }
        let mut unsent = groups.iter().map(AsRef::as_ref);
        let mut written = Ok(());
        for group in unsent.by_ref().take(UNDER_WAY) {
            written = written.and_then(|()| self.send(group, terms));
        }
        if let Err(error) = &written
            && is_timeout(error)
        {
            return Err(Failure { error: late(&self.address), is_refusal: false });
        }
        // If the server has closed the connection, it may have sent the reason first, after the other
        // replies.
        let count = groups.iter().map(|group| group.as_ref().len()).sum();
        let mut replies: Vec<Frame> = Vec::with_capacity(count);
        for position in groups.iter().flat_map(|group| 0..group.as_ref().len()) {
            match self.next_reply(terms) {
                Ok(reply) => {
                    replies.push(reply);
                    // The server has begun with this group, so there is time to send another one.
                    if position == 0
                        && written.is_ok()
                        && let Some(next) = unsent.next()
                    {
                        written = self.send(next, terms);
                    }
                }
                Err(error) => {
                    let last = replies.last().and_then(|reply| reply.value().ok());
                    let error = match (last, written) {
                        (Some(Value::ServerError(reason)), _) if !is_timeout(&error) => {
                            return Err(Failure { error: refused(&self.address, &reason), is_refusal: true });
                        }
                        (_, Err(error)) => broken(&self.address, &error),
                        _ if is_timeout(&error) => late(&self.address),
                        _ => match self.transport.take_explanation() {
                            Some(reason) => broken(&self.address, &reason),
                            None => broken(&self.address, &error),
                        },
                    };
                    return Err(Failure { error, is_refusal: false });
                }
            }
        }
        Ok(replies)
    }

    fn send(&mut self, commands: &[impl Borrow<Cmd>], terms: &mut Terms<'_>) -> io::Result<()> {
        let mut request = Vec::new();
        for command in commands {
            command.borrow().write_packed_command(&mut request);
        }
        self.transport.write_all(&request, terms)
    }

    /// Reads the next reply. Notes the changes of keys that the server tells in between.
    fn next_reply(&mut self, terms: &mut Terms<'_>) -> io::Result<Frame> {
        loop {
            let frame = self.frames.next(&mut self.transport.reader(terms))?;
            if !frame.is_push() {
                return Ok(frame);
            }
            self.note_push(&frame);
        }
    }

    /// Notes the changes that the server has told since the last exchange. Anything else that has arrived is an
    /// error: it would be taken for the reply to the next command.
    fn hear_changes(&mut self, terms: &mut Terms<'_>) -> io::Result<()> {
        loop {
            match self.frames.next(&mut self.transport.arrived(terms)) {
                Ok(frame) if frame.is_push() => self.note_push(&frame),
                Err(error) if is_silence(&error) && !self.frames.has_part_of_reply() => return Ok(()),
                Err(error) if !is_silence(&error) => return Err(error),
                _ => {
                    let message = "the server has sent something that was not asked for";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
            }
        }
    }

    fn note_push(&mut self, frame: &Frame) {
        if let (Some(changes), Ok(message)) = (&mut self.changes, frame.value()) {
            changes.note(message);
        }
    }

    fn value(&self, frame: &Frame) -> Result<Value> {
        frame.value().map_err(|error| broken(&self.address, &error))
    }
}

/// Adds a hint about TLS to the error if the server ends a new connection without an answer.
fn with_hint(failure: Failure, is_tls: bool) -> Failure {
    if failure.is_refusal || is_tls || failure.error.kind() == ErrorKind::Timeout {
        return failure;
    }
    let message = format!("{} (if the server expects TLS, use rediss://)", failure.error);
    Failure { error: Error::new(failure.error.kind(), message), ..failure }
}

/// Makes a command with text arguments.
pub(crate) fn command(name: &str, arguments: &[&str]) -> Cmd {
    let mut command = redis::cmd(name);
    for argument in arguments {
        command.arg(argument);
    }
    command
}

/// Returns the commands of a login, none of which the server may refuse.
fn login(target: Target<'_>) -> Vec<Cmd> {
    let mut commands = Vec::new();
    if target.username.is_some() || target.password.is_some() {
        let mut auth = redis::cmd("AUTH");
        auth.arg(target.username).arg(target.password.unwrap_or_default());
        commands.push(auth);
    }
    if target.database != 0 {
        commands.push(command("SELECT", &[&target.database.to_string()]));
    }
    if let Some(name) = target.client_name {
        commands.push(command("CLIENT", &["SETNAME", name]));
    }
    commands.push(redis::cmd("PING"));
    commands
}

fn run_id(info: &str) -> Option<String> {
    info.lines().find_map(|line| line.strip_prefix("run_id:")).map(|id| id.trim().to_owned())
}

/// Makes the error for a server that answers, but refuses to serve.
pub(crate) fn refused(address: &Address, error: &ServerError) -> Error {
    // A server that does not know a command repeats its arguments, and AUTH has the password as an argument.
    let details = error.details().unwrap_or_default().split(", with args").next().unwrap_or_default();
    Error::new(ErrorKind::Unavailable, format!("{address} refuses: {} {details}", error.code()))
}

fn unreachable(address: &Address, error: &io::Error) -> Error {
    let reason = if is_timeout(error) { "no answer in time".to_owned() } else { error.to_string() };
    Error::new(ErrorKind::Unavailable, format!("cannot connect to {address}: {reason}"))
}

fn broken(address: &Address, error: &impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the connection to {address} broke: {error}"))
}

fn late(address: &Address) -> Error {
    Error::new(ErrorKind::Timeout, format!("{address} did not answer in time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::Duration;

    /// A listener that accepts no more connections, as a host that drops packets.
    fn full_listener() -> (TcpListener, Vec<socket2::Socket>) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap();
        let waiting = (0..4).map(|_| {
            let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&address);
            client
        });
        let waiting = waiting.collect();
        (socket.into(), waiting)
    }

    #[test]
    fn a_dead_address_does_not_use_up_the_time_of_the_next_one() {
        let (dead, _waiting) = full_listener();
        let alive = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses: Vec<SockAddr> =
            [&dead, &alive].map(|listener| listener.local_addr().unwrap().into()).into();
        let server = std::thread::spawn(move || {
            use std::io::Read;
            let (mut client, _) = alive.accept().unwrap();
            for answer in ["+PONG\r\n", "+OK\r\n$18\r\nx:1\r\nrun_id:abcdef\r\n"] {
                let _ = client.read(&mut [0; 1000]).unwrap();
                client.write_all(answer.as_bytes()).unwrap();
            }
            client
        });
        let options = RedisOptions::new(Address::Tcp { host: "some".into(), port: 1 });
        let deadline = Instant::now() + Duration::from_secs(4);
        let target = Target::server(&options.address, &options);
        let opened = Connection::open_any(target, &addresses, deadline, None, &mut || {});
        let connection = opened.unwrap();
        assert!(Instant::now() < deadline);
        assert_eq!(connection.run_id().map(|id| &**id), Some("abcdef"));
        drop(server.join());
    }
}
