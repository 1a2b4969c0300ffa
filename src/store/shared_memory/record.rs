//! One record of the file: read and written as words of a segment.
//!
//! Readers take no lock. A record is valid once the committed end is behind it. A reader checks the
//! generation before and after it reads, because the record may be given to another metric meanwhile. Another
//! program may have written the file, so each size and offset is checked before it is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::created;
use super::errors::damaged;
use super::file::SharedFile;
use super::layout::{
    COMMITTED_AT, CREATED_AT, FAMILY_AT, GENERATION_AT, HEADER_SIZE, KIND_AND_SIZE_AT, KIND_FAMILY,
    KIND_METRIC, LAST_USE_AT, LENGTHS_AT, PLACE_CHECKSUM_AT, RECORD_ALIGNMENT, RECORD_CHECKSUM_AT,
    RECORD_HEADER_SIZE, SEGMENT_SIZE, checksum, place_checksum, record_size, series_hash,
};
use crate::cell::Cells;
use crate::cell::exemplar::SLOT_WORDS;
use crate::cell::last_use;
use crate::cell::segment::{Segment, load};
use crate::cell::shared::SharedCells;
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::sample::Milliseconds;
use crate::process::clock::uptime;

/// How often a record is read while it is given to other metrics, before it is left out.
const READ_ATTEMPTS: usize = 16;

#[cfg(test)]
thread_local! {
    /// How many records this thread has read.
    pub(super) static READS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    /// How many words this thread may store before it is killed.
    pub(super) static STORES_LEFT: std::cell::Cell<u64> = const { std::cell::Cell::new(u64::MAX) };
}

/// A copy of a live record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) offset: u64,
    pub(super) generation: u64,
    pub(super) kind: u32,
    pub(super) family: u64,
    pub(super) cell_count: u32,
    /// How many slots for exemplars the record has room for, behind its text.
    pub(super) slots: usize,
    /// When the metric began, if that is known.
    pub(super) created: Option<Milliseconds>,
    /// When the metric was last used: see [`last_use`].
    pub(super) last_use: u64,
    pub(super) text: String,
}

impl Record {
    /// Returns the hash under which the index knows the record.
    pub(super) fn hash(&self, file: &SharedFile) -> u64 {
        hash(file, self.kind, self.family, &self.text)
    }
}

/// A family is found by its name, and a metric by its family and labels.
fn hash(file: &SharedFile, kind: u32, family: u64, text: &str) -> u64 {
    let identity = &file.header().identity;
    match kind {
        KIND_FAMILY => series_hash(identity, 0, text.split('\n').next().unwrap_or(text).as_bytes()),
        _ => series_hash(identity, family, text.as_bytes()),
    }
}

/// The contents of a record to find or to write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contents<'text> {
    pub(super) kind: u32,
    pub(super) family: u64,
    pub(super) cell_count: usize,
    /// The slots for exemplars of a record that is written. They do not count when a record is looked for: a program
    /// that does not know exemplars makes records without them, and finds those that have some.
    pub(super) slots: usize,
    /// When the metric began, for a record that is written.
    pub(super) created: Option<Milliseconds>,
    /// Whether the series ends when it is not used.
    pub(super) ends: bool,
    pub(super) text: &'text str,
}

