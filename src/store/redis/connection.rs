//! One connection to the server: the login, and the exchange of commands for replies before a deadline.
//!
//! redis-rs encodes the commands and parses the replies. The socket is ours ([`super::socket`]), because redis-rs
//! applies its read timeout to each reply instead of the whole exchange, and does not show the number of its socket.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use redis::{Cmd, Parser, ServerError, Value};

use super::options::{Address, RedisOptions};
use super::socket::{Socket, SocketSlot, is_timeout};
use crate::model::error::{Error, ErrorKind, Result};

/// A connection that is logged in and has answered a `PING`.
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
    /// Connects, logs in, selects the database, and checks that the server answers.
    ///
    /// If there is a `slot`, a child that is forked meanwhile finds the socket in it.
    pub(crate) fn open(
        options: &RedisOptions,
        deadline: Instant,
        slot: Option<&Arc<SocketSlot>>,
    ) -> Result<Self> {
        let address = &options.address;
        let socket =
            Socket::connect(address, deadline, slot).map_err(|error| unreachable(address, &error))?;
        if let (Address::Tcp { .. }, true) = (address, options.keepalive) {
            socket.keep_alive().map_err(|error| unreachable(address, &error))?;
        }
        let mut connection = Self { socket, parser: Parser::new(), address: address.clone() };
        for reply in connection.exchange(&handshake(options), deadline)? {
            if let Value::ServerError(error) = reply {
                return Err(refused(address, &error));
            }
        }
        Ok(connection)
    }

    /// Notes the number of the socket in `slot`, for a child that may be forked.
    pub(crate) fn register(&mut self, slot: &Arc<SocketSlot>) {
        self.socket.show_in(slot);
    }

    /// Returns whether the server has ended the connection, or has sent something unasked. It must not be called
    /// while a reply is outstanding. It does not wait.
    pub(crate) fn has_ended(&self) -> bool {
        self.socket.has_ended()
    }

    /// Sends commands and reads one reply for each.
    ///
    /// After an error the connection must be dropped: a late reply would be taken for that of the next command.
    pub(crate) fn exchange(&mut self, commands: &[Cmd], deadline: Instant) -> Result<Vec<Value>> {
        let mut request = Vec::new();
        for command in commands {
            command.write_packed_command(&mut request);
        }
        if let Err(error) = self.socket.until(deadline).write_all(&request) {
            // A server that closes the connection may have sent the reason before.
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
        self.parser.parse_value(self.socket.until(deadline))
    }
}

/// Makes a command with text arguments.
pub(crate) fn command(name: &str, arguments: &[&str]) -> Cmd {
    let mut command = redis::cmd(name);
    for argument in arguments {
        command.arg(argument);
    }
    command
}

fn handshake(options: &RedisOptions) -> Vec<Cmd> {
    let mut commands = Vec::new();
    if options.username.is_some() || options.password.is_some() {
        let mut auth = redis::cmd("AUTH");
        auth.arg(&options.username).arg(options.password.as_deref().unwrap_or_default());
        commands.push(auth);
    }
    if options.database != 0 {
        commands.push(command("SELECT", &[&options.database.to_string()]));
    }
    if let Some(name) = &options.client_name {
        commands.push(command("CLIENT", &["SETNAME", name]));
    }
    commands.push(redis::cmd("PING"));
    commands
}

/// Makes the error for a server that answers, but refuses to serve.
pub(crate) fn refused(address: &Address, error: &ServerError) -> Error {
    // A server that does not know a command repeats its arguments, and those of AUTH are the password.
    let details = error.details().unwrap_or_default().split(", with args").next().unwrap_or_default();
    Error::new(ErrorKind::Unavailable, format!("{address} refuses: {} {details}", error.code()))
}

fn unreachable(address: &Address, error: &io::Error) -> Error {
    let reason = if is_timeout(error) { "no answer in time".to_owned() } else { error.to_string() };
    Error::new(ErrorKind::Unavailable, format!("cannot connect to {address}: {reason}"))
}

fn broken(address: &Address, error: &io::Error) -> Error {
    if is_timeout(error) {
        return late(address);
    }
    Error::new(ErrorKind::Unavailable, format!("the connection to {address} broke: {error}"))
}

fn unreadable(address: &Address, error: &redis::RedisError) -> Error {
    if error.is_timeout() {
        return late(address);
    }
    Error::new(ErrorKind::Unavailable, format!("the connection to {address} broke: {error}"))
}

fn late(address: &Address) -> Error {
    Error::new(ErrorKind::Timeout, format!("{address} did not answer in time"))
}
