//! The cells of a metric: where its values live while the program counts.
//!
//! Each store picks the form that suits it. Counting in a cell is the last step of the hot path: nothing here
//! allocates, looks anything up, takes a lock or makes a system call. (`stripes` maps memory, once for a metric at
//! which threads collide.) So a signal handler may count while it interrupts a thread that counts, and a forked
//! child never finds a cell that another thread holds.
//! (`memory:?cell=mutex` gives the same cells as `memory:`. A lock for each value would deadlock a signal
//! handler, and took 11 ns instead of 5.)
//!
//! [`Definition::cell_count`] describes the order of the cells.

pub(crate) mod at_once;
pub(crate) mod atomic;
pub(crate) mod back_off;
pub(crate) mod counter;
pub(crate) mod exemplar;
pub(crate) mod expiring;
pub(crate) mod gathered;
pub(crate) mod held;
pub(crate) mod last_use;
pub(crate) mod native;
pub(crate) mod observed;
pub(crate) mod observed_native;
pub(crate) mod pending;
pub(crate) mod present;
pub(crate) mod segment;
pub(crate) mod shared;
pub(crate) mod stripe_memory;
pub(crate) mod stripes;
pub(crate) mod turn;
pub(crate) mod value;

#[cfg(test)]
mod tests;

use self::at_once::AtOnce;
use self::counter::CounterCell;
use self::expiring::{ExpiringCells, LifeCells};
use self::gathered::{Change, Gathered};
use self::held::HeldCells;
use self::observed::ObservedCells;
use self::observed_native::NativeCells;
use self::pending::PendingCells;
use self::shared::SharedCells;
use self::value::ValueCell;
use crate::model::definition::{Definition, FIRST_COUNT_CELL, VALUE_CELL};
use crate::model::metric_type::MetricType;
use crate::model::native::{BucketWord, Native};

/// Where the exemplars of a metric are.
#[derive(Debug)]
pub(crate) enum ExemplarPlace<'cells> {
    /// In this process's memory, beside the cells.
    InProcess,
    /// In the metrics file.
    InFile(&'cells SharedCells),
}

/// The cells of a metric, in the form that its store needs.
///
/// `Metric` checks the type before it calls an operation, so an operation does nothing for variants of other
/// types.
#[derive(Debug)]
pub(crate) enum Cells {
    Counter(CounterCell),
    /// A gauge, untyped metric, info or state set.
    Value(ValueCell),
    /// A summary, histogram or gauge histogram.
    Observed(ObservedCells),
    /// A histogram that is a native one, too.
    Native(NativeCells),
    Pending(PendingCells),
    Shared(SharedCells),
    /// In a box, because it would make all metrics larger.
    SharedNative(Native, Box<SharedCells>),
    /// The cells of a metric that its store cannot hold yet.
    Held(Box<HeldCells>),
    /// The cells of a metric whose series ends when it is not used.
    Expiring(Box<ExpiringCells<Self>>),
}

impl Cells {
    /// Makes cells in this process's memory, all 0.
    pub(crate) fn in_memory(definition: &Definition) -> Self {
        match definition.metric_type() {
            MetricType::Counter => Self::Counter(CounterCell::default()),
            MetricType::Gauge | MetricType::Untyped | MetricType::Info | MetricType::StateSet => {
                Self::Value(ValueCell::default())
            }
            MetricType::Histogram | MetricType::Summary | MetricType::GaugeHistogram => {
                match definition.native() {
                    Some(native) => Self::Native(NativeCells::new(native, definition.classic_counts())),
                    None => Self::Observed(ObservedCells::new(definition.cell_count() - FIRST_COUNT_CELL)),
                }
            }
        }
    }

    /// Makes cells in which changes gather until a store takes them.
    pub(crate) fn gathered(definition: &Definition) -> Gathered {
        match definition.native() {
            Some(native) => Gathered::Native(Box::new(NativeCells::new(native, definition.classic_counts()))),
            None => Gathered::new(definition.metric_type(), definition.cell_count()),
        }
    }

