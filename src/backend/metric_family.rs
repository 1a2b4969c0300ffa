//! The handle of a metric family, with which a program creates metrics.

use std::sync::Arc;

use super::parts::BackendParts;
use crate::metric::Metric;
use crate::metric::family::Family;
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::labels::KeyWriter;

/// A declared metric family. It has one metric for each label set.
#[derive(Debug, Clone)]
pub struct MetricFamily {
    parts: Arc<BackendParts>,
    family: Arc<Family>,
    /// The label names in the order in which this handle takes label values.
    label_order: Vec<String>,
    keys: KeyWriter,
}

impl MetricFamily {
    pub(super) fn new(parts: Arc<BackendParts>, family: Arc<Family>, label_order: &[&str]) -> Self {
        let keys = KeyWriter::new(label_order);
        let label_order = label_order.iter().map(|&name| name.to_owned()).collect();
        Self { parts, family, label_order, keys }
    }

    /// Returns the family, if it belongs to the backend of `parts`.
    pub(super) fn family_in(&self, parts: &Arc<BackendParts>) -> Option<Arc<Family>> {
        Arc::ptr_eq(&self.parts, parts).then(|| Arc::clone(&self.family))
    }

    /// Returns the definition.
    pub fn definition(&self) -> &Definition {
        &self.family.definition
    }

    /// Returns the metric with these label values, which are given in the label order of this handle. Creates
    /// it with the value 0 if it does not exist.
    pub fn metric(&self, label_values: &[&str]) -> Result<Arc<Metric>> {
        self.parts.metric(&self.family, &self.key(label_values)?)
    }

    /// Removes the metric with these label values from the store. Handles that are still held become no-ops.
    /// Returns [`ErrorKind::NotFound`] if this process does not know such a metric.
    pub fn remove(&self, label_values: &[&str]) -> Result<()> {
        self.parts.remove_metric(&self.family, &self.key(label_values)?)
    }

    /// Removes all metrics of the family from the store, including those of other processes.
    pub fn clear(&self) -> Result<()> {
        self.parts.clear_family(&self.family)
    }

    /// Returns the canonical labels of the metric with these label values.
    fn key(&self, values: &[&str]) -> Result<String> {
        if values.len() == self.label_order.len() {
            return Ok(self.keys.write(values));
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "metric family {:?} has {} labels ({}), but {} values were given",
                self.family.definition.name(),
                self.label_order.len(),
                self.label_order.join(", "),
                values.len()
            ),
        ))
    }
}
