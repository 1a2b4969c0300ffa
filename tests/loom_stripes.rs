//! Tries every interleaving of threads that collide at a counter or histogram in memory, with loom.
//!
//! The sources are those of the library, on loom's atomics. `stripe_memory` has other numbers here: every addition
//! looks for collisions, and one change in between is enough.

#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// The included sources have functions that no test here calls.
#![allow(dead_code)]
// `LOOK` is 0 here.
#![allow(clippy::bad_bit_mask)]

use loom::sync::Arc;
use loom::thread;

use self::at_once::AtOnce;
use self::counter::CounterCell;
use self::observed::ObservedCells;

#[path = "../src/cell/at_once.rs"]
mod at_once;
#[path = "../src/cell/counter.rs"]
mod counter;
#[path = "../src/cell/observed.rs"]
mod observed;
#[path = "../src/cell/stripes.rs"]
mod stripes;
#[path = "../src/cell/value.rs"]
mod value;

/// The paths by which the included sources import what they need.
mod cell {
    pub(crate) use super::{atomic, stripe_memory};
}

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
}

/// Stands in for `src/cell/stripe_memory.rs`.
mod stripe_memory {
    use super::atomic::AtomicU64;

    pub(crate) const STRIPES: usize = 2;
    pub(crate) const LINE: usize = 1;
    pub(crate) const WINDOWS: usize = 1;
    pub(crate) const LOOK: u64 = 0;

    pub(crate) fn map(count: usize) -> Option<*mut AtomicU64> {
        let words: Box<[AtomicU64]> = (0..count).map(|_| AtomicU64::new(0)).collect();
        Some(Box::into_raw(words).cast())
    }

    pub(crate) unsafe fn unmap(words: *mut AtomicU64, count: usize) {
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(words, count)) });
    }

    loom::thread_local! {
        /// The number of this thread. Every execution must give a thread the same number.
        pub(crate) static NUMBER: std::cell::Cell<u64> = std::cell::Cell::new(1);
    }

    pub(crate) fn thread() -> u64 {
        NUMBER.with(std::cell::Cell::get)
    }

    /// loom switches threads between any two operations, so there is nothing to wait for.
    pub(crate) fn pause() {}
}

fn model(bound: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.check(check);
}

fn spawn(number: u64, work: impl FnOnce() + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        stripe_memory::NUMBER.with(|known| known.set(number));
        work();
    })
}

fn add(cell: &CounterCell, amount: f64) {
    match cell.add_at_once(amount) {
        AtOnce::Done => {}
        AtOnce::Unfinished => cell.look(),
        AtOnce::HasStripes | AtOnce::NotDone => cell.add(amount),
    }
}

fn observe(cells: &ObservedCells, index: usize, value: f64) {
    match cells.observe_at_once(index, value) {
        AtOnce::Done => {}
        AtOnce::Unfinished => cells.look(),
        AtOnce::HasStripes | AtOnce::NotDone => cells.observe(index, value),
    }
}

#[test]
fn no_addition_is_lost_while_stripes_are_made() {
    // Which ends the model has seen: with stripes, and without.
    static WITH: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    static WITHOUT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    model(2, || {
        let cell = Arc::new(CounterCell::default());
        let other = {
            let cell = Arc::clone(&cell);
            spawn(2, move || {
                add(&cell, 1.0);
                add(&cell, 0.5);
            })
        };
        add(&cell, 2.0);
        let seen = cell.get();
        assert!(seen >= 2.0, "a thread sees what it has added: {seen}");
        add(&cell, 4.0);
        let seen_later = cell.get();
        assert!(seen_later >= seen + 4.0, "{seen_later} after {seen}");
        other.join().unwrap();
        assert_eq!(cell.get(), 7.5);
        let ends = if cell.add_at_once(1.0) == AtOnce::HasStripes { &WITH } else { &WITHOUT };
        ends.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(WITH.load(std::sync::atomic::Ordering::Relaxed) > 0);
    assert!(WITHOUT.load(std::sync::atomic::Ordering::Relaxed) > 0);
}

#[test]
fn no_addition_is_lost_if_two_threads_make_stripes() {
    model(2, || {
        let cell = Arc::new(CounterCell::default());
        let threads: Vec<_> = (2..4)
            .map(|number| {
                let cell = Arc::clone(&cell);
                spawn(number, move || {
                    add(&cell, 1.0);
                    add(&cell, 1.0);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(cell.get(), 4.0);
    });
}

#[test]
fn no_observation_is_lost_while_stripes_are_made() {
    model(2, || {
        let cells = Arc::new(ObservedCells::new(2));
        let other = {
            let cells = Arc::clone(&cells);
            spawn(2, move || {
                observe(&cells, 0, 1.0);
                observe(&cells, 0, 1.0);
            })
        };
        observe(&cells, 1, 2.0);
        observe(&cells, 1, 2.0);
        other.join().unwrap();
        let mut values = [0.0; 3];
        cells.read(&mut values);
        assert_eq!(values, [6.0, 2.0, 2.0]);
    });
}
