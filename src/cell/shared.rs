//! The cells of one metric in a mapped file, where several processes change them.
//!
//! A metric of the shared-memory store counts here: a compare-and-swap of one word, without a lock or a
//! system call. When the metric is removed, its record may be given to another metric. The record's
//! generation changes then, and every operation checks it first, so that a stale handle changes nothing.

#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::back_off::back_off;
use super::native::NativeTable;
use super::segment::{Segment, load};
use crate::model::definition::{FIRST_COUNT_CELL, NATIVE_CELLS, VALUE_CELL};
use crate::model::native::{BucketWord, Native, Place};

/// How many words the word of the last use stands behind the generation, in the head of a record.
const LAST_USE_BEHIND_GENERATION: usize = 6;

/// The cells of a metric, and the generation that its record has for as long as they belong to it.
#[derive(Debug)]
pub(crate) struct SharedCells {
    cells: *const AtomicU64,
    count: usize,
    generation: *const AtomicU64,
    expected: u64,
    /// Keeps the pointers above valid.
    _segment: Arc<Segment>,
}

// SAFETY: the pointers lead to atomics in a map that lives as long as the Arc, so any thread may use them.
unsafe impl Send for SharedCells {}
// SAFETY: as above.
unsafe impl Sync for SharedCells {}

impl SharedCells {
    /// Returns the `count` cells at `cells_at`. They belong to the metric while the word at `generation_at`
    /// is `expected`. Returns `None` if a cell or the generation is outside the segment.
    pub(crate) fn new(
        segment: &Arc<Segment>,
        generation_at: u64,
        expected: u64,
        cells_at: u64,
        count: usize,
    ) -> Option<Self> {
        let generation: *const AtomicU64 = segment.word(generation_at)?;
        let cells: *const AtomicU64 = segment.word(cells_at)?;
        if cells_at < generation_at + LAST_USE_BEHIND_GENERATION as u64 * 8 {
            return None;
        }
        let last = (count as u64).checked_sub(1)?.checked_mul(8)?.checked_add(cells_at)?;
        segment.word(last)?;
        Some(Self { cells, count, generation, expected, _segment: Arc::clone(segment) })
    }

    /// Returns the word of the [last use](super::last_use), and its owner.
    pub(crate) fn last_use(&self) -> (&AtomicU64, u32) {
        // SAFETY: the word stands in the head of the record, between the generation and the cells, which are both
        // inside the segment: see `new`.
        let word = unsafe { &*self.generation.add(LAST_USE_BEHIND_GENERATION) };
        (word, self.expected as u32)
    }

    /// Adds `amount`, unless the metric was removed.
    #[inline]
    pub(crate) fn add(&self, index: usize, amount: f64) {
        self.change(index, |value| value + amount);
    }

    /// Counts `value` in a native histogram, and adds it to the sum, unless the metric was removed. `count_cell` is
    /// the cell of its classic bucket.
    #[inline]
    pub(crate) fn observe_native(&self, native: Native, count_cell: usize, value: f64) {
        let zero_cell = self.count - native.size() - NATIVE_CELLS;
        let place = Place::of(value);
        if zero_cell > FIRST_COUNT_CELL + 1 || place == Place::Nan {
            self.add(count_cell, 1.0);
        }
        match place {
            Place::Zero => self.add(zero_cell, 1.0),
            Place::Bucket(bucket) => self.table(native).add(0, bucket, 1, || self.is_live()),
            Place::Nan => {}
        }
        self.add(VALUE_CELL, value);
    }

    /// Adds the count of a word that was gathered elsewhere.
    pub(crate) fn add_word(&self, native: Native, word: BucketWord) {
        self.table(native).add_word(word, || self.is_live());
    }

    /// Returns the table of a native histogram: the last cells.
    #[inline]
    fn table(&self, native: Native) -> NativeTable<'_> {
        let words_at = self.count - native.size();
        // SAFETY: see `new`; `words_at` is at most `count`, or the subtraction would have panicked.
        let words = unsafe { std::slice::from_raw_parts(self.cells.add(words_at), native.size()) };
        NativeTable::new(native, self.cell(words_at - 1), words)
    }

    /// Replaces the value, unless the metric was removed.
    #[inline]
    pub(crate) fn set(&self, index: usize, value: f64) {
        self.change(index, |_| value);
    }

    /// Replaces the value by `next(value)`, unless the metric was removed.
    #[inline]
    pub(crate) fn update(&self, index: usize, next: impl Fn(f64) -> f64) {
        self.change(index, next);
    }

    /// Returns the value. It is this metric's if [`is_live`](Self::is_live) returns true afterwards: the load
    /// is an Acquire, so a caller that read another metric's value then sees that metric's generation.
    pub(crate) fn get(&self, index: usize) -> f64 {
        f64::from_bits(load(self.cell(index)))
    }

    /// Returns whether the record still belongs to this metric.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        // SAFETY: see `new`.
        // Acquire pairs with the Release store of the process that removes the metric.
        load(unsafe { &*self.generation }) == self.expected
    }

    /// Replaces the value of a cell by `next(value)` with a compare-and-swap, if the metric is live.
    ///
    /// A process that gives the record to another metric changes the generation first, and then zeroes the
    /// cells with Release stores. `change` loads the cell with Acquire and checks the generation afterwards.
    /// If it loaded the zero of the new metric, it sees the new generation and returns. If it loaded a value
    /// of the old metric, the exchange fails once the cell is zeroed. One case is left: the thread is
    /// suspended between the check and the exchange while the record is removed, reused, and the cell reaches
    /// the bit-identical value again. `docs/shared-memory-layout.md` lists it under "What is not promised".
    /// Always inlined: a call in a hot function would make all ways through it save registers.
    #[inline(always)]
    fn change(&self, index: usize, next: impl Fn(f64) -> f64) {
        debug_assert!(index < self.count, "cell {index} of {}", self.count);
        // A hot call: a way that might panic would need a guard at the C boundary, and registers for it.
        let Some(cell) = self.known_cell(index) else { return };
        let mut current = cell.load(Ordering::Acquire);
        loop {
            if !self.is_live() {
                return;
            }
            let wanted = next(f64::from_bits(current)).to_bits();
            // Relaxed on success: the cell publishes nothing but its own value.
            if cell.compare_exchange(current, wanted, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
            back_off();
            // Acquire, as for the load above.
            current = cell.load(Ordering::Acquire);
        }
    }

    #[inline]
    fn cell(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.count, "cell {index} of {}", self.count);
        // SAFETY: see `new`; the index is checked.
        unsafe { &*self.cells.add(index) }
    }

    #[inline(always)]
    fn known_cell(&self, index: usize) -> Option<&AtomicU64> {
        if index >= self.count {
            return None;
        }
        // SAFETY: see `new`; the index is checked.
        Some(unsafe { &*self.cells.add(index) })
    }

    /// Copies the cells to `values`. The values are this metric's if it is live afterwards.
    pub(crate) fn read(&self, values: &mut [f64]) {
        for (index, value) in values.iter_mut().enumerate().take(self.count) {
            *value = self.get(index);
        }
    }
}
