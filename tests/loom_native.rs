//! Models of the table of a native histogram: loom runs `src/cell/native.rs` itself in every interleaving of its
//! threads and with every value that its orderings let a thread read. Each value is counted exactly once, in a
//! bucket that contains it if there is room, and a reader never sees a count fall.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use loom::sync::Arc;
use loom::thread;

use atomic::{AtomicU64, Ordering};
use native::{Bucket, BucketWord, Native, NativeHistogram, Place};
use native_table::NativeTable;

#[path = "../src/model/error.rs"]
mod error;
#[path = "../src/model/native.rs"]
mod native;
#[path = "../src/model/native_bounds.rs"]
mod native_bounds;
#[path = "../src/cell/native.rs"]
mod native_table;

/// Stands in for `src/cell/atomic.rs`.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

/// The paths by which the included sources import each other.
mod cell {
    pub(crate) use super::atomic;
}

mod model {
    pub(crate) use super::{error, native, native_bounds};
}

/// A table that is smaller than one that a program may ask for: loom tries every word.
struct Small {
    native: Native,
    used: AtomicU64,
    words: Vec<AtomicU64>,
}

impl Small {
    fn new(size: usize) -> Self {
        let words = (0..size).map(|_| AtomicU64::new(0)).collect();
        Self { native: Native::new(3, 16).unwrap(), used: AtomicU64::new(0), words }
    }

    fn observe(&self, value: f64) {
        let table = NativeTable::new(self.native, &self.used, &self.words);
        table.add(0, bucket(value), 1, || true);
    }

    fn read(&self) -> Vec<BucketWord> {
        self.words.iter().map(|word| BucketWord(word.load(Ordering::Relaxed))).collect()
    }

    fn merged(&self) -> NativeHistogram {
        NativeHistogram::merged(self.native, 0, self.read().into_iter())
    }
}

fn bucket(value: f64) -> Bucket {
    match Place::of(value) {
        Place::Bucket(bucket) => bucket,
        place => panic!("{value} is {place:?}"),
    }
}

/// Two threads count values in a table of `size` words, while this one reads it twice. Returns the table at the
/// end, which holds every value.
fn observe_beside_a_reader(size: usize, values: [&'static [f64]; 2]) -> Arc<Small> {
    let table = Arc::new(Small::new(size));
    let writers = values.map(|values| {
        let table = Arc::clone(&table);
        thread::spawn(move || values.iter().for_each(|&value| table.observe(value)))
    });
    let (first, second) = (table.read(), table.read());
    for (first, second) in first.into_iter().zip(second) {
        assert!(first == BucketWord::FREE || second.has_key_of(first), "a word has another key");
        assert!(second.count() >= first.count(), "a count has fallen");
    }
    for writer in writers {
        writer.join().unwrap();
    }
    let count: usize = values.iter().map(|values| values.len()).sum();
    assert_eq!(table.merged().count(), count as u64);
    table
}

/// Runs a model in all interleavings with at most three preemptions.
fn check(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

#[test]
fn two_writers_of_one_bucket_share_a_word() {
    check(|| {
        let table = observe_beside_a_reader(6, [&[1.5], &[1.5]]);
        assert_eq!(table.merged().positive, [(5, 2)]);
        assert_eq!(table.used.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn two_writers_that_claim_one_word_both_count() {
    check(|| {
        let table = observe_beside_a_reader(6, [&[1.5], &[3.0]]);
        assert_eq!(table.merged().positive, [(5, 1), (13, 1)]);
        assert_eq!(table.used.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn values_are_counted_once_while_the_schema_falls() {
    check(|| {
        let table = observe_beside_a_reader(3, [&[1.0, 4.0], &[16.0]]);
        let merged = table.merged();
        let counted_in = |value: f64| {
            let index = (value.log2() * 2f64.powi(merged.schema)).ceil() as i32;
            merged.positive.iter().any(|&(known, _)| known == index)
        };
        assert!([1.0, 4.0, 16.0].into_iter().all(counted_in), "{merged:?}");
    });
}

#[test]
fn a_full_table_counts_in_the_nearest_bucket() {
    check(|| {
        observe_beside_a_reader(1, [&[1.0, 1e30], &[-1.0]]);
    });
}
