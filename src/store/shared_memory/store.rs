//! The store of a process that counts in a metrics file.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::families::{pick, read_families};
use super::file::SharedFile;
use super::layout::{KIND_FAMILY, KIND_METRIC};
use super::options::{SharedMemoryOptions, Start};
use super::outline::LastOutline;
use super::places;
use super::record::{Contents, Record, cells_of, committed, definition_of, expire, live_records, touch};
use super::records::{Records, is_out_of_quarantine};
use super::service_file::ServiceFile;
use super::survey;
use crate::cell::Cells;
use crate::exposition::Selection;
use crate::metric::family::Family;
use crate::metric::{Metric, now};
use crate::model::definition::{Definition, EXPIRING};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::gauge_mode::GaugeMode;
use crate::model::report::Report;
use crate::model::sample::{FamilySamples, Milliseconds, Snapshot};
use crate::process::clock::uptime;
use crate::process::fork::ForkGuard;
use crate::store::Store;

/// Makes metrics whose cells are words of the file.
#[derive(Debug)]
pub(super) struct SharedMemoryStore {
    file: Arc<SharedFile>,
    /// Making and removing metrics takes this lock. Counting and reading values take none.
    records: Mutex<Records>,
    /// What the last scrape has found in the file.
    last: LastOutline,
    /// The service's file, if the program has given no path.
    service: Option<ServiceFile>,
    /// Whether the log has said that the file lost its name.
    is_renamed: AtomicBool,
    /// When [`make_room`](Self::make_room) last swept, in seconds of [`uptime`].
    swept: AtomicU32,
}

impl SharedMemoryStore {
    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path, options: &SharedMemoryOptions) -> Result<Self> {
        let file = Arc::new(SharedFile::open(path, options)?);
        committed(&file)?;
        let records = Mutex::new(Records::new(Arc::clone(&file)));
        let swept = AtomicU32::new(uptime());
        Ok(Self {
            file,
            records,
            last: LastOutline::default(),
            service: None,
            is_renamed: AtomicBool::new(false),
            swept,
        })
    }

    /// Opens the file of this process's service, or makes it.
    pub(super) fn open_for_service(service: ServiceFile, options: &SharedMemoryOptions) -> Result<Self> {
        service.sweep();
        // A worker that starts later must not empty the file in which others count.
        let start = if service.is_of_root() { options.start } else { Start::Continue };
        let store = Self::open(&service.path, &SharedMemoryOptions { start, ..options.clone() })?;
        log::info!("this service counts in the metrics file {}", service.path.display());
        Ok(Self { service: Some(service), ..store })
    }

    /// Logs once that the file has lost its name.
    fn check_name(&self) {
        if self.file.has_its_name() {
            self.is_renamed.store(false, Ordering::Relaxed);
        } else if !self.is_renamed.swap(true, Ordering::Relaxed) {
            log::warn!(
                "the metrics file {} was removed or replaced while this process uses it: processes that \
                 start from now on count in another file; restart the service",
                self.file.path().display()
            );
        }
    }

    /// Reads the selected families, and ends the series that were unused for too long.
    fn read_families(&self, selection: &Selection) -> Result<Vec<FamilySamples>> {
        self.prepare_to_read();
        let mut must_sweep = false;
        let families = read_families(&self.file, &self.last, selection, |record, ttl| {
            must_sweep |= is_out_of_quarantine(record.last_use);
            expire(&self.file, record, ttl)
        })?;
        if must_sweep
            && let Ok(mut records) = self.lock_at_once()
            && let Err(error) = self.sweep(&mut records)
        {
            log::debug!("series that have ended stay in the metrics file: {error}");
        }
        Ok(families)
    }

    /// Ends the series that were unused for too long, and frees their records.
    fn sweep(&self, records: &mut Records) -> Result<()> {
        let families = live_records(&self.file)?.into_iter().filter(|record| record.kind == KIND_FAMILY);
        let ttl = |record: Record| Some((record.offset, definition_of(&record).ok()?.series_ttl()?));
        records.sweep(&families.filter_map(ttl).collect())
    }

    /// Makes room for a new series of a family whose series end: ends those that were unused for too long. A file that
    /// only a side-car scrapes would otherwise grow. A change that begins a series anew does not look at the whole file.
    fn make_room(&self, records: &mut Records, ttl: u32) {
        let now = uptime();
        let last = self.swept.load(Ordering::Relaxed);
        let made = if !records.waits() {
            records.free_some()
        } else if now.saturating_sub(last) > ttl.max(1) || last > now {
            self.swept.store(now, Ordering::Relaxed);
            self.sweep(records)
        } else {
            Ok(())
        };
        if let Err(error) = made {
            log::debug!("series that have ended stay in the metrics file: {error}");
        }
    }

    fn prepare_to_read(&self) {
        self.check_name();
        // A thread that has the records may wait for the lock of the file, and has kept the place.
        if let Ok(mut records) = self.records.try_lock() {
            records.keep_place();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        // A panic may leave the index incomplete. It is checked against the file whenever it is used.
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.may_wait(true);
        records
    }

    /// Locks the records for work that does not wait for other processes or threads. Fails if it had to.
    fn lock_at_once(&self) -> Result<MutexGuard<'_, Records>> {
        let mut records = match self.records.try_lock() {
            Ok(records) => records,
            Err(TryLockError::Poisoned(records)) => records.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let path = self.file.path().display();
                let message = format!("another thread adds or removes series in the metrics file {path}");
                return Err(Error::new(ErrorKind::Timeout, message));
            }
        };
        records.may_wait(false);
        Ok(records)
    }

    /// Returns the family's record. Appends it if the file, which has `length` bytes, has no family of that name.
    fn family_record(&self, records: &mut Records, length: u64, definition: &Definition) -> Result<Record> {
        if let Some(record) = records.known_family(length, definition)? {
            return Ok(record);
        }
        if definition.name().contains('\n') {
            let reason = "a metrics file cannot hold a name with a line feed";
            let message = format!("metric name {:?}: {reason}", definition.name());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let text = format!("{}\n{}", definition.name(), definition.to_file_json());
        let wanted = Contents {
            kind: KIND_FAMILY,
            family: 0,
            cell_count: 0,
            slots: 0,
            created: None,
            ends: false,
            text: &text,
        };
        let record = records.find_or_append(length, &wanted, |records| known_family(records, definition))?;
        records.know_family(definition, &record);
        Ok(record)
    }

    /// Returns the cells of the metric with the labels `key`, and after how many seconds without use its series ends.
    /// Appends its record if the file has none: a metric that began at `created`, or now.
    fn cells(
        &self,
        mut records: MutexGuard<'_, Records>,
        definition: &Definition,
        key: &str,
        created: Option<Milliseconds>,
    ) -> Result<(Cells, Option<u32>)> {
        let length = records.checked_length()?;
        let family_record = self.family_record(&mut records, length, definition)?;
        if let Some(mode) = definition.mode() {
            let cells = self.cells_of_process(&mut records, &family_record, definition, mode, key)?;
            return Ok((cells, None));
        }
        let ttl = ttl_in_file(&family_record, definition);
        if let Some(ttl) = ttl {
            self.make_room(&mut records, ttl);
        }
        let contents = metric_record(&family_record, definition, key);
        let wanted = Contents { created: created.or_else(now), ends: ttl.is_some(), ..contents };
        loop {
            let record = records.find_or_append(length, &wanted, |_| Ok(None))?;
            let segment = self.file.writable_segment(record.offset)?;
            if let Some(ttl) = ttl
                && !touch(&self.file, &record, ttl)?
            {
                // The series has ended, and its record is not found any more.
                continue;
            }
            return Ok((cells_of(definition, segment, &self.file, &record)?, ttl));
        }
    }
}

