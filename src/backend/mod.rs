//! A backend: a table of families in front of a store.
//!
//! This is the public interface of the engine. The C boundary, the exporter and Rust programs use it to
//! declare, read, flush and close. It does not depend on a particular store.

mod collector;
mod held_back;
mod metric_family;
mod parts;
mod process_metrics;
mod render_options;
mod self_metrics;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use self::collector::Collector;
use self::held_back::HeldBack;
pub use self::metric_family::MetricFamily;
use self::parts::BackendParts;
use self::process_metrics::ProcessMetrics;
pub use self::process_metrics::process_families;
pub use self::render_options::{Others, RenderOptions};
use self::self_metrics::SelfMetrics;
use crate::exposition::{self, ForeignFamily, Rendered, Rendering, Selection};
use crate::metric::family::{Family, Lifetime};
use crate::metric::table::FamilyTable;
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::report::Report;
use crate::model::sample::{FamilySamples, Snapshot};
use crate::model::series_ttl::SeriesTtl;
use crate::model::statistics::{Statistics, Tally};
use crate::process::clock::deadline_after;
use crate::process::exit::{self, Phase};
use crate::process::fork::{self, Rank};
use crate::store::union::UnionStore;
use crate::store::url::StoreUrl;
use crate::store::{self, Store};

/// An open store, and the metric families that are declared in it.
#[derive(Debug, Clone)]
pub struct Backend {
    parts: Arc<BackendParts>,
}

impl Backend {
    /// Opens the store that `url` names: `memory:`, `memory:?cell=mutex`, `shm:///path`,
    /// `redis://[user[:password]@]host[:port][/db][?option=value…]` or `redis+unix:///path`.
    ///
    /// With the option `self_metrics=true`, which every store has, the backend also shows its [`Statistics`]
    /// as metrics.
    ///
    /// Returns [`ErrorKind::Configuration`] for an invalid URL or option, and [`ErrorKind::Unavailable`] if
    /// the server cannot be reached, unless `required=false`.
    pub fn open(url: &str) -> Result<Self> {
        let url = StoreUrl::parse(url)?;
        let shows_statistics = url.common.self_metrics;
        let series_ttl = url.common.series_ttl;
        let table = Arc::new(FamilyTable::default());
        let tally = Arc::new(Tally::default());
        let store = store::open::open(url, Arc::clone(&table), Arc::clone(&tally))?;
        let backend = Self::of_store(store, table, tally, series_ttl)?;
        if shows_statistics {
            backend.show_statistics()?;
        }
        Ok(backend)
    }

    /// Opens several stores that are read as one. Nothing can be declared in them. Each has a name, which messages use,
    /// and a URL as in [`Backend::open`]. A family whose name an earlier store has, too, is left out and logged once;
    /// [`check`](Self::check) reports it as a fault. If one store cannot be read, a scrape fails.
    ///
    /// Returns the errors of [`Backend::open`].
    pub fn open_together(stores: &[(String, String)]) -> Result<Self> {
        let table = Arc::new(FamilyTable::default());
        let tally = Arc::new(Tally::default());
        let open = |(name, url): &(String, String)| {
            let store = store::open::open(StoreUrl::parse(url)?, Arc::clone(&table), Arc::clone(&tally))?;
            Ok((name.clone(), store))
        };
        let stores = stores.iter().map(open).collect::<Result<_>>()?;
        Self::of_store(Box::new(UnionStore::new(stores)), table, tally, None)
    }

    fn of_store(
        store: Box<dyn Store>,
        table: Arc<FamilyTable>,
        tally: Arc<Tally>,
        series_ttl: Option<SeriesTtl>,
    ) -> Result<Self> {
        let parts = Arc::new(BackendParts {
            store,
            table,
            tally,
            held_back: HeldBack::new(),
            collector: Collector::default(),
            self_metrics: OnceLock::new(),
            process_metrics: OnceLock::new(),
            is_closed: AtomicBool::new(false),
            series_ttl,
        });
        fork::register(Rank::Backend, weak(&parts));
        exit::register(Phase::Send, weak(&parts));
        Ok(Self { parts })
    }

    fn show_statistics(&self) -> Result<()> {
        let BackendParts { table, tally, self_metrics, .. } = &*self.parts;
        let declare = |definition: Definition| {
            self.declare(definition.with_series_ttl(f64::INFINITY)?, &[], Lifetime::Backend)
                .and_then(|family| family.metric(&[]))
        };
        let metrics = SelfMetrics::new(Arc::clone(tally), Arc::clone(table), declare)?;
        let _ = self_metrics.set(metrics);
        Ok(())
    }

