//! Native histograms: which bucket a value belongs to, how a word holds a bucket, and the merged histogram.
//!
//! The bounds of the buckets are powers of a base that the *schema* decides: 2^(2^-schema). So schema 3 has eight
//! buckets between 1 and 2. A bucket holds the values up to its upper bound, and that bound. Two buckets of a
//! schema are exactly one of the next lower schema, so a histogram can be merged to any lower schema.
//!
//! [`cell::native`](crate::cell::native) keeps buckets as words of the form that this file defines. The words
//! of one histogram may be of several schemas; the reader merges them to the lowest of these.

use std::collections::BTreeMap;

use crate::model::error::{Error, ErrorKind, Result};
use crate::model::native_bounds::BOUNDS;

/// The values from -2^-128 to 2^-128 count as zero, as in client_golang.
pub const ZERO_THRESHOLD: f64 = f64::from_bits((1023 - 128) << MANTISSA_BITS);

/// The schema at which an index is computed. Those of lower schemas follow from it.
const FINEST_SCHEMA: u32 = 8;
/// The lowest schema that Prometheus knows: one bucket from 1 to 65,536.
const LOWEST_SCHEMA: i32 = -4;
/// The most schemas that a histogram goes down, as three bits of a word can tell.
const MAX_LEVEL: u32 = 7;

const MANTISSA_BITS: u32 = 52;
const MANTISSA: u64 = (1 << MANTISSA_BITS) - 1;
/// The exponent bits of the numbers from 1 to 2.
const ONE: u64 = 1023 << MANTISSA_BITS;

/// A family's native histogram: the resolution with which it begins, and the room that a series has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Native {
    schema: u8,
    size: u16,
}

impl Default for Native {
    /// Begins with schema 3, and has room for 384 buckets.
    fn default() -> Self {
        Self { schema: 3, size: 384 }
    }
}

impl Native {
    /// The schemas with which a histogram may begin.
    const SCHEMAS: std::ops::RangeInclusive<i64> = 0..=8;
    /// The numbers of buckets that a series may have room for.
    const SIZES: std::ops::RangeInclusive<i64> = 16..=4096;

    /// Makes the options of a native histogram.
    ///
    /// There are 2^`schema` buckets from each power of two to the next, for a `schema` from 0 to 8. A series has
    /// room for `size` buckets, from 16 to 4096, and takes 8 bytes for each. When a series needs more, its
    /// resolution falls by up to seven schemas, and not below -4.
    pub fn new(schema: i64, size: i64) -> Result<Self> {
        let refuse = |what: &str, value: i64, range: std::ops::RangeInclusive<i64>| {
            let (low, high) = range.into_inner();
            let message = format!("the {what} of a native histogram is {value}: expected {low} to {high}");
            Err(Error::new(ErrorKind::InvalidArgument, message))
        };
        if !Self::SCHEMAS.contains(&schema) {
            return refuse("schema", schema, Self::SCHEMAS);
        }
        if !Self::SIZES.contains(&size) {
            return refuse("size", size, Self::SIZES);
        }
        Ok(Self { schema: schema as u8, size: size as u16 })
    }

    /// Makes the options of a native histogram as [`Native::new`] does, with a number of buckets from each power of two
    /// to the next: 1, 2, 4, 8, 16, 32, 64, 128 or 256.
    pub fn with_resolution(resolution: i64, size: i64) -> Result<Self> {
        if resolution.count_ones() != 1 || !(1..=1 << FINEST_SCHEMA).contains(&resolution) {
            let message = format!(
                "the resolution of a native histogram is {resolution}: expected 1, 2, 4, 8, 16, 32, 64, 128 or 256"
            );
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        Self::new(i64::from(resolution.trailing_zeros()), size)
    }

    /// Returns how many buckets there are from each power of two to the next when a series begins.
    pub fn resolution(self) -> i64 {
        1 << self.schema
    }

    /// Returns the schema with which a series begins.
    pub fn schema(self) -> i32 {
        i32::from(self.schema)
    }

    /// Returns how many buckets a series has room for.
    pub fn size(self) -> usize {
        usize::from(self.size)
    }

    /// Returns the schema below which it does not fall.
    pub(crate) fn lowest_schema(self) -> i32 {
        self.schema() - self.last_level() as i32
    }

    /// Returns how far the schema may fall.
    #[inline]
    pub(crate) fn last_level(self) -> u32 {
        MAX_LEVEL.min(u32::from(self.schema) + LOWEST_SCHEMA.unsigned_abs())
    }

    /// Returns how often an index of the finest schema is halved for this level.
    #[inline]
    fn shift(self, level: u32) -> u32 {
        FINEST_SCHEMA - u32::from(self.schema) + level
    }
}

/// What a value counts as in a native histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Nan,
    Zero,
    Bucket(Bucket),
}

