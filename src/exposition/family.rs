//! Writes one metric family as text: its comment lines, and a line for each sample.
//!
//! The parts that all lines of a family or series share are formatted once and copied. So a sample costs only
//! copies and the formatting of its value, and no allocation.

use std::borrow::Cow;
use std::fmt::Write;

use super::claims::{Claims, report};
use super::escaping::{Escaping, push_escaped};
use super::format::Format;
use crate::model::definition::Definition;
use crate::model::exemplar::Exemplar;
use crate::model::labels;
use crate::model::metric_type::MetricType;
use crate::model::name::{NameRule, check_label_names, is_legacy_label_name, is_legacy_metric_name};
use crate::model::number::{format_canonical_bound, format_number, write_number};
use crate::model::sample::{FamilySamples, Series};

/// The end of the name of each sample of an info.
const INFO_SUFFIX: &str = "_info";

/// Returns the name of a family with the prefix of the scrape.
pub(super) fn full_name<'name>(definition: &'name Definition, name_prefix: Option<&str>) -> Cow<'name, str> {
    match name_prefix.filter(|prefix| !prefix.is_empty()) {
        Some(prefix) => Cow::Owned(format!("{prefix}_{}", definition.name())),
        None => Cow::Borrowed(definition.name()),
    }
}

/// Returns what the names of samples have behind the name of their family.
pub(super) fn sample_suffixes(metric_type: MetricType, is_open_metrics: bool) -> &'static [&'static str] {
    match (metric_type, is_open_metrics) {
        (MetricType::Counter, true) => &["", "_total", "_created"],
        (MetricType::Summary, true) => &["", "_count", "_sum", "_created"],
        (MetricType::Histogram, true) => &["", "_count", "_sum", "_bucket", "_created"],
        (MetricType::Summary, false) => &["", "_count", "_sum"],
        (MetricType::Histogram | MetricType::GaugeHistogram, false) => &["", "_count", "_sum", "_bucket"],
        // The other formats have `_count` and `_sum`.
        (MetricType::GaugeHistogram, true) => &["", "_count", "_sum", "_gcount", "_gsum", "_bucket"],
        (MetricType::Info, true) => &["", INFO_SUFFIX],
        _ => &[""],
    }
}

/// Returns the name of a family as it is shown, before OpenMetrics takes its suffix away.
pub(super) fn shown_name(definition: &Definition, full_name: &str, escaping: Escaping) -> String {
    match definition.metric_type() {
        MetricType::Info if !full_name.ends_with(INFO_SUFFIX) => {
            escaping.metric_name(&format!("{full_name}{INFO_SUFFIX}"))
        }
        _ => escaping.metric_name(full_name),
    }
}

/// Returns whether OpenMetrics allows the sum of a histogram. The sum of a histogram never decreases, so there is
/// none with negative bounds. That of a gauge histogram is below 0 only with such bounds.
pub(super) fn is_sum_sound(is_gauge: bool, sum: f64, has_negative_bounds: bool) -> bool {
    match is_gauge {
        true => sum >= 0.0 || (sum < 0.0 && has_negative_bounds),
        false => sum >= 0.0 && !has_negative_bounds,
    }
}

/// Returns the suffix that a family may be declared with, and that only its samples have in OpenMetrics.
pub(super) fn own_suffix(metric_type: MetricType) -> Option<&'static str> {
    match metric_type {
        MetricType::Counter => Some("_total"),
        MetricType::Info => Some(INFO_SUFFIX),
        _ => None,
    }
}

/// Returns about how long the text of a family is, rather too much than too little. Untouched memory costs
/// nothing.
pub(super) fn likely_length(family: &FamilySamples) -> usize {
    /// The suffix of the name, the punctuation, and a value of some digits.
    const REST: usize = "_bucket{} 12345678\n".len();
    let definition = &family.definition;
    let series = family.series().len();
    let (lines, bounds) = match definition.metric_type() {
        MetricType::Histogram | MetricType::GaugeHistogram => {
            (definition.buckets().len() + 3, series * bound_lengths(definition))
        }
        MetricType::Summary => (2, 0),
        MetricType::StateSet => (definition.states().len(), series * state_lengths(definition)),
        MetricType::Counter | MetricType::Gauge | MetricType::Untyped | MetricType::Info => (1, 0),
    };
    let comments =
        "# HELP \n# TYPE  histogram\n".len() + 2 * definition.name().len() + definition.help().len();
    comments + lines * (series * (definition.name().len() + REST) + family.keys_length()) + bounds
}

