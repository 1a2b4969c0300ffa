//! The BackendAction thread: takes what metrics have gathered, and sends it.
//!
//! It sleeps `flush_interval` between batches, so that a million increments become a few hundred
//! commands. It is the only one that sends changes, and so the order of what it sends is the order in
//! which the server applies it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, never, select};
use redis::{Cmd, ServerErrorKind, Value};

use super::Shared;
use super::batch;
use super::connection::refused;
use super::layout;
use super::link::Link;
use super::outbox::Outbox;
use crate::family::Family;
use crate::metric::{Cells, Metric};
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};

/// How long after its last change a store counts as busy: until then the thread looks every
/// `flush_interval`, and changes need not wake it.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// How often a thread that has nothing to do looks whether the server has ended the connection.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The most batches in one exchange, so that a request and its replies stay small.
const MAX_BATCHES: usize = 128;

/// How often in a row a server may have lost what it had a moment ago, before that is called a fault: it may
/// have no memory for what it is told, and evict it at once.
const MAX_LOSSES: u32 = 16;

/// What the program tells the thread, in the order in which it happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The definition alone: a family that nobody holds any more must not live on here.
    Declared(Box<Definition>),
    Dirty(Arc<Metric>),
    Removed(Arc<Metric>),
    Cleared(Arc<Family>),
    /// This thread could not be started when it was needed first: nobody has heard of what happened since.
    StartedLate,
}

/// What the server seems to have lost.
#[derive(Debug)]
pub(crate) enum Loss {
    /// These families' keys.
    Keys(Vec<String>),
    /// Definitions of this process's families.
    Definitions,
}

/// What somebody who waits asks of the thread.
#[derive(Debug)]
pub(crate) enum Request {
    /// Send all that is pending now; answer when the server has it, or why it has not.
    Flush { deadline: Instant, answer: Sender<Result<()>> },
    /// As a flush; and the server may have lost something: then send again what this process knows of it.
    Restore { loss: Loss, deadline: Instant, answer: Sender<Result<()>> },
    /// Send all that is pending, trying until the deadline, and end. The answer is the number of
    /// changes that could not be sent.
    Stop { deadline: Instant, answer: Sender<usize> },
}

/// What the server says to a batch.
#[derive(Debug)]
enum Answer {
    Applied,
    /// This key alone is refused.
    Refused,
    /// Not applied: the epoch had to be learned.
    Begun,
    /// Not applied: the server has lost the key.
    Lost,
}

/// The thread's state.
pub(crate) struct Action {
    shared: Arc<Shared>,
    events: Receiver<Event>,
    requests: Receiver<Request>,
    link: Link,
    outbox: Outbox,
    /// Definitions that the server is to get.
    undeclared: Vec<Definition>,
    declared_at: Option<Instant>,
    /// The number of the connection on which that was.
    declared_on: u64,
    definitions_refused: bool,
    busy_until: Instant,
    /// Set when the thread has to give up at once: the process is ending.
    abandoned: Arc<AtomicBool>,
    /// How many changes wait in the outbox: for whoever has no time to ask.
    waiting: Arc<AtomicUsize>,
}

