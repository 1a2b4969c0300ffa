//! The families that were read on a connection and have not changed since.
//!
//! An entry is used only as long as the connection on which it was read tells of changes
//! ([`super::tracking`]), and has told of none that concerns the family.

use std::collections::HashMap;
use std::time::Instant;

use super::layout;
use super::tracking::Changes;
use crate::model::definition::Definition;
use crate::model::sample::FamilySamples;

/// About how many bytes the families may take.
const MAX_SIZE: usize = 64 << 20;

/// A family that this many reads in a row have not asked for is dropped.
const UNUSED_READS: u64 = 64;

/// The families that need not be read again, by their keys.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<String, Entry>,
    /// About how many bytes the entries take.
    size: usize,
    /// How many reads there have been.
    reads: u64,
}

/// A family, as it is on the server.
#[derive(Debug)]
struct Entry {
    read: CachedFamily,
    used_in: u64,
}

/// What was read of a family.
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

impl Cache {
    /// Begins another read. Forgets the families that no recent read has asked for, and those that must be renewed.
    pub(crate) fn begin_read(&mut self) {
        self.reads += 1;
        let (reads, now) = (self.reads, Instant::now());
        self.retain(|_, entry| reads - entry.used_in <= UNUSED_READS && now < entry.read.until);
    }

    /// Forgets the families that have changed.
    pub(crate) fn forget(&mut self, changes: &Changes) {
        if !changes.is_empty() {
            self.retain(|key, _| !concern_family(changes, key));
        }
    }

    /// Returns a family that was read with this definition.
    pub(crate) fn get(&mut self, key: &str, definition: &Definition) -> Option<CachedFamily> {
        let entry = self.entries.get_mut(key).filter(|entry| entry.read.samples.definition == *definition)?;
        entry.used_in = self.reads;
        Some(entry.read.clone())
    }

    /// Keeps a family if there is room.
    pub(crate) fn put(&mut self, key: &str, read: CachedFamily) {
        self.remove(key);
        let size = read.samples.size();
        if self.size + size <= MAX_SIZE {
            self.size += size;
            self.entries.insert(key.to_owned(), Entry { read, used_in: self.reads });
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.size -= entry.read.samples.size();
        }
    }

    fn retain(&mut self, keeps: impl Fn(&str, &Entry) -> bool) {
        let size = &mut self.size;
        self.entries.retain(|key, entry| {
            let is_kept = keeps(key, entry);
            if !is_kept {
                *size -= entry.read.samples.size();
            }
            is_kept
        });
    }
}
