//! Remembers which messages were logged, so that a recurring cause is logged once.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError, TryLockError};

/// The largest number of messages that one [`Once`] remembers. Further messages are not logged, because their
/// number may be unbounded.
const CAPACITY: usize = 1000;

/// The messages that were logged already.
#[derive(Debug, Default)]
pub(crate) struct Once(Mutex<BTreeSet<String>>);

impl Once {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(BTreeSet::new()))
    }

    /// Returns whether `cause` is new, and remembers it.
    ///
    /// It never waits, because a forked child may have inherited the lock from a thread that does not exist
    /// in the child. If the list is locked, the cause counts as known.
    pub(crate) fn is_new(&self, cause: &str) -> bool {
        let mut known = match self.0.try_lock() {
            Ok(known) => known,
            Err(TryLockError::Poisoned(known)) => known.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        known.len() < CAPACITY && known.insert(cause.to_owned())
    }

    /// Forgets all causes, so a cause that recurs is new again.
    pub(crate) fn clear(&self) {
        match self.0.try_lock() {
            Ok(mut known) => known.clear(),
            Err(TryLockError::Poisoned(known)) => PoisonError::into_inner(known).clear(),
            Err(TryLockError::WouldBlock) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_new_once_and_again_when_it_was_forgotten() {
        let once = Once::new();
        assert!(once.is_new("a") && once.is_new("b"));
        assert!(!once.is_new("a"));
        once.clear();
        assert!(once.is_new("a"));
    }
}
