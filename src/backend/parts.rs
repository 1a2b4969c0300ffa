//! The state that the handles of a backend share: its store, its table, and its counters.
//!
//! This file also implements what a backend does at a fork and at the exit of the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, RwLockWriteGuard};

use super::collector::Collector;
use super::held_back::{HeldBack, is_lasting};
use super::process_metrics::ProcessMetrics;
use super::self_metrics::SelfMetrics;
use crate::metric::Metric;
use crate::metric::family::{Family, ReadCells};
use crate::metric::table::{FamilyTable, Records};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::series_ttl::SeriesTtl;
use crate::model::statistics::Tally;
use crate::process::exit::AtExit;
use crate::process::fork::{ForkGuard, Participant};
use crate::store::Store;

/// What has become of a metric that was offered to the store.
enum Offered {
    /// The store has it. `true` if it is a new one, and not one that a forked child has inherited.
    Moved(bool),
    /// The store refuses it. `true` if it always will.
    Refused { is_lasting: bool },
    /// It did not wait for the store.
    Gone,
}

#[derive(Debug)]
pub(super) struct BackendParts {
    pub(super) store: Box<dyn Store>,
    pub(super) table: Arc<FamilyTable>,
    pub(super) tally: Arc<Tally>,
    pub(super) held_back: HeldBack,
    /// Set when the backend is opened, and only read later, like [`Tally`]'s follower.
    pub(super) self_metrics: OnceLock<Arc<SelfMetrics>>,
    /// Set at most once, by the first call of `Backend::process_metrics`.
    pub(super) process_metrics: OnceLock<ProcessMetrics>,
    pub(super) collector: Collector,
    pub(super) is_closed: AtomicBool,
    /// The option of the store: when series of families end that do not say so themselves.
    pub(super) series_ttl: Option<SeriesTtl>,
}

impl BackendParts {
    /// Sends pending changes, and closes the store.
    pub(super) fn close(&self) -> Result<()> {
        // The flag is set before the store is closed. A reader that sees it in between only gives up early.
        // Relaxed: the flag publishes no other data.
        self.is_closed.store(true, Ordering::Relaxed);
        self.prepare_to_send();
        self.store.close()
    }

    /// Offers the metrics that are held back to the store, and updates the metrics of the statistics. Call it
    /// before a flush, a scrape and a close.
    pub(super) fn prepare_to_send(&self) {
        self.offer_held_back();
        if let Some(metrics) = self.self_metrics.get() {
            metrics.refresh();
        }
        self.refresh_process_metrics();
    }

    /// Updates the metrics that show this process, if the program has asked for them.
    pub(super) fn refresh_process_metrics(&self) {
        if let Some(metrics) = self.process_metrics.get() {
            metrics.refresh(|family| self.metric(family, "{}").ok());
        }
    }

    /// Returns the metric of `family` with the canonical labels `key`, and creates it if necessary. It never
    /// fails because of the store: see [`held_back`](super::held_back).
    pub(super) fn metric(&self, family: &Arc<Family>, key: &str) -> Result<Arc<Metric>> {
        if let Some(known) = self.table.metric(family, key) {
            known.touch();
            if known.cells.is_held_back() && !self.held_back.has_just_refused() {
                self.offer_held_back();
            }
            return Ok(known);
        }
        if self.held_back.is_active() && !self.held_back.has_just_refused() {
            self.offer_held_back();
        }
        let key = Arc::from(key);
        if self.held_back.has_just_refused() {
            return Ok(self.hold_back(family, &key));
        }
        match self.store.new_metric(family, &key) {
            Ok(metric) => {
                let metric = self.table.insert_metric(metric);
                self.store.created(&metric);
                Ok(metric)
            }
            Err(error) => {
                self.held_back.refused(family.definition.name(), &error);
                Ok(self.hold_back(family, &key))
            }
        }
    }

    /// Creates a metric that counts in this process until the store accepts it.
    fn hold_back(&self, family: &Arc<Family>, key: &Arc<str>) -> Arc<Metric> {
        let metric = self.table.insert_metric(Metric::held_back(family, key));
        self.held_back.holds();
        metric
    }

    /// Offers the metrics that are held back to the store. Stops at the first temporary refusal. Holds no
    /// lock while the store works.
    fn offer_held_back(&self) {
        if !self.held_back.is_active() {
            return;
        }
        self.held_back.begin();
        let (mut moved, mut has_left) = (0, false);
        for metric in self.table.held_back() {
            match self.offer_one(&metric, true) {
                Offered::Moved(is_new) => moved += usize::from(is_new),
                Offered::Gone => {}
                Offered::Refused { is_lasting } => {
                    has_left = true;
                    if !is_lasting {
                        break;
                    }
                }
            }
        }
        self.held_back.end(moved, has_left);
    }