/// A bucket of the finest schema. Infinities have a bucket of their own behind that of the largest number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bucket {
    is_negative: bool,
    index: i32,
}

/// The mantissas are divided into this many steps, so narrow that at most one bound lies in each.
const STEPS: usize = 1 << STEP_BITS;
const STEP_BITS: u32 = FINEST_SCHEMA + 1;

/// For each step the number of bounds below its first mantissa.
const BOUNDS_BELOW: [u16; STEPS] = {
    let mut below = [0; STEPS];
    let (mut step, mut bound) = (0, 0);
    while step < STEPS {
        let first = ONE | (step as u64) << (MANTISSA_BITS - STEP_BITS);
        while bound < BOUNDS.len() && BOUNDS[bound].to_bits() < first {
            bound += 1;
        }
        below[step] = bound as u16;
        step += 1;
    }
    below
};

/// The bits of the bounds, and of 2, with which a mantissa above all of them is compared.
static BOUND_BITS: [u64; BOUNDS.len() + 1] = {
    let mut bits = [ONE + (1 << MANTISSA_BITS); BOUNDS.len() + 1];
    let mut index = 0;
    while index < BOUNDS.len() {
        bits[index] = BOUNDS[index].to_bits();
        index += 1;
    }
    bits
};

impl Place {
    /// Returns where `value` counts.
    #[inline]
    pub(crate) fn of(value: f64) -> Self {
        let size = value.abs();
        if size <= ZERO_THRESHOLD {
            return Self::Zero;
        }
        if size.is_nan() {
            return Self::Nan;
        }
        // A number above the threshold is not subnormal. The bits of infinity are those of 2^1024.
        let bits = size.to_bits();
        let exponent = (bits >> MANTISSA_BITS) as i32 - 1023;
        let step = (bits & MANTISSA) >> (MANTISSA_BITS - STEP_BITS);
        let below = usize::from(BOUNDS_BELOW[step as usize]);
        let is_above = (bits & MANTISSA | ONE) > BOUND_BITS[below];
        let index = (exponent << FINEST_SCHEMA) + below as i32 + i32::from(is_above);
        let index = index + i32::from(size.is_infinite());
        Self::Bucket(Bucket { is_negative: value.is_sign_negative(), index })
    }
}

/// A bucket and its count in one word: `level 3 | sign 1 | index 20 | count 40` bits. Zero is a free word.
///
/// The level says how far the schema of the index is below that with which the histogram begins. The index has
/// an offset, so that no word of a bucket has the bits of a NaN: such a word may travel as an `f64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BucketWord(pub(crate) u64);

/// The most that one word counts. Further ones count in another word of the same key.
pub(crate) const MAX_COUNT: u64 = (1 << COUNT_BITS) - 1;

const COUNT_BITS: u32 = 40;
const INDEX_BITS: u32 = 20;
const SIGN_AT: u32 = COUNT_BITS + INDEX_BITS;
const LEVEL_AT: u32 = SIGN_AT + 1;
/// What is added to an index, which lies between -2^15 and 2^18 + 1.
const INDEX_OFFSET: i32 = 1 << (INDEX_BITS - 1);

impl BucketWord {
    /// A free word.
    pub(crate) const FREE: Self = Self(0);

    /// Returns the word of `bucket` at this level with a count of 0.
    #[inline]
    pub(crate) fn new(native: Native, level: u32, bucket: Bucket) -> Self {
        let index = halved(bucket.index, native.shift(level));
        Self::of_index(level, bucket.is_negative, index)
    }

