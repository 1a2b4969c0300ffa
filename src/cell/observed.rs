//! The cells of a summary or histogram in this process's memory.

use super::at_once::AtOnce;
use super::stripes::Stripes;
use super::value::{self, ValueCell};
use crate::cell::atomic::{AtomicU64, Ordering};

/// The sum of the observed values, and their counts: one for a summary, one per bucket for a histogram.
#[derive(Debug)]
pub(crate) struct ObservedCells {
    sum: ValueCell,
    counts: Box<[AtomicU64]>,
    /// Each has the words of a sum and of the counts.
    pub(super) stripes: Stripes,
}

impl ObservedCells {
    /// Makes cells with `counts` counts, all 0.
    pub(crate) fn new(counts: usize) -> Self {
        let counts = (0..counts).map(|_| AtomicU64::new(0)).collect();
        Self { sum: ValueCell::default(), counts, stripes: Stripes::default() }
    }

    /// Counts `value` as [`observe`](Self::observe) does, unless threads have stripes.
    #[inline]
    pub(crate) fn observe_at_once(&self, index: usize, value: f64) -> AtOnce {
        if !self.stripes.are_none() {
            return AtOnce::HasStripes;
        }
        if let Some(count) = self.counts.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if self.sum.add(value) { AtOnce::Unfinished } else { AtOnce::Done }
    }

    /// Counts `value` in this thread's stripe as [`observe`](Self::observe) does, if there are stripes.
    #[inline]
    pub(crate) fn observe_in_stripe(&self, index: usize, value: f64) -> AtOnce {
        let Some([sum, counts @ ..]) = self.stripes.mine(1 + self.counts.len()) else {
            return AtOnce::NotDone;
        };
        if let Some(count) = counts.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        value::add(sum, value);
        AtOnce::Done
    }

    /// Adds 1 to the count with this index, and `value` to the sum. Every ordering is `Relaxed`: a reader may
    /// see the count and not yet the sum, here as in every store.
    pub(crate) fn observe(&self, index: usize, value: f64) {
        let ways = [Self::observe_in_stripe, Self::observe_at_once, Self::observe_in_stripe];
        // The third is for stripes that another thread has made in between.
        let _ = ways.iter().any(|way| matches!(way(self, index, value), AtOnce::Done | AtOnce::Unfinished));
    }

    /// Makes stripes if threads collide at these cells.
    pub(crate) fn look(&self) {
        self.stripes.make_if_contended(1 + self.counts.len(), || self.sum.get().to_bits());
    }

    /// Adds `amount` to the cell with this index: 0 is the sum, and the counts follow. Only a gauge histogram
    /// adds negative amounts.
    pub(crate) fn add(&self, index: usize, amount: f64) {
        match index.checked_sub(1).map(|index| self.counts.get(index)) {
            None => drop(self.sum.add(amount)),
            // Counts are whole numbers. The addition wraps, so it also subtracts.
            Some(count) => drop(count.map(|count| count.fetch_add(amount as i64 as u64, Ordering::Relaxed))),
        }
    }

    /// Replaces the cell with this index. Additions of other threads in the meantime may be lost.
    pub(crate) fn set(&self, index: usize, value: f64) {
        let mut values = vec![0.0; 1 + self.counts.len()];
        self.read(&mut values);
        let difference = value - values.get(index).copied().unwrap_or_default();
        if index > 0 || difference.is_finite() {
            return self.add(index, difference);
        }
        // No addition leads from infinity, or from what is not a number, to another value.
        self.sum.set(value);
        self.stripes.each().filter_map(<[_]>::first).for_each(|sum| sum.store(0, Ordering::Relaxed));
    }

    /// Writes the sum, then the counts, to `values`.
    pub(crate) fn read(&self, values: &mut [f64]) {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed) as i64 as f64;
        let read = std::iter::once(self.sum.get()).chain(self.counts.iter().map(count));
        values.iter_mut().zip(read).for_each(|(value, read)| *value = read);
        for stripe in self.stripes.each() {
            let [sum, counts @ ..] = stripe else { continue };
            let added = std::iter::once(value::get(sum)).chain(counts.iter().map(count));
            values.iter_mut().zip(added).for_each(|(value, added)| *value += added);
        }
    }
}
