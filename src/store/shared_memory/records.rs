//! The records of the file: families and metrics, found, appended, removed and walked.
//!
//! Readers take no lock: a record counts once the committed end of the file is behind it, and it is read
//! under its generation, which changes when the record is given to another metric. Writers hold the
//! file's lock. One killed midway has either published its record, or left bytes that nobody looks at.
//!
//! Nothing that is read from the file is trusted: another program may have written it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::file::SharedFile;
use super::layout::{
    CHANGES_AT, COMMITTED_AT, FAMILY_AT, GENERATION_AT, HEADER_SIZE, KIND_AND_SIZE_AT, KIND_FAMILY,
    KIND_METRIC, KIND_PADDING, LENGTHS_AT, PLACE_CHECKSUM_AT, RECORD_ALIGNMENT, RECORD_CHECKSUM_AT,
    RECORD_HEADER_SIZE, SEGMENT_SIZE, checksum, place_checksum, record_size,
};
use crate::cell::segment::{Segment, load};
use crate::cell::shared::SharedCells;
use crate::model::error::{Error, ErrorKind, Result};

/// A record as it was read: a copy, and so of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) offset: u64,
    pub(crate) generation: u64,
    pub(crate) kind: u32,
    pub(crate) family: u64,
    pub(crate) cell_count: u32,
    pub(crate) text: String,
}

/// What a record is to hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewRecord<'text> {
    pub(crate) kind: u32,
    pub(crate) family: u64,
    pub(crate) cell_count: usize,
    pub(crate) text: &'text str,
}

/// The file's records, and what this process remembers of them.
#[derive(Debug)]
pub(crate) struct Records {
    file: Arc<SharedFile>,
    /// The file once more, for its lock. None: not opened yet by this process.
    own: Option<File>,
    index: Index,
}

/// Where records are. It is brought up to date before it is used to write.
#[derive(Debug, Default)]
struct Index {
    /// Up to where the file has been read, and how many changes it had had by then.
    scanned: u64,
    changes: u64,
    /// Live records by kind, family and text.
    live: HashMap<(u32, u64, String), (u64, u64)>,
    /// Free records by size.
    free: BTreeMap<u32, Vec<u64>>,
}

impl Records {
    pub(crate) fn new(file: Arc<SharedFile>) -> Self {
        Self { file, own: None, index: Index::default() }
    }

    /// The record with this kind, family and text, if this process knows it. It needs no lock.
    pub(crate) fn find(&self, new: &NewRecord<'_>) -> Result<Option<Record>> {
        self.index.find(&self.file, new)
    }

    /// The record with this kind, family and text, appended if there is none. `check` sees all live records
    /// before: it may give one of them instead, or refuse.
    pub(crate) fn find_or_append(
        &mut self,
        new: &NewRecord<'_>,
        check: impl FnOnce(&SharedFile) -> Result<Option<Record>>,
    ) -> Result<Record> {
        if let Some(record) = self.find(new)? {
            return Ok(record);
        }
        let Self { file, own, index } = self;
        let _lock = file.lock(own_handle(file, own)?)?;
        index.refresh(file)?;
        if let Some(record) = index.find(file, new)? {
            return Ok(record);
        }
        if let Some(record) = check(file)? {
            return Ok(record);
        }
        let (offset, generation) = match index.reuse(file, new)? {
            Some(place) => place,
            None => append(file, new)?,
        };
        index.live.insert(key(new), (offset, generation));
        Ok(Record {
            offset,
            generation,
            kind: new.kind,
            family: new.family,
            cell_count: new.cell_count as u32,
            text: new.text.to_owned(),
        })
    }

    /// Removes the record with this kind, family and text; `false` if there is none. Its space is used again.
    pub(crate) fn remove(&mut self, old: &NewRecord<'_>) -> Result<bool> {
        let Self { file, own, index } = self;
        let _lock = file.lock(own_handle(file, own)?)?;
        index.refresh(file)?;
        match index.find(file, old)? {
            Some(record) => index.free(file, &record).map(|()| true),
            None => Ok(false),
        }
    }

    /// Removes all metric records of `family`.
    pub(crate) fn remove_all(&mut self, family: u64) -> Result<()> {
        let Self { file, own, index } = self;
        let _lock = file.lock(own_handle(file, own)?)?;
        index.refresh(file)?;
        for record in walk(file)? {
            if record.kind == KIND_METRIC && record.family == family {
                index.free(file, &record)?;
            }
        }
        Ok(())
    }

    /// In a forked child: the lock is the parent's.
    pub(crate) fn forked(&mut self) {
        self.own = None;
    }
}

