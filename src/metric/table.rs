//! The table of a backend: its families, and the metrics of each.
//!
//! One lock guards it. The lock is held for look-ups and insertions, and while a store is told of a removal,
//! but never across the network, and never on the hot path. The forking thread holds it during a fork, so a
//! child never inherits it locked by another thread.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use super::Metric;
use super::family::{Family, Lifetime, ReadCells};
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::statistics::Waiting;

/// The families of a backend and their metrics.
#[derive(Debug, Default)]
pub(crate) struct FamilyTable {
    records: RwLock<Records>,
}

/// The contents of a [`FamilyTable`].
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// By id, which is the order of declaration.
    families: BTreeMap<u64, Record>,
    by_name: HashMap<String, Vec<u64>>,
    next_id: u64,
    /// The names whose differing declarations have been logged.
    warned: HashSet<String>,
    /// The number of families at which dead ones are removed next.
    sweep_at: usize,
}

#[derive(Debug)]
struct Record {
    family: Entry<Family>,
    /// Keyed by canonical labels, so in the order in which the exposition shows them.
    metrics: BTreeMap<Arc<str>, Entry<Metric>>,
    sweep_at: usize,
}

/// An entry of the table: a strong reference for [`Lifetime::Backend`], a weak one for [`Lifetime::Handle`].
#[derive(Debug)]
enum Entry<T> {
    Kept(Arc<T>),
    Watched(Weak<T>),
}

impl<T> Entry<T> {
    fn new(value: &Arc<T>, lifetime: Lifetime) -> Self {
        match lifetime {
            Lifetime::Backend => Self::Kept(Arc::clone(value)),
            Lifetime::Handle => Self::Watched(Arc::downgrade(value)),
        }
    }

    fn get(&self) -> Option<Arc<T>> {
        match self {
            Self::Kept(value) => Some(Arc::clone(value)),
            Self::Watched(value) => value.upgrade(),
        }
    }

    fn is_alive(&self) -> bool {
        match self {
            Self::Kept(_) => true,
            Self::Watched(value) => value.strong_count() > 0,
        }
    }
}

impl Entry<Metric> {
    /// Whether the store may still show the metric, or a handle of the program may begin its series anew.
    fn is_needed(&self) -> bool {
        let Some(metric) = self.get() else { return false };
        // One reference is the table's, and one was made here.
        let is_handle_held = || !matches!(self, Self::Kept(_)) || Arc::strong_count(&metric) > 2;
        metric.cells.is_live() && (is_handle_held() || !metric.is_over())
    }
}

const FIRST_SWEEP: usize = 64;

impl FamilyTable {
    /// Declares a family. If `names_are_shared`, the store keeps one family per name, so even two families of
    /// [`Lifetime::Handle`] must be compatible. If those differ in labels or help, this logs one warning per
    /// name.
    pub(crate) fn declare(
        &self,
        definition: Definition,
        lifetime: Lifetime,
        names_are_shared: bool,
        reader: Weak<dyn ReadCells>,
    ) -> Result<Arc<Family>> {
        let mut records = self.write();
        let mut warning = None;
        for known in records.named(definition.name()) {
            let both_kept = lifetime == Lifetime::Backend && known.lifetime == Lifetime::Backend;
            if both_kept && known.definition == definition {
                return Ok(known);
            }
            let conflict = both_kept || (names_are_shared && !known.definition.is_compatible(&definition));
            if conflict {
                return Err(conflict_error(&known.definition, &definition));
            }
            if names_are_shared && known.definition.looks_different(&definition) {
                warning = Some(twice(&known.definition, &definition));
            }
        }
        let warning = warning.filter(|_| records.warned.insert(definition.name().to_owned()));
        let family = records.insert(definition, lifetime, reader);
        // A callback of the program may receive the log record, so the lock must be free.
        drop(records);
        if let Some(message) = warning {
            log::warn!("{message}; their series stand side by side in one family");
        }
        Ok(family)
    }

    /// Returns the metric of `family` whose canonical labels are `key`.
    pub(crate) fn metric(&self, family: &Family, key: &str) -> Option<Arc<Metric>> {
        self.read().families.get(&family.id)?.metrics.get(key)?.get().filter(|metric| metric.cells.is_live())
    }

