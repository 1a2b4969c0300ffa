//! The outbox: what the BackendAction thread has taken from metrics and the server has not confirmed.
//!
//! For each key there is at most one unanswered batch, which stays as it is until it is answered, and
//! the operations behind it. While operations wait, the key's metrics keep what they count in their own
//! cells, so that the outbox is bounded by the number of metrics and not by what they count.
//!
//! When the server has lost a key (its [epoch](super::epoch) is another one), the operations of the unanswered
//! batch go back in line, behind those that restore what this process knows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::{Batch, MAX_OPERATIONS, Operation, Target};
use super::epoch::{self, KnownEpochs};
use super::gauges::ConfirmedGauges;
use super::layout;
use super::options::RedisOptions;
use crate::cell::Cells;
use crate::cell::pending::Change;
use crate::metric::Metric;
use crate::metric::family::Family;
use crate::model::definition::VALUE_CELL;
use crate::model::metric_type::MetricType;
use crate::model::statistics::Tally;
use crate::process::clock::since_1970;

/// How long a key that was refused waits before it is tried again.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// All that waits to be sent, by key.
#[derive(Debug)]
pub(crate) struct Outbox {
    writer: String,
    tally: Arc<Tally>,
    epochs: Arc<KnownEpochs>,
    queues: BTreeMap<String, Queue>,
}

/// What waits for one key.
#[derive(Debug)]
struct Queue {
    writers_key: String,
    is_hash: bool,
    last_number: u64,
    in_flight: Option<Batch>,
    /// What the server has lost, to be sent before anything else.
    restoring: VecDeque<Operation>,
    /// Taken from metrics, in order, and behind the batch.
    operations: VecDeque<Operation>,
    /// How many metrics the batch and the operations are from.
    taken_metrics: usize,
    /// Whether the whole key is to be deleted, after `operations`.
    is_cleared: bool,
    /// The metrics that were removed, by labels JSON: their fields are to be deleted after that.
    removed: BTreeMap<String, Arc<Family>>,
    /// The metrics whose cells are to be taken after that, by address: each is here once.
    dirty: BTreeMap<usize, Arc<Metric>>,
    refused: Option<Refused>,
    gauges: ConfirmedGauges,
    /// The number of the connection on which the server last confirmed the epoch. 0: it is to be asked.
    confirmed_on: u64,
}

#[derive(Debug)]
struct Refused {
    reason: String,
    until: Instant,
}

impl Outbox {
    /// An empty outbox whose batches carry the id `writer`.
    pub(crate) fn new(writer: String, tally: Arc<Tally>, epochs: Arc<KnownEpochs>) -> Self {
        Self { writer, tally, epochs, queues: BTreeMap::new() }
    }

    /// Notes that a metric has changed. Its changes stay in its cells for now.
    pub(crate) fn note_dirty(&mut self, options: &RedisOptions, metric: Arc<Metric>) {
        self.queue(options, &metric.family).dirty.insert(address(&metric), metric);
    }

    /// The metric's fields are to be deleted, after what was sent of them and before what comes.
    pub(crate) fn note_removed(&mut self, options: &RedisOptions, metric: &Arc<Metric>) {
        let queue = self.queue(options, &metric.family);
        queue.dirty.remove(&address(metric));
        queue.removed.insert(metric.key.clone(), Arc::clone(&metric.family));
    }

    /// The family's key is to be deleted, after what was sent and before what comes.
    pub(crate) fn note_cleared(&mut self, options: &RedisOptions, family: &Family) {
        let queue = self.queue(options, family);
        queue.operations.clear();
        queue.removed.clear();
        queue.is_cleared = true;
    }

    /// Makes batches of what waits, and gives the keys of all batches that are to be sent now. A key that the
    /// server has not confirmed on this connection is asked about: it may be another server by now.
    pub(crate) fn prepare(&mut self, options: &RedisOptions, now: Instant, connection: u64) -> Vec<String> {
        let mut ready = Vec::new();
        for (key, queue) in &mut self.queues {
            if queue.refused.as_ref().is_some_and(|refused| now < refused.until) {
                continue;
            }
            if queue.in_flight.is_none() {
                let epoch = self.epochs.get(key);
                let asks = epoch.is_some() && queue.confirmed_on != connection;
                let epoch = epoch.as_deref().unwrap_or_default();
                queue.fill(key, &self.writer, epoch, asks, options, &self.tally);
            }
            if queue.in_flight.is_some() {
                ready.push(key.clone());
            }
        }
        ready
    }

    /// The unanswered batch of a key.
    pub(crate) fn batch(&self, key: &str) -> Option<&Batch> {
        self.queues.get(key)?.in_flight.as_ref()
    }

