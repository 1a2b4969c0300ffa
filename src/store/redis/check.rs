//! Examines every key that the store has on the server, and reports its contents and what scrapes leave out.
//!
//! The store's `check` calls it. It uses a connection of its own and only reads. Unlike a scrape, it does not
//! even renew the expiry of a key.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use redis::Value;

use super::client_name;
use super::connection::{LARGE, command, refused};
use super::epoch;
use super::layout;
use super::native_field::{self, FieldValue};
use super::old_layout;
use super::options::RedisOptions;
use super::reply::{concerns_key, describe, pairs};
use super::route::Route;
use super::servers::Servers;
use super::socket::Terms;
use super::writer;
use crate::model::definition::Definition;
use crate::model::error::Result;
use crate::model::labels;
use crate::model::number::parse_number;
use crate::model::report::{Report, Writer, counted};
use crate::process::clock::since_1970;

/// How many families are read in one exchange. That needs few round trips, and keeps the replies small.
const FAMILIES_AT_ONCE: usize = 64;

/// Connects, reads everything, and returns the report.
pub(crate) fn check(options: &RedisOptions) -> Result<Report> {
    let deadline = Instant::now() + options.collect_timeout;
    let connect_by = deadline.min(Instant::now() + options.connect_timeout);
    let route = Servers::new(options, None).open(options, connect_by, None, &mut || {})?;
    let mut check = Check { options, route, deadline, connected: None, report: Report::default() };
    check.server()?;
    let definitions = check.definitions()?;
    check.families(&definitions)?;
    Ok(check.report)
}

struct Check<'options> {
    options: &'options RedisOptions,
    route: Route,
    deadline: Instant,
    /// The processes that are connected, if the server tells.
    connected: Option<Connected>,
    report: Report,
}