    /// Adds a metric and returns it, or returns the one that another thread has added first.
    pub(crate) fn insert_metric(&self, metric: Arc<Metric>) -> Arc<Metric> {
        let mut records = self.write();
        let Some(record) = records.families.get_mut(&metric.family.id) else { return metric };
        if let Some(known) =
            record.metrics.get(&*metric.key).and_then(Entry::get).filter(|known| known.cells.is_live())
        {
            return known;
        }
        if record.metrics.len() >= record.sweep_at {
            // This also drops metrics that another process has removed. The next look-up makes them again.
            record.metrics.retain(|_, metric| metric.is_needed());
            record.sweep_at = FIRST_SWEEP.max(record.metrics.len() * 2);
        }
        record.metrics.insert(Arc::clone(&metric.key), Entry::new(&metric, metric.family.lifetime));
        metric
    }

    /// Takes a metric out of the table, and calls `removed` before another thread can put a new one in its
    /// place. Returns `None` if there is none.
    pub(crate) fn remove_metric<T>(
        &self,
        family: &Family,
        key: &str,
        removed: impl FnOnce(&Arc<Metric>) -> T,
    ) -> Option<T> {
        let mut records = self.write();
        let metric = records.families.get_mut(&family.id)?.metrics.remove(key)?.get()?;
        Some(removed(&metric))
    }

    /// Takes all metrics of the families of this name out of the table, and calls `cleared` before another
    /// thread can put new ones in their place.
    pub(crate) fn clear<T>(
        &self,
        family: &Family,
        names_are_shared: bool,
        cleared: impl FnOnce(Vec<Arc<Metric>>) -> T,
    ) -> T {
        let mut records = self.write();
        let ids = match names_are_shared {
            true => records.by_name.get(family.definition.name()).cloned().unwrap_or_default(),
            false => vec![family.id],
        };
        let mut removed = Vec::new();
        for id in ids {
            if let Some(record) = records.families.get_mut(&id) {
                let metrics = std::mem::take(&mut record.metrics);
                removed.extend(metrics.into_values().filter_map(|metric| metric.get()));
            }
        }
        cleared(removed)
    }

    /// Drops the metrics of a family whose series have ended, unless a handle of the program may begin them anew.
    pub(crate) fn drop_ended(&self, family: &Family) {
        if let Some(record) = self.write().families.get_mut(&family.id) {
            record.metrics.retain(|_, metric| metric.is_needed());
        }
    }

    /// Returns the families of [`Lifetime::Backend`], in the order of declaration.
    pub(crate) fn kept_families(&self) -> Vec<Arc<Family>> {
        let records = self.read();
        let families = records.families.values().filter_map(|record| record.family.get());
        families.filter(|family| family.lifetime == Lifetime::Backend).collect()
    }

    /// Returns all families that are alive, in the order of declaration.
    pub(crate) fn live_families(&self) -> Vec<Arc<Family>> {
        self.read().families.values().filter_map(|record| record.family.get()).collect()
    }

    /// Returns the metrics of a family, sorted by their canonical labels.
    pub(crate) fn metrics(&self, family: &Family) -> Vec<Arc<Metric>> {
        let records = self.read();
        let Some(record) = records.families.get(&family.id) else { return Vec::new() };
        record.metrics.values().filter_map(Entry::get).collect()
    }

    /// Calls `visit` with each metric of a family, sorted by their canonical labels. The lock is held
    /// meanwhile, so `visit` must be short and must not come back here.
    pub(crate) fn visit_metrics(&self, family: &Family, mut visit: impl FnMut(&Metric)) {
        let records = self.read();
        let Some(record) = records.families.get(&family.id) else { return };
        for entry in record.metrics.values() {
            match entry {
                Entry::Kept(metric) => visit(metric),
                Entry::Watched(metric) => {
                    if let Some(metric) = metric.upgrade() {
                        visit(&metric);
                    }
                }
            }
        }
    }

    /// Counts the metrics that wait for their store.
    pub(crate) fn waiting(&self) -> Waiting {
        let records = self.read();
        let mut waiting = Waiting::default();
        for metric in records.live_metrics() {
            waiting.dirty += u64::from(metric.cells.is_dirty());
            waiting.held_back += u64::from(metric.cells.is_held_back());
        }
        waiting
    }

