//! A slot that holds one exemplar: words that threads and processes fill together.
//!
//! The first word is the time of the exemplar, and the lock of the slot. A writer exchanges it for the present time,
//! but only if the time that is there is a tenth of a second old. A writer that loses the exchange drops its
//! exemplar: another one is as good. So no writer waits, and a slot costs a busy program one write in a tenth of a
//! second.
//!
//! The last word is a checksum over all others. A reader that meets a writer, or what a killed writer has left, finds
//! a wrong checksum and shows nothing. So does a reader of a slot that two writers have filled, because one of them
//! slept for a tenth of a second. The next writer mends the slot.

use crate::cell::atomic::{AtomicU64, Ordering};
use crate::model::exemplar::{Exemplar, LABEL_WORDS};

/// The words of a slot: the time in milliseconds since 1970, the value, a word that is 0, the labels, the checksum.
pub(crate) const SLOT_WORDS: usize = 3 + LABEL_WORDS + 1;

/// The age in milliseconds from which on an exemplar is replaced.
pub(crate) const MIN_AGE: u64 = 100;

/// A slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExemplarSlot<'cells> {
    words: &'cells [AtomicU64],
    /// What distinguishes this use of the words from earlier ones, in the checksum.
    identity: u64,
}

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) milliseconds: u64,
    /// The bits of the value.
    pub(crate) value: u64,
    pub(crate) labels: [u64; LABEL_WORDS],
}

/// What a reader finds in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// A writer is at work, or was killed, or the slot is damaged.
    Unreadable,
    Exemplar(Held),
}

impl<'cells> ExemplarSlot<'cells> {
    /// Returns the slot with this number among `words`.
    pub(crate) fn at(words: &'cells [AtomicU64], slot: usize, identity: u64) -> Option<Self> {
        let words = words.get(slot * SLOT_WORDS..(slot + 1) * SLOT_WORDS)?;
        Some(Self { words, identity })
    }

    /// Returns whether a writer would take the slot at the time `now`.
    #[inline]
    pub(crate) fn is_due(&self, now: u64) -> bool {
        // The difference of both signs: a clock that was set back must not close the slot.
        self.words.first().is_some_and(|stamp| stamp.load(Ordering::Relaxed).abs_diff(now) >= MIN_AGE)
    }

    /// Writes an exemplar, unless another one is younger than [`MIN_AGE`].
    ///
    /// `is_live` says whether the words still belong to the metric. It is asked after a word was loaded and before
    /// it is changed, as [`SharedCells`](super::shared::SharedCells) explains.
    pub(crate) fn write(&self, held: &Held, is_live: impl Fn() -> bool) -> bool {
        let [stamp, rest @ ..] = self.words else { return false };
        let seen = stamp.load(Ordering::Acquire);
        if seen.abs_diff(held.milliseconds) < MIN_AGE || !is_live() {
            return false;
        }
        // Acquire: the words of a writer before are overwritten, not mixed with these. If they are all the same, the
        // checksum shows it.
        if stamp.compare_exchange(seen, held.milliseconds, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        let words = [held.value, 0].into_iter().chain(held.labels).chain([held.checksum(self.identity)]);
        for (word, next) in rest.iter().zip(words) {
            // Acquire, and an exchange: see `SharedCells::change`.
            let seen = word.load(Ordering::Acquire);
            if !is_live() || word.compare_exchange(seen, next, Ordering::Release, Ordering::Relaxed).is_err()
            {
                // Another writer is at work. The checksum does not fit what both leave.
                return false;
            }
        }
        true
    }

    /// Returns the exemplar, if the slot holds one.
    pub(crate) fn exemplar(&self) -> Option<Exemplar> {
        match self.read() {
            Found::Exemplar(held) => Exemplar::from_words(held.labels, held.value, held.milliseconds),
            Found::Nothing | Found::Unreadable => None,
        }
    }

    /// Reads the slot.
    pub(crate) fn read(&self) -> Found {
        let mut words = [0; SLOT_WORDS];
        for (word, cell) in words.iter_mut().zip(self.words) {
            // Relaxed: the checksum covers all words, so it does not matter which of them are older.
            *word = cell.load(Ordering::Relaxed);
        }
        let [milliseconds, value, reserved, labels @ .., checksum] = words;
        let held = Held { milliseconds, value, labels };
        match words {
            // A writer of this metric has never been here, though one of an earlier metric may.
            [0, ..] => Found::Nothing,
            _ if reserved == 0 && checksum == held.checksum(self.identity) => Found::Exemplar(held),
            _ => Found::Unreadable,
        }
    }
}

/// The slots of a metric in this process's memory.
#[derive(Debug)]
pub(crate) struct OwnSlots {
    words: Box<[AtomicU64]>,
    /// For each slot, the time of the exemplar that was taken last.
    taken: Box<[AtomicU64]>,
}

impl OwnSlots {
    pub(crate) fn new(slots: usize) -> Self {
        let zeros = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self { words: zeros(slots * SLOT_WORDS), taken: zeros(slots) }
    }

    /// Returns the exemplars that were written since they were last taken, with the numbers of their slots.
    pub(crate) fn take(&self) -> Vec<(usize, Exemplar)> {
        let slots = self.slots().zip(&*self.taken).enumerate();
        let new = slots.filter_map(|(index, (slot, taken))| {
            // One that is being written comes with the change that follows it.
            let exemplar = slot.exemplar()?;
            let time = exemplar.milliseconds();
            // Relaxed: one thread takes.
            (taken.swap(time, Ordering::Relaxed) != time).then_some((index, exemplar))
        });
        new.collect()
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = ExemplarSlot<'_>> {
        (0..).map_while(|slot| self.slot(slot))
    }

    pub(crate) fn slot(&self, slot: usize) -> Option<ExemplarSlot<'_>> {
        ExemplarSlot::at(&self.words, slot, OWN)
    }
}

/// The identity of slots that no other metric ever gets.
const OWN: u64 = 0;

impl Held {
    /// Mixes all words, so that a word of another exemplar changes the result, but for one case in 2^64.
    fn checksum(&self, identity: u64) -> u64 {
        let words = [self.milliseconds, self.value].into_iter().chain(self.labels);
        words.fold(mix(identity), |sum, word| mix(sum ^ word))
    }
}

/// The finalizer of SplitMix64: a bijection in which each bit of the input changes about half of the output.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}
