//! A metric: one label set of a family, and the operations on it.
//!
//! This is the hot path. An operation is one check of the type, one addition to a cell at a stable address
//! and, where the store needs it, one look at the "dirty" flag: no lock, no allocation, no look-up, no system
//! call. Only the first change after the store has taken the earlier ones does more: it queues the metric.

mod exemplars;
pub(crate) mod family;
pub(crate) mod table;

use std::sync::{Arc, Weak};

use once_cell::race::OnceBox;

use self::family::Family;
use crate::cell::Cells;
use crate::cell::at_once::AtOnce;
use crate::cell::exemplar::OwnSlots;
use crate::cell::expiring::{Begin, ExpiringCells, Life, Settle};
use crate::cell::held::HeldCells;
use crate::model::definition::FIRST_COUNT_CELL;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::labels::{self, Labels};
use crate::model::metric_type::MetricType;
use crate::model::number::format_number;
use crate::model::sample::{Milliseconds, Series, at_least_zero};
use crate::model::series_ttl::grain;
use crate::process::clock::{since_1970, uptime};

/// Why an operation did nothing. It carries no text, so that a refusal costs no more than the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The metric's type does not have this operation.
    WrongType,
    /// A counter only goes up: the amount is negative or not a number.
    NotAnIncrease,
    /// The state set has no state of this name.
    UnknownState,
    /// The metric has no cell of this index that holds a plain number.
    UnknownCell,
    /// The store does not have the metric any more.
    Removed,
}

impl Refusal {
    fn kind(self) -> ErrorKind {
        match self {
            Self::WrongType => ErrorKind::WrongType,
            Self::NotAnIncrease | Self::UnknownState | Self::UnknownCell => ErrorKind::InvalidArgument,
            Self::Removed => ErrorKind::NotFound,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::WrongType => "a metric of this type has no such operation",
            Self::NotAnIncrease => "a counter only goes up: expected an amount >= 0",
            Self::UnknownState => "the state set has no state of this name",
            Self::UnknownCell => "the metric has no cell of this index",
            Self::Removed => "the metric was removed",
        })
    }
}

impl std::error::Error for Refusal {}

/// One label set of a metric family: the object that a program counts with.
#[derive(Debug)]
pub struct Metric {
    pub(crate) family: Arc<Family>,
    /// [`labels::encode`] of the labels: the key of the metric within its family. The table shares it.
    pub(crate) key: Arc<str>,
    /// What few metrics need, apart, because a program may have a million metrics. Not a `OnceLock`: a forked child
    /// must not wait for a thread of its parent.
    rare: OnceBox<Rare>,
    pub(crate) cells: Cells,
    /// When this process made the metric. `None` if its store keeps that time itself.
    created: Option<Milliseconds>,
}

/// What a metric has once a program has asked for it.
#[derive(Debug, Default)]
struct Rare {
    /// A map takes more memory than the rest of the metric.
    labels: OnceBox<Labels>,
    exemplars: OnceBox<OwnSlots>,
}

impl Metric {
    /// Makes the metric whose canonical labels are `key`.
    pub(crate) fn new(family: Arc<Family>, key: Arc<str>, cells: Cells) -> Self {
        Self { family, key, rare: OnceBox::new(), cells, created: None }
    }

    /// Makes a metric whose series ends when it was unused for `ttl` seconds, if it ends. `begin` makes the cells of a
    /// new series.
    pub(crate) fn expiring(
        family: &Arc<Family>,
        key: &Arc<str>,
        ttl: Option<u32>,
        begin: impl Fn(&Family) -> Cells + Send + Sync + 'static,
    ) -> Arc<Self> {
        let first = Life::new(begin(family), now());
        let next: Begin<Cells> = {
            let family = Arc::clone(family);
            Box::new(move || Life::new(begin(&family), now()))
        };
        Arc::new_cyclic(|metric: &Weak<Self>| {
            let (reader, metric) = (family.reader.clone(), Weak::clone(metric));
            let settle: Settle = Box::new(move || {
                if let (Some(reader), Some(metric)) = (reader.upgrade(), metric.upgrade()) {
                    reader.settle(&metric);
                }
            });
            let cells = ExpiringCells::new(ttl, first, next, settle);
            Self::new(Arc::clone(family), Arc::clone(key), Cells::Expiring(Box::new(cells)))
        })
    }

