//! `MetricsSnapshot`: a scrape, series by series.

use std::ffi::{CString, c_char};
use std::mem::offset_of;
use std::ptr;

use super::error::BackendError;
use super::failure::Failure;
use super::family_options::{gauge_mode_number, metric_type_number};
use super::guard::{free, guard, guard_new, guard_status, guard_value};
use super::options::{SizeFirst, fill};
use super::pointer::borrow;
use super::render_options::wanted;
use super::status::BackendStatus;
use super::string::to_c_string;
use crate::backend::Backend;
use crate::backend::MetricFamily;
use crate::model::definition::Definition;
use crate::model::exemplar::Exemplar;
use crate::model::labels;
use crate::model::sample::Snapshot;

/// The values of some metric families at one time, which the program walks series by series.
/// `metrics_snapshot_new` makes one; free it with `metrics_snapshot_free`. Threads must not share
/// it.
#[derive(Debug)]
pub struct MetricsSnapshot {
    families: Vec<OwnedFamily>,
    series: Vec<OwnedSeries>,
    next: usize,
}

#[derive(Debug)]
struct OwnedSeries {
    family_index: usize,
    family: CString,
    labels: CString,
    values: Vec<f64>,
    created: f64,
    exemplars: Vec<OwnedExemplar>,
}

#[derive(Debug)]
struct OwnedExemplar {
    labels: CString,
    value: f64,
    timestamp: f64,
}

#[derive(Debug)]
struct OwnedFamily {
    name: CString,
    help: CString,
    unit: Option<CString>,
    states: Vec<CString>,
    /// Pointers to `states`.
    state_list: Vec<*const c_char>,
    buckets: Vec<f64>,
    metric_type: i32,
    gauge_mode: i32,
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

/// An exemplar of a series in a snapshot. Its pointer lives as long as the snapshot. This struct
/// never grows.
#[repr(C)]
#[derive(Debug)]
pub struct MetricsExemplar {
    /// Its labels: a compact JSON object of strings, sorted by label name.
    pub labels: *const c_char,
    /// The observed value, or the amount that was added to a counter.
    pub value: f64,
    /// When that was, in seconds since 1970.
    pub timestamp: f64,
}

/// The definition of a family of a snapshot. Its pointers live as long as the snapshot. Set `size`
/// to `sizeof(MetricsSnapshotFamily)` first: later versions may add fields behind the last.
#[repr(C)]
#[derive(Debug)]
pub struct MetricsSnapshotFamily {
    /// `sizeof(MetricsSnapshotFamily)` of the header that the program was compiled with.
    pub size: usize,
    /// The name.
    pub name: *const c_char,
    /// The help text.
    pub help: *const c_char,
    /// The unit, or NULL.
    pub unit: *const c_char,
    /// The upper bounds of a histogram, without `+Inf`.
    pub buckets: *const f64,
    /// The number of bounds.
    pub bucket_count: usize,
    /// The states of a state set.
    pub states: *const *const c_char,
    /// The number of states.
    pub state_count: usize,
    /// A MetricType.
    pub metric_type: i32,
    /// A MetricGaugeMode. The series are those of the merge, with the label `pid` if the mode has
    /// one.
    pub gauge_mode: i32,
}

// SAFETY: `repr(C)`, begins with its size, has no padding, and zeros are NULL or 0.
unsafe impl SizeFirst for MetricsSnapshotFamily {
    const NAME: &'static str = "MetricsSnapshotFamily";
    const FIRST_SIZE: usize = offset_of!(Self, gauge_mode) + size_of::<i32>();
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

/// Writes when the series that `metrics_snapshot_next` wrote last began to `*created`, in seconds
/// since 1970, or 0 if the store does not know it.
///
/// BACKEND_STATUS_NOT_FOUND: no series was written yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_snapshot_created(
    snapshot: *const MetricsSnapshot,
    created: *mut f64,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let find = || {
        // SAFETY: the program's promises.
        Ok(unsafe { borrow(snapshot, "snapshot") }?.last()?.created)
    };
    // SAFETY: the program's promises.
    unsafe { guard_value(created, "created", error, find) }
}

/// Writes the exemplar `index`, from 0 on, of the series that `metrics_snapshot_next` wrote last to
/// `*exemplar`. They are in no order.
///
/// BACKEND_STATUS_NOT_FOUND: no series was written yet, or it has no more exemplars.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_snapshot_exemplar(
    snapshot: *const MetricsSnapshot,
    index: usize,
    exemplar: *mut MetricsExemplar,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let find = || {
        // SAFETY: the program's promises.
        let found = unsafe { borrow(snapshot, "snapshot") }?.last()?.exemplars.get(index);
        let found = found.ok_or_else(|| Failure::not_found(format!("the series has no exemplar {index}")))?;
        let OwnedExemplar { labels, value, timestamp } = found;
        Ok(MetricsExemplar { labels: labels.as_ptr(), value: *value, timestamp: *timestamp })
    };
    // SAFETY: the program's promises.
    unsafe { guard_value(exemplar, "exemplar", error, find) }
}