/// Returns the length of the label `le` in all buckets of a series.
fn bound_lengths(definition: &Definition) -> usize {
    let bounds = definition.buckets().iter().copied().chain([f64::INFINITY]);
    bounds.map(|bound| ",le=\"\"".len() + format_number(bound).len()).sum()
}

/// Returns the length of the label with the state in all lines of a state set.
fn state_lengths(definition: &Definition) -> usize {
    let length = |state: &String| ",=\"\"".len() + definition.name().len() + state.len();
    definition.states().iter().map(length).sum()
}

/// Writes one family in one format.
pub(super) struct FamilyWriter<'family> {
    pub(super) definition: &'family Definition,
    format: Format,
    /// Whether series have samples `_created`.
    shows_created: bool,
    /// The name before escaping.
    full_name: String,
    /// The escaped name in HELP and TYPE. The names of the samples begin with it.
    pub(super) name: String,
    pub(super) labels: Vec<LabelText>,
    /// For each bucket of a histogram, the text between `le="` and the value.
    bounds: Vec<String>,
    /// The label that shows the states of a state set.
    pub(super) state_label: Option<LabelText>,
}

/// The prepared text of one label name.
pub(super) struct LabelText {
    /// The name as it is spelled in a [`Series::key`].
    pub(super) raw_name: String,
    pub(super) name: String,
    /// The name with everything up to the label value: `name="`.
    opening: String,
}

/// The beginnings of the lines of one sample name.
pub(super) struct SampleText {
    without_labels: String,
    /// The text up to the first label.
    with_labels: String,
}

impl<'family> FamilyWriter<'family> {
    pub(super) fn new(
        definition: &'family Definition,
        full_name: &str,
        format: Format,
        created_samples: bool,
    ) -> Self {
        let metric_type = definition.metric_type();
        let mut name = shown_name(definition, full_name, format.escaping);
        if let Some(suffix) = own_suffix(metric_type).filter(|_| format.is_open_metrics()) {
            let without_suffix = name.strip_suffix(suffix).filter(|rest| !rest.is_empty());
            name.truncate(without_suffix.map_or(name.len(), str::len));
        }
        let is_state_set = metric_type == MetricType::StateSet;
        let state_label = is_state_set.then(|| LabelText::new(full_name, format.escaping));
        Self {
            state_label,
            definition,
            format,
            shows_created: created_samples && format.is_open_metrics(),
            full_name: full_name.to_owned(),
            name,
            labels: definition
                .label_names()
                .iter()
                .map(|name| LabelText::new(name, format.escaping))
                .collect(),
            bounds: bound_texts(definition, format),
        }
    }

    /// Claims the names of the family. Returns `false`, and logs the reason once, if the family would make
    /// the scraper reject the response.
    pub(super) fn is_admitted(&self, claims: &mut Claims) -> bool {
        let Err(reason) = self.check(claims) else { return true };
        let (name, content_type) = (&self.full_name, self.format.content_type());
        report(format!("metric family {name:?} is left out of scrapes as {content_type}: {reason}"));
        false
    }

    fn check(&self, claims: &mut Claims) -> Result<(), String> {
        let label_names = self.labels.iter().map(|label| label.name.as_str());
        self.check_label_names(label_names)?;
        if let Some(label) = self.state_label.as_ref().filter(|label| label.name != self.name) {
            return Err(format!("its states need a label of its name, but {:?} is none", label.name));
        }
        let suffixes = sample_suffixes(self.definition.metric_type(), self.format.is_open_metrics());
        claims
            .claim(&self.name, suffixes)
            .map_err(|taken| format!("an earlier family has the name {taken:?}; rename one of them"))
    }

