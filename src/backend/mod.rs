//! A backend: a table of families in front of a store.
//!
//! This is the engine's front door; the C boundary and Rust programs call nothing else to declare,
//! read, flush and close. It knows no particular store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::exposition::{self, Others, RenderOptions, Rendered};
use crate::family::{Family, Lifetime, MetricFamily};
use crate::metric::Metric;
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::labels::{self, Labels};
use crate::model::report::Report;
use crate::model::sample::Snapshot;
use crate::process::exit;
use crate::process::fork;
use crate::statistics::{Statistics, Tally};
use crate::store::{self, Store, StoreUrl};
use crate::table::FamilyTable;

/// A year: as good as for ever.
const LONG: Duration = Duration::from_secs(365 * 86_400);

/// An open store, and the metric families that are declared in it.
#[derive(Debug, Clone)]
pub struct Backend {
    pub(crate) parts: Arc<BackendParts>,
}

#[derive(Debug)]
pub(crate) struct BackendParts {
    pub(crate) store: Box<dyn Store>,
    pub(crate) table: Arc<FamilyTable>,
    pub(crate) tally: Arc<Tally>,
    is_closed: AtomicBool,
}

impl BackendParts {
    /// Sends what is pending, and stops.
    pub(crate) fn close(&self) -> Result<()> {
        // Before it is true: whoever sees the flag too early only gives up too early. Relaxed: nothing is
        // published with it.
        self.is_closed.store(true, Ordering::Relaxed);
        self.tally.refresh();
        self.store.close()
    }
}

impl Backend {
    /// Opens the store that `url` names: `memory:`, `memory:?cell=mutex`, `shm:///path`,
    /// `redis://[user[:password]@]host[:port][/db][?option=value…]` or `redis+unix:///path`.
    ///
    /// With the option `self_metrics=true`, which all have, [`Statistics`] are metrics of the backend too.
    ///
    /// [`ErrorKind::Configuration`] for a URL or an option that is not understood;
    /// [`ErrorKind::Unavailable`] for a server that cannot be reached, unless `required=false`.
    pub fn open(url: &str) -> Result<Self> {
        fork::install();
        exit::install();
        let url = StoreUrl::parse(url)?;
        let table = Arc::new(FamilyTable::default());
        let tally = Arc::new(Tally::new(Arc::clone(&table), url.common.self_metrics));
        let store = store::open(url, Arc::clone(&table), Arc::clone(&tally))?;
        let backend =
            Self { parts: Arc::new(BackendParts { store, table, tally, is_closed: AtomicBool::new(false) }) };
        fork::register(&backend.parts);
        backend.parts.tally.show_in(&backend)?;
        Ok(backend)
    }

    /// Declares a family, with `label_order` saying in which order its handle takes label values.
    ///
    /// [`ErrorKind::Conflict`] if the name is declared with another definition.
    pub fn declare(
        &self,
        definition: Definition,
        label_order: &[&str],
        lifetime: Lifetime,
    ) -> Result<MetricFamily> {
        let shared = self.parts.store.names_are_shared();
        self.parts.store.admit(&definition)?;
        let family = self.parts.table.declare(definition, lifetime, shared, Arc::downgrade(&self.parts))?;
        self.parts.store.declared(&family);
        Ok(MetricFamily::new(self.clone(), family, label_order))
    }

    /// The values of `families` in their order, or (`None`) of all families of the store.
    ///
    /// A scrape shows every change that happened before it in this process.
    pub fn collect(&self, families: Option<&[MetricFamily]>) -> Result<Snapshot> {
        self.read(families, Others::None)
    }

    /// All families as Prometheus text 0.0.4.
    pub fn collect_text(&self) -> Result<String> {
        Ok(self.render(&RenderOptions::default())?.text)
    }

