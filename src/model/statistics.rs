//! What a backend tells about itself: how much it has sent and served, as numbers and as metrics.
//!
//! The front door counts scrapes here, and the thread of a store what it sends; no hot call comes here. With
//! the option `self_metrics` the numbers are metrics of the same backend too. To change those is work to be
//! sent, which changes the numbers: so they follow only when somebody asks for a scrape, a flush or the
//! end, and, while the program has work of its own sent, once a second. They must never follow themselves.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::backend::Backend;
use crate::family::{Family, Lifetime};
use crate::metric::Metric;
use crate::model::definition::Definition;
use crate::model::error::Result;
use crate::model::metric_type::MetricType;
use crate::table::FamilyTable;

/// How long the metrics stay as they are, at least, while nobody asks for them.
const REFRESH_AFTER: Duration = Duration::from_secs(1);

/// What a backend has done in this process so far. A forked child begins at zero.
///
/// A store that sends nothing (in memory, in shared memory) has only scrapes and scrape errors.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Batches that the server has confirmed.
    pub batches_sent: u64,
    /// How often a batch was sent again because its answer was lost.
    pub batches_resent: u64,
    /// How often the server refused a batch. It is kept, and tried again.
    pub batches_refused: u64,
    /// Operations in the batches that the server has confirmed.
    pub operations_sent: u64,
    /// Calls (`inc`, `dec`, `set`, `observe`) that needed no sending of their own, since they were taken
    /// together with an earlier one of the same metric. Counted with `self_metrics` only, else 0.
    pub operations_coalesced: u64,
    /// Metrics with changes that the server has not confirmed. One that has changed again while its last
    /// changes are on their way counts twice.
    pub metrics_pending: u64,
    /// Scrapes, those that failed included.
    pub scrapes: u64,
    /// Scrapes that failed.
    pub scrape_errors: u64,
    /// When the server last confirmed what was sent, or a flush found nothing left to send: in seconds since
    /// 1970; 0 if it never has.
    pub last_flush_timestamp: f64,
}

/// A number as a metric.
struct Figure<T> {
    name: &'static str,
    help: &'static str,
    value: fn(&Statistics) -> T,
}

const COUNTERS: [Figure<u64>; 7] = [
    Figure {
        name: "pytheus_backend_batches_sent_total",
        help: "Batches of changes that the store has confirmed.",
        value: |statistics| statistics.batches_sent,
    },
    Figure {
        name: "pytheus_backend_batches_resent_total",
        help: "Batches of changes that were sent again because an answer was lost.",
        value: |statistics| statistics.batches_resent,
    },
    Figure {
        name: "pytheus_backend_batches_refused_total",
        help: "Batches of changes that the store refused; they are kept, and tried again.",
        value: |statistics| statistics.batches_refused,
    },
    Figure {
        name: "pytheus_backend_operations_sent_total",
        help: "Operations in the batches that the store has confirmed.",
        value: |statistics| statistics.operations_sent,
    },
    Figure {
        name: "pytheus_backend_operations_coalesced_total",
        help: "Changes of metrics that were sent together with an earlier one of the same metric.",
        value: |statistics| statistics.operations_coalesced,
    },
    Figure {
        name: "pytheus_backend_scrapes_total",
        help: "Scrapes, those that failed included.",
        value: |statistics| statistics.scrapes,
    },
    Figure {
        name: "pytheus_backend_scrape_errors_total",
        help: "Scrapes that failed.",
        value: |statistics| statistics.scrape_errors,
    },
];

const GAUGES: [Figure<f64>; 2] = [
    Figure {
        name: "pytheus_backend_last_flush_timestamp_seconds",
        help: "When the store last confirmed what was sent to it, of the process that told it last.",
        value: |statistics| statistics.last_flush_timestamp,
    },
    Figure {
        name: "pytheus_backend_metrics_pending",
        help: "Metrics with changes that the store had not confirmed, of the process that told it last.",
        value: |statistics| statistics.metrics_pending as f64,
    },
];

/// The metrics of a backend about itself, in the order of the lists above.
#[derive(Debug)]
struct SelfMetrics {
    counters: Vec<Followed>,
    gauges: Vec<Followed>,
}

