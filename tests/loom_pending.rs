//! Models of the pending cells: loom runs `src/cell/pending.rs` itself in every interleaving of its threads
//! and with every value that its orderings let a thread read. Each change of a writer is taken exactly once,
//! while other threads queue, take, refuse or remove the metric, or fork.
//!
//! The source is included here, on top of loom's atomics and of stand-ins for what it names. A gauge's word
//! is smaller than the real one (loom has none of 128 bits), and holds an `f32`: the models count in small
//! whole numbers, which both hold exactly. loom tries stale values for loads only, so that it cannot tell an
//! exchange that is too weak from one that is followed by another exchange; and it knows no spurious failure
//! of a compare-and-swap, which only has the loop go round.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use loom::sync::Mutex;
use loom::thread;

use gathered::Change;
use metric::Metric;
use metric_type::MetricType;

#[path = "../src/cell/gathered.rs"]
mod gathered;
#[path = "../src/cell/pending.rs"]
mod pending;

/// The paths by which the included source imports its stand-ins.
mod cell {
    pub(crate) use super::{atomic, gathered, observed_native};
}

/// Stands in for `src/cell/observed_native.rs`, which these models do not use.
mod observed_native {
    use super::gathered::Change;

    #[derive(Debug)]
    pub(crate) struct NativeCells;

    impl NativeCells {
        pub(crate) fn add(&self, _: usize, _: f64) {}

        pub(crate) fn observe(&self, _: usize, _: f64) {}

        pub(crate) fn take(&self) -> impl Iterator<Item = (usize, Change)> + '_ {
            std::iter::empty()
        }

        pub(crate) fn discard(&self) {}

        pub(crate) fn read(&self, _: &mut [f64]) {}
    }
}

mod model {
    pub(crate) use super::metric_type;
}

/// Stands in for `src/cell/atomic.rs`: loom's atomics, of which a model can keep a list, to copy them as a
/// fork does.
mod atomic {
    use std::cell::RefCell;
    use std::sync::Arc;

    pub(crate) use loom::Ordering;
    use loom::sync::atomic as loom;

    thread_local! {
        /// The words made since `words_of` began. (loom's threads all run on one real thread.)
        static MADE: RefCell<Option<Vec<Arc<loom::AtomicU64>>>> = const { RefCell::new(None) };
    }

    /// Returns the result of `make` and the words that it consists of, in order.
    pub(crate) fn words_of<T>(make: impl FnOnce() -> T) -> (T, Vec<Arc<loom::AtomicU64>>) {
        MADE.set(Some(Vec::new()));
        let made = make();
        (made, MADE.take().unwrap())
    }

    #[derive(Debug)]
    struct Word(Arc<loom::AtomicU64>);

    impl Word {
        fn new(value: u64) -> Self {
            let word = Arc::new(loom::AtomicU64::new(value));
            MADE.with_borrow_mut(|made| made.iter_mut().for_each(|made| made.push(Arc::clone(&word))));
            Self(word)
        }
    }

