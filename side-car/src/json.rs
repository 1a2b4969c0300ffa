//! The option `--json`, and how the commands show metrics in JSON.
//!
//! Each document is one line. JSON has no infinity and no NaN, so such numbers are texts: `NaN`, `+Inf`,
//! `-Inf`.

use clap::{Arg, ArgAction, ArgMatches};
use pytheus_backend_rs::{FamilySamples, MetricType, Series, Snapshot};
use serde_json::{Map, Value, json};

use crate::rates::{Quantile, Row};

/// Returns the option, with what it prints.
pub(crate) fn argument(help: &'static str) -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help(help)
}

/// Returns whether the option was given.
pub(crate) fn is_wanted(matches: &ArgMatches) -> bool {
    matches.get_flag("json")
}

/// Returns a document as a line.
pub(crate) fn line(document: &Value) -> String {
    format!("{document}\n")
}

/// Returns the families of a snapshot.
pub(crate) fn families(snapshot: &Snapshot) -> Value {
    snapshot.families.iter().map(family).collect()
}

fn family(family: &FamilySamples) -> Value {
    let definition = &family.definition;
    json!({
        "name": definition.name(),
        "type": definition.metric_type().name(),
        "help": definition.help(),
        "unit": definition.unit(),
        "series": family.series().map(|one| series(family, &one)).collect::<Value>(),
    })
}

fn series(family: &FamilySamples, series: &Series<'_>) -> Value {
    let definition = &family.definition;
    let mut shown = Map::from_iter([("labels".to_owned(), json!(series.labels()))]);
    let mut show = |name: &str, value: Value| drop(shown.insert(name.to_owned(), value));
    match definition.metric_type() {
        MetricType::StateSet => {
            let states = definition.states().iter().cloned();
            let states: Map<String, Value> = states.zip(series.states(definition).map(Value::Bool)).collect();
            show("states", Value::Object(states));
        }
        metric_type if metric_type.is_observed() => {
            show("count", number(series.count()));
            show("sum", number(series.value()));
            if metric_type.has_buckets() {
                let bounds = definition.buckets().iter().copied().chain([f64::INFINITY]);
                let bucket = |(bound, count)| json!({ "le": number(bound), "count": number(count) });
                show("buckets", bounds.zip(series.cumulative_buckets()).map(bucket).collect());
            }
        }
        _ => show("value", number(series.value())),
    }
    // The other types do not grow from when they began.
    let is_cumulative =
        matches!(definition.metric_type(), MetricType::Counter | MetricType::Summary | MetricType::Histogram);
    if let Some(created) = series.created().filter(|_| is_cumulative) {
        show("created", number(created));
    }
    Value::Object(shown)
}

/// Returns the rows of a table.
pub(crate) fn rows(rows: &[Row]) -> Value {
    rows.iter().map(row).collect()
}

fn row(row: &Row) -> Value {
    let series = match row.labels.as_str() {
        "" => row.name.clone(),
        labels => format!("{}{{{labels}}}", row.name),
    };
    json!({
        "series": series,
        "value": number(row.value),
        "rate": row.rate.map(number),
        "mean": row.mean.map(number),
        "p50": row.p50.map(quantile),
        "p99": row.p99.map(quantile),
    })
}

/// A quantile above the largest bound is an object with this bound.
fn quantile(quantile: Quantile) -> Value {
    match quantile {
        Quantile::About(value) => number(value),
        Quantile::Above(bound) => json!({ "above": number(bound) }),
    }
}

/// Counts are whole numbers, and are shown as such.
fn number(value: f64) -> Value {
    /// Up to here, each whole number is an `f64`.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return json!(value as i64);
    }
    match value {
        value if value.is_finite() => json!(value),
        value if value.is_nan() => json!("NaN"),
        value if value > 0.0 => json!("+Inf"),
        _ => json!("-Inf"),
    }
}

#[cfg(test)]
mod tests {
    use pytheus_backend_rs::{Backend, Definition, Lifetime, NameRule};

    use super::*;

    #[test]
    fn each_type_of_metric_shows_what_it_has() {
        let backend = Backend::open("memory:").unwrap();
        let declare = |definition: Definition, labels: &[&str]| {
            backend.declare(definition, labels, Lifetime::Backend).unwrap()
        };
        let new = |name: &str, metric_type, labels: &[&str], buckets: &[f64]| {
            declare(Definition::new(name, "Help.", metric_type, labels, buckets).unwrap(), labels)
        };
        new("c_total", MetricType::Counter, &["a"], &[]).metric(&["\u{1b}\""]).unwrap().inc(3.0).unwrap();
        new("g", MetricType::Gauge, &[], &[]).metric(&[]).unwrap().set(f64::NEG_INFINITY).unwrap();
        new("h", MetricType::Histogram, &[], &[0.5]).metric(&[]).unwrap().observe(0.25).unwrap();
        new("s", MetricType::Summary, &[], &[]).metric(&[]).unwrap().observe(1.5).unwrap();
        let states = Definition::state_set(NameRule::Legacy, "job", "", &[], &["on", "off"]).unwrap();
        declare(states, &[]).metric(&[]).unwrap().set_state("off", true).unwrap();
        let shown = families(&backend.collect(None).unwrap());
        let found = |name: &str| {
            let families = shown.as_array().unwrap();
            let mut family = families.iter().find(|family| family["name"] == name).unwrap().clone();
            let series = family["series"][0].as_object_mut().unwrap();
            series.remove("created");
            (family["type"].clone(), family["series"].clone())
        };
        let series = |values: Value| json!([values]);
        assert_eq!(
            found("c_total"),
            (json!("counter"), series(json!({ "labels": { "a": "\u{1b}\"" }, "value": 3 })))
        );
        assert_eq!(found("g"), (json!("gauge"), series(json!({ "labels": {}, "value": "-Inf" }))));
        let buckets = json!([{ "le": 0.5, "count": 1 }, { "le": "+Inf", "count": 1 }]);
        assert_eq!(
            found("h"),
            (
                json!("histogram"),
                series(json!({ "labels": {}, "count": 1, "sum": 0.25, "buckets": buckets }))
            )
        );
        assert_eq!(found("s"), (json!("summary"), series(json!({ "labels": {}, "count": 1, "sum": 1.5 }))));
        let states = json!({ "on": false, "off": true });
        assert_eq!(found("job"), (json!("stateset"), series(json!({ "labels": {}, "states": states }))));
        assert!(!line(&shown).contains('\u{1b}'), "no control character is left");
    }

    #[test]
    fn a_row_says_what_is_unknown() {
        let row = Row {
            name: "seconds_count".to_owned(),
            labels: "a=\"b\"".to_owned(),
            value: 5.0,
            rate: Some(2.5),
            mean: None,
            p50: Some(Quantile::About(0.5)),
            p99: Some(Quantile::Above(4.0)),
        };
        assert_eq!(
            rows(&[row]),
            json!([{
                "series": "seconds_count{a=\"b\"}", "value": 5, "rate": 2.5, "mean": null, "p50": 0.5,
                "p99": { "above": 4 },
            }])
        );
    }
}
