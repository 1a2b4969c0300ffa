//! Logging: to a callback, or to a queue that the program reads.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use log::{Level, LevelFilter};

use super::backend::seconds;
use super::error::Failure;
use super::status::{BackendStatus, guard_status};
use super::text::to_c_string;
use super::user_data::UserData;
use crate::process::logging::{self, LogRecord, Output};

/// How important a log record is.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendLogLevel {
    /// Something is lost, or will be if nobody acts.
    Error = 1,
    /// Something is odd.
    Warning = 2,
    /// Threads that start, a store that is back.
    Info = 3,
    /// For those who look for a defect.
    Debug = 4,
}

/// Receives a log record: its BackendLogLevel, its text (UTF-8, valid during the call), and the
/// `user_data` that was registered with it. It may be called by any thread, also by several at once,
/// and may itself call this library. It must not unwind or jump out.
pub type BackendLogCallback =
    Option<unsafe extern "C" fn(level: i32, message: *const c_char, user_data: *mut c_void)>;

/// Sends log records up to `max_level` (a BackendLogLevel) of all backends to `callback` from now on;
/// NULL stops logging. A call that is under way in another thread may still use the former callback.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: no such level.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_log_callback(
    callback: BackendLogCallback,
    user_data: *mut c_void,
    max_level: i32,
) -> BackendStatus {
    guard_status(|| {
        let Some(level) = level_filter(max_level) else { return BackendStatus::InvalidArgument };
        let user_data = UserData::new(user_data);
        let output = callback.map_or(Output::Nowhere, |callback| {
            Output::Callback(Arc::new(move |record: &LogRecord| {
                let message = to_c_string(record.message.clone());
                // SAFETY: the program's promise: it registered this function for such calls.
                unsafe { callback(level_number(record.level), message.as_ptr(), user_data.get()) }
            }))
        });
        logging::direct(output, level);
        BackendStatus::Ok
    })
}

/// Keeps log records up to `max_level` (a BackendLogLevel) of all backends in a queue of at most 1,000
/// from now on, to be read by `backend_log_next`. When it is full, records are dropped and counted.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: no such level.
#[unsafe(no_mangle)]
pub extern "C" fn backend_log_queue(max_level: i32) -> BackendStatus {
    guard_status(|| {
        let Some(level) = level_filter(max_level) else { return BackendStatus::InvalidArgument };
        logging::direct(Output::Queue, level);
        BackendStatus::Ok
    })
}

/// Waits until the queue has a record, for at most `timeout_seconds`, and leaves it there.
///
/// BACKEND_STATUS_NOT_FOUND: it has none, or records go to a callback meanwhile.
/// BACKEND_STATUS_INVALID_ARGUMENT: the timeout is not from 0 to 1000000.
#[unsafe(no_mangle)]
pub extern "C" fn backend_log_wait(timeout_seconds: f64) -> BackendStatus {
    guard_status(|| match seconds(timeout_seconds) {
        Ok(timeout) if logging::wait_for_record(timeout) => BackendStatus::Ok,
        Ok(_) => BackendStatus::NotFound,
        Err(Failure { status, .. }) => status,
    })
}

/// Takes the next record from the queue, waiting for it for at most `timeout_seconds`, and writes its
/// level to `*level` and its text to `*message`; free that with `backend_string_free`.
///
/// BACKEND_STATUS_NOT_FOUND: there was none, or records go to a callback meanwhile.
/// BACKEND_STATUS_INVALID_ARGUMENT: the timeout is not from 0 to 1000000.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_log_next(
    timeout_seconds: f64,
    level: *mut i32,
    message: *mut *mut c_char,
) -> BackendStatus {
    guard_status(|| {
        if level.is_null() || message.is_null() {
            return BackendStatus::NullPointer;
        }
        let timeout = match seconds(timeout_seconds) {
            Ok(timeout) => timeout,
            Err(Failure { status, .. }) => return status,
        };
        logging::wait_for_record(timeout);
        let Some(record) = logging::next_record() else { return BackendStatus::NotFound };
        // SAFETY: not NULL, and the caller's promise.
        unsafe {
            level.write(level_number(record.level));
            message.write(to_c_string(record.message).into_raw());
        }
        BackendStatus::Ok
    })
}

fn level_filter(level: i32) -> Option<LevelFilter> {
    Some(match level {
        1 => LevelFilter::Error,
        2 => LevelFilter::Warn,
        3 => LevelFilter::Info,
        4 => LevelFilter::Debug,
        _ => return None,
    })
}

fn level_number(level: Level) -> i32 {
    let level = match level {
        Level::Error => BackendLogLevel::Error,
        Level::Warn => BackendLogLevel::Warning,
        Level::Info => BackendLogLevel::Info,
        Level::Debug | Level::Trace => BackendLogLevel::Debug,
    };
    level as i32
}
