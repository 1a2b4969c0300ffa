//! The result of reading a store: families, their series, and the values of each series.
//!
//! A store fills a [`Snapshot`], and the exposition renders it. Stored histogram buckets are not cumulative;
//! this file sums them up, so `_count` equals the `+Inf` bucket even if other threads write during the read.
//! All series of a family share three buffers, so iterating over them does not allocate.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;

use crate::model::definition::{Definition, FIRST_COUNT_CELL, NATIVE_CELLS, VALUE_CELL};
use crate::model::exemplar::Exemplar;
use crate::model::labels::{self, Labels};
use crate::model::metric_type::MetricType;
use crate::model::native::{BucketWord, Native, NativeHistogram};
use crate::model::number::EXACT_INTEGERS;

/// A time, in milliseconds since 1970.
pub(crate) type Milliseconds = NonZeroU64;

/// The values of some families, read by one scrape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// The families, in the order of the exposition.
    pub families: Vec<FamilySamples>,
}

/// The values of one family.
#[derive(Debug, Clone, PartialEq)]
pub struct FamilySamples {
    /// The definition of the family.
    pub definition: Definition,
    /// The canonical labels of all series, concatenated.
    keys: String,
    /// For each series, the end of its labels in `keys`, and when it began.
    series: Vec<(usize, Option<Milliseconds>)>,
    /// The cells of all series, concatenated, each in the order of [`Definition::cell_count`].
    cells: Vec<f64>,
    /// The exemplars of the series that have some, by their position.
    exemplars: BTreeMap<usize, Vec<Exemplar>>,
}

/// The values of one metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Series<'family> {
    key: &'family str,
    /// The cells without those of the native histogram.
    cells: &'family [f64],
    /// All cells.
    all_cells: &'family [f64],
    /// The options and the cells of the native histogram.
    native: Option<(Native, &'family [f64])>,
    exemplars: &'family [Exemplar],
    created: Option<Milliseconds>,
}

impl FamilySamples {
    /// Creates a family without series.
    pub(crate) fn new(definition: Definition) -> Self {
        let (keys, series, cells, exemplars) = Default::default();
        Self { definition, keys, series, cells, exemplars }
    }

    /// Replaces the definition by a compatible one.
    pub(crate) fn declared_as(self, definition: Definition) -> Self {
        Self { definition, ..self }
    }

