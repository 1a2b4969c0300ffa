//! What a metric has counted and its store has not been told yet.
//!
//! A store behind a network gives its metrics these cells: a change is gathered here, and a thread
//! of the store takes all that has gathered since it came last. However many operations there are,
//! a metric holds one pending change per cell. Gathering never fails and never waits.
//!
//! # Why nothing is lost or taken twice
//!
//! A writer first changes the cell (A), then reads the state (B), and queues the metric unless it is queued.
//! The taker first makes the state "clean" (C), then takes the cell (D). Trouble would be a D that
//! misses A together with a B that still reads "queued". A and D are read-modify-writes of one atomic:
//! if D comes first in its order, A reads from D (or from what followed it); D releases and A
//! acquires, so C happens before B, and B reads "clean" (or what a later writer has made of it). So `AcqRel`
//! on the cells is all it takes, and the state can be read `Relaxed`. `tests/loom_pending.rs` tries it.

use std::sync::{Arc, Weak};

use crate::cell::atomic::{AtomicBool, AtomicChangeWord, AtomicU8, AtomicU64, ChangeWord, Ordering};
use crate::metric::Metric;
use crate::model::metric_type::MetricType;

/// Where a metric announces that it has something to send.
pub(crate) trait DirtyQueue: Send + Sync + std::fmt::Debug {
    /// Queues the metric. `false` if that is not possible now: the metric will ask again.
    fn push(&self, metric: Arc<Metric>) -> bool;
}

/// One change of one cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    Add(f64),
    Set(f64),
}

/// Gathers additions.
#[derive(Debug, Default)]
struct AddedCell(AtomicU64);

impl AddedCell {
    #[inline]
    fn add(&self, amount: f64) {
        let mut current = self.0.load(Ordering::Relaxed);
        loop {
            let next = (f64::from_bits(current) + amount).to_bits();
            // AcqRel: see the top of this file. The load before it needs nothing: it is a guess.
            match self.0.compare_exchange_weak(current, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => current = seen,
            }
        }
    }

    fn take(&self) -> f64 {
        f64::from_bits(self.0.swap(0, Ordering::AcqRel))
    }
}

/// Gathers additions and settings, whose order matters: the last setting, plus what was added since.
///
/// The kind of the change and its value are one word, so that each operation is one compare-and-swap here
/// too. (Two words cannot be taken together without a lock.)
#[derive(Debug, Default)]
struct GaugeCell(AtomicChangeWord);

impl GaugeCell {
    #[inline]
    fn add(&self, amount: f64) {
        let mut current = self.0.load(Ordering::Relaxed);
        loop {
            // Adding to a set value is a set value; adding to an addition is an addition.
            let next = ChangeWord::new(current.is_set(), current.value() + amount);
            match self.0.compare_exchange_weak(current, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => current = seen,
            }
        }
    }

    #[inline]
    fn set(&self, value: f64) {
        // A read-modify-write and not a store: it must acquire (see the top of this file).
        self.0.swap(ChangeWord::new(true, value), Ordering::AcqRel);
    }

    fn take(&self) -> Change {
        let taken = self.0.swap(ChangeWord::default(), Ordering::AcqRel);
        if taken.is_set() { Change::Set(taken.value()) } else { Change::Add(taken.value()) }
    }
}

#[derive(Debug)]
enum Gathered {
    /// Counter, summary, histogram: they are only ever added to.
    Added(Box<[AddedCell]>),
    /// Gauge, untyped.
    Gauge(GaugeCell),
}

/// Nothing is pending, or the change that is being made will queue the metric.
const CLEAN: u8 = 0;
/// The metric is queued, or being queued.
const QUEUED: u8 = 1;
/// The same for a metric whose calls are counted. It is not [`QUEUED`], so that each call finds its way to the
/// slow path, where it is counted, and calls that nobody counts pay nothing for it.
const QUEUED_COUNTING: u8 = 3;
/// Something is pending, but the queue has refused the metric: the next change asks again.
const REFUSED: u8 = 2;

/// The pending changes of one metric.
#[derive(Debug)]
pub(crate) struct PendingCells {
    gathered: Gathered,
    /// [`CLEAN`], [`QUEUED`] or [`QUEUED_COUNTING`], [`REFUSED`].
    state: AtomicU8,
    /// How many calls have changed the metric since it was taken, if anybody wants to know.
    calls: Option<AtomicU64>,
    /// Whether the store has yet to hear of this metric at all.
    is_new: AtomicBool,
    /// Whether the metric was removed: what it counts goes nowhere.
    removed: AtomicBool,
    metric: Weak<Metric>,
    /// Weak: the store holds its metrics, so these must not hold the store.
    queue: Weak<dyn DirtyQueue>,
}

