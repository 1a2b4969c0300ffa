//! The BackendAction thread: takes the changes that metrics have gathered, and sends them.
//!
//! Between sends it sleeps for an interval that [`super::pace`] decides, so that a million increments become a
//! few commands.
//! It takes events in the order in which they happened, and answers requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, never, select};

use super::message::Request;
use super::pace::Pace;
use super::sender::BatchSender;
use super::shared::Shared;
use crate::model::error::{Error, ErrorKind, Result};

/// How often an idle thread checks whether the server has ended the connection.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often events are taken while the store is lost. Events in the channel keep removed metrics alive.
const TAKE_EVERY: Duration = Duration::from_millis(100);

/// The state of the thread.
#[derive(Debug)]
pub(crate) struct Action {
    shared: Arc<Shared>,
    requests: Receiver<Request>,
    sender: BatchSender,
    pace: Pace,
    /// Set when the thread must give up at once, because the process is ending.
    abandoned: Arc<AtomicBool>,
}

impl Action {
    pub(crate) fn new(
        shared: Arc<Shared>,
        requests: Receiver<Request>,
        sender: BatchSender,
        abandoned: Arc<AtomicBool>,
    ) -> Self {
        let pace = Pace::new(shared.options.flush_interval, shared.options.max_flush_interval);
        Self { shared, requests, sender, pace, abandoned }
    }

    /// Runs until the thread is told to stop.
    pub(crate) fn run(&mut self) {
        while !self.abandoned.load(Ordering::Relaxed) {
            match self.wait() {
                // After the deadline the caller no longer waits.
                Some(Request::Flush { deadline, answer }) if Instant::now() < deadline => {
                    let _ = answer.send(self.flush());
                }
                Some(Request::Restore { loss, deadline, answer }) if Instant::now() < deadline => {
                    self.sender.suspect(&loss);
                    let _ = answer.send(self.flush());
                }
                Some(Request::Flush { .. } | Request::Restore { .. }) => {}
                Some(Request::Stop { deadline, answer }) => {
                    let unsent = self.stop(deadline);
                    if unsent == 0 {
                        self.sender.await_replicas(deadline);
                    }
                    let _ = answer.send(unsent);
                    // The caller does not wait for this, because the server may have stopped answering.
                    if unsent == 0 {
                        self.sender.leave();
                    }
                    return;
                }
                None => {
                    self.sender.backlog.take_events();
                    self.pace.has_waited(self.sender.backlog.has_work());
                    if self.sender.link.retry_at().is_none_or(|retry_at| retry_at <= Instant::now()) {
                        // The link logs a failure, and says when to try again.
                        let _ = self.sender.send();
                    }
                }
            }
        }
    }

    /// Waits for a request, or (`None`) until it is time to send.
    fn wait(&mut self) -> Option<Request> {
        let now = Instant::now();
        let interval = self.pace.interval();
        let backlog = &self.sender.backlog;
        let until = match self.sender.link.retry_at() {
            Some(retry_at) => retry_at.min(now + TAKE_EVERY),
            None if backlog.is_busy(now) || backlog.has_work() => now + interval,
            None => match backlog.outbox.retry_at() {
                Some(retry_at) => retry_at.max(now + interval),
                None => return self.wait_for_anything(),
            },
        };
        match self.requests.recv_deadline(until) {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => None,
            // The store and all readers are gone, which is the same as a stop that no caller waits for.
            Err(RecvTimeoutError::Disconnected) => Some(self.stop_unasked()),
        }
    }

    fn wait_for_anything(&mut self) -> Option<Request> {
        // The end of the connection may be the only sign that the server has lost the values of this process.
        let is_watching = self.sender.has_something_to_lose();
        let look = if is_watching { crossbeam_channel::after(LOOK_EVERY) } else { never() };
        let received = select! {
            recv(look) -> _ => return None,
            recv(self.requests) -> request => return Some(request.unwrap_or_else(|_| self.stop_unasked())),
            recv(self.sender.backlog.events) -> event => event,
        };
        match received {
            Ok(event) => self.sender.backlog.take_event(event),
            // The store is gone, but readers may still send requests.
            Err(_) => return Some(self.requests.recv().unwrap_or_else(|_| self.stop_unasked())),
        }
        None
    }

    fn stop_unasked(&self) -> Request {
        Request::Stop {
            deadline: Instant::now() + self.shared.options.shutdown_timeout,
            answer: crossbeam_channel::bounded(1).0,
        }
    }

    /// Sends everything that is pending at this time.
    fn flush(&mut self) -> Result<()> {
        self.sender.backlog.take_everything();
        self.sender.send()?;
        match self.sender.backlog.outbox.refusals().as_slice() {
            [] => {
                self.shared.tally.flushed();
                Ok(())
            }
            reasons => Err(Error::new(ErrorKind::Store, reasons.join("; "))),
        }
    }

    /// Sends until nothing is left or the deadline has passed. Returns the number of changes that are left.
    fn stop(&mut self, deadline: Instant) -> usize {
        loop {
            self.sender.backlog.take_everything();
            let retry_at = self.sender.link.retry_at();
            let nothing_counts = self.sender.backlog.outbox.unsent_count() == 0;
            if nothing_counts && (!self.sender.backlog.announcer.has_waiting() || retry_at.is_some()) {
                return 0;
            }
            let is_sent = self.sender.send().is_ok() && !self.sender.backlog.outbox.has_unsent();
            let now = Instant::now();
            if is_sent || now >= deadline || self.abandoned.load(Ordering::Relaxed) {
                return self.sender.backlog.outbox.unsent_count();
            }
            // A stop is the last request, so this thread may sleep without delaying another one.
            let retry_at = self.sender.link.retry_at().unwrap_or(now).min(deadline);
            std::thread::sleep(retry_at.saturating_duration_since(now));
        }
    }
}