impl Check<'_> {
    fn server(&mut self) -> Result<()> {
        let mut replies = self.ask(&[("INFO", "server"), ("CLIENT", "LIST")])?.into_iter();
        let (reply, clients) = (replies.next().unwrap_or_default(), replies.next().unwrap_or_default());
        // A node of a cluster knows its own clients only.
        self.connected = (!self.options.is_cluster()).then(|| Connected::read(&clients)).flatten();
        let version = match &reply {
            Value::ServerError(error) => format!("of unknown version ({})", describe(error)),
            Value::BulkString(bytes) => version(&String::from_utf8_lossy(bytes)),
            Value::VerbatimString { text, .. } => version(text),
            _ => "of unknown version".to_owned(),
        };
        self.report.fact(format!("{} answers: a server {version}", self.options.address));
        Ok(())
    }

    fn definitions(&mut self) -> Result<Vec<Definition>> {
        let key = layout::definitions_key(self.options.key_prefix.as_deref());
        let mut replies = self.ask(&[("HGETALL", &key), ("TTL", &key)])?.into_iter();
        let (stored, ttl) = (replies.next().unwrap_or_default(), replies.next().unwrap_or_default());
        let Some(stored) = self.accept(&key, stored)? else { return Ok(Vec::new()) };
        let mut definitions = Vec::new();
        for (name, json) in self.pairs(&key, stored) {
            match Definition::from_json(&name, &json) {
                Ok(definition) => definitions.push(definition),
                Err(error) => self.report.fault(format!("Redis key {key:?}: {error}")),
            }
        }
        definitions.sort_by(|one, other| one.name().cmp(other.name()));
        let count = counted(definitions.len(), "family");
        match Expiry::of(&ttl) {
            Expiry::NoKey => self.report.fact("no families are defined"),
            expiry => self.report.fact(format!("{count} defined; the definitions {}", expiry.sentence())),
        }
        Ok(definitions)
    }

    fn families(&mut self, definitions: &[Definition]) -> Result<()> {
        let mut found = Found::default();
        let names: BTreeSet<&str> = definitions.iter().map(Definition::name).collect();
        for definitions in definitions.chunks(FAMILIES_AT_ONCE) {
            let commands: Vec<_> =
                definitions.iter().flat_map(|definition| self.questions(definition)).collect();
            let commands: Vec<_> = commands.iter().map(|(name, key)| (*name, key.as_str())).collect();
            let mut replies = self.ask(&commands)?.into_iter();
            let mut next = || replies.next().unwrap_or_default();
            for (definition, keys) in definitions.iter().zip(commands.chunks(4)) {
                let (key, writers_key, old_key) = (keys[0].1, keys[2].1, keys[3].1);
                let (values, ttl, writers, old) = (next(), next(), next(), next());
                let is_declared = names.contains(old_layout::count_key(definition.name()).as_str());
                if old_layout::differs(definition) && !is_declared && old_layout::has_observations(old) {
                    self.report.fault(format!(
                        "Redis key {old_key:?} is of the layout of pytheus-backend-rs 0.0.9: run \"pytheus-backend-rs \
                         migrate\" to move it"
                    ));
                }
                if let Some(values) = self.accept(key, values)? {
                    found.metrics += self.values(key, definition, values);
                }
                found.expiry(&ttl);
                if let Some(writers) = self.accept(writers_key, writers)? {
                    let entries = self.pairs(writers_key, writers);
                    // The script keeps other fields beside the entries of writers.
                    let is_writer = |name: &str| {
                        ![epoch::FIELD, layout::TTL_FIELD].contains(&name) && !name.starts_with("restored ")
                    };
                    let writers = entries.iter().filter(|(name, _)| is_writer(name));
                    writers.for_each(|entry| found.writer(entry));
                }
            }
        }
        found.tell(&mut self.report, definitions.len(), self.connected.as_ref());
        Ok(())
    }

    /// Returns the questions about a family: its values, their time to live, its writers, and its observation
    /// count in the old layout.
    fn questions(&self, definition: &Definition) -> [(&'static str, String); 4] {
        let key = layout::family_key(self.options.key_prefix.as_deref(), definition.name());
        let writers_key = layout::writers_key(&key);
        let get = if layout::is_hash(definition) { "HGETALL" } else { "GET" };
        let old_key = old_layout::count_key(&key);
        let get_old = if definition.label_names().is_empty() { "GET" } else { "HGETALL" };
        [(get, key.clone()), ("TTL", key), ("HGETALL", writers_key), (get_old, old_key)]
    }

    /// Checks the values of a family's key. Returns the number of metrics.
    fn values(&mut self, key: &str, definition: &Definition, values: Value) -> usize {
        if !layout::is_hash(definition) {
            return match values {
                Value::Nil => 0,
                Value::BulkString(bytes) => {
                    let value = String::from_utf8_lossy(&bytes);
                    if parse_number(&value).is_none() {
                        self.report.fault(format!("Redis key {key:?}: {value:?} is not a number"));
                    }
                    1
                }
                _ => 0,
            };
        }
        let mut metrics = BTreeSet::new();
        for (field, value) in self.pairs(key, values) {
            let Some((spelling, cell)) = layout::parse_field(definition, &field) else {
                self.report
                    .fault(format!("Redis key {key:?}: field {field:?} does not belong to this family"));
                continue;
            };
            let labels = labels::canonical(spelling).filter(|key| definition.allows_labels(key));
            match labels {
                Some(key) => drop(metrics.insert(key.into_owned())),
                None => {
                    self.report.fault(format!("Redis key {key:?}: field {field:?} has no usable labels"));
                    continue;
                }
            }
            if FieldValue::parse(definition, cell, &value).is_none() {
                let is_native = native_field::cell(definition) == Some(cell);
                let expected = if is_native { "native histogram" } else { "number" };
                self.report
                    .fault(format!("Redis key {key:?}, field {field:?}: {value:?} is not a {expected}"));
            }
        }
        metrics.len()
    }

    fn pairs(&mut self, key: &str, value: Value) -> Vec<(String, String)> {
        let expected = match &value {
            Value::Array(values) => values.len() / 2,
            Value::Map(pairs) => pairs.len(),
            _ => 0,
        };
        let pairs = pairs(value);
        if pairs.len() < expected {
            let missing = counted(expected - pairs.len(), "field");
            self.report.fault(format!("Redis key {key:?}: {missing} that are not UTF-8"));
        }
        pairs
    }

    /// Returns the reply if it is not an error. Returns `None` and reports a fault if the server refuses this
    /// key only.
    fn accept(&mut self, key: &str, reply: Value) -> Result<Option<Value>> {
        match reply {
            Value::ServerError(error) if concerns_key(&error) => {
                self.report.fault(format!("Redis key {key:?} cannot be read: {}", describe(&error)));
                Ok(None)
            }
            Value::ServerError(error) => Err(refused(&self.options.address, &error)),
            value => Ok(Some(value)),
        }
    }

    /// Sends commands with one argument each, and reads their replies.
    fn ask(&mut self, commands: &[(&str, &str)]) -> Result<Vec<Value>> {
        let commands: Vec<_> = commands.iter().map(|(name, key)| command(name, &[key])).collect();
        let terms = Terms { deadline: self.deadline, memory: LARGE, idle: &mut || {} };
        self.route.exchange(self.options, &commands, terms)
    }
}

/// The time to live of a key.
enum Expiry {
    In(u64),
    Never,
    NoKey,
    /// The user has no permission to ask for it.
    Unknown,
}

