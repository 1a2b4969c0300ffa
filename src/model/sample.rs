//! What a scrape has read: families, their series, and the samples of each.
//!
//! A store fills a [`Snapshot`]; the exposition renders it. Histogram buckets are stored one by one
//! and become cumulative here, so that `_count` equals the `+Inf` bucket, whoever wrote meanwhile. The
//! series of a family share three buffers, so that reading one allocates nothing.

use crate::model::definition::{Definition, FIRST_COUNT_CELL, VALUE_CELL};
use crate::model::labels::{self, Labels};
use crate::model::metric_type::MetricType;

/// The values of some families at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// The families, in the order in which they are shown.
    pub families: Vec<FamilySamples>,
}

/// The values of one family.
#[derive(Debug, Clone, PartialEq)]
pub struct FamilySamples {
    /// What the family is.
    pub definition: Definition,
    /// The canonical labels of all series, one behind the other.
    keys: String,
    /// Of each series: where its labels end, and when its metric was made.
    series: Vec<(usize, Option<f64>)>,
    /// The cells of all series, one behind the other, in the order of [`Definition::cell_count`].
    cells: Vec<f64>,
}

/// The values of one metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Series<'family> {
    key: &'family str,
    cells: &'family [f64],
    created: Option<f64>,
}

impl FamilySamples {
    /// A family without series.
    pub(crate) fn new(definition: Definition) -> Self {
        Self { definition, keys: String::new(), series: Vec::new(), cells: Vec::new() }
    }

    /// The same with a compatible definition.
    pub(crate) fn declared_as(self, definition: Definition) -> Self {
        Self { definition, ..self }
    }

    /// Its series, sorted by their labels JSON.
    pub fn series(&self) -> impl ExactSizeIterator<Item = Series<'_>> + Clone {
        let width = self.definition.cell_count();
        self.series.iter().enumerate().map(move |(index, &(end, created))| {
            let start = if index == 0 { 0 } else { self.series[index - 1].0 };
            Series { key: &self.keys[start..end], cells: &self.cells[index * width..][..width], created }
        })
    }

    /// Adds a series with the labels `key`, in their canonical spelling, and gives its cells, all 0, to be
    /// filled. `created`: when its metric was made, in seconds since 1970, if that is known.
    pub(crate) fn push(&mut self, key: &str, created: Option<f64>) -> &mut [f64] {
        self.keys.push_str(key);
        self.series.push((self.keys.len(), created));
        let start = self.cells.len();
        self.cells.resize(start + self.definition.cell_count(), 0.0);
        &mut self.cells[start..]
    }

    /// Takes the last series away again.
    pub(crate) fn pop(&mut self) {
        self.series.pop();
        self.keys.truncate(self.series.last().map_or(0, |&(end, _)| end));
        self.cells.truncate(self.series.len() * self.definition.cell_count());
    }
}

impl<'family> Series<'family> {
    /// A series that is not of a snapshot.
    pub(crate) fn new(key: &'family str, cells: &'family [f64]) -> Self {
        Self { key, cells, created: None }
    }

    /// Its labels in their canonical spelling: compact JSON, sorted by name.
    pub fn key(&self) -> &'family str {
        self.key
    }

    /// Its labels.
    pub fn labels(&self) -> Labels {
        labels::decode(self.key).unwrap_or_default()
    }

    /// When its metric was made, in seconds since 1970, where the store knows it.
    pub fn created(&self) -> Option<f64> {
        self.created
    }

    /// The value of a counter, gauge or untyped metric; the sum of a summary or histogram.
    pub fn value(&self) -> f64 {
        self.cells[VALUE_CELL]
    }

    /// How many observations a summary or histogram has counted.
    pub fn count(&self) -> f64 {
        self.cells[FIRST_COUNT_CELL..].iter().sum()
    }

    /// The cumulative bucket counts of a histogram, in the order of its bounds, `+Inf` last.
    pub fn cumulative_buckets(&self) -> impl Iterator<Item = f64> + 'family {
        let mut total = 0.0;
        self.cells[FIRST_COUNT_CELL..].iter().map(move |count| {
            total += count;
            total
        })
    }

    /// All sample values in the order of the exposition: the value; or count, sum; or the cumulative
    /// buckets, count, sum.
    pub fn values(&self, metric_type: MetricType) -> Vec<f64> {
        match metric_type {
            MetricType::Counter | MetricType::Gauge | MetricType::Untyped => vec![self.value()],
            MetricType::Summary => vec![self.count(), self.value()],
            MetricType::Histogram => {
                let mut values = Vec::with_capacity(self.cells.len() + 1);
                values.extend(self.cumulative_buckets());
                values.extend([self.count(), self.value()]);
                values
            }
        }
    }
}
