//! The rules for metric names and label names.
//!
//! The Prometheus data model: metric names match `[a-zA-Z_:][a-zA-Z0-9_:]*`, label names
//! `[a-zA-Z_][a-zA-Z0-9_]*`; label names that begin with `__` are Prometheus' own, `le` belongs to
//! histograms and `quantile` to summaries.

use crate::error::{Error, ErrorKind, Result};
use crate::family::MetricType;

/// Refuses a metric name that Prometheus would refuse.
pub fn check_metric_name(name: &str) -> Result<()> {
    if matches_name(name, |character| character == ':') {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!("invalid metric name {name:?}: expected [a-zA-Z_:][a-zA-Z0-9_:]*"),
    ))
}

/// Refuses the label names of a family of `metric_type` that Prometheus would refuse.
pub fn check_label_names(names: &[String], metric_type: MetricType) -> Result<()> {
    for (index, name) in names.iter().enumerate() {
        let reason = if !matches_name(name, |_| false) {
            "expected [a-zA-Z_][a-zA-Z0-9_]*"
        } else if name.starts_with("__") {
            "names that begin with \"__\" are reserved for Prometheus itself"
        } else if name == "le" && metric_type == MetricType::Histogram {
            "\"le\" names the bucket bounds of a histogram"
        } else if name == "quantile" && metric_type == MetricType::Summary {
            "\"quantile\" is reserved in a summary"
        } else if names[..index].contains(name) {
            "it is given twice"
        } else {
            continue;
        };
        return Err(Error::new(ErrorKind::InvalidArgument, format!("invalid label name {name:?}: {reason}")));
    }
    Ok(())
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
            assert!(check_metric_name(good).is_ok(), "{good}");
        }
        for bad in ["", "9a", "a-b", "a b", "é", "a{b}", "a\n"] {
            let error = check_metric_name(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.message().contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn label_names_reserve_what_prometheus_reserves() {
        let check = |name: &str, kind| check_label_names(&[name.to_owned()], kind);
        assert!(check("le", MetricType::Counter).is_ok());
        assert!(check("le", MetricType::Histogram).is_err());
        assert!(check("quantile", MetricType::Histogram).is_ok());
        assert!(check("quantile", MetricType::Summary).is_err());
        assert!(check("__name__", MetricType::Gauge).is_err());
        assert!(check("a:b", MetricType::Gauge).is_err());
        assert!(check("", MetricType::Gauge).is_err());
        let twice = ["a".to_owned(), "a".to_owned()];
        assert!(check_label_names(&twice, MetricType::Gauge).is_err());
    }
}
