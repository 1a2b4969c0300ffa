//! `BackendStatus`: what the functions that can fail return.

use std::ffi::c_char;

use crate::model::error::ErrorKind;

/// The result of a function that can fail. 0 is success.
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
    /// A metric family of this name exists with another definition, or the backend has a collect
    /// function already.
    Conflict = 4,
    /// The type of the metric has no such operation.
    WrongType = 5,
    /// The metric, bucket, series or log record does not exist.
    NotFound = 6,
    /// The store cannot be reached, refuses to serve or is closed; or an address cannot be listened
    /// at.
    Unavailable = 7,
    /// The store did not answer before the deadline.
    Timeout = 8,
    /// The store holds something that this library did not write, or its file cannot be used.
    Store = 9,
    /// A defect in this library, which the error and the log describe. The function stopped there.
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

/// Returns the name of a status, for example "BACKEND_STATUS_TIMEOUT", or "unknown status" for any
/// other number. The text is static: never free it.
#[unsafe(no_mangle)]
pub extern "C" fn backend_status_name(status: i32) -> *const c_char {
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
