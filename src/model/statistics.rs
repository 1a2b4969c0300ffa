//! The statistics that a backend and its store keep about their own work.
//!
//! The backend counts scrapes, and the store's thread counts batches. The hot path does not use this file. A
//! [`Follower`] shows the numbers as metrics.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};

use super::error::Result;
use crate::process::clock::since_1970;

/// The prefix of the names of the metrics that show [`Statistics`].
pub(crate) const SELF_METRIC_PREFIX: &str = "pytheus_backend_";

/// What a backend has done in this process so far. A forked child starts at zero.
///
/// A store that sends nothing (in memory, in shared memory) counts no batches, operations or flushes.
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
    /// Metrics that the store has not accepted yet, because it is full or unusable. They count in this
    /// process only, and no scrape shows them. The log gives the reason.
    pub metrics_held_back: u64,
    /// Scrapes, including those that failed.
    pub scrapes: u64,
    /// Scrapes that failed.
    pub scrape_errors: u64,
    /// The time at which the server last confirmed a batch, or a flush found nothing to send, in seconds
    /// since 1970. 0 if this has not happened yet.
    pub last_flush_timestamp: f64,
    /// Confirmed batches that were sent again because the server had lost them: it crashed, or a replica that
    /// lacked them became the master.
    pub batches_replayed: u64,
    /// How often the server lost confirmed changes of a family that could not be sent again: by an empty
    /// restart, an expiry, an old snapshot, or a failover beyond the replay log.
    pub losses: u64,
}

/// The number of metrics of a table that wait for their store.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waiting {
    /// Metrics with changes that the store has not taken.
    pub(crate) dirty: u64,
    /// Metrics that the store has not accepted yet.
    pub(crate) held_back: u64,
}

/// Shows the statistics as metrics.
pub(crate) trait Follower: Debug + Send + Sync {
    /// Updates the metrics, unless they were updated less than a second ago.
    fn refresh_if_due(&self);
}

/// The counters of a backend and its store. Every ordering is `Relaxed`, because the numbers are independent
/// and publish no other memory.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    batches_sent: AtomicU64,
    batches_resent: AtomicU64,
    batches_refused: AtomicU64,
    operations_sent: AtomicU64,
    /// Metrics with changes that the store has taken and the server has not confirmed.
    taken: AtomicU64,
    scrapes: AtomicU64,
    scrape_errors: AtomicU64,
    /// In milliseconds since 1970.
    last_flush: AtomicU64,
    batches_replayed: AtomicU64,
    losses: AtomicU64,
    /// Set when the backend is opened, and only read later, so a forked child cannot inherit it half set.
    follower: OnceLock<Weak<dyn Follower>>,
    /// Whether the store has taken changes of the program's own metrics since the follower's last update.
    has_news: AtomicBool,
}

impl Tally {
    /// Returns the current statistics. `waiting` is the number of metrics in the table that wait for the
    /// store.
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
            batches_replayed: read(&self.batches_replayed),
            losses: read(&self.losses),
        }
    }

    /// Sets the follower. It is asked to update its metrics before the store sends. Later calls have no
    /// effect.
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

    /// Lets the follower update its metrics before the store's thread sends, if the program's metrics have
    /// changed.
    pub(crate) fn about_to_send(&self) {
        let Some(follower) = self.follower.get().and_then(Weak::upgrade) else { return };
        if self.has_news.load(Ordering::Relaxed) {
            follower.refresh_if_due();
        }
    }

    /// Clears `has_news`. The follower calls this when it updates its metrics.
    pub(crate) fn is_followed(&self) {
        self.has_news.store(false, Ordering::Relaxed);
    }

    /// Counts a scrape that begins.
    pub(crate) fn scrape_begins(&self) {
        self.scrapes.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a scrape that ends with an error. Returns `result` unchanged.
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

    /// Counts a batch that the server has confirmed, and its operations.
    pub(crate) fn confirmed(&self, operations: usize) {
        self.batches_sent.fetch_add(1, Ordering::Relaxed);
        self.operations_sent.fetch_add(operations as u64, Ordering::Relaxed);
        self.flushed();
    }

    /// Counts confirmed batches that the server had lost, and has confirmed again.
    pub(crate) fn replayed(&self, batches: usize) {
        self.batches_replayed.fetch_add(batches as u64, Ordering::Relaxed);
        self.flushed();
    }

    /// Counts families of which the server has lost confirmed changes for good.
    pub(crate) fn lost(&self, families: usize) {
        self.losses.fetch_add(families as u64, Ordering::Relaxed);
    }

    /// Notes the current time as that of the last flush. Call it when the server has everything that was to
    /// be sent.
    pub(crate) fn flushed(&self) {
        self.last_flush.store(since_1970().as_millis() as u64, Ordering::Relaxed);
    }

    /// Resets the numbers in a forked child. The parent keeps counting what was done before the fork.
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
            &self.batches_replayed,
            &self.losses,
        ];
        numbers.iter().for_each(|number| number.store(0, Ordering::Relaxed));
        self.is_followed();
    }
}
