//! When the series of a family began, as the server has it.

use std::collections::HashMap;

use super::layout;
use crate::model::sample::Milliseconds;

/// The times by the canonical labels of the series.
#[derive(Debug, Default)]
pub(crate) struct CreatedTimes {
    by_labels: HashMap<String, Milliseconds>,
    /// The bytes of all labels.
    size: usize,
}

impl CreatedTimes {
    /// Adds fields of the hash.
    pub(crate) fn add(&mut self, pairs: Vec<(String, String)>) {
        for (field, value) in pairs {
            if let Some((labels, created)) = layout::parse_created(&field, &value) {
                self.size += labels.len();
                self.by_labels.insert(labels.to_owned(), created);
            }
        }
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
