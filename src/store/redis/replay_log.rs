//! The replay log of one family key: batches that the server has confirmed, and could still lose.
//!
//! Replication is asynchronous, so a replica that becomes the master may lack batches that the old master has
//! confirmed. An append-only file is written once a second, so a server that crashes may lack them too. The
//! queue puts each confirmed batch here. The outbox drops it when the replicas have it and the file is written
//! ([`Safety`]). If a server lacks batches, the queue takes them from here as one new batch.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::batch::{MAX_OPERATIONS, Operation};
use super::exemplar_field;
use super::gauges::restoring_add;
use crate::model::exemplar::{Exemplar, HISTOGRAM_SLOTS};
use crate::model::native::{Native, NativeHistogram};
use crate::process::clock::since_1970;

/// The most bytes of field names in one replayed batch.
const MAX_REPLAY_BYTES: usize = 1 << 20;

/// The least number of names of fields for which unused ones are swept out.
const FIRST_SWEEP: usize = 256;

/// When a confirmed batch is safe, so that it can be dropped from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Safety {
    /// Whether replicas must have the batch.
    pub(crate) needs_replicas: bool,
    /// How long ago the server must have confirmed the batch.
    pub(crate) age: Option<Duration>,
}

impl Safety {
    /// Returns whether every batch is as safe as it can be when the server confirms it.
    pub(crate) fn is_immediate(&self) -> bool {
        !self.needs_replicas && self.age.is_none()
    }
}

/// The confirmed batches of one key that may be lost, in order.
#[derive(Debug, Default)]
pub(crate) struct ReplayLog {
    entries: VecDeque<Entry>,
    names: Names,
    /// The number of the last batch of this epoch that is not in the log. 0: the log holds all batches.
    since: u64,
    /// About how many bytes of memory the entries take.
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    operations: Box<[Logged]>,
    /// For each operation that sets a gauge or adds to one: the value that it had before, as far as this
    /// process knows.
    before: Box<[f64]>,
    confirmed_at: Instant,
    /// The second in which the server has applied it, by the server's clock if that is known.
    second: u64,
    is_replicated: bool,
    bytes: usize,
}

/// An operation of a batch, in little memory: a busy process may confirm 100,000 in a second.
#[derive(Debug)]
struct Logged {
    /// The field. Empty for the deletion of the whole key.
    name: Arc<str>,
    change: Change,
}

#[derive(Debug)]
enum Change {
    Add(f64),
    AddToGauge(f64),
    Set(f64),
    AddNative(Box<(Native, NativeHistogram)>),
    Exemplar(Box<Exemplar>),
    Delete,
    Clear,
    /// A value, and the time of its last change. It is rare, and must not make the others larger.
    Restore(Box<(f64, u64)>),
}

impl Change {
    /// Returns how many bytes of memory the change takes beside its own.
    fn boxed_bytes(&self) -> usize {
        match self {
            Self::AddNative(added) => {
                size_of_val(&**added) + added.1.buckets().count() * size_of::<(i32, u64)>()
            }
            Self::Exemplar(exemplar) => size_of_val(&**exemplar),
            Self::Restore(restored) => size_of_val(&**restored),
            _ => 0,
        }
    }
}

/// The names of the fields in a log. Most batches have the fields of the one before.
#[derive(Debug, Default)]
struct Names {
    names: HashSet<Arc<str>>,
    bytes: usize,
    /// How many operations were logged since unused names were last swept out.
    logged: usize,
}

/// Some batches of the log, as one.
#[derive(Debug)]
pub(crate) struct Repetition {
    /// The number of the last batch among them.
    pub(crate) number: u64,
    pub(crate) operations: Vec<Operation>,
    /// How many batches there are.
    pub(crate) batches: usize,
}

impl ReplayLog {
    /// Adds a batch that was confirmed now. `before` is what [`super::gauges`] returned for its operations.
    pub(crate) fn push(&mut self, number: u64, operations: &[Operation], before: Vec<f64>) {
        let operations: Box<[Logged]> =
            operations.iter().filter_map(|operation| self.names.log(operation)).collect();
        self.names.sweep(operations.len());
        let before = before.into_boxed_slice();
        let boxed = operations.iter().map(|logged| logged.change.boxed_bytes()).sum::<usize>();
        let bytes = size_of::<Entry>() + size_of_val(&*operations) + size_of_val(&*before) + boxed;
        self.bytes += bytes;
        let (confirmed_at, is_replicated) = (Instant::now(), false);
        let second = since_1970().as_secs();
        let entry = Entry { number, operations, before, confirmed_at, second, is_replicated, bytes };
        self.entries.push_back(entry);
    }

