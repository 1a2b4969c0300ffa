//! `MetricsServer`: the HTTP exporter.

use std::ffi::{CString, c_char};
use std::mem::offset_of;
use std::ptr;
use std::time::Duration;

use super::error::{BackendError, Failure};
use super::options;
use super::status::{BackendStatus, guard, guard_void};
use super::text::{self, to_c_string};
use crate::backend::Backend;
use crate::exporter::{Exporter, ExporterOptions};

/// How `metrics_serve` serves. Set it to zeros and `size` to `sizeof(MetricsServeOptions)` first: later
/// versions may add fields behind the last.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MetricsServeOptions {
    /// `sizeof(MetricsServeOptions)` of the header that the program was compiled with.
    pub size: usize,
    /// The IPv4 or IPv6 address to listen at, as in "::1"; "0.0.0.0" for all that are IPv4, "::" for all. NULL:
    /// "127.0.0.1", which is reached from this machine only.
    pub address: *const c_char,
    /// Stands in front of the name of each family, with an underscore; NULL for none.
    pub name_prefix: *const c_char,
    /// The most connections at a time; 0: 64. Others wait until one ends; meanwhile none is kept open for a
    /// next request.
    pub max_connections: usize,
    /// Seconds that a client may take to send the headers of a request, from when it has connected or its last
    /// answer was sent, and so also how long an idle connection is kept open; 0: 30.
    pub read_timeout: f64,
    /// Seconds that a client may take to read an answer; 0: 30.
    pub write_timeout: f64,
    /// The port to listen at; 0: a free one, which `metrics_server_port` tells.
    pub port: u16,
}

/// An HTTP server that shows the metrics of a backend. Made by `metrics_serve`; free it with
/// `metrics_server_free`.
#[derive(Debug)]
pub struct MetricsServer {
    exporter: Exporter,
    address: CString,
}

/// Serves the metrics of `backend` by HTTP from now on, by threads of its own, and writes a handle to `*server`;
/// free it with `metrics_server_free`. `options` may be NULL: a free port of 127.0.0.1.
///
/// It answers GET and HEAD of `/metrics` with what `metrics_render` shows of all families, in the format that the
/// client asks for, gzipped if it asks for that; of `/` with a page for people; and of `/-/healthy` with 200,
/// whatever the store does. A store that cannot be read is 503, with the reason as text; so is a backend that was closed or freed. The server ends with the
/// process; a forked child has none, and may start one of its own.
///
/// BACKEND_STATUS_INVALID_ARGUMENT: the address, a limit or the size is not acceptable.
/// BACKEND_STATUS_UNAVAILABLE: the address cannot be listened at; the error says why.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_serve(
    backend: *const Backend,
    options: *const MetricsServeOptions,
    server: *mut *mut MetricsServer,
    error: *mut *mut BackendError,
) -> BackendStatus {
    let body = || {
        // SAFETY: the caller's promise.
        let backend = unsafe { backend.as_ref() }.ok_or_else(|| Failure::null("backend"))?;
        if server.is_null() {
            return Err(Failure::null("server"));
        }
        // SAFETY: the caller's promise, for the options' pointers too.
        let options = unsafe { exporter_options(options) }?;
        let started = Box::new(MetricsServer::from(Exporter::start(backend, options)?));
        // SAFETY: not NULL, and the caller's promise.
        unsafe { server.write(Box::into_raw(started)) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

/// The port at which the server listens; 0 if `server` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_server_port(server: *const MetricsServer) -> u16 {
    // SAFETY: NULL, or a server of ours.
    unsafe { server.as_ref() }.map_or(0, |server| server.exporter.port())
}

/// The address and port at which the server listens, as in `127.0.0.1:9464` or `[::1]:9464`. It lives as long as
/// `server`. NULL if `server` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_server_address(server: *const MetricsServer) -> *const c_char {
    // SAFETY: NULL, or a server of ours.
    unsafe { server.as_ref() }.map_or(ptr::null(), |server| server.address.as_ptr())
}

/// Closes the port, gives requests in flight a second to be answered, and frees the handle. It takes two seconds
/// at most. In a forked child the parent's server is not touched. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_server_free(server: *mut MetricsServer) {
    if !server.is_null() {
        // SAFETY: made by Box::into_raw in `metrics_serve`, and freed once by its owner.
        guard_void(|| drop(unsafe { Box::from_raw(server) }));
    }
}

/// The size of the options in the first version of this interface. A program that was compiled with it has no more
/// than that.
const FIRST_SIZE: usize = offset_of!(MetricsServeOptions, port) + size_of::<u16>();

impl From<Exporter> for MetricsServer {
    fn from(exporter: Exporter) -> Self {
        let address = to_c_string(exporter.address().to_string());
        Self { exporter, address }
    }
}

unsafe fn exporter_options(options: *const MetricsServeOptions) -> Result<ExporterOptions, Failure> {
    let default = ExporterOptions::default();
    if options.is_null() {
        return Ok(default);
    }
    // SAFETY (all three): the caller's promise.
    let options = unsafe { options::read(options, FIRST_SIZE, "options", "MetricsServeOptions") }?;
    let address = match options.address.is_null() {
        true => default.address,
        false => unsafe { text::borrow(options.address, "options->address") }?.to_owned(),
    };
    let name_prefix = match options.name_prefix.is_null() {
        true => None,
        false => Some(unsafe { text::borrow(options.name_prefix, "options->name_prefix") }?.to_owned()),
    };
    let max_connections = match options.max_connections {
        0 => default.max_connections,
        count => count,
    };
    Ok(ExporterOptions {
        address,
        port: options.port,
        name_prefix,
        max_connections,
        read_timeout: timeout("read_timeout", options.read_timeout, default.read_timeout)?,
        write_timeout: timeout("write_timeout", options.write_timeout, default.write_timeout)?,
    })
}

fn timeout(name: &str, seconds: f64, default: Duration) -> Result<Duration, Failure> {
    if seconds == 0.0 {
        return Ok(default);
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        Failure::invalid(format!("options->{name} is {seconds}: expected seconds, or 0 for {default:?}"))
    })
}
