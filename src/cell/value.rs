//! One `f64` in this process's memory: the value of a gauge, or a sum.

use std::sync::atomic::{AtomicU64, Ordering};

/// An `f64` that threads change by compare-and-swap.
///
/// Every ordering is `Relaxed`: a cell publishes nothing but itself, and its own modification order
/// already makes every addition count exactly once.
#[derive(Debug, Default)]
pub(crate) struct ValueCell(AtomicU64);

impl ValueCell {
    /// Adds `amount`.
    #[inline]
    pub(crate) fn add(&self, amount: f64) {
        self.update(|value| value + amount);
    }

    /// Replaces the value by `next(value)`.
    #[inline]
    pub(crate) fn update(&self, next: impl Fn(f64) -> f64) {
        let mut current = self.0.load(Ordering::Relaxed);
        loop {
            let next = next(f64::from_bits(current)).to_bits();
            match self.0.compare_exchange_weak(current, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => current = seen,
            }
        }
    }

    /// Replaces the value.
    #[inline]
    pub(crate) fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Returns the value.
    #[inline]
    pub(crate) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_addition_is_lost_between_threads() {
        let cell = ValueCell::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50_000).for_each(|_| cell.add(1.0)));
            }
        });
        assert_eq!(cell.get(), 200_000.0);
    }
}
