//! `Metric`: counting with one metric, and reading it.

use std::ffi::{CStr, c_char};
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::error::BackendError;
use super::failure::Failure;
use super::guard::{guard, guard_status, guard_value, guard_void};
use super::pointer::borrow;
use super::status::BackendStatus;
use super::string::{string, strings};
use crate::backend::MetricFamily;
use crate::cell::at_once::AtOnce;
use crate::metric::{Metric, Refusal};
use crate::model::error::Error;

/// Writes the metric of `family` with these label values, in the order of the declared label names,
/// to `*metric`; free it with `metric_free`. A metric that does not exist yet is made with the
/// value 0. Ask once and keep the handle: this function looks the metric up, the functions on a
/// handle do not.
///
/// If the store cannot take the metric (it is full, or permission is missing), the call succeeds:
/// the metric counts in this process until the store takes it, the log says why, and
/// `metrics_held_back` in BackendStatistics counts it.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: the number of labels is not the declared one, or a value is not
/// UTF-8.
/// BACKEND_STATUS_WRONG_TYPE: the family is an info, which has no metrics: see
/// `metric_family_set_info`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_new(
    family: *const MetricFamily,
    label_values: *const *const c_char,
    label_count: usize,
    metric: *mut *mut Metric,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let find = || {
        // SAFETY: the program's promises.
        let family = unsafe { borrow(family, "family") }?;
        // SAFETY: the program's promises.
        let label_values = unsafe { strings(label_values, label_count, "label_values") }?;
        Ok(Arc::into_raw(family.metric(&label_values)?).cast_mut())
    };
    // SAFETY: the program's promises.
    unsafe { guard_value(metric, "metric", error, find) }
}

/// Frees the handle. The metric and its value stay, unless the lifetime of its family is
/// METRIC_LIFETIME_HANDLE. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_free(metric: *mut Metric) {
    if !metric.is_null() {
        // SAFETY: `Arc::into_raw` made it in `metric_new`, and the program frees it once.
        guard_void(|| drop(unsafe { Arc::from_raw(metric) }));
    }
}

/// Adds `amount` to a counter, gauge or untyped metric. It never waits for a store.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: the metric is a counter, and the amount is negative or NaN.
/// BACKEND_STATUS_WRONG_TYPE: the metric has another type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_inc(metric: *const Metric, amount: f64) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe {
        change_at_once(
            metric,
            |metric| metric.inc_at_once(amount),
            |has_stripes| match has_stripes {
                true => inc_in_stripe(metric, amount),
                false => inc_otherwise(metric, amount),
            },
        )
    }
}

/// Adds `amount` to a counter, gauge or untyped metric like `metric_inc`, and writes the new value
/// to `*value` like `metric_get`. The value includes `amount`, and what other threads and processes
/// have added by then. With a server it waits for the answer; a program that does not need the
/// value calls `metric_inc`.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: the metric is a counter, and the amount is negative or NaN.
/// BACKEND_STATUS_WRONG_TYPE: the metric has another type.
/// BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT, BACKEND_STATUS_STORE: the amount was added,
/// but the value could not be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_inc_and_get(
    metric: *const Metric,
    amount: f64,
    value: *mut f64,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { read(metric, value, error, |metric| metric.inc_and_get(amount)) }
}

/// Adds `amount` to a counter like `metric_inc`, and keeps it as an exemplar: an example that a
/// scrape shows beside the value, with `label_count` labels that lead to a trace, for example
/// "trace_id" and "span_id". Their names match `[a-zA-Z_][a-zA-Z0-9_]*`; names and values have at
/// most 128 characters together. An exemplar that is younger than a tenth of a second stays, and the
/// new one is dropped. It never waits for a store.
///
/// If it fails, nothing is added.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: the amount is negative or NaN; there are no labels, or they are
/// too long; a name is invalid or given twice; a text is not UTF-8.
/// BACKEND_STATUS_WRONG_TYPE: the metric has another type, or its family is declared without
/// `exemplars` in MetricFamilyOptions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_inc_with_exemplar(
    metric: *const Metric,
    amount: f64,
    label_names: *const *const c_char,
    label_values: *const *const c_char,
    label_count: usize,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the program's promises.
    let labels = || unsafe { exemplar_labels(label_names, label_values, label_count) };
    // SAFETY: the program's promises.
    let inc = || Ok(unsafe { borrow(metric, "metric") }?.inc_with_exemplar(amount, &labels()?)?);
    // SAFETY: the program's promises.
    unsafe { guard(error, inc) }
}

