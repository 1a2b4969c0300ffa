//! The exporter's thread: accepts connections and lets hyper speak HTTP on them.
//!
//! One thread serves all connections, on a tokio runtime that starts no other threads. The resources of
//! clients are limited: the size of the headers, the time to send a request, the time to read the answer, and
//! the number of connections ([`super::crowd`]).

use std::convert::Infallible;
use std::fmt::{self, Display, Formatter};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::Connection;
use super::crowd::{Answers, Crowd, Member};
use super::descriptors::Guarded;
use super::listener::{Acceptor, Listener, Stream};
use super::options::ExporterOptions;
use super::site::Site;
use super::tls::ExporterTls;
use crate::process::descriptor::Noted;

/// How long requests in flight have to be answered when the exporter stops.
const GRACE: Duration = Duration::from_secs(1);
/// The largest size of the headers of a request, in bytes. Prometheus sends a few hundred.
const HEADER_SIZE: usize = 16 * 1024;
/// The largest number of headers in a request.
const HEADER_COUNT: usize = 100;
/// The number of bytes that hyper reads ahead: pipelined requests, and bodies, which the exporter ignores.
const BUFFER_SIZE: usize = 4 * HEADER_SIZE;
/// The largest number of connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// How often the exporter looks for a connection to close while all are taken.
const FULL_PAUSE: Duration = Duration::from_millis(50);
/// The pause after a failure to accept. The usual cause is a lack of descriptors, and an immediate retry
/// would fail too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where an exporter listens.
#[derive(Debug)]
pub(super) enum Place {
    /// An address, at which it opens a socket.
    Address(SocketAddr),
    /// A socket that the program has opened, or has got from systemd.
    Listener(Listener),
}

impl Place {
    fn open(self) -> io::Result<Listener> {
        match self {
            Self::Address(address) => listen(address),
            Self::Listener(listener) => listener.set_nonblocking(),
        }
    }
}

impl Display for Place {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(formatter),
            Self::Listener(_) => formatter.write_str("the socket that it was given"),
        }
    }
}

/// A listening socket and the runtime that serves it.
pub(super) struct HttpServer {
    // Fields drop in order: the listener before the runtime with which it is registered.
    listener: Guarded<Acceptor>,
    runtime: Runtime,
}

impl HttpServer {
    /// Starts to listen.
    pub(super) fn open(place: Place) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let listener = Guarded::open(|| place.open())?;
        let entered = runtime.enter();
        let listener = listener.try_map(Acceptor::new)?;
        drop(entered);
        Ok(Self { listener, runtime })
    }

    /// Returns the address at which it listens, with the port that the system chose.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.get()?.address()
    }

    /// Returns what identifies the listening socket.
    pub(super) fn noted(&self) -> Noted {
        self.listener.noted()
    }

    /// Serves until `stop` is notified. Requests in flight then have [`GRACE`] to be answered.
    pub(super) fn serve(self, site: Site, answers: Answers, options: &ExporterOptions, stop: &Notify) {
        let Self { listener, runtime } = self;
        let serve = || runtime.block_on(serve(listener, site, answers, options, stop));
        if catch_unwind(AssertUnwindSafe(serve)).is_err() {
            // The panic is in the log. tokio panics when its epoll descriptor fails, because the program has
            // closed it. The numbers that the runtime would close may be files of the program by now.
            log::error!("the exporter has ended: the program has closed its descriptors");
            std::mem::forget(runtime);
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections of the port's previous user may still be in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(Listener::Tcp(socket.into()))
}

/// The state that the connections of an exporter share.
struct Shared {
    site: Site,
    tls: Option<TlsAcceptor>,
    read_timeout: Duration,
    http: http1::Builder,
    crowd: Crowd,
    is_stopping: AtomicBool,
    /// Notified when `is_stopping` becomes true.
    stopping: Notify,
}

async fn serve(
    listener: Guarded<Acceptor>,
    site: Site,
    answers: Answers,
    options: &ExporterOptions,
    stop: &Notify,
) {
    let shared = Arc::new(Shared {
        site,
        tls: options.tls.as_ref().map(ExporterTls::acceptor),
        read_timeout: options.read_timeout,
        http: http(options),
        crowd: Crowd::new(answers),
        is_stopping: AtomicBool::new(false),
        stopping: Notify::new(),
    });
    let mut connections = JoinSet::new();
    let mut door = Door { listener, pause: None, is_failing: false };
    let mut stopped = pin!(stop.notified());
    let mut full = None;
    while let Some(socket) = poll_fn(|context| {
        if stopped.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        while let Poll::Ready(Some(_)) = connections.poll_join_next(context) {}
        // The next client waits in the backlog until a connection ends or can be closed.
        while connections.len() >= options.max_connections && !shared.crowd.can_make_room() {
            let pause = full.get_or_insert_with(|| Box::pin(sleep(FULL_PAUSE)));
            ready!(pause.as_mut().poll(context));
            full = None;
        }
        door.poll(context).map(Some)
    })
    .await
    {
        if connections.len() >= options.max_connections {
            shared.crowd.make_room();
        }
        let member = shared.crowd.join();
        let connection = Connection::new(socket, Arc::clone(&member), options.write_timeout);
        connections.spawn(converse(connection, member, Arc::clone(&shared)));
    }
    drop(door);
    shared.stop();
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
}

fn http(options: &ExporterOptions) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // Measured from the start of the connection, or from its last answer, to the end of the headers.
        .header_read_timeout(options.read_timeout)
        .max_header_size(HEADER_SIZE)
        .max_headers(HEADER_COUNT)
        .max_buf_size(BUFFER_SIZE)
        // A client that has shut down its sending side may still read.
        .half_close(true);
    http
}

