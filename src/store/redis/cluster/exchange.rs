//! The exchange of commands with a cluster: each goes to the node of its key, and again to where it is redirected.
//!
//! The commands are sent in rounds. A round sends those that have no reply yet, all of one node together.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::Cluster;
use crate::model::error::{Error, ErrorKind, Result};
use crate::store::redis::batch;
use crate::store::redis::connection::command;
use crate::store::redis::hash_slot::{slot_of, slot_of_key};
use crate::store::redis::node::{Node, Outcome};
use crate::store::redis::options::RedisOptions;
use crate::store::redis::replicas::Progress;
use crate::store::redis::reply::{NO_KEY, NODE, describe, details, is_noscript};
use crate::store::redis::slot_map::Redirection;
use crate::store::redis::socket::Terms;

/// How often the commands of an exchange are sent again to where they are redirected.
const MAX_ROUNDS: u32 = 16;

/// How long to wait before a command is sent again whose slot is being moved.
const MOVING_PAUSE: Duration = Duration::from_millis(10);

/// How many rounds wait for slots that are being moved. Then their keys wait alone.
const MOVING_ROUNDS: u32 = 8;

/// A command with a key: its index among the commands of an exchange, and its slot.
#[derive(Clone, Copy)]
struct Keyed {
    index: usize,
    slot: u16,
}

/// One sending of the commands that have no reply yet.
#[derive(Default)]
struct Round {
    number: u32,
    /// Whether no round follows, so that each command gets what it has.
    is_last: bool,
    replies: Vec<(usize, Value)>,
    again: Vec<Keyed>,
    /// Whether the slots must be asked for.
    must_refresh: bool,
    /// Whether a slot is being moved.
    is_moving: bool,
}

impl Round {
    /// Has a command sent again if it `may` be. Otherwise it gets this error.
    fn retry(&mut self, keyed: Keyed, may: bool, error: impl FnOnce() -> Value) {
        if may && !self.is_last {
            self.again.push(keyed);
        } else {
            self.replies.push((keyed.index, error()));
        }
    }
}

impl Cluster {
    /// Sends commands and returns one reply for each. Commands without a key go first to the nodes of the keys of
    /// the others, and get one of the replies: an error if there is one. If no command has a key, they go to
    /// the nodes that this process uses. Fails if no node can be reached.
    pub(crate) fn exchange(
        &mut self,
        options: &RedisOptions,
        commands: &[impl Borrow<Cmd>],
        terms: Terms<'_>,
    ) -> Result<Vec<Value>> {
        self.exchange_by(options, commands, false, terms)
    }

    /// Does the same for commands that read values. They go to replicas that [caught up](Self::catch_up).
    pub(crate) fn read(
        &mut self,
        options: &RedisOptions,
        commands: &[impl Borrow<Cmd>],
        terms: Terms<'_>,
    ) -> Result<Vec<Value>> {
        self.exchange_by(options, commands, true, terms)
    }

