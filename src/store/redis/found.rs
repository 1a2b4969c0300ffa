//! What a read has found of a family: its values, its epoch, and when its key expires.

use std::time::Duration;

use redis::Value;

use super::reply::NO_KEY;
use super::request::Values;

/// What the server has of a family key.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) values: Values,
    /// `None` if no writer of this layout has written to the key. It then belongs to another program.
    pub(crate) epoch: Option<String>,
    /// Whether the values of this process are gone.
    pub(crate) is_lost: bool,
    pub(crate) ttl: Value,
}

impl Found {
    /// Returns whether the command did not fit the type of the key.
    pub(crate) fn is_wrong_type(&self) -> bool {
        matches!(&self.values, Values::Whole(reply) if reply.is_wrong_type())
    }

    /// Returns the reply to a read of the whole key.
    pub(crate) fn into_value(self) -> Value {
        match self.values {
            Values::Whole(reply) => reply.into_value(),
            Values::Pieces(..) => Value::Nil,
        }
    }

    /// Returns whether the expiry of the key is to be renewed. A key without an expiry gets none.
    pub(crate) fn must_renew(&self, expiry: u64) -> bool {
        if self.epoch.is_none() {
            return false;
        }
        match self.ttl {
            // Renewing it a little late saves a write for each scrape.
            Value::Int(ttl) if expiry > 0 => ttl == NO_KEY || (0..renewed_below(expiry)).contains(&ttl),
            Value::Int(ttl) => ttl >= 0,
            // The user has no permission for TTL.
            _ => true,
        }
    }

    /// Returns how long the family need not be read again if the server tells of no change. `None` if it must be:
    /// its expiry is to be renewed.
    pub(crate) fn lasts(&self, expiry: u64) -> Option<Duration> {
        match self.ttl {
            _ if self.must_renew(expiry) => None,
            Value::Int(ttl) if ttl > 0 => {
                let left = if expiry > 0 { ttl - renewed_below(expiry) } else { ttl };
                u64::try_from(left).ok().map(Duration::from_secs)
            }
            // The key does not expire.
            Value::Int(-1) => Some(Duration::from_secs(expiry.clamp(60, 3600))),
            _ => None,
        }
    }
}

/// Returns the time to live, in seconds, below which an expiry is renewed.
fn renewed_below(expiry: u64) -> i64 {
    let expiry = i64::try_from(expiry).unwrap_or(i64::MAX);
    expiry - expiry / 10
}
