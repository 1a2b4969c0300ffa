//! The buckets of a native histogram: a table of words that threads and processes fill together.
//!
//! A word holds the key of a bucket and its count, so one compare-and-swap changes both. A word that has a key
//! keeps it for good, and nothing moves. So a writer never waits for another one, and a writer that is killed
//! leaves a table in which each value is counted or not.
//!
//! The table has a fixed size. At first each value counts in a bucket of the family's schema, which is level 0.
//! When a third of the words are used, values that have no bucket yet get one of the next lower schema, level 1,
//! which is twice as wide; and so on, so that even a wide range of values finds room. A reader merges all levels
//! to the coarsest one: [`NativeHistogram`](crate::model::native::NativeHistogram).
//!
//! A bucket may have several words: those of several levels, and a second one when the count of the first is full.

use crate::cell::atomic::{AtomicU64, Ordering};
use crate::model::native::{Bucket, BucketWord, MAX_COUNT, Native};

/// Level `l` claims free words while fewer than `LIMITS[l]` parts of `PARTS` are used.
const LIMITS: [usize; 8] = [128, 256, 320, 352, 364, 372, 378, PARTS];
const PARTS: usize = 384;

/// How many words are looked at for a key, except at the last level. A full search of a table that is nearly full, once
/// for each level, would take microseconds. With two thirds of the words used, one of 32 in a row is free but for one
/// key in thousands; such a key counts at the next level.
const PROBES: usize = 32;

/// The words of one series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NativeTable<'cells> {
    native: Native,
    /// How many words are used. A writer that is killed after it has claimed a word leaves this one too low, which
    /// only makes the resolution fall later.
    used: &'cells AtomicU64,
    words: &'cells [AtomicU64],
}

impl<'cells> NativeTable<'cells> {
    pub(crate) fn new(native: Native, used: &'cells AtomicU64, words: &'cells [AtomicU64]) -> Self {
        Self { native, used, words }
    }

    /// Adds `amount`, which one word can count, to a bucket at `level`, or at a lower schema.
    ///
    /// `is_live` says whether the words still belong to the metric. It is asked after a word was loaded and before
    /// it is changed, as [`SharedCells`](super::shared::SharedCells) explains.
    #[inline]
    pub(crate) fn add(&self, level: u32, bucket: Bucket, amount: u64, is_live: impl Fn() -> bool + Copy) {
        let key = BucketWord::new(self.native, level, bucket);
        // Most keys are where their hash says.
        let Some(first) = self.words.get(self.start(key)) else { return };
        let current = BucketWord(first.load(Ordering::Acquire));
        match current.plus(amount).filter(|_| current.has_key_of(key) && current != BucketWord::FREE) {
            Some(next) if !is_live() || self.change(first, current, next).is_ok() => {}
            _ => self.add_elsewhere(key, bucket, amount, is_live),
        }
    }

    #[cold]
    #[inline(never)]
    fn add_elsewhere(&self, key: BucketWord, bucket: Bucket, amount: u64, is_live: impl Fn() -> bool + Copy) {
        if !self.add_at(key, amount, is_live) {
            self.add_coarser(key.level(), bucket, amount, is_live);
        }
    }

    /// Returns the place at which the search for a key begins.
    #[inline]
    fn start(&self, key: BucketWord) -> usize {
        ((u64::from(key.hash()) * self.words.len() as u64) >> 32) as usize
    }

    /// Adds the count of a word of another table of this histogram.
    pub(crate) fn add_word(&self, word: BucketWord, is_live: impl Fn() -> bool + Copy) {
        self.add(word.level(), word.bucket(self.native), word.count(), is_live);
    }

    /// Takes the count of a word, which keeps its key.
    pub(crate) fn take_word(word: &AtomicU64) -> BucketWord {
        BucketWord(word.fetch_and(!MAX_COUNT, Ordering::AcqRel))
    }

    #[cold]
    fn add_coarser(&self, level: u32, bucket: Bucket, amount: u64, is_live: impl Fn() -> bool + Copy) {
        for level in level + 1..=self.native.last_level() {
            let key = BucketWord::new(self.native, level, bucket);
            if self.add_at(key, amount, is_live) {
                return;
            }
        }
        self.add_nearest(BucketWord::new(self.native, self.native.last_level(), bucket), amount, is_live);
    }

    /// Adds `amount` to a word with this key, or to a free word. Returns `false` if no word has the key, and this
    /// level claims no more.
    ///
    /// A key is searched from the place that its hash gives up to the first free word, or through [`PROBES`] words.
    /// Words never become free again, so a key that was found once is always found.
    fn add_at(&self, key: BucketWord, amount: u64, is_live: impl Fn() -> bool) -> bool {
        let length = self.words.len();
        let (before, behind) = self.words.split_at(self.start(key));
        let probes = if key.level() < self.native.last_level() { PROBES } else { length };
        for word in behind.iter().chain(before).take(probes) {
            // Acquire: see `SharedCells::change`. A table in the memory of one process needs no order.
            let mut current = BucketWord(word.load(Ordering::Acquire));
            loop {
                let is_free = current == BucketWord::FREE;
                if is_free && !self.may_claim(key.level()) {
                    return false;
                }
                let base = if is_free { key } else { current };
                let Some(next) = base.plus(amount).filter(|_| base.has_key_of(key)) else { break };
                if !is_live() {
                    return true;
                }
                match self.change(word, current, next) {
                    Ok(()) => {
                        if is_free {
                            self.note_used(is_live);
                        }
                        return true;
                    }
                    Err(seen) => current = seen,
                }
            }
        }
        false
    }

    /// Counts a word that was claimed. In a file, the cell may belong to another metric by now: see
    /// [`SharedCells`](super::shared::SharedCells).
    #[cold]
    fn note_used(&self, is_live: impl Fn() -> bool) {
        let mut seen = self.used.load(Ordering::Acquire);
        while is_live() {
            match self.used.compare_exchange_weak(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Returns whether values may get new words at this level.
    #[cold]
    fn may_claim(&self, level: u32) -> bool {
        let limit = match level < self.native.last_level() {
            true => self.words.len() * LIMITS[level as usize] / PARTS,
            false => self.words.len(),
        };
        self.used.load(Ordering::Relaxed) < limit as u64
    }

    /// Adds `amount` to the word of the nearest bucket, because no word is free. A value without a bucket would
    /// have the number of observations differ from the sum of the buckets, and Prometheus would refuse the scrape.
    #[cold]
    fn add_nearest(&self, key: BucketWord, amount: u64, is_live: impl Fn() -> bool) {
        loop {
            let words = self.words.iter().map(|word| (word, BucketWord(word.load(Ordering::Acquire))));
            let with_room = words.filter_map(|(word, seen)| Some((word, seen, seen.plus(amount)?)));
            // A bucket of the other sign is the last resort.
            let nearest = with_room.min_by_key(|(_, seen, _)| seen.distance(key).unwrap_or(u32::MAX));
            let Some((word, seen, next)) = nearest else { return };
            let next = if seen == BucketWord::FREE { BucketWord(key.0 + amount) } else { next };
            if !is_live() || self.change(word, seen, next).is_ok() {
                return;
            }
        }
    }

    /// Release on success, so that what a taker of pending changes takes includes all before it: see
    /// [`gathered`](super::gathered).
    #[inline]
    fn change(&self, word: &AtomicU64, current: BucketWord, next: BucketWord) -> Result<(), BucketWord> {
        word.compare_exchange_weak(current.0, next.0, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(BucketWord)
    }
}
