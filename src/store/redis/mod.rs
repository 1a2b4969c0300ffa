//! The Redis store: values on a server, shared by all processes that use it.
//!
//! An increment never touches the network. It is gathered in the metric's [pending
//! cells](crate::cell::pending), and the BackendAction thread ([`action`]) sends what has gathered as
//! [batches](batch) that the server applies exactly once. Pipeline threads ([`pipeline`]) serve scrapes. Both
//! belong to a [`runtime`], which starts with the store, and again when a forked child first uses it.

mod action;
mod announcer;
pub(crate) mod assembly;
mod backlog;
mod batch;
mod cache;
mod check;
mod client_name;
mod cluster;
mod connection;
mod ending;
mod epoch;
mod exemplar_field;
mod found;
pub(crate) mod frames;
mod gauges;
mod handshake;
mod hash_slot;
pub(crate) mod layout;
mod link;
mod message;
mod native_field;
mod node;
mod old_layout;
mod options;
mod outbox;
mod outline;
mod pace;
mod pipeline;
mod question;
mod queue;
mod read_routes;
mod reader;
mod refused_keys;
mod replay_log;
mod replicas;
mod replication;
pub(crate) mod reply;
mod request;
mod resolver;
mod route;
mod runtime;
mod sender;
mod sentinel;
mod series_meta;
mod servers;
mod session;
mod shared;
mod slot;
mod slot_map;
mod socket;
mod throttle;
mod tls;
mod tracking;
mod transport;
mod writer;

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Instant;

use self::message::Event;
pub(crate) use self::options::{Address, OPTIONS, RedisOptions};
use self::question::Wanted;
use self::runtime::Runtime;
use self::servers::Servers;
use self::shared::Shared;
use self::slot::RuntimeSlot;
pub(crate) use self::tls::Tls;
use super::Store;
use crate::cell::Cells;
use crate::cell::pending::PendingCells;
use crate::exposition::Selection;
use crate::metric::Metric;
use crate::metric::family::Family;
use crate::metric::table::FamilyTable;
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::report::Report;
use crate::model::sample::Snapshot;
use crate::model::statistics::Tally;
use crate::process::fork::ForkGuard;

/// A store: its options, and the threads that serve it.
#[derive(Debug)]
pub(crate) struct RedisStore {
    core: Arc<Core>,
}

/// The part of a store that its metrics refer to.
#[derive(Debug)]
struct Core {
    shared: Arc<Shared>,
    slot: RuntimeSlot,
}

impl RedisStore {
    /// Connects, and starts the threads. Fails if the server cannot be reached and the options say that it is
    /// required. Threads that cannot be started are logged, and started at a later use: see [`RuntimeSlot`].
    pub(crate) fn open(options: RedisOptions, table: Arc<FamilyTable>, tally: Arc<Tally>) -> Result<Self> {
        batch::initialize();
        let deadline = Instant::now() + options.connect_timeout;
        let opened = Servers::new(&options, None).open(&options, deadline, None, &mut || {});
        let checked = opened.and_then(|mut route| {
            handshake::check(&mut route, &options, deadline)?;
            Ok(route)
        });
        let route = match checked {
            Err(error) if options.required => return Err(error),
            connected_or_not => connected_or_not,
        };
        let shared = Arc::new(Shared { options, table, tally });
        let slot = RuntimeSlot::new(Runtime::start(&shared, Some(route)));
        Ok(Self { core: Arc::new(Core { shared, slot }) })
    }

    /// Sends an event to the threads. Fails if they cannot be started. After a close the event is discarded.
    fn push(&self, event: Event) -> Result<()> {
        if let Some(runtime) = self.core.slot.require(|| self.core.start())? {
            runtime.push(event);
        }
        Ok(())
    }

    fn running(&self) -> Result<Arc<Runtime>> {
        self.core.slot.require(|| self.core.start())?.ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                format!("the backend for {} is closed", self.core.shared.options.address),
            )
        })
    }
}

impl Core {
    /// Returns the threads that serve this process. A forked child starts them at its first use.
    fn runtime(&self) -> Option<Arc<Runtime>> {
        self.slot.get(|| self.start())
    }

    fn start(&self) -> Result<Arc<Runtime>> {
        Runtime::start(&self.shared, None)
    }

