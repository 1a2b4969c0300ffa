//! The changes of one family key that wait to be sent.
//!
//! At most one batch is unanswered. It does not change until it is answered, and further operations wait
//! behind it. While they wait, the key's metrics gather changes in their own cells. So the size of a queue is
//! bounded by the number of metrics and not by the number of changes.
//!
//! Confirmed batches go to the [replay log](super::replay_log). If the server turns out to lack some of them,
//! they are sent again, merged, before the batch in flight.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::{Batch, MAX_OPERATIONS, Operation, Target, WRITER_RETENTION};
use super::ending::{Answer, Ending};
use super::epoch;
use super::exemplar_field;
use super::gauges::{ConfirmedGauges, restoring_add};
use super::layout;
use super::link::ServerRun;
use super::native_field;
use super::replay_log::{Repetition, ReplayLog};
use crate::cell::Cells;
use crate::cell::gathered::Change;
use crate::metric::Metric;
use crate::metric::family::Family;
use crate::model::definition::Definition;
use crate::model::definition::VALUE_CELL;
use crate::model::native::{BucketWord, NativeHistogram};
use crate::model::series_ttl::grain;
use crate::model::statistics::Tally;
use crate::process::clock::{since_1970, uptime};

/// How long a key that was refused waits before it is tried again.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// The most bytes of field names in one batch. It keeps requests small however long the labels are.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// How long after the last batch of a key its entry on the server is certainly still there. Other writers
/// sweep entries out later than this.
const BEFORE_SWEEP: Duration = Duration::from_secs(WRITER_RETENTION / 2);

/// The state of one key: its waiting changes, and what the server has confirmed.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) writers_key: String,
    pub(crate) is_hash: bool,
    /// Whether the server notes when a series began.
    pub(crate) has_created_times: bool,
    /// When the series of the family end, if they do.
    pub(crate) ending: Option<Arc<Ending>>,
    /// The id of the family that says so.
    ending_of: Option<u64>,
    in_flight: Option<Batch>,
    /// The number of the last batch that the server has, as far as known. 0: none in this epoch.
    base: u64,
    pub(crate) log: ReplayLog,
    /// Batches of the log that are sent again. They are sent before the batch in flight.
    replay: Option<Batch>,
    /// Operations that restore lost values. They are sent before anything else.
    restoring: VecDeque<Operation>,
    /// The operations taken from metrics, in order. They are sent after the batch in flight.
    operations: VecDeque<Operation>,
    /// How many metrics the batch and the operations come from.
    pub(crate) taken_metrics: usize,
    /// Whether the whole key must be deleted, after `operations`.
    is_cleared: bool,
    /// The families of removed metrics, by the labels. The fields are deleted after the clearing.
    removed: BTreeMap<String, Arc<Family>>,
    /// The metrics with changes in their cells, by address. The cells are taken after the removals.
    dirty: BTreeMap<usize, Arc<Metric>>,
    pub(crate) refused: Option<Refusal>,
    gauges: ConfirmedGauges,
    pub(crate) confirmed: Option<Confirmed>,
    /// Whether the server may have lost the key, and must be asked even if there is nothing to send.
    pub(crate) is_suspected: bool,
    /// Whether the server has ever applied a batch of this key.
    pub(crate) is_used: bool,
}

/// Why the server refuses a key, and when to try again.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) until: Instant,
}

/// Where and when the server last confirmed the epoch of a key.
#[derive(Debug)]
pub(crate) struct Confirmed {
    server: ServerRun,
    /// When the last batch renewed the expiry of the key.
    renewed: Instant,
}

/// The fate of the values that this process had written, as an answer shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The process had not written any.
    New,
    /// The values were deleted on purpose: the server is the same, and they could not have expired.
    Emptied,
    /// The server has lost them, by a restart or because they expired.
    Lost,
    /// The server has lost them, and the replay log holds all of them, so they are sent again.
    Replayed,
}

/// What the server has confirmed with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// That it has everything.
    Question,
    /// A batch with so many changes.
    Changes(usize),
    /// So many batches of the replay log.
    Replay(usize),
}