impl Contents<'_> {
    /// Returns the size of a record with these contents, or an error if no segment can hold it.
    pub(super) fn size(&self, file: &SharedFile) -> Result<u32> {
        let text = self.text.len().next_multiple_of(8) + self.slots * SLOT_WORDS * 8;
        let text = if self.slots == 0 { self.text.len() } else { text };
        record_size(self.cell_count, text).ok_or_else(|| {
            let message = format!(
                "a record of {} bytes of text and {} values is too large for the metrics file {}: expected \
                 less than {}",
                self.text.len(),
                self.cell_count,
                file.path().display(),
                SEGMENT_SIZE - HEADER_SIZE
            );
            Error::new(ErrorKind::InvalidArgument, message)
        })
    }

    /// Returns the record checksum that a record with these contents has.
    pub(super) fn checksum(&self, size: u32) -> u64 {
        record_checksum(self.kind_and_size(size), self.family, self.lengths(), self.text.as_bytes())
    }

    /// Returns the hash under which the index knows a record with these contents.
    pub(super) fn hash(&self, file: &SharedFile) -> u64 {
        hash(file, self.kind, self.family, self.text)
    }

    /// Returns whether `record` has these contents.
    pub(super) fn are_those_of(&self, record: &Record) -> bool {
        record.kind == self.kind
            && record.family == self.family
            && record.cell_count as usize == self.cell_count
            && record.text == self.text
            // The record of a series that has ended stays for a while.
            && !(self.ends && last_use::is_buried(record.last_use))
    }

    /// Returns the word at [`KIND_AND_SIZE_AT`] of a record of this size.
    pub(super) fn kind_and_size(&self, size: u32) -> u64 {
        u64::from(self.kind) | u64::from(size) << 32
    }

    /// Returns the word of the last use of a record that is written now.
    pub(super) fn last_use(&self, generation: u64) -> u64 {
        if self.ends { last_use::begin(generation as u32, uptime()) } else { 0 }
    }

    fn lengths(&self) -> u64 {
        self.text.len() as u64 | (self.cell_count as u64) << 32
    }

    /// Writes a record of `size` bytes at `offset`: all of it but its generation, which is to be `generation`
    /// (any, if it means nothing).
    pub(super) fn write(&self, file: &SharedFile, offset: u64, size: u32, generation: u64) -> Result<()> {
        let segment = file.writable_segment(offset)?;
        let set = |at: u64, value: u64| -> Result<()> {
            // Release (in `put`): a thread may still add to the cells of the record's last metric. It loads
            // them with Acquire, and must then see the generation that freed the record.
            put(word(file, segment, offset, at)?, value);
            Ok(())
        };
        set(KIND_AND_SIZE_AT, self.kind_and_size(size))?;
        set(PLACE_CHECKSUM_AT, place_checksum(self.kind_and_size(size), offset))?;
        set(FAMILY_AT, self.family)?;
        set(LENGTHS_AT, self.lengths())?;
        let checksum = self.checksum(size);
        set(RECORD_CHECKSUM_AT, checksum)?;
        set(CREATED_AT, created::encode(self.created, generation, checksum))?;
        set(LAST_USE_AT, self.last_use(generation))?;
        let text_at = RECORD_HEADER_SIZE + self.cell_count as u64 * 8;
        for cell in (RECORD_HEADER_SIZE..text_at).step_by(8) {
            set(cell, 0)?;
        }
        for (index, chunk) in self.text.as_bytes().chunks(8).enumerate() {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            set(text_at + index as u64 * 8, u64::from_le_bytes(bytes))?;
        }
        let slots_at = slots_at(self.cell_count as u64, self.text.len() as u64);
        for word in (slots_at..).step_by(8).take(self.slots * SLOT_WORDS) {
            set(word, 0)?;
        }
        Ok(())
    }
}

/// Returns where the slots for exemplars begin, from the beginning of the record on.
fn slots_at(cell_count: u64, text_length: u64) -> u64 {
    RECORD_HEADER_SIZE + cell_count * 8 + text_length.next_multiple_of(8)
}

fn record_checksum(kind_and_size: u64, family: u64, lengths: u64, text: &[u8]) -> u64 {
    checksum(&[&kind_and_size.to_le_bytes(), &family.to_le_bytes(), &lengths.to_le_bytes(), text])
}

/// Returns the definition that a family's record holds.
pub(super) fn definition_of(record: &Record) -> Result<Definition> {
    let (name, json) = record.text.split_once('\n').unwrap_or((&record.text, ""));
    Definition::from_json(name, json)
}

/// Ends the series of this record of a family whose series end, if it was unused for longer than `ttl` seconds. Returns
/// whether it has ended.
pub(super) fn expire(file: &SharedFile, record: &Record, ttl: u32) -> Result<bool> {
    if !last_use::must_look(record.last_use, ttl, uptime()) {
        return Ok(false);
    }
    let segment = file.writable_segment(record.offset)?;
    let used = word(file, segment, record.offset, LAST_USE_AT)?;
    Ok(last_use::expire(used, record.generation as u32, ttl, uptime()))
}

/// Notes that the series of this record was used just now. Returns `false` if it has ended.
pub(super) fn touch(file: &SharedFile, record: &Record, ttl: u32) -> Result<bool> {
    let segment = file.writable_segment(record.offset)?;
    let used = word(file, segment, record.offset, LAST_USE_AT)?;
    Ok(last_use::touch(used, record.generation as u32, ttl, uptime()))
}

