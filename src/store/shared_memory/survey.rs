//! A look at every record of the file: what it holds, and what is wrong with it.
//!
//! The store's `check` calls it. It takes no lock and changes nothing, so processes may count meanwhile: what
//! seems damaged is read again before it is called so.

use std::collections::{BTreeMap, BTreeSet};

use super::file::SharedFile;
use super::layout::{GENERATION_AT, HEADER_SIZE, KIND_METRIC, KIND_PADDING, RECORD_ALIGNMENT, SEGMENT_SIZE};
use super::records::{Record, committed, place, read_record, word};
use super::{KIND_FAMILY, parse_family};
use crate::cell::segment::load;
use crate::model::definition::Definition;
use crate::model::error::Result;
use crate::model::labels;
use crate::model::report::{Report, counted};

/// How often a record that seems damaged is read: it may be about to change hands.
const ATTEMPTS: u32 = 100;

/// What there is at a place where a record can begin.
enum Place {
    Live(Record),
    /// A metric that was removed.
    Free,
    Padding,
    /// A record of some size, which is not whole.
    Damaged,
    /// Nothing that has even a size.
    Nothing,
}

/// Reads the whole file.
pub(crate) fn survey(file: &SharedFile) -> Result<Report> {
    let mut report = Report::default();
    let end = committed(file)?;
    let limit = file.header().size_limit;
    report.fact(format!("metrics file {}", file.path().display()));
    report.fact(format!("{end} bytes of at most {limit} are used; the file has {} now", file.length()?));
    let mut families = Families::default();
    let mut metrics = Vec::new();
    let mut free = 0;
    let mut lost = None;
    let mut offset = HEADER_SIZE;
    while offset < end {
        let (place, size) = look(file, offset, end)?;
        if !matches!(place, Place::Nothing) {
            report_lost(&mut report, lost.take(), offset);
        }
        match place {
            Place::Live(record) if record.kind == KIND_FAMILY => families.add(&record, &mut report),
            Place::Live(record) => metrics.push(record),
            Place::Free => free += 1,
            Place::Padding => {}
            Place::Damaged => report.fault(format!("the record at byte {offset} is damaged")),
            Place::Nothing => lost = lost.or(Some(offset)),
        }
        offset += size;
    }
    report_lost(&mut report, lost, end);
    let mut good = 0;
    for record in metrics {
        good += usize::from(families.admit(file, record, &mut report)?);
    }
    report.fact(format!(
        "{}, {}, {}",
        counted(families.by_offset.len(), "family"),
        counted(good, "metric"),
        counted(free, "free record")
    ));
    Ok(report)
}

/// What is at `offset`, and how far it is to the next place where a record may begin.
fn look(file: &SharedFile, offset: u64, end: u64) -> Result<(Place, u64)> {
    let border = end.min((offset / SEGMENT_SIZE + 1) * SEGMENT_SIZE);
    for _ in 0..ATTEMPTS {
        let segment = file.segment(offset)?;
        let Some(kind_and_size) = place(file, segment, offset)? else { break };
        let (kind, size) = (kind_and_size as u32, kind_and_size >> 32);
        if offset + size > border {
            break;
        }
        if kind == KIND_PADDING {
            return Ok((Place::Padding, size));
        }
        if let Some((Some(record), _)) = read_record(file, offset)? {
            return Ok((Place::Live(record), size));
        }
        // Acquire, as everywhere that a generation is read.
        let generation = load(word(file, segment, offset, GENERATION_AT)?);
        match kind {
            KIND_METRIC if generation.is_multiple_of(2) => return Ok((Place::Free, size)),
            KIND_METRIC => std::thread::yield_now(),
            _ => return Ok((Place::Damaged, size)),
        }
    }
    // A place never changes, so what is none now is none; what has one was looked at often enough.
    let size = place(file, file.segment(offset)?, offset)?.map(|kind_and_size| kind_and_size >> 32);
    Ok(match size.filter(|size| offset + size <= border) {
        Some(size) => (Place::Damaged, size),
        None => (Place::Nothing, RECORD_ALIGNMENT),
    })
}

fn report_lost(report: &mut Report, start: Option<u64>, end: u64) {
    if let Some(start) = start {
        report.fault(format!("bytes {start} to {} are damaged: no record begins there", end - 1));
    }
}

/// Whether the record still belongs to the metric that it was read as.
fn is_live(file: &SharedFile, record: &Record) -> Result<bool> {
    let segment = file.segment(record.offset)?;
    // Acquire, as everywhere that a generation is read.
    let generation = load(word(file, segment, record.offset, GENERATION_AT)?);
    Ok(generation == record.generation)
}

/// The metrics of a family by their labels.
type Metrics = BTreeMap<String, Record>;

/// The families of the file, and the metrics that were seen of each.
#[derive(Default)]
struct Families {
    by_offset: BTreeMap<u64, (Definition, Metrics)>,
    names: BTreeSet<String>,
}

impl Families {
    fn add(&mut self, record: &Record, report: &mut Report) {
        let at = record.offset;
        match parse_family(record) {
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

    /// Whether a scrape shows this metric; tells the report why not.
    fn admit(&mut self, file: &SharedFile, record: Record, report: &mut Report) -> Result<bool> {
        let at = record.offset;
        let Some((definition, seen)) = self.by_offset.get_mut(&record.family) else {
            report.fault(format!("the metric at byte {at} is of no family that can be read"));
            return Ok(false);
        };
        let name = definition.name();
        let Some(labels) = labels::decode(&record.text) else {
            report.fault(format!("the labels of the metric of {name:?} at byte {at} cannot be read"));
            return Ok(false);
        };
        let text = labels::encode(&labels);
        if !labels.keys().eq(definition.label_names()) {
            report.fault(format!("the metric {name}{text} at byte {at} has labels that its family has not"));
        } else if record.cell_count as usize != definition.cell_count() {
            report.fault(format!(
                "the metric {name}{text} at byte {at} has {}, expected {}",
                counted(record.cell_count as usize, "cell"),
                definition.cell_count()
            ));
        } else if let Some(first) = seen.get(&text)
            // Not if it was removed after it was read, and made anew behind.
            && is_live(file, first)?
            && is_live(file, &record)?
        {
            report.fault(format!("the metric {name}{text} is there a second time at byte {at}"));
        } else {
            seen.insert(text, record);
            return Ok(true);
        }
        Ok(false)
    }
}