/// The cells of a metric's record.
pub(crate) fn cells(file: &SharedFile, record: &Record) -> Result<SharedCells> {
    let segment = file.segment(record.offset)?;
    let start = record.offset % SEGMENT_SIZE;
    let cells = SharedCells::new(
        segment,
        start + GENERATION_AT,
        record.generation,
        start + RECORD_HEADER_SIZE,
        record.cell_count as usize,
    );
    cells.ok_or_else(|| damaged(file, record.offset))
}

/// Sees that the file is as long as it says.
pub(crate) fn check(file: &SharedFile) -> Result<()> {
    committed(file).map(drop)
}

impl Index {
    fn find(&self, file: &SharedFile, new: &NewRecord<'_>) -> Result<Option<Record>> {
        let Some(&(offset, generation)) = self.live.get(&key(new)) else { return Ok(None) };
        // What was cut off meanwhile must not be touched.
        file.check_length((offset / SEGMENT_SIZE + 1) * SEGMENT_SIZE)?;
        let record = read_record(file, offset)?.and_then(|(record, _)| record);
        Ok(record.filter(|record| {
            record.generation == generation
                && record.kind == new.kind
                && record.family == new.family
                && record.cell_count as usize == new.cell_count
                && record.text == new.text
        }))
    }

    /// Reads what the index does not know yet; all of it, if records were removed or used again.
    fn refresh(&mut self, file: &SharedFile) -> Result<()> {
        let end = committed(file)?;
        let first = file.segment(0)?;
        let changes = load(word(file, first, 0, CHANGES_AT)?);
        if changes != self.changes || self.scanned == 0 {
            *self = Self { changes, scanned: HEADER_SIZE, ..Self::default() };
        }
        while self.scanned < end {
            let offset = self.scanned;
            let (record, next) = step(file, offset, end)?;
            if let Some(Seen { record, size }) = record {
                match record {
                    Some(record) => {
                        let key = (record.kind, record.family, record.text);
                        self.live.insert(key, (record.offset, record.generation));
                    }
                    None => self.free.entry(size).or_default().push(offset),
                }
            }
            // At once: what was seen before an error must not be seen again.
            self.scanned = next;
        }
        self.scanned = end;
        Ok(())
    }

    /// Frees a live record. Whoever calls holds the lock, and has brought the index up to date.
    fn free(&mut self, file: &SharedFile, record: &Record) -> Result<()> {
        let segment = file.segment(record.offset)?;
        let generation = word(file, segment, record.offset, GENERATION_AT)?;
        let size = word(file, segment, record.offset, KIND_AND_SIZE_AT)?.load(Ordering::Relaxed) >> 32;
        self.count_change(file)?;
        // Release: whoever sees the record free sees all that was written to it before, and the change
        // counted. Wrapping: the number comes from the file.
        generation.store(record.generation.wrapping_add(1), Ordering::Release);
        self.live.remove(&(record.kind, record.family, record.text.clone()));
        self.free.entry(size as u32).or_default().push(record.offset);
        Ok(())
    }

    /// Tells other processes that their index is out of date; ours is not. Before the change: they look at
    /// it under the lock only, and so after the change, or after the death of whoever was about to make it.
    /// The other way round, one killed in between would leave them an index that takes a record for free.
    fn count_change(&mut self, file: &SharedFile) -> Result<()> {
        self.changes = self.changes.wrapping_add(1);
        // Release: with the store of the generation, which follows, it keeps this order.
        word(file, file.segment(0)?, 0, CHANGES_AT)?.store(self.changes, Ordering::Release);
        Ok(())
    }

    /// Gives a free record of the right size to a new metric. A family is always appended: families stand in
    /// the order of their declaration, and the kind of a record never changes.
    fn reuse(&mut self, file: &SharedFile, new: &NewRecord<'_>) -> Result<Option<(u64, u64)>> {
        if new.kind != KIND_METRIC {
            return Ok(None);
        }
        let size = size_of(file, new)?;
        while let Some(offset) = self.free.get_mut(&size).and_then(Vec::pop) {
            let segment = file.segment(offset)?;
            let generation = word(file, segment, offset, GENERATION_AT)?;
            let current = generation.load(Ordering::Acquire);
            let wanted = u64::from(KIND_METRIC) | u64::from(size) << 32;
            // Not what it was when the index was made: then the file was damaged meanwhile, and there may
            // be somebody else's record.
            if !current.is_multiple_of(2) || place(file, segment, offset)? != Some(wanted) {
                continue;
            }
            self.count_change(file)?;
            write_record(file, segment, offset, size, new)?;
            // Release: whoever sees the new generation sees the record behind it. A writer that is killed
            // before this leaves the record free.
            generation.store(current | 1, Ordering::Release);
            return Ok(Some((offset, current | 1)));
        }
        Ok(None)
    }
}

