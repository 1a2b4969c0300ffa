//! A metric: one label set of a family, and what a program does with it.
//!
//! This is the hot path. An operation is one check, one addition to a cell at a stable address and,
//! where the store needs it, one look at the "dirty" flag: no lock, no allocation, no look-up, no system
//! call. Only the first change after the store has taken the last ones queues the metric.
//!
//! The cells of a metric, in order: counter, gauge, untyped: the value. Summary: sum, count.
//! Histogram: sum, then one count per bucket, not cumulative, `+Inf` last: an observation touches
//! one bucket and the sum, and the count is the sum of the buckets.

use std::sync::Arc;

use crate::cell::pending::PendingCells;
use crate::cell::shared::SharedCells;
use crate::cell::{AtomicCell, CounterCell, MutexCell, ObservedCells};
use crate::family::Family;
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::labels::{self, Labels};
use crate::model::metric_type::MetricType;
use crate::model::sample::Series;

/// The cell that holds a counter's or gauge's value, or the sum of a summary or histogram.
pub(crate) const VALUE_CELL: usize = 0;
/// The cell of a summary's count, and of a histogram's first bucket.
pub(crate) const FIRST_COUNT_CELL: usize = 1;

/// Why a hot call did nothing. It carries no text, so that refusing costs nothing either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The metric's type does not have this operation.
    WrongType,
    /// A counter only goes up: the amount is negative or not a number.
    NotAnIncrease,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::WrongType => "a metric of this type has no such operation",
            Self::NotAnIncrease => "a counter only goes up: expected an amount >= 0",
        })
    }
}

impl std::error::Error for Refusal {}

/// One label set of a metric family: what a program counts with.
#[derive(Debug)]
pub struct Metric {
    pub(crate) family: Arc<Family>,
    pub(crate) labels: Labels,
    /// [`labels::encode`] of the labels: the key within the family.
    pub(crate) key: String,
    pub(crate) cells: Cells,
    /// When the metric was made, in seconds since 1970, if its store begins with 0 then.
    pub(crate) created: Option<f64>,
}

/// The cells, in the form that the store of the metric needs.
#[derive(Debug)]
pub(crate) enum Cells {
    Counter(CounterCell),
    Gauge(AtomicCell),
    Observed(ObservedCells),
    Mutex(Box<[MutexCell]>),
    Pending(PendingCells),
    Shared(SharedCells),
}

impl Cells {
    /// Cells in memory, changed without a lock.
    pub(crate) fn atomic(definition: &Definition) -> Self {
        match definition.metric_type() {
            MetricType::Counter => Self::Counter(CounterCell::default()),
            MetricType::Gauge | MetricType::Untyped => Self::Gauge(AtomicCell::default()),
            MetricType::Histogram | MetricType::Summary => {
                Self::Observed(ObservedCells::new(definition.cell_count() - FIRST_COUNT_CELL))
            }
        }
    }

    pub(crate) fn mutex(count: usize) -> Self {
        Self::Mutex((0..count).map(|_| MutexCell::default()).collect())
    }

    /// Adds to the value of a counter, gauge or untyped metric.
    #[inline]
    fn add(&self, amount: f64) {
        match self {
            Self::Counter(cell) => cell.add(amount),
            Self::Gauge(cell) => cell.add(amount),
            // `Metric` sees to that.
            Self::Observed(_) => {}
            Self::Mutex(cells) => cells[VALUE_CELL].add(amount),
            Self::Pending(cells) => cells.add(VALUE_CELL, amount),
            Self::Shared(cells) => cells.add(VALUE_CELL, amount),
        }
    }

    /// Counts `value` in a summary or histogram: in its sum, and in this one of its count cells.
    #[inline]
    fn observe(&self, count_cell: usize, value: f64) {
        match self {
            // `Metric` sees to that.
            Self::Counter(_) | Self::Gauge(_) => {}
            Self::Observed(cells) => cells.observe(count_cell - FIRST_COUNT_CELL, value),
            Self::Mutex(cells) => {
                cells[count_cell].add(1.0);
                cells[VALUE_CELL].add(value);
            }
            Self::Pending(cells) => {
                cells.add(count_cell, 1.0);
                cells.add(VALUE_CELL, value);
            }
            Self::Shared(cells) => {
                cells.add(count_cell, 1.0);
                cells.add(VALUE_CELL, value);
            }
        }
    }

