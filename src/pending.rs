//! What a metric has counted and its store has not been told yet.
//!
//! A store behind a network gives its metrics these cells: a change is gathered here, and a thread
//! of the store takes all that has gathered since it came last. However many operations there are,
//! a metric holds one pending change per cell. Gathering never fails and never waits.
//!
//! # Why nothing is lost or taken twice
//!
//! A writer first changes the cell (A), then reads the dirty flag (B), and queues the metric if it was
//! clear. The taker first clears the flag (C), then takes the cell (D). Trouble would be a D that
//! misses A together with a B that still reads "dirty". A and D are read-modify-writes of one atomic:
//! if D comes first in its order, A reads from D (or from what followed it); D releases and A
//! acquires, so C happens before B, and B reads "clear". So `AcqRel` on the cells is all it takes,
//! and the flag can be read `Relaxed`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use portable_atomic::AtomicU128;

use crate::family::MetricType;
use crate::metric::Metric;

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
/// The kind of the change and its value are one 128-bit word, so that each operation is one
/// compare-and-swap here too. (Two words cannot be taken together without a lock.)
#[derive(Debug, Default)]
struct GaugeCell(AtomicU128);

impl GaugeCell {
    const SET: u128 = 1 << 64;

    #[inline]
    fn add(&self, amount: f64) {
        let mut current = self.0.load(Ordering::Relaxed);
        loop {
            // Adding to a set value is a set value; adding to an addition is an addition.
            let sum = f64::from_bits(current as u64) + amount;
            let next = (current & Self::SET) | u128::from(sum.to_bits());
            match self.0.compare_exchange_weak(current, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => current = seen,
            }
        }
    }

    #[inline]
    fn set(&self, value: f64) {
        // A read-modify-write and not a store: it must acquire (see the top of this file).
        self.0.swap(Self::SET | u128::from(value.to_bits()), Ordering::AcqRel);
    }

    fn take(&self) -> Change {
        let taken = self.0.swap(0, Ordering::AcqRel);
        let value = f64::from_bits(taken as u64);
        if taken & Self::SET == 0 { Change::Add(value) } else { Change::Set(value) }
    }
}

#[derive(Debug)]
enum Gathered {
    /// Counter, summary, histogram: they are only ever added to.
    Added(Box<[AddedCell]>),
    /// Gauge, untyped.
    Gauge(GaugeCell),
}

/// The pending changes of one metric.
#[derive(Debug)]
pub(crate) struct PendingCells {
    gathered: Gathered,
    /// Whether the metric is queued, or being queued.
    dirty: AtomicBool,
    /// Whether the store has yet to hear of this metric at all.
    is_new: AtomicBool,
    /// Whether the metric was removed: what it counts goes nowhere.
    removed: AtomicBool,
    metric: Weak<Metric>,
    /// Weak: the store holds its metrics, so these must not hold the store.
    queue: Weak<dyn DirtyQueue>,
}

