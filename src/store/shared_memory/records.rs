//! Finds, appends, removes and reuses the records of the file, for writers.
//!
//! All changes happen under the lock of the file, in an order that leaves a good file and a good index when
//! the process is killed between any two steps: docs/shared-memory-layout.md, "What a killed process
//! leaves".

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::appending::{FIRST_GENERATION, write_behind};
use super::descriptor::FileDescriptor;
use super::entry::Entry;
use super::errors::{failed, unusable};
use super::file::SharedFile;
use super::index::{Attempt, Index, Trouble};
use super::layout::{GENERATION_AT, HEADER_SIZE, KIND_AND_SIZE_AT, KIND_FAMILY, KIND_METRIC};
use super::lock::{FileLock, last_turn};
use super::place_locks::{self, PLACES};
use super::places::{self, Inheritance};
use super::record::{
    Contents, Record, checked_length, committed, committed_within, expire, live_records, live_records_from,
    put, word,
};
use crate::cell::last_use;
use crate::cell::segment::load;
use crate::model::definition::Definition;
use crate::model::error::Result;
use crate::process::clock::uptime;

/// How many seconds the record of a series that has ended stays as it is. A thread that was suspended in the middle of a
/// change meanwhile finds that the series has ended. Later it might change the record of another series.
const QUARANTINE: u32 = 60;

/// How many records a change looks at that begins a series anew.
const LOOKED_AT_ONCE: usize = 64;

/// Returns whether a record with this word of the last use may be freed.
pub(super) fn is_out_of_quarantine(word: u64) -> bool {
    let now = uptime();
    // No thread has survived the start of the machine.
    last_use::is_buried(word)
        && (last_use::age(word, now) > QUARANTINE || last_use::is_of_earlier_start(word, now))
}

/// The records of the file.
#[derive(Debug)]
pub(super) struct Records {
    file: Arc<SharedFile>,
    /// The families that this process has used, by their names: the definition, and the place and the text of the
    /// record. Each new series needs its family, and families are never removed.
    families: HashMap<String, (Definition, u64, String)>,
    /// The place of this process, with the descriptor that locks it: see [`places`].
    place: Option<(u64, FileDescriptor)>,
    /// Whether this work may wait for the lock of the file.
    may_wait: bool,
    /// Where [`free_some`](Self::free_some) goes on.
    next: u64,
}

impl Records {
    pub(super) fn new(file: Arc<SharedFile>) -> Self {
        Self { file, families: HashMap::new(), place: None, may_wait: true, next: HEADER_SIZE }
    }

    /// Says whether the work that follows may wait for the lock of the file. If not, it fails with
    /// [`ErrorKind::Timeout`](crate::ErrorKind) when another process has the lock.
    pub(super) fn may_wait(&mut self, may_wait: bool) {
        self.may_wait = may_wait;
    }

    /// Whether it may wait.
    pub(super) fn waits(&self) -> bool {
        self.may_wait
    }

    /// Returns the length of the file: see [`checked_length`].
    pub(super) fn checked_length(&self) -> Result<u64> {
        checked_length(&self.file)
    }

    /// Returns the record of a family that this process has used, or `None` if it has not used this definition yet.
    /// `length` is that of the file.
    pub(super) fn known_family(&self, length: u64, definition: &Definition) -> Result<Option<Record>> {
        let Some((_, offset, text)) =
            self.families.get(definition.name()).filter(|(known, ..)| known == definition)
        else {
            return Ok(None);
        };
        let record = Index::new(&self.file, committed_within(&self.file, length)?).record_at(*offset)?;
        // A damaged record is not that of the family any more.
        Ok(record.filter(|record| record.kind == KIND_FAMILY && record.text == *text))
    }

    /// Notes that this process uses a family, which has this record.
    pub(super) fn know_family(&mut self, definition: &Definition, record: &Record) {
        let known = (definition.clone(), record.offset, record.text.clone());
        self.families.insert(definition.name().to_owned(), known);
    }