    /// Shows what the system says about the processes that call this: `process_cpu_seconds_total`, a counter of all of
    /// them, and of each living one `process_resident_memory_bytes`, `process_virtual_memory_bytes`,
    /// `process_open_fds`, `process_max_fds` and `process_start_time_seconds`. `prefix`, if it is not empty, begins
    /// their names.
    ///
    /// A scrape, flush or close of this process updates its own figures, and so does each further call, in which
    /// `prefix` has no meaning. A forked child appears with its first scrape or call. On a Redis server there is only
    /// the counter.
    ///
    /// ```
    /// use pytheus_backend_rs::Backend;
    ///
    /// let backend = Backend::open("memory:")?;
    /// backend.process_metrics("")?;
    /// assert!(backend.collect_text()?.contains("\nprocess_open_fds "));
    /// # Ok::<(), pytheus_backend_rs::Error>(())
    /// ```
    ///
    /// Returns [`ErrorKind::Conflict`] if a name is declared otherwise.
    pub fn process_metrics(&self, prefix: &str) -> Result<()> {
        let parts = &*self.parts;
        if parts.process_metrics.get().is_none() {
            let declare = |definition: Definition| {
                let family =
                    self.declare(definition.with_series_ttl(f64::INFINITY)?, &[], Lifetime::Backend)?;
                family.family_in(&self.parts).ok_or_else(|| Error::new(ErrorKind::Store, "no family"))
            };
            let metrics = ProcessMetrics::new(prefix, parts.store.has_modes(), declare)?;
            // If another thread was faster, its metrics are those of the same families.
            let _ = parts.process_metrics.set(metrics);
        }
        parts.refresh_process_metrics();
        Ok(())
    }

    /// Declares a family. The handle takes label values in the order of `label_order`.
    ///
    /// ```
    /// use pytheus_backend_rs::{Backend, Definition, Lifetime, MetricType};
    ///
    /// let backend = Backend::open("memory:")?;
    /// let definition = Definition::new("jobs", "Jobs by state.", MetricType::Gauge, &["queue", "state"], &[])?;
    /// let jobs = backend.declare(definition, &["state", "queue"], Lifetime::Backend)?;
    /// let waiting = jobs.metric(&["waiting", "mail"])?;
    /// waiting.set(3.0).unwrap();
    /// assert_eq!(waiting.get()?, 3.0);
    /// jobs.remove(&["waiting", "mail"])?;
    /// # Ok::<(), pytheus_backend_rs::Error>(())
    /// ```
    ///
    /// Returns [`ErrorKind::Conflict`] if the name is declared with another definition.
    pub fn declare(
        &self,
        definition: Definition,
        label_order: &[&str],
        lifetime: Lifetime,
    ) -> Result<MetricFamily> {
        let definition = definition.or_series_ttl(self.parts.series_ttl);
        let shared = self.parts.store.names_are_shared();
        match self.parts.store.admit(&definition) {
            // The store gets the family together with its first metric, once it accepts that metric.
            Err(error) if held_back::is_environment(&error) => {
                self.parts.held_back.refused(definition.name(), &error);
            }
            admitted => admitted?,
        }
        let family = self.parts.table.declare(definition, lifetime, shared, weak(&self.parts))?;
        self.parts.store.declared(&family);
        Ok(MetricFamily::new(Arc::clone(&self.parts), family, label_order))
    }

    /// Reads the values of `families` in the given order, or of all families of the store (`None`).
    ///
    /// A scrape shows every change that happened before it in this process.
    pub fn collect(&self, families: Option<&[MetricFamily]>) -> Result<Snapshot> {
        self.read(families, Others::None, &Selection::default().with_exemplars(true))
    }

    /// Renders all families as Prometheus text 0.0.4.
    pub fn collect_text(&self) -> Result<String> {
        Ok(self.render(&RenderOptions::default())?.into_text())
    }

    /// Reads the store and renders it as `options` specify. A scrape shows every change that happened before
    /// it in this process. If the names of families collide in the format, only the first family is rendered;
    /// the others are logged once.
    ///
    /// ```
    /// use pytheus_backend_rs::{Backend, Format, RenderOptions};
    ///
    /// let backend = Backend::open("memory:")?;
    /// let format = Format::negotiate(Some("application/openmetrics-text; version=1.0.0"));
    /// let rendered = backend.render(&RenderOptions { format, ..Default::default() })?;
    /// assert_eq!(rendered.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    /// assert_eq!(rendered.into_text(), "# EOF\n");
    /// # Ok::<(), pytheus_backend_rs::Error>(())
    /// ```
    pub fn render(&self, options: &RenderOptions<'_>) -> Result<Rendered> {
        let RenderOptions { format, name_prefix, families, foreign, others, names, created_samples } =
            *options;
        let shows_created = format.is_protobuf() || (format.is_open_metrics() && created_samples);
        let selection = Selection::new(names, name_prefix, format.escaping())
            .with_created(shows_created)
            .with_exemplars(format.is_protobuf() || format.is_open_metrics());
        let snapshot = self.read(families, others, &selection)?;
        let mut foreign = Cow::Borrowed(foreign);
        if families.is_none() {
            let collected = self.parts.collector.collect();
            if !collected.is_empty() {
                foreign.to_mut().extend(collected);
            }
        }
        let are_shown = |families: &[MetricFamily]| -> Vec<bool> {
            families.iter().map(|family| selection.admits(family.definition())).collect()
        };
        let are_shown = families.map(are_shown);
        if !selection.is_everything() {
            foreign = Cow::Owned(selection.foreign(&foreign, are_shown.as_deref().unwrap_or_default()));
        }
        let named = are_shown.map(|are_shown| are_shown.into_iter().filter(|&is_shown| is_shown).count());
        let rendering = Rendering { format, created_samples, name_prefix, named, foreign: &foreign };
        Ok(exposition::render(&snapshot, &rendering))
    }

