//! The index of the file: finds the record of a series, and free records, without reading all records.
//!
//! # Shape
//!
//! A series has a hash. It may have its slot in one **table** of each **level**, in two of the 32 **buckets**
//! of that table. A level has four times as many tables as the level before it, and a directory that leads
//! to them. A new series takes an empty slot of the lowest level that has one. So the index grows by one
//! table of 8 KiB at a time, and no slot is ever moved. A look-up reads 64 slots of each level, and a file
//! of a million series has six levels.
//!
//! Two buckets, of which the emptier one takes a series, are what fills tables evenly: a level is full to
//! some nine tenths before a series needs the next one.
//!
//! # Why a killed writer leaves it sound
//!
//! Every change of the index is one store of one word (an [`Entry`]), made by a writer that has the lock, in
//! an order in which the index never lacks a live record:
//!
//! - The slot of a new record is stored before the record becomes live: before the committed end of an
//!   appended record, and before the odd generation of a reused one.
//! - The slot of a removed record is emptied after its generation has become even.
//! - A table is committed and full of empty slots before its directory leads to it, and so is a directory
//!   before the header leads to it.
//!
//! So between two stores a slot may lead to a record that is not live, or not yet committed, or that of
//! another series. A look-up compares the record itself, so such a slot costs a comparison and its eight
//! bytes. A table to which no directory leads is lost until the index is built anew. Each of these costs
//! takes one kill between two stores.
//!
//! A free record is in the list of its size, or in the hand of the writer: see [`Index::settle`].
//!
//! # Reading without the lock
//!
//! What a look-up finds without the lock is right, because the record itself shows that it is committed,
//! live, whole and of that series. A miss without the lock proves nothing, because a writer may be at work.
//! So a process looks without the lock first, and again with the lock before it appends.
//!
//! # Damage
//!
//! Each entry carries a check of its value and place, and each entry that a look-up passes is checked, empty
//! ones too. If one is damaged, the writer builds the whole index anew from the records: [`Index::build`].
//! Readers of values never use the index.

use std::collections::HashMap;

use super::appending::{commit, write_behind};
use super::entry::{Entry, places_in_header};
use super::errors::{damaged, unusable};
use super::file::SharedFile;
use super::layout::{
    BUCKET_SLOTS, FAMILY_AT, FREE_LISTS, FREE_LISTS_AT, GENERATION_AT, HEADER_SIZE, IN_HAND_AT,
    INDEX_STATE_AT, INDEX_WHOLE, KIND_AND_SIZE_AT, KIND_DIRECTORY, KIND_METRIC, KIND_TABLE, LEVELS,
    LEVELS_AT, RECORD_ALIGNMENT, RECORD_HEADER_SIZE, SEGMENT_SIZE, TABLE_BUCKETS, TABLE_CELLS,
    tables_of_level,
};
use super::record::{Contents, Place, Record, kind_and_size, live_records, place_at, put, read, word};
use crate::cell::segment::load;
use crate::model::error::{Error, Result};

/// How many records of the list of large sizes a writer looks at for one of exactly its size.
const LARGE_RECORDS_SEEN: usize = 1_000;

/// How many records are indexed between two signs of progress.
const RECORDS_PER_TURN: u64 = 1 << 12;

/// Why a step of the index has failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The word at this byte is damaged, or the index is not whole. Building the index anew helps.
    Index(u64),
    Other(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

pub(super) type Attempt<T> = std::result::Result<T, Trouble>;

/// The table of a hash in one level.
enum Table {
    /// The level does not exist yet.
    NoLevel,
    /// The level has no table there yet. The entry at this byte shall lead to it.
    Missing(u64),
    /// The first slot is at this byte.
    At(u64),
}

/// What a search for a hash finds.
#[derive(Default)]
struct Found {
    /// The slots with the tag of the hash, with their places.
    slots: Vec<(u64, Entry)>,
    /// The slot that a new series takes, unless it needs a table first.
    empty: Option<u64>,
}

/// The index, up to a committed end. The functions that change it need the lock of the file.
pub(super) struct Index<'file> {
    file: &'file SharedFile,
    /// The committed end. A writer that has the lock keeps it up to date.
    end: u64,
    /// Tables and directories of the last index, while this one is built. Their places by kind and size.
    spare: HashMap<u64, Vec<u64>>,
    /// Why there is no index: it is damaged, and there is no room for another one. All records are read
    /// instead.
    absent: Option<Error>,
}

impl<'file> Index<'file> {
    /// Returns the index of a file whose length was checked up to the committed end `end`.
    pub(super) fn new(file: &'file SharedFile, end: u64) -> Self {
        Self { file, end, spare: HashMap::new(), absent: None }
    }