impl SharedMemoryStore {
    /// Returns the cells that this process has in the series with the labels `key`.
    fn cells_of_process(
        &self,
        records: &mut Records,
        family: &Record,
        definition: &Definition,
        mode: GaugeMode,
        key: &str,
    ) -> Result<Cells> {
        let text = places::text(records.place()?, key);
        let cell_count = places::cell_count(mode);
        let wanted = Contents {
            kind: KIND_METRIC,
            family: family.offset,
            cell_count,
            slots: 0,
            created: None,
            ends: false,
            text: &text,
        };
        let record = records.find_or_append(records.checked_length()?, &wanted, |_| Ok(None))?;
        let segment = self.file.writable_segment(record.offset)?;
        let cells = cells_of(definition, segment, &self.file, &record)?;
        places::begin(mode, &cells);
        Ok(cells)
    }

    /// Removes the series with the labels `key`. Returns whether the file had it.
    fn remove(&self, definition: &Definition, key: &str) -> Result<bool> {
        let mut records = self.lock();
        let length = records.checked_length()?;
        let family = self.family_record(&mut records, length, definition)?;
        match definition.mode() {
            // Every process may have a record.
            Some(_) => records.remove_all(family.offset, |record| {
                places::parse(&record.text).is_some_and(|(_, labels)| labels == key)
            }),
            None => {
                let ends = ttl_in_file(&family, definition).is_some();
                records.remove(&Contents { ends, ..metric_record(&family, definition, key) })
            }
        }
    }
}

impl Store for SharedMemoryStore {
    fn names_are_shared(&self) -> bool {
        true
    }

    fn admit(&self, definition: &Definition) -> Result<()> {
        let mut records = self.lock();
        let length = records.checked_length()?;
        match self.family_record(&mut records, length, definition) {
            // A definition that is too large is no mistake of the program, and neither is a long label value.
            Err(error) if error.kind() == ErrorKind::InvalidArgument && !definition.name().contains('\n') => {
                Err(Error::new(ErrorKind::Store, error.message()))
            }
            Ok(record) => {
                let ttl = ttl_in_file(&record, definition);
                if ttl != definition.series_ttl() {
                    log::warn!(
                        "the series of {:?} {}, because the metrics file {} has the family so; a new file takes the \
                         series_ttl of this program",
                        definition.name(),
                        ttl.map_or("do not end".to_owned(), |ttl| format!("end after {ttl} s without use")),
                        self.file.path().display()
                    );
                }
                Ok(())
            }
            refused => refused.map(drop),
        }
    }

