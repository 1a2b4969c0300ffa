//! A cell: one `f64` of a metric, in the forms that the in-memory stores need.
//!
//! These are the last step of the hot path. Nothing here allocates, looks up or calls the system;
//! only [`MutexCell`] may wait, for a few instructions of another thread.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::fork;

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
/// The lock is a word, not a `std::sync::Mutex`: it says in which generation of forks it was taken. One
/// that was taken in an older generation is held by a thread of the parent, which does not exist here, and
/// is void. (The value is whole even then, since it is stored in one piece.)
#[derive(Debug, Default)]
pub struct MutexCell {
    /// 0: free. Otherwise 1 + the generation in which it was taken.
    holder: AtomicU64,
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

    #[inline]
    fn with_lock(&self, change: impl FnOnce(f64) -> f64) {
        let own = 1 + fork::generation();
        let mut free = 0;
        // Acquire pairs with the Release below: what the last holder stored is what we load. A void lock
        // was taken before the fork, which has ordered all memory.
        while let Err(holder) =
            self.holder.compare_exchange_weak(free, own, Ordering::Acquire, Ordering::Relaxed)
        {
            free = if holder == own { 0 } else { holder };
            if holder == own {
                std::thread::yield_now();
            }
        }
        let next = change(f64::from_bits(self.value.load(Ordering::Relaxed)));
        self.value.store(next.to_bits(), Ordering::Relaxed);
        self.holder.store(0, Ordering::Release);
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
    fn a_lock_left_behind_by_a_fork_is_void() {
        let cell = MutexCell::default();
        cell.set(2.0);
        cell.holder.store(1 + fork::generation() + 7, Ordering::Relaxed);
        cell.add(1.0);
        assert_eq!(cell.get(), 3.0);
    }
}
