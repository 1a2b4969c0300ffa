//! Finds the server of a store: the one that the options name, the master that Redis Sentinel names now, or the
//! nodes of a cluster.
//!
//! All threads of a process share what is known of the master. So a scrape reads from the server to which
//! this process sends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::connection::{Connection, Target};
use super::options::{Address, RedisOptions};
use super::route::Route;
use super::sentinel::{Sentinels, check_role};
use super::socket::{SocketSlot, share_of};
use crate::model::error::Result;

/// How often a Sentinel is asked, while commands are exchanged, whether the master is still the same.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long the answer may take. Until it is here, commands wait.
const PATIENCE: Duration = Duration::from_millis(250);

/// The way to the server of a store, for one process.
#[derive(Debug)]
pub(crate) struct Servers {
    /// `None` if the options name the server, or a cluster.
    watch: Option<Mutex<Watch>>,
}

/// What is known of the master of a service.
#[derive(Debug)]
struct Watch {
    sentinels: Sentinels,
    master: Option<Address>,
    asked_at: Option<Instant>,
}

impl Servers {
    /// If there is a `slot`, a forked child finds the socket of the connection to a Sentinel in it.
    pub(crate) fn new(options: &RedisOptions, slot: Option<Arc<SocketSlot>>) -> Self {
        let watch = match &options.address {
            Address::Master { service, sentinels } => {
                let sentinels = Sentinels::new(service, sentinels, slot);
                Some(Mutex::new(Watch { sentinels, master: None, asked_at: None }))
            }
            _ => None,
        };
        Self { watch }
    }

    /// Connects to the server, or to a cluster. A Sentinel is always asked for it, and the server must be a master then. If no
    /// Sentinel answers, the last known master is tried.
    pub(crate) fn open(
        &self,
        options: &RedisOptions,
        deadline: Instant,
        slot: Option<&Arc<SocketSlot>>,
        idle: &mut dyn FnMut(),
    ) -> Result<Route> {
        if let Address::Cluster { nodes } = &options.address {
            return Ok(Route::Cluster(Cluster::open(nodes, options, deadline, slot, idle)?));
        }
        let Some(watch) = &self.watch else {
            let target = Target::server(&options.address, options);
            return Connection::open(target, deadline, slot, idle).map(Route::from);
        };
        let master = lock(watch).find(options, deadline)?;
        let mut connection = Connection::open(Target::server(&master, options), deadline, slot, idle)?;
        check_role(&mut connection, deadline)?;
        Ok(connection.into())
    }

    /// Notes the master to which a connection was made elsewhere.
    pub(crate) fn learn(&self, route: &Route) {
        if let (Some(watch), Route::Server { connection, .. }) = (&self.watch, route) {
            lock(watch).master = Some(connection.address().clone());
        }
    }

    /// Returns whether a route still leads to the server of the store, as far as known. Asks a Sentinel
    /// if the last answer is a second old.
    pub(crate) fn is_current(&self, options: &RedisOptions, route: &Route) -> bool {
        let (Some(watch), Route::Server { connection, .. }) = (&self.watch, route) else { return true };
        let mut watch = lock(watch);
        watch.look(options);
        watch.master.as_ref().is_none_or(|master| master == connection.address())
    }

    /// Lets the next [`is_current`](Self::is_current) ask, because the server behaves as if it were deposed.
    pub(crate) fn doubt(&self) {
        if let Some(watch) = &self.watch {
            lock(watch).asked_at = None;
        }
    }
}

impl Watch {
    fn find(&mut self, options: &RedisOptions, deadline: Instant) -> Result<Address> {
        // Half of the time is left for connecting to the server.
        let found = self.sentinels.master(options, share_of(deadline, 2));
        self.asked_at = Some(Instant::now());
        match found {
            Ok(master) => Ok(self.master.insert(master).clone()),
            Err(error) => self.master.clone().ok_or(error),
        }
    }

    /// Asks if it is time to. Without an answer, the master that is known stays.
    fn look(&mut self, options: &RedisOptions) {
        let now = Instant::now();
        if self.asked_at.is_some_and(|asked_at| now.saturating_duration_since(asked_at) < ASK_EVERY) {
            return;
        }
        self.asked_at = Some(now);
        if let Some(master) = self.sentinels.glance(options, now + PATIENCE) {
            self.master = Some(master);
        }
    }
}

fn lock(watch: &Mutex<Watch>) -> std::sync::MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}
