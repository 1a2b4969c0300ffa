//! The changes between two scrapes: rates, means and quantiles.
//!
//! `top` passes snapshots to [`Rates`] and displays the rows that it returns. As in Prometheus, a counter
//! that is smaller than before was reset and has grown from 0 since, so no rate is negative.

use std::collections::HashMap;
use std::time::Instant;

use pytheus_backend_rs::{Definition, MetricType, NativeHistogram, Series, Snapshot};

use crate::printable::one_line;

/// One metric, and how it changed since the last scrape.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// The name of the sample that `value` belongs to: the metric, or the `_count` of a histogram or summary.
    pub(crate) name: String,
    /// As in the exposition, without braces.
    pub(crate) labels: String,
    pub(crate) value: f64,
    /// The increase per second. `None` for gauges and untyped metrics, and before the second scrape.
    pub(crate) rate: Option<f64>,
    /// The mean of the observations since the last scrape.
    pub(crate) mean: Option<f64>,
    pub(crate) p50: Option<Quantile>,
    pub(crate) p99: Option<Quantile>,
}

/// An estimate from buckets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Quantile {
    About(f64),
    /// Above the largest finite bound.
    Above(f64),
}

/// Turns successive snapshots into rows. Keeps the values of the last scrape.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    last: Option<Scrape>,
}

#[derive(Debug)]
struct Scrape {
    time: Instant,
    values: HashMap<(String, String), Values>,
}

/// The values of a metric at one scrape.
#[derive(Debug)]
struct Values {
    samples: Vec<f64>,
    native: Option<NativeHistogram>,
}

impl Rates {
    /// Returns the rows of a snapshot that was taken at `time`, compared with the previous snapshot.
    pub(crate) fn rows(&mut self, time: Instant, snapshot: &Snapshot) -> Vec<Row> {
        let mut scrape = Scrape { time, values: HashMap::new() };
        let mut rows = Vec::new();
        for family in &snapshot.families {
            for series in family.series() {
                let labels = shown_labels(&series);
                let values = series.values(&family.definition);
                if family.definition.metric_type() == MetricType::StateSet {
                    rows.extend(state_rows(&family.definition, &labels, &values));
                    continue;
                }
                let key = (one_line(family.definition.name()), labels);
                let values = Values { samples: values, native: series.native() };
                rows.push(self.row(time, &family.definition, &key, &values));
                scrape.values.insert(key, values);
            }
        }
        self.last = Some(scrape);
        rows
    }

    fn row(&self, time: Instant, definition: &Definition, key: &(String, String), values: &Values) -> Row {
        let (name, labels) = key.clone();
        let now = &values.samples[..];
        // The last two values of a histogram or summary are its count and its sum, after the buckets.
        let count_at = now.len().saturating_sub(2);
        let plain = Row { name, labels, value: now[count_at], rate: None, mean: None, p50: None, p99: None };
        if definition.metric_type() == MetricType::GaugeHistogram {
            // Its buckets are what exists now, and not what has happened.
            let estimate = |q: f64| quantile(q, definition.buckets(), &now[..count_at]);
            let mean = Some(now[count_at + 1] / now[count_at]).filter(|mean| mean.is_finite());
            return Row { mean, p50: estimate(0.5), p99: estimate(0.99), ..plain }.named_for(definition);
        }
        let Some(last) = &self.last else { return plain.named_for(definition) };
        let before = last.values.get(key).filter(|before| !was_reset(before, values, count_at));
        let grown = increase(before, now);
        let rate = grown[count_at] / time.duration_since(last.time).as_secs_f64();
        let rate = rate.is_finite().then_some(rate);
        let row = match definition.metric_type() {
            MetricType::Counter => Row { rate, ..plain },
            MetricType::Gauge | MetricType::Untyped | MetricType::Info | MetricType::StateSet => plain,
            MetricType::Summary | MetricType::Histogram | MetricType::GaugeHistogram => {
                let mean = grown[count_at + 1] / grown[count_at];
                let native = values.native.as_ref().map(|native| {
                    let before = before.and_then(|before| before.native.as_ref());
                    before.map_or_else(|| native.clone(), |before| native.since(before))
                });
                let estimate = |q: f64| match &native {
                    Some(native) => native.quantile(q).map(Quantile::About),
                    None => quantile(q, definition.buckets(), &grown[..count_at]),
                };
                let mean = mean.is_finite().then_some(mean);
                Row { rate, mean, p50: estimate(0.5), p99: estimate(0.99), ..plain }
            }
        };
        row.named_for(definition)
    }
}

