//! The names of keys and hash fields, as `docs/redis-layout.md` describes them.
//!
//! All keys of a family hash to one slot of a Redis Cluster.

use redis::Cmd;

use super::connection::command;
use super::native_field;
use crate::model::definition::{Definition, FIRST_COUNT_CELL, VALUE_CELL};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::metric_type::MetricType;
use crate::model::number::{format_number, parse_number};
use crate::model::sample::Milliseconds;

/// The most bytes of a field, a value or a name. A server closes the connection if a text is longer than its
/// option `proto-max-bulk-len`, which is at least 1 MiB.
pub(crate) const MAX_TEXT: usize = (1 << 20) - 64;

const DEFINITIONS: &str = "pytheus:families";
/// No name that [`NameRule::Legacy`](crate::model::name::NameRule) allows ends with one of these.
const WRITERS_SUFFIX: &str = "}:writers";
const META_SUFFIX: &str = "}:meta";
/// The beginning of a field that says when the series began whose labels JSON follows.
const CREATED: &str = "created ";
/// The beginning of a field that says when the series was last used whose labels JSON follows.
const USED: &str = "used ";
/// The field of a writers' key that says when the series of the family end.
pub(crate) const TTL_FIELD: &str = "ttl";

/// Returns the key that holds the values of the family `name`.
pub(crate) fn family_key(prefix: Option<&str>, name: &str) -> String {
    match prefix {
        Some(prefix) => format!("{prefix}-{name}"),
        None => name.to_owned(),
    }
}

/// Returns the key that holds, for each writer, the last batch that was applied to `family_key`.
pub(crate) fn writers_key(family_key: &str) -> String {
    format!("{{{family_key}{WRITERS_SUFFIX}")
}

/// Returns the key that holds when the series of `family_key` began.
pub(crate) fn meta_key(family_key: &str) -> String {
    format!("{{{family_key}{META_SUFFIX}")
}

/// Reads a field of the [`meta_key`]: returns the labels JSON of a series, and when it began.
pub(crate) fn parse_created<'field>(field: &'field str, value: &str) -> Option<(&'field str, Milliseconds)> {
    Some((field.strip_prefix(CREATED)?, value.parse().ok()?))
}

/// Reads a field of the [`meta_key`]: returns the labels JSON of a series, and the second of its last use.
pub(crate) fn parse_used<'field>(field: &'field str, value: &str) -> Option<(&'field str, u64)> {
    Some((field.strip_prefix(USED)?, parse_used_value(value)?))
}

/// Reads the second of the last use of a series. The second of its beginning follows.
pub(crate) fn parse_used_value(value: &str) -> Option<u64> {
    value.split(' ').next()?.parse().ok()
}

/// Returns the field that says when the series with these labels was last used.
pub(crate) fn used_field(labels: &str) -> String {
    format!("{USED}{labels}")
}

/// Returns the key that holds the definitions of all families.
pub(crate) fn definitions_key(prefix: Option<&str>) -> String {
    family_key(prefix, DEFINITIONS)
}

/// Returns the command that renews the expiry of a key, or (`seconds` is 0) takes it away.
pub(crate) fn renew(key: &str, seconds: u64) -> Cmd {
    match seconds {
        0 => command("PERSIST", &[key]),
        seconds => command("EXPIRE", &[key, &seconds.to_string()]),
    }
}

