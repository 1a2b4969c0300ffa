//! The threads that serve a store in one process, and the channels that lead to them.
//!
//! A runtime belongs to the process that started it. A forked child forgets its parent's runtime
//! without touching it (its channels may be half changed, its threads do not exist), closes the sockets
//! that it inherited, and starts a runtime of its own when it first needs one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::Shared;
use super::action::{Action, Event, Loss, Request};
use super::connection::{Connection, SocketSlot};
use super::epoch::KnownEpochs;
use super::link::Link;
use super::outbox::Outbox;
use super::pipeline::{Pipeline, Question, Reading, RefusedKeys, Wanted};
use crate::metric::Metric;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::sample::Snapshot;
use crate::process::fork::{self, ForkGuard};
use crate::process::thread::Thread;

/// How long after a panic a thread waits before it goes on.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// How long after threads could not be started it is tried again for the sake of an increment.
const AFTER_FAILED_START: Duration = Duration::from_secs(1);

/// The threads of one process.
#[derive(Debug)]
pub(crate) struct Runtime {
    events: Sender<Event>,
    requests: Sender<Request>,
    questions: Sender<Question>,
    shared: Arc<Shared>,
    sockets: Vec<Arc<SocketSlot>>,
    threads: Mutex<Vec<Thread>>,
    abandoned: Arc<AtomicBool>,
    waiting: Arc<AtomicUsize>,
}

impl Runtime {
    /// Starts the threads. `first` is a connection that was made, or tried, for the first of them.
    pub(crate) fn start(shared: &Arc<Shared>, first: Option<Result<Connection>>) -> Result<Arc<Self>> {
        let (events, event_receiver) = unbounded();
        let (requests, request_receiver) = unbounded();
        let (questions, question_receiver) = unbounded();
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
        for index in 0..shared.options.pipeline_threads {
            let mut pipeline = Pipeline::new(
                Arc::clone(shared),
                requests.clone(),
                new_slot(),
                Arc::clone(&refused_keys),
                Arc::clone(&epochs),
            );
            let questions: Receiver<Question> = question_receiver.clone();
            let body = move || guarded("pipeline", || pipeline.run(&questions));
            threads.push(spawn(shared, &format!("pipeline-{index}"), body)?);
        }
        let mut action = Action::new(
            Arc::clone(shared),
            Outbox::new(writer_id(), Arc::clone(&shared.tally), epochs),
            event_receiver,
            request_receiver,
            Link::new(first, new_slot()),
            Arc::clone(&abandoned),
            Arc::clone(&waiting),
        );
        let body = move || guarded("BackendAction", || action.run());
        threads.push(spawn(shared, "BackendAction", body)?);
        let shared = Arc::clone(shared);
        let threads = Mutex::new(threads);
        Ok(Arc::new(Self { events, requests, questions, shared, sockets, threads, abandoned, waiting }))
    }

    /// Logs that the threads run, in the words of pytheus-backend-rs 0.0.9. Not while a lock is held:
    /// the program's own callback may be at the other end.
    pub(crate) fn announce(&self) {
        for index in 0..self.shared.options.pipeline_threads {
            log::info!("Starting pipeline thread....{index}");
        }
        log::info!("Starting BackendAction thread....");
    }

    /// Tells the BackendAction thread what happened.
    pub(crate) fn push(&self, event: Event) {
        // The receiver lives as long as the thread; after a stop there is nobody to tell.
        let _ = self.events.send(event);
    }