    /// Returns the metrics that the store could not take yet.
    pub(crate) fn held_back(&self) -> Vec<Arc<Metric>> {
        self.read().live_metrics().filter(|metric| metric.cells.is_held_back()).collect()
    }

    /// Returns the metrics that have changes which the store has not taken.
    pub(crate) fn dirty_metrics(&self) -> Vec<Arc<Metric>> {
        self.read().live_metrics().filter(|metric| metric.cells.is_dirty()).collect()
    }

    /// Holds the lock across a fork.
    pub(crate) fn lock_for_fork(&self) -> RwLockWriteGuard<'_, Records> {
        self.write()
    }

    fn read(&self) -> RwLockReadGuard<'_, Records> {
        // A panic under the lock leaves no change half done, because each change is one insertion.
        self.records.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Records> {
        self.records.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    fn live_metrics(&self) -> impl Iterator<Item = Arc<Metric>> + '_ {
        self.families.values().flat_map(|record| record.metrics.values()).filter_map(Entry::get)
    }

    /// Returns the families of this name that are alive, and removes the dead ones. A program that declares
    /// one name again and again would otherwise have each declaration look at all earlier ones.
    fn named(&mut self, name: &str) -> Vec<Arc<Family>> {
        let Some(ids) = self.by_name.get_mut(name) else { return Vec::new() };
        let mut alive = Vec::new();
        ids.retain(|id| match self.families.get(id).and_then(|record| record.family.get()) {
            Some(family) => {
                alive.push(family);
                true
            }
            None => {
                self.families.remove(id);
                false
            }
        });
        alive
    }

    fn insert(
        &mut self,
        definition: Definition,
        lifetime: Lifetime,
        reader: Weak<dyn ReadCells>,
    ) -> Arc<Family> {
        if self.families.len() >= self.sweep_at {
            self.families.retain(|_, record| record.family.is_alive());
            let families = &self.families;
            self.by_name.retain(|_, ids| {
                ids.retain(|id| families.contains_key(id));
                !ids.is_empty()
            });
            self.sweep_at = FIRST_SWEEP.max(self.families.len() * 2);
        }
        let id = self.next_id;
        self.next_id += 1;
        let family = Arc::new(Family { id, lifetime, definition, reader });
        self.by_name.entry(family.definition.name().to_owned()).or_default().push(id);
        let record =
            Record { family: Entry::new(&family, lifetime), metrics: BTreeMap::new(), sweep_at: FIRST_SWEEP };
        self.families.insert(id, record);
        family
    }

    /// In a forked child: discards the pending changes of every metric. The parent sends them.
    pub(crate) fn discard_pending(&self) {
        self.live_metrics().for_each(|metric| metric.cells.discard_pending());
    }
}

fn conflict_error(known: &Definition, wanted: &Definition) -> Error {
    let message = format!("{}; it cannot be both", twice(known, wanted));
    Error::new(ErrorKind::Conflict, message)
}

/// Says how two declarations of one name differ.
fn twice(known: &Definition, wanted: &Definition) -> String {
    let (first, second) = (known.describe(), wanted.describe());
    let name = known.name();
    if first == second {
        let (first, second) = (known.help(), wanted.help());
        return format!("metric family {name:?} is declared with two help texts: {first:?} and {second:?}");
    }
    format!("metric family {name:?} is declared twice: as {first}, and as {second}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::metric_type::MetricType;

    #[test]
    fn a_name_that_is_declared_again_and_again_leaves_nothing_behind() {
        let table = FamilyTable::default();
        let declare = |name: &str| {
            let definition = Definition::new(name, "", MetricType::Gauge, &[], &[]).unwrap();
            let reader = Family::detached(definition.clone()).reader.clone();
            table.declare(definition, Lifetime::Handle, false, reader).unwrap()
        };
        let _living: Vec<Arc<Family>> =
            (0..1000).map(|number| declare(&format!("living_{number}"))).collect();
        for _ in 0..10_000 {
            drop(declare("passing"));
        }
        let records = table.read();
        assert_eq!(records.by_name["passing"].len(), 1);
        assert_eq!(records.families.len(), 1001);
    }
}