impl Queue {
    pub(crate) fn new(key: &str) -> Self {
        Self {
            writers_key: layout::writers_key(key),
            is_hash: false,
            has_created_times: false,
            ending: None,
            ending_of: None,
            in_flight: None,
            base: 0,
            log: ReplayLog::default(),
            replay: None,
            restoring: VecDeque::new(),
            operations: VecDeque::new(),
            taken_metrics: 0,
            is_cleared: false,
            removed: BTreeMap::new(),
            dirty: BTreeMap::new(),
            refused: None,
            gauges: ConfirmedGauges::default(),
            confirmed: None,
            is_suspected: false,
            is_used: false,
        }
    }

    /// Notes when the series end of the family whose metrics change now.
    pub(crate) fn note_ending(&mut self, family: &Family) {
        if self.ending_of.replace(family.id) != Some(family.id) {
            self.ending = Ending::of(&family.definition).map(Arc::new);
        }
    }

    /// Notes that a metric has changed. Its changes stay in its cells for now.
    pub(crate) fn note_dirty(&mut self, metric: Arc<Metric>) {
        self.dirty.insert(Arc::as_ptr(&metric).addr(), metric);
    }

    /// Notes that a metric's fields must be deleted, after earlier changes and before later ones.
    pub(crate) fn note_removed(&mut self, metric: &Arc<Metric>) {
        self.dirty.remove(&Arc::as_ptr(metric).addr());
        self.removed.insert(metric.key.to_string(), Arc::clone(&metric.family));
    }

    /// Forgets that a metric has changed, because it was removed before the server was told about it.
    pub(crate) fn forget_dirty(&mut self, metric: &Arc<Metric>) {
        self.dirty.remove(&Arc::as_ptr(metric).addr());
    }

    /// Notes that the key must be deleted, after earlier changes and before later ones.
    pub(crate) fn note_cleared(&mut self) {
        self.operations.clear();
        self.removed.clear();
        self.dirty.retain(|_, metric| !is_removed(metric));
        self.is_cleared = true;
    }

