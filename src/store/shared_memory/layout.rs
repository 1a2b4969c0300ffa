//! The bytes of the file: `docs/shared-memory-layout.md` in code.
//!
//! A header is followed by records; some of them are the tables of the index. The size of a record is a
//! multiple of 64 bytes, and no record crosses the border of a segment. All numbers are little-endian. A
//! value that several processes change is one aligned word.

use std::hash::Hasher;

use crate::model::error::{Error, ErrorKind, Result};

#[cfg(target_endian = "big")]
compile_error!("the shared-memory store changes little-endian numbers in place");

/// The first bytes of each metrics file.
pub(crate) const MAGIC: [u8; 8] = *b"PYTHEUSM";
/// The version of the layout. A file of another version is refused.
pub(crate) const VERSION: u32 = 2;
/// Shows the byte order of the machine that wrote the file.
const BYTE_ORDER_MARK: u32 = 0x0a0b_0c0d;

/// The size of the header. The first record follows it.
pub(crate) const HEADER_SIZE: u64 = 4096;
/// The file grows by segments. A process maps each of them once.
pub(crate) const SEGMENT_SIZE: u64 = 1 << 20;
/// Each record begins at a multiple of this. It is a cache line, so two metrics never share one.
pub(crate) const RECORD_ALIGNMENT: u64 = 64;

/// The checksum of the header's fields before it, which never change.
pub(crate) const CHECKSUM_AT: usize = 56;
/// The committed end: where the last valid record ends (u64, changed under the lock, published with Release).
pub(crate) const COMMITTED_AT: u64 = 64;
/// Whether the index is whole ([`INDEX_WHOLE`]). Any other value: the next writer builds it anew (u64).
pub(crate) const INDEX_STATE_AT: u64 = 128;
pub(crate) const INDEX_WHOLE: u64 = 1;
/// How often the lock was taken (u64, changed under the lock).
pub(crate) const TURNS_AT: u64 = 192;
/// The process that is changing records (u64), or 0.
pub(crate) const GUARD_AT: u64 = 256;
/// The highest byte of each guard that is not 0.
pub(crate) const GUARD_MARK: u64 = 0xa5 << 56;
/// Set in a guard whose process has the `flock`, too.
pub(crate) const GUARD_WITH_FLOCK: u64 = 1 << 55;

/// The metric record that a writer is removing or reusing (an entry: [`super::entry`]).
pub(crate) const IN_HAND_AT: u64 = 320;
/// Where the directory of each level of the index is: one entry for each of [`LEVELS`].
pub(crate) const LEVELS_AT: u64 = 512;
pub(crate) const LEVELS: u64 = 64;
/// The first free record of each size, an entry for each multiple of the alignment. The last one is the
/// list of all larger sizes.
pub(crate) const FREE_LISTS_AT: u64 = 1024;
pub(crate) const FREE_LISTS: u64 = (HEADER_SIZE - FREE_LISTS_AT) / 8;

/// The slots of a bucket. A series may have its slot in any place of its two buckets.
pub(crate) const BUCKET_SLOTS: u64 = 32;
/// The buckets of a table.
pub(crate) const TABLE_BUCKETS: u64 = 32;
/// The cells of a table's record: its slots.
pub(crate) const TABLE_CELLS: u64 = BUCKET_SLOTS * TABLE_BUCKETS;
/// Each level has four times as many tables as the level before it, up to 4 to this power.
pub(crate) const LARGEST_LEVEL: u64 = 8;

/// The part of a record before its cells. The text follows the cells.
pub(crate) const RECORD_HEADER_SIZE: u64 = 64;
/// The kind (low half) and the size of the record in bytes (high half). Never changes.
pub(crate) const KIND_AND_SIZE_AT: u64 = 0;
/// Odd: the record is live. Even: it is free.
pub(crate) const GENERATION_AT: u64 = 8;
/// The offset in the file of the family's record, for a metric. In a free record the entry of the next free
/// one.
pub(crate) const FAMILY_AT: u64 = 16;
/// The length of the text in bytes (low half) and the number of cells (high half).
pub(crate) const LENGTHS_AT: u64 = 24;
/// The checksum of kind and size, family, lengths and text.
pub(crate) const RECORD_CHECKSUM_AT: u64 = 32;
/// The checksum of kind and size and of the record's own offset. It never changes. With it a reader finds the
/// next record after a damaged one, and a writer checks the size of a free record.
pub(crate) const PLACE_CHECKSUM_AT: u64 = 40;

