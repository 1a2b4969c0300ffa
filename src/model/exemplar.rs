//! Exemplars: a single observation of a series, with labels that lead to its trace.
//!
//! A series keeps a few of them in slots of a fixed size: one of a counter, four of a histogram. So their labels have
//! a packed form of a fixed size, too: [`PackedLabels`].

use crate::model::error::{Error, ErrorKind, Result};
use crate::model::metric_type::MetricType;
use crate::model::name::{NameRule, check_label_names};

/// The most characters that the names and values of an exemplar's labels have together, as OpenMetrics demands.
/// Prometheus drops longer ones.
pub(crate) const MAX_CHARACTERS: usize = 128;

/// The words of packed labels: 160 bytes.
pub(crate) const LABEL_WORDS: usize = 20;
const MAX_BYTES: usize = LABEL_WORDS * 8;

/// The slots of a histogram, which has the most. The bounds of the buckets decide which slot a value belongs to.
pub(crate) const HISTOGRAM_SLOTS: usize = 4;

/// An observation of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    labels: PackedLabels,
    value: f64,
    milliseconds: u64,
}

impl Exemplar {
    /// Makes an exemplar. Returns `None` if the labels or the value are none that a scraper would take.
    pub(crate) fn new(labels: &[(&str, &str)], value: f64, milliseconds: u64) -> Option<Self> {
        let labels = PackedLabels::new(labels).ok()?;
        value.is_finite().then_some(Self { labels, value, milliseconds })
    }

    /// Reads an exemplar from a store: its packed labels, the bits of its value, and its time. Returns `None` if the
    /// labels or the value are none that a scraper would take.
    pub(crate) fn from_words(labels: [u64; LABEL_WORDS], value: u64, milliseconds: u64) -> Option<Self> {
        let (labels, value) = (PackedLabels::from_words(labels)?, f64::from_bits(value));
        value.is_finite().then_some(Self { labels, value, milliseconds })
    }

    /// Returns the labels, as the program gave them.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter()
    }

    /// Returns the observed value, or the amount that was added to a counter.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Returns when the value was observed, in milliseconds since 1970.
    pub fn milliseconds(&self) -> u64 {
        self.milliseconds
    }
}

/// The labels of an exemplar. For each label: the lengths of its name and of its value in bytes, one byte each, and
/// then the two. A name is never empty, so a 0 in place of its length ends the labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedLabels([u8; MAX_BYTES]);

impl PackedLabels {
    /// Packs labels. Fails if a scraper would refuse them, or would drop them because they are too long.
    pub(crate) fn new(labels: &[(&str, &str)]) -> Result<Self> {
        let refuse = |reason: String| {
            let shown: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            let message = format!("invalid exemplar labels {{{}}}: {reason}", shown.join(", "));
            Err(Error::new(ErrorKind::InvalidArgument, message))
        };
        if labels.is_empty() {
            return refuse("expected at least one label, for example trace_id".into());
        }
        let names = labels.iter().map(|&(name, _)| name);
        if let Err(error) = check_label_names(names, MetricType::Counter, NameRule::Legacy) {
            return refuse(error.message().to_owned());
        }
        let characters: usize =
            labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        if characters > MAX_CHARACTERS {
            return refuse(format!(
                "its names and values have {characters} characters: expected at most {MAX_CHARACTERS}"
            ));
        }
        let size: usize = labels.iter().map(|(name, value)| 2 + name.len() + value.len()).sum();
        if size > MAX_BYTES {
            return refuse(format!(
                "its labels take {size} bytes, 2 of them for each label: expected at most {MAX_BYTES}"
            ));
        }
        let mut bytes = [0; MAX_BYTES];
        let mut rest = &mut bytes[..];
        for (name, value) in labels {
            // Both fit: their sum is at most `MAX_BYTES`.
            for part in [&[name.len() as u8, value.len() as u8], name.as_bytes(), value.as_bytes()] {
                let (place, behind) = rest.split_at_mut(part.len());
                place.copy_from_slice(part);
                rest = behind;
            }
        }
        Ok(Self(bytes))
    }

