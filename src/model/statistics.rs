//! What a backend and its store count about their own work.
//!
//! The front door counts scrapes here, and the thread of a store counts what it sends; the hot path does not come
//! here. Showing the numbers as metrics is the business of a [`Follower`].

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};

use super::error::Result;
use crate::process::clock::since_1970;

/// The names of the metrics that show [`Statistics`] begin with this.
pub(crate) const SELF_METRIC_PREFIX: &str = "pytheus_backend_";

/// What a backend has done in this process so far. A forked child begins at zero.
///
/// A store that sends nothing (in memory, in shared memory) has only scrapes and scrape errors.
///
/// ```
/// let backend = pytheus_backend_rs::Backend::open("memory:")?;
/// backend.collect_text()?;
/// assert_eq!(backend.statistics().scrapes, 1);
/// # Ok::<(), pytheus_backend_rs::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Batches that the server has confirmed.
    pub batches_sent: u64,
    /// How often a batch was sent again because its answer was lost.
    pub batches_resent: u64,
    /// How often the server refused a batch. The batch is kept, and tried again.
    pub batches_refused: u64,
    /// Operations in the batches that the server has confirmed.
    pub operations_sent: u64,
    /// Metrics with changes that the server has not confirmed. A metric that has changed again while its last
    /// changes are on their way counts twice.
    pub metrics_pending: u64,
    /// Metrics that the store could not take yet, because it is full or cannot be used. They count in this process,
    /// and no scrape shows them; the log says why.
    pub metrics_held_back: u64,
    /// Scrapes, those that failed included.
    pub scrapes: u64,
    /// Scrapes that failed.
    pub scrape_errors: u64,
    /// When the server last confirmed what was sent, or a flush found nothing left to send: in seconds since
    /// 1970; 0 if it never has.
    pub last_flush_timestamp: f64,
}

/// How many metrics of a table wait for their store.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waiting {
    /// With changes that the store has not taken.
    pub(crate) dirty: u64,
    /// Which the store could not take yet.
    pub(crate) held_back: u64,
}

/// Shows the statistics as metrics.
pub(crate) trait Follower: Debug + Send + Sync {
    /// Brings the metrics up to date, unless that was done a moment ago.
    fn refresh_if_due(&self);
}

/// The counters of a backend and its store. Every ordering is `Relaxed`: each number stands for itself, and no
/// other memory is read because of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    batches_sent: AtomicU64,
    batches_resent: AtomicU64,
    batches_refused: AtomicU64,
    operations_sent: AtomicU64,
    /// Metrics that the store has taken changes from, which the server has not confirmed.
    taken: AtomicU64,
    scrapes: AtomicU64,
    scrape_errors: AtomicU64,
    /// In milliseconds since 1970.
    last_flush: AtomicU64,
    /// Set when the backend is opened, and only read later: no forked child can find it half set.
    follower: OnceLock<Weak<dyn Follower>>,
    /// Whether the store has taken changes of the program's own metrics since this was last asked.
    has_news: AtomicBool,
}

impl Tally {
    /// Returns the numbers as they are now. `waiting` tells what the table has for the store.
    pub(crate) fn statistics(&self, waiting: Waiting) -> Statistics {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Statistics {
            batches_sent: read(&self.batches_sent),
            batches_resent: read(&self.batches_resent),
            batches_refused: read(&self.batches_refused),
            operations_sent: read(&self.operations_sent),
            metrics_pending: read(&self.taken) + waiting.dirty,
            metrics_held_back: waiting.held_back,
            scrapes: read(&self.scrapes),
            scrape_errors: read(&self.scrape_errors),
            last_flush_timestamp: read(&self.last_flush) as f64 / 1e3,
        }
    }

    /// Has `follower` told when the store is about to send. Only the first one is.
    pub(crate) fn follow(&self, follower: Weak<dyn Follower>) {
        let _ = self.follower.set(follower);
    }

    /// Notes that the store has taken changes of a metric of this family.
    pub(crate) fn taken_from(&self, family: &str) {
        // Updating the metrics that show these numbers must not count as work that triggers another update.
        if self.follower.get().is_some() && !family.starts_with(SELF_METRIC_PREFIX) {
            self.has_news.store(true, Ordering::Relaxed);
        }
    }

    /// Lets the follower update its metrics before the store's thread sends, if there is news of the program.
    pub(crate) fn about_to_send(&self) {
        let Some(follower) = self.follower.get().and_then(Weak::upgrade) else { return };
        if self.has_news.load(Ordering::Relaxed) {
            follower.refresh_if_due();
        }
    }

    /// Forgets the news: the follower has just brought its metrics up to date.
    pub(crate) fn is_followed(&self) {
        self.has_news.store(false, Ordering::Relaxed);
    }

    /// Counts a scrape that begins.
    pub(crate) fn scrape_begins(&self) {
        self.scrapes.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the error of a scrape, if it failed.
    pub(crate) fn scrape_ends<T>(&self, result: Result<T>) -> Result<T> {
        self.scrape_errors.fetch_add(result.is_err().into(), Ordering::Relaxed);
        result
    }

    /// Notes how many metrics have changes that the store has taken and the server has not confirmed.
    pub(crate) fn unconfirmed(&self, metrics: usize) {
        self.taken.store(metrics as u64, Ordering::Relaxed);
    }

    /// Counts batches that were sent again because their answers were lost.
    pub(crate) fn resent(&self, batches: u64) {
        self.batches_resent.fetch_add(batches, Ordering::Relaxed);
    }

    /// Counts a batch that the server has refused.
    pub(crate) fn refused(&self) {
        self.batches_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a batch of so many operations that the server has confirmed.
    pub(crate) fn confirmed(&self, operations: usize) {
        self.batches_sent.fetch_add(1, Ordering::Relaxed);
        self.operations_sent.fetch_add(operations as u64, Ordering::Relaxed);
        self.flushed();
    }

    /// Notes that the server now has everything that was to be sent.
    pub(crate) fn flushed(&self) {
        self.last_flush.store(since_1970().as_millis() as u64, Ordering::Relaxed);
    }

    /// In a forked child: starts at zero. The parent counts what was done before the fork.
    pub(crate) fn forked(&self) {
        let numbers = [
            &self.batches_sent,
            &self.batches_resent,
            &self.batches_refused,
            &self.operations_sent,
            &self.taken,
            &self.scrapes,
            &self.scrape_errors,
            &self.last_flush,
        ];
        numbers.iter().for_each(|number| number.store(0, Ordering::Relaxed));
        self.is_followed();
    }
}
