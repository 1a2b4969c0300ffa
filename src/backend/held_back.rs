//! Metrics that the store could not take, and when to offer them again.
//!
//! A metric call never breaks the program. If the store refuses a new series because of its environment (a full file,
//! no permission, a lock that cannot be had, a label value that is too long), the metric counts in this process, in
//! [`HeldCells`](crate::cell::held::HeldCells). The front door offers it to the store again before a flush, a scrape
//! and the end, which are allowed to take time, and at a look-up of a metric, at most once a second. Between such
//! attempts, new series of a store that has just refused one are held back at once: a look-up must not wait for the
//! lock of a stalled store again and again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::model::error::{Error, ErrorKind};
use crate::process::once::Once;

/// The shortest time between two attempts that a look-up makes.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the front door remembers of the store's refusals.
#[derive(Debug)]
pub(super) struct HeldBack {
    /// Whether the table may have metrics that are held back.
    is_active: AtomicBool,
    opened: Instant,
    /// When the store last refused a metric, in milliseconds after `opened`. 0: never, or it has taken all since.
    refused: AtomicU64,
    logged: Once,
}

impl HeldBack {
    pub(super) fn new() -> Self {
        Self {
            is_active: AtomicBool::new(false),
            opened: Instant::now(),
            refused: AtomicU64::new(0),
            logged: Once::new(),
        }
    }

    /// Logs why the store refuses a family or a metric of it, once for each cause.
    pub(super) fn refused(&self, family: &str, error: &Error) {
        let is_lasting = is_lasting(error);
        if !is_lasting {
            self.refused.store(self.now(), Ordering::Relaxed);
        }
        // The texts of lasting ones differ in their numbers.
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

    /// Notes that the table has a metric that is held back. Call it when the metric is in the table.
    pub(super) fn holds(&self) {
        // Release, with the swap of `begin`: either its walk finds the metric, or this comes after the swap.
        self.is_active.store(true, Ordering::Release);
    }

    /// Whether a new metric is to be held back without asking the store.
    pub(super) fn has_just_refused(&self) -> bool {
        match self.refused.load(Ordering::Relaxed) {
            0 => false,
            refused => Duration::from_millis(self.now().saturating_sub(refused)) < RETRY_AFTER,
        }
    }

    /// Whether there may be metrics to offer to the store.
    pub(super) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    /// Begins an attempt: from here on, only [`holds`](Self::holds) says that there are metrics.
    pub(super) fn begin(&self) {
        self.is_active.swap(false, Ordering::AcqRel);
    }

    /// Ends an attempt that moved so many metrics, and left some or none.
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

    /// In milliseconds after `opened`, and never 0.
    fn now(&self) -> u64 {
        self.opened.elapsed().as_millis() as u64 + 1
    }
}

/// Whether the store will refuse the metric for ever, because of its own size.
pub(super) fn is_lasting(error: &Error) -> bool {
    error.kind() == ErrorKind::InvalidArgument
}

/// Whether an error of a declaration lies in the environment, and not in the program.
pub(super) fn is_environment(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Store)
}