    /// An atomic of the type `$value`, which becomes a word by `$to_word`, and is one again by `$from_word`.
    macro_rules! atomic {
        ($name:ident, $value:ty, $to_word:expr, $from_word:expr) => {
            #[derive(Debug)]
            pub(crate) struct $name(Word);

            impl Default for $name {
                fn default() -> Self {
                    Self::new(<$value>::default())
                }
            }

            impl $name {
                pub(crate) fn new(value: $value) -> Self {
                    Self(Word::new($to_word(value)))
                }

                pub(crate) fn load(&self, order: Ordering) -> $value {
                    $from_word(self.0.0.load(order))
                }

                pub(crate) fn store(&self, value: $value, order: Ordering) {
                    self.0.0.store($to_word(value), order);
                }

                pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                    $from_word(self.0.0.swap($to_word(value), order))
                }

                pub(crate) fn compare_exchange_weak(
                    &self,
                    current: $value,
                    next: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    let (current, next) = ($to_word(current), $to_word(next));
                    let result = self.0.0.compare_exchange_weak(current, next, success, failure);
                    result.map($from_word).map_err($from_word)
                }
            }
        };
    }

    atomic!(AtomicBool, bool, u64::from, |word| word != 0);
    atomic!(AtomicU8, u8, u64::from, |word| word as u8);
    atomic!(AtomicU64, u64, |value| value, |word| word);
    atomic!(AtomicChangeWord, ChangeWord, |word: ChangeWord| word.0, ChangeWord);

    impl AtomicU64 {
        pub(crate) fn fetch_add(&self, amount: u64, order: Ordering) -> u64 {
            self.0.0.fetch_add(amount, order)
        }
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub(crate) struct ChangeWord(u64);

    impl ChangeWord {
        const SET: u64 = 1 << 32;

        pub(crate) fn new(is_set: bool, value: f64) -> Self {
            Self(if is_set { Self::SET } else { 0 } | u64::from((value as f32).to_bits()))
        }

        pub(crate) fn is_set(self) -> bool {
            self.0 & Self::SET != 0
        }

        pub(crate) fn value(self) -> f64 {
            f64::from(f32::from_bits(self.0 as u32))
        }
    }
}

/// Stands in for `src/model/metric_type.rs`.
mod metric_type {
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum MetricType {
        Counter,
        Gauge,
        Histogram,
        StateSet,
    }

    impl MetricType {
        pub(crate) fn is_set(self) -> bool {
            matches!(self, Self::Gauge | Self::StateSet)
        }
    }
}

/// Stands in for `src/metric/mod.rs`: what an operation does with pending cells.
mod metric {
    use std::sync::{Arc, Weak};

    use super::Store;
    use super::gathered::Gathered;
    use super::metric_type::MetricType;
    use super::pending::PendingCells;

    #[derive(Debug)]
    pub(crate) struct Metric {
        pub(crate) cells: PendingCells,
    }

    impl Metric {
        /// A metric that the store has been told of, as every metric that has counted for a while.
        pub(crate) fn new(metric_type: MetricType, store: &Arc<Store>) -> Arc<Self> {
            let metric = Self::untold(metric_type, store);
            metric.cells.discard();
            metric
        }

        /// A metric that the store has not been told of.
        pub(crate) fn untold(metric_type: MetricType, store: &Arc<Store>) -> Arc<Self> {
            let cell_count = if matches!(metric_type, MetricType::Histogram) { 2 } else { 1 };
            Arc::new_cyclic(|metric: &Weak<Self>| {
                let (store, metric) = (Arc::downgrade(store), metric.clone());
                let queue = move || match (store.upgrade(), metric.upgrade()) {
                    (Some(store), Some(metric)) => store.push(metric),
                    _ => false,
                };
                let gathered = Gathered::new(metric_type, cell_count);
                Self { cells: PendingCells::new(gathered, Box::new(queue)) }
            })
        }

        pub(crate) fn inc(&self, amount: f64) {
            self.cells.add(0, amount);
            self.cells.mark_dirty();
        }

        pub(crate) fn set(&self, value: f64) {
            self.cells.set(value);
            self.cells.mark_dirty();
        }

        pub(crate) fn observe(&self, value: f64) {
            self.cells.add(1, 1.0);
            self.cells.add(0, value);
            self.cells.mark_dirty();
        }
    }
}

/// The events for the store's thread, in order.
#[derive(Debug)]
enum Event {
    Dirty(Arc<Metric>),
    Removed,
}

/// The store: its queue, the changes that its thread has taken, and the server's values.
#[derive(Debug)]
struct Store {
    events: Mutex<Vec<Event>>,
    /// The number of pushes that are refused before one succeeds.
    refusals: Mutex<usize>,
}

impl Store {
    fn push(&self, metric: Arc<Metric>) -> bool {
        let mut refusals = self.refusals.lock().unwrap();
        if *refusals > 0 {
            *refusals -= 1;
            return false;
        }
        self.events.lock().unwrap().push(Event::Dirty(metric));
        true
    }

