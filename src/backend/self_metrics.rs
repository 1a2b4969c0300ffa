//! The statistics of a backend as metrics of that backend: the option `self_metrics`.
//!
//! Updating these metrics is work for the store, which changes the statistics again. So they are updated only
//! at a scrape, a flush or a close, and at most once a second while the program's own changes are sent. An
//! idle process sends nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::metric::Metric;
use crate::metric::family::Family;
use crate::metric::table::FamilyTable;
use crate::model::definition::Definition;
use crate::model::error::Result;
use crate::model::metric_type::MetricType;
use crate::model::statistics::{Follower, Statistics, Tally};

/// The shortest time between two automatic updates.
const REFRESH_AFTER: Duration = Duration::from_secs(1);

/// A statistic that is shown as a metric.
struct Figure {
    name: &'static str,
    help: &'static str,
    value: Value,
}

/// How to read the value of a [`Figure`], by the type of its metric.
enum Value {
    Counter(fn(&Statistics) -> u64),
    Gauge(fn(&Statistics) -> f64),
}

/// All statistics, in the order in which they are declared.
const FIGURES: [Figure; 11] = [
    Figure {
        name: "pytheus_backend_batches_sent_total",
        help: "Batches of changes that the store has confirmed.",
        value: Value::Counter(|statistics| statistics.batches_sent),
    },
    Figure {
        name: "pytheus_backend_batches_resent_total",
        help: "Batches of changes that were sent again because an answer was lost.",
        value: Value::Counter(|statistics| statistics.batches_resent),
    },
    Figure {
        name: "pytheus_backend_batches_refused_total",
        help: "Batches of changes that the store refused; they are kept, and tried again.",
        value: Value::Counter(|statistics| statistics.batches_refused),
    },
    Figure {
        name: "pytheus_backend_operations_sent_total",
        help: "Operations in the batches that the store has confirmed.",
        value: Value::Counter(|statistics| statistics.operations_sent),
    },
    Figure {
        name: "pytheus_backend_batches_replayed_total",
        help: "Batches that the store had confirmed and lost, and that were sent again.",
        value: Value::Counter(|statistics| statistics.batches_replayed),
    },
    Figure {
        name: "pytheus_backend_losses_total",
        help: "How often the store lost confirmed changes of a family that could not be sent again.",
        value: Value::Counter(|statistics| statistics.losses),
    },
    Figure {
        name: "pytheus_backend_scrapes_total",
        help: "Scrapes, those that failed included.",
        value: Value::Counter(|statistics| statistics.scrapes),
    },
    Figure {
        name: "pytheus_backend_scrape_errors_total",
        help: "Scrapes that failed.",
        value: Value::Counter(|statistics| statistics.scrape_errors),
    },
    Figure {
        name: "pytheus_backend_last_flush_timestamp_seconds",
        help: "When the store last confirmed what was sent to it, of the process that wrote this last.",
        value: Value::Gauge(|statistics| statistics.last_flush_timestamp),
    },
    Figure {
        name: "pytheus_backend_metrics_pending",
        help: "Metrics with changes that the store had not confirmed, of the process that wrote this last.",
        value: Value::Gauge(|statistics| statistics.metrics_pending as f64),
    },
    Figure {
        name: "pytheus_backend_metrics_held_back",
        help: "Metrics that the store could not take yet, of the process that wrote this last.",
        value: Value::Gauge(|statistics| statistics.metrics_held_back as f64),
    },
];

/// The metrics that show the statistics of one backend.
#[derive(Debug)]
pub(crate) struct SelfMetrics {
    tally: Arc<Tally>,
    table: Arc<FamilyTable>,
    /// The metrics, in the order of [`FIGURES`].
    followed: Vec<Followed>,
    opened: Instant,
    /// The time of the last update, in milliseconds since `opened`.
    refreshed: AtomicU64,
}

/// A metric that follows a statistic.
#[derive(Debug)]
struct Followed {
    metric: Arc<Metric>,
    /// The value that the metric shows: a count, or the bits of an `f64`.
    shown: AtomicU64,
}