    #[inline]
    fn set(&self, value: f64) {
        match self {
            // Only gauges and untyped metrics are set; `Metric` sees to that.
            Self::Counter(_) | Self::Observed(_) => {}
            Self::Gauge(cell) => cell.set(value),
            Self::Mutex(cells) => cells[VALUE_CELL].set(value),
            Self::Pending(cells) => cells.set(value),
            Self::Shared(cells) => cells.set(VALUE_CELL, value),
        }
    }

    /// Tells the store that there is something to send. After the change, never before.
    #[inline]
    fn changed(&self) {
        if let Self::Pending(cells) = self {
            cells.mark_dirty();
        }
    }
}

impl Metric {
    pub(crate) fn new(family: Arc<Family>, labels: Labels, cells: Cells) -> Self {
        let key = labels::encode(&labels);
        Self { family, labels, key, cells, created: None }
    }

    /// The labels.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The type of the metric's family.
    #[inline]
    pub fn metric_type(&self) -> MetricType {
        self.family.definition.metric_type()
    }

    /// Adds `amount` to a counter, gauge or untyped metric.
    #[inline]
    pub fn inc(&self, amount: f64) -> std::result::Result<(), Refusal> {
        // The one in memory has nothing more to ask, and is by far the most called.
        if let Cells::Counter(cell) = &self.cells {
            if amount >= 0.0 {
                cell.add(amount);
                return Ok(());
            }
            return Err(Refusal::NotAnIncrease);
        }
        self.inc_any(amount)
    }

    #[inline(never)]
    fn inc_any(&self, amount: f64) -> std::result::Result<(), Refusal> {
        match self.metric_type() {
            MetricType::Counter if amount < 0.0 || amount.is_nan() => return Err(Refusal::NotAnIncrease),
            MetricType::Counter | MetricType::Gauge | MetricType::Untyped => {}
            MetricType::Histogram | MetricType::Summary => return Err(Refusal::WrongType),
        }
        self.cells.add(amount);
        self.cells.changed();
        Ok(())
    }

    /// Takes `amount` from a gauge or untyped metric.
    #[inline]
    pub fn dec(&self, amount: f64) -> std::result::Result<(), Refusal> {
        if !matches!(self.metric_type(), MetricType::Gauge | MetricType::Untyped) {
            return Err(Refusal::WrongType);
        }
        self.cells.add(-amount);
        self.cells.changed();
        Ok(())
    }

    /// Sets a gauge or untyped metric to `value`.
    #[inline]
    pub fn set(&self, value: f64) -> std::result::Result<(), Refusal> {
        if !matches!(self.metric_type(), MetricType::Gauge | MetricType::Untyped) {
            return Err(Refusal::WrongType);
        }
        self.cells.set(value);
        self.cells.changed();
        Ok(())
    }

    /// Counts `value` in a histogram or summary. NaN counts in the `+Inf` bucket.
    #[inline]
    pub fn observe(&self, value: f64) -> std::result::Result<(), Refusal> {
        let count_cell = match self.metric_type() {
            MetricType::Histogram => FIRST_COUNT_CELL + self.bucket_of(value),
            MetricType::Summary => FIRST_COUNT_CELL,
            _ => return Err(Refusal::WrongType),
        };
        self.cells.observe(count_cell, value);
        self.cells.changed();
        Ok(())
    }

    /// The value of a counter, gauge or untyped metric in the store.
    pub fn get(self: &Arc<Self>) -> Result<f64> {
        let types = [MetricType::Counter, MetricType::Gauge, MetricType::Untyped];
        self.read("single value", &types, |series| series.value())
    }

    /// The sum of what a summary or histogram has observed.
    pub fn get_sum(self: &Arc<Self>) -> Result<f64> {
        self.read("sum", &[MetricType::Summary, MetricType::Histogram], |series| series.value())
    }