fn key(new: &NewRecord<'_>) -> (u32, u64, String) {
    (new.kind, new.family, new.text.to_owned())
}

fn own_handle<'own>(file: &SharedFile, own: &'own mut Option<File>) -> Result<&'own File> {
    Ok(match own {
        Some(own) => own,
        None => own.insert(file.reopen()?),
    })
}

/// Appends a record behind the committed end, and publishes it.
fn append(file: &SharedFile, new: &NewRecord<'_>) -> Result<(u64, u64)> {
    let size = u64::from(size_of(file, new)?);
    let mut offset = committed(file)?;
    let left = SEGMENT_SIZE - offset % SEGMENT_SIZE;
    if left < size {
        let padding = NewRecord { kind: KIND_PADDING, family: 0, cell_count: 0, text: "" };
        let segment = file.segment(offset)?;
        write_record(file, segment, offset, left as u32, &padding)?;
        offset += left;
    }
    if offset.is_multiple_of(SEGMENT_SIZE) {
        file.grow(offset)?;
    }
    file.check_length(offset + size)?;
    let segment = file.segment(offset)?;
    // A writer that was killed may have left anything here.
    word(file, segment, offset, GENERATION_AT)?.store(1, Ordering::Relaxed);
    write_record(file, segment, offset, size as u32, new)?;
    let first = file.segment(0)?;
    // Release: whoever sees this end sees the records before it whole.
    word(file, first, 0, COMMITTED_AT)?.store(offset + size, Ordering::Release);
    Ok((offset, 1))
}

fn size_of(file: &SharedFile, new: &NewRecord<'_>) -> Result<u32> {
    record_size(new.cell_count, new.text.len()).ok_or_else(|| {
        let message = format!(
            "a record of {} bytes of text and {} values is too large for the metrics file {}: expected less than {}",
            new.text.len(),
            new.cell_count,
            file.path().display(),
            SEGMENT_SIZE - HEADER_SIZE
        );
        Error::new(ErrorKind::InvalidArgument, message)
    })
}

/// Writes all of a record but its generation.
fn write_record(
    file: &SharedFile,
    segment: &Arc<Segment>,
    offset: u64,
    size: u32,
    new: &NewRecord<'_>,
) -> Result<()> {
    let put = |at: u64, value: u64| -> Result<()> {
        // Release: a thread that still adds to the cells of the record's last metric loads them with
        // Acquire, and must then see the generation that freed the record.
        word(file, segment, offset, at)?.store(value, Ordering::Release);
        Ok(())
    };
    let lengths = new.text.len() as u64 | (new.cell_count as u64) << 32;
    let kind_and_size = u64::from(new.kind) | u64::from(size) << 32;
    put(KIND_AND_SIZE_AT, kind_and_size)?;
    put(PLACE_CHECKSUM_AT, place_checksum(kind_and_size, offset))?;
    put(FAMILY_AT, new.family)?;
    put(LENGTHS_AT, lengths)?;
    put(RECORD_CHECKSUM_AT, record_checksum(kind_and_size, new.family, lengths, new.text.as_bytes()))?;
    let text_at = RECORD_HEADER_SIZE + new.cell_count as u64 * 8;
    for cell in (RECORD_HEADER_SIZE..text_at).step_by(8) {
        put(cell, 0)?;
    }
    for (index, chunk) in new.text.as_bytes().chunks(8).enumerate() {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        put(text_at + index as u64 * 8, u64::from_le_bytes(bytes))?;
    }
    Ok(())
}

fn record_checksum(kind_and_size: u64, family: u64, lengths: u64, text: &[u8]) -> u64 {
    checksum(&[&kind_and_size.to_le_bytes(), &family.to_le_bytes(), &lengths.to_le_bytes(), text])
}

/// All live records, in the order of the file.
pub(crate) fn walk(file: &SharedFile) -> Result<Vec<Record>> {
    let end = committed(file)?;
    let mut records = Vec::new();
    let mut offset = HEADER_SIZE;
    while offset < end {
        let (seen, next) = step(file, offset, end)?;
        records.extend(seen.and_then(|seen| seen.record));
        offset = next;
    }
    Ok(records)
}

/// A record of families or metrics that the file has: live, or free.
struct Seen {
    record: Option<Record>,
    size: u32,
}