    /// Returns the record with these contents. Appends it if there is none. `length` is that of the file.
    ///
    /// `choose` sees records that may have the same hash, if none of them has exactly these contents. It may
    /// return one of them to use instead, or refuse.
    pub(super) fn find_or_append(
        &self,
        length: u64,
        wanted: &Contents<'_>,
        choose: impl Fn(Vec<Record>) -> Result<Option<Record>>,
    ) -> Result<Record> {
        let file = &*self.file;
        let hash = wanted.hash(file);
        let size = wanted.size(file)?;
        let find = |index: &Index<'_>| -> Attempt<(Option<Record>, Option<u64>)> {
            let (mut records, empty) = index.candidates(hash)?;
            let found = match records.iter().position(|record| wanted.are_those_of(record)) {
                Some(found) => Some(records.swap_remove(found)),
                None => choose(records)?,
            };
            Ok((found, empty))
        };
        // Most look-ups of a record that exists need no lock. What is found is right. A miss is right if no writer was
        // at work meanwhile, so the turn is read first. A damaged index may be one that another process is building.
        let turn = last_turn(file)?;
        let missed = match find(&Index::new(file, committed_within(file, length)?)) {
            Ok((Some(record), _)) => return Ok(record),
            Ok((None, empty)) => Some(empty),
            Err(Trouble::Index(_)) => None,
            Err(Trouble::Other(error)) => return Err(error),
        };
        self.with_lock_within(length, |index, lock| {
            let empty = match missed {
                Some(empty) if lock.is_some_and(|lock| lock.follows(turn)) => empty,
                _ => match find(index)? {
                    (Some(record), _) => return Ok(record),
                    (None, empty) => empty,
                },
            };
            let slot = match empty {
                Some(slot) => slot,
                None => index.empty_slot(hash)?,
            };
            let free = if wanted.kind == KIND_METRIC { index.take_free(size)? } else { None };
            let (offset, generation) = match free {
                Some(offset) => (offset, reuse(file, index, slot, offset, wanted)?),
                None => (append(file, index, slot, wanted)?, FIRST_GENERATION),
            };
            Ok(Record {
                offset,
                generation,
                kind: wanted.kind,
                family: wanted.family,
                cell_count: wanted.cell_count as u32,
                slots: wanted.slots,
                created: wanted.created,
                last_use: wanted.last_use(generation),
                text: wanted.text.to_owned(),
            })
        })
    }

    /// Removes the record with these contents. Returns false if there is none.
    pub(super) fn remove(&mut self, wanted: &Contents<'_>) -> Result<bool> {
        let hash = wanted.hash(&self.file);
        // Kept outside: building the index anew may follow the removal.
        let mut is_removed = false;
        self.with_lock(|index| {
            let found = index.candidates(hash)?.0.into_iter().find(|record| wanted.are_those_of(record));
            if let Some(record) = found {
                is_removed = true;
                free(&self.file, index, &record)?;
            }
            Ok(())
        })?;
        Ok(is_removed)
    }

    /// Removes the metric records of the family whose record is at `family` that `is_removed` says. Returns whether
    /// there were any.
    pub(super) fn remove_all(&mut self, family: u64, is_removed: impl Fn(&Record) -> bool) -> Result<bool> {
        let mut has_removed = false;
        self.with_lock(|index| {
            for record in live_records(&self.file)? {
                if record.kind == KIND_METRIC && record.family == family && is_removed(&record) {
                    has_removed = true;
                    free(&self.file, index, &record)?;
                }
            }
            Ok(())
        })?;
        Ok(has_removed)
    }

    /// Ends the series that were unused for too long, and frees the records of those that have ended [`QUARANTINE`]
    /// seconds ago. `ttls` are those of the families, by the offset of their records.
    pub(super) fn sweep(&mut self, ttls: &HashMap<u64, u32>) -> Result<()> {
        let mut ended = Vec::new();
        for record in live_records(&self.file)? {
            if record.kind == KIND_METRIC
                && let Some(&ttl) = ttls.get(&record.family)
                && expire(&self.file, &record, ttl)?
                && is_out_of_quarantine(record.last_use)
            {
                ended.push(record);
            }
        }
        self.free_ended(&ended)
    }

    /// Frees some of the records whose series have ended [`QUARANTINE`] seconds ago. Each call looks at the next few
    /// records of the file.
    pub(super) fn free_some(&mut self) -> Result<()> {
        let (mut records, next) = live_records_from(&self.file, self.next, LOOKED_AT_ONCE)?;
        self.next = next;
        records.retain(|record| record.kind == KIND_METRIC && is_out_of_quarantine(record.last_use));
        self.free_ended(&records)
    }

    fn free_ended(&self, ended: &[Record]) -> Result<()> {
        if ended.is_empty() {
            return Ok(());
        }
        self.with_lock(|index| {
            for record in ended {
                let segment = self.file.writable_segment(record.offset)?;
                let generation = word(&self.file, segment, record.offset, GENERATION_AT)?;
                // Another process may have freed it.
                if load(generation) == record.generation {
                    free(&self.file, index, record)?;
                }
            }
            Ok(())
        })
    }

    /// Returns the place of this process: see [`places`]. Takes one if it has none.
    pub(super) fn place(&mut self) -> Result<u64> {
        self.keep_place();
        if let Some((place, _)) = self.place {
            return Ok(place);
        }
        let file = &*self.file;
        // Not the file's own descriptor: a forked child inherits the maps, and they would keep its lock.
        let descriptor = file.open_again()?;
        for place in 0..PLACES {
            if lock(file, &descriptor, place)? {
                self.take_over(place)?;
                self.place = Some((place, descriptor));
                return Ok(place);
            }
        }
        Err(unusable(file.path(), format!("{PLACES} processes have gauges of their own in it")))
    }

    /// Locks the place of this process again, because the program may have closed the descriptor. If another process
    /// has taken the place meanwhile, this process has none.
    pub(super) fn keep_place(&mut self) {
        let is_lost = |(place, descriptor): &(u64, FileDescriptor)| {
            matches!(lock(&self.file, descriptor, *place), Ok(false))
        };
        if self.place.as_ref().is_some_and(is_lost) {
            self.place = None;
        }
    }

    /// Takes over the records of a place, whose process is dead.
    fn take_over(&self, place: u64) -> Result<()> {
        let file = &*self.file;
        // No other process makes such records while this one has the lock of the place. Others may remove them.
        let found = places::records_of(file, place)?;
        if found.is_empty() {
            return Ok(());
        }
        self.with_lock(|index| {
            for (record, inheritance) in &found {
                let generation =
                    word(file, file.writable_segment(record.offset)?, record.offset, GENERATION_AT)?;
                match inheritance {
                    _ if load(generation) != record.generation => {}
                    Inheritance::Remove => free(file, index, record)?,
                    Inheritance::Keep(mode) => {
                        places::fold(file, record, *mode)?;
                        // Handles of the record do nothing from now on. Its process may live, and have lost its
                        // place.
                        put(generation, record.generation.wrapping_add(2));
                    }
                }
            }
            Ok(())
        })
    }

    /// Calls `work` with the lock and a sound index. If `work` finds the index damaged, builds the index
    /// anew and calls it again.
    fn with_lock<T>(&self, mut work: impl FnMut(&mut Index<'_>) -> Attempt<T>) -> Result<T> {
        self.with_lock_within(self.checked_length()?, |index, _| work(index))
    }

    /// Does the same for a file that was found to have `length` bytes a moment ago. `work` also gets the lock, if the
    /// index is still the one that was there before it.
    fn with_lock_within<T>(
        &self,
        length: u64,
        mut work: impl FnMut(&mut Index<'_>, Option<&FileLock<'_>>) -> Attempt<T>,
    ) -> Result<T> {
        let file = &*self.file;
        let lock = FileLock::take(file, self.may_wait)?;
        let mut index = Index::new(file, committed_within(file, length)?);
        match index.settle().and_then(|()| work(&mut index, Some(&lock))) {
            Ok(done) => return Ok(done),
            Err(Trouble::Other(error)) => return Err(error),
            Err(Trouble::Index(_)) => {}
        }
        let end = index.end();
        let mut index = match Index::build(file, end, || lock.show_progress()) {
            Ok(index) => index,
            // A full file may have no room for an index. What is in it is found all the same.
            Err(error) => Index::absent(file, committed(file)?, error),
        };
        work(&mut index, None).map_err(|trouble| index.error(trouble))
    }

    /// Prepares the records for a forked child.
    pub(super) fn forked(&mut self) {
        self.file.forked();
        // Dropping it closes the descriptor that the child has inherited. The parent keeps the place.
        self.place = None;
    }
}

