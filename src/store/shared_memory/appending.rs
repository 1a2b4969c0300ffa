//! Appends a record behind the committed end of the file, in two steps: write it, then publish it.
//!
//! The caller has the lock of the file. A writer that is killed between the two steps leaves bytes behind the
//! committed end, which mean nothing.

use super::file::SharedFile;
use super::layout::{COMMITTED_AT, GENERATION_AT, KIND_PADDING, SEGMENT_SIZE};
use super::record::{Contents, put, word};
use crate::model::error::Result;

/// The generation of a record that was appended.
pub(super) const FIRST_GENERATION: u64 = 1;

/// Writes a record behind the committed end `end`. Returns where it begins and where it ends.
pub(super) fn write_behind(file: &SharedFile, end: u64, wanted: &Contents<'_>) -> Result<(u64, u64)> {
    let size = wanted.size(file)?;
    let mut offset = end;
    let left = SEGMENT_SIZE - offset % SEGMENT_SIZE;
    if left < u64::from(size) {
        let padding = Contents {
            kind: KIND_PADDING,
            family: 0,
            cell_count: 0,
            slots: 0,
            created: None,
            ends: false,
            text: "",
        };
        padding.write(file, offset, left as u32, 0)?;
        offset += left;
    }
    let end = offset + u64::from(size);
    if offset.is_multiple_of(SEGMENT_SIZE) {
        file.grow(offset)?;
        file.check_length(end)?;
    }
    // A writer that was killed may have left anything here, so the generation is written too.
    put(word(file, file.writable_segment(offset)?, offset, GENERATION_AT)?, FIRST_GENERATION);
    wanted.write(file, offset, size, FIRST_GENERATION)?;
    Ok((offset, end))
}

/// Makes `end` the committed end.
pub(super) fn commit(file: &SharedFile, end: u64) -> Result<()> {
    // Release (in `put`): a process that sees this end sees the records before it whole.
    put(word(file, file.segment(0)?, 0, COMMITTED_AT)?, end);
    Ok(())
}
