//! The store of a process that only reads a metrics file, as the side-car does.
//!
//! It never makes a file, and maps the file read-only. It follows the file's name: after the application has
//! replaced the file, the next scrape reads the new one. Nothing can be declared in this store.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::families::read_families;
use super::file::SharedFile;
use super::options::SharedMemoryOptions;
use super::outline::LastOutline;
use super::record::{Record, committed};
use super::survey;
use crate::cell::last_use;
use crate::exposition::Selection;
use crate::metric::Metric;
use crate::metric::family::Family;
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::report::Report;
use crate::model::sample::Snapshot;
use crate::process::clock::uptime;
use crate::process::fork::ForkGuard;
use crate::store::Store;

/// Reads the file that has the name at the moment of a scrape.
#[derive(Debug)]
pub(super) struct AttachedStore {
    path: PathBuf,
    /// The file that the name led to at the last scrape. The lock is not held while values are read.
    current: Mutex<Option<Arc<SharedFile>>>,
    /// What the last scrape has found in the file.
    last: LastOutline,
}

impl AttachedStore {
    /// Opens the file. If the file is absent or cannot be read, this fails if the file is required. Otherwise
    /// each scrape fails until the file can be read.
    pub(super) fn open(path: &Path, options: &SharedMemoryOptions) -> Result<Self> {
        let store = Self { path: path.to_owned(), current: Mutex::new(None), last: LastOutline::default() };
        match store.file() {
            Err(error) if options.required.unwrap_or(true) => return Err(error),
            Err(error) => log::warn!("{error}; it is read as soon as it can be"),
            Ok(_) => {}
        }
        Ok(store)
    }

    /// Returns the file that has the name now.
    fn file(&self) -> Result<Arc<SharedFile>> {
        let mut current = self.lock();
        if let Some(file) = current.as_ref().filter(|file| file.has_its_name()) {
            return Ok(Arc::clone(file));
        }
        *current = None;
        let file = Arc::new(SharedFile::open_to_read(&self.path)?);
        committed(&file)?;
        *current = Some(Arc::clone(&file));
        Ok(file)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<SharedFile>>> {
        // Each use checks the value, so a panic cannot leave a wrong one.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse<T>(&self) -> Result<T> {
        let message = format!(
            "the metrics file {} is only read (start=attach): nothing can be declared or removed in it",
            self.path.display()
        );
        Err(Error::new(ErrorKind::Configuration, message))
    }
}

/// Returns whether a series has ended, or would end if this process could write.
fn has_ended(record: &Record, ttl: u32) -> Result<bool> {
    Ok(last_use::is_over(record.last_use, ttl, uptime()))
}

impl Store for AttachedStore {
    fn names_are_shared(&self) -> bool {
        true
    }

    fn admit(&self, _: &Definition) -> Result<()> {
        self.refuse()
    }

    fn new_metric(&self, _: &Arc<Family>, _: &Arc<str>) -> Result<Arc<Metric>> {
        self.refuse()
    }

    fn removed(&self, _: &Arc<Metric>) -> Result<()> {
        self.refuse()
    }

    fn remove_unknown(&self, _: &Arc<Family>, _: &str) -> Result<bool> {
        self.refuse()
    }

    fn cleared(&self, _: &Arc<Family>, _: Vec<Arc<Metric>>) -> Result<()> {
        self.refuse()
    }

    fn collect(&self, families: Option<Vec<Arc<Family>>>, selection: &Selection) -> Result<Snapshot> {
        match families {
            None => {
                Ok(Snapshot { families: read_families(&*self.file()?, &self.last, selection, has_ended)? })
            }
            // No family can be declared in this store.
            Some(_) => Ok(Snapshot::default()),
        }
    }

    fn collect_with_others(
        &self,
        _: Vec<Arc<Family>>,
        _: &HashSet<&str>,
        selection: &Selection,
    ) -> Result<Snapshot> {
        self.collect(None, selection)
    }

    fn read(&self, _: &Arc<Metric>) -> Result<Vec<f64>> {
        self.refuse()
    }

    fn check(&self) -> Result<Report> {
        survey::survey(&*self.file()?)
    }

    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_> {
        Box::new(self.lock())
    }
}

impl ForkGuard for MutexGuard<'_, Option<Arc<SharedFile>>> {
    /// The child reads through the parent's map and descriptor, and takes no lock.
    fn forked(&mut self) {}
}
