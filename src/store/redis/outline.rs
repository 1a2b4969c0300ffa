//! The outline of a family: its series and fields on the server, as a read has found them.
//!
//! `HGETALL` of a large hash keeps the server busy for many milliseconds, and sends every name again. Once the
//! fields are known, `HMGET` reads their values in pieces. All values of one series are in one piece, so the
//! parts of a histogram belong together.

use std::collections::BTreeMap;

use redis::{Cmd, Value};

use super::connection::{Reply, command};
use super::layout;
use super::native_field::FieldValue;
use super::reply::shortened;
use crate::model::definition::Definition;
use crate::model::labels;
use crate::model::sample::FamilySamples;

/// The most fields that the server is asked for at a time: about a millisecond of its time. A series with more
/// cells than this is still one piece.
pub(crate) const PIECE: usize = 4_000;

/// A hash with more fields than this is read in pieces even if its outline is not known yet.
pub(crate) const MOST_AT_ONCE: u64 = 5_000;

/// The outline of a hash with fewer fields than this is not kept. Such a hash is read whole.
pub(crate) const SMALL_HASH: usize = 500;

/// About how many bytes a command takes in memory for an argument, beside its text, and an outline for its cell.
const BYTES_BESIDE_FIELD: usize = 24;

/// The series and fields of a family.
#[derive(Debug)]
pub(crate) struct Outline {
    /// The series. Their cells are 0.
    series: FamilySamples,
    /// Read all fields, series by series.
    pieces: Vec<Cmd>,
    /// Asks how many fields there are.
    length: Cmd,
    /// The position of the cell of each field that the pieces read.
    cells: Vec<u32>,
    /// How many fields do not belong to the family.
    strangers: usize,
    /// About how many bytes this takes in memory.
    size: usize,
}

/// What the pieces have brought.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) samples: FamilySamples,
    /// Whether the server has no field that the outline lacks.
    pub(crate) is_complete: bool,
}

impl Outline {
    /// Makes the outline of the hash at `key`, which has these `fields`.
    pub(crate) fn new<'field>(
        key: &str,
        definition: &Definition,
        fields: impl Iterator<Item = &'field str>,
    ) -> Self {
        let width = definition.cell_count();
        let mut strangers = 0;
        // Other programs may have spelled the labels of a series, or a bound, in their own way.
        let mut rows: BTreeMap<String, Vec<(&str, usize)>> = BTreeMap::new();
        for field in fields {
            let parsed = layout::parse_field(definition, field).and_then(|(spelling, cell)| {
                Some((labels::canonical(spelling).filter(|labels| definition.allows_labels(labels))?, cell))
            });
            let Some((labels, cell)) = parsed else {
                strangers += 1;
                continue;
            };
            let is_ours = layout::field(definition, &labels, cell) == field;
            let others = rows.entry(labels.into_owned()).or_default();
            if !is_ours {
                others.push((field, cell));
            }
        }
        let mut outline = Self {
            series: FamilySamples::new(definition.clone()),
            pieces: Vec::new(),
            length: command("HLEN", &[key]),
            cells: Vec::new(),
            strangers,
            size: 0,
        };
        let mut room = 0;
        for (row, (labels, others)) in rows.iter().enumerate() {
            outline.series.push(labels, None);
            let field_count = layout::field_count(definition);
            let ours = (0..field_count).map(|cell| (layout::field(definition, labels, cell), cell));
            let count = field_count + others.len();
            let others = others.iter().map(|&(field, cell)| (field.to_owned(), cell));
            if room < count || outline.pieces.is_empty() {
                outline.pieces.push(command("HMGET", &[key]));
                room = PIECE.max(count);
            }
            room -= count;
            for (field, cell) in ours.chain(others) {
                outline.size += field.len() + BYTES_BESIDE_FIELD;
                if let Some(piece) = outline.pieces.last_mut() {
                    piece.arg(field);
                }
                outline.cells.push(u32::try_from(row * width + cell).unwrap_or(u32::MAX));
            }
        }
        outline.size += outline.series.size();
        outline
    }

    /// Makes the outline of a hash that was read whole. `None` if it is small, if the reply is no hash, or if a field is
    /// no text.
    pub(crate) fn of_reply(key: &str, definition: &Definition, reply: &Reply) -> Option<Self> {
        let mut fields = Vec::new();
        let (mut is_field, mut is_text) = (false, true);
        reply.visit_texts(|text| {
            is_field = !is_field;
            if is_field {
                match text.and_then(|text| std::str::from_utf8(text).ok()) {
                    Some(text) => fields.push(text.to_owned()),
                    None => is_text = false,
                }
            }
        })?;
        let is_large = fields.len() >= SMALL_HASH;
        (is_large && is_text).then(|| Self::new(key, definition, fields.iter().map(String::as_str)))
    }

    /// Returns the definition with which the family was read.
    pub(crate) fn definition(&self) -> &Definition {
        &self.series.definition
    }

    /// Returns the commands that read the family, each with the number of fields that it reads.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&Cmd, usize)> {
        let pieces = self.pieces.iter().map(|piece| (piece, piece.args_iter().len().saturating_sub(2)));
        [(&self.length, 0)].into_iter().chain(pieces).chain([(&self.length, 0)])
    }

    /// Returns the series with the values of the `replies`. `None` if the server has refused a command, or a reply is
    /// missing.
    pub(crate) fn fill(&self, key: &str, replies: &[Reply]) -> Option<Filled> {
        let [first, pieces @ .., last] = replies else { return None };
        let mut values = vec![0.0; self.series.series().len() * self.definition().cell_count()];
        let mut filled = vec![false; self.series.series().len()];
        let width = self.definition().cell_count();
        let mut found = self.strangers;
        let mut bad = None;
        let mut cells = self.cells.iter();
        for piece in pieces {
            piece.visit_texts(|text| {
                let (Some(&cell), Some(text)) = (cells.next(), text) else { return };
                let cell = cell as usize;
                found += 1;
                let (row, cell) = (cell / width, cell % width);
                let parse = |text| FieldValue::parse(self.definition(), cell, text);
                match std::str::from_utf8(text).ok().and_then(parse) {
                    Some(value) => {
                        value.add_to(&mut values[row * width..][cell..width]);
                        filled[row] = true;
                    }
                    None => drop(bad.get_or_insert_with(|| String::from_utf8_lossy(text).into_owned())),
                }
            })?;
        }
        if cells.next().is_some() {
            return None;
        }
        if let Some(bad) = bad {
            log::debug!("Redis key {key:?}: the value {:?} cannot be read, and is left out", shortened(&bad));
        }
        let is_complete = found >= count(first)?.max(count(last)?);
        let mut samples = self.series.with_cells(values);
        if filled.contains(&false) {
            samples.keep_where(&filled);
        }
        Some(Filled { samples, is_complete })
    }

    /// Returns whether every later field that this outline lacks will be noticed: a field that does not belong to
    /// the family may go without a sign, and hide one that comes.
    pub(crate) fn can_be_kept(&self) -> bool {
        self.strangers == 0 && self.cells.len() >= SMALL_HASH
    }

    /// Returns about how many bytes the outline takes in memory.
    pub(crate) fn size(&self) -> usize {
        self.size
    }
}

/// Returns the number of fields of a hash.
fn count(reply: &Reply) -> Option<usize> {
    match reply {
        Reply::Value(Value::Int(count)) => usize::try_from(*count).ok(),
        _ => None,
    }
}
