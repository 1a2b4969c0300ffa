//! The definition of a metric family: what its metrics mean (name, type, help, label names, buckets, states, unit).
//!
//! A definition is checked when it is created, and never changes.

use serde_json::{Value as Json, json};

use crate::model::error::{Error, ErrorKind, Result};
use crate::model::exemplar;
use crate::model::gauge_mode::{GaugeMode, PROCESS_LABEL};
use crate::model::labels;
use crate::model::metric_type::MetricType;
use crate::model::name::{self, NameRule};
use crate::model::native::Native;
use crate::model::number::format_number;
use crate::model::series_ttl::SeriesTtl;

/// The default bucket bounds of a histogram, in seconds. The Go client has the same ones.
pub const DEFAULT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The index of the cell that holds the value of a counter or gauge, or the sum of a summary or histogram.
pub(crate) const VALUE_CELL: usize = 0;
/// The index of the cell that holds a summary's count, or the count of a histogram's first bucket.
pub(crate) const FIRST_COUNT_CELL: usize = 1;
/// The cells of a native histogram before the words of its buckets: the count of zeros, and how many words are used.
pub(crate) const NATIVE_CELLS: usize = 2;

/// The type of a gauge with a mode in the definitions of stores.
const PROCESS_GAUGE: &str = "processgauge";

/// The definition of a metric family.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    name: String,
    help: String,
    metric_type: MetricType,
    label_names: Vec<String>,
    buckets: Vec<f64>,
    states: Vec<String>,
    native: Option<Native>,
    mode: Option<GaugeMode>,
    has_exemplars: bool,
    unit: Option<String>,
    series_ttl: Option<SeriesTtl>,
}

/// The type in the definition of a file whose series end when they are not used.
pub(crate) const EXPIRING: &str = "expiring";

/// The most states of a state set. Its value is a sum of powers of two, which a double holds exactly.
const MAX_STATES: usize = 52;

