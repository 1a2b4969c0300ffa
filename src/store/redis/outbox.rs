//! The changes that the BackendAction thread has taken from metrics and the server has not confirmed, in a
//! [queue](super::queue) for each family key.
//!
//! If the server's epoch of a key is not the one that the writer knows, the operations of the unanswered
//! batch go back into the queue. If the values were lost, operations that restore the values of this process
//! are sent first.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::{Batch, Target};
use super::ending::Answer;
use super::epoch::KnownEpochs;
use super::layout;
use super::link::ServerRun;
use super::queue::{Answered, Fate, Queue};
use super::replay_log::Safety;
use super::shared::Shared;
use crate::cell::Cells;
use crate::cell::pending::PendingCells;
use crate::metric::Metric;
use crate::metric::family::Family;

/// How many queues are kept before unused ones are first swept out.
const FIRST_SWEEP: usize = 64;

/// How much of a text is shown in a log record.
const SHOWN: usize = 80;

/// Everything that waits to be sent, by key.
#[derive(Debug)]
pub(crate) struct Outbox {
    shared: Arc<Shared>,
    writer: String,
    epochs: Arc<KnownEpochs>,
    queues: BTreeMap<String, Queue>,
    /// The number of the last batch. It grows over all keys, so a queue may be dropped and made again.
    last_number: u64,
    /// The number of queues at which unused ones are swept out next.
    sweep_at: usize,
}

impl Outbox {
    /// Makes an empty outbox whose batches carry the id `writer`.
    pub(crate) fn new(writer: String, shared: Arc<Shared>, epochs: Arc<KnownEpochs>) -> Self {
        Self { shared, writer, epochs, queues: BTreeMap::new(), last_number: 0, sweep_at: FIRST_SWEEP }
    }

    /// Notes that a metric has changed. Its changes stay in its cells for now.
    pub(crate) fn note_dirty(&mut self, metric: Arc<Metric>) {
        let Some(cells) = pending(&metric) else { return };
        if cells.is_removed() {
            return;
        }
        if metric.key.len() > layout::MAX_TEXT {
            // The server would close the connection, and all other metrics would wait behind this one.
            cells.remove();
            let shown: String = metric.key.chars().take(SHOWN).collect();
            log::error!(
                "metric family {:?}: the labels {shown}… take {} bytes, and Redis may refuse more than {}: \
                 this series is not stored",
                metric.family.definition.name(),
                metric.key.len(),
                layout::MAX_TEXT
            );
            return;
        }
        self.queue(&metric.family).note_dirty(metric);
    }

    /// Notes that a metric's fields must be deleted, after earlier changes and before later ones.
    ///
    /// While the store is lost, a metric that the server was never told about needs no deletion. Otherwise
    /// the outbox would grow with every metric that is made and removed.
    pub(crate) fn note_removed(&mut self, metric: &Arc<Metric>, is_store_lost: bool) {
        let was_sent = pending(metric).is_some_and(|cells| !cells.is_new());
        let queue = self.queue(&metric.family);
        if was_sent || !is_store_lost {
            queue.note_removed(metric);
        } else {
            queue.forget_dirty(metric);
        }
    }

    /// Notes that a family's key must be deleted, after earlier changes and before later ones.
    pub(crate) fn note_cleared(&mut self, family: &Family) {
        self.queue(family).note_cleared();
    }

    /// Makes batches of the waiting changes. Returns the keys of all batches that must be sent now, including
    /// questions for the epochs of keys that `server` has not confirmed on this connection.
    pub(crate) fn prepare(&mut self, now: Instant, server: &ServerRun) -> Vec<String> {
        self.sweep();
        let Self { shared, writer, epochs, queues, last_number, .. } = self;
        let mut ready = Vec::new();
        for (key, queue) in queues {
            if queue.refused.as_ref().is_some_and(|refused| now < refused.until) {
                continue;
            }
            if queue.must_fill() {
                let epoch = epochs.get(key);
                let asks = epoch.is_some() && queue.must_ask(server);
                let writers_key = queue.writers_key.clone();
                let ending = queue.ending.clone();
                let target = Target {
                    key,
                    writers_key: &writers_key,
                    is_hash: queue.is_hash,
                    has_created_times: queue.has_created_times,
                    ending: ending.as_deref(),
                    writer,
                    expire_key_time: shared.options.expire_key_time,
                    epoch: epoch.as_deref().unwrap_or_default(),
                    base: queue.base(),
                };
                queue.fill(&target, asks, last_number, &shared.tally);
            }
            if queue.outgoing().is_some() {
                ready.push(key.clone());
            }
        }
        ready
    }

