//! Where the engine's log records go when the program is not a Rust program.
//!
//! Rust programs install a logger of their own for the `log` crate. For all others this is the logger:
//! it gives records to a callback, or keeps them in a bounded queue until the program asks for them. The
//! queue exists because calling into an interpreter from a thread that it does not know aborts it at
//! exit; a full queue drops records, counts them, and never makes the engine wait.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata};

use super::fork::{self, ForkGuard, Participant, Rank};

/// The most records that wait.
const QUEUE_CAPACITY: usize = 1_000;

/// A log record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogRecord {
    pub(crate) level: Level,
    pub(crate) message: String,
}

/// A program's own log function. It may be called by any thread, several at once.
pub(crate) type Callback = Arc<dyn Fn(&LogRecord) + Send + Sync>;

/// Where records go.
#[derive(Default)]
pub(crate) enum Output {
    #[default]
    Nowhere,
    Callback(Callback),
    Queue,
}

struct Sink {
    output: Output,
    queue: VecDeque<LogRecord>,
    dropped: usize,
}

static SINK: Mutex<Sink> = Mutex::new(Sink { output: Output::Nowhere, queue: VecDeque::new(), dropped: 0 });
static CHANGED: Condvar = Condvar::new();

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            deliver(LogRecord { level: record.level(), message: record.args().to_string() });
        }
    }

    fn flush(&self) {}
}

fn deliver(record: LogRecord) {
    let mut sink = lock();
    match &sink.output {
        Output::Nowhere => {}
        Output::Callback(callback) => {
            // Not under the lock: the callback may log, or call the engine.
            let callback = Arc::clone(callback);
            drop(sink);
            callback(&record);
        }
        Output::Queue if sink.queue.len() < QUEUE_CAPACITY => {
            sink.queue.push_back(record);
            // All: one that waits may only look, and leave the record to another.
            CHANGED.notify_all();
        }
        Output::Queue => sink.dropped += 1,
    }
}

/// Sends records up to `level` to `output`, from now on.
pub(crate) fn direct(output: Output, level: LevelFilter) {
    fork::register_static(Rank::Log, &LockedLog);
    // If the program has a logger for the `log` crate already, that one stays.
    let _ = log::set_logger(&Logger);
    log::set_max_level(level);
    let mut sink = lock();
    sink.output = output;
    // Whoever waits for records of the queue looks again.
    CHANGED.notify_all();
}

/// Waits until the queue has a record. `false` if it has none when `timeout` is over, or if records do
/// not go to the queue any more.
pub(crate) fn wait_for_record(timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    let mut sink = lock();
    loop {
        if !sink.queue.is_empty() || sink.dropped > 0 {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !matches!(sink.output, Output::Queue) {
            return false;
        }
        sink = CHANGED.wait_timeout(sink, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Takes the next record from the queue, if there is one.
pub(crate) fn next_record() -> Option<LogRecord> {
    let mut sink = lock();
    if sink.queue.is_empty() && sink.dropped > 0 {
        let message = format!("{} log records were dropped: the queue was full", sink.dropped);
        sink.dropped = 0;
        return Some(LogRecord { level: Level::Warn, message });
    }
    sink.queue.pop_front()
}

/// The log, as a participant of forks.
struct LockedLog;

impl Participant for LockedLog {
    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_> {
        Box::new(lock())
    }
}

impl ForkGuard for MutexGuard<'static, Sink> {
    /// The parent delivers what was logged before the fork.
    fn forked(&mut self) {
        self.queue.clear();
        self.dropped = 0;
    }
}

fn lock() -> MutexGuard<'static, Sink> {
    SINK.lock().unwrap_or_else(PoisonError::into_inner)
}
