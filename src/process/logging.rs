//! The engine's log for programs that are not written in Rust.
//!
//! Rust programs install their own logger for the `log` crate. For other programs this module is the logger.
//! It passes each record to a callback, or keeps records in a bounded queue from which the program takes
//! them. The queue exists because an interpreter may abort at exit if a foreign thread calls into it. A full
//! queue drops records and counts them, so the engine never waits for its log.
//!
//! A program needs no thread to read the queue. After each call of this library it checks one byte,
//! [`waiting`]. If the byte is set, it [`claim`]s the records and delivers them on the same thread.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata};

use super::clock::{deadline_after, since_1970};
use super::fork::{self, ForkGuard, Participant, Rank};

/// The largest number of records in the queue.
const QUEUE_CAPACITY: usize = 1_000;

/// A log record. Its message is one line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogRecord {
    pub(crate) level: Level,
    /// The time at which the record was made, in seconds since 1970.
    pub(crate) time: f64,
    pub(crate) message: String,
}

impl LogRecord {
    fn new(level: Level, message: &str) -> Self {
        Self { level, time: since_1970().as_secs_f64(), message: escaped(message).into_owned() }
    }
}

/// Escapes control characters and line separators. Label values and server replies reach the log, and they
/// must neither begin a new line nor send commands to a terminal.
fn escaped(message: &str) -> Cow<'_, str> {
    let is_unsafe = |character: char| character.is_control() || matches!(character, '\u{2028}' | '\u{2029}');
    if !message.contains(is_unsafe) {
        return Cow::Borrowed(message);
    }
    let mut line = String::with_capacity(message.len() + 8);
    for character in message.chars() {
        if is_unsafe(character) {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    Cow::Owned(line)
}

/// The log function of a program. Any thread may call it, several at the same time.
pub(crate) type Callback = Arc<dyn Fn(&LogRecord) + Send + Sync>;

/// The receiver of records.
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
    /// Whether a thread has claimed the records.
    is_claimed: bool,
}

impl Sink {
    fn waiting(&self) -> usize {
        self.queue.len() + usize::from(self.dropped > 0)
    }

    /// Updates the byte that programs check. The caller holds the lock of the sink, so the byte matches the
    /// queue.
    fn tell(&self) {
        let is_set = self.waiting() > 0 && !self.is_claimed;
        // Relaxed: the byte only tells a thread to take the lock, and the lock orders the records.
        WAITING.store(u8::from(is_set), Ordering::Relaxed);
    }
}

static SINK: Mutex<Sink> =
    Mutex::new(Sink { output: Output::Nowhere, queue: VecDeque::new(), dropped: 0, is_claimed: false });
static CHANGED: Condvar = Condvar::new();
static WAITING: AtomicU8 = AtomicU8::new(0);

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            deliver(LogRecord::new(record.level(), &record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

fn deliver(record: LogRecord) {
    let mut sink = lock();
    match &sink.output {
        Output::Nowhere => {}
        Output::Callback(callback) => {
            // Call it without the lock, because the callback may log or call the engine.
            let callback = Arc::clone(callback);
            drop(sink);
            callback(&record);
        }
        Output::Queue => {
            if sink.queue.len() < QUEUE_CAPACITY {
                sink.queue.push_back(record);
                CHANGED.notify_one();
            } else {
                sink.dropped += 1;
            }
            sink.tell();
        }
    }
}

/// Sends records up to `level` to `output` from now on.
pub(crate) fn direct(output: Output, level: LevelFilter) {
    fork::register_static(Rank::Log, &LockedLog);
    // This fails if the program has installed its own logger, which then stays.
    let _ = log::set_logger(&Logger);
    log::set_max_level(level);
    let mut sink = lock();
    sink.output = output;
    // Wakes the threads that wait for a record, because the output has changed.
    CHANGED.notify_all();
}

/// Returns the byte that is 1 while records wait and no thread has claimed them.
pub(crate) fn waiting() -> &'static AtomicU8 {
    &WAITING
}

/// Claims the waiting records for this thread and returns their number. Returns 0 if no record waits or if
/// they are claimed already, by another thread or by an outer call of this thread (if the program's log
/// handler calls the engine).
///
/// While the claim is held, [`waiting`] is 0, so a slow log handler does not make other threads take the
/// lock.
pub(crate) fn claim() -> usize {
    let mut sink = lock();
    if sink.is_claimed {
        return 0;
    }
    sink.is_claimed = sink.waiting() > 0;
    sink.tell();
    sink.waiting()
}

/// Ends a claim. Records that arrived during the claim wait until [`waiting`] is checked again.
pub(crate) fn release() {
    let mut sink = lock();
    sink.is_claimed = false;
    sink.tell();
}

/// Takes the next record from the queue. Waits for one for at most `timeout`. Stops waiting if the output is
/// no longer the queue.
pub(crate) fn next_record(timeout: Duration) -> Option<LogRecord> {
    let deadline = deadline_after(timeout);
    let mut sink = lock();
    loop {
        let record = sink.queue.pop_front().or_else(|| dropped_record(&mut sink));
        if record.is_some() {
            sink.tell();
            return record;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !matches!(sink.output, Output::Queue) {
            return None;
        }
        sink = CHANGED.wait_timeout(sink, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn dropped_record(sink: &mut Sink) -> Option<LogRecord> {
    let dropped = std::mem::take(&mut sink.dropped);
    let message = || format!("{dropped} log records were dropped: the queue was full");
    (dropped > 0).then(|| LogRecord::new(Level::Warn, &message()))
}

/// The participant that locks the log for a fork.
struct LockedLog;

impl Participant for LockedLog {
    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_> {
        Box::new(lock())
    }
}

impl ForkGuard for MutexGuard<'static, Sink> {
    /// Drops the records, because the parent delivers them, and the claim, because its thread may not exist
    /// in the child.
    fn forked(&mut self) {
        self.queue.clear();
        self.dropped = 0;
        self.is_claimed = false;
        self.tell();
    }
}

fn lock() -> MutexGuard<'static, Sink> {
    SINK.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_without_control_characters() {
        assert_eq!(escaped("Größe 5 €"), "Größe 5 €");
        assert_eq!(escaped("a\nb\r\x1b[2J\u{85}\u{2028}c\t"), r"a\nb\r\u{1b}[2J\u{85}\u{2028}c\t");
    }
}
