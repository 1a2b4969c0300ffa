//! Holds the runtime of this process: the threads that serve its store.
//!
//! A forked child forgets its parent's threads without touching them: they do not exist in the child, and
//! their channels may be half changed. It closes the sockets that it inherited, and starts threads of its own
//! when it first needs them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::message::Event;
use super::runtime::Runtime;
use crate::model::error::{Error, Result};
use crate::process::fork::ForkGuard;

/// How long increments do not try to start threads again after a failure.
const AFTER_FAILED_START: Duration = Duration::from_secs(1);

/// The runtime of this process, if it has one.
#[derive(Debug)]
pub(crate) struct RuntimeSlot(Mutex<State>);

#[derive(Debug)]
enum State {
    Running(Arc<Runtime>),
    /// No threads: a forked child has not used the store yet (`None`), or starting them last failed at this
    /// time.
    NotStarted {
        failed_at: Option<Instant>,
    },
    Closed,
}

impl RuntimeSlot {
    /// Makes a slot with the result of the first start. Logs an error.
    pub(crate) fn new(started: Result<Arc<Runtime>>) -> Self {
        Self(Mutex::new(match started.map_err(kept) {
            Ok(runtime) => State::Running(runtime),
            Err(error) => {
                log::error!("{error}");
                State::NotStarted { failed_at: Some(Instant::now()) }
            }
        }))
    }

    /// Returns the runtime, and starts it if need be. `None` if the store is closed, or if the runtime cannot
    /// be started. A start that failed is not repeated for a second, because callers of this function cannot
    /// wait.
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

    /// Returns the runtime, and starts it if need be. `None` if the store is closed.
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
        let started = start().map_err(kept);
        *state = match &started {
            Ok(runtime) => State::Running(Arc::clone(runtime)),
            Err(_) => State::NotStarted { failed_at: Some(Instant::now()) },
        };
        // The log may call the program, so the lock must be free.
        drop(state);
        match &started {
            Ok(runtime) => {
                if had_failed {
                    runtime.push(Event::StartedLate);
                }
            }
            Err(error) if !had_failed => log::error!("{error}"),
            Err(_) => {}
        }
        started.map(Some)
    }

    /// Takes the runtime out for good. If it could not be started before, this tries once more.
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

    /// Returns whether the runtime was taken out for good.
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
            runtime.sockets().iter().for_each(|socket| socket.close_inherited());
            // Dropping it would touch channels that other threads may have been changing at the fork.
            std::mem::forget(runtime);
        }
    }
}

/// Adds to the error of a failed start that the changes of this process are kept.
fn kept(error: Error) -> Error {
    let promise = "what this process counts is kept, and sent when a thread can be started";
    Error::new(error.kind(), format!("{error}; {promise}"))
}
