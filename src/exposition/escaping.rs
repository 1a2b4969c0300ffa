//! Escapes names that not every scraper understands.
//!
//! Prometheus 3 accepts any UTF-8 name, in quotes. For other scrapers such a name is escaped by the scheme
//! that they request; the default is underscores. Names that every version understands are never changed.

use crate::model::name::{is_legacy_label_name, is_legacy_metric_name};

/// How a name outside `[a-zA-Z_:][a-zA-Z0-9_:]*` is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escaping {
    /// Unchanged, in quotes: `{"my.metric"} 1`.
    AllowUtf8,
    /// Every unsupported character becomes an underscore: `my_metric`.
    #[default]
    Underscores,
    /// A dot becomes `_dot_`. An underscore or unsupported character becomes two underscores:
    /// `my_dot_metric`.
    Dots,
    /// The name begins with `U__`, and every unsupported character becomes its hexadecimal code point between
    /// underscores: `U__my_2e_metric`.
    Values,
}

impl Escaping {
    const ALL: [Self; 4] = [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values];

    /// Returns the name of the scheme in HTTP headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|escaping| escaping.name() == name)
    }

    /// Escapes a metric name.
    pub(super) fn metric_name(self, name: &str) -> String {
        match is_legacy_metric_name(name) {
            true => name.to_owned(),
            false => self.escape(name, |character| character == ':'),
        }
    }

    /// Escapes a label name.
    pub(super) fn label_name(self, name: &str) -> String {
        match is_legacy_label_name(name) {
            true => name.to_owned(),
            false => self.escape(name, |_| false),
        }
    }

    fn escape(self, name: &str, also: impl Fn(char) -> bool) -> String {
        if self == Self::AllowUtf8 {
            // A parser written in C would stop at a NUL.
            return name.replace('\0', "\u{FFFD}");
        }
        let mut escaped = String::from(if self == Self::Values { "U__" } else { "" });
        for (index, character) in name.chars().enumerate() {
            let is_digit = character.is_ascii_digit() && index > 0;
            let is_legacy = character.is_ascii_alphabetic() || is_digit || also(character);
            match (self, character) {
                (Self::Dots | Self::Values, '_') => escaped.push_str("__"),
                (_, character) if is_legacy => escaped.push(character),
                (Self::Dots, '.') => escaped.push_str("_dot_"),
                (Self::Dots, _) => escaped.push_str("__"),
                (Self::Values, _) => escaped.push_str(&format!("_{:x}_", u32::from(character))),
                _ => escaped.push('_'),
            }
        }
        escaped
    }
}

/// Escapes `\`, line feeds and, if `quotes` is set, `"`. Replaces NUL by U+FFFD, because a parser written in
/// C would stop at it.
pub(super) fn push_escaped(output: &mut String, text: &str, quotes: bool) {
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '\n', '"', '\0']) {
        output.push_str(&rest[..at]);
        output.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'"' if quotes => "\\\"",
            b'"' => "\"",
            _ => "\u{FFFD}",
        });
        rest = &rest[at + 1..];
    }
    output.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(name: &str) -> [String; 4] {
        Escaping::ALL.map(|escaping| escaping.metric_name(name))
    }

    #[test]
    fn names_are_escaped_as_prometheus_does() {
        assert_eq!(all("no:escaping_required"), ["no:escaping_required"; 4]);
        assert_eq!(
            all("mysystem.prod.west.cpu.load"),
            [
                "mysystem.prod.west.cpu.load",
                "mysystem_prod_west_cpu_load",
                "mysystem_dot_prod_dot_west_dot_cpu_dot_load",
                "U__mysystem_2e_prod_2e_west_2e_cpu_2e_load",
            ]
        );
        assert_eq!(
            all("http.status:sum_x"),
            ["http.status:sum_x", "http_status:sum_x", "http_dot_status:sum__x", "U__http_2e_status:sum__x"]
        );
        assert_eq!(all("花火"), ["花火", "__", "____", "U___82b1__706b_"]);
        assert_eq!(all("9a"), ["9a", "_a", "__a", "U___39_a"]);
        assert_eq!(all("a\0"), ["a\u{FFFD}", "a_", "a__", "U__a_0_"]);
    }

    #[test]
    fn a_colon_is_for_metric_names_alone() {
        assert_eq!(
            Escaping::ALL.map(|escaping| escaping.label_name("a:b")),
            ["a:b", "a_b", "a__b", "U__a_3a_b"]
        );
    }

    #[test]
    fn texts_are_escaped_where_they_stand() {
        let escaped = |quotes| {
            let mut output = String::from(">");
            push_escaped(&mut output, "a\\b\"c\nd\0é", quotes);
            output
        };
        assert_eq!(escaped(true), ">a\\\\b\\\"c\\nd\u{FFFD}é");
        assert_eq!(escaped(false), ">a\\\\b\"c\\nd\u{FFFD}é");
    }
}