    /// Offers a metric to the store, if it waits for it. `may_wait` says whether the store may wait for other processes.
    fn offer_one(&self, metric: &Arc<Metric>, may_wait: bool) -> Offered {
        let offered = metric.cells.with_held_back(|held| {
            if !held.may_be_stored() {
                return Offered::Refused { is_lasting: true };
            }
            match self.store.cells_of(metric, may_wait) {
                Ok((cells, ttl)) => {
                    let is_new = !held.is_inherited();
                    let is_stored = match metric.cells.expiring() {
                        Some(series) => series.store_in(cells, ttl),
                        None => {
                            held.store_in(cells);
                            true
                        }
                    };
                    // If the program has removed the metric in the meantime, its record must not stay. See
                    // `removed`.
                    if held.is_removed() || !metric.cells.is_live() {
                        let _ = self.store.removed(metric);
                    }
                    if is_stored { Offered::Moved(is_new) } else { Offered::Gone }
                }
                Err(error) if !may_wait && error.kind() == ErrorKind::Timeout => {
                    self.held_back.postpone();
                    Offered::Refused { is_lasting: false }
                }
                Err(error) => {
                    self.held_back.refused(metric.family.definition.name(), &error);
                    let is_lasting = is_lasting(&error);
                    if is_lasting {
                        held.give_up();
                    }
                    Offered::Refused { is_lasting }
                }
            }
        });
        offered.unwrap_or(Offered::Gone)
    }

    /// Tells the store to remove a metric that was taken out of the table.
    fn removed(&self, metric: &Arc<Metric>) -> Result<()> {
        // Either a thread that offers the metric to the store sees that it is removed, or this thread sees that it was
        // stored.
        let is_stored = metric.cells.remove();
        match self.store.removed(metric) {
            // Another process may have a series with these labels, so a store that is locked is an error. A full one is
            // why this process has none, and nobody can have a series of a family that it does not hold.
            Err(error) if !is_stored && error.kind() != ErrorKind::Timeout => {
                log::debug!("a metric that the store never had is removed: {error}");
                Ok(())
            }
            result => result,
        }
    }

    /// Removes the metric of `family` with the canonical labels `key`.
    pub(super) fn remove_metric(&self, family: &Arc<Family>, key: &str) -> Result<()> {
        let Self { store, table, .. } = self;
        store.make_ready();
        if let Some(result) = table.remove_metric(family, key, |metric| self.removed(metric)) {
            return result;
        }
        if store.remove_unknown(family, key)? {
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
        table.clear(family, store.names_are_shared(), |metrics| {
            for metric in &metrics {
                metric.cells.remove();
            }
            store.cleared(family, metrics)
        })
    }
}

impl ReadCells for BackendParts {
    fn read(&self, metric: &Arc<Metric>) -> Result<Vec<f64>> {
        self.store.read(metric)
    }

    fn offer(&self) {
        if !self.held_back.has_just_refused() {
            self.held_back.holds();
            self.offer_held_back();
        }
    }

    fn settle(&self, metric: &Arc<Metric>) {
        // A change does not wait for the lock of a file, because counting never does. Then the metric is held back for
        // a moment.
        let may_offer = !self.held_back.has_just_refused() && !self.held_back.was_postponed();
        if !may_offer || matches!(self.offer_one(metric, false), Offered::Refused { .. }) {
            self.held_back.holds();
        }
    }
}

impl Participant for BackendParts {
    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_> {
        // The table is locked first, because removals call the store while the table is locked.
        let records = self.table.lock_for_fork();
        Box::new(Locked { records, store: self.store.lock_for_fork(), parts: self })
    }
}

/// The locks of a backend while the forking thread holds them.
struct Locked<'parts> {
    records: RwLockWriteGuard<'parts, Records>,
    store: Box<dyn ForkGuard + 'parts>,
    parts: &'parts BackendParts,
}

impl ForkGuard for Locked<'_> {
    /// Discards pending changes and statistics, which belong to the parent. The child's store starts again at
    /// its first use.
    fn forked(&mut self) {
        self.records.discard_pending();
        // The gauges of which every process has its own value have no cells of the child yet.
        self.parts.held_back.holds();
        self.store.forked();
        self.parts.tally.forked();
        if let Some(metrics) = self.parts.self_metrics.get() {
            metrics.forked();
        }
        if let Some(metrics) = self.parts.process_metrics.get() {
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