    fn of_index(level: u32, is_negative: bool, index: i32) -> Self {
        let index = (index + INDEX_OFFSET) as u64;
        Self(u64::from(level) << LEVEL_AT | u64::from(is_negative) << SIGN_AT | index << COUNT_BITS)
    }

    /// Returns whether the words are of one bucket at one level.
    #[inline]
    pub(crate) fn has_key_of(self, other: Self) -> bool {
        (self.0 ^ other.0) >> COUNT_BITS == 0
    }

    /// Returns a bucket of the finest schema that lies in the word's bucket.
    pub(crate) fn bucket(self, native: Native) -> Bucket {
        // The last one, whose upper bound is that of the word's bucket.
        let index = self.index().wrapping_shl(native.shift(self.level()));
        Bucket { is_negative: self.is_negative(), index }
    }

    /// Returns a hash of the key in 32 bits.
    #[inline]
    pub(crate) fn hash(self) -> u32 {
        ((self.0 >> COUNT_BITS) as u32).wrapping_mul(0x9e37_79b9)
    }

    #[inline]
    pub(crate) fn count(self) -> u64 {
        self.0 & MAX_COUNT
    }

    /// Returns the word with `amount` added to its count. Returns `None` if the count has no room for it.
    #[inline]
    pub(crate) fn plus(self, amount: u64) -> Option<Self> {
        (amount <= MAX_COUNT - self.count()).then(|| Self(self.0 + amount))
    }

    pub(crate) fn level(self) -> u32 {
        (self.0 >> LEVEL_AT) as u32
    }

    pub(crate) fn is_negative(self) -> bool {
        self.0 >> SIGN_AT & 1 == 1
    }

    /// Returns the index at the schema of the word's level.
    pub(crate) fn index(self) -> i32 {
        (self.0 >> COUNT_BITS) as i32 % (1 << INDEX_BITS) - INDEX_OFFSET
    }

    /// Returns how far the word's bucket is from `other` at the coarser of their levels, if it has the same sign.
    pub(crate) fn distance(self, other: Self) -> Option<u32> {
        let level = self.level().max(other.level());
        let index = |word: Self| halved(word.index(), level - word.level());
        (self.is_negative() == other.is_negative()).then(|| index(self).abs_diff(index(other)))
    }

    /// Returns whether the word is free, or that of a bucket which the histogram can have.
    pub(crate) fn is_valid(self, native: Native) -> bool {
        // The buckets of the smallest number above the threshold, and of infinity.
        let (smallest, largest) = (-128 * (1 << FINEST_SCHEMA), 1024 * (1 << FINEST_SCHEMA) + 1);
        let range = |level| halved(smallest, native.shift(level))..=halved(largest, native.shift(level));
        self == Self::FREE
            || self.level() <= native.last_level() && range(self.level()).contains(&self.index())
    }
}

/// Returns the index of a bucket after the schema has fallen by `times`: the upper bound stays inclusive.
#[inline]
fn halved(index: i32, times: u32) -> i32 {
    ((index - 1) >> times) + 1
}

/// The buckets of a native histogram, merged to one schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NativeHistogram {
    /// The schema of the indexes, from -4 to 8.
    pub schema: i32,
    /// How many observations lie within [`ZERO_THRESHOLD`] of 0.
    pub zero_count: u64,
    /// The indexes and counts of the buckets above zero, by index. The bucket with the index `i` has the upper bound
    /// 2^(`i` × 2^-`schema`).
    pub positive: Vec<(i32, u64)>,
    /// The indexes and counts of the buckets below zero: their bounds are those above zero, negated.
    pub negative: Vec<(i32, u64)>,
}

impl NativeHistogram {
    /// Merges the words of a series. A word that the histogram cannot have, because the store is damaged, is
    /// left out.
    pub(crate) fn merged(
        native: Native,
        zero_count: u64,
        words: impl Iterator<Item = BucketWord> + Clone,
    ) -> Self {
        let words = words.filter(|word| word.count() > 0 && word.is_valid(native));
        let level = words.clone().map(BucketWord::level).max().unwrap_or_default();
        let side = |is_negative| {
            let side = words.clone().filter(|word| word.is_negative() == is_negative);
            summed(side.map(|word| (halved(word.index(), level - word.level()), word.count())))
        };
        let schema = native.schema() - level as i32;
        Self { schema, zero_count, positive: side(false), negative: side(true) }
    }