    /// Returns a stand-in for an index that cannot be built.
    pub(super) fn absent(file: &'file SharedFile, end: u64, reason: Error) -> Self {
        Self { absent: Some(reason), ..Self::new(file, end) }
    }

    /// Returns the committed end.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Returns whether the index is whole. It is not while a writer builds it, or if one was killed then.
    pub(super) fn is_whole(&self) -> Result<bool> {
        Ok(load(word(self.file, self.file.segment(0)?, 0, INDEX_STATE_AT)?) == INDEX_WHOLE)
    }

    fn set_state(&self, state: u64) -> Result<()> {
        // Release (in `put`): the entries before it are stored first.
        put(word(self.file, self.file.writable_segment(0)?, 0, INDEX_STATE_AT)?, state);
        Ok(())
    }

    /// Returns the entry at byte `at`.
    fn entry(&self, at: u64) -> Attempt<Entry> {
        let value = load(word(self.file, self.file.segment(at)?, at, 0)?);
        Entry::decode(value, at).ok_or(Trouble::Index(at))
    }

    /// Stores an entry at byte `at`.
    pub(super) fn set(&self, at: u64, entry: Entry) -> Result<()> {
        // Release (in `put`): a process that follows the entry sees what was written behind it before.
        put(word(self.file, self.file.writable_segment(at)?, at, 0)?, entry.encode(at));
        Ok(())
    }

    /// Returns where the cells of a table or directory begin, to which the entry at byte `at` leads.
    fn cells_behind(&self, at: u64, entry: Entry, contents: &Contents<'_>) -> Attempt<u64> {
        let size = contents.size(self.file)?;
        let expected = contents.kind_and_size(size);
        let is_inside = entry.offset >= HEADER_SIZE
            && entry.offset + u64::from(size) <= self.end
            && entry.offset % SEGMENT_SIZE + u64::from(size) <= SEGMENT_SIZE;
        if !is_inside {
            return Err(Trouble::Index(at));
        }
        let segment = self.file.segment(entry.offset)?;
        if load(word(self.file, segment, entry.offset, KIND_AND_SIZE_AT)?) != expected {
            return Err(Trouble::Index(entry.offset));
        }
        Ok(entry.offset + RECORD_HEADER_SIZE)
    }

    fn table(&self, level: u64, hash: u64) -> Attempt<Table> {
        let level_at = LEVELS_AT + level * 8;
        let directory = self.entry(level_at)?;
        if directory == Entry::EMPTY {
            return Ok(Table::NoLevel);
        }
        let tables = tables_of_level(level);
        let table_at = self.cells_behind(level_at, directory, &index_record(KIND_DIRECTORY, tables))?
            + table_number(hash, level) * 8;
        let table = self.entry(table_at)?;
        if table == Entry::EMPTY {
            return Ok(Table::Missing(table_at));
        }
        let cells = self.cells_behind(table_at, table, &index_record(KIND_TABLE, TABLE_CELLS))?;
        Ok(Table::At(cells))
    }

    /// Returns the slots of a bucket of the table whose first slot is at `table`, with their places.
    fn slots(&self, table: u64, bucket: u64) -> Attempt<impl Iterator<Item = Attempt<(u64, Entry)>>> {
        let start = table + bucket * BUCKET_SLOTS * 8;
        let words = self.file.segment(start)?.words(start % SEGMENT_SIZE, BUCKET_SLOTS);
        let words = words.ok_or(Trouble::Index(start))?;
        Ok(words.iter().zip((start..).step_by(8)).map(|(word, at)| {
            let entry = Entry::decode(load(word), at).ok_or(Trouble::Index(at))?;
            Ok((at, entry))
        }))
    }

    /// Adds the slots with the tag of a hash to `found`, of the table whose first slot is at `table`. Returns the slot
    /// that a new series takes, if one is empty.
    fn scan(&self, table: u64, hash: u64, found: &mut Vec<(u64, Entry)>) -> Attempt<Option<u64>> {
        let tag = Entry::tag_of(hash);
        // The bucket that has more empty slots takes the series. So both are nearly full before one is.
        let mut best = (0, 0);
        for bucket in buckets_of(hash) {
            let (mut empty, mut last) = (0, 0);
            for slot in self.slots(table, bucket)? {
                let (at, entry) = slot?;
                // A slot that leads behind the committed end was left by a writer that was killed.
                if !self.is_committed(entry.offset) {
                    (empty, last) = (empty + 1, at);
                } else if entry.tag == tag {
                    found.push((at, entry));
                }
            }
            best = best.max((empty, last));
        }
        Ok((best.0 > 0).then_some(best.1))
    }

