//! A model of the turns of a metrics file's lock: loom runs `src/cell/turn.rs` itself in every
//! interleaving of two writers and a process that looks before it takes the lock.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use loom::thread;

use atomic::{AtomicU64, Ordering};

#[path = "../src/cell/turn.rs"]
mod turn;

/// Stands in for `src/cell/atomic.rs`.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

struct Words {
    guard: AtomicU64,
    turns: AtomicU64,
    content: AtomicU64,
}

/// Takes the lock if it is free. Returns the number of the turn before.
fn enter(words: &Words) -> Option<u64> {
    words.guard.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).ok()?;
    Some(turn::begin(&words.turns))
}

fn leave(words: &Words) {
    words.guard.store(0, Ordering::Release);
}

#[test]
fn nothing_has_changed_between_two_turns_that_follow_each_other() {
    loom::model(|| {
        let [guard, turns, content] = [0, 0, 0].map(AtomicU64::new);
        let words = Arc::new(Words { guard, turns, content });
        let writer = |value: u64| {
            let words = Arc::clone(&words);
            thread::spawn(move || {
                if enter(&words).is_some() {
                    words.content.store(value, Ordering::Relaxed);
                    leave(&words);
                }
            })
        };
        let writers = [writer(1), writer(2)];
        let last = turn::last_ended(&words.turns, &words.guard);
        let seen = words.content.load(Ordering::Relaxed);
        if let Some(before) = enter(&words) {
            if last == Some(before) {
                assert_eq!(words.content.load(Ordering::Relaxed), seen);
            }
            leave(&words);
        }
        writers.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
