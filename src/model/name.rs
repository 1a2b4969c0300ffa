//! The rules for metric names and label names.
//!
//! In the Prometheus data model, metric names match `[a-zA-Z_:][a-zA-Z0-9_:]*` and label names match
//! `[a-zA-Z_][a-zA-Z0-9_]*`. Since Prometheus 3, both may be any UTF-8 text. Label names that begin with `__`
//! are reserved for Prometheus, `le` for histograms, and `quantile` for summaries.

use crate::model::error::{Error, ErrorKind, Result};
use crate::model::metric_type::MetricType;

/// The names that a program may declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameRule {
    /// Names that every version of Prometheus accepts: `[a-zA-Z_:][a-zA-Z0-9_:]*`, without `:` for labels.
    #[default]
    Legacy,
    /// Any text that is not empty. A scraper that does not request such names gets them escaped.
    Utf8,
}

/// Returns an error if the rule does not allow the metric name.
pub fn check_metric_name(name: &str, rule: NameRule) -> Result<()> {
    let expected = match rule {
        NameRule::Legacy if !is_legacy_metric_name(name) => "expected [a-zA-Z_:][a-zA-Z0-9_:]*",
        NameRule::Utf8 if name.is_empty() => "expected a text that is not empty",
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::InvalidArgument, format!("invalid metric name {name:?}: {expected}")))
}

/// Returns an error if the rule does not allow a label name, if the name is reserved for `metric_type`, or if
/// it occurs twice.
pub fn check_label_names<'name>(
    names: impl Iterator<Item = &'name str> + Clone,
    metric_type: MetricType,
    rule: NameRule,
) -> Result<()> {
    for (index, name) in names.clone().enumerate() {
        let reason = if rule == NameRule::Legacy && !is_legacy_label_name(name) {
            "expected [a-zA-Z_][a-zA-Z0-9_]*"
        } else if name.is_empty() {
            "expected a text that is not empty"
        } else if let Some(reason) = reserved_label_name(name, metric_type) {
            reason
        } else if names.clone().take(index).any(|before| before == name) {
            "it is given twice"
        } else {
            continue;
        };
        return Err(Error::new(ErrorKind::InvalidArgument, format!("invalid label name {name:?}: {reason}")));
    }
    Ok(())
}

/// Returns the reason if a label of this name is reserved in families of `metric_type`.
pub(crate) fn reserved_label_name(name: &str, metric_type: MetricType) -> Option<&'static str> {
    match (name, metric_type) {
        (name, _) if name.starts_with("__") => {
            Some("names that begin with \"__\" are reserved for Prometheus itself")
        }
        ("le", MetricType::Histogram | MetricType::GaugeHistogram) => {
            Some("\"le\" names the bucket bounds of a histogram")
        }
        ("quantile", MetricType::Summary) => Some("\"quantile\" is reserved in a summary"),
        _ => None,
    }
}

/// Whether every version of Prometheus accepts this metric name.
pub(crate) fn is_legacy_metric_name(name: &str) -> bool {
    matches_name(name, |character| character == ':')
}

/// Whether every version of Prometheus accepts this label name.
pub(crate) fn is_legacy_label_name(name: &str) -> bool {
    matches_name(name, |_| false)
}

fn matches_name(name: &str, also: impl Fn(char) -> bool) -> bool {
    let mut characters = name.chars();
    let Some(first) = characters.next() else { return false };
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_' || also(c);
    is_start(first) && characters.all(|c| is_start(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_follow_the_prometheus_rule() {
        for good in ["a", "_", ":", "http_requests_total", "job:rate5m", "A9"] {
            assert!(check_metric_name(good, NameRule::Legacy).is_ok(), "{good}");
        }
        for bad in ["", "9a", "a-b", "a b", "é", "a{b}", "a\n"] {
            let error = check_metric_name(bad, NameRule::Legacy).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.message().contains(&format!("{bad:?}")), "{error}");
            assert_eq!(check_metric_name(bad, NameRule::Utf8).is_ok(), !bad.is_empty(), "{bad}");
        }
    }

    #[test]
    fn label_names_reserve_what_prometheus_reserves() {
        let check = |name: &str, kind| check_label_names([name].into_iter(), kind, NameRule::Legacy);
        assert!(check("le", MetricType::Counter).is_ok());
        assert!(check("le", MetricType::Histogram).is_err());
        assert!(check("quantile", MetricType::Histogram).is_ok());
        assert!(check("quantile", MetricType::Summary).is_err());
        assert!(check("__name__", MetricType::Gauge).is_err());
        assert!(check("a:b", MetricType::Gauge).is_err());
        assert!(check("", MetricType::Gauge).is_err());
        assert!(check_label_names(["a", "b", "a"].into_iter(), MetricType::Gauge, NameRule::Legacy).is_err());
        let check = |name: &str, kind| check_label_names([name].into_iter(), kind, NameRule::Utf8);
        for good in ["a:b", "http.method", "größe", "a b\n\"\\", "9"] {
            assert!(check(good, MetricType::Gauge).is_ok(), "{good}");
        }
        for bad in ["", "__é"] {
            assert!(check(bad, MetricType::Gauge).is_err(), "{bad}");
        }
        assert!(check("le", MetricType::Histogram).is_err());
        assert!(check_label_names(["é", "é"].into_iter(), MetricType::Gauge, NameRule::Utf8).is_err());
    }
}
