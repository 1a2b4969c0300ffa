//! The program's function that decides which requests an exporter answers.

use std::fmt;
use std::sync::Arc;

type Allows = dyn Fn(Option<&str>) -> bool + Send + Sync;

/// A function that gets the header `Authorization` of each request, and returns whether to answer it. Others get status
/// 401. It runs on the exporter's thread, so it must not wait.
#[derive(Clone)]
pub struct Guard(Arc<Allows>);

impl Guard {
    /// Makes a guard of a function.
    pub fn new(allows: impl Fn(Option<&str>) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(allows))
    }

    pub(super) fn allows(&self, authorization: Option<&str>) -> bool {
        (self.0)(authorization)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Guard")
    }
}

/// Two are equal if they are copies of one.
impl PartialEq for Guard {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Guard {}