/// Fills `*family`, whose `size` the program has set, with the definition of the family `index` of
/// the snapshot: the `family_index` of its series. Families without series are there too.
///
/// BACKEND_STATUS_NOT_FOUND: the snapshot has no more families.
/// BACKEND_STATUS_INVALID_ARGUMENT: the size is not that of a MetricsSnapshotFamily.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_snapshot_family(
    snapshot: *const MetricsSnapshot,
    index: usize,
    family: *mut MetricsSnapshotFamily,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the program's promises.
        let snapshot = unsafe { borrow(snapshot, "snapshot") }?;
        let found = snapshot.families.get(index);
        let found = found.ok_or_else(|| Failure::not_found(format!("the snapshot has no family {index}")))?;
        // SAFETY: the program's promises.
        unsafe { fill(family, "family", |size| found.borrow(size)) }
    };
    // SAFETY: the program's promises.
    unsafe { guard(error, body) }
}

/// Frees a snapshot and everything that its series point to. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_snapshot_free(snapshot: *mut MetricsSnapshot) {
    // SAFETY: the program's promises.
    unsafe { free(snapshot) }
}

impl MetricsSnapshot {
    /// Returns the series that was written last.
    fn last(&self) -> Result<&OwnedSeries, Failure> {
        let last = self.next.checked_sub(1).and_then(|last| self.series.get(last));
        last.ok_or_else(|| Failure::not_found("no series was written yet".into()))
    }
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
                created: one.created().unwrap_or_default(),
                exemplars: one.exemplars().iter().map(OwnedExemplar::new).collect(),
            }));
        }
        let families = snapshot.families.iter().map(|family| OwnedFamily::new(&family.definition)).collect();
        Self { families, series, next: 0 }
    }
}

impl OwnedFamily {
    fn new(definition: &Definition) -> Self {
        let text = |text: &str| to_c_string(text.to_owned());
        let states: Vec<CString> = definition.states().iter().map(|state| text(state)).collect();
        Self {
            name: text(definition.name()),
            help: text(definition.help()),
            unit: definition.unit().map(text),
            // The texts do not move when the list does.
            state_list: states.iter().map(|state| state.as_ptr()).collect(),
            states,
            buckets: definition.buckets().to_vec(),
            metric_type: metric_type_number(definition.metric_type()),
            gauge_mode: gauge_mode_number(definition.mode()),
        }
    }

    fn borrow(&self, size: usize) -> MetricsSnapshotFamily {
        MetricsSnapshotFamily {
            size,
            name: self.name.as_ptr(),
            help: self.help.as_ptr(),
            unit: self.unit.as_ref().map_or(ptr::null(), |unit| unit.as_ptr()),
            buckets: self.buckets.as_ptr(),
            bucket_count: self.buckets.len(),
            states: self.state_list.as_ptr(),
            state_count: self.states.len(),
            metric_type: self.metric_type,
            gauge_mode: self.gauge_mode,
        }
    }
}

impl OwnedExemplar {
    fn new(exemplar: &Exemplar) -> Self {
        let own = exemplar.labels().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            labels: to_c_string(labels::encode(&own.collect())),
            value: exemplar.value(),
            timestamp: exemplar.milliseconds() as f64 / 1e3,
        }
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
