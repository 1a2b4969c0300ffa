//! The threads that serve a store in one process, and the channels that lead to them.
//!
//! A runtime belongs to the process that started it. [`super::slot`] holds the runtime of this process, and
//! starts a new one in a forked child.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::action::Action;
use super::backlog::Backlog;
use super::epoch::KnownEpochs;
use super::link::Link;
use super::message::{Event, Requests, wait_for};
use super::outbox::Outbox;
use super::pipeline;
use super::question::{Question, Reading, Wanted};
use super::read_routes::ReadRoutes;
use super::reader::Reader;
use super::refused_keys::RefusedKeys;
use super::route::Route;
use super::sender::BatchSender;
use super::servers::Servers;
use super::session::Session;
use super::shared::Shared;
use super::socket::SocketSlot;
use super::writer::writer_id;
use crate::metric::Metric;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::sample::Snapshot;
use crate::process::thread::Thread;

/// How long a thread waits after a panic before it goes on.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// How long a stop waits, after its deadline, for the number of changes that are lost.
const LAST_ANSWER: Duration = Duration::from_millis(100);

/// The threads of one process.
#[derive(Debug)]
pub(crate) struct Runtime {
    events: Sender<Event>,
    requests: Requests,
    questions: Sender<Question>,
    shared: Arc<Shared>,
    sockets: Vec<Arc<SocketSlot>>,
    threads: Mutex<Vec<Thread>>,
    abandoned: Arc<AtomicBool>,
    waiting: Arc<AtomicUsize>,
}

impl Runtime {
    /// Starts the threads. `first` is the result of an earlier attempt to connect, for the BackendAction
    /// thread.
    pub(crate) fn start(shared: &Arc<Shared>, first: Option<Result<Route>>) -> Result<Arc<Self>> {
        let (events, event_receiver) = unbounded();
        let (request_sender, request_receiver) = unbounded();
        let (questions, question_receiver) = unbounded();
        let requests = Requests::new(request_sender, Arc::clone(shared));
        let abandoned = Arc::new(AtomicBool::new(false));
        let waiting = Arc::new(AtomicUsize::new(0));
        let refused_keys = Arc::new(RefusedKeys::default());
        let epochs = Arc::new(KnownEpochs::default());
        let mut sockets = Vec::new();
        let mut threads = Vec::new();
        let mut new_slot = || {
            let slot = Arc::new(SocketSlot::default());
            sockets.push(Arc::clone(&slot));
            slot
        };
        let servers = Arc::new(Servers::new(&shared.options, Some(new_slot())));
        let routes = Arc::new(ReadRoutes::new(new_slot()));
        for index in 0..shared.options.pipeline_threads {
            let mut reader = Reader::new(
                Arc::clone(shared),
                requests.clone(),
                Session::new(Arc::clone(shared), Arc::clone(&servers), Arc::clone(&routes)),
                Arc::clone(&refused_keys),
                Arc::clone(&epochs),
            );
            let questions: Receiver<Question> = question_receiver.clone();
            let body = move || guarded("pipeline", || pipeline::run(&mut reader, &questions));
            threads.push(spawn(shared, &format!("pipeline-{index}"), body)?);
        }
        let outbox = Outbox::new(writer_id(), Arc::clone(shared), epochs);
        let backlog = Backlog::new(Arc::clone(shared), event_receiver, outbox);
        let link = Link::new(first, servers, new_slot());
        let sender = BatchSender::new(Arc::clone(shared), link, backlog, Arc::clone(&waiting));
        let mut action = Action::new(Arc::clone(shared), request_receiver, sender, Arc::clone(&abandoned));
        let body = move || guarded("BackendAction", || action.run());
        threads.push(spawn(shared, "BackendAction", body)?);
        let shared = Arc::clone(shared);
        let threads = Mutex::new(threads);
        Ok(Arc::new(Self { events, requests, questions, shared, sockets, threads, abandoned, waiting }))
    }

    /// Sends an event to the BackendAction thread. After a stop the event is discarded.
    pub(crate) fn push(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Sends everything that is pending, and waits until the server has answered.
    pub(crate) fn flush(&self, deadline: Instant) -> Result<()> {
        self.requests.flush(deadline)
    }

    /// Reads families.
    pub(crate) fn collect(&self, wanted: Wanted, deadline: Instant) -> Result<Snapshot> {
        match self.ask(wanted, deadline)? {
            Reading::Snapshot(snapshot) => Ok(snapshot),
            Reading::Cells(_) => Ok(Snapshot::default()),
        }
    }

    /// Reads the cells of one metric.
    pub(crate) fn read(&self, metric: Arc<Metric>, deadline: Instant) -> Result<Vec<f64>> {
        match self.ask(Wanted::Metric(metric), deadline)? {
            Reading::Cells(cells) => Ok(cells),
            Reading::Snapshot(_) => Ok(Vec::new()),
        }
    }

    /// Sends what is pending, until `deadline`, and ends the threads. The error says how many changes are
    /// lost.
    pub(crate) fn stop(&self, deadline: Instant) -> Result<()> {
        // An exchange that hangs may take longer than the deadline. Its thread then ends by itself later.
        let unsent = self.requests.stop(deadline).recv_deadline(deadline + LAST_ANSWER);
        self.abandoned.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for _ in 0..self.shared.options.pipeline_threads {
            let _ = self.questions.send(Question::Stop);
        }
        for thread in threads {
            // A thread that waits for the network is not joined. The library stays loaded, so it may end
            // later.
            thread.join_by(deadline);
        }
        match unsent {
            Ok(0) => Ok(()),
            Ok(count) => Err(unsent_error(&self.shared, count)),
            // The thread hangs in an exchange, so count the changes that it has taken and those in the cells.
            Err(_) => {
                let dirty = self.shared.table.dirty_metrics().len();
                Err(unsent_error(&self.shared, self.waiting.load(Ordering::Relaxed) + dirty))
            }
        }
    }

    /// Returns the slots of the sockets of all threads, for a forked child, which must close them.
    pub(crate) fn sockets(&self) -> &[Arc<SocketSlot>] {
        &self.sockets
    }

    fn ask(&self, wanted: Wanted, deadline: Instant) -> Result<Reading> {
        let (answer, answers) = bounded(1);
        let _ = self.questions.send(Question::Read { wanted, deadline, answer });
        wait_for(&answers, &self.shared, deadline, "a scrape")
    }
}

fn unsent_error(shared: &Shared, count: usize) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!(
            "{count} {} could not be sent to {} (shutdown_timeout is {:?}), and {} lost with this process",
            if count == 1 { "change" } else { "changes" },
            shared.options.address,
            shared.options.shutdown_timeout,
            if count == 1 { "is" } else { "are" },
        ),
    )
}

fn spawn(shared: &Shared, name: &str, body: impl FnOnce() + Send + 'static) -> Result<Thread> {
    Thread::spawn(name, body).map_err(|error| {
        Error::new(
            ErrorKind::Unavailable,
            format!("cannot start a thread for {}: {error}", shared.options.address),
        )
    })
}

/// Runs the body of a thread until it returns. After a panic it logs the reason and runs the body again.
fn guarded(name: &str, mut body: impl FnMut()) {
    while let Err(panic) = catch_unwind(AssertUnwindSafe(&mut body)) {
        let reason = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let reason = reason.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        log::error!("the {name} thread panicked, and goes on: {reason}");
        std::thread::sleep(AFTER_PANIC);
    }
}
