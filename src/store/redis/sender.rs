//! Sends the batches of the outbox, and takes the server's answers.
//!
//! Only the BackendAction thread sends, so the order in which it sends is the order in which the server
//! applies. An answer confirms a batch, refuses a key, or says that the server no longer has the values that
//! this process wrote. Those are restored if the server has lost them, and forgotten if they were deleted on
//! purpose.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::announcer::Values;
use super::backlog::Backlog;
use super::batch;
use super::connection::{command, refused};
use super::ending;
use super::layout;
use super::link::{Link, ServerRun};
use super::message::Loss;
use super::queue::{Answered, Fate};
use super::replication::{Acknowledgement, Replication};
use super::reply::{FOREIGN, NODE, WRITERS, concerns_key, describe, details, is_noscript, shown};
use super::shared::Shared;
use super::throttle::Throttle;
use crate::metric::Metric;
use crate::metric::family::Family;
use crate::model::error::{Error, ErrorKind, Result};

/// The most batches in one exchange. It bounds the size of a request and of its replies.
const MAX_BATCHES: usize = 128;

/// How many losses in a row are restored within one send. A server that is out of memory may evict a family
/// as soon as it is written, and restoring it would never end.
const MAX_LOSSES: u32 = 16;

/// How long the reply to a `WAIT` may be late, because the server looks at its clock ten times a second.
const LATENESS: Duration = Duration::from_millis(150);

/// How long the server may keep the reply to a `WAIT` whose replicas do not answer.
const REPLICA_PATIENCE: Duration = Duration::from_secs(1);

/// How many keys or remarks one log record names.
const MAX_NAMED: usize = 5;

/// The outcome of some batches, as their answers show it.
#[derive(Debug, Default)]
struct Outcome {
    /// Whether some batches must be made again, because the server has another epoch.
    must_resend: bool,
    /// The keys that the server has lost.
    lost: Vec<String>,
    /// The keys that were deleted on purpose.
    emptied: Vec<String>,
    /// The keys that get their first values now.
    begun: Vec<String>,
    /// The keys that had values before any writer of this layout came.
    adopted: Vec<String>,
    /// The keys of which the server lacks batches that it, or its master, had confirmed.
    behind: Vec<String>,
    /// The keys of which such batches are not in the replay log either.
    gaps: Vec<String>,
}

/// Sends what waits in the backlog.
#[derive(Debug)]
pub(crate) struct BatchSender {
    shared: Arc<Shared>,
    pub(crate) link: Link,
    pub(crate) backlog: Backlog,
    throttle: Throttle,
    /// Whether definitions were deleted on purpose, so that those of families with values must be written
    /// again.
    must_require: bool,
    replication: Replication,
    /// Whether the log says already that the replay log is full.
    has_overflowed: bool,
    /// How many changes wait in the outbox, for a thread that closes the store while this one hangs.
    waiting: Arc<AtomicUsize>,
}

impl BatchSender {
    pub(crate) fn new(shared: Arc<Shared>, link: Link, backlog: Backlog, waiting: Arc<AtomicUsize>) -> Self {
        let replication = Replication::new(&shared.options);
        Self {
            shared,
            link,
            backlog,
            throttle: Throttle::default(),
            must_require: false,
            replication,
            has_overflowed: false,
            waiting,
        }
    }

    /// Returns whether the server holds values or definitions of this process, which it may lose.
    pub(crate) fn has_something_to_lose(&self) -> bool {
        self.backlog.outbox.has_confirmed() || self.backlog.announcer.has_written()
    }

    /// Prepares to ask the server whether it has lost something.
    pub(crate) fn suspect(&mut self, loss: &Loss) {
        match loss {
            Loss::Keys(keys) => self.backlog.outbox.ask(keys),
            Loss::Definitions if self.backlog.announcer.is_emptied(&self.link.server()) => {
                self.backlog.announcer.forget();
                self.backlog.outbox.ask(&self.backlog.outbox.keys_with_values());
                self.must_require = true;
            }
            Loss::Definitions => self.backlog.announcer.note_all(),
        }
    }

