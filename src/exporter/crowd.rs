//! The connections of an exporter, and the choice of the ones that are closed to make room for others.
//!
//! A client that sends no request, or does not read its answer, must not keep a scraper out. So when all
//! connections are taken and another client connects, the exporter closes a connection that waits for its
//! client: the one that has waited longest, if its client has had enough time to act. A connection whose
//! answer is being rendered is not closed.
//!
//! All of this runs on the exporter's thread. The locks and atomics exist only because tokio tasks must be
//! `Send`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a connection may wait for a request before it can be closed to make room. A client that connects
/// to send a request has sent it by then.
const TIME_TO_ASK: Duration = Duration::from_millis(250);
/// How long a client may read its answer before its connection can be closed to make room.
const TIME_TO_READ: Duration = Duration::from_secs(1);
/// If more bytes of answers than this wait for their readers, slow readers are disconnected before another
/// answer is rendered.
const MOST_BYTES: usize = 64 << 20;

/// The phase of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The exporter waits for a request.
    Asking,
    /// The answer is being rendered.
    Answering,
    /// The exporter waits for the client to read.
    Reading,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Member {
    state: Mutex<(Phase, Instant)>,
    is_closing: AtomicBool,
    closing: Notify,
}

impl Member {
    fn enter(&self, phase: Phase) {
        *lock(&self.state) = (phase, Instant::now());
    }

    /// Notes that a request has arrived.
    pub(super) fn has_asked(&self) {
        self.enter(Phase::Answering);
    }

    /// Notes that the answer is ready and is being written to the client.
    pub(super) fn is_answered(&self) {
        self.enter(Phase::Reading);
    }

    /// Notes that everything has been written.
    pub(super) fn is_written(&self) {
        if lock(&self.state).0 == Phase::Reading {
            self.enter(Phase::Asking);
        }
    }

    /// Resolves when the connection has to be closed to make room.
    pub(super) async fn closing(&self) {
        while !self.is_closing.load(Ordering::Relaxed) {
            self.closing.notified().await;
        }
    }

    fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
        self.closing.notify_one();
    }

    /// Returns the time since which the connection has waited for its client, if the client has had enough
    /// time to act.
    fn waits_since(&self) -> Option<Instant> {
        let (phase, since) = *lock(&self.state);
        let time = match phase {
            Phase::Asking => TIME_TO_ASK,
            Phase::Answering => return None,
            Phase::Reading => TIME_TO_READ,
        };
        let is_open = !self.is_closing.load(Ordering::Relaxed);
        (is_open && since.elapsed() >= time).then_some(since)
    }

    fn is_reading(&self) -> bool {
        lock(&self.state).0 == Phase::Reading
    }
}

/// All connections of an exporter.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    members: Mutex<Vec<Weak<Member>>>,
    answers: Answers,
}

impl Crowd {
    /// Creates a crowd without connections. `answers` counts the bytes of its answers.
    pub(super) fn new(answers: Answers) -> Self {
        Self { members: Mutex::default(), answers }
    }

    /// Adds a connection. Dropping the returned member removes it.
    pub(super) fn join(&self) -> Arc<Member> {
        let state = Mutex::new((Phase::Asking, Instant::now()));
        let member = Arc::new(Member { state, is_closing: AtomicBool::new(false), closing: Notify::new() });
        let mut members = lock(&self.members);
        members.retain(|known| known.strong_count() > 0);
        members.push(Arc::downgrade(&member));
        member
    }

    /// Closes the connection that has waited longest for its client. Returns `false` if no connection may be
    /// closed.
    pub(super) fn make_room(&self) -> bool {
        let longest = self.waiting().min_by_key(|(since, _)| *since);
        longest.inspect(|(_, member)| member.close()).is_some()
    }

    /// Whether [`make_room`](Self::make_room) can close a connection.
    pub(super) fn can_make_room(&self) -> bool {
        self.waiting().next().is_some()
    }

    /// Whether another answer may be rendered. If too many bytes wait for their readers, closes the
    /// connections of all clients that have had enough time to read. Returns `false` if there are no such
    /// clients.
    pub(super) fn admits_answer(&self) -> bool {
        if self.answers.bytes.load(Ordering::Relaxed) <= MOST_BYTES {
            return true;
        }
        let slow: Vec<Arc<Member>> =
            self.waiting().map(|(_, member)| member).filter(|member| member.is_reading()).collect();
        slow.iter().for_each(|member| member.close());
        !slow.is_empty()
    }

    /// Returns the connections that may be closed, each with the time since which it has waited.
    fn waiting(&self) -> impl Iterator<Item = (Instant, Arc<Member>)> {
        let members: Vec<Arc<Member>> = lock(&self.members).iter().filter_map(Weak::upgrade).collect();
        members.into_iter().filter_map(|member| Some((member.waits_since()?, member)))
    }
}

/// The number of bytes of answers that clients have not read yet. Clones share the number.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers {
    bytes: Arc<AtomicUsize>,
}

impl Answers {
    /// Counts the text of an answer until the last client that gets it has read it or disconnected.
    pub(super) fn count(&self, text: Vec<u8>) -> CountedText {
        self.bytes.fetch_add(text.len(), Ordering::Relaxed);
        CountedText { answers: self.clone(), text }
    }
}

/// The text of an answer. All clients that get the same answer share it.
#[derive(Debug)]
pub(super) struct CountedText {
    answers: Answers,
    text: Vec<u8>,
}

impl AsRef<[u8]> for CountedText {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Drop for CountedText {
    fn drop(&mut self) {
        self.answers.bytes.fetch_sub(self.text.len(), Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
