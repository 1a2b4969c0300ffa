//! One thread's use of the connections for reads: the connection of the present read, and what the server has told
//! since that read began.

use std::sync::Arc;
use std::time::Instant;

use redis::{Cmd, Value};

use super::cache::{Cache, concern_family};
use super::connection::{LARGE, Reply, SMALL, command};
use super::options::RedisOptions;
use super::read_routes::{ReadRoute, ReadRoutes};
use super::reply::{pairs, text};
use super::request::Groups;
use super::route::Route;
use super::servers::Servers;
use super::shared::Shared;
use super::socket::Terms;
use super::tracking::Changes;
use crate::model::error::Result;

/// How often a read is tried: on the connection that exists, and on new ones.
const ATTEMPTS: u32 = 3;

/// About how many fields of a large hash are listed at a time.
pub(crate) const LISTED_AT_ONCE: u64 = 1_000;

/// The use of one connection for one read after the other.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Arc<Shared>,
    servers: Arc<Servers>,
    routes: Arc<ReadRoutes>,
    /// The connection of the present read. Other threads do not use it meanwhile.
    current: Option<ReadRoute>,
    /// What has changed since this read began to read values. A family that was read before its change must not
    /// be kept.
    changes: Changes,
    /// How often this session has gone on with another connection.
    opened: u64,
}

