//! The epochs of family keys, as this process last learned them from the server.
//!
//! An epoch is a time during which the server keeps a family without losing it. The first writer that finds
//! no epoch begins one. The BackendAction thread stores epochs here when it learns them, and pipeline threads
//! compare them with the epochs that a scrape finds. The lock is held for one look-up or insertion, and never
//! across the network.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The field of a writers' key that holds the family's epoch.
pub(crate) const FIELD: &str = "epoch";

/// Returns whether the values existed when the epoch began, so that only the writers' key was missing.
pub(crate) fn keeps_values(epoch: &str) -> bool {
    epoch.contains('+')
}

/// The epochs that this process knows, by family key.
#[derive(Debug, Default)]
pub(crate) struct KnownEpochs(Mutex<BTreeMap<String, String>>);

impl KnownEpochs {
    /// Returns the epoch of `key`, if this process has written in it.
    pub(crate) fn get(&self, key: &str) -> Option<String> {
        self.lock().get(key).cloned()
    }

    /// Notes the epoch of `key`, or that there is none. Returns the epoch that was known before.
    pub(crate) fn note(&self, key: &str, epoch: Option<String>) -> Option<String> {
        match epoch {
            Some(epoch) => self.lock().insert(key.to_owned(), epoch),
            None => self.lock().remove(key),
        }
    }

    /// Returns whether the server has lost what this process has written to `key`, given its epoch there now.
    pub(crate) fn is_lost(&self, key: &str, found: Option<&str>) -> bool {
        self.lock().get(key).is_some_and(|known| Some(known.as_str()) != found)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