/// Refuses a family whose key would be one of the store's own keys, which may be too large for the server, or
/// whose keys would be in two slots of a cluster.
pub(crate) fn check(definition: &Definition, is_cluster: bool) -> Result<()> {
    let name = definition.name();
    if is_cluster && name.contains(['{', '}']) {
        let message = format!(
            "metric name {name:?}: on a Redis Cluster expected a name without braces, which have a meaning there"
        );
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    if definition.mode().is_some() {
        let message =
            format!("gauge {name:?}: the Redis store has no gauges with a mode; declare it without one");
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let size = name.len() + definition.to_json().len();
    if size > MAX_TEXT {
        let shown: String = name.chars().take(80).collect();
        let message = format!(
            "metric family {shown:?}: its definition takes {size} bytes: expected at most {MAX_TEXT}"
        );
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let taken_by = if name == DEFINITIONS {
        "definitions"
    } else if name.ends_with(WRITERS_SUFFIX) {
        "writers"
    } else if name.ends_with(META_SUFFIX) {
        "created times"
    } else {
        return Ok(());
    };
    let message = format!("metric name {name:?}: the Redis store keeps its {taken_by} under this name");
    Err(Error::new(ErrorKind::InvalidArgument, message))
}

/// Returns whether the values are fields of a hash. A counter, gauge or state set without labels is a plain
/// string.
pub(crate) fn is_hash(definition: &Definition) -> bool {
    let metric_type = definition.metric_type();
    let has_fields = metric_type.is_observed() || metric_type == MetricType::Info;
    has_fields || !definition.label_names().is_empty()
}

/// The end of the field that holds the native histogram of a series.
const NATIVE: &str = "#native";

/// Returns how many fields a metric has. The cells of a native histogram are one field.
pub(crate) fn field_count(definition: &Definition) -> usize {
    native_field::cell(definition).map_or(definition.cell_count(), |cell| cell + 1)
}

/// Returns the hash field of a cell. `labels` is the labels JSON of its metric.
pub(crate) fn field(definition: &Definition, labels: &str, cell: usize) -> String {
    match (definition.metric_type(), cell) {
        (metric_type, _) if !metric_type.is_observed() => labels.to_owned(),
        _ if native_field::cell(definition).is_some_and(|first| cell >= first) => format!("{labels}{NATIVE}"),
        (_, VALUE_CELL) => format!("{labels}#sum"),
        (MetricType::Summary, _) => format!("{labels}#count"),
        (_, cell) => {
            let bound = definition.buckets().get(cell - FIRST_COUNT_CELL);
            format!("{labels}#le={}", format_number(bound.copied().unwrap_or(f64::INFINITY)))
        }
    }
}

/// Reads a field: returns the labels JSON, and the cell that the value belongs to. `None` if the field does
/// not belong to this family.
///
/// If another version of the program declares a bucket that this one lacks, its observations count in the
/// next larger bucket, so the cumulative counts stay true.
pub(crate) fn parse_field<'field>(
    definition: &Definition,
    field: &'field str,
) -> Option<(&'field str, usize)> {
    // The JSON ends with the last brace: no part name has one.
    let (labels, part) = field.split_at(field.rfind('}')? + 1);
    let cell = match definition.metric_type() {
        metric_type if !metric_type.is_observed() => part.is_empty().then_some(VALUE_CELL)?,
        _ if part == "#sum" => VALUE_CELL,
        _ if part == NATIVE => native_field::cell(definition)?,
        MetricType::Summary => (part == "#count").then_some(FIRST_COUNT_CELL)?,
        _ => {
            let bound = parse_number(part.strip_prefix("#le=")?)?;
            let bounds = definition.buckets();
            FIRST_COUNT_CELL + bounds.iter().position(|&known| bound <= known).unwrap_or(bounds.len())
        }
    };
    Some((labels, cell))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::native::Native;

    fn definition(metric_type: MetricType, labels: &[&str], buckets: &[f64]) -> Definition {
        Definition::new("size", "", metric_type, labels, buckets).unwrap()
    }

    #[test]
    fn keys_are_where_pytheus_has_them() {
        assert_eq!(family_key(None, "size"), "size");
        assert_eq!(family_key(Some("app"), "size"), "app-size");
        assert_eq!(writers_key("app-size"), "{app-size}:writers");
        assert_eq!(meta_key("app-size"), "{app-size}:meta");
        assert_eq!(parse_created("created {}", "17"), Milliseconds::new(17).map(|time| ("{}", time)));
        assert_eq!([parse_created("created {}", "x"), parse_created("used {}", "17")], [None, None]);
        assert_eq!(parse_used(&used_field("{}"), "17 4"), Some(("{}", 17)));
        assert_eq!([parse_used("used {}", "x"), parse_used("created {}", "17")], [None, None]);
        assert_eq!(definitions_key(Some("app")), "app-pytheus:families");
        assert!(!is_hash(&definition(MetricType::Counter, &[], &[])));
        assert!(is_hash(&definition(MetricType::Counter, &["a"], &[])));
        assert!(is_hash(&definition(MetricType::Summary, &[], &[])));
    }

    #[test]
    fn every_cell_reads_back_from_its_field() {
        // A label value that looks like the end of a field.
        let labels = r##"{"a":"x}#sum"}"##;
        for metric_type in MetricType::ALL.into_iter().filter(|&one| one != MetricType::StateSet) {
            let buckets: &[f64] = if metric_type.has_buckets() { &[0.5, 10.0] } else { &[] };
            let definition = definition(metric_type, &["a"], buckets);
            for cell in 0..field_count(&definition) {
                let field = field(&definition, labels, cell);
                assert_eq!(parse_field(&definition, &field), Some((labels, cell)), "{field}");
            }
        }
    }

    #[test]
    fn a_native_histogram_is_one_field() {
        let classic = definition(MetricType::Histogram, &["a"], &[0.5]);
        let native = classic.clone().with_native(Native::default(), true).unwrap();
        let fields: Vec<_> = (0..field_count(&native)).map(|cell| field(&native, "{}", cell)).collect();
        assert_eq!(fields, ["{}#sum", "{}#le=0.5", "{}#le=+Inf", "{}#native"]);
        assert_eq!(field(&native, "{}", native.cell_count() - 1), "{}#native", "a word");
        assert_eq!(parse_field(&native, "{}#native"), Some(("{}", 3)));
        assert_eq!(parse_field(&classic, "{}#native"), None);
    }

    #[test]
    fn every_spelling_of_a_bound_is_one_bucket() {
        let definition = definition(MetricType::Histogram, &[], &[10.0, 20.0]);
        assert_eq!(field(&definition, "{}", 1), "{}#le=10");
        assert_eq!(field(&definition, "{}", 3), "{}#le=+Inf");
        for spelling in ["{}#le=10", "{}#le=10.0", "{}#le=1e1"] {
            assert_eq!(parse_field(&definition, spelling), Some(("{}", 1)));
        }
        assert_eq!(parse_field(&definition, "{}#le=15"), Some(("{}", 2)), "the next larger bucket");
        assert_eq!(parse_field(&definition, "{}#le=inf"), Some(("{}", 3)));
    }

    #[test]
    fn foreign_fields_are_left_alone() {
        let summary = definition(MetricType::Summary, &[], &[]);
        for field in ["", "{}", "{}#le=1", "x", "{}#sum2"] {
            assert_eq!(parse_field(&summary, field), None, "{field}");
        }
    }
}