/// Subtracts `amount` from a gauge or untyped metric. It never waits for a store.
///
/// BACKEND_STATUS_WRONG_TYPE: the metric has another type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_dec(metric: *const Metric, amount: f64) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { change_at_once(metric, |metric| metric.dec_at_once(amount), |_| dec_otherwise(metric, amount)) }
}

/// Sets a gauge or untyped metric to `value`. It never waits for a store.
///
/// BACKEND_STATUS_WRONG_TYPE: the metric has another type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_set(metric: *const Metric, value: f64) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { change_at_once(metric, |metric| metric.set_at_once(value), |_| set_otherwise(metric, value)) }
}

/// Counts `value` in a histogram, summary or gauge histogram; NaN counts in the bucket `+Inf`. It
/// never waits for a store.
///
/// BACKEND_STATUS_WRONG_TYPE: the metric has another type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_observe(metric: *const Metric, value: f64) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe {
        change_at_once(
            metric,
            |metric| metric.observe_at_once(value),
            |has_stripes| match has_stripes {
                true => observe_in_stripe(metric, value),
                false => observe_otherwise(metric, value),
            },
        )
    }
}

/// Counts `value` in a histogram like `metric_observe`, and keeps it as an exemplar of its bucket.
/// Otherwise it is like `metric_inc_with_exemplar`. A value that is not finite counts, and is not
/// kept.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: there are no labels, or they are too long; a name is invalid or
/// given twice; a text is not UTF-8.
/// BACKEND_STATUS_WRONG_TYPE: the metric has another type, or its family is declared without
/// `exemplars` in MetricFamilyOptions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_observe_with_exemplar(
    metric: *const Metric,
    value: f64,
    label_names: *const *const c_char,
    label_values: *const *const c_char,
    label_count: usize,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the program's promises.
    let labels = || unsafe { exemplar_labels(label_names, label_values, label_count) };
    // SAFETY: the program's promises.
    let observe = || Ok(unsafe { borrow(metric, "metric") }?.observe_with_exemplar(value, &labels()?)?);
    // SAFETY: the program's promises.
    unsafe { guard(error, observe) }
}

/// Keeps `value` as an exemplar like `metric_inc_with_exemplar` and `metric_observe_with_exemplar`,
/// and counts nothing: for client libraries that count in a call of its own. It never waits for a
/// store.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: there are no labels, or they are too long; a name is invalid or
/// given twice; a text is not UTF-8.
/// BACKEND_STATUS_WRONG_TYPE: the family of the metric is declared without `exemplars` in
/// MetricFamilyOptions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_keep_exemplar(
    metric: *const Metric,
    value: f64,
    label_names: *const *const c_char,
    label_values: *const *const c_char,
    label_count: usize,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the program's promises.
    let labels = || unsafe { exemplar_labels(label_names, label_values, label_count) };
    // SAFETY: the program's promises.
    let keep = || Ok(unsafe { borrow(metric, "metric") }?.keep_exemplar(value, &labels()?)?);
    // SAFETY: the program's promises.
    unsafe { guard(error, keep) }
}

/// Returns 1 if an exemplar of `value` would be kept now, and 0 if it would be dropped: because the
/// last one is younger than a tenth of a second, or because the metric keeps none. A program asks
/// before it looks for labels that take time to find.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_takes_exemplar(metric: *const Metric, value: f64) -> i32 {
    // SAFETY: NULL, or the pointer of an `Arc` that the program holds.
    let Some(metric) = (unsafe { metric.as_ref() }) else { return 0 };
    i32::from(metric.takes_exemplar(value))
}