    /// Sends everything that waits, except for keys that the server refuses.
    pub(crate) fn send(&mut self) -> Result<()> {
        self.collect_acknowledgement();
        let mut must_connect = self.link.retry_at().is_some() || self.link.has_ended();
        // A deposed master confirms batches that are lost with it, and an idle process must find that out.
        must_connect |=
            self.backlog.outbox.awaits_replicas() && self.link.leave_deposed(&self.shared.options);
        let mut losses = 0;
        while losses < MAX_LOSSES {
            self.announce()?;
            let keys = self.backlog.outbox.prepare(Instant::now(), &self.link.server());
            self.shared.tally.about_to_send();
            self.note_waiting();
            if keys.is_empty() && !must_connect {
                if !std::mem::take(&mut self.must_require) {
                    return Ok(());
                }
                self.require(self.backlog.outbox.keys_with_values());
                continue;
            }
            if keys.is_empty() {
                // There is nothing to send, but the store may be back, or another server may answer.
                self.exchange(&[redis::cmd("PING")])?;
            }
            let mut must_resend = false;
            for chunk in keys.chunks(MAX_BATCHES) {
                must_resend |= self.send_batches(chunk)?;
            }
            self.keep_safe();
            must_connect = false;
            if must_resend {
                losses += 1;
            } else {
                self.link.serves(&self.shared.options);
                losses = 0;
            }
        }
        let message = format!("{} loses what it is told at once", self.shared.options.address);
        Err(self.lose(Error::new(ErrorKind::Unavailable, message)))
    }

    /// Writes definitions, if there are any to write.
    fn announce(&mut self) -> Result<()> {
        let values = Values {
            are_waiting: self.backlog.outbox.has_unsent(),
            are_confirmed: self.backlog.outbox.has_confirmed(),
        };
        let Some(announcement) = self.backlog.announcer.prepare(&self.link.server(), values) else {
            return Ok(());
        };
        self.note_waiting();
        match self.exchange(&announcement.commands) {
            Ok(replies) => {
                let server = self.link.server();
                let taken = self.backlog.announcer.take_replies(announcement, &replies, server);
                taken.map_err(|error| self.lose(error))
            }
            Err(error) => {
                self.backlog.announcer.take_back(announcement);
                Err(error)
            }
        }
    }

    /// Sends the batches of these keys. Returns whether some must be made and sent again, because the server
    /// has another epoch.
    fn send_batches(&mut self, keys: &[String]) -> Result<bool> {
        let outbox = &self.backlog.outbox;
        let commands: Vec<Cmd> =
            keys.iter().filter_map(|key| Some(outbox.batch(key)?.command.clone())).collect();
        let mut replies = self.exchange_batches(keys, &commands)?;
        if replies.iter().any(is_noscript) {
            // Batches that were applied the first time are skipped by the script.
            let mut with_script = vec![batch::load_script()];
            with_script.extend(commands);
            replies = self.exchange_batches(keys, &with_script)?;
            if let Value::ServerError(error) = replies.remove(0) {
                return Err(self.lose(refused(&self.shared.options.address, &error)));
            }
        }
        let server = self.link.server();
        let mut outcome = Outcome::default();
        let mut result = Ok(());
        for (key, reply) in keys.iter().zip(replies) {
            result = self.take_reply(key, reply, &server, &mut outcome);
            if result.is_err() {
                break;
            }
        }
        // Settle even if there is an error: the new epochs are stored already, so a later send would not find
        // the loss again.
        let must_resend = outcome.must_resend;
        self.settle(outcome);
        self.note_waiting();
        result.map(|()| must_resend)
    }

    /// Exchanges the batches of these keys for replies. Counts the batches that went out again because an
    /// answer was lost, in this exchange or in an earlier one.
    fn exchange_batches(&mut self, keys: &[String], commands: &[Cmd]) -> Result<Vec<Value>> {
        let before = self.link.transmissions();
        let result = self.exchange(commands);
        let times = self.link.transmissions() - before;
        self.shared.tally.resent(self.backlog.outbox.note_transmissions(keys, times, result.is_ok()));
        result
    }