    /// The number of observations of a summary or histogram.
    pub fn get_count(self: &Arc<Self>) -> Result<f64> {
        self.read("count", &[MetricType::Summary, MetricType::Histogram], |series| series.count())
    }

    /// The cumulative count of a histogram's bucket; `upper_bound` is infinite for the last.
    pub fn get_bucket(self: &Arc<Self>, upper_bound: f64) -> Result<f64> {
        let index = bucket_index(&self.family, upper_bound)?;
        self.read("buckets", &[MetricType::Histogram], |series| {
            series.cumulative_buckets().nth(index).unwrap_or_default()
        })
    }

    /// Reads the cells in the store, after what this process has pending.
    fn read(
        self: &Arc<Self>,
        what: &str,
        types: &[MetricType],
        value: impl FnOnce(Series<'_>) -> f64,
    ) -> Result<f64> {
        let definition = &self.family.definition;
        let metric_type = definition.metric_type();
        if !types.contains(&metric_type) {
            let message = format!("{} {:?} has no {what} to read", metric_type.name(), definition.name());
            return Err(Error::new(ErrorKind::WrongType, message));
        }
        let Some(backend) = self.family.backend.upgrade() else {
            let message = format!("the backend of {} {:?} is freed", metric_type.name(), definition.name());
            return Err(Error::new(ErrorKind::Unavailable, message));
        };
        Ok(value(Series::new(&self.key, &backend.store.read(self)?)))
    }

    /// The index of the first bucket whose bound is not below `value`.
    #[inline]
    fn bucket_of(&self, value: f64) -> usize {
        let bounds = self.family.definition.buckets();
        // NaN is below no bound, so it ends in the +Inf bucket, behind the last one.
        bounds.iter().position(|&bound| value <= bound).unwrap_or(bounds.len())
    }

    /// The values of the cells of an in-memory metric, in their order.
    pub(crate) fn read_cells(&self) -> Vec<f64> {
        let mut values = vec![0.0; self.family.definition.cell_count()];
        self.read_cells_into(&mut values);
        values
    }

    /// Writes the values of the cells of an in-memory metric to `values`, which are as many.
    pub(crate) fn read_cells_into(&self, values: &mut [f64]) {
        match &self.cells {
            Cells::Counter(cell) => values[VALUE_CELL] = cell.get(),
            Cells::Gauge(cell) => values[VALUE_CELL] = cell.get(),
            Cells::Observed(cells) => cells.read(values),
            Cells::Mutex(cells) => {
                values.iter_mut().zip(cells).for_each(|(value, cell)| *value = cell.get());
            }
            Cells::Shared(cells) => cells.read(values),
            Cells::Pending(_) => {}
        }
    }

    /// Whether the metric is still the one that the store has; `false` if another process removed it.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(&self.cells, Cells::Shared(cells) if !cells.is_live())
    }

    /// Whether the metric has changes that its store has not taken.
    pub(crate) fn is_dirty(&self) -> bool {
        matches!(&self.cells, Cells::Pending(cells) if cells.is_dirty())
    }

    /// What a fork leaves to the child: see [`crate::process::fork`].
    pub(crate) fn reset_after_fork(&self) {
        match &self.cells {
            // Nothing is pending: a child has a copy of a cell in memory, and shares a shared one.
            Cells::Counter(_) | Cells::Gauge(_) | Cells::Observed(_) | Cells::Mutex(_) | Cells::Shared(_) => {
            }
            Cells::Pending(cells) => cells.discard(),
        }
    }
}

/// Finds the position of `bound` among the buckets of a histogram; `+Inf` is the last.
fn bucket_index(family: &Family, bound: f64) -> Result<usize> {
    let bounds = family.definition.buckets();
    if family.definition.metric_type() != MetricType::Histogram {
        let message = format!(
            "{} {:?} has no buckets to read",
            family.definition.metric_type().name(),
            family.definition.name()
        );
        return Err(Error::new(ErrorKind::WrongType, message));
    }
    let found = bounds.iter().position(|&known| known == bound);
    found.or((bound == f64::INFINITY).then_some(bounds.len())).ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!(
                "histogram {:?} has no bucket with the bound {}",
                family.definition.name(),
                crate::model::number::format_number(bound)
            ),
        )
    })
}
