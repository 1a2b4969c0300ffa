//! The cells of a metric whose series ends when no process has used it for some time.
//!
//! A change after the end begins a new series, with new cells: another *life*. Each life has a
//! [word](super::last_use) that says when it was last used, in the record of the file if it has one there. That file
//! explains why no change is lost.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::atomic::AtomicU64;
use super::last_use;
use super::present::Present;
use crate::model::sample::Milliseconds;
use crate::process::clock::uptime;

/// The time to live of a series that does not end. A metric that waits for its store learns only there when its series
/// ends, because all processes follow the store.
const NEVER: u32 = u32::MAX;

/// The cells of one life.
pub(crate) trait LifeCells: Sized {
    /// Adds `amount` to the cell with this index.
    fn add_to(&self, index: usize, amount: f64);
    /// Counts `value` in a summary or histogram, with its count cell.
    fn observe(&self, count_cell: usize, value: f64);
    /// Replaces the value.
    fn set(&self, value: f64);
    /// Replaces the value by `next(value)`.
    fn update(&self, next: &dyn Fn(f64) -> f64);
    /// Replaces the cell with this index.
    fn set_at(&self, index: usize, value: f64);
    /// Writes the values to `values`.
    fn read(&self, values: &mut [f64]);
    /// Whether the series may be offered to the store, for which it waits.
    fn may_be_stored(&self) -> bool;
    /// Moves the changes to these cells, which the store has made.
    fn store_in(&self, cells: Self);
    /// Notes that the program has removed the metric. Returns whether the store may have the series.
    fn remove(&self) -> bool;
    /// Whether the store still has the series.
    fn is_live(&self) -> bool;
    /// Returns the word of the last use in the store, and its owner, if the store has one.
    fn last_use(&self) -> Option<(&AtomicU64, u32)>;
    /// In a forked child, drops the changes that the parent will move to the store.
    fn discard(&self);
}

/// Makes a new life.
pub(crate) type Begin<C> = Box<dyn Fn() -> Life<C> + Send + Sync>;

/// Gives the cells of a new life a place in the store.
pub(crate) type Settle = Box<dyn Fn() + Send + Sync>;

/// The cells of the present life, and what makes the next one.
pub(crate) struct ExpiringCells<C> {
    present: Present<Life<C>>,
    /// In seconds, or [`NEVER`].
    ttl: AtomicU32,
    begin: Begin<C>,
    settle: Settle,
    /// Whether the program has removed the metric. Its changes are then discarded.
    removed: AtomicBool,
}

/// The cells of a series from its first use to its end.
#[derive(Debug)]
pub(crate) struct Life<C> {
    cells: C,
    /// When it was last used, unless its store has a word for that.
    used: AtomicU64,
    created: Option<Milliseconds>,
}

impl<C: LifeCells> Life<C> {
    /// Makes a life that begins now, at the time `created`.
    pub(crate) fn new(cells: C, created: Option<Milliseconds>) -> Self {
        Self { cells, used: AtomicU64::new(last_use::begin(1, uptime())), created }
    }

    /// Returns the word of the last use, and its owner.
    fn word(&self) -> (&AtomicU64, u32) {
        self.cells.last_use().unwrap_or((&self.used, 1))
    }

    /// Notes that the series was used just now. Returns `false` if it has ended.
    fn touch(&self, ttl: u32) -> bool {
        if ttl == NEVER {
            return true;
        }
        let (word, owner) = self.word();
        // Another process may have removed it, too.
        last_use::touch(word, owner, ttl, uptime()) && self.cells.is_live()
    }

    /// Ends the series if it was unused for too long. Returns whether it has ended.
    fn expire(&self, ttl: u32) -> bool {
        if ttl == NEVER {
            return false;
        }
        let (word, owner) = self.word();
        last_use::expire(word, owner, ttl, uptime()) || !self.cells.is_live()
    }
}

impl<C: LifeCells> ExpiringCells<C> {
    /// Makes the cells of a metric whose series ends when it was unused for `ttl` seconds, or does not end.
    pub(crate) fn new(ttl: Option<u32>, first: Life<C>, begin: Begin<C>, settle: Settle) -> Self {
        let ttl = AtomicU32::new(ttl.unwrap_or(NEVER));
        Self { present: Present::new(first), ttl, begin, settle, removed: AtomicBool::new(false) }
    }

    fn ttl(&self) -> u32 {
        self.ttl.load(Ordering::Relaxed)
    }

