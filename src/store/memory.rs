//! The memory store: the cells of a metric are its values.
//!
//! Nothing to send, nothing to wait for. A forked child counts on with a copy of its own.

use std::sync::Arc;
use std::time::Instant;

use super::Store;
use crate::error::Result;
use crate::family::{Definition, Family};
use crate::fork::ForkGuard;
use crate::labels::Labels;
use crate::metric::{Cells, Metric};
use crate::sample::{FamilySamples, Series, Snapshot};
use crate::table::FamilyTable;

/// Which kind of cell a memory store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum CellKind {
    #[default]
    Atomic,
    Mutex,
}

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
        let metrics = self.table.metrics(family);
        let series = metrics
            .iter()
            .map(|metric| Series { labels: metric.labels.clone(), cells: metric.read_cells() })
            .collect();
        FamilySamples { definition: family.definition.clone(), series }
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
        Ok(Arc::new(Metric::new(Arc::clone(family), labels, cells)))
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
        let families = families.unwrap_or_else(|| self.table.kept_families());
        Ok(Snapshot { families: families.iter().map(|family| self.read_family(family)).collect() })
    }

    fn read(&self, metric: &Arc<Metric>) -> Result<Vec<f64>> {
        Ok(metric.read_cells())
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

/// The memory store has no locks but those of its cells, which know by themselves that a fork made them void.
struct NothingToHold;

impl ForkGuard for NothingToHold {
    fn forked(&mut self) {}
}