/// Returns the cells of a metric's record, as those of its family.
pub(super) fn cells_of(
    definition: &Definition,
    segment: &Arc<Segment>,
    file: &SharedFile,
    record: &Record,
) -> Result<Cells> {
    let cells = cells(segment, file, record)?;
    Ok(match definition.native() {
        Some(native) => Cells::SharedNative(native, Box::new(cells)),
        None => Cells::Shared(cells),
    })
}

/// Returns the cells of a metric's record.
pub(super) fn cells(segment: &Arc<Segment>, file: &SharedFile, record: &Record) -> Result<SharedCells> {
    let start = record.offset % SEGMENT_SIZE;
    let cells = SharedCells::new(
        segment,
        start + GENERATION_AT,
        record.generation,
        start + RECORD_HEADER_SIZE,
        record.cell_count as usize,
        (start + slots_at(u64::from(record.cell_count), record.text.len() as u64), record.slots),
    );
    cells.ok_or_else(|| damaged(file.path(), record.offset))
}

/// Where a record begins, with its kind and size, which never change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) kind: u32,
    pub(super) size: u32,
}

/// Returns the place at `offset` if a record begins there, and where the next one may begin.
///
/// If the size of a record makes no sense, the next record may begin at any multiple of the alignment.
pub(super) fn place_at(file: &SharedFile, offset: u64, end: u64) -> Result<(Option<Place>, u64)> {
    let border = end.min((offset / SEGMENT_SIZE + 1) * SEGMENT_SIZE);
    let segment = file.segment(offset)?;
    let place = kind_and_size(file, segment, offset)?
        .map(|word| Place { offset, kind: word as u32, size: (word >> 32) as u32 })
        .filter(|place| offset + u64::from(place.size) <= border);
    let step = place.map_or(RECORD_ALIGNMENT, |place| u64::from(place.size));
    Ok((place, offset + step))
}

/// Returns the record at `place`, if it is live and not damaged.
pub(super) fn read(file: &SharedFile, place: Place) -> Result<Option<Record>> {
    let Place { offset, kind, size } = place;
    if !matches!(kind, KIND_FAMILY | KIND_METRIC) {
        return Ok(None);
    }
    #[cfg(test)]
    READS.with(|reads| reads.set(reads.get() + 1));
    let segment = file.segment(offset)?;
    let get = |at: u64| -> Result<u64> { Ok(load(word(file, segment, offset, at)?)) };
    // If the record is given to another metric meanwhile, its generation changes, and it is read again.
    for _ in 0..READ_ATTEMPTS {
        let generation = get(GENERATION_AT)?;
        if generation.is_multiple_of(2) {
            return Ok(None);
        }
        let (family, lengths, sum) = (get(FAMILY_AT)?, get(LENGTHS_AT)?, get(RECORD_CHECKSUM_AT)?);
        let created = created::decode(get(CREATED_AT)?, generation, sum);
        let last_use = get(LAST_USE_AT)?;
        let (text_length, cell_count) = (lengths & 0xffff_ffff, lengths >> 32);
        let text_at = RECORD_HEADER_SIZE + cell_count * 8;
        let mut bytes = Vec::new();
        if text_at + text_length <= u64::from(size) {
            bytes.reserve_exact(text_length.next_multiple_of(8) as usize);
            for at in (text_at..text_at + text_length).step_by(8) {
                bytes.extend_from_slice(&get(at)?.to_le_bytes());
            }
            bytes.truncate(text_length as usize);
        }
        if get(GENERATION_AT)? != generation {
            continue;
        }
        let kind_and_size = u64::from(kind) | u64::from(size) << 32;
        let is_whole = bytes.len() as u64 == text_length
            && sum == record_checksum(kind_and_size, family, lengths, &bytes);
        let text = if is_whole { String::from_utf8(bytes).ok() } else { None };
        let room = u64::from(size).saturating_sub(slots_at(cell_count, text_length));
        return Ok(text.map(|text| Record {
            offset,
            generation,
            kind,
            family,
            cell_count: cell_count as u32,
            slots: room as usize / (SLOT_WORDS * 8),
            created,
            last_use,
            text,
        }));
    }
    Ok(None)
}