    /// Looks for a hash in all levels.
    fn search(&self, hash: u64) -> Attempt<Found> {
        let mut found = Found::default();
        let mut needs_empty = true;
        for level in 0..LEVELS {
            let start = match self.table(level, hash)? {
                Table::NoLevel => break,
                Table::Missing(_) => {
                    // A new series gets this table before it takes a slot of a higher level.
                    needs_empty = false;
                    continue;
                }
                Table::At(start) => start,
            };
            let empty = self.scan(start, hash, &mut found.slots)?;
            if needs_empty && empty.is_some() {
                found.empty = empty;
                needs_empty = false;
            }
        }
        Ok(found)
    }

    /// Returns the live records that may be those of the hash, in the order of the file, and the slot that a new
    /// series takes, if there is one without a new table.
    pub(super) fn candidates(&self, hash: u64) -> Attempt<(Vec<Record>, Option<u64>)> {
        if self.absent.is_some() {
            return Ok((live_records(self.file)?, None));
        }
        let Found { slots, empty } = self.search(hash)?;
        let mut offsets: Vec<u64> = slots.iter().map(|(_, entry)| entry.offset).collect();
        offsets.sort_unstable();
        offsets.dedup();
        let mut records = Vec::with_capacity(offsets.len());
        for offset in offsets {
            records.extend(self.record_at(offset)?);
        }
        Ok((records, empty))
    }

    /// Returns whether a slot of the hash leads to `offset`.
    pub(super) fn leads_to(&self, hash: u64, offset: u64) -> Attempt<bool> {
        Ok(self.search(hash)?.slots.iter().any(|(_, entry)| entry.offset == offset))
    }

    /// Returns the live record at `offset`, where one was found earlier.
    pub(super) fn record_at(&self, offset: u64) -> Result<Option<Record>> {
        if !self.is_committed(offset) {
            return Ok(None);
        }
        match place_at(self.file, offset, self.end)? {
            (Some(place), _) => read(self.file, place),
            (None, _) => Ok(None),
        }
    }

    fn is_committed(&self, offset: u64) -> bool {
        (HEADER_SIZE..self.end).contains(&offset)
    }

    /// Returns the place of an empty slot for the hash. Appends a table if its buckets are full.
    pub(super) fn empty_slot(&mut self, hash: u64) -> Attempt<u64> {
        if let Some(reason) = &self.absent {
            return Err(Trouble::Other(reason.clone()));
        }
        let mut level = 0;
        while level < LEVELS {
            match self.table(level, hash)? {
                Table::At(start) => {
                    if let Some(empty) = self.scan(start, hash, &mut Vec::new())? {
                        return Ok(empty);
                    }
                    level += 1;
                }
                Table::Missing(at) => self.add(at, &index_record(KIND_TABLE, TABLE_CELLS))?,
                Table::NoLevel => {
                    self.add(LEVELS_AT + level * 8, &index_record(KIND_DIRECTORY, tables_of_level(level)))?;
                }
            }
        }
        Err(Trouble::Other(unusable(self.file.path(), "its index is full")))
    }

    /// Makes a table or a directory of empty entries, and lets the entry at byte `at` lead to it.
    fn add(&mut self, at: u64, contents: &Contents<'_>) -> Result<()> {
        let size = contents.size(self.file)?;
        let spare = self.spare.get_mut(&contents.kind_and_size(size)).and_then(Vec::pop);
        let (offset, end) = match spare {
            Some(offset) => {
                contents.write(self.file, offset, size, 0)?;
                (offset, self.end)
            }
            None => write_behind(self.file, self.end, contents)?,
        };
        let cells = offset + RECORD_HEADER_SIZE;
        let segment = self.file.writable_segment(offset)?;
        let words = segment.words(cells % SEGMENT_SIZE, contents.cell_count as u64);
        let words = words.ok_or_else(|| damaged(self.file.path(), offset))?;
        for (word, at) in words.iter().zip((cells..).step_by(8)) {
            put(word, Entry::EMPTY.encode(at));
        }
        self.appended(end)?;
        self.set(at, Entry::to(offset))
    }

    /// Publishes the record that was written up to `end`.
    pub(super) fn appended(&mut self, end: u64) -> Result<()> {
        commit(self.file, end)?;
        self.end = end;
        Ok(())
    }