impl Definition {
    /// Creates a definition whose names every version of Prometheus accepts: [`NameRule::Legacy`].
    ///
    /// `buckets` are the upper bounds of a histogram, finite and increasing. `+Inf` is implied and may be
    /// left out. An empty slice means [`DEFAULT_BUCKETS`]. Other types take no buckets. A state set is made by
    /// [`Definition::state_set`].
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
        if metric_type == MetricType::StateSet {
            return Self::state_set(names, name, help, label_names, &[]);
        }
        Self::checked(names, name, help, metric_type, label_names, buckets)
    }

    /// Creates the definition of a state set. `states` are 1 to 52 names, none of them empty or given
    /// twice; their order belongs to the definition.
    ///
    /// The states are shown as values of a label that has the name of the family. So the name contains no `:`
    /// and does not begin with `__`, and no other label has it.
    pub fn state_set(
        names: NameRule,
        name: &str,
        help: &str,
        label_names: &[&str],
        states: &[&str],
    ) -> Result<Self> {
        let refuse = |reason: String| {
            Err(Error::new(ErrorKind::InvalidArgument, format!("stateset {name:?}: {reason}")))
        };
        if name.contains(':') || name.starts_with("__") {
            return refuse(
                "expected a name that a label can have: without \":\", not beginning with \"__\"".into(),
            );
        }
        if label_names.contains(&name) {
            return refuse("the label of its name shows the states: no other label can have it".into());
        }
        if states.is_empty() || states.len() > MAX_STATES {
            return refuse(format!("expected 1 to {MAX_STATES} states, got {}", states.len()));
        }
        for (index, state) in states.iter().enumerate() {
            if state.is_empty() {
                return refuse("a state has an empty name".into());
            }
            if states[..index].contains(state) {
                return refuse(format!("the state {state:?} is given twice"));
            }
        }
        let definition = Self::checked(names, name, help, MetricType::StateSet, label_names, &[])?;
        Ok(Self { states: states.iter().map(|&state| state.to_owned()).collect(), ..definition })
    }

    fn checked(
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
            states: Vec::new(),
            native: None,
            mode: None,
            has_exemplars: false,
            unit: None,
            series_ttl: None,
        })
    }

    /// Makes a histogram a native histogram, too. If `keeps_buckets`, it has its classic buckets beside that.
    /// Otherwise it has none but `+Inf`.
    pub fn with_native(mut self, native: Native, keeps_buckets: bool) -> Result<Self> {
        if self.metric_type != MetricType::Histogram {
            let message = format!(
                "metric family {:?}: a {} cannot be a native histogram",
                self.name,
                self.metric_type.name()
            );
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        if !keeps_buckets {
            self.buckets.clear();
        }
        self.native = Some(native);
        Ok(self)
    }

    /// Gives every process its own value of a gauge. A scrape merges them as `mode` says.
    ///
    /// The modes that show processes add the label `pid`, so the family cannot declare a label of that name.
    pub fn with_mode(mut self, mode: GaugeMode) -> Result<Self> {
        let refuse = |reason: &str| {
            let what = format!("{} {:?} with the mode {}", self.metric_type.name(), self.name, mode.name());
            Err(Error::new(ErrorKind::InvalidArgument, format!("{what}: {reason}")))
        };
        if self.metric_type != MetricType::Gauge {
            return refuse("only a gauge has a mode");
        }
        if self.series_ttl().is_some() {
            return refuse("a gauge with a mode has no series_ttl: its values end with their processes");
        }
        if mode.shows_processes() && self.label_names.iter().any(|name| name == PROCESS_LABEL) {
            return refuse("the label \"pid\" shows the processes: no other label can have its name");
        }
        self.mode = Some(mode);
        Ok(self)
    }

    /// Ends each series of the family when no process has used it for so many seconds, a whole number from 1 to
    /// 315,360,000. It is then gone from the store and from every scrape. A metric that is used again begins a new
    /// series, from 0. Use is each change, `set` to the same value too, and looking up a metric; reading is none.
    ///
    /// Infinity means that the series do not end, even if the store has an option `series_ttl`.
    ///
    /// A gauge with a mode has no such time: its values end with their processes.
    pub fn with_series_ttl(mut self, seconds: f64) -> Result<Self> {
        let refuse = |reason: &str| {
            let what = format!("{} {:?}", self.metric_type.name(), self.name);
            Err(Error::new(ErrorKind::InvalidArgument, format!("{what}: {reason}")))
        };
        let ttl = match SeriesTtl::new(seconds) {
            Ok(ttl) => ttl,
            Err(error) => return refuse(error.message()),
        };
        if self.mode.is_some() && ttl != SeriesTtl::Never {
            return refuse("a gauge with a mode has no series_ttl: its values end with their processes");
        }
        self.series_ttl = Some(ttl);
        Ok(self)
    }

    /// Applies the option of a store, unless the family has said something about it. Infos are set once, and gauges
    /// with a mode end with their processes.
    pub(crate) fn or_series_ttl(mut self, of_store: Option<SeriesTtl>) -> Self {
        if self.mode.is_none() && self.metric_type != MetricType::Info {
            self.series_ttl = self.series_ttl.or(of_store);
        }
        self
    }

    /// Has the series of a counter or histogram keep exemplars: the last one of a counter, and up to four of a
    /// histogram, from different buckets. They take 192 bytes each.
    ///
    /// Programs that share a store need not agree about this. In a metrics file, a series that was made by a program
    /// without this option keeps none.
    pub fn with_exemplars(mut self) -> Result<Self> {
        if exemplar::slots_of(self.metric_type) == 0 {
            let what = format!("metric family {:?}: a {}", self.name, self.metric_type.name());
            let message = format!("{what} has no exemplars: only a counter or histogram has");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        self.has_exemplars = true;
        Ok(self)
    }

    /// Adds a unit, for example `seconds`. The name must end with it: `x_seconds`, or `x_seconds_total` for a
    /// counter. An info or a state set has none. Only OpenMetrics and protobuf show the unit.
    pub fn with_unit(mut self, unit: &str) -> Result<Self> {
        let suffix = match self.metric_type {
            MetricType::Counter => format!("_{unit}_total"),
            _ => format!("_{unit}"),
        };
        let is_unit =
            !unit.is_empty() && unit.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let reason = if matches!(self.metric_type, MetricType::Info | MetricType::StateSet) {
            "this type has no unit".to_owned()
        } else if !is_unit {
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

    /// Returns whether values below 0 have buckets of their own.
    pub(crate) fn has_negative_bounds(&self) -> bool {
        self.buckets.first().is_some_and(|&bound| bound < 0.0)
    }

    /// Returns the states of a state set, in their declared order.
    pub fn states(&self) -> &[String] {
        &self.states
    }

    /// Returns the options of the native histogram, if the family is one. It is one alone if
    /// [`buckets`](Self::buckets) are empty.
    pub fn native(&self) -> Option<Native> {
        self.native
    }

    /// Returns how the values of processes are merged, if every process has its own.
    pub fn mode(&self) -> Option<GaugeMode> {
        self.mode
    }

    /// Returns whether the series keep exemplars.
    pub fn has_exemplars(&self) -> bool {
        self.has_exemplars
    }

    /// Returns how many exemplars a series has room for.
    pub(crate) fn exemplar_slots(&self) -> usize {
        if self.has_exemplars { exemplar::slots_of(self.metric_type) } else { 0 }
    }

    /// Returns the unit, if the family has one.
    pub fn unit(&self) -> Option<&str> {
        self.unit.as_deref()
    }

    /// Returns after how many seconds without use a series ends, if it does.
    pub fn series_ttl(&self) -> Option<u32> {
        self.series_ttl.and_then(SeriesTtl::seconds)
    }

    /// Returns how many cells a metric of this family has.
    ///
    /// The order of the cells is the same in memory and in every store. A counter, gauge or untyped metric
    /// has one cell, its value. A summary has its sum and its count. A histogram or gauge histogram has its
    /// sum and then one count per bucket, not cumulative, `+Inf` last. So an observation changes one bucket and
    /// the sum, and the total count is the sum of the buckets. An info has the time at which its labels were
    /// set, in microseconds since 1970. A state set has the sum of 2^n for each state n (from 0) that is on.
    ///
    /// A native histogram has more cells behind these: the count of zeros, how many of the following words are
    /// used, and [`Native::size`] words of buckets. If it has no classic buckets, its `+Inf` counts only the
    /// observations that are not a number.
    pub fn cell_count(&self) -> usize {
        let native = self.native.map_or(0, |native| NATIVE_CELLS + native.size());
        FIRST_COUNT_CELL + self.classic_counts() + native
    }

    /// Returns how many counts a metric has that are not those of its native histogram.
    pub(crate) fn classic_counts(&self) -> usize {
        match self.metric_type {
            MetricType::Counter
            | MetricType::Gauge
            | MetricType::Untyped
            | MetricType::Info
            | MetricType::StateSet => 0,
            MetricType::Summary => 1,
            MetricType::Histogram | MetricType::GaugeHistogram => self.buckets.len() + 1,
        }
    }

    /// Whether two declarations of the same name can share a store: type, buckets, states, mode and the options of
    /// the native histogram must be equal.
    ///
    /// Help text, unit, label names, exemplars and the time after which series end may differ, for example while a new
    /// version of a program replaces the old one. Each series keeps the labels of its own declaration.
    pub fn is_compatible(&self, other: &Self) -> bool {
        self.metric_type == other.metric_type
            && self.buckets == other.buckets
            && self.states == other.states
            && self.native == other.native
            && self.mode == other.mode
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
        // The states of a state set have a label of the family's name.
        let is_taken = self.metric_type == MetricType::StateSet && labels.contains_key(&self.name);
        !is_taken && name::check_label_names(names, self.metric_type, NameRule::Utf8).is_ok()
    }

    /// Whether two declarations of the same name differ in the help text or the label names.
    pub(crate) fn looks_different(&self, other: &Self) -> bool {
        self.label_names != other.label_names || self.help != other.help
    }

    /// Describes the definition in one line, for error messages.
    pub fn describe(&self) -> String {
        let mut text = format!("{} {}", self.metric_type.name(), self.name);
        if let Some(mode) = self.mode {
            text += &format!(" with the mode {}", mode.name());
        }
        if let Some(unit) = &self.unit {
            text += &format!(" in {unit}");
        }
        if !self.label_names.is_empty() {
            text += &format!(" with labels {}", self.label_names.join(", "));
        }
        if self.metric_type.has_buckets() && (self.native.is_none() || !self.buckets.is_empty()) {
            let bounds: Vec<_> = self.buckets.iter().map(|&bound| format_number(bound)).collect();
            text += &format!(" with buckets {}", bounds.join(", "));
        }
        if !self.states.is_empty() {
            text += &format!(" with states {}", self.states.join(", "));
        }
        if let Some(native) = self.native {
            text += &format!(" with native buckets of schema {} and size {}", native.schema(), native.size());
        }
        if let Some(ttl) = self.series_ttl() {
            text += &format!(" whose series end after {ttl} s without use");
        }
        text
    }

    /// Encodes the definition for a store. The name is not included, because stores use it as the key.
    pub fn to_json(&self) -> String {
        self.to_object().to_string()
    }

    /// Encodes the definition for a file. Programs that do not note when a series was last used do not know the type
    /// of a family whose series end, so they do not count in it.
    pub(crate) fn to_file_json(&self) -> String {
        let mut object = self.to_object();
        if self.series_ttl().is_some() {
            object["of"] = object["type"].take();
            object["type"] = json!(EXPIRING);
        }
        object.to_string()
    }

    fn to_object(&self) -> Json {
        let mut object = json!({
            "type": self.metric_type.name(),
            "help": self.help,
            "labels": self.label_names,
        });
        if self.metric_type.has_buckets() {
            object["buckets"] = json!(self.buckets);
        }
        if !self.states.is_empty() {
            object["states"] = json!(self.states);
        }
        if let Some(native) = self.native {
            object["native"] = json!({ "schema": native.schema(), "size": native.size() });
        }
        if self.has_exemplars {
            object["exemplars"] = json!(true);
        }
        if let Some(mode) = self.mode {
            // Programs that do not know modes do not know this type, so they leave the family out.
            object["type"] = json!(PROCESS_GAUGE);
            object["mode"] = json!(mode.name());
        }
        if let Some(unit) = &self.unit {
            object["unit"] = json!(unit);
        }
        if let Some(ttl) = self.series_ttl() {
            object["ttl"] = json!(ttl);
        }
        object
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
        let type_name = match object["type"].as_str() {
            Some(EXPIRING) => object["of"].as_str(),
            type_name => type_name,
        };
        let has_mode = type_name == Some(PROCESS_GAUGE);
        let metric_type = match has_mode {
            true => Some(MetricType::Gauge),
            false => type_name.and_then(MetricType::from_name),
        };
        let metric_type = metric_type.ok_or_else(|| garbage("type"))?;
        let strings = |list: &'_ Json| -> Option<Vec<String>> {
            list.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let label_names = strings(&object["labels"]);
        let buckets: Option<Vec<f64>> = match &object["buckets"] {
            Json::Null => Some(Vec::new()),
            Json::Array(bounds) => {
                // Stored bounds omit `+Inf`. Without it, an empty list would mean the default buckets.
                let last = metric_type.has_buckets().then_some(Some(f64::INFINITY));
                bounds.iter().map(Json::as_f64).chain(last).collect()
            }
            _ => None,
        };
        let help = object["help"].as_str().unwrap_or_default();
        let label_names = label_names.ok_or_else(|| garbage("labels"))?;
        let label_names: Vec<&str> = label_names.iter().map(String::as_str).collect();
        let mut definition = match metric_type {
            MetricType::StateSet => {
                let states = strings(&object["states"]).ok_or_else(|| garbage("states"))?;
                let states: Vec<&str> = states.iter().map(String::as_str).collect();
                Self::state_set(NameRule::Utf8, name, help, &label_names, &states)?
            }
            metric_type => {
                let buckets = buckets.ok_or_else(|| garbage("buckets"))?;
                Self::checked(NameRule::Utf8, name, help, metric_type, &label_names, &buckets)?
            }
        };
        if let Some(native) = object.get("native") {
            let option = |name: &str| native[name].as_i64().ok_or_else(|| garbage("native"));
            definition = definition.with_native(Native::new(option("schema")?, option("size")?)?, true)?;
        }
        // No part of what a family means, so a value or type that has none is no error.
        if object["exemplars"] == json!(true) {
            definition = definition.clone().with_exemplars().unwrap_or(definition);
        }
        if has_mode {
            let mode = object["mode"].as_str().and_then(GaugeMode::from_name);
            definition = definition.with_mode(mode.ok_or_else(|| garbage("mode"))?)?;
        }
        if let Some(ttl) = object.get("ttl") {
            let ttl = ttl.as_f64().ok_or_else(|| garbage("ttl"))?;
            definition = definition.with_series_ttl(ttl)?;
        }
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
    if !metric_type.has_buckets() {
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
    fn a_state_set_has_states_and_a_name_that_a_label_can_have() {
        let states = |name: &str, label_names: &[&str], states: &[&str]| {
            Definition::state_set(NameRule::Legacy, name, "", label_names, states)
        };
        let definition = states("x", &["a"], &["on", "off"]).unwrap();
        assert_eq!(definition.states(), ["on", "off"]);
        assert_eq!(Definition::from_json("x", &definition.to_json()).unwrap(), definition);
        assert!(!definition.is_compatible(&states("x", &["a"], &["off", "on"]).unwrap()), "another order");
        let many: Vec<String> = (0..=MAX_STATES).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(states("x", &[], &many[1..]).is_ok());
        for (name, label_names, wrong, reason) in [
            ("x", &[][..], &[][..], "1 to 52 states"),
            ("x", &[], &many, "1 to 52 states, got 53"),
            ("x", &[], &["a", ""], "empty"),
            ("x", &[], &["a", "b", "a"], "\"a\" is given twice"),
            ("a:b", &[], &["a"], "without \":\""),
            ("__x", &[], &["a"], "beginning with \"__\""),
            ("x", &["x"], &["a"], "no other label"),
        ] {
            let error = states(name, label_names, wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.message().contains(reason), "{error}");
        }
        assert!(Definition::new("x", "", MetricType::StateSet, &[], &[]).is_err());
        assert!(definition.with_unit("x").is_err());
    }

    #[test]
    fn series_may_end_and_a_file_says_so_in_the_type() {
        let counter = || Definition::new("x", "", MetricType::Counter, &["a"], &[]).unwrap();
        let definition = counter().with_series_ttl(60.0).unwrap();
        assert_eq!(definition.series_ttl(), Some(60));
        for json in [definition.to_json(), definition.to_file_json()] {
            assert_eq!(Definition::from_json("x", &json).unwrap(), definition, "{json}");
        }
        assert!(definition.to_json().contains(r#""type":"counter""#));
        assert!(definition.to_file_json().contains(r#""type":"expiring""#), "older programs leave it out");
        assert_eq!(counter().to_file_json(), counter().to_json());
        assert!(definition.is_compatible(&counter()));
        let of_store = Some(SeriesTtl::Seconds(5));
        assert_eq!(counter().or_series_ttl(of_store).series_ttl(), Some(5));
        assert_eq!(definition.or_series_ttl(of_store).series_ttl(), Some(60));
        let never = counter().with_series_ttl(f64::INFINITY).unwrap();
        assert_eq!(never.or_series_ttl(of_store).series_ttl(), None);
        let gauge = || Definition::new("x", "", MetricType::Gauge, &[], &[]).unwrap();
        let mode = gauge().with_mode(GaugeMode::Sum).unwrap();
        assert_eq!(mode.clone().or_series_ttl(of_store).series_ttl(), None);
        for refused in [
            mode.with_series_ttl(1.0),
            gauge().with_series_ttl(1.0).unwrap().with_mode(GaugeMode::Sum),
            gauge().with_series_ttl(0.0),
        ] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.message().contains("series_ttl"), "{error}");
        }
        let stored = r#"{"type":"gauge","help":"","labels":[],"ttl":"x"}"#;
        assert!(Definition::from_json("x", stored).is_err());
    }

    #[test]
    fn only_a_gauge_has_a_mode_and_a_scrape_may_need_the_label_pid() {
        let with = |metric_type, label_names: &[&str], mode| {
            Definition::new("x", "", metric_type, label_names, &[]).unwrap().with_mode(mode)
        };
        let definition = with(MetricType::Gauge, &["a"], GaugeMode::LiveMax).unwrap();
        assert_eq!(Definition::from_json("x", &definition.to_json()).unwrap(), definition);
        assert!(definition.to_json().contains(r#""type":"processgauge""#), "older programs leave it out");
        assert!(!definition.is_compatible(&with(MetricType::Gauge, &["a"], GaugeMode::Max).unwrap()));
        assert!(
            !definition.is_compatible(&Definition::new("x", "", MetricType::Gauge, &["a"], &[]).unwrap())
        );
        assert!(with(MetricType::Gauge, &["pid"], GaugeMode::Sum).is_ok());
        for (metric_type, label_names, mode, reason) in [
            (MetricType::Counter, &["a"][..], GaugeMode::Sum, "only a gauge"),
            (MetricType::Gauge, &["pid"], GaugeMode::All, "\"pid\""),
            (MetricType::Gauge, &["pid"], GaugeMode::LiveAll, "\"pid\""),
        ] {
            let error = with(metric_type, label_names, mode).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.message().contains(reason), "{error}");
        }
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
            ("x_seconds", MetricType::Info, "seconds"),
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
        let native = Native::new(8, 100).unwrap();
        for keeps_buckets in [false, true] {
            let written = histogram(&[0.1, 1e20]).unwrap().with_native(native, keeps_buckets).unwrap();
            assert_eq!(Definition::from_json("h", &written.to_json()).unwrap(), written);
        }
        for garbage in [
            "",
            "{}",
            "[]",
            r#"{"type":"counter"}"#,
            r#"{"type":"odd","labels":[]}"#,
            r#"{"type":"processgauge","labels":[],"mode":"odd"}"#,
            r#"{"type":"histogram","labels":[],"native":{}}"#,
        ] {
            let error = Definition::from_json("h", garbage).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Store, "{garbage}");
        }
    }
}