    /// Makes a metric that counts in this process until its store has cells for it.
    pub(crate) fn held_back(family: &Arc<Family>, key: &Arc<str>) -> Arc<Self> {
        if family.definition.mode().is_some() {
            let cells = Cells::Held(Box::new(family.held_cells()));
            return Arc::new(Self::new(Arc::clone(family), Arc::clone(key), cells).created_now());
        }
        // The store may have the family with another time to live, or with one where this program has declared none.
        Self::expiring(family, key, family.definition.series_ttl(), |family| {
            Cells::Held(Box::new(HeldCells::new(&family.definition)))
        })
    }

    /// Notes that the metric was made now.
    pub(crate) fn created_now(self) -> Self {
        Self { created: now(), ..self }
    }

    /// Returns when this process made the metric, if its store does not keep that time itself.
    pub(crate) fn created(&self) -> Option<Milliseconds> {
        match self.cells.expiring() {
            Some(cells) => cells.created(),
            None => self.created,
        }
    }

    /// Notes that the program has looked the metric up, which is use of a series that ends.
    pub(crate) fn touch(&self) {
        match &self.cells {
            Cells::Expiring(cells) => cells.touch(),
            Cells::Pending(cells) => {
                if let Some(ttl) = self.family.definition.series_ttl()
                    && cells.note_use(grain(ttl), uptime())
                {
                    cells.mark_dirty();
                }
            }
            _ => {}
        }
    }

    /// Whether the series has ended because it was not used. On a server, whether this process has not used it for as
    /// long.
    pub(crate) fn is_over(&self) -> bool {
        match &self.cells {
            Cells::Expiring(cells) => cells.expire(),
            Cells::Pending(cells) => self
                .family
                .definition
                .series_ttl()
                .is_some_and(|ttl| cells.is_unused(ttl, grain(ttl), uptime())),
            _ => false,
        }
    }

    /// Returns the labels.
    pub fn labels(&self) -> &Labels {
        self.rare().labels.get_or_init(|| Box::new(labels::decode(&self.key).unwrap_or_default()))
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }

    /// Returns the type of the metric's family.
    #[inline]
    pub fn metric_type(&self) -> MetricType {
        self.family.definition.metric_type()
    }

    /// Adds `amount` to a counter, gauge or untyped metric.
    #[inline]
    pub fn inc(&self, amount: f64) -> std::result::Result<(), Refusal> {
        self.finish(self.inc_at_once(amount), || self.inc_otherwise(amount))
    }

    /// Adds `amount` as [`inc`](Self::inc) does, if that can be done at once. Always inlined, as its like: a call
    /// would make the C function save registers.
    #[inline(always)]
    pub(crate) fn inc_at_once(&self, amount: f64) -> AtOnce {
        // By far the most frequent case: a counter in memory needs no other check.
        if let Cells::Counter(cell) = &self.cells {
            return cell.add_at_once(amount);
        }
        match self.metric_type() {
            MetricType::Counter if amount >= 0.0 => self.cells.add_at_once(amount),
            MetricType::Gauge | MetricType::Untyped => self.cells.add_at_once(amount),
            _ => AtOnce::NotDone,
        }
    }

    #[inline]
    pub(crate) fn inc_otherwise(&self, amount: f64) -> std::result::Result<(), Refusal> {
        match self.metric_type() {
            MetricType::Counter if amount < 0.0 || amount.is_nan() => return Err(Refusal::NotAnIncrease),
            MetricType::Counter | MetricType::Gauge | MetricType::Untyped => {}
            _ => return Err(Refusal::WrongType),
        }
        self.cells.add(amount);
        self.cells.changed();
        Ok(())
    }

    /// Adds `amount` to this thread's stripe of a counter, if it has stripes. It never panics.
    #[inline]
    pub(crate) fn inc_in_stripe(&self, amount: f64) -> AtOnce {
        self.cells.add_in_stripe(amount)
    }

    /// Does what is left of a change.
    #[inline]
    fn finish(
        &self,
        at_once: AtOnce,
        otherwise: impl FnOnce() -> std::result::Result<(), Refusal>,
    ) -> std::result::Result<(), Refusal> {
        match at_once {
            AtOnce::Done => {}
            AtOnce::Unfinished => self.cells.changed(),
            AtOnce::HasStripes | AtOnce::NotDone => return otherwise(),
        }
        Ok(())
    }

