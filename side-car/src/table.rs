//! Formats rows as lines of text that fit a width.
//!
//! `top` displays them. This file does not know about terminals, only about columns of text.

use std::cmp::Ordering;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::rates::{Quantile, Row};

/// The sort order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Rate,
    Value,
    Name,
}

impl Order {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Value => "value",
            Self::Name => "name",
        }
    }

    pub(crate) fn next(self) -> Self {
        match self {
            Self::Rate => Self::Value,
            Self::Value => Self::Name,
            Self::Name => Self::Rate,
        }
    }

    /// Sorts the rows, largest first. Equal rows are sorted by name and labels.
    pub(crate) fn sort(self, rows: &mut [Row]) {
        let by_name = |one: &Row, other: &Row| (&one.name, &one.labels).cmp(&(&other.name, &other.labels));
        let largest_first = |one: Option<f64>, other: Option<f64>| {
            // Missing values and NaN come last.
            let known =
                |value: Option<f64>| value.filter(|value| !value.is_nan()).unwrap_or(f64::NEG_INFINITY);
            known(other).total_cmp(&known(one))
        };
        rows.sort_by(|one, other| {
            let first = match self {
                Self::Rate => largest_first(one.rate, other.rate),
                Self::Value => largest_first(Some(one.value), Some(other.value)),
                Self::Name => Ordering::Equal,
            };
            first.then_with(|| by_name(one, other))
        });
    }
}

/// A header, and one line per row.
#[derive(Debug, PartialEq)]
pub(crate) struct Table {
    pub(crate) header: String,
    pub(crate) lines: Vec<String>,
}

/// The columns after METRIC and LABELS, most important first.
const NUMBERS: [&str; 5] = ["VALUE", "RATE/s", "MEAN", "P50", "P99"];
const LEAST_NAME: usize = 12;
const LEAST_LABELS: usize = 10;

impl Table {
    /// Lays out the rows, in at most `width` columns if a width is given.
    pub(crate) fn new(rows: &[Row], width: Option<usize>) -> Self {
        let numbers: Vec<[String; 5]> = rows.iter().map(number_cells).collect();
        let widest =
            |title: &str, cells: &mut dyn Iterator<Item = usize>| cells.fold(title.len(), usize::max);
        let mut widths: Vec<usize> = NUMBERS
            .iter()
            .enumerate()
            .map(|(at, title)| widest(title, &mut numbers.iter().map(|cells| cells[at].len())))
            .collect();
        // Trailing columns without values are dropped.
        let is_filled = |at: usize| at < 2 || numbers.iter().any(|cells| cells[at] != "-");
        let last = (0..widths.len()).rev().find(|&at| is_filled(at)).unwrap_or(1);
        widths.truncate(last + 1);
        let mut name = widest("METRIC", &mut rows.iter().map(|row| row.name.width()));
        let mut labels = widest("LABELS", &mut rows.iter().map(|row| row.labels.width()));
        if let Some(width) = width {
            let taken = |widths: &[usize]| widths.iter().map(|width| width + 2).sum::<usize>();
            while widths.len() > 2 && taken(&widths) + LEAST_NAME + 2 + LEAST_LABELS > width {
                widths.pop();
            }
            let left = width.saturating_sub(taken(&widths) + 2);
            if name + labels > left {
                // Labels are cut before names, because the name identifies the metric.
                let kept = labels.min(LEAST_LABELS.max(left * 2 / 5));
                name = name.min(left.saturating_sub(kept));
                labels = labels.min(left - name);
            }
        }
        let line = |first: &str, second: &str, cells: &mut dyn Iterator<Item = &str>| {
            let mut line = format!("{}  {}", fitted(first, name), fitted(second, labels));
            for (cell, width) in cells.zip(&widths) {
                line += &format!("  {cell:>width$}");
            }
            let line = line.trim_end();
            width.map_or_else(|| line.to_owned(), |width| fitted(line, width).trim_end().to_owned())
        };
        let header = line("METRIC", "LABELS", &mut NUMBERS.into_iter());
        let lines = rows
            .iter()
            .zip(&numbers)
            .map(|(row, cells)| line(&row.name, &row.labels, &mut cells.iter().map(String::as_str)))
            .collect();
        Self { header, lines }
    }
}

fn number_cells(row: &Row) -> [String; 5] {
    let quantile = |quantile: Option<Quantile>| match quantile {
        None => "-".to_owned(),
        Some(Quantile::About(value)) => number(value, 4),
        Some(Quantile::Above(bound)) => format!(">{}", number(bound, 4)),
    };
    let rounded = |value: Option<f64>| value.map_or("-".to_owned(), |value| number(value, 4));
    [number(row.value, 8), rounded(row.rate), rounded(row.mean), quantile(row.p50), quantile(row.p99)]
}

