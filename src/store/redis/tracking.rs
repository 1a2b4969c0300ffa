//! What the server tells of keys that have changed since a connection has read them.
//!
//! Redis calls this client tracking (`CLIENT TRACKING`, Redis 6). The server remembers each key that a connection
//! reads, and sends one message when the key changes. A writer of this store may have changed it, another program,
//! an expiry or an eviction. The message precedes the reply to every later command of the connection. So what
//! was read last is still true if no message came before such a reply.

use std::collections::HashSet;

use redis::{PushKind, Value};

/// The keys that have changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    keys: HashSet<Vec<u8>>,
    /// Whether all keys may have changed.
    everything: bool,
}

impl Changes {
    /// Stands for a change of every key.
    pub(crate) fn of_everything() -> Self {
        Self { keys: HashSet::new(), everything: true }
    }

    /// Adds later changes.
    pub(crate) fn extend(&mut self, later: Self) {
        self.keys.extend(later.keys);
        self.everything |= later.everything;
    }

    /// Notes what a message of the server says.
    pub(crate) fn note(&mut self, message: Value) {
        let Value::Push { kind: PushKind::Invalidate, data } = message else { return };
        for part in data {
            match part {
                Value::Array(keys) | Value::Set(keys) => {
                    self.keys.extend(keys.into_iter().filter_map(|key| match key {
                        Value::BulkString(key) => Some(key),
                        _ => None,
                    }))
                }
                // The whole database was emptied, or the server keeps no record any longer.
                _ => self.everything = true,
            }
        }
    }

    /// Returns whether nothing has changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.everything
    }

    /// Returns whether a key may have changed.
    pub(crate) fn concern(&self, key: &str) -> bool {
        self.everything || self.keys.contains(key.as_bytes())
    }
}
