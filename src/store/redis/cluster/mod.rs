//! Connections to the nodes of a Redis Cluster.
//!
//! A command goes to the node that serves the hash slot of its key. The slots may move at any time: a node
//! that no longer serves a slot names the one that does. A node that cannot be reached costs only the keys
//! that it serves: each of their commands gets an error of the code [`NODE`](super::reply::NODE), and the other commands are
//! answered. Every command may be sent a second time, so repeating it must be harmless.

mod exchange;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use redis::{Cmd, Value};

use super::connection::{Connection, SMALL, Target, command, refused};
use super::hash_slot::slot_of_key;
use super::node::{Node, Outcome};
use super::options::{Address, RedisOptions};
use super::slot_map::SlotMap;
use super::socket::{SocketSlot, Terms, share_of};
use crate::model::error::{Error, ErrorKind, Result};

/// A cluster, as far as this process knows it.
#[derive(Debug)]
pub(crate) struct Cluster {
    map: SlotMap,
    nodes: Vec<Node>,
    slot: Option<Arc<SocketSlot>>,
    /// How many connections this process has made since [`take_opened`](Self::take_opened) was last called.
    opened: u64,
    /// How often a command went to another node than the one that was asked last, or to the same one on a new
    /// connection.
    detours: u64,
    /// Whether a connection ever broke during an exchange. What was sent on it may still arrive.
    has_failed: bool,
    /// The slots of which some keys are at another node already than the map says.
    moving: HashSet<u16>,
    /// The slots of the keys that this process reads or writes. It needs no connection to other nodes than
    /// those that serve them.
    used: HashSet<u16>,
}

