//! When the series of a family began, as the server has it.

use std::collections::HashMap;

use redis::Value;

use super::layout;
use super::reply::{pairs, text};
use crate::model::sample::Milliseconds;

/// The times by the canonical labels of the series.
#[derive(Debug, Default)]
pub(crate) struct CreatedTimes {
    by_labels: HashMap<String, Milliseconds>,
    /// The bytes of all labels.
    size: usize,
    /// Whether the server has refused a part of them.
    is_refused: bool,
}

impl CreatedTimes {
    /// Adds the reply to `HSCAN`. Returns the cursor of the rest, if there is one.
    pub(crate) fn add(&mut self, reply: Value) -> Option<String> {
        let Value::Array(mut parts) = reply else {
            // The user may not read the key, or it is another program's.
            self.is_refused = true;
            return None;
        };
        let (found, cursor) = (parts.pop(), parts.pop().and_then(text));
        for (field, value) in found.map(pairs).unwrap_or_default() {
            if let Some((labels, created)) = layout::parse_created(&field, &value) {
                self.size += labels.len();
                self.by_labels.insert(labels.to_owned(), created);
            }
        }
        cursor.filter(|cursor| cursor != "0")
    }

    /// Returns when the series with these labels began.
    pub(crate) fn get(&self, labels: &str) -> Option<Milliseconds> {
        self.by_labels.get(labels).copied()
    }

    /// Returns whether the server has refused nothing.
    pub(crate) fn are_whole(&self) -> bool {
        !self.is_refused
    }

    /// Returns about how many bytes they take in memory.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.size + self.by_labels.capacity() * size_of::<(String, Milliseconds)>()
    }
}