    fn new() -> Arc<Self> {
        Self::refusing(0)
    }

    fn refusing(refusals: usize) -> Arc<Self> {
        Arc::new(Self { events: Mutex::new(Vec::new()), refusals: Mutex::new(refusals) })
    }

    fn queued(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }
}

/// The server's values of one metric.
#[derive(Debug, Clone, PartialEq)]
struct Server {
    cells: [f64; 2],
    is_removed: bool,
}

impl Server {
    fn holding(value: f64) -> Self {
        Self { cells: [value, 0.0], is_removed: false }
    }

    /// Sends the queued metrics.
    fn take_queued(&mut self, store: &Store) {
        for event in store.queued() {
            match event {
                Event::Dirty(metric) => self.take(&metric),
                Event::Removed => self.is_removed = true,
            }
        }
    }

    fn take(&mut self, metric: &Metric) {
        for (cell, change) in metric.cells.take() {
            assert!(!self.is_removed, "{change:?} of a removed metric would bring it back");
            match change {
                Change::Add(amount) => self.cells[cell] += amount,
                Change::Set(value) => self.cells[cell] = value,
                Change::Word(_) => {}
            }
        }
    }
}

/// Runs a model in all interleavings with at most three preemptions. Without a bound the larger models take
/// minutes, and two preemptions suffice to find the defects that these models look for.
fn model(body: impl Fn() + Send + Sync + 'static) {
    model_with(3, body);
}

fn model_with(interruptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(body);
}

/// Two threads change the metric while this one takes the queued metrics. At the end it takes the rest from
/// the queue alone, so a change that did not queue the metric is missing.
fn take_beside(
    metric_type: MetricType,
    store: Arc<Store>,
    writers: [fn(&Metric); 2],
    mut server: Server,
) -> Server {
    let metric = Metric::new(metric_type, &store);
    let threads = writers.map(|writer| {
        let metric = Arc::clone(&metric);
        thread::spawn(move || writer(&metric))
    });
    server.take_queued(&store);
    for thread in threads {
        thread.join().unwrap();
    }
    server.take_queued(&store);
    assert_eq!(metric.cells.take(), [], "no change is left after the last take");
    assert!(!metric.cells.is_dirty());
    server
}

#[test]
fn additions_of_two_writers_beside_a_taker_are_taken_once() {
    model(|| {
        let writers: [fn(&Metric); 2] = [|metric| metric.inc(1.0), |metric| metric.inc(2.0)];
        let server = take_beside(MetricType::Counter, Store::new(), writers, Server::holding(0.0));
        assert_eq!(server.cells[0], 3.0);
    });
}

#[test]
fn a_change_after_the_take_queues_the_metric_again() {
    model(|| {
        let writers: [fn(&Metric); 2] = [
            |metric| {
                metric.inc(1.0);
                metric.inc(2.0);
            },
            |_| (),
        ];
        let server = take_beside(MetricType::Counter, Store::new(), writers, Server::holding(0.0));
        assert_eq!(server.cells[0], 3.0);
    });
}

#[test]
fn a_set_and_additions_beside_a_taker_arrive_in_a_possible_order() {
    model(|| {
        let writers: [fn(&Metric); 2] = [
            |metric| {
                metric.set(4.0);
                metric.inc(1.0);
            },
            |metric| metric.inc(2.0),
        ];
        let server = take_beside(MetricType::Gauge, Store::new(), writers, Server::holding(8.0));
        // The other writer's addition came before or after the set.
        assert!([5.0, 7.0].contains(&server.cells[0]), "{}", server.cells[0]);
    });
}

#[test]
fn a_set_beside_a_taker_is_taken_even_if_it_is_the_last_change() {
    model(|| {
        let writers: [fn(&Metric); 2] = [|metric| metric.set(4.0), |metric| metric.inc(2.0)];
        let server = take_beside(MetricType::Gauge, Store::new(), writers, Server::holding(8.0));
        assert!([4.0, 6.0].contains(&server.cells[0]), "{}", server.cells[0]);
    });
}

