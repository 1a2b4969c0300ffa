//! What a scrape has read: families, their series, and the samples of each.
//!
//! A store fills a [`Snapshot`]; the exposition renders it. Histogram buckets are stored one by one
//! and become cumulative here, so that `_count` equals the `+Inf` bucket, whoever wrote meanwhile.

use crate::family::{Definition, MetricType};
use crate::labels::Labels;
use crate::metric::{FIRST_COUNT_CELL, VALUE_CELL};

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
    /// Its series, sorted by their labels JSON.
    pub series: Vec<Series>,
}

/// The values of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Its cells, in the order of [`crate::metric`].
    pub(crate) cells: Vec<f64>,
}

impl Series {
    /// The value of a counter, gauge or untyped metric; the sum of a summary or histogram.
    pub fn value(&self) -> f64 {
        self.cells[VALUE_CELL]
    }

    /// How many observations a summary or histogram has counted.
    pub fn count(&self) -> f64 {
        self.cells[FIRST_COUNT_CELL..].iter().sum()
    }

    /// The cumulative bucket counts of a histogram, in the order of its bounds, `+Inf` last.
    pub fn cumulative_buckets(&self) -> impl Iterator<Item = f64> + '_ {
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
                let mut values: Vec<f64> = self.cumulative_buckets().collect();
                values.extend([self.count(), self.value()]);
                values
            }
        }
    }
}
