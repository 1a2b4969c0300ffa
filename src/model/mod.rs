//! The data types of the engine: names, labels, definitions and samples; errors, reports and statistics.

pub(crate) mod definition;
pub(crate) mod error;
pub(crate) mod exemplar;
pub(crate) mod gauge_mode;
pub(crate) mod labels;
pub(crate) mod merge;
pub(crate) mod metric_type;
pub(crate) mod name;
pub(crate) mod native;
pub(crate) mod native_bounds;
pub(crate) mod number;
pub(crate) mod report;
pub(crate) mod sample;
pub(crate) mod series_ttl;
pub(crate) mod statistics;