/// Takes an observation of `value` out of a gauge histogram again: what it describes has ended. It
/// never waits for a store. Values that were not observed before make the shown counts too small,
/// but not smaller than 0.
///
/// BACKEND_STATUS_WRONG_TYPE: the metric has another type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_unobserve(metric: *const Metric, value: f64) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { change(metric, |metric| metric.unobserve(value)) }
}

/// Switches one state of a state set on (`is_on` is not 0) or off (0); the others stay as they are.
/// It never waits for a store. In memory and in shared memory, processes that switch different
/// states at the same time lose nothing. On a server, the states as this process knows them replace
/// all that is there, and the last process wins.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: the state set has no such state.
/// BACKEND_STATUS_WRONG_TYPE: the metric has another type.
/// BACKEND_STATUS_NULL_POINTER: `metric` or `state` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_set_state(
    metric: *const Metric,
    state: *const c_char,
    is_on: i32,
) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { change_state(metric, state, |metric, state| metric.set_state(state, is_on != 0)) }
}

/// Switches one state of a state set on and all others off: for states that exclude each other. It
/// never waits for a store.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: the state set has no such state.
/// BACKEND_STATUS_WRONG_TYPE: the metric has another type.
/// BACKEND_STATUS_NULL_POINTER: `metric` or `state` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_choose_state(metric: *const Metric, state: *const c_char) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { change_state(metric, state, Metric::choose_state) }
}

/// Writes 1 to `*is_on` if the state of the state set is on in the store, and 0 if it is off. It
/// reads the store as `metric_get` does.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: the state set has no such state.
/// BACKEND_STATUS_WRONG_TYPE: the metric has another type.
/// BACKEND_STATUS_NULL_POINTER: `metric`, `state` or `is_on` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_get_state(
    metric: *const Metric,
    state: *const c_char,
    is_on: *mut i32,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the program's promises.
        let state = unsafe { string(state, "state") }?;
        // SAFETY: the program's promises.
        Ok(i32::from(unsafe { shared(metric) }?.get_state(state)?))
    };
    // SAFETY: the program's promises.
    unsafe { guard_value(is_on, "is_on", error, body) }
}

/// Adds `amount` to the cell `index` of a metric, without the checks of the functions above. Cell 0
/// is the value of a counter, gauge or untyped metric, or the sum of a summary, histogram or gauge
/// histogram. Cell 1 of a summary is the count. A histogram has from cell 1 on the count of each
/// bucket alone, not cumulated, in the order of the bounds, `+Inf` last. Counts are whole numbers.
/// It never waits for a store. It is for client libraries whose values are objects of their own.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: the metric has no such cell. Infos, state sets and native
/// histograms have none.
/// BACKEND_STATUS_NOT_FOUND: the metric was removed: see `metric_is_live`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_cell_add(metric: *const Metric, index: usize, amount: f64) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { change(metric, |metric| metric.add_to_cell(index, amount)) }
}

/// Sets the cell `index` of a metric, as in `metric_cell_add`, to `value`. What other threads add at
/// the same time may be lost.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: the metric has no such cell.
/// BACKEND_STATUS_NOT_FOUND: the metric was removed.
/// BACKEND_STATUS_WRONG_TYPE: the value is on a server, and the metric is no gauge.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_cell_set(metric: *const Metric, index: usize, value: f64) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { change(metric, |metric| metric.set_cell(index, value)) }
}

/// Writes the cell `index` of a metric, as in `metric_cell_add`, to `*value`. It reads the store as
/// `metric_get` does.
///
/// BACKEND_STATUS_NOT_FOUND: the metric has no such cell.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_get_cell(
    metric: *const Metric,
    index: usize,
    value: *mut f64,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { read(metric, value, error, |metric| metric.get_cell(index)) }
}

/// Returns 0 if the store does not have the metric any more: another process, or this one, has
/// removed it from a shared file. What is counted with this handle then reaches no store, and
/// `metric_new` makes a new metric. Otherwise returns 1; on a server and in memory always. NULL
/// gives 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_is_live(metric: *const Metric) -> i32 {
    // SAFETY: NULL, or the pointer of an `Arc` that the program holds.
    unsafe { metric.as_ref() }.map_or(0, |metric| i32::from(metric.is_live()))
}

