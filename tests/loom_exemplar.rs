//! Models of a slot for an exemplar: loom runs `src/cell/exemplar.rs` itself in every interleaving of its threads and
//! with every value that its orderings let a thread read. What a reader sees is whole, and what writers leave that met
//! or were killed, the next one mends.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::Cell;

use loom::sync::Arc;
use loom::thread;

use atomic::AtomicU64;
use slot::{ExemplarSlot, Found, Held, SLOT_WORDS};

#[path = "../src/cell/exemplar.rs"]
mod slot;

/// Stands in for `src/cell/atomic.rs`.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

/// Stands in for `src/model/exemplar.rs`, with labels of one word: loom tries every word.
mod exemplar {
    pub(crate) const LABEL_WORDS: usize = 1;

    pub(crate) struct Exemplar(u64);

    impl Exemplar {
        pub(crate) fn from_words(_: [u64; LABEL_WORDS], _: u64, milliseconds: u64) -> Option<Self> {
            Some(Self(milliseconds))
        }

        pub(crate) fn milliseconds(&self) -> u64 {
            self.0
        }
    }
}

/// The paths by which the included source imports others.
mod cell {
    pub(crate) use super::atomic;
}

mod model {
    pub(crate) use super::exemplar;
}

const IDENTITY: u64 = 7;

struct Words([AtomicU64; SLOT_WORDS]);

impl Words {
    fn new() -> Arc<Self> {
        Arc::new(Self(std::array::from_fn(|_| AtomicU64::new(0))))
    }

    /// Writes the exemplar of this time. `until` is how often the slot may be touched before the writer is killed.
    fn write(&self, milliseconds: u64, until: u32) -> bool {
        let left = Cell::new(until);
        let is_alive = || left.replace(left.get().saturating_sub(1)) > 0;
        self.slot().write(&exemplar_of(milliseconds), is_alive)
    }

    /// Returns the time of the exemplar that the slot shows, which is whole.
    fn read(&self) -> Option<u64> {
        match self.slot().read() {
            Found::Exemplar(held) => {
                assert_eq!(held, exemplar_of(held.milliseconds), "a mixture of two exemplars");
                Some(held.milliseconds)
            }
            Found::Nothing | Found::Unreadable => None,
        }
    }

    fn slot(&self) -> ExemplarSlot<'_> {
        ExemplarSlot::at(&self.0, 0, IDENTITY).unwrap()
    }
}

/// Returns an exemplar whose words tell each other.
fn exemplar_of(milliseconds: u64) -> Held {
    Held { milliseconds, value: milliseconds + 1, labels: [milliseconds + 2] }
}

/// Runs a model in all interleavings with at most three preemptions.
fn check(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

/// Two threads write exemplars of these times, and the first one is killed after `until` touches, while this thread
/// reads. Returns the slot, and whether each writer has written all of its exemplar.
fn write_beside_a_reader(times: [u64; 2], until: u32) -> (Arc<Words>, [bool; 2]) {
    let words = Words::new();
    let writers = [(times[0], until), (times[1], u32::MAX)].map(|(time, until)| {
        let words = Arc::clone(&words);
        thread::spawn(move || words.write(time, until))
    });
    let seen = words.read();
    assert!(seen.is_none_or(|time| times.contains(&time)));
    let written = writers.map(|writer| writer.join().unwrap());
    (words, written)
}

#[test]
fn one_of_two_writers_takes_the_slot_and_the_other_one_drops_its_exemplar() {
    check(|| {
        let (words, written) = write_beside_a_reader([1_000, 1_001], u32::MAX);
        assert_ne!(written[0], written[1]);
        assert_eq!(words.read(), Some(if written[0] { 1_000 } else { 1_001 }));
    });
}

#[test]
fn a_writer_that_slept_leaves_nothing_that_looks_whole_and_is_not() {
    check(|| {
        let (words, written) = write_beside_a_reader([1_000, 1_200], u32::MAX);
        assert!(written[0] || written[1] || words.read().is_none());
        assert!(words.write(1_400, u32::MAX), "the next writer mends the slot");
        assert_eq!(words.read(), Some(1_400));
    });
}

#[test]
fn what_a_killed_writer_leaves_is_hidden_and_mended() {
    for until in 0..SLOT_WORDS as u32 {
        check(move || {
            let (words, written) = write_beside_a_reader([1_000, 1_200], until);
            assert!(!written[0]);
            assert!(words.read().is_none_or(|time| time == 1_200));
            assert!(words.write(1_400, u32::MAX), "the next writer mends the slot");
            assert_eq!(words.read(), Some(1_400));
        });
    }
}
