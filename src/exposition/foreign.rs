//! Metric families whose samples come from the caller: the values of custom collectors.
//!
//! The caller declares a family and adds its samples one by one; each sample is checked when it is added. The
//! renderer places such families among those of the store, and applies the same rules for names, escaping,
//! numbers and OpenMetrics.

use std::collections::{HashMap, HashSet};

use super::claims::report;
use super::family::{FamilyWriter, LabelText, is_count, is_sum_sound};
use super::format::Format;
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::labels::{self, Labels};
use crate::model::metric_type::MetricType;
use crate::model::name::{NameRule, check_label_names};
use crate::model::number::{format_canonical_bound, format_number, parse_number};

/// A metric family whose samples come from the caller.
///
/// ```
/// use pytheus_backend_rs::{Backend, Definition, ForeignFamily, MetricType, NameRule, RenderOptions};
///
/// let definition = Definition::new("disk_free_bytes", "Free space.", MetricType::Gauge, &[], &[])?;
/// let mut disks = ForeignFamily::new(definition, NameRule::Legacy, 0);
/// disks.push("", &[("disk", "sda")], 5e9)?;
/// let options = RenderOptions { foreign: &[disks], ..Default::default() };
/// let text = Backend::open("memory:")?.render(&options)?.into_text();
/// assert!(text.ends_with("\ndisk_free_bytes{disk=\"sda\"} 5000000000\n"));
/// # Ok::<(), pytheus_backend_rs::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ForeignFamily {
    definition: Definition,
    names: NameRule,
    position: usize,
    samples: Vec<Sample>,
    /// The suffix, labels and bound of each sample so far, to detect duplicates.
    added: HashSet<String>,
}

/// One line of a foreign family.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) suffix: &'static str,
    /// The labels in the caller's order, without the bound.
    labels: Vec<(String, String)>,
    /// The canonical encoding of `labels`, which identifies the series.
    series: String,
    /// The value of `le` or `quantile`.
    pub(super) bound: Option<f64>,
    pub(super) value: f64,
}

impl ForeignFamily {
    /// Creates a family without samples. The label names of `definition` are ignored: each sample has its own
    /// labels, whose names are checked by the rule `names`.
    ///
    /// `position` is the number of families in [`RenderOptions::families`](crate::RenderOptions) that are
    /// rendered before this one. If there are fewer families, or if the scrape shows the whole store, this
    /// family comes last.
    pub fn new(definition: Definition, names: NameRule, position: usize) -> Self {
        Self { definition, names, position, samples: Vec::new(), added: HashSet::new() }
    }

