//! `Backend`: an open store and the metric families declared in it.

use std::ffi::c_char;
use std::time::Duration;

use super::error::BackendError;
use super::failure::Failure;
use super::guard::{guard, guard_new, guard_void};
use super::library::log_panics;
use super::pointer::{borrow, take};
use super::status::BackendStatus;
use super::string::{optional_string, string};
use crate::backend::Backend;

/// Opens the store that `url` names and writes a handle to `*backend`; free it with `backend_free`.
///
/// The URL is one of these, and its query sets options (`?option=value&option=value`). The default
/// of an option stands in parentheses.
///
/// `memory:`: the values are in this process only.
///
/// - `cell` (atomic): accepted for programs written for 0.0.9; both values mean atomic operations
///
/// `shm:///path/of/a/file`: a file that all processes of a service on this machine map. `shm:`
/// without a path: a file that the processes which descend from one program by fork, or by
/// Python's multiprocessing, find by themselves.
///
/// - `size_limit` (67108864): how large a new file may grow
/// - `start` (continue): continue with what the file holds, reset it to an empty one, or attach to
///   a file that others have made and only read it
/// - `mode` (0600): the permissions of a new file, in octal
/// - `parent`: without a path: an ancestor of this process that belongs to the same service, though
///   it has started this process by exec
/// - `required`: with start=attach: whether a file that cannot be read is an error when the store
///   is opened (true), or an error of each scrape until the file is there (false)
///
/// `redis://[user[:password]@]host[:port][/db]` or `redis+unix:///path/of/a/socket`: a Redis or
/// Valkey server. `rediss://` is the same as `redis://`, by TLS.
///
/// `redis-sentinel://[user[:password]@]host[:port],host[:port]/master[/db]`: the server that is the
/// master of that name, as one of these Sentinels says. `rediss-sentinel://`: by TLS.
///
/// `redis-cluster://[user[:password]@]host[:port],host[:port]`: a cluster, some of whose nodes these
/// are. `rediss-cluster://`: by TLS.
///
/// - `db` (0): the number of the logical database, unless the path of the URL gives it
/// - `username`: the user to log in as, unless the URL gives it before the host
/// - `password`: the password to log in with, unless the URL gives it before the host
/// - `sentinel_username`: with redis-sentinel://: the user to log in as at the Sentinels
/// - `sentinel_password`: with redis-sentinel://: the password to log in with at the Sentinels
/// - `sentinel_ssl`: with redis-sentinel://: whether the Sentinels speak TLS, unless they do if the
///   servers do
/// - `client_name`: the name of the connections in CLIENT LIST, instead of program:host:pid
/// - `key_prefix`: text that precedes the name of each key, followed by a dash
/// - `expire_key_time` (3600): how many seconds after its last write or scrape a key expires, or
///   never (or 0) to keep all keys
/// - `flush_interval_ms` (5): how many milliseconds changes are gathered before they are sent, while
///   there are few
/// - `max_flush_interval_ms` (250): how many milliseconds changes are gathered at most, by a process
///   that always has some to send; no effect below flush_interval_ms
/// - `connect_timeout` or `socket_connect_timeout` (5): how many seconds connecting may take,
///   from the look-up of the host to the login
/// - `socket_timeout` (5): how many seconds the server may take to answer
/// - `collect_timeout` (10): how many seconds a scrape may take altogether
/// - `shutdown_timeout` (2): how many seconds the end of the process may take to send what is
///   pending
/// - `pipeline_threads` (4): how many threads serve scrapes, each with a connection while it reads
/// - `replicas` (auto): how many replicas must have a batch before the process forgets it, or auto
///   for as many as the server has; 0 for none
/// - `read_from_replicas` (false): whether scrapes read values from a replica, if one has all that
///   the master has
/// - `replay_log_mb` (16): how many megabytes of memory may hold batches that the server has
///   confirmed and could still lose; 0 for none
/// - `required` (true): whether a server that cannot be reached is an error when the store is
///   opened (true), or is connected to as soon as it can be (false)
/// - `read_only` (false): for a program that only reads: do not check that the server takes
///   what counting needs
/// - `ssl_ca_certs`: with rediss://: a file of PEM certificates to trust instead of those of the
///   system
/// - `ssl_ca_data`: with rediss://: PEM certificates to trust instead of those of the system, as
///   text
/// - `ssl_pinned_certfile`: with rediss://: a file of PEM certificates, one of which the server must
///   show; neither its issuer nor its dates are verified
/// - `ssl_certfile`: with rediss://: the PEM certificate to show to the server
/// - `ssl_keyfile`: with rediss://: the PEM private key of that certificate, unless it is in the
///   same file
/// - `ssl_cert_reqs` (required): with rediss://: whether the certificate of the server is verified
/// - `ssl_check_hostname` (true): with rediss://: whether the certificate must be for the name of
///   the host
/// - `tls_server_name`: with rediss://: the name that the certificate must have, instead of that
///   of the host
/// - `socket_keepalive` (false): whether TCP keep-alive is on
///
/// Every store:
///
/// - `self_metrics` (false): show the statistics of the backend as metrics of the backend, too
/// - `series_ttl`: end a series when no process has used it for so many seconds, unless its family
///   says otherwise
///
/// BACKEND_STATUS_CONFIGURATION: the URL or an option is not acceptable.
/// BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT: the server cannot be reached.
/// BACKEND_STATUS_STORE: the file cannot be used; the error names the file and the reason.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_new(
    url: *const c_char,
    backend: *mut *mut Backend,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let open = || {
        log_panics();
        // SAFETY: the program's promises.
        Ok(Backend::open(unsafe { string(url, "url") }?)?)
    };
    // SAFETY: the program's promises.
    unsafe { guard_new(backend, "backend", error, open) }
}