impl Action {
    pub(crate) fn new(
        shared: Arc<Shared>,
        outbox: Outbox,
        events: Receiver<Event>,
        requests: Receiver<Request>,
        link: Link,
        abandoned: Arc<AtomicBool>,
        waiting: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            shared,
            events,
            requests,
            link,
            outbox,
            undeclared: Vec::new(),
            declared_at: None,
            declared_on: 0,
            definitions_refused: false,
            busy_until: Instant::now(),
            abandoned,
            waiting,
        }
    }

    /// Runs until it is told to stop.
    pub(crate) fn run(&mut self) {
        while !self.abandoned.load(Ordering::Relaxed) {
            match self.wait() {
                // Whoever asked may have given up waiting: then the server need not be asked.
                Some(Request::Flush { deadline, answer }) if Instant::now() < deadline => {
                    let _ = answer.send(self.flush());
                }
                Some(Request::Restore { loss, deadline, answer }) if Instant::now() < deadline => {
                    match loss {
                        Loss::Keys(keys) => self.outbox.ask(&keys),
                        Loss::Definitions => self.redeclare(),
                    }
                    let _ = answer.send(self.flush());
                }
                Some(Request::Flush { .. } | Request::Restore { .. }) => {}
                Some(Request::Stop { deadline, answer }) => {
                    let unsent = self.stop(deadline);
                    let _ = answer.send(unsent);
                    // Nobody waits for this: the server may have stopped answering.
                    if unsent == 0 {
                        self.leave();
                    }
                    return;
                }
                None => {
                    self.take_events();
                    if self.link.retry_at().is_none_or(|retry_at| retry_at <= Instant::now()) {
                        // What fails is logged by the link, and tried again after a pause.
                        let _ = self.send();
                    }
                }
            }
        }
    }

    /// Waits for a request, or (`None`) for the time to send.
    fn wait(&mut self) -> Option<Request> {
        let now = Instant::now();
        let interval = self.shared.options.flush_interval;
        let until = match self.link.retry_at() {
            Some(retry_at) => retry_at,
            None if now < self.busy_until || self.has_work() => now + interval,
            None => match self.outbox.retry_at() {
                Some(retry_at) => retry_at.max(now + interval),
                None => return self.wait_for_anything(),
            },
        };
        match self.requests.recv_deadline(until) {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => None,
            // Nobody is left who could ask or change anything: the same as a stop, without an answer.
            Err(RecvTimeoutError::Disconnected) => Some(self.stop_unasked()),
        }
    }

    fn wait_for_anything(&mut self) -> Option<Request> {
        // A connection that ends may be the only sign that the server has lost what it had of this process.
        let has_something_to_lose = self.outbox.has_confirmed() || self.declared_at.is_some();
        let look = if has_something_to_lose { crossbeam_channel::after(LOOK_EVERY) } else { never() };
        let received = select! {
            recv(look) -> _ => return None,
            recv(self.requests) -> request => return Some(request.unwrap_or_else(|_| self.stop_unasked())),
            recv(self.events) -> event => event,
        };
        match received {
            Ok(event) => self.take_event(event),
            // The store is gone; those who read from it may still ask.
            Err(_) => return Some(self.requests.recv().unwrap_or_else(|_| self.stop_unasked())),
        }
        None
    }

    fn stop_unasked(&self) -> Request {
        Request::Stop {
            deadline: Instant::now() + self.shared.options.shutdown_timeout,
            answer: crossbeam_channel::bounded(1).0,
        }
    }

    fn has_work(&self) -> bool {
        self.outbox.has_unsent() || !self.undeclared.is_empty() || !self.events.is_empty()
    }

    /// Takes the events that are queued now, not those that are queued meanwhile.
    fn take_events(&mut self) {
        for _ in 0..self.events.len() {
            let Ok(event) = self.events.try_recv() else { return };
            self.take_event(event);
        }
    }

    fn take_event(&mut self, event: Event) {
        self.busy_until = Instant::now() + BUSY_FOR;
        let options = &self.shared.options;
        match event {
            Event::Declared(definition) => self.undeclared.push(*definition),
            Event::Dirty(metric) => self.outbox.note_dirty(options, metric),
            Event::Removed(metric) => self.outbox.note_removed(options, &metric),
            Event::Cleared(family) => self.outbox.note_cleared(options, &family),
            Event::StartedLate => self.take_all_metrics(),
        }
    }

    /// Takes every metric for changed, and every definition for new.
    fn take_all_metrics(&mut self) {
        self.undeclared.extend(self.live_definitions());
        for family in self.shared.table.live_families() {
            for metric in self.shared.table.metrics(&family) {
                if let Cells::Pending(cells) = &metric.cells {
                    cells.mark_dirty();
                }
                self.outbox.note_dirty(&self.shared.options, metric);
            }
        }
    }

    /// Sends all that is pending at this time.
    fn flush(&mut self) -> Result<()> {
        self.take_everything();
        self.outbox.retry_refused(Instant::now());
        self.send()?;
        match self.outbox.refusals().as_slice() {
            [] => {
                self.shared.tally.flushed();
                Ok(())
            }
            reasons => Err(Error::new(ErrorKind::Store, reasons.join("; "))),
        }
    }

    /// Finds every change that was made before this call: also that of a thread that has marked its
    /// metric dirty but not queued it yet.
    fn take_everything(&mut self) {
        // Look first, then take the events: a removal that happened before a metric appeared is queued
        // before we see the metric, and so its fields are deleted before the metric's are written.
        let dirty = self.shared.table.dirty_metrics();
        self.take_events();
        for metric in dirty {
            self.outbox.note_dirty(&self.shared.options, metric);
        }
    }

    fn stop(&mut self, deadline: Instant) -> usize {
        loop {
            self.take_everything();
            self.outbox.retry_refused(Instant::now());
            let nothing_counts = self.outbox.unsent_count() == 0;
            if nothing_counts && (self.undeclared.is_empty() || self.link.retry_at().is_some()) {
                return 0;
            }
            let is_sent = self.send().is_ok() && !self.outbox.has_unsent();
            let now = Instant::now();
            if is_sent || now >= deadline || self.abandoned.load(Ordering::Relaxed) {
                return self.outbox.unsent_count();
            }
            // Nobody else has anything to ask of this thread any more.
            let retry_at = self.link.retry_at().unwrap_or(now).min(deadline);
            std::thread::sleep(retry_at.saturating_duration_since(now));
        }
    }

    /// Takes this writer out of the server's books: it will not send anything again. Not if a connection ever
    /// failed: a batch that was sent twice may still be on its way, and would be taken for a new one.
    fn leave(&mut self) {
        if self.link.has_failed() || self.link.retry_at().is_some() {
            return;
        }
        let keys = self.outbox.writers_keys();
        let writer = self.outbox.writer().to_owned();
        let commands: Vec<Cmd> = keys.iter().map(|key| command("HDEL", &[key, &writer])).collect();
        if !commands.is_empty() {
            // What stays behind is swept out by others.
            let _ = self.link.exchange(&self.shared.options, &commands);
        }
    }

    /// Sends until nothing is left but what is refused for its own sake.
    fn send(&mut self) -> Result<()> {
        let mut must_connect = self.link.retry_at().is_some() || self.link.has_ended();
        let mut losses = 0;
        while losses < MAX_LOSSES {
            self.declare()?;
            let keys =
                self.outbox.prepare(&self.shared.options, Instant::now(), self.link.connection_number());
            self.waiting.store(self.outbox.taken_count(), Ordering::Relaxed);
            self.shared.tally.unconfirmed(self.outbox.taken_metrics());
            self.shared.tally.refresh_if_due();
            if keys.is_empty() && !must_connect {
                return Ok(());
            }
            if keys.is_empty() {
                // Nothing to send, but somebody wants to know that the store is back, or what it has lost.
                self.link.exchange(&self.shared.options, &[redis::cmd("PING")])?;
            }
            let mut all_applied = true;
            for chunk in keys.chunks(MAX_BATCHES) {
                all_applied &= self.send_batches(chunk)?;
            }
            must_connect = false;
            if all_applied {
                self.link.serves(&self.shared.options);
                losses = 0;
            } else {
                losses += 1;
            }
        }
        let message = format!("{} loses what it is told at once", self.shared.options.address);
        Err(self.lose(Error::new(ErrorKind::Unavailable, message)))
    }

    /// Sends the batches of these keys. `false` if one was not applied, because the server is in another epoch.
    fn send_batches(&mut self, keys: &[String]) -> Result<bool> {
        let commands: Vec<Cmd> =
            keys.iter().filter_map(|key| Some(self.outbox.batch(key)?.command.clone())).collect();
        let mut replies = self.exchange_batches(keys, &commands)?;
        if replies.iter().any(is_noscript) {
            // The script was flushed, or never loaded. Those that were applied are skipped this time.
            let mut with_script = vec![batch::load_script()];
            with_script.extend(commands);
            replies = self.exchange_batches(keys, &with_script)?;
            if let Value::ServerError(error) = replies.remove(0) {
                return Err(self.lose(refused(&self.shared.options.address, &error)));
            }
        }
        let mut lost = Vec::new();
        let mut all_applied = true;
        let mut failure = Ok(());
        for (key, reply) in keys.iter().zip(replies) {
            match self.take_reply(key, reply) {
                Ok(Answer::Applied | Answer::Refused) => {}
                Ok(Answer::Begun) => all_applied = false,
                Ok(Answer::Lost) => {
                    all_applied = false;
                    lost.push(key.clone());
                }
                Err(error) => {
                    failure = Err(error);
                    break;
                }
            }
        }
        // Also before an error: their new epochs are known now, so nobody would find them lost again.
        self.restore(lost);
        failure.map(|()| all_applied)
    }

    /// Exchanges the batches of these keys for their replies, and counts those that went out again because an
    /// answer was lost: in this exchange, or in an earlier one.
    fn exchange_batches(&mut self, keys: &[String], commands: &[Cmd]) -> Result<Vec<Value>> {
        let before = self.link.transmissions();
        let result = self.link.exchange(&self.shared.options, commands);
        let times = self.link.transmissions() - before;
        self.shared.tally.resent(self.outbox.note_transmissions(keys, times, result.is_ok()));
        result
    }

    /// The server has lost these keys: has it told again what this process knows of them.
    fn restore(&mut self, lost: Vec<String>) {
        if lost.is_empty() {
            return;
        }
        log::warn!(
            "{} has lost {} metric {} (by a restart, or expiry): counters begin at 0, gauges are restored",
            self.shared.options.address,
            lost.len(),
            if lost.len() == 1 { "family" } else { "families" }
        );
        let mut metrics: BTreeMap<String, Vec<Arc<Metric>>> =
            lost.into_iter().map(|key| (key, Vec::new())).collect();
        for family in self.shared.table.live_families() {
            let prefix = self.shared.options.key_prefix.as_deref();
            if let Some(known) = metrics.get_mut(&layout::family_key(prefix, family.definition.name())) {
                known.extend(self.shared.table.metrics(&family));
            }
        }
        for (key, metrics) in metrics {
            self.outbox.restore(&key, &metrics);
        }
        self.redeclare();
    }

    fn take_reply(&mut self, key: &str, reply: Value) -> Result<Answer> {
        if matches!(reply, Value::ServerError(_)) {
            self.shared.tally.refused();
        }
        let connection = self.link.connection_number();
        match reply {
            Value::Array(parts) if matches!(parts[..], [Value::Int(0 | 1), ..]) => {
                self.shared.tally.confirmed(self.outbox.batch(key).map_or(0, |batch| batch.changes().len()));
                if self.outbox.confirm(key, connection) {
                    log::info!("Redis key {key:?} is accepted again");
                }
                for remark in parts.iter().skip(1) {
                    log::error!("Redis key {key:?}, field {}", text_of(remark));
                }
                Ok(Answer::Applied)
            }
            Value::Array(parts) if matches!(parts[..], [Value::Int(2), Value::BulkString(_)]) => {
                let is_lost = self.outbox.begin_epoch(key, text_of(&parts[1]), connection);
                Ok(if is_lost { Answer::Lost } else { Answer::Begun })
            }
            Value::ServerError(error) if concerns_key(&error) => {
                let named = if error.code() == "WRITERS" { layout::writers_key(key) } else { key.to_owned() };
                let reason = format!("Redis key {named:?} is refused: {}", describe(&error));
                if self.outbox.refuse(key, reason.clone(), Instant::now()) {
                    log::error!("{reason}; its changes are kept, and tried again every second");
                }
                Ok(Answer::Refused)
            }
            Value::ServerError(error) => Err(self.lose(refused(&self.shared.options.address, &error))),
            other => {
                let message = format!("{} answered a batch with {other:?}", self.shared.options.address);
                Err(self.lose(Error::new(ErrorKind::Unavailable, message)))
            }
        }
    }

    fn lose(&mut self, reason: Error) -> Error {
        self.link.lose(&reason);
        reason
    }

    fn redeclare(&mut self) {
        self.declared_at = None;
        self.undeclared.extend(self.live_definitions());
    }

    fn live_definitions(&self) -> Vec<Definition> {
        let families = self.shared.table.live_families();
        families.iter().map(|family| family.definition.clone()).collect()
    }

    /// Writes definitions that are new, or so old that they would expire.
    fn declare(&mut self) -> Result<()> {
        let refresh = Duration::from_secs(self.shared.options.expire_key_time) / 3;
        let is_old = self.declared_at.is_some_and(|declared_at| declared_at.elapsed() > refresh);
        // Whether the server is still the one that has the definitions is asked with the values, if there are any.
        let is_uncertain = self.declared_at.is_some()
            && self.declared_on != self.link.connection_number()
            && !self.outbox.has_confirmed();
        if self.undeclared.is_empty() && !is_uncertain && !(is_old && self.outbox.has_unsent()) {
            return Ok(());
        }
        if is_old || is_uncertain {
            self.undeclared.extend(self.live_definitions());
        }
        let key = layout::definitions_key(self.shared.options.key_prefix.as_deref());
        let mut names = HashSet::new();
        let definitions: Vec<&Definition> =
            self.undeclared.iter().filter(|definition| names.insert(definition.name())).collect();
        let mut commands = Vec::new();
        for definition in &definitions {
            commands.push(command("HGET", &[&key, definition.name()]));
            commands.push(command("HSET", &[&key, definition.name(), &definition.to_json()]));
        }
        commands.push(command("EXPIRE", &[&key, &self.shared.options.expire_key_time.to_string()]));
        let replies = self.link.exchange(&self.shared.options, &commands)?;
        let mut key_error = None;
        for (definition, pair) in definitions.iter().zip(replies.chunks(2)) {
            match pair {
                [Value::ServerError(error), _] | [_, Value::ServerError(error)] if concerns_key(error) => {
                    key_error = Some(describe(error));
                }
                [Value::ServerError(error), _] | [_, Value::ServerError(error)] => {
                    let error = refused(&self.shared.options.address, error);
                    self.link.lose(&error);
                    return Err(error);
                }
                [known, _] => warn_of_conflict(known, definition),
                _ => {}
            }
        }
        if let (Some(error), false) = (&key_error, self.definitions_refused) {
            log::error!(
                "Redis key {key:?} is refused: {error}; other processes cannot see the definitions of metric families"
            );
        }
        self.definitions_refused = key_error.is_some();
        self.undeclared.clear();
        self.declared_at = Some(Instant::now());
        self.declared_on = self.link.connection_number();
        Ok(())
    }
}