/// Returns whether the table or directory of the index at `place` has a whole head. Its cells are checked by
/// themselves.
pub(super) fn is_whole_table(file: &SharedFile, place: Place) -> Result<bool> {
    let segment = file.segment(place.offset)?;
    let get = |at: u64| -> Result<u64> { Ok(load(word(file, segment, place.offset, at)?)) };
    let kind_and_size = u64::from(place.kind) | u64::from(place.size) << 32;
    Ok(get(RECORD_CHECKSUM_AT)? == record_checksum(kind_and_size, get(FAMILY_AT)?, get(LENGTHS_AT)?, &[]))
}

/// Returns all live records, in the order of the file.
pub(super) fn live_records(file: &SharedFile) -> Result<Vec<Record>> {
    Ok(live_records_from(file, HEADER_SIZE, usize::MAX)?.0)
}

/// Returns the live records among so many from `offset` on, and where the next one is: at the beginning of the file if
/// there is none.
pub(super) fn live_records_from(
    file: &SharedFile,
    mut offset: u64,
    most: usize,
) -> Result<(Vec<Record>, u64)> {
    let end = committed(file)?;
    let (mut records, mut count) = (Vec::new(), 0);
    while offset < end && count < most {
        let (place, next) = place_at(file, offset, end)?;
        if let Some(place) = place {
            records.extend(read(file, place)?);
        }
        offset = next;
        count += 1;
    }
    Ok((records, if offset < end { offset } else { HEADER_SIZE }))
}

/// Returns the kind and size of the record at `offset`, or `None` if no record begins there.
pub(super) fn kind_and_size(file: &SharedFile, segment: &Arc<Segment>, offset: u64) -> Result<Option<u64>> {
    let get = |at: u64| -> Result<u64> { Ok(load(word(file, segment, offset, at)?)) };
    let kind_and_size = get(KIND_AND_SIZE_AT)?;
    let size = kind_and_size >> 32;
    let makes_sense = size.is_multiple_of(RECORD_ALIGNMENT)
        && size > 0
        && offset % SEGMENT_SIZE + size <= SEGMENT_SIZE
        && get(PLACE_CHECKSUM_AT)? == place_checksum(kind_and_size, offset);
    Ok(makes_sense.then_some(kind_and_size))
}

/// Returns the length of the file. Fails if its header was cut off: reading what was cut off raises SIGBUS.
pub(super) fn checked_length(file: &SharedFile) -> Result<u64> {
    let length = file.length()?;
    if length < SEGMENT_SIZE {
        file.check_length(SEGMENT_SIZE)?;
    }
    Ok(length)
}

/// Returns the committed end. Fails if it makes no sense, or if the file is shorter.
pub(super) fn committed(file: &SharedFile) -> Result<u64> {
    committed_within(file, checked_length(file)?)
}

/// Returns the committed end of a file that was found to have `length` bytes a moment ago.
pub(super) fn committed_within(file: &SharedFile, length: u64) -> Result<u64> {
    let end = load(word(file, file.segment(0)?, 0, COMMITTED_AT)?);
    if end < HEADER_SIZE || !end.is_multiple_of(RECORD_ALIGNMENT) {
        return Err(damaged(file.path(), COMMITTED_AT));
    }
    // The file grows by whole segments, so a part of one means that it was cut off.
    let needed = end.checked_next_multiple_of(SEGMENT_SIZE).unwrap_or(u64::MAX);
    if length < needed {
        // It may have grown since its length was read.
        file.check_length(needed)?;
    }
    Ok(end)
}

/// Stores a word of a record or of the index, after all that this thread has stored before.
///
/// Every change of the file that is made under its lock goes through here, except the lock itself and cells
/// that count.
pub(super) fn put(word: &AtomicU64, value: u64) {
    #[cfg(test)]
    STORES_LEFT.with(|left| match left.get() {
        0 => std::panic::resume_unwind(Box::new("killed by a test")),
        count => left.set(count - 1),
    });
    word.store(value, Ordering::Release);
}

/// Returns the word `at` bytes into the record (or header) at `offset` of the file.
pub(super) fn word<'segment>(
    file: &SharedFile,
    segment: &'segment Arc<Segment>,
    offset: u64,
    at: u64,
) -> Result<&'segment AtomicU64> {
    segment.word(offset % SEGMENT_SIZE + at).ok_or_else(|| damaged(file.path(), offset))
}
