//! The value of a counter in this process's memory.
//!
//! Most amounts are small whole numbers. They are counted in an integer of their own: a fetch-and-add takes a
//! quarter of the time of a compare-and-swap loop on an `f64`, and never has to be repeated.

use std::sync::atomic::{AtomicU64, Ordering};

use super::value::ValueCell;

/// The sum of the small whole amounts, and the sum of all others.
///
/// Both only grow, and a reader adds them up. So the value that a thread reads never goes down, and includes
/// everything that this thread has added. Every ordering is `Relaxed`, as in [`ValueCell`].
#[derive(Debug, Default)]
pub(crate) struct CounterCell {
    whole: AtomicU64,
    rest: ValueCell,
}

impl CounterCell {
    /// Whole amounts below this go into the integer. It would overflow after 2^56 such additions, which take
    /// eleven years at 5 ns each.
    const SMALL: f64 = 256.0;

    /// Adds `amount`, which must be at least 0.
    #[inline]
    pub(crate) fn add(&self, amount: f64) {
        // The conversion saturates, so an amount that is too large or not a number does not compare equal.
        let whole = amount as u32;
        if f64::from(whole) == amount && amount < Self::SMALL {
            self.whole.fetch_add(u64::from(whole), Ordering::Relaxed);
        } else {
            self.rest.add(amount);
        }
    }

    /// Returns the value.
    #[inline]
    pub(crate) fn get(&self) -> f64 {
        self.whole.load(Ordering::Relaxed) as f64 + self.rest.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_addition_is_lost_between_threads() {
        let cell = CounterCell::default();
        std::thread::scope(|scope| {
            for amount in [1.0, 0.5, 1.0, 0.5] {
                let cell = &cell;
                scope.spawn(move || (0..50_000).for_each(|_| cell.add(amount)));
            }
        });
        assert_eq!(cell.get(), 150_000.0);
    }

    #[test]
    fn a_counter_adds_up_amounts_of_every_size() {
        let cell = CounterCell::default();
        let mut expected = 0.0;
        for amount in [0.0, -0.0, 1.0, 255.0, 256.0, 0.25, 255.5, 4_294_967_296.0, 1e15, f64::MIN_POSITIVE] {
            cell.add(amount);
            expected += amount;
            assert_eq!(cell.get(), expected, "after {amount}");
        }
        cell.add(f64::INFINITY);
        assert_eq!(cell.get(), f64::INFINITY);
    }

    #[test]
    fn what_a_counter_shows_never_goes_down() {
        let cell = CounterCell::default();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                (0..100_000).for_each(|index| cell.add([1.0, 0.5, 3.0, 1000.0][index % 4]));
            });
            let mut last = 0.0;
            while !writer.is_finished() {
                let seen = cell.get();
                assert!(seen >= last, "{seen} after {last}");
                last = seen;
            }
        });
        assert_eq!(cell.get(), 25_000.0 * 1004.5);
    }
}