    /// Adds a sample. Samples are rendered in the order in which they are added. Add the samples of one label
    /// set one after the other.
    ///
    /// `suffix` depends on the type. A counter has an empty suffix or `_created`. A gauge or an untyped
    /// metric has an empty suffix. A summary has an empty suffix (with the label `quantile`), `_sum`,
    /// `_count` or `_created`. A histogram has `_bucket` (with the label `le`), `_sum`, `_count` or
    /// `_created`. An info has an empty suffix. A gauge histogram has `_bucket` (with the label `le`), `_gsum` or
    /// `_gcount`. State sets are not for callers: add a gauge with a label for the state.
    ///
    /// Returns [`ErrorKind::InvalidArgument`] for another suffix, an invalid label name, a missing or
    /// unreadable bound, and a sample that the family has already.
    pub fn push(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) -> Result<()> {
        let sample = self.check(suffix, labels, value).map_err(|reason| {
            let message = format!("sample \"{}{suffix}\": {reason}", self.definition.name());
            Error::new(ErrorKind::InvalidArgument, message)
        })?;
        self.samples.push(sample);
        Ok(())
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn at(self, position: usize) -> Self {
        Self { position, ..self }
    }

    pub(super) fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Returns the samples of each series, in the order in which the series were begun.
    pub(super) fn series(&self) -> Vec<Vec<&Sample>> {
        let mut all: Vec<Vec<&Sample>> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for sample in &self.samples {
            let place = *places.entry(&sample.series).or_insert_with(|| {
                all.push(Vec::new());
                all.len() - 1
            });
            all[place].push(sample);
        }
        all
    }

    fn check(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) -> std::result::Result<Sample, String> {
        let metric_type = self.definition.metric_type();
        let known = suffixes(metric_type);
        let Some(&suffix) = known.iter().find(|known| **known == suffix) else {
            return Err(format!("expected one of the suffixes {known:?} of a {}", metric_type.name()));
        };
        let bound_name = bound_name(metric_type, suffix);
        let (bounds, plain): (Vec<_>, Vec<_>) =
            labels.iter().partition(|(name, _)| Some(*name) == bound_name);
        check_label_names(plain.iter().map(|(name, _)| *name), metric_type, self.names)
            .map_err(|error| error.message().to_owned())?;
        let bound = match (bound_name, bounds.as_slice()) {
            (None, _) => None,
            (Some(name), [(_, text)]) => Some(read_bound(name, text)?),
            (Some(name), _) => return Err(format!("expected one label {name:?}")),
        };
        let labels: Vec<_> =
            plain.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let series = labels::encode(&labels.iter().cloned().collect::<Labels>());
        let bound_text = bound.map(format_number).unwrap_or_default();
        if !self.added.insert(format!("{suffix}{series}{bound_text}")) {
            return Err(format!("the labels {series} are given twice"));
        }
        Ok(Sample { suffix, labels, series, bound, value })
    }
}

/// Returns the suffixes that samples of a type may have.
fn suffixes(metric_type: MetricType) -> &'static [&'static str] {
    match metric_type {
        MetricType::Counter => &["", "_created"],
        MetricType::Gauge | MetricType::Untyped | MetricType::Info => &[""],
        MetricType::GaugeHistogram => &["_bucket", "_gsum", "_gcount"],
        MetricType::StateSet => &[],
        MetricType::Summary => &["", "_sum", "_count", "_created"],
        MetricType::Histogram => &["_bucket", "_sum", "_count", "_created"],
    }
}

/// Returns the name of the label with the bound, if samples with this suffix have one.
fn bound_name(metric_type: MetricType, suffix: &str) -> Option<&'static str> {
    match (metric_type, suffix) {
        (MetricType::Histogram | MetricType::GaugeHistogram, "_bucket") => Some("le"),
        (MetricType::Summary, "") => Some("quantile"),
        _ => None,
    }
}

fn read_bound(name: &str, text: &str) -> std::result::Result<f64, String> {
    let is_bound = |bound: &f64| match name {
        "quantile" => (0.0..=1.0).contains(bound),
        _ => !bound.is_nan(),
    };
    parse_number(text).filter(is_bound).ok_or_else(|| match name {
        "quantile" => format!("label \"quantile\" is {text:?}: expected a number from 0 to 1"),
        _ => format!("label {name:?} is {text:?}: expected a number"),
    })
}

/// Writes the family as text.
pub(super) fn write_foreign(
    output: &mut String,
    family: &ForeignFamily,
    format: Format,
    writer: &FamilyWriter<'_>,
) {
    writer.write_comments(output);
    let is_open_metrics = format.is_open_metrics();
    let metric_type = family.definition.metric_type();
    let histograms = match (metric_type, is_open_metrics) {
        (MetricType::Histogram | MetricType::GaugeHistogram, true) => {
            Some(HistogramSeries::of(&family.samples))
        }
        _ => None,
    };
    let texts: HashMap<&str, _> = suffixes(metric_type)
        .iter()
        .map(|&suffix| match (metric_type, suffix, is_open_metrics) {
            (MetricType::Counter, "", true) => (suffix, writer.sample("_total")),
            (MetricType::Info, "", true) => (suffix, writer.sample("_info")),
            (_, "_gsum", false) => (suffix, writer.sample("_sum")),
            (_, "_gcount", false) => (suffix, writer.sample("_count")),
            _ => (suffix, writer.sample(suffix)),
        })
        .collect();
    let mut labels = String::new();
    for sample in &family.samples {
        let is_shown = match (&histograms, is_open_metrics) {
            (Some(histograms), _) => histograms[sample.series.as_str()].shows(sample),
            (None, true) => is_open_metrics_value(metric_type, sample),
            (None, false) => sample.suffix != "_created",
        };
        labels.clear();
        if is_shown && write_labels(&mut labels, family, sample, format) {
            texts[sample.suffix].write(output, &labels, sample.value);
        }
    }
}

