//! A scrape: as text, or series by series.

use std::ffi::{CString, c_char};

use super::error::{BackendError, Failure};
use super::status::{BackendStatus, guard, guard_status, guard_void};
use super::text::{self, to_c_string};
use crate::backend::Backend;
use crate::family::MetricFamily;
use crate::labels;
use crate::sample::Snapshot;

/// Renders all metric families of the store as Prometheus text 0.0.4 and writes it to `*text`, and its
/// length in bytes, without the final NUL, to `*length` (which may be NULL); free the text with
/// `backend_string_free`. It shows every change that happened before in this process, and with a server
/// it waits for it, for at most the store's `collect_timeout`.
///
/// BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT: the store could not be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_collect(
    backend: *const Backend,
    text: *mut *mut c_char,
    length: *mut usize,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the caller's promise.
        let backend = unsafe { backend.as_ref() }.ok_or_else(|| Failure::null("backend"))?;
        if text.is_null() {
            return Err(Failure::null("text"));
        }
        let rendered = to_c_string(backend.collect_text()?);
        if !length.is_null() {
            // SAFETY: not NULL, and the caller's promise.
            unsafe { length.write(rendered.as_bytes().len()) };
        }
        // SAFETY: not NULL, and the caller's promise.
        unsafe { text.write(rendered.into_raw()) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// The values of some metric families at one time, to be walked series by series. Made by
/// `metrics_snapshot_new`; free it with `metrics_snapshot_free`. Not to be shared between threads.
#[derive(Debug)]
pub struct MetricsSnapshot {
    series: Vec<OwnedSeries>,
    next: usize,
}

#[derive(Debug)]
struct OwnedSeries {
    family_index: usize,
    family: CString,
    labels: CString,
    values: Vec<f64>,
}

/// One metric of a snapshot. What it points to lives as long as the snapshot. This struct never grows: what a
/// later version has to say about a series comes by calls of its own.
#[repr(C)]
#[derive(Debug)]
pub struct MetricsSeries {
    /// The position of its family: in the list that was asked for, or among all families.
    pub family_index: usize,
    /// The name of its family.
    pub family: *const c_char,
    /// Its labels: a compact JSON object of strings, sorted by label name.
    pub labels: *const c_char,
    /// Its sample values. Counter, gauge, untyped: the value. Summary: count, sum. Histogram: the
    /// cumulative buckets, in the order of their bounds, `+Inf` last; then count, sum.
    pub values: *const f64,
    /// The number of values.
    pub value_count: usize,
}

/// Reads `families` (`family_count` handles) in one go, or all families of the store if `families` is NULL,
/// and writes the result to `*snapshot`. A family whose key the store refuses has no series, and is reported
/// to the log. It waits as `metrics_collect` does.
///
/// BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT: the store could not be read.
/// BACKEND_STATUS_INVALID_ARGUMENT: a family of another backend.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_snapshot_new(
    backend: *const Backend,
    families: *const *const MetricFamily,
    family_count: usize,
    snapshot: *mut *mut MetricsSnapshot,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the caller's promise.
        let backend = unsafe { backend.as_ref() }.ok_or_else(|| Failure::null("backend"))?;
        if snapshot.is_null() {
            return Err(Failure::null("snapshot"));
        }
        let wanted = match families.is_null() {
            true => None,
            // SAFETY: the caller's promise.
            false => Some(unsafe { borrow_families(families, family_count) }?),
        };
        let owned = MetricsSnapshot::from(backend.collect(wanted.as_deref())?);
        // SAFETY: not NULL, and the caller's promise.
        unsafe { snapshot.write(Box::into_raw(Box::new(owned))) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// Writes the next series of the snapshot to `*series`: family by family, sorted by labels within each.
///
/// BACKEND_STATUS_NOT_FOUND: that was the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_snapshot_next(
    snapshot: *mut MetricsSnapshot,
    series: *mut MetricsSeries,
) -> BackendStatus {
    // SAFETY: NULL, or a snapshot that no other thread uses.
    let Some(snapshot) = (unsafe { snapshot.as_mut() }) else { return BackendStatus::NullPointer };
    if series.is_null() {
        return BackendStatus::NullPointer;
    }
    guard_status(|| {
        let Some(next) = snapshot.series.get(snapshot.next) else { return BackendStatus::NotFound };
        snapshot.next += 1;
        // SAFETY: not NULL, and the caller's promise.
        unsafe { series.write(next.borrow()) };
        BackendStatus::Ok
    })
}

/// Frees a snapshot and all that its series point to. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_snapshot_free(snapshot: *mut MetricsSnapshot) {
    if !snapshot.is_null() {
        // SAFETY: made by Box::into_raw in `metrics_snapshot_new`, and freed once by its owner.
        guard_void(|| drop(unsafe { Box::from_raw(snapshot) }));
    }
}

/// Clones of the families (two reference counts each), so that the engine can take a plain list.
unsafe fn borrow_families(
    families: *const *const MetricFamily,
    count: usize,
) -> Result<Vec<MetricFamily>, Failure> {
    // SAFETY: the caller's promise.
    let pointers = unsafe { text::borrow_slice(families, count, "families") }?;
    let clone_at = |(index, &family): (usize, &*const MetricFamily)| {
        // SAFETY: the caller's promise.
        unsafe { family.as_ref() }.cloned().ok_or_else(|| Failure::null(&format!("families[{index}]")))
    };
    pointers.iter().enumerate().map(clone_at).collect()
}

impl From<Snapshot> for MetricsSnapshot {
    fn from(snapshot: Snapshot) -> Self {
        let mut series = Vec::new();
        for (family_index, family) in snapshot.families.iter().enumerate() {
            series.extend(family.series.iter().map(|one| OwnedSeries {
                family_index,
                family: to_c_string(family.definition.name().to_owned()),
                labels: to_c_string(labels::encode(&one.labels)),
                values: one.values(family.definition.metric_type()),
            }));
        }
        Self { series, next: 0 }
    }
}

impl OwnedSeries {
    fn borrow(&self) -> MetricsSeries {
        MetricsSeries {
            family_index: self.family_index,
            family: self.family.as_ptr(),
            labels: self.labels.as_ptr(),
            values: self.values.as_ptr(),
            value_count: self.values.len(),
        }
    }
}