/// A family that other processes declare in another way is worth a warning, not a failure: it may be
/// the old version of a program that is being replaced.
fn warn_of_conflict(known: &Value, definition: &Definition) {
    let Value::BulkString(bytes) = known else { return };
    let text = String::from_utf8_lossy(bytes);
    match Definition::from_json(definition.name(), &text) {
        Ok(other) if other.is_compatible(definition) => {}
        Ok(other) => log::warn!(
            "metric family {:?} is declared here as {}, but another process has declared it as {}",
            definition.name(),
            definition.describe(),
            other.describe()
        ),
        Err(error) => log::warn!("{error}; it was replaced"),
    }
}

/// A command with these arguments.
pub(crate) fn command(name: &str, arguments: &[&str]) -> Cmd {
    let mut command = redis::cmd(name);
    for argument in arguments {
        command.arg(argument);
    }
    command
}

/// The error as the server says it.
pub(crate) fn describe(error: &redis::ServerError) -> String {
    // Redis 7 adds where in the script it happened, which tells nobody anything.
    let details = error.details().unwrap_or_default();
    format!("{} {}", error.code(), details.split(" script: ").next().unwrap_or_default())
}

/// Whether the server refuses this key only: it is of another type, or the user may not use it.
pub(crate) fn concerns_key(error: &redis::ServerError) -> bool {
    // Redis 6 wraps an error of a script's command in an error of the script.
    let text = describe(error);
    text.contains("WRONGTYPE") || (text.contains("NOPERM") && text.contains("key"))
}

fn is_noscript(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}

fn text_of(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    }
}
