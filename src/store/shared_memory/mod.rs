//! The shared-memory store: one file, mapped by all processes of a service.
//!
//! The cells of a metric are words of the file, changed by compare-and-swap: visible to everybody at once,
//! nothing to send, and a process that is killed has lost nothing. Only making and removing metrics takes
//! a lock. [`file`] opens and checks the file, [`records`] finds and appends what is in it, [`segment`] is
//! the mapped memory itself.

mod file;
mod layout;
mod records;
mod segment;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use self::file::SharedFile;
pub(crate) use self::file::{SharedMemoryOptions, Start};
use self::layout::{KIND_FAMILY, KIND_METRIC};
use self::records::{NewRecord, Record, Records, cells, walk};
pub(crate) use self::segment::SharedCells;
use super::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::family::{Definition, Family};
use crate::fork::ForkGuard;
use crate::labels::{self, Labels};
use crate::metric::{Cells, Metric};
use crate::sample::{FamilySamples, Series, Snapshot};

#[derive(Debug)]
pub(crate) struct SharedMemoryStore {
    file: Arc<SharedFile>,
    /// A metadata lock: making and removing metrics takes it, counting and reading values do not.
    records: Mutex<Records>,
}

impl SharedMemoryStore {
    pub(crate) fn open(options: &SharedMemoryOptions) -> Result<Self> {
        let file = Arc::new(SharedFile::open(options)?);
        records::check(&file)?;
        Ok(Self { records: Mutex::new(Records::new(Arc::clone(&file))), file })
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        // What a panic leaves half done is in the index, which is checked whenever it is used.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The family's record, made if the file has none of that name.
    fn family_record(&self, records: &mut Records, definition: &Definition) -> Result<Record> {
        let text = format!("{}\n{}", definition.name(), definition.to_json());
        let new = NewRecord { kind: KIND_FAMILY, family: 0, cell_count: 0, text: &text };
        records.find_or_append(&new, |file| find_family(walk(file)?, definition))
    }
}

impl Store for SharedMemoryStore {
    fn names_are_shared(&self) -> bool {
        true
    }

    fn admit(&self, definition: &Definition) -> Result<()> {
        self.family_record(&mut self.lock(), definition).map(drop)
    }

    fn declared(&self, _: &Arc<Family>) {}

    fn new_metric(&self, family: &Arc<Family>, labels: Labels) -> Result<Arc<Metric>> {
        let mut records = self.lock();
        let family_record = self.family_record(&mut records, &family.definition)?;
        let key = labels::encode(&labels);
        let record =
            records.find_or_append(&metric_record(&family_record, &family.definition, &key), |_| Ok(None))?;
        let cells = cells(&self.file, &record)?;
        Ok(Arc::new(Metric::new(Arc::clone(family), labels, Cells::Shared(cells))))
    }

    fn created(&self, _: &Arc<Metric>) {}

    fn removed(&self, metric: &Arc<Metric>) -> Result<()> {
        let mut records = self.lock();
        let family = self.family_record(&mut records, &metric.family.definition)?;
        records.remove(&metric_record(&family, &metric.family.definition, &metric.key)).map(drop)
    }

    fn make_ready(&self) {}

    fn remove_unknown(&self, family: &Arc<Family>, key: &str) -> Result<bool> {
        let mut records = self.lock();
        let record = self.family_record(&mut records, &family.definition)?;
        records.remove(&metric_record(&record, &family.definition, key))
    }

    fn cleared(&self, family: &Arc<Family>, _: Vec<Arc<Metric>>) -> Result<()> {
        let mut records = self.lock();
        let family = self.family_record(&mut records, &family.definition)?;
        records.remove_all(family.offset)
    }

    fn collect(&self, families: Option<Vec<Arc<Family>>>) -> Result<Snapshot> {
        let mut found = read_families(&self.file)?;
        let Some(families) = families else {
            let mut all: Vec<_> = found.into_values().collect();
            all.sort_by_key(|(offset, _)| *offset);
            return Ok(Snapshot { families: all.into_iter().map(|(_, family)| family).collect() });
        };
        let families = families.iter().map(|family| {
            // Several handles may stand for one family of the file.
            let series = found.get_mut(family.definition.name()).map(|(_, found)| found.series.clone());
            FamilySamples { definition: family.definition.clone(), series: series.unwrap_or_default() }
        });
        Ok(Snapshot { families: families.collect() })
    }

