//! The definition of a metric family: what its metrics mean (name, type, help, label names, buckets, unit).
//!
//! A definition is checked when it is created, and never changes.

use serde_json::{Value as Json, json};

use crate::model::error::{Error, ErrorKind, Result};
use crate::model::labels;
use crate::model::metric_type::MetricType;
use crate::model::name::{self, NameRule};
use crate::model::number::format_number;

/// The default bucket bounds of a histogram, in seconds. The Go client has the same ones.
pub const DEFAULT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The index of the cell that holds the value of a counter or gauge, or the sum of a summary or histogram.
pub(crate) const VALUE_CELL: usize = 0;
/// The index of the cell that holds a summary's count, or the count of a histogram's first bucket.
pub(crate) const FIRST_COUNT_CELL: usize = 1;

/// The definition of a metric family.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    name: String,
    help: String,
    metric_type: MetricType,
    label_names: Vec<String>,
    buckets: Vec<f64>,
    unit: Option<String>,
}

impl Definition {
    /// Creates a definition whose names every version of Prometheus accepts: [`NameRule::Legacy`].
    ///
    /// `buckets` are the upper bounds of a histogram, finite and increasing. `+Inf` is implied and may be
    /// left out. An empty slice means [`DEFAULT_BUCKETS`]. Other types take no buckets.
    pub fn new(
        name: &str,
        help: &str,
        metric_type: MetricType,
        label_names: &[&str],
        buckets: &[f64],
    ) -> Result<Self> {
        Self::with_names(NameRule::Legacy, name, help, metric_type, label_names, buckets)
    }

    /// Creates a definition as [`Definition::new`] does, but checks names by the rule `names`.
    pub fn with_names(
        names: NameRule,
        name: &str,
        help: &str,
        metric_type: MetricType,
        label_names: &[&str],
        buckets: &[f64],
    ) -> Result<Self> {
        name::check_metric_name(name, names)?;
        name::check_label_names(label_names.iter().copied(), metric_type, names)?;
        let mut label_names: Vec<String> = label_names.iter().map(|&name| name.to_owned()).collect();
        label_names.sort();
        Ok(Self {
            name: name.to_owned(),
            help: help.to_owned(),
            metric_type,
            label_names,
            buckets: check_buckets(name, metric_type, buckets)?,
            unit: None,
        })
    }

