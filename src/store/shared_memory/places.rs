//! The places of processes in the file, for gauges of which every process has its own value.
//!
//! A process has a **place**: a small number that it shares with no other living process, because it has locked a
//! byte of the file for it ([`place_locks`](super::place_locks)).
//!
//! Each series of a process is a record whose text is the place, a space, and the labels. A process that takes
//! the place of a dead one first takes over its records. So the file grows with the processes that live at one
//! time, and not with those that ever lived.

use std::collections::HashMap;

use rustix::process::getpid;

use super::errors::failed;
use super::file::SharedFile;
use super::layout::{KIND_FAMILY, KIND_METRIC, RECORD_HEADER_SIZE};
use super::place_locks::{PLACES, is_locked};
use super::record::{Record, definition_of, live_records, put, word};
use crate::cell::Cells;
use crate::cell::segment::load;
use crate::model::definition::VALUE_CELL;
use crate::model::error::Result;
use crate::model::gauge_mode::GaugeMode;
use crate::model::merge::ProcessValue;

/// The cell behind the value that holds the process id, or the time at which the value was set.
const BEHIND_CELL: usize = 1;
/// The cell of what dead processes have left, in a mode that keeps it as one value: the complement of its bits.
/// 0: nothing.
const LEFT_CELL: usize = 1;
/// What the two cells before it are to become, while a process takes over: the complement of the bits. 0: nothing.
const FOLDING_CELL: usize = 2;
/// The bits of the value if the process with this place has not used the series.
const UNUSED: u64 = u64::MAX;

/// Returns how many cells a record of a family with this mode has.
pub(super) fn cell_count(mode: GaugeMode) -> usize {
    match mode {
        _ if mode.keeps_dead() => FOLDING_CELL + 1,
        _ if mode.shows_processes() || mode.is_most_recent() => BEHIND_CELL + 1,
        _ => 1,
    }
}

/// Returns the text of the record of a series with the canonical labels `key`.
pub(super) fn text(place: u64, key: &str) -> String {
    format!("{place} {key}")
}

/// Returns the place and the labels in the text of a record.
pub(super) fn parse(text: &str) -> Option<(u64, &str)> {
    let (place, labels) = text.split_once(' ')?;
    Some((place.parse().ok().filter(|&place| place < PLACES)?, labels))
}

/// Returns the process id in the cells of a record, if its mode keeps one and its process has written it.
pub(super) fn pid(mode: GaugeMode, cells: &[f64]) -> Option<u32> {
    let pid = cells.get(BEHIND_CELL).copied().filter(|_| mode.shows_processes())? as u32;
    (pid > 0).then_some(pid)
}

/// Which processes live, as one scrape sees it.
#[derive(Debug)]
pub(super) struct Living<'file> {
    file: &'file SharedFile,
    known: HashMap<u64, bool>,
}

impl<'file> Living<'file> {
    pub(super) fn new(file: &'file SharedFile) -> Self {
        Self { file, known: HashMap::new() }
    }

    fn has(&mut self, place: u64) -> Result<bool> {
        if let Some(&known) = self.known.get(&place) {
            return Ok(known);
        }
        let is_live = is_locked(self.file.descriptor()?, place)
            .map_err(|error| failed(self.file.path(), "cannot be locked", error))?;
        self.known.insert(place, is_live);
        Ok(is_live)
    }

