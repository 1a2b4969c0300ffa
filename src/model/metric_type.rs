//! The types of metrics.

/// The type of the metrics of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetricType {
    /// Only increases.
    Counter,
    /// Increases and decreases, and can be set.
    Gauge,
    /// Counts observations in buckets, and sums them.
    Histogram,
    /// Counts and sums observations.
    Summary,
    /// Declared without a type; behaves as a gauge.
    Untyped,
}

impl MetricType {
    /// Every type.
    pub(crate) const ALL: [Self; 5] =
        [Self::Counter, Self::Gauge, Self::Histogram, Self::Summary, Self::Untyped];

    /// Returns the name of the type in the exposition formats.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric_type| metric_type.name() == name)
    }
}
