//! Changes that gather in a metric until they are taken.
//!
//! Each operation is one read-modify-write that acquires and releases. If a take precedes a change in the
//! modification order of a cell, everything that the taker did before the take happens before everything that
//! the writer does after the change. [`pending`](crate::cell::pending) and [`held`](crate::cell::held) rely
//! on this.

use crate::cell::atomic::{AtomicChangeWord, AtomicU64, ChangeWord, Ordering};
use crate::cell::observed_native::NativeCells;
use crate::model::metric_type::MetricType;

/// One change of one cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    Add(f64),
    Set(f64),
    /// Add the count of a word of a native histogram to its bucket.
    Word(u64),
}

/// The sum of the additions since the last take.
#[derive(Debug, Default)]
pub(crate) struct AddedCell(AtomicU64);

impl AddedCell {
    #[inline]
    pub(crate) fn add(&self, amount: f64) {
        let mut current = self.0.load(Ordering::Relaxed);
        loop {
            let next = (f64::from_bits(current) + amount).to_bits();
            match self.0.compare_exchange_weak(current, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => current = seen,
            }
        }
    }

    pub(crate) fn take(&self) -> f64 {
        f64::from_bits(self.0.swap(0, Ordering::AcqRel))
    }

    fn set(&self, amount: f64) {
        // A swap, because a store cannot acquire.
        self.0.swap(amount.to_bits(), Ordering::AcqRel);
    }

