//! Reads the families of the file with their series, for a scrape.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::file::SharedFile;
use super::layout::{KIND_FAMILY, KIND_METRIC};
use super::places::{self, Living};
use super::record::{Record, cells, definition_of, live_records};
use crate::cell::last_use;
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

/// Returns the selected families of the file with their series, in the order of declaration.
///
/// Families that cannot be read are left out, and so is each series that would make a scraper refuse the
/// response.
///
/// Series that were unused for too long are left out. `ends` is called with the record of each series that may have
/// ended and its time, and says whether it has.
pub(super) fn read_families(
    file: &SharedFile,
    selection: &Selection,
    mut ends: impl FnMut(&Record, u32) -> Result<bool>,
) -> Result<Vec<FamilySamples>> {
    let records = live_records(file)?;
    let mut families: Vec<FamilySamples> = Vec::new();
    let mut names = HashMap::new();
    // Families by the offset of their record.
    let mut indexes = HashMap::new();
    for record in records.iter().filter(|record| record.kind == KIND_FAMILY) {
        match definition_of(record) {
            Ok(definition) if !selection.admits(&definition) => {}
            Ok(definition) => {
                let index = *names.entry(definition.name().to_owned()).or_insert(families.len());
                indexes.insert(record.offset, index);
                if index == families.len() {
                    families.push(FamilySamples::new(definition));
                }
            }
            Err(error) => {
                log::debug!("a family of the metrics file {} is left out: {error}", file.path().display())
            }
        }
    }
    let declared_names: Vec<Vec<String>> = families
        .iter()
        .map(|family| family.definition.label_names().iter().map(|name| labels::raw(name)).collect())
        .collect();
    let mut of_processes: Vec<Vec<ProcessValue>> = families.iter().map(|_| Vec::new()).collect();
    let mut living = None;
    let mut series: Vec<(usize, Cow<'_, str>, &Record)> = Vec::with_capacity(records.len());
    for record in records.iter().filter(|record| record.kind == KIND_METRIC) {
        let Some(&index) = indexes.get(&record.family) else { continue };
        // A series must have as many cells as its family. Its label names may differ: a program may declare a
        // name twice, and a new version of a program may declare more labels than the old one. Comparing the
        // names first is cheap, and nearly always enough.
        let definition = &families[index].definition;
        if definition.mode().is_some() {
            let living = living.get_or_insert_with(|| Living::new(file));
            of_processes[index].extend(process_value(file, definition, living, record)?);
            continue;
        }
        if let Some(ttl) = definition.series_ttl()
            && last_use::must_look(record.last_use, ttl, uptime())
            && ends(record, ttl)?
        {
            continue;
        }
        let fits = |key: &str| {
            let names = labels::raw_pairs(key).map(|(name, _)| name);
            record.cell_count as usize == definition.cell_count()
                && (names.eq(declared_names[index].iter().map(String::as_str))
                    || definition.allows_labels(key))
        };
        if let Some(key) = labels::canonical(&record.text).filter(|key| fits(key)) {
            series.push((index, key, record));
        }
    }
    series.sort_unstable_by(|(index, key, record), (other_index, other_key, other)| {
        (index, key, record.offset).cmp(&(other_index, other_key, other.offset))
    });
    let mut last = None;
    for (index, key, record) in &series {
        // A second series with the same labels would also make a scraper refuse the response.
        if last == Some((index, key)) {
            continue;
        }
        let cells = cells(file.segment(record.offset)?, file, record)?;
        let family = &mut families[*index];
        cells.read(family.push(key, record.created));
        if slots_of(family.definition.metric_type()) > 0 {
            family.set_exemplars(cells.exemplars());
        }
        if cells.is_live() {
            last = Some((index, key));
        } else {
            // The metric was removed meanwhile, so the values may belong to another metric.
            family.pop();
        }
    }
    for (family, values) in families.iter_mut().zip(of_processes) {
        if let Some(mode) = family.definition.mode() {
            *family = merge(family.definition.clone(), mode, values);
        }
    }
    Ok(families)
}

/// Returns what a record of a family with a mode shows, or `None` if it shows nothing.
fn process_value(
    file: &SharedFile,
    definition: &Definition,
    living: &mut Living<'_>,
    record: &Record,
) -> Result<Option<ProcessValue>> {
    let Some((mode, place, key)) = series_of_process(definition, record) else { return Ok(None) };
    let cells = cells(file.segment(record.offset)?, file, record)?;
    let mut values = vec![0.0; record.cell_count as usize];
    cells.read(&mut values);
    let shown = living.value(mode, (place, &key), &values)?;
    // If the record was given away meanwhile, the values may belong to another metric.
    Ok(shown.filter(|_| cells.is_live()))
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