impl Expiry {
    fn of(ttl: &Value) -> Self {
        match ttl {
            Value::Int(-2) => Self::NoKey,
            Value::Int(seconds) => u64::try_from(*seconds).map_or(Self::Never, Self::In),
            _ => Self::Unknown,
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::In(seconds) => format!("expire in {seconds} s"),
            Self::Never => "never expire".to_owned(),
            Self::NoKey | Self::Unknown => "expire at a time that this user may not ask for".to_owned(),
        }
    }
}

fn version(info: &str) -> String {
    let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    match (value("valkey_version"), value("redis_version")) {
        (Some(version), _) => format!("of version {version} (Valkey)"),
        (None, Some(version)) => format!("of version {version}"),
        (None, None) => "of unknown version".to_owned(),
    }
}

/// Sums over all families.
#[derive(Default)]
struct Found {
    metrics: usize,
    without_values: usize,
    without_expiry: usize,
    first_expiry: Option<u64>,
    writers: BTreeMap<String, Entries>,
}

/// The entries of one writer.
#[derive(Default)]
struct Entries {
    /// When it made its last batch, in seconds since 1970.
    last_batch: u64,
    count: usize,
}

/// The processes that are connected to a server, by the names of their connections.
struct Connected {
    pids: BTreeSet<u32>,
    /// Whether every named connection names its process, so that a process without one is not connected.
    is_complete: bool,
}

impl Connected {
    /// Reads the answer to `CLIENT LIST`. Returns `None` if the user may not ask.
    fn read(reply: &Value) -> Option<Self> {
        let text = match reply {
            Value::BulkString(bytes) => String::from_utf8_lossy(bytes),
            Value::VerbatimString { text, .. } => Cow::Borrowed(text.as_str()),
            _ => return None,
        };
        let names =
            text.lines().filter_map(|line| line.split(' ').find_map(|word| word.strip_prefix("name=")));
        let mut connected = Self { pids: BTreeSet::new(), is_complete: true };
        for name in names.filter(|name| !name.is_empty() && !name.starts_with("sentinel-")) {
            match client_name::pid(name) {
                Some(pid) => drop(connected.pids.insert(pid)),
                None => connected.is_complete = false,
            }
        }
        Some(connected)
    }

    /// Returns whether a process is connected, if that is certain.
    fn has(&self, pid: u32) -> Option<bool> {
        match self.pids.contains(&pid) {
            false if !self.is_complete => None,
            is_there => Some(is_there),
        }
    }
}

impl Found {
    fn expiry(&mut self, ttl: &Value) {
        match Expiry::of(ttl) {
            Expiry::In(seconds) => {
                self.first_expiry = Some(self.first_expiry.map_or(seconds, |known| known.min(seconds)));
            }
            Expiry::Never => self.without_expiry += 1,
            Expiry::NoKey => self.without_values += 1,
            Expiry::Unknown => {}
        }
    }

    fn writer(&mut self, (writer, batch): &(String, String)) {
        let time = batch.split(' ').nth(1).and_then(|time| time.parse::<u64>().ok());
        let entries = self.writers.entry(writer.clone()).or_default();
        entries.last_batch = time.unwrap_or_default().max(entries.last_batch);
        entries.count += 1;
    }

    fn tell(&self, report: &mut Report, families: usize, connected: Option<&Connected>) {
        report.fact(counted(self.metrics, "metric"));
        if self.without_values > 0 {
            report.fact(format!("{} of {families} families have no values", self.without_values));
        }
        if let Some(seconds) = self.first_expiry {
            report.fact(format!(
                "the first values expire in {seconds} s, unless they are written or scraped before"
            ));
        }
        if self.without_expiry > 0 {
            report.fact(format!("{} of {families} families never expire", self.without_expiry));
        }
        let now = since_1970().as_secs();
        let last = self
            .writers
            .values()
            .map(|entries| entries.last_batch)
            .max()
            .map(|latest| format!("; the last batch was made {} s ago", now.saturating_sub(latest)));
        report.fact(counted(self.writers.len(), "writer") + &last.unwrap_or_default());
        for (id, entries) in &self.writers {
            let Some((pid, since)) = writer::parse(id) else { continue };
            let is_alive = connected.and_then(|connected| connected.has(pid));
            let (since, last_batch) = (Some(since.as_secs()), Some(entries.last_batch));
            report.writer(Writer { pid, is_alive, since, last_batch, ..Writer::default() });
            if is_alive == Some(false) {
                let count = counted(entries.count, "entry");
                report.leftover(format!(
                    "{count} of process {pid}, which is not connected: later writers remove what is older than a day"
                ));
            }
        }
    }
}
