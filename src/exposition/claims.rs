//! The metric names that one exposition uses already.
//!
//! If two families have samples of the same name, Prometheus rejects the scrape or mixes up their series. So
//! each family claims its names before it is written. A family whose names are taken is left out, and this is
//! logged once.

use std::collections::HashSet;

use crate::process::once::Once;

/// The names that the families written so far have claimed.
#[derive(Debug, Default)]
pub(super) struct Claims(HashSet<String>);

impl Claims {
    /// Claims `name` with each of `suffixes`. If one of these names is taken, claims none and returns the
    /// taken name.
    pub(super) fn claim(&mut self, name: &str, suffixes: &[&str]) -> Result<(), String> {
        let names = || suffixes.iter().map(|suffix| format!("{name}{suffix}"));
        match names().find(|name| self.0.contains(name)) {
            Some(taken) => Err(taken),
            None => {
                self.0.extend(names());
                Ok(())
            }
        }
    }
}

static REPORTED: Once = Once::new();

/// Logs each message once. The exposition reports here what it leaves out of scrapes.
pub(super) fn report(message: String) {
    if REPORTED.is_new(&message) {
        log::error!("{message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_claimed_once_and_a_refused_claim_takes_nothing() {
        let mut claims = Claims::default();
        assert_eq!(claims.claim("h", &["", "_count", "_sum"]), Ok(()));
        assert_eq!(claims.claim("h", &[""]), Err("h".to_owned()));
        assert_eq!(claims.claim("h_", &["other", "count"]), Err("h_count".to_owned()));
        assert_eq!(claims.claim("h_other", &[""]), Ok(()));
    }
}