    /// Returns the unanswered batch of a key.
    pub(crate) fn batch(&self, key: &str) -> Option<&Batch> {
        self.queues.get(key)?.outgoing()
    }

    /// Notes that the batches of these keys were sent `times` times, and whether the last time was answered.
    /// Returns how many of these were repetitions because an answer was lost.
    pub(crate) fn note_transmissions(&mut self, keys: &[String], times: u64, is_answered: bool) -> u64 {
        let mut repetitions = 0;
        for key in keys {
            let Some(batch) = self.queues.get_mut(key).and_then(Queue::outgoing_mut) else {
                continue;
            };
            repetitions += if batch.is_unanswered { times } else { times.saturating_sub(1) };
            batch.is_unanswered = !is_answered && (batch.is_unanswered || times > 0);
        }
        repetitions
    }

    /// Notes that the key's batch is confirmed. `keeps` says whether it goes to the replay log, and
    /// `answer` what the server says of series that end. Returns what was confirmed, and whether the key had been
    /// refused before.
    pub(crate) fn confirm(
        &mut self,
        key: &str,
        server: &ServerRun,
        keeps: bool,
        answer: Option<Answer>,
    ) -> (Answered, bool) {
        match self.queues.get_mut(key) {
            Some(queue) => queue.confirm(server, keeps, answer),
            None => (Answered::Question, false),
        }
    }

    /// Notes that the last batch of this writer on the server is `number` (`None`: there is none), and not
    /// the one before the key's batch. Returns whether confirmed batches are lost for good.
    pub(crate) fn rewind(&mut self, key: &str, number: Option<u64>) -> bool {
        self.queues.get_mut(key).is_some_and(|queue| queue.rewind(number))
    }

    /// Returns whether the server lacks batches of this key that the replay log holds.
    pub(crate) fn is_behind(&self, key: &str) -> bool {
        self.queues.get(key).is_some_and(Queue::is_behind)
    }

    /// Notes that the replicas have all batches that were confirmed on this connection.
    pub(crate) fn note_replicated(&mut self, server: &ServerRun, concerns: impl Fn(&str) -> bool) {
        for (_, queue) in self.queues.iter_mut().filter(|(key, _)| concerns(key)) {
            queue.note_replicated(server);
        }
    }

    /// Returns whether some confirmed batches are not known to be on the replicas.
    pub(crate) fn awaits_replicas(&self) -> bool {
        self.queues.values().any(|queue| queue.log.awaits_replicas())
    }

    /// Drops confirmed batches that are safe. If the others take more than `most` bytes, drops the oldest of
    /// them too, and returns `true`. Batches that the server lacks stay until it has them again.
    pub(crate) fn trim(&mut self, safety: Safety, most: usize) -> bool {
        let now = Instant::now();
        let mut bytes = 0;
        for queue in self.queues.values_mut().filter(|queue| !queue.is_behind()) {
            queue.log.trim(safety, now);
            bytes += queue.log.bytes();
        }
        let is_full = bytes > most;
        // Dropping more than necessary keeps the search for the oldest one rare.
        let wanted = most - most / 8;
        while is_full && bytes > wanted {
            let queues = self.queues.values_mut().filter(|queue| !queue.is_behind());
            let logs = queues.map(|queue| &mut queue.log);
            let Some((_, oldest)) =
                logs.filter_map(|log| Some((log.first()?, log))).min_by_key(|(first, _)| *first)
            else {
                break;
            };
            bytes -= oldest.bytes();
            oldest.drop_first();
            bytes += oldest.bytes();
        }
        is_full
    }

    /// Notes that the key's batch was not applied, because the key's epoch on the server is now `epoch` (or
    /// there is none). Returns the fate of the values that this process had written.
    pub(crate) fn begin_epoch(&mut self, key: &str, epoch: Option<String>, server: &ServerRun) -> Fate {
        let Some(queue) = self.queues.get_mut(key) else { return Fate::New };
        let expiry = match self.shared.options.expire_key_time {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        };
        let had_epoch = self.epochs.note(key, epoch.clone()).is_some();
        queue.begin_epoch(had_epoch, epoch.as_deref(), server, expiry)
    }

    /// Queues operations that restore these metrics of a lost key, before everything else.
    pub(crate) fn restore(&mut self, key: &str, metrics: &[Arc<Metric>]) {
        if let Some(queue) = self.queues.get_mut(key) {
            queue.restore(metrics, self.epochs.get(key).as_deref());
        }
    }

