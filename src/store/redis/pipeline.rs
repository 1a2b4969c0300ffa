//! The pipeline threads: they serve scrapes and reads, each with a connection of its own.
//!
//! A read begins with a barrier: the BackendAction thread sends what this process has pending, so that
//! a scrape shows every change that happened before it here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use redis::{Cmd, Value};

use super::Shared;
use super::action::{Loss, Request, command, concerns_key, describe};
use super::connection::{Connection, SocketSlot, refused};
use super::epoch::{self, KnownEpochs};
use super::layout;
use super::runtime::{flush, restore};
use crate::family::Family;
use crate::metric::Metric;
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::labels;
use crate::model::name::{NameRule, check_label_names};
use crate::model::number::parse_number;
use crate::model::sample::{FamilySamples, Snapshot};

/// How often a read is tried: on the connection that is there, and on new ones.
const ATTEMPTS: u32 = 3;

/// What a caller wants to know.
#[derive(Debug)]
pub(crate) enum Question {
    Read {
        wanted: Wanted,
        deadline: Instant,
        answer: Sender<Result<Reading>>,
    },
    /// End one thread.
    Stop,
}

#[derive(Debug)]
pub(crate) enum Wanted {
    /// These families, or all.
    Families(Option<Vec<Arc<Family>>>),
    /// These families, and behind them all of the server that are not `declared` here.
    WithOthers {
        families: Vec<Arc<Family>>,
        declared: HashSet<String>,
    },
    Metric(Arc<Metric>),
}

#[derive(Debug)]
pub(crate) enum Reading {
    Snapshot(Snapshot),
    Cells(Vec<f64>),
}

/// The keys that were refused when they were last read, so that each is reported once.
#[derive(Debug, Default)]
pub(crate) struct RefusedKeys(Mutex<BTreeSet<String>>);

impl RefusedKeys {
    /// Notes how reading `key` went; `true` if it is refused and was not before.
    fn note(&self, key: &str, is_refused: bool) -> bool {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_refused {
            return keys.insert(key.to_owned());
        }
        keys.remove(key);
        false
    }
}

/// One thread's state.
pub(crate) struct Pipeline {
    shared: Arc<Shared>,
    requests: Sender<Request>,
    slot: Arc<SocketSlot>,
    refused_keys: Arc<RefusedKeys>,
    epochs: Arc<KnownEpochs>,
    connection: Option<Connection>,
}

impl Pipeline {
    pub(crate) fn new(
        shared: Arc<Shared>,
        requests: Sender<Request>,
        slot: Arc<SocketSlot>,
        refused_keys: Arc<RefusedKeys>,
        epochs: Arc<KnownEpochs>,
    ) -> Self {
        Self { shared, requests, slot, refused_keys, epochs, connection: None }
    }

    /// Answers questions until it is told to stop.
    pub(crate) fn run(&mut self, questions: &Receiver<Question>) {
        while let Ok(Question::Read { wanted, deadline, answer }) = questions.recv() {
            // Whoever asked may have given up waiting; then there is no need to ask the server.
            if Instant::now() < deadline {
                let _ = answer.send(self.read(&wanted, deadline));
            }
        }
    }

    fn read(&mut self, wanted: &Wanted, deadline: Instant) -> Result<Reading> {
        match flush(&self.requests, &self.shared, deadline) {
            // Keys that are refused are reported where they are read, and spoil nothing else.
            Err(error) if error.kind() != ErrorKind::Store => return Err(error),
            _ => {}
        }
        match wanted {
            Wanted::Metric(metric) => self.read_metric(metric, deadline).map(Reading::Cells),
            Wanted::Families(Some(families)) => {
                self.read_own_and(Vec::new(), families, deadline).map(Reading::Snapshot)
            }
            Wanted::Families(None) => self.read_all(deadline).map(Reading::Snapshot),
            Wanted::WithOthers { families, declared } => {
                let mut others = self.read_definitions(deadline)?;
                others.retain(|name, _| !declared.contains(name));
                let others = others.into_values().collect();
                self.read_own_and(others, families, deadline).map(Reading::Snapshot)
            }
        }
    }