    /// Empties the slot of a record that was removed.
    pub(super) fn remove(&self, hash: u64, offset: u64) -> Attempt<()> {
        if self.absent.is_some() {
            return Ok(());
        }
        for (at, _) in self.search(hash)?.slots.into_iter().filter(|(_, entry)| entry.offset == offset) {
            self.set(at, Entry::EMPTY)?;
        }
        Ok(())
    }

    // Free records.

    /// Notes the record that this writer is about to remove or to reuse.
    ///
    /// From here until [`Index::put_down`] the record may be free without being in a list.
    pub(super) fn take_in_hand(&self, offset: u64) -> Result<()> {
        self.set(IN_HAND_AT, Entry::to(offset))
    }

    /// Notes that the record in hand is live, or in a list.
    pub(super) fn put_down(&self) -> Result<()> {
        self.set(IN_HAND_AT, Entry::EMPTY)
    }

    /// Checks that the index is whole, and finishes what a killed writer had in hand. A writer calls this
    /// first.
    ///
    /// A record is put into a list only here and by the writer that has it in hand, and is taken out only by
    /// the writer that takes it in hand. So the list is as the killed writer left it, and the record is in it
    /// exactly if it is its first, or, in the list of large records, one that a walk finds.
    pub(super) fn settle(&self) -> Attempt<()> {
        if !self.is_whole()? {
            return Err(Trouble::Index(INDEX_STATE_AT));
        }
        let Entry { offset, .. } = self.entry(IN_HAND_AT)?;
        if offset == 0 {
            return Ok(());
        }
        if let Some(size) = self.free_size(offset)?
            && !self.is_listed(offset, size)?
        {
            self.add_free(offset, size)?;
        }
        Ok(self.put_down()?)
    }

    /// Returns the size of the free metric record at `offset`, or `None` if there is none.
    fn free_size(&self, offset: u64) -> Result<Option<u32>> {
        if !self.is_committed(offset) {
            return Ok(None);
        }
        let segment = self.file.segment(offset)?;
        // A record that is no longer a free one was damaged. It must be left alone.
        let is_free = load(word(self.file, segment, offset, GENERATION_AT)?).is_multiple_of(2);
        let found = kind_and_size(self.file, segment, offset)?;
        let found = found.filter(|found| is_free && *found as u32 == KIND_METRIC);
        Ok(found.map(|found| (found >> 32) as u32))
    }

    fn is_listed(&self, offset: u64, size: u32) -> Attempt<bool> {
        let mut at = free_list_of(size);
        for _ in 0..steps_in_list(at) {
            let next = self.entry(at)?.offset;
            if next == 0 || next == offset {
                return Ok(next == offset);
            }
            if !self.is_committed(next) {
                return Err(Trouble::Index(at));
            }
            at = next + FAMILY_AT;
        }
        Ok(false)
    }

    /// Makes a free record the first of its list.
    pub(super) fn add_free(&self, offset: u64, size: u32) -> Attempt<()> {
        if self.absent.is_some() {
            return Ok(());
        }
        let list = free_list_of(size);
        let first = self.entry(list)?;
        // A reader may still read this word as the family of the removed metric. It checks the generation
        // afterwards, which was changed before.
        self.set(offset + FAMILY_AT, first)?;
        Ok(self.set(list, Entry::to(offset))?)
    }

    /// Takes a free record of exactly this size in hand, and out of its list.
    pub(super) fn take_free(&self, size: u32) -> Attempt<Option<u64>> {
        if self.absent.is_some() {
            return Ok(None);
        }
        let mut at = free_list_of(size);
        for _ in 0..steps_in_list(at) {
            let Entry { offset, .. } = self.entry(at)?;
            if offset == 0 {
                break;
            }
            let found = self.free_size(offset)?.ok_or(Trouble::Index(at))?;
            if free_list_of(found) != free_list_of(size) {
                return Err(Trouble::Index(at));
            }
            if found == size {
                let next = self.entry(offset + FAMILY_AT)?;
                self.take_in_hand(offset)?;
                self.set(at, next)?;
                return Ok(Some(offset));
            }
            at = offset + FAMILY_AT;
        }
        Ok(None)
    }

    // The whole index.

