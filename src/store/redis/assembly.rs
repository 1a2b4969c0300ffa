//! Makes the series of a family out of the fields that the server has.
//!
//! If another program has spelled the same labels in another way, its field belongs to the same series.
//! Fields that cannot be a series of the family are left out, because one bad name would make Prometheus
//! reject the scrape.

use std::collections::HashMap;

use redis::Value;

use super::connection::Reply;
use super::layout;
use super::native_field::FieldValue;
use super::reply::{number, pairs, shortened};
use crate::model::definition::Definition;
use crate::model::labels;
use crate::model::sample::FamilySamples;

/// Returns the series of a family that are in the reply to a read of its whole key.
pub(crate) fn assemble(key: &str, definition: &Definition, reply: Reply) -> FamilySamples {
    let mut series = Assembly::new(key, definition);
    match reply {
        Reply::Fields(fields) => fields.pairs().for_each(|(field, value)| series.add(field, value)),
        // A string key holds the value without labels. A family with labels may be such a key if other
        // processes declare it without labels.
        Reply::Value(Value::Nil) => {}
        Reply::Value(value @ Value::BulkString(_)) => series.add_single(value),
        Reply::Value(value) => {
            pairs(value).iter().for_each(|(field, value)| series.add(field, value));
        }
    }
    series.finish()
}

/// The series of a family while their cells arrive, in any order.
pub(crate) struct Assembly<'family> {
    key: &'family str,
    definition: &'family Definition,
    /// The position of each series, by canonical labels.
    rows: HashMap<String, usize>,
    cells: Vec<f64>,
    left_out: LeftOut,
}

impl<'family> Assembly<'family> {
    pub(crate) fn new(key: &'family str, definition: &'family Definition) -> Self {
        Self { key, definition, rows: HashMap::new(), cells: Vec::new(), left_out: LeftOut::default() }
    }

    /// Adds the value of one field of the hash.
    pub(crate) fn add(&mut self, field: &str, value: &str) {
        let Some((spelling, cell)) = layout::parse_field(self.definition, field) else {
            self.left_out.note(|| format!("field {field:?} does not belong to this family"));
            return;
        };
        let Some(amount) = FieldValue::parse(self.definition, cell, value) else {
            self.left_out.note(|| format!("field {field:?} has the value {value:?}, which cannot be read"));
            return;
        };
        let row = self.rows.get(spelling).copied().or_else(|| {
            let canonical = labels::canonical(spelling).filter(|key| self.definition.allows_labels(key))?;
            Some(self.row(&canonical))
        });
        match row {
            Some(row) => amount.add_to(&mut self.cells(row)[cell..]),
            None => self.left_out.note(|| format!("field {field:?} has no usable labels")),
        }
    }

    /// Adds the value of a string key.
    fn add_single(&mut self, value: Value) {
        let Some((spelling, cell)) = layout::parse_field(self.definition, "{}") else { return };
        let row = self.row(spelling);
        self.cells(row)[cell] = number(value).unwrap_or_else(|text| {
            self.left_out.note(|| format!("{text:?} is not a number"));
            0.0
        });
    }

    /// Returns the position of the series with the labels `key`. A new one begins with zeros.
    fn row(&mut self, key: &str) -> usize {
        if let Some(&row) = self.rows.get(key) {
            return row;
        }
        let row = self.rows.len();
        self.rows.insert(key.to_owned(), row);
        self.cells.resize(self.cells.len() + self.definition.cell_count(), 0.0);
        row
    }

    fn cells(&mut self, row: usize) -> &mut [f64] {
        let width = self.definition.cell_count();
        &mut self.cells[row * width..][..width]
    }

    /// Returns the series sorted by their labels.
    pub(crate) fn finish(self) -> FamilySamples {
        self.left_out.log(self.key);
        let width = self.definition.cell_count();
        let mut samples = FamilySamples::new(self.definition.clone());
        let mut rows: Vec<_> = self.rows.into_iter().collect();
        rows.sort_unstable();
        for (key, row) in rows {
            samples.push(&key, None).copy_from_slice(&self.cells[row * width..][..width]);
        }
        samples
    }
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
