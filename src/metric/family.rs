//! Metric families: a definition that is declared in a backend, and the handles of it.

use std::sync::{Arc, Weak};

use crate::backend::{Backend, BackendParts};
use crate::metric::Metric;
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::labels::Labels;

/// How long a family lives, and who finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Lifetime {
    /// Until its backend is freed. Declaring the same definition again gives the same family.
    #[default]
    Backend,
    /// As long as a handle of it or of one of its metrics. Every declaration is a family of its own:
    /// two of them share values only where the store shares them between processes, and in memory `collect`
    /// without a list of families shows the first of a name. This is what pytheus' metric objects are.
    Handle,
}

/// A family that a backend knows; shared by its handles and its metrics.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) id: u64,
    pub(crate) lifetime: Lifetime,
    pub(crate) definition: Definition,
    /// Weak: a metric must not keep a backend open that the program has freed.
    pub(crate) backend: Weak<BackendParts>,
}

/// A declared metric family: what makes its metrics.
#[derive(Debug, Clone)]
pub struct MetricFamily {
    pub(crate) backend: Backend,
    pub(crate) family: Arc<Family>,
    /// The label names in the order in which this handle takes label values.
    label_order: Vec<String>,
}

impl MetricFamily {
    pub(crate) fn new(backend: Backend, family: Arc<Family>, label_order: &[&str]) -> Self {
        let label_order = label_order.iter().map(|&name| name.to_owned()).collect();
        Self { backend, family, label_order }
    }

    /// The definition.
    pub fn definition(&self) -> &Definition {
        &self.family.definition
    }

    /// The metric with these label values, given in the order of the declared label names. It is
    /// created, with the value 0, if it does not exist.
    pub fn metric(&self, label_values: &[&str]) -> Result<Arc<Metric>> {
        let labels = self.labels(label_values)?;
        self.backend.metric(&self.family, labels)
    }

    /// Removes the metric with these label values from the store; whoever still holds it counts
    /// into the void. [`ErrorKind::NotFound`] if this process does not know such a metric.
    pub fn remove(&self, label_values: &[&str]) -> Result<()> {
        let labels = self.labels(label_values)?;
        self.backend.remove_metric(&self.family, &labels)
    }

    /// Removes all metrics of the family from the store, also those of other processes.
    pub fn clear(&self) -> Result<()> {
        self.backend.clear_family(&self.family)
    }

    fn labels(&self, values: &[&str]) -> Result<Labels> {
        if values.len() == self.label_order.len() {
            let pairs = self.label_order.iter().zip(values);
            return Ok(pairs.map(|(name, &value)| (name.clone(), value.to_owned())).collect());
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