    /// Adds to the value of a counter, gauge or untyped metric, if that can be done at once. [`Metric`] adds to
    /// counters in memory itself.
    ///
    /// [`Metric`]: crate::metric::Metric
    ///
    /// This function and its like never panic, so the C boundary needs no guard around them, and no registers that
    /// a guard would save and restore: a third of the instructions of a call.
    #[inline(always)]
    pub(crate) fn add_at_once(&self, amount: f64) -> AtOnce {
        match self {
            Self::Value(cell) => drop(cell.add(amount)),
            Self::Shared(cells) => cells.add(VALUE_CELL, amount),
            Self::Pending(cells) if cells.add_at_once(VALUE_CELL, amount) => return Self::queued(cells),
            _ => return AtOnce::NotDone,
        }
        AtOnce::Done
    }

    /// Sets a gauge or untyped metric, if that can be done at once.
    #[inline(always)]
    pub(crate) fn set_at_once(&self, value: f64) -> AtOnce {
        match self {
            Self::Value(cell) => cell.set(value),
            Self::Shared(cells) => cells.set(VALUE_CELL, value),
            Self::Pending(cells) => {
                cells.set(value);
                return Self::queued(cells);
            }
            _ => return AtOnce::NotDone,
        }
        AtOnce::Done
    }

    /// Counts `value` as [`observe`](Self::observe) does, if that can be done at once.
    #[inline(always)]
    pub(crate) fn observe_at_once(&self, count_cell: usize, value: f64) -> AtOnce {
        match self {
            Self::Observed(cells) => return cells.observe_at_once(count_cell - FIRST_COUNT_CELL, value),
            Self::Shared(cells) => {
                cells.add(count_cell, 1.0);
                cells.add(VALUE_CELL, value);
            }
            Self::Pending(cells) if cells.add_at_once(count_cell, 1.0) => {
                cells.add_at_once(VALUE_CELL, value);
                return Self::queued(cells);
            }
            _ => return AtOnce::NotDone,
        }
        AtOnce::Done
    }

    /// Adds to a counter in this thread's stripe, if it has stripes. It never panics.
    #[inline]
    pub(crate) fn add_in_stripe(&self, amount: f64) -> AtOnce {
        match self {
            Self::Counter(cell) => cell.add_in_stripe(amount),
            _ => AtOnce::NotDone,
        }
    }

    /// Counts `value` in this thread's stripe, if there are stripes. It never panics.
    #[inline]
    pub(crate) fn observe_in_stripe(&self, count_cell: usize, value: f64) -> AtOnce {
        match self {
            Self::Observed(cells) => cells.observe_in_stripe(count_cell - FIRST_COUNT_CELL, value),
            _ => AtOnce::NotDone,
        }
    }

    #[inline]
    fn queued(cells: &PendingCells) -> AtOnce {
        if cells.is_queued() { AtOnce::Done } else { AtOnce::Unfinished }
    }

    /// Adds to the value of a counter, gauge or untyped metric.
    pub(crate) fn add(&self, amount: f64) {
        match self {
            Self::Counter(cell) => cell.add(amount),
            Self::Value(cell) => drop(cell.add(amount)),
            Self::Observed(_) | Self::Native(_) | Self::SharedNative(..) => {}
            Self::Pending(cells) => cells.add(VALUE_CELL, amount),
            Self::Shared(cells) => cells.add(VALUE_CELL, amount),
            Self::Held(cells) => cells.add(VALUE_CELL, amount),
            Self::Expiring(cells) => cells.add(VALUE_CELL, amount),
        }
    }

    /// Replaces the value of a gauge, untyped metric or info.
    #[inline]
    pub(crate) fn set(&self, value: f64) {
        match self {
            Self::Counter(_) | Self::Observed(_) | Self::Native(_) | Self::SharedNative(..) => {}
            Self::Value(cell) => cell.set(value),
            Self::Pending(cells) => cells.set(value),
            Self::Shared(cells) => cells.set(VALUE_CELL, value),
            Self::Held(cells) => cells.set(value),
            Self::Expiring(cells) => cells.set(value),
        }
    }

    /// Replaces the cell with this index, which a store keeps behind the value.
    pub(crate) fn set_behind(&self, index: usize, value: f64) {
        if let Self::Shared(cells) = self {
            cells.set(index, value);
        }
    }

    /// Replaces the states of a state set by `next(states)`.
    pub(crate) fn update(&self, next: impl Fn(f64) -> f64) {
        match self {
            Self::Counter(_) | Self::Observed(_) | Self::Native(_) | Self::SharedNative(..) => {}
            Self::Value(cell) => cell.update(next),
            Self::Pending(cells) => cells.update(next),
            Self::Shared(cells) => cells.update(VALUE_CELL, next),
            Self::Held(cells) => cells.update(next),
            Self::Expiring(cells) => cells.update(&next),
        }
    }

