//! The replicas of one master, from one of which scrapes read values.
//!
//! A replica may lag behind its master. So a read begins by asking the master how far it has come, and waits until
//! the replica has come as far. Whatever any process had sent before that is then in the replica. If the replica
//! takes too long, cannot be reached, or follows another master, the read goes to the master, and the replica is
//! left alone for a while. A reader must not take what a replica lacks for a loss: only the master shows a loss.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::connection::{Connection, Reply, SMALL, Target, command};
use super::options::{Address, RedisOptions};
use super::reply::{concerns_key, describe, text};
use super::socket::{SocketSlot, Terms, share_of};
use super::tracking::Changes;

/// How long connecting to a replica, or an answer to the question how far it has come, may take.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long a read waits for a replica that lags behind, and how often it asks again.
const CATCH_UP: Duration = Duration::from_millis(50);
const ASK_AGAIN: Duration = Duration::from_millis(1);

/// How long a replica is left alone that failed: first, and at most. Each failure may delay a scrape by [`PATIENCE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The replicas of a master, and the connection to the one that is read from.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    connection: Option<Connection>,
    /// Whether the connection was made since [`take_changes`](Self::take_changes) was last called.
    is_new: bool,
    /// Whether the present read takes values from the replica, which has all that the master had when the read began.
    in_use: bool,
    failed: Vec<Failed>,
}

/// A replica that is left alone.
#[derive(Debug)]
struct Failed {
    address: Address,
    pause: Duration,
    until: Instant,
}

/// How far a server has come with the changes of its data set, as `INFO replication` says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    is_master: bool,
    /// Identifies the history of the data set. Only offsets of the same history can be compared.
    history: String,
    offset: u64,
    /// The replicas that receive the changes.
    replicas: Vec<Address>,
}

impl Progress {
    /// Returns the question.
    pub(crate) fn question() -> Cmd {
        command("INFO", &["replication"])
    }

    /// Reads the answer. `None` if the user may not ask.
    pub(crate) fn read(answer: Value) -> Option<Self> {
        let info = text(answer)?;
        let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let is_master = value("role")?.trim() == "master";
        let offset = value(if is_master { "master_repl_offset" } else { "slave_repl_offset" })?;
        Some(Self {
            is_master,
            history: value("master_replid")?.trim().to_owned(),
            offset: offset.trim().parse().ok()?,
            replicas: info.lines().filter_map(replica_in).collect(),
        })
    }

    /// Returns whether a replica of this master has all that the master had.
    fn is_reached_by(&self, replica: &Self) -> bool {
        !replica.is_master && replica.history == self.history && replica.offset >= self.offset
    }
}

/// Returns the place of a replica that is online, from its line in `INFO replication`.
fn replica_in(line: &str) -> Option<Address> {
    let (name, values) = line.trim_end().split_once(':')?;
    name.strip_prefix("slave")?.parse::<u32>().ok()?;
    let value = |name: &str| values.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    if value("state")? != "online" {
        return None;
    }
    Some(Address::Tcp { host: value("ip")?.to_owned(), port: value("port")?.parse().ok()? })
}

impl Replicas {
    /// Lets a replica catch up with its `master`, so that the reads that follow may go to it. `known` are the
    /// replicas, if not only the master knows them. In a cluster, a replica must be told that it is read from.
    pub(crate) fn catch_up(
        &mut self,
        master: &Progress,
        known: &[Address],
        options: &RedisOptions,
        slot: Option<&Arc<SocketSlot>>,
        mut terms: Terms<'_>,
    ) {
        self.in_use = false;
        let candidates = if known.is_empty() { &master.replicas } else { known };
        let Some(address) = self.choose(candidates) else { return };
        let connected = self.connect(&address, options, slot, &mut terms);
        match connected.and_then(|()| self.reach(master, &mut terms)) {
            Ok(()) => self.in_use = true,
            Err(reason) => self.note_failure(address, &reason),
        }
    }

    /// Returns whether the present read takes values from a replica.
    pub(crate) fn in_use(&self) -> bool {
        self.in_use
    }