    fn new_metric(&self, family: &Arc<Family>, key: &Arc<str>) -> Result<Arc<Metric>> {
        let (mut cells, ttl) = self.cells(self.lock(), &family.definition, key, None)?;
        if ttl.is_some() {
            let metric = Metric::held_back(family, key);
            if let Some(series) = metric.cells.expiring() {
                series.store_in(cells, ttl);
            }
            return Ok(metric);
        }
        if family.definition.mode().is_some() {
            let held = family.held_cells();
            held.store_in(cells);
            cells = Cells::Held(Box::new(held));
        }
        Ok(Arc::new(Metric::new(Arc::clone(family), Arc::clone(key), cells)))
    }

    fn cells_of(&self, metric: &Metric, may_wait: bool) -> Result<(Cells, Option<u32>)> {
        let records = if may_wait { self.lock() } else { self.lock_at_once()? };
        self.cells(records, &metric.family.definition, &metric.key, metric.created())
    }

    fn removed(&self, metric: &Arc<Metric>) -> Result<()> {
        self.remove(&metric.family.definition, &metric.key).map(drop)
    }

    fn remove_unknown(&self, family: &Arc<Family>, key: &str) -> Result<bool> {
        self.remove(&family.definition, key)
    }

    fn cleared(&self, family: &Arc<Family>, _: Vec<Arc<Metric>>) -> Result<()> {
        let mut records = self.lock();
        let length = records.checked_length()?;
        let family = self.family_record(&mut records, length, &family.definition)?;
        records.remove_all(family.offset, |_| true).map(drop)
    }

    fn collect(&self, families: Option<Vec<Arc<Family>>>, selection: &Selection) -> Result<Snapshot> {
        let found = self.read_families(selection)?;
        let Some(families) = families else { return Ok(Snapshot { families: found }) };
        Ok(Snapshot { families: pick(found, &families) })
    }

    fn collect_with_others(
        &self,
        families: Vec<Arc<Family>>,
        declared: &HashSet<&str>,
        selection: &Selection,
    ) -> Result<Snapshot> {
        let found = self.read_families(selection)?.into_iter();
        let (own, others): (Vec<_>, Vec<_>) =
            found.partition(|family| declared.contains(family.definition.name()));
        let mut shown = pick(own, &families);
        shown.extend(others);
        Ok(Snapshot { families: shown })
    }

    fn read(&self, metric: &Arc<Metric>) -> Result<Vec<f64>> {
        let values = metric.read_cells();
        // Check after reading, because the values may belong to the record's next metric.
        if metric.cells.is_live() {
            return Ok(values);
        }
        let name = metric.family.definition.name();
        let message = format!("the metric {name}{} was removed", metric.key);
        Err(Error::new(ErrorKind::NotFound, message))
    }

    fn check(&self) -> Result<Report> {
        let mut report = survey::survey(&self.file)?;
        if !self.file.has_its_name() {
            report.fault("it was removed or replaced: other processes of the service count in another file");
        }
        Ok(report)
    }

    fn close(&self) -> Result<()> {
        if let Some(service) = &self.service {
            service.leave();
        }
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

fn metric_record<'key>(family: &Record, definition: &Definition, key: &'key str) -> Contents<'key> {
    let (cell_count, slots) = (definition.cell_count(), definition.exemplar_slots());
    Contents {
        kind: KIND_METRIC,
        family: family.offset,
        cell_count,
        slots,
        created: None,
        ends: false,
        text: key,
    }
}

/// Returns after how many seconds without use a series ends. The definition in the file decides, because all processes
/// must agree.
fn ttl_in_file(family: &Record, own: &Definition) -> Option<u32> {
    let json = family.text.split_once('\n').map_or("", |(_, json)| json);
    // Most families have no such time. To see that needs no JSON to be made or parsed.
    if own.series_ttl().is_none() && !json.contains(EXPIRING) {
        return None;
    }
    if json == own.to_file_json() {
        return own.series_ttl();
    }
    definition_of(family).ok()?.series_ttl()
}

/// Returns the record of the family of this name, if the file has one. Fails if that family is incompatible.
fn known_family(records: Vec<Record>, wanted: &Definition) -> Result<Option<Record>> {
    for record in records {
        if record.kind != KIND_FAMILY || record.text.split('\n').next() != Some(wanted.name()) {
            continue;
        }
        // A newer program may have declared it, with a type that this one does not know.
        let known = definition_of(&record).map_err(|error| {
            let message = format!(
                "metric family {:?} is already declared in the metrics file by another program: {}",
                wanted.name(),
                error.message()
            );
            Error::new(ErrorKind::Conflict, message)
        })?;
        if known.is_compatible(wanted) {
            return Ok(Some(record));
        }
        let message = format!(
            "metric family {:?} is already declared in the metrics file as {}; it cannot be declared again \
             as {}",
            wanted.name(),
            known.describe(),
            wanted.describe()
        );
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    Ok(None)
}
