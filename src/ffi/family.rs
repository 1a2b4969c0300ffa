//! `MetricFamily`: a declared family, whose metrics differ in their label values.

use std::ffi::c_char;

use super::error::BackendError;
use super::family_options::MetricFamilyOptions;
use super::guard::{free, guard, guard_new};
use super::options;
use super::pointer::borrow;
use super::status::BackendStatus;
use super::string::strings;
use crate::backend::Backend;
use crate::backend::MetricFamily;

/// Declares a metric family and writes a handle to `*family`; free it with `metric_family_free`.
/// The strings are copied.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: a name, label, bound, state, unit, type, lifetime, size,
/// native option or gauge mode is not acceptable.
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

/// Sets labels of an info, which a scrape then shows with the value 1 in place of those that any
/// process has set before:
///
/// ```c
/// const char *names[] = {"version", "compiler"};
/// const char *values[] = {"1.2", "gcc"};
/// metric_family_set_info(build, NULL, 0, names, values, 2, &error);
/// ```
///
/// `label_values` are those of the declared label names, in their order; each of their combinations
/// has labels of its own. The names that are set need no declaration, and may be any text. Labels
/// that are replaced stay in the store, out of sight, until `metric_family_clear`. It never waits
/// for a server.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: there are no labels, a label name is declared, reserved, empty
/// or given twice, the number of label values is not the declared one, a text is not UTF-8, or the
/// lifetime of the family is METRIC_LIFETIME_HANDLE.
/// BACKEND_STATUS_WRONG_TYPE: the family is no info.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metric_family_set_info(
    family: *const MetricFamily,
    label_values: *const *const c_char,
    label_count: usize,
    info_names: *const *const c_char,
    info_values: *const *const c_char,
    info_count: usize,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let set = || {
        // SAFETY: the program's promises.
        let (family, label_values, names, values) = unsafe {
            (
                borrow(family, "family")?,
                strings(label_values, label_count, "label_values")?,
                strings(info_names, info_count, "info_names")?,
                strings(info_values, info_count, "info_values")?,
            )
        };
        let info: Vec<_> = names.into_iter().zip(values).collect();
        Ok(family.set_info(&label_values, &info)?)
    };
    // SAFETY: the program's promises.
    unsafe { guard(error, set) }
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
