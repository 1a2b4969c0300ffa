//! The word of a record that says when its metric began.
//!
//! It carries its own check, which covers the generation and the contents of the record. A program that does not
//! know the word does not write it, so a record that such a program reuses has the time of its last metric. The
//! check is then wrong, and the time of the new metric is unknown.

use super::entry::check;
use crate::model::sample::Milliseconds;

const TIME_BITS: u32 = 48;

/// Returns the word of a record with this generation and record checksum.
pub(super) fn encode(created: Option<Milliseconds>, generation: u64, record_checksum: u64) -> u64 {
    let time = created.map_or(0, Milliseconds::get) & ((1 << TIME_BITS) - 1);
    match time {
        0 => 0,
        _ => time | check(time ^ record_checksum, generation) << TIME_BITS,
    }
}

/// Returns the time in the word of a record. Returns `None` if it is unknown or not of this record.
pub(super) fn decode(word: u64, generation: u64, record_checksum: u64) -> Option<Milliseconds> {
    let created = Milliseconds::new(word & ((1 << TIME_BITS) - 1));
    created.filter(|_| word == encode(created, generation, record_checksum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_from_its_own_record_only() {
        let mut missed = 0;
        for time in [1, 1_700_000_000_123, (1 << 48) - 1] {
            let created = Milliseconds::new(time);
            let word = encode(created, 5, 77);
            assert_eq!(decode(word, 5, 77), created);
            missed += (7..1_000).filter(|&generation| decode(word, generation, 77).is_some()).count();
            missed += (78..1_000).filter(|&checksum| decode(word, 5, checksum).is_some()).count();
        }
        // Another record passes with a probability of 2^-16.
        assert!(missed < 10, "{missed} of 5,745");
    }

    #[test]
    fn no_time_is_zero() {
        assert_eq!(encode(None, 5, 77), 0);
        assert_eq!(decode(0, 5, 77), None);
        assert_eq!(decode(0xffff << TIME_BITS, 5, 77), None);
    }
}
