//! One node of a Redis Cluster, and the connection to it.
//!
//! A node that could not be reached is left alone for a while, because the commands for other nodes wait meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::connection::{Connection, SMALL, Target};
use super::options::{Address, RedisOptions};
use super::replicas::Replicas;
use super::socket::{SocketSlot, Terms};
use crate::model::error::{Error, ErrorKind};

/// How long connecting may take to a node that could not be reached the last time.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a node that could not be reached is left alone: first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A master, or a node that has been one.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) address: Address,
    connection: Option<Connection>,
    pub(crate) replicas: Replicas,
    down: Option<Down>,
    /// Whether the node has applied a batch on the present connection.
    has_applied: bool,
    /// Whether a reply to a posted command is outstanding.
    is_posted: bool,
}

/// Why and since when a node cannot be reached.
#[derive(Debug)]
struct Down {
    reason: String,
    pause: Duration,
    until: Instant,
}

/// What an exchange with a node has come to.
pub(crate) enum Outcome {
    Replies(Vec<Value>),
    /// The connection broke. A new one may do.
    Broken,
    /// The node cannot be reached.
    Down(String),
}

impl Node {
    pub(crate) fn new(address: Address) -> Self {
        Self {
            address,
            connection: None,
            replicas: Replicas::default(),
            down: None,
            has_applied: false,
            is_posted: false,
        }
    }

    /// Takes a connection that was made elsewhere.
    pub(crate) fn keep(&mut self, connection: Connection) {
        self.connection = Some(connection);
    }

    /// Returns the connection, if there is one.
    pub(crate) fn connection(&mut self) -> Option<&mut Connection> {
        self.connection.as_mut()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Returns why the node could not be reached the last time.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.down.as_ref().map(|down| down.reason.as_str())
    }

    /// Returns whether the node is left alone now.
    pub(crate) fn is_down(&self) -> bool {
        self.down.as_ref().is_some_and(|down| Instant::now() < down.until)
    }

    /// Connects unless there is a connection. Returns whether there is a new one. The error says why the node cannot
    /// be reached.
    pub(crate) fn connect(
        &mut self,
        options: &RedisOptions,
        deadline: Instant,
        slot: Option<&Arc<SocketSlot>>,
        idle: &mut dyn FnMut(),
    ) -> std::result::Result<bool, String> {
        if self.is_connected() {
            return Ok(false);
        }
        let now = Instant::now();
        let connect_by = match &self.down {
            Some(down) if now < down.until => return Err(down.reason.clone()),
            Some(_) => deadline.min(now + PATIENCE),
            None => deadline.min(now + options.connect_timeout),
        };
        match Connection::open(Target::server(&self.address, options), connect_by, slot, idle) {
            Ok(connection) => {
                self.connection = Some(connection);
                Ok(true)
            }
            Err(error) => Err(self.note_down(&error)),
        }
    }

    /// Exchanges commands on the connection. If that `was_open` before, the node may have been restarted since, so a
    /// new connection may do.
    pub(crate) fn exchange(&mut self, commands: &[&Cmd], was_open: bool, terms: Terms<'_>) -> Outcome {
        let Some(connection) = &mut self.connection else { return Outcome::Broken };
        match connection.exchange(commands, terms) {
            Ok(replies) => {
                self.down = None;
                Outcome::Replies(replies)
            }
            Err(error) if was_open && error.kind() != ErrorKind::Timeout => {
                self.drop_connection();
                Outcome::Broken
            }
            Err(error) => Outcome::Down(self.note_down(&error)),
        }
    }

    /// Notes that the node has applied a batch.
    pub(crate) fn note_applied(&mut self) {
        self.has_applied = true;
    }

    /// Returns whether the node has applied a batch on the present connection.
    pub(crate) fn has_applied(&self) -> bool {
        self.has_applied
    }

    /// Sends a command without waiting for the reply.
    pub(crate) fn post(&mut self, command: &Cmd, deadline: Instant) {
        let Some(connection) = &mut self.connection else { return };
        match connection.post(command, Terms { deadline, memory: SMALL, idle: &mut || {} }) {
            Ok(()) => self.is_posted = true,
            Err(_) => self.drop_connection(),
        }
    }

    /// Returns the reply to a posted command, if one is outstanding.
    pub(crate) fn read_posted(&mut self, terms: Terms<'_>) -> Option<Value> {
        if !std::mem::take(&mut self.is_posted) {
            return None;
        }
        let reply = self.connection.as_mut()?.read_posted(terms);
        if reply.is_err() {
            self.drop_connection();
        }
        reply.ok()
    }

    /// Drops the connection if the node has ended it.
    pub(crate) fn drop_ended(&mut self) {
        if self.connection.as_mut().is_some_and(Connection::has_ended) {
            self.drop_connection();
        }
    }

    pub(crate) fn drop_connection(&mut self) {
        self.connection = None;
        self.replicas.close();
        self.has_applied = false;
        self.is_posted = false;
    }

    /// Notes that the node cannot be reached, and returns the reason.
    pub(crate) fn note_down(&mut self, error: &Error) -> String {
        self.drop_connection();
        let pause = self.down.as_ref().map_or(FIRST_PAUSE, |down| (down.pause * 2).min(LONGEST_PAUSE));
        let reason = error.message().to_owned();
        self.down = Some(Down { reason: reason.clone(), pause, until: Instant::now() + pause });
        reason
    }
}
