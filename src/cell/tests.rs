//! Tests of the cells in memory. They stand here because `tests/loom_stripes.rs` and `tests/loom_series_ttl.rs` include
//! the files of the cells.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::at_once::AtOnce;
use super::counter::CounterCell;
use super::last_use;
use super::observed::ObservedCells;
use super::present::Present;
use super::value::ValueCell;
use crate::cell::atomic::{AtomicU64, Ordering};

mod value {
    use super::*;

    #[test]
    fn no_addition_is_lost_between_threads() {
        let cell = ValueCell::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..50_000).for_each(|_| {
                        cell.add(1.0);
                    })
                });
            }
        });
        assert_eq!(cell.get(), 200_000.0);
    }
}

mod counter {
    use super::*;

    #[test]
    fn no_addition_is_lost_between_threads() {
        let cell = CounterCell::default();
        std::thread::scope(|scope| {
            for amount in [1.0, 0.5, 1.0, 0.5] {
                let cell = &cell;
                scope.spawn(move || (0..50_000).for_each(|_| cell.add(amount)));
            }
        });
        assert_eq!(cell.get(), 150_000.0);
    }

    #[test]
    fn a_counter_without_collisions_has_no_stripes() {
        let cell = CounterCell::default();
        for _ in 0..200_000 {
            if cell.add_at_once(1.0) == AtOnce::Unfinished {
                cell.look();
            }
        }
        assert!(cell.stripes.are_none());
        assert_eq!(cell.get(), 200_000.0);
    }

    #[test]
    #[allow(unsafe_code)]
    fn a_forked_child_has_a_copy_of_the_stripes() {
        let cell = with_stripes();
        cell.add(2.0);
        // SAFETY: the child calls nothing but atomic operations and `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            cell.add(1.5);
            // SAFETY: it has no requirements.
            unsafe { libc::_exit(i32::from(cell.get() != 3.5)) };
        }
        let mut status = 0;
        // SAFETY: `status` may be written.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(libc::WEXITSTATUS(status), 0, "what the child reads");
        assert_eq!(cell.get(), 2.0, "what the parent reads");
    }

    fn with_stripes() -> CounterCell {
        let cell = CounterCell::default();
        let moving = AtomicU64::new(0);
        cell.stripes.make_if_contended(2, || moving.fetch_add(1, Ordering::Relaxed));
        assert!(!cell.stripes.are_none());
        cell
    }

    #[test]
    fn threads_that_collide_get_stripes() {
        if std::thread::available_parallelism().is_ok_and(|count| count.get() == 1) {
            return;
        }
        let cell = CounterCell::default();
        let added: u64 = std::thread::scope(|scope| {
            let count = || {
                let mut added = 0;
                while cell.stripes.are_none() {
                    match cell.add_at_once(1.0) {
                        AtOnce::Done => {}
                        AtOnce::Unfinished => cell.look(),
                        AtOnce::HasStripes | AtOnce::NotDone => cell.add(1.0),
                    }
                    added += 1;
                }
                (0..1000).for_each(|_| cell.add(1.0));
                added + 1000
            };
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(cell.get(), added as f64);
        assert_eq!(cell.add_at_once(1.0), AtOnce::HasStripes);
    }

    #[test]
    fn a_counter_adds_up_amounts_of_every_size() {
        adds_up(&CounterCell::default());
        adds_up(&with_stripes());
    }

    fn adds_up(cell: &CounterCell) {
        let mut expected = 0.0;
        for amount in [0.0, -0.0, 1.0, 255.0, 256.0, 0.25, 255.5, 4_294_967_296.0, 1e15, f64::MIN_POSITIVE] {
            if cell.add_at_once(amount) == AtOnce::HasStripes {
                cell.add(amount);
            }
            expected += amount;
            assert_eq!(cell.get(), expected, "after {amount}");
        }
        cell.add(f64::INFINITY);
        assert_eq!(cell.get(), f64::INFINITY);
    }

    #[test]
    fn what_a_counter_shows_never_goes_down() {
        let cell = CounterCell::default();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                (0..100_000).for_each(|index| cell.add([1.0, 0.5, 3.0, 1000.0][index % 4]));
            });
            let mut last = 0.0;
            while !writer.is_finished() {
                let seen = cell.get();
                assert!(seen >= last, "{seen} after {last}");
                last = seen;
            }
        });
        assert_eq!(cell.get(), 25_000.0 * 1004.5);
    }
}

mod observed {
    use super::*;