/// Reads the record at `offset`, and says where the next one is. A record that makes no sense is skipped;
/// behind one whose size makes none, the next is looked for wherever one can begin.
fn step(file: &SharedFile, offset: u64, end: u64) -> Result<(Option<Seen>, u64)> {
    let segment_end = (offset / SEGMENT_SIZE + 1) * SEGMENT_SIZE;
    let Some((record, size)) = read_record(file, offset)? else {
        return Ok((None, offset + RECORD_ALIGNMENT));
    };
    let next = offset + u64::from(size);
    if next > end.min(segment_end) {
        return Ok((None, offset + RECORD_ALIGNMENT));
    }
    let segment = file.segment(offset)?;
    let kind = word(file, segment, offset, KIND_AND_SIZE_AT)?.load(Ordering::Relaxed) as u32;
    let is_free = load(word(file, segment, offset, GENERATION_AT)?).is_multiple_of(2);
    // What is neither live nor free is damaged: it is left alone.
    let is_useful = record.is_some() || (is_free && kind == KIND_METRIC);
    Ok((is_useful.then_some(Seen { record, size }), next))
}

/// Reads the record at `offset`: its size, and what it holds, if it is live and whole. `None` if not even
/// its size makes sense.
pub(super) fn read_record(file: &SharedFile, offset: u64) -> Result<Option<(Option<Record>, u32)>> {
    let segment = file.segment(offset)?;
    let get = |at: u64| -> Result<u64> { Ok(load(word(file, segment, offset, at)?)) };
    let Some(kind_and_size) = place(file, segment, offset)? else { return Ok(None) };
    let size = (kind_and_size >> 32) as u32;
    let kind = kind_and_size as u32;
    if !matches!(kind, KIND_FAMILY | KIND_METRIC) {
        return Ok(Some((None, size)));
    }
    // The record may be given to another metric while we read: then its generation changes, and we read
    // again. A record changes hands rarely; one that never rests is left out.
    for _ in 0..16 {
        let generation = get(GENERATION_AT)?;
        if generation.is_multiple_of(2) {
            return Ok(Some((None, size)));
        }
        let (family, lengths, sum) = (get(FAMILY_AT)?, get(LENGTHS_AT)?, get(RECORD_CHECKSUM_AT)?);
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
        let is_whole = bytes.len() as u64 == text_length
            && sum == record_checksum(kind_and_size, family, lengths, &bytes);
        let text = if is_whole { String::from_utf8(bytes).ok() } else { None };
        let record =
            text.map(|text| Record { offset, generation, kind, family, cell_count: cell_count as u32, text });
        return Ok(Some((record, size)));
    }
    Ok(Some((None, size)))
}

/// The kind and size of the record at `offset`, or `None` if none begins there.
pub(super) fn place(file: &SharedFile, segment: &Arc<Segment>, offset: u64) -> Result<Option<u64>> {
    let get = |at: u64| -> Result<u64> { Ok(load(word(file, segment, offset, at)?)) };
    let kind_and_size = get(KIND_AND_SIZE_AT)?;
    let size = kind_and_size >> 32;
    let has_sense = size.is_multiple_of(RECORD_ALIGNMENT)
        && size > 0
        && offset % SEGMENT_SIZE + size <= SEGMENT_SIZE
        && get(PLACE_CHECKSUM_AT)? == place_checksum(kind_and_size, offset);
    Ok(has_sense.then_some(kind_and_size))
}

/// The end of the records that count.
pub(super) fn committed(file: &SharedFile) -> Result<u64> {
    // Before anything is read: to touch a word that was cut off would be the end of the process.
    file.check_length(SEGMENT_SIZE)?;
    let end = load(word(file, file.segment(0)?, 0, COMMITTED_AT)?);
    if end < HEADER_SIZE || !end.is_multiple_of(RECORD_ALIGNMENT) {
        return Err(damaged(file, COMMITTED_AT));
    }
    // It grows by segments, so that one that is not whole was cut off, too.
    file.check_length(end.checked_next_multiple_of(SEGMENT_SIZE).unwrap_or(u64::MAX))?;
    Ok(end)
}

/// The word `at` bytes into the record (or header) at `offset` of the file.
pub(super) fn word<'segment>(
    file: &SharedFile,
    segment: &'segment Arc<Segment>,
    offset: u64,
    at: u64,
) -> Result<&'segment AtomicU64> {
    segment.word(offset % SEGMENT_SIZE + at).ok_or_else(|| damaged(file, offset))
}

fn damaged(file: &SharedFile, offset: u64) -> Error {
    let message = format!("the metrics file {} is damaged at byte {offset}", file.path().display());
    Error::new(ErrorKind::Store, message)
}