    /// Reads labels from a store. Returns `None` if they are none that [`new`](Self::new) accepts.
    pub(crate) fn from_words(words: [u64; LABEL_WORDS]) -> Option<Self> {
        let mut bytes = [0; MAX_BYTES];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let found = Self(bytes);
        let labels: Vec<_> = found.iter().collect();
        // Bytes that are no label end the iteration early, and differ then.
        Self::new(&labels).ok().filter(|packed| *packed == found)
    }

    pub(crate) fn words(&self) -> [u64; LABEL_WORDS] {
        let mut words = [0; LABEL_WORDS];
        for (word, bytes) in words.iter_mut().zip(self.0.chunks_exact(8)) {
            *word = bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        }
        words
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (&[name_length, value_length], behind) = rest.split_first_chunk()?;
            let (name, behind) = behind.split_at_checked(usize::from(name_length))?;
            let (value, behind) = behind.split_at_checked(usize::from(value_length))?;
            rest = behind;
            let label = (std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?);
            Some(label).filter(|(name, _)| !name.is_empty())
        })
    }
}

/// Returns how many exemplars a series of this type has room for. 0: the type has none.
pub(crate) fn slots_of(metric_type: MetricType) -> usize {
    match metric_type {
        MetricType::Counter => 1,
        MetricType::Histogram => HISTOGRAM_SLOTS,
        _ => 0,
    }
}

/// Returns the slot of a value that counts in the classic bucket at `bucket`, of `buckets`. If there is one bucket
/// only, the size of the value decides.
pub(crate) fn slot_of(metric_type: MetricType, value: f64, bucket: usize, buckets: usize) -> usize {
    match metric_type {
        MetricType::Histogram if buckets > 1 => bucket * HISTOGRAM_SLOTS / buckets,
        // The bits of the exponent: neighbouring powers of two have different slots.
        MetricType::Histogram => (value.to_bits() >> 52) as usize % HISTOGRAM_SLOTS,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(labels: &[(&str, &str)]) -> String {
        let error = PackedLabels::new(labels).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        error.message().to_owned()
    }

    #[test]
    fn labels_are_packed_and_read_back() {
        let long = "x".repeat(120);
        for labels in [
            &[("trace_id", "0af7651916cd43dd8448eb211c80319c"), ("span_id", "b7ad6b7169203331")][..],
            &[("trace_id", long.as_str())],
            &[("a", ""), ("b", "größe \n\"")],
        ] {
            let packed = PackedLabels::new(labels).unwrap();
            assert_eq!(packed.iter().collect::<Vec<_>>(), labels);
            assert_eq!(PackedLabels::from_words(packed.words()), Some(packed));
        }
    }

    #[test]
    fn what_is_no_exemplar_is_refused_with_the_value_and_the_limit() {
        let long = "x".repeat(121);
        for (labels, reason) in [
            (&[][..], "at least one label"),
            (&[("trace_id", long.as_str())], "have 129 characters: expected at most 128"),
            (&[("a", "1"), ("a", "2")], "it is given twice"),
            (&[("a b", "1")], "[a-zA-Z_][a-zA-Z0-9_]*"),
            (&[("__a", "1")], "reserved"),
            (&[("a", &"ö".repeat(100))], "take 203 bytes, 2 of them for each label: expected at most 160"),
        ] {
            let message = refusal(labels);
            assert!(message.contains(reason), "{message}");
        }
    }

    #[test]
    fn words_that_are_no_labels_are_none() {
        assert_eq!(PackedLabels::from_words([0; LABEL_WORDS]), None);
        assert_eq!(PackedLabels::from_words([u64::MAX; LABEL_WORDS]), None);
        let mut words = PackedLabels::new(&[("a", "b")]).unwrap().words();
        words[LABEL_WORDS - 1] = 1;
        assert_eq!(PackedLabels::from_words(words), None);
    }

    #[test]
    fn the_bounds_decide_about_the_slot_and_without_bounds_the_size() {
        let slots =
            |buckets| (0..buckets).map(move |bucket| slot_of(MetricType::Histogram, 0.0, bucket, buckets));
        assert_eq!(slots(12).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
        assert_eq!(slots(2).collect::<Vec<_>>(), [0, 2]);
        let of = |value| slot_of(MetricType::Histogram, value, 0, 1);
        assert_eq!([of(1.0), of(2.0), of(4.0), of(8.0), of(1.5)], [3, 0, 1, 2, 3]);
    }
}
