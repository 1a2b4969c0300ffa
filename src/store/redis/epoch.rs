//! The epochs of family keys, as this process last heard of them from the server.
//!
//! An epoch is the time in which the server has kept a family without losing it: the first writer that finds
//! none begins one. The BackendAction thread notes them here when it learns them, and pipeline threads
//! compare what a scrape has found. The lock is held for one look or note, and never across the network.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The field of a writers' key that holds the family's epoch.
pub(crate) const FIELD: &str = "epoch";

/// Whether the family's values were there when the epoch began, and only its writers' key was not.
pub(crate) fn keeps_values(epoch: &str) -> bool {
    epoch.ends_with('+')
}

/// The epochs that this process knows, by family key.
#[derive(Debug, Default)]
pub(crate) struct KnownEpochs(Mutex<BTreeMap<String, String>>);

impl KnownEpochs {
    /// The epoch of `key`, if this process has written in it.
    pub(crate) fn get(&self, key: &str) -> Option<String> {
        self.lock().get(key).cloned()
    }

    /// Notes the epoch of `key`, and gives the one before.
    pub(crate) fn note(&self, key: &str, epoch: String) -> Option<String> {
        self.lock().insert(key.to_owned(), epoch)
    }

    /// Whether the server has lost what this process has written to `key`, if `found` is its epoch now.
    pub(crate) fn is_lost(&self, key: &str, found: Option<&str>) -> bool {
        self.lock().get(key).is_some_and(|known| Some(known.as_str()) != found)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