    /// Returns the reason if the label names, which escaping may have made equal, would make a scraper reject
    /// the response.
    fn check_label_names<'name>(
        &'name self,
        names: impl Iterator<Item = &'name str> + Clone,
    ) -> Result<(), String> {
        let all = names.clone().chain(self.state_label.iter().map(|label| label.name.as_str()));
        check_label_names(all, self.definition.metric_type(), NameRule::Utf8)
            .map_err(|error| error.message().to_owned())
    }

    /// Writes the family as text.
    pub(super) fn write(&self, output: &mut String, family: &FamilySamples) {
        self.write_comments(output);
        match (self.definition.metric_type(), self.format.is_open_metrics()) {
            (MetricType::Histogram | MetricType::GaugeHistogram, _) => self.write_histogram(output, family),
            (MetricType::StateSet, _) => self.write_state_set(output, family),
            (MetricType::Summary, _) => self.write_summary(output, family),
            (MetricType::Counter, true) => self.write_open_metrics_counter(output, family),
            (metric_type, is_open_metrics) => {
                let is_info = metric_type == MetricType::Info && is_open_metrics;
                let text = self.sample(if is_info { INFO_SUFFIX } else { "" });
                self.for_each_series(family, |labels, series| {
                    text.write(output, labels, series.value());
                });
            }
        }
    }

    pub(super) fn write_comments(&self, output: &mut String) {
        let name = match is_legacy_metric_name(&self.name) {
            true => self.name.clone(),
            false => quoted(&self.name),
        };
        let is_open_metrics = self.format.is_open_metrics();
        let type_name = match self.definition.metric_type() {
            MetricType::Untyped if is_open_metrics => "unknown",
            MetricType::Info | MetricType::StateSet if !is_open_metrics => "gauge",
            MetricType::GaugeHistogram if !is_open_metrics => "histogram",
            metric_type => metric_type.name(),
        };
        push_all(output, &["# HELP ", &name, " "]);
        push_escaped(output, self.definition.help(), is_open_metrics);
        push_all(output, &["\n# TYPE ", &name, " ", type_name, "\n"]);
        if let Some(unit) = self.unit().filter(|_| is_open_metrics) {
            push_all(output, &["# UNIT ", &name, " ", unit, "\n"]);
        }
    }

    /// Returns the unit if the name ends with it, which OpenMetrics and Prometheus require. A counter has the
    /// unit before `_total`. Escaping may have changed the end of the name.
    pub(super) fn unit(&self) -> Option<&'family str> {
        let without_total = self.name.strip_suffix("_total");
        let name = without_total.filter(|_| self.definition.metric_type() == MetricType::Counter);
        let name = name.unwrap_or(&self.name);
        self.definition.unit().filter(|unit| name.ends_with(&format!("_{unit}")))
    }

    /// Omits counters that are negative or NaN: OpenMetrics forbids them, but another program may have stored
    /// one.
    fn write_open_metrics_counter(&self, output: &mut String, family: &FamilySamples) {
        let (total, created) = (self.sample("_total"), self.sample("_created"));
        self.for_each_series(family, |labels, series| {
            if series.value() >= 0.0 {
                total.write(output, labels, series.value());
                push_exemplar(output, series.exemplar_in(f64::NEG_INFINITY, f64::INFINITY));
                self.write_created(output, &created, labels, series);
            }
        });
    }

    fn write_summary(&self, output: &mut String, family: &FamilySamples) {
        let (sum, count) = (self.sample("_sum"), self.sample("_count"));
        let created = self.sample("_created");
        let is_open_metrics = self.format.is_open_metrics();
        self.for_each_series(family, |labels, series| {
            let total = series.count();
            if is_open_metrics && !is_count(total) {
                return;
            }
            // OpenMetrics forbids negative sums, because they look like a counter reset.
            if !is_open_metrics || series.value() >= 0.0 {
                sum.write(output, labels, series.value());
            }
            count.write(output, labels, total);
            self.write_created(output, &created, labels, series);
        });
    }

    /// Writes a line for each state, with the label of the state behind the others.
    fn write_state_set(&self, output: &mut String, family: &FamilySamples) {
        let (text, Some(label)) = (self.sample(""), &self.state_label) else { return };
        let mut all = String::new();
        self.for_each_series(family, |labels, series| {
            for (state, is_on) in self.definition.states().iter().zip(series.states(self.definition)) {
                all.clear();
                all.push_str(labels);
                label.write(&mut all, state);
                text.write(output, &all, f64::from(u8::from(is_on)));
            }
        });
    }

    fn write_histogram(&self, output: &mut String, family: &FamilySamples) {
        let is_open_metrics = self.format.is_open_metrics();
        let is_gauge = self.definition.metric_type() == MetricType::GaugeHistogram && is_open_metrics;
        let (sum, count) = if is_gauge { ("_gsum", "_gcount") } else { ("_sum", "_count") };
        let (bucket, sum, count) = (self.sample("_bucket"), self.sample(sum), self.sample(count));
        let created = self.sample("_created");
        let has_negative_bounds = self.definition.has_negative_bounds();
        let shows_exemplars = is_open_metrics && !is_gauge;
        let mut head = String::new();
        self.for_each_series(family, |labels, series| {
            if is_open_metrics && !has_counts(series) {
                return;
            }
            head.clear();
            let separator = if labels.is_empty() { "" } else { "," };
            push_all(&mut head, &[&bucket.with_labels, labels, separator, "le=\""]);
            let has_exemplars = shows_exemplars && !series.exemplars().is_empty();
            let (mut total, mut lower) = (0.0, f64::NEG_INFINITY);
            for (index, (bound, cumulative)) in
                self.bounds.iter().zip(series.cumulative_buckets()).enumerate()
            {
                push_all(output, &[&head, bound]);
                push_value(output, cumulative);
                if has_exemplars {
                    let upper = self.definition.buckets().get(index).copied().unwrap_or(f64::INFINITY);
                    push_exemplar(output, series.exemplar_in(lower, upper));
                    lower = upper;
                }
                total = cumulative;
            }
            // OpenMetrics requires both the sum and the count or neither.
            if !is_open_metrics || is_sum_sound(is_gauge, series.value(), has_negative_bounds) {
                sum.write(output, labels, series.value());
                count.write(output, labels, total);
            }
            self.write_created(output, &created, labels, series);
        });
    }

    fn write_created(&self, output: &mut String, text: &SampleText, labels: &str, series: Series<'_>) {
        if let Some(created) = series.created().filter(|_| self.shows_created) {
            text.write(output, labels, created);
        }
    }

    /// Calls `write` with each series and the text of its labels between the braces.
    fn for_each_series(&self, family: &FamilySamples, mut write: impl FnMut(&str, Series<'_>)) {
        let mut labels = String::new();
        for series in family.series() {
            labels.clear();
            if self.write_labels(&mut labels, series) {
                write(&labels, series);
            }
        }
    }

    /// Writes the labels of a series. Returns `false` if they would make the scraper reject the response.
    fn write_labels(&self, output: &mut String, series: Series<'_>) -> bool {
        let mut known = self.labels.iter();
        for (raw_name, raw_value) in labels::raw_pairs(series.key()) {
            let Some(label) = known.next().filter(|label| label.raw_name == raw_name) else {
                output.clear();
                return self.write_other_labels(output, series);
            };
            if !output.is_empty() {
                output.push(',');
            }
            output.push_str(&label.opening);
            push_label_value(output, raw_value);
            output.push('"');
        }
        true
    }

    /// Writes the labels of a series whose label names differ from those of the family, because another
    /// program stored it. Returns `false` if they would make the scraper reject the response.
    fn write_other_labels(&self, output: &mut String, series: Series<'_>) -> bool {
        let Some(labels) = self.other_labels(series) else { return false };
        for (text, value) in &labels {
            text.write(output, value);
        }
        true
    }

    /// Returns the labels of a series whose label names differ from those of the family. Returns `None`, and
    /// logs the reason once, if they would make the scraper reject the response.
    pub(super) fn other_labels(&self, series: Series<'_>) -> Option<Vec<(LabelText, String)>> {
        let labels: Vec<_> = series
            .labels()
            .into_iter()
            .map(|(name, value)| (LabelText::new(&name, self.format.escaping), value))
            .collect();
        let names = labels.iter().map(|(label, _)| label.name.as_str());
        if let Err(reason) = self.check_label_names(names) {
            report(format!(
                "series {}{} is left out of scrapes as {}: {reason}",
                self.name,
                series.key(),
                self.format.content_type()
            ));
            return None;
        }
        Some(labels)
    }

    pub(super) fn sample(&self, suffix: &str) -> SampleText {
        let name = format!("{}{suffix}", self.name);
        match is_legacy_metric_name(&name) {
            true => SampleText { with_labels: format!("{name}{{"), without_labels: name },
            false => {
                let name = quoted(&name);
                SampleText { with_labels: format!("{{{name},"), without_labels: format!("{{{name}}}") }
            }
        }
    }
}