/// Serves a connection until it ends or has to make room for another one.
async fn converse(connection: Connection, member: Arc<Member>, shared: Arc<Shared>) {
    let Some(tls) = &shared.tls else { return speak(connection, member, shared).await };
    // An error is ignored: the client is too slow, does not speak TLS, or has shown no good certificate.
    if let Some(Ok(Ok(stream))) = shake_hands(tls, connection, &member, &shared).await {
        speak(stream, member, shared).await;
    }
}

/// Makes a TLS connection. `None`: the exporter stops, or the connection has to make room.
///
/// A function of its own, so that nothing of it waits for the end of the connection while [`speak`] does: a member
/// tells only one.
async fn shake_hands(
    tls: &TlsAcceptor,
    connection: Connection,
    member: &Member,
    shared: &Shared,
) -> Option<Result<io::Result<TlsStream<Connection>>, Elapsed>> {
    let mut handshake = pin!(timeout(shared.read_timeout, tls.accept(connection)));
    let mut closing = pin!(member.closing());
    let mut stopping = pin!(shared.until_stop());
    let stream = poll_fn(|context| {
        let is_over = closing.as_mut().poll(context).is_ready() || stopping.as_mut().poll(context).is_ready();
        if is_over { Poll::Ready(None) } else { handshake.as_mut().poll(context).map(Some) }
    });
    stream.await
}

/// Speaks HTTP on a connection.
async fn speak(connection: impl AsyncRead + AsyncWrite + Unpin, member: Arc<Member>, shared: Arc<Shared>) {
    let service = service_fn(|request| {
        let (shared, member) = (&shared, &member);
        async move {
            member.has_asked();
            let mut reply = shared.site.answer(request, &shared.crowd).await;
            if shared.is_stopping.load(Ordering::Relaxed) {
                reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            member.is_answered();
            Ok::<_, Infallible>(reply)
        }
    });
    let mut conversation = pin!(shared.http.serve_connection(TokioIo::new(connection), service));
    let mut stopping = pin!(shared.until_stop());
    let mut is_stopping = false;
    let mut closing = pin!(member.closing());
    let end = poll_fn(|context| {
        if closing.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !is_stopping && stopping.as_mut().poll(context).is_ready() {
            is_stopping = true;
            conversation.as_mut().graceful_shutdown();
        }
        conversation.as_mut().poll(context)
    });
    // Errors are ignored: the client has disconnected, is too slow, or does not speak HTTP.
    let _ = end.await;
}

impl Shared {
    fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.stopping.notify_waiters();
    }

    /// Resolves when the exporter stops, or has stopped before.
    async fn until_stop(&self) {
        // It hears of a stop from here on, so one that comes after the look is heard.
        let told = self.stopping.notified();
        if !self.is_stopping.load(Ordering::Relaxed) {
            told.await;
        }
    }
}

/// Accepts connections, and pauses after a failure.
struct Door {
    listener: Guarded<Acceptor>,
    pause: Option<Pin<Box<Sleep>>>,
    is_failing: bool,
}

impl Door {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Guarded<Stream>> {
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

    fn accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Guarded<Stream>>> {
        let accepted = Guarded::open(|| match self.listener.get()?.poll_accept(context) {
            Poll::Ready(result) => result.map_err(Refusal::Failed),
            Poll::Pending => Err(Refusal::NoClient),
        });
        match accepted {
            Ok(socket) => Poll::Ready(Ok(socket)),
            Err(Refusal::Failed(error)) => Poll::Ready(Err(error)),
            Err(Refusal::NoClient) => Poll::Pending,
        }
    }
}

/// Why no connection was accepted.
enum Refusal {
    NoClient,
    Failed(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}
