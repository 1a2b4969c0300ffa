//! The cells of a native histogram in this process's memory.
//!
//! They are those of the memory store, and they gather changes for the other stores. So each operation is one
//! read-modify-write that acquires and releases: see [`gathered`](super::gathered).

use super::atomic::{AtomicU64, Ordering};
use super::gathered::{AddedCell, Change};
use super::native::NativeTable;
use crate::model::definition::{FIRST_COUNT_CELL, NATIVE_CELLS};
use crate::model::native::{BucketWord, Native, Place};

/// The sum of the observed values, the counts of the classic buckets, and the cells of the native histogram.
#[derive(Debug)]
pub(crate) struct NativeCells {
    native: Native,
    sum: AddedCell,
    /// All cells but the sum: see [`Definition::cell_count`](crate::Definition::cell_count).
    words: Box<[AtomicU64]>,
}

impl NativeCells {
    /// Makes cells, all 0. `classic` is the number of classic buckets, `+Inf` included.
    pub(crate) fn new(native: Native, classic: usize) -> Self {
        let count = classic + NATIVE_CELLS + native.size();
        let words = (0..count).map(|_| AtomicU64::new(0)).collect();
        Self { native, sum: AddedCell::default(), words }
    }

    /// Returns the cells of the classic buckets, the count of zeros, and the table.
    #[inline]
    fn parts(&self) -> (&[AtomicU64], Option<&AtomicU64>, Option<NativeTable<'_>>) {
        let classic = self.words.len() - self.native.size() - NATIVE_CELLS;
        let (classic, native) = self.words.split_at(classic);
        match native {
            [zero, used, words @ ..] => {
                (classic, Some(zero), Some(NativeTable::new(self.native, used, words)))
            }
            _ => (classic, None, None),
        }
    }

    /// Counts `value`, and adds it to the sum. `count_cell` is the cell of its classic bucket. Not inlined, because it
    /// would make the paths of other cells longer.
    #[inline(never)]
    pub(crate) fn observe(&self, count_cell: usize, value: f64) {
        let (classic, zero, table) = self.parts();
        let place = Place::of(value);
        let counted = classic.len() > 1 || place == Place::Nan;
        if let Some(count) = classic.get(count_cell - FIRST_COUNT_CELL).filter(|_| counted) {
            count.fetch_add(1, Ordering::AcqRel);
        }
        match (place, zero, table) {
            (Place::Zero, Some(zero), _) => drop(zero.fetch_add(1, Ordering::AcqRel)),
            (Place::Bucket(bucket), _, Some(table)) => table.add(0, bucket, 1, || true),
            _ => {}
        }
        self.sum.add(value);
    }

    /// Writes the sum and the other cells to `values`: the words of the table with the bits that they have.
    pub(crate) fn read(&self, values: &mut [f64]) {
        let words_at = self.words.len() - self.native.size() - 1;
        let cells = self.words.iter().enumerate().map(|(index, word)| {
            let word = word.load(Ordering::Relaxed);
            if index < words_at { word as f64 } else { f64::from_bits(word) }
        });
        let read = std::iter::once(self.sum.get()).chain(cells);
        values.iter_mut().zip(read).for_each(|(value, read)| *value = read);
    }

    /// Adds `amount` to the cell with this index, which is the sum, a classic bucket, or the count of zeros.
    #[cold]
    pub(crate) fn add(&self, index: usize, amount: f64) {
        match index.checked_sub(1).map(|index| self.words.get(index)) {
            None => self.sum.add(amount),
            // Counts are whole numbers.
            Some(count) => drop(count.map(|count| count.fetch_add(amount as u64, Ordering::AcqRel))),
        }
    }

