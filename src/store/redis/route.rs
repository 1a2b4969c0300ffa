//! The way to the values of a store: a connection to one server, or to the nodes of a cluster.

use std::sync::Arc;
use std::time::Instant;

use redis::{Cmd, Value};

use super::cluster::Cluster;
use super::connection::{Connection, Reply, SMALL};
use super::options::{Address, RedisOptions};
use super::replicas::{Progress, Replicas};
use super::socket::{SocketSlot, Terms};
use super::tracking::Changes;
use crate::model::error::Result;

/// An open way.
#[derive(Debug)]
pub(crate) enum Route {
    Server {
        connection: Connection,
        /// Whether the server has applied a batch on this connection.
        has_applied: bool,
        replicas: Box<Replicas>,
        source: Source,
    },
    Cluster(Cluster),
}

/// Where the families come from that are read: the server, or its replica. Only that one tells of their changes.
#[derive(Debug, Default)]
pub(crate) struct Source {
    is_replica: bool,
    /// How often it has changed.
    switches: u64,
    /// The number of switches when changes were last taken.
    heard: u64,
}

impl Source {
    fn turn(&mut self, to_replica: bool) {
        self.switches += u64::from(self.is_replica != to_replica);
        self.is_replica = to_replica;
    }
}

/// The reply of one server to a posted command.
#[derive(Debug)]
pub(crate) struct Posted {
    /// The node of a cluster that has replied.
    node: Option<Address>,
    pub(crate) reply: Value,
}

impl Route {
    /// Sends commands and reads one reply for each. After an error the route must be dropped.
    pub(crate) fn exchange(
        &mut self,
        options: &RedisOptions,
        commands: &[Cmd],
        terms: Terms<'_>,
    ) -> Result<Vec<Value>> {
        match self {
            Self::Server { connection, .. } => connection.exchange(commands, terms),
            Self::Cluster(cluster) => cluster.exchange(options, commands, terms),
        }
    }

    /// Does the same for commands that read values. The server serves others between two groups of commands.
    pub(crate) fn read(
        &mut self,
        options: &RedisOptions,
        groups: &[Vec<&Cmd>],
        mut terms: Terms<'_>,
    ) -> Result<Vec<Reply>> {
        match self {
            Self::Server { connection, replicas, source, .. } => {
                if replicas.in_use() {
                    if let Some(replies) = replicas.read(groups, &mut terms) {
                        return Ok(replies);
                    }
                    source.turn(false);
                }
                connection.read(groups, terms)
            }
            Self::Cluster(cluster) => {
                let Terms { deadline, memory, idle } = terms;
                let mut replies = Vec::new();
                for group in groups {
                    let of_group = cluster.read(options, group, Terms { deadline, memory, idle })?;
                    replies.extend(of_group.into_iter().map(Reply::Value));
                }
                Ok(replies)
            }
        }
    }

    /// Returns a number that rises when a key may be answered by another server than before.
    pub(crate) fn detours(&self) -> u64 {
        match self {
            Self::Server { source, .. } => source.switches,
            Self::Cluster(cluster) => cluster.detours(),
        }
    }

    /// Lets a replica catch up with the server, so that the reads of `keys` that follow go to the replica. They go to
    /// the server itself if no replica catches up.
    pub(crate) fn catch_up(
        &mut self,
        options: &RedisOptions,
        keys: &[String],
        slot: &Arc<SocketSlot>,
        terms: Terms<'_>,
    ) -> Result<()> {
        match self {
            Self::Server { connection, replicas, source, .. } => {
                let part = Terms { deadline: terms.deadline, memory: SMALL, idle: &mut *terms.idle };
                let answer = connection.exchange(&[Progress::question()], part)?.pop();
                match answer.and_then(Progress::read) {
                    Some(progress) => replicas.catch_up(&progress, &[], options, Some(slot), terms),
                    None => replicas.leave(),
                }
                source.turn(replicas.in_use());
                Ok(())
            }
            Self::Cluster(cluster) => cluster.catch_up(options, keys, terms),
        }
    }

    /// Returns whether reads go to a replica.
    pub(crate) fn is_at_replica(&self) -> bool {
        match self {
            Self::Server { replicas, .. } => replicas.in_use(),
            Self::Cluster(cluster) => cluster.is_at_replica(),
        }
    }

    /// Lets the rest of a read go to the server itself.
    pub(crate) fn leave_replica(&mut self) {
        if let Self::Server { source, .. } = self {
            source.turn(false);
        }
        self.end_read();
    }

    /// Lets the next read go to the server itself, unless it [catches up](Self::catch_up).
    pub(crate) fn end_read(&mut self) {
        match self {
            Self::Server { replicas, .. } => replicas.leave(),
            Self::Cluster(cluster) => cluster.leave_replicas(),
        }
    }