    /// Has all that is pending sent, and waits for it.
    pub(crate) fn flush(&self, deadline: Instant) -> Result<()> {
        flush(&self.requests, &self.shared, deadline)
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

    /// Sends what is pending, until the deadline, and ends the threads.
    pub(crate) fn stop(&self, deadline: Instant) -> Result<()> {
        let (answer, answers) = bounded(1);
        let _ = self.requests.send(Request::Stop { deadline, answer });
        // An exchange that hangs may take longer than the deadline; the thread then ends by itself.
        let unsent = answers.recv_deadline(deadline + Duration::from_millis(100));
        self.abandoned.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for _ in 0..self.shared.options.pipeline_threads {
            let _ = self.questions.send(Question::Stop);
        }
        for thread in threads {
            // A thread that waits for the network is left to end by itself; the library stays loaded.
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            if thread.is_finished() {
                thread.join();
            }
        }
        match unsent {
            Ok(0) => Ok(()),
            Ok(count) => Err(unsent_error(&self.shared, count)),
            // The thread hangs in an exchange: count what it has taken, and what it has not.
            Err(_) => {
                let dirty = self.shared.table.dirty_metrics().len();
                Err(unsent_error(&self.shared, self.waiting.load(Ordering::Relaxed) + dirty))
            }
        }
    }

    fn ask(&self, wanted: Wanted, deadline: Instant) -> Result<Reading> {
        let (answer, answers) = bounded(1);
        let _ = self.questions.send(Question::Read { wanted, deadline, answer });
        wait_for(&answers, &self.shared, deadline, "a scrape")
    }
}

/// Has the BackendAction thread send all that is pending, and waits for it.
pub(crate) fn flush(requests: &Sender<Request>, shared: &Shared, deadline: Instant) -> Result<()> {
    let (answer, answers) = bounded(1);
    let _ = requests.send(Request::Flush { deadline, answer });
    wait_for(&answers, shared, deadline, "sending what is pending")
}

/// Has the BackendAction thread restore what the server has lost, and waits for it.
pub(crate) fn restore(
    requests: &Sender<Request>,
    shared: &Shared,
    loss: Loss,
    deadline: Instant,
) -> Result<()> {
    let (answer, answers) = bounded(1);
    let _ = requests.send(Request::Restore { loss, deadline, answer });
    wait_for(&answers, shared, deadline, "restoring what the server has lost")
}

fn wait_for<T>(answers: &Receiver<Result<T>>, shared: &Shared, deadline: Instant, what: &str) -> Result<T> {
    match answers.recv_deadline(deadline) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(Error::new(
            ErrorKind::Timeout,
            format!("{what} was not done in time: {} does not answer", shared.options.address),
        )),
        Err(RecvTimeoutError::Disconnected) => Err(Error::new(
            ErrorKind::Unavailable,
            format!("{what} was given up: the backend for {} is closed", shared.options.address),
        )),
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

/// Runs a thread's body until it returns; a panic is logged, and the body goes on with its state.
fn guarded(name: &str, mut body: impl FnMut()) {
    while let Err(panic) = catch_unwind(AssertUnwindSafe(&mut body)) {
        let reason = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let reason = reason.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        log::error!("the {name} thread panicked, and goes on: {reason}");
        std::thread::sleep(AFTER_PANIC);
    }
}

/// An id that no other writer has: process, time, and randomness of the system.
fn writer_id() -> String {
    use std::io::Read;
    let mut random = [0; 8];
    // Without randomness the process id and the time still tell the processes of a host apart.
    let _ = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    format!("{}-{nanoseconds:x}-{:016x}", process::id(), u64::from_ne_bytes(random))
}

/// The runtime of this process, if it has one.
#[derive(Debug)]
pub(crate) struct RuntimeSlot(Mutex<State>);

#[derive(Debug)]
enum State {
    Running(Arc<Runtime>),
    /// In a forked child that has not used the store yet; or whose threads could not be started when it did,
    /// last at this time.
    NotStarted {
        failed_at: Option<Instant>,
    },
    Closed,
}

impl RuntimeSlot {
    pub(crate) fn new(runtime: Arc<Runtime>) -> Self {
        Self(Mutex::new(State::Running(runtime)))
    }

    /// The runtime, started now if need be; `None` if the store is closed. For whoever cannot wait for a start
    /// that has just failed, that is an error, and not tried again for a while.
    pub(crate) fn get(&self, start: impl FnOnce() -> Result<Arc<Runtime>>) -> Option<Arc<Runtime>> {
        let has_just_failed = |failed_at: &Instant| failed_at.elapsed() < AFTER_FAILED_START;
        match &*self.lock() {
            State::Running(runtime) => return Some(Arc::clone(runtime)),
            State::NotStarted { failed_at } if failed_at.as_ref().is_some_and(has_just_failed) => {
                return None;
            }
            State::NotStarted { .. } | State::Closed => {}
        }
        self.require(start).ok().flatten()
    }

    /// The runtime, started now if need be; `None` if the store is closed.
    pub(crate) fn require(
        &self,
        start: impl FnOnce() -> Result<Arc<Runtime>>,
    ) -> Result<Option<Arc<Runtime>>> {
        let mut state = self.lock();
        let had_failed = match &*state {
            State::Running(runtime) => return Ok(Some(Arc::clone(runtime))),
            State::Closed => return Ok(None),
            State::NotStarted { failed_at } => failed_at.is_some(),
        };
        let started = start().map_err(|error| {
            let promise = "what this process counts is kept, and sent when a thread can be started";
            Error::new(error.kind(), format!("{error}; {promise}"))
        });
        *state = match &started {
            Ok(runtime) => State::Running(Arc::clone(runtime)),
            Err(_) => State::NotStarted { failed_at: Some(Instant::now()) },
        };
        drop(state);
        match &started {
            Ok(runtime) => {
                if had_failed {
                    runtime.push(Event::StartedLate);
                }
                runtime.announce();
                fork::restarted();
            }
            Err(error) if !had_failed => log::error!("{error}"),
            Err(_) => {}
        }
        started.map(Some)
    }

    /// Takes the runtime out, for good. It is started once more if it could not be when it was needed.
    pub(crate) fn close(&self, start: impl FnOnce() -> Result<Arc<Runtime>>) -> Result<Option<Arc<Runtime>>> {
        match std::mem::replace(&mut *self.lock(), State::Closed) {
            State::Running(runtime) => Ok(Some(runtime)),
            State::NotStarted { failed_at: Some(_) } => {
                let runtime = start().map_err(|error| {
                    let loss =
                        "what this process has counted since it was forked could not be sent, and is lost";
                    Error::new(error.kind(), format!("{loss}: {error}"))
                })?;
                runtime.push(Event::StartedLate);
                Ok(Some(runtime))
            }
            State::NotStarted { failed_at: None } | State::Closed => Ok(None),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(*self.lock(), State::Closed)
    }

    /// Holds the slot across a fork.
    pub(crate) fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_> {
        Box::new(self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ForkGuard for MutexGuard<'_, State> {
    fn forked(&mut self) {
        if !matches!(**self, State::Running(_)) {
            return;
        }
        if let State::Running(runtime) = std::mem::replace(&mut **self, State::NotStarted { failed_at: None })
        {
            for socket in runtime.sockets.iter().filter_map(|slot| slot.take()) {
                close_inherited(socket);
            }
            // Dropping it would touch channels that other threads may have been changing.
            std::mem::forget(runtime);
        }
    }
}

fn close_inherited(socket: std::os::fd::RawFd) {
    // SAFETY: the number was in its slot at the fork, so it is an open socket of the parent's
    // connection, of which this process has no owner left but us.
    #[allow(unsafe_code)]
    unsafe {
        libc::close(socket);
    }
}