#[test]
fn the_two_cells_of_an_observation_are_taken_once_each() {
    model(|| {
        let writers: [fn(&Metric); 2] = [|metric| metric.observe(4.0), |metric| metric.observe(8.0)];
        let server = take_beside(MetricType::Histogram, Store::new(), writers, Server::holding(0.0));
        assert_eq!(server.cells, [12.0, 2.0]);
    });
}

#[test]
fn a_new_metric_is_announced_once_even_without_changes() {
    model(|| {
        let store = Store::new();
        let metric = Metric::untold(MetricType::Counter, &store);
        let creator = Arc::clone(&metric);
        let creator = thread::spawn(move || creator.cells.mark_dirty());
        let mut announcements = 0;
        let mut take = || {
            for event in store.queued() {
                let Event::Dirty(metric) = event else { continue };
                let taken = metric.cells.take();
                assert!(taken.is_empty() || taken == [(0, Change::Add(0.0))], "{taken:?}");
                announcements += taken.len();
            }
        };
        take();
        creator.join().unwrap();
        take();
        assert_eq!(announcements, 1);
    });
}

/// A flush is a barrier: it finds all changes of its thread, also if another thread is about to queue the
/// metric.
#[test]
fn a_flush_finds_the_changes_of_its_thread_while_another_thread_queues_the_metric() {
    model(|| {
        let store = Store::new();
        let metric = Metric::new(MetricType::Counter, &store);
        let other = Arc::clone(&metric);
        let other = thread::spawn(move || other.inc(1.0));
        metric.inc(2.0);
        let mut server = Server::holding(0.0);
        // Like the BackendAction thread: the table first, then the queue.
        if metric.cells.is_dirty() {
            server.take(&metric);
        }
        server.take_queued(&store);
        assert!(server.cells[0] >= 2.0, "the thread's own addition is missing");
        other.join().unwrap();
        server.take_queued(&store);
        assert_eq!(server.cells[0], 3.0);
    });
}

/// A queue refuses pushes in a forked child that cannot start threads. The next change or flush after that
/// delivers all changes.
#[test]
fn a_metric_whose_push_was_refused_is_pushed_again_with_its_next_change() {
    model(|| {
        let store = Store::refusing(1);
        let metric = Metric::new(MetricType::Counter, &store);
        let other = Arc::clone(&metric);
        let other = thread::spawn(move || other.inc(1.0));
        metric.inc(2.0);
        other.join().unwrap();
        let mut server = Server::holding(0.0);
        server.take_queued(&store);
        metric.inc(4.0);
        server.take_queued(&store);
        assert_eq!(server.cells[0], 7.0);
    });
}

#[test]
fn a_flush_finds_a_metric_whose_push_was_refused() {
    model(|| {
        let store = Store::refusing(1);
        let metric = Metric::new(MetricType::Counter, &store);
        let other = Arc::clone(&metric);
        let other = thread::spawn(move || other.inc(1.0));
        metric.inc(2.0);
        let mut server = Server::holding(0.0);
        let mut flush = || {
            if metric.cells.is_dirty() {
                server.take(&metric);
            }
            server.take_queued(&store);
            server.cells[0]
        };
        assert!(flush() >= 2.0, "the thread's own addition is missing");
        other.join().unwrap();
        assert_eq!(flush(), 3.0);
    });
}

#[test]
fn no_change_of_a_removed_metric_is_taken_after_its_removal() {
    model(|| {
        let store = Store::new();
        let metric = Metric::new(MetricType::Counter, &store);
        let writer = Arc::clone(&metric);
        let writer = thread::spawn(move || {
            writer.inc(1.0);
            writer.inc(2.0);
        });
        let (remover, events) = (Arc::clone(&metric), Arc::clone(&store));
        let remover = thread::spawn(move || {
            remover.cells.remove();
            events.events.lock().unwrap().push(Event::Removed);
        });
        let mut server = Server::holding(0.0);
        server.take_queued(&store);
        writer.join().unwrap();
        remover.join().unwrap();
        server.take_queued(&store);
        assert!(server.is_removed);
        assert!(!metric.cells.is_dirty());
        assert_eq!(metric.cells.take(), []);
        // Only changes from before the removal were sent, each at most once.
        assert!([0.0, 1.0, 2.0, 3.0].contains(&server.cells[0]), "{}", server.cells[0]);
    });
}

