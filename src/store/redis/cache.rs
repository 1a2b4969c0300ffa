//! What a connection has read: the families that have not changed since, and the outlines of large ones.
//!
//! The values of a family are used only as long as the connection on which they were read tells of changes
//! ([`super::tracking`]), and has told of none that concerns the family. An outline is used longer: the next read
//! of the family checks it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::layout;
use super::outline::Outline;
use super::series_meta::SeriesMeta;
use super::tracking::Changes;
use crate::model::definition::Definition;
use crate::model::sample::FamilySamples;

/// About how many bytes the families and outlines may take.
const MAX_SIZE: usize = 64 << 20;

/// A family that this many reads in a row have not asked for is dropped.
const UNUSED_READS: u64 = 64;

/// What was read of families, by their keys.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<String, Entry>,
    /// What the keys hold that say when the series of families began, and the last read that used it.
    meta: HashMap<String, (Arc<SeriesMeta>, u64)>,
    /// About how many bytes the entries take.
    size: usize,
    /// How many reads there have been.
    reads: u64,
}

/// A family, as it is on the server.
#[derive(Debug)]
struct Entry {
    /// `None` if the family may have changed.
    values: Option<CachedFamily>,
    /// `None` if the family is small.
    outline: Option<Arc<Outline>>,
    used_in: u64,
}

/// The values of a family.
#[derive(Debug, Clone)]
pub(crate) struct CachedFamily {
    pub(crate) samples: FamilySamples,
    pub(crate) epoch: String,
    /// When the family must be read again because its expiry must be renewed, or its key may expire.
    pub(crate) until: Instant,
}

/// Returns whether the family at `key`, or its writers' key, may have changed.
pub(crate) fn concern_family(changes: &Changes, key: &str) -> bool {
    changes.concern(key) || changes.concern(&layout::writers_key(key))
}

impl Entry {
    /// Returns about how many bytes the entry takes.
    fn size(&self) -> usize {
        let values = self.values.as_ref().map_or(0, |values| values.samples.size());
        values + self.outline.as_ref().map_or(0, |outline| outline.size())
    }
}

impl Cache {
    /// Begins another read. Forgets the families that no recent read has asked for, and the values of those that must
    /// be renewed.
    pub(crate) fn begin_read(&mut self) {
        self.reads += 1;
        let (reads, now) = (self.reads, Instant::now());
        self.retain(|_, entry| {
            entry.values.take_if(|values| values.until <= now);
            reads - entry.used_in <= UNUSED_READS
        });
        self.retain_meta(|_, used_in| reads - used_in <= UNUSED_READS);
    }

    /// Forgets the values of the families that have changed.
    pub(crate) fn forget(&mut self, changes: &Changes) {
        if !changes.is_empty() {
            self.retain(|key, entry| {
                entry.values.take_if(|_| concern_family(changes, key));
                true
            });
            self.retain_meta(|key, _| !changes.concern(key));
        }
    }

    /// Returns the values of a family that were read with this definition.
    pub(crate) fn values(&mut self, key: &str, definition: &Definition) -> Option<CachedFamily> {
        let entry = self.entries.get_mut(key)?;
        let values = entry.values.as_ref().filter(|values| values.samples.definition == *definition)?;
        entry.used_in = self.reads;
        Some(values.clone())
    }

    /// Returns the outline of a family that was read with this definition.
    pub(crate) fn outline(&mut self, key: &str, definition: &Definition) -> Option<Arc<Outline>> {
        let entry = self.entries.get_mut(key)?;
        let outline = entry.outline.as_ref().filter(|outline| outline.definition() == definition)?;
        entry.used_in = self.reads;
        Some(Arc::clone(outline))
    }

    /// Keeps what was read of a family, if there is room.
    pub(crate) fn put(&mut self, key: &str, values: Option<CachedFamily>, outline: Option<Arc<Outline>>) {
        if let Some(entry) = self.entries.remove(key) {
            self.size -= entry.size();
        }
        let entry = Entry { values, outline, used_in: self.reads };
        let size = entry.size();
        if size > 0 && self.size + size <= MAX_SIZE {
            self.size += size;
            self.entries.insert(key.to_owned(), entry);
        }
    }

    /// Returns when the series of a family began, and their exemplars, by the key that holds them.
    pub(crate) fn meta(&mut self, key: &str) -> Option<Arc<SeriesMeta>> {
        let (meta, used_in) = self.meta.get_mut(key)?;
        *used_in = self.reads;
        Some(Arc::clone(meta))
    }

    /// Keeps what the key holds that says when the series of a family began, if there is room.
    pub(crate) fn put_meta(&mut self, key: &str, meta: Arc<SeriesMeta>) {
        if self.size + meta.size() <= MAX_SIZE {
            self.size += meta.size();
            if let Some((before, _)) = self.meta.insert(key.to_owned(), (meta, self.reads)) {
                self.size -= before.size();
            }
        }
    }

    fn retain_meta(&mut self, keeps: impl Fn(&str, u64) -> bool) {
        let total = &mut self.size;
        self.meta.retain(|key, (meta, used_in)| {
            let is_kept = keeps(key, *used_in);
            if !is_kept {
                *total -= meta.size();
            }
            is_kept
        });
    }

    /// Drops parts of entries, and the entries that are empty then or that `keeps` refuses.
    fn retain(&mut self, keeps: impl Fn(&str, &mut Entry) -> bool) {
        let total = &mut self.size;
        self.entries.retain(|key, entry| {
            *total -= entry.size();
            let is_kept = keeps(key, entry) && (entry.values.is_some() || entry.outline.is_some());
            if is_kept {
                *total += entry.size();
            }
            is_kept
        });
    }
}
