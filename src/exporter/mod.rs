//! The HTTP exporter: serves the metrics of a backend to scrapers.
//!
//! [`Exporter`] is the handle. It owns two [`threads`]. One talks to clients ([`server`], with
//! [`connection`], [`crowd`] and the pages of [`site`]). The other reads the store and renders ([`scrape`]),
//! so a slow store delays only `/metrics`. In a forked child the exporter does not run, and the child closes
//! the sockets that it has inherited ([`descriptors`]).

mod connection;
mod crowd;
mod descriptors;
mod guard;
mod listener;
mod options;
mod scrape;
mod server;
mod site;
mod threads;
mod tls;

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;

pub use self::guard::Guard;
pub use self::listener::Listener;
pub use self::options::ExporterOptions;
use self::server::Place;
use self::threads::Threads;
pub use self::tls::{ClientCertificates, ExporterTls, TlsVersions};
use crate::backend::Backend;
use crate::model::error::Result;

/// Serves the metrics of a backend over HTTP at `/metrics` (GET and HEAD). There is a landing page at `/`.
/// `/-/healthy` reports that the exporter runs, whatever the state of the store. If the store cannot be read,
/// `/metrics` and `/-/ready` respond with status 503 and the reason.
///
/// It stops when it is dropped, when all backends are closed at once, and when the process ends. In a forked
/// child it does not serve, and its handle does nothing. A child may start its own exporter.
///
/// ```
/// use std::io::{Read, Write};
/// use pytheus_backend_rs::{Backend, Exporter, ExporterOptions};
///
/// let exporter = Exporter::start(&Backend::open("memory:")?, ExporterOptions::default())?;
/// let mut client = std::net::TcpStream::connect(exporter.address())?;
/// client.write_all(b"GET /-/healthy HTTP/1.0\r\n\r\n")?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Exporter {
    threads: Arc<Threads>,
    address: SocketAddr,
}

impl Exporter {
    /// Starts to listen and serve.
    ///
    /// Returns [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for an invalid address or a
    /// limit that is out of range. Returns [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if it
    /// cannot listen at the address, for example because the address is in use or does not belong to this
    /// machine.
    pub fn start(backend: &Backend, options: ExporterOptions) -> Result<Self> {
        Self::start_at(backend, Place::Address(options.check()?), options)
    }

    /// Starts to serve on a socket that listens already, of TCP or of Unix, such as one that systemd has opened. The
    /// address and the port of the options have no effect.
    ///
    /// Returns the errors of [`Exporter::start`].
    pub fn start_on(
        backend: &Backend,
        listener: impl Into<Listener>,
        options: ExporterOptions,
    ) -> Result<Self> {
        options.check()?;
        Self::start_at(backend, Place::Listener(listener.into()), options)
    }

    fn start_at(backend: &Backend, place: Place, options: ExporterOptions) -> Result<Self> {
        let (threads, address) = Threads::start(backend.clone(), place, options)?;
        match address.port() {
            0 => log::info!("serving metrics on a Unix socket"),
            _ => log::info!("serving metrics on http://{address}/metrics"),
        }
        Ok(Self { threads, address })
    }

    /// Returns the address at which it listens. If it listens at a Unix socket, that is `0.0.0.0:0`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the port at which it listens, or 0 if it listens at a Unix socket.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Closes the port, allows a second for requests in flight, and ends the threads. A thread that still
    /// waits for the store after two seconds is detached and ends by itself. A second call does nothing.
    pub fn stop(&self) {
        self.threads.stop();
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if self.threads.are_here() {
            self.threads.stop();
        } else {
            // In a forked child, this keeps the reference count above zero, so the state of the parent's
            // threads is never dropped.
            mem::forget(Arc::clone(&self.threads));
        }
    }
}
