//! Where cells live. One interface, one file or folder for each store.
//!
//! The hot path does not come through here: a metric changes its cells by itself. A store makes the
//! cells, reads them, and is told about families and metrics that come and go.

mod memory;
mod option;
pub(crate) mod redis;
pub(crate) mod shared_memory;
mod url;

use self::url::StoreOptions;
pub(crate) use self::url::StoreUrl;

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use crate::family::Family;
use crate::metric::Metric;
use crate::model::definition::Definition;
use crate::model::error::Result;
use crate::model::labels::Labels;
use crate::model::report::Report;
use crate::model::sample::Snapshot;
use crate::process::fork::ForkGuard;
use crate::statistics::Tally;
use crate::table::FamilyTable;

/// What a backend asks of its store.
pub(crate) trait Store: Debug + Send + Sync {
    /// Whether the store itself knows a family by its name, so that all who use one must agree on it.
    fn names_are_shared(&self) -> bool;

    /// Whether a family may be declared: others may have declared its name in another way, or the store
    /// may have no room for it.
    fn admit(&self, definition: &Definition) -> Result<()>;

    /// A family was declared.
    fn declared(&self, family: &Arc<Family>);

    /// Makes a metric, which is not in the table yet.
    fn new_metric(&self, family: &Arc<Family>, labels: Labels) -> Result<Arc<Metric>>;

    /// The metric is in the table now.
    fn created(&self, metric: &Arc<Metric>);

    /// Starts what the next two calls need, which are made with the table locked.
    fn make_ready(&self);

    /// The metric was taken out of the table.
    fn removed(&self, metric: &Arc<Metric>) -> Result<()>;

    /// Removes a metric that is not in the table, which only other processes have. `false` if the store has
    /// none, or does not look for it.
    fn remove_unknown(&self, family: &Arc<Family>, key: &str) -> Result<bool>;

    /// All metrics of the family were taken out of the table.
    fn cleared(&self, family: &Arc<Family>, metrics: Vec<Arc<Metric>>) -> Result<()>;

    /// Reads families: those given, or all that the store has.
    fn collect(&self, families: Option<Vec<Arc<Family>>>) -> Result<Snapshot>;

    /// Reads these families, and behind them those of other processes: all whose names are not `declared`.
    fn collect_with_others(&self, families: Vec<Arc<Family>>, declared: &HashSet<&str>) -> Result<Snapshot>;

    /// Reads the cells of one metric.
    fn read(&self, metric: &Arc<Metric>) -> Result<Vec<f64>>;

    /// Looks at all that the store holds.
    fn check(&self) -> Result<Report>;

    /// Sends what is pending.
    fn flush(&self, deadline: Instant) -> Result<()>;

    /// Sends what is pending, and stops.
    fn close(&self) -> Result<()>;

    /// Takes the short locks of the store, which a fork must hold: see [`crate::process::fork`].
    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_>;
}

/// Opens the store that `url` names.
pub(crate) fn open(url: StoreUrl, table: Arc<FamilyTable>, tally: Arc<Tally>) -> Result<Box<dyn Store>> {
    Ok(match url.store {
        StoreOptions::Memory(cell) => Box::new(memory::MemoryStore::new(cell, table)),
        StoreOptions::SharedMemory(options) => shared_memory::open(&options)?,
        StoreOptions::Redis(options) => Box::new(redis::RedisStore::open(*options, table, tally)?),
    })
}
