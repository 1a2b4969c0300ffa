//! The keys that the server refuses to let this user read.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The keys that the server refused to read the last time. Each is logged once.
#[derive(Debug, Default)]
pub(crate) struct RefusedKeys(Mutex<BTreeSet<String>>);

impl RefusedKeys {
    /// Notes whether `key` is refused. Returns `true` if it is and was not before.
    pub(crate) fn note(&self, key: &str, is_refused: bool) -> bool {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_refused {
            return keys.insert(key.to_owned());
        }
        keys.remove(key);
        false
    }
}
