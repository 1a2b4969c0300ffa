//! The program's function that computes metrics for each scrape of the whole store.

use std::fmt;
use std::sync::OnceLock;

use crate::exposition::ForeignFamily;
use crate::model::error::{Error, ErrorKind, Result};

type Collect = dyn Fn() -> Vec<ForeignFamily> + Send + Sync;

/// The function. It is set at most once, so reading it takes no lock that a forked child could inherit
/// locked.
#[derive(Default)]
pub(super) struct Collector(OnceLock<Box<Collect>>);

impl Collector {
    pub(super) fn set(&self, collect: Box<Collect>) -> Result<()> {
        let message = "the backend has a collect function already: a backend takes one";
        self.0.set(collect).map_err(|_| Error::new(ErrorKind::Conflict, message.to_owned()))
    }

    /// Calls the function, and returns the families of one scrape.
    pub(super) fn collect(&self) -> Vec<ForeignFamily> {
        self.0.get().map(|collect| collect()).unwrap_or_default()
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Collector").field(&self.0.get().is_some()).finish()
    }
}