/// Stands for one server, and one run of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    opened: u64,
    detours: u64,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, servers: Arc<Servers>, routes: Arc<ReadRoutes>) -> Self {
        Self { shared, servers, routes, current: None, changes: Changes::default(), opened: 0 }
    }

    /// Gives the connection back, so that other threads can use it.
    pub(crate) fn end_read(&mut self) {
        if let Some(mut current) = self.current.take() {
            current.route.end_read();
            self.routes.put(current);
        }
    }

    /// Closes the connections that were not used for long.
    pub(crate) fn close_unused(&self) {
        self.routes.close_unused();
    }

    /// Begins to read values: what the server tells from now on concerns them. If the options want it, a replica that
    /// has caught up with `keys` is read from.
    pub(crate) fn begin_values(&mut self, keys: &[String], deadline: Instant) -> Result<()> {
        if self.shared.options.read_from_replicas {
            let slot = Arc::clone(&self.routes.slot);
            self.on_route(deadline, |route, options, terms| route.catch_up(options, keys, &slot, terms))?;
        }
        self.changes = Changes::default();
        if let Some(cache) = self.cache() {
            cache.begin_read();
        }
        Ok(())
    }

    /// Returns what was read on the present connection.
    pub(crate) fn cache(&mut self) -> Option<&mut Cache> {
        self.current.as_mut().map(|current| &mut current.cache)
    }

    /// Returns whether what was read at a key is true until the server tells of a change.
    pub(crate) fn is_tracked(&self, key: &str) -> bool {
        self.hears_changes() && !self.changes.concern(key)
    }

    /// Returns the same for the key of a family, and its writers' key.
    pub(crate) fn is_family_tracked(&self, key: &str) -> bool {
        self.hears_changes() && !concern_family(&self.changes, key)
    }

    fn hears_changes(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.hears_changes)
    }

    /// Returns what changes when another server, or another run of it, may have answered.
    pub(crate) fn place(&self) -> Place {
        let detours = self.current.as_ref().map_or(0, |current| current.route.detours());
        Place { opened: self.opened, detours }
    }

    pub(crate) fn is_at_replica(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.route.is_at_replica())
    }

    /// Lets the reads that follow go to the master.
    pub(crate) fn leave_replica(&mut self) {
        if let Some(current) = &mut self.current {
            current.route.leave_replica();
        }
    }

    /// Sends commands that read values.
    pub(crate) fn read_values(&mut self, groups: &Groups<'_>, deadline: Instant) -> Result<Vec<Reply>> {
        self.on_route(deadline, |route, options, terms| route.read(options, groups.get(), terms))
    }

    pub(crate) fn exchange(&mut self, commands: &[Cmd], deadline: Instant) -> Result<Vec<Value>> {
        self.on_route(deadline, |route, options, terms| route.exchange(options, commands, terms))
    }

    /// Lists the fields of a hash with their values, in pieces. A field may come twice. `first` is the reply to
    /// [`scan`], if there is one already, and the place where it came from. Returns `None` if the user may not list the
    /// hash, if it takes too much memory, or if other servers answer again and again: a cursor is valid on one server
    /// only.
    pub(crate) fn list(
        &mut self,
        key: &str,
        mut first: Option<(Reply, Place)>,
        deadline: Instant,
    ) -> Result<Option<Vec<(String, String)>>> {
        for _ in 0..ATTEMPTS {
            let (mut reply, place) = match first.take() {
                Some(first) => first,
                None => {
                    let place = self.place();
                    (self.list_next(key, "0", deadline)?, place)
                }
            };
            let (mut listed, mut size) = (Vec::new(), 0);
            while self.place() == place {
                let Value::Array(mut parts) = reply.into_value() else { return Ok(None) };
                let (Some(found), Some(cursor)) = (parts.pop(), parts.pop().and_then(text)) else {
                    return Ok(None);
                };
                let found = pairs(found);
                size += found.iter().map(|(field, value)| field.len() + value.len()).sum::<usize>();
                listed.extend(found);
                if cursor == "0" {
                    return Ok(Some(listed));
                }
                if size > LARGE {
                    return Ok(None);
                }
                reply = self.list_next(key, &cursor, deadline)?;
            }
        }
        Ok(None)
    }

    fn list_next(&mut self, key: &str, cursor: &str, deadline: Instant) -> Result<Reply> {
        let command = scan(key, cursor);
        let mut groups = Groups::default();
        groups.add(&command, LISTED_AT_ONCE);
        Ok(self.read_values(&groups, deadline)?.pop().unwrap_or_default())
    }

    /// Sends reads, which may be repeated. A connection that breaks, or has gone silent since its last use,
    /// is replaced while there is time. A server that cannot be reached is an error at once.
    fn on_route<T>(
        &mut self,
        deadline: Instant,
        exchange: impl Fn(&mut Route, &RedisOptions, Terms<'_>) -> Result<T>,
    ) -> Result<T> {
        let options = &self.shared.options;
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            let kept = self.current.take().or_else(|| {
                // The server tells this connection nothing of what was read on another one.
                self.changes = Changes::of_everything();
                self.opened += 1;
                self.routes.take()
            });
            let kept = kept.filter(|kept| self.servers.is_current(options, &kept.route));
            let (mut current, answer_by) = match kept {
                // It may have died silently, so leave time for a new one before the deadline.
                Some(kept) => (kept, deadline.min(Instant::now() + options.socket_timeout)),
                None => {
                    self.changes = Changes::of_everything();
                    self.opened += 1;
                    (self.open(deadline)?, deadline)
                }
            };
            let terms = Terms { deadline: answer_by, memory: LARGE, idle: &mut || {} };
            match exchange(&mut current.route, options, terms) {
                Ok(replies) => {
                    if let Some(changes) = current.route.take_changes() {
                        current.cache.forget(&changes);
                        self.changes.extend(changes);
                    }
                    self.current = Some(current);
                    return Ok(replies);
                }
                Err(error) if attempts == 0 || Instant::now() >= deadline => return Err(error),
                // The next attempt must not meet another connection that broke at the same time.
                Err(_) => self.routes.clear(),
            }
        }
    }

    fn open(&self, deadline: Instant) -> Result<ReadRoute> {
        let options = &self.shared.options;
        let connect_by = deadline.min(Instant::now() + options.connect_timeout);
        let slot = Some(&self.routes.slot);
        let mut route = self.servers.open(options, connect_by, slot, &mut || {})?;
        let hears_changes = route.track(Terms { deadline: connect_by, memory: SMALL, idle: &mut || {} })?;
        Ok(ReadRoute { route, cache: Cache::default(), hears_changes })
    }
}

/// Returns the command that lists the next fields of a hash. The first cursor is `0`.
pub(crate) fn scan(key: &str, cursor: &str) -> Cmd {
    command("HSCAN", &[key, cursor, "COUNT", &LISTED_AT_ONCE.to_string()])
}
