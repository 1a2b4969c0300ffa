//! What the handles of a backend share: its store, its table, and its counters.
//!
//! A backend takes part in forks and in the end of the process here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, RwLockWriteGuard};

use super::self_metrics::SelfMetrics;
use crate::metric::Metric;
use crate::metric::family::{Family, ReadCells};
use crate::metric::table::{FamilyTable, Records};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::labels::{self, Labels};
use crate::model::statistics::Tally;
use crate::process::exit::AtExit;
use crate::process::fork::{ForkGuard, Participant};
use crate::store::Store;

#[derive(Debug)]
pub(super) struct BackendParts {
    pub(super) store: Box<dyn Store>,
    pub(super) table: Arc<FamilyTable>,
    pub(super) tally: Arc<Tally>,
    /// Set when the backend is opened, and only read later, as [`Tally`]'s follower.
    pub(super) self_metrics: OnceLock<Arc<SelfMetrics>>,
    pub(super) is_closed: AtomicBool,
}

impl BackendParts {
    /// Sends what is pending, and stops.
    pub(super) fn close(&self) -> Result<()> {
        // The flag is set early: a reader that sees it before the store is closed only gives up too early.
        // Relaxed: nothing is published with it.
        self.is_closed.store(true, Ordering::Relaxed);
        self.refresh_self_metrics();
        self.store.close()
    }

    pub(super) fn refresh_self_metrics(&self) {
        if let Some(metrics) = self.self_metrics.get() {
            metrics.refresh();
        }
    }

    /// Returns the metric of `family` with these labels, made if there is none.
    pub(super) fn metric(&self, family: &Arc<Family>, labels: Labels) -> Result<Arc<Metric>> {
        let Self { store, table, .. } = self;
        if let Some(known) = table.metric(family, &labels::encode(&labels)) {
            return Ok(known);
        }
        let metric = table.insert_metric(store.new_metric(family, labels)?);
        store.created(&metric);
        Ok(metric)
    }

    /// Removes the metric of `family` with these labels.
    pub(super) fn remove_metric(&self, family: &Arc<Family>, labels: &Labels) -> Result<()> {
        let Self { store, table, .. } = self;
        let key = labels::encode(labels);
        store.make_ready();
        if let Some(result) = table.remove_metric(family, &key, |metric| store.removed(metric)) {
            return result;
        }
        if store.remove_unknown(family, &key)? {
            return Ok(());
        }
        let name = family.definition.name();
        let message = format!("metric family {name:?} has no metric with the labels {key}");
        Err(Error::new(ErrorKind::NotFound, message))
    }

    /// Removes all metrics of `family`.
    pub(super) fn clear_family(&self, family: &Arc<Family>) -> Result<()> {
        let Self { store, table, .. } = self;
        store.make_ready();
        table.clear(family, store.names_are_shared(), |metrics| store.cleared(family, metrics))
    }
}

impl ReadCells for BackendParts {
    fn read(&self, metric: &Arc<Metric>) -> Result<Vec<f64>> {
        self.store.read(metric)
    }
}

impl Participant for BackendParts {
    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_> {
        // The table first: the store is told of removals while the table is locked.
        let records = self.table.lock_for_fork();
        Box::new(Locked { records, store: self.store.lock_for_fork(), parts: self })
    }
}

/// A backend whose locks the forking thread holds.
struct Locked<'parts> {
    records: RwLockWriteGuard<'parts, Records>,
    store: Box<dyn ForkGuard + 'parts>,
    parts: &'parts BackendParts,
}

impl ForkGuard for Locked<'_> {
    /// The parent sends what is pending and counts what was done; the child's store starts anew on its first use.
    fn forked(&mut self) {
        self.records.discard_pending();
        self.store.forked();
        self.parts.tally.forked();
        if let Some(metrics) = self.parts.self_metrics.get() {
            metrics.forked();
        }
    }
}

impl AtExit for BackendParts {
    fn finish(&self) {
        if let Err(error) = self.close() {
            log::error!("{error}");
        }
    }
}
