//! Models of series that end: loom runs `src/cell/last_use.rs` and `src/cell/present.rs` themselves in every
//! interleaving of their threads. A change is in a series that lives on, or is made again, and a value that a thread
//! uses is not freed.
#![allow(dead_code, unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use loom::thread;

use atomic::{AtomicU64, Ordering};

#[path = "../src/cell/last_use.rs"]
mod last_use;
#[path = "../src/cell/present.rs"]
mod present;

/// Stands in for `src/cell/atomic.rs`.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
}

const TTL: u32 = 1;

#[test]
fn a_change_is_in_a_series_that_lives_on_or_is_made_again() {
    loom::model(|| {
        let cells = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let word = Arc::new(AtomicU64::new(last_use::begin(1, 1)));
        let writer = |number: u64| {
            let (cells, word) = (Arc::clone(&cells), Arc::clone(&word));
            thread::spawn(move || {
                cells[0].fetch_add(number, Ordering::Relaxed);
                if !last_use::touch(&word, 1, TTL, 2) {
                    cells[1].fetch_add(number, Ordering::Relaxed);
                }
            })
        };
        let threads = [writer(1), writer(10)];
        // A second later, the series is over, unless a change came first.
        let has_ended = last_use::expire(&word, 1, TTL, 3);
        if !has_ended && word.load(Ordering::Acquire) == last_use::begin(1, 2) {
            assert_ne!(
                cells[0].load(Ordering::Relaxed),
                0,
                "the second is seen, and the change before it is not"
            );
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let values = [0, 1].map(|cell: usize| cells[cell].load(Ordering::Relaxed));
        assert_eq!(values, if has_ended { [11, 11] } else { [11, 0] });
        assert_eq!(last_use::is_buried(word.load(Ordering::Relaxed)), has_ended);
    });
}

#[test]
fn a_series_that_waits_for_its_store_ends_or_moves_there() {
    loom::model(|| {
        let gathered = Arc::new(AtomicU64::new(0));
        let word = Arc::new(AtomicU64::new(last_use::begin(1, 1)));
        let writer = {
            let (gathered, word) = (Arc::clone(&gathered), Arc::clone(&word));
            thread::spawn(move || {
                gathered.fetch_add(1, Ordering::AcqRel);
                // The series is over, unless another word says now when it was last used.
                last_use::touch(&word, 1, TTL, 3)
            })
        };
        let is_moved = last_use::hand_over(&word);
        let moved = if is_moved { gathered.swap(0, Ordering::AcqRel) } else { 0 };
        let is_made = writer.join().unwrap();
        // A writer that finds the series ended makes its change again.
        assert_eq!(is_made, is_moved);
        assert_eq!(moved + gathered.load(Ordering::Relaxed), 1);
        assert_eq!(last_use::is_buried(word.load(Ordering::Relaxed)), !is_moved);
    });
}

/// Says when it is dropped.
struct Value(Arc<std::sync::atomic::AtomicBool>);

impl Drop for Value {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_value_is_not_freed_while_a_thread_uses_it() {
    loom::model(|| {
        let new = || Value(Arc::default());
        let first = new();
        let is_first_freed = Arc::clone(&first.0);
        let present = Arc::new(present::Present::new(first));
        let replacing = {
            let present = Arc::clone(&present);
            thread::spawn(move || present.replace_if(|_| true, new))
        };
        present.with(|value| {
            let is_freed = Arc::clone(&value.0);
            thread::yield_now();
            assert!(!is_freed.load(Ordering::SeqCst), "freed while it is used");
        });
        replacing.join().unwrap();
        present.replace_if(|_| true, new);
        assert!(is_first_freed.load(Ordering::SeqCst), "never freed");
    });
}