/// A metric that follows a number.
#[derive(Debug)]
struct Followed {
    metric: Arc<Metric>,
    /// How far it has come: a count, or the bits of a value.
    told: AtomicU64,
}

/// Where a backend and its store count. All is `Relaxed`: each number stands for itself, and nothing else is
/// read because of it.
#[derive(Debug)]
pub(crate) struct Tally {
    table: Arc<FamilyTable>,
    is_shown: bool,
    batches_sent: AtomicU64,
    batches_resent: AtomicU64,
    batches_refused: AtomicU64,
    operations_sent: AtomicU64,
    /// Calls on metrics whose calls are counted, and how often the store took what had come of some.
    calls: AtomicU64,
    takes: AtomicU64,
    /// Metrics that the store has taken changes from, which the server has not confirmed.
    taken: AtomicU64,
    scrapes: AtomicU64,
    scrape_errors: AtomicU64,
    /// In milliseconds since 1970.
    last_flush: AtomicU64,
    /// Set when the backend is opened, and only looked at later: a forked child must not wait for a thread that it
    /// lacks.
    metrics: OnceLock<SelfMetrics>,
    opened: Instant,
    /// In milliseconds since `opened`.
    refreshed: AtomicU64,
    /// Whether the store took something else than these metrics since they were refreshed.
    has_news: AtomicBool,
}

impl Tally {
    /// The families of the metrics, if they are shown.
    pub(crate) fn families(&self) -> Vec<Arc<Family>> {
        let followed = self.metrics.get().into_iter().flat_map(|own| own.counters.iter().chain(&own.gauges));
        followed.map(|followed| Arc::clone(&followed.metric.family)).collect()
    }

    /// For the backend of `table`; `is_shown`: as metrics too.
    pub(crate) fn new(table: Arc<FamilyTable>, is_shown: bool) -> Self {
        Self {
            table,
            is_shown,
            batches_sent: AtomicU64::new(0),
            batches_resent: AtomicU64::new(0),
            batches_refused: AtomicU64::new(0),
            operations_sent: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            takes: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            scrapes: AtomicU64::new(0),
            scrape_errors: AtomicU64::new(0),
            last_flush: AtomicU64::new(0),
            metrics: OnceLock::new(),
            opened: Instant::now(),
            refreshed: AtomicU64::new(0),
            has_news: AtomicBool::new(false),
        }
    }

    /// The numbers as they are now.
    pub(crate) fn statistics(&self) -> Statistics {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Statistics {
            batches_sent: read(&self.batches_sent),
            batches_resent: read(&self.batches_resent),
            batches_refused: read(&self.batches_refused),
            operations_sent: read(&self.operations_sent),
            // A take may be noted before the calls that it took.
            operations_coalesced: read(&self.calls).saturating_sub(read(&self.takes)),
            metrics_pending: read(&self.taken) + self.table.dirty_metrics().len() as u64,
            scrapes: read(&self.scrapes),
            scrape_errors: read(&self.scrape_errors),
            last_flush_timestamp: read(&self.last_flush) as f64 / 1e3,
        }
    }

    /// Declares the metrics, if they are to be shown.
    pub(crate) fn show_in(&self, backend: &Backend) -> Result<()> {
        if !self.is_shown {
            return Ok(());
        }
        let declare = |name: &str, help: &str, metric_type: MetricType| -> Result<Followed> {
            let definition = Definition::new(name, help, metric_type, &[], &[])?;
            let metric = backend.declare(definition, &[], Lifetime::Backend)?.metric(&[])?;
            Ok(Followed { metric, told: AtomicU64::new(0) })
        };
        let counters = COUNTERS.iter().map(|figure| declare(figure.name, figure.help, MetricType::Counter));
        let counters = counters.collect::<Result<_>>()?;
        let gauges = GAUGES.iter().map(|figure| declare(figure.name, figure.help, MetricType::Gauge));
        let gauges = gauges.collect::<Result<_>>()?;
        let _ = self.metrics.set(SelfMetrics { counters, gauges });
        Ok(())
    }

    /// Whether the calls on the metrics of this family are counted one by one.
    pub(crate) fn counts_calls_of(&self, family: &str) -> bool {
        let mut own =
            COUNTERS.iter().map(|figure| figure.name).chain(GAUGES.iter().map(|figure| figure.name));
        self.is_shown && own.all(|name| name != family)
    }

