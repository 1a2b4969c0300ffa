//! `BackendError`: the reason of a failure, which the program owns.

use std::any::Any;
use std::ffi::{CString, c_char};
use std::ptr;

use super::guard::free;
use super::status::BackendStatus;
use super::string::to_c_string;
use crate::model::error::Error;

/// The reason of a failure. A failing function writes it to its `error` out-parameter; free it with
/// `backend_error_free`.
#[derive(Debug)]
pub struct BackendError {
    status: BackendStatus,
    message: CString,
}

/// The failure of the body of an exported function.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: BackendStatus,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn null(parameter: &str) -> Self {
        Self {
            status: BackendStatus::NullPointer,
            message: format!("{parameter} is NULL: expected a pointer"),
        }
    }

    pub(super) fn invalid(message: String) -> Self {
        Self { status: BackendStatus::InvalidArgument, message }
    }

    pub(super) fn panic(payload: &(dyn Any + Send)) -> Self {
        let reason = payload.downcast_ref::<&str>().copied();
        let reason = reason.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = format!("a defect in this library: {}", reason.unwrap_or("a panic without a message"));
        Self { status: BackendStatus::Panic, message }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { status: error.kind().into(), message: error.message().to_owned() }
    }
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
