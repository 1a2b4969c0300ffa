//! Reads the families of the file with their series, for a scrape.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::file::SharedFile;
use super::layout::LAST_USE_AT;
use super::outline::{Family as OutlineFamily, LastOutline, Outline};
use super::places::{self, Living};
use super::record::{Record, cells, word};
use crate::cell::last_use;
use crate::cell::segment::load;
use crate::exposition::Selection;
use crate::metric::family::Family;
use crate::model::definition::Definition;
use crate::model::error::Result;
use crate::model::exemplar::slots_of;
use crate::model::gauge_mode::GaugeMode;
use crate::model::labels;
use crate::model::merge::{ProcessValue, merge};
use crate::model::sample::FamilySamples;
use crate::process::clock::uptime;

/// How often the records are found anew because series are removed while their values are read.
const ATTEMPTS: usize = 3;

/// Returns the selected families of the file with their series, in the order of declaration.
///
/// `last` is the outline of the last scrape, and becomes that of this one. Series that were unused for too long are left
/// out. `ends` is called with the record of each series that may have ended and its time, and says whether it has.
pub(super) fn read_families(
    file: &SharedFile,
    last: &LastOutline,
    selection: &Selection,
    mut ends: impl FnMut(&Record, u32) -> Result<bool>,
) -> Result<Vec<FamilySamples>> {
    let mut known = last.get(file)?;
    let mut families = Vec::new();
    for _ in 0..ATTEMPTS {
        let outline = known.take().map_or_else(|| Outline::read(file).map(Arc::new), Ok)?;
        let mut reading = Values { file, living: Living::new(file), ends: &mut ends, is_complete: true };
        let selected = outline.families.iter().filter(|family| selection.admits(&family.definition));
        families = selected.map(|family| reading.family(family)).collect::<Result<_>>()?;
        if reading.is_complete {
            last.keep(Some(outline));
            return Ok(families);
        }
    }
    last.keep(None);
    Ok(families)
}

/// Reads the values of the series of an outline.
struct Values<'scrape, Ends> {
    file: &'scrape SharedFile,
    living: Living<'scrape>,
    ends: &'scrape mut Ends,
    /// Whether no series was removed meanwhile.
    is_complete: bool,
}

impl<Ends: FnMut(&Record, u32) -> Result<bool>> Values<'_, Ends> {
    fn family(&mut self, family: &OutlineFamily) -> Result<FamilySamples> {
        let definition = &family.definition;
        if let Some(mode) = definition.mode() {
            let mut values = Vec::new();
            for series in &family.series {
                self.is_complete &= series.is_live(self.file)?;
                values.extend(self.of_process(definition, &series.record)?);
            }
            return Ok(merge(definition.clone(), mode, values));
        }
        let mut samples = FamilySamples::new(definition.clone());
        let mut last = None;
        for series in &family.series {
            let (key, record) = (series.key(), &series.record);
            self.is_complete &= series.is_live(self.file)?;
            // A second series with the same labels would make a scraper refuse the response.
            if last == Some(key) {
                continue;
            }
            if let Some(ttl) = definition.series_ttl()
                && self.has_ended(record, ttl)?
            {
                continue;
            }
            let cells = cells(self.file.segment(record.offset)?, self.file, record)?;
            cells.read(samples.push(key, record.created));
            if slots_of(definition.metric_type()) > 0 {
                samples.set_exemplars(cells.exemplars());
            }
            if cells.is_live() {
                last = Some(key);
            } else {
                // The metric was removed, so the values may belong to another metric.
                samples.pop();
                self.is_complete = false;
            }
        }
        Ok(samples)
    }

    /// Returns whether the series of this record has ended. Its last use may be a later one than in the outline.
    fn has_ended(&mut self, record: &Record, ttl: u32) -> Result<bool> {
        let segment = self.file.segment(record.offset)?;
        let last_use = load(word(self.file, segment, record.offset, LAST_USE_AT)?);
        let now = Record { last_use, text: String::new(), ..*record };
        Ok(last_use::must_look(last_use, ttl, uptime()) && (self.ends)(&now, ttl)?)
    }

    /// Returns what a record of a family with a mode shows, or `None` if it shows nothing.
    fn of_process(&mut self, definition: &Definition, record: &Record) -> Result<Option<ProcessValue>> {
        let Some((mode, place, key)) = series_of_process(definition, record) else {
            return Ok(None);
        };
        let cells = cells(self.file.segment(record.offset)?, self.file, record)?;
        let mut values = vec![0.0; record.cell_count as usize];
        cells.read(&mut values);
        let shown = self.living.value(mode, (place, &key), &values)?;
        // If the record was given away meanwhile, the values may belong to another metric.
        self.is_complete &= cells.is_live();
        Ok(shown.filter(|_| cells.is_live()))
    }
}

/// Returns the mode of a family, and the place and the labels of its record. Returns `None` if the family has no mode,
/// or if the record is not one of its series.
pub(super) fn series_of_process<'record>(
    definition: &Definition,
    record: &'record Record,
) -> Option<(GaugeMode, u64, Cow<'record, str>)> {
    let mode = definition.mode()?;
    let (place, labels) = places::parse(&record.text)?;
    let key = labels::canonical(labels).filter(|key| definition.allows_labels(key))?;
    (record.cell_count as usize == places::cell_count(mode)).then_some((mode, place, key))
}

/// Returns the `wanted` families as this process has declared them: their help text may differ from the
/// file's.
pub(super) fn pick(found: Vec<FamilySamples>, wanted: &[Arc<Family>]) -> Vec<FamilySamples> {
    let by_name = |family: FamilySamples| (family.definition.name().to_owned(), family);
    let mut found: HashMap<String, FamilySamples> = found.into_iter().map(by_name).collect();
    let mut picked: Vec<FamilySamples> = Vec::with_capacity(wanted.len());
    for definition in wanted.iter().map(|family| &family.definition) {
        // Several handles may stand for one family of the file. The first of them has taken the samples.
        let twin = || picked.iter().find(|family| family.definition.name() == definition.name()).cloned();
        let samples = found.remove(definition.name()).or_else(twin);
        let samples = samples.filter(|samples| samples.definition.is_compatible(definition));
        picked.push(match samples {
            Some(samples) => samples.declared_as(definition.clone()),
            None => FamilySamples::new(definition.clone()),
        });
    }
    picked
}