    /// Adds a unit, for example `seconds`. The name must end with it: `x_seconds`, or `x_seconds_total` for a
    /// counter. Only OpenMetrics shows the unit.
    pub fn with_unit(mut self, unit: &str) -> Result<Self> {
        let suffix = match self.metric_type {
            MetricType::Counter => format!("_{unit}_total"),
            _ => format!("_{unit}"),
        };
        let is_unit =
            !unit.is_empty() && unit.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let reason = if !is_unit {
            "expected [a-zA-Z0-9_]+".to_owned()
        } else if self.name.ends_with(&suffix) {
            self.unit = Some(unit.to_owned());
            return Ok(self);
        } else {
            format!("expected a name that ends with {suffix:?}")
        };
        let what = format!("{} {:?} in the unit {unit:?}", self.metric_type.name(), self.name);
        Err(Error::new(ErrorKind::InvalidArgument, format!("{what}: {reason}")))
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the help text, unescaped.
    pub fn help(&self) -> &str {
        &self.help
    }

    /// Returns the type.
    pub fn metric_type(&self) -> MetricType {
        self.metric_type
    }

    /// Returns the label names, sorted.
    pub fn label_names(&self) -> &[String] {
        &self.label_names
    }

    /// Returns the finite upper bounds of a histogram, increasing and without `+Inf`.
    pub fn buckets(&self) -> &[f64] {
        &self.buckets
    }

    /// Returns the unit, if the family has one.
    pub fn unit(&self) -> Option<&str> {
        self.unit.as_deref()
    }

    /// Returns how many cells a metric of this family has.
    ///
    /// The order of the cells is the same in memory and in every store. A counter, gauge or untyped metric
    /// has one cell, its value. A summary has its sum and its count. A histogram has its sum and then one
    /// count per bucket, not cumulative, `+Inf` last. So an observation changes one bucket and the sum, and
    /// the total count is the sum of the buckets.
    pub fn cell_count(&self) -> usize {
        match self.metric_type {
            MetricType::Counter | MetricType::Gauge | MetricType::Untyped => 1,
            MetricType::Summary => 2,
            MetricType::Histogram => self.buckets.len() + 2,
        }
    }

    /// Whether two declarations of the same name can share a store: type and buckets must be equal.
    ///
    /// Help text, unit and label names may differ, for example while a new version of a program replaces the
    /// old one. Each series keeps the labels of its own declaration.
    pub fn is_compatible(&self, other: &Self) -> bool {
        self.metric_type == other.metric_type && self.buckets == other.buckets
    }

    /// Whether a series with the canonical labels `key` may be shown in this family. Its label names may differ
    /// from the declared ones, but must be valid for the type.
    pub(crate) fn allows_labels(&self, key: &str) -> bool {
        // The names that were declared need no further look. They are sorted, as those of the key are.
        if labels::raw_pairs(key).map(|(name, _)| name).eq(self.label_names.iter()) {
            return true;
        }
        let labels = labels::decode(key).unwrap_or_default();
        let names = labels.keys().map(String::as_str);
        name::check_label_names(names, self.metric_type, NameRule::Utf8).is_ok()
    }

    /// Whether two declarations of the same name differ in the help text or the label names.
    pub(crate) fn looks_different(&self, other: &Self) -> bool {
        self.label_names != other.label_names || self.help != other.help
    }

    /// Describes the definition in one line, for error messages.
    pub fn describe(&self) -> String {
        let mut text = format!("{} {}", self.metric_type.name(), self.name);
        if let Some(unit) = &self.unit {
            text += &format!(" in {unit}");
        }
        if !self.label_names.is_empty() {
            text += &format!(" with labels {}", self.label_names.join(", "));
        }
        if self.metric_type == MetricType::Histogram {
            let bounds: Vec<_> = self.buckets.iter().map(|&bound| format_number(bound)).collect();
            text += &format!(" with buckets {}", bounds.join(", "));
        }
        text
    }

    /// Encodes the definition for a store. The name is not included, because stores use it as the key.
    pub fn to_json(&self) -> String {
        let mut object = json!({
            "type": self.metric_type.name(),
            "help": self.help,
            "labels": self.label_names,
        });
        if self.metric_type == MetricType::Histogram {
            object["buckets"] = json!(self.buckets);
        }
        if let Some(unit) = &self.unit {
            object["unit"] = json!(unit);
        }
        object.to_string()
    }

    /// Parses a definition from a store. Returns an error if the text is not a definition. Accepts any UTF-8
    /// name, because another program may have declared the family.
    pub fn from_json(name: &str, text: &str) -> Result<Self> {
        let garbage = |what: &str| {
            Error::new(
                ErrorKind::Store,
                format!("the stored definition of metric family {name:?} has no usable {what}"),
            )
        };
        let object: Json = serde_json::from_str(text).map_err(|_| garbage("JSON"))?;
        let metric_type = object["type"].as_str().and_then(MetricType::from_name);
        let label_names: Option<Vec<&str>> =
            object["labels"].as_array().and_then(|names| names.iter().map(Json::as_str).collect());
        let buckets: Option<Vec<f64>> = match &object["buckets"] {
            Json::Null => Some(Vec::new()),
            Json::Array(bounds) => {
                // Stored bounds omit `+Inf`. Without it, an empty list would mean the default buckets.
                let last = (metric_type == Some(MetricType::Histogram)).then_some(Some(f64::INFINITY));
                bounds.iter().map(Json::as_f64).chain(last).collect()
            }
            _ => None,
        };
        let definition = Self::with_names(
            NameRule::Utf8,
            name,
            object["help"].as_str().unwrap_or_default(),
            metric_type.ok_or_else(|| garbage("type"))?,
            &label_names.ok_or_else(|| garbage("labels"))?,
            &buckets.ok_or_else(|| garbage("buckets"))?,
        )?;
        // An invalid unit is dropped, so that the values remain visible.
        match object["unit"].as_str() {
            Some(unit) => Ok(definition.clone().with_unit(unit).unwrap_or(definition)),
            None => Ok(definition),
        }
    }
}

fn check_buckets(name: &str, metric_type: MetricType, buckets: &[f64]) -> Result<Vec<f64>> {
    let refuse = |reason: String| {
        Err(Error::new(ErrorKind::InvalidArgument, format!("metric family {name:?}: {reason}")))
    };
    if metric_type != MetricType::Histogram {
        return match buckets {
            [] => Ok(Vec::new()),
            _ => refuse(format!("a {} takes no buckets", metric_type.name())),
        };
    }
    let finite = match buckets {
        [] => &DEFAULT_BUCKETS,
        [before @ .., f64::INFINITY] => before,
        all => all,
    };
    if let Some(bound) = finite.iter().find(|bound| !bound.is_finite()) {
        return refuse(format!("bucket bound {} is not finite", format_number(*bound)));
    }
    if let Some(pair) = finite.windows(2).find(|pair| pair[0] >= pair[1]) {
        return refuse(format!(
            "bucket bounds must increase, but {} is followed by {}",
            format_number(pair[0]),
            format_number(pair[1])
        ));
    }
    Ok(finite.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    fn histogram(buckets: &[f64]) -> Result<Definition> {
        Definition::new("h", "help", MetricType::Histogram, &[], buckets)
    }

    #[test]
    fn buckets_are_finite_and_increasing_and_inf_is_implied() {
        assert_eq!(histogram(&[]).unwrap().buckets(), DEFAULT_BUCKETS);
        assert_eq!(histogram(&[1.0, f64::INFINITY]).unwrap().buckets(), [1.0]);
        assert_eq!(histogram(&[f64::INFINITY]).unwrap().buckets(), [0.0; 0]);
        for bad in [&[1.0, 1.0][..], &[2.0, 1.0], &[f64::NAN], &[f64::NEG_INFINITY, 1.0]] {
            assert_eq!(histogram(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad:?}");
        }
        assert!(Definition::new("c", "", MetricType::Counter, &[], &[1.0]).is_err());
    }

    #[test]
    fn a_unit_is_the_end_of_the_name() {
        let unit = |name: &str, metric_type, unit: &str| {
            Definition::new(name, "", metric_type, &[], &[]).unwrap().with_unit(unit)
        };
        for (name, metric_type) in [
            ("x_seconds", MetricType::Gauge),
            ("x_seconds_total", MetricType::Counter),
            ("_seconds", MetricType::Summary),
        ] {
            let definition = unit(name, metric_type, "seconds").unwrap();
            assert_eq!(definition.unit(), Some("seconds"));
            assert_eq!(Definition::from_json(name, &definition.to_json()).unwrap(), definition);
        }
        for (name, metric_type, wrong) in [
            ("x", MetricType::Gauge, "seconds"),
            ("seconds", MetricType::Gauge, "seconds"),
            ("x_seconds", MetricType::Counter, "seconds"),
            ("x_seconds_total", MetricType::Gauge, "seconds"),
            ("x_", MetricType::Gauge, ""),
        ] {
            let error = unit(name, metric_type, wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.message().contains(&format!("{name:?}")), "{error}");
        }
        let stored = r#"{"type":"gauge","help":"","labels":[],"unit":"m\ns"}"#;
        assert_eq!(Definition::from_json("x", stored).unwrap().unit(), None);
    }

    #[test]
    fn names_beyond_the_old_rule_are_for_those_who_ask() {
        let utf8 = |name: &str, label: &str| {
            Definition::with_names(NameRule::Utf8, name, "", MetricType::Gauge, &[label], &[])
        };
        let definition = utf8("http.größe", "a b").unwrap();
        assert_eq!(Definition::from_json("http.größe", &definition.to_json()).unwrap(), definition);
        assert!(Definition::new("http.größe", "", MetricType::Gauge, &[], &[]).is_err());
        assert!(utf8("", "a").is_err());
        assert!(utf8("a", "").is_err());
    }

    proptest! {
        #[test]
        fn bounds_read_back_as_the_same_numbers(bounds in btree_set(any::<i64>(), 0..20), scale in 1e-9..1e9) {
            let mut bounds: Vec<f64> = bounds.into_iter().map(|bound| bound as f64 * scale).collect();
            bounds.dedup();
            bounds.push(f64::INFINITY);
            let written = histogram(&bounds).unwrap();
            prop_assert_eq!(Definition::from_json("h", &written.to_json()).unwrap(), written);
        }
    }

    #[test]
    fn a_stored_definition_reads_back() {
        let written =
            Definition::new("h", "a \"b\"\n", MetricType::Histogram, &["y", "x"], &[0.1, 1e20]).unwrap();
        assert_eq!(Definition::from_json("h", &written.to_json()).unwrap(), written);
        assert_eq!(written.label_names(), ["x", "y"]);
        for garbage in ["", "{}", "[]", r#"{"type":"counter"}"#, r#"{"type":"odd","labels":[]}"#] {
            let error = Definition::from_json("h", garbage).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Store, "{garbage}");
        }
    }
}