/// Sends what is pending, for at most the store's `shutdown_timeout` seconds, and ends the store's
/// threads. Handles of families and metrics stay valid, but operations on them are discarded from
/// then on. Closing a second time does nothing.
///
/// BACKEND_STATUS_UNAVAILABLE: not everything could be sent; the error says how much is lost.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_close(
    backend: *const Backend,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { guard(error, || Ok(borrow(backend, "backend")?.close()?)) }
}

/// Sends what is pending and waits until the store has it, for at most `timeout_seconds` (0 to
/// 1000000). Stores in memory have nothing pending. A failure loses nothing: the changes are sent
/// later.
///
/// BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT: the store does not have everything yet.
/// BACKEND_STATUS_STORE: the store refuses a key; the error names the key.
/// BACKEND_STATUS_INVALID_ARGUMENT: the timeout is out of range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_flush(
    backend: *const Backend,
    timeout_seconds: f64,
    error: *mut *mut BackendError,
) -> BackendStatus {
    // SAFETY: the program's promises.
    unsafe { guard(error, || Ok(borrow(backend, "backend")?.flush(timeout(timeout_seconds)?)?)) }
}

/// Shows what the system says about the processes that call this: `process_cpu_seconds_total`, a
/// counter of all of them, those that have ended included; and of each living one
/// `process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_open_fds`,
/// `process_max_fds` and `process_start_time_seconds`, in shared memory with the label `pid`. A
/// Redis server shows the counter alone. `prefix`, unless it is NULL or empty, begins the names:
/// `shop_process_open_fds`.
///
/// A scrape, flush or close of this process updates its own figures. Each further call does so too,
/// whatever its `prefix`: in a process that is not scraped, call it now and then. A forked child
/// appears with its first call or scrape.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: the prefix is no beginning of a metric name.
/// BACKEND_STATUS_CONFLICT: one of the names is declared with another definition.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_process_metrics(
    backend: *const Backend,
    prefix: *const c_char,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let show = || {
        // SAFETY: the program's promises.
        let (backend, prefix) =
            unsafe { (borrow(backend, "backend")?, optional_string(prefix, "prefix")?.unwrap_or_default()) };
        Ok(backend.process_metrics(prefix)?)
    };
    // SAFETY: the program's promises.
    unsafe { guard(error, show) }
}

/// Closes the backend as `backend_close` does, unless it is closed already, and frees the handle.
/// Changes that could not be sent are reported to the log. Handles of families and metrics stay
/// valid until they are freed themselves. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_free(backend: *mut Backend) {
    guard_void(|| {
        // SAFETY: the program's promises.
        let Some(backend) = (unsafe { take(backend) }) else { return };
        if let Err(error) = backend.close() {
            log::error!("{error}");
        }
    });
}

/// Converts a `timeout_seconds` argument.
pub(super) fn timeout(seconds: f64) -> Result<Duration, Failure> {
    if (0.0..=1e6).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(Failure::invalid(format!("timeout_seconds is {seconds}: expected 0 to 1000000")))
}
