//! The words of the index: an offset of the file that carries its own check.
//!
//! The index changes by one store of one word, so a killed writer leaves each word old or new, and never half
//! written. The check covers the place of the word too. So a flipped bit, a block of zeros and a block that
//! was copied to another place are all detected, and an empty word is not 0.

use super::layout::{
    FREE_LISTS, FREE_LISTS_AT, IN_HAND_AT, INDEX_STATE_AT, INDEX_WHOLE, LEVELS, LEVELS_AT, RECORD_ALIGNMENT,
};

/// The bits of a word without its check.
const PAYLOAD_BITS: u32 = 48;
/// The bits that hold the offset, in units of [`RECORD_ALIGNMENT`]: enough for the largest size limit.
const OFFSET_BITS: u32 = 34;

/// What a word of the index says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where a record begins, or 0 in an empty entry.
    pub(crate) offset: u64,
    /// In a slot of a table the highest bits of the series' hash, else 0.
    pub(crate) tag: u64,
}

impl Entry {
    pub(crate) const EMPTY: Self = Self { offset: 0, tag: 0 };

    /// Returns an entry without a tag.
    pub(crate) fn to(offset: u64) -> Self {
        Self { offset, tag: 0 }
    }

    /// Returns the slot of a record whose series has this hash.
    pub(crate) fn slot(offset: u64, hash: u64) -> Self {
        Self { offset, tag: Self::tag_of(hash) }
    }

    /// Returns the tag of a hash.
    pub(crate) fn tag_of(hash: u64) -> u64 {
        hash >> (64 - (PAYLOAD_BITS - OFFSET_BITS))
    }

    /// Returns the word for this entry at byte `at` of the file.
    pub(crate) fn encode(self, at: u64) -> u64 {
        let payload = (self.offset / RECORD_ALIGNMENT) | (self.tag << OFFSET_BITS);
        payload | check(payload, at) << PAYLOAD_BITS
    }

    /// Returns the entry of the word at byte `at` of the file, or `None` if the word is damaged.
    #[inline]
    pub(crate) fn decode(word: u64, at: u64) -> Option<Self> {
        let payload = word & ((1 << PAYLOAD_BITS) - 1);
        (word >> PAYLOAD_BITS == check(payload, at)).then_some(Self::of_payload(payload))
    }

    /// Returns the entry of a word without its check.
    pub(crate) fn of_payload(payload: u64) -> Self {
        let offset = payload & ((1 << OFFSET_BITS) - 1);
        Self { offset: offset * RECORD_ALIGNMENT, tag: payload >> OFFSET_BITS }
    }
}

/// Returns the places of all entries in the header of the file.
pub(crate) fn places_in_header() -> impl Iterator<Item = u64> {
    let levels = (0..LEVELS).map(|level| LEVELS_AT + level * 8);
    let lists = (0..FREE_LISTS).map(|list| FREE_LISTS_AT + list * 8);
    std::iter::once(IN_HAND_AT).chain(levels).chain(lists)
}

/// Writes the index of a file without records to the header of a new file.
pub(crate) fn write_empty_index(header: &mut [u8]) {
    let mut put = |at: u64, word: u64| header[at as usize..][..8].copy_from_slice(&word.to_le_bytes());
    places_in_header().for_each(|at| put(at, Entry::EMPTY.encode(at)));
    put(INDEX_STATE_AT, INDEX_WHOLE);
}

/// Returns 16 bits that depend on each bit of the payload and of the place.
#[inline]
pub(super) fn check(payload: u64, at: u64) -> u64 {
    let mixed = payload ^ at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93) >> PAYLOAD_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back() {
        for offset in [0, 64, 4096, 1 << 30, (1 << 40) - 64] {
            let entry = Entry::slot(offset, u64::MAX / 3);
            assert_eq!(Entry::decode(entry.encode(5_008), 5_008), Some(entry));
        }
    }

    #[test]
    fn damage_is_detected() {
        let mut missed = 0;
        for at in (4096..4096 + 8 * 1024).step_by(8) {
            for entry in [Entry::EMPTY, Entry::to(at * 64), Entry::slot(at * 64, at << 45)] {
                let word = entry.encode(at);
                assert_ne!(word, 0);
                for bit in 0..64 {
                    assert_eq!(Entry::decode(word ^ 1 << bit, at), None, "bit {bit} of {entry:?} at {at}");
                }
                // Other words pass with a probability of 2^-16 each.
                missed += [0, u64::MAX].iter().filter(|word| Entry::decode(**word, at).is_some()).count();
                missed += usize::from(Entry::decode(word, at + 8).is_some());
                missed += usize::from(Entry::decode(word, at + 512).is_some());
            }
        }
        assert!(missed < 10, "{missed} of 12,288");
    }
}