    /// Returns whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.in_flight.is_none()
            && !self.is_behind()
            && self.restoring.is_empty()
            && self.operations.is_empty()
            && !self.is_cleared
            && self.removed.is_empty()
            && self.dirty.is_empty()
    }

    /// Returns whether the server lacks batches of the replay log.
    pub(crate) fn is_behind(&self) -> bool {
        self.base < self.log.last()
    }

    /// Returns the batch that must be sent next.
    pub(crate) fn outgoing(&self) -> Option<&Batch> {
        self.replay.as_ref().or(self.in_flight.as_ref())
    }

    /// Returns the batch that must be sent next.
    pub(crate) fn outgoing_mut(&mut self) -> Option<&mut Batch> {
        self.replay.as_mut().or(self.in_flight.as_mut())
    }

    /// Returns whether [`fill`](Self::fill) must be called, because there is no batch that can be sent as it
    /// is.
    pub(crate) fn must_fill(&self) -> bool {
        match (&self.replay, &self.in_flight) {
            (Some(_), _) => false,
            (None, Some(batch)) => batch.base() != self.base,
            (None, None) => true,
        }
    }

    /// Returns the number of the last batch that the server has, as far as known.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Returns how many operations were taken from metrics and are not on the server.
    pub(crate) fn taken_count(&self) -> usize {
        let in_flight = self.in_flight.as_ref().map_or(0, |batch| batch.changes().len());
        in_flight + self.operations.len() + self.log.operations_after(self.base)
    }

    /// Returns how many waiting removals have not become operations.
    pub(crate) fn removal_count(&self) -> usize {
        usize::from(self.is_cleared) + self.removed.len()
    }

    /// Returns how many metrics have cells with changes that were not taken.
    pub(crate) fn dirty_count(&self) -> usize {
        self.dirty.len()
    }

    /// Returns whether the server must be asked for the epoch, because it may be another server by now.
    pub(crate) fn must_ask(&self, server: &ServerRun) -> bool {
        self.is_suspected || !self.is_confirmed_on(server)
    }

    /// Makes the next batch, if there is anything to send or (`asks`) to ask.
    ///
    /// A server that lacks batches gets those of the replay log first. If the log has none of them, the batch
    /// in flight is put on top of what the server has.
    pub(crate) fn fill(&mut self, target: &Target<'_>, asks: bool, number: &mut u64, tally: &Tally) {
        if let Some(repetition) = self.log.repeat_after(self.base, target.ending.map(Ending::seconds)) {
            let Repetition { number, operations, batches } = repetition;
            let mut batch = Batch::new(target, number, unix_micros(), operations, 0);
            batch.repeats = batches;
            self.replay = Some(batch);
            return;
        }
        if let Some(batch) = self.in_flight.take() {
            self.in_flight = Some(batch.rebased(target));
            return;
        }
        self.take_from_metrics(tally);
        let (mut size, mut weight) = (0, 0);
        let mut next = |queue: &mut VecDeque<Operation>, count: usize| {
            let operation = queue.front()?;
            size += operation.size();
            weight += operation.weight();
            let is_full = weight > MAX_OPERATIONS || size > MAX_BATCH_BYTES;
            if is_full && count > 0 { None } else { queue.pop_front() }
        };
        let mut operations = Vec::new();
        while let Some(operation) = next(&mut self.restoring, operations.len()) {
            operations.push(operation);
        }
        let restoring = operations.len();
        if self.restoring.is_empty() {
            while let Some(operation) = next(&mut self.operations, operations.len()) {
                operations.push(operation);
            }
        }
        if operations.is_empty() && !asks {
            return;
        }
        *number += 1;
        self.in_flight = Some(Batch::new(target, *number, unix_micros(), operations, restoring));
    }

    /// Turns waiting changes into operations, as long as there is room for more.
    fn take_from_metrics(&mut self, tally: &Tally) {
        if self.operations.len() < MAX_OPERATIONS && std::mem::take(&mut self.is_cleared) {
            self.operations.push_back(Operation::Clear);
        }
        while self.operations.len() < MAX_OPERATIONS
            && let Some((labels, family)) = self.removed.pop_first()
        {
            let definition = &family.definition;
            let fields =
                (0..layout::field_count(definition)).map(|cell| layout::field(definition, &labels, cell));
            self.operations.extend(fields.map(|field| Operation::Delete { field }));
        }
        while self.operations.len() < MAX_OPERATIONS
            && self.removed.is_empty()
            && let Some((_, metric)) = self.dirty.pop_first()
        {
            let has_changes = take_changes(&metric, &mut self.operations, tally);
            self.taken_metrics += usize::from(has_changes);
        }
    }

    /// Notes that the server has applied the outgoing batch, or that it still has everything. `keeps` says
    /// whether the batch goes to the replay log, and `answer` what the server says of series that end. Returns what
    /// was confirmed, and whether the key had been refused before.
    pub(crate) fn confirm(
        &mut self,
        server: &ServerRun,
        keeps: bool,
        answer: Option<Answer>,
    ) -> (Answered, bool) {
        self.is_suspected = false;
        let batch = self.replay.take().or_else(|| self.in_flight.take());
        let is_question = batch.as_ref().is_none_or(Batch::is_question);
        let renewed = match &self.confirmed {
            Some(confirmed) if is_question => confirmed.renewed,
            _ => Instant::now(),
        };
        self.confirmed = Some(Confirmed { server: server.clone(), renewed });
        self.is_used |= !is_question;
        if self.operations.is_empty() && self.in_flight.is_none() {
            self.taken_metrics = 0;
        }
        let answered = match batch {
            Some(batch) if !is_question => self.note_applied(batch, keeps, answer),
            _ => Answered::Question,
        };
        (answered, self.refused.take().is_some())
    }

    fn note_applied(&mut self, batch: Batch, keeps: bool, answer: Option<Answer>) -> Answered {
        self.base = batch.number();
        if batch.repeats > 0 {
            return Answered::Replay(batch.repeats);
        }
        let (number, made_at, changes) = (batch.number(), batch.made_at(), batch.changes());
        let count = changes.len();
        let Answer { second, mut begun } = answer.unwrap_or_default();
        // A gauge that this batch has restored begins there with the value that this process knows.
        let restoring = batch.operations().len() - count;
        for restored in batch.operations()[..restoring].iter().filter_map(Operation::field) {
            begun.remove(restored);
        }
        let note = |change: &Operation| {
            if let Operation::Add { field, metric, .. } = change
                && begun.remove(field)
            {
                self.gauges.forget(metric);
            }
            self.gauges.note(change, made_at)
        };
        let before = changes.iter().filter_map(note).collect();
        if keeps {
            self.log.push(number, batch.operations(), before);
            second.into_iter().for_each(|second| self.log.note_second(second));
        } else {
            self.log.skip(number);
        }
        Answered::Changes(count)
    }

    /// Notes that the last batch of this writer on the server is `number` and not the base (`None`: there is
    /// none), so the outgoing batch was not applied. Returns whether confirmed batches are lost, because the
    /// replay log does not hold them either.
    pub(crate) fn rewind(&mut self, number: Option<u64>) -> bool {
        self.is_suspected = false;
        self.replay = None;
        if self.in_flight.as_ref().is_some_and(Batch::is_question) {
            self.in_flight = None;
        }
        let idle = self.confirmed.as_ref().map(|confirmed| confirmed.renewed.elapsed());
        if number.is_none() && idle.is_some_and(|idle| idle >= BEFORE_SWEEP) {
            // The entry of this writer was swept out, and the values are still there.
            self.log.clear();
            self.base = 0;
            return false;
        }
        self.base = number.unwrap_or_default();
        self.log.note_server(self.base)
    }

    /// Puts the operations of the batch in flight back into the queue, because the server has another epoch
    /// (`epoch`) or none. `had_epoch` says whether this process knew an epoch before. Returns the fate of this
    /// process's values.
    pub(crate) fn begin_epoch(
        &mut self,
        had_epoch: bool,
        epoch: Option<&str>,
        server: &ServerRun,
        expiry: Option<Duration>,
    ) -> Fate {
        self.is_suspected = false;
        self.base = 0;
        self.replay = None;
        let (restoring, changes) = self.in_flight.take().map(Batch::into_parts).unwrap_or_default();
        changes.into_iter().rev().for_each(|change| self.operations.push_front(change));
        let keeps_values = epoch.is_some_and(epoch::keeps_values);
        if keeps_values {
            // The values are there, so they must not be sent again.
            self.log.clear();
        }
        let before = self.confirmed.take();
        if epoch.is_some() {
            self.confirmed = Some(Confirmed { server: server.clone(), renewed: Instant::now() });
        }
        if !had_epoch {
            restoring.into_iter().rev().for_each(|operation| self.restoring.push_front(operation));
            return Fate::New;
        }
        let is_restored = restoring.is_empty() && self.restoring.is_empty();
        self.restoring.clear();
        let before = before.filter(|before| expiry.is_none_or(|expiry| before.renewed.elapsed() < expiry));
        match before {
            Some(before)
                if !before.server.is_same_run(server) && is_restored && self.log.is_whole_epoch() =>
            {
                self.log.note_server(0);
                return Fate::Replayed;
            }
            _ => self.log.clear(),
        }
        let is_emptied = before.is_some_and(|before| before.server.is_same_run(server));
        if is_emptied { Fate::Emptied } else { Fate::Lost }
    }

    /// Forgets the state of values that were deleted on purpose: the confirmed gauges, and changes of metrics
    /// that the program has dropped or has replaced by metrics of `newest`, the last family of this name.
    /// Removals stay, because another process may have written the fields since.
    pub(crate) fn forget(&mut self, newest: Option<&Family>) {
        self.gauges.clear();
        let is_current = |metric: &Metric| newest.is_none_or(|newest| metric.family.id >= newest.id);
        self.operations.retain(|operation| {
            let Some(metric) = operation.metric() else { return true };
            // `upgrade` made one reference. Any other belongs to the program or to the table.
            metric.upgrade().is_some_and(|metric| is_current(&metric) && Arc::strong_count(&metric) > 1)
        });
        self.dirty.retain(|_, metric| {
            let keeps = is_current(metric) && Arc::strong_count(metric) > 1;
            if !keeps && let Cells::Pending(cells) = &metric.cells {
                cells.take();
            }
            keeps
        });
        if self.operations.is_empty() {
            self.taken_metrics = 0;
        }
    }

    /// Notes that the replicas have all confirmed batches, if they were confirmed on this connection.
    pub(crate) fn note_replicated(&mut self, server: &ServerRun) {
        if self.is_confirmed_on(server) {
            self.log.note_replicated();
        }
    }

    /// Returns whether the server has confirmed the key on this connection.
    fn is_confirmed_on(&self, server: &ServerRun) -> bool {
        self.confirmed.as_ref().is_some_and(|confirmed| confirmed.server.is_same_connection(server))
    }

    /// Queues operations that restore these metrics of a lost key, before everything else.
    pub(crate) fn restore(&mut self, metrics: &[Arc<Metric>], epoch: Option<&str>) {
        let keeps_values = epoch.is_some_and(epoch::keeps_values);
        self.restoring = metrics
            .iter()
            .map(|metric| (layout::field(&metric.family.definition, &metric.key, VALUE_CELL), metric))
            .map(|(field, metric)| match is_gauge(&metric.family.definition) {
                true => self.gauges.restore(metric, field, keeps_values),
                // Adding 0 shows the metric again, as when it was new.
                false => restoring_add(field, 0.0),
            })
            .collect();
    }

    /// Notes that the server refuses the key. The batch stays, and is sent again after a pause. Returns
    /// `true` if the reason is a new one.
    pub(crate) fn refuse(&mut self, reason: String) -> bool {
        let is_news = self.refused.as_ref().is_none_or(|before| before.reason != reason);
        self.refused = Some(Refusal { reason, until: Instant::now() + REFUSED_PAUSE });
        is_news
    }
}

