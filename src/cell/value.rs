//! One `f64` in this process's memory: the value of a gauge, or a sum.

use crate::cell::atomic::{AtomicU64, Ordering};

/// An `f64` that threads change by compare-and-swap.
///
/// Every ordering is `Relaxed`: a cell publishes nothing but itself, and its own modification order
/// already makes every addition count exactly once.
#[derive(Debug, Default)]
pub(crate) struct ValueCell(AtomicU64);

impl ValueCell {
    /// Adds `amount`, as [`add`] does.
    #[inline]
    pub(crate) fn add(&self, amount: f64) -> bool {
        add(&self.0, amount)
    }

    /// Returns the word with the bits of the value.
    pub(crate) fn word(&self) -> &AtomicU64 {
        &self.0
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
        get(&self.0)
    }
}

/// Adds `amount` to the value in a word. Returns whether it had to try again because another thread changed it.
#[inline]
pub(crate) fn add(word: &AtomicU64, amount: f64) -> bool {
    let mut has_collided = false;
    let mut current = word.load(Ordering::Relaxed);
    loop {
        let next = (f64::from_bits(current) + amount).to_bits();
        match word.compare_exchange_weak(current, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return has_collided,
            Err(seen) => (current, has_collided) = (seen, true),
        }
    }
}

/// Returns the value in a word.
#[inline]
pub(crate) fn get(word: &AtomicU64) -> f64 {
    f64::from_bits(word.load(Ordering::Relaxed))
}
