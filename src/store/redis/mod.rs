//! The Redis store: values on a server, shared by all processes that use it.
//!
//! An increment never touches the network: it gathers in the metric's [pending cells](crate::cell::pending).
//! The BackendAction thread ([`action`]) sends what has gathered, in [batches](batch) that the server
//! applies exactly once. Pipeline threads ([`pipeline`]) serve scrapes. Both belong to a
//! [`runtime`], which starts with the store, and again on first use in a forked child.

mod action;
mod batch;
mod check;
mod connection;
mod epoch;
mod gauges;
pub(crate) mod layout;
mod link;
mod options;
mod outbox;
pub(crate) mod pipeline;
mod runtime;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use self::action::Event;
use self::connection::Connection;
pub(crate) use self::options::{Address, OPTIONS, RedisOptions};
use self::pipeline::Wanted;
use self::runtime::{Runtime, RuntimeSlot};
use super::Store;
use crate::cell::pending::{DirtyQueue, PendingCells};
use crate::family::Family;
use crate::metric::{Cells, Metric};
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::labels::Labels;
use crate::model::report::Report;
use crate::model::sample::Snapshot;
use crate::process::fork::ForkGuard;
use crate::statistics::Tally;
use crate::table::FamilyTable;

/// What the store and its threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: RedisOptions,
    pub(crate) table: Arc<FamilyTable>,
    pub(crate) tally: Arc<Tally>,
}

/// The store: its options, and the threads that serve it at present.
#[derive(Debug)]
pub(crate) struct RedisStore {
    core: Arc<Core>,
}

/// The part of the store that metrics hold on to.
#[derive(Debug)]
struct Core {
    shared: Arc<Shared>,
    slot: RuntimeSlot,
}

impl RedisStore {
    /// Connects, and starts the threads. Fails if the server cannot be reached and is `required`.
    pub(crate) fn open(options: RedisOptions, table: Arc<FamilyTable>, tally: Arc<Tally>) -> Result<Self> {
        batch::initialize();
        let connection = Connection::open(&options, Instant::now() + options.connect_timeout, None);
        let connection = match connection {
            Err(error) if options.required => return Err(error),
            connected_or_not => connected_or_not,
        };
        let shared = Arc::new(Shared { options, table, tally });
        let runtime = Runtime::start(&shared, Some(connection))?;
        runtime.announce();
        let slot = RuntimeSlot::new(runtime);
        log::info!("RedisBackend initialized");
        Ok(Self { core: Arc::new(Core { shared, slot }) })
    }

    /// Tells the threads, or says that there are none. A closed store has nobody to tell.
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
    /// The threads that serve this process; started now if it is a forked child's first use.
    fn runtime(&self) -> Option<Arc<Runtime>> {
        self.slot.get(|| self.start())
    }

    fn start(&self) -> Result<Arc<Runtime>> {
        Runtime::start(&self.shared, None)
    }
}

impl DirtyQueue for Core {
    fn push(&self, metric: Arc<Metric>) -> bool {
        match self.runtime() {
            Some(runtime) => {
                runtime.push(Event::Dirty(metric));
                true
            }
            // The last look of a store that closes finds what stays dirty; later nobody asks. A store whose
            // threads cannot be started is asked again by the next change.
            None => self.slot.is_closed(),
        }
    }
}

impl Store for RedisStore {
    fn names_are_shared(&self) -> bool {
        true
    }

    fn admit(&self, definition: &Definition) -> Result<()> {
        // What other processes have declared is on the server: it is looked at later, and warned about.
        layout::check_name(definition.name())
    }

    fn declared(&self, family: &Arc<Family>) {
        // Threads that start late find it in the table.
        let _ = self.push(Event::Declared(Box::new(family.definition.clone())));
    }

    fn new_metric(&self, family: &Arc<Family>, labels: Labels) -> Result<Arc<Metric>> {
        Ok(Arc::new_cyclic(|metric| {
            let definition = &family.definition;
            let core: Arc<dyn DirtyQueue> = self.core.clone();
            let queue = Arc::downgrade(&core);
            let counts_calls = self.core.shared.tally.counts_calls_of(definition.name());
            let (metric_type, cell_count) = (definition.metric_type(), definition.cell_count());
            let cells = PendingCells::new(metric_type, cell_count, counts_calls, metric.clone(), queue);
            Metric::new(Arc::clone(family), labels, Cells::Pending(cells))
        }))
    }

    fn created(&self, metric: &Arc<Metric>) {
        if let Cells::Pending(cells) = &metric.cells {
            cells.mark_dirty();
        }
    }

    fn make_ready(&self) {
        // In a forked child's first use this starts threads, logs, and calls the program back.
        let _ = self.core.runtime();
    }

    fn removed(&self, metric: &Arc<Metric>) -> Result<()> {
        if let Cells::Pending(cells) = &metric.cells {
            cells.remove();
        }
        self.push(Event::Removed(Arc::clone(metric)))
    }

    fn remove_unknown(&self, _: &Arc<Family>, _: &str) -> Result<bool> {
        Ok(false)
    }

    fn cleared(&self, family: &Arc<Family>, metrics: Vec<Arc<Metric>>) -> Result<()> {
        for metric in metrics {
            if let Cells::Pending(cells) = &metric.cells {
                cells.remove();
            }
        }
        self.push(Event::Cleared(Arc::clone(family)))
    }

    fn collect(&self, families: Option<Vec<Arc<Family>>>) -> Result<Snapshot> {
        let deadline = Instant::now() + self.core.shared.options.collect_timeout;
        self.running()?.collect(Wanted::Families(families), deadline)
    }

    fn collect_with_others(&self, families: Vec<Arc<Family>>, declared: &HashSet<&str>) -> Result<Snapshot> {
        let deadline = Instant::now() + self.core.shared.options.collect_timeout;
        let declared = declared.iter().map(|&name| name.to_owned()).collect();
        self.running()?.collect(Wanted::WithOthers { families, declared }, deadline)
    }

    fn read(&self, metric: &Arc<Metric>) -> Result<Vec<f64>> {
        let deadline = Instant::now() + self.core.shared.options.collect_timeout;
        self.running()?.read(Arc::clone(metric), deadline)
    }

    fn check(&self) -> Result<Report> {
        check::check(&self.core.shared.options)
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
