//! Tracks the metrics that the store has not accepted yet, and decides when to offer them again.
//!
//! A metric call never breaks the program. The store may refuse a new series (a full file, no permission, a
//! lock that is not released, a label value that is too long). The metric then counts in this process only,
//! in [`HeldCells`](crate::cell::held::HeldCells). The backend offers it to the store again before a flush, a
//! scrape and a close, which may take time, and when a metric is looked up, at most once a second. For a
//! second after a refusal, further new series are held back without asking the store, so that look-ups do not
//! wait for the lock of a stalled store again and again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::model::error::{Error, ErrorKind};
use crate::process::once::Once;

/// The shortest time between two attempts by look-ups.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The state of the store's refusals.
#[derive(Debug)]
pub(super) struct HeldBack {
    /// Whether the table may have metrics that are held back.
    is_active: AtomicBool,
    opened: Instant,
    /// The time at which the store last refused a metric, in milliseconds after `opened`. 0 if it never did,
    /// or has accepted all metrics since.
    refused: AtomicU64,
    /// The time at which the store was last too busy for a change, in milliseconds after `opened`. 0 if it never was.
    postponed: AtomicU64,
    logged: Once,
}

impl HeldBack {
    pub(super) fn new() -> Self {
        Self {
            is_active: AtomicBool::new(false),
            opened: Instant::now(),
            refused: AtomicU64::new(0),
            postponed: AtomicU64::new(0),
            logged: Once::new(),
        }
    }

    /// Notes that the store has refused a family or a metric of it, and logs each cause once.
    pub(super) fn refused(&self, family: &str, error: &Error) {
        let is_lasting = is_lasting(error);
        if !is_lasting {
            self.refused.store(self.now(), Ordering::Relaxed);
        }
        // The messages of lasting errors contain numbers, so they cannot identify the cause.
        let cause = if is_lasting { "too large" } else { error.message() };
        if !self.logged.is_new(cause) {
            return;
        }
        match is_lasting {
            true => log::error!("a metric of {family:?} counts in this process only: {error}"),
            false => log::error!(
                "metrics are held back, and count in this process only until the store takes them ({family:?} is the \
                 first): {error}"
            ),
        }
    }

    /// Notes that the table has a metric that is held back. Call it after the metric is inserted.
    pub(super) fn holds(&self) {
        // Release, paired with the swap in `begin`: if this store precedes the swap, the attempt finds the
        // metric. Otherwise the flag stays set for the next attempt.
        self.is_active.store(true, Ordering::Release);
    }

    /// Whether to hold back a new metric without asking the store.
    pub(super) fn has_just_refused(&self) -> bool {
        self.is_recent(&self.refused)
    }

    /// Notes that a metric was not offered to the store because it would have to wait. Changes do not offer metrics for
    /// a second. Scrapes, look-ups and the like do.
    pub(super) fn postpone(&self) {
        self.postponed.store(self.now(), Ordering::Relaxed);
    }

    /// Whether a change is not to offer a metric to the store.
    pub(super) fn was_postponed(&self) -> bool {
        self.is_recent(&self.postponed)
    }

    fn is_recent(&self, time: &AtomicU64) -> bool {
        match time.load(Ordering::Relaxed) {
            0 => false,
            time => Duration::from_millis(self.now().saturating_sub(time)) < RETRY_AFTER,
        }
    }

    /// Whether there may be metrics to offer to the store.
    pub(super) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    /// Begins an attempt: clears the flag, which only [`holds`](Self::holds) sets again.
    pub(super) fn begin(&self) {
        self.is_active.swap(false, Ordering::AcqRel);
    }

    /// Ends an attempt that moved `moved` metrics to the store. `has_left` tells whether some are still held
    /// back.
    pub(super) fn end(&self, moved: usize, has_left: bool) {
        if has_left {
            self.holds();
        } else {
            self.refused.store(0, Ordering::Relaxed);
            self.logged.clear();
        }
        if moved > 0 {
            log::info!("the store has taken {moved} metrics that were held back");
        }
    }

    /// Returns the time in milliseconds after `opened`; never 0.
    fn now(&self) -> u64 {
        self.opened.elapsed().as_millis() as u64 + 1
    }
}

/// Whether the store will always refuse the metric, because the metric itself is too large.
pub(super) fn is_lasting(error: &Error) -> bool {
    error.kind() == ErrorKind::InvalidArgument
}

/// Whether the environment has caused the error of a declaration, and not the program.
pub(super) fn is_environment(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Store)
}
