//! What a scrape has found in the file: its families, and the records of their series in the order of the exposition.
//!
//! To find, check and sort the records takes three times as long as to read their values, and most scrapes find what
//! the last one found. So a reader keeps the outline of its last scrape, and asks only whether it still holds:
//!
//! - A record that was appended is behind the committed end that the outline knows.
//! - A record that was free, or that was left out, is used anew only with another generation. The outline knows the
//!   generations of these records, and compares them.
//! - The record of a series that was removed has another generation when its values are to be read. That is looked at
//!   first, for a series that is then left out, too.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, TryLockError};

use super::file::SharedFile;
use super::layout::{GENERATION_AT, HEADER_SIZE, KIND_FAMILY, KIND_METRIC};
use super::record::{Record, committed, definition_of, place_at, read, word};
use crate::cell::segment::load;
use crate::model::definition::Definition;
use crate::model::error::Result;
use crate::model::labels;

/// The families of a file, and where their series are.
#[derive(Debug)]
pub(super) struct Outline {
    /// The file that has them.
    identity: [u8; 16],
    /// The committed end that was read up to.
    end: u64,
    /// The records for metrics that are not part of the outline, with the generations that they had.
    others: Vec<(u64, u64)>,
    /// In the order of declaration.
    pub(super) families: Vec<Family>,
}

/// A family of the file.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) definition: Definition,
    /// Its series, sorted by their labels. Several may have the same labels: one that has ended, and the one after it.
    /// Those of a family with a mode are in the order of the file.
    pub(super) series: Vec<Series>,
}

/// A record of a series.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) record: Record,
    /// The canonical labels, if they are not the text of the record.
    other_key: Option<String>,
}

impl Series {
    /// Returns whether the record is still that of the series.
    pub(super) fn is_live(&self, file: &SharedFile) -> Result<bool> {
        Ok(generation_of(file, self.record.offset)? == self.record.generation)
    }

    /// Returns the canonical labels. If the family has a mode: the text of the record.
    pub(super) fn key(&self) -> &str {
        self.other_key.as_ref().unwrap_or(&self.record.text)
    }
}

/// The outline of the last scrape.
#[derive(Debug, Default)]
pub(super) struct LastOutline(Mutex<Option<Arc<Outline>>>);

impl LastOutline {
    /// Returns the outline of the last scrape of this file, if it still holds.
    pub(super) fn get(&self, file: &SharedFile) -> Result<Option<Arc<Outline>>> {
        let kept = match self.0.try_lock() {
            Ok(kept) => kept.clone(),
            Err(TryLockError::Poisoned(kept)) => kept.into_inner().clone(),
            // Another thread scrapes, or a thread of the parent did while this process was forked.
            Err(TryLockError::WouldBlock) => None,
        };
        match kept {
            Some(outline) if outline.holds(file)? => Ok(Some(outline)),
            _ => Ok(None),
        }
    }

    /// Keeps the outline for the next scrape.
    pub(super) fn keep(&self, outline: Option<Arc<Outline>>) {
        if let Ok(mut kept) = self.0.try_lock() {
            *kept = outline;
        }
    }
}

impl Outline {
    /// Reads the records of the file.
    ///
    /// Families that cannot be read are left out, and so is each series that would make a scraper refuse the
    /// response.
    pub(super) fn read(file: &SharedFile) -> Result<Self> {
        let end = committed(file)?;
        let mut reading = Reading::default();
        let mut offset = HEADER_SIZE;
        while offset < end {
            let (place, next) = place_at(file, offset, end)?;
            if let Some(place) = place.filter(|place| matches!(place.kind, KIND_FAMILY | KIND_METRIC)) {
                // Before the record: if it is used anew while it is read, its generation is another one then.
                let generation = generation_of(file, offset)?;
                match read(file, place)? {
                    Some(record) if record.kind == KIND_FAMILY => reading.add_family(file, &record),
                    Some(record) => reading.metrics.push(record),
                    None => reading.others.push((offset, generation)),
                }
            }
            offset = next;
        }
        reading.admit_metrics();
        let Reading { families, others, .. } = reading;
        Ok(Self { identity: file.header().identity, end, others, families })
    }

    fn holds(&self, file: &SharedFile) -> Result<bool> {
        if self.identity != file.header().identity || self.end != committed(file)? {
            return Ok(false);
        }
        for &(offset, generation) in &self.others {
            if generation_of(file, offset)? != generation {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// An outline that is being made.
#[derive(Default)]
struct Reading {
    families: Vec<Family>,
    /// The positions of the families by their names, and by the offsets of their records.
    by_name: HashMap<String, usize>,
    by_offset: HashMap<u64, usize>,
    metrics: Vec<Record>,
    others: Vec<(u64, u64)>,
}

impl Reading {
    fn add_family(&mut self, file: &SharedFile, record: &Record) {
        match definition_of(record) {
            Ok(definition) => {
                let position =
                    *self.by_name.entry(definition.name().to_owned()).or_insert(self.families.len());
                self.by_offset.insert(record.offset, position);
                if position == self.families.len() {
                    self.families.push(Family { definition, series: Vec::new() });
                }
            }
            Err(error) => {
                log::debug!("a family of the metrics file {} is left out: {error}", file.path().display());
            }
        }
    }

    /// Gives the families their series.
    fn admit_metrics(&mut self) {
        let raw = |name: &String| labels::raw(name);
        let names_of = |family: &Family| family.definition.label_names().iter().map(raw).collect();
        let declared: Vec<Vec<String>> = self.families.iter().map(names_of).collect();
        for record in std::mem::take(&mut self.metrics) {
            let position = self.by_offset.get(&record.family).copied();
            let key = position.and_then(|at| key(&self.families[at].definition, &declared[at], &record));
            let other_key = key.map(|key| match key {
                Cow::Borrowed(_) => None,
                Cow::Owned(key) => Some(key),
            });
            match position.zip(other_key) {
                Some((position, other_key)) => {
                    self.families[position].series.push(Series { record, other_key });
                }
                None => self.others.push((record.offset, record.generation)),
            }
        }
        for family in self.families.iter_mut().filter(|family| family.definition.mode().is_none()) {
            family.series.sort_unstable_by(|one, other| {
                (one.key(), one.record.offset).cmp(&(other.key(), other.record.offset))
            });
        }
    }
}

/// Returns the canonical labels of a record of this family, or its text if the family has a mode. Returns `None` if the
/// record is not one of its series.
///
/// A series must have as many cells as its family. Its label names may differ: a program may declare a name twice, and
/// a new version of a program may declare more labels than the old one. Comparing the names first is cheap, and nearly
/// always enough.
fn key<'record>(
    definition: &Definition,
    declared: &[String],
    record: &'record Record,
) -> Option<Cow<'record, str>> {
    if definition.mode().is_some() {
        return Some(Cow::Borrowed(&record.text));
    }
    let key = labels::canonical(&record.text)?;
    let names = labels::raw_pairs(&key).map(|(name, _)| name);
    let fits = record.cell_count as usize == definition.cell_count()
        && (names.eq(declared.iter().map(String::as_str)) || definition.allows_labels(&key));
    fits.then_some(key)
}

fn generation_of(file: &SharedFile, offset: u64) -> Result<u64> {
    Ok(load(word(file, file.segment(offset)?, offset, GENERATION_AT)?))
}