    /// Registers a function that computes metrics for each scrape of the whole store, including those of the
    /// exporter. A backend has at most one such function, and keeps it for its lifetime. Any thread may call
    /// it, several at the same time. It must not scrape the same backend.
    ///
    /// ```
    /// use pytheus_backend_rs::{Backend, Definition, ForeignFamily, MetricType, NameRule};
    ///
    /// let backend = Backend::open("memory:")?;
    /// let definition = Definition::new("threads", "Running threads.", MetricType::Gauge, &[], &[])?;
    /// backend.on_collect(move || {
    ///     let mut threads = ForeignFamily::new(definition.clone(), NameRule::Legacy, 0);
    ///     threads.push("", &[], 3.0).unwrap();
    ///     vec![threads]
    /// })?;
    /// assert_eq!(backend.collect_text()?, "# HELP threads Running threads.\n# TYPE threads gauge\nthreads 3\n");
    /// # Ok::<(), pytheus_backend_rs::Error>(())
    /// ```
    ///
    /// Returns [`ErrorKind::Conflict`] if the backend has a function already.
    pub fn on_collect(&self, collect: impl Fn() -> Vec<ForeignFamily> + Send + Sync + 'static) -> Result<()> {
        self.parts.collector.set(Box::new(collect))
    }

    /// Examines all data of the store, and returns the findings. It changes nothing.
    pub fn check(&self) -> Result<Report> {
        self.parts.store.check()
    }

    /// Converts values that an older version stored in another layout, and returns what was done.
    ///
    /// On a Redis server these are the histograms and summaries of pytheus-backend-rs 0.0.9 and of pytheus'
    /// own backend, if a process of this version has declared them. It may be repeated, and may run while old
    /// programs still count.
    pub fn migrate(&self) -> Result<Report> {
        self.parts.store.migrate()
    }

    /// Sends all pending changes. Returns an error if the store has not received all of them within
    /// `timeout`. The rest is kept and sent later.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        self.parts.prepare_to_send();
        self.parts.store.flush(deadline_after(timeout))
    }

    /// Sends pending changes, for at most the store's `shutdown_timeout`, and stops the store's threads. The
    /// error says how much could not be sent. Operations on metrics of a closed backend are discarded.
    pub fn close(&self) -> Result<()> {
        self.parts.close()
    }

    /// Returns whether the backend was closed through any of its handles.
    pub(crate) fn is_closed(&self) -> bool {
        self.parts.is_closed.load(Ordering::Relaxed)
    }

    /// Returns what this backend has done in this process so far.
    pub fn statistics(&self) -> Statistics {
        self.parts.tally.statistics(self.parts.table.waiting())
    }

    /// Reads the snapshot that a scrape shows.
    fn read(
        &self,
        families: Option<&[MetricFamily]>,
        others: Others,
        selection: &Selection,
    ) -> Result<Snapshot> {
        let BackendParts { store, table, tally, self_metrics, process_metrics, .. } = &*self.parts;
        let families = families.map(|list| self.own(list)).transpose()?;
        let selected = |mut families: Vec<Arc<Family>>| {
            families.retain(|family| selection.admits(&family.definition));
            families
        };
        tally.scrape_begins();
        self.parts.prepare_to_send();
        let read = tally.scrape_ends(match (families, others) {
            (Some(mut families), Others::Append) => {
                // A program's registry does not know these families.
                families.extend(self_metrics.get().into_iter().flat_map(|metrics| metrics.families()));
                families.extend(process_metrics.get().into_iter().flat_map(ProcessMetrics::families));
                let declared = table.live_families();
                let declared = declared.iter().map(|family| family.definition.name()).collect();
                store.collect_with_others(selected(families), &declared, selection)
            }
            (families, _) => store.collect(families.map(selected), selection),
        });
        read.map(|mut snapshot| {
            snapshot.families.iter_mut().for_each(FamilySamples::prepare);
            snapshot
        })
    }

    /// Returns the families of these handles, or an error if a handle belongs to another backend.
    fn own(&self, handles: &[MetricFamily]) -> Result<Vec<Arc<Family>>> {
        let own = |handle: &MetricFamily| {
            if let Some(family) = handle.family_in(&self.parts) {
                return Ok(family);
            }
            let name = handle.definition().name();
            Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("metric family {name:?} belongs to another backend"),
            ))
        };
        handles.iter().map(own).collect()
    }
}

fn weak(parts: &Arc<BackendParts>) -> Weak<BackendParts> {
    Arc::downgrade(parts)
}