    /// The batches of these keys were sent so many times, the last time with an answer or without. Gives how many
    /// of those were repetitions because an answer was lost.
    pub(crate) fn note_transmissions(&mut self, keys: &[String], times: u64, is_answered: bool) -> u64 {
        let mut repetitions = 0;
        for key in keys {
            let Some(batch) = self.queues.get_mut(key).and_then(|queue| queue.in_flight.as_mut()) else {
                continue;
            };
            repetitions += if batch.is_unanswered { times } else { times.saturating_sub(1) };
            batch.is_unanswered = !is_answered && (batch.is_unanswered || times > 0);
        }
        repetitions
    }

    /// The key's batch is confirmed, on this connection. `true` if the key had been refused before.
    pub(crate) fn confirm(&mut self, key: &str, connection: u64) -> bool {
        let Some(queue) = self.queues.get_mut(key) else { return false };
        queue.confirmed_on = connection;
        if queue.operations.is_empty() {
            queue.taken_metrics = 0;
        }
        if let Some(batch) = queue.in_flight.take() {
            batch.changes().iter().for_each(|change| queue.gauges.note(change, batch.made_at()));
        }
        queue.refused.take().is_some()
    }

    /// The key's batch was not applied: the server is in this epoch. `true` if the server has lost what was
    /// confirmed in another one: [`restore`](Self::restore) it then.
    pub(crate) fn begin_epoch(&mut self, key: &str, epoch: String, connection: u64) -> bool {
        let Some(queue) = self.queues.get_mut(key) else { return false };
        queue.confirmed_on = connection;
        queue.restoring.clear();
        for change in queue.in_flight.take().map(Batch::into_changes).into_iter().flatten().rev() {
            queue.operations.push_front(change);
        }
        self.epochs.note(key, epoch).is_some()
    }

