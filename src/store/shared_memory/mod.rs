//! The shared-memory store: one file, mapped by all processes of a service.
//!
//! The cells of a metric are words of the file, changed by compare-and-swap. Every process sees a change at
//! once, nothing has to be sent, and a process that is killed has lost nothing. Only making and removing
//! metrics takes a lock. [`store`] counts and [`attached`] only reads. Both use a [`mod@file`], whose bytes
//! [`layout`] describes.

mod appending;
mod attached;
mod created;
mod creation;
mod descriptor;
pub(crate) mod entry;
mod errors;
mod families;
mod file;
mod index;
pub(crate) mod layout;
mod lock;
mod options;
mod outline;
mod place_locks;
mod places;
mod record;
mod records;
mod service_file;
mod space;
mod store;
mod survey;
#[cfg(test)]
mod tests;
mod writers;

pub(crate) use self::options::{OPTIONS, SharedMemoryOptions, Start};

use std::path::Path;

use self::attached::AttachedStore;
use self::service_file::ServiceFile;
use self::store::SharedMemoryStore;
use super::Store;
use crate::model::error::Result;

/// Opens the file at `path`, for counting or for reading only.
pub(crate) fn open(path: &Path, options: &SharedMemoryOptions) -> Result<Box<dyn Store>> {
    Ok(match options.start {
        Start::Attach => Box::new(AttachedStore::open(path, options)?),
        Start::Continue | Start::Reset => Box::new(SharedMemoryStore::open(path, options)?),
    })
}

/// Opens the file of this process's service. Returns `None`, with a warning in the log, if there can be none.
pub(crate) fn open_for_service(options: &SharedMemoryOptions) -> Option<Box<dyn Store>> {
    let file = ServiceFile::find(options.parent);
    if let Some(doubt) = &file.service.doubt {
        log::warn!(
            "other processes of this service may count in files of their own, because {doubt}: set the \
             option \"path\" to the same file in all of them"
        );
    }
    match SharedMemoryStore::open_for_service(file, options) {
        Ok(store) => Some(Box::new(store)),
        Err(error) => {
            log::warn!(
                "this process counts by itself, and shares its metrics with no other process: {error}; set \
                 the option \"path\" to a file that all processes of the service may write"
            );
            None
        }
    }
}
