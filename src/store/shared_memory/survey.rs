//! Checks every record of the file, and reports its contents and its damage.
//!
//! The store's `check` calls it. It takes no lock and changes nothing, so processes may count meanwhile. A
//! record that seems damaged is read again before it is reported.

use std::collections::{BTreeMap, BTreeSet};

use super::families::series_of_process;
use super::file::SharedFile;
use super::index::{Index, Trouble};
use super::layout::{
    GENERATION_AT, HEADER_SIZE, KIND_DIRECTORY, KIND_FAMILY, KIND_METRIC, KIND_PADDING, KIND_TABLE,
    RECORD_ALIGNMENT, SEGMENT_SIZE, TABLE_CELLS, record_size,
};
use super::places;
use super::record::{
    Record, cells, cells_of, committed, definition_of, is_whole_table, place_at, read, word,
};
use super::writers::{self, Owner};
use crate::cell::last_use;
use crate::cell::segment::load;
use crate::model::definition::Definition;
use crate::model::error::Result;
use crate::model::labels;
use crate::model::native::BucketWord;
use crate::model::report::{Report, counted};
use crate::process::clock::uptime;

/// The bytes that a metric with labels of usual length takes.
const ROOM_FOR_A_METRIC: u64 = 256;

/// How often a record that seems damaged is read, because it may just be given to another metric.
const ATTEMPTS: u32 = 100;

/// The finding of [`look`] at an offset where a record may begin.
enum Found {
    Live(Record),
    /// The record of a metric that was removed.
    Free,
    Padding,
    /// A table or directory of the index.
    Table,
    /// A record with a size whose contents are damaged.
    Damaged,
    /// Bytes at which no record begins.
    Nothing,
}

/// Reads the whole file.
pub(super) fn survey(file: &SharedFile) -> Result<Report> {
    let mut report = Report::default();
    let end = committed(file)?;
    let limit = file.header().size_limit;
    report.fact(format!("metrics file {}", file.path().display()));
    report.fact(format!("{end} bytes of at most {limit} are used; the file has {} now", file.length()?));
    let mut families = Families::default();
    let mut metrics = Vec::new();
    let mut shown = Vec::new();
    let mut free = 0;
    let mut lost = None;
    let mut offset = HEADER_SIZE;
    while offset < end {
        let (found, next) = look(file, offset, end)?;
        if !matches!(found, Found::Nothing) {
            report_lost(&mut report, lost.take(), offset);
        }
        match found {
            Found::Live(record) if record.kind == KIND_FAMILY => {
                families.add(&record, &mut report);
                shown.push(Shown::new(file, &record));
            }
            Found::Live(record) => metrics.push(record),
            Found::Free => free += 1,
            Found::Padding | Found::Table => {}
            Found::Damaged => report.fault(format!("the record at byte {offset} is damaged")),
            Found::Nothing => lost = lost.or(Some(offset)),
        }
        offset = next;
    }
    report_lost(&mut report, lost, end);
    report_full(file, end, &mut report)?;
    let mut good = 0;
    for record in metrics {
        let metric = Shown::new(file, &record);
        if families.admit(file, record, &mut report)? {
            good += 1;
            shown.push(metric);
        }
    }
    let family_count = families.by_offset.len();
    report_index(file, shown, &mut report)?;
    writers::report(file, families.owners, &mut report)?;
    report.fact(format!(
        "{}, {}, {}",
        counted(family_count, "family"),
        counted(good, "metric"),
        counted(free, "free record")
    ));
    Ok(report)
}

/// A record that a scrape shows, as the index must know it.
struct Shown {
    offset: u64,
    generation: u64,
    hash: u64,
}

impl Shown {
    fn new(file: &SharedFile, record: &Record) -> Self {
        Self { offset: record.offset, generation: record.generation, hash: record.hash(file) }
    }
}

