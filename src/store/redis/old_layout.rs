//! The layout of pytheus-backend-rs 0.0.9 and of pytheus' own Redis backend, and the migration from it.
//!
//! In the old layout a histogram or summary is several keys: `name:sum`, `name:count`, and `name:<bound>`
//! with cumulative buckets. Each is a string or, with labels, a hash. In the present layout it is one hash.
//! [`migrate`] moves the amounts, each series in one call of a script. So it may be repeated, and may run
//! while programs of the old version still count. Counters and gauges stay in their keys; only labels with
//! another spelling get the spelling of this store. The old keys hold zeros until they expire, which shows
//! which buckets an old program has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use redis::{Cmd, Value};

use super::connection::{LARGE, command, refused};
use super::layout;
use super::options::RedisOptions;
use super::reply::{describe, is_wrong_type, pairs, text};
use super::route::Route;
use super::servers::Servers;
use super::socket::Terms;
use crate::model::definition::{Definition, FIRST_COUNT_CELL, VALUE_CELL};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::labels;
use crate::model::metric_type::MetricType;
use crate::model::number::{format_number, parse_number};
use crate::model::report::{Report, counted};
use crate::process::clock::since_1970;

const SCRIPT: &str = include_str!("migrate.lua");

/// The most movements in one call of the script.
const MAX_MOVES: usize = 600;

/// How many keys the server looks at for one SCAN.
const SCAN_COUNT: &str = "1000";

/// Returns the old key that holds the observation count of a histogram or summary.
pub(crate) fn count_key(family_key: &str) -> String {
    format!("{family_key}:count")
}

/// Returns whether `reply`, the value of a [`count_key`], has observations that were not moved.
pub(crate) fn has_observations(reply: Value) -> bool {
    let has_some = |value: &str| parse_number(value).is_some_and(|count| count != 0.0);
    match reply {
        Value::Array(_) | Value::Map(_) => pairs(reply).iter().any(|(_, value)| has_some(value)),
        reply => text(reply).is_some_and(|value| has_some(&value)),
    }
}

/// Returns whether the old layout of a family is another one than the present.
pub(crate) fn differs(definition: &Definition) -> bool {
    matches!(definition.metric_type(), MetricType::Histogram | MetricType::Summary)
}

/// Moves values of the old layout into the families that processes have declared. Returns a report.
pub(crate) fn migrate(options: &RedisOptions) -> Result<Report> {
    let deadline = Instant::now() + options.collect_timeout;
    let connect_by = deadline.min(Instant::now() + options.connect_timeout);
    if options.is_cluster() {
        let message = "a cluster has no values of pytheus-backend-rs 0.0.9, which knew no clusters";
        return Err(Error::new(ErrorKind::Configuration, message));
    }
    let route = Servers::new(options, None).open(options, connect_by, None, &mut || {})?;
    let mut migration = Migration { options, route, report: Report::default() };
    let definitions = migration.definitions()?;
    let mut moved = 0;
    for definition in definitions.values() {
        moved += migration.family(definition, &definitions)?;
    }
    migration.undeclared(&definitions)?;
    if moved == 0 {
        migration.report.fact("nothing is left to be moved");
    }
    Ok(migration.report)
}

/// One amount that is moved.
#[derive(Debug, PartialEq)]
enum Move {
    Take { key: usize, field: String, amount: f64 },
    Give { field: String, amount: f64 },
}

/// The old keys of a family, and their amounts by label set, in the spelling of the keys.
#[derive(Debug, Default)]
struct Old {
    keys: Vec<String>,
    /// For each spelling of labels, the amount in each key that has it, by the position of the key.
    series: BTreeMap<String, BTreeMap<usize, f64>>,
    is_hash: bool,
}

struct Migration<'options> {
    options: &'options RedisOptions,
    route: Route,
    report: Report,
}

