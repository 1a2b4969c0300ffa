//! Several stores that are read as one, as the side-car does for a scrape of several services.
//!
//! Nothing can be declared in it. A reader would add up, or mix, families of one name, so the first store that has
//! a name keeps it. The same name in a later store is left out of scrapes, and is logged once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::Store;
use crate::exposition::Selection;
use crate::metric::Metric;
use crate::metric::family::Family;
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::report::Report;
use crate::model::sample::Snapshot;
use crate::process::fork::ForkGuard;
use crate::process::once::Once;

/// A store, and what messages call it.
pub(crate) type Named = (String, Box<dyn Store>);

/// The stores, in the order in which a scrape shows them.
#[derive(Debug)]
pub(crate) struct UnionStore {
    stores: Vec<Named>,
    reported: Once,
}

impl UnionStore {
    pub(crate) fn new(stores: Vec<Named>) -> Self {
        Self { stores, reported: Once::new() }
    }

    fn all(&self) -> impl Iterator<Item = &dyn Store> {
        self.stores.iter().map(|(_, store)| &**store)
    }

    fn refuse<T>(&self) -> Result<T> {
        let message = "several stores that are read as one: nothing can be declared or removed in them";
        Err(Error::new(ErrorKind::Configuration, message))
    }

    /// Calls `act` for each store, and returns the first error.
    fn each(&self, act: impl Fn(&dyn Store) -> Result<()>) -> Result<()> {
        self.all().map(act).fold(Ok(()), Result::and)
    }

    /// Returns what `examine` finds in each store.
    fn reports(&self, examine: impl Fn(&dyn Store) -> Result<Report>) -> Result<Report> {
        let mut all = Report::default();
        for store in self.all() {
            all.append(examine(store)?);
        }
        Ok(all)
    }

    /// Reads all stores. Calls `clash` for each family that an earlier store has, too.
    fn read(&self, selection: &Selection, mut clash: impl FnMut(String)) -> Result<Snapshot> {
        let mut all = Snapshot::default();
        let mut first: HashMap<String, &str> = HashMap::new();
        for (store_name, store) in &self.stores {
            let mut families = store.collect(None, selection)?.families;
            families.retain(|family| {
                let name = family.definition.name();
                let Some(owner) = first.get(name) else { return true };
                clash(format!(
                    "metric family {name:?} of {store_name} is left out of scrapes: {owner} has this name, too; serve \
                     these stores at two addresses"
                ));
                false
            });
            let names = families.iter().map(|family| family.definition.name().to_owned());
            first.extend(names.map(|name| (name, store_name.as_str())));
            all.families.extend(families);
        }
        Ok(all)
    }
}

impl Store for UnionStore {
    fn names_are_shared(&self) -> bool {
        true
    }

    fn admit(&self, _: &Definition) -> Result<()> {
        self.refuse()
    }

    fn new_metric(&self, _: &Arc<Family>, _: &Arc<str>) -> Result<Arc<Metric>> {
        self.refuse()
    }

    fn collect(&self, families: Option<Vec<Arc<Family>>>, selection: &Selection) -> Result<Snapshot> {
        let log = |clash: String| {
            if self.reported.is_new(&clash) {
                log::error!("{clash}");
            }
        };
        match families {
            None => self.read(selection, log),
            // No family can be declared in this store.
            Some(_) => Ok(Snapshot::default()),
        }
    }

    fn collect_with_others(
        &self,
        _: Vec<Arc<Family>>,
        _: &HashSet<&str>,
        selection: &Selection,
    ) -> Result<Snapshot> {
        self.collect(None, selection)
    }

    fn read(&self, _: &Arc<Metric>) -> Result<Vec<f64>> {
        self.refuse()
    }

    fn check(&self) -> Result<Report> {
        let mut report = self.reports(|store| store.check())?;
        self.read(&Selection::default(), |clash| report.fault(clash))?;
        Ok(report)
    }

    fn migrate(&self) -> Result<Report> {
        self.reports(|store| store.migrate())
    }

    fn flush(&self, deadline: Instant) -> Result<()> {
        self.each(|store| store.flush(deadline))
    }

    fn close(&self) -> Result<()> {
        self.each(|store| store.close())
    }

    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_> {
        Box::new(Locked(self.all().map(|store| store.lock_for_fork()).collect()))
    }
}

/// The locks of all stores while the forking thread holds them.
struct Locked<'stores>(Vec<Box<dyn ForkGuard + 'stores>>);

impl ForkGuard for Locked<'_> {
    fn forked(&mut self) {
        self.0.iter_mut().for_each(|guard| guard.forked());
    }
}