    /// Returns the number of observations, except those that are not a number.
    pub fn count(&self) -> u64 {
        self.buckets().fold(self.zero_count, |sum, (.., count)| sum.saturating_add(count))
    }

    /// Returns what has been observed since an `earlier` state of the same histogram, at the lower schema of both.
    pub fn since(&self, earlier: &Self) -> Self {
        let (mut since, mut earlier) = (self.clone(), earlier.clone());
        since.lower_to(earlier.schema);
        earlier.lower_to(since.schema);
        since.zero_count = since.zero_count.saturating_sub(earlier.zero_count);
        for (side, before) in
            [(&mut since.positive, earlier.positive), (&mut since.negative, earlier.negative)]
        {
            let before: BTreeMap<i32, u64> = before.into_iter().collect();
            for (index, count) in side.iter_mut() {
                *count = count.saturating_sub(before.get(index).copied().unwrap_or_default());
            }
            side.retain(|&(_, count)| count > 0);
        }
        since
    }

    /// Estimates the quantile `q`, from 0 to 1. Interpolates within a bucket on a logarithmic scale. Returns `None` if
    /// there are no observations.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q * self.count() as f64;
        let width = (-f64::from(self.schema)).exp2();
        let mut below = 0.0;
        let negative = self.negative.iter().rev().map(|&(index, count)| (Some((-1.0, index)), count));
        let positive = self.positive.iter().map(|&(index, count)| (Some((1.0, index)), count));
        let buckets = negative.chain([(None, self.zero_count)]).chain(positive);
        let mut found = None;
        for (place, count) in buckets.filter(|&(_, count)| count > 0) {
            let fraction = ((rank - below) / count as f64).clamp(0.0, 1.0);
            found = Some(place.map_or(0.0, |(sign, index)| {
                // The larger values of a bucket below zero are nearer to zero.
                let from_lower = if sign < 0.0 { 1.0 - fraction } else { fraction };
                sign * ((f64::from(index - 1) + from_lower) * width).exp2()
            }));
            below += count as f64;
            if below >= rank {
                break;
            }
        }
        found
    }

    /// Returns the buckets: whether they are below zero, their indexes and counts.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (bool, i32, u64)> + '_ {
        let side = |is_negative| move |&(index, count): &(i32, u64)| (is_negative, index, count);
        self.positive.iter().map(side(false)).chain(self.negative.iter().map(side(true)))
    }

    /// Lowers the schema: two buckets become one each time.
    pub(crate) fn lower_to(&mut self, schema: i32) {
        let times = (self.schema - schema).max(0).unsigned_abs();
        for side in [&mut self.positive, &mut self.negative] {
            *side = summed(side.iter().map(|&(index, count)| (halved(index, times), count)));
        }
        self.schema = self.schema.min(schema);
    }

    /// Adds the counts of another histogram, at the lower schema of both.
    pub(crate) fn add(&mut self, mut other: Self) {
        self.lower_to(other.schema);
        other.lower_to(self.schema);
        self.zero_count = self.zero_count.saturating_add(other.zero_count);
        for (side, more) in [(&mut self.positive, other.positive), (&mut self.negative, other.negative)] {
            *side = summed(side.iter().copied().chain(more));
        }
    }

    /// Returns the words of a series with these options that hold the buckets, at a lower schema if they have no room.
    /// If there are too many of them even at the lowest schema, the last ones are counted in the one before.
    pub(crate) fn to_words(&self, native: Native) -> Vec<BucketWord> {
        let lowest = native.lowest_schema();
        let mut fitted = self.clone();
        fitted.lower_to(native.schema());
        loop {
            let level = (native.schema() - fitted.schema.max(lowest)).unsigned_abs();
            // A bucket of a schema below the lowest one counts in the last bucket that it contains.
            let finer = (lowest - fitted.schema).max(0).unsigned_abs();
            let mut words = Vec::new();
            for (is_negative, index, mut count) in fitted.buckets() {
                let key = BucketWord::of_index(level, is_negative, index.wrapping_shl(finer));
                while count > 0 {
                    words.push(BucketWord(key.0 + count.min(MAX_COUNT)));
                    count -= count.min(MAX_COUNT);
                }
            }
            if words.len() > native.size() && fitted.schema > lowest {
                fitted.lower_to(fitted.schema - 1);
                continue;
            }
            let surplus = words.split_off(words.len().min(native.size()));
            if let Some(last) = words.last_mut() {
                let count = surplus.iter().fold(last.count(), |sum, word| sum.saturating_add(word.count()));
                *last = BucketWord((last.0 & !MAX_COUNT) + count.min(MAX_COUNT));
            }
            return words;
        }
    }
}

