//! Everything in this process that waits to be sent: unread events, definitions, and the outbox.
//!
//! The BackendAction thread owns it. While the server does not answer, the thread still takes events, because
//! an event in the channel keeps a metric alive that the program has removed or dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::announcer::Announcer;
use super::message::Event;
use super::outbox::Outbox;
use super::shared::Shared;
use crate::cell::Cells;

/// How long after its last change a store counts as busy. While it is busy, the thread wakes up by itself
/// after each interval, so changes need not wake it.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// What waits to be sent.
#[derive(Debug)]
pub(crate) struct Backlog {
    shared: Arc<Shared>,
    pub(crate) events: Receiver<Event>,
    pub(crate) announcer: Announcer,
    pub(crate) outbox: Outbox,
    busy_until: Instant,
    /// Whether the server has not answered lately.
    pub(crate) is_stalled: bool,
}

impl Backlog {
    pub(crate) fn new(shared: Arc<Shared>, events: Receiver<Event>, outbox: Outbox) -> Self {
        let announcer = Announcer::new(Arc::clone(&shared));
        Self { shared, events, announcer, outbox, busy_until: Instant::now(), is_stalled: false }
    }

    /// Returns whether the program has changed something a moment ago.
    pub(crate) fn is_busy(&self, now: Instant) -> bool {
        now < self.busy_until
    }

    /// Returns whether something waits that the server has not refused.
    pub(crate) fn has_work(&self) -> bool {
        self.outbox.has_unsent() || self.announcer.has_waiting() || !self.events.is_empty()
    }

    /// Takes the events that are in the channel now, but not those that arrive meanwhile.
    pub(crate) fn take_events(&mut self) {
        for _ in 0..self.events.len() {
            let Ok(event) = self.events.try_recv() else { return };
            self.take_event(event);
        }
    }

    /// Takes one event.
    pub(crate) fn take_event(&mut self, event: Event) {
        self.busy_until = Instant::now() + BUSY_FOR;
        match event {
            Event::Declared(definition) => self.announcer.note(*definition),
            Event::Dirty(metric) => self.outbox.note_dirty(metric),
            Event::Removed(metric) => self.outbox.note_removed(&metric, self.is_stalled),
            Event::Cleared(family) => self.outbox.note_cleared(&family),
            Event::StartedLate => self.take_all_metrics(),
        }
    }

    /// Finds every change that was made before this call, including changes of threads that have marked a
    /// metric as dirty but have not queued it yet.
    pub(crate) fn take_everything(&mut self) {
        // The order matters. A removal that happened before a metric appeared is queued before the metric is
        // seen here, so the old fields are deleted before the new metric's are written.
        let dirty = self.shared.table.dirty_metrics();
        self.take_events();
        dirty.into_iter().for_each(|metric| self.outbox.note_dirty(metric));
        self.outbox.retry_refused(Instant::now());
    }

    /// Treats every metric as changed, and every definition as new.
    fn take_all_metrics(&mut self) {
        self.announcer.note_all();
        for family in self.shared.table.live_families() {
            for metric in self.shared.table.metrics(&family) {
                if let Cells::Pending(cells) = &metric.cells {
                    cells.mark_dirty();
                }
                self.outbox.note_dirty(metric);
            }
        }
    }
}
