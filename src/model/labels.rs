//! The canonical encoding of a label set: compact JSON, sorted by label name.
//!
//! The encoding is the key of a metric within its family, in memory and in the stores (`{"bob":"cat"}`; `{}`
//! without labels). A scrape iterates over the encoded text without decoding it.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The labels of one metric, by name.
pub type Labels = BTreeMap<String, String>;

/// Encodes a label set canonically.
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

/// Encodes label sets of the same names: what they share is encoded once.
#[derive(Debug, Clone)]
pub(crate) struct KeyWriter {
    /// For each label, in the order of the encoding: its encoded name, and the place of its value.
    labels: Vec<(String, usize)>,
}

impl KeyWriter {
    /// Takes the names in the order in which [`write`](Self::write) takes their values.
    pub(crate) fn new(names: &[&str]) -> Self {
        let places: BTreeMap<&str, usize> = names.iter().enumerate().map(|(at, &name)| (name, at)).collect();
        let encoded = |name| {
            let mut text = String::new();
            push_string(&mut text, name);
            text + ":"
        };
        Self { labels: places.into_iter().map(|(name, at)| (encoded(name), at)).collect() }
    }

    /// Returns what [`encode`] returns for these names and values.
    pub(crate) fn write(&self, values: &[&str]) -> String {
        let names: usize = self.labels.iter().map(|(name, _)| name.len() + ",\"\"".len()).sum();
        let mut text =
            String::with_capacity("{}".len() + names + values.iter().map(|value| value.len()).sum::<usize>());
        text.push('{');
        for (index, (name, at)) in self.labels.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(name);
            push_string(&mut text, values.get(*at).copied().unwrap_or_default());
        }
        text.push('}');
        text
    }
}

/// Parses a label set from a store. Values that are not strings become their JSON text: pytheus stores a
/// number if the application passed one. Returns `None` if the text is not a JSON object.
pub fn decode(text: &str) -> Option<Labels> {
    let object: BTreeMap<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    let plain = |value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    Some(object.into_iter().map(|(name, value)| (name, plain(value))).collect())
}

/// Parses a label set from a store and re-encodes it canonically. Returns `None` if the text is not a label
/// set.
pub(crate) fn canonical(text: &str) -> Option<Cow<'_, str>> {
    if is_plain(text) {
        return Some(Cow::Borrowed(text));
    }
    let canonical = encode(&decode(text)?);
    Some(if canonical == text { Cow::Borrowed(text) } else { Cow::Owned(canonical) })
}

/// Iterates over the names and values of a canonical encoding, each as the JSON text between its quotes.
pub(crate) fn raw_pairs(canonical: &str) -> RawPairs<'_> {
    RawPairs { rest: canonical.strip_prefix('{').unwrap_or_default() }
}

/// Returns `text` as JSON writes it between the quotes.
pub(crate) fn raw(text: &str) -> String {
    let mut quoted = String::new();
    push_string(&mut quoted, text);
    quoted[1..quoted.len() - 1].to_owned()
}

/// The iterator of [`raw_pairs`].
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

/// Splits off a JSON string. Returns the text between its quotes and the text after them.
fn split_string(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('"')?;
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'"' => return Some((&text[..at], &text[at + 1..])),
            // An escaped quote does not end the string.
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Whether the encoding is certainly canonical and has no escapes. May return `false` for a canonical
/// encoding; never returns `true` for another text.
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
    // There is no comma after the last pair. Equal lengths prove that the text has nothing besides the pairs
    // and their punctuation.
    length -= usize::from(last_name.is_some());
    pairs.rest == "}" && length == text.len()
}

fn push_string(text: &mut String, value: &str) {
    if !value.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        text.push('"');
        text.push_str(value);
        return text.push('"');
    }
    // serde_json cannot fail on a str, and escapes as pytheus-backend-rs 0.0.9 did, so keys stay the same.
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
        fn label_sets_of_the_same_names_are_encoded_the_same(labels in a_label_set(), turn in 0..5_usize) {
            let mut pairs: Vec<(&str, &str)> =
                labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let by = turn.min(pairs.len());
            pairs.rotate_left(by);
            let (names, values): (Vec<&str>, Vec<&str>) = pairs.into_iter().unzip();
            prop_assert_eq!(KeyWriter::new(&names).write(&values), encode(&labels));
            for value in labels.values() {
                let mut text = String::new();
                push_string(&mut text, value);
                prop_assert_eq!(text, serde_json::Value::from(value.as_str()).to_string());
            }
        }

        #[test]
        fn every_label_set_reads_back(labels in a_label_set()) {
            prop_assert_eq!(decode(&encode(&labels)).unwrap(), labels);
        }
    }
}
