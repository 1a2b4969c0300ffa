//! `MetricFamily`: a declared family, whose metrics differ in their label values.

use super::error::BackendError;
use super::family_options::MetricFamilyOptions;
use super::guard::{free, guard, guard_new};
use super::options;
use super::pointer::borrow;
use super::status::BackendStatus;
use crate::backend::Backend;
use crate::backend::MetricFamily;

/// Declares a metric family and writes a handle to `*family`; free it with `metric_family_free`.
/// The strings are copied.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: a name, label, bound, unit, type, lifetime or size is not
/// acceptable.
/// BACKEND_STATUS_CONFLICT: the name is declared already with another definition.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_family_new(
    backend: *const Backend,
    options: *const MetricFamilyOptions,
    family: *mut *mut MetricFamily,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let declare = || {
        // SAFETY: the program's promises.
        let (backend, options) = unsafe { (borrow(backend, "backend")?, options::read(options, "options")?) };
        // SAFETY: the program's promises.
        let (definition, label_order, lifetime) = unsafe { options.read() }?;
        Ok(backend.declare(definition, &label_order, lifetime)?)
    };
    // SAFETY: the program's promises.
    unsafe { guard_new(family, "family", error, declare) }
}

/// Removes all metrics of the family from the store, those of other processes too. Handles of its
/// metrics stay valid, but what they count no longer reaches the store; `metric_new` makes new
/// metrics. It never waits for a server: the store removes them before it applies what this process
/// counts next.
///
/// BACKEND_STATUS_STORE: the store refuses it; the error says why.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_family_clear(
    family: *const MetricFamily,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { guard(error, || Ok(borrow(family, "family")?.clear()?)) }
}

/// Frees the handle. The family and its values stay, unless its lifetime is METRIC_LIFETIME_HANDLE.
/// NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_family_free(family: *mut MetricFamily) {
    // SAFETY: the program's promises.
    unsafe { free(family) }
}