    /// Reads these families of this process, and behind them `others`.
    fn read_own_and(
        &mut self,
        others: Vec<Definition>,
        own: &[Arc<Family>],
        deadline: Instant,
    ) -> Result<Snapshot> {
        let mut definitions: Vec<_> = own.iter().map(|family| family.definition.clone()).collect();
        let mut known: Vec<_> = own.iter().map(|family| self.shared.table.metrics(family)).collect();
        definitions.extend(others);
        known.resize_with(definitions.len(), Vec::new);
        self.read_families(definitions, known, deadline)
    }

    /// Reads this process's families, in the order of declaration, then those of others, by name.
    fn read_all(&mut self, deadline: Instant) -> Result<Snapshot> {
        let own = self.shared.table.kept_families();
        let mut stored = self.read_definitions(deadline)?;
        if self
            .shared
            .table
            .live_families()
            .iter()
            .any(|family| !stored.contains_key(family.definition.name()))
        {
            // The server has lost them, or never got them.
            self.restore(Loss::Definitions, deadline)?;
        }
        for family in &own {
            stored.remove(family.definition.name());
        }
        self.read_own_and(stored.into_values().collect(), &own, deadline)
    }

    fn read_definitions(&mut self, deadline: Instant) -> Result<BTreeMap<String, Definition>> {
        let key = layout::definitions_key(self.shared.options.key_prefix.as_deref());
        let commands = [self.expire(&key), command("HGETALL", &[&key])];
        let mut replies = self.exchange(&commands, deadline)?;
        let stored = self.accept(&key, replies.pop().unwrap_or_default())?.unwrap_or_default();
        let mut definitions = BTreeMap::new();
        for (name, json) in pairs(stored) {
            match Definition::from_json(&name, &json) {
                Ok(definition) => drop(definitions.insert(name, definition)),
                Err(error) => log::debug!("{error}; it is left out"),
            }
        }
        Ok(definitions)
    }

    /// Reads families by their definitions. `known` are the metrics that this process has of each: they
    /// are shown even if the server has forgotten them.
    fn read_families(
        &mut self,
        definitions: Vec<Definition>,
        known: Vec<Vec<Arc<Metric>>>,
        deadline: Instant,
    ) -> Result<Snapshot> {
        let prefix = self.shared.options.key_prefix.as_deref();
        let keys: Vec<String> =
            definitions.iter().map(|definition| layout::family_key(prefix, definition.name())).collect();
        let mut commands = vec![self.expire(&layout::definitions_key(prefix))];
        for (key, definition) in keys.iter().zip(&definitions) {
            commands.extend(self.renew(key));
            commands.push(command(if layout::is_hash(definition) { "HGETALL" } else { "GET" }, &[key]));
        }
        let replies = self.exchange_and_restore(commands, &keys, deadline)?;
        let values = replies.into_iter().skip(3).step_by(3);
        let mut snapshot = Snapshot::default();
        for (((key, definition), known), value) in keys.iter().zip(definitions).zip(known).zip(values) {
            snapshot.families.push(match self.accept(key, value)? {
                Some(value) => assemble(key, definition, &known, value),
                None => FamilySamples::new(definition),
            });
        }
        Ok(snapshot)
    }