impl SelfMetrics {
    /// Creates the metrics with `declare`, which returns the only metric of a family without labels.
    pub(crate) fn new(
        tally: Arc<Tally>,
        table: Arc<FamilyTable>,
        declare: impl Fn(Definition) -> Result<Arc<Metric>>,
    ) -> Result<Arc<Self>> {
        let follow = |figure: &Figure| {
            let metric_type = match figure.value {
                Value::Counter(_) => MetricType::Counter,
                Value::Gauge(_) => MetricType::Gauge,
            };
            let definition = Definition::new(figure.name, figure.help, metric_type, &[], &[])?;
            Ok(Followed { metric: declare(definition)?, shown: AtomicU64::new(0) })
        };
        let followed = FIGURES.iter().map(follow).collect::<Result<_>>()?;
        let (opened, refreshed) = (Instant::now(), AtomicU64::new(0));
        let metrics = Arc::new(Self { tally, table, followed, opened, refreshed });
        let follower: Arc<dyn Follower> = metrics.clone();
        metrics.tally.follow(Arc::downgrade(&follower));
        Ok(metrics)
    }

    /// Returns the families of the metrics.
    pub(crate) fn families(&self) -> impl Iterator<Item = Arc<Family>> + '_ {
        self.followed.iter().map(|followed| Arc::clone(&followed.metric.family))
    }

    /// Updates the metrics. Call it before a scrape, a flush or a close.
    pub(crate) fn refresh(&self) {
        self.refreshed.store(self.opened.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.tally.is_followed();
        let statistics = self.tally.statistics(self.table.waiting());
        for (Followed { metric, shown }, figure) in self.followed.iter().zip(&FIGURES) {
            match figure.value {
                Value::Counter(value) => {
                    // `fetch_max` lets concurrent updates each add only their own increase.
                    let now = value(&statistics);
                    let before = shown.fetch_max(now, Ordering::Relaxed);
                    if now > before {
                        // This cannot fail: the increase is positive.
                        let _ = metric.inc((now - before) as f64);
                    }
                }
                Value::Gauge(value) => {
                    let now = value(&statistics);
                    if shown.swap(now.to_bits(), Ordering::Relaxed) != now.to_bits() {
                        // This cannot fail: a gauge accepts every value.
                        let _ = metric.set(now);
                    }
                }
            }
        }
    }

    /// Resets the shown values in a forked child, whose statistics start at zero.
    pub(crate) fn forked(&self) {
        self.followed.iter().for_each(|followed| followed.shown.store(0, Ordering::Relaxed));
    }
}

impl Follower for SelfMetrics {
    fn refresh_if_due(&self) {
        let refreshed = Duration::from_millis(self.refreshed.load(Ordering::Relaxed));
        if self.opened.elapsed().saturating_sub(refreshed) >= REFRESH_AFTER {
            self.refresh();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::statistics::SELF_METRIC_PREFIX;

    #[test]
    fn every_statistic_is_a_metric_and_is_documented_under_its_name() {
        let documented = include_str!("../../docs/operating.md");
        let debug = format!("{:?}", Statistics::default());
        let fields = debug.split(['{', ',', '}']).filter_map(|part| part.split_once(':'));
        let fields: Vec<&str> = fields.map(|(field, _)| field.trim()).collect();
        assert_eq!(fields.len(), FIGURES.len(), "{fields:?}");
        for field in fields {
            let shows = |figure: &&Figure| {
                let rest = figure.name.strip_prefix(SELF_METRIC_PREFIX).unwrap().strip_prefix(field);
                rest.is_some_and(|rest| matches!(rest, "" | "_total" | "_seconds"))
            };
            let figure = FIGURES.iter().find(shows).unwrap_or_else(|| panic!("no metric shows {field}"));
            assert!(documented.contains(&format!("| `{}` |", figure.name)), "{}", figure.name);
        }
    }
}
