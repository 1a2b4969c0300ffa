//! The thread that reads the store and renders the metrics, so that the exporter's thread never waits for a
//! store.
//!
//! It scrapes once for all waiting requests of the same families and format, and these clients share the text, so
//! additional clients cost a slow store no additional work. It never touches a socket.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use crossbeam_channel::Receiver;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::oneshot;

use super::crowd::Answers;
use crate::backend::Backend;
use crate::backend::RenderOptions;
use crate::exposition::{Format, NameFilter, Rendered};
use crate::model::error::{Error, ErrorKind, Result};

/// A client that waits for the metrics.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) wanted: Wanted,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// The form in which a client wants the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) format: Format,
    /// The families that the client asks for, or `None` for all.
    pub(super) names: Option<NameFilter>,
    pub(super) gzip: bool,
}

/// The options of the exporter that change what each client gets.
#[derive(Debug)]
pub(super) struct Presentation {
    pub(super) name_prefix: Option<String>,
    pub(super) created_samples: bool,
}

/// The metrics, or the reason why they cannot be read.
pub(super) type Answer = Result<Scrape>;

/// The metrics as they are sent. Clones share the body.
#[derive(Debug, Clone)]
pub(super) struct Scrape {
    pub(super) content_type: String,
    pub(super) is_gzipped: bool,
    pub(super) body: Bytes,
}

/// Answers requests until the exporter's thread has ended.
pub(super) fn answer_requests(
    backend: Backend,
    how: Presentation,
    answers: Answers,
    requests: &Receiver<Request>,
) {
    let mut source = Source { backend: Some(backend), how, answers, is_failing: false };
    while let Ok(first) = requests.recv() {
        let mut waiting: Vec<Request> = [first].into_iter().chain(requests.try_iter()).collect();
        // A client that has disconnected needs no scrape.
        waiting.retain(|request| !request.answer.is_closed());
        while let Some(wanted) = waiting.first().map(|request| request.wanted.clone()) {
            let answer = source.scrape(&wanted);
            let (same, others) = waiting.into_iter().partition(|request| request.wanted == wanted);
            waiting = others;
            for request in same {
                // Sending fails if the client has disconnected in the meantime.
                let _ = request.answer.send(answer.clone());
            }
        }
    }
}

struct Source {
    /// `None` after the backend was found closed, so that its memory is freed.
    backend: Option<Backend>,
    how: Presentation,
    answers: Answers,
    is_failing: bool,
}

impl Source {
    /// Scrapes once. Logs when failures begin and when they end.
    fn scrape(&mut self, wanted: &Wanted) -> Answer {
        if self.backend.as_ref().is_some_and(Backend::is_closed) {
            self.backend = None;
        }
        let answer = match &self.backend {
            Some(backend) => {
                catch_unwind(AssertUnwindSafe(|| self.render(backend, wanted))).unwrap_or_else(|_| {
                    Err(Error::new(ErrorKind::Store, "a defect in this library: see its log"))
                })
            }
            None => Err(Error::new(ErrorKind::Unavailable, "the backend is closed")),
        };
        match &answer {
            Err(error) if !self.is_failing => log::warn!("a scrape failed: {error}"),
            Ok(_) if self.is_failing => log::info!("scrapes work again"),
            _ => {}
        }
        self.is_failing = answer.is_err();
        answer
    }

    fn render(&self, backend: &Backend, wanted: &Wanted) -> Answer {
        let options = RenderOptions {
            format: wanted.format,
            name_prefix: self.how.name_prefix.as_deref(),
            created_samples: self.how.created_samples,
            names: wanted.names.as_ref(),
            ..RenderOptions::default()
        };
        let Rendered { body, content_type } = backend.render(&options)?;
        let body = if wanted.gzip { gzip(&body)? } else { body };
        let body = Bytes::from_owner(self.answers.count(body));
        Ok(Scrape { content_type, is_gzipped: wanted.gzip, body })
    }
}

fn gzip(body: &[u8]) -> Result<Vec<u8>> {
    let failed =
        |error| Error::new(ErrorKind::Store, format!("the metrics could not be compressed: {error}"));
    // Metrics are repetitive: even the fastest level makes them about ten times smaller.
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    encoder.write_all(body).map_err(failed)?;
    encoder.finish().map_err(failed)
}