    /// Takes the changes since the last take: the index of each cell with what was added to it, and words with their
    /// counts. The words keep their keys.
    pub(crate) fn take(&self) -> impl Iterator<Item = (usize, Change)> + '_ {
        let used_at = self.words.len() - self.native.size() - 1;
        let (counts, table) = self.words.split_at(used_at);
        let counts = counts.iter().map(|count| Change::Add(count.swap(0, Ordering::AcqRel) as f64));
        let added = std::iter::once(Change::Add(self.sum.take())).chain(counts).enumerate();
        let words = table.iter().skip(1).map(NativeTable::take_word).filter(|word| word.count() > 0);
        added.chain(words.map(move |word| (used_at + 2, Change::Word(word.0))))
    }

    /// Drops the changes, and orders nothing: see [`Gathered::discard`](super::gathered::Gathered::discard).
    pub(crate) fn discard(&self) {
        self.sum.discard();
        self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// Adds the count of a word that was gathered elsewhere.
    pub(crate) fn add_word(&self, word: BucketWord) {
        if let (_, _, Some(table)) = self.parts() {
            table.add_word(word, || true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::native::{MAX_COUNT, NativeHistogram};
    use proptest::prelude::*;

    /// Returns the words of the table.
    fn words(cells: &NativeCells) -> Vec<BucketWord> {
        let words = &cells.words[cells.words.len() - cells.native.size()..];
        words.iter().map(|word| BucketWord(word.load(Ordering::Relaxed))).collect()
    }

    fn merged(cells: &NativeCells) -> NativeHistogram {
        let zero =
            cells.words[cells.words.len() - cells.native.size() - NATIVE_CELLS].load(Ordering::Relaxed);
        NativeHistogram::merged(cells.native, zero, words(cells).into_iter())
    }

    /// Counts the values in the buckets of a schema, which it finds by their bounds.
    fn reference(values: &[f64], schema: i32) -> NativeHistogram {
        let mut zero_count = 0;
        let mut sides = [BTreeMap::new(), BTreeMap::new()];
        for &value in values {
            let width = 2f64.powi(-schema);
            if value.abs() <= crate::model::native::ZERO_THRESHOLD {
                zero_count += 1;
            } else if !value.is_nan() {
                let index = (value.abs().log2() / width).ceil() as i32;
                *sides[usize::from(value < 0.0)].entry(index).or_default() += 1;
            }
        }
        let [positive, negative] = sides.map(|side| side.into_iter().collect());
        NativeHistogram { schema, zero_count, positive, negative }
    }

    proptest! {
        #[test]
        fn a_histogram_is_that_of_its_values_at_the_schema_it_fell_to(
            // Away from the bounds, where the reference may be wrong in the last bit.
            values in prop::collection::vec((-60..60i32, 0..1000u32, any::<bool>()), 0..600),
            schema in 0..=8i64, size in 16..400i64,
        ) {
            let native = Native::new(schema, size).unwrap();
            let cells = NativeCells::new(native, 1);
            let values: Vec<f64> = values.into_iter().map(|(exponent, step, is_negative)| {
                let size = 2f64.powf(f64::from(exponent) + (f64::from(step) + 0.3) / 1024.0);
                if is_negative { -size } else { size }
            }).collect();
            values.iter().for_each(|&value| cells.observe(FIRST_COUNT_CELL, value));
            let histogram = merged(&cells);
            prop_assert_eq!(histogram.count(), values.len() as u64);
            prop_assert!(histogram.schema <= native.schema());
            let is_full = words(&cells).iter().all(|&word| word != BucketWord::FREE);
            if !is_full {
                prop_assert_eq!(histogram.clone(), reference(&values, histogram.schema));
            }
            // A third of the words is for the schema itself.
            let at_first = reference(&values, native.schema());
            if at_first.positive.len() + at_first.negative.len() <= native.size() / 3 {
                prop_assert_eq!(histogram.schema, native.schema());
            }
        }
    }

    #[test]
    fn zeros_and_values_that_are_no_number_have_cells_of_their_own() {
        let cells = NativeCells::new(Native::default(), 1);
        for value in [0.0, -0.0, 1e-60, f64::NAN, 1.0, f64::INFINITY] {
            cells.observe(FIRST_COUNT_CELL, value);
        }
        let histogram = merged(&cells);
        assert_eq!((histogram.zero_count, histogram.positive.as_slice()), (3, &[(0, 1), (8193, 1)][..]));
        assert_eq!(histogram.count(), 5);
        assert_eq!(cells.words[0].load(Ordering::Relaxed), 1, "the count of NaN");
    }

    #[test]
    fn a_bucket_whose_word_is_full_gets_another_word() {
        let cells = NativeCells::new(Native::default(), 1);
        for _ in 0..2 {
            cells.observe(FIRST_COUNT_CELL, 1.5);
            let word = words(&cells).into_iter().find(|word| word.count() == 1).unwrap();
            cells.add_word(BucketWord(word.0 + MAX_COUNT - 2));
        }
        cells.observe(FIRST_COUNT_CELL, 1.5);
        cells.observe(FIRST_COUNT_CELL, 1.5);
        assert_eq!(words(&cells).iter().filter(|word| word.count() > 0).count(), 3);
        assert_eq!(merged(&cells).positive, [(5, 2 * MAX_COUNT + 2)]);
    }

    #[test]
    fn a_table_without_room_counts_in_the_nearest_bucket() {
        let cells = NativeCells::new(Native::new(8, 16).unwrap(), 1);
        (0..1000).for_each(|exponent| cells.observe(FIRST_COUNT_CELL, 2f64.powi(exponent)));
        cells.observe(FIRST_COUNT_CELL, -1.0);
        let histogram = merged(&cells);
        assert_eq!(histogram.count(), 1001);
        assert_eq!(words(&cells).iter().filter(|&&word| word == BucketWord::FREE).count(), 0);
        assert_eq!(histogram.schema, 1);
        // Which of the buckets above zero counts a value for which there is none.
        let counts_in = |value: f64| {
            let before = merged(&cells).positive;
            cells.observe(FIRST_COUNT_CELL, value);
            merged(&cells).positive.iter().zip(before).position(|(now, before)| now.1 > before.1)
        };
        assert_eq!(counts_in(f64::MAX), Some(histogram.positive.len() - 1));
        assert_eq!(counts_in(1e-30), Some(0));
    }

    #[test]
    fn no_observation_is_lost_between_threads_while_the_schema_falls() {
        let cells = NativeCells::new(Native::new(5, 64).unwrap(), 1);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let cells = &cells;
                scope.spawn(move || {
                    for index in 0..50_000 {
                        cells.observe(FIRST_COUNT_CELL, 1.01f64.powi((index * 7 + thread) % 3000));
                    }
                });
            }
        });
        let histogram = merged(&cells);
        assert_eq!(histogram.count(), 200_000);
        assert!(histogram.schema < 5, "the schema is still {}", histogram.schema);
    }
}