    /// Queues a metric that has changed. Returns `false` if its next change must try again.
    fn queue(&self, metric: Arc<Metric>) -> bool {
        match self.runtime() {
            Some(runtime) => {
                runtime.push(Event::Dirty(metric));
                true
            }
            // Once the store is closed, a metric need not try again. If the threads could not be started, the
            // next change of the metric tries again.
            None => self.slot.is_closed(),
        }
    }
}

impl Store for RedisStore {
    fn names_are_shared(&self) -> bool {
        true
    }

    fn has_modes(&self) -> bool {
        false
    }

    fn admit(&self, definition: &Definition) -> Result<()> {
        // Another process may have an incompatible family of this name. The announcer finds out later, and
        // warns.
        layout::check(definition, self.core.shared.options.is_cluster())
    }

    fn declared(&self, family: &Arc<Family>) {
        // If there are no threads yet, they find the family in the table when they start.
        let _ = self.push(Event::Declared(Box::new(family.definition.clone())));
    }

    fn new_metric(&self, family: &Arc<Family>, key: &Arc<str>) -> Result<Arc<Metric>> {
        Ok(Arc::new_cyclic(|metric| {
            let definition = &family.definition;
            // Weak: the store holds its metrics, so these must not hold the store or themselves.
            let (core, metric) = (Arc::downgrade(&self.core), Weak::clone(metric));
            let queue = move || match (core.upgrade(), metric.upgrade()) {
                (Some(core), Some(metric)) => core.queue(metric),
                _ => false,
            };
            let cells = PendingCells::new(Cells::gathered(definition), Box::new(queue));
            Metric::new(Arc::clone(family), Arc::clone(key), Cells::Pending(cells))
        }))
    }

    fn created(&self, metric: &Arc<Metric>) {
        if let Cells::Pending(cells) = &metric.cells {
            cells.mark_dirty();
        }
    }

    fn make_ready(&self) {
        // At a forked child's first use this starts threads, and may call the program's log callback. No lock
        // may be held meanwhile.
        let _ = self.core.runtime();
    }

    fn removed(&self, metric: &Arc<Metric>) -> Result<()> {
        if let Cells::Pending(cells) = &metric.cells {
            cells.remove();
        }
        self.push(Event::Removed(Arc::clone(metric)))
    }

    fn cleared(&self, family: &Arc<Family>, metrics: Vec<Arc<Metric>>) -> Result<()> {
        for metric in metrics {
            if let Cells::Pending(cells) = &metric.cells {
                cells.remove();
            }
        }
        self.push(Event::Cleared(Arc::clone(family)))
    }

    fn collect(&self, families: Option<Vec<Arc<Family>>>, selection: &Selection) -> Result<Snapshot> {
        let deadline = Instant::now() + self.core.shared.options.collect_timeout;
        let selection = selection.clone();
        let wanted = match families {
            Some(families) => Wanted::Families(families, selection),
            None => Wanted::All(selection),
        };
        self.running()?.collect(wanted, deadline)
    }

    fn collect_with_others(
        &self,
        families: Vec<Arc<Family>>,
        declared: &HashSet<&str>,
        selection: &Selection,
    ) -> Result<Snapshot> {
        let deadline = Instant::now() + self.core.shared.options.collect_timeout;
        let declared = declared.iter().map(|&name| name.to_owned()).collect();
        let selection = selection.clone();
        self.running()?.collect(Wanted::WithOthers { families, declared, selection }, deadline)
    }

    fn read(&self, metric: &Arc<Metric>) -> Result<Vec<f64>> {
        let deadline = Instant::now() + self.core.shared.options.collect_timeout;
        self.running()?.read(Arc::clone(metric), deadline)
    }

    fn check(&self) -> Result<Report> {
        check::check(&self.core.shared.options)
    }

    fn migrate(&self) -> Result<Report> {
        old_layout::migrate(&self.core.shared.options)
    }

    fn flush(&self, deadline: Instant) -> Result<()> {
        self.running()?.flush(deadline)
    }

    fn close(&self) -> Result<()> {
        match self.core.slot.close(|| self.core.start())? {
            Some(runtime) => runtime.stop(Instant::now() + self.core.shared.options.shutdown_timeout),
            None => Ok(()),
        }
    }

    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_> {
        self.core.slot.lock_for_fork()
    }
}
