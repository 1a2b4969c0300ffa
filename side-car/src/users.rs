//! The users of basic authentication, with bcrypt hashes of their passwords.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;

/// A hash of no password. It is compared for a user that does not exist, so that the time of an answer does not tell
/// who does.
const NO_PASSWORD: &str = "$2b$10$mCgkbMnxK/.4.TiBMva8dOfvbL0Xqe.HQP.fDEpRGe5qdAxcF.cLq";
/// How many credentials are remembered, at most. bcrypt ignores what is behind the 72nd byte of a password, so one user
/// may have many.
const MOST_KNOWN: usize = 1000;

/// The users.
#[derive(Debug, Default)]
pub(crate) struct Users {
    hashes: BTreeMap<String, String>,
    /// Keyed hashes of credentials that were found right, because bcrypt takes about 70 ms each time.
    known: Mutex<HashSet<u64>>,
    keys: RandomState,
}

impl Users {
    /// Adds a user. Fails if the hash is none of bcrypt.
    pub(crate) fn add(&mut self, name: &str, hash: &str) -> Result<(), String> {
        hash.parse::<HashParts>().map_err(|error| format!("user {name:?} has no bcrypt hash: {error}"))?;
        self.hashes.insert(name.to_owned(), hash.to_owned());
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Returns whether the header `Authorization` holds the name and the password of a user.
    pub(crate) fn allow(&self, header: Option<&str>) -> bool {
        let Some((name, password)) = header.and_then(credentials) else { return false };
        let seen = self.keys.hash_one((&name, &password));
        if self.known().contains(&seen) {
            return true;
        }
        let hash = self.hashes.get(&name);
        let is_right = bcrypt::verify(&password, hash.map_or(NO_PASSWORD, String::as_str)).unwrap_or(false);
        let is_allowed = is_right && hash.is_some();
        if is_allowed {
            let mut known = self.known();
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            known.insert(seen);
        }
        is_allowed
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Splits `Basic base64(name:password)`.
fn credentials(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (name, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(credentials: &str) -> String {
        format!("Basic {}", STANDARD.encode(credentials))
    }

    #[test]
    fn a_user_needs_the_right_password() {
        let mut users = Users::default();
        users.add("ann", &bcrypt::hash("pass:word", 4).unwrap()).unwrap();
        users.add("bob", &bcrypt::hash("", 4).unwrap()).unwrap();
        // The second time without bcrypt.
        for _ in 0..2 {
            assert!(users.allow(Some(&header("ann:pass:word"))) && users.allow(Some(&header("bob:"))));
            for bad in ["ann:", "ann:pass", "bob:pass:word", "eve:pass:word", "annpass:word", ":", ""] {
                assert!(!users.allow(Some(&header(bad))), "{bad}");
            }
        }
        assert!(users.allow(Some(&header("ann:pass:word").replace("Basic", "basic"))));
        for bad in [None, Some("Basic"), Some("Basic !"), Some(""), Some("Bearer YW5uOnBhc3M6d29yZA==")] {
            assert!(!users.allow(bad), "{bad:?}");
        }
        assert!(users.add("eve", "$2y$10$short").is_err());
        assert!(NO_PASSWORD.parse::<HashParts>().is_ok());
    }
}
