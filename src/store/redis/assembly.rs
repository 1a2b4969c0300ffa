//! Makes the series of a family out of the fields that the server has.
//!
//! If another program has spelled the same labels in another way, its field belongs to the same series.
//! Fields that cannot be a series of the family are left out, because one bad name would make Prometheus
//! reject the scrape.

use std::collections::HashMap;
use std::sync::Arc;

use redis::Value;

use super::layout;
use super::reply::{number, pairs, shortened};
use crate::metric::Metric;
use crate::model::definition::Definition;
use crate::model::labels;
use crate::model::number::parse_number;
use crate::model::sample::FamilySamples;

/// Returns the series of a family: those in `value`, and the metrics that this process knows, which are 0 if
/// the server does not have them.
pub(crate) fn assemble(
    key: &str,
    definition: Definition,
    known: &[Arc<Metric>],
    value: Value,
) -> FamilySamples {
    let mut series = Assembly::new(&definition);
    for metric in known {
        series.row(&metric.key);
    }
    let mut left_out = LeftOut::default();
    if let Value::Nil | Value::BulkString(_) = &value {
        // A string key holds the value without labels. A family with labels may be such a key if other
        // processes declare it without labels.
        if let (Some((spelling, cell)), false) = (layout::parse_field(&definition, "{}"), value == Value::Nil)
        {
            let row = series.row(spelling);
            series.cells(row)[cell] = number(value).unwrap_or_else(|text| {
                left_out.note(|| format!("{text:?} is not a number"));
                0.0
            });
        }
        left_out.log(key);
        return series.finish(definition);
    }
    for (field, value) in pairs(value) {
        let Some((spelling, cell)) = layout::parse_field(&definition, &field) else {
            left_out.note(|| format!("field {field:?} does not belong to this family"));
            continue;
        };
        let Some(amount) = parse_number(&value) else {
            left_out.note(|| format!("field {field:?}: {value:?} is not a number"));
            continue;
        };
        let row = series.find(spelling).or_else(|| {
            let canonical = labels::canonical(spelling).filter(|key| definition.allows_labels(key))?;
            Some(series.row(&canonical))
        });
        match row {
            Some(row) => add(&mut series.cells(row)[cell], amount),
            None => left_out.note(|| format!("field {field:?} has no usable labels")),
        }
    }
    left_out.log(key);
    series.finish(definition)
}

/// The fields of a key that a scrape leaves out: the reason for the first one, and their number.
#[derive(Debug, Default)]
struct LeftOut {
    first: Option<String>,
    count: usize,
}

impl LeftOut {
    fn note(&mut self, reason: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(reason);
    }

    fn log(self, key: &str) {
        if let Some(first) = self.first {
            let more = self.count - 1;
            log::debug!("Redis key {key:?}: {}, and is left out, as are {more} more", shortened(&first));
        }
    }
}

/// Adds to a cell. The first amount is stored as it is, because `0.0 + -0.0` is not `-0.0`.
fn add(cell: &mut f64, amount: f64) {
    *cell = if *cell == 0.0 { amount } else { *cell + amount };
}

/// The series of a family while their cells arrive, in any order.
struct Assembly {
    /// The number of cells of one series.
    width: usize,
    /// The position of each series, by canonical labels.
    rows: HashMap<String, usize>,
    cells: Vec<f64>,
}

impl Assembly {
    fn new(definition: &Definition) -> Self {
        Self { width: definition.cell_count(), rows: HashMap::new(), cells: Vec::new() }
    }

    fn find(&self, spelling: &str) -> Option<usize> {
        self.rows.get(spelling).copied()
    }

    /// Returns the position of the series with the labels `key`. A new one begins with zeros.
    fn row(&mut self, key: &str) -> usize {
        if let Some(row) = self.find(key) {
            return row;
        }
        let row = self.rows.len();
        self.rows.insert(key.to_owned(), row);
        self.cells.resize(self.cells.len() + self.width, 0.0);
        row
    }

    fn cells(&mut self, row: usize) -> &mut [f64] {
        &mut self.cells[row * self.width..][..self.width]
    }

    /// Returns the series sorted by their labels.
    fn finish(mut self, definition: Definition) -> FamilySamples {
        let mut samples = FamilySamples::new(definition);
        let mut rows: Vec<_> = std::mem::take(&mut self.rows).into_iter().collect();
        rows.sort_unstable();
        for (key, row) in rows {
            samples.push(&key, None).copy_from_slice(self.cells(row));
        }
        samples
    }
}
