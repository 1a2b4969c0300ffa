//! When the series of a family began, as the server has it.

use std::collections::HashMap;

use super::layout;
use crate::model::sample::Milliseconds;

/// The times by the canonical labels of the series.
#[derive(Debug)]
pub(crate) struct CreatedTimes {
    by_labels: HashMap<String, Milliseconds>,
    /// The bytes of all labels.
    size: usize,
}

impl CreatedTimes {
    /// Reads the times in the fields of the hash.
    pub(crate) fn new(pairs: &[(String, String)]) -> Self {
        let times = pairs.iter().filter_map(|(field, value)| layout::parse_created(field, value));
        let by_labels: HashMap<String, Milliseconds> =
            times.map(|(labels, created)| (labels.to_owned(), created)).collect();
        let size = by_labels.keys().map(String::len).sum();
        Self { by_labels, size }
    }

    /// Returns when the series with these labels began.
    pub(crate) fn get(&self, labels: &str) -> Option<Milliseconds> {
        self.by_labels.get(labels).copied()
    }

    /// Returns about how many bytes they take in memory.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.size + self.by_labels.capacity() * size_of::<(String, Milliseconds)>()
    }
}
