//! When series on the server end: what a batch tells the script about it, and what a reader makes of the times that the
//! script notes.
//!
//! The server's clock decides, because the clocks of many writers may differ. docs/redis-layout.md has the rules.

use std::collections::HashSet;

use redis::Value;

use super::layout;
use super::reply::text;
use super::series_meta::SeriesMeta;
use crate::model::definition::Definition;
use crate::model::sample::FamilySamples;
use crate::model::series_ttl::grain;
use crate::process::clock::since_1970;

/// When the series of a family end, and what belongs to a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    seconds: u32,
    /// What follows the labels in the fields of a series, separated by spaces. Empty if the labels are the field.
    parts: String,
}

impl Ending {
    /// Returns when the series of a family end, if they do.
    pub(crate) fn of(definition: &Definition) -> Option<Self> {
        let seconds = definition.series_ttl()?;
        let fields = (0..layout::field_count(definition)).map(|cell| layout::field(definition, "", cell));
        Some(Self { seconds, parts: fields.collect::<Vec<_>>().join(" ") })
    }

    /// Returns after how many seconds without use a series ends.
    pub(crate) fn seconds(&self) -> u32 {
        self.seconds
    }

    /// Returns what follows the labels in the fields of a series, separated by spaces.
    pub(crate) fn parts(&self) -> &str {
        &self.parts
    }
}

/// What the script answers to a batch of a family whose series end.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// When it was applied, by the server's clock.
    pub(crate) second: Option<u64>,
    /// The fields of gauges that had no value before the batch added to them: their series are new, or have ended.
    pub(crate) begun: HashSet<String>,
}

impl Answer {
    /// Reads the part of a reply behind the number. `None` if it is a remark.
    pub(crate) fn new(part: &Value) -> Option<Self> {
        let Value::Array(parts) = part else { return None };
        let second = match parts.first() {
            Some(&Value::Int(second)) => u64::try_from(second).ok(),
            _ => None,
        };
        Some(Self { second, begun: parts.iter().skip(1).cloned().filter_map(text).collect() })
    }
}

/// Returns how many seconds after the last use that the server has noted a series has ended for certain. A use is noted
/// up to [`grain`] seconds late, and a writer tells of a look-up as late as that.
fn limit(ttl: u32) -> u64 {
    u64::from(ttl) + 2 * u64::from(grain(ttl))
}

/// Removes the series that have ended at the second `now`, as `meta` says. A series without a time was never used by a
/// writer that notes it, so it does not end.
pub(crate) fn hide_ended(meta: &SeriesMeta, family: &mut FamilySamples, now: u64) {
    let Some(ttl) = family.definition.series_ttl() else { return };
    let is_live = |labels: &str| meta.used(labels).is_none_or(|used| now.saturating_sub(used) <= limit(ttl));
    let is_kept: Vec<bool> = family.series().map(|series| is_live(series.key())).collect();
    if is_kept.contains(&false) {
        family.keep_where(&is_kept);
    }
}

/// Returns whether a series with this field of its last use has ended at the second `now`.
pub(crate) fn has_ended(definition: &Definition, used: &str, now: u64) -> bool {
    let used = layout::parse_used_value(used);
    definition.series_ttl().zip(used).is_some_and(|(ttl, used)| now.saturating_sub(used) > limit(ttl))
}

/// Returns the second in the reply to `TIME`. A user who may not call it gets that of this process's clock.
pub(crate) fn second_of(reply: Value) -> u64 {
    let seconds = match reply {
        Value::Array(parts) => parts.into_iter().next().and_then(text).and_then(|text| text.parse().ok()),
        _ => None,
    };
    seconds.unwrap_or_else(|| since_1970().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::metric_type::MetricType;

    fn definition(metric_type: MetricType) -> Definition {
        Definition::new("x", "", metric_type, &["a"], &[]).unwrap().with_series_ttl(160.0).unwrap()
    }

    #[test]
    fn the_script_is_told_the_parts_of_a_series() {
        assert_eq!(Ending::of(&definition(MetricType::Counter)).unwrap().parts(), "");
        let summary = Ending::of(&definition(MetricType::Summary)).unwrap();
        assert_eq!((summary.seconds(), summary.parts()), (160, "#sum #count"));
        let histogram = Ending::of(&definition(MetricType::Histogram)).unwrap();
        assert!(histogram.parts().starts_with("#sum #le=0.005 ") && histogram.parts().ends_with(" #le=+Inf"));
    }

    #[test]
    fn series_whose_time_has_passed_are_hidden() {
        let mut family = FamilySamples::new(definition(MetricType::Counter));
        for labels in [r#"{"a":"old"}"#, r#"{"a":"unknown"}"#, r#"{"a":"used"}"#] {
            family.push(labels, None);
        }
        let pairs = [
            (r#"used {"a":"old"}"#, "1000 900"),
            (r#"used {"a":"used"}"#, "1001 900"),
            (r#"created {"a":"unknown"}"#, "5"),
        ];
        let meta = SeriesMeta::new(&pairs.map(|(field, value)| (field.to_owned(), value.to_owned())));
        hide_ended(&meta, &mut family, 1181);
        let shown: Vec<_> = family.series().map(|series| series.key().to_owned()).collect();
        assert_eq!(shown, [r#"{"a":"unknown"}"#, r#"{"a":"used"}"#]);
        assert!(has_ended(&family.definition, "1000 900", 1181));
        assert!(!has_ended(&family.definition, "1001 900", 1181));
        assert!(!has_ended(&family.definition, "x", 1181));
    }
}
