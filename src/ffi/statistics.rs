//! `BackendStatistics`: what a backend has done so far.

use std::mem::offset_of;

use super::error::BackendError;
use super::guard::guard;
use super::options::{SizeFirst, fill};
use super::pointer::borrow;
use super::status::BackendStatus;
use crate::backend::Backend;

/// What a backend has done in this process so far; a forked child begins at zero. A store that
/// sends nothing (in memory, in shared memory) only counts scrapes and scrape errors. Set `size` to
/// `sizeof(BackendStatistics)` first: later versions may add fields behind the last.
#[repr(C)]
#[derive(Debug)]
pub struct BackendStatistics {
    /// `sizeof(BackendStatistics)` of the header that the program was compiled with.
    pub size: usize,
    /// The batches that the server has confirmed.
    pub batches_sent: u64,
    /// How often a batch was sent again because its answer was lost.
    pub batches_resent: u64,
    /// How often the server refused a batch. The batch is kept and tried again.
    pub batches_refused: u64,
    /// The operations in the batches that the server has confirmed.
    pub operations_sent: u64,
    /// The metrics with changes that the server has not confirmed. A metric that has changed again
    /// while its last changes are on their way counts twice.
    pub metrics_pending: u64,
    /// Metrics that the store could not take yet, because it is full or cannot be used. They count in
    /// this process, and no scrape shows them; the log says why.
    pub metrics_held_back: u64,
    /// The scrapes, including those that failed.
    pub scrapes: u64,
    /// The scrapes that failed.
    pub scrape_errors: u64,
    /// When the server last confirmed a batch, or a flush found nothing left to send, in seconds
    /// since 1970; 0 if neither has happened.
    pub last_flush_timestamp: f64,
    /// Confirmed batches that were sent again because the server had lost them: it crashed, or a
    /// replica that lacked them became the master.
    pub batches_replayed: u64,
    /// How often the server lost confirmed changes of a family that could not be sent again: by an
    /// empty restart, an expiry, an old snapshot, or a failover beyond the replay log.
    pub losses: u64,
}

// SAFETY: `repr(C)`, begins with its size, and all fields have the size and alignment of a u64.
unsafe impl SizeFirst for BackendStatistics {
    const NAME: &'static str = "BackendStatistics";
    const FIRST_SIZE: usize = offset_of!(Self, last_flush_timestamp) + size_of::<f64>();
}

/// Fills `*statistics`, whose `size` the program has set. It never waits for a store.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: the size is not that of a BackendStatistics.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_statistics(
    backend: *const Backend,
    statistics: *mut BackendStatistics,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let fill = || {
        // SAFETY: the program's promises.
        let backend = unsafe { borrow(backend, "backend") }?;
        // SAFETY: the program's promises.
        unsafe { fill(statistics, "statistics", |size| BackendStatistics::of(backend, size)) }
    };
    // SAFETY: the program's promises.
    unsafe { guard(error, fill) }
}

impl BackendStatistics {
    fn of(backend: &Backend, size: usize) -> Self {
        let engine = backend.statistics();
        Self {
            size,
            batches_sent: engine.batches_sent,
            batches_resent: engine.batches_resent,
            batches_refused: engine.batches_refused,
            operations_sent: engine.operations_sent,
            metrics_pending: engine.metrics_pending,
            metrics_held_back: engine.metrics_held_back,
            scrapes: engine.scrapes,
            scrape_errors: engine.scrape_errors,
            last_flush_timestamp: engine.last_flush_timestamp,
            batches_replayed: engine.batches_replayed,
            losses: engine.losses,
        }
    }
}