    /// Brings the metrics up to date. Before a scrape, a flush or the end, which will send them.
    pub(crate) fn refresh(&self) {
        let Some(metrics) = self.metrics.get() else { return };
        self.refreshed.store(self.age(), Ordering::Relaxed);
        self.has_news.store(false, Ordering::Relaxed);
        let statistics = self.statistics();
        for (counter, figure) in metrics.counters.iter().zip(&COUNTERS) {
            // Of several threads that come here at once, each tells its own part of the way.
            let now = (figure.value)(&statistics);
            let before = counter.told.fetch_max(now, Ordering::Relaxed);
            if now > before {
                // A counter refuses no increase.
                let _ = counter.metric.inc((now - before) as f64);
            }
        }
        for (gauge, figure) in metrics.gauges.iter().zip(&GAUGES) {
            let now = (figure.value)(&statistics);
            if gauge.told.swap(now.to_bits(), Ordering::Relaxed) != now.to_bits() {
                // A gauge refuses nothing.
                let _ = gauge.metric.set(now);
            }
        }
    }

    /// Brings the metrics up to date if that is due. For the store's thread, when it is about to send.
    pub(crate) fn refresh_if_due(&self) {
        let is_due = || {
            let refreshed = Duration::from_millis(self.refreshed.load(Ordering::Relaxed));
            self.opened.elapsed().saturating_sub(refreshed) >= REFRESH_AFTER
        };
        if self.has_news.load(Ordering::Relaxed) && is_due() {
            self.refresh();
        }
    }

    /// Counts a scrape that begins.
    pub(crate) fn scrape_begins(&self) {
        self.scrapes.fetch_add(1, Ordering::Relaxed);
        self.refresh();
    }

    /// Counts a scrape's error, if it is one.
    pub(crate) fn scrape_ends<T>(&self, result: Result<T>) -> Result<T> {
        self.scrape_errors.fetch_add(result.is_err().into(), Ordering::Relaxed);
        result
    }

    /// What a metric had gathered was taken: changes or none, of so many calls if they are counted.
    pub(crate) fn taken_from_metric(&self, calls: Option<u64>, has_changes: bool) {
        if let Some(calls) = calls {
            self.calls.fetch_add(calls, Ordering::Relaxed);
            self.takes.fetch_add(has_changes.into(), Ordering::Relaxed);
            self.has_news.store(true, Ordering::Relaxed);
        }
    }

    /// Changes of so many metrics have been taken and are not confirmed.
    pub(crate) fn unconfirmed(&self, metrics: usize) {
        self.taken.store(metrics as u64, Ordering::Relaxed);
    }

    /// Batches were sent again, since their answers were lost.
    pub(crate) fn resent(&self, batches: u64) {
        self.batches_resent.fetch_add(batches, Ordering::Relaxed);
    }

    /// The server has refused a batch.
    pub(crate) fn refused(&self) {
        self.batches_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The server has confirmed a batch of so many operations.
    pub(crate) fn confirmed(&self, operations: usize) {
        self.batches_sent.fetch_add(1, Ordering::Relaxed);
        self.operations_sent.fetch_add(operations as u64, Ordering::Relaxed);
        self.flushed();
    }

    /// The server has all that was to be sent.
    pub(crate) fn flushed(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_flush.store(now.as_millis() as u64, Ordering::Relaxed);
    }

    /// In a forked child: what was done before the fork was done by the parent.
    pub(crate) fn forked(&self) {
        let numbers = [
            &self.batches_sent,
            &self.batches_resent,
            &self.batches_refused,
            &self.operations_sent,
            &self.calls,
            &self.takes,
            &self.taken,
            &self.scrapes,
            &self.scrape_errors,
            &self.last_flush,
        ];
        numbers.iter().for_each(|number| number.store(0, Ordering::Relaxed));
        self.has_news.store(false, Ordering::Relaxed);
        if let Some(metrics) = self.metrics.get() {
            let followed = metrics.counters.iter().chain(&metrics.gauges);
            followed.for_each(|followed| followed.told.store(0, Ordering::Relaxed));
        }
    }

    /// In milliseconds.
    fn age(&self) -> u64 {
        self.opened.elapsed().as_millis() as u64
    }
}
