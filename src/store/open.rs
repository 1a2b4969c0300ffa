//! Opens a store: the only file that knows every store.

use std::sync::Arc;

use super::Store;
use super::memory::MemoryStore;
use super::redis::RedisStore;
use super::shared_memory;
use super::url::{StoreOptions, StoreUrl};
use crate::metric::table::FamilyTable;
use crate::model::error::Result;
use crate::model::statistics::Tally;

/// Opens the store that `url` names.
pub(crate) fn open(url: StoreUrl, table: Arc<FamilyTable>, tally: Arc<Tally>) -> Result<Box<dyn Store>> {
    Ok(match url.store {
        StoreOptions::Memory => Box::new(MemoryStore::new(table)),
        StoreOptions::SharedMemory(options) => match &options.path {
            Some(path) => shared_memory::open(path, &options)?,
            None => match shared_memory::open_for_service(&options) {
                Some(store) => store,
                None => Box::new(MemoryStore::new(table)),
            },
        },
        StoreOptions::Redis(options) => Box::new(RedisStore::open(*options, table, tally)?),
    })
}
