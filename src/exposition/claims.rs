//! Which names of an exposition are taken.
//!
//! Prometheus refuses a scrape, or mixes up its series, if two families have samples of one name. Each family
//! claims its names before it is written; one whose names are taken is left out, which is logged once.

use std::collections::HashSet;

use crate::process::once::Once;

/// The names that are taken in one exposition.
#[derive(Debug, Default)]
pub(super) struct Claims(HashSet<String>);

impl Claims {
    /// Claims `name` with each of `suffixes`; all of them or, if one is taken, which it is given then, none.
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

/// Logs that something is left out of scrapes, the first time.
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
