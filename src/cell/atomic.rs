//! The atomics that [`pending`](crate::cell::pending) is built from.
//!
//! That file imports them from here and from nowhere else, so that the models in `tests/loom_pending.rs` can
//! run the same source on loom's atomics, which try every interleaving. This file defines words only; what
//! they mean together is defined in `pending`.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering};

use portable_atomic::AtomicU128;

/// A change of a gauge in one word: a value, and whether it replaces the earlier value or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ChangeWord(u128);

impl ChangeWord {
    const SET: u128 = 1 << 64;

    /// Makes a change to `value` if `is_set`, and by `value` otherwise.
    #[inline]
    pub(crate) fn new(is_set: bool, value: f64) -> Self {
        Self(if is_set { Self::SET } else { 0 } | u128::from(value.to_bits()))
    }

    #[inline]
    pub(crate) fn is_set(self) -> bool {
        self.0 & Self::SET != 0
    }

    #[inline]
    pub(crate) fn value(self) -> f64 {
        // The lower half is the value.
        f64::from_bits(self.0 as u64)
    }
}

/// A [`ChangeWord`] that threads share. The default is "add 0": no change.
#[derive(Debug, Default)]
pub(crate) struct AtomicChangeWord(AtomicU128);

impl AtomicChangeWord {
    #[inline]
    pub(crate) fn load(&self, order: Ordering) -> ChangeWord {
        ChangeWord(self.0.load(order))
    }

    pub(crate) fn store(&self, word: ChangeWord, order: Ordering) {
        self.0.store(word.0, order);
    }

    #[inline]
    pub(crate) fn swap(&self, word: ChangeWord, order: Ordering) -> ChangeWord {
        ChangeWord(self.0.swap(word.0, order))
    }

    #[inline]
    pub(crate) fn compare_exchange_weak(
        &self,
        current: ChangeWord,
        next: ChangeWord,
        success: Ordering,
        failure: Ordering,
    ) -> Result<ChangeWord, ChangeWord> {
        let result = self.0.compare_exchange_weak(current.0, next.0, success, failure);
        result.map(ChangeWord).map_err(ChangeWord)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_every_value_and_its_meaning() {
        for value in [0.0, -0.0, 1.5, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            for is_set in [false, true] {
                let word = ChangeWord::new(is_set, value);
                assert_eq!((word.is_set(), word.value().to_bits()), (is_set, value.to_bits()));
            }
        }
        assert_eq!(ChangeWord::default(), ChangeWord::new(false, 0.0));
    }

    #[test]
    fn what_threads_exchange_is_there_once() {
        let shared = AtomicChangeWord::default();
        let add = |amount: f64| {
            let mut current = shared.load(Ordering::Relaxed);
            while let Err(seen) = shared.compare_exchange_weak(
                current,
                ChangeWord::new(current.is_set(), current.value() + amount),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                current = seen;
            }
        };
        let taken = std::thread::scope(|scope| {
            let writers: Vec<_> =
                (0..3).map(|_| scope.spawn(|| (0..50_000).for_each(|_| add(1.0)))).collect();
            let mut taken = 0.0;
            while !writers.iter().all(|writer| writer.is_finished()) {
                taken += shared.swap(ChangeWord::default(), Ordering::AcqRel).value();
            }
            taken
        });
        assert_eq!(taken + shared.load(Ordering::Relaxed).value(), 150_000.0);
    }
}
