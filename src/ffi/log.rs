//! Logging: to a callback, or to a queue that the program reads.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use log::{Level, LevelFilter};

use super::backend::timeout;
use super::guard::{guard_status, guard_void};
use super::options::choose;
use super::status::BackendStatus;
use super::string::to_c_string;
use super::user_data::UserData;
use crate::process::logging::{self, LogRecord, Output};

/// How important a log record is.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendLogLevel {
    /// Something is lost, or will be lost unless the operator acts.
    Error = 1,
    /// Something is unusual.
    Warning = 2,
    /// Threads start, a store is back.
    Info = 3,
    /// Details for finding a defect.
    Debug = 4,
}

/// Receives a log record: its BackendLogLevel, its text (UTF-8, valid during the call), and the
/// `user_data` that was registered with it. Any thread may call it, also several at once, and it
/// may call this library. It must not unwind or jump out.
pub type BackendLogCallback =
    Option<unsafe extern "C" fn(level: i32, message: *const c_char, user_data: *mut c_void)>;

/// Sends the log records of all backends up to `max_level` (a BackendLogLevel) to `callback` from
/// now on. NULL stops logging. A call that another thread has begun may still reach the former
/// callback.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: there is no such level.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_log_callback(
    callback: BackendLogCallback,
    user_data: *mut c_void,
    max_level: i32,
) -> BackendStatus {
    let user_data = UserData::new(user_data);
    direct(max_level, || {
        callback.map_or(Output::Nowhere, |callback| {
            Output::Callback(Arc::new(move |record: &LogRecord| {
                let message = to_c_string(record.message.clone());
                // SAFETY: the program registered this function for such calls.
                unsafe { callback(level_number(record.level), message.as_ptr(), user_data.get()) }
            }))
        })
    })
}

/// Keeps the log records of all backends up to `max_level` (a BackendLogLevel) in a queue from now
/// on, from which `backend_log_next` takes them. The queue holds 1,000 records; when it is full,
/// further records are dropped and counted.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: there is no such level.
#[unsafe(no_mangle)]
pub extern "C" fn backend_log_queue(max_level: i32) -> BackendStatus {
    direct(max_level, || Output::Queue)
}

/// Takes the next record from the queue, for which it waits for at most `timeout_seconds` (0 to
/// 1000000). It writes the level to `*level`, the time at which the record was made (seconds since
/// 1970) to `*time` unless `time` is NULL, and the text to `*message`; free the text with
/// `backend_string_free`. The text is one line: control characters are escaped.
///
/// BACKEND_STATUS_NOT_FOUND: the queue is still empty, or records go to a callback by now.
/// BACKEND_STATUS_INVALID_ARGUMENT: the timeout is out of range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_log_next(
    timeout_seconds: f64,
    level: *mut i32,
    time: *mut f64,
    message: *mut *mut c_char,
) -> BackendStatus {
    guard_status(|| {
        if level.is_null() || message.is_null() {
            return BackendStatus::NullPointer;
        }
        let timeout = match timeout(timeout_seconds) {
            Ok(timeout) => timeout,
            Err(failure) => return failure.status,
        };
        let Some(record) = logging::next_record(timeout) else { return BackendStatus::NotFound };
        // SAFETY: not NULL, and the program's promises.
        unsafe {
            level.write(level_number(record.level));
            if !time.is_null() {
                time.write(record.time);
            }
            message.write(to_c_string(record.message).into_raw());
        }
        BackendStatus::Ok
    })
}

/// Returns the address of a byte that is 1 while records wait in the queue and no thread has claimed
/// them, and 0 otherwise. The address is never NULL and stays valid as long as the process.
///
/// With it a program needs no thread for its log. It reads the byte, with a relaxed atomic load,
/// after each of its calls of this library. If the byte is 1, the program calls `backend_log_claim`,
/// takes that many records with `backend_log_next`, logs them, and calls `backend_log_release`.
#[unsafe(no_mangle)]
pub extern "C" fn backend_log_waiting() -> *const u8 {
    logging::waiting().as_ptr()
}

/// Claims the waiting records for the calling thread and returns their number. End the claim with
/// `backend_log_release`.
///
/// Returns 0, without a claim, if no record waits or a claim is held: by another thread, or by an
/// outer call of this one, when a log handler of the program calls this library. A forked child
/// begins without a claim.
#[unsafe(no_mangle)]
pub extern "C" fn backend_log_claim() -> usize {
    std::panic::catch_unwind(logging::claim).unwrap_or(0)
}

/// Ends a claim of `backend_log_claim`.
#[unsafe(no_mangle)]
pub extern "C" fn backend_log_release() {
    guard_void(logging::release);
}

/// Directs log records to the output that `output` makes, unless there is no such level.
fn direct(max_level: i32, output: impl FnOnce() -> Output) -> BackendStatus {
    let levels = [
        (BackendLogLevel::Error as i32, LevelFilter::Error),
        (BackendLogLevel::Warning as i32, LevelFilter::Warn),
        (BackendLogLevel::Info as i32, LevelFilter::Info),
        (BackendLogLevel::Debug as i32, LevelFilter::Debug),
    ];
    guard_status(|| match choose(max_level, "max_level", "BackendLogLevel", &levels) {
        Ok(level) => {
            logging::direct(output(), level);
            BackendStatus::Ok
        }
        Err(failure) => failure.status,
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