    pub(crate) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Drops the additions, and orders nothing: see [`Gathered::discard`].
    pub(crate) fn discard(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// The change of a gauge since the last take: the last value that was set, if any, plus the additions after
/// it.
///
/// The kind of the change and its value share one word, so that each operation is one compare-and-swap. Two
/// words could not be taken together without a lock.
#[derive(Debug, Default)]
pub(crate) struct GaugeCell(AtomicChangeWord);

impl GaugeCell {
    #[inline]
    fn add(&self, amount: f64) {
        let mut current = self.0.load(Ordering::Relaxed);
        loop {
            // An addition to a set value is still a set. An addition to an addition is still an addition.
            let next = ChangeWord::new(current.is_set(), current.value() + amount);
            match self.0.compare_exchange_weak(current, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => current = seen,
            }
        }
    }

    #[inline]
    fn set(&self, value: f64) {
        // A swap, because a store cannot acquire.
        self.0.swap(ChangeWord::new(true, value), Ordering::AcqRel);
    }

    fn take(&self) -> Change {
        let taken = self.0.swap(ChangeWord::default(), Ordering::AcqRel);
        if taken.is_set() { Change::Set(taken.value()) } else { Change::Add(taken.value()) }
    }
}

/// The states of a state set as this process knows them, and whether the last change was taken.
///
/// A change of one state depends on the others, so the word keeps its value when it is taken: "set" means that
/// the value was not taken yet.
#[derive(Debug, Default)]
pub(crate) struct StatesCell(AtomicChangeWord);

impl StatesCell {
    fn update(&self, next: impl Fn(f64) -> f64) {
        self.exchange(|word| ChangeWord::new(true, next(word.value())));
    }

    fn take(&self) -> Change {
        let taken = self.exchange(|word| ChangeWord::new(false, word.value()));
        if taken.is_set() { Change::Set(taken.value()) } else { Change::Add(0.0) }
    }

    /// Replaces the word, and returns the earlier one.
    fn exchange(&self, next: impl Fn(ChangeWord) -> ChangeWord) -> ChangeWord {
        let mut current = self.0.load(Ordering::Relaxed);
        loop {
            let next = next(current);
            match self.0.compare_exchange_weak(current, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return current,
                Err(seen) => current = seen,
            }
        }
    }
}

/// The changes of all cells of a metric.
#[derive(Debug)]
pub(crate) enum Gathered {
    /// The cells of a counter, summary, histogram or gauge histogram, which have additions only.
    Added(Box<[AddedCell]>),
    /// The cell of a gauge, untyped metric or info. It is apart because it is twice as wide as all else here: its
    /// alignment would make the metrics of every type and store larger.
    Gauge(Box<GaugeCell>),
    /// The cell of a state set.
    States(Box<StatesCell>),
    /// The cells of a native histogram.
    Native(Box<NativeCells>),
}

impl Gathered {
    /// Makes cells without changes.
    pub(crate) fn new(metric_type: MetricType, cell_count: usize) -> Self {
        match metric_type {
            MetricType::StateSet => Self::States(Box::default()),
            metric_type if metric_type.is_set() => Self::Gauge(Box::default()),
            _ => Self::Added((0..cell_count).map(|_| AddedCell::default()).collect()),
        }
    }

    /// Adds `amount` to the cell with this index.
    #[inline]
    pub(crate) fn add(&self, index: usize, amount: f64) {
        match self {
            Self::Added(cells) => cells[index].add(amount),
            Self::Gauge(cell) => cell.add(amount),
            Self::States(_) => {}
            Self::Native(cells) => cells.add(index, amount),
        }
    }

    /// Replaces what was added to the cell with this index. Returns `false` if it has no plain additions.
    pub(crate) fn set_at(&self, index: usize, amount: f64) -> bool {
        match self {
            Self::Added(cells) => cells[index].set(amount),
            Self::Gauge(_) | Self::States(_) | Self::Native(_) => return false,
        }
        true
    }

    /// Counts `value` in a summary or histogram, with its count cell.
    #[inline]
    pub(crate) fn observe(&self, count_cell: usize, value: f64) {
        match self {
            Self::Added(cells) => {
                cells[count_cell].add(1.0);
                cells[0].add(value);
            }
            Self::Gauge(_) | Self::States(_) => {}
            Self::Native(cells) => cells.observe(count_cell, value),
        }
    }

    /// Adds `amount` to the cell with this index, unless it is a gauge's. Returns whether it has.
    ///
    /// A gauge's addition takes two words at once, and registers that every other addition would save, too.
    #[inline]
    pub(crate) fn add_at_once(&self, index: usize, amount: f64) -> bool {
        match self {
            Self::Added(cells) => cells.get(index).inspect(|cell| cell.add(amount)).is_some(),
            _ => false,
        }
    }

    /// Replaces the value of a gauge, untyped metric or info.
    #[inline]
    pub(crate) fn set(&self, value: f64) {
        if let Self::Gauge(cell) = self {
            cell.set(value);
        }
    }

    /// Replaces the states of a state set by `next(states)`.
    pub(crate) fn update(&self, next: impl Fn(f64) -> f64) {
        if let Self::States(cell) = self {
            cell.update(next);
        }
    }

    /// Takes the change of each cell, with the index of the cell. A cell without a change gives "add 0".
    pub(crate) fn take(&self) -> impl Iterator<Item = (usize, Change)> {
        let (added, other, native) = match self {
            Self::Added(cells) => (&cells[..], None, None),
            Self::Gauge(cell) => (&[][..], Some(cell.take()), None),
            Self::States(cell) => (&[][..], Some(cell.take()), None),
            Self::Native(cells) => (&[][..], None, Some(&**cells)),
        };
        let added = added.iter().map(|cell| Change::Add(cell.take()));
        let changes = added.chain(other).enumerate();
        changes.chain(native.into_iter().flat_map(NativeCells::take))
    }

    /// Drops the changes. Call it only in a process with one thread, such as a forked child: it orders
    /// nothing.
    pub(crate) fn discard(&self) {
        match self {
            Self::Added(cells) => cells.iter().for_each(AddedCell::discard),
            Self::Gauge(cell) => cell.0.store(ChangeWord::default(), Ordering::Relaxed),
            Self::States(cell) => drop(cell.take()),
            Self::Native(cells) => cells.discard(),
        }
    }

    /// Writes to `values` what each cell would hold if its changes were applied to 0.
    pub(crate) fn read(&self, values: &mut [f64]) {
        match self {
            Self::Added(cells) => {
                let read = cells.iter().map(AddedCell::get);
                values.iter_mut().zip(read).for_each(|(value, read)| *value = read);
            }
            Self::Gauge(cell) => values[0] = cell.0.load(Ordering::Relaxed).value(),
            Self::States(cell) => values[0] = cell.0.load(Ordering::Relaxed).value(),
            Self::Native(cells) => cells.read(values),
        }
    }
}