    /// Returns the series, sorted by their canonical labels.
    pub fn series(&self) -> impl ExactSizeIterator<Item = Series<'_>> + Clone {
        let width = self.definition.cell_count();
        let native = self.definition.native();
        self.series.iter().enumerate().map(move |(index, &(end, created))| {
            let start = if index == 0 { 0 } else { self.series[index - 1].0 };
            let (key, cells) = (&self.keys[start..end], &self.cells[index * width..][..width]);
            let exemplars = self.exemplars.get(&index).map_or(&[][..], Vec::as_slice);
            Series { created, exemplars, ..Series::with_native(native, key, cells) }
        })
    }

    /// Returns the total length of the canonical labels of all series, in bytes.
    pub(crate) fn keys_length(&self) -> usize {
        self.keys.len()
    }

    /// Returns about how many bytes the family takes in memory.
    pub(crate) fn size(&self) -> usize {
        let exemplars: usize = self.exemplars.values().map(|exemplars| size_of_val(&**exemplars)).sum();
        let series = self.keys.len() + size_of_val(&*self.series) + size_of_val(&*self.cells);
        size_of::<Self>() + series + exemplars
    }

    /// Adds a series with the canonical labels `key`. Returns its cells, all 0, for the caller to fill.
    /// `created` is when the series began, if that is known.
    pub(crate) fn push(&mut self, key: &str, created: Option<Milliseconds>) -> &mut [f64] {
        self.keys.push_str(key);
        self.series.push((self.keys.len(), created));
        let start = self.cells.len();
        self.cells.resize(start + self.definition.cell_count(), 0.0);
        &mut self.cells[start..]
    }

    /// Sets the exemplars of the last series.
    pub(crate) fn set_exemplars(&mut self, exemplars: Vec<Exemplar>) {
        if let Some(last) = self.series.len().checked_sub(1).filter(|_| !exemplars.is_empty()) {
            self.exemplars.insert(last, exemplars);
        }
    }

    /// Adds series with values of 0 for the labels in `keys` that have none. `keys` are canonical and sorted.
    pub(crate) fn add_missing<'key>(&mut self, keys: impl Iterator<Item = &'key str> + Clone) {
        let mut missing = 0;
        merge(self, keys.clone(), |_, series| missing += usize::from(series.is_none()));
        if missing == 0 {
            return;
        }
        let mut all = Self::new(self.definition.clone());
        merge(self, keys, |key, series| {
            let cells = all.push(key, series.and_then(|series| series.created));
            if let Some(series) = series {
                cells.copy_from_slice(series.all_cells);
                all.set_exemplars(series.exemplars.to_vec());
            }
        });
        *self = all;
    }

    /// Returns the same series with these cells, which are those of all series, concatenated.
    pub(crate) fn with_cells(&self, cells: Vec<f64>) -> Self {
        debug_assert_eq!(cells.len(), self.cells.len());
        let (definition, keys, series) = (self.definition.clone(), self.keys.clone(), self.series.clone());
        Self { definition, keys, series, cells, exemplars: self.exemplars.clone() }
    }

    /// Removes the series at the positions where `is_kept` is `false`.
    pub(crate) fn keep_where(&mut self, is_kept: &[bool]) {
        let mut kept = Self::new(self.definition.clone());
        for (series, _) in self.series().zip(is_kept).filter(|(_, is_kept)| **is_kept) {
            kept.push(series.key, series.created).copy_from_slice(series.all_cells);
            kept.set_exemplars(series.exemplars.to_vec());
        }
        *self = kept;
    }

    /// Makes the values those that are shown. Of an info, keeps for each set of declared labels the series
    /// that was set last, and makes its value 1. A gauge histogram shows nothing below 0, and no time of
    /// creation.
    pub(crate) fn prepare(&mut self) {
        match self.definition.metric_type() {
            MetricType::Info => *self = self.newest(),
            MetricType::GaugeHistogram => {
                let width = self.definition.cell_count();
                self.cells.chunks_mut(width).for_each(|cells| at_least_zero(&self.definition, cells));
                self.series.iter_mut().for_each(|(_, created)| *created = None);
            }
            _ => {}
        }
    }

    fn newest(&self) -> Self {
        let names: Vec<String> = self.definition.label_names().iter().map(|name| labels::raw(name)).collect();
        let mut newest: HashMap<Vec<&str>, Series<'_>> = HashMap::new();
        for series in self.series().filter(|series| series.value() > 0.0) {
            let value_of = |name: &String| {
                let found = labels::raw_pairs(series.key).find(|(raw, _)| raw == name);
                found.map_or("", |(_, value)| value)
            };
            let best = newest.entry(names.iter().map(value_of).collect()).or_insert(series);
            if best.value() < series.value() {
                *best = series;
            }
        }
        let mut shown: Vec<&str> = newest.values().map(|series| series.key).collect();
        shown.sort_unstable();
        let mut family = Self::new(self.definition.clone());
        shown.into_iter().for_each(|key| family.push(key, None)[VALUE_CELL] = 1.0);
        family
    }

    /// Sets when each series began: what `created` returns for its canonical labels.
    pub(crate) fn set_created(&mut self, created: impl Fn(&str) -> Option<Milliseconds>) {
        let mut start = 0;
        for (end, known) in &mut self.series {
            *known = created(&self.keys[start..*end]);
            start = *end;
        }
    }

    /// Sets the exemplars of each series: those that `exemplars` returns for its canonical labels.
    pub(crate) fn set_exemplars_by(&mut self, exemplars: impl Fn(&str) -> Vec<Exemplar>) {
        let mut start = 0;
        for (index, &(end, _)) in self.series.iter().enumerate() {
            let found = exemplars(&self.keys[start..end]);
            if !found.is_empty() {
                self.exemplars.insert(index, found);
            }
            start = end;
        }
    }

    /// Removes the last series.
    pub(crate) fn pop(&mut self) {
        self.series.pop();
        self.exemplars.remove(&self.series.len());
        self.keys.truncate(self.series.last().map_or(0, |&(end, _)| end));
        self.cells.truncate(self.series.len() * self.definition.cell_count());
    }
}

/// Calls `visit` for each series of a family, and without a series for each of the sorted `keys` that has none, in
/// the order of the labels.
fn merge<'key>(
    family: &FamilySamples,
    keys: impl Iterator<Item = &'key str>,
    mut visit: impl FnMut(&str, Option<Series<'_>>),
) {
    let mut series = family.series().peekable();
    for key in keys {
        while let Some(earlier) = series.next_if(|series| series.key < key) {
            visit(earlier.key, Some(earlier));
        }
        if series.peek().is_none_or(|series| series.key != key) {
            visit(key, None);
        }
    }
    series.for_each(|series| visit(series.key, Some(series)));
}

/// Raises the cells of a gauge histogram that are below 0, because more was unobserved than observed. Its sum
/// may be below 0 if a bound is.
pub(crate) fn at_least_zero(definition: &Definition, cells: &mut [f64]) {
    let from = if definition.has_negative_bounds() { FIRST_COUNT_CELL } else { VALUE_CELL };
    // A sum that is not a number stays so.
    cells[from..].iter_mut().filter(|cell| **cell < 0.0).for_each(|cell| *cell = 0.0);
}

/// Returns the words in the cells of a native histogram.
fn words(cells: &[f64]) -> impl Iterator<Item = BucketWord> + Clone {
    cells[NATIVE_CELLS..].iter().map(|cell| BucketWord(cell.to_bits()))
}

