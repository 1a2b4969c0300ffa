//! A metric family as its metrics and its store know it.
//!
//! The handle that programs hold is [`MetricFamily`](crate::MetricFamily).

use std::fmt::Debug;
use std::sync::{Arc, Weak};

use super::Metric;
use crate::cell::held::HeldCells;
use crate::model::definition::Definition;
use crate::model::error::Result;

/// How long a family lives, and which look-ups find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Lifetime {
    /// Until its backend is freed. Declaring the same definition again gives the same family.
    #[default]
    Backend,
    /// As long as a handle to it or to one of its metrics. Each declaration makes a separate family, as the
    /// objects of a client library need. Two families of one name share values only if the store shares
    /// values between processes. In memory, `collect` without a list of families shows only the first of
    /// them.
    Handle,
}

/// Reads the values of metrics from the store, where they live.
pub(crate) trait ReadCells: Debug + Send + Sync {
    /// Returns the values of the cells of one metric, after the store has taken what this process has
    /// pending.
    fn read(&self, metric: &Arc<Metric>) -> Result<Vec<f64>>;

    /// Offers the metrics that wait for the store to it.
    fn offer(&self) {}

    /// Offers one metric to the store, if it waits for it: its series has ended, and it counts in a new one.
    fn settle(&self, _metric: &Arc<Metric>) {}
}

/// A declared family. Its handles and its metrics share it.
#[derive(Debug)]
pub(crate) struct Family {
    /// Its place in the order of declaration; unique within its table.
    pub(crate) id: u64,
    pub(crate) lifetime: Lifetime,
    pub(crate) definition: Definition,
    /// Weak: a metric must not keep a backend open that the program has freed.
    pub(crate) reader: Weak<dyn ReadCells>,
}

impl Family {
    /// Makes cells of a metric that count in this process until its store has cells for it.
    pub(crate) fn held_cells(&self) -> HeldCells {
        let Some(mode) = self.definition.mode() else { return HeldCells::new(&self.definition) };
        let reader = self.reader.clone();
        let offer = move || {
            if let Some(reader) = reader.upgrade() {
                reader.offer();
            }
        };
        HeldCells::of_process(&self.definition, mode, Box::new(offer))
    }
}

#[cfg(test)]
impl Family {
    /// A family that belongs to no backend.
    pub(crate) fn detached(definition: Definition) -> Arc<Self> {
        #[derive(Debug)]
        struct NoReader;
        impl ReadCells for NoReader {
            fn read(&self, _: &Arc<Metric>) -> Result<Vec<f64>> {
                Ok(Vec::new())
            }
        }
        Arc::new(Self { id: 0, lifetime: Lifetime::Handle, definition, reader: Weak::<NoReader>::new() })
    }
}
