//! What the server has of the series of a family beside their values: when they began and were last used, and
//! their exemplars.

use std::collections::HashMap;

use super::exemplar_field;
use super::layout;
use crate::model::exemplar::Exemplar;
use crate::model::sample::Milliseconds;

/// The times and the exemplars, by the canonical labels of the series.
#[derive(Debug)]
pub(crate) struct SeriesMeta {
    created: HashMap<String, Milliseconds>,
    /// In seconds of the server's clock.
    used: HashMap<String, u64>,
    exemplars: HashMap<String, Vec<Exemplar>>,
    /// The bytes of all labels.
    size: usize,
}

impl SeriesMeta {
    /// Reads the fields of the hash. Those that this version does not know are ignored.
    pub(crate) fn new(pairs: &[(String, String)]) -> Self {
        let times = pairs.iter().filter_map(|(field, value)| layout::parse_created(field, value));
        let created: HashMap<String, Milliseconds> =
            times.map(|(labels, created)| (labels.to_owned(), created)).collect();
        let used = pairs.iter().filter_map(|(field, value)| layout::parse_used(field, value));
        let used: HashMap<String, u64> = used.map(|(labels, used)| (labels.to_owned(), used)).collect();
        let mut exemplars: HashMap<String, Vec<Exemplar>> = HashMap::new();
        let read = pairs.iter().filter_map(|(field, value)| exemplar_field::parse(field, value));
        for (labels, exemplar) in read {
            let known = exemplars.entry(labels.to_owned()).or_default();
            // A field may come twice.
            if !known.contains(&exemplar) {
                known.push(exemplar);
            }
        }
        let size = created.keys().chain(used.keys()).chain(exemplars.keys()).map(String::len).sum();
        Self { created, used, exemplars, size }
    }

    /// Returns when the series with these labels began.
    pub(crate) fn created(&self, labels: &str) -> Option<Milliseconds> {
        self.created.get(labels).copied()
    }

    /// Returns the second in which the series with these labels was last used, as far as the server has noted it.
    pub(crate) fn used(&self, labels: &str) -> Option<u64> {
        self.used.get(labels).copied()
    }

    /// Returns the exemplars of the series with these labels.
    pub(crate) fn exemplars(&self, labels: &str) -> Vec<Exemplar> {
        self.exemplars.get(labels).cloned().unwrap_or_default()
    }

    /// Returns about how many bytes they take in memory.
    pub(crate) fn size(&self) -> usize {
        let created = self.created.capacity() * size_of::<(String, Milliseconds)>();
        let series = self.exemplars.capacity() * size_of::<(String, Vec<Exemplar>)>();
        let exemplars = self.exemplars.values().map(|exemplars| size_of_val(&**exemplars)).sum::<usize>();
        let used = self.used.capacity() * size_of::<(String, u64)>();
        size_of::<Self>() + self.size + created + used + series + exemplars
    }
}