/// Formats a number for display: integers in full, other numbers with about `digits` digits.
pub(crate) fn number(value: f64, digits: i32) -> String {
    let magnitude = value.abs();
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if magnitude >= 1e15 || (magnitude > 0.0 && magnitude < 1e-6) {
        return format!("{value:.3e}");
    }
    if value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    let before_point = magnitude.log10().floor() as i32 + 1;
    let decimals = (digits - before_point).max(0) as usize;
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Returns the text in exactly `width` columns: padded, or cut off with a mark.
pub(crate) fn fitted(text: &str, width: usize) -> String {
    let own = text.width();
    if own <= width {
        return text.to_owned() + &" ".repeat(width - own);
    }
    let mut cut = String::new();
    let mut used = 0;
    for character in text.chars() {
        let columns = character.width().unwrap_or(0);
        if used + columns + 1 > width {
            break;
        }
        cut.push(character);
        used += columns;
    }
    if width > used {
        cut.push('…');
        used += 1;
    }
    cut + &" ".repeat(width - used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, labels: &str, value: f64, rate: Option<f64>) -> Row {
        Row { name: name.into(), labels: labels.into(), value, rate, mean: None, p50: None, p99: None }
    }

    fn rows() -> Vec<Row> {
        let observed = Row {
            mean: Some(0.0123456),
            p50: Some(Quantile::About(0.01)),
            p99: Some(Quantile::Above(10.0)),
            ..row("request_seconds_count", "", 12.0, Some(0.5))
        };
        vec![row("requests_total", "method=\"GET\",path=\"/日本\"", 1234567.0, Some(1234.5678)), observed]
    }

    #[test]
    fn numbers_are_short_and_whole_where_they_can_be() {
        for (value, text) in [
            (0.0, "0"),
            (3.0, "3"),
            (1234567.0, "1234567"),
            (1234.5678, "1235"),
            (123.456, "123.5"),
            (0.012345, "0.01235"),
            (0.1, "0.1"),
            (2.5, "2.5"),
            (-2.5, "-2.5"),
            (1e15, "1.000e15"),
            (1.5e-7, "1.500e-7"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(number(value, 4), text);
        }
        assert_eq!(number(36.6612, 8), "36.6612");
    }

    #[test]
    fn columns_are_aligned() {
        let table = Table::new(&rows(), None);
        assert_eq!(
            table.header,
            "METRIC                 LABELS                       VALUE  RATE/s     MEAN   P50  P99"
        );
        assert_eq!(
            table.lines,
            [
                "requests_total         method=\"GET\",path=\"/日本\"  1234567    1235        -     -    -",
                "request_seconds_count                                  12     0.5  0.01235  0.01  >10",
            ]
        );
    }

    #[test]
    fn columns_that_nobody_fills_are_left_out() {
        let table = Table::new(&[row("c", "", 1.0, None)], None);
        assert_eq!(
            (table.header.as_str(), table.lines[0].as_str()),
            ("METRIC  LABELS  VALUE  RATE/s", "c                   1       -")
        );
    }

    #[test]
    fn a_table_is_never_wider_than_it_may_be() {
        for width in 0..120 {
            let table = Table::new(&rows(), Some(width));
            for line in table.lines.iter().chain([&table.header]) {
                assert!(line.width() <= width, "{width}: {line:?}");
            }
        }
        let narrow = Table::new(&rows(), Some(45));
        assert_eq!(narrow.header, "METRIC            LABELS        VALUE  RATE/s");
        assert_eq!(narrow.lines[0], "requests_total    method=\"G…  1234567    1235");
        assert_eq!(narrow.lines[1], "request_seconds…                   12     0.5");
    }

    #[test]
    fn text_is_cut_with_a_mark_and_wide_characters_count_twice() {
        assert_eq!(fitted("abc", 5), "abc  ");
        assert_eq!(fitted("abcdef", 4), "abc…");
        assert_eq!(fitted("日本語", 4), "日… ");
        assert_eq!(fitted("abc", 0), "");
    }

    #[test]
    fn the_fastest_come_first_and_what_has_no_rate_last() {
        let mut rows = [
            row("a", "", 5.0, None),
            row("b", "", 1.0, Some(1.0)),
            row("c", "", 9.0, Some(2.0)),
            row("d", "", f64::NAN, Some(2.0)),
        ];
        let names = |rows: &[Row]| rows.iter().map(|row| row.name.clone()).collect::<String>();
        Order::Rate.sort(&mut rows);
        assert_eq!(names(&rows), "cdba");
        Order::Value.sort(&mut rows);
        assert_eq!(names(&rows), "cabd");
        Order::Name.sort(&mut rows);
        assert_eq!(names(&rows), "abcd");
    }
}
