//! Writes one metric family as a delimited message `io.prometheus.client.MetricFamily` of protobuf.
//!
//! The numbers of the fields are those of `metrics.proto` in prometheus/client_model. Sample names do not occur
//! in it: Prometheus appends `_bucket`, `_sum` and `_count`, and a counter has the name of its family.

use std::borrow::Cow;

use super::family::{FamilyWriter, has_counts, is_count, plain_label_value};
use super::foreign::{ForeignFamily, HistogramSeries, Sample, labels_of};
use super::format::Format;
use super::wire::{
    push_delimited, push_double, push_message, push_number, push_signed, push_string, push_varint, zigzag,
};
use crate::model::exemplar::Exemplar;
use crate::model::labels;
use crate::model::metric_type::MetricType;
use crate::model::native::{NativeHistogram, ZERO_THRESHOLD};
use crate::model::sample::{FamilySamples, Series};

/// The fields of `MetricFamily`.
mod family {
    pub(super) const NAME: u64 = 1;
    pub(super) const HELP: u64 = 2;
    pub(super) const TYPE: u64 = 3;
    pub(super) const METRIC: u64 = 4;
    pub(super) const UNIT: u64 = 5;
}

/// The fields of `Metric`.
mod metric {
    pub(super) const LABEL: u64 = 1;
    pub(super) const GAUGE: u64 = 2;
    pub(super) const COUNTER: u64 = 3;
    pub(super) const SUMMARY: u64 = 4;
    pub(super) const UNTYPED: u64 = 5;
    pub(super) const HISTOGRAM: u64 = 7;
}

/// The fields of `LabelPair`.
mod label {
    pub(super) const NAME: u64 = 1;
    pub(super) const VALUE: u64 = 2;
}

/// The field of `Counter`, `Gauge` and `Untyped`.
const VALUE: u64 = 1;

/// The field `created_timestamp` of each message that has one.
mod created {
    pub(super) const COUNTER: u64 = 3;
    pub(super) const SUMMARY: u64 = 4;
    pub(super) const HISTOGRAM: u64 = 15;
}

/// The fields of `Exemplar`, and those of the messages that have one.
mod exemplar {
    pub(super) const LABEL: u64 = 1;
    pub(super) const VALUE: u64 = 2;
    pub(super) const TIMESTAMP: u64 = 3;
    pub(super) const OF_COUNTER: u64 = 2;
    pub(super) const OF_BUCKET: u64 = 3;
    pub(super) const OF_NATIVE_HISTOGRAM: u64 = 16;
}

/// The fields of `google.protobuf.Timestamp`.
mod timestamp {
    pub(super) const SECONDS: u64 = 1;
    pub(super) const NANOSECONDS: u64 = 2;
}

/// The fields of `Summary` and `Histogram`.
mod distribution {
    pub(super) const COUNT: u64 = 1;
    pub(super) const SUM: u64 = 2;
    /// The quantiles of a summary, or the buckets of a histogram.
    pub(super) const PARTS: u64 = 3;
}

/// The fields of a native `Histogram`.
mod native {
    pub(super) const SCHEMA: u64 = 5;
    pub(super) const ZERO_THRESHOLD: u64 = 6;
    pub(super) const ZERO_COUNT: u64 = 7;
    pub(super) const NEGATIVE_SPAN: u64 = 9;
    pub(super) const NEGATIVE_DELTA: u64 = 10;
    pub(super) const POSITIVE_SPAN: u64 = 12;
    pub(super) const POSITIVE_DELTA: u64 = 13;
}

/// The fields of `BucketSpan`.
mod span {
    pub(super) const OFFSET: u64 = 1;
    pub(super) const LENGTH: u64 = 2;
}

/// The fields of `Quantile`.
mod quantile {
    pub(super) const QUANTILE: u64 = 1;
    pub(super) const VALUE: u64 = 2;
}

/// The fields of `Bucket`.
mod bucket {
    pub(super) const CUMULATIVE_COUNT: u64 = 1;
    pub(super) const UPPER_BOUND: u64 = 2;
}

/// Returns the number of a type in the enum `MetricType`.
fn type_number(metric_type: MetricType) -> u64 {
    match metric_type {
        MetricType::Counter => 0,
        // The enum has no number for infos and state sets.
        MetricType::Gauge | MetricType::Info | MetricType::StateSet => 1,
        MetricType::Summary => 2,
        MetricType::Untyped => 3,
        MetricType::Histogram => 4,
        MetricType::GaugeHistogram => 5,
    }
}

