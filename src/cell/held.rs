//! The cells of a metric that its store cannot hold yet, because the file is full or its lock cannot be
//! taken.
//!
//! The metric counts in this process meanwhile, so no call fails. When the store has room, the front door
//! gives the metric its cells in the store, and the counted changes move there.
//!
//! # Why no change is lost or moved twice
//!
//! A writer that sees no cells of the store changes a gathered cell (A), and then looks for them again (B).
//! The mover publishes them (C), and then takes the gathered cells (D). If D comes before A in the order of a
//! cell, C happens before B (see [`gathered`](super::gathered)): the writer sees the cells of the store, and
//! moves its change itself. Otherwise D takes the change. A take leaves 0, so two movers at once move each
//! change once.
//!
//! If one thread sets a gauge while another thread moves it, the mover may apply an earlier value last.
//!
//! # Gauges of which every process has its own value
//!
//! Their cells in the store belong to one process. A forked child inherits the handle, but must not change the
//! parent's cells. So [`HeldCells::of_process`] notes the fork generation with the cells, and the child ignores those of
//! another generation. Its first change goes to the gathered cells. Then the child asks the front door to offer the
//! metric to the store, and the store gives the child cells of its own.

use std::sync::atomic::{AtomicBool, Ordering, fence};

use once_cell::race::OnceBox;

use super::Cells;
use super::gathered::{Change, Gathered};
use crate::model::definition::{Definition, VALUE_CELL};
use crate::model::gauge_mode::GaugeMode;
use crate::process::clock::micros_of_change;
use crate::process::fork;

/// Asks the front door to offer the metrics that wait to the store.
pub(crate) type Offer = Box<dyn Fn() + Send + Sync>;

/// The changes that wait in this process, and the metric's cells in the store once it has them.
#[derive(Debug)]
pub(crate) struct HeldCells {
    gathered: Gathered,
    stored: Link,
    /// Whether the metric was removed. Its changes are then discarded.
    removed: AtomicBool,
    /// Whether the store can never take the metric.
    hopeless: AtomicBool,
    process: Option<OfProcess>,
}

/// The cells in the store, if there are any. Not a `OnceLock`: a forked child must not wait for a thread of its
/// parent.
type Link = OnceBox<Stored>;

#[derive(Debug)]
struct Stored {
    cells: Cells,
    /// The fork generation of the process that made them.
    generation: u64,
    /// The cells of a descendant, if these belong to an ancestor.
    next: Link,
}

/// What a gauge needs of which every process has its own value.
struct OfProcess {
    offer: Offer,
    /// Whether the cell behind the value holds the time at which it was set.
    has_time: bool,
}

impl std::fmt::Debug for OfProcess {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("OfProcess")
    }
}

impl HeldCells {
    /// Makes cells without changes.
    pub(crate) fn new(definition: &Definition) -> Self {
        Self {
            gathered: Cells::gathered(definition),
            stored: Link::new(),
            removed: AtomicBool::new(false),
            hopeless: AtomicBool::new(false),
            process: None,
        }
    }

    /// Makes the cells of a gauge with this mode, of which every process has its own value.
    pub(crate) fn of_process(definition: &Definition, mode: GaugeMode, offer: Offer) -> Self {
        let process = Some(OfProcess { offer, has_time: mode.is_most_recent() });
        Self { process, ..Self::new(definition) }
    }

    /// Returns the cells in the store, if it has taken the metric.
    pub(crate) fn stored(&self) -> Option<&Cells> {
        let mut stored = self.stored.get()?;
        if self.process.is_some() {
            while stored.generation != fork::generation() {
                stored = stored.next.get()?;
            }
        }
        Some(&stored.cells)
    }

    /// Whether the store had the metric when this process was forked.
    pub(crate) fn is_inherited(&self) -> bool {
        self.stored.get().is_some_and(|stored| stored.generation != fork::generation())
    }

    /// Adds `amount` to the cell with this index.
    #[cold]
    pub(crate) fn add(&self, index: usize, amount: f64) {
        match self.stored() {
            Some(cells) => {
                cells.apply(index, Change::Add(amount));
                self.changed(cells);
            }
            None => {
                self.gathered.add(index, amount);
                self.move_or_offer();
            }
        }
    }

    /// Counts `value` in a summary or histogram, with its count cell.
    #[cold]
    pub(crate) fn observe(&self, count_cell: usize, value: f64) {
        match self.stored() {
            Some(cells) => cells.observe(count_cell, value),
            None => {
                self.gathered.observe(count_cell, value);
                self.move_gathered();
            }
        }
    }

    /// Replaces the value of a gauge, untyped metric or info.
    #[cold]
    pub(crate) fn set(&self, value: f64) {
        match self.stored() {
            Some(cells) => {
                cells.set(value);
                self.changed(cells);
            }
            None => {
                self.gathered.set(value);
                self.move_or_offer();
            }
        }
    }

    /// Replaces the states of a state set by `next(states)`.
    #[cold]
    pub(crate) fn update(&self, next: impl Fn(f64) -> f64) {
        match self.stored() {
            Some(cells) => cells.update(next),
            None => {
                self.gathered.update(next);
                self.move_gathered();
            }
        }
    }

