//! A label set in its one canonical spelling: compact JSON, sorted by label name.
//!
//! The spelling is the key of a metric within its family, in memory and in the stores
//! (`{"bob":"cat"}`; without labels `{}`). A scrape walks it as it stands, and decodes nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The labels of one metric, by name.
pub type Labels = BTreeMap<String, String>;

/// The canonical spelling of `labels`.
pub fn encode(labels: &Labels) -> String {
    let mut text = String::from("{");
    for (index, (name, value)) in labels.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_string(&mut text, name);
        text.push(':');
        push_string(&mut text, value);
    }
    text.push('}');
    text
}

/// Reads a label set that some process stored. Values that are no strings (pytheus stores a number
/// where the application passed one) are read as their JSON text. `None` if it is no JSON object.
pub fn decode(text: &str) -> Option<Labels> {
    let object: BTreeMap<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    let plain = |value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    Some(object.into_iter().map(|(name, value)| (name, plain(value))).collect())
}

/// The canonical spelling of a label set that some process stored in any. `None` if it is none.
pub(crate) fn canonical(text: &str) -> Option<Cow<'_, str>> {
    if is_plain(text) {
        return Some(Cow::Borrowed(text));
    }
    let canonical = encode(&decode(text)?);
    Some(if canonical == text { Cow::Borrowed(text) } else { Cow::Owned(canonical) })
}

/// The pairs of a canonical spelling: names and values as JSON has them between the quotes.
pub(crate) fn raw_pairs(canonical: &str) -> RawPairs<'_> {
    RawPairs { rest: canonical.strip_prefix('{').unwrap_or_default() }
}

/// `text` as JSON has it between the quotes.
pub(crate) fn raw(text: &str) -> String {
    let mut quoted = String::new();
    push_string(&mut quoted, text);
    quoted[1..quoted.len() - 1].to_owned()
}

/// See [`raw_pairs`].
#[derive(Debug, Clone)]
pub(crate) struct RawPairs<'key> {
    rest: &'key str,
}

impl<'key> Iterator for RawPairs<'key> {
    type Item = (&'key str, &'key str);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = split_string(self.rest.strip_prefix(',').unwrap_or(self.rest))?;
        let (value, rest) = split_string(rest.strip_prefix(':')?)?;
        self.rest = rest;
        Some((name, value))
    }
}

/// Splits a JSON string off: what is between its quotes, and what is behind them.
fn split_string(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('"')?;
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'"' => return Some((&text[..at], &text[at + 1..])),
            // Whatever is escaped is no end.
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Whether the spelling is canonical, and all its strings stand for themselves. It may be wrong about a
/// canonical one, never about another.
fn is_plain(text: &str) -> bool {
    if text.bytes().any(|byte| byte < b' ' || byte == b'\\') {
        return false;
    }
    let mut pairs = raw_pairs(text);
    let mut last_name = None;
    let mut length = "{}".len();
    for (name, value) in pairs.by_ref() {
        if last_name >= Some(name) {
            return false;
        }
        length += r#""":"","#.len() + name.len() + value.len();
        last_name = Some(name);
    }
    // No comma behind the last. Nothing but strings and what belongs between them has the length of these.
    length -= usize::from(last_name.is_some());
    pairs.rest == "}" && length == text.len()
}

fn push_string(text: &mut String, value: &str) {
    // serde_json cannot fail on a str, and writes what pytheus-backend-rs 0.0.9 wrote.
    text.push_str(&serde_json::Value::from(value).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn labels_are_sorted_and_compact() {
        let labels = Labels::from([("b".into(), "é\"\n".into()), ("a".into(), "1".into())]);
        assert_eq!(encode(&labels), r#"{"a":"1","b":"é\"\n"}"#);
        assert_eq!(encode(&Labels::new()), "{}");
    }

    #[test]
    fn foreign_spellings_are_read() {
        let labels = decode(r#"{"b": 1, "a": "x"}"#).unwrap();
        assert_eq!(encode(&labels), r#"{"a":"x","b":"1"}"#);
        assert!(decode("[1]").is_none());
        assert!(decode("not json").is_none());
    }

    #[test]
    fn every_spelling_has_one_canonical_form() {
        for canonical_text in ["{}", r#"{"a":"1","b":"\u00e9"}"#, r#"{"a":"x\"y\\","b":"\n"}"#] {
            let text = encode(&decode(canonical_text).unwrap());
            assert_eq!(canonical(&text), Some(Cow::Borrowed(text.as_str())));
        }
        for (foreign, expected) in [
            (r#"{"b":"2","a":"1"}"#, r#"{"a":"1","b":"2"}"#),
            (r#"{"a": "1"}"#, r#"{"a":"1"}"#),
            (r#"{"a":"1"} "#, r#"{"a":"1"}"#),
            (r#"{"a":1}"#, r#"{"a":"1"}"#),
            (r#"{"a":"1","a":"2"}"#, r#"{"a":"2"}"#),
            (r#"{"\u0061":"1"}"#, r#"{"a":"1"}"#),
            ("{ }", "{}"),
        ] {
            assert_eq!(canonical(foreign).unwrap(), expected, "{foreign}");
        }
        for garbage in ["", "{", "{,}", "[]", r#"{"a":"1",}"#, r#"{"a":"1""b":"2"}"#, r#"{,"a":"1"}"#] {
            assert_eq!(canonical(garbage), None, "{garbage}");
        }
    }

    fn a_label_set() -> impl Strategy<Value = Labels> {
        prop::collection::btree_map(any::<String>(), any::<String>(), 0..5)
    }

    proptest! {
        #[test]
        fn pairs_are_walked_in_their_spelling(labels in a_label_set()) {
            let key = encode(&labels);
            let walked: Vec<(String, String)> =
                raw_pairs(&key).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let expected: Vec<_> = labels.iter().map(|(name, value)| (raw(name), raw(value))).collect();
            prop_assert_eq!(walked, expected);
            prop_assert_eq!(canonical(&key), Some(Cow::Borrowed(key.as_str())));
        }

        #[test]
        fn every_label_set_reads_back(labels in a_label_set()) {
            prop_assert_eq!(decode(&encode(&labels)).unwrap(), labels);
        }
    }
}
