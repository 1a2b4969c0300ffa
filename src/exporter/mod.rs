//! The HTTP exporter: serves the metrics of a backend to whoever scrapes.
//!
//! [`Exporter`] is the handle. Behind it are two threads, which never call the program but to log: one that
//! talks to clients ([`server`], with [`connection`] and the pages of [`site`]), and one that reads and
//! renders ([`scrape`]), so that a slow store keeps nobody else waiting. In a forked child there is no exporter, and all
//! that the parent's has open is closed ([`descriptors`]).

mod connection;
mod descriptors;
mod scrape;
mod server;
mod site;

pub(crate) use self::descriptors::{ForkGuard, lock_for_fork};

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, unbounded};
use tokio::sync::Notify;

use self::server::HttpServer;
use self::site::Site;
use crate::backend::Backend;
use crate::model::error::{Error, ErrorKind, Result};
use crate::process::fork;
use crate::process::thread::Thread;

/// How long requests in flight have to be answered when the exporter stops.
const GRACE: Duration = Duration::from_secs(1);
/// How long stopping may take in all. A thread that waits for a store longer than that ends by itself.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How an [`Exporter`] serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExporterOptions {
    /// The IPv4 or IPv6 address to listen at, as in `127.0.0.1` (the default), `::1`, `0.0.0.0` (all that are
    /// IPv4) or `::` (all); or `localhost`, which is `127.0.0.1`.
    pub address: String,
    /// The port to listen at; 0 (the default) for a free one: see [`Exporter::port`].
    pub port: u16,
    /// Stands in front of the name of each family, with an underscore.
    pub name_prefix: Option<String>,
    /// The most connections at a time, 64 by default. Others wait until one ends; meanwhile none is kept open
    /// for a next request.
    pub max_connections: usize,
    /// How long a client may take to send the headers of a request, from when it has connected or its last answer
    /// was sent: 30 s by default. So it is also how long an idle connection is kept open.
    pub read_timeout: Duration,
    /// How long a client may take to read an answer: 30 s by default.
    pub write_timeout: Duration,
}

impl Default for ExporterOptions {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.to_string(),
            port: 0,
            name_prefix: None,
            max_connections: 64,
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
        }
    }
}

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
    server: Arc<Server>,
    address: SocketAddr,
    /// The process that started it: see [`fork::generation`].
    generation: u64,
}

impl Exporter {
    /// Listens, and serves from now on.
    ///
    /// [`ErrorKind::InvalidArgument`] for an address or a limit that cannot be;
    /// [`ErrorKind::Unavailable`] if the address cannot be listened at: it is in use, or not this machine's.
    pub fn start(backend: &Backend, options: ExporterOptions) -> Result<Self> {
        let address = options.check()?;
        let server = Arc::new(Server::default());
        server.register();
        let address = server.run(backend.clone(), address, options)?;
        log::info!("serving metrics on http://{address}/metrics");
        Ok(Self { server, address, generation: fork::generation() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port at which it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Closes the port, gives requests in flight a second to be answered, and ends the threads. One that still
    /// waits for the store after two seconds is left to end by itself. Stopping twice does nothing.
    pub fn stop(&self) {
        if self.is_here() {
            self.server.stop();
        }
    }

    /// Whether this process started it: a forked child must not touch what another thread may have been changing.
    fn is_here(&self) -> bool {
        self.generation == fork::generation()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if self.is_here() {
            self.server.stop();
        } else {
            // Never dropped, then.
            mem::forget(Arc::clone(&self.server));
        }
    }
}

impl ExporterOptions {
    fn check(&self) -> Result<SocketAddr> {
        let invalid = |message| Err(Error::new(ErrorKind::InvalidArgument, message));
        if self.max_connections == 0 {
            return invalid("max_connections is 0: expected at least 1".to_owned());
        }
        for (name, value) in [("read_timeout", self.read_timeout), ("write_timeout", self.write_timeout)] {
            if value.is_zero() || value > MAX_TIMEOUT {
                return invalid(format!(
                    "{name} is {value:?}: expected more than 0 and at most {MAX_TIMEOUT:?}"
                ));
            }
        }
        let literal = self.address.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        match literal.unwrap_or(&self.address) {
            "localhost" => Ok((Ipv4Addr::LOCALHOST, self.port).into()),
            text => match text.parse::<IpAddr>() {
                Ok(address) => Ok((address, self.port).into()),
                Err(_) => invalid(format!(
                    "the address to serve at is {:?}: expected an IPv4 or IPv6 address, as in 127.0.0.1 or ::1",
                    self.address
                )),
            },
        }
    }
}

/// Ten days: more than any client takes, and a time that every clock can hold.
const MAX_TIMEOUT: Duration = Duration::from_secs(10 * 86_400);

/// The threads of an exporter, and how to stop them.
#[derive(Debug, Default)]
pub(crate) struct Server {
    stop: Notify,
    threads: Mutex<Vec<Running>>,
}

#[derive(Debug)]
struct Running {
    thread: Thread,
    /// Disconnected when the body has returned.
    end: Receiver<()>,
}

impl Server {
    /// From now on, until it is dropped, the end of the process stops it.
    fn register(self: &Arc<Self>) {
        let mut open = descriptors::lock();
        open.servers.retain(|known| known.strong_count() > 0);
        open.servers.push(Arc::downgrade(self));
    }

    /// Starts the threads; gives where the exporter listens.
    fn run(
        self: &Arc<Self>,
        backend: Backend,
        address: SocketAddr,
        options: ExporterOptions,
    ) -> Result<SocketAddr> {
        let refused = |error: io::Error| {
            let message = format!("cannot serve metrics on {address}: {error}");
            Error::new(ErrorKind::Unavailable, message)
        };
        let (requests, waiting) = unbounded();
        let (opened, address_or_error) = bounded(1);
        let (server, name_prefix) = (Arc::clone(self), options.name_prefix.clone());
        let talk = move || match HttpServer::open(address).and_then(|http| Ok((http.address()?, http))) {
            Ok((address, http)) => {
                let _ = opened.send(Ok(address));
                http.serve(Site::new(requests), &options, &server.stop);
            }
            Err(error) => {
                let _ = opened.send(Err(error));
            }
        };
        let scrape = move || scrape::answer_requests(backend, name_prefix, &waiting);
        self.start("exporter-scrape", scrape).and_then(|()| self.start("exporter", talk)).map_err(refused)?;
        match address_or_error.recv() {
            Ok(Ok(address)) => Ok(address),
            Ok(Err(error)) => {
                self.stop();
                Err(refused(error))
            }
            Err(_) => Err(refused(io::Error::other("its thread ended"))),
        }
    }

    fn start(&self, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let (running, end) = bounded::<()>(0);
        let thread = Thread::spawn(name, move || {
            let _running = running;
            body();
        })?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(Running { thread, end });
        Ok(())
    }

    /// Has it stop, without waiting for it.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.notify_one();
    }

    /// Stops it, and waits until it has, or until the time for that is over.
    pub(crate) fn stop(&self) {
        self.stop_by(Instant::now() + STOP_TIMEOUT);
    }

    /// As [`Server::stop`], with this deadline.
    pub(crate) fn stop_by(&self, deadline: Instant) {
        self.ask_to_stop();
        for Running { thread, end } in
            self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..).rev()
        {
            if end.recv_deadline(deadline) == Err(RecvTimeoutError::Disconnected) {
                thread.join();
            }
        }
    }
}

/// The exporters of this process that are in use.
pub(crate) fn servers() -> Vec<Arc<Server>> {
    descriptors::lock().servers.iter().filter_map(Weak::upgrade).collect()
}