    /// Adds `amount`, and reads the new value from the store as [`Metric::get`] does. The value includes `amount`,
    /// and what others have added by then.
    ///
    /// If the value cannot be read, the error says so, but the amount has been added.
    pub fn inc_and_get(self: &Arc<Self>, amount: f64) -> Result<f64> {
        self.inc(amount).map_err(|refusal| {
            let definition = &self.family.definition;
            let of = format!("{} {:?}", definition.metric_type().name(), definition.name());
            Error::new(refusal.kind(), format!("cannot add {} to {of}: {refusal}", format_number(amount)))
        })?;
        self.get()
    }

    /// Subtracts `amount` from a gauge or untyped metric.
    #[inline]
    pub fn dec(&self, amount: f64) -> std::result::Result<(), Refusal> {
        self.finish(self.dec_at_once(amount), || self.dec_otherwise(amount))
    }

    /// Subtracts `amount` as [`dec`](Self::dec) does, if that can be done at once.
    #[inline(always)]
    pub(crate) fn dec_at_once(&self, amount: f64) -> AtOnce {
        if self.is_set() { self.cells.add_at_once(-amount) } else { AtOnce::NotDone }
    }

    #[inline]
    pub(crate) fn dec_otherwise(&self, amount: f64) -> std::result::Result<(), Refusal> {
        if !self.is_set() {
            return Err(Refusal::WrongType);
        }
        self.cells.add(-amount);
        self.cells.changed();
        Ok(())
    }

    /// Sets a gauge or untyped metric to `value`.
    #[inline]
    pub fn set(&self, value: f64) -> std::result::Result<(), Refusal> {
        self.finish(self.set_at_once(value), || self.set_otherwise(value))
    }

    /// Sets the metric as [`set`](Self::set) does, if that can be done at once.
    #[inline(always)]
    pub(crate) fn set_at_once(&self, value: f64) -> AtOnce {
        if self.is_set() { self.cells.set_at_once(value) } else { AtOnce::NotDone }
    }

    #[inline]
    pub(crate) fn set_otherwise(&self, value: f64) -> std::result::Result<(), Refusal> {
        if !self.is_set() {
            return Err(Refusal::WrongType);
        }
        self.cells.set(value);
        self.cells.changed();
        Ok(())
    }

    /// Whether programs set the value and subtract from it.
    #[inline]
    fn is_set(&self) -> bool {
        matches!(self.metric_type(), MetricType::Gauge | MetricType::Untyped)
    }

    /// Counts `value` in a histogram, summary or gauge histogram. NaN counts in the `+Inf` bucket.
    #[inline]
    pub fn observe(&self, value: f64) -> std::result::Result<(), Refusal> {
        self.finish(self.observe_at_once(value), || self.observe_otherwise(value))
    }

    /// Counts `value` as [`observe`](Self::observe) does, if that can be done at once.
    #[inline(always)]
    pub(crate) fn observe_at_once(&self, value: f64) -> AtOnce {
        match self.count_cell(value) {
            Some(count_cell) => self.cells.observe_at_once(count_cell, value),
            None => AtOnce::NotDone,
        }
    }

    /// Counts `value` in this thread's stripe, if there are stripes. It never panics.
    #[inline]
    pub(crate) fn observe_in_stripe(&self, value: f64) -> AtOnce {
        match self.count_cell(value) {
            Some(count_cell) => self.cells.observe_in_stripe(count_cell, value),
            None => AtOnce::NotDone,
        }
    }

    #[inline]
    pub(crate) fn observe_otherwise(&self, value: f64) -> std::result::Result<(), Refusal> {
        let Some(count_cell) = self.count_cell(value) else { return Err(Refusal::WrongType) };
        self.cells.observe(count_cell, value);
        self.cells.changed();
        Ok(())
    }

    /// Returns the cell that counts observations of `value`.
    #[inline]
    fn count_cell(&self, value: f64) -> Option<usize> {
        match self.metric_type() {
            MetricType::Histogram | MetricType::GaugeHistogram => {
                Some(FIRST_COUNT_CELL + self.bucket_of(value))
            }
            MetricType::Summary => Some(FIRST_COUNT_CELL),
            _ => None,
        }
    }

    /// Removes an observation of `value` from a gauge histogram: what it describes does not exist any more.
    pub fn unobserve(&self, value: f64) -> std::result::Result<(), Refusal> {
        if self.metric_type() != MetricType::GaugeHistogram {
            return Err(Refusal::WrongType);
        }
        self.cells.unobserve(FIRST_COUNT_CELL + self.bucket_of(value), value);
        Ok(())
    }