impl Row {
    fn named_for(self, definition: &Definition) -> Self {
        match definition.metric_type() {
            MetricType::Summary | MetricType::Histogram => Self { name: self.name + "_count", ..self },
            MetricType::GaugeHistogram => Self { name: self.name + "_gcount", ..self },
            MetricType::Info if !self.name.ends_with("_info") => Self { name: self.name + "_info", ..self },
            _ => self,
        }
    }
}

/// Returns a row for each state of a state set.
fn state_rows(definition: &Definition, labels: &str, values: &[f64]) -> Vec<Row> {
    let name = one_line(definition.name());
    let row = |(state, &value): (&String, &f64)| {
        let separator = if labels.is_empty() { "" } else { "," };
        let labels = format!("{labels}{separator}{}", shown_label(definition.name(), state));
        Row { name: name.clone(), labels, value, rate: None, mean: None, p50: None, p99: None }
    };
    definition.states().iter().zip(values).map(row).collect()
}

/// Returns whether a metric was reset since the last scrape: the value at `count_at` never decreases otherwise.
fn was_reset(before: &Values, now: &Values, count_at: usize) -> bool {
    let (before, now) = (&before.samples, &now.samples);
    before.len() != now.len() || before[count_at].is_nan() || before[count_at] > now[count_at]
}

/// Returns the increase of each value. A reset metric, like a new one, has grown from 0.
fn increase(before: Option<&Values>, now: &[f64]) -> Vec<f64> {
    match before {
        Some(before) => now.iter().zip(&before.samples).map(|(now, before)| now - before).collect(),
        None => now.to_vec(),
    }
}

/// Estimates a quantile from cumulative buckets, of which the last is `+Inf`. Interpolates linearly within a
/// bucket, as Prometheus' `histogram_quantile` does.
fn quantile(q: f64, bounds: &[f64], buckets: &[f64]) -> Option<Quantile> {
    let total = *buckets.last()?;
    let rank = q * total;
    if total.is_nan() || total <= 0.0 {
        return None;
    }
    let found = buckets.iter().position(|count| *count >= rank)?;
    let Some(&upper) = bounds.get(found) else { return bounds.last().map(|&bound| Quantile::Above(bound)) };
    let (lower, below) = match found.checked_sub(1) {
        Some(previous) => (bounds[previous], buckets[previous]),
        // The first bucket begins at 0. If its bound is not positive, its lower end is unknown.
        None if upper > 0.0 => (0.0, 0.0),
        None => return Some(Quantile::About(upper)),
    };
    Some(Quantile::About(lower + (upper - lower) * (rank - below) / (buckets[found] - below)))
}

/// Formats the labels as in the exposition, without braces.
fn shown_labels(series: &Series<'_>) -> String {
    let labels = series.labels();
    labels.iter().map(|(name, value)| shown_label(name, value)).collect::<Vec<_>>().join(",")
}