    /// Notes in which second the server has applied the last batch, by the server's clock.
    pub(crate) fn note_second(&mut self, second: u64) {
        if let Some(last) = self.entries.back_mut() {
            last.second = second;
        }
    }

    /// Notes that a batch was confirmed and is not kept.
    pub(crate) fn skip(&mut self, number: u64) {
        self.clear();
        self.since = number;
    }

    /// Forgets everything, because a new epoch begins.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns about how many bytes of memory the log takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.names.bytes
    }

    /// Returns whether the log holds batches, and all of this epoch.
    pub(crate) fn is_whole_epoch(&self) -> bool {
        self.since == 0 && !self.entries.is_empty()
    }

    /// Returns the number of the first batch in the log.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.number)
    }

    /// Returns the number of the last batch that is, or was, in the log.
    pub(crate) fn last(&self) -> u64 {
        self.entries.back().map_or(self.since, |entry| entry.number)
    }

    /// Returns how many operations the batches after `number` have.
    pub(crate) fn operations_after(&self, number: u64) -> usize {
        let later = self.entries.iter().rev().take_while(|entry| entry.number > number);
        later.map(|entry| entry.operations.len()).sum()
    }

    /// Notes that the replicas have all batches of the log.
    pub(crate) fn note_replicated(&mut self) {
        let new = self.entries.iter_mut().rev().take_while(|entry| !entry.is_replicated);
        new.for_each(|entry| entry.is_replicated = true);
    }

    /// Returns whether some batches are not known to be on the replicas.
    pub(crate) fn awaits_replicas(&self) -> bool {
        self.entries.back().is_some_and(|entry| !entry.is_replicated)
    }

    /// Drops batches that are safe.
    pub(crate) fn trim(&mut self, safety: Safety, now: Instant) {
        let is_safe = |entry: &Entry| {
            let is_old =
                safety.age.is_none_or(|age| now.saturating_duration_since(entry.confirmed_at) >= age);
            (entry.is_replicated || !safety.needs_replicas) && is_old
        };
        while self.entries.front().is_some_and(is_safe) {
            self.drop_first();
        }
    }

    /// Drops the first batch, which may be lost from now on.
    pub(crate) fn drop_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.since = entry.number;
            self.bytes -= entry.bytes;
        }
        if self.entries.is_empty() {
            self.names = Names::default();
        }
    }

    /// Notes that the last batch on the server is `number`. Later ones are not on its replicas either, whatever
    /// those of another server have said. Returns whether batches after it are neither there nor here. They are
    /// lost, and are reported once.
    pub(crate) fn note_server(&mut self, number: u64) -> bool {
        let later = self.entries.iter_mut().rev().take_while(|entry| entry.number > number);
        later.for_each(|entry| entry.is_replicated = false);
        let is_gap = number < self.since;
        self.since = self.since.min(number);
        is_gap
    }

    /// Merges the batches after `number` into one, as many of them as fit. Returns `None` if there are none.
    ///
    /// If the series of the family end when they are unused for `ttl` seconds, the operations say when they were made.
    /// Those of a series that this process has not used in between for longer stay apart.
    ///
    /// Many processes may do this at once after a failover. So a field that has changed in each of a hundred
    /// batches is one operation, and not a hundred.
    pub(crate) fn repeat_after(&self, number: u64, ttl: Option<u32>) -> Option<Repetition> {
        let mut merged = Merged { ttl, ..Merged::default() };
        let mut repetition = None;
        for entry in self.entries.iter().filter(|entry| entry.number > number) {
            if repetition.is_some() && !merged.has_room_for(&entry.operations) {
                break;
            }
            let mut before = entry.before.iter().copied();
            let at = entry.second;
            entry.operations.iter().for_each(|operation| merged.add(operation, at, &mut before));
            let batches = repetition.map_or(1, |(_, batches)| batches + 1);
            repetition = Some((entry.number, batches));
        }
        let (number, batches) = repetition?;
        Some(Repetition { number, operations: merged.into_operations(), batches })
    }
}