    /// Switches one state of a state set on or off, and leaves the others as they are.
    ///
    /// In memory and in shared memory a change of one state keeps what other processes have set meanwhile. On a
    /// server it replaces all states by those that this process knows, and the last one wins.
    pub fn set_state(&self, state: &str, is_on: bool) -> std::result::Result<(), Refusal> {
        let bit = self.bit_of(state)?;
        self.cells.update(|mask| match is_on {
            true => (mask as u64 | bit) as f64,
            false => (mask as u64 & !bit) as f64,
        });
        self.cells.changed();
        Ok(())
    }

    /// Switches one state of a state set on and all others off.
    pub fn choose_state(&self, state: &str) -> std::result::Result<(), Refusal> {
        let bit = self.bit_of(state)?;
        self.cells.update(|_| bit as f64);
        self.cells.changed();
        Ok(())
    }

    /// Notes that the labels of an info were set at `time`, in microseconds since 1970.
    pub(crate) fn set_at(&self, time: f64) {
        self.cells.set(time);
        self.cells.changed();
    }

    fn bit_of(&self, state: &str) -> std::result::Result<u64, Refusal> {
        if self.metric_type() != MetricType::StateSet {
            return Err(Refusal::WrongType);
        }
        let found = self.family.definition.states().iter().position(|known| known == state);
        found.map(|index| 1 << index).ok_or(Refusal::UnknownState)
    }

    /// Reads whether a state of a state set is on.
    pub fn get_state(self: &Arc<Self>, state: &str) -> Result<bool> {
        let definition = &self.family.definition;
        let bit = self.bit_of(state);
        if bit == Err(Refusal::UnknownState) {
            let message = format!(
                "stateset {:?} has no state {state:?}: expected one of {}",
                definition.name(),
                definition.states().join(", ")
            );
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let mask = self.read("state", &[MetricType::StateSet], |series| series.value())?;
        Ok(mask as u64 & bit.unwrap_or_default() != 0)
    }

    /// Adds `amount` to one cell, without the checks of [`inc`](Self::inc). Cell 0 is the value of a counter, gauge
    /// or untyped metric, or the sum of the other types. Behind the sum, a summary has the count, and the types with
    /// buckets have the count of each bucket alone, not cumulated; counts are whole numbers.
    pub fn add_to_cell(&self, index: usize, amount: f64) -> std::result::Result<(), Refusal> {
        self.check_cell(index)?;
        self.cells.add_to(index, amount);
        Ok(())
    }

    /// Sets one cell: see [`add_to_cell`](Self::add_to_cell). Additions of other threads in the meantime may be lost.
    /// On a server, only gauges and untyped metrics can be set.
    pub fn set_cell(&self, index: usize, value: f64) -> std::result::Result<(), Refusal> {
        self.check_cell(index)?;
        if self.is_set() {
            return self.set_otherwise(value);
        }
        if self.cells.set_at(index, value) { Ok(()) } else { Err(Refusal::WrongType) }
    }

    /// Reads one cell from the store: see [`add_to_cell`](Self::add_to_cell).
    pub fn get_cell(self: &Arc<Self>, index: usize) -> Result<f64> {
        let definition = &self.family.definition;
        if let Err(Refusal::UnknownCell) = self.check_cell(index) {
            let of = format!("{} {:?}", definition.metric_type().name(), definition.name());
            return Err(Error::new(ErrorKind::NotFound, format!("{of} has no cell {index}")));
        }
        let Some(reader) = self.family.reader.upgrade() else {
            let of = format!("{} {:?}", definition.metric_type().name(), definition.name());
            return Err(Error::new(ErrorKind::Unavailable, format!("the backend of {of} is freed")));
        };
        Ok(reader.read(self)?.get(index).copied().unwrap_or_default())
    }

    /// Whether the store still has the metric, as far as this process knows: `false` after another process has removed
    /// it from a shared file, or this one from its backend.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.cells.is_live()
    }

    fn check_cell(&self, index: usize) -> std::result::Result<(), Refusal> {
        let definition = &self.family.definition;
        let count = match definition.metric_type() {
            MetricType::Counter | MetricType::Gauge | MetricType::Untyped => 1,
            MetricType::Info | MetricType::StateSet => 0,
            _ if definition.native().is_some() => 0,
            _ => definition.cell_count(),
        };
        match index < count {
            true if self.is_live() => Ok(()),
            true => Err(Refusal::Removed),
            false => Err(Refusal::UnknownCell),
        }
    }