/// Reports damage of the index, and records to which it does not lead.
///
/// The slot of a record is stored before the record is live, and emptied after the record is free. So a
/// record that is live after its slot was not found is missing, unless the whole index was built anew
/// meanwhile. What seems wrong is looked at again, because a table may just be added, or the index built.
fn report_index(file: &SharedFile, mut shown: Vec<Shown>, report: &mut Report) -> Result<()> {
    let mut damaged = Vec::new();
    let mut tables = 0;
    for _ in 0..ATTEMPTS {
        let index = Index::new(file, committed(file)?);
        if !index.is_whole()? {
            std::thread::yield_now();
            continue;
        }
        (damaged, tables) = index.survey()?;
        let mut missing = Vec::new();
        for record in shown {
            match index.leads_to(record.hash, record.offset) {
                Ok(true) => {}
                Ok(false) if !is_live(file, record.offset, record.generation)? => {}
                // What is damaged is in the list already.
                Ok(false) | Err(Trouble::Index(_)) => missing.push(record),
                Err(Trouble::Other(error)) => return Err(error),
            }
        }
        shown = missing;
        if damaged.is_empty() && shown.is_empty() {
            break;
        }
    }
    if !Index::new(file, committed(file)?).is_whole()? {
        report.fact("the index is not whole: the next new series builds it".to_owned());
        return Ok(());
    }
    for at in &damaged {
        report.fault(format!(
            "the index is damaged at byte {at}: the next series that needs it builds it anew"
        ));
    }
    if damaged.is_empty() {
        for record in &shown {
            report.fault(format!("the index does not lead to the record at byte {}", record.offset));
        }
    }
    report.fact(format!("{} of the index", counted(tables, "table")));
    Ok(())
}

/// Reports that the file has no room for another metric of usual size, and the table that it may need.
fn report_full(file: &SharedFile, end: u64, report: &mut Report) -> Result<()> {
    let (length, limit) = (file.length()?, file.header().size_limit);
    let room_for_a_table = record_size(TABLE_CELLS as usize, 0).map_or(0, u64::from);
    if length.saturating_sub(end) >= ROOM_FOR_A_METRIC + room_for_a_table {
        return Ok(());
    }
    if length + SEGMENT_SIZE > limit {
        report.fault(format!(
            "it is full: its size limit of {limit} bytes is reached, and new metrics find no room; remove \
             metrics, or make a new file with a larger size_limit"
        ));
    } else if file.space_left()? < SEGMENT_SIZE {
        report.fault("it is full: it cannot grow, because its file system has no space left");
    }
    Ok(())
}

/// Returns what is at `offset`, and where the next record may begin.
fn look(file: &SharedFile, offset: u64, end: u64) -> Result<(Found, u64)> {
    // The boundaries of records never change, so only the contents need a second look.
    let (Some(place), next) = place_at(file, offset, end)? else {
        return Ok((Found::Nothing, offset + RECORD_ALIGNMENT));
    };
    match place.kind {
        KIND_PADDING => return Ok((Found::Padding, next)),
        KIND_TABLE | KIND_DIRECTORY if is_whole_table(file, place)? => return Ok((Found::Table, next)),
        _ => {}
    }
    for _ in 0..ATTEMPTS {
        if let Some(record) = read(file, place)? {
            return Ok((Found::Live(record), next));
        }
        let generation = load(word(file, file.segment(offset)?, offset, GENERATION_AT)?);
        match place.kind {
            KIND_METRIC if generation.is_multiple_of(2) => return Ok((Found::Free, next)),
            KIND_METRIC => std::thread::yield_now(),
            _ => break,
        }
    }
    Ok((Found::Damaged, next))
}

fn report_lost(report: &mut Report, start: Option<u64>, end: u64) {
    if let Some(start) = start {
        report.fault(format!("bytes {start} to {} are damaged: no record begins there", end - 1));
    }
}

/// Returns whether the record at `offset` still belongs to the metric that it was read as.
fn is_live(file: &SharedFile, offset: u64, generation: u64) -> Result<bool> {
    Ok(load(word(file, file.segment(offset)?, offset, GENERATION_AT)?) == generation)
}

/// The metrics of a family by their labels.
type Metrics = BTreeMap<String, Record>;

/// The families of the file, and the metrics that were seen of each.
#[derive(Default)]
struct Families {
    by_offset: BTreeMap<u64, (Definition, Metrics)>,
    names: BTreeSet<String>,
    /// The owners of places.
    owners: BTreeMap<u64, Owner>,
}