impl Names {
    /// Returns the operation with its name shared. `None` for an operation that no batch of new changes has.
    fn log(&mut self, operation: &Operation) -> Option<Logged> {
        let change = match *operation {
            Operation::Add { amount, is_gauge: false, .. } => Change::Add(amount),
            Operation::Add { amount, is_gauge: true, .. } => Change::AddToGauge(amount),
            Operation::Set { value, .. } => Change::Set(value),
            Operation::AddNative { ref added, .. } => Change::AddNative(added.clone()),
            Operation::Exemplar { ref exemplar, .. } => Change::Exemplar(exemplar.clone()),
            Operation::Delete { .. } => Change::Delete,
            Operation::Clear => Change::Clear,
            Operation::Restore { value, at, .. } => Change::Restore(Box::new((value, at))),
            Operation::Made { .. } | Operation::Replay { .. } => return None,
        };
        Some(Logged { name: self.shared(operation.field().unwrap_or_default()), change })
    }

    fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(shared) = self.names.get(name) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = Arc::from(name);
        self.bytes += Self::cost(name);
        self.names.insert(Arc::clone(&shared));
        shared
    }

    /// Drops names that no entry has, from time to time, because label sets come and go. `logged` operations
    /// were logged since the last call.
    fn sweep(&mut self, logged: usize) {
        self.logged += logged;
        if self.logged >= 4 * self.names.len().max(FIRST_SWEEP) {
            self.names.retain(|name| Arc::strong_count(name) > 1);
            self.bytes = self.names.iter().map(|name| Self::cost(name)).sum();
            self.logged = 0;
        }
    }

    /// Returns about how many bytes a name takes: its text, two counts, and its place in the table.
    fn cost(name: &str) -> usize {
        name.len() + 2 * size_of::<usize>() + 2 * size_of::<Arc<str>>()
    }
}

/// Operations of several batches, merged by field.
#[derive(Debug, Default)]
struct Merged<'log> {
    is_cleared: bool,
    /// Fields are independent of each other, but all of a series end together.
    fields: BTreeMap<&'log str, MergedField>,
    /// In which seconds a server has applied the first and the last operation of each series since it may have ended
    /// last, if series end.
    made: BTreeMap<&'log str, (u64, u64)>,
    bytes: usize,
    /// After how many seconds without use the series end, if they do.
    ttl: Option<u32>,
}

/// The operations of one field, in order.
#[derive(Debug, Default)]
struct MergedField {
    operations: Vec<Operation>,
    /// The value that the gauge had before the first of them, if it is one.
    before: Option<f64>,
    /// The operations before, after which the series may have ended.
    earlier: Vec<Operation>,
}

impl<'log> Merged<'log> {
    fn has_room_for(&self, operations: &[Logged]) -> bool {
        let new =
            operations.iter().map(|logged| &*logged.name).filter(|name| !self.fields.contains_key(name));
        let (count, bytes) = new.fold((0, 0), |(count, bytes), name| (count + 1, bytes + name.len()));
        self.fields.len() + count <= MAX_OPERATIONS && self.bytes + bytes <= MAX_REPLAY_BYTES
    }

    /// Adds an operation that a server has applied in the second `at`. `before` yields the values that gauges had
    /// before.
    fn add(
        &mut self,
        Logged { name, change }: &'log Logged,
        at: u64,
        before: &mut impl Iterator<Item = f64>,
    ) {
        if matches!(change, Change::Clear) {
            self.is_cleared = true;
            self.fields.clear();
            self.made.clear();
            return;
        }
        if let Some(ttl) = self.ttl.filter(|_| !matches!(change, Change::Exemplar(_))) {
            self.note_second(series_of(name), at, ttl);
        }
        if matches!(change, Change::Delete) {
            let series = series_of(name);
            if let Some(made) = self.made.get_mut(series) {
                *made = (at, at);
            }
            for slot in 0..HISTOGRAM_SLOTS {
                self.fields.remove(exemplar_field::name(slot, series).as_str());
            }
        }
        let bytes = &mut self.bytes;
        let field = self.fields.entry(name).or_insert_with(|| {
            *bytes += name.len();
            MergedField::default()
        });
        if matches!(change, Change::AddToGauge(_) | Change::Set(_)) {
            let before = before.next();
            field.before = field.before.or(before);
        }
        match change {
            Change::Add(amount) | Change::AddToGauge(amount) => field.add(name, *amount),
            Change::Set(value) => field.set(name, *value),
            Change::AddNative(added) => field.add_native(name, added),
            Change::Exemplar(exemplar) => {
                let (field_name, exemplar, metric) = (name.to_string(), exemplar.clone(), Weak::new());
                field.operations = vec![Operation::Exemplar { field: field_name, exemplar, metric }];
            }
            Change::Restore(restored) => {
                let (value, at) = **restored;
                field.operations.push(Operation::Restore { field: name.to_string(), value, at });
            }
            Change::Delete | Change::Clear => {
                field.earlier.clear();
                field.operations = vec![Operation::Delete { field: name.to_string() }];
            }
        }
    }

