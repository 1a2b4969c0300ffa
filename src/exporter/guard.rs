//! What decides which requests an exporter answers: functions of the program.

use std::fmt;
use std::sync::Arc;

use crossbeam_channel::Receiver;
use tokio::sync::oneshot;

type Known = dyn Fn(Option<&str>) -> Option<bool> + Send + Sync;
type Allows = dyn Fn(Option<&str>) -> bool + Send + Sync;

/// How many requests may wait for a slow guard. More get status 503.
pub(super) const MOST_QUESTIONS: usize = 8;

/// Decides by the header `Authorization` of each request whether to answer it. Others get status 401.
#[derive(Clone)]
pub struct Guard {
    known: Arc<Known>,
    /// `None` if `known` decides about all.
    allows: Option<Arc<Allows>>,
}

impl Guard {
    /// Makes a guard of a function that returns whether to answer. It runs on the exporter's thread, so it must not
    /// wait: a comparison of a hashed password is for [`Guard::slow`].
    pub fn new(allows: impl Fn(Option<&str>) -> bool + Send + Sync + 'static) -> Self {
        Self { known: Arc::new(move |authorization| Some(allows(authorization))), allows: None }
    }

    /// Makes a guard that may take long. `known` runs on the exporter's thread, and returns what it knows already.
    /// If that is nothing, `allows` decides on a thread of its own, so that others are answered meanwhile. At most
    /// 8 requests wait for it, and more get status 503.
    pub fn slow(
        known: impl Fn(Option<&str>) -> Option<bool> + Send + Sync + 'static,
        allows: impl Fn(Option<&str>) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { known: Arc::new(known), allows: Some(Arc::new(allows)) }
    }

    pub(super) fn known(&self, authorization: Option<&str>) -> Option<bool> {
        (self.known)(authorization)
    }

    /// Whether it needs a thread that [answers questions](Self::answer_questions).
    pub(super) fn is_slow(&self) -> bool {
        self.allows.is_some()
    }

    /// Decides about requests until the exporter's thread has ended.
    pub(super) fn answer_questions(&self, questions: &Receiver<Question>) {
        for Question { authorization, answer } in questions {
            // A client that has disconnected needs no answer.
            if !answer.is_closed() {
                let _ =
                    answer.send(self.allows.as_ref().is_some_and(|allows| allows(authorization.as_deref())));
            }
        }
    }
}

/// A request that waits for a slow guard.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) authorization: Option<String>,
    pub(super) answer: oneshot::Sender<bool>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Guard")
    }
}

/// Two are equal if they are copies of one.
impl PartialEq for Guard {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.known, &other.known)
    }
}

impl Eq for Guard {}