impl LabelText {
    pub(super) fn new(name: &str, escaping: Escaping) -> Self {
        let raw_name = labels::raw(name);
        let name = escaping.label_name(name);
        let opening = match is_legacy_label_name(&name) {
            true => format!("{name}=\""),
            false => format!("{}=\"", quoted(&name)),
        };
        Self { raw_name, name, opening }
    }

    /// Appends the label with this value to the text between the braces.
    pub(super) fn write(&self, output: &mut String, value: &str) {
        if !output.is_empty() {
            output.push(',');
        }
        output.push_str(&self.opening);
        push_escaped(output, value, true);
        output.push('"');
    }
}

impl SampleText {
    pub(super) fn write(&self, output: &mut String, labels: &str, value: f64) {
        match labels.is_empty() {
            true => push_all(output, &[&self.without_labels, " "]),
            false => push_all(output, &[&self.with_labels, labels, "} "]),
        }
        push_value(output, value);
    }
}

fn bound_texts(definition: &Definition, format: Format) -> Vec<String> {
    if !definition.metric_type().has_buckets() {
        return Vec::new();
    }
    let spell = if format.is_open_metrics() { format_canonical_bound } else { format_number };
    let bounds = definition.buckets().iter().copied().chain([f64::INFINITY]);
    bounds.map(|bound| format!("{}\"}} ", spell(bound))).collect()
}