fn is_gauge(definition: &Definition) -> bool {
    definition.metric_type().is_set()
}

fn is_removed(metric: &Metric) -> bool {
    matches!(&metric.cells, Cells::Pending(cells) if cells.is_removed())
}

/// Takes the changes that a metric has gathered, as operations. Returns `false` if there are none.
fn take_changes(metric: &Arc<Metric>, operations: &mut VecDeque<Operation>, tally: &Tally) -> bool {
    let Cells::Pending(cells) = &metric.cells else { return false };
    let definition = &metric.family.definition;
    if let Some(ttl) = definition.series_ttl() {
        cells.note_use(grain(ttl), uptime());
    }
    let changes = cells.take();
    let has_changes = !changes.is_empty();
    tally.taken_from(definition.name());
    let native_cell = native_field::cell(definition);
    let (mut zeros, mut words) = (0, Vec::new());
    for (cell, change) in changes {
        let field = layout::field(definition, &metric.key, cell);
        let metric = Arc::downgrade(metric);
        operations.push_back(match change {
            Change::Word(word) => {
                words.push(BucketWord(word));
                continue;
            }
            Change::Add(count) if Some(cell) == native_cell => {
                zeros = count as u64;
                continue;
            }
            Change::Add(amount) => Operation::Add { field, amount, metric, is_gauge: is_gauge(definition) },
            Change::Set(value) => Operation::Set { field, value, metric },
        });
    }
    if let (Some(native), Some(cell)) = (definition.native(), native_cell)
        && (zeros > 0 || !words.is_empty())
    {
        let field = layout::field(definition, &metric.key, cell);
        let added = Box::new((native, NativeHistogram::merged(native, zeros, words.into_iter())));
        operations.push_back(Operation::AddNative { field, added, metric: Arc::downgrade(metric) });
    }
    if definition.has_exemplars() && !cells.is_removed() {
        operations.extend(metric.take_exemplars().into_iter().map(|(slot, exemplar)| Operation::Exemplar {
            field: exemplar_field::name(slot, &metric.key),
            exemplar: Box::new(exemplar),
            metric: Arc::downgrade(metric),
        }));
    }
    has_changes
}

fn unix_micros() -> u64 {
    u64::try_from(since_1970().as_micros()).unwrap_or_default()
}
