//! `MetricsSnapshot`: a scrape, series by series.

use std::ffi::{CString, c_char};

use super::error::BackendError;
use super::guard::{free, guard_new, guard_status};
use super::pointer::borrow;
use super::render_options::wanted;
use super::status::BackendStatus;
use super::string::to_c_string;
use crate::backend::Backend;
use crate::backend::MetricFamily;
use crate::model::sample::Snapshot;

/// The values of some metric families at one time, which the program walks series by series.
/// `metrics_snapshot_new` makes one; free it with `metrics_snapshot_free`. Threads must not share
/// it.
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

/// The values of one metric in a snapshot. Its pointers live as long as the snapshot. This struct
/// never grows: later versions report more about a series by other functions.
#[repr(C)]
#[derive(Debug)]
pub struct MetricsSeries {
    /// The position of its family in the list that was asked for, or among all families.
    pub family_index: usize,
    /// The name of its family.
    pub family: *const c_char,
    /// Its labels: a compact JSON object of strings, sorted by label name.
    pub labels: *const c_char,
    /// Its sample values. Counter, gauge, untyped: the value. Summary: count, sum. Histogram, gauge
    /// histogram: the cumulative buckets in the order of their bounds, `+Inf` last; then count, sum.
    /// Info: 1. State set: 1 or 0 for each state in its declared order.
    pub values: *const f64,
    /// The number of values.
    pub value_count: usize,
}

/// Reads `family_count` families in one go, or all families in the store if `families` is NULL, and
/// writes the snapshot to `*snapshot`; free it with `metrics_snapshot_free`. A family whose key the
/// store refuses has no series, and is reported to the log. It waits as `metrics_render` does.
///
/// BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT, BACKEND_STATUS_STORE: the store could not be
/// read.
/// BACKEND_STATUS_INVALID_ARGUMENT: a family belongs to another backend.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_snapshot_new(
    backend: *const Backend,
    families: *const *const MetricFamily,
    family_count: usize,
    snapshot: *mut *mut MetricsSnapshot,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let collect = || {
        // SAFETY: the program's promises.
        let (backend, families) = unsafe { (borrow(backend, "backend")?, wanted(families, family_count)?) };
        Ok(MetricsSnapshot::from(backend.collect(families.as_deref())?))
    };
    // SAFETY: the program's promises.
    unsafe { guard_new(snapshot, "snapshot", error, collect) }
}

/// Writes the next series of the snapshot to `*series`. Series come family by family, sorted by
/// their labels within each.
///
/// BACKEND_STATUS_NOT_FOUND: there are no more series.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_snapshot_next(
    snapshot: *mut MetricsSnapshot,
    series: *mut MetricsSeries,
) -> BackendStatus {
    guard_status(|| {
        // SAFETY: the program's promises.
        let Some(snapshot) = (unsafe { snapshot.as_mut() }) else { return BackendStatus::NullPointer };
        if series.is_null() {
            return BackendStatus::NullPointer;
        }
        let Some(next) = snapshot.series.get(snapshot.next) else { return BackendStatus::NotFound };
        snapshot.next += 1;
        // SAFETY: not NULL, and the program's promises.
        unsafe { series.write(next.borrow()) };
        BackendStatus::Ok
    })
}

/// Frees a snapshot and everything that its series point to. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_snapshot_free(snapshot: *mut MetricsSnapshot) {
    // SAFETY: the program's promises.
    unsafe { free(snapshot) }
}

impl From<Snapshot> for MetricsSnapshot {
    fn from(snapshot: Snapshot) -> Self {
        let mut series = Vec::new();
        for (family_index, family) in snapshot.families.iter().enumerate() {
            series.extend(family.series().map(|one| OwnedSeries {
                family_index,
                family: to_c_string(family.definition.name().to_owned()),
                labels: to_c_string(one.key().to_owned()),
                values: one.values(&family.definition),
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