/// Whether OpenMetrics accepts the value as a number of observations.
pub(super) fn is_count(value: f64) -> bool {
    value >= 0.0 && value.fract() == 0.0
}

/// Whether the buckets of a histogram hold numbers of observations, which a damaged store may not.
pub(super) fn has_counts(series: Series<'_>) -> bool {
    series.cumulative_buckets().is_sorted_by(|one, other| one <= other)
        && series.cumulative_buckets().all(is_count)
}

fn quoted(name: &str) -> String {
    let mut quoted = String::from("\"");
    push_escaped(&mut quoted, name, true);
    quoted.push('"');
    quoted
}

fn push_all(output: &mut String, parts: &[&str]) {
    for part in parts {
        output.push_str(part);
    }
}

fn push_value(output: &mut String, value: f64) {
    // Writing to a String cannot fail.
    let _ = write_number(output, value);
    output.push('\n');
}

/// Appends an exemplar to the line of a sample, which was just written.
fn push_exemplar(output: &mut String, exemplar: Option<&Exemplar>) {
    let Some(exemplar) = exemplar else { return };
    output.pop();
    output.push_str(" # {");
    for (index, (name, value)) in exemplar.labels().enumerate() {
        push_all(output, &[if index > 0 { "," } else { "" }, name, "=\""]);
        push_escaped(output, value, true);
        output.push('"');
    }
    // Writing to a String cannot fail.
    let _ = write!(output, "}} ");
    let _ = write_number(output, exemplar.value());
    let (seconds, milliseconds) = (exemplar.milliseconds() / 1_000, exemplar.milliseconds() % 1_000);
    let _ = writeln!(output, " {seconds}.{milliseconds:03}");
}

/// Writes a label value, given as the text between the quotes of a JSON string. JSON escapes every character
/// that the formats escape, so a text without `\` can be copied.
fn push_label_value(output: &mut String, raw: &str) {
    match plain_label_value(raw) {
        Cow::Borrowed(plain) => output.push_str(plain),
        Cow::Owned(value) => push_escaped(output, &value, true),
    }
}

/// Returns a label value, given as the text between the quotes of a JSON string.
pub(super) fn plain_label_value(raw: &str) -> Cow<'_, str> {
    match raw.as_bytes().contains(&b'\\') {
        // This cannot fail: serde_json has written the text.
        true => serde_json::from_str(&format!("\"{raw}\"")).unwrap_or_default(),
        false => Cow::Borrowed(raw),
    }
}
