//! The engine's log for programs that are not written in Rust.
//!
//! Rust programs install their own logger for the `log` crate. For all others this module is the logger: it gives
//! each record to a callback, or keeps records in a bounded queue from which the program takes them. The queue exists
//! because an interpreter aborts at exit when a thread that it does not know calls into it. A full queue drops records
//! and counts them, so the engine never waits for its log.
//!
//! A program needs no thread to read the queue. It looks at one byte, [`waiting`], after each of its own calls, and when
//! the byte is set, [`claim`]s the records and delivers them on the thread that looked.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata};

use super::clock::{deadline_after, since_1970};
use super::fork::{self, ForkGuard, Participant, Rank};

/// The largest number of records that wait.
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

/// Escapes control characters and line separators. Label values and replies of servers reach the log, and they must
/// neither begin a second record nor send commands to a terminal.
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

/// A program's log function. Any thread calls it, several at once.
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

    /// Sets the byte that programs look at. The lock of the sink is held, so the byte follows the queue.
    fn tell(&self) {
        let is_set = self.waiting() > 0 && !self.is_claimed;
        // Relaxed: the byte only says when to take the lock, and the lock orders the records.
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
            // Without the lock, because the callback may log or call the engine.
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
    // A logger that the program has installed for the `log` crate stays.
    let _ = log::set_logger(&Logger);
    log::set_max_level(level);
    let mut sink = lock();
    sink.output = output;
    // A thread that waits for a record of the queue looks again.
    CHANGED.notify_all();
}

/// Returns the byte that is 1 while records wait and no thread has claimed them.
pub(crate) fn waiting() -> &'static AtomicU8 {
    &WAITING
}

/// Claims the waiting records for this thread and returns their number. Returns 0 if none waits, or if a claim is
/// held: by another thread, or by an outer call of this one, as when the program's log handler calls the engine.
///
/// While the claim is held [`waiting`] is 0, so no other thread looks further, however long a log handler takes.
pub(crate) fn claim() -> usize {
    let mut sink = lock();
    if sink.is_claimed {
        return 0;
    }
    sink.is_claimed = sink.waiting() > 0;
    sink.tell();
    sink.waiting()
}

/// Ends a claim. Records that came in the meantime wait for the next call that looks.
pub(crate) fn release() {
    let mut sink = lock();
    sink.is_claimed = false;
    sink.tell();
}

/// Takes the next record from the queue. Waits for one for at most `timeout`, as long as records go to the queue.
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

/// The log, as a participant of forks.
struct LockedLog;

impl Participant for LockedLog {
    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_> {
        Box::new(lock())
    }
}

impl ForkGuard for MutexGuard<'static, Sink> {
    /// Drops the records, which the parent delivers, and the claim, whose thread the child may not have.
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
