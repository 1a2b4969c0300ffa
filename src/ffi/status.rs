//! The status that fallible functions return, and the guard around every one of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{BackendError, Failure};
use crate::model::error::ErrorKind;

/// What a call came to. 0 is success.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendStatus {
    /// Success.
    Ok = 0,
    /// A pointer that must not be NULL is NULL.
    NullPointer = 1,
    /// A name, label, amount, bound or enum value is not acceptable.
    InvalidArgument = 2,
    /// The store URL or one of its options is not acceptable.
    Configuration = 3,
    /// A metric family of this name exists with another definition.
    Conflict = 4,
    /// The type of the metric has no such operation.
    WrongType = 5,
    /// What was asked for does not exist, or there is no more of it.
    NotFound = 6,
    /// The store cannot be reached, refuses to serve, or is closed; or an address cannot be listened at.
    Unavailable = 7,
    /// The store did not answer before the deadline.
    Timeout = 8,
    /// The store answered, but a key holds something that is not ours.
    Store = 9,
    /// A defect in this library; the error and the log tell more. The call did nothing more.
    Panic = 10,
}

impl From<ErrorKind> for BackendStatus {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidArgument => Self::InvalidArgument,
            ErrorKind::Configuration => Self::Configuration,
            ErrorKind::Conflict => Self::Conflict,
            ErrorKind::WrongType => Self::WrongType,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::Timeout => Self::Timeout,
            ErrorKind::Store => Self::Store,
        }
    }
}

/// Runs the body of an exported function that reports through an error out-parameter.
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
        // SAFETY: the caller's promise; the pointer written is owned by whoever reads it.
        unsafe { error.write(Box::into_raw(Box::new(BackendError::from(failure)))) };
    }
    status
}

/// Runs the body of an exported function that has nothing but a status to report.
#[inline]
pub(super) fn guard_status(body: impl FnOnce() -> BackendStatus) -> BackendStatus {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(BackendStatus::Panic)
}

/// Runs the body of an exported function that returns nothing.
pub(super) fn guard_void(body: impl FnOnce()) {
    // The panic hook has logged it.
    let _ = catch_unwind(AssertUnwindSafe(body));
}

/// The name of a status, as in "BACKEND_STATUS_TIMEOUT"; "unknown status" for any other number. The
/// text is static: never free it.
#[unsafe(no_mangle)]
pub extern "C" fn backend_status_name(status: i32) -> *const std::ffi::c_char {
    let name = match status {
        0 => c"BACKEND_STATUS_OK",
        1 => c"BACKEND_STATUS_NULL_POINTER",
        2 => c"BACKEND_STATUS_INVALID_ARGUMENT",
        3 => c"BACKEND_STATUS_CONFIGURATION",
        4 => c"BACKEND_STATUS_CONFLICT",
        5 => c"BACKEND_STATUS_WRONG_TYPE",
        6 => c"BACKEND_STATUS_NOT_FOUND",
        7 => c"BACKEND_STATUS_UNAVAILABLE",
        8 => c"BACKEND_STATUS_TIMEOUT",
        9 => c"BACKEND_STATUS_STORE",
        10 => c"BACKEND_STATUS_PANIC",
        _ => c"unknown status",
    };
    name.as_ptr()
}
