//! Finds, appends, removes and reuses the records of the file, for writers.
//!
//! All changes happen under the lock of the file, in an order that leaves a good file when the process is
//! killed between any two steps: docs/shared-memory-layout.md, "What a killed process leaves".

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::file::SharedFile;
use super::index::Index;
use super::layout::{
    CHANGES_AT, COMMITTED_AT, GENERATION_AT, KIND_AND_SIZE_AT, KIND_METRIC, KIND_PADDING, RECORD_CHECKSUM_AT,
    SEGMENT_SIZE,
};
use super::lock::FileLock;
use super::record::{Contents, Record, committed, kind_and_size, live_records, word};
use crate::cell::segment::load;
use crate::model::error::Result;

/// How many bytes of records a writer may index while it holds the lock: some 30 µs of work.
const INDEXED_UNDER_LOCK: u64 = 64 << 10;
/// How often a writer takes the lock before it indexes everything under the lock.
const MOST_ROUNDS: usize = 4;

/// The records of the file, and this process's index of them.
#[derive(Debug)]
pub(super) struct Records {
    file: Arc<SharedFile>,
    index: Index,
}

impl Records {
    pub(super) fn new(file: Arc<SharedFile>) -> Self {
        Self { file, index: Index::default() }
    }

    /// Returns the record with these contents. Appends it if there is none.
    ///
    /// Before a family is appended, `check` sees the families of the file. It may return one of them to use
    /// instead, or refuse.
    pub(super) fn find_or_append(
        &mut self,
        wanted: &Contents<'_>,
        check: impl FnOnce(Vec<Record>) -> Result<Option<Record>>,
    ) -> Result<Record> {
        if let Some(record) = self.index.find(&self.file, wanted)? {
            return Ok(record);
        }
        let Self { file, index } = self;
        let (_lock, end) = lock(file, index)?;
        if let Some(record) = index.find(file, wanted)? {
            return Ok(record);
        }
        if wanted.kind != KIND_METRIC
            && let Some(record) = check(index.families(file)?)?
        {
            return Ok(record);
        }
        let (offset, generation) = match reuse(file, index, wanted)? {
            Some(reused) => reused,
            None => append(file, index, end, wanted)?,
        };
        index.insert(wanted.kind, wanted.checksum(wanted.size(file)?), offset);
        Ok(Record {
            offset,
            generation,
            kind: wanted.kind,
            family: wanted.family,
            cell_count: wanted.cell_count as u32,
            text: wanted.text.to_owned(),
        })
    }

    /// Removes the record with these contents. Returns false if there is none.
    pub(super) fn remove(&mut self, wanted: &Contents<'_>) -> Result<bool> {
        let Self { file, index } = self;
        let (_lock, _) = lock(file, index)?;
        match index.find(file, wanted)? {
            Some(record) => free(file, index, &record).map(|()| true),
            None => Ok(false),
        }
    }

    /// Removes all metric records of the family whose record is at `family`.
    pub(super) fn remove_all(&mut self, family: u64) -> Result<()> {
        let Self { file, index } = self;
        let (_lock, _) = lock(file, index)?;
        for record in live_records(file)? {
            if record.kind == KIND_METRIC && record.family == family {
                free(file, index, &record)?;
            }
        }
        Ok(())
    }

    /// Prepares the records for a forked child.
    pub(super) fn forked(&self) {
        self.file.forked();
    }
}

/// Takes the lock, with an index that knows all records. Returns the committed end, too.
///
/// A process that starts beside many others has much to index. It does so without the lock, so that the
/// others need not wait for it. Under the lock it reads only the records appended meanwhile, which are few
/// after the first round.
fn lock<'file>(file: &'file SharedFile, index: &mut Index) -> Result<(FileLock<'file>, u64)> {
    let mut rounds = 0;
    loop {
        let end = committed(file)?;
        if index.is_valid(file)? {
            index.catch_up(file, end)?;
        }
        let lock = FileLock::take(file)?;
        let end = committed(file)?;
        if !index.is_valid(file)? {
            // Restart under the lock, so that the counter of changes is read when no change is half done.
            index.restart(file)?;
        }
        rounds += 1;
        if index.unknown_bytes(end) <= INDEXED_UNDER_LOCK || rounds == MOST_ROUNDS {
            index.catch_up(file, end)?;
            return Ok((lock, end));
        }
    }
}

