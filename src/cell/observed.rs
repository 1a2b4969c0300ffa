//! The cells of a summary or histogram in this process's memory.

use std::sync::atomic::{AtomicU64, Ordering};

use super::value::ValueCell;

/// The sum of the observed values, and their counts: one for a summary, one per bucket for a histogram.
#[derive(Debug)]
pub(crate) struct ObservedCells {
    sum: ValueCell,
    counts: Box<[AtomicU64]>,
}

impl ObservedCells {
    /// Makes cells with `counts` counts, all 0.
    pub(crate) fn new(counts: usize) -> Self {
        Self { sum: ValueCell::default(), counts: (0..counts).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Adds 1 to the count with this index, and `value` to the sum. Every ordering is `Relaxed`: a reader may
    /// see the count and not yet the sum, here as in every store.
    #[inline]
    pub(crate) fn observe(&self, index: usize, value: f64) {
        if let Some(count) = self.counts.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.add(value);
    }

    /// Adds `amount` to the cell with this index: 0 is the sum, and the counts follow. Only a gauge histogram
    /// adds negative amounts.
    pub(crate) fn add(&self, index: usize, amount: f64) {
        match index.checked_sub(1).map(|index| self.counts.get(index)) {
            None => self.sum.add(amount),
            // Counts are whole numbers. The addition wraps, so it also subtracts.
            Some(count) => drop(count.map(|count| count.fetch_add(amount as i64 as u64, Ordering::Relaxed))),
        }
    }

    /// Writes the sum, then the counts, to `values`.
    pub(crate) fn read(&self, values: &mut [f64]) {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed) as i64 as f64);
        let read = std::iter::once(self.sum.get()).chain(counts);
        values.iter_mut().zip(read).for_each(|(value, read)| *value = read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_observation_is_lost_between_threads() {
        let cells = ObservedCells::new(2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50_000).for_each(|_| cells.observe(1, 0.5)));
            }
        });
        let mut values = [0.0; 3];
        cells.read(&mut values);
        assert_eq!(values, [100_000.0, 0.0, 200_000.0]);
    }
}
