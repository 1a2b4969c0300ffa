//! The shared-memory store: one file, mapped by all processes of a service.
//!
//! The cells of a metric are words of the file, changed by compare-and-swap. Every process sees a change at once,
//! nothing has to be sent, and a process that is killed has lost nothing. Only making and removing metrics takes a
//! lock. [`store`] counts and [`attached`] only reads. Both use a [`mod@file`], whose bytes [`layout`] describes.

mod attached;
mod creation;
mod descriptor;
mod errors;
mod families;
mod file;
mod index;
pub(crate) mod layout;
mod lock;
mod options;
mod record;
mod records;
mod space;
mod store;
mod survey;

pub(crate) use self::options::{OPTIONS, SharedMemoryOptions, Start};

use self::attached::AttachedStore;
use self::store::SharedMemoryStore;
use super::Store;
use crate::model::error::Result;

/// Opens the store for counting, or for reading only.
pub(crate) fn open(options: &SharedMemoryOptions) -> Result<Box<dyn Store>> {
    Ok(match options.start {
        Start::Attach => Box::new(AttachedStore::open(options)?),
        Start::Continue | Start::Reset => Box::new(SharedMemoryStore::open(options)?),
    })
}
