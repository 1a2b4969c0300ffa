//! The value of a counter in this process's memory.
//!
//! Most amounts are small whole numbers. They are counted in an integer of their own: a fetch-and-add takes a
//! quarter of the time of a compare-and-swap loop on an `f64`, and never has to be repeated.

use std::sync::atomic::{AtomicU64, Ordering};

use super::value::ValueCell;

/// From here on, neighbouring numbers differ by 1.
const TWO_TO_52: f64 = (1_u64 << 52) as f64;

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
    const SMALL: u64 = 256;

    /// Adds `amount`, which must be at least 0.
    #[inline]
    pub(crate) fn add(&self, amount: f64) {
        if !self.add_small(amount) {
            self.add_other(amount);
        }
    }

    /// Adds an amount that is not a small whole number, if it is one that may be added. Returns whether it is.
    #[inline]
    pub(crate) fn add_other(&self, amount: f64) -> bool {
        let is_increase = amount >= 0.0;
        if is_increase {
            self.rest.add(amount);
        }
        is_increase
    }

    /// Adds `amount` if it is a small whole number, as it nearly always is. Returns whether it is. It is apart from
    /// `add`, so that the compiler can do without registers that must be saved.
    #[inline]
    pub(crate) fn add_small(&self, amount: f64) -> bool {
        // The sum has no fraction, so its bits are those of 2^52 plus the amount, rounded. NaN is too large.
        let sum = amount + TWO_TO_52;
        let whole = sum.to_bits().wrapping_sub(TWO_TO_52.to_bits());
        let is_small = whole < Self::SMALL && (sum - TWO_TO_52).to_bits() == amount.to_bits();
        if is_small {
            self.whole.fetch_add(whole, Ordering::Relaxed);
        }
        is_small
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