/// Writes the labels between the braces. Returns `false` if they would make the scraper reject the response.
fn write_labels(output: &mut String, family: &ForeignFamily, sample: &Sample, format: Format) -> bool {
    let Some(labels) = labels_of(family, sample, format) else { return false };
    for (text, value) in &labels {
        text.write(output, value);
    }
    let bound_name = bound_name(family.definition.metric_type(), sample.suffix);
    if let (Some(bound), Some(name)) = (sample.bound, bound_name) {
        let spell = if format.is_open_metrics() { format_canonical_bound } else { format_number };
        LabelText::new(name, format.escaping).write(output, &spell(bound));
    }
    true
}

/// Returns the labels of a sample without its bound. Returns `None`, and logs the reason once, if they would
/// make the scraper reject the response.
pub(super) fn labels_of<'sample>(
    family: &ForeignFamily,
    sample: &'sample Sample,
    format: Format,
) -> Option<Vec<(LabelText, &'sample str)>> {
    let labels: Vec<_> = sample
        .labels
        .iter()
        .map(|(name, value)| (LabelText::new(name, format.escaping), value.as_str()))
        .collect();
    // Escaping may have made two names equal.
    let names = labels.iter().map(|(text, _)| text.name.as_str());
    if let Err(error) = check_label_names(names, family.definition.metric_type(), NameRule::Utf8) {
        let (name, series, content_type) = (family.definition.name(), &sample.series, format.content_type());
        report(format!("series {name}{series} is left out of scrapes as {content_type}: {error}"));
        return None;
    }
    Some(labels)
}

/// Whether OpenMetrics accepts a sample of a family that is not a histogram.
fn is_open_metrics_value(metric_type: MetricType, sample: &Sample) -> bool {
    match (metric_type, sample.suffix) {
        (MetricType::Counter, "") | (_, "_sum") => sample.value >= 0.0,
        (_, "_count") => is_count(sample.value),
        (MetricType::Info, _) => sample.value == 1.0,
        _ => true,
    }
}

/// Checks the samples of one histogram. OpenMetrics requires increasing buckets that end with `+Inf`, a count
/// equal to that bucket, and both `_sum` and `_count` or neither.
#[derive(Debug, Default)]
pub(super) struct HistogramSeries {
    last_bucket: Option<(f64, f64)>,
    /// Whether the sum is that of a gauge histogram.
    is_gauge: bool,
    has_negative_bounds: bool,
    are_buckets_broken: bool,
    sum: Option<f64>,
    count: Option<f64>,
}

impl HistogramSeries {
    fn of(samples: &[Sample]) -> HashMap<&str, Self> {
        let mut all: HashMap<&str, Self> = HashMap::new();
        for sample in samples {
            all.entry(&sample.series).or_default().add(sample);
        }
        all
    }

    /// Returns what the samples of one series tell.
    pub(super) fn of_one(samples: &[&Sample]) -> Self {
        let mut series = Self::default();
        samples.iter().for_each(|sample| series.add(sample));
        series
    }

    fn add(&mut self, sample: &Sample) {
        match (sample.suffix, sample.bound) {
            ("_sum", _) => self.sum = Some(sample.value),
            ("_gsum", _) => (self.sum, self.is_gauge) = (Some(sample.value), true),
            ("_count" | "_gcount", _) => self.count = Some(sample.value),
            (_, Some(bound)) => self.add_bucket(bound, sample.value),
            _ => {}
        }
    }

    fn add_bucket(&mut self, bound: f64, value: f64) {
        let increases = self.last_bucket.is_none_or(|(before, count)| before < bound && count <= value);
        self.are_buckets_broken |= !increases || !is_count(value);
        self.has_negative_bounds |= bound < 0.0;
        self.last_bucket = Some((bound, value));
    }