/// When a metric began ([`super::created`]), or 0.
pub(crate) const CREATED_AT: u64 = 48;

/// When a metric was last used ([`crate::cell::last_use`]), if its series ends when it is not used, or 0.
pub(crate) const LAST_USE_AT: u64 = 56;

/// A record that fills the rest of a segment.
pub(crate) const KIND_PADDING: u32 = 1;
/// A metric family: its text is its name, a line feed, and its definition as JSON.
pub(crate) const KIND_FAMILY: u32 = 2;
/// A metric: its text is its labels JSON.
pub(crate) const KIND_METRIC: u32 = 3;
/// A table of the index: each cell is the slot of a series.
pub(crate) const KIND_TABLE: u32 = 4;
/// The directory of a level of the index: each cell is an entry that leads to a table.
pub(crate) const KIND_DIRECTORY: u32 = 5;

/// The fields of the header that never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The most bytes that the file may grow to.
    pub(crate) size_limit: u64,
    /// Random bytes that distinguish this file from another one of the same name.
    pub(crate) identity: [u8; 16],
    /// When it was made, in seconds since 1970.
    pub(crate) created: u64,
}

impl Header {
    /// Returns the header of a new file that has no records.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_SIZE as usize];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&BYTE_ORDER_MARK.to_le_bytes());
        bytes[16..20].copy_from_slice(&(HEADER_SIZE as u32).to_le_bytes());
        bytes[20..24].copy_from_slice(&(SEGMENT_SIZE as u32).to_le_bytes());
        bytes[24..32].copy_from_slice(&self.size_limit.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.identity);
        bytes[48..56].copy_from_slice(&self.created.to_le_bytes());
        let sum = checksum(&[&bytes[..CHECKSUM_AT]]);
        bytes[CHECKSUM_AT..CHECKSUM_AT + 8].copy_from_slice(&sum.to_le_bytes());
        bytes[COMMITTED_AT as usize..][..8].copy_from_slice(&HEADER_SIZE.to_le_bytes());
        bytes
    }

    /// Decodes the header of a file. The error says what is wrong with it, without the file's name.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let refuse = |reason: String| Err(Error::new(ErrorKind::Store, reason));
        if bytes.is_empty() {
            return refuse("it is empty".to_owned());
        }
        if bytes.get(..8) != Some(&MAGIC) {
            return refuse("it is no metrics file".to_owned());
        }
        if bytes.len() < HEADER_SIZE as usize {
            return refuse(format!("it is cut off: {} bytes, expected at least {HEADER_SIZE}", bytes.len()));
        }
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if u32_at(12) == BYTE_ORDER_MARK.swap_bytes() {
            return refuse("it was written by a machine of the other byte order".to_owned());
        }
        if u32_at(8) != VERSION {
            return refuse(format!("it has the layout version {}, expected {VERSION}", u32_at(8)));
        }
        if u64_at(CHECKSUM_AT) != checksum(&[&bytes[..CHECKSUM_AT]]) {
            return refuse("its header is damaged: the checksum is wrong".to_owned());
        }
        if u32_at(12) != BYTE_ORDER_MARK
            || u64::from(u32_at(16)) != HEADER_SIZE
            || u64::from(u32_at(20)) != SEGMENT_SIZE
        {
            return refuse("its header has sizes that this version does not know".to_owned());
        }
        let mut identity = [0; 16];
        identity.copy_from_slice(&bytes[32..48]);
        Ok(Self { size_limit: u64_at(24), identity, created: u64_at(48) })
    }
}

