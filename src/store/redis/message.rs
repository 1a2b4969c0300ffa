//! The messages that other threads send to the BackendAction thread, and the wait for its answers.
//!
//! Events report what the program did, in order, and no thread waits for them. Requests are answered, or
//! given up at their deadline.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::shared::Shared;
use crate::metric::Metric;
use crate::metric::family::Family;
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};

/// Something that the program did.
#[derive(Debug)]
pub(crate) enum Event {
    /// It declared a family. Only the definition is sent, because an event must not keep a family alive.
    Declared(Box<Definition>),
    /// It changed a metric.
    Dirty(Arc<Metric>),
    /// It removed a metric.
    Removed(Arc<Metric>),
    /// It removed all metrics of a family.
    Cleared(Arc<Family>),
    /// The thread could not be started when it was first needed, so earlier events are missing.
    StartedLate,
}

/// The data that the server seems to have lost.
#[derive(Debug)]
pub(crate) enum Loss {
    /// The keys of these families.
    Keys(Vec<String>),
    /// Definitions of families that this process declared.
    Definitions,
}

/// A request of another thread to the BackendAction thread.
#[derive(Debug)]
pub(crate) enum Request {
    /// Send everything that is pending now. The answer comes when the server has confirmed or refused it.
    Flush { deadline: Instant, answer: Sender<Result<()>> },
    /// Restore what this process knows of the lost data, and flush.
    Restore { loss: Loss, deadline: Instant, answer: Sender<Result<()>> },
    /// Send everything that is pending, retrying until the deadline, and end. The answer is the number of
    /// changes that could not be sent.
    Stop { deadline: Instant, answer: Sender<usize> },
}

/// Sends requests to the BackendAction thread.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    sender: Sender<Request>,
    shared: Arc<Shared>,
}

impl Requests {
    pub(crate) fn new(sender: Sender<Request>, shared: Arc<Shared>) -> Self {
        Self { sender, shared }
    }

    /// Sends everything that is pending, and waits until the server has answered.
    pub(crate) fn flush(&self, deadline: Instant) -> Result<()> {
        let (answer, answers) = bounded(1);
        // If the thread has ended, the answer's channel is closed, which `wait_for` reports.
        let _ = self.sender.send(Request::Flush { deadline, answer });
        wait_for(&answers, &self.shared, deadline, "sending what is pending")
    }

    /// Restores what the server has lost, and waits until the server has answered.
    pub(crate) fn restore(&self, loss: Loss, deadline: Instant) -> Result<()> {
        let (answer, answers) = bounded(1);
        let _ = self.sender.send(Request::Restore { loss, deadline, answer });
        wait_for(&answers, &self.shared, deadline, "restoring what the server has lost")
    }

    /// Tells the thread to end by `deadline`. The receiver gets the number of changes that could not be sent.
    pub(crate) fn stop(&self, deadline: Instant) -> Receiver<usize> {
        let (answer, answers) = bounded(1);
        let _ = self.sender.send(Request::Stop { deadline, answer });
        answers
    }
}

/// Waits for an answer until `deadline`. `what` is the subject of the error message.
pub(crate) fn wait_for<T>(
    answers: &Receiver<Result<T>>,
    shared: &Shared,
    deadline: Instant,
    what: &str,
) -> Result<T> {
    let address = &shared.options.address;
    match answers.recv_deadline(deadline) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(Error::new(
            ErrorKind::Timeout,
            format!("{what} was not done in time: {address} does not answer"),
        )),
        Err(RecvTimeoutError::Disconnected) => Err(Error::new(
            ErrorKind::Unavailable,
            format!("{what} was given up: the backend for {address} is closed"),
        )),
    }
}