    /// Gives the series its cells in the store, in which it ends when it was unused for `ttl` seconds. Returns `false`
    /// if it has ended meanwhile. The change that found this offers the next series to the store.
    pub(crate) fn store_in(&self, cells: C, ttl: Option<u32>) -> bool {
        self.present.with(|life| {
            // The life's own word decides whether it has ended. A thread that finds that makes its change again, so the
            // change must not move to the store.
            let is_live = last_use::hand_over(&life.used);
            if is_live {
                // Before the cells: a thread that changes them sees the time, too.
                self.ttl.store(ttl.unwrap_or(NEVER), Ordering::Relaxed);
                life.cells.store_in(cells);
            }
            is_live
        })
    }

    /// Notes that the metric is used, and begins a new series if the last one has ended.
    pub(crate) fn touch(&self) {
        self.change(|_| {});
    }

    /// Adds `amount` to the cell with this index.
    #[cold]
    pub(crate) fn add(&self, index: usize, amount: f64) {
        self.change(|cells| cells.add_to(index, amount));
    }

    /// Counts `value` in a summary or histogram, with its count cell.
    #[cold]
    pub(crate) fn observe(&self, count_cell: usize, value: f64) {
        self.change(|cells| cells.observe(count_cell, value));
    }

    /// Replaces the value of a gauge, untyped metric or info.
    #[cold]
    pub(crate) fn set(&self, value: f64) {
        self.change(|cells| cells.set(value));
    }

    /// Replaces the states of a state set by `next(states)`.
    #[cold]
    pub(crate) fn update(&self, next: &dyn Fn(f64) -> f64) {
        self.change(|cells| cells.update(next));
    }

    /// Replaces the cell with this index.
    pub(crate) fn set_at(&self, index: usize, value: f64) {
        self.change(|cells| cells.set_at(index, value));
    }

    /// Applies a change to the present series. If that has ended, begins a new one, and applies the change there.
    fn change(&self, apply: impl Fn(&C)) {
        while self.is_live() {
            let (is_made, waits) = self.present.with(|life| {
                apply(&life.cells);
                let ttl = self.ttl();
                (life.touch(ttl), ttl != NEVER && life.cells.may_be_stored())
            });
            if !is_made {
                self.present.replace_if(|life| life.expire(self.ttl()), || (self.begin)());
            }
            if !is_made || waits {
                (self.settle)();
            }
            if is_made {
                return;
            }
        }
    }

    /// Ends the series if it was unused for too long. Returns whether there is none now.
    pub(crate) fn expire(&self) -> bool {
        self.present.with(|life| life.expire(self.ttl()))
    }

    /// Returns when the series began, if its store does not keep that time itself.
    pub(crate) fn created(&self) -> Option<Milliseconds> {
        self.present.with(|life| life.created)
    }

    /// Writes the values to `values`: zeros if the series has ended.
    pub(crate) fn read(&self, values: &mut [f64]) {
        if self.read_live(values).is_none() {
            values.fill(0.0);
        }
    }

    /// Writes the values to `values`, and returns when the series began, as [`created`](Self::created) does. Returns
    /// `None` if the series has ended. The values then mean nothing.
    pub(crate) fn read_live(&self, values: &mut [f64]) -> Option<Option<Milliseconds>> {
        self.present.with(|life| {
            life.cells.read(values);
            // Looked at afterwards: the record may have been given to another series meanwhile.
            (!life.expire(self.ttl())).then_some(life.created)
        })
    }

    /// Calls `work` with the cells of the present life, unless the metric was removed or its series has ended.
    pub(crate) fn with_cells<R>(&self, work: impl FnOnce(&C) -> Option<R>) -> Option<R> {
        if !self.is_live() {
            return None;
        }
        self.present.with(|life| if life.expire(self.ttl()) { None } else { work(&life.cells) })
    }

    /// Notes that the program has removed the metric. Returns whether the store may have the series.
    pub(crate) fn remove(&self) -> bool {
        // Before the look at the cells: a thread that begins another series meanwhile, and stores it, sees this
        // afterwards.
        self.removed.store(true, Ordering::SeqCst);
        self.present.with(|life| life.cells.remove())
    }

    /// Whether the program has not removed the metric, and, of a series that does not end, the store still has it.
    pub(crate) fn is_live(&self) -> bool {
        !self.removed.load(Ordering::SeqCst)
            && (self.ttl() != NEVER || self.present.with(|life| life.cells.is_live()))
    }

    /// In a forked child, drops the changes that the parent will move to the store.
    pub(crate) fn discard(&self) {
        self.present.forked();
        self.present.with(|life| life.cells.discard());
    }
}

impl<C: std::fmt::Debug> std::fmt::Debug for ExpiringCells<C> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { present, ttl, removed, begin: _, settle: _ } = self;
        let mut debug = formatter.debug_struct("ExpiringCells");
        debug.field("present", present).field("ttl", ttl).field("removed", removed).finish_non_exhaustive()
    }
}