    /// Notes that a server has applied the next operation of a series in the second `at`. If the series may have ended
    /// before, what came until then is put apart.
    fn note_second(&mut self, series: &'log str, at: u64, ttl: u32) {
        let made = self.made.entry(series).or_insert((at, at));
        if at.saturating_sub(made.1) <= u64::from(ttl) {
            made.1 = at.max(made.1);
            return;
        }
        let before = std::mem::replace(made, (at, at));
        let of_series = self.fields.range_mut(series..).take_while(|(name, _)| name.starts_with(series));
        for (name, field) in of_series.filter(|(name, _)| series_of(name) == series) {
            field.put_apart(name, Some(before));
        }
    }

    fn into_operations(self) -> Vec<Operation> {
        let clear = self.is_cleared.then_some(Operation::Clear);
        let made = self.made;
        let changes = self.fields.into_iter().flat_map(|(name, mut field)| {
            field.put_apart(name, made.get(series_of(name)).copied());
            field.earlier
        });
        // The server keeps exemplars of series that are there.
        let (exemplars, changes): (Vec<_>, Vec<_>) =
            changes.partition(|change| matches!(change, Operation::Exemplar { .. }));
        clear.into_iter().chain(changes).chain(exemplars).collect()
    }
}

/// Returns the labels of a field: all that stands before the part of a histogram.
fn series_of(field: &str) -> &str {
    field.rfind('}').map_or(field, |end| &field[..=end])
}

impl MergedField {
    /// Puts the operations so far before those that follow, after which the series may have ended. `made`: in which
    /// seconds a server has applied the first and the last operation of the series.
    fn put_apart(&mut self, name: &str, made: Option<(u64, u64)>) {
        if let Some((first, last)) = made.filter(|_| !self.operations.is_empty()) {
            self.earlier.push(Operation::Made { field: name.to_owned(), first, last });
        }
        self.earlier.append(&mut self.operations);
        self.before = None;
    }

    fn add(&mut self, name: &str, more: f64) {
        match self.operations.last_mut() {
            Some(Operation::Add { amount, .. }) => *amount += more,
            Some(Operation::Replay { value, .. }) => *value += more,
            _ => self.operations.push(restoring_add(name.to_owned(), more)),
        }
    }

    fn add_native(&mut self, name: &str, more: &(Native, NativeHistogram)) {
        if let Some(Operation::AddNative { added, .. }) = self.operations.last_mut() {
            added.1.add(more.1.clone());
            return;
        }
        let (field, added, metric) = (name.to_owned(), Box::new(more.clone()), Weak::new());
        self.operations.push(Operation::AddNative { field, added, metric });
    }