/// Writes the value of a counter, gauge or untyped metric to `*value`: the value in the store,
/// after the pending changes of this process were sent. With a server it waits for the answer.
///
/// BACKEND_STATUS_WRONG_TYPE: the metric has another type.
/// BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT, BACKEND_STATUS_STORE: the value could not be
/// read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_get(
    metric: *const Metric,
    value: *mut f64,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { read(metric, value, error, Metric::get) }
}

/// Writes the sum of the observations of a histogram, summary or gauge histogram to `*value`.
/// Otherwise it is like `metric_get`.
///
/// BACKEND_STATUS_WRONG_TYPE: the metric has another type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_get_sum(
    metric: *const Metric,
    value: *mut f64,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { read(metric, value, error, Metric::get_sum) }
}

/// Writes the number of observations of a histogram, summary or gauge histogram to `*value`.
/// Otherwise it is like `metric_get`.
///
/// BACKEND_STATUS_WRONG_TYPE: the metric has another type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_get_count(
    metric: *const Metric,
    value: *mut f64,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { read(metric, value, error, Metric::get_count) }
}

/// Writes the cumulative count of the bucket with this upper bound, `INFINITY` for the last one, of
/// a histogram or gauge histogram to `*value`. Otherwise it is like `metric_get`.
///
/// BACKEND_STATUS_NOT_FOUND: the histogram has no such bucket.
/// BACKEND_STATUS_WRONG_TYPE: the metric has another type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_get_bucket(
    metric: *const Metric,
    upper_bound: f64,
    value: *mut f64,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { read(metric, value, error, |metric| metric.get_bucket(upper_bound)) }
}

/// Removes the metric with these label values from the store. Handles of it stay valid, but what
/// they count no longer reaches the store; `metric_new` makes a new metric. On a server, another
/// process that counts with the metric brings it back; in a shared file, other processes must call
/// `metric_new` again. Of an info, it removes all labels that this process has set for these label
/// values. It never waits for a server.
///
/// BACKEND_STATUS_NOT_FOUND: the store has no such metric; on a server: this process has none.
/// BACKEND_STATUS_INVALID_ARGUMENT: the number of labels is not the declared one, or a value is not
/// UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_remove(
    family: *const MetricFamily,
    label_values: *const *const c_char,
    label_count: usize,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let remove = || {
        // SAFETY: the program's promises.
        let family = unsafe { borrow(family, "family") }?;
        // SAFETY: the program's promises.
        Ok(family.remove(&unsafe { strings(label_values, label_count, "label_values") }?)?)
    };
    // SAFETY: the program's promises.
    unsafe { guard(error, remove) }
}

/// The body of the hot functions: makes the change at once, or calls `otherwise` with whether the metric has stripes.
/// What never panics needs no guard.
///
/// The other calls are the last thing that the function does and have its C signature, so they are jumps. So the
/// function itself saves no registers.
#[inline(always)]
unsafe fn change_at_once(
    metric: *const Metric,
    operation: impl FnOnce(&Metric) -> AtOnce,
    otherwise: impl FnOnce(bool) -> BackendStatus,
) -> BackendStatus {
    // SAFETY: NULL, or the pointer of an `Arc` that the program holds.
    let Some(known) = (unsafe { metric.as_ref() }) else { return BackendStatus::NullPointer };
    match operation(known) {
        AtOnce::Done => BackendStatus::Ok,
        // SAFETY: the program's promises.
        AtOnce::Unfinished => unsafe { finish(metric) },
        AtOnce::HasStripes => otherwise(true),
        AtOnce::NotDone => otherwise(false),
    }
}

#[inline(never)]
unsafe extern "C" fn finish(metric: *const Metric) -> BackendStatus {
    let finish_it = |metric: &Metric| {
        metric.changed();
        Ok(())
    };
    // SAFETY: the program's promises.
    unsafe { change(metric, finish_it) }
}

