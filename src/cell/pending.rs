//! The changes of a metric that its store has not taken yet.
//!
//! A store behind a network gives its metrics these cells. Changes gather here until a thread of the store
//! takes them. A metric holds one pending change per cell, however many operations there are. Gathering never
//! fails and never waits.
//!
//! # Why no change is lost or taken twice
//!
//! A writer first changes the cell (A), then reads the state (B), and queues the metric unless it is queued.
//! The taker first sets the state to "clean" (C), then takes the cell (D). A change would be lost if D missed
//! A while B still read "queued". A and D are read-modify-writes of one atomic. If D comes first in its
//! order, A reads from D or from a later change; D releases and A acquires, so C happens before B, and B
//! reads "clean" or what a later writer has made of it. So `AcqRel` on the cells is enough, and the state can
//! be read `Relaxed`. `tests/loom_pending.rs` tries every interleaving.

use std::fmt;
use std::sync::atomic::{AtomicBool as Flag, AtomicU32};

use crate::cell::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::cell::gathered::{Change, Gathered};

/// Queues a metric with its store, which will take the changes. Returns `false` if that is not possible now.
/// The next change then tries again.
pub(crate) type Queue = Box<dyn Fn() -> bool + Send + Sync>;

/// Nothing is pending, or the change that is being made will queue the metric.
const CLEAN: u8 = 0;
/// The metric is queued, or being queued.
const QUEUED: u8 = 1;
/// Something is pending, but the queue has refused the metric. The next change tries again.
const REFUSED: u8 = 2;

/// The pending changes of one metric.
pub(crate) struct PendingCells {
    gathered: Gathered,
    /// [`CLEAN`], [`QUEUED`] or [`REFUSED`].
    state: AtomicU8,
    /// Whether the store has not been told about this metric yet.
    is_new: AtomicBool,
    /// Whether the metric was removed. Its changes are then discarded.
    removed: AtomicBool,
    /// Whether the store must be told that the program has looked the metric up.
    is_touched: Flag,
    /// The second of the last use that the store is told of, if the series ends when it is not used.
    told: AtomicU32,
    queue: Queue,
}

impl PendingCells {
    /// Makes the pending cells of a metric. `queue` queues the metric.
    pub(crate) fn new(gathered: Gathered, queue: Queue) -> Self {
        Self {
            gathered,
            state: AtomicU8::new(CLEAN),
            is_new: AtomicBool::new(true),
            removed: AtomicBool::new(false),
            is_touched: Flag::new(false),
            told: AtomicU32::new(0),
            queue,
        }
    }

    /// Adds `amount` to the cell with this index.
    #[inline]
    pub(crate) fn add(&self, index: usize, amount: f64) {
        self.gathered.add(index, amount);
    }

    /// Adds `amount` to the cell with this index as [`Gathered::add_at_once`] does.
    #[inline]
    pub(crate) fn add_at_once(&self, index: usize, amount: f64) -> bool {
        self.gathered.add_at_once(index, amount)
    }

    /// Counts `value` in a summary or histogram, with its count cell.
    #[inline]
    pub(crate) fn observe(&self, count_cell: usize, value: f64) {
        self.gathered.observe(count_cell, value);
    }

    /// Replaces the value of a gauge, untyped metric or info.
    #[inline]
    pub(crate) fn set(&self, value: f64) {
        self.gathered.set(value);
    }

    /// Replaces the states of a state set by `next(states)`, where `states` are those that this process knows.
    pub(crate) fn update(&self, next: impl Fn(f64) -> f64) {
        self.gathered.update(next);
    }

    /// Has the next [`take`](Self::take) tell the store that the metric is used at the second `now`, also if nothing
    /// has changed, unless the store was told so less than `grain` seconds ago. Returns whether it will.
    pub(crate) fn note_use(&self, grain: u32, now: u32) -> bool {
        let told = self.told.load(Ordering::Relaxed);
        let is_due = now.saturating_sub(told) >= grain.max(1)
            && self.told.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_due {
            // As a change of a cell: see the top of this file.
            self.is_touched.swap(true, Ordering::AcqRel);
        }
        is_due
    }