    /// Returns the number of observations, or `None` if the samples are not those of a histogram.
    pub(super) fn total(&self) -> Option<f64> {
        let (f64::INFINITY, total) = self.last_bucket? else { return None };
        let is_count_other = self.count.is_some_and(|count| count != total);
        (!self.are_buckets_broken && !is_count_other).then_some(total)
    }

    fn shows(&self, sample: &Sample) -> bool {
        if self.total().is_none() {
            return false;
        }
        let is_sound = |sum| is_sum_sound(self.is_gauge, sum, self.has_negative_bounds);
        let is_sum_shown = self.sum.is_some_and(is_sound) && self.count.is_some();
        is_sum_shown || !matches!(sample.suffix, "_sum" | "_count" | "_gsum" | "_gcount")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Rendering, render};
    use crate::model::sample::{FamilySamples, Snapshot};

    const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";

    fn foreign(name: &str, metric_type: MetricType, position: usize) -> ForeignFamily {
        let definition = Definition::new(name, "Help.", metric_type, &[], &[]).unwrap();
        ForeignFamily::new(definition, NameRule::Utf8, position)
    }

    fn rendered(families: &[ForeignFamily], accept: &str) -> String {
        let format = Format::negotiate(Some(accept));
        let options = Rendering { format, foreign: families, ..Default::default() };
        render(&Snapshot::default(), &options).into_text()
    }

