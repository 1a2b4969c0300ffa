//! The HTTP exporter: serves the metrics of a backend to scrapers.
//!
//! [`Exporter`] is the handle. Behind it are two [`threads`], which call the program only to log: one talks to
//! clients ([`server`], with [`connection`], [`crowd`] and the pages of [`site`]), and one reads and renders ([`scrape`]), so
//! that a slow store delays no other page. A forked child has no exporter, and closes the sockets that it has
//! inherited ([`descriptors`]).

mod connection;
mod crowd;
mod descriptors;
mod options;
mod scrape;
mod server;
mod site;
mod threads;

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;

pub use self::options::ExporterOptions;
use self::threads::Threads;
use crate::backend::Backend;
use crate::model::error::Result;

/// Serves the metrics of a backend by HTTP: `/metrics` (GET, HEAD), a landing page at `/`, and `/-/healthy`,
/// which says that the exporter runs and nothing of the store. A store that cannot be read is 503, with the reason.
///
/// It stops when it is dropped, when all backends are closed at once, and when the process ends. In a forked
/// child it does not serve, and its handle does nothing; a child may start one of its own.
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
    /// Listens, and serves from now on.
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for an address or a limit that is out of
    /// range; [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if it cannot listen at the address, because
    /// the address is in use or does not belong to this machine.
    pub fn start(backend: &Backend, options: ExporterOptions) -> Result<Self> {
        let address = options.check()?;
        let (threads, address) = Threads::start(backend.clone(), address, options)?;
        log::info!("serving metrics on http://{address}/metrics");
        Ok(Self { threads, address })
    }

    /// Returns the address at which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the port at which it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Closes the port, gives requests in flight a second to be answered, and ends the threads. A thread that still
    /// waits for the store after two seconds is left to end by itself. Stopping twice does nothing.
    pub fn stop(&self) {
        self.threads.stop();
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if self.threads.are_here() {
            self.threads.stop();
        } else {
            // In a forked child: keeps the count above zero, so that the parent's threads are never dropped.
            mem::forget(Arc::clone(&self.threads));
        }
    }
}