    /// Trims the replay log, and asks the replicas whether they have what was written. The answer is taken
    /// before the next exchange.
    fn keep_safe(&mut self) {
        let server = self.link.server();
        let now = Instant::now();
        let most = self.shared.options.replay_log;
        if most == 0 {
            return;
        }
        if self.replication.must_ask(&server, now) {
            let replies = self.exchange_everywhere(&Replication::questions());
            if !replies.is_empty() {
                self.replication.take_replies(self.link.server(), replies, now);
            }
        }
        if self.backlog.outbox.trim(self.replication.safety(), most) {
            self.replication.recount();
            if !std::mem::replace(&mut self.has_overflowed, true) {
                log::warn!(
                    "{}: more than {} MB of confirmed batches are not known to be {}; the oldest are forgotten, \
                     and are lost if the server loses them; raise replay_log_mb or flush_interval_ms, or look \
                     after the replicas",
                    self.shared.options.address,
                    most >> 20,
                    self.replication.place()
                );
            }
        }
        if self.link.has_applied()
            && self.backlog.outbox.awaits_replicas()
            && let Some(wait) = self.replication.wait(now)
        {
            self.link.post(&self.shared.options, &wait, REPLICA_PATIENCE);
        }
    }

    /// Takes the answer of the replicas, if it was asked for.
    fn collect_acknowledgement(&mut self) {
        let Self { shared, link, backlog, waiting, replication, .. } = self;
        let server = link.server();
        let replies = link.collect(&mut || {
            backlog.take_events();
            waiting.store(backlog.outbox.unsent_without_dirty(), Ordering::Relaxed);
        });
        for posted in replies {
            match replication.take_acknowledgement(&posted.reply, Instant::now()) {
                Acknowledgement::Enough => {
                    backlog.outbox.note_replicated(&server, |key| link.concerns(&posted, key));
                }
                Acknowledgement::TooFew => link.doubt(),
                Acknowledgement::Refused(reason) => log::warn!(
                    "{} does not say what its replicas have ({reason}); batches that they lack when one of them \
                     becomes the master are lost; allow WAIT, or set replicas=0",
                    shared.options.address
                ),
            }
        }
    }

    /// Waits until the replicas have what was written, or until `deadline`, because the replay log ends with
    /// this process.
    pub(crate) fn await_replicas(&mut self, deadline: Instant) {
        self.collect_acknowledgement();
        let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(LATENESS);
        let milliseconds = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        if self.replication.required() == 0 || milliseconds == 0 {
            return;
        }
        if !self.link.has_applied() || !self.backlog.outbox.awaits_replicas() {
            return;
        }
        self.link.post(&self.shared.options, &self.replication.wait_for(milliseconds), left + LATENESS);
        self.collect_acknowledgement();
        if self.backlog.outbox.awaits_replicas() {
            log::warn!(
                "{}: the replicas have not confirmed the last batches of this process, which are lost if one \
                 of them becomes the master now",
                self.shared.options.address
            );
        }
    }

    /// Exchanges commands for replies. Takes events while the server does not answer.
    fn exchange(&mut self, commands: &[Cmd]) -> Result<Vec<Value>> {
        self.collect_acknowledgement();
        let Self { shared, link, backlog, waiting, .. } = self;
        let result = link.exchange(&shared.options, commands, &mut || {
            backlog.is_stalled = true;
            backlog.take_events();
            waiting.store(backlog.outbox.unsent_without_dirty(), Ordering::Relaxed);
        });
        backlog.is_stalled = result.is_err();
        result
    }

    /// Exchanges commands without keys with each server. There are no replies if the connection breaks.
    fn exchange_everywhere(&mut self, commands: &[Cmd]) -> Vec<Vec<Value>> {
        self.collect_acknowledgement();
        let Self { shared, link, backlog, waiting, .. } = self;
        link.exchange_everywhere(&shared.options, commands, &mut || {
            backlog.is_stalled = true;
            backlog.take_events();
            waiting.store(backlog.outbox.unsent_without_dirty(), Ordering::Relaxed);
        })
    }

    fn note_waiting(&self) {
        self.waiting.store(self.backlog.outbox.unsent_without_dirty(), Ordering::Relaxed);
        self.shared.tally.unconfirmed(self.backlog.outbox.taken_metrics());
    }