    /// Returns whether this process has not used the metric for more than `ttl` seconds, at the second `now`.
    pub(crate) fn is_unused(&self, ttl: u32, grain: u32, now: u32) -> bool {
        let unused = now.saturating_sub(self.told.load(Ordering::Relaxed));
        !self.is_dirty() && unused > ttl.saturating_add(grain.max(1))
    }

    /// Queues the metric, unless it is queued. Call it after the change.
    #[inline]
    pub(crate) fn mark_dirty(&self) {
        if !self.is_queued() {
            self.push();
        }
    }

    /// Returns whether the metric is queued, so that an earlier change needs no [`mark_dirty`](Self::mark_dirty).
    #[inline]
    pub(crate) fn is_queued(&self) -> bool {
        // Relaxed: see the top of this file.
        self.state.load(Ordering::Relaxed) == QUEUED
    }

    #[cold]
    fn push(&self) {
        // If several writers saw "clean", only one of them queues the metric. The swap releases this thread's
        // earlier changes to a taker that finds the metric by its state alone, as a barrier's walk does.
        if self.state.swap(QUEUED, Ordering::AcqRel) == QUEUED || self.removed.load(Ordering::Relaxed) {
            return;
        }
        if !(self.queue)() {
            // Nothing is lost: the change stays here, where a barrier's walk finds it, and the next change
            // tries again. The state must not become "clean": another writer may have queued the metric
            // since, and that entry must find something to take. AcqRel: as above.
            self.state.swap(REFUSED, Ordering::AcqRel);
        }
    }

    /// Returns whether a change may be waiting.
    pub(crate) fn is_dirty(&self) -> bool {
        // Acquire pairs with the release in `push`.
        self.state.load(Ordering::Acquire) != CLEAN && !self.removed.load(Ordering::Relaxed)
    }

    /// Takes the changes that have gathered, with the index of each cell. Returns nothing if they were
    /// already taken for an earlier queue entry.
    pub(crate) fn take(&self) -> Vec<(usize, Change)> {
        if self.state.swap(CLEAN, Ordering::AcqRel) == CLEAN || self.removed.load(Ordering::Acquire) {
            return Vec::new();
        }
        // "Add 0" tells the store about a new metric, so that a scrape shows it before its first change, and about one
        // that is used.
        let is_new =
            self.is_new.swap(false, Ordering::Relaxed) | self.is_touched.swap(false, Ordering::AcqRel);
        let worth_sending = |&(index, change): &(usize, Change)| match change {
            Change::Add(amount) => amount != 0.0 || (is_new && index == 0),
            Change::Set(_) | Change::Word(_) => true,
        };
        self.gathered.take().filter(worth_sending).collect()
    }

    /// Discards this and every later change: the metric was removed from the store.
    pub(crate) fn remove(&self) {
        self.removed.store(true, Ordering::Release);
    }

    /// Returns whether the metric was removed.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Returns whether nothing was ever taken, so the store cannot have sent anything about this metric.
    pub(crate) fn is_new(&self) -> bool {
        // Relaxed: only the store's thread changes it, and only that thread asks.
        self.is_new.load(Ordering::Relaxed)
    }

    /// In a forked child, discards the changes that gathered before the fork, because the parent sends them.
    /// The child has only this thread, so no ordering matters.
    pub(crate) fn discard(&self) {
        self.gathered.discard();
        self.is_new.store(false, Ordering::Relaxed);
        self.is_touched.store(false, Ordering::Relaxed);
        self.state.store(CLEAN, Ordering::Relaxed);
    }
}

impl fmt::Debug for PendingCells {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gathered, state, is_new, removed, is_touched: _, told: _, queue: _ } = self;
        let mut debug = formatter.debug_struct("PendingCells");
        debug.field("gathered", gathered).field("state", state);
        debug.field("is_new", is_new).field("removed", removed).finish_non_exhaustive()
    }
}