impl Migration<'_> {
    fn definitions(&mut self) -> Result<BTreeMap<String, Definition>> {
        let key = layout::definitions_key(self.options.key_prefix.as_deref());
        let stored = self.ask(&[command("HGETALL", &[&key])])?.pop().unwrap_or_default();
        if let Value::ServerError(error) = stored {
            return Err(refused(&self.options.address, &error));
        }
        let definitions = pairs(stored)
            .into_iter()
            .filter_map(|(name, json)| Some((name.clone(), Definition::from_json(&name, &json).ok()?)));
        let definitions: BTreeMap<_, _> = definitions.collect();
        self.report
            .fact(format!("{} declared by processes of this version", counted(definitions.len(), "family")));
        Ok(definitions)
    }

    /// Moves one family. Returns how many label sets were moved.
    fn family(&mut self, definition: &Definition, declared: &BTreeMap<String, Definition>) -> Result<usize> {
        let key = layout::family_key(self.options.key_prefix.as_deref(), definition.name());
        let parts = if differs(definition) { parts(definition) } else { vec![Part::Value] };
        let old = self.read(&key, definition, &parts, declared)?;
        let moves: Vec<Vec<Move>> = old
            .series
            .iter()
            .filter_map(|(spelling, found)| moves(definition, &parts, &old, spelling, found))
            .collect();
        let count = moves.len();
        if count == 0 {
            return Ok(0);
        }
        // The movements of one label set stay together.
        let mut chunk: Vec<Move> = Vec::new();
        for series in moves {
            if chunk.len() + series.len() > MAX_MOVES && !chunk.is_empty() {
                self.send(&key, &old.keys, &std::mem::take(&mut chunk))?;
            }
            chunk.extend(series);
        }
        self.send(&key, &old.keys, &chunk)?;
        self.report.fact(format!("{:?}: {} moved", definition.name(), counted(count, "label set")));
        Ok(count)
    }

    /// Reads the old keys of a family. Leaves out keys that belong to another declared family.
    fn read(
        &mut self,
        key: &str,
        definition: &Definition,
        parts: &[Part],
        declared: &BTreeMap<String, Definition>,
    ) -> Result<Old> {
        let mut old = Old::default();
        for (index, part) in parts.iter().enumerate() {
            let mut names = part.names(definition);
            names.retain(|name| {
                name.is_empty() || !declared.contains_key(&format!("{}{name}", definition.name()))
            });
            let candidates: Vec<String> = names.iter().map(|name| format!("{key}{name}")).collect();
            let commands: Vec<Cmd> = candidates.iter().map(|name| command("HGETALL", &[name])).collect();
            let replies = self.ask(&commands)?;
            let mut chosen = candidates.first().cloned().unwrap_or_default();
            for (name, reply) in candidates.into_iter().zip(replies) {
                let mut values = pairs(reply.clone());
                if is_wrong_type(&reply) && *part != Part::Value {
                    let value = self.ask(&[command("GET", &[&name])])?.pop().unwrap_or_default();
                    values.extend(text(value).map(|value| (String::new(), value)));
                } else if !values.is_empty() {
                    old.is_hash = true;
                }
                for (field, value) in values {
                    if let Some(amount) = parse_number(&value).filter(|amount| amount.is_finite()) {
                        chosen.clone_from(&name);
                        old.series.entry(field).or_default().insert(index, amount);
                    }
                }
            }
            old.keys.push(chosen);
        }
        Ok(old)
    }

    fn send(&mut self, key: &str, old_keys: &[String], moves: &[Move]) -> Result<()> {
        let mut eval = command("EVAL", &[SCRIPT]);
        eval.arg(2 + old_keys.len()).arg(key).arg(layout::writers_key(key)).arg(old_keys);
        eval.arg(self.options.expire_key_time).arg(since_1970().as_secs());
        for movement in moves {
            match movement {
                Move::Take { key, field, amount } => {
                    eval.arg(key + 3).arg(field).arg(format!("{amount:e}"));
                }
                Move::Give { field, amount } => {
                    eval.arg("give").arg(field).arg(format!("{amount:e}"));
                }
            }
        }
        match self.ask(&[eval])?.pop().unwrap_or_default() {
            Value::ServerError(error) => {
                self.report.fault(format!("Redis key {key:?} was not moved to: {}", describe(&error)));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Names the families of the old layout that no process of this version has declared: their types and
    /// buckets are unknown.
    fn undeclared(&mut self, declared: &BTreeMap<String, Definition>) -> Result<()> {
        let prefix =
            self.options.key_prefix.as_deref().map(|prefix| format!("{prefix}-")).unwrap_or_default();
        let mut found = BTreeSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let scan = command("SCAN", &[&cursor, "MATCH", &format!("{prefix}*:count"), "COUNT", SCAN_COUNT]);
            let Some(Value::Array(mut reply)) = self.ask(&[scan])?.pop() else { break };
            let (keys, next) = (reply.pop().unwrap_or_default(), reply.pop().unwrap_or_default());
            if let Value::Array(keys) = keys {
                let keys = keys.into_iter().filter_map(text);
                let names = keys
                    .filter_map(|key| Some(key.strip_prefix(&prefix)?.strip_suffix(":count")?.to_owned()));
                found.extend(names.filter(|name| {
                    !declared.contains_key(name) && !declared.contains_key(&format!("{name}:count"))
                }));
            }
            cursor = text(next).unwrap_or_default();
            if cursor == "0" || cursor.is_empty() {
                break;
            }
        }
        for name in found {
            self.report.fault(format!(
                "Redis key {:?} may be a histogram or summary of the old layout, but no process of this version has \
                 declared {name:?}: start the new version of the program, then migrate again",
                format!("{prefix}{name}:count")
            ));
        }
        Ok(())
    }

    /// Sends commands, each within the time of one scrape.
    fn ask(&mut self, commands: &[Cmd]) -> Result<Vec<Value>> {
        let deadline = Instant::now() + self.options.collect_timeout;
        self.route.exchange(self.options, commands, Terms { deadline, memory: LARGE, idle: &mut || {} })
    }
}

/// The part of a family that one old key holds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    /// The values of a counter or gauge.
    Value,
    Sum,
    Count,
    /// The observations up to a bound.
    Bucket(f64),
}