impl PendingCells {
    /// Cells for the metric `metric`, which will be queued on `queue`.
    pub(crate) fn new(
        metric_type: MetricType,
        cell_count: usize,
        metric: Weak<Metric>,
        queue: Weak<dyn DirtyQueue>,
    ) -> Self {
        let gathered = match metric_type {
            MetricType::Gauge | MetricType::Untyped => Gathered::Gauge(GaugeCell::default()),
            _ => Gathered::Added((0..cell_count).map(|_| AddedCell::default()).collect()),
        };
        Self {
            gathered,
            dirty: AtomicBool::new(false),
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
        if !self.dirty.load(Ordering::Relaxed) {
            self.push();
        }
    }

    #[cold]
    fn push(&self) {
        // Of several writers that saw "clear", one queues the metric. The exchange releases what this
        // thread changed before, to whoever takes the metric by this flag alone (a barrier's walk).
        if self.dirty.swap(true, Ordering::AcqRel) || self.removed.load(Ordering::Relaxed) {
            return;
        }
        let both = self.queue.upgrade().zip(self.metric.upgrade());
        let queued = both.is_some_and(|(queue, metric)| queue.push(metric));
        if !queued {
            // Nothing is lost: the change stays here, and the next one asks again.
            self.dirty.store(false, Ordering::Release);
        }
    }

    /// Whether a change may be waiting.
    pub(crate) fn is_dirty(&self) -> bool {
        // Acquire pairs with the exchange in `push`.
        self.dirty.load(Ordering::Acquire) && !self.removed.load(Ordering::Relaxed)
    }

    /// Takes what has gathered, by cell; nothing if another queue entry's turn took it already.
    pub(crate) fn take(&self) -> Vec<(usize, Change)> {
        if !self.dirty.swap(false, Ordering::AcqRel) || self.removed.load(Ordering::Acquire) {
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

    /// The metric was removed from the store: nothing of it is to be sent any more.
    pub(crate) fn remove(&self) {
        self.removed.store(true, Ordering::Release);
    }

    /// In a forked child: what gathered before the fork belongs to the parent, which sends it.
    /// Only this thread exists, so no ordering matters.
    pub(crate) fn discard(&self) {
        match &self.gathered {
            Gathered::Added(cells) => cells.iter().for_each(|cell| cell.0.store(0, Ordering::Relaxed)),
            Gathered::Gauge(cell) => cell.0.store(0, Ordering::Relaxed),
        }
        self.is_new.store(false, Ordering::Relaxed);
        self.dirty.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Debug, Default)]
    struct CountingQueue(AtomicUsize);

    impl DirtyQueue for CountingQueue {
        fn push(&self, _: Arc<Metric>) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed);
            true
        }
    }

    #[test]
    fn a_setting_discards_what_was_added_before_and_keeps_what_was_added_after() {
        let cell = GaugeCell::default();
        cell.add(1.0);
        cell.add(2.0);
        assert_eq!(cell.take(), Change::Add(3.0));
        cell.add(7.0);
        cell.set(5.0);
        cell.add(1.5);
        assert_eq!(cell.take(), Change::Set(6.5));
        assert_eq!(cell.take(), Change::Add(0.0));
    }

    #[test]
    fn what_threads_add_is_taken_once() {
        let cell = AddedCell::default();
        let taken = std::thread::scope(|scope| {
            let writers: Vec<_> =
                (0..3).map(|_| scope.spawn(|| (0..50_000).for_each(|_| cell.add(1.0)))).collect();
            let mut taken = 0.0;
            while !writers.iter().all(|writer| writer.is_finished()) {
                taken += cell.take();
            }
            taken
        });
        assert_eq!(taken + cell.take(), 150_000.0);
    }

    #[test]
    fn a_refused_queue_keeps_the_change() {
        #[derive(Debug)]
        struct Full;
        impl DirtyQueue for Full {
            fn push(&self, _: Arc<Metric>) -> bool {
                false
            }
        }
        let queue: Arc<dyn DirtyQueue> = Arc::new(Full);
        let cells = PendingCells::new(MetricType::Counter, 1, Weak::new(), Arc::downgrade(&queue));
        cells.add(0, 2.0);
        cells.mark_dirty();
        assert!(!cells.is_dirty());
        cells.add(0, 3.0);
        cells.dirty.store(true, Ordering::Relaxed);
        assert_eq!(cells.take(), [(0, Change::Add(5.0))]);
    }

    #[test]
    fn a_new_metric_is_told_even_if_nothing_was_counted() {
        let queue: Weak<dyn DirtyQueue> = Weak::<CountingQueue>::new();
        let cells = PendingCells::new(MetricType::Summary, 2, Weak::new(), queue);
        cells.dirty.store(true, Ordering::Relaxed);
        assert_eq!(cells.take(), [(0, Change::Add(0.0))]);
        assert_eq!(cells.take(), []);
        cells.add(1, 1.0);
        cells.dirty.store(true, Ordering::Relaxed);
        assert_eq!(cells.take(), [(1, Change::Add(1.0))]);
    }
}