/// Adds to a counter at which threads have collided. Apart, so that other calls do not look for their stripe.
#[inline(never)]
unsafe extern "C" fn inc_in_stripe(metric: *const Metric, amount: f64) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe {
        change_at_once(metric, |metric| metric.inc_in_stripe(amount), |_| inc_otherwise(metric, amount))
    }
}

#[inline(never)]
unsafe extern "C" fn observe_in_stripe(metric: *const Metric, value: f64) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe {
        change_at_once(metric, |metric| metric.observe_in_stripe(value), |_| observe_otherwise(metric, value))
    }
}

#[inline(never)]
unsafe extern "C" fn inc_otherwise(metric: *const Metric, amount: f64) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { change(metric, |metric| metric.inc_otherwise(amount)) }
}

#[inline(never)]
unsafe extern "C" fn dec_otherwise(metric: *const Metric, amount: f64) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { change(metric, |metric| metric.dec_otherwise(amount)) }
}

#[inline(never)]
unsafe extern "C" fn set_otherwise(metric: *const Metric, value: f64) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { change(metric, |metric| metric.set_otherwise(value)) }
}

#[inline(never)]
unsafe extern "C" fn observe_otherwise(metric: *const Metric, value: f64) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { change(metric, |metric| metric.observe_otherwise(value)) }
}

/// The body of the functions that change a metric in a way that may panic.
#[inline]
unsafe fn change(
    metric: *const Metric,
    operation: impl FnOnce(&Metric) -> Result<(), Refusal>,
) -> BackendStatus {
    // SAFETY: NULL, or the pointer of an `Arc` that the program holds.
    let Some(metric) = (unsafe { metric.as_ref() }) else { return BackendStatus::NullPointer };
    guard_status(|| match operation(metric) {
        Ok(()) => BackendStatus::Ok,
        Err(Refusal::NotAnIncrease | Refusal::UnknownState | Refusal::UnknownCell) => {
            BackendStatus::InvalidArgument
        }
        Err(Refusal::WrongType) => BackendStatus::WrongType,
        Err(Refusal::Removed) => BackendStatus::NotFound,
    })
}

/// The body of the functions that change a state set.
unsafe fn change_state(
    metric: *const Metric,
    state: *const c_char,
    operation: impl FnOnce(&Metric, &str) -> Result<(), Refusal>,
) -> BackendStatus {
    if state.is_null() {
        return BackendStatus::NullPointer;
    }
    // SAFETY: not NULL, and the program's promises.
    let state = unsafe { CStr::from_ptr(state) };
    // No state has a name that is not UTF-8.
    let change_it = |metric: &Metric| operation(metric, state.to_str().unwrap_or_default());
    // SAFETY: the program's promises.
    unsafe { change(metric, change_it) }
}

/// Borrows the labels of an exemplar.
unsafe fn exemplar_labels<'call>(
    names: *const *const c_char,
    values: *const *const c_char,
    count: usize,
) -> Result<Vec<(&'call str, &'call str)>, Failure> {
    // SAFETY: the program's promises.
    let values = unsafe { strings(values, count, "label_values") }?;
    // SAFETY: the program's promises.
    let names = unsafe { strings(names, count, "label_names") }?;
    Ok(names.into_iter().zip(values).collect())
}

/// Returns the metric of a handle, which the program holds and keeps.
unsafe fn shared(metric: *const Metric) -> Result<ManuallyDrop<Arc<Metric>>, Failure> {
    if metric.is_null() {
        return Err(Failure::null("metric"));
    }
    // SAFETY: the pointer of an `Arc` that the program holds, and keeps: it is not dropped here.
    Ok(unsafe { ManuallyDrop::new(Arc::from_raw(metric)) })
}

/// The body of the reading functions.
unsafe fn read(
    metric: *const Metric,
    value: *mut f64,
    error: *mut *mut BackendError,
    operation: impl FnOnce(&Arc<Metric>) -> Result<f64, Error>,
) -> BackendStatus {
    // SAFETY: the program's promises.
    let body = || Ok(operation(&*unsafe { shared(metric) }?)?);
    // SAFETY: the program's promises.
    unsafe { guard_value(value, "value", error, body) }
}
