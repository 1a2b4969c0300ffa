//! The threads of an exporter: how they start and how they stop.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use tokio::sync::Notify;

use super::crowd::Answers;
use super::descriptors;
use super::guard::{Guard, MOST_QUESTIONS};
use super::options::ExporterOptions;
use super::scrape::{self, Presentation};
use super::server::{HttpServer, Place};
use super::site::Site;
use crate::backend::Backend;
use crate::model::error::{Error, ErrorKind, Result};
use crate::process::descriptor::Noted;
use crate::process::exit::{self, AtExit, Phase};
use crate::process::fork;
use crate::process::thread::Thread;

/// How long stopping may take in total. A thread that waits for a store longer than this is detached and ends
/// by itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The threads of an exporter, and how to stop them.
#[derive(Debug)]
pub(super) struct Threads {
    stop: Notify,
    running: Mutex<Vec<Thread>>,
    /// The listening socket, once it is open.
    listener: OnceLock<Noted>,
    /// Once stopping has begun: whether the threads were told.
    told: OnceLock<bool>,
    /// The [`fork::generation`] of the process that started the threads.
    generation: u64,
}

impl Threads {
    /// Starts to listen and serve. Returns the address at which the exporter listens.
    pub(super) fn start(
        backend: Backend,
        place: Place,
        options: ExporterOptions,
    ) -> Result<(Arc<Self>, SocketAddr)> {
        descriptors::install();
        let generation = fork::generation();
        let threads = Arc::new(Self {
            stop: Notify::new(),
            running: Mutex::default(),
            listener: OnceLock::new(),
            told: OnceLock::new(),
            generation,
        });
        let weak = Arc::downgrade(&threads);
        exit::register(Phase::Serve, weak);
        let address = threads.run(backend, place, options)?;
        Ok((threads, address))
    }

    /// Whether this process started the threads. A forked child must not touch their state, because another
    /// thread may have been changing it at the fork.
    pub(super) fn are_here(&self) -> bool {
        self.generation == fork::generation()
    }

    /// Starts the threads. Returns the address at which the exporter listens.
    fn run(self: &Arc<Self>, backend: Backend, place: Place, options: ExporterOptions) -> Result<SocketAddr> {
        let shown = place.to_string();
        let refused = |error: io::Error| {
            let message = format!("cannot serve metrics on {shown}: {error}");
            Error::new(ErrorKind::Unavailable, message)
        };
        let (requests, waiting) = unbounded();
        let answers = Answers::default();
        let counted = answers.clone();
        let (questions, asked) = bounded(MOST_QUESTIONS);
        if let Some(guard) = options.guard.clone().filter(Guard::is_slow) {
            self.spawn("exporter-guard", move || guard.answer_questions(&asked)).map_err(refused)?;
        }
        let (opened, address_or_error) = bounded(1);
        let threads = Arc::clone(self);
        let (name_prefix, created_samples) = (options.name_prefix.clone(), options.created_samples);
        let how = Presentation { name_prefix, created_samples };
        let talk = move || match HttpServer::open(place).and_then(|http| Ok((http.address()?, http))) {
            Ok((address, http)) => {
                let _ = threads.listener.set(http.noted());
                let _ = opened.send(Ok(address));
                let site = Site::new(requests, questions, &options);
                http.serve(site, counted, &options, &threads.stop);
            }
            Err(error) => {
                let _ = opened.send(Err(error));
            }
        };
        let scrape = move || scrape::answer_requests(backend, how, answers, &waiting);
        self.spawn("exporter-scrape", scrape).and_then(|()| self.spawn("exporter", talk)).map_err(refused)?;
        match address_or_error.recv() {
            Ok(Ok(address)) => Ok(address),
            Ok(Err(error)) => {
                self.stop();
                Err(refused(error))
            }
            Err(_) => Err(refused(io::Error::other("its thread ended"))),
        }
    }

    fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = Thread::spawn(name, body)?;
        self.running.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Tells the threads to stop, if that is safe. Returns whether they were told, now or before.
    ///
    /// To wake them, tokio writes to a descriptor whose number it does not tell. If the program has closed the
    /// listening socket, it has closed that descriptor as well, and the number may lead to a file of the
    /// program.
    fn tell(&self) -> bool {
        *self.told.get_or_init(|| {
            let is_safe = self.listener.get().is_none_or(|listener| listener.is_same());
            if is_safe {
                self.stop.notify_one();
            }
            is_safe
        })
    }

    /// Stops the threads, and waits until they have ended, but no longer than [`STOP_TIMEOUT`]. Does nothing
    /// in a forked child, or when called again. If the threads cannot be told, they stay as they are.
    pub(super) fn stop(&self) {
        if !self.are_here() {
            return;
        }
        let running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        if !self.tell() {
            if !running.is_empty() {
                log::warn!("the exporter cannot be stopped: the program has closed its descriptors");
            }
            return;
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        // Join in reverse: the last thread sends requests to the first one, which ends when the channel is
        // closed.
        running.into_iter().rev().for_each(|thread| thread.join_by(deadline));
    }
}

impl AtExit for Threads {
    fn begin(&self) {
        if self.are_here() {
            self.tell();
        }
    }

    fn finish(&self) {
        self.stop();
    }
}
