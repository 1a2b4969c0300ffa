//! What is counted: names, labels, definitions, and the samples that are read back. And how failures, findings and
//! the engine's own statistics are expressed.

pub(crate) mod definition;
pub(crate) mod error;
pub(crate) mod labels;
pub(crate) mod metric_type;
pub(crate) mod name;
pub(crate) mod number;
pub(crate) mod report;
pub(crate) mod sample;
pub(crate) mod statistics;