    /// Reads and renders what `options` say. A scrape shows every change that happened before it in this
    /// process. Families whose names would collide in the format are left out, but for the first, and
    /// reported to the log.
    ///
    /// ```
    /// use pytheus_backend_rs::{Backend, Format, RenderOptions};
    ///
    /// let backend = Backend::open("memory:")?;
    /// let format = Format::negotiate(Some("application/openmetrics-text; version=1.0.0"));
    /// let rendered = backend.render(&RenderOptions { format, ..Default::default() })?;
    /// assert_eq!(rendered.text, "# EOF\n");
    /// assert_eq!(rendered.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    /// # Ok::<(), pytheus_backend_rs::Error>(())
    /// ```
    pub fn render(&self, options: &RenderOptions<'_>) -> Result<Rendered> {
        let snapshot = self.read(options.families, options.others)?;
        Ok(exposition::render(&snapshot, options.families.map(<[_]>::len), options))
    }

    /// Looks at all that the store holds, and says what it found: see [`Report`]. It changes nothing.
    pub fn check(&self) -> Result<Report> {
        self.parts.store.check()
    }

    /// Sends what is pending. Fails if the store does not have all of it when `timeout` is over;
    /// nothing is lost then, it is sent later.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        self.parts.tally.refresh();
        // A timeout that no clock can hold is none.
        let deadline = Instant::now().checked_add(timeout);
        self.parts.store.flush(deadline.unwrap_or_else(|| Instant::now() + LONG))
    }

    /// Sends what is pending, for at most the store's `shutdown_timeout`, and stops its threads. Says
    /// in an error how much could not be sent. Metrics of a closed backend count into the void.
    pub fn close(&self) -> Result<()> {
        self.parts.close()
    }

    /// Whether it was closed, by any handle of it.
    pub(crate) fn is_closed(&self) -> bool {
        self.parts.is_closed.load(Ordering::Relaxed)
    }

    /// What this backend has done in this process so far.
    pub fn statistics(&self) -> Statistics {
        self.parts.tally.statistics()
    }

    /// What every scrape is made of.
    fn read(&self, families: Option<&[MetricFamily]>, others: Others) -> Result<Snapshot> {
        let BackendParts { store, table, tally, .. } = &*self.parts;
        let families = families.map(|list| self.own(list)).transpose()?;
        tally.scrape_begins();
        tally.scrape_ends(match (families, others) {
            (Some(mut families), Others::Append) => {
                // What the engine tells about itself is in no registry of a program.
                families.extend(tally.families());
                let declared = table.live_families();
                let declared = declared.iter().map(|family| family.definition.name()).collect();
                store.collect_with_others(families, &declared)
            }
            (families, _) => store.collect(families),
        })
    }

    /// The families of this backend that the handles stand for; an error if one is of another.
    fn own(&self, handles: &[MetricFamily]) -> Result<Vec<Arc<Family>>> {
        let own = |handle: &MetricFamily| {
            if Arc::ptr_eq(&handle.backend.parts, &self.parts) {
                return Ok(Arc::clone(&handle.family));
            }
            let name = handle.definition().name();
            Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("metric family {name:?} belongs to another backend"),
            ))
        };
        handles.iter().map(own).collect()
    }

    pub(crate) fn metric(&self, family: &Arc<Family>, labels: Labels) -> Result<Arc<Metric>> {
        let BackendParts { store, table, .. } = &*self.parts;
        if let Some(known) = table.metric(family, &labels::encode(&labels)) {
            return Ok(known);
        }
        let metric = table.insert_metric(store.new_metric(family, labels)?);
        store.created(&metric);
        Ok(metric)
    }

    pub(crate) fn remove_metric(&self, family: &Arc<Family>, labels: &Labels) -> Result<()> {
        let BackendParts { store, table, .. } = &*self.parts;
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

    pub(crate) fn clear_family(&self, family: &Arc<Family>) -> Result<()> {
        let BackendParts { store, table, .. } = &*self.parts;
        store.make_ready();
        table.clear(family, store.names_are_shared(), |metrics| store.cleared(family, metrics))
    }
}