    fn set(&mut self, name: &str, value: f64) {
        // Earlier changes do not matter, but a deletion leaves no value that another process has set before.
        self.operations.retain(|operation| matches!(operation, Operation::Delete { .. }));
        let before = self.before.unwrap_or_default();
        self.operations.push(Operation::Replay { field: name.to_owned(), value, before });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::native_field;
    use std::sync::Weak;

    fn add(field: &str, amount: f64) -> Operation {
        Operation::Add { field: field.to_owned(), amount, metric: Weak::new(), is_gauge: false }
    }

    fn add_to_gauge(field: &str, amount: f64) -> Operation {
        Operation::Add { field: field.to_owned(), amount, metric: Weak::new(), is_gauge: true }
    }

    fn set(field: &str, value: f64) -> Operation {
        Operation::Set { field: field.to_owned(), value, metric: Weak::new() }
    }

    fn delete(field: &str) -> Operation {
        Operation::Delete { field: field.to_owned() }
    }

    /// Returns a short description of an operation.
    fn shown(operation: &Operation) -> String {
        match operation {
            Operation::Add { field, amount, .. } => format!("{field}+{amount}"),
            Operation::Replay { field, value, before } => format!("{field}={value} after {before}"),
            Operation::Delete { field } => format!("-{field}"),
            Operation::Restore { field, value, at } => format!("{field}={value} of {at}"),
            Operation::Clear => "clear".to_owned(),
            Operation::AddNative { field, added, .. } => {
                format!("{field}+{}", native_field::format(&added.1))
            }
            Operation::Exemplar { field, exemplar, .. } => format!("{field}:{}", exemplar.value()),
            Operation::Made { field, first, last } => format!("{field} from {first} to {last}"),
            Operation::Set { .. } => panic!("a plain set would overwrite a later one of another process"),
        }
    }

    fn repeated(log: &ReplayLog, after: u64) -> (u64, usize, Vec<String>) {
        let repetition = log.repeat_after(after, None).unwrap();
        (repetition.number, repetition.batches, repetition.operations.iter().map(shown).collect())
    }

    #[test]
    fn additions_to_a_native_histogram_are_merged_at_the_lower_schema() {
        let add_native = |text: &str| Operation::AddNative {
            field: "h#native".to_owned(),
            added: Box::new((Native::default(), native_field::parse(text).unwrap())),
            metric: Weak::new(),
        };
        let mut log = ReplayLog::default();
        log.push(1, &[add_native("3;1;-3:2,4:1;")], vec![]);
        log.push(2, &[delete("h#native"), add_native("3;1;1:1;")], vec![]);
        log.push(3, &[add_native("2;1;1:5;1:1")], vec![]);
        assert_eq!(
            repeated(&log, 0),
            (3, 3, vec!["-h#native".to_owned(), "h#native+2;2;1:6;1:1".to_owned()])
        );
    }

    #[test]
    fn the_last_exemplar_of_a_field_is_sent_again() {
        let exemplar = |value| Operation::Exemplar {
            field: "exemplar 0 {}".to_owned(),
            exemplar: Box::new(Exemplar::new(&[("a", "b")], value, 1).unwrap()),
            metric: Weak::new(),
        };
        let mut log = ReplayLog::default();
        log.push(1, &[add("{}", 1.0), exemplar(1.0)], vec![]);
        log.push(2, &[exemplar(2.0)], vec![]);
        assert_eq!(repeated(&log, 0), (2, 2, vec!["{}+1".to_owned(), "exemplar 0 {}:2".to_owned()]));
        assert_eq!(repeated(&log, 1), (2, 1, vec!["exemplar 0 {}:2".to_owned()]));
    }

    #[test]
    fn the_batches_after_a_number_become_one_batch_with_one_operation_for_each_field() {
        let mut log = ReplayLog::default();
        log.push(2, &[add("a", 1.0), add("b", 2.0)], Vec::new());
        log.push(5, &[add("a", 10.0)], Vec::new());
        log.push(9, &[add("a", 100.0), add("c", 4.0)], Vec::new());
        assert_eq!(repeated(&log, 0), (9, 3, vec!["a+111".into(), "b+2".into(), "c+4".into()]));
        assert_eq!(repeated(&log, 2), (9, 2, vec!["a+110".into(), "c+4".into()]));
        assert!(log.repeat_after(9, None).is_none());
        assert_eq!(log.operations_after(5), 2);
    }

    #[test]
    fn a_gauge_is_set_again_only_after_the_value_that_it_had_before_the_first_change() {
        let mut log = ReplayLog::default();
        log.push(1, &[set("g", 5.0)], vec![0.0]);
        log.push(2, &[add_to_gauge("g", 2.0), set("h", 1.0)], vec![5.0, 8.0]);
        log.push(3, &[set("g", 6.0), add_to_gauge("h", 1.0)], vec![7.0, 1.0]);
        assert_eq!(repeated(&log, 0).2, ["g=6 after 0", "h=2 after 8"]);
        assert_eq!(repeated(&log, 1).2, ["g=6 after 5", "h=2 after 8"], "the first change was an addition");
        assert_eq!(repeated(&log, 2).2, ["g=6 after 7", "h+1"]);
    }

    #[test]
    fn deletions_stay_before_later_changes_and_undo_earlier_ones() {
        let mut log = ReplayLog::default();
        log.push(1, &[add("a", 1.0), add("b", 1.0), set("g", 1.0)], vec![0.0]);
        log.push(2, &[delete("a"), add("b", 1.0), delete("g")], Vec::new());
        log.push(3, &[add("a", 4.0), set("g", 3.0)], vec![1.0]);
        assert_eq!(repeated(&log, 0).2, ["-a", "a+4", "b+2", "-g", "g=3 after 0"]);
        log.push(4, &[Operation::Clear, add("b", 7.0)], Vec::new());
        assert_eq!(repeated(&log, 0).2, ["clear", "b+7"]);
        log.push(5, &[Operation::Restore { field: "g".into(), value: 2.0, at: 9 }, add("g", 1.0)], vec![]);
        assert_eq!(repeated(&log, 4).2, ["g=2 of 9", "g+1"]);
    }

    #[test]
    fn changes_before_and_after_a_series_may_have_ended_stay_apart() {
        let mut log = ReplayLog::default();
        let changes: [(u64, &[Operation]); 4] = [
            (100, &[add("a", 5.0), set("g", 7.0)]),
            (160, &[add("a", 1.0)]),
            (221, &[add("a", 2.0), set("g", 8.0)]),
            (222, &[delete("a"), add("a", 3.0)]),
        ];
        for (number, (second, operations)) in (1..).zip(changes) {
            log.push(number, operations, vec![0.0; operations.len()]);
            log.note_second(second);
        }
        let repeated = |after, ttl| -> Vec<String> {
            log.repeat_after(after, Some(ttl)).unwrap().operations.iter().map(shown).collect()
        };
        let of_gauge = ["g from 100 to 100", "g=7 after 0", "g from 221 to 221", "g=8 after 0"];
        let whole = repeated(0, 60);
        assert_eq!(whole, [&["a from 222 to 222", "-a", "a+3"][..], &of_gauge].concat());
        log.entries.pop_back();
        let repeated = |after, ttl| -> Vec<String> {
            log.repeat_after(after, Some(ttl)).unwrap().operations.iter().map(shown).collect()
        };
        let of_counter = ["a from 100 to 160", "a+6", "a from 221 to 221", "a+2"];
        assert_eq!(repeated(0, 60), [&of_counter[..], &of_gauge].concat());
        assert_eq!(repeated(1, 61), ["a from 160 to 221", "a+3", "g from 221 to 221", "g=8 after 0"]);
    }

    #[test]
    fn the_fields_of_a_series_are_put_apart_together() {
        let repeated = |seconds: [u64; 3]| -> Vec<String> {
            let mut log = ReplayLog::default();
            let (rare, total) = ("{}#le=+Inf", "{}#sum");
            let batches = [[rare, total], ["{}#le=1", total], [rare, total]];
            for (number, (fields, second)) in (1..).zip(batches.into_iter().zip(seconds)) {
                log.push(number, &fields.map(|field| add(field, 1.0)), Vec::new());
                log.note_second(second);
            }
            log.repeat_after(0, Some(60)).unwrap().operations.iter().map(shown).collect()
        };
        let from = |first, last, field: &str, amount| {
            [format!("{field} from {first} to {last}"), format!("{field}+{amount}")]
        };
        // The series was in use all the time, and one of its buckets was not.
        let whole = [("{}#le=+Inf", 2), ("{}#le=1", 1), ("{}#sum", 3)];
        assert_eq!(repeated([100, 150, 200]), whole.map(|(field, sum)| from(100, 200, field, sum)).concat());
        let apart = [
            from(100, 150, "{}#le=+Inf", 1),
            from(211, 211, "{}#le=+Inf", 1),
            from(100, 150, "{}#le=1", 1),
            from(100, 150, "{}#sum", 2),
            from(211, 211, "{}#sum", 1),
        ];
        assert_eq!(repeated([100, 150, 211]), apart.concat());
    }

    #[test]
    fn an_exemplar_of_a_series_that_was_removed_is_not_sent_again() {
        let labels = "{\"a\":\"b\"}";
        let exemplar = |labels: &str| Operation::Exemplar {
            field: exemplar_field::name(0, labels),
            exemplar: Box::new(Exemplar::new(&[("a", "b")], 1.0, 1).unwrap()),
            metric: Weak::new(),
        };
        let mut log = ReplayLog::default();
        log.push(1, &[add(labels, 1.0), exemplar(labels), exemplar("{}")], Vec::new());
        log.push(2, &[delete(labels), add(labels, 2.0)], Vec::new());
        let rest = ["-{\"a\":\"b\"}", "{\"a\":\"b\"}+2", "exemplar 0 {}:1"];
        assert_eq!(repeated(&log, 0).2, rest);
    }

    #[test]
    fn a_repetition_holds_whole_batches_as_long_as_there_is_room() {
        let mut log = ReplayLog::default();
        let many = |from: usize| -> Vec<Operation> {
            (from..from + 600).map(|field| add(&field.to_string(), 1.0)).collect()
        };
        log.push(1, &many(0), Vec::new());
        log.push(2, &many(0), Vec::new());
        log.push(3, &many(1_000), Vec::new());
        let first = log.repeat_after(0, None).unwrap();
        assert_eq!((first.number, first.batches, first.operations.len()), (2, 2, 600));
        let second = log.repeat_after(first.number, None).unwrap();
        assert_eq!((second.number, second.batches, second.operations.len()), (3, 1, 600));
    }

    #[test]
    fn a_batch_is_dropped_when_it_is_as_safe_as_wanted() {
        let mut log = ReplayLog::default();
        log.push(1, &[add("a", 1.0)], Vec::new());
        log.note_replicated();
        log.push(2, &[add("a", 1.0)], Vec::new());
        let later = Instant::now() + Duration::from_secs(3);
        let both = Safety { needs_replicas: true, age: Some(Duration::from_secs(3)) };
        log.trim(both, Instant::now());
        assert!(log.is_whole_epoch() && log.awaits_replicas(), "none is old enough");
        log.trim(both, later);
        assert_eq!(log.first(), Some(2), "the second is not replicated");
        log.trim(Safety { needs_replicas: false, age: None }, later);
        assert_eq!((log.first(), log.last(), log.bytes()), (None, 2, 0));
    }

    #[test]
    fn batches_that_a_server_lacks_are_not_on_its_replicas() {
        let mut log = ReplayLog::default();
        let safety = Safety { needs_replicas: true, age: None };
        (1..=3).for_each(|number| log.push(number, &[add("a", 1.0)], Vec::new()));
        log.note_replicated();
        log.note_server(1);
        log.trim(safety, Instant::now());
        assert_eq!(log.first(), Some(2));
        log.note_replicated();
        log.trim(safety, Instant::now());
        assert_eq!(log.first(), None);
    }

    #[test]
    fn a_gap_is_reported_once() {
        let mut log = ReplayLog::default();
        log.push(4, &[add("a", 1.0)], Vec::new());
        log.push(6, &[add("a", 1.0)], Vec::new());
        assert!(!log.note_server(4) && !log.note_server(0), "the log holds everything");
        log.drop_first();
        assert!(!log.note_server(4));
        assert!(log.note_server(3));
        assert!(!log.note_server(3), "it was reported");
        assert_eq!(log.repeat_after(3, None).map(|repetition| repetition.number), Some(6));
    }

    #[test]
    fn an_operation_takes_little_memory_and_names_that_are_gone_take_none() {
        let mut log = ReplayLog::default();
        let batch = |from: u64| -> Vec<Operation> {
            (from..from + 1_000).map(|field| add(&format!("{field:0>40}"), 1.0)).collect()
        };
        log.push(1, &batch(0), Vec::new());
        let first = log.bytes();
        for number in 2..=100 {
            log.push(number, &batch(0), Vec::new());
        }
        assert!((log.bytes() - first) / 99_000 <= 32, "{} bytes", log.bytes());
        for number in 101..=200 {
            log.push(number, &batch(number * 1_000), Vec::new());
            log.drop_first();
        }
        let many = log.bytes();
        for number in 201..=1_100 {
            log.push(number, &batch(0), Vec::new());
            log.drop_first();
        }
        assert!(log.bytes() < many / 2, "{} of {many} bytes", log.bytes());
    }
}