/// Writes a family of a store. Leaves out a histogram or summary whose counts are not numbers of observations:
/// the messages have integers for them.
pub(super) fn write_family(output: &mut Vec<u8>, family: &FamilySamples, writer: &FamilyWriter<'_>) {
    push_delimited(output, |output| {
        push_description(output, writer);
        let mut labels = Vec::new();
        for series in family.series() {
            labels.clear();
            if !can_be_shown(writer, series) || !push_labels(&mut labels, series, writer) {
                continue;
            }
            if let Some(label) = &writer.state_label {
                let states = series.states(writer.definition);
                for (state, is_on) in writer.definition.states().iter().zip(states) {
                    push_message(output, family::METRIC, |output| {
                        output.extend_from_slice(&labels);
                        push_label(output, metric::LABEL, &label.name, state);
                        push_value(output, MetricType::Gauge, f64::from(u8::from(is_on)), None, None);
                    });
                }
            } else {
                push_message(output, family::METRIC, |output| {
                    output.extend_from_slice(&labels);
                    push_series(output, series, writer);
                });
            }
        }
    });
}

fn can_be_shown(writer: &FamilyWriter<'_>, series: Series<'_>) -> bool {
    match writer.definition.metric_type() {
        MetricType::Histogram | MetricType::GaugeHistogram => has_counts(series) && series.has_sound_zeros(),
        MetricType::Summary => is_count(series.count()),
        _ => true,
    }
}

fn push_series(output: &mut Vec<u8>, series: Series<'_>, writer: &FamilyWriter<'_>) {
    let (count, sum, created) = (Some(series.count()), Some(series.value()), series.created());
    match writer.definition.metric_type() {
        MetricType::Histogram | MetricType::GaugeHistogram => {
            let bounds = writer.definition.buckets().iter().copied().chain([f64::INFINITY]);
            match series.native() {
                Some(native) => push_native_histogram(output, series, bounds, &native),
                None => push_histogram(output, count, sum, created, buckets(series, bounds)),
            }
        }
        MetricType::Summary => push_summary(output, count, sum, created, []),
        metric_type => {
            let exemplar = series.exemplar_in(f64::NEG_INFINITY, f64::INFINITY);
            push_value(output, metric_type, series.value(), created, exemplar);
        }
    }
}

/// A bucket: its upper bound, its cumulative count, and its exemplar.
type Bucket<'family> = (f64, f64, Option<&'family Exemplar>);

/// Returns the buckets of a series with these bounds.
fn buckets<'family>(
    series: Series<'family>,
    bounds: impl Iterator<Item = f64>,
) -> impl Iterator<Item = Bucket<'family>> {
    let mut lower = f64::NEG_INFINITY;
    bounds.zip(series.cumulative_buckets()).map(move |(bound, count)| {
        let exemplar = series.exemplar_in(std::mem::replace(&mut lower, bound), bound);
        (bound, count, exemplar)
    })
}

/// Writes a family of the caller. A sample that the caller did not give, such as a sum, is absent from the
/// message, which Prometheus reads as 0. Leaves out the histograms that OpenMetrics leaves out, and
/// summaries whose count is not a number of observations.
pub(super) fn write_foreign(
    output: &mut Vec<u8>,
    family: &ForeignFamily,
    format: Format,
    writer: &FamilyWriter<'_>,
) {
    push_delimited(output, |output| {
        push_description(output, writer);
        for samples in family.series() {
            let Some(labels) = labels_of(family, samples[0], format) else { continue };
            let mut value = Vec::new();
            if push_foreign_series(&mut value, writer.definition.metric_type(), &samples) {
                push_message(output, family::METRIC, |output| {
                    labels
                        .iter()
                        .for_each(|(label, value)| push_label(output, metric::LABEL, &label.name, value));
                    output.extend_from_slice(&value);
                });
            }
        }
    });
}

