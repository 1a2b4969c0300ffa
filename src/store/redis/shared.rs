//! What the store and its threads share: the options, the families, and the statistics.

use std::sync::Arc;

use super::options::RedisOptions;
use crate::metric::table::FamilyTable;
use crate::model::statistics::Tally;

/// The state that every thread of a store may read.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: RedisOptions,
    pub(crate) table: Arc<FamilyTable>,
    pub(crate) tally: Arc<Tally>,
}

impl Shared {
    /// Returns the prefix of all keys, if there is one.
    pub(crate) fn prefix(&self) -> Option<&str> {
        self.options.key_prefix.as_deref()
    }
}