    /// Has the server told again, before all else, of these metrics of a key that it has lost.
    pub(crate) fn restore(&mut self, key: &str, metrics: &[Arc<Metric>]) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        let keeps_values = self.epochs.get(key).is_some_and(|epoch| epoch::keeps_values(&epoch));
        queue.restoring = metrics
            .iter()
            .map(|metric| (layout::field(&metric.family.definition, &metric.key, VALUE_CELL), metric))
            .map(|(field, metric)| match is_gauge(&metric.family) {
                true => queue.gauges.restore(metric, field, keeps_values),
                // As when it was new.
                false => Operation::Add { field, amount: 0.0, gauge: None },
            })
            .collect();
    }

    /// The server is to be asked whether it still has these keys, if this process has written to them.
    pub(crate) fn ask(&mut self, keys: &[String]) {
        for key in keys {
            if let Some(queue) = self.queues.get_mut(key) {
                queue.confirmed_on = 0;
            }
        }
    }

    /// Whether the server keeps something of this process.
    pub(crate) fn has_confirmed(&self) -> bool {
        self.queues.values().any(|queue| queue.confirmed_on != 0)
    }

    /// The key's batch was refused, for a reason that concerns this key alone. It stays, and is sent
    /// again after a pause. `true` if this is news.
    pub(crate) fn refuse(&mut self, key: &str, reason: String, now: Instant) -> bool {
        let Some(queue) = self.queues.get_mut(key) else { return false };
        let is_news = queue.refused.as_ref().is_none_or(|before| before.reason != reason);
        queue.refused = Some(Refused { reason, until: now + REFUSED_PAUSE });
        is_news
    }

    /// Whether something waits for a key that is not refused.
    pub(crate) fn has_unsent(&self) -> bool {
        self.queues.values().any(|queue| queue.refused.is_none() && !queue.is_empty())
    }

    /// Tries refused keys at once: somebody is waiting.
    pub(crate) fn retry_refused(&mut self, now: Instant) {
        for refused in self.queues.values_mut().filter_map(|queue| queue.refused.as_mut()) {
            refused.until = now;
        }
    }

    /// The id of this outbox' batches.
    pub(crate) fn writer(&self) -> &str {
        &self.writer
    }

    /// The keys in which the server notes which of these batches it has applied.
    pub(crate) fn writers_keys(&self) -> Vec<String> {
        let used = self.queues.values().filter(|queue| queue.last_number > 0);
        used.map(|queue| queue.writers_key.clone()).collect()
    }

    /// When to try a refused key again, if there is one.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.queues.values().filter_map(|queue| queue.refused.as_ref()).map(|refused| refused.until).min()
    }

    /// Why keys are refused at present.
    pub(crate) fn refusals(&self) -> Vec<&str> {
        let refused = self.queues.values().filter_map(|queue| queue.refused.as_ref());
        refused.map(|refused| refused.reason.as_str()).collect()
    }

    /// How many changes wait: operations, and metrics whose cells have not been taken.
    pub(crate) fn unsent_count(&self) -> usize {
        let waiting = |queue: &Queue| usize::from(queue.is_cleared) + queue.removed.len() + queue.dirty.len();
        self.taken_count() + self.queues.values().map(waiting).sum::<usize>()
    }

    /// How many operations wait that have been taken from metrics.
    pub(crate) fn taken_count(&self) -> usize {
        let in_flight = |queue: &Queue| queue.in_flight.as_ref().map_or(0, |batch| batch.changes().len());
        self.queues.values().map(|queue| in_flight(queue) + queue.operations.len()).sum()
    }

    /// How many metrics they have been taken from.
    pub(crate) fn taken_metrics(&self) -> usize {
        self.queues.values().map(|queue| queue.taken_metrics).sum()
    }

    fn queue(&mut self, options: &RedisOptions, family: &Family) -> &mut Queue {
        let key = layout::family_key(options.key_prefix.as_deref(), family.definition.name());
        let queue = self.queues.entry(key).or_insert_with_key(|key| Queue {
            writers_key: layout::writers_key(key),
            is_hash: false,
            last_number: 0,
            in_flight: None,
            restoring: VecDeque::new(),
            operations: VecDeque::new(),
            taken_metrics: 0,
            is_cleared: false,
            removed: BTreeMap::new(),
            dirty: BTreeMap::new(),
            refused: None,
            gauges: ConfirmedGauges::default(),
            confirmed_on: 0,
        });
        // A family may have taken the name of another one that is gone.
        queue.is_hash = layout::is_hash(&family.definition);
        queue
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.in_flight.is_none()
            && self.restoring.is_empty()
            && self.operations.is_empty()
            && !self.is_cleared
            && self.removed.is_empty()
            && self.dirty.is_empty()
    }

    /// Makes the next batch, if there is anything to send or (`asks`) to be asked.
    fn fill(
        &mut self,
        key: &str,
        writer: &str,
        epoch: &str,
        asks: bool,
        options: &RedisOptions,
        tally: &Tally,
    ) {
        if self.operations.len() < MAX_OPERATIONS {
            if std::mem::take(&mut self.is_cleared) {
                self.operations.push_back(Operation::Clear);
            }
            for (labels, family) in std::mem::take(&mut self.removed) {
                let definition = &family.definition;
                let fields =
                    (0..definition.cell_count()).map(|cell| layout::field(definition, &labels, cell));
                self.operations.extend(fields.map(|field| Operation::Delete { field }));
            }
            for metric in std::mem::take(&mut self.dirty).into_values() {
                let has_changes = take_changes(&metric, &mut self.operations, tally);
                self.taken_metrics += usize::from(has_changes);
            }
        }
        let restoring = self.restoring.len().min(MAX_OPERATIONS);
        let mut operations: Vec<Operation> = self.restoring.drain(..restoring).collect();
        operations.extend(self.operations.drain(..self.operations.len().min(MAX_OPERATIONS - restoring)));
        if operations.is_empty() && !asks {
            return;
        }
        let target = Target {
            key,
            writers_key: &self.writers_key,
            is_hash: self.is_hash,
            writer,
            expire_key_time: options.expire_key_time,
            epoch,
        };
        self.last_number += 1;
        self.in_flight = Some(Batch::new(&target, self.last_number, unix_micros(), operations, restoring));
    }
}

fn is_gauge(family: &Family) -> bool {
    matches!(family.definition.metric_type(), MetricType::Gauge | MetricType::Untyped)
}

fn address(metric: &Arc<Metric>) -> usize {
    Arc::as_ptr(metric).addr()
}

/// Takes what a metric has gathered. `false` if that is nothing.
fn take_changes(metric: &Arc<Metric>, operations: &mut VecDeque<Operation>, tally: &Tally) -> bool {
    let Cells::Pending(cells) = &metric.cells else { return false };
    let changes = cells.take();
    let has_changes = !changes.is_empty();
    tally.taken_from(metric.family.definition.name());
    for (cell, change) in changes {
        let field = layout::field(&metric.family.definition, &metric.key, cell);
        operations.push_back(match change {
            Change::Add(amount) => {
                let gauge = is_gauge(&metric.family).then(|| Arc::downgrade(metric));
                Operation::Add { field, amount, gauge }
            }
            Change::Set(value) => Operation::Set { field, value, gauge: Arc::downgrade(metric) },
        });
    }
    has_changes
}

fn unix_micros() -> u64 {
    u64::try_from(since_1970().as_micros()).unwrap_or_default()
}