impl Part {
    /// Returns the suffixes that the old key may add to the family's name, in all spellings.
    fn names(self, definition: &Definition) -> Vec<String> {
        match self {
            // A string key has no labels to be respelled.
            Self::Value if definition.label_names().is_empty() => Vec::new(),
            Self::Value => vec![String::new()],
            Self::Sum => vec![":sum".to_owned()],
            Self::Count => vec![":count".to_owned()],
            Self::Bucket(bound) => {
                let shortest = format_number(bound);
                let spellings = BTreeSet::from([shortest.clone(), format!("{bound:?}"), python(&shortest)]);
                spellings.into_iter().map(|spelling| format!(":{spelling}")).collect()
            }
        }
    }
}

/// Returns how Python spells a number in exponent form: `1e+20`, `1e-05`.
fn python(shortest: &str) -> String {
    match shortest.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, power) = match exponent.strip_prefix('-') {
                Some(power) => ('-', power),
                None => ('+', exponent.trim_start_matches('+')),
            };
            format!("{digits}e{sign}{power:0>2}")
        }
        None => shortest.to_owned(),
    }
}

fn parts(definition: &Definition) -> Vec<Part> {
    let mut parts = vec![Part::Sum, Part::Count];
    if definition.metric_type() == MetricType::Histogram {
        parts.extend(definition.buckets().iter().copied().map(Part::Bucket));
        parts.push(Part::Bucket(f64::INFINITY));
    }
    parts
}

/// Returns the movements for one label set. `None` if there is nothing to move, or if its labels are not
/// usable.
fn moves(
    definition: &Definition,
    parts: &[Part],
    old: &Old,
    spelling: &str,
    found: &BTreeMap<usize, f64>,
) -> Option<Vec<Move>> {
    let canonical = if old.is_hash { labels::canonical(spelling)?.into_owned() } else { "{}".to_owned() };
    let take = |(&key, &amount): (&usize, &f64)| Move::Take { key, field: spelling.to_owned(), amount };
    let give =
        |cell: usize, amount: f64| Move::Give { field: layout::field(definition, &canonical, cell), amount };
    if parts == [Part::Value] {
        // The same field would be taken from and given to.
        let amount = *found.get(&0)?;
        return (canonical != spelling).then(|| {
            vec![Move::Take { key: 0, field: spelling.to_owned(), amount }, give(VALUE_CELL, amount)]
        });
    }
    if found.values().all(|&amount| amount == 0.0) {
        return None;
    }
    let mut moves: Vec<Move> = found.iter().map(take).collect();
    let amount = |part: Part| {
        parts.iter().position(|&other| other == part).and_then(|index| found.get(&index)).copied()
    };
    moves.push(give(VALUE_CELL, amount(Part::Sum).unwrap_or_default()));
    if definition.metric_type() == MetricType::Summary {
        moves.push(give(FIRST_COUNT_CELL, amount(Part::Count).unwrap_or_default()));
        return Some(moves);
    }
    // The old buckets are cumulative. Skip a bucket that the old program does not have.
    let mut before = 0.0;
    let bounds = definition.buckets().iter().copied().chain([f64::INFINITY]);
    for (index, bound) in bounds.enumerate() {
        let total =
            amount(Part::Bucket(bound)).or_else(|| amount(Part::Count).filter(|_| bound == f64::INFINITY));
        if let Some(total) = total {
            if total != before {
                moves.push(give(FIRST_COUNT_CELL + index, total - before));
            }
            before = total;
        }
    }
    Some(moves)
}