    fn take_reply(
        &mut self,
        key: &str,
        reply: Value,
        server: &ServerRun,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let outbox = &mut self.backlog.outbox;
        if matches!(reply, Value::ServerError(_)) {
            self.shared.tally.refused();
        }
        match reply {
            Value::Array(parts) if matches!(parts[..], [Value::Int(0 | 1), ..]) => {
                let keeps = self.shared.options.replay_log > 0 && !self.replication.safety().is_immediate();
                let answer = parts.get(1).and_then(ending::Answer::new);
                let remarks = &parts[1 + usize::from(answer.is_some())..];
                let (answered, was_refused) = outbox.confirm(key, server, keeps, answer);
                if was_refused {
                    log::info!("Redis key {key:?} is accepted again");
                }
                match answered {
                    Answered::Question => self.shared.tally.confirmed(0),
                    Answered::Changes(count) => self.shared.tally.confirmed(count),
                    Answered::Replay(batches) => self.shared.tally.replayed(batches),
                }
                if answered != Answered::Question && matches!(parts[..], [Value::Int(1), ..]) {
                    self.link.note_applied(key);
                }
                self.log_remarks(key, remarks);
                Ok(())
            }
            Value::Array(parts)
                if matches!(parts[..], [Value::Int(2)] | [Value::Int(2), Value::BulkString(_), ..]) =>
            {
                let epoch = parts.get(1).map(shown);
                let has_epoch = epoch.is_some();
                if parts.len() > 2 {
                    outcome.adopted.push(key.to_owned());
                }
                if has_epoch {
                    outcome.begun.push(key.to_owned());
                    outcome.must_resend = true;
                }
                match outbox.begin_epoch(key, epoch, server) {
                    Fate::New => {}
                    Fate::Emptied => outcome.emptied.push(key.to_owned()),
                    Fate::Lost => {
                        outcome.must_resend = true;
                        outcome.lost.push(key.to_owned());
                    }
                    Fate::Replayed => {
                        outcome.must_resend = true;
                        outcome.behind.push(key.to_owned());
                    }
                }
                Ok(())
            }
            Value::Array(parts) if matches!(parts[..], [Value::Int(3), Value::Int(_)]) => {
                let last = match parts[1] {
                    Value::Int(last) => u64::try_from(last).ok(),
                    _ => None,
                };
                outcome.must_resend = true;
                if outbox.rewind(key, last) {
                    outcome.gaps.push(key.to_owned());
                } else if outbox.is_behind(key) {
                    outcome.behind.push(key.to_owned());
                }
                Ok(())
            }
            Value::ServerError(error) if concerns_key(&error) => {
                let reason = match error.code() {
                    FOREIGN => format!(
                        "Redis key {key:?} is refused: {}, so it is not a metric; set key_prefix to keep metrics \
                         apart from other keys",
                        details(&error)
                    ),
                    NODE => format!("Redis key {key:?} waits for its node: {}", details(&error)),
                    WRITERS => {
                        format!("Redis key {:?} is refused: {}", layout::writers_key(key), describe(&error))
                    }
                    _ => format!("Redis key {key:?} is refused: {}", describe(&error)),
                };
                if outbox.refuse(key, reason.clone()) && self.throttle.admits() {
                    log::error!("{reason}; its changes are kept, and tried again every second");
                }
                Ok(())
            }
            Value::ServerError(error) => Err(self.lose(refused(&self.shared.options.address, &error))),
            other => {
                let message =
                    format!("{} answered a batch with {}", self.shared.options.address, shown(&other));
                Err(self.lose(Error::new(ErrorKind::Unavailable, message)))
            }
        }
    }

    fn log_remarks(&mut self, key: &str, remarks: &[Value]) {
        for remark in remarks.iter().take(MAX_NAMED) {
            if self.throttle.admits() {
                log::error!("Redis key {key:?}, field {}", shown(remark));
            }
        }
        if remarks.len() > MAX_NAMED && self.throttle.admits() {
            log::error!("Redis key {key:?}: {} more fields like these", remarks.len() - MAX_NAMED);
        }
    }