fn shown_label(name: &str, value: &str) -> String {
    let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("{}=\"{}\"", one_line(name), one_line(&quoted))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pytheus_backend_rs::{Backend, Lifetime, NameRule, Native};

    use super::*;

    /// A backend with a counter, a gauge, a summary and a histogram, and the rates of its rows by name.
    struct Service {
        backend: Backend,
        rates: Rates,
        time: Instant,
    }

    impl Service {
        fn new() -> Self {
            Self { backend: Backend::open("memory:").unwrap(), rates: Rates::default(), time: Instant::now() }
        }

        fn declare(
            &self,
            name: &str,
            metric_type: MetricType,
            labels: &[&str],
        ) -> pytheus_backend_rs::MetricFamily {
            let buckets: &[f64] = if metric_type == MetricType::Histogram { &[1.0, 2.0, 4.0] } else { &[] };
            let definition = Definition::new(name, "", metric_type, labels, buckets).unwrap();
            self.backend.declare(definition, labels, Lifetime::Backend).unwrap()
        }

        /// Returns the rows of a scrape two seconds after the last one.
        fn rows(&mut self) -> Vec<Row> {
            self.time += Duration::from_secs(2);
            self.rates.rows(self.time, &self.backend.collect(None).unwrap())
        }

        fn row(&mut self) -> Row {
            let mut rows = self.rows();
            assert_eq!(rows.len(), 1);
            rows.remove(0)
        }
    }

    #[test]
    fn a_counter_has_a_rate_per_second_from_the_second_scrape_on() {
        let mut service = Service::new();
        let counter =
            service.declare("requests_total", MetricType::Counter, &["path"]).metric(&["/"]).unwrap();
        counter.inc(100.0).unwrap();
        let first = service.row();
        assert_eq!((first.name.as_str(), first.labels.as_str()), ("requests_total", "path=\"/\""));
        assert_eq!((first.value, first.rate), (100.0, None));
        counter.inc(6.0).unwrap();
        assert_eq!((service.row().rate, service.row().rate), (Some(3.0), Some(0.0)));
    }

    #[test]
    fn a_metric_that_is_new_has_grown_from_0() {
        let mut service = Service::new();
        assert_eq!(service.rows(), []);
        service.declare("c", MetricType::Counter, &[]).metric(&[]).unwrap().inc(10.0).unwrap();
        assert_eq!(service.row().rate, Some(5.0));
    }

    #[test]
    fn after_a_reset_the_rate_is_what_was_counted_since_and_never_negative() {
        let mut service = Service::new();
        let family = service.declare("c", MetricType::Counter, &[]);
        family.metric(&[]).unwrap().inc(1000.0).unwrap();
        service.rows();
        family.clear().unwrap();
        family.metric(&[]).unwrap().inc(4.0).unwrap();
        assert_eq!(service.row().rate, Some(2.0));
    }

    #[test]
    fn a_gauge_has_no_rate() {
        let mut service = Service::new();
        let gauge = service.declare("g", MetricType::Gauge, &[]).metric(&[]).unwrap();
        gauge.set(7.0).unwrap();
        service.rows();
        gauge.set(3.0).unwrap();
        let row = service.row();
        assert_eq!((row.value, row.rate), (3.0, None));
    }

    #[test]
    fn infos_and_states_are_rows_and_a_gauge_histogram_tells_of_the_present() {
        let mut service = Service::new();
        service.declare("build", MetricType::Info, &[]).set_info(&[], &[("version", "1")]).unwrap();
        let states = Definition::state_set(NameRule::Legacy, "job", "", &["a"], &["on", "off"]).unwrap();
        let states = service.backend.declare(states, &["a"], Lifetime::Backend).unwrap();
        states.metric(&["x"]).unwrap().set_state("off", true).unwrap();
        let ages = Definition::new("age", "", MetricType::GaugeHistogram, &[], &[1.0, 2.0]).unwrap();
        let ages = service.backend.declare(ages, &[], Lifetime::Backend).unwrap().metric(&[]).unwrap();
        for _ in 0..4 {
            ages.observe(0.5).unwrap();
        }
        service.rows();
        ages.unobserve(0.5).unwrap();
        ages.unobserve(0.5).unwrap();
        let rows = service.rows();
        let shown: Vec<_> =
            rows.iter().map(|row| (row.name.as_str(), row.labels.as_str(), row.value, row.rate)).collect();
        assert_eq!(
            shown,
            [
                ("build_info", "version=\"1\"", 1.0, None),
                ("job", "a=\"x\",job=\"on\"", 0.0, None),
                ("job", "a=\"x\",job=\"off\"", 1.0, None),
                ("age_gcount", "", 2.0, None),
            ]
        );
        assert_eq!((rows[3].mean, rows[3].p50), (Some(0.5), Some(Quantile::About(0.5))));
    }

    #[test]
    fn a_histogram_tells_of_the_last_interval_only() {
        let mut service = Service::new();
        let histogram = service.declare("seconds", MetricType::Histogram, &[]).metric(&[]).unwrap();
        for _ in 0..1000 {
            histogram.observe(3.0).unwrap();
        }
        service.rows();
        for _ in 0..10 {
            histogram.observe(0.5).unwrap();
        }
        let row = service.row();
        assert_eq!((row.name.as_str(), row.value, row.rate), ("seconds_count", 1010.0, Some(5.0)));
        assert_eq!(
            (row.mean, row.p50, row.p99),
            (Some(0.5), Some(Quantile::About(0.5)), Some(Quantile::About(0.99)))
        );
        let idle = service.row();
        assert_eq!((idle.rate, idle.mean, idle.p50, idle.p99), (Some(0.0), None, None, None));
    }

    #[test]
    fn a_native_histogram_has_quantiles_of_the_last_interval() {
        let mut service = Service::new();
        let definition = Definition::new("seconds", "", MetricType::Histogram, &[], &[]).unwrap();
        let definition = definition.with_native(Native::default(), false).unwrap();
        let family = service.backend.declare(definition, &[], Lifetime::Backend).unwrap();
        let histogram = family.metric(&[]).unwrap();
        for _ in 0..1000 {
            histogram.observe(300.0).unwrap();
        }
        service.rows();
        for number in 1..=1000 {
            histogram.observe(f64::from(number) / 100.0).unwrap();
        }
        let row = service.row();
        assert_eq!((row.name.as_str(), row.value, row.rate), ("seconds_count", 2000.0, Some(500.0)));
        for (quantile, expected) in [(row.p50, 5.0), (row.p99, 9.9)] {
            let Some(Quantile::About(found)) = quantile else { panic!("{quantile:?}") };
            assert!((found / expected).log2().abs() < 1.0 / 8.0, "{found}, expected {expected}");
        }
        assert_eq!((service.row().p50, service.row().p99), (None, None), "nothing was observed since");
        family.clear().unwrap();
        family.metric(&[]).unwrap().observe(1.0).unwrap();
        assert_eq!(service.row().p99.map(|quantile| matches!(quantile, Quantile::About(_))), Some(true));
    }

    #[test]
    fn a_summary_has_a_rate_and_a_mean_also_of_negative_observations() {
        let mut service = Service::new();
        let summary = service.declare("s", MetricType::Summary, &[]).metric(&[]).unwrap();
        service.rows();
        summary.observe(-4.0).unwrap();
        summary.observe(-2.0).unwrap();
        let row = service.row();
        assert_eq!((row.value, row.rate, row.mean, row.p50), (2.0, Some(1.0), Some(-3.0), None));
    }

    #[test]
    fn quantiles_are_those_of_prometheus() {
        let bounds = [1.0, 2.0, 4.0];
        assert_eq!(quantile(0.5, &bounds, &[0.0, 4.0, 4.0, 4.0]), Some(Quantile::About(1.5)));
        assert_eq!(quantile(0.75, &bounds, &[2.0, 2.0, 4.0, 4.0]), Some(Quantile::About(3.0)));
        assert_eq!(quantile(0.99, &bounds, &[0.0, 0.0, 0.0, 5.0]), Some(Quantile::Above(4.0)));
        assert_eq!(quantile(0.5, &[-1.0, 1.0], &[3.0, 3.0, 3.0]), Some(Quantile::About(-1.0)));
        assert_eq!(quantile(0.5, &[], &[3.0]), None);
        assert_eq!(quantile(0.5, &bounds, &[0.0; 4]), None);
        assert_eq!(quantile(0.5, &bounds, &[f64::NAN; 4]), None);
    }

    #[test]
    fn labels_cannot_command_the_terminal() {
        let mut service = Service::new();
        service.declare("c", MetricType::Counter, &["a"]).metric(&["\u{1b}[2J\"\n\u{202e}é"]).unwrap();
        assert_eq!(service.row().labels, r#"a="\u{1b}[2J\"\n\u{202e}é""#);
        let states = Definition::state_set(NameRule::Utf8, "s", "", &[], &["\u{1b}[2J\"\n"]).unwrap();
        let states = service.backend.declare(states, &[], Lifetime::Backend).unwrap();
        states.metric(&[]).unwrap();
        let rows = service.rows();
        assert!(rows.iter().any(|row| row.labels == r#"s="\u{1b}[2J\"\n""#));
    }
}
