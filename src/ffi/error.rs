//! `BackendError`: why a call failed, as a sentence that the caller owns.

use std::any::Any;
use std::ffi::{CString, c_char};
use std::ptr;

use super::status::{BackendStatus, guard_void};
use super::text::to_c_string;
use crate::model::error::Error;

/// Why a call failed. Made by the calls that take an `error` out-parameter; free it with
/// `backend_error_free`.
#[derive(Debug)]
pub struct BackendError {
    status: BackendStatus,
    message: CString,
}

/// What the body of an exported function fails with.
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
        let message = format!("a defect in this library: {}", reason.unwrap_or("panic without a message"));
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

/// The status that the failing call returned; BACKEND_STATUS_NULL_POINTER if `error` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_error_status(error: *const BackendError) -> BackendStatus {
    // SAFETY: NULL, or an error of ours.
    unsafe { error.as_ref() }.map_or(BackendStatus::NullPointer, |error| error.status)
}

/// The sentence: what was wrong, with which value, and what was expected. UTF-8; it lives as long as
/// `error`. NULL if `error` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_error_message(error: *const BackendError) -> *const c_char {
    // SAFETY: NULL, or an error of ours.
    unsafe { error.as_ref() }.map_or(ptr::null(), |error| error.message.as_ptr())
}

/// Frees an error. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_error_free(error: *mut BackendError) {
    if !error.is_null() {
        // SAFETY: made by Box::into_raw in `guard`, and freed once by its owner.
        guard_void(|| drop(unsafe { Box::from_raw(error) }));
    }
}
