//! A mapped segment of the file: words that several processes read and change.
//!
//! The only unsafe file of this store. Nothing here hands out a reference to plain bytes: other processes
//! may change them at any time, so every access goes through an atomic.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};
use rustix::io::Errno;

use super::layout::SEGMENT_SIZE;

#[cfg(target_endian = "big")]
compile_error!("the shared-memory store keeps little-endian numbers, and changes them in place");

/// One segment, mapped for as long as somebody holds it.
#[derive(Debug)]
pub(crate) struct Segment {
    map: MmapRaw,
}

impl Segment {
    /// Maps the segment `number` of a file that is at least that long.
    pub(crate) fn map(file: &File, number: u64) -> io::Result<Arc<Self>> {
        let mut options = MmapOptions::new();
        options.offset(number * SEGMENT_SIZE).len(SEGMENT_SIZE as usize);
        Ok(Arc::new(Self { map: options.map_raw(file)? }))
    }

    /// Maps it so that it can only be read: all that may be done with its words is to load them.
    pub(crate) fn map_to_read(file: &File, number: u64) -> io::Result<Arc<Self>> {
        let mut options = MmapOptions::new();
        options.offset(number * SEGMENT_SIZE).len(SEGMENT_SIZE as usize);
        let map = options.map_raw_read_only(file)?;
        // A copy may have holes, for which a full tmpfs has no page: an error here, and not a signal later.
        #[cfg(target_os = "linux")]
        match map.advise(memmap2::Advice::PopulateRead) {
            // Linux before 5.14 does not know it.
            Err(error) if error.raw_os_error() != Some(Errno::INVAL.raw_os_error()) => return Err(error),
            _ => {}
        }
        Ok(Arc::new(Self { map }))
    }

    /// The word at `offset` within the segment. `None` if it is not aligned or not inside.
    pub(crate) fn word(&self, offset: u64) -> Option<&AtomicU64> {
        let is_inside = offset.is_multiple_of(8) && offset.checked_add(8)? <= SEGMENT_SIZE;
        // SAFETY: the eight bytes are inside the map (checked), which lives as long as `self`; the map
        // begins at a page, so they are aligned; and all processes access them as atomics only. (In a map that
        // can only be read, a word is only loaded, by [`load`].)
        is_inside.then(|| unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset as usize).cast()) })
    }
}

/// Loads a word, with what was written before it: also from a map that can only be read, where only `Relaxed` loads
/// are promised to work; so it is the fence that acquires.
#[inline]
pub(super) fn load(word: &AtomicU64) -> u64 {
    let value = word.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}

/// The cells of a metric in a segment, with what tells whether they are still this metric's.
#[derive(Debug)]
pub(crate) struct SharedCells {
    cells: *const AtomicU64,
    count: usize,
    generation: *const AtomicU64,
    expected: u64,
    /// Keeps the pointers above valid.
    _segment: Arc<Segment>,
}

// SAFETY: the pointers lead to atomics in a map that lives as long as the Arc, on every thread.
unsafe impl Send for SharedCells {}
// SAFETY: as above.
unsafe impl Sync for SharedCells {}

impl SharedCells {
    /// The `count` cells at `cells_at`, which belong to the metric as long as the word at
    /// `generation_at` is `expected`. `None` if they are not inside the segment.
    pub(crate) fn new(
        segment: &Arc<Segment>,
        generation_at: u64,
        expected: u64,
        cells_at: u64,
        count: usize,
    ) -> Option<Self> {
        let generation: *const AtomicU64 = segment.word(generation_at)?;
        let cells: *const AtomicU64 = segment.word(cells_at)?;
        let last = (count as u64).checked_sub(1)?.checked_mul(8)?.checked_add(cells_at)?;
        segment.word(last)?;
        Some(Self { cells, count, generation, expected, _segment: Arc::clone(segment) })
    }

    /// Adds `amount`, unless the metric was removed.
    #[inline]
    pub(crate) fn add(&self, index: usize, amount: f64) {
        self.change(index, |value| value + amount);
    }

    /// Replaces the value, unless the metric was removed.
    #[inline]
    pub(crate) fn set(&self, index: usize, value: f64) {
        self.change(index, |_| value);
    }

    /// The value.
    pub(crate) fn get(&self, index: usize) -> f64 {
        // Acquire: whoever looks at the generation afterwards sees the one that goes with this value, as
        // in `change`.
        f64::from_bits(load(self.cell(index)))
    }

    /// Whether the record still belongs to this metric.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        // SAFETY: see `new`.
        // Acquire: in `change`, the load of the cell must not move behind this one; on its own it pairs
        // with the Release of whoever removes the metric.
        load(unsafe { &*self.generation }) == self.expected
    }

    /// A compare-and-swap from a value that was this metric's.
    ///
    /// Whoever gives the record to another metric first changes the generation, then zeroes the cells with
    /// Release. We load the cell with Acquire and look at the generation after it: if we have seen a zero of
    /// the new metric, we see its generation, and stop. If we have seen a value of the old one, the exchange
    /// fails once the cells were zeroed. What is left is a thread that is suspended between the two for as
    /// long as the record is removed, used again, and comes to the very same value: see
    /// `docs/shared-memory-layout.md`.
    #[inline]
    fn change(&self, index: usize, next: impl Fn(f64) -> f64) {
        let cell = self.cell(index);
        let mut current = cell.load(Ordering::Acquire);
        loop {
            if !self.is_live() {
                return;
            }
            let wanted = next(f64::from_bits(current)).to_bits();
            // Relaxed would do for the cell itself; Acquire on failure as for the load above.
            match cell.compare_exchange_weak(current, wanted, Ordering::Relaxed, Ordering::Acquire) {
                Ok(_) => return,
                Err(seen) => current = seen,
            }
        }
    }

    #[inline]
    fn cell(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.count, "cell {index} of {}", self.count);
        // SAFETY: see `new`; the index is checked.
        unsafe { &*self.cells.add(index) }
    }

    /// Writes the values of the cells to `values`. They are this metric's if it is live afterwards.
    pub(crate) fn read(&self, values: &mut [f64]) {
        for (index, value) in values.iter_mut().enumerate().take(self.count) {
            *value = self.get(index);
        }
    }
}
