//! `Metric`: the hot calls, and reading one metric.

use std::ffi::c_char;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::error::{BackendError, Failure};
use super::status::{BackendStatus, guard, guard_status, guard_void};
use super::text;
use crate::backend::MetricFamily;
use crate::metric::{Metric, Refusal};
use crate::model::error::Error;

/// Writes the metric of `family` with these label values (in the order of the declared names) to
/// `*metric`; free it with `metric_free`. A metric that does not exist is made, with the value 0.
/// Ask once and keep the handle: this looks it up, the calls on a handle do not.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: not the declared number of labels, or not UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_new(
    family: *const MetricFamily,
    label_values: *const *const c_char,
    label_count: usize,
    metric: *mut *mut Metric,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the caller's promise.
        let family = unsafe { family.as_ref() }.ok_or_else(|| Failure::null("family"))?;
        // SAFETY: the caller's promise.
        let label_values = unsafe { text::borrow_list(label_values, label_count, "label_values") }?;
        if metric.is_null() {
            return Err(Failure::null("metric"));
        }
        let made = family.metric(&label_values)?;
        // SAFETY: not NULL, and the caller's promise.
        unsafe { metric.write(Arc::into_raw(made).cast_mut()) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// Frees the handle. The metric and its value stay, unless its family's lifetime is
/// METRIC_LIFETIME_HANDLE. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_free(metric: *mut Metric) {
    if !metric.is_null() {
        // SAFETY: made by Arc::into_raw in `metric_new`, and freed once by its owner.
        guard_void(|| drop(unsafe { Arc::from_raw(metric) }));
    }
}

/// Adds `amount` to a counter, gauge or untyped metric. It never waits for a store.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: a counter, and the amount is negative or NaN.
/// BACKEND_STATUS_WRONG_TYPE: a histogram or summary.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_inc(metric: *const Metric, amount: f64) -> BackendStatus {
    // SAFETY: the caller's promise.
    unsafe { change(metric, |metric| metric.inc(amount)) }
}

/// Adds 1 to a counter, gauge or untyped metric: `metric_inc(metric, 1)`, for callers to which an argument costs
/// something. It never waits for a store.
///
/// BACKEND_STATUS_WRONG_TYPE: a histogram or summary.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_inc_one(metric: *const Metric) -> BackendStatus {
    // SAFETY: the caller's promise.
    unsafe { change(metric, |metric| metric.inc(1.0)) }
}

/// Takes `amount` from a gauge or untyped metric. It never waits for a store.
///
/// BACKEND_STATUS_WRONG_TYPE: of another type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_dec(metric: *const Metric, amount: f64) -> BackendStatus {
    // SAFETY: the caller's promise.
    unsafe { change(metric, |metric| metric.dec(amount)) }
}

/// Sets a gauge or untyped metric to `value`. It never waits for a store.
///
/// BACKEND_STATUS_WRONG_TYPE: of another type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_set(metric: *const Metric, value: f64) -> BackendStatus {
    // SAFETY: the caller's promise.
    unsafe { change(metric, |metric| metric.set(value)) }
}

/// Counts `value` in a histogram or summary; NaN counts in the `+Inf` bucket. It never waits for a
/// store.
///
/// BACKEND_STATUS_WRONG_TYPE: of another type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_observe(metric: *const Metric, value: f64) -> BackendStatus {
    // SAFETY: the caller's promise.
    unsafe { change(metric, |metric| metric.observe(value)) }
}

/// Writes the value of a counter, gauge or untyped metric to `*value`: the value in the store, after
/// what this process had pending was sent. With a server it waits for it.
///
/// BACKEND_STATUS_WRONG_TYPE: a histogram or summary.
/// BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT, BACKEND_STATUS_STORE: it could not be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_get(
    metric: *const Metric,
    value: *mut f64,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the caller's promise.
    unsafe { read(metric, value, error, Metric::get) }
}

/// Writes the sum of what a histogram or summary has observed to `*value`; otherwise as `metric_get`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_get_sum(
    metric: *const Metric,
    value: *mut f64,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the caller's promise.
    unsafe { read(metric, value, error, Metric::get_sum) }
}

/// Writes the number of observations of a histogram or summary to `*value`; otherwise as `metric_get`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_get_count(
    metric: *const Metric,
    value: *mut f64,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the caller's promise.
    unsafe { read(metric, value, error, Metric::get_count) }
}

/// Writes the cumulative count of the histogram bucket with this upper bound (`INFINITY` for the last)
/// to `*value`; otherwise as `metric_get`.
///
/// BACKEND_STATUS_NOT_FOUND: no such bucket.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_get_bucket(
    metric: *const Metric,
    upper_bound: f64,
    value: *mut f64,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the caller's promise.
    unsafe { read(metric, value, error, |metric| metric.get_bucket(upper_bound)) }
}

/// Removes the metric with these label values from the store. Handles of it stay valid, but what they count is
/// not in the store any more; `metric_new` makes a new one. Other processes that count with it bring it back
/// on a server; in a shared file they must ask `metric_new` again. It never waits for a server.
///
/// BACKEND_STATUS_NOT_FOUND: there is no such metric; on a server: this process has none.
/// BACKEND_STATUS_INVALID_ARGUMENT: not the declared number of labels, or not UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_remove(
    family: *const MetricFamily,
    label_values: *const *const c_char,
    label_count: usize,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the caller's promise.
        let family = unsafe { family.as_ref() }.ok_or_else(|| Failure::null("family"))?;
        // SAFETY: the caller's promise.
        let label_values = unsafe { text::borrow_list(label_values, label_count, "label_values") }?;
        Ok(family.remove(&label_values)?)
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// The body of the hot calls.
#[inline]
unsafe fn change(
    metric: *const Metric,
    operation: impl FnOnce(&Metric) -> Result<(), Refusal>,
) -> BackendStatus {
    // SAFETY: NULL, or the pointer of an Arc that the caller holds.
    let Some(metric) = (unsafe { metric.as_ref() }) else { return BackendStatus::NullPointer };
    guard_status(|| match operation(metric) {
        Ok(()) => BackendStatus::Ok,
        Err(Refusal::NotAnIncrease) => BackendStatus::InvalidArgument,
        Err(Refusal::WrongType) => BackendStatus::WrongType,
    })
}

/// The body of the reading calls.
unsafe fn read(
    metric: *const Metric,
    value: *mut f64,
    error: *mut *mut BackendError,
    operation: impl FnOnce(&Arc<Metric>) -> Result<f64, Error>,
) -> BackendStatus {
    let body = || {
        if metric.is_null() {
            return Err(Failure::null("metric"));
        }
        if value.is_null() {
            return Err(Failure::null("value"));
        }
        // SAFETY: the pointer of an Arc that the caller holds, and goes on holding: it is not dropped.
        let metric = unsafe { ManuallyDrop::new(Arc::from_raw(metric)) };
        let result = operation(&metric)?;
        // SAFETY: not NULL, and the caller's promise.
        unsafe { value.write(result) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}