    /// Lets the reads that follow go to the master.
    pub(crate) fn leave(&mut self) {
        self.in_use = false;
    }

    /// Closes the connection.
    pub(crate) fn close(&mut self) {
        self.in_use = false;
        self.connection = None;
    }

    /// Reads values from the replica. `None` if the master must be asked: no replica is in use, or it fails or
    /// refuses.
    pub(crate) fn read(&mut self, groups: &[Vec<&Cmd>], terms: &mut Terms<'_>) -> Option<Vec<Reply>> {
        let connection = self.connection.as_mut().filter(|_| self.in_use)?;
        // If the replica hangs, the master must have time to answer.
        let deadline = share_of(terms.deadline, 2);
        let part = Terms { deadline, memory: terms.memory, idle: &mut *terms.idle };
        let replies = connection.read(groups, part).map_err(|error| error.to_string());
        let replies = replies.and_then(|replies| match replies.iter().find_map(refusal_in) {
            Some(reason) => Err(reason),
            None => Ok(replies),
        });
        let address = connection.address().clone();
        match replies {
            Ok(replies) => {
                self.failed.retain(|failed| failed.address != address);
                Some(replies)
            }
            Err(reason) => {
                self.close();
                self.note_failure(address, &reason);
                None
            }
        }
    }

    /// Takes what the replica has told of changes since the last call.
    pub(crate) fn take_changes(&mut self) -> Changes {
        let told = self.connection.as_mut().and_then(Connection::take_changes);
        told.filter(|_| !std::mem::take(&mut self.is_new)).unwrap_or_else(Changes::of_everything)
    }

    /// Returns the replica to read from: the one that is connected, or any that is not left alone. Processes begin
    /// at different replicas.
    fn choose(&mut self, candidates: &[Address]) -> Option<Address> {
        let connected = self.connection.as_ref().map(|connection| connection.address().clone());
        let usable = |address: &Address| candidates.contains(address) && !self.is_left_alone(address);
        if let Some(address) = connected.filter(usable) {
            return Some(address);
        }
        self.close();
        self.failed.retain(|failed| candidates.contains(&failed.address));
        let first = std::process::id() as usize % candidates.len().max(1);
        let (before, after) = candidates.split_at_checked(first)?;
        after.iter().chain(before).find(|address| !self.is_left_alone(address)).cloned()
    }

    fn is_left_alone(&self, address: &Address) -> bool {
        let now = Instant::now();
        self.failed.iter().any(|failed| failed.address == *address && now < failed.until)
    }

    fn connect(
        &mut self,
        address: &Address,
        options: &RedisOptions,
        slot: Option<&Arc<SocketSlot>>,
        terms: &mut Terms<'_>,
    ) -> Result<(), String> {
        if self.connection.is_some() {
            return Ok(());
        }
        let deadline = terms.deadline.min(Instant::now() + PATIENCE);
        let target = Target::server(address, options);
        let opened = Connection::open(target, deadline, slot, terms.idle);
        let mut connection = opened.map_err(|error| error.to_string())?;
        let part = Terms { deadline, memory: SMALL, idle: &mut *terms.idle };
        if options.is_cluster() {
            let reply = connection.exchange(&[redis::cmd("READONLY")], part);
            if let Some(Value::ServerError(error)) = reply.map_err(|error| error.to_string())?.pop() {
                return Err(describe(&error));
            }
        } else {
            connection.track(part).map_err(|error| error.to_string())?;
        }
        self.connection = Some(connection);
        self.is_new = true;
        Ok(())
    }

