//! A mapped part of a file: 64-bit words that several processes read and change.
//!
//! The shared-memory store maps its file through this module, and [`super::shared`] counts in it. Other
//! processes may change any byte at any time, so no function returns a reference to plain bytes: every
//! access goes through an atomic.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};

/// A part of a file, mapped until the last `Arc` is dropped.
#[derive(Debug)]
pub(crate) struct Segment {
    map: MmapRaw,
}

impl Segment {
    /// Maps `length` bytes at `offset` for reading and writing. The file must be at least that long, and
    /// `offset` a multiple of the page size. Set `has_holes` if the file system has not reserved all of the
    /// bytes.
    pub(crate) fn map(file: RawFd, offset: u64, length: u64, has_holes: bool) -> io::Result<Arc<Self>> {
        let map = MmapOptions::new().offset(offset).len(length as usize).map_raw(file)?;
        Self::populated(map, has_holes)
    }

    /// Maps the same bytes for reading only: their words may be read with [`load`], and in no other way.
    pub(crate) fn map_to_read(
        file: RawFd,
        offset: u64,
        length: u64,
        has_holes: bool,
    ) -> io::Result<Arc<Self>> {
        let map = MmapOptions::new().offset(offset).len(length as usize).map_raw_read_only(file)?;
        Self::populated(map, has_holes)
    }

    /// Populates the map if the file has holes. Reading a hole on a full tmpfs raises SIGBUS, because the
    /// kernel has no page for it. Populating the map first turns that signal into an error.
    fn populated(map: MmapRaw, has_holes: bool) -> io::Result<Arc<Self>> {
        if has_holes {
            populate(&map)?;
        }
        Ok(Arc::new(Self { map }))
    }

    /// Returns the word at `offset` within the segment, or `None` if it is not aligned or not inside.
    pub(crate) fn word(&self, offset: u64) -> Option<&AtomicU64> {
        let is_inside = offset.is_multiple_of(8) && offset.checked_add(8)? <= self.map.len() as u64;
        // SAFETY: the eight bytes are inside the map (checked), which lives as long as `self`. The map begins
        // at a page, so they are aligned. All processes access them as atomics only. A word of a read-only
        // map is only read, by `load`.
        is_inside.then(|| unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset as usize).cast()) })
    }

    /// Returns `count` words from `offset` within the segment on, or `None` if they are not aligned or not inside.
    /// Those of a read-only map may be read with [`load`], and in no other way.
    pub(crate) fn words(&self, offset: u64, count: u64) -> Option<&[AtomicU64]> {
        let end = count.checked_mul(8)?.checked_add(offset)?;
        let is_inside = offset.is_multiple_of(8) && end <= self.map.len() as u64;
        // SAFETY: as in `word`; all words up to `end` are inside the map.
        is_inside.then(|| unsafe {
            std::slice::from_raw_parts(self.map.as_mut_ptr().add(offset as usize).cast(), count as usize)
        })
    }
}

#[cfg(target_os = "linux")]
fn populate(map: &MmapRaw) -> io::Result<()> {
    match map.advise(memmap2::Advice::PopulateRead) {
        // Linux before 5.14 does not know MADV_POPULATE_READ.
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INVAL.raw_os_error()) => Err(error),
        _ => Ok(()),
    }
}

/// Does nothing: only Linux can populate a map and report a full file system as an error.
#[cfg(not(target_os = "linux"))]
fn populate(_map: &MmapRaw) -> io::Result<()> {
    Ok(())
}

/// Loads a word with Acquire semantics.
///
/// Rust guarantees only `Relaxed` loads on read-only memory, so a fence does the acquiring.
#[inline]
pub(crate) fn load(word: &AtomicU64) -> u64 {
    let value = word.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}