/// Writes the samples of one series. Returns `false` if they cannot be shown.
fn push_foreign_series(output: &mut Vec<u8>, metric_type: MetricType, samples: &[&Sample]) -> bool {
    let value_of = |suffix| samples.iter().find(|sample| sample.suffix == suffix).map(|sample| sample.value);
    let parts = samples.iter().filter_map(|sample| Some((sample.bound?, sample.value)));
    let buckets = parts.clone().map(|(bound, count)| (bound, count, None));
    let created = value_of("_created");
    match metric_type {
        MetricType::Histogram | MetricType::GaugeHistogram => {
            let Some(total) = HistogramSeries::of_one(samples).total() else { return false };
            let sum = value_of("_sum").or_else(|| value_of("_gsum"));
            push_histogram(output, Some(total), sum, created, buckets);
        }
        MetricType::Summary => {
            let count = value_of("_count");
            if count.is_some_and(|count| !is_count(count)) {
                return false;
            }
            push_summary(output, count, value_of("_sum"), created, parts);
        }
        metric_type => {
            let Some(value) = value_of("") else { return false };
            push_value(output, metric_type, value, created, None);
        }
    }
    true
}

/// Writes all of a family but its metrics.
fn push_description(output: &mut Vec<u8>, writer: &FamilyWriter<'_>) {
    push_string(output, family::NAME, &writer.name);
    push_string(output, family::HELP, &without_nul(writer.definition.help()));
    push_number(output, family::TYPE, type_number(writer.definition.metric_type()));
    if let Some(unit) = writer.unit() {
        push_string(output, family::UNIT, unit);
    }
}

/// Writes the labels of a series. Returns `false` if they would make the scraper reject the response.
fn push_labels(output: &mut Vec<u8>, series: Series<'_>, writer: &FamilyWriter<'_>) -> bool {
    let mut known = writer.labels.iter();
    for (raw_name, raw_value) in labels::raw_pairs(series.key()) {
        let Some(label) = known.next().filter(|label| label.raw_name == raw_name) else {
            output.clear();
            let Some(labels) = writer.other_labels(series) else { return false };
            labels.iter().for_each(|(label, value)| push_label(output, metric::LABEL, &label.name, value));
            return true;
        };
        push_label(output, metric::LABEL, &label.name, &plain_label_value(raw_value));
    }
    true
}

fn push_label(output: &mut Vec<u8>, field: u64, name: &str, value: &str) {
    push_message(output, field, |output| {
        push_string(output, label::NAME, name);
        push_string(output, label::VALUE, &without_nul(value));
    });
}

/// Replaces NUL as the text formats do, so that a series has the same labels in each format.
fn without_nul(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => Cow::Owned(text.replace('\0', "\u{FFFD}")),
        false => Cow::Borrowed(text),
    }
}

/// Writes the message of a type that has one value.
fn push_value(
    output: &mut Vec<u8>,
    metric_type: MetricType,
    value: f64,
    created: Option<f64>,
    exemplar: Option<&Exemplar>,
) {
    let field = match metric_type {
        MetricType::Counter => metric::COUNTER,
        MetricType::Gauge | MetricType::Info => metric::GAUGE,
        _ => metric::UNTYPED,
    };
    push_message(output, field, |output| {
        push_double(output, VALUE, value);
        if metric_type == MetricType::Counter {
            push_exemplar(output, exemplar::OF_COUNTER, exemplar);
            push_created(output, created::COUNTER, created);
        }
    });
}

/// Writes when a series began, given in seconds since 1970. The messages cannot hold a time before 1970.
fn push_created(output: &mut Vec<u8>, field: u64, created: Option<f64>) {
    // The conversion saturates.
    let milliseconds = created.map_or(0, |seconds| (seconds * 1e3).round() as u64);
    if milliseconds > 0 {
        push_time(output, field, milliseconds);
    }
}

fn push_time(output: &mut Vec<u8>, field: u64, milliseconds: u64) {
    push_message(output, field, |output| {
        push_number(output, timestamp::SECONDS, milliseconds / 1_000);
        push_number(output, timestamp::NANOSECONDS, milliseconds % 1_000 * 1_000_000);
    });
}

fn push_exemplar(output: &mut Vec<u8>, field: u64, exemplar: Option<&Exemplar>) {
    let Some(exemplar) = exemplar else { return };
    push_message(output, field, |output| {
        for (name, value) in exemplar.labels() {
            push_label(output, exemplar::LABEL, name, value);
        }
        push_double(output, exemplar::VALUE, exemplar.value());
        push_time(output, exemplar::TIMESTAMP, exemplar.milliseconds());
    });
}

/// Writes a histogram with its cumulative buckets, `+Inf` included.
fn push_histogram<'family>(
    output: &mut Vec<u8>,
    count: Option<f64>,
    sum: Option<f64>,
    created: Option<f64>,
    buckets: impl IntoIterator<Item = Bucket<'family>>,
) {
    push_message(output, metric::HISTOGRAM, |output| {
        push_count_and_sum(output, count, sum);
        buckets.into_iter().for_each(|bucket| push_bucket(output, bucket));
        push_created(output, created::HISTOGRAM, created);
    });
}

