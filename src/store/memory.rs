//! The memory store: the cells of a metric are its values.
//!
//! Nothing to send, nothing to wait for. A forked child counts on with a copy of its own.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::Store;
use super::option::StoreOption;
use crate::family::Family;
use crate::metric::{Cells, Metric};
use crate::model::definition::Definition;
use crate::model::error::Result;
use crate::model::labels::Labels;
use crate::model::report::{Report, counted};
use crate::model::sample::{FamilySamples, Snapshot};
use crate::process::fork::ForkGuard;
use crate::table::FamilyTable;

/// Which kind of cell a memory store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum CellKind {
    #[default]
    Atomic,
    Mutex,
}

/// Declares the options of a `memory:` URL.
pub(crate) const OPTIONS: &[StoreOption<CellKind>] = &[StoreOption {
    name: "cell",
    alias: None,
    expected: "atomic or mutex",
    default: Some("atomic"),
    help: "how threads change a value: by atomic operations, or behind a lock as 0.0.9 does",
    set: |cell, value| {
        *cell = match value {
            "atomic" => CellKind::Atomic,
            "mutex" => CellKind::Mutex,
            _ => return None,
        };
        Some(())
    },
}];

#[derive(Debug)]
pub(crate) struct MemoryStore {
    cell: CellKind,
    table: Arc<FamilyTable>,
}

impl MemoryStore {
    pub(crate) fn new(cell: CellKind, table: Arc<FamilyTable>) -> Self {
        Self { cell, table }
    }

    fn read_family(&self, family: &Family) -> FamilySamples {
        let mut samples = FamilySamples::new(family.definition.clone());
        for metric in self.table.metrics(family) {
            metric.read_cells_into(samples.push(&metric.key, metric.created));
        }
        samples
    }

    /// All families that are alive. Several handles may have one name, of which a scrape can show one.
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

    fn admit(&self, _: &Definition) -> Result<()> {
        Ok(())
    }

    fn declared(&self, _: &Arc<Family>) {}

    fn new_metric(&self, family: &Arc<Family>, labels: Labels) -> Result<Arc<Metric>> {
        let cells = match self.cell {
            CellKind::Atomic => Cells::atomic(&family.definition),
            CellKind::Mutex => Cells::mutex(family.definition.cell_count()),
        };
        let mut metric = Metric::new(Arc::clone(family), labels, cells);
        metric.created = now();
        Ok(Arc::new(metric))
    }

    fn created(&self, _: &Arc<Metric>) {}

    fn make_ready(&self) {}

    fn removed(&self, _: &Arc<Metric>) -> Result<()> {
        Ok(())
    }

    fn remove_unknown(&self, _: &Arc<Family>, _: &str) -> Result<bool> {
        Ok(false)
    }

    fn cleared(&self, _: &Arc<Family>, _: Vec<Arc<Metric>>) -> Result<()> {
        Ok(())
    }

    fn collect(&self, families: Option<Vec<Arc<Family>>>) -> Result<Snapshot> {
        let families = families.unwrap_or_else(|| self.first_of_each_name());
        Ok(Snapshot { families: families.iter().map(|family| self.read_family(family)).collect() })
    }

    fn collect_with_others(&self, families: Vec<Arc<Family>>, _: &HashSet<&str>) -> Result<Snapshot> {
        // There is nothing here that this process has not declared.
        self.collect(Some(families))
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

    fn flush(&self, _: Instant) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }

    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_> {
        Box::new(NothingToHold)
    }
}

/// In seconds since 1970, with milliseconds.
fn now() -> Option<f64> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(since_1970.as_millis() as f64 / 1000.0)
}

/// The memory store has no locks but those of its cells, which know by themselves that a fork made them void.
struct NothingToHold;

impl ForkGuard for NothingToHold {
    fn forked(&mut self) {}
}