    fn read_metric(&mut self, metric: &Metric, deadline: Instant) -> Result<Vec<f64>> {
        let definition = &metric.family.definition;
        let key = layout::family_key(self.shared.options.key_prefix.as_deref(), definition.name());
        let fields = (0..definition.cell_count()).map(|cell| layout::field(definition, &metric.key, cell));
        let mut get = redis::cmd(if layout::is_hash(definition) { "HMGET" } else { "GET" });
        get.arg(&key);
        if layout::is_hash(definition) {
            for field in fields {
                get.arg(field);
            }
        }
        let mut commands = Vec::from(self.renew(&key));
        commands.push(get);
        let replies = self.exchange_and_restore(commands, std::slice::from_ref(&key), deadline)?;
        let values = match replies.into_iter().nth(2).unwrap_or_default() {
            Value::ServerError(error) if concerns_key(&error) => {
                let message = format!("Redis key {key:?} cannot be read: {}", describe(&error));
                return Err(Error::new(ErrorKind::Store, message));
            }
            Value::ServerError(error) => return Err(refused(&self.shared.options.address, &error)),
            Value::Array(values) => values,
            value => vec![value],
        };
        if values.len() != definition.cell_count() {
            let message = format!(
                "{} answered a read of {key:?} with {} values: expected {}",
                self.shared.options.address,
                values.len(),
                definition.cell_count()
            );
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        values.into_iter().map(|value| number(&key, value)).collect()
    }

    /// Renews the expiry of a family. Its writers' key first: it must not outlive the values, or nobody would
    /// notice that they are lost.
    fn renew(&self, key: &str) -> [Cmd; 2] {
        [self.expire(&layout::writers_key(key)), self.expire(key)]
    }

    fn expire(&self, key: &str) -> Cmd {
        command("EXPIRE", &[key, &self.shared.options.expire_key_time.to_string()])
    }

    /// A reply without an error. `None` if the server refuses this key alone, which is reported once.
    fn accept(&self, key: &str, reply: Value) -> Result<Option<Value>> {
        match reply {
            Value::ServerError(error) if concerns_key(&error) => {
                if self.refused_keys.note(key, true) {
                    log::error!(
                        "Redis key {key:?} cannot be read: {}; scrapes do not show it",
                        describe(&error)
                    );
                }
                Ok(None)
            }
            Value::ServerError(error) => Err(refused(&self.shared.options.address, &error)),
            value => {
                self.refused_keys.note(key, false);
                Ok(Some(value))
            }
        }
    }

    /// Sends reads of these families. If the server has lost one that this process has written to, it is
    /// restored, and read again.
    fn exchange_and_restore(
        &mut self,
        mut commands: Vec<Cmd>,
        keys: &[String],
        deadline: Instant,
    ) -> Result<Vec<Value>> {
        let reads = commands.len();
        commands.extend(keys.iter().map(|key| command("HGET", &[&layout::writers_key(key), epoch::FIELD])));
        let mut replies = self.exchange(&commands, deadline)?;
        let epochs = replies.split_off(reads.min(replies.len()));
        let is_lost = |(key, reply): (&String, Value)| match reply {
            // It cannot be known.
            Value::ServerError(_) => None,
            reply => self.epochs.is_lost(key, text(reply).as_deref()).then(|| key.clone()),
        };
        let lost: Vec<String> = keys.iter().zip(epochs).filter_map(is_lost).collect();
        if lost.is_empty() {
            return Ok(replies);
        }
        self.restore(Loss::Keys(lost), deadline)?;
        commands.truncate(reads);
        self.exchange(&commands, deadline)
    }

    fn restore(&self, loss: Loss, deadline: Instant) -> Result<()> {
        match restore(&self.requests, &self.shared, loss, deadline) {
            // Keys that are refused are reported where they are read, and spoil nothing else.
            Err(error) if error.kind() != ErrorKind::Store => Err(error),
            _ => Ok(()),
        }
    }

    /// Sends reads. Reading twice does no harm, so a connection that breaks, or has gone silent since its
    /// last use, is made anew while there is time; a server that cannot be reached is an error at once.
    fn exchange(&mut self, commands: &[Cmd], deadline: Instant) -> Result<Vec<Value>> {
        let options = &self.shared.options;
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            let (mut connection, answer_by) = match self.connection.take() {
                // It may have died without a word: a new one must get its turn before the deadline.
                Some(connection) => (connection, deadline.min(Instant::now() + options.socket_timeout)),
                None => {
                    let connect_by = deadline.min(Instant::now() + options.connect_timeout);
                    (Connection::open(options, connect_by, Some(&self.slot))?, deadline)
                }
            };
            match connection.exchange(commands, answer_by) {
                Ok(replies) => {
                    self.connection = Some(connection);
                    return Ok(replies);
                }
                Err(error) if attempts == 0 || Instant::now() >= deadline => return Err(error),
                Err(_) => {}
            }
        }
    }
}