    /// Waits until the replica has all that its master had. The error says why it has not.
    fn reach(&mut self, master: &Progress, terms: &mut Terms<'_>) -> Result<(), String> {
        let give_up = Instant::now() + CATCH_UP;
        while let Some(connection) = &mut self.connection {
            let deadline = terms.deadline.min(Instant::now() + PATIENCE);
            let part = Terms { deadline, memory: SMALL, idle: &mut *terms.idle };
            let answer = match connection.exchange(&[Progress::question()], part) {
                Ok(mut answers) => answers.pop().and_then(Progress::read),
                Err(error) => {
                    self.close();
                    return Err(error.to_string());
                }
            };
            match answer {
                Some(progress) if master.is_reached_by(&progress) => return Ok(()),
                Some(progress) if progress.is_master => return Err("it is no replica".to_owned()),
                Some(_) if Instant::now() < give_up => std::thread::sleep(ASK_AGAIN),
                Some(_) => return Err("it lags behind its master".to_owned()),
                None => return Err("it does not answer INFO replication".to_owned()),
            }
        }
        Err("there is no connection".to_owned())
    }

    /// Leaves a replica alone for a while. The log says so the first time.
    fn note_failure(&mut self, address: Address, reason: &str) {
        let before = self.failed.iter().position(|failed| failed.address == address);
        let before = before.map(|index| self.failed.swap_remove(index));
        if before.is_none() {
            log::info!("scrapes do not read from the replica, {address}, for the time being: {reason}");
        }
        let pause = before.map_or(FIRST_PAUSE, |failed| (failed.pause * 2).min(LONGEST_PAUSE));
        self.failed.push(Failed { address, pause, until: Instant::now() + pause });
    }
}

/// Returns why the replica refuses to be read. A refusal of one key is none: the master would refuse it, too.
fn refusal_in(reply: &Reply) -> Option<String> {
    match reply {
        Reply::Value(Value::ServerError(error)) if !concerns_key(error) => Some(describe(error)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(text: &str) -> Progress {
        Progress::read(Value::BulkString(text.as_bytes().to_vec())).unwrap()
    }

    fn replica(history: &str, offset: u64) -> Progress {
        progress(&format!(
            "role:slave\r\nmaster_link_status:up\r\nslave_read_repl_offset:9\r\nslave_repl_offset:{offset}\r\n\
             connected_slaves:0\r\nmaster_replid:{history}\r\nmaster_repl_offset:1\r\n"
        ))
    }

    #[test]
    fn a_replica_is_level_if_it_has_come_as_far_in_the_same_history() {
        let master = progress(
            "# Replication\r\nrole:master\r\nconnected_slaves:3\r\n\
             slave0:ip=10.0.0.1,port=1,state=online,offset=42,lag=0\r\n\
             slave1:ip=::1,port=2,state=online,offset=42,lag=1,type=replica\r\n\
             slave2:ip=10.0.0.3,port=3,state=wait_bgsave,offset=0,lag=0\r\n\
             master_replid:abc\r\nmaster_replid2:def\r\nmaster_repl_offset:42\r\nslave_repl_offset:1\r\n",
        );
        let places: Vec<String> = master.replicas.iter().map(Address::to_string).collect();
        assert_eq!(places, ["Redis at 10.0.0.1:1", "Redis at [::1]:2"]);
        for (replica, is_level) in [
            (replica("abc", 42), true),
            (replica("abc", 43), true),
            (replica("abc", 41), false),
            (replica("def", 99), false),
            (progress("role:master\r\nmaster_replid:abc\r\nmaster_repl_offset:99\r\n"), false),
        ] {
            assert_eq!(master.is_reached_by(&replica), is_level, "{replica:?}");
        }
    }

    #[test]
    fn a_replica_that_failed_is_left_alone_for_longer_each_time() {
        let mut replicas = Replicas::default();
        let place = |port| Address::Tcp { host: "h".into(), port };
        let both = [place(1), place(2)];
        let first = replicas.choose(&both).unwrap();
        replicas.note_failure(first.clone(), "");
        let second = replicas.choose(&both).unwrap();
        assert_ne!(first, second);
        replicas.note_failure(second, "");
        assert_eq!(replicas.choose(&both), None);
        (0..20).for_each(|_| replicas.note_failure(first.clone(), ""));
        assert_eq!(replicas.failed.len(), 2);
        assert!(replicas.failed.iter().any(|failed| failed.pause == LONGEST_PAUSE));
        assert_eq!(replicas.choose(&[]), None);
        assert_eq!(replicas.failed.len(), 0, "a server that is no replica any more is forgotten");
    }
}
