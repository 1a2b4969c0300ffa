//! A cell: one `f64` of a metric, in the forms that the in-memory stores need.
//!
//! What is only added to, and by whole numbers most of the time, counts those in an integer of its own: a
//! fetch-and-add takes a quarter of the time of a compare-and-swap loop on a double, and never has to be repeated.
//!
//! These are the last step of the hot path. Nothing here allocates, looks up or calls the system;
//! only [`MutexCell`] may wait, for a few instructions of another thread.

pub(crate) mod atomic;
pub(crate) mod pending;
pub(crate) mod segment;
pub(crate) mod shared;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::process::fork;

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

/// The value of a counter: what was added in small whole numbers, and the rest.
///
/// Both only grow, and a reader adds them up: so what one thread reads never goes down, and has all that this
/// thread has added. Every ordering is `Relaxed`, as in [`AtomicCell`].
#[derive(Debug, Default)]
pub struct CounterCell {
    whole: AtomicU64,
    rest: AtomicCell,
}

impl CounterCell {
    /// Whole amounts below this go into the integer. It would overflow after 2^56 such additions, which at 5 ns
    /// each take eleven years.
    const SMALL: f64 = 256.0;

    /// Adds `amount`, which is not below 0.
    #[inline]
    pub fn add(&self, amount: f64) {
        // What is too large or not a number saturates, and so is not equal.
        let whole = amount as u32;
        if f64::from(whole) == amount && amount < Self::SMALL {
            self.whole.fetch_add(u64::from(whole), Ordering::Relaxed);
        } else {
            self.rest.add(amount);
        }
    }

    /// The value.
    #[inline]
    pub fn get(&self) -> f64 {
        self.whole.load(Ordering::Relaxed) as f64 + self.rest.get()
    }
}

/// The cells of a summary or histogram: the sum of what was observed, and counts, one for each bucket.
#[derive(Debug)]
pub struct ObservedCells {
    sum: AtomicCell,
    counts: Box<[AtomicU64]>,
}

impl ObservedCells {
    /// With `counts` counts.
    pub fn new(counts: usize) -> Self {
        Self { sum: AtomicCell::default(), counts: (0..counts).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Counts `value` in the count with this index. Every ordering is `Relaxed`: a reader may see the count and
    /// not yet the sum, here as in every store.
    #[inline]
    pub fn observe(&self, index: usize, value: f64) {
        if let Some(count) = self.counts.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.add(value);
    }

    /// Writes the sum, then the counts, to `values`.
    pub fn read(&self, values: &mut [f64]) {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed) as f64);
        let read = std::iter::once(self.sum.get()).chain(counts);
        values.iter_mut().zip(read).for_each(|(value, read)| *value = read);
    }
}

/// An `f64` behind a lock of its own, as 0.0.9's `SingleProcessBackend` has it.
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
        let (atomic, mutex, counter) = (AtomicCell::default(), MutexCell::default(), CounterCell::default());
        add_from_four_threads(|| atomic.add(1.0));
        add_from_four_threads(|| mutex.add(1.0));
        assert_eq!(atomic.get(), 200_000.0);
        assert_eq!(mutex.get(), 200_000.0);
        add_from_four_threads(|| counter.add(1.0));
        add_from_four_threads(|| counter.add(0.5));
        assert_eq!(counter.get(), 300_000.0);
        let observed = ObservedCells::new(2);
        add_from_four_threads(|| observed.observe(1, 0.5));
        let mut values = [0.0; 3];
        observed.read(&mut values);
        assert_eq!(values, [100_000.0, 0.0, 200_000.0]);
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

    #[test]
    fn a_lock_left_behind_by_a_fork_is_void() {
        let cell = MutexCell::default();
        cell.set(2.0);
        cell.holder.store(1 + fork::generation() + 7, Ordering::Relaxed);
        cell.add(1.0);
        assert_eq!(cell.get(), 3.0);
    }
}
