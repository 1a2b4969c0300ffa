//! Where values live. One interface, and one file or folder for each store.
//!
//! The hot path does not come through here: a metric changes its cells by itself. A store makes the cells,
//! reads them, and is told about families and metrics that come and go.

mod memory;
pub(crate) mod open;
mod option;
pub(crate) mod redis;
pub(crate) mod shared_memory;
pub(crate) mod union;
pub(crate) mod url;

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use crate::cell::Cells;
use crate::exposition::Selection;
use crate::metric::Metric;
use crate::metric::family::Family;
use crate::model::definition::Definition;
use crate::model::error::Result;
use crate::model::report::Report;
use crate::model::sample::Snapshot;
use crate::process::fork::ForkGuard;

/// The values of a backend: in memory, in a shared file, or on a server.
///
/// The default bodies suit a store that has nothing to send and no locks.
pub(crate) trait Store: Debug + Send + Sync {
    /// Returns whether the store keeps one family per name, so that all processes must agree on its
    /// definition.
    fn names_are_shared(&self) -> bool;

    /// Returns whether a gauge may have a value of its own for each process.
    fn has_modes(&self) -> bool {
        true
    }

    /// Refuses a family that cannot be declared: an incompatible family has its name, or the store has no
    /// room.
    fn admit(&self, _definition: &Definition) -> Result<()> {
        Ok(())
    }

    /// Tells the store that a family was declared.
    fn declared(&self, _family: &Arc<Family>) {}

    /// Makes a metric, which is not in the table yet. If this fails, the front door holds the metric back.
    fn new_metric(&self, family: &Arc<Family>, key: &Arc<str>) -> Result<Arc<Metric>>;

    /// Makes the cells of a metric that [`new_metric`](Self::new_metric) has refused before, or whose series has
    /// ended. Also returns after how many seconds without use its series ends, as the store has it. The default suits a
    /// store that refuses no metric. Unless it `may_wait` for other processes, it fails with
    /// [`ErrorKind::Timeout`](crate::ErrorKind) instead.
    fn cells_of(&self, metric: &Metric, _may_wait: bool) -> Result<(Cells, Option<u32>)> {
        let definition = &metric.family.definition;
        Ok((Cells::in_memory(definition), definition.series_ttl()))
    }

    /// Tells the store that a metric is in the table now.
    fn created(&self, _metric: &Arc<Metric>) {}

    /// Starts the threads that `removed` and `cleared` need. Those two cannot start them, because they are
    /// called with the table locked.
    fn make_ready(&self) {}

    /// Removes a metric that was taken out of the table.
    fn removed(&self, _metric: &Arc<Metric>) -> Result<()> {
        Ok(())
    }

    /// Removes a metric that only other processes have. Returns `false` if there is none, or if the store
    /// cannot tell.
    fn remove_unknown(&self, _family: &Arc<Family>, _key: &str) -> Result<bool> {
        Ok(false)
    }

    /// Removes all metrics of the family. `metrics` were taken out of the table.
    fn cleared(&self, _family: &Arc<Family>, _metrics: Vec<Arc<Metric>>) -> Result<()> {
        Ok(())
    }

    /// Reads families: those given, which are selected, or all of the store that are.
    fn collect(&self, families: Option<Vec<Arc<Family>>>, selection: &Selection) -> Result<Snapshot>;

    /// Reads these families, which are selected, and after them those of other processes: all that are selected
    /// and whose names are not in `declared`.
    fn collect_with_others(
        &self,
        families: Vec<Arc<Family>>,
        declared: &HashSet<&str>,
        selection: &Selection,
    ) -> Result<Snapshot>;

    /// Reads the cells of one metric.
    fn read(&self, metric: &Arc<Metric>) -> Result<Vec<f64>>;

    /// Examines everything that the store holds.
    fn check(&self) -> Result<Report>;

    /// Moves values from the layout of an older version to the present one.
    fn migrate(&self) -> Result<Report> {
        let mut report = Report::default();
        report.fact("this store has no older layout");
        Ok(report)
    }

    /// Sends what is pending.
    fn flush(&self, _deadline: Instant) -> Result<()> {
        Ok(())
    }

    /// Sends what is pending, and stops.
    fn close(&self) -> Result<()> {
        Ok(())
    }

    /// Takes the locks that the forking thread must hold across the fork: see [`crate::process::fork`].
    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_> {
        Box::new(NoLocks)
    }
}

/// The fork guard of a store that has no locks.
struct NoLocks;

impl ForkGuard for NoLocks {
    fn forked(&mut self) {}
}