    /// Acts on the answers: restores lost values, forgets values that were deleted on purpose, and logs both.
    fn settle(&mut self, outcome: Outcome) {
        let Outcome { lost, emptied, begun, adopted, behind, gaps, .. } = outcome;
        let shared = Arc::clone(&self.shared);
        let address = &shared.options.address;
        if !adopted.is_empty() && self.throttle.admits() {
            log::warn!(
                "{address}: {} already had values, which are counted on; set key_prefix if they belong to another \
                 program",
                named(&adopted)
            );
        }
        if !emptied.is_empty() {
            log::warn!(
                "{address} was emptied of {} (by FLUSHALL, or their keys were deleted): they begin at 0",
                counted_families(emptied.len())
            );
            self.backlog.announcer.forget();
            for (key, family) in self.newest_families(emptied) {
                self.backlog.outbox.forget(&key, family.as_deref());
            }
        }
        self.require(begun);
        if !behind.is_empty() && self.throttle.admits() {
            log::info!(
                "{address} lacks confirmed batches of {} (a crash, or a replica that lagged behind became the \
                 master): they are sent again",
                named(&behind)
            );
        }
        if !behind.is_empty() || !gaps.is_empty() {
            // It may lack definitions, too.
            self.backlog.announcer.note_all();
        }
        if !gaps.is_empty() {
            log::error!(
                "{address} has lost confirmed batches of {} that the replay log no longer holds (an old \
                 snapshot, or a replica that lagged far behind): what they counted is lost (replay_log_mb, \
                 replicas)",
                named(&gaps)
            );
        }
        self.shared.tally.lost(lost.len() + gaps.len());
        if !lost.is_empty() {
            log::warn!(
                "{} has lost {} (by a restart, or expiry): counters begin at 0, gauges are restored",
                self.shared.options.address,
                counted_families(lost.len())
            );
            self.restore(lost);
        }
    }

    /// Lets the next send write the definitions for these keys, unless they were written a moment ago.
    fn require(&mut self, keys: Vec<String>) {
        for family in self.newest_families(keys).into_values().flatten() {
            self.backlog.announcer.require(&family.definition);
        }
    }

    /// Queues operations that restore this process's metrics of the lost families, before everything else.
    fn restore(&mut self, lost: Vec<String>) {
        let mut metrics: BTreeMap<String, Vec<Arc<Metric>>> =
            lost.into_iter().map(|key| (key, Vec::new())).collect();
        for family in self.shared.table.live_families() {
            let key = layout::family_key(self.shared.prefix(), family.definition.name());
            if let Some(known) = metrics.get_mut(&key) {
                // Series that have ended are not to come back.
                let metrics = self.shared.table.metrics(&family).into_iter();
                known.extend(metrics.filter(|metric| !metric.is_over()));
            }
        }
        for (key, metrics) in metrics {
            self.backlog.outbox.restore(&key, &metrics);
        }
        self.backlog.announcer.note_all();
    }

    /// Returns, for each key, the family that was declared last.
    fn newest_families(&self, keys: Vec<String>) -> BTreeMap<String, Option<Arc<Family>>> {
        let mut newest: BTreeMap<String, Option<Arc<Family>>> =
            keys.into_iter().map(|key| (key, None)).collect();
        if !newest.is_empty() {
            for family in self.shared.table.live_families() {
                let key = layout::family_key(self.shared.prefix(), family.definition.name());
                if let Some(known) = newest.get_mut(&key) {
                    // Families come in the order of declaration.
                    *known = Some(family);
                }
            }
        }
        newest
    }

    /// Removes the entries of this writer from the server, because it will not send anything again.
    ///
    /// It does nothing if a connection ever failed: a batch that was sent twice may still be on its way, and
    /// without the entry it would be applied a second time. Other writers sweep out what stays behind.
    pub(crate) fn leave(&mut self) {
        if self.link.has_failed() || self.link.retry_at().is_some() {
            return;
        }
        let keys = self.backlog.outbox.writers_keys();
        let writer = self.backlog.outbox.writer();
        let commands: Vec<Cmd> = keys.iter().map(|key| command("HDEL", &[key, writer])).collect();
        if !commands.is_empty() {
            let _ = self.exchange(&commands);
        }
    }

    fn lose(&mut self, reason: Error) -> Error {
        self.link.lose(&reason);
        reason
    }
}

/// Returns the names of some keys, as in `Redis keys "a", "b" and 3 more`.
fn named(keys: &[String]) -> String {
    let shown: Vec<String> = keys.iter().take(MAX_NAMED).map(|key| format!("{key:?}")).collect();
    let noun = if keys.len() == 1 { "key" } else { "keys" };
    let more = match keys.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{noun} {}{more}", shown.join(", "))
}

fn counted_families(count: usize) -> String {
    format!("{count} metric {}", if count == 1 { "family" } else { "families" })
}