    fn read(&self, metric: &Arc<Metric>) -> Result<Vec<f64>> {
        let values = metric.read_cells();
        // After reading: else they may be the values of the record's next metric.
        if metric.is_live() {
            return Ok(values);
        }
        let name = metric.family.definition.name();
        let message = format!("the metric {name}{} was removed", metric.key);
        Err(Error::new(ErrorKind::NotFound, message))
    }

    fn flush(&self, _: Instant) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }

    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_> {
        Box::new(self.lock())
    }
}

impl ForkGuard for MutexGuard<'_, Records> {
    fn forked(&mut self) {
        Records::forked(self);
    }
}

/// All families of the file with their series, by name; with the offset of the family's record, which is
/// the order of declaration.
fn read_families(file: &SharedFile) -> Result<BTreeMap<String, (u64, FamilySamples)>> {
    let mut records = walk(file)?;
    // Families before metrics, in the order of the file; metrics by their labels JSON.
    records.sort_by(|one, other| match (one.kind, other.kind) {
        (KIND_METRIC, KIND_METRIC) => one.text.cmp(&other.text),
        (one, other) => one.cmp(&other),
    });
    let mut names = BTreeMap::new();
    let mut families = BTreeMap::new();
    for record in records.iter().filter(|record| record.kind == KIND_FAMILY) {
        match parse_family(record) {
            Ok(definition) => {
                names.insert(record.offset, definition.name().to_owned());
                let empty = FamilySamples { definition, series: Vec::new() };
                families.entry(empty.definition.name().to_owned()).or_insert((record.offset, empty));
            }
            Err(error) => log::debug!("{error}; it is left out"),
        }
    }
    for record in records.iter().filter(|record| record.kind == KIND_METRIC) {
        let family = names.get(&record.family).and_then(|name| families.get_mut(name));
        let Some((_, family)) = family else { continue };
        let Some(labels) = series_labels(family, record) else { continue };
        let cells = cells(file, record)?;
        let values = cells.read();
        // Removed while we read it: its values may be another metric's.
        if cells.is_live() {
            family.series.push(Series { labels, cells: values });
        }
    }
    Ok(families)
}

/// The labels of a metric's record, unless they would spoil the scrape for all others: by cells or names
/// that the family has not, or by standing there twice.
fn series_labels(family: &FamilySamples, record: &Record) -> Option<Labels> {
    let definition = &family.definition;
    let labels = labels::decode(&record.text)?;
    let fits = record.cell_count as usize == definition.cell_count()
        && labels.keys().eq(definition.label_names())
        && family.series.last().is_none_or(|last| last.labels != labels);
    fits.then_some(labels)
}

fn metric_record<'key>(family: &Record, definition: &Definition, key: &'key str) -> NewRecord<'key> {
    let cell_count = definition.cell_count();
    NewRecord { kind: KIND_METRIC, family: family.offset, cell_count, text: key }
}

/// The record of the family of this name, if the file has one; an error if it is another family.
fn find_family(records: Vec<Record>, wanted: &Definition) -> Result<Option<Record>> {
    for record in records {
        let is_same_name = record.text.split('\n').next() == Some(wanted.name());
        if record.kind != KIND_FAMILY || !is_same_name {
            continue;
        }
        let known = parse_family(&record)?;
        if known.is_compatible(wanted) {
            return Ok(Some(record));
        }
        let message = format!(
            "metric family {:?} is already declared in the metrics file as {}; it cannot be declared again as {}",
            wanted.name(),
            known.describe(),
            wanted.describe()
        );
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    Ok(None)
}

fn parse_family(record: &Record) -> Result<Definition> {
    let (name, json) = record.text.split_once('\n').unwrap_or((&record.text, ""));
    Definition::from_json(name, json)
}