impl Cluster {
    /// Learns the slots from one of the `seeds`, which are tried one after the other.
    pub(crate) fn open(
        seeds: &[Address],
        options: &RedisOptions,
        deadline: Instant,
        slot: Option<&Arc<SocketSlot>>,
        idle: &mut dyn FnMut(),
    ) -> Result<Self> {
        let mut cluster = Self {
            map: SlotMap::default(),
            nodes: Vec::new(),
            slot: slot.cloned(),
            opened: 0,
            detours: 0,
            has_failed: false,
            moving: HashSet::new(),
            used: HashSet::new(),
        };
        let mut last = Error::new(ErrorKind::Configuration, "a cluster needs a node");
        for (seed, left) in seeds.iter().zip((1..=seeds.len()).rev()) {
            let target = Target::server(seed, options);
            let mut connection = match Connection::open(target, share_of(deadline, left), slot, idle) {
                Ok(connection) => connection,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            match ask_for_slots(&mut connection, deadline) {
                Ok(map) => {
                    cluster.map = map;
                    if cluster.map.nodes().contains(seed) {
                        let index = cluster.index_of(seed);
                        cluster.nodes[index].keep(connection);
                    }
                    return Ok(cluster);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Returns how many connections were made since the last call.
    pub(crate) fn take_opened(&mut self) -> u64 {
        std::mem::take(&mut self.opened)
    }

    /// Returns a number that rises when a key may be answered by another node than before, or by another run of it.
    pub(crate) fn detours(&self) -> u64 {
        self.detours
    }

    /// Returns whether a connection ever broke during an exchange.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Registers the sockets of all connections in `slot`, so that a forked child can close them.
    pub(crate) fn register(&mut self, slot: &Arc<SocketSlot>) {
        self.slot = Some(Arc::clone(slot));
        for connection in self.nodes.iter_mut().filter_map(Node::connection) {
            connection.register(slot);
        }
    }

    /// Drops the connections that their nodes have ended. Returns whether there is a node that this process uses,
    /// has no connection to, and may try to reach now.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.nodes.iter_mut().for_each(Node::drop_ended);
        let in_use = self.map.serving(self.used.iter().copied());
        in_use.iter().any(|address| !self.is_connected(address) && !self.is_down(address))
    }

    fn is_connected(&self, address: &Address) -> bool {
        self.nodes.iter().any(|node| node.address == *address && node.is_connected())
    }

    /// Exchanges commands with each node that this process uses and that can be reached. Fails if there is none.
    pub(crate) fn exchange_everywhere(
        &mut self,
        options: &RedisOptions,
        commands: &[Cmd],
        terms: &mut Terms<'_>,
    ) -> Result<Vec<Vec<Value>>> {
        let commands: Vec<&Cmd> = commands.iter().collect();
        self.exchange_with_each(&self.nodes_in_use(), options, &commands, terms)
    }

    /// Returns the nodes that serve the slots of this process. Before it has used a key, that is any one node: one
    /// to which there is a connection, if possible.
    fn nodes_in_use(&self) -> Vec<Address> {
        let nodes = self.map.serving(self.used.iter().copied());
        if !nodes.is_empty() {
            return nodes;
        }
        let connected = self.nodes.iter().find(|node| node.is_connected());
        let any = connected.map(|node| &node.address).or_else(|| self.map.nodes().first());
        any.cloned().into_iter().collect()
    }

    /// Closes the connections to nodes that serve no slot of this process: the one that named the nodes, or one
    /// whose slots have moved.
    fn close_unused(&mut self) {
        let nodes = self.nodes_in_use();
        for node in self.nodes.iter_mut().filter(|node| !nodes.contains(&node.address)) {
            node.drop_connection();
        }
    }

    fn exchange_with_each(
        &mut self,
        nodes: &[Address],
        options: &RedisOptions,
        commands: &[&Cmd],
        terms: &mut Terms<'_>,
    ) -> Result<Vec<Vec<Value>>> {
        let mut all = Vec::new();
        let mut last = None;
        for address in nodes {
            let node = self.index_of(address);
            let mut outcome = self.exchange_with(node, options, commands, terms);
            if matches!(outcome, Outcome::Broken) {
                outcome = self.exchange_with(node, options, commands, terms);
            }
            match outcome {
                Outcome::Replies(replies) => all.push(replies),
                Outcome::Broken => {}
                Outcome::Down(reason) => last = Some(reason),
            }
        }
        if all.is_empty() {
            self.refresh(options, terms);
            let reason = last.unwrap_or_else(|| "no node of the cluster can be reached".to_owned());
            return Err(Error::new(ErrorKind::Unavailable, reason));
        }
        Ok(all)
    }

    /// Notes that the node of a key has applied a batch.
    pub(crate) fn note_applied(&mut self, key: &str) {
        let slot = slot_of_key(key.as_bytes());
        let serving = self.map.node(slot).filter(|_| !self.moving.contains(&slot));
        if let Some(node) = self.nodes.iter_mut().find(|node| Some(&node.address) == serving) {
            node.note_applied();
        }
    }

    /// Returns whether some node has applied a batch on its present connection.
    pub(crate) fn has_applied(&self) -> bool {
        self.nodes.iter().any(Node::has_applied)
    }

    /// Sends a command to every node that has applied a batch, without waiting for the replies.
    pub(crate) fn post(&mut self, command: &Cmd, deadline: Instant) {
        for node in self.nodes.iter_mut().filter(|node| node.has_applied()) {
            node.post(command, deadline);
        }
    }

    /// Returns the replies to a posted command, each with the address of its node.
    pub(crate) fn read_posted(&mut self, terms: Terms<'_>) -> Vec<(Address, Value)> {
        let Terms { deadline, memory, idle } = terms;
        let mut all = Vec::new();
        for node in &mut self.nodes {
            let reply = node.read_posted(Terms { deadline, memory, idle: &mut *idle });
            all.extend(reply.map(|reply| (node.address.clone(), reply)));
        }
        all
    }

    /// Returns whether the node at `address` serves a key.
    pub(crate) fn is_served_by(&self, key: &str, address: &Address) -> bool {
        let slot = slot_of_key(key.as_bytes());
        !self.moving.contains(&slot) && self.map.node(slot) == Some(address)
    }

    fn exchange_with(
        &mut self,
        index: usize,
        options: &RedisOptions,
        commands: &[&Cmd],
        terms: &mut Terms<'_>,
    ) -> Outcome {
        let was_open = self.nodes[index].is_connected();
        // A node that hangs must leave time for the others.
        let deadline = share_of(terms.deadline, 2);
        if let Err(reason) = self.connect(index, options, deadline, terms.idle) {
            return Outcome::Down(reason);
        }
        let part = Terms { deadline, memory: terms.memory, idle: &mut *terms.idle };
        let outcome = self.nodes[index].exchange(commands, was_open, part);
        self.has_failed |= !matches!(outcome, Outcome::Replies(_));
        outcome
    }

    /// Connects to a node unless there is a connection. The error says why it cannot be reached.
    fn connect(
        &mut self,
        index: usize,
        options: &RedisOptions,
        deadline: Instant,
        idle: &mut dyn FnMut(),
    ) -> std::result::Result<(), String> {
        let is_new = self.nodes[index].connect(options, deadline, self.slot.as_ref(), idle)?;
        self.opened += u64::from(is_new);
        self.detours += u64::from(is_new);
        Ok(())
    }

    /// Asks the nodes one after the other for the slots, until one answers. Returns whether one has. If not, what
    /// is known stays.
    fn refresh(&mut self, options: &RedisOptions, terms: &mut Terms<'_>) -> bool {
        // Those to which there is a connection first.
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.sort_by_key(|&index| !self.nodes[index].is_connected());
        for index in order {
            let deadline = share_of(terms.deadline, 2);
            if self.connect(index, options, deadline, terms.idle).is_err() {
                continue;
            }
            let node = &mut self.nodes[index];
            let Some(connection) = node.connection() else { continue };
            match ask_for_slots(connection, deadline) {
                Ok(map) => {
                    self.map = map;
                    self.moving.clear();
                    self.forget_strangers();
                    return true;
                }
                Err(_) => node.drop_connection(),
            }
        }
        false
    }

    /// Drops the connections to nodes that serve no slot. The nodes stay known, because the others may be down.
    fn forget_strangers(&mut self) {
        for node in &mut self.nodes {
            if !self.map.nodes().contains(&node.address) {
                node.drop_connection();
            }
        }
    }

    fn is_down(&self, address: &Address) -> bool {
        self.nodes.iter().any(|node| node.address == *address && node.is_down())
    }

    fn index_of(&mut self, address: &Address) -> usize {
        if let Some(index) = self.nodes.iter().position(|node| node.address == *address) {
            return index;
        }
        self.nodes.push(Node::new(address.clone()));
        self.nodes.len() - 1
    }
}

fn ask_for_slots(connection: &mut Connection, deadline: Instant) -> Result<SlotMap> {
    let terms = Terms { deadline, memory: SMALL, idle: &mut || {} };
    let reply = connection.exchange(&[command("CLUSTER", &["SLOTS"])], terms)?.pop().unwrap_or_default();
    let address = connection.address();
    if let Value::ServerError(error) = &reply {
        return Err(refused(address, error));
    }
    match SlotMap::read(reply, address) {
        Some(map) if !map.nodes().is_empty() => Ok(map),
        Some(_) => Err(Error::new(ErrorKind::Unavailable, format!("{address}: no node serves a slot yet"))),
        None => Err(Error::new(
            ErrorKind::Unavailable,
            format!("{address} answered CLUSTER SLOTS with something else"),
        )),
    }
}