    /// Forgets the state of a key that was deleted on purpose. `newest` is the family of this name that was
    /// declared last.
    pub(crate) fn forget(&mut self, key: &str, newest: Option<&Family>) {
        if let Some(queue) = self.queues.get_mut(key) {
            queue.forget(newest);
        }
    }

    /// Returns the keys that have, or will get, values of this process.
    pub(crate) fn keys_with_values(&self) -> Vec<String> {
        let used = self.queues.iter().filter(|(_, queue)| queue.confirmed.is_some() || !queue.is_empty());
        used.map(|(key, _)| key.clone()).collect()
    }

    /// Lets the next send ask the server whether it still has these keys, if this process has written to
    /// them.
    pub(crate) fn ask(&mut self, keys: &[String]) {
        for key in keys {
            if let Some(queue) = self.queues.get_mut(key) {
                queue.is_suspected = true;
            }
        }
    }

    /// Returns whether the server has confirmed values of this process.
    pub(crate) fn has_confirmed(&self) -> bool {
        self.queues.values().any(|queue| queue.confirmed.is_some())
    }

    /// Notes that the server refuses the key. Returns `true` if the reason is a new one.
    pub(crate) fn refuse(&mut self, key: &str, reason: String) -> bool {
        self.queues.get_mut(key).is_some_and(|queue| queue.refuse(reason))
    }

    /// Returns whether something waits for a key that is not refused.
    pub(crate) fn has_unsent(&self) -> bool {
        self.queues.values().any(|queue| queue.refused.is_none() && !queue.is_empty())
    }

    /// Lets the next send try refused keys at once, because a caller is waiting.
    pub(crate) fn retry_refused(&mut self, now: Instant) {
        for refused in self.queues.values_mut().filter_map(|queue| queue.refused.as_mut()) {
            refused.until = now;
        }
    }

    /// Returns the id of this outbox's batches.
    pub(crate) fn writer(&self) -> &str {
        &self.writer
    }

    /// Returns the keys in which the server has noted batches of this outbox.
    pub(crate) fn writers_keys(&self) -> Vec<String> {
        let used = self.queues.values().filter(|queue| queue.is_used);
        used.map(|queue| queue.writers_key.clone()).collect()
    }

    /// Returns when to try a refused key again, if there is one.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.queues.values().filter_map(|queue| queue.refused.as_ref()).map(|refused| refused.until).min()
    }

    /// Returns why keys are refused at present.
    pub(crate) fn refusals(&self) -> Vec<&str> {
        let refused = self.queues.values().filter_map(|queue| queue.refused.as_ref());
        refused.map(|refused| refused.reason.as_str()).collect()
    }

    /// Returns how many changes wait: operations, removals, and metrics whose cells have not been taken.
    pub(crate) fn unsent_count(&self) -> usize {
        self.unsent_without_dirty() + self.queues.values().map(Queue::dirty_count).sum::<usize>()
    }

    /// Returns how many changes wait, without those that are still in the cells of metrics.
    pub(crate) fn unsent_without_dirty(&self) -> usize {
        self.queues.values().map(|queue| queue.taken_count() + queue.removal_count()).sum()
    }

    /// Returns how many metrics the waiting operations come from.
    pub(crate) fn taken_metrics(&self) -> usize {
        self.queues.values().map(|queue| queue.taken_metrics).sum()
    }

    fn queue(&mut self, family: &Family) -> &mut Queue {
        let key = self.key(family);
        let queue = self.queues.entry(key).or_insert_with_key(|key| Queue::new(key));
        // A new family may have taken the name of an earlier one.
        queue.is_hash = layout::is_hash(&family.definition);
        queue.has_created_times = family.definition.metric_type().is_cumulative();
        queue.note_ending(family);
        queue
    }

    /// Drops the queues of families that are gone, from time to time, because a program may declare any
    /// number of short-lived families.
    fn sweep(&mut self) {
        if self.queues.len() < self.sweep_at {
            return;
        }
        let live: HashSet<String> =
            self.shared.table.live_families().iter().map(|family| self.key(family)).collect();
        let epochs = &self.epochs;
        self.queues.retain(|key, queue| {
            let keeps = !queue.is_empty() || live.contains(key);
            if !keeps {
                epochs.note(key, None);
            }
            keeps
        });
        self.sweep_at = FIRST_SWEEP.max(2 * self.queues.len());
    }

    fn key(&self, family: &Family) -> String {
        layout::family_key(self.shared.prefix(), family.definition.name())
    }
}

fn pending(metric: &Metric) -> Option<&PendingCells> {
    match &metric.cells {
        Cells::Pending(cells) => Some(cells),
        _ => None,
    }
}
