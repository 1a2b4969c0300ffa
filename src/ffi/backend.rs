//! `Backend`: open, flush, free; and what concerns the library as a whole.

use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::{BackendError, Failure};
use super::status::{BackendStatus, guard, guard_void};
use super::text;
use super::user_data::UserData;
use crate::backend::Backend;

/// The version of this library, as in "0.1.0". Static: never free it.
#[unsafe(no_mangle)]
pub extern "C" fn backend_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// The number of the binary interface, which is also in the SONAME: compare it with
/// BACKEND_ABI_VERSION, which the program was compiled with.
#[unsafe(no_mangle)]
pub extern "C" fn backend_abi_version() -> u32 {
    // From build.rs, which has checked it.
    const VERSION: u32 = match u32::from_str_radix(env!("BACKEND_ABI_VERSION"), 10) {
        Ok(version) => version,
        Err(_) => 0,
    };
    VERSION
}

/// Opens the store that `url` names and writes a handle to `*backend`; free it with `backend_free`.
///
/// The URL is one of these, and its query sets options (`?option=value&option=value`). The default of an
/// option stands in parentheses.
///
/// `memory:`: the values are in this process only.
///
/// - `cell` (atomic): accepted for programs written for 0.0.9; both values mean atomic operations
///
/// `shm:///path/of/a/file`: a file that all processes of a service on this machine map.
///
/// - `size_limit` (67108864): how large a new file may grow
/// - `start` (continue): continue with what the file holds, reset it to an empty one, or attach to
///   a file that others have made and only read it
/// - `mode` (0600): the permissions of a new file, in octal
/// - `required`: with start=attach: whether a file that cannot be read is an error when the store
///   is opened (true), or an error of each scrape until the file is there (false)
///
/// `redis://[user[:password]@]host[:port][/db]` or `redis+unix:///path/of/a/socket`: a Redis or Valkey
/// server.
///
/// - `db` (0): the number of the logical database, unless the path of the URL gives it
/// - `username`: the user to log in as, unless the URL gives it before the host
/// - `password`: the password to log in with, unless the URL gives it before the host
/// - `client_name`: the name of the connections in CLIENT LIST
/// - `key_prefix`: text that precedes the name of each key, followed by a dash
/// - `expire_key_time` (3600): how many seconds after its last write or scrape a key expires
/// - `flush_interval_ms` (5): how many milliseconds changes are gathered before they are sent
/// - `connect_timeout` or `socket_connect_timeout` (5): how many seconds connecting may take,
///   including the login
/// - `socket_timeout` (5): how many seconds the server may take to answer
/// - `collect_timeout` (10): how many seconds a scrape may take altogether
/// - `shutdown_timeout` (2): how many seconds the end of the process may take to send what is
///   pending
/// - `pipeline_threads` (4): how many threads, each with a connection of its own, serve scrapes
/// - `required` (true): whether a server that cannot be reached is an error when the store is
///   opened (true), or is connected to as soon as it can be (false)
/// - `socket_keepalive` (false): whether TCP keep-alive is on
///
/// Every store:
///
/// - `self_metrics` (false): show the statistics of the backend as metrics of the backend, too
///
/// BACKEND_STATUS_CONFIGURATION: the URL or an option is not understood.
/// BACKEND_STATUS_UNAVAILABLE or BACKEND_STATUS_TIMEOUT: the server cannot be reached.
/// BACKEND_STATUS_STORE: the file cannot be used; the error names it and the reason.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_new(
    url: *const c_char,
    backend: *mut *mut Backend,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the caller's promise.
        let url = unsafe { text::borrow(url, "url") }?;
        if backend.is_null() {
            return Err(Failure::null("backend"));
        }
        log_panics();
        let opened = Box::new(Backend::open(url)?);
        // SAFETY: not NULL, and the caller's promise.
        unsafe { backend.write(Box::into_raw(opened)) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// Sends what is pending, for at most the store's `shutdown_timeout`, and ends the store's threads.
/// Families and metrics of this backend stay valid, but nothing of them is sent any more. Closing twice does
/// nothing.
///
/// BACKEND_STATUS_UNAVAILABLE: not all could be sent; the error says how much is lost.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_close(
    backend: *const Backend,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the caller's promise.
        let backend = unsafe { backend.as_ref() }.ok_or_else(|| Failure::null("backend"))?;
        Ok(backend.close()?)
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// Stops what `metrics_serve` has started, and closes all backends of this process at the same time, each as
/// `backend_close` does. What could not be sent is told to the log. A process that ends normally does this by itself; a runtime with an end of its
/// own (an interpreter) does it there.
#[unsafe(no_mangle)]
pub extern "C" fn backend_close_all() {
    guard_void(crate::process::exit::close_all);
}

/// Closes the backend as `backend_close` does, unless it is closed, and frees the handle. What could not
/// be sent is told to the log. Families and metrics stay valid until they are freed themselves. NULL does
/// nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_free(backend: *mut Backend) {
    if backend.is_null() {
        return;
    }
    guard_void(|| {
        // SAFETY: made by Box::into_raw in `backend_new`, and freed once by its owner.
        let backend = unsafe { Box::from_raw(backend) };
        if let Err(error) = backend.close() {
            log::error!("{error}");
        }
    });
}

/// Sends what is pending, and waits until the store has it, for at most `timeout_seconds`. Stores in
/// memory have nothing pending. After a failure nothing is lost: it is sent later.
///
/// BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT: the store does not have all of it.
/// BACKEND_STATUS_STORE: the store refuses a key; the error names it.
/// BACKEND_STATUS_INVALID_ARGUMENT: the timeout is not from 0 to 1000000.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_flush(
    backend: *const Backend,
    timeout_seconds: f64,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the caller's promise.
        let backend = unsafe { backend.as_ref() }.ok_or_else(|| Failure::null("backend"))?;
        Ok(backend.flush(seconds(timeout_seconds)?)?)
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// Receives the `user_data` that was registered with it. It must not unwind or jump out.
pub type BackendRestartCallback = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// Has `callback` called whenever a forked child starts a store's threads anew, which it does when it first
/// uses the store; NULL for nothing. The thread whose call started them calls it, before that call returns.
/// For bindings that need threads of their own then, as for log records.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_restart_callback(callback: BackendRestartCallback, user_data: *mut c_void) {
    guard_void(|| {
        let user_data = UserData::new(user_data);
        crate::process::fork::on_restart(callback.map(|callback| {
            let call: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
                // SAFETY: the program's promise: it registered this function for such calls.
                unsafe { callback(user_data.get()) }
            });
            call
        }));
    });
}

/// Panics within the library, and returns BACKEND_STATUS_PANIC: for a program that wants to see what
/// it would do with a defect. It has no other use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_panic(error: *mut *mut BackendError) -> BackendStatus {
    let body = || {
        log_panics();
        #[allow(clippy::panic)] // it is what this function is for
        std::panic::panic_any("backend_panic was called");
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// Frees a text that this library has allocated. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_string_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: made by CString::into_raw, and freed once by its owner.
        guard_void(|| drop(unsafe { CString::from_raw(text) }));
    }
}

/// A timeout of the caller.
pub(super) fn seconds(seconds: f64) -> Result<Duration, Failure> {
    if (0.0..=1e6).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(Failure::invalid(format!("timeout_seconds is {seconds}: expected 0 to 1000000")))
}

/// A panic is told to the log and not to the program's standard error, which is not ours.
fn log_panics() {
    static IS_SET: AtomicBool = AtomicBool::new(false);
    if !IS_SET.swap(true, Ordering::Relaxed) {
        std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    }
}