/// Returns how many tables the level has.
pub(crate) const fn tables_of_level(level: u64) -> u64 {
    1 << (2 * if level < LARGEST_LEVEL { level } else { LARGEST_LEVEL })
}

/// Returns the hash under which the index knows a record: `key` is the labels of a metric whose family's
/// record begins at `family`, or the name of a family with `family` 0.
///
/// It is keyed with the identity of the file, because clients may choose label values. With a hash that they
/// can compute they could fill one bucket.
#[expect(deprecated, reason = "its successor may change its algorithm, and this one is part of the layout")]
pub(crate) fn series_hash(identity: &[u8; 16], family: u64, key: &[u8]) -> u64 {
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| identity[at + index]));
    let mut hasher = std::hash::SipHasher::new_with_keys(word(0), word(8));
    hasher.write(&family.to_le_bytes());
    hasher.write(key);
    hasher.finish()
}

/// Returns the size of a record with these parts, or `None` if no segment can hold it.
pub(crate) fn record_size(cell_count: usize, text_length: usize) -> Option<u32> {
    let cells = (cell_count as u64).checked_mul(8)?;
    let bytes = RECORD_HEADER_SIZE.checked_add(cells)?.checked_add(text_length as u64)?;
    let size = bytes.checked_next_multiple_of(RECORD_ALIGNMENT)?;
    // The first segment holds the header, too.
    (size <= SEGMENT_SIZE - HEADER_SIZE).then_some(size as u32)
}

/// Returns the value of [`PLACE_CHECKSUM_AT`] for the record at `offset`.
pub(crate) fn place_checksum(kind_and_size: u64, offset: u64) -> u64 {
    checksum(&[&kind_and_size.to_le_bytes(), &offset.to_le_bytes()])
}

/// Returns the FNV-1a checksum, 64 bits: enough to detect damage, and no protection against forgery.
pub(crate) fn checksum(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.iter()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { size_limit: 1 << 30, identity: [7; 16], created: 1_700_000_000 }
    }

    #[test]
    fn a_header_reads_back() {
        assert_eq!(Header::decode(&header().encode()).unwrap(), header());
    }

    #[test]
    fn each_damage_of_a_header_is_named() {
        let with = |at: usize, bytes: &[u8]| {
            let mut header = header().encode();
            header[at..at + bytes.len()].copy_from_slice(bytes);
            Header::decode(&header).unwrap_err().message().to_owned()
        };
        assert!(Header::decode(&[]).unwrap_err().message().contains("empty"));
        assert!(Header::decode(&header().encode()[..100]).unwrap_err().message().contains("cut off"));
        assert!(with(0, b"ELF").contains("no metrics file"));
        assert!(with(8, &1_u32.to_le_bytes()).contains("version 1, expected 2"));
        assert!(with(12, &BYTE_ORDER_MARK.to_be_bytes()).contains("byte order"));
        assert!(with(24, &[1]).contains("checksum"));
    }

    #[test]
    fn the_hash_is_siphash_2_4_of_the_family_and_the_key() {
        // The example of the paper: the key is 00 to 0f, the input 00 to 0e.
        let identity = std::array::from_fn(|index| index as u8);
        let family = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7]);
        let hash = series_hash(&identity, family, &[8, 9, 10, 11, 12, 13, 14]);
        assert_eq!(hash, 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn the_largest_directory_fits_in_a_segment() {
        let size = record_size(tables_of_level(LEVELS) as usize, 0).unwrap();
        assert!(u64::from(size) <= SEGMENT_SIZE - HEADER_SIZE);
        assert_eq!(record_size(TABLE_CELLS as usize, 0), Some(8256));
    }

    #[test]
    fn records_fit_in_a_segment_or_not_at_all() {
        assert_eq!(record_size(1, 2), Some(128));
        assert_eq!(record_size(0, 0), Some(64));
        assert_eq!(record_size(1, SEGMENT_SIZE as usize), None);
        assert_eq!(record_size(usize::MAX, usize::MAX), None);
    }
}