    /// Counts `value` in a summary, histogram or gauge histogram: in its sum, and in the count cell at `count_cell`.
    #[inline]
    pub(crate) fn observe(&self, count_cell: usize, value: f64) {
        match self {
            Self::Observed(cells) => cells.observe(count_cell - FIRST_COUNT_CELL, value),
            Self::Pending(cells) => cells.observe(count_cell, value),
            Self::Shared(cells) => {
                cells.add(count_cell, 1.0);
                cells.add(VALUE_CELL, value);
            }
            _ => self.observe_otherwise(count_cell, value),
        }
    }

    /// Apart, so that its registers are not saved for every observation.
    #[inline(never)]
    fn observe_otherwise(&self, count_cell: usize, value: f64) {
        match self {
            Self::Native(cells) => cells.observe(count_cell, value),
            Self::SharedNative(native, cells) => cells.observe_native(*native, count_cell, value),
            Self::Held(cells) => cells.observe(count_cell, value),
            Self::Expiring(cells) => cells.observe(count_cell, value),
            _ => {}
        }
    }

    /// Removes an earlier observation of `value` from a gauge histogram.
    pub(crate) fn unobserve(&self, count_cell: usize, value: f64) {
        self.apply(count_cell, Change::Add(-1.0));
        self.apply(VALUE_CELL, Change::Add(-value));
    }

    /// Adds `amount` to the cell with this index.
    pub(crate) fn add_to(&self, index: usize, amount: f64) {
        self.apply(index, Change::Add(amount));
    }

    /// Sets the cell with this index of a type that programs only add to. Returns `false` if these cells cannot:
    /// their value is on a server.
    pub(crate) fn set_at(&self, index: usize, value: f64) -> bool {
        match self {
            Self::Counter(cell) => cell.set(value),
            Self::Value(cell) => cell.set(value),
            Self::Observed(cells) => cells.set(index, value),
            Self::Shared(cells) => cells.set(index, value),
            Self::Held(cells) => return cells.set_at(index, value),
            Self::Expiring(cells) => cells.set_at(index, value),
            Self::Pending(_) | Self::Native(_) | Self::SharedNative(..) => return false,
        }
        true
    }

    /// Applies a change that was gathered elsewhere to the cell with this index.
    fn apply(&self, index: usize, change: Change) {
        match (self, change) {
            (_, Change::Set(value)) => self.set(value),
            (Self::Native(cells), Change::Word(word)) => cells.add_word(BucketWord(word)),
            (Self::SharedNative(native, cells), Change::Word(word)) => {
                cells.add_word(*native, BucketWord(word));
            }
            (_, Change::Word(_)) => {}
            (Self::Counter(_) | Self::Value(_), Change::Add(amount)) => self.add(amount),
            (Self::Observed(cells), Change::Add(amount)) => cells.add(index, amount),
            (Self::Native(cells), Change::Add(amount)) => cells.add(index, amount),
            (Self::SharedNative(_, cells), Change::Add(amount)) => cells.add(index, amount),
            (Self::Pending(cells), Change::Add(amount)) => cells.add(index, amount),
            (Self::Shared(cells), Change::Add(amount)) => cells.add(index, amount),
            (Self::Held(cells), Change::Add(amount)) => cells.add(index, amount),
            (Self::Expiring(cells), Change::Add(amount)) => cells.add(index, amount),
        }
        self.changed();
    }

    /// Does what is left after a change: tells the store that there is something to send, or gives threads that
    /// collide words of their own. Call it after the change, never before.
    #[inline]
    pub(crate) fn changed(&self) {
        match self {
            Self::Pending(cells) => cells.mark_dirty(),
            Self::Counter(cell) => cell.look(),
            Self::Observed(cells) => cells.look(),
            _ => {}
        }
    }

    /// Writes the values to `values`, one for each cell. Does nothing for pending cells, whose values are in
    /// the store.
    pub(crate) fn read(&self, values: &mut [f64]) {
        match self {
            Self::Counter(cell) => values[VALUE_CELL] = cell.get(),
            Self::Value(cell) => values[VALUE_CELL] = cell.get(),
            Self::Observed(cells) => cells.read(values),
            Self::Native(cells) => cells.read(values),
            Self::Shared(cells) => cells.read(values),
            Self::SharedNative(_, cells) => cells.read(values),
            Self::Held(cells) => cells.read(values),
            Self::Expiring(cells) => cells.read(values),
            Self::Pending(_) => {}
        }
    }

