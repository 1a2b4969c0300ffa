//! What the server has of the series of a family beside their values: when they began, and their exemplars.

use std::collections::HashMap;

use super::exemplar_field;
use super::layout;
use crate::model::exemplar::Exemplar;
use crate::model::sample::Milliseconds;

/// The times and the exemplars, by the canonical labels of the series.
#[derive(Debug)]
pub(crate) struct SeriesMeta {
    created: HashMap<String, Milliseconds>,
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
        let mut exemplars: HashMap<String, Vec<Exemplar>> = HashMap::new();
        let read = pairs.iter().filter_map(|(field, value)| exemplar_field::parse(field, value));
        for (labels, exemplar) in read {
            let known = exemplars.entry(labels.to_owned()).or_default();
            // A field may come twice.
            if !known.contains(&exemplar) {
                known.push(exemplar);
            }
        }
        let size = created.keys().chain(exemplars.keys()).map(String::len).sum();
        Self { created, exemplars, size }
    }

    /// Returns when the series with these labels began.
    pub(crate) fn created(&self, labels: &str) -> Option<Milliseconds> {
        self.created.get(labels).copied()
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
        size_of::<Self>() + self.size + created + series + exemplars
    }
}