/// Adds up the counts of each index, and sorts them.
fn summed(buckets: impl Iterator<Item = (i32, u64)>) -> Vec<(i32, u64)> {
    let mut buckets: Vec<_> = buckets.collect();
    buckets.sort_unstable_by_key(|&(index, _)| index);
    buckets.dedup_by(|next, kept| {
        let is_same = next.0 == kept.0;
        kept.1 = if is_same { kept.1.saturating_add(next.1) } else { kept.1 };
        is_same
    });
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index_at(schema: i64, value: f64) -> i32 {
        let native = Native::new(schema, 16).unwrap();
        match Place::of(value) {
            Place::Bucket(bucket) => BucketWord::new(native, 0, bucket).index(),
            place => panic!("{value} is {place:?}"),
        }
    }

    /// Finds the index by trying the bounds that lie between two powers of two.
    fn slow_index_at(schema: i64, value: f64) -> i32 {
        let exponent = value.log2().floor() as i32 - 1;
        let step = BOUNDS.len() >> schema;
        let mut bounds = (exponent..exponent + 3).flat_map(|exponent| {
            let octave = BOUNDS.iter().step_by(step).enumerate();
            octave.map(move |(index, bound)| {
                // Two factors, because 2^1024 is not a number.
                let bound = bound * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2);
                ((exponent << schema) + index as i32, bound)
            })
        });
        bounds.find(|&(_, bound)| value <= bound).unwrap().0
    }

    #[test]
    fn bounds_are_the_roots_of_two() {
        for (index, &bound) in BOUNDS.iter().enumerate() {
            let near = (index as f64 / 256.0).exp2();
            assert!((bound.to_bits() as i64 - near.to_bits() as i64).abs() <= 1, "bound {index}");
        }
        assert_eq!((BOUNDS[0], BOUNDS[128]), (1.0, std::f64::consts::SQRT_2));
    }

    #[test]
    fn a_bound_is_in_its_bucket_and_the_next_number_is_not() {
        for schema in 0..=8 {
            for exponent in [-127, -1, 0, 1, 52, 1023] {
                for (k, bound) in BOUNDS.iter().step_by(BOUNDS.len() >> schema).enumerate() {
                    let bound = bound * 2f64.powi(exponent);
                    let index = (exponent << schema) + k as i32;
                    let around = [bound.next_down(), bound, bound.next_up()];
                    let found = around.map(|value| index_at(schema, value));
                    assert_eq!(found, [index, index, index + 1], "schema {schema}, around {bound}");
                }
            }
        }
    }

    #[test]
    fn zero_nan_and_infinities_have_places_of_their_own() {
        assert_eq!(ZERO_THRESHOLD, 2f64.powi(-128));
        for value in [0.0, -0.0, ZERO_THRESHOLD, -ZERO_THRESHOLD, f64::MIN_POSITIVE, 5e-324, -5e-324] {
            assert_eq!(Place::of(value), Place::Zero, "{value}");
        }
        assert_eq!(Place::of(f64::NAN), Place::Nan);
        assert_eq!(Place::of(-f64::NAN), Place::Nan);
        for schema in 0..=8 {
            assert_eq!(index_at(schema, f64::MAX), 1024 << schema);
            assert_eq!(index_at(schema, f64::INFINITY), (1024 << schema) + 1);
            assert_eq!(index_at(schema, f64::NEG_INFINITY), (1024 << schema) + 1);
            assert_eq!(index_at(schema, ZERO_THRESHOLD.next_up()), (-128 << schema) + 1);
        }
    }

    #[test]
    fn a_quantile_lies_in_the_bucket_of_its_rank() {
        let histogram = NativeHistogram {
            schema: 0,
            zero_count: 2,
            positive: vec![(0, 1), (3, 5)],
            negative: vec![(1, 1), (2, 1)],
        };
        // Of the ten observations one is in -4 to -2, one in -2 to -1, two are 0, one is up to 1, and five are in 4 to 8.
        for (q, expected) in [
            (0.0, -4.0),
            (0.05, -(1.5f64.exp2())),
            (0.2, -1.0),
            (0.3, 0.0),
            (0.45, 0.5f64.sqrt()),
            (0.75, 32f64.sqrt()),
            (1.0, 8.0),
        ] {
            let found = histogram.quantile(q).unwrap();
            assert!((found - expected).abs() < 1e-12, "{q}: {found}, expected {expected}");
        }
        assert_eq!(NativeHistogram::default().quantile(0.5), None);
    }

    #[test]
    fn what_was_observed_since_is_the_difference_at_the_lower_schema() {
        let histogram = |schema, zero_count, positive: &[(i32, u64)]| NativeHistogram {
            schema,
            zero_count,
            positive: positive.to_vec(),
            negative: vec![(0, 3)],
        };
        let before = histogram(1, 2, &[(1, 4), (2, 1), (5, 2)]);
        let since = histogram(0, 5, &[(1, 7), (2, 1), (3, 2)]).since(&before);
        assert_eq!(
            since,
            NativeHistogram { schema: 0, zero_count: 3, positive: vec![(1, 2), (2, 1)], negative: vec![] }
        );
    }

    #[test]
    fn a_silly_option_is_named_with_its_range() {
        let message = |schema, size| Native::new(schema, size).unwrap_err().message().to_owned();
        assert_eq!(message(9, 384), "the schema of a native histogram is 9: expected 0 to 8");
        assert_eq!(message(3, 15), "the size of a native histogram is 15: expected 16 to 4096");
        assert_eq!(Native::new(3, 384).unwrap(), Native::default());
        assert_eq!(Native::with_resolution(256, 16).unwrap(), Native::new(8, 16).unwrap());
        assert_eq!(Native::with_resolution(1, 4096).unwrap().resolution(), 1);
        for resolution in [0, -8, 3, 512, i64::MIN] {
            let message = Native::with_resolution(resolution, 384).unwrap_err().message().to_owned();
            assert!(
                message.contains(&format!("resolution of a native histogram is {resolution}: expected 1, 2"))
            );
        }
    }

    proptest! {
        #[test]
        fn an_index_is_that_of_the_first_bound_not_below(bits: u64, schema in 0..=8i64) {
            let value = f64::from_bits(bits).abs();
            prop_assume!(value > ZERO_THRESHOLD && value.is_finite());
            prop_assert_eq!(index_at(schema, value), slow_index_at(schema, value));
        }

        #[test]
        fn a_word_is_that_of_its_bucket(value: f64, schema in 0..=8i64, level in 0..=7u32, count in 0..=MAX_COUNT) {
            let native = Native::new(schema, 16).unwrap();
            prop_assume!(level <= native.last_level());
            if let Place::Bucket(bucket) = Place::of(value) {
                let word = BucketWord::new(native, level, bucket).plus(count).unwrap();
                prop_assert_eq!((word.level(), word.count()), (level, count));
                prop_assert_eq!(word.is_negative(), value < 0.0);
                prop_assert!(word.is_valid(native) && word != BucketWord::FREE);
                prop_assert!(!f64::from_bits(word.0).is_nan());
                prop_assert_eq!(word.plus(MAX_COUNT - count + 1), None);
                // The bucket of the lower schema contains that of the schema itself.
                let finer = BucketWord::new(native, 0, bucket);
                prop_assert_eq!(finer.distance(word), Some(0));
            }
        }
    }
}