    /// Calls `work` with where the exemplars of the metric are, unless its series has ended.
    pub(crate) fn with_exemplar_place(&self, work: &mut dyn FnMut(ExemplarPlace<'_>)) {
        match self {
            Self::Shared(cells) => work(ExemplarPlace::InFile(cells)),
            Self::SharedNative(_, cells) => work(ExemplarPlace::InFile(cells)),
            Self::Held(cells) => match cells.stored() {
                Some(cells) => cells.with_exemplar_place(work),
                None => work(ExemplarPlace::InProcess),
            },
            Self::Expiring(cells) => {
                cells.with_cells(|cells| {
                    cells.with_exemplar_place(work);
                    Some(())
                });
            }
            _ => work(ExemplarPlace::InProcess),
        }
    }

    /// Whether the store still has the metric; `false` if another process has removed it.
    pub(crate) fn is_live(&self) -> bool {
        match self {
            Self::Shared(cells) => cells.is_live(),
            Self::SharedNative(_, cells) => cells.is_live(),
            Self::Held(cells) => cells.stored().is_none_or(Self::is_live),
            Self::Expiring(cells) => cells.is_live(),
            _ => true,
        }
    }

    /// Whether there are changes that the store has not taken.
    pub(crate) fn is_dirty(&self) -> bool {
        matches!(self, Self::Pending(cells) if cells.is_dirty())
    }

    /// In a forked child, discards the changes that the parent will send or move to the store. Other cells
    /// stay as they are: the child has a copy of those in memory, and shares mapped ones with the parent.
    pub(crate) fn discard_pending(&self) {
        match self {
            Self::Pending(cells) => cells.discard(),
            Self::Held(cells) => cells.discard(),
            Self::Expiring(cells) => cells.discard(),
            _ => {}
        }
    }

    /// Calls `work` with the cells in this process if the metric still waits for its store.
    pub(crate) fn with_held_back<R>(&self, work: impl FnOnce(&HeldCells) -> R) -> Option<R> {
        match self {
            Self::Held(cells) if cells.waits() => Some(work(cells)),
            Self::Expiring(cells) => cells.with_cells(|cells| cells.with_held_back(work)),
            _ => None,
        }
    }

    /// Notes that the program has removed the metric. Returns whether the store may have it.
    pub(crate) fn remove(&self) -> bool {
        match self {
            Self::Held(cells) => cells.remove(),
            Self::Expiring(cells) => cells.remove(),
            _ => true,
        }
    }

    /// Whether the metric still waits for its store.
    pub(crate) fn is_held_back(&self) -> bool {
        self.with_held_back(|_| ()).is_some()
    }

    /// Returns the cells if their series ends when it is not used.
    pub(crate) fn expiring(&self) -> Option<&ExpiringCells<Self>> {
        match self {
            Self::Expiring(cells) => Some(cells),
            _ => None,
        }
    }
}

impl LifeCells for Cells {
    fn add_to(&self, index: usize, amount: f64) {
        self.apply(index, Change::Add(amount));
    }

    fn observe(&self, count_cell: usize, value: f64) {
        Self::observe(self, count_cell, value);
        self.changed();
    }

    fn set(&self, value: f64) {
        Self::set(self, value);
    }

    fn update(&self, next: &dyn Fn(f64) -> f64) {
        Self::update(self, next);
    }

    fn set_at(&self, index: usize, value: f64) {
        Self::set_at(self, index, value);
    }

    fn read(&self, values: &mut [f64]) {
        Self::read(self, values);
    }

    fn may_be_stored(&self) -> bool {
        matches!(self, Self::Held(cells) if cells.may_be_stored())
    }

    fn store_in(&self, cells: Self) {
        if let Self::Held(held) = self {
            held.store_in(cells);
        }
    }

    fn remove(&self) -> bool {
        Self::remove(self)
    }

    fn is_live(&self) -> bool {
        Self::is_live(self)
    }

    fn last_use(&self) -> Option<(&atomic::AtomicU64, u32)> {
        match self {
            Self::Shared(cells) => Some(cells.last_use()),
            Self::SharedNative(_, cells) => Some(cells.last_use()),
            Self::Held(cells) => cells.stored()?.last_use(),
            _ => None,
        }
    }

    fn discard(&self) {
        self.discard_pending();
    }
}
