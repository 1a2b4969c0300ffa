//! The memory store: the values live in this process.
//!
//! There is nothing to send and nothing to wait for. A forked child continues with a copy of its own.

use std::collections::HashSet;
use std::sync::Arc;

use super::Store;
use super::option::StoreOption;
use crate::cell::Cells;
use crate::exposition::Selection;
use crate::metric::Metric;
use crate::metric::family::Family;
use crate::metric::table::FamilyTable;
use crate::model::error::Result;
use crate::model::report::{Report, counted};
use crate::model::sample::{FamilySamples, Snapshot};

/// Declares the options of a `memory:` URL.
pub(crate) const OPTIONS: &[StoreOption<()>] = &[StoreOption {
    name: "cell",
    alias: None,
    expected: "atomic or mutex",
    default: Some("atomic"),
    help: "accepted for programs written for 0.0.9; both values mean atomic operations",
    set: |(), value| matches!(value, "atomic" | "mutex").then_some(()),
}];

#[derive(Debug)]
pub(crate) struct MemoryStore {
    table: Arc<FamilyTable>,
}

impl MemoryStore {
    pub(crate) fn new(table: Arc<FamilyTable>) -> Self {
        Self { table }
    }

    fn read_family(&self, family: &Family) -> FamilySamples {
        let mut samples = FamilySamples::new(family.definition.clone());
        let mut values = vec![0.0; family.definition.cell_count()];
        let mut has_ended = false;
        self.table.visit_metrics(family, |metric| {
            match metric.cells.expiring() {
                None => metric.cells.read(samples.push(&metric.key, metric.created())),
                Some(series) => {
                    let Some(created) = series.read_live(&mut values) else {
                        has_ended = true;
                        return;
                    };
                    samples.push(&metric.key, created).copy_from_slice(&values);
                }
            }
            samples.set_exemplars(metric.exemplars());
        });
        if has_ended {
            self.table.drop_ended(family);
        }
        samples
    }

    /// Returns the families that a scrape shows: of several families of one name, the first.
    fn first_of_each_name(&self) -> Vec<Arc<Family>> {
        let mut families = self.table.live_families();
        let mut names = HashSet::new();
        families.retain(|family| names.insert(family.definition.name().to_owned()));
        families
    }
}

impl Store for MemoryStore {
    fn names_are_shared(&self) -> bool {
        false
    }

    fn new_metric(&self, family: &Arc<Family>, key: &Arc<str>) -> Result<Arc<Metric>> {
        if let Some(ttl) = family.definition.series_ttl() {
            return Ok(Metric::expiring(family, key, Some(ttl), |family| {
                Cells::in_memory(&family.definition)
            }));
        }
        let metric = Metric::new(Arc::clone(family), Arc::clone(key), Cells::in_memory(&family.definition));
        Ok(Arc::new(metric.created_now()))
    }

    fn collect(&self, families: Option<Vec<Arc<Family>>>, selection: &Selection) -> Result<Snapshot> {
        let mut families = families.unwrap_or_else(|| self.first_of_each_name());
        families.retain(|family| selection.admits(&family.definition));
        Ok(Snapshot { families: families.iter().map(|family| self.read_family(family)).collect() })
    }

    fn collect_with_others(
        &self,
        families: Vec<Arc<Family>>,
        _: &HashSet<&str>,
        selection: &Selection,
    ) -> Result<Snapshot> {
        // This store has no families of other processes.
        self.collect(Some(families), selection)
    }

    fn read(&self, metric: &Arc<Metric>) -> Result<Vec<f64>> {
        Ok(metric.read_cells())
    }

    fn check(&self) -> Result<Report> {
        let mut report = Report::default();
        let families = self.table.live_families();
        let metrics = families.iter().map(|family| self.table.metrics(family).len()).sum();
        report.fact(format!("{}, {}", counted(families.len(), "family"), counted(metrics, "metric")));
        Ok(report)
    }
}
