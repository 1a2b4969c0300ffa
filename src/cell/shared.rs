//! The cells of one metric in a mapped file, where several processes change them.
//!
//! A metric of the shared-memory store counts here: a compare-and-swap of one word, without a lock or a
//! system call. When the metric is removed, its record may be given to another metric. The record's
//! generation changes then, and every operation checks it first, so that a stale handle changes nothing.

#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::back_off::back_off;
use super::exemplar::{ExemplarSlot, Found, SLOT_WORDS};
use super::native::NativeTable;
use super::segment::{Segment, load};
use crate::model::definition::{FIRST_COUNT_CELL, NATIVE_CELLS, VALUE_CELL};
use crate::model::exemplar::Exemplar;
use crate::model::native::{BucketWord, Native, Place};

/// How many words the word of the last use stands behind the generation, in the head of a record.
const LAST_USE_BEHIND_GENERATION: usize = 6;

/// The cells of a metric, and the generation that its record has for as long as they belong to it.
#[derive(Debug)]
pub(crate) struct SharedCells {
    cells: *const AtomicU64,
    /// Half a word each, because a program may have a million metrics.
    count: u32,
    slots: Slots,
    generation: *const AtomicU64,
    expected: u64,
    /// Keeps the pointers above valid.
    _segment: Arc<Segment>,
}

/// Where the slots of exemplars begin, in words behind the first cell, times 8, plus their number.
#[derive(Debug, Clone, Copy)]
struct Slots(u32);

impl Slots {
    /// Returns `None` for an offset that no segment has. There are at most seven slots.
    fn new(offset: u64, count: usize) -> Option<Self> {
        let start = u32::try_from(offset / 8).ok()?.checked_mul(8)?;
        Some(Self(start | count.min(7) as u32))
    }

    fn start(self) -> usize {
        self.0 as usize / 8
    }

    fn words(self) -> usize {
        self.0 as usize % 8 * SLOT_WORDS
    }
}

// SAFETY: the pointers lead to atomics in a map that lives as long as the Arc, so any thread may use them.
unsafe impl Send for SharedCells {}
// SAFETY: as above.
unsafe impl Sync for SharedCells {}

impl SharedCells {
    /// Returns the `count` cells at `cells_at`. They belong to the metric while the word at `generation_at`
    /// is `expected`. There are `slots` slots for exemplars at `slots_at`.
    ///
    /// Returns `None` if a cell, a slot or the generation is outside the segment.
    pub(crate) fn new(
        segment: &Arc<Segment>,
        generation_at: u64,
        expected: u64,
        cells_at: u64,
        count: usize,
        (slots_at, slots): (u64, usize),
    ) -> Option<Self> {
        let generation: *const AtomicU64 = segment.word(generation_at)?;
        let cells: *const AtomicU64 = segment.word(cells_at)?;
        if cells_at < generation_at + LAST_USE_BEHIND_GENERATION as u64 * 8 {
            return None;
        }
        let last = (count as u64).checked_sub(1)?.checked_mul(8)?.checked_add(cells_at)?;
        segment.word(last)?;
        let slots = Slots::new(slots_at.checked_sub(cells_at)?, slots)?;
        segment.words(slots_at, slots.words() as u64)?;
        let (count, _segment) = (u32::try_from(count).ok()?, Arc::clone(segment));
        Some(Self { cells, count, slots, generation, expected, _segment })
    }

    /// Returns the slot of an exemplar with this number, if the record has room for it.
    pub(crate) fn exemplar_slot(&self, slot: usize) -> Option<ExemplarSlot<'_>> {
        // SAFETY: see `new`.
        let words =
            unsafe { std::slice::from_raw_parts(self.cells.add(self.slots.start()), self.slots.words()) };
        ExemplarSlot::at(words, slot, self.expected)
    }

    /// Returns the exemplars. They are this metric's, because a slot of an earlier one has another checksum.
    pub(crate) fn exemplars(&self) -> Vec<Exemplar> {
        (0..).map_while(|slot| self.exemplar_slot(slot)).filter_map(|slot| slot.exemplar()).collect()
    }

    /// Returns how many slots of exemplars cannot be read.
    pub(crate) fn unreadable_exemplars(&self) -> usize {
        let slots = (0..).map_while(|slot| self.exemplar_slot(slot));
        slots.filter(|slot| slot.read() == Found::Unreadable).count()
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
        let zero_cell = self.count as usize - native.size() - NATIVE_CELLS;
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
        let words_at = self.count as usize - native.size();
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
        debug_assert!(index < self.count as usize, "cell {index} of {}", self.count);
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
        assert!(index < self.count as usize, "cell {index} of {}", self.count);
        // SAFETY: see `new`; the index is checked.
        unsafe { &*self.cells.add(index) }
    }

    #[inline(always)]
    fn known_cell(&self, index: usize) -> Option<&AtomicU64> {
        if index >= self.count as usize {
            return None;
        }
        // SAFETY: see `new`; the index is checked.
        Some(unsafe { &*self.cells.add(index) })
    }

    /// Copies the cells to `values`. The values are this metric's if it is live afterwards.
    pub(crate) fn read(&self, values: &mut [f64]) {
        for (index, value) in values.iter_mut().enumerate().take(self.count as usize) {
            *value = self.get(index);
        }
    }
}