impl<'family> Series<'family> {
    /// Creates a series outside a snapshot.
    pub(crate) fn new(definition: &Definition, key: &'family str, cells: &'family [f64]) -> Self {
        Self::with_native(definition.native(), key, cells)
    }

    fn with_native(native: Option<Native>, key: &'family str, cells: &'family [f64]) -> Self {
        let all_cells = cells;
        let Some(native) = native else {
            return Self { key, cells, all_cells, native: None, exemplars: &[], created: None };
        };
        let (cells, native_cells) = cells.split_at(cells.len() - native.size() - NATIVE_CELLS);
        let native = Some((native, native_cells));
        Self { key, cells, all_cells, native, exemplars: &[], created: None }
    }

    /// Returns the labels in their canonical encoding: compact JSON, sorted by name.
    pub fn key(&self) -> &'family str {
        self.key
    }

    /// Returns the labels.
    pub fn labels(&self) -> Labels {
        labels::decode(self.key).unwrap_or_default()
    }

    /// Returns when the series began, in seconds since 1970, if the store knows it: when a process of the store first
    /// used its labels, or first used them again after the series was removed.
    pub fn created(&self) -> Option<f64> {
        self.created.map(|milliseconds| milliseconds.get() as f64 / 1e3)
    }

    /// Returns the exemplars that the series has at present, in no order.
    pub fn exemplars(&self) -> &'family [Exemplar] {
        self.exemplars
    }

    /// Returns the newest exemplar whose value is above `lower` and not above `upper`.
    pub(crate) fn exemplar_in(&self, lower: f64, upper: f64) -> Option<&'family Exemplar> {
        let inside =
            self.exemplars.iter().filter(|exemplar| lower < exemplar.value() && exemplar.value() <= upper);
        inside.max_by_key(|exemplar| exemplar.milliseconds())
    }

    /// Returns the value of a counter, gauge, untyped metric or info, or the sum of a summary, histogram or
    /// gauge histogram.
    pub fn value(&self) -> f64 {
        self.cells[VALUE_CELL]
    }

    /// Returns whether each state of a state set is on, in the order of its states.
    pub fn states(&self, definition: &Definition) -> impl Iterator<Item = bool> + use<> {
        // The conversion saturates: no other program can store more than all states.
        let mask = self.cells[VALUE_CELL] as u64;
        (0..definition.states().len()).map(move |state| mask & (1 << state) != 0)
    }

    /// Returns the number of observations of a summary, histogram or gauge histogram.
    pub fn count(&self) -> f64 {
        self.native_alone() + self.cells[FIRST_COUNT_CELL..].iter().sum::<f64>()
    }

    /// Returns the native histogram, if the family is one.
    pub fn native(&self) -> Option<NativeHistogram> {
        let (native, cells) = self.native?;
        Some(NativeHistogram::merged(native, cells[0] as u64, words(cells)))
    }

    /// Returns whether the native histogram counts zeros with a whole number that all formats can show.
    pub(crate) fn has_sound_zeros(&self) -> bool {
        let is_sound = |zeros: f64| zeros >= 0.0 && zeros.fract() == 0.0 && zeros < EXACT_INTEGERS;
        self.native.is_none_or(|(_, cells)| is_sound(cells[0]))
    }

    /// Returns how many observations only the native histogram counts, because there are no classic buckets.
    fn native_alone(&self) -> f64 {
        match self.native {
            Some((native, cells)) if self.cells.len() == FIRST_COUNT_CELL + 1 => {
                let sound = words(cells).filter(|word| word.is_valid(native));
                cells[0] + sound.map(|word| word.count() as f64).sum::<f64>()
            }
            _ => 0.0,
        }
    }

    /// Returns the cumulative bucket counts of a histogram or gauge histogram, in the order of its bounds, `+Inf` last.
    pub fn cumulative_buckets(&self) -> impl Iterator<Item = f64> + use<'family> {
        let mut total = self.native_alone();
        self.cells[FIRST_COUNT_CELL..].iter().map(move |count| {
            total += count;
            total
        })
    }

    /// Returns all sample values of the series: the value; or count and sum; or the cumulative buckets, count
    /// and sum; or 1 or 0 for each state.
    pub fn values(&self, definition: &Definition) -> Vec<f64> {
        match definition.metric_type() {
            MetricType::Counter | MetricType::Gauge | MetricType::Untyped | MetricType::Info => {
                vec![self.value()]
            }
            MetricType::Summary => vec![self.count(), self.value()],
            MetricType::StateSet => self.states(definition).map(|is_on| f64::from(u8::from(is_on))).collect(),
            MetricType::Histogram | MetricType::GaugeHistogram => {
                let mut values = Vec::with_capacity(self.cells.len() + 1);
                values.extend(self.cumulative_buckets());
                values.extend([self.count(), self.value()]);
                values
            }
        }
    }
}