/// Tells other processes that their indexes are out of date.
///
/// Call it before the change. Other processes read the counter under the lock, so they read it after the
/// change, or after this process was killed before the change. In the other order, a process killed between
/// the two would leave other processes with an index that takes a live record for a free one.
fn count_change(file: &SharedFile, index: &mut Index) -> Result<()> {
    let changes = word(file, file.writable_segment(0)?, 0, CHANGES_AT)?;
    // Release: the Release store of the generation follows, so the two stay in this order. Wrapping: the
    // number comes from the file and may be anything.
    changes.store(load(changes).wrapping_add(1), Ordering::Release);
    index.changed();
    Ok(())
}

/// Frees a live record.
fn free(file: &SharedFile, index: &mut Index, record: &Record) -> Result<()> {
    let segment = file.writable_segment(record.offset)?;
    let get = |at: u64| Ok(load(word(file, segment, record.offset, at)?));
    let (size, checksum) = ((get(KIND_AND_SIZE_AT)? >> 32) as u32, get(RECORD_CHECKSUM_AT)?);
    count_change(file, index)?;
    // Release: a process that sees the record free sees all that was written to it before, and the change
    // counted.
    word(file, segment, record.offset, GENERATION_AT)?
        .store(record.generation.wrapping_add(1), Ordering::Release);
    index.free(checksum, size, record.offset);
    Ok(())
}

/// Gives a free record of the same size to a new metric. Returns its offset and generation.
///
/// Families are always appended: they stand in the order of their declaration, and the kind of a record never
/// changes.
fn reuse(file: &SharedFile, index: &mut Index, wanted: &Contents<'_>) -> Result<Option<(u64, u64)>> {
    if wanted.kind != KIND_METRIC {
        return Ok(None);
    }
    let size = wanted.size(file)?;
    while let Some(offset) = index.take_free(size) {
        let segment = file.writable_segment(offset)?;
        let generation = word(file, segment, offset, GENERATION_AT)?;
        let current = generation.load(Ordering::Acquire);
        let expected = u64::from(KIND_METRIC) | u64::from(size) << 32;
        // If the record is no longer a free one of this size, the file was damaged meanwhile. Leave it alone.
        if !current.is_multiple_of(2) || kind_and_size(file, segment, offset)? != Some(expected) {
            continue;
        }
        count_change(file, index)?;
        wanted.write(file, offset, size)?;
        // Release: a process that sees the new generation sees the record behind it. A writer that is killed
        // before this leaves the record free.
        generation.store(current | 1, Ordering::Release);
        return Ok(Some((offset, current | 1)));
    }
    Ok(None)
}

/// Appends a record behind the committed end, and publishes it. Returns its offset and generation.
fn append(file: &SharedFile, index: &mut Index, committed: u64, wanted: &Contents<'_>) -> Result<(u64, u64)> {
    let size = wanted.size(file)?;
    let mut offset = committed;
    let left = SEGMENT_SIZE - offset % SEGMENT_SIZE;
    if left < u64::from(size) {
        let padding = Contents { kind: KIND_PADDING, family: 0, cell_count: 0, text: "" };
        padding.write(file, offset, left as u32)?;
        offset += left;
    }
    let end = offset + u64::from(size);
    if offset.is_multiple_of(SEGMENT_SIZE) {
        file.grow(offset)?;
        file.check_length(end)?;
    }
    // A writer that was killed may have left anything here, so the generation is written too.
    word(file, file.writable_segment(offset)?, offset, GENERATION_AT)?.store(1, Ordering::Relaxed);
    wanted.write(file, offset, size)?;
    // Release: a process that sees this end sees the records before it whole.
    word(file, file.segment(0)?, 0, COMMITTED_AT)?.store(end, Ordering::Release);
    index.appended(end);
    Ok((offset, 1))
}