    #[test]
    fn no_observation_is_lost_between_threads() {
        let cells = ObservedCells::new(2);
        let observe = || match cells.observe_at_once(1, 0.5) {
            AtOnce::Done => {}
            AtOnce::Unfinished => cells.look(),
            AtOnce::HasStripes | AtOnce::NotDone => cells.observe(1, 0.5),
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50_000).for_each(|_| observe()));
            }
        });
        let mut values = [0.0; 3];
        cells.read(&mut values);
        assert_eq!(values, [100_000.0, 0.0, 200_000.0]);
    }

    #[test]
    fn stripes_and_the_cells_add_up() {
        let cells = ObservedCells::new(2);
        assert_eq!(cells.observe_at_once(0, 2.0), AtOnce::Done);
        let moving = AtomicU64::new(0);
        cells.stripes.make_if_contended(3, || moving.fetch_add(1, Ordering::Relaxed));
        assert_eq!(cells.observe_at_once(0, 2.0), AtOnce::HasStripes);
        cells.observe(0, 3.0);
        cells.observe(1, f64::INFINITY);
        std::thread::scope(|scope| drop(scope.spawn(|| cells.observe(1, 1.0))));
        // A gauge histogram takes observations back.
        cells.add(1, -3.0);
        let mut values = [0.0; 3];
        cells.read(&mut values);
        assert_eq!(values, [f64::INFINITY, -1.0, 2.0]);
    }
}

#[test]
fn a_series_ends_when_it_was_unused_for_longer_than_its_time() {
    let word = AtomicU64::new(last_use::begin(7, 100));
    assert!(last_use::touch(&word, 7, 10, 110));
    assert!(!last_use::expire(&word, 7, 10, 120));
    assert!(last_use::expire(&word, 7, 10, 121));
    assert!(last_use::expire(&word, 7, 10, 121) && !last_use::touch(&word, 7, 10, 121), "it stays so");
    assert!(last_use::is_over(word.load(Ordering::Relaxed), 10, 121));
    assert_eq!(last_use::age(word.load(Ordering::Relaxed), 200), 79, "since the burial");
}

#[test]
fn a_writer_that_comes_too_late_ends_the_series_itself() {
    let word = AtomicU64::new(last_use::begin(7, 100));
    assert!(!last_use::touch(&word, 7, 10, 111));
    assert!(last_use::is_buried(word.load(Ordering::Relaxed)));
}

#[test]
fn the_word_of_another_owner_stays_as_it_is() {
    let word = AtomicU64::new(last_use::begin(9, 100));
    assert!(!last_use::touch(&word, 7, 10, 100) && last_use::expire(&word, 7, 10, 1000));
    assert_eq!(word.load(Ordering::Relaxed), last_use::begin(9, 100));
}

#[test]
fn a_series_that_does_not_end_has_no_word() {
    let word = AtomicU64::new(0);
    assert!(
        last_use::touch(&word, 7, 10, 1000)
            && !last_use::expire(&word, 7, 10, 1000)
            && !last_use::is_over(0, 10, 1000)
    );
    assert_eq!(word.load(Ordering::Relaxed), 0);
}

#[test]
fn a_second_before_the_machine_was_started_counts_as_now() {
    let word = AtomicU64::new(last_use::begin(7, 100_000));
    assert!(!last_use::expire(&word, 7, 10, 50));
    assert_eq!(word.load(Ordering::Relaxed), last_use::begin(7, 50));
    assert!(last_use::expire(&word, 7, 10, 61));
}

#[test]
fn replaced_values_are_freed_and_never_while_a_thread_uses_them() {
    let kept = Arc::new(AtomicBool::new(true));
    let present = Present::new((0, Arc::clone(&kept)));
    let runs = if cfg!(miri) { 50 } else { 20_000 };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..runs {
                    present.with(|(_, kept)| assert!(kept.load(Ordering::Relaxed)));
                }
            });
            scope.spawn(|| {
                for run in 0..runs {
                    present.replace_if(|(number, _)| *number <= run, || (run + 1, Arc::clone(&kept)));
                }
            });
        }
    });
    present.replace_if(|_| true, || (0, Arc::clone(&kept)));
    assert_eq!(Arc::strong_count(&kept), 2, "the values that were replaced are still there");
    present.replace_if(|_| false, || (1, Arc::clone(&kept)));
    assert_eq!(present.with(|(number, _)| *number), 0);
    drop(present);
    assert_eq!(Arc::strong_count(&kept), 1);
}