    fn exchange_by(
        &mut self,
        options: &RedisOptions,
        commands: &[impl Borrow<Cmd>],
        may_use_replicas: bool,
        mut terms: Terms<'_>,
    ) -> Result<Vec<Value>> {
        let mut replies: Vec<Option<Value>> = vec![None; commands.len()];
        let mut waiting = Vec::new();
        let mut keyless = Vec::new();
        for (index, command) in commands.iter().enumerate() {
            match slot_of(command.borrow()) {
                Some(slot) => waiting.push(Keyed { index, slot }),
                None => keyless.push(index),
            }
        }
        if !keyless.is_empty() {
            let chosen: Vec<&Cmd> = keyless.iter().map(|&index| commands[index].borrow()).collect();
            let nodes = match waiting.as_slice() {
                [] => self.nodes_in_use(),
                keyed => self.map.serving(keyed.iter().map(|keyed| keyed.slot)),
            };
            for of_node in self.exchange_with_each(&nodes, options, &chosen, &mut terms)? {
                for (&index, reply) in keyless.iter().zip(of_node) {
                    if replies[index].is_none() || matches!(reply, Value::ServerError(_)) {
                        replies[index] = Some(reply);
                    }
                }
            }
        }
        self.used.extend(waiting.iter().map(|keyed| keyed.slot));
        // Whether some node has answered, if only that another one serves a slot.
        let mut is_reached = waiting.is_empty();
        let mut is_settled = !waiting.is_empty();
        let mut number = 0;
        while !waiting.is_empty() {
            let is_last = number + 1 >= MAX_ROUNDS || Instant::now() >= terms.deadline;
            let mut round = Round { number, is_last, ..Round::default() };
            for (node, mut group) in self.groups(&waiting, &mut round) {
                if may_use_replicas && number == 0 {
                    group = self.read_at_replica(node, group, commands, &mut round, &mut terms);
                }
                if group.is_empty() {
                    is_reached = true;
                    continue;
                }
                is_reached |= self.exchange_group(node, group, options, commands, &mut round, &mut terms);
            }
            is_settled &= round.again.is_empty() && !round.must_refresh;
            if round.must_refresh {
                is_reached |= self.refresh(options, &mut terms);
            }
            if round.is_moving && !round.again.is_empty() {
                // Nothing tells when the rest of the keys has arrived.
                std::thread::sleep(MOVING_PAUSE);
                (terms.idle)();
            }
            for (index, reply) in round.replies {
                replies[index] = Some(reply);
            }
            waiting = round.again;
            number += 1;
        }
        if !is_reached {
            let reason = self.nodes.iter().find_map(Node::reason);
            let reason = reason.unwrap_or("no node of the cluster can be reached");
            return Err(Error::new(ErrorKind::Unavailable, reason));
        }
        if is_settled && self.moving.is_empty() {
            self.close_unused();
        }
        Ok(replies.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Exchanges the commands of one node in one round. Returns whether some node has answered.
    fn exchange_group(
        &mut self,
        node: usize,
        group: Vec<Keyed>,
        options: &RedisOptions,
        commands: &[impl Borrow<Cmd>],
        round: &mut Round,
        terms: &mut Terms<'_>,
    ) -> bool {
        let chosen: Vec<&Cmd> = group.iter().map(|keyed| commands[keyed.index].borrow()).collect();
        match self.exchange_with(node, options, &chosen, terms) {
            Outcome::Replies(of_node) => {
                for (keyed, reply) in group.into_iter().zip(of_node) {
                    let reply = self.follow_ask(node, options, commands[keyed.index].borrow(), reply, terms);
                    self.take_reply(node, keyed, reply, round);
                }
                true
            }
            Outcome::Broken => {
                let reason = format!("the connection to {} breaks", self.nodes[node].address);
                group.into_iter().for_each(|keyed| round.retry(keyed, true, || node_error(&reason)));
                false
            }
            Outcome::Down(reason) => {
                // Another node may have taken over its slots.
                let is_reached = self.refresh(options, terms);
                for keyed in group {
                    let is_elsewhere = self.map.node(keyed.slot).is_some_and(|serving| {
                        *serving != self.nodes[node].address && !self.is_down(serving)
                    });
                    round.retry(keyed, is_elsewhere, || node_error(&reason));
                }
                is_reached
            }
        }
    }

    /// Lets a replica of each node that serves `keys` catch up with it.
    pub(crate) fn catch_up(
        &mut self,
        options: &RedisOptions,
        keys: &[String],
        mut terms: Terms<'_>,
    ) -> Result<()> {
        // The nodes are asked for the keys first: if slots have moved, they say so, and their replicas may not.
        let questions: Vec<Cmd> = keys.iter().map(|key| command("TTL", &[key])).collect();
        let part = Terms { deadline: terms.deadline, memory: terms.memory, idle: &mut *terms.idle };
        self.exchange(options, &questions, part)?;
        for address in self.map.serving(keys.iter().map(|key| slot_of_key(key.as_bytes()))) {
            let node = self.index_of(&address);
            let question = Progress::question();
            let Outcome::Replies(mut replies) = self.exchange_with(node, options, &[&question], &mut terms)
            else {
                continue;
            };
            let Some(progress) = replies.pop().and_then(Progress::read) else { continue };
            let known = self.map.replicas(&address);
            let slot = self.slot.as_ref();
            let part = Terms { deadline: terms.deadline, memory: terms.memory, idle: &mut *terms.idle };
            self.nodes[node].replicas.catch_up(&progress, known, options, slot, part);
        }
        Ok(())
    }

    /// Returns whether some reads go to replicas.
    pub(crate) fn is_at_replica(&self) -> bool {
        self.nodes.iter().any(|node| node.replicas.in_use())
    }

    /// Lets reads go to the masters.
    pub(crate) fn leave_replicas(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.replicas.leave());
    }

    /// Reads from the replica of a node, if one has caught up. Returns the commands that the node must answer: those
    /// to which the replica has nothing to show, because a replica does not tell that a key has moved to another node.
    fn read_at_replica(
        &mut self,
        node: usize,
        group: Vec<Keyed>,
        commands: &[impl Borrow<Cmd>],
        round: &mut Round,
        terms: &mut Terms<'_>,
    ) -> Vec<Keyed> {
        if !self.nodes[node].replicas.in_use() {
            return group;
        }
        let (moving, group): (Vec<Keyed>, Vec<Keyed>) =
            group.into_iter().partition(|keyed| self.moving.contains(&keyed.slot));
        let chosen: Vec<&Cmd> = group.iter().map(|keyed| commands[keyed.index].borrow()).collect();
        let Some(replies) = self.nodes[node].replicas.read(&[chosen], terms) else {
            self.detours += 1;
            return moving.into_iter().chain(group).collect();
        };
        let mut left = moving;
        for (keyed, reply) in group.into_iter().zip(replies) {
            let reply = reply.into_value();
            if shows_nothing(&reply) {
                left.push(keyed);
            } else {
                round.replies.push((keyed.index, reply));
            }
        }
        left
    }

    /// Keeps the reply of a node, or has the command sent again.
    fn take_reply(&mut self, node: usize, keyed: Keyed, reply: Value, round: &mut Round) {
        let may_retry = match code_of(&reply) {
            "MOVED" => {
                self.note_moved(node, &reply);
                round.must_refresh = true;
                true
            }
            "TRYAGAIN" => {
                round.is_moving = true;
                round.number < MOVING_ROUNDS
            }
            "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "READONLY" | "OOM" | "MISCONF" | "NOREPLICAS"
            | "BUSY" => {
                round.must_refresh = true;
                false
            }
            _ => {
                round.replies.push((keyed.index, reply));
                return;
            }
        };
        self.detours += 1;
        round.retry(keyed, may_retry, || self.not_served(node, &reply));
    }

    /// Sorts commands by node. Those that no node serves get an error.
    fn groups(&mut self, waiting: &[Keyed], round: &mut Round) -> BTreeMap<usize, Vec<Keyed>> {
        let mut groups: BTreeMap<usize, Vec<Keyed>> = BTreeMap::new();
        for &keyed in waiting {
            match self.map.node(keyed.slot).cloned() {
                Some(address) => groups.entry(self.index_of(&address)).or_default().push(keyed),
                None => {
                    let reason = format!("no node serves slot {}", keyed.slot);
                    round.replies.push((keyed.index, node_error(&reason)));
                    round.must_refresh = true;
                }
            }
        }
        groups
    }

    /// Sends a command to the node that an `ASK` names. Returns its reply, or the reply if it is another.
    fn follow_ask(
        &mut self,
        asked: usize,
        options: &RedisOptions,
        asking: &Cmd,
        reply: Value,
        terms: &mut Terms<'_>,
    ) -> Value {
        let Value::ServerError(error) = &reply else { return reply };
        if error.code() != "ASK" {
            return reply;
        }
        let Some(to) = Redirection::read(&details(error), &self.nodes[asked].address) else { return reply };
        let node = self.index_of(&to.node);
        self.moving.insert(to.slot);
        self.detours += 1;
        let without_times = batch::without_times(asking);
        let asking = without_times.as_ref().unwrap_or(asking);
        let commands = [&batch::load_script(), &redis::cmd("ASKING"), asking];
        let mut outcome = self.exchange_with(node, options, &commands[1..], terms);
        if matches!(&outcome, Outcome::Replies(replies) if replies.last().is_some_and(is_noscript)) {
            // The node serves no other family of this process yet.
            outcome = self.exchange_with(node, options, &commands, terms);
        }
        match outcome {
            Outcome::Replies(mut replies) => replies.pop().unwrap_or_default(),
            Outcome::Broken => node_error(&format!("the connection to {} broke", to.node)),
            Outcome::Down(reason) => node_error(&reason),
        }
    }

    fn note_moved(&mut self, asked: usize, reply: &Value) {
        if let Value::ServerError(error) = reply
            && let Some(moved) = Redirection::read(&details(error), &self.nodes[asked].address)
        {
            self.moving.remove(&moved.slot);
            self.map.set(moved.slot, moved.node);
        }
    }

    fn not_served(&self, node: usize, reply: &Value) -> Value {
        let reason = match reply {
            Value::ServerError(error) => describe(error),
            _ => "it is not served".to_owned(),
        };
        node_error(&format!("{} says: {reason}", self.nodes[node].address))
    }
}

/// Returns the error of a command whose node does not serve it.
fn node_error(reason: &str) -> Value {
    let line = format!("-{NODE} {}\r\n", reason.replace(['\r', '\n'], " "));
    redis::parse_redis_value(line.as_bytes()).unwrap_or_default()
}

/// Returns whether a reply to a read is that for a key or fields that do not exist.
fn shows_nothing(reply: &Value) -> bool {
    match reply {
        // The answers of GET, TTL and HLEN.
        Value::Nil | Value::Int(NO_KEY | 0) => true,
        Value::Array(parts) => match parts.as_slice() {
            // The answer of HSCAN. A cursor of the replica is worth nothing at the master.
            [Value::BulkString(next), Value::Array(found)] => found.is_empty() && next == b"0",
            values => values.iter().all(|value| *value == Value::Nil),
        },
        _ => false,
    }
}

fn code_of(reply: &Value) -> &str {
    match reply {
        Value::ServerError(error) => error.code(),
        _ => "",
    }
}