    /// Asks the server to tell when keys change that were read here. Returns whether it will. Nodes of a cluster are
    /// not asked, because a node does not tell that a key has moved to another one.
    pub(crate) fn track(&mut self, terms: Terms<'_>) -> Result<bool> {
        match self {
            Self::Server { connection, .. } => connection.track(terms),
            Self::Cluster(_) => Ok(false),
        }
    }

    /// Takes what the server has told of changes since the last call. `None` if it does not tell.
    pub(crate) fn take_changes(&mut self) -> Option<Changes> {
        match self {
            Self::Server { connection, replicas, source, .. } => {
                let told = match source.is_replica {
                    true => Some(replicas.take_changes()),
                    false => connection.take_changes(),
                };
                // The new source tells nothing of what was read at the other one.
                let is_other = std::mem::replace(&mut source.heard, source.switches) != source.switches;
                told.map(|changes| if is_other { Changes::of_everything() } else { changes })
            }
            Self::Cluster(_) => None,
        }
    }

    /// Sends commands without keys to each server, and returns the replies by server.
    pub(crate) fn exchange_everywhere(
        &mut self,
        options: &RedisOptions,
        commands: &[Cmd],
        mut terms: Terms<'_>,
    ) -> Result<Vec<Vec<Value>>> {
        match self {
            Self::Server { connection, .. } => Ok(vec![connection.exchange(commands, terms)?]),
            Self::Cluster(cluster) => cluster.exchange_everywhere(options, commands, &mut terms),
        }
    }

    /// Sends a command to each server that has applied a batch, without waiting for the replies, which must be
    /// [read](Self::read_posted) before anything else is done. Returns whether all connections are sound.
    pub(crate) fn post(&mut self, command: &Cmd, deadline: Instant) -> bool {
        match self {
            Self::Server { connection, .. } => {
                let terms = Terms { deadline, memory: SMALL, idle: &mut || {} };
                connection.post(command, terms).is_ok()
            }
            Self::Cluster(cluster) => {
                cluster.post(command, deadline);
                true
            }
        }
    }

    /// Reads the replies to a posted command. `None` if the connection to the only server broke.
    pub(crate) fn read_posted(&mut self, terms: Terms<'_>) -> Option<Vec<Posted>> {
        match self {
            Self::Server { connection, .. } => {
                let reply = connection.read_posted(terms).ok()?;
                Some(vec![Posted { node: None, reply }])
            }
            Self::Cluster(cluster) => {
                let replies = cluster.read_posted(terms).into_iter();
                Some(replies.map(|(node, reply)| Posted { node: Some(node), reply }).collect())
            }
        }
    }

    /// Returns whether a reply is that of the server which holds a key.
    pub(crate) fn concerns(&self, posted: &Posted, key: &str) -> bool {
        match (self, &posted.node) {
            (Self::Cluster(cluster), Some(node)) => cluster.is_served_by(key, node),
            _ => true,
        }
    }

    /// Notes that the server of a key has applied a batch.
    pub(crate) fn note_applied(&mut self, key: &str) {
        match self {
            Self::Server { has_applied, .. } => *has_applied = true,
            Self::Cluster(cluster) => cluster.note_applied(key),
        }
    }

    /// Returns whether a server has applied a batch on its present connection.
    pub(crate) fn has_applied(&self) -> bool {
        match self {
            Self::Server { has_applied, .. } => *has_applied,
            Self::Cluster(cluster) => cluster.has_applied(),
        }
    }

    /// Returns whether a server has ended its connection. Does not wait. Must not be called while a reply is
    /// outstanding.
    pub(crate) fn has_ended(&mut self) -> bool {
        match self {
            Self::Server { connection, .. } => connection.has_ended(),
            Self::Cluster(cluster) => cluster.has_ended(),
        }
    }

    /// Returns how many connections were made since the last call, after the first.
    pub(crate) fn take_opened(&mut self) -> u64 {
        match self {
            Self::Server { .. } => 0,
            Self::Cluster(cluster) => cluster.take_opened(),
        }
    }

    /// Returns whether a connection broke that was replaced since.
    pub(crate) fn has_failed(&self) -> bool {
        match self {
            Self::Server { .. } => false,
            Self::Cluster(cluster) => cluster.has_failed(),
        }
    }

    /// Returns the id of the present run of the server, if there is one server and it has told.
    pub(crate) fn run_id(&self) -> Option<&Arc<str>> {
        match self {
            Self::Server { connection, .. } => connection.run_id(),
            Self::Cluster(_) => None,
        }
    }

    /// Stores the numbers of the sockets in `slot`, so that a forked child can close them.
    pub(crate) fn register(&mut self, slot: &Arc<SocketSlot>) {
        match self {
            Self::Server { connection, .. } => connection.register(slot),
            Self::Cluster(cluster) => cluster.register(slot),
        }
    }
}

impl From<Connection> for Route {
    fn from(connection: Connection) -> Self {
        Self::Server { connection, has_applied: false, replicas: Box::default(), source: Source::default() }
    }
}
