//! The connections on which the pipeline threads read. All these threads share them.
//!
//! A read takes the connection that was used last, and opens one only if none is free. So a process that is
//! never scraped has none, and a process that answers one scrape at a time has one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cache::Cache;
use super::route::Route;
use super::socket::SocketSlot;

/// How long a connection is kept that no scrape uses. Prometheus drops a series after five minutes without a
/// sample, so a process that is scraped at all is scraped more often.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(300);

/// A connection for reads, and what was read on it that has not changed since.
#[derive(Debug)]
pub(crate) struct ReadRoute {
    pub(crate) route: Route,
    pub(crate) cache: Cache,
    /// Whether the server tells of changes, so that the cache can be used.
    pub(crate) hears_changes: bool,
}

/// The open connections that no thread uses now, and where a forked child finds the sockets of all of them.
#[derive(Debug)]
pub(crate) struct ReadRoutes {
    free: Free<ReadRoute>,
    pub(crate) slot: Arc<SocketSlot>,
}

impl ReadRoutes {
    pub(crate) fn new(slot: Arc<SocketSlot>) -> Self {
        Self { free: Free::default(), slot }
    }

    /// Takes the connection that was used last, if one is free.
    pub(crate) fn take(&self) -> Option<ReadRoute> {
        self.free.take()
    }

    /// Gives a sound connection back.
    pub(crate) fn put(&self, route: ReadRoute) {
        self.free.put(route, Instant::now());
    }

    /// Closes all connections that are free: one of them broke, so the others may be broken too.
    pub(crate) fn clear(&self) {
        self.free.keep(|_| false);
    }

    /// Closes the connections that were not used for [`KEPT_FOR`].
    pub(crate) fn close_unused(&self) {
        let now = Instant::now();
        self.free.keep(|used_at| now.saturating_duration_since(used_at) < KEPT_FOR);
    }
}

/// Things that are free, each with the time of its last use. The last one was used last.
#[derive(Debug)]
struct Free<T>(Mutex<Vec<(T, Instant)>>);

impl<T> Default for Free<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Free<T> {
    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().map(|(thing, _)| thing)
    }

    fn put(&self, thing: T, used_at: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((thing, used_at));
    }

    fn keep(&self, is_kept: impl Fn(Instant) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, used_at)| is_kept(*used_at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_was_used_last_is_taken_and_those_that_were_not_used_for_long_are_closed() {
        let free = Free::default();
        let start = Instant::now();
        let second = |count| start + Duration::from_secs(count);
        (0..3).for_each(|count| free.put(count, second(count)));
        assert_eq!(free.take(), Some(2));
        free.put(2, second(3));
        free.keep(|used_at| used_at >= second(1));
        assert_eq!([free.take(), free.take(), free.take()], [Some(2), Some(1), None]);
    }
}
