//! Sends the batches of the outbox, and takes the server's answers.
//!
//! Only the BackendAction thread sends, so the order in which it sends is the order in which the server applies. An
//! answer confirms a batch, refuses a key, or says that the server has lost a family, which is then restored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use redis::{Cmd, Value};

use super::announcer::{Announcer, Values};
use super::batch;
use super::connection::{command, refused};
use super::layout;
use super::link::Link;
use super::message::Loss;
use super::outbox::Outbox;
use super::reply::{concerns_key, describe, is_noscript, shown};
use super::shared::Shared;
use crate::metric::Metric;
use crate::model::error::{Error, ErrorKind, Result};

/// The most batches in one exchange. It bounds the size of a request and of its replies.
const MAX_BATCHES: usize = 128;

/// How often in a row the server may have lost what it was told a moment ago. A server without memory may evict a
/// family as soon as it is written; then restoring it would never end.
const MAX_LOSSES: u32 = 16;

/// The server's answer to a batch.
#[derive(Debug)]
enum Answer {
    Applied,
    /// Not applied: the server refuses this key only.
    Refused,
    /// Not applied: the writer had to learn the epoch first.
    Begun,
    /// Not applied: the server has lost the family.
    Lost,
}

/// Sends what waits in its outbox.
#[derive(Debug)]
pub(crate) struct BatchSender {
    shared: Arc<Shared>,
    pub(crate) link: Link,
    pub(crate) outbox: Outbox,
    pub(crate) announcer: Announcer,
    /// How many changes wait in the outbox, for a thread that closes the store while this one hangs.
    waiting: Arc<AtomicUsize>,
}

impl BatchSender {
    pub(crate) fn new(shared: Arc<Shared>, link: Link, outbox: Outbox, waiting: Arc<AtomicUsize>) -> Self {
        let announcer = Announcer::new(Arc::clone(&shared));
        Self { shared, link, outbox, announcer, waiting }
    }

    /// Returns whether something waits that the server has not refused.
    pub(crate) fn has_work(&self) -> bool {
        self.outbox.has_unsent() || self.announcer.has_waiting()
    }

    /// Returns whether the server keeps something of this process that it may lose.
    pub(crate) fn has_something_to_lose(&self) -> bool {
        self.outbox.has_confirmed() || self.announcer.has_written()
    }

    /// Prepares to ask the server whether it has lost something.
    pub(crate) fn suspect(&mut self, loss: &Loss) {
        match loss {
            Loss::Keys(keys) => self.outbox.ask(keys),
            Loss::Definitions => self.announcer.note_all(),
        }
    }

    /// Sends until nothing is left but keys that the server refuses.
    pub(crate) fn send(&mut self) -> Result<()> {
        let mut must_connect = self.link.retry_at().is_some() || self.link.has_ended();
        let mut losses = 0;
        while losses < MAX_LOSSES {
            let values =
                Values { are_waiting: self.outbox.has_unsent(), are_confirmed: self.outbox.has_confirmed() };
            self.announcer.announce(&mut self.link, values)?;
            let keys =
                self.outbox.prepare(&self.shared.options, Instant::now(), self.link.connection_number());
            self.waiting.store(self.outbox.taken_count(), Ordering::Relaxed);
            self.shared.tally.unconfirmed(self.outbox.taken_metrics());
            self.shared.tally.about_to_send();
            if keys.is_empty() && !must_connect {
                return Ok(());
            }
            if keys.is_empty() {
                // There is nothing to send, but the store may be back, or another server may answer.
                self.link.exchange(&self.shared.options, &[redis::cmd("PING")])?;
            }
            let mut all_applied = true;
            for chunk in keys.chunks(MAX_BATCHES) {
                all_applied &= self.send_batches(chunk)?;
            }
            must_connect = false;
            if all_applied {
                self.link.serves(&self.shared.options);
                losses = 0;
            } else {
                losses += 1;
            }
        }
        let message = format!("{} loses what it is told at once", self.shared.options.address);
        Err(self.lose(Error::new(ErrorKind::Unavailable, message)))
    }