fn push_bucket(output: &mut Vec<u8>, (bound, count, exemplar): Bucket<'_>) {
    push_message(output, distribution::PARTS, |output| {
        push_number(output, bucket::CUMULATIVE_COUNT, count as u64);
        push_double(output, bucket::UPPER_BOUND, bound);
        push_exemplar(output, exemplar::OF_BUCKET, exemplar);
    });
}

/// Writes a native histogram, with its classic buckets if it has any but `+Inf`.
///
/// Prometheus refuses the scrape if the number of observations is not that of the buckets. It may be higher only if
/// the sum is not a number, because an observation that is not a number has no bucket. So the number is computed
/// from the buckets, and the classic ones, which a writer may have changed a moment later, are not above it.
fn push_native_histogram(
    output: &mut Vec<u8>,
    series: Series<'_>,
    bounds: impl Iterator<Item = f64>,
    native: &NativeHistogram,
) {
    let in_buckets = native.count() as f64;
    let count = if series.value().is_nan() { series.count().max(in_buckets) } else { in_buckets };
    push_message(output, metric::HISTOGRAM, |output| {
        push_count_and_sum(output, Some(count), Some(series.value()));
        let buckets: Vec<_> = buckets(series, bounds).collect();
        if buckets.len() > 1 {
            for (bound, cumulative, exemplar) in buckets {
                let is_last = bound == f64::INFINITY;
                push_bucket(output, (bound, if is_last { count } else { cumulative.min(count) }, exemplar));
            }
        }
        push_created(output, created::HISTOGRAM, series.created());
        push_signed(output, native::SCHEMA, native.schema);
        push_double(output, native::ZERO_THRESHOLD, ZERO_THRESHOLD);
        push_number(output, native::ZERO_COUNT, native.zero_count);
        push_side(output, native::NEGATIVE_SPAN, native::NEGATIVE_DELTA, &native.negative);
        push_side(output, native::POSITIVE_SPAN, native::POSITIVE_DELTA, &native.positive);
        if native.negative.is_empty() && native.positive.is_empty() {
            // A span of no buckets says that an empty histogram is a native one.
            push_span(output, native::POSITIVE_SPAN, 0, 0);
        }
        for exemplar in series.exemplars() {
            push_exemplar(output, exemplar::OF_NATIVE_HISTOGRAM, Some(exemplar));
        }
    });
}

/// Writes the buckets of one sign: the spans of buckets without a gap, and the difference of each count to the one
/// before.
fn push_side(output: &mut Vec<u8>, span: u64, delta: u64, buckets: &[(i32, u64)]) {
    let mut end = 0;
    for run in buckets.chunk_by(|(index, _), (next, _)| index + 1 == *next) {
        let first = run[0].0;
        push_span(output, span, first - end, run.len() as u64);
        end = first + run.len() as i32;
    }
    if !buckets.is_empty() {
        push_message(output, delta, |output| {
            let mut last = 0;
            for &(_, count) in buckets {
                push_varint(output, zigzag(count as i64 - last));
                last = count as i64;
            }
        });
    }
}

/// Writes a span of `length` buckets that begins `offset` buckets behind the last one.
fn push_span(output: &mut Vec<u8>, field: u64, offset: i32, length: u64) {
    push_message(output, field, |output| {
        push_signed(output, span::OFFSET, offset);
        push_number(output, span::LENGTH, length);
    });
}

fn push_summary(
    output: &mut Vec<u8>,
    count: Option<f64>,
    sum: Option<f64>,
    created: Option<f64>,
    quantiles: impl IntoIterator<Item = (f64, f64)>,
) {
    push_message(output, metric::SUMMARY, |output| {
        push_count_and_sum(output, count, sum);
        for (quantile, value) in quantiles {
            push_message(output, distribution::PARTS, |output| {
                push_double(output, quantile::QUANTILE, quantile);
                push_double(output, quantile::VALUE, value);
            });
        }
        push_created(output, created::SUMMARY, created);
    });
}

fn push_count_and_sum(output: &mut Vec<u8>, count: Option<f64>, sum: Option<f64>) {
    if let Some(count) = count {
        push_number(output, distribution::COUNT, count as u64);
    }
    if let Some(sum) = sum {
        push_double(output, distribution::SUM, sum);
    }
}