impl Families {
    fn add(&mut self, record: &Record, report: &mut Report) {
        let at = record.offset;
        match definition_of(record) {
            Ok(definition) if !self.names.insert(definition.name().to_owned()) => {
                report.fault(format!(
                    "metric family {:?} is declared a second time at byte {at}",
                    definition.name()
                ));
                self.by_offset.insert(at, (definition, Metrics::new()));
            }
            Ok(definition) => drop(self.by_offset.insert(at, (definition, Metrics::new()))),
            Err(error) => report.fault(format!("the family at byte {at} cannot be read: {error}")),
        }
    }

    /// Returns whether a scrape shows this metric. Reports why not.
    fn admit(&mut self, file: &SharedFile, record: Record, report: &mut Report) -> Result<bool> {
        let at = record.offset;
        let Some((definition, seen)) = self.by_offset.get_mut(&record.family) else {
            report.fault(format!("the metric at byte {at} is of no family that can be read"));
            return Ok(false);
        };
        let name = definition.name();
        if definition.mode().is_some() {
            let Some((mode, place, _)) = series_of_process(definition, &record) else {
                report.fault(format!("the series of {name:?} at byte {at} is of no process, or damaged"));
                return Ok(false);
            };
            let mut values = vec![0.0; record.cell_count as usize];
            cells(file.segment(at)?, file, &record)?.read(&mut values);
            if is_live(file, at, record.generation)? {
                let owner = self.owners.entry(place).or_default();
                owner.series += 1;
                owner.pid = owner.pid.or(places::pid(mode, &values));
                owner.since = [owner.since, record.created].into_iter().flatten().min();
            }
            return Ok(true);
        }
        let Some(labels) = labels::decode(&record.text) else {
            report.fault(format!("the labels of the metric of {name:?} at byte {at} cannot be read"));
            return Ok(false);
        };
        let text = labels::encode(&labels);
        if let Some(ttl) = definition.series_ttl()
            && last_use::is_over(record.last_use, ttl, uptime())
        {
            return Ok(false);
        }
        if !definition.allows_labels(&text) {
            report
                .fault(format!("the metric {name}{text} at byte {at} has label names that are not allowed"));
        } else if record.cell_count as usize != definition.cell_count() {
            report.fault(format!(
                "the metric {name}{text} at byte {at} has {}, expected {}",
                counted(record.cell_count as usize, "cell"),
                definition.cell_count()
            ));
        } else if let Some(first) = seen.get(&text)
            // If a metric was removed after it was read, and made again further on, it is not there twice.
            && is_live(file, first.offset, first.generation)?
            && is_live(file, record.offset, record.generation)?
        {
            report.fault(format!("the metric {name}{text} is there a second time at byte {at}"));
        } else {
            let damaged = damaged_words(file, definition, &record)?;
            if damaged > 0 && is_live(file, record.offset, record.generation)? {
                report.fault(format!(
                    "the native histogram of {name}{text} at byte {at} has {} that hold no bucket of it",
                    counted(damaged, "word")
                ));
            }
            let unreadable = cells(file.segment(record.offset)?, file, &record)?.unreadable_exemplars();
            if unreadable > 0 {
                report.fact(format!(
                    "{} of {name}{text} at byte {at} cannot be read: a process was killed while it wrote there, or \
                     writes there now",
                    counted(unreadable, "exemplar")
                ));
            }
            seen.insert(text, record);
            return Ok(true);
        }
        Ok(false)
    }
}

/// Returns how many words of a native histogram hold no bucket that it can have. Readers leave them out.
fn damaged_words(file: &SharedFile, definition: &Definition, record: &Record) -> Result<usize> {
    let Some(native) = definition.native() else { return Ok(0) };
    let mut cells = vec![0.0; definition.cell_count()];
    cells_of(definition, file.segment(record.offset)?, file, record)?.read(&mut cells);
    let words = cells.iter().rev().take(native.size());
    Ok(words.filter(|cell| !BucketWord(cell.to_bits()).is_valid(native)).count())
}