    /// Sends the batches of these keys. Returns `false` if one was not applied, because the server is in another
    /// epoch.
    fn send_batches(&mut self, keys: &[String]) -> Result<bool> {
        let commands: Vec<Cmd> =
            keys.iter().filter_map(|key| Some(self.outbox.batch(key)?.command.clone())).collect();
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
        let mut lost = Vec::new();
        let mut all_applied = true;
        let mut failure = Ok(());
        for (key, reply) in keys.iter().zip(replies) {
            match self.take_reply(key, reply) {
                Ok(Answer::Applied | Answer::Refused) => {}
                Ok(Answer::Begun) => all_applied = false,
                Ok(Answer::Lost) => {
                    all_applied = false;
                    lost.push(key.clone());
                }
                Err(error) => {
                    failure = Err(error);
                    break;
                }
            }
        }
        // This comes before an error is returned: the new epochs are known now, so the loss would not be found again.
        self.restore(lost);
        failure.map(|()| all_applied)
    }

    /// Exchanges the batches of these keys for replies. Counts the batches that went out again because an answer was
    /// lost, in this exchange or in an earlier one.
    fn exchange_batches(&mut self, keys: &[String], commands: &[Cmd]) -> Result<Vec<Value>> {
        let before = self.link.transmissions();
        let result = self.link.exchange(&self.shared.options, commands);
        let times = self.link.transmissions() - before;
        self.shared.tally.resent(self.outbox.note_transmissions(keys, times, result.is_ok()));
        result
    }

    /// Puts what this process knows of the lost families into the outbox, before everything else.
    fn restore(&mut self, lost: Vec<String>) {
        if lost.is_empty() {
            return;
        }
        log::warn!(
            "{} has lost {} metric {} (by a restart, or expiry): counters begin at 0, gauges are restored",
            self.shared.options.address,
            lost.len(),
            if lost.len() == 1 { "family" } else { "families" }
        );
        let mut metrics: BTreeMap<String, Vec<Arc<Metric>>> =
            lost.into_iter().map(|key| (key, Vec::new())).collect();
        for family in self.shared.table.live_families() {
            let key = layout::family_key(self.shared.prefix(), family.definition.name());
            if let Some(known) = metrics.get_mut(&key) {
                known.extend(self.shared.table.metrics(&family));
            }
        }
        for (key, metrics) in metrics {
            self.outbox.restore(&key, &metrics);
        }
        self.announcer.note_all();
    }

    fn take_reply(&mut self, key: &str, reply: Value) -> Result<Answer> {
        if matches!(reply, Value::ServerError(_)) {
            self.shared.tally.refused();
        }
        let connection = self.link.connection_number();
        match reply {
            Value::Array(parts) if matches!(parts[..], [Value::Int(0 | 1), ..]) => {
                self.shared.tally.confirmed(self.outbox.batch(key).map_or(0, |batch| batch.changes().len()));
                if self.outbox.confirm(key, connection) {
                    log::info!("Redis key {key:?} is accepted again");
                }
                for remark in parts.iter().skip(1) {
                    log::error!("Redis key {key:?}, field {}", shown(remark));
                }
                Ok(Answer::Applied)
            }
            Value::Array(parts) if matches!(parts[..], [Value::Int(2), Value::BulkString(_)]) => {
                let is_lost = self.outbox.begin_epoch(key, shown(&parts[1]), connection);
                Ok(if is_lost { Answer::Lost } else { Answer::Begun })
            }
            Value::ServerError(error) if concerns_key(&error) => {
                let named = if error.code() == "WRITERS" { layout::writers_key(key) } else { key.to_owned() };
                let reason = format!("Redis key {named:?} is refused: {}", describe(&error));
                if self.outbox.refuse(key, reason.clone(), Instant::now()) {
                    log::error!("{reason}; its changes are kept, and tried again every second");
                }
                Ok(Answer::Refused)
            }
            Value::ServerError(error) => Err(self.lose(refused(&self.shared.options.address, &error))),
            other => {
                let message = format!("{} answered a batch with {other:?}", self.shared.options.address);
                Err(self.lose(Error::new(ErrorKind::Unavailable, message)))
            }
        }
    }

    /// Removes the entries of this writer from the server, because it will not send anything again.
    ///
    /// It does nothing if a connection ever failed: a batch that was sent twice may still be on its way, and without
    /// the entry it would be applied a second time. Other writers sweep out what stays behind.
    pub(crate) fn leave(&mut self) {
        if self.link.has_failed() || self.link.retry_at().is_some() {
            return;
        }
        let keys = self.outbox.writers_keys();
        let writer = self.outbox.writer();
        let commands: Vec<Cmd> = keys.iter().map(|key| command("HDEL", &[key, writer])).collect();
        if !commands.is_empty() {
            let _ = self.link.exchange(&self.shared.options, &commands);
        }
    }

    fn lose(&mut self, reason: Error) -> Error {
        self.link.lose(&reason);
        reason
    }
}