impl PendingCells {
    /// Cells for the metric `metric`, which will be queued on `queue`. `counts_calls`: how many there were
    /// can be asked.
    pub(crate) fn new(
        metric_type: MetricType,
        cell_count: usize,
        counts_calls: bool,
        metric: Weak<Metric>,
        queue: Weak<dyn DirtyQueue>,
    ) -> Self {
        let gathered = match metric_type {
            MetricType::Gauge | MetricType::Untyped => Gathered::Gauge(GaugeCell::default()),
            _ => Gathered::Added((0..cell_count).map(|_| AddedCell::default()).collect()),
        };
        Self {
            gathered,
            state: AtomicU8::new(CLEAN),
            calls: counts_calls.then(AtomicU64::default),
            is_new: AtomicBool::new(true),
            removed: AtomicBool::new(false),
            metric,
            queue,
        }
    }

    #[inline]
    pub(crate) fn add(&self, index: usize, amount: f64) {
        match &self.gathered {
            Gathered::Added(cells) => cells[index].add(amount),
            Gathered::Gauge(cell) => cell.add(amount),
        }
    }

    /// Only gauges are set; `Metric` sees to that.
    #[inline]
    pub(crate) fn set(&self, value: f64) {
        if let Gathered::Gauge(cell) = &self.gathered {
            cell.set(value);
        }
    }

    /// Queues the metric, unless it is queued. Call it after the change.
    #[inline]
    pub(crate) fn mark_dirty(&self) {
        // Relaxed: see the top of this file.
        if self.state.load(Ordering::Relaxed) != QUEUED {
            self.push();
        }
    }

    #[cold]
    fn push(&self) {
        let queued = match &self.calls {
            Some(calls) => {
                // Relaxed: the exchange below releases it. Either it comes first, and whoever takes the metric sees
                // the call, or it finds "clean", and the metric is queued once more.
                calls.fetch_add(1, Ordering::Relaxed);
                QUEUED_COUNTING
            }
            None => QUEUED,
        };
        // Of several writers that saw "clean", one queues the metric. The exchange releases what this
        // thread changed before, to whoever takes the metric by its state alone (a barrier's walk).
        if self.state.swap(queued, Ordering::AcqRel) == queued || self.removed.load(Ordering::Relaxed) {
            return;
        }
        let both = self.queue.upgrade().zip(self.metric.upgrade());
        let queued = both.is_some_and(|(queue, metric)| queue.push(metric));
        if !queued {
            // Nothing is lost: the change stays here, where a barrier's walk finds it, and the next change asks
            // again. Not "clean": another writer may have queued the metric since, and that entry must find
            // something to take. AcqRel: as above.
            self.state.swap(REFUSED, Ordering::AcqRel);
        }
    }

    /// Whether a change may be waiting.
    pub(crate) fn is_dirty(&self) -> bool {
        // Acquire pairs with what `push` releases.
        self.state.load(Ordering::Acquire) != CLEAN && !self.removed.load(Ordering::Relaxed)
    }

    /// Takes what has gathered, by cell; nothing if another queue entry's turn took it already.
    pub(crate) fn take(&self) -> Vec<(usize, Change)> {
        if self.state.swap(CLEAN, Ordering::AcqRel) == CLEAN || self.removed.load(Ordering::Acquire) {
            return Vec::new();
        }
        // A new metric is told to the store as "add 0", so that it is there before it is counted.
        let is_new = self.is_new.swap(false, Ordering::Relaxed);
        let worth_sending = |index: usize, amount: f64| amount != 0.0 || (is_new && index == 0);
        match &self.gathered {
            Gathered::Added(cells) => cells
                .iter()
                .map(AddedCell::take)
                .enumerate()
                .filter(|&(index, amount)| worth_sending(index, amount))
                .map(|(index, amount)| (index, Change::Add(amount)))
                .collect(),
            Gathered::Gauge(cell) => match cell.take() {
                Change::Add(amount) if !worth_sending(0, amount) => Vec::new(),
                change => vec![(0, change)],
            },
        }
    }

    /// Takes how many calls there were, if they are counted. After `take`. Each is taken once, but not always
    /// together with its change.
    pub(crate) fn take_calls(&self) -> Option<u64> {
        // Relaxed: `take` has acquired what there is; see `push`.
        Some(self.calls.as_ref()?.swap(0, Ordering::Relaxed))
    }

    /// The metric was removed from the store: nothing of it is to be sent any more.
    pub(crate) fn remove(&self) {
        self.removed.store(true, Ordering::Release);
    }

    /// In a forked child: what gathered before the fork belongs to the parent, which sends it.
    /// Only this thread exists, so no ordering matters.
    pub(crate) fn discard(&self) {
        match &self.gathered {
            Gathered::Added(cells) => cells.iter().for_each(|cell| cell.0.store(0, Ordering::Relaxed)),
            Gathered::Gauge(cell) => cell.0.store(ChangeWord::default(), Ordering::Relaxed),
        }
        if let Some(calls) = &self.calls {
            calls.store(0, Ordering::Relaxed);
        }
        self.is_new.store(false, Ordering::Relaxed);
        self.state.store(CLEAN, Ordering::Relaxed);
    }
}
