//! `BackendStatistics`: what a backend has done so far, as a struct.

use std::mem::offset_of;

use super::error::{BackendError, Failure};
use super::status::{BackendStatus, guard};
use crate::backend::Backend;
use crate::model::statistics::Statistics;

/// What a backend has done in this process so far; a forked child begins at zero. A store that sends nothing
/// (in memory, in shared memory) has only scrapes and scrape errors. Set `size` to
/// `sizeof(BackendStatistics)` first: later versions may add fields behind the last.
#[repr(C)]
#[derive(Debug)]
pub struct BackendStatistics {
    /// `sizeof(BackendStatistics)` of the header that the program was compiled with.
    pub size: usize,
    /// Batches that the server has confirmed.
    pub batches_sent: u64,
    /// How often a batch was sent again because its answer was lost.
    pub batches_resent: u64,
    /// How often the server refused a batch. It is kept, and tried again.
    pub batches_refused: u64,
    /// Operations in the batches that the server has confirmed.
    pub operations_sent: u64,
    /// Metrics with changes that the server has not confirmed. One that has changed again while its last
    /// changes are on their way counts twice.
    pub metrics_pending: u64,
    /// Scrapes, those that failed included.
    pub scrapes: u64,
    /// Scrapes that failed.
    pub scrape_errors: u64,
    /// When the server last confirmed what was sent, or a flush found nothing left to send: in seconds since
    /// 1970; 0 if it never has.
    pub last_flush_timestamp: f64,
}

/// Fills `*statistics`, whose `size` the caller has set. It never waits for a store.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: the size is none that this library knows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_statistics(
    backend: *const Backend,
    statistics: *mut BackendStatistics,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the caller's promise.
        let backend = unsafe { backend.as_ref() }.ok_or_else(|| Failure::null("backend"))?;
        // SAFETY: the caller's promise.
        let size = unsafe { read_size(statistics) }?;
        // SAFETY: the caller's promise, and the size was checked.
        unsafe { fill(statistics, size, backend.statistics()) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

const KNOWN: usize = size_of::<BackendStatistics>();

/// The size of the struct in the first version that had it.
const FIRST_SIZE: usize = offset_of!(BackendStatistics, last_flush_timestamp) + size_of::<f64>();

unsafe fn read_size(statistics: *const BackendStatistics) -> Result<usize, Failure> {
    if statistics.is_null() {
        return Err(Failure::null("statistics"));
    }
    // SAFETY: the size comes first in every version.
    let size = unsafe { statistics.cast::<usize>().read() };
    if (FIRST_SIZE..=KNOWN + 1024).contains(&size) {
        return Ok(size);
    }
    Err(Failure::invalid(format!("statistics->size is {size}: expected sizeof(BackendStatistics), {KNOWN}")))
}

/// Writes as much as a program has room for that is older than this library, and zeros where one that is newer
/// has fields which this library does not know.
unsafe fn fill(statistics: *mut BackendStatistics, size: usize, engine: Statistics) {
    let known = BackendStatistics {
        size,
        batches_sent: engine.batches_sent,
        batches_resent: engine.batches_resent,
        batches_refused: engine.batches_refused,
        operations_sent: engine.operations_sent,
        metrics_pending: engine.metrics_pending,
        scrapes: engine.scrapes,
        scrape_errors: engine.scrape_errors,
        last_flush_timestamp: engine.last_flush_timestamp,
    };
    // SAFETY: the program says that its struct has `size` bytes; ours has KNOWN, and no padding.
    unsafe {
        let bytes = statistics.cast::<u8>();
        bytes.write_bytes(0, size);
        bytes.copy_from_nonoverlapping((&raw const known).cast(), size.min(KNOWN));
    }
}