    /// Replaces the cell with this index of a type that programs only add to. Returns `false` if these cells cannot.
    pub(crate) fn set_at(&self, index: usize, value: f64) -> bool {
        match self.stored() {
            Some(cells) => cells.set_at(index, value),
            None => {
                let is_set = self.gathered.set_at(index, value);
                self.move_gathered();
                is_set
            }
        }
    }

    /// Gives the metric its cells in the store, and moves what it has counted there.
    pub(crate) fn store_in(&self, cells: Cells) {
        let generation = fork::generation();
        let mut cells = Some(cells);
        let mut link = &self.stored;
        loop {
            // If another thread got here first, its cells stay: they are words of the same record.
            if link.get().is_none()
                && let Some(cells) = cells.take()
            {
                let _ = link.set(Box::new(Stored { cells, generation, next: Link::new() }));
            }
            match link.get() {
                Some(stored) if self.process.is_some() && stored.generation != generation => {
                    link = &stored.next;
                }
                _ => break,
            }
        }
        self.move_gathered();
    }

    /// Moves what was gathered to the store. If the store has no cells of this process yet, asks for them.
    fn move_or_offer(&self) {
        match &self.process {
            Some(process) if self.may_be_stored() => (process.offer)(),
            _ => {}
        }
        self.move_gathered();
    }

    /// Notes the time of a change, if the store keeps it.
    fn changed(&self, cells: &Cells) {
        if self.process.as_ref().is_some_and(|process| process.has_time) {
            // After the value: a reader that sees the time sees the value or a later one.
            cells.set_behind(VALUE_CELL + 1, micros_of_change());
        }
    }

    fn move_gathered(&self) {
        let Some(cells) = self.stored() else { return };
        for (index, change) in self.gathered.take() {
            if change != Change::Add(0.0) {
                cells.apply(index, change);
                self.changed(cells);
            }
        }
    }

    /// Writes the values to `values`: those in the store if it has the metric, and those counted here
    /// otherwise.
    pub(crate) fn read(&self, values: &mut [f64]) {
        match self.stored() {
            Some(cells) => cells.read(values),
            None => self.gathered.read(values),
        }
    }

    /// Whether the metric still waits for its store.
    pub(crate) fn waits(&self) -> bool {
        self.stored().is_none() && !self.removed.load(Ordering::Relaxed)
    }

    /// Whether another attempt may succeed.
    pub(crate) fn may_be_stored(&self) -> bool {
        self.waits() && !self.hopeless.load(Ordering::Relaxed)
    }

    /// Notes that the store can never take the metric, so the metric counts in this process for good.
    pub(crate) fn give_up(&self) {
        self.hopeless.store(true, Ordering::Relaxed);
    }

    /// Notes that the metric was removed, and must not be moved to the store any more. Returns whether the store has
    /// it already.
    pub(crate) fn remove(&self) -> bool {
        self.removed.store(true, Ordering::Relaxed);
        // Pairs with the fence in `is_removed`: if one thread removes the metric while another stores it, at
        // least one of them sees what the other did.
        fence(Ordering::SeqCst);
        self.stored().is_some()
    }

    /// Whether the metric was removed. Call it after [`store_in`](Self::store_in).
    pub(crate) fn is_removed(&self) -> bool {
        fence(Ordering::SeqCst);
        self.removed.load(Ordering::Relaxed)
    }

    /// In a forked child, drops the changes that the parent will move to the store.
    pub(crate) fn discard(&self) {
        self.gathered.discard();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::metric_type::MetricType;

    #[test]
    fn what_threads_count_while_the_metric_moves_arrives_once() {
        let definition = Definition::new("h", "", MetricType::Histogram, &[], &[1.0]).unwrap();
        for _ in 0..200 {
            let held = HeldCells::new(&definition);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for _ in 0..500 {
                            held.add(1, 1.0);
                            held.add(0, 0.5);
                        }
                    });
                }
                for _ in 0..2 {
                    scope.spawn(|| held.store_in(Cells::in_memory(&definition)));
                }
            });
            let mut values = [0.0; 3];
            held.read(&mut values);
            assert_eq!(values, [500.0, 1000.0, 0.0]);
            let mut left = [0.0; 3];
            held.gathered.read(&mut left);
            assert_eq!(left, [0.0; 3]);
        }
    }

    #[test]
    fn a_gauge_moves_as_it_was_set_or_added_to() {
        let definition = Definition::new("g", "", MetricType::Gauge, &[], &[]).unwrap();
        let moved = |count: fn(&HeldCells)| {
            let (held, cells) = (HeldCells::new(&definition), Cells::in_memory(&definition));
            cells.add(10.0);
            count(&held);
            held.store_in(cells);
            let mut values = [0.0];
            held.read(&mut values);
            values[0]
        };
        assert_eq!(moved(|held| held.add(0, 2.0)), 12.0, "other processes have added 10");
        assert_eq!(moved(|held| held.set(2.0)), 2.0);
        assert_eq!(moved(|_| ()), 10.0);
    }
}
