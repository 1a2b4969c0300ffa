//! How safely the server keeps confirmed batches: on how many replicas, and in an append-only file.
//!
//! The sender asks the server on each connection, and later once a minute. It asks with `WAIT` whether the
//! replicas have what was written. The answers decide when the [replay log](super::replay_log) drops a batch.

use std::time::{Duration, Instant};

use redis::{Cmd, ServerError, Value};

use super::connection::command;
use super::link::ServerRun;
use super::options::RedisOptions;
use super::replay_log::Safety;
use super::reply::{describe, text};

/// How long after its confirmation a batch is certainly in an append-only file. The server writes the file
/// every second, and may be a second late.
const UNTIL_WRITTEN: Duration = Duration::from_secs(3);

/// How often the replicas are counted again on the same connection.
const COUNT_EVERY: Duration = Duration::from_secs(60);

/// How often to ask whether the replicas have everything. Each time the master asks all its replicas.
const WAIT_EVERY: Duration = Duration::from_millis(50);

/// How long to pause after replicas did not answer in time. A `WAIT` that is not satisfied keeps the
/// connection busy for about a tenth of a second.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a replica may take to answer, in milliseconds.
const PATIENCE: u64 = 100;

/// What is known of the replicas and the append-only file of the server.
#[derive(Debug)]
pub(crate) struct Replication {
    /// How many replicas must have a batch, if the program says so.
    wanted: Option<usize>,
    /// The most replicas that the server has had at a count.
    counted: usize,
    /// Whether the server may have an append-only file.
    may_have_file: bool,
    asked: Option<(ServerRun, Instant)>,
    /// Whether the next count may lower the number of replicas.
    must_recount: bool,
    wait_at: Instant,
    /// Whether the user may not call `WAIT`.
    is_forbidden: bool,
}

/// What the replicas have answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Acknowledgement {
    /// Enough replicas have everything that was written on the connection.
    Enough,
    /// Some replicas have not answered in time.
    TooFew,
    /// The server refuses to say.
    Refused(String),
}

impl Replication {
    pub(crate) fn new(options: &RedisOptions) -> Self {
        Self {
            wanted: options.replicas,
            counted: 0,
            may_have_file: true,
            asked: None,
            must_recount: false,
            wait_at: Instant::now(),
            is_forbidden: false,
        }
    }

    /// Returns how many replicas must have a batch.
    pub(crate) fn required(&self) -> usize {
        if self.is_forbidden { 0 } else { self.wanted.unwrap_or(self.counted) }
    }

    /// Returns the place where a batch is safe, for the log.
    pub(crate) fn place(&self) -> String {
        match self.required() {
            0 => "in the append-only file".to_owned(),
            1 => "on the replica".to_owned(),
            count => format!("on {count} replicas"),
        }
    }

    /// Returns when a batch is safe. Until the server was asked, no batch is.
    pub(crate) fn safety(&self) -> Safety {
        let is_known = self.asked.is_some();
        Safety {
            needs_replicas: self.required() > 0 || (!is_known && self.wanted.is_none()),
            age: self.may_have_file.then_some(UNTIL_WRITTEN),
        }
    }

    /// Returns whether the server must be asked for its replicas and its file.
    pub(crate) fn must_ask(&self, server: &ServerRun, now: Instant) -> bool {
        self.asked.as_ref().is_none_or(|(asked, at)| {
            !asked.is_same_connection(server) || now.saturating_duration_since(*at) >= COUNT_EVERY
        })
    }

    /// Returns the commands that ask.
    pub(crate) fn questions() -> [Cmd; 2] {
        [command("INFO", &["replication"]), command("INFO", &["persistence"])]
    }

    /// Takes the replies to [`questions`](Self::questions).
    ///
    /// The number of replicas only grows, because a replica whose link is cut may still become the master. In
    /// a cluster it is that of the master with the fewest.
    pub(crate) fn take_replies(&mut self, server: ServerRun, replies: Vec<Vec<Value>>, now: Instant) {
        let (mut counts, mut files) = (Vec::new(), Vec::new());
        for of_server in replies {
            let mut texts = of_server.into_iter().map(text);
            if let Some(replication) = texts.next().flatten() {
                counts.push(replication.lines().filter(|line| is_replica(line)).count());
            }
            if let Some(persistence) = texts.next().flatten() {
                files.push(persistence.lines().any(|line| line.trim_end() == "aof_enabled:1"));
            }
        }
        if let Some(found) = counts.into_iter().min() {
            self.counted = if self.must_recount { found } else { self.counted.max(found) };
            self.must_recount = false;
        }
        if !files.is_empty() {
            self.may_have_file = files.contains(&true);
        }
        self.asked = Some((server, now));
    }

    /// Lets the next count lower the number of replicas, because the log is full of batches that a replica
    /// which is gone will never confirm.
    pub(crate) fn recount(&mut self) {
        self.must_recount = true;
        self.asked = None;
    }

