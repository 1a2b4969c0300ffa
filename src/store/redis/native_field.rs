//! The field of a series that holds its native histogram.
//!
//! Its value is `schema;zeros;buckets above zero;buckets below zero`, where the buckets are `index:count`, separated by
//! commas, in any order: `3;0;-8:2,5:1;`. One field holds all of them, so that one read finds them and one deletion
//! removes them. `batch.lua` reads and writes the same text.

use crate::model::definition::{Definition, FIRST_COUNT_CELL, NATIVE_CELLS};
use crate::model::native::{BucketWord, Native, NativeHistogram};
use crate::model::number::parse_number;

/// The schemas that Prometheus knows.
const SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;

/// Returns the cell of a family that stands for the field: that of the count of zeros, which is followed by the words.
pub(crate) fn cell(definition: &Definition) -> Option<usize> {
    definition.native().map(|_| FIRST_COUNT_CELL + definition.classic_counts())
}

/// Returns the value of the field.
pub(crate) fn format(histogram: &NativeHistogram) -> String {
    let side = |side: &[(i32, u64)]| {
        let buckets: Vec<_> = side.iter().map(|(index, count)| format!("{index}:{count}")).collect();
        buckets.join(",")
    };
    let NativeHistogram { schema, zero_count, positive, negative } = histogram;
    format!("{schema};{zero_count};{};{}", side(positive), side(negative))
}

/// Reads the value of the field.
pub(crate) fn parse(text: &str) -> Option<NativeHistogram> {
    let mut parts = text.split(';');
    let schema = parts.next()?.parse().ok().filter(|schema| SCHEMAS.contains(schema))?;
    let zero_count = parts.next()?.parse().ok()?;
    let mut side = || {
        let list = parts.next()?.split(',').filter(|bucket| !bucket.is_empty());
        let bucket = |text: &str| {
            let (index, count) = text.split_once(':')?;
            Some((index.parse().ok()?, count.parse().ok()?))
        };
        list.map(bucket).collect::<Option<Vec<(i32, u64)>>>()
    };
    let (positive, negative) = (side()?, side()?);
    let is_whole = parts.next().is_none();
    let mut histogram = NativeHistogram { schema, zero_count, ..NativeHistogram::default() };
    histogram.add(NativeHistogram { schema, zero_count: 0, positive, negative });
    is_whole.then_some(histogram)
}

/// Returns what a batch adds to the field: its value, after the most buckets that a series has and its lowest schema.
pub(crate) fn format_addition(native: Native, added: &NativeHistogram) -> String {
    format!("{} {} {}", native.size(), native.lowest_schema(), format(added))
}

/// The value of any field of a family.
#[derive(Debug)]
pub(crate) enum FieldValue {
    Number(f64),
    Native(Native, NativeHistogram),
}

impl FieldValue {
    /// Reads the value of the field that stands for `cell`.
    pub(crate) fn parse(definition: &Definition, cell: usize, text: &str) -> Option<Self> {
        match definition.native() {
            Some(native) if self::cell(definition) == Some(cell) => Some(Self::Native(native, parse(text)?)),
            _ => parse_number(text).map(Self::Number),
        }
    }

    /// Adds the value to the cells of its series from `cells[0]` on, which the field stands for. There may be another
    /// value, because another program has spelled the same labels in another way.
    pub(crate) fn add_to(self, cells: &mut [f64]) {
        match self {
            Self::Number(amount) => add(&mut cells[0], amount),
            Self::Native(native, mut histogram) => {
                let before = cells[NATIVE_CELLS..].iter().map(|cell| BucketWord(cell.to_bits()));
                histogram.add(NativeHistogram::merged(native, cells[0] as u64, before));
                cells[0] = histogram.zero_count as f64;
                let words = histogram.to_words(native).into_iter().map(|word| word.0);
                let words = words.chain(std::iter::repeat(0)).map(f64::from_bits);
                cells[NATIVE_CELLS..].iter_mut().zip(words).for_each(|(cell, word)| *cell = word);
            }
        }
    }
}

/// Adds to a cell. The first amount is stored as it is, because `0.0 + -0.0` is not `-0.0`.
fn add(cell: &mut f64, amount: f64) {
    *cell = if *cell == 0.0 { amount } else { *cell + amount };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::metric_type::MetricType;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    fn definition(native: Native) -> Definition {
        let definition = Definition::new("x", "", MetricType::Histogram, &[], &[1.0]).unwrap();
        definition.with_native(native, true).unwrap()
    }

    fn side() -> impl Strategy<Value = Vec<(i32, u64)>> {
        btree_map(-20..20i32, 1..1u64 << 41, 1..8).prop_map(|side| side.into_iter().collect())
    }

    prop_compose! {
        fn histogram()(schema in -1..=3, zero_count in 0..1u64 << 40, positive in side(), negative in side())
            -> NativeHistogram
        {
            NativeHistogram { schema, zero_count, positive, negative }
        }
    }

    proptest! {
        #[test]
        fn a_value_reads_back(histogram in histogram()) {
            prop_assert_eq!(parse(&format(&histogram)), Some(histogram));
        }

        #[test]
        fn fields_of_one_series_add_up(histograms in vec(histogram(), 1..4)) {
            let native = Native::new(3, 384).unwrap();
            let definition = definition(native);
            let cell = cell(&definition).unwrap();
            let mut cells = vec![0.0; definition.cell_count()];
            let mut sum = NativeHistogram { schema: 3, ..NativeHistogram::default() };
            for histogram in histograms {
                FieldValue::parse(&definition, cell, &format(&histogram)).unwrap().add_to(&mut cells[cell..]);
                sum.add(histogram);
            }
            let words = cells[cell + NATIVE_CELLS..].iter().map(|cell| BucketWord(cell.to_bits()));
            let read = NativeHistogram::merged(native, cells[cell] as u64, words);
            prop_assert_eq!(read.count(), sum.count());
            prop_assert_eq!(read, sum);
        }

        #[test]
        fn a_histogram_with_too_many_buckets_for_its_series_loses_no_count(
            side in btree_map(-200..200i32, 1..100u64, 0..200), schema in -4..=8,
        ) {
            let native = Native::new(8, 16).unwrap();
            let positive = side.into_iter().collect();
            let histogram = NativeHistogram { schema, positive, ..NativeHistogram::default() };
            let words = histogram.to_words(native);
            prop_assert!(words.len() <= 16 && words.iter().all(|word| word.level() <= native.last_level()));
            prop_assert_eq!(words.iter().map(|word| word.count()).sum::<u64>(), histogram.count());
        }
    }

    #[test]
    fn other_texts_are_refused() {
        assert_eq!(parse("3;7;-17:5,2:1;16:1").unwrap().count(), 14);
        for text in [
            "",
            "3",
            "3;0;",
            "9;0;;",
            "-5;0;;",
            "3;-1;;",
            "3;0;1;",
            "3;0;1:;",
            "3;0;1:1;;",
            "3;0;x:1;",
            "8.5",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        let definition = definition(Native::default());
        assert!(FieldValue::parse(&definition, cell(&definition).unwrap(), "17").is_none());
        assert!(FieldValue::parse(&definition, 0, "3;0;;").is_none());
    }
}