/// A child's memory is a copy of its parent's, whose other threads may be anywhere. The words are copied one
/// after another.
fn fork_beside(metric_type: MetricType, count: fn(&Metric), after: fn(&Metric), expected: Server) {
    // One preemption less, because the copy takes a step for each word.
    model_with(2, move || {
        let store = Store::new();
        let (parent, words) = atomic::words_of(|| Metric::new(metric_type, &store));
        let child_store = Store::new();
        let (child, child_words) = atomic::words_of(|| Metric::new(metric_type, &child_store));
        let writer = Arc::clone(&parent);
        let writer = thread::spawn(move || count(&writer));
        let (taken, queue) = (Arc::clone(&parent), Arc::clone(&store));
        let taker = thread::spawn(move || {
            let mut server = Server::holding(8.0);
            if taken.cells.is_dirty() {
                server.take(&taken);
            }
            server.take_queued(&queue);
            server
        });
        // The fork: from here on the child has one thread and its own memory. (Each word is read by adding 0.
        // loom only looks at the last access of a word, so it would not try a plain load after another
        // thread's compare-and-swap, which begins with a load itself.)
        for (word, copy) in words.iter().zip(&child_words) {
            copy.store(word.fetch_add(0, atomic::Ordering::Relaxed), atomic::Ordering::Relaxed);
        }
        child.cells.discard();
        assert!(!child.cells.is_dirty(), "the parent's changes stay in the parent");
        after(&child);
        let mut child_server = Server::holding(8.0);
        assert_eq!(child_store.events.lock().unwrap().len(), 1, "the child's change queues the metric once");
        child_server.take_queued(&child_store);
        child_server.take(&child);
        assert_eq!(child_server, expected, "the child's own changes only");
        // The fork changed nothing in the parent.
        writer.join().unwrap();
        let mut server = taker.join().unwrap();
        server.take_queued(&store);
        let mut undisturbed = Server::holding(8.0);
        let alone_store = Store::new();
        let alone = Metric::new(metric_type, &alone_store);
        count(&alone);
        undisturbed.take_queued(&alone_store);
        assert_eq!(server, undisturbed);
    });
}

#[test]
fn a_forked_child_begins_with_no_changes_and_counts_its_own() {
    let expected = Server::holding(12.0);
    fork_beside(MetricType::Counter, |metric| metric.inc(1.0), |metric| metric.inc(4.0), expected);
}

#[test]
fn a_set_of_the_parent_is_not_the_childs() {
    let expected = Server::holding(12.0);
    fork_beside(MetricType::Gauge, |metric| metric.set(1.0), |metric| metric.inc(4.0), expected);
}

#[test]
fn half_an_observation_of_the_parent_is_not_the_childs() {
    let expected = Server { cells: [12.0, 1.0], is_removed: false };
    fork_beside(MetricType::Histogram, |metric| metric.observe(1.0), |metric| metric.observe(4.0), expected);
}

#[test]
fn a_set_discards_earlier_additions_and_keeps_later_ones() {
    model(|| {
        let store = Store::new();
        let metric = Metric::new(MetricType::Gauge, &store);
        let take = || {
            assert_eq!(store.queued().len(), 1);
            metric.cells.take()
        };
        metric.inc(1.0);
        metric.inc(2.0);
        assert_eq!(take(), [(0, Change::Add(3.0))]);
        metric.inc(7.0);
        metric.set(5.0);
        metric.inc(1.5);
        assert_eq!(take(), [(0, Change::Set(6.5))]);
        assert_eq!(metric.cells.take(), []);
    });
}
