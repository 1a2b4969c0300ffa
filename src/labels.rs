//! A label set in its one canonical spelling: compact JSON, sorted by label name.
//!
//! The spelling is the key of a metric within its family, in memory and in the stores
//! (`{"bob":"cat"}`; without labels `{}`).

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

    proptest! {
        #[test]
        fn every_label_set_reads_back(labels: Labels) {
            prop_assert_eq!(decode(&encode(&labels)).unwrap(), labels);
        }
    }
}
