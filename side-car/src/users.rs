//! The users of basic authentication, with bcrypt hashes of their passwords.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;

/// Salt and hash of no password.
const NO_PASSWORD: &str = "mCgkbMnxK/.4.TiBMva8dOfvbL0Xqe.HQP.fDEpRGe5qdAxcF.cLq";
/// The costs that a hash may have: at 16, a comparison takes some seconds.
const COSTS: RangeInclusive<u32> = 4..=16;
/// How many credentials are remembered, at most. bcrypt ignores what is behind the 72nd byte of a password, so one user
/// may have many.
const MOST_REMEMBERED: usize = 1000;

/// The users.
#[derive(Debug, Default)]
pub(crate) struct Users {
    hashes: BTreeMap<String, String>,
    /// The highest cost of a hash.
    cost: u32,
    /// Keyed hashes of credentials that were found right, because bcrypt takes about 70 ms each time.
    remembered: Mutex<HashSet<u64>>,
    keys: RandomState,
}

impl Users {
    /// Adds a user. Fails if the hash is none of bcrypt, or takes too long.
    pub(crate) fn add(&mut self, name: &str, hash: &str) -> Result<(), String> {
        let parts: HashParts =
            hash.parse().map_err(|error| format!("user {name:?} has no bcrypt hash: {error}"))?;
        let cost = parts.get_cost();
        if !COSTS.contains(&cost) {
            let (least, most) = COSTS.into_inner();
            return Err(format!("user {name:?} has a hash of cost {cost}: expected {least} to {most}"));
        }
        self.cost = self.cost.max(cost);
        self.hashes.insert(name.to_owned(), hash.to_owned());
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Returns whether to answer a request with this header `Authorization`, if that is known without bcrypt.
    pub(crate) fn known(&self, header: Option<&str>) -> Option<bool> {
        let Some(credentials) = header.and_then(credentials) else { return Some(false) };
        self.remembered().contains(&self.keys.hash_one(&credentials)).then_some(true)
    }

    /// Returns whether the header `Authorization` holds the name and the password of a user.
    pub(crate) fn allow(&self, header: Option<&str>) -> bool {
        let Some(credentials) = header.and_then(credentials) else { return false };
        let (name, password) = &credentials;
        let hash = self.hashes.get(name);
        // Something is compared for a user that does not exist, too, so that the time of the answer does not tell who
        // does. If the hashes have several costs, it tells who has not the highest.
        let nobody = format!("$2b${:02}${NO_PASSWORD}", self.cost);
        let is_right = bcrypt::verify(password, hash.unwrap_or(&nobody)).unwrap_or(false);
        let is_allowed = is_right && hash.is_some();
        if is_allowed {
            let mut remembered = self.remembered();
            if remembered.len() >= MOST_REMEMBERED {
                remembered.clear();
            }
            remembered.insert(self.keys.hash_one(&credentials));
        }
        is_allowed
    }

    fn remembered(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
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
        for is_known in [None, Some(true)] {
            assert_eq!(users.known(Some(&header("ann:pass:word"))), is_known);
            assert!(users.allow(Some(&header("ann:pass:word"))) && users.allow(Some(&header("bob:"))));
            for bad in ["ann:", "ann:pass", "bob:pass:word", "eve:pass:word", "annpass:word", ":", ""] {
                assert!(!users.allow(Some(&header(bad))), "{bad}");
            }
        }
        assert!(users.allow(Some(&header("ann:pass:word").replace("Basic", "basic"))));
        for bad in [None, Some("Basic"), Some("Basic !"), Some(""), Some("Bearer YW5uOnBhc3M6d29yZA==")] {
            assert!(!users.allow(bad) && users.known(bad) == Some(false), "{bad:?}");
        }
        assert!(users.add("eve", "$2y$10$short").is_err());
        for cost in ["03", "17", "99"] {
            let error = users.add("eve", &format!("$2y${cost}${NO_PASSWORD}")).unwrap_err();
            assert!(
                error.starts_with("user \"eve\" has a hash of cost ") && error.contains("4 to 16"),
                "{error}"
            );
        }
        // What is compared for a user that does not exist takes as long as for the one with the highest cost.
        users.add("dan", &format!("$2b$05${NO_PASSWORD}")).unwrap();
        assert_eq!(users.cost, 5);
    }
}
