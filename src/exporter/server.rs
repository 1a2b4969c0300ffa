//! The exporter's thread: accepts connections and lets hyper speak HTTP on them.
//!
//! One thread serves all connections, on a runtime of its own that starts no others. What a client may take of
//! it is bounded: header size, time to ask, time to take the answer, number of connections. A connection too
//! many waits to be accepted, and while there is no room for another one, none is kept open for a next request.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

use super::connection::Connection;
use super::descriptors::Guarded;
use super::options::ExporterOptions;
use super::site::Site;

/// How long requests in flight have to be answered when the exporter stops.
const GRACE: Duration = Duration::from_secs(1);
/// What the headers of a request may take, in bytes: no client that means it well comes near.
const HEADER_SIZE: usize = 16 * 1024;
/// How many headers a request may have.
const HEADER_COUNT: usize = 100;
/// What hyper reads ahead, of pipelined requests and of bodies, which nobody looks at.
const BUFFER_SIZE: usize = 4 * HEADER_SIZE;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// After a failure to accept, which is most often one to get a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An exporter that listens.
pub(super) struct HttpServer {
    // Fields drop in order: the listener before the runtime with which it is registered.
    listener: Guarded<TcpListener>,
    runtime: Runtime,
}

impl HttpServer {
    /// Listens at `address`.
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let listener = Guarded::open(|| listen(address))?;
        let entered = runtime.enter();
        let listener = listener.try_map(TcpListener::from_std)?;
        drop(entered);
        Ok(Self { listener, runtime })
    }

    /// Where it listens: with the port that the system chose, if it was asked to.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.get()?.local_addr()
    }

    /// Serves until `stop` is notified; requests in flight then have a moment to be answered.
    pub(super) fn serve(self, site: Site, options: &ExporterOptions, stop: &Notify) {
        self.runtime.block_on(serve(self.listener, site, options, stop));
    }
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A port may be used again while connections of its last user still wait to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What the connections of an exporter share.
struct Shared {
    site: Site,
    http: http1::Builder,
    /// There is no room for another connection.
    is_full: AtomicBool,
    is_stopping: AtomicBool,
    /// One of the two has become true.
    changed: Notify,
}

async fn serve(listener: Guarded<TcpListener>, site: Site, options: &ExporterOptions, stop: &Notify) {
    let shared = Arc::new(Shared {
        site,
        http: http(options),
        is_full: AtomicBool::new(false),
        is_stopping: AtomicBool::new(false),
        changed: Notify::new(),
    });
    let mut connections = JoinSet::new();
    let mut acceptor = Acceptor { listener, pause: None, is_failing: false };
    let mut stopped = pin!(stop.notified());
    while let Some(socket) = poll_fn(|context| {
        if stopped.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        while let Poll::Ready(Some(_)) = connections.poll_join_next(context) {}
        match shared.is_full(connections.len() >= options.max_connections) {
            true => Poll::Pending,
            false => acceptor.poll(context).map(Some),
        }
    })
    .await
    {
        let connection = Connection::new(socket, options.write_timeout);
        connections.spawn(converse(connection, Arc::clone(&shared)));
    }
    drop(acceptor);
    shared.stop();
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
}

fn http(options: &ExporterOptions) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // From when a connection is there, or its last answer was sent, to the end of the headers.
        .header_read_timeout(options.read_timeout)
        .max_header_size(HEADER_SIZE)
        .max_headers(HEADER_COUNT)
        .max_buf_size(BUFFER_SIZE)
        // A client that has said all it wants to say may still listen.
        .half_close(true);
    http
}

/// Speaks HTTP on a connection, for as long as it is kept open.
async fn converse(connection: Connection, shared: Arc<Shared>) {
    let has_answered = AtomicBool::new(false);
    let service = service_fn(|request| {
        let (shared, has_answered) = (&shared, &has_answered);
        async move {
            let mut reply = shared.site.answer(request).await;
            if shared.keeps_nothing_open() {
                reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            has_answered.store(true, Ordering::Relaxed);
            Ok::<_, Infallible>(reply)
        }
    });
    let mut conversation = pin!(shared.http.serve_connection(TokioIo::new(connection), service));
    let mut changed = pin!(shared.changed.notified());
    let ending = poll_fn(|context| {
        while changed.as_mut().poll(context).is_ready() {
            changed.set(shared.changed.notified());
            // One that has not asked yet is not sent away for others; hyper ends it in any case.
            if shared.is_stopping.load(Ordering::Relaxed) || has_answered.load(Ordering::Relaxed) {
                conversation.as_mut().graceful_shutdown();
            }
        }
        conversation.as_mut().poll(context)
    });
    // A client that breaks off, is too slow, or speaks no HTTP: nothing that we could do, or tell.
    let _ = ending.await;
}

// The flags are read and written by one thread; they are atomic only because tasks must be fit to move.
impl Shared {
    /// Notes whether there is room for another connection. If there is none, connections that only wait for a
    /// next request are closed.
    fn is_full(&self, is_full: bool) -> bool {
        if is_full && !self.is_full.load(Ordering::Relaxed) {
            self.changed.notify_waiters();
        }
        self.is_full.store(is_full, Ordering::Relaxed);
        is_full
    }

    fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    fn keeps_nothing_open(&self) -> bool {
        self.is_full.load(Ordering::Relaxed) || self.is_stopping.load(Ordering::Relaxed)
    }
}

/// Accepts connections, and pauses when it cannot: what is short then does not come by asking more often.
struct Acceptor {
    listener: Guarded<TcpListener>,
    pause: Option<Pin<Box<Sleep>>>,
    is_failing: bool,
}

impl Acceptor {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Guarded<TcpStream>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(self.accept(context)) {
                Ok(socket) => {
                    self.is_failing = false;
                    return Poll::Ready(socket);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if !self.is_failing {
                        log::warn!("the exporter cannot accept connections, and keeps trying: {error}");
                    }
                    self.is_failing = true;
                    self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }

    fn accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Guarded<TcpStream>>> {
        let accepted = Guarded::open(|| match self.listener.get()?.poll_accept(context) {
            Poll::Ready(result) => result.map(|(socket, _)| socket).map_err(Refusal::Failed),
            Poll::Pending => Err(Refusal::NobodyThere),
        });
        match accepted {
            Ok(socket) => {
                // An answer that is sent late because of this is still an answer.
                let _ = socket.get().map(|socket| socket.set_nodelay(true));
                Poll::Ready(Ok(socket))
            }
            Err(Refusal::Failed(error)) => Poll::Ready(Err(error)),
            Err(Refusal::NobodyThere) => Poll::Pending,
        }
    }
}

/// Why no connection was accepted.
enum Refusal {
    NobodyThere,
    Failed(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}
