//! The guards around exported functions. They turn results into a status, failures into a [`BackendError`],
//! and panics into `BACKEND_STATUS_PANIC`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::BackendError;
use super::failure::Failure;
use super::pointer::take;
use super::status::BackendStatus;

/// Runs the body of a function that reports through an error out-parameter.
///
/// # Safety
/// `error` is NULL or points to a pointer that may be written.
pub(super) unsafe fn guard(
    error: *mut *mut BackendError,
    body: impl FnOnce() -> Result<(), Failure>,
) -> BackendStatus {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return BackendStatus::Ok,
        Ok(Err(failure)) => failure,
        Err(panic) => Failure::panic(panic.as_ref()),
    };
    let status = failure.status;
    if !error.is_null() {
        // SAFETY: the caller's promise.
        unsafe { error.write(Box::into_raw(Box::new(BackendError::from(failure)))) };
    }
    status
}

/// Runs the body of a function that writes one result to `*place`. The body only runs if `place` is
/// not NULL.
///
/// # Safety
/// As [`guard`], and `place` is NULL or points to memory for a `T`.
pub(super) unsafe fn guard_value<T>(
    place: *mut T,
    parameter: &str,
    error: *mut *mut BackendError,
    body: impl FnOnce() -> Result<T, Failure>,
) -> BackendStatus {
    let write = || {
        if place.is_null() {
            return Err(Failure::null(parameter));
        }
        let value = body()?;
        // SAFETY: not NULL, and the caller's promise.
        unsafe { place.write(value) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, write) }
}

/// Runs the body of a function that makes a handle, and writes the handle to `*handle`. [`free`]
/// takes it back.
///
/// # Safety
/// As [`guard_value`].
pub(super) unsafe fn guard_new<T>(
    handle: *mut *mut T,
    parameter: &str,
    error: *mut *mut BackendError,
    body: impl FnOnce() -> Result<T, Failure>,
) -> BackendStatus {
    // SAFETY: the caller's promise.
    unsafe { guard_value(handle, parameter, error, || Ok(Box::into_raw(Box::new(body()?)))) }
}

/// Drops the value of a handle. NULL has none.
///
/// # Safety
/// `handle` is NULL or came from [`guard_new`], and was not freed before.
pub(super) unsafe fn free<T>(handle: *mut T) {
    // SAFETY: the caller's promise.
    guard_void(|| drop(unsafe { take(handle) }));
}

/// Runs the body of a function that has nothing but a status to report.
#[inline]
pub(super) fn guard_status(body: impl FnOnce() -> BackendStatus) -> BackendStatus {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(BackendStatus::Panic)
}

/// Runs the body of a function that returns nothing. The panic hook has logged a panic.
pub(super) fn guard_void(body: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(body));
}
