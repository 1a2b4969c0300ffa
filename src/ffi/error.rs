//! `BackendError`: the reason of a failure, which the program owns.

use std::ffi::{CString, c_char};
use std::ptr;

use super::failure::Failure;
use super::guard::free;
use super::status::BackendStatus;
use super::string::to_c_string;

/// The reason of a failure. A failing function writes it to its `error` out-parameter; free it with
/// `backend_error_free`.
#[derive(Debug)]
pub struct BackendError {
    status: BackendStatus,
    message: CString,
}

impl From<Failure> for BackendError {
    fn from(failure: Failure) -> Self {
        Self { status: failure.status, message: to_c_string(failure.message) }
    }
}

/// Returns the status that the failing call returned, or BACKEND_STATUS_NULL_POINTER if `error` is
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_error_status(error: *const BackendError) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { error.as_ref() }.map_or(BackendStatus::NullPointer, |error| error.status)
}

/// Returns one sentence in UTF-8: what failed, with which value, and what was expected. It lives as
/// long as `error`. Returns NULL if `error` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_error_message(error: *const BackendError) -> *const c_char {
    // SAFETY: the program's promises.
    unsafe { error.as_ref() }.map_or(ptr::null(), |error| error.message.as_ptr())
}

/// Frees an error. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_error_free(error: *mut BackendError) {
    // SAFETY: the program's promises.
    unsafe { free(error) }
}