    /// Returns what a record with these cells shows, or `None` if it shows nothing.
    pub(super) fn value(
        &mut self,
        mode: GaugeMode,
        (place, key): (u64, &str),
        cells: &[f64],
    ) -> Result<Option<ProcessValue>> {
        let own = cells[VALUE_CELL];
        let mut shown = ProcessValue {
            key: key.to_owned(),
            value: own,
            time: 0.0,
            pid: 0,
            place,
            // Whether a process lives matters only to these modes.
            is_live: !(mode.is_live() || mode.shows_processes()) || self.has(place)?,
        };
        if mode.keeps_dead() {
            let bits = |cell: usize| cells[cell].to_bits();
            let Some(value) = folded(mode, own.to_bits(), bits(LEFT_CELL), bits(FOLDING_CELL)) else {
                return Ok(None);
            };
            shown.value = value;
        } else if mode.shows_processes() {
            shown.pid = cells[BEHIND_CELL] as u64;
            // Its process has made the record, and writes its id next.
            return Ok(Some(shown).filter(|shown| shown.pid > 0));
        } else if mode.is_most_recent() {
            shown.time = cells[BEHIND_CELL];
        }
        Ok(Some(shown))
    }
}

/// Returns what a process and dead ones have in a series together.
fn folded(mode: GaugeMode, value: u64, left: u64, folding: u64) -> Option<f64> {
    if folding != 0 {
        return Some(f64::from_bits(!folding));
    }
    let value = (value != UNUSED).then(|| f64::from_bits(value));
    let left = (left != 0).then(|| f64::from_bits(!left));
    match (value, left) {
        (Some(value), Some(left)) => Some(mode.merge(value, left)),
        (value, left) => value.or(left),
    }
}

/// Prepares the cells of a series for the process that has just found or made its record.
pub(super) fn begin(mode: GaugeMode, cells: &Cells) {
    if mode.keeps_dead() {
        cells.update(|value| if value.to_bits() == UNUSED { 0.0 } else { value });
    }
    if mode.shows_processes() {
        cells.set_behind(BEHIND_CELL, getpid().as_raw_nonzero().get().into());
    }
}

/// What a process that takes a place does with a record that it finds there.
pub(super) enum Inheritance {
    /// It removes the record.
    Remove,
    /// It keeps the record for its own use, with what the dead process has left.
    Keep(GaugeMode),
}

/// Returns the records of a place, all of dead processes.
pub(super) fn records_of(file: &SharedFile, place: u64) -> Result<Vec<(Record, Inheritance)>> {
    let records = live_records(file)?;
    let modes: HashMap<u64, GaugeMode> = records
        .iter()
        .filter(|record| record.kind == KIND_FAMILY)
        .filter_map(|record| Some((record.offset, definition_of(record).ok()?.mode()?)))
        .collect();
    let inheritance = |record: Record| {
        let mode = *modes.get(&record.family).filter(|_| record.kind == KIND_METRIC)?;
        let (owner, _) = parse(&record.text)?;
        let kept = mode.keeps_dead() || mode == GaugeMode::MostRecent;
        let inheritance = if kept { Inheritance::Keep(mode) } else { Inheritance::Remove };
        (owner == place && record.cell_count as usize == cell_count(mode)).then_some((record, inheritance))
    };
    Ok(records.into_iter().filter_map(inheritance).collect())
}

/// Makes the value of a dead process part of what dead processes have left. The caller has the lock of the file, and
/// has given the record a new generation.
///
/// A process that is killed at any step leaves a record that shows the same value, and that can be folded again.
pub(super) fn fold(file: &SharedFile, record: &Record, mode: GaugeMode) -> Result<()> {
    if !mode.keeps_dead() {
        return Ok(());
    }
    let segment = file.writable_segment(record.offset)?;
    let cell = |index: usize| word(file, segment, record.offset, RECORD_HEADER_SIZE + index as u64 * 8);
    let (value, left, folding) = (cell(VALUE_CELL)?, cell(LEFT_CELL)?, cell(FOLDING_CELL)?);
    let Some(shown) = folded(mode, load(value), load(left), load(folding)) else { return Ok(()) };
    // A NaN whose complement is 0 would read as nothing.
    let kept = !(if shown.is_nan() { f64::NAN } else { shown }).to_bits();
    put(folding, kept);
    put(left, kept);
    put(value, UNUSED);
    put(folding, 0);
    Ok(())
}
