//! A cell: one `f64` of a metric, in the forms that the in-memory stores need.
//!
//! These are the last step of the hot path. Nothing here allocates, looks up or calls the system;
//! only [`MutexCell`] may wait, for three instructions of another thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// An `f64` that threads change by compare-and-swap.
///
/// Every ordering is `Relaxed`: a cell publishes nothing but itself, and its own modification order
/// already makes every addition count exactly once.
#[derive(Debug, Default)]
pub struct AtomicCell(AtomicU64);

impl AtomicCell {
    /// Adds `amount`.
    #[inline]
    pub fn add(&self, amount: f64) {
        let mut current = self.0.load(Ordering::Relaxed);
        loop {
            let next = (f64::from_bits(current) + amount).to_bits();
            match self.0.compare_exchange_weak(current, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => current = seen,
            }
        }
    }

    /// Replaces the value.
    #[inline]
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// The value.
    #[inline]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// An `f64` behind a lock of its own, as the seed's `SingleProcessBackend` has it.
///
/// The lock is a flag, not a `std::sync::Mutex`: a forked child must be able to take back a lock
/// that a thread of its parent held ([`MutexCell::unlock_after_fork`]).
#[derive(Debug, Default)]
pub struct MutexCell {
    locked: AtomicBool,
    value: AtomicU64,
}

impl MutexCell {
    /// Adds `amount`.
    #[inline]
    pub fn add(&self, amount: f64) {
        self.with_lock(|value| value + amount);
    }

    /// Replaces the value.
    #[inline]
    pub fn set(&self, value: f64) {
        self.with_lock(|_| value);
    }

    /// The value. Reading needs no lock: the value is one word, and readers want just that word.
    #[inline]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.value.load(Ordering::Relaxed))
    }

    /// Makes the cell usable in a forked child: the thread that held the lock is not there any more.
    /// The value is whole either way, since it is stored in one piece.
    pub fn unlock_after_fork(&self) {
        self.locked.store(false, Ordering::Release);
    }

    #[inline]
    fn with_lock(&self, change: impl FnOnce(f64) -> f64) {
        // Acquire pairs with the Release below: what the last holder stored is what we load.
        while self.locked.swap(true, Ordering::Acquire) {
            while self.locked.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
        }
        let next = change(f64::from_bits(self.value.load(Ordering::Relaxed)));
        self.value.store(next.to_bits(), Ordering::Relaxed);
        self.locked.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add_from_four_threads(add: impl Fn() + Sync) {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50_000).for_each(|_| add()));
            }
        });
    }

    #[test]
    fn no_addition_is_lost_between_threads() {
        let (atomic, mutex) = (AtomicCell::default(), MutexCell::default());
        add_from_four_threads(|| atomic.add(1.0));
        add_from_four_threads(|| mutex.add(1.0));
        assert_eq!(atomic.get(), 200_000.0);
        assert_eq!(mutex.get(), 200_000.0);
    }

    #[test]
    fn a_lock_left_behind_by_a_fork_is_taken_back() {
        let cell = MutexCell::default();
        cell.set(2.0);
        cell.locked.store(true, Ordering::Relaxed);
        cell.unlock_after_fork();
        cell.add(1.0);
        assert_eq!(cell.get(), 3.0);
    }
}