/// Locks a place. Returns `false` if another process has it.
fn lock(file: &SharedFile, descriptor: &FileDescriptor, place: u64) -> Result<bool> {
    let locked = descriptor.get(file.path()).and_then(|descriptor| place_locks::lock(descriptor, place));
    locked.map_err(|error| failed(file.path(), "cannot be locked", error))
}

/// Frees a live record.
fn free(file: &SharedFile, index: &Index<'_>, record: &Record) -> Attempt<()> {
    let segment = file.writable_segment(record.offset)?;
    let size = (load(word(file, segment, record.offset, KIND_AND_SIZE_AT)?) >> 32) as u32;
    index.take_in_hand(record.offset)?;
    // Release (in `put`): a process that sees the record free sees all that was written to it before.
    // Wrapping: the number comes from the file and may be anything.
    put(word(file, segment, record.offset, GENERATION_AT)?, record.generation.wrapping_add(1));
    index.remove(record.hash(file), record.offset)?;
    index.add_free(record.offset, size)?;
    Ok(index.put_down()?)
}

/// Gives the free record at `offset`, which is in hand, to a new metric. Returns its generation.
///
/// Families are always appended: they stand in the order of their declaration, and the kind of a record never
/// changes.
fn reuse(file: &SharedFile, index: &Index<'_>, slot: u64, offset: u64, wanted: &Contents<'_>) -> Result<u64> {
    let generation = word(file, file.writable_segment(offset)?, offset, GENERATION_AT)?;
    let live = generation.load(Ordering::Acquire) | 1;
    wanted.write(file, offset, wanted.size(file)?, live)?;
    index.set(slot, Entry::slot(offset, wanted.hash(file)))?;
    // Release (in `put`): a process that sees the new generation sees the record behind it. A writer that is
    // killed before this leaves the record free, and in hand.
    put(generation, live);
    index.put_down()?;
    Ok(live)
}

/// Appends a record behind the committed end, and publishes it. Returns its offset.
fn append(file: &SharedFile, index: &mut Index<'_>, slot: u64, wanted: &Contents<'_>) -> Result<u64> {
    let (offset, end) = write_behind(file, index.end(), wanted)?;
    // The slot leads behind the committed end until the writer commits the record. Readers take it for empty.
    index.set(slot, Entry::slot(offset, wanted.hash(file)))?;
    index.appended(end)?;
    Ok(offset)
}