/// The series of a family: what this process knows, with the values that the server has.
fn assemble(key: &str, definition: Definition, known: &[Arc<Metric>], value: Value) -> FamilySamples {
    let mut series = Assembly::new(&definition);
    for metric in known {
        series.row(&metric.key);
    }
    if !layout::is_hash(&definition) {
        if !known.is_empty() || value != Value::Nil {
            let row = series.row("{}");
            series.cells(row)[0] = number(key, value).unwrap_or_else(|error| {
                log::debug!("{error}");
                0.0
            });
        }
        return series.finish(definition);
    }
    for (field, value) in pairs(value) {
        let Some((spelling, cell)) = layout::parse_field(&definition, &field) else {
            log::debug!("Redis key {key:?}: field {field:?} is none of this family's");
            continue;
        };
        let Some(amount) = parse_number(&value) else {
            log::debug!("Redis key {key:?}, field {field:?}: {value:?} is no number");
            continue;
        };
        // Another program's spelling of the labels is another field of the same series.
        let row = series.find(spelling).or_else(|| {
            let canonical = labels::canonical(spelling).filter(|key| has_good_names(&definition, key))?;
            Some(series.row(&canonical))
        });
        match row {
            Some(row) => add(&mut series.cells(row)[cell], amount),
            None => log::debug!("Redis key {key:?}: field {field:?} has no usable labels"),
        }
    }
    series.finish(definition)
}

/// The series of a family while their cells come in, in any order.
struct Assembly {
    width: usize,
    /// By canonical labels.
    rows: HashMap<String, usize>,
    cells: Vec<f64>,
}

impl Assembly {
    fn new(definition: &Definition) -> Self {
        Self { width: definition.cell_count(), rows: HashMap::new(), cells: Vec::new() }
    }

    fn find(&self, spelling: &str) -> Option<usize> {
        self.rows.get(spelling).copied()
    }

    /// The series with the labels `key`, which begins with zeros.
    fn row(&mut self, key: &str) -> usize {
        if let Some(row) = self.find(key) {
            return row;
        }
        let row = self.rows.len();
        self.rows.insert(key.to_owned(), row);
        self.cells.resize(self.cells.len() + self.width, 0.0);
        row
    }

    fn cells(&mut self, row: usize) -> &mut [f64] {
        &mut self.cells[row * self.width..][..self.width]
    }

    fn finish(mut self, definition: Definition) -> FamilySamples {
        let mut samples = FamilySamples::new(definition);
        let mut rows: Vec<_> = std::mem::take(&mut self.rows).into_iter().collect();
        rows.sort_unstable();
        for (key, row) in rows {
            samples.push(&key, None).copy_from_slice(self.cells(row));
        }
        samples
    }
}

/// One bad label name would have Prometheus refuse the whole scrape.
pub(crate) fn has_good_names(definition: &Definition, key: &str) -> bool {
    let labels = labels::decode(key).unwrap_or_default();
    check_label_names(labels.keys().map(String::as_str), definition.metric_type(), NameRule::Utf8).is_ok()
}

/// Adds to a cell; the first amount as it is, since -0 is not 0.
fn add(cell: &mut f64, amount: f64) {
    *cell = if *cell == 0.0 { amount } else { *cell + amount };
}

/// The pairs of a hash. What is not text is none of ours.
pub(crate) fn pairs(value: Value) -> Vec<(String, String)> {
    let mut values = match value {
        Value::Array(values) => values,
        Value::Map(pairs) => pairs.into_iter().flat_map(|(name, value)| [name, value]).collect(),
        _ => Vec::new(),
    }
    .into_iter();
    let mut pairs = Vec::with_capacity(values.len() / 2);
    while let (Some(name), Some(value)) = (values.next(), values.next()) {
        pairs.extend(text(name).zip(text(value)));
    }
    pairs
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn number(key: &str, value: Value) -> Result<f64> {
    if value == Value::Nil {
        return Ok(0.0);
    }
    let shown = text(value);
    let number = shown.as_deref().and_then(parse_number);
    number.ok_or_else(|| {
        let shown = shown.unwrap_or_default();
        Error::new(ErrorKind::Store, format!("Redis key {key:?} holds {shown:?}: expected a number"))
    })
}
