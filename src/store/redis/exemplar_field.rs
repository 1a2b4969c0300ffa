//! The field of an exemplar: its name, and the exemplar as text. `docs/redis-layout.md` describes both.
//!
//! The field stands in the hash beside the created times. The script keeps the newest exemplar of a field, so the text
//! begins with the time.

use crate::model::exemplar::Exemplar;
use crate::model::labels::{self, Labels};
use crate::model::number::{format_number, parse_number};

/// The beginning of a field of an exemplar. The number of its slot, a space and the labels JSON of its series follow.
const EXEMPLAR: &str = "exemplar ";

/// Returns the field of a slot of the series with these labels JSON.
pub(crate) fn name(slot: usize, labels: &str) -> String {
    format!("{EXEMPLAR}{slot} {labels}")
}

/// Returns the text of an exemplar: its time in milliseconds, its value, and its own labels as JSON.
pub(crate) fn format(exemplar: &Exemplar) -> String {
    let own: Labels = exemplar.labels().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    format!("{} {} {}", exemplar.milliseconds(), format_number(exemplar.value()), labels::encode(&own))
}

/// Reads a field: returns the labels JSON of its series, and the exemplar. `None` if it is no exemplar that a scraper
/// would take.
pub(crate) fn parse<'field>(field: &'field str, text: &str) -> Option<(&'field str, Exemplar)> {
    let (_, series) = field.strip_prefix(EXEMPLAR)?.split_once(' ')?;
    let mut parts = text.splitn(3, ' ');
    let milliseconds = parts.next()?.parse().ok()?;
    let value = parse_number(parts.next()?)?;
    let own = labels::decode(parts.next()?)?;
    let own: Vec<(&str, &str)> = own.iter().map(|(name, value)| (&**name, &**value)).collect();
    Some((series, Exemplar::new(&own, value, milliseconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exemplar_reads_back_from_its_field() {
        let labels = [("span_id", "a b"), ("trace_id", "\"größe\"\n")];
        let exemplar = Exemplar::new(&labels, 0.25, 1_700_000_000_123).unwrap();
        let (field, text) = (name(3, r#"{"a":"x y"}"#), format(&exemplar));
        assert_eq!(field, r#"exemplar 3 {"a":"x y"}"#);
        assert_eq!(text, r#"1700000000123 0.25 {"span_id":"a b","trace_id":"\"größe\"\n"}"#);
        assert_eq!(parse(&field, &text), Some((r#"{"a":"x y"}"#, exemplar)));
    }

    #[test]
    fn what_a_scraper_would_refuse_is_no_exemplar() {
        for (field, text) in [
            ("created {}", "17"),
            ("exemplar 0 {}", "17"),
            ("exemplar 0 {}", "x 1 {\"a\":\"b\"}"),
            ("exemplar 0 {}", "17 inf {\"a\":\"b\"}"),
            ("exemplar 0 {}", "17 1 {}"),
            ("exemplar 0 {}", "17 1 {\"a b\":\"c\"}"),
            ("exemplar 0 {}", "17 1 x"),
        ] {
            assert_eq!(parse(field, text), None, "{field} {text}");
        }
    }
}
