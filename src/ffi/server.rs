//! `MetricsServer`: an HTTP server for scrapes.

use std::ffi::{CString, c_char};
use std::mem::offset_of;
use std::ptr;
use std::time::Duration;

use super::error::BackendError;
use super::failure::Failure;
use super::guard::{free, guard_new};
use super::options::{self, SizeFirst};
use super::pointer::borrow;
use super::render_options::MetricsCreatedSamples;
use super::status::BackendStatus;
use super::string::{optional_string, to_c_string};
use crate::backend::Backend;
use crate::exporter::{Exporter, ExporterOptions};

/// How `metrics_serve` serves. Set the struct to zeros and `size` to `sizeof(MetricsServeOptions)`
/// first: later versions may add fields behind the last.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MetricsServeOptions {
    /// `sizeof(MetricsServeOptions)` of the header that the program was compiled with.
    pub size: usize,
    /// The IPv4 or IPv6 address to listen at, for example "::1". "0.0.0.0" stands for all IPv4
    /// addresses of the machine and "::" for all addresses. NULL: "127.0.0.1", which only this
    /// machine can reach.
    pub address: *const c_char,
    /// The prefix of the name of each family, to which an underscore is added; NULL for none.
    pub name_prefix: *const c_char,
    /// The largest number of connections at a time; 0: 64. When another client comes, the connection
    /// is closed that has waited longest for its own client to ask or to read.
    pub max_connections: usize,
    /// How many seconds a client may take to send the headers of a request, counted from the
    /// connection or from the last answer; 0: 30. An idle connection is kept open for so long.
    pub read_timeout: f64,
    /// How many seconds a client may take to read an answer; 0: 30.
    pub write_timeout: f64,
    /// The port to listen at; 0: a free one, which `metrics_server_port` returns.
    pub port: u16,
    /// The host names by which clients may ask, without ports and separated by commas; other names
    /// get 421. NULL: every name. It keeps web pages from reading the metrics through a browser on
    /// this machine (DNS rebinding).
    pub allowed_hosts: *const c_char,
    /// A MetricsCreatedSamples.
    pub created_samples: i32,
}

// SAFETY: `repr(C)`, begins with its size, and zeros are NULL or 0.
unsafe impl SizeFirst for MetricsServeOptions {
    const NAME: &'static str = "MetricsServeOptions";
    const FIRST_SIZE: usize = offset_of!(Self, allowed_hosts) + size_of::<*const c_char>();
}

/// An HTTP server that shows the metrics of a backend. `metrics_serve` starts one; free it with
/// `metrics_server_free`.
#[derive(Debug)]
pub struct MetricsServer {
    exporter: Exporter,
    address: CString,
}

/// Starts an HTTP server that shows the metrics of `backend`, in threads of its own, and writes a
/// handle to `*server`; free it with `metrics_server_free`. `options` may be NULL: a free port of
/// 127.0.0.1.
///
/// The server answers GET and HEAD. `/metrics` has what `metrics_render` shows of all families, in
/// the format that the client asks for, compressed by gzip if the client accepts it; or 503 and the
/// reason if the store cannot be read or the backend was closed or freed. `/` has a page for
/// people. `/-/healthy` is 200 whatever the state of the store, and `/-/ready` is 200 if the store
/// can be read, and otherwise 503 and the reason.
///
/// The server ends with the process. A forked child does not have it, and may start its own.
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
    let start = || {
        // SAFETY: the program's promises.
        let (backend, options) =
            unsafe { (borrow(backend, "backend")?, options::read_or_zeros(options, "options")?) };
        // SAFETY: the program's promises.
        let exporter = Exporter::start(backend, unsafe { options.read() }?)?;
        Ok(MetricsServer { address: to_c_string(exporter.address().to_string()), exporter })
    };
    // SAFETY: the program's promises.
    unsafe { guard_new(server, "server", error, start) }
}

/// Returns the port at which the server listens, or 0 if `server` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_server_port(server: *const MetricsServer) -> u16 {
    // SAFETY: the program's promises.
    unsafe { server.as_ref() }.map_or(0, |server| server.exporter.port())
}

/// Returns the address and port at which the server listens, for example `127.0.0.1:9464` or
/// `[::1]:9464`. The text lives as long as `server`. Returns NULL if `server` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_server_address(server: *const MetricsServer) -> *const c_char {
    // SAFETY: the program's promises.
    unsafe { server.as_ref() }.map_or(ptr::null(), |server| server.address.as_ptr())
}

/// Closes the port, gives requests in flight one second to be answered, and frees the handle. It
/// takes two seconds at most. In a forked child it does not affect the server of the parent. NULL
/// does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn metrics_server_free(server: *mut MetricsServer) {
    // SAFETY: the program's promises.
    unsafe { free(server) }
}

impl MetricsServeOptions {
    /// Returns the options with defaults in place of NULL and 0.
    ///
    /// # Safety
    /// Each pointer is NULL or points to what its field says.
    unsafe fn read(&self) -> Result<ExporterOptions, Failure> {
        // SAFETY: the caller's promise.
        let (address, name_prefix, allowed_hosts) = unsafe {
            (
                optional_string(self.address, "options->address")?,
                optional_string(self.name_prefix, "options->name_prefix")?,
                optional_string(self.allowed_hosts, "options->allowed_hosts")?,
            )
        };
        let hosts = allowed_hosts.unwrap_or_default().split(',').map(str::trim);
        let default = ExporterOptions::default();
        Ok(ExporterOptions {
            address: address.map_or(default.address.clone(), str::to_owned),
            port: self.port,
            name_prefix: name_prefix.map(str::to_owned),
            max_connections: match self.max_connections {
                0 => default.max_connections,
                count => count,
            },
            read_timeout: timeout("read_timeout", self.read_timeout, default.read_timeout)?,
            write_timeout: timeout("write_timeout", self.write_timeout, default.write_timeout)?,
            allowed_hosts: hosts.filter(|host| !host.is_empty()).map(str::to_owned).collect(),
            created_samples: MetricsCreatedSamples::choose(self.created_samples)?,
            ..default
        })
    }
}

fn timeout(name: &str, seconds: f64, default: Duration) -> Result<Duration, Failure> {
    if seconds == 0.0 {
        return Ok(default);
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        Failure::invalid(format!("options->{name} is {seconds}: expected seconds, or 0 for {default:?}"))
    })
}
