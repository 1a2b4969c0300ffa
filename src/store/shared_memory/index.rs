//! An index of the records of the file, as far as this process has read it.
//!
//! A writer needs it to see whether a series exists, and to find a free record. An entry takes 16 bytes: the
//! record checksum and the offset. A look-up reads the record itself from the file, so the index holds no
//! labels.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::file::SharedFile;
use super::layout::{
    CHANGES_AT, GENERATION_AT, HEADER_SIZE, KIND_FAMILY, KIND_METRIC, RECORD_CHECKSUM_AT, SEGMENT_SIZE,
};
use super::record::{Contents, Place, Record, place_at, read, word};
use crate::cell::segment::load;
use crate::model::error::Result;

/// The offsets of the records, by what a writer looks for.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The offset up to which the index knows the file.
    scanned: u64,
    /// The file's counter of changes when the index was begun.
    changes: u64,
    /// Live records by their record checksum.
    live: HashMap<u64, u64>,
    /// Live records whose checksum is already in `live`, with their offsets.
    twins: BTreeSet<(u64, u64)>,
    /// Family records, in the order of the file.
    families: Vec<u64>,
    /// Free metric records by size.
    free: BTreeMap<u32, Vec<u64>>,
}

impl Index {
    /// Returns how many of the bytes before `end` the index does not know.
    pub(super) fn unknown_bytes(&self, end: u64) -> u64 {
        end.saturating_sub(self.scanned)
    }

    /// Returns whether no record was removed or reused since the index was begun. The caller has checked the
    /// length of the file.
    pub(super) fn is_valid(&self, file: &SharedFile) -> Result<bool> {
        Ok(self.scanned > 0 && current_changes(file)? == self.changes)
    }

    /// Forgets everything. The caller must hold the lock, so that no change is half done.
    pub(super) fn restart(&mut self, file: &SharedFile) -> Result<()> {
        *self = Self { changes: current_changes(file)?, scanned: HEADER_SIZE, ..Self::default() };
        Ok(())
    }

    /// Reads the bytes before `end` that the index does not know.
    ///
    /// It needs no lock. If another process reuses records meanwhile, the index may be wrong, but then the
    /// counter of changes differs. So the caller checks [`Index::is_valid`] under the lock before it writes.
    pub(super) fn catch_up(&mut self, file: &SharedFile, end: u64) -> Result<()> {
        while self.scanned < end {
            let (place, next) = place_at(file, self.scanned, end)?;
            if let Some(place) = place {
                self.add(file, place)?;
            }
            // Advance after each record, so that a retry after an error does not add a record twice.
            self.scanned = next;
        }
        Ok(())
    }

    fn add(&mut self, file: &SharedFile, place: Place) -> Result<()> {
        if !matches!(place.kind, KIND_FAMILY | KIND_METRIC) {
            return Ok(());
        }
        let segment = file.segment(place.offset)?;
        let generation = load(word(file, segment, place.offset, GENERATION_AT)?);
        if !generation.is_multiple_of(2) {
            let checksum = load(word(file, segment, place.offset, RECORD_CHECKSUM_AT)?);
            self.insert(place.kind, checksum, place.offset);
        } else if place.kind == KIND_METRIC {
            self.free.entry(place.size).or_default().push(place.offset);
        }
        Ok(())
    }

    /// Notes that this process has appended a record that ends at `end`.
    pub(super) fn appended(&mut self, end: u64) {
        self.scanned = end;
    }

    /// Adds a live record.
    pub(super) fn insert(&mut self, kind: u32, checksum: u64, offset: u64) {
        if kind == KIND_FAMILY {
            self.families.push(offset);
        }
        match self.live.entry(checksum) {
            Entry::Vacant(entry) => {
                entry.insert(offset);
            }
            Entry::Occupied(_) => {
                self.twins.insert((checksum, offset));
            }
        }
    }

    /// Moves a live metric record to the free ones.
    pub(super) fn free(&mut self, checksum: u64, size: u32, offset: u64) {
        if self.live.get(&checksum) == Some(&offset) {
            self.live.remove(&checksum);
        }
        self.twins.remove(&(checksum, offset));
        self.free.entry(size).or_default().push(offset);
    }

    /// Takes the offset of a free record of this size.
    pub(super) fn take_free(&mut self, size: u32) -> Option<u64> {
        self.free.get_mut(&size).and_then(Vec::pop)
    }

    /// Notes a change that this process has counted.
    pub(super) fn changed(&mut self) {
        self.changes = self.changes.wrapping_add(1);
    }

    /// Returns the live record with these contents, if the index knows one.
    pub(super) fn find(&self, file: &SharedFile, wanted: &Contents<'_>) -> Result<Option<Record>> {
        let checksum = wanted.checksum(wanted.size(file)?);
        let twins = self.twins.range((checksum, 0)..=(checksum, u64::MAX)).map(|(_, offset)| offset);
        for &offset in self.live.get(&checksum).into_iter().chain(twins) {
            if let Some(record) = read_at(file, offset)?.filter(|record| wanted.are_those_of(record)) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Returns the live family records, in the order of the file.
    pub(super) fn families(&self, file: &SharedFile) -> Result<Vec<Record>> {
        let mut records = Vec::with_capacity(self.families.len());
        for &offset in &self.families {
            records.extend(read_at(file, offset)?);
        }
        Ok(records)
    }
}

/// Reads the record at `offset`, where the index found one earlier.
fn read_at(file: &SharedFile, offset: u64) -> Result<Option<Record>> {
    let end = (offset / SEGMENT_SIZE + 1) * SEGMENT_SIZE;
    // A file that was cut off since then must not be read behind its end.
    file.check_length(end)?;
    match place_at(file, offset, end)? {
        (Some(place), _) => read(file, place),
        (None, _) => Ok(None),
    }
}

fn current_changes(file: &SharedFile) -> Result<u64> {
    Ok(load(word(file, file.segment(0)?, 0, CHANGES_AT)?))
}