    /// Reads the value of a counter, gauge or untyped metric from the store.
    pub fn get(self: &Arc<Self>) -> Result<f64> {
        let types = [MetricType::Counter, MetricType::Gauge, MetricType::Untyped];
        self.read("single value", &types, |series| series.value())
    }

    /// Reads the sum of what a summary, histogram or gauge histogram has observed.
    pub fn get_sum(self: &Arc<Self>) -> Result<f64> {
        self.read("sum", &OBSERVED, |series| series.value())
    }

    /// Reads the number of observations of a summary, histogram or gauge histogram.
    pub fn get_count(self: &Arc<Self>) -> Result<f64> {
        self.read("count", &OBSERVED, |series| series.count())
    }

    /// Reads the cumulative count of a bucket of a histogram or gauge histogram; the last one has an infinite
    /// `upper_bound`.
    pub fn get_bucket(self: &Arc<Self>, upper_bound: f64) -> Result<f64> {
        let index = bucket_index(&self.family, upper_bound)?;
        self.read("buckets", &OBSERVED, |series| series.cumulative_buckets().nth(index).unwrap_or_default())
    }

    /// Reads the cells from the store, after it has taken what this process has pending.
    fn read(
        self: &Arc<Self>,
        what: &str,
        types: &[MetricType],
        value: impl FnOnce(Series<'_>) -> f64,
    ) -> Result<f64> {
        let definition = &self.family.definition;
        let metric_type = definition.metric_type();
        if !types.contains(&metric_type) {
            let message = format!("{} {:?} has no {what} to read", metric_type.name(), definition.name());
            return Err(Error::new(ErrorKind::WrongType, message));
        }
        let Some(reader) = self.family.reader.upgrade() else {
            let message = format!("the backend of {} {:?} is freed", metric_type.name(), definition.name());
            return Err(Error::new(ErrorKind::Unavailable, message));
        };
        let mut cells = reader.read(self)?;
        if metric_type == MetricType::GaugeHistogram {
            at_least_zero(definition, &mut cells);
        }
        Ok(value(Series::new(definition, &self.key, &cells)))
    }

    /// Returns the index of the first bucket whose bound is not below `value`.
    #[inline]
    fn bucket_of(&self, value: f64) -> usize {
        let bounds = self.family.definition.buckets();
        // NaN is below no bound, so it counts in the +Inf bucket, which follows the last bound.
        bounds.iter().position(|&bound| value <= bound).unwrap_or(bounds.len())
    }

    /// Does what is left after a change that was made at once.
    pub(crate) fn changed(&self) {
        self.cells.changed();
    }

    /// Returns the values of the cells, in their order: see [`Cells::read`].
    pub(crate) fn read_cells(&self) -> Vec<f64> {
        let mut values = vec![0.0; self.family.definition.cell_count()];
        self.cells.read(&mut values);
        values
    }
}

/// The types with a sum and a count.
const OBSERVED: [MetricType; 3] = [MetricType::Summary, MetricType::Histogram, MetricType::GaugeHistogram];

/// Returns the present time.
pub(crate) fn now() -> Option<Milliseconds> {
    Milliseconds::new(since_1970().as_millis() as u64)
}

/// Finds the position of `bound` among the buckets of a histogram; `+Inf` is the last.
fn bucket_index(family: &Family, bound: f64) -> Result<usize> {
    let bounds = family.definition.buckets();
    if !family.definition.metric_type().has_buckets() {
        let message = format!(
            "{} {:?} has no buckets to read",
            family.definition.metric_type().name(),
            family.definition.name()
        );
        return Err(Error::new(ErrorKind::WrongType, message));
    }
    let found = bounds.iter().position(|&known| known == bound);
    found.or((bound == f64::INFINITY).then_some(bounds.len())).ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!(
                "{} {:?} has no bucket with the bound {}",
                family.definition.metric_type().name(),
                family.definition.name(),
                format_number(bound)
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_metric_takes_little_memory() {
        // A program may have a million. With the two counts of an `Arc`, this is just below 112 bytes.
        assert!(size_of::<Metric>() <= 88, "{} bytes", size_of::<Metric>());
    }
}
