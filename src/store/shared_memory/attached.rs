//! A metrics file that this process only reads: what a side-car opens.
//!
//! It never makes a file, and maps what it finds so that it cannot be changed. It goes by the file's name:
//! when the application has replaced the file, the next scrape is of the new one. Nothing can be declared
//! here; whoever wants to count opens a [`super::SharedMemoryStore`].

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::file::SharedFile;
use super::options::SharedMemoryOptions;
use super::{read_families, records, survey};
use crate::family::Family;
use crate::metric::Metric;
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::labels::Labels;
use crate::model::report::Report;
use crate::model::sample::Snapshot;
use crate::process::fork::ForkGuard;
use crate::store::Store;

#[derive(Debug)]
pub(crate) struct AttachedStore {
    path: PathBuf,
    /// The file that the name led to at the last look. A metadata lock: it is not held while values are
    /// read.
    current: Mutex<Option<Arc<SharedFile>>>,
}

impl AttachedStore {
    /// Opens the file. Fails if it is not there, or cannot be read, and is `required`.
    pub(crate) fn open(options: &SharedMemoryOptions) -> Result<Self> {
        let store = Self { path: options.path.clone(), current: Mutex::new(None) };
        match store.file() {
            Err(error) if options.required.unwrap_or(true) => return Err(error),
            Err(error) => log::warn!("{error}; it is read as soon as it can be"),
            Ok(_) => {}
        }
        Ok(store)
    }

    /// The file that has the name now.
    fn file(&self) -> Result<Arc<SharedFile>> {
        let mut current = self.lock();
        if let Some(file) = current.as_ref().filter(|file| file.has_its_name()) {
            return Ok(Arc::clone(file));
        }
        *current = None;
        let file = Arc::new(SharedFile::open_to_read(&self.path)?);
        records::check(&file)?;
        *current = Some(Arc::clone(&file));
        Ok(file)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<SharedFile>>> {
        // Whatever a panic left there is looked at before it is used.
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

impl Store for AttachedStore {
    fn names_are_shared(&self) -> bool {
        true
    }

    fn admit(&self, _: &Definition) -> Result<()> {
        self.refuse()
    }

    fn declared(&self, _: &Arc<Family>) {}

    fn new_metric(&self, _: &Arc<Family>, _: Labels) -> Result<Arc<Metric>> {
        self.refuse()
    }

    fn created(&self, _: &Arc<Metric>) {}

    fn make_ready(&self) {}

    fn removed(&self, _: &Arc<Metric>) -> Result<()> {
        self.refuse()
    }

    fn remove_unknown(&self, _: &Arc<Family>, _: &str) -> Result<bool> {
        self.refuse()
    }

    fn cleared(&self, _: &Arc<Family>, _: Vec<Arc<Metric>>) -> Result<()> {
        self.refuse()
    }

    fn collect(&self, families: Option<Vec<Arc<Family>>>) -> Result<Snapshot> {
        match families {
            None => Ok(Snapshot { families: read_families(&*self.file()?)? }),
            // Nobody can have declared one here.
            Some(_) => Ok(Snapshot::default()),
        }
    }

    fn collect_with_others(&self, _: Vec<Arc<Family>>, _: &HashSet<&str>) -> Result<Snapshot> {
        self.collect(None)
    }

    fn read(&self, _: &Arc<Metric>) -> Result<Vec<f64>> {
        self.refuse()
    }

    fn check(&self) -> Result<Report> {
        survey::survey(&*self.file()?)
    }

    fn flush(&self, _: Instant) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }

    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_> {
        Box::new(self.lock())
    }
}

impl ForkGuard for MutexGuard<'_, Option<Arc<SharedFile>>> {
    /// The map is the child's too.
    fn forked(&mut self) {}
}