    fn samples(family: &ForeignFamily, accept: &str) -> Vec<String> {
        let text = rendered(std::slice::from_ref(family), accept);
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn each_format_shows_names_labels_and_numbers_by_its_own_rules() {
        let mut counter = foreign("x_total", MetricType::Counter, 0);
        counter.push("", &[("z", "a\"\\\n"), ("b.c", "é")], 2.0).unwrap();
        counter.push("_created", &[("z", "a\"\\\n"), ("b.c", "é")], 1.5).unwrap();
        counter.push("", &[("z", "")], -1.0).unwrap();
        assert_eq!(
            rendered(std::slice::from_ref(&counter), ""),
            "# HELP x_total Help.\n# TYPE x_total counter\n\
             x_total{z=\"a\\\"\\\\\\n\",b_c=\"é\"} 2\nx_total{z=\"\"} -1\n"
        );
        assert_eq!(
            rendered(std::slice::from_ref(&counter), &format!("{OPEN_METRICS};escaping=allow-utf-8")),
            "# HELP x Help.\n# TYPE x counter\nx_total{z=\"a\\\"\\\\\\n\",\"b.c\"=\"é\"} 2\n\
             x_created{z=\"a\\\"\\\\\\n\",\"b.c\"=\"é\"} 1.5\n# EOF\n"
        );
    }

    #[test]
    fn bounds_have_one_spelling_in_each_format() {
        let mut histogram = foreign("h", MetricType::Histogram, 0);
        for (bound, count) in [("0.50", 1.0), ("10", 3.0), ("1000000.0", 3.0), ("+Inf", 4.0)] {
            histogram.push("_bucket", &[("le", bound), ("a", "x")], count).unwrap();
        }
        histogram.push("_sum", &[("a", "x")], 12.5).unwrap();
        histogram.push("_count", &[("a", "x")], 4.0).unwrap();
        let expected = [
            "h_bucket{a=\"x\",le=\"0.5\"} 1",
            "h_bucket{a=\"x\",le=\"10\"} 3",
            "h_bucket{a=\"x\",le=\"1000000\"} 3",
            "h_bucket{a=\"x\",le=\"+Inf\"} 4",
            "h_sum{a=\"x\"} 12.5",
            "h_count{a=\"x\"} 4",
        ];
        assert_eq!(samples(&histogram, ""), expected);
        let canonical = |line: &str| line.replace("\"10\"", "\"10.0\"").replace("\"1000000\"", "\"1e+06\"");
        assert_eq!(samples(&histogram, OPEN_METRICS), expected.map(canonical));
        let mut summary = foreign("s", MetricType::Summary, 0);
        summary.push("", &[("quantile", "0.990")], 7.0).unwrap();
        assert_eq!(samples(&summary, ""), ["s{quantile=\"0.99\"} 7"]);
        assert_eq!(samples(&summary, OPEN_METRICS), ["s{quantile=\"0.99\"} 7"]);
    }

    #[test]
    fn infos_and_gauge_histograms_are_named_as_the_format_has_them() {
        let mut info = foreign("x", MetricType::Info, 0);
        info.push("", &[("a", "b")], 1.0).unwrap();
        assert_eq!(samples(&info, ""), ["x_info{a=\"b\"} 1"]);
        assert_eq!(samples(&info, OPEN_METRICS), ["x_info{a=\"b\"} 1"]);
        let mut ages = foreign("x", MetricType::GaugeHistogram, 0);
        for (bound, count) in [("1", 1.0), ("+Inf", 2.0)] {
            ages.push("_bucket", &[("le", bound)], count).unwrap();
        }
        ages.push("_gsum", &[], 3.0).unwrap();
        ages.push("_gcount", &[], 2.0).unwrap();
        assert_eq!(samples(&ages, "")[2..], ["x_sum 3", "x_count 2"]);
        assert_eq!(samples(&ages, OPEN_METRICS)[2..], ["x_gsum 3", "x_gcount 2"]);
        assert!(ages.push("_sum", &[], 3.0).is_err());
        let mut below = foreign("x", MetricType::GaugeHistogram, 0);
        for (bound, count) in [("-1", 1.0), ("+Inf", 1.0)] {
            below.push("_bucket", &[("le", bound)], count).unwrap();
        }
        below.push("_gsum", &[], -3.0).unwrap();
        below.push("_gcount", &[], 1.0).unwrap();
        assert_eq!(samples(&below, OPEN_METRICS)[2..], ["x_gsum -3", "x_gcount 1"]);
        let mut other = foreign("x", MetricType::Info, 0);
        other.push("", &[("a", "b")], 2.0).unwrap();
        assert_eq!(samples(&other, OPEN_METRICS), [""; 0], "the value of an info is 1");
        assert_eq!(samples(&other, ""), ["x_info{a=\"b\"} 2"]);
    }

    /// Each case is the buckets, the sum and the count of a histogram, and the suffixes that
    /// OpenMetrics shows.
    #[test]
    fn open_metrics_shows_no_histogram_that_its_parsers_refuse() {
        type Case<'case> = (&'case [(&'case str, f64)], Option<f64>, Option<f64>, &'case [&'case str]);
        let cases: [Case<'_>; 9] = [
            (&[("1", 1.0), ("+Inf", 2.0)], Some(1.0), Some(2.0), &["_bucket", "_bucket", "_sum", "_count"]),
            (&[("1", 1.0), ("+Inf", 2.0)], Some(-1.0), Some(2.0), &["_bucket", "_bucket"]),
            (&[("1", 1.0), ("+Inf", 2.0)], None, Some(2.0), &["_bucket", "_bucket"]),
            (&[("1", 1.0), ("+Inf", 2.0)], Some(1.0), Some(3.0), &[]),
            (&[("-1", 1.0), ("+Inf", 2.0)], Some(1.0), Some(2.0), &["_bucket", "_bucket"]),
            (&[("1", 2.0), ("+Inf", 1.0)], Some(1.0), Some(1.0), &[]),
            (&[("+Inf", 2.0), ("1", 1.0)], Some(1.0), Some(2.0), &[]),
            (&[("1", 0.5), ("+Inf", 1.0)], Some(1.0), Some(1.0), &[]),
            (&[("1", 1.0)], Some(1.0), Some(1.0), &[]),
        ];
        for (buckets, sum, count, expected) in cases {
            let mut histogram = foreign("h", MetricType::Histogram, 0);
            for (bound, value) in buckets {
                histogram.push("_bucket", &[("le", bound)], *value).unwrap();
            }
            sum.iter().for_each(|&sum| histogram.push("_sum", &[], sum).unwrap());
            count.iter().for_each(|&count| histogram.push("_count", &[], count).unwrap());
            let shown = samples(&histogram, OPEN_METRICS);
            let suffixes: Vec<_> =
                shown.iter().map(|line| &line[1..line.find(['{', ' ']).unwrap_or(line.len())]).collect();
            assert_eq!(suffixes, expected, "{buckets:?} {sum:?} {count:?}");
            let all = buckets.len() + usize::from(sum.is_some()) + usize::from(count.is_some());
            assert_eq!(samples(&histogram, "").len(), all, "text shows everything");
        }
    }

    #[test]
    fn a_sample_that_the_type_does_not_have_is_refused() {
        type Labels<'case> = &'case [(&'case str, &'case str)];
        let cases: [(MetricType, &str, Labels<'_>, &str); 10] = [
            (MetricType::Counter, "_total", &[], "suffixes"),
            (MetricType::Gauge, "_created", &[], "suffixes"),
            (MetricType::Histogram, "", &[], "suffixes"),
            (MetricType::Histogram, "_bucket", &[("a", "x")], "expected one label \"le\""),
            (MetricType::Histogram, "_bucket", &[("le", "1"), ("le", "2")], "expected one label \"le\""),
            (MetricType::Histogram, "_bucket", &[("le", "NaN")], "label \"le\" is \"NaN\""),
            (MetricType::Histogram, "_sum", &[("le", "1")], "\"le\""),
            (MetricType::Summary, "", &[("quantile", "1.5")], "from 0 to 1"),
            (MetricType::Gauge, "", &[("__name__", "x")], "reserved"),
            (MetricType::Gauge, "", &[("a", "x"), ("a", "y")], "given twice"),
        ];
        for (metric_type, suffix, labels, reason) in cases {
            let error = foreign("m", metric_type, 0).push(suffix, labels, 1.0).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.message().contains(reason), "{error}");
            assert!(error.message().starts_with(&format!("sample \"m{suffix}\"")), "{error}");
        }
        let mut gauge = foreign("m", MetricType::Gauge, 0);
        gauge.push("", &[("a", "x"), ("b", "y")], 1.0).unwrap();
        let error = gauge.push("", &[("b", "y"), ("a", "x")], 2.0).unwrap_err();
        assert!(error.message().contains("given twice"), "{error}");
        assert_eq!(samples(&gauge, ""), ["m{a=\"x\",b=\"y\"} 1"], "the refused sample changes nothing");
    }

    #[test]
    fn labels_that_escaping_makes_equal_cost_their_sample() {
        let mut gauge = foreign("m", MetricType::Gauge, 0);
        gauge.push("", &[("a.b", "x"), ("a_b", "y")], 1.0).unwrap();
        gauge.push("", &[("a.b", "x")], 2.0).unwrap();
        assert_eq!(samples(&gauge, ""), ["m{a_b=\"x\"} 2"]);
    }

    #[test]
    fn a_family_stands_at_its_position_and_a_name_is_shown_once() {
        let own =
            |name: &str| FamilySamples::new(Definition::new(name, "", MetricType::Gauge, &[], &[]).unwrap());
        let families = vec![own("a"), own("b"), own("other")];
        let foreign = [
            foreign("behind", MetricType::Gauge, 2),
            foreign("late", MetricType::Gauge, 99),
            foreign("first", MetricType::Gauge, 0),
            foreign("app_b", MetricType::Gauge, 1),
            foreign("second", MetricType::Gauge, 1),
            foreign("app_a", MetricType::Gauge, 2),
        ];
        let options = Rendering { name_prefix: Some("app"), foreign: &foreign, ..Default::default() };
        let names = |named| {
            let text =
                render(&Snapshot { families: families.clone() }, &Rendering { named, ..options }).into_text();
            let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
            types.map(|line| line.trim_end_matches(" gauge").to_owned()).collect::<Vec<_>>()
        };
        // The foreign app_b comes before the store's app_b, and the store's app_a before the foreign app_a.
        assert_eq!(names(Some(2)), ["first", "app_a", "app_b", "second", "behind", "late", "app_other"]);
        assert_eq!(names(None), ["app_a", "app_b", "app_other", "behind", "late", "first", "second"]);
    }
}