    /// Returns the command that asks the replicas, if it is time to ask. `WAIT 0` would wait for ever, so
    /// there is no such command.
    pub(crate) fn wait(&mut self, now: Instant) -> Option<Cmd> {
        if self.required() == 0 || now < self.wait_at {
            return None;
        }
        self.wait_at = now + WAIT_EVERY;
        Some(self.wait_for(PATIENCE))
    }

    /// Returns the command that asks the replicas and waits for so many milliseconds, which are not 0.
    pub(crate) fn wait_for(&self, milliseconds: u64) -> Cmd {
        command("WAIT", &[&self.required().to_string(), &milliseconds.to_string()])
    }

    /// Takes the reply to a `WAIT`.
    pub(crate) fn take_acknowledgement(&mut self, reply: &Value, now: Instant) -> Acknowledgement {
        match reply {
            Value::Int(count) if usize::try_from(*count).is_ok_and(|count| count >= self.required()) => {
                Acknowledgement::Enough
            }
            // Any other error passes, such as UNBLOCKED of a master that was deposed while it waited.
            Value::ServerError(error) if is_forbidden(error) => {
                self.is_forbidden = true;
                Acknowledgement::Refused(describe(error))
            }
            _ => {
                self.wait_at = now + PAUSE;
                Acknowledgement::TooFew
            }
        }
    }
}

/// Returns whether the user may not call the command, or the server does not have it.
fn is_forbidden(error: &ServerError) -> bool {
    error.code() == "NOPERM" || describe(error).contains("unknown command")
}

/// Returns whether a line of `INFO replication` is about a replica that receives what is written.
fn is_replica(line: &str) -> bool {
    let is_slave =
        line.strip_prefix("slave").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    is_slave && line.contains("state=online")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::options::Address;

    const TWO: &str = "# Replication\r\nrole:master\r\nconnected_slaves:3\r\n\
                       slave0:ip=127.0.0.1,port=1,state=online,offset=42,lag=0\r\n\
                       slave1:ip=127.0.0.1,port=2,state=online,offset=42,lag=1\r\n\
                       slave2:ip=127.0.0.1,port=3,state=wait_bgsave,offset=0,lag=0\r\n";

    fn replication() -> Replication {
        Replication::new(&RedisOptions::new(Address::Tcp { host: "some".into(), port: 1 }))
    }

    fn server() -> ServerRun {
        let options = RedisOptions::new(Address::Tcp { host: "some".into(), port: 1 });
        let servers = std::sync::Arc::new(super::super::servers::Servers::new(&options, None));
        super::super::link::Link::new(None, servers, std::sync::Arc::default()).server()
    }

    fn tell(replication: &mut Replication, replicas: &str, persistence: &str) {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        replication.take_replies(server(), vec![vec![bulk(replicas), bulk(persistence)]], Instant::now());
    }

    #[test]
    fn replicas_that_are_online_are_counted_and_stay_required_when_they_disconnect() {
        let mut replication = replication();
        assert!(!replication.safety().is_immediate(), "nothing is known yet");
        tell(&mut replication, TWO, "aof_enabled:0\r\n");
        assert_eq!(replication.safety(), Safety { needs_replicas: true, age: None });
        assert_eq!(replication.required(), 2);
        tell(&mut replication, "role:master\r\nconnected_slaves:0\r\n", "aof_enabled:0\r\n");
        assert_eq!(replication.required(), 2);
        replication.recount();
        tell(&mut replication, "role:master\r\nconnected_slaves:0\r\n", "aof_enabled:0\r\n");
        assert!(replication.safety().is_immediate());
        assert!(replication.wait(Instant::now()).is_none());
    }

    #[test]
    fn batches_stay_for_a_while_if_there_is_an_append_only_file() {
        let mut replication = replication();
        tell(&mut replication, "role:master\r\n", "loading:0\r\naof_enabled:1\r\n");
        assert_eq!(replication.safety(), Safety { needs_replicas: false, age: Some(UNTIL_WRITTEN) });
    }

    #[test]
    fn a_replica_that_does_not_answer_is_not_asked_again_at_once() {
        let mut replication = replication();
        tell(&mut replication, TWO, "");
        let now = Instant::now();
        assert!(replication.wait(now).is_some());
        assert!(replication.wait(now).is_none());
        let later = now + WAIT_EVERY;
        assert!(replication.wait(later).is_some());
        assert_eq!(replication.take_acknowledgement(&Value::Int(2), later), Acknowledgement::Enough);
        assert_eq!(replication.take_acknowledgement(&Value::Int(1), later), Acknowledgement::TooFew);
        assert!(replication.wait(later + WAIT_EVERY).is_none());
        assert!(replication.wait(later + PAUSE).is_some());
    }
}
