//! The shared-memory store: one file, mapped by all processes of a service.
//!
//! The cells of a metric are words of the file, changed by compare-and-swap: visible to everybody at once,
//! nothing to send, and a process that is killed has lost nothing. Only making and removing metrics takes
//! a lock. [`file`] opens and checks the file, [`records`] finds and appends what is in it, [`segment`] is
//! the mapped memory itself. Who only reads is [`attached`]; [`survey`] says whether the file is sound.

mod attached;
mod file;
pub(crate) mod layout;
mod options;
mod records;
mod survey;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use self::attached::AttachedStore;
use self::file::SharedFile;
use self::layout::{KIND_FAMILY, KIND_METRIC};
pub(crate) use self::options::{OPTIONS, SharedMemoryOptions, Start};
use self::records::{NewRecord, Record, Records, cells, walk};
use super::Store;
use crate::family::Family;
use crate::metric::{Cells, Metric};
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::labels::{self, Labels};
use crate::model::report::Report;
use crate::model::sample::{FamilySamples, Snapshot};
use crate::process::fork::ForkGuard;

/// Opens the store as `options` say: to count, or only to read.
pub(crate) fn open(options: &SharedMemoryOptions) -> Result<Box<dyn Store>> {
    Ok(match options.start {
        Start::Attach => Box::new(AttachedStore::open(options)?),
        Start::Continue | Start::Reset => Box::new(SharedMemoryStore::open(options)?),
    })
}

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
        if definition.name().contains('\n') {
            let reason = "a metrics file cannot hold a name with a line feed";
            let message = format!("metric name {:?}: {reason}", definition.name());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
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
        let found = read_families(&self.file)?;
        let Some(families) = families else { return Ok(Snapshot { families: found }) };
        Ok(Snapshot { families: pick(found, &families) })
    }

    fn collect_with_others(&self, families: Vec<Arc<Family>>, declared: &HashSet<&str>) -> Result<Snapshot> {
        let found = read_families(&self.file)?.into_iter();
        let (own, others): (Vec<_>, Vec<_>) =
            found.partition(|family| declared.contains(family.definition.name()));
        let mut shown = pick(own, &families);
        shown.extend(others);
        Ok(Snapshot { families: shown })
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

    fn check(&self) -> Result<Report> {
        survey::survey(&self.file)
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

/// All families of the file with their series, in the order of declaration.
fn read_families(file: &SharedFile) -> Result<Vec<FamilySamples>> {
    let records = walk(file)?;
    let mut families: Vec<FamilySamples> = Vec::new();
    let mut names = HashMap::new();
    // By the offset of their record.
    let mut indexes = HashMap::new();
    for record in records.iter().filter(|record| record.kind == KIND_FAMILY) {
        match parse_family(record) {
            Ok(definition) => {
                let index = *names.entry(definition.name().to_owned()).or_insert(families.len());
                indexes.insert(record.offset, index);
                if index == families.len() {
                    families.push(FamilySamples::new(definition));
                }
            }
            Err(error) => log::debug!("{error}; it is left out"),
        }
    }
    let label_names: Vec<Vec<String>> = families
        .iter()
        .map(|family| family.definition.label_names().iter().map(|name| labels::raw(name)).collect())
        .collect();
    let mut series: Vec<(usize, Cow<'_, str>, &Record)> = Vec::with_capacity(records.len());
    for record in records.iter().filter(|record| record.kind == KIND_METRIC) {
        let Some(&index) = indexes.get(&record.family) else { continue };
        // What would spoil the scrape for all others: cells or label names that the family has not.
        let fits = |key: &str| {
            let names = labels::raw_pairs(key).map(|(name, _)| name);
            record.cell_count as usize == families[index].definition.cell_count()
                && names.eq(label_names[index].iter().map(String::as_str))
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
        // One that stands there twice would spoil it, too.
        if last == Some((index, key)) {
            continue;
        }
        let cells = cells(file, record)?;
        let family = &mut families[*index];
        cells.read(family.push(key, None));
        if cells.is_live() {
            last = Some((index, key));
        } else {
            // Removed while we read it: its values may be another metric's.
            family.pop();
        }
    }
    Ok(families)
}

/// The families that were asked for, as this process has declared them: the help text may be another one.
fn pick(found: Vec<FamilySamples>, wanted: &[Arc<Family>]) -> Vec<FamilySamples> {
    let by_name = |family: FamilySamples| (family.definition.name().to_owned(), family);
    let mut found: HashMap<String, FamilySamples> = found.into_iter().map(by_name).collect();
    let mut picked: Vec<FamilySamples> = Vec::with_capacity(wanted.len());
    for definition in wanted.iter().map(|family| &family.definition) {
        // Several handles may stand for one family of the file.
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