    /// Builds the index of all records before `end`. Calls `progress` from time to time.
    ///
    /// The state tells that the index is not whole until all is done, so a writer that comes after a killed
    /// one begins again. It uses the tables again that the last index left, whole or not.
    pub(super) fn build(file: &'file SharedFile, end: u64, progress: impl Fn()) -> Result<Self> {
        let mut index = Self::new(file, end);
        index.set_state(0)?;
        index.for_each_place(end, &progress, |index, place| {
            if matches!(place.kind, KIND_TABLE | KIND_DIRECTORY) {
                let key = u64::from(place.kind) | u64::from(place.size) << 32;
                index.spare.entry(key).or_default().push(place.offset);
            }
            Ok(())
        })?;
        for at in places_in_header() {
            index.set(at, Entry::EMPTY)?;
        }
        index.for_each_place(end, &progress, |index, place| {
            if let Some(record) = read(file, place)? {
                let hash = record.hash(file);
                let slot = index.empty_slot(hash)?;
                index.set(slot, Entry::slot(place.offset, hash))?;
            } else if let Some(size) = index.free_size(place.offset)? {
                index.add_free(place.offset, size)?;
            }
            Ok(())
        })?;
        index.spare.clear();
        index.set_state(INDEX_WHOLE)?;
        Ok(index)
    }

    fn for_each_place(
        &mut self,
        end: u64,
        progress: impl Fn(),
        mut visit: impl FnMut(&mut Self, Place) -> Attempt<()>,
    ) -> Result<()> {
        let (mut offset, mut count) = (HEADER_SIZE, 0_u64);
        while offset < end {
            let (place, next) = place_at(self.file, offset, end)?;
            if let Some(place) = place {
                visit(self, place).map_err(|trouble| self.error(trouble))?;
            }
            count += 1;
            if count.is_multiple_of(RECORDS_PER_TURN) {
                progress();
            }
            offset = next;
        }
        Ok(())
    }

    /// Returns the error for a trouble that building the index has not mended.
    pub(super) fn error(&self, trouble: Trouble) -> Error {
        match trouble {
            Trouble::Index(at) => damaged(self.file.path(), at),
            Trouble::Other(error) => error,
        }
    }

    /// Checks each entry of the index but the free records themselves. Returns the bytes that are damaged,
    /// at most one for each table, and the number of tables.
    pub(super) fn survey(&self) -> Result<(Vec<u64>, usize)> {
        let (mut faults, mut tables) = (Vec::new(), 0);
        let mut check = |result: Attempt<usize>| {
            match result {
                Ok(found) => tables += found,
                Err(Trouble::Index(at)) => faults.push(at),
                Err(Trouble::Other(error)) => return Err(error),
            }
            Ok(())
        };
        for at in places_in_header() {
            check(self.entry(at).map(|_| 0))?;
        }
        for level in 0..LEVELS {
            for table in 0..tables_of_level(level) {
                match self.table(level, table) {
                    Ok(Table::NoLevel) => break,
                    Ok(Table::Missing(_)) => {}
                    Ok(Table::At(start)) => check(self.check_table(start))?,
                    Err(trouble @ Trouble::Index(at)) => {
                        check(Err(trouble))?;
                        if at < HEADER_SIZE {
                            break;
                        }
                    }
                    Err(trouble) => check(Err(trouble))?,
                }
            }
        }
        faults.sort_unstable();
        faults.dedup();
        Ok((faults, tables))
    }

    fn check_table(&self, start: u64) -> Attempt<usize> {
        for bucket in 0..TABLE_BUCKETS {
            for slot in self.slots(start, bucket)? {
                slot?;
            }
        }
        Ok(1)
    }
}

/// Returns which table of the level has the slot of a hash.
fn table_number(hash: u64, level: u64) -> u64 {
    hash % tables_of_level(level)
}

/// Returns the two buckets of a table that may have the slot of a hash. They differ.
fn buckets_of(hash: u64) -> [u64; 2] {
    let first = hash >> 40 & (TABLE_BUCKETS - 1);
    let distance = (hash >> 45 & (TABLE_BUCKETS - 1)) % (TABLE_BUCKETS - 1) + 1;
    [first, (first + distance) % TABLE_BUCKETS]
}

/// Returns the contents of a table or a directory.
fn index_record(kind: u32, cells: u64) -> Contents<'static> {
    debug_assert!(matches!(kind, KIND_TABLE | KIND_DIRECTORY));
    Contents { kind, family: 0, cell_count: cells as usize, slots: 0, created: None, ends: false, text: "" }
}

/// Returns the place of the list of free records of this size.
fn free_list_of(size: u32) -> u64 {
    let number = (u64::from(size) / RECORD_ALIGNMENT).clamp(1, FREE_LISTS);
    FREE_LISTS_AT + (number - 1) * 8
}

/// Returns how many records of the list at `at` a writer looks at. Only the last list has several sizes.
fn steps_in_list(at: u64) -> usize {
    if at == FREE_LISTS_AT + (FREE_LISTS - 1) * 8 { LARGE_RECORDS_SEEN } else { 1 }
}
