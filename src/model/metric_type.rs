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
    /// Describes something by labels, such as the version of a program. Its value is always 1.
    Info,
    /// Named states, each of which is on or off.
    StateSet,
    /// The distribution of what exists at present: a histogram whose counts also go down.
    GaugeHistogram,
}

impl MetricType {
    /// Every type.
    pub(crate) const ALL: [Self; 8] = [
        Self::Counter,
        Self::Gauge,
        Self::Histogram,
        Self::Summary,
        Self::Untyped,
        Self::Info,
        Self::StateSet,
        Self::GaugeHistogram,
    ];

    /// Returns whether the values only grow from when a series began, so that this time is worth knowing.
    pub(crate) fn is_cumulative(self) -> bool {
        matches!(self, Self::Counter | Self::Histogram | Self::Summary)
    }

    /// Returns the name of the type in definitions, and in OpenMetrics except for [`MetricType::Untyped`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::GaugeHistogram => "gaugehistogram",
        }
    }

    /// Whether a metric of this type counts observations in buckets.
    pub fn has_buckets(self) -> bool {
        matches!(self, Self::Histogram | Self::GaugeHistogram)
    }

    /// Whether a metric of this type has a sum and a count of observations.
    pub fn is_observed(self) -> bool {
        self.has_buckets() || self == Self::Summary
    }

    /// Whether a metric of this type has one value, which is set and not only added to.
    pub(crate) fn is_set(self) -> bool {
        matches!(self, Self::Gauge | Self::Untyped | Self::Info | Self::StateSet)
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric_type| metric_type.name() == name)
    }
}
