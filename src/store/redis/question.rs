//! The questions of callers to the pipeline threads, and the answers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::exposition::Selection;
use crate::metric::Metric;
use crate::metric::family::Family;
use crate::model::error::Result;
use crate::model::sample::Snapshot;

/// A message to a pipeline thread.
#[derive(Debug)]
pub(crate) enum Question {
    Read {
        wanted: Wanted,
        deadline: Instant,
        answer: Sender<Result<Reading>>,
    },
    /// Ends one thread.
    Stop,
}

/// What is to be read.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// These families, and when their series began if the selection says so.
    Families(Vec<Arc<Family>>, Selection),
    /// All families of the store that are selected.
    All(Selection),
    /// These families, followed by those on the server that are selected and whose names are not `declared`
    /// here.
    WithOthers { families: Vec<Arc<Family>>, declared: HashSet<String>, selection: Selection },
    /// The cells of one metric.
    Metric(Arc<Metric>),
}

/// What was read.
#[derive(Debug)]
pub(crate) enum Reading {
    Snapshot(Snapshot),
    Cells(Vec<f64>),
}
