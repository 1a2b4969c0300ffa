//! Merges what the processes have in a gauge with a [`GaugeMode`] to the series of a scrape.

use std::collections::BTreeMap;

use crate::model::definition::{Definition, VALUE_CELL};
use crate::model::gauge_mode::{GaugeMode, PROCESS_LABEL};
use crate::model::labels;
use crate::model::sample::FamilySamples;

/// What one process has in one series, or dead processes have left there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ProcessValue {
    /// The canonical labels, without that of the process.
    pub(crate) key: String,
    pub(crate) value: f64,
    /// When the value was set, in microseconds since 1970. Only for the modes that show what was set last.
    pub(crate) time: f64,
    /// The process id, as the process sees it. Only for the modes that show processes.
    pub(crate) pid: u64,
    /// The place of the process in its store. It distinguishes processes with one id, as containers have.
    pub(crate) place: u64,
    pub(crate) is_live: bool,
}

/// Returns the family that a scrape shows.
pub(crate) fn merge(definition: Definition, mode: GaugeMode, mut values: Vec<ProcessValue>) -> FamilySamples {
    values.retain(|value| value.is_live || !mode.is_live());
    // Living processes first, so that they get the plain process id.
    values.sort_by_key(|value| (!value.is_live, value.place));
    let mut shown: BTreeMap<String, ProcessValue> = BTreeMap::new();
    for value in values {
        let mut key = value.key.clone();
        if mode.shows_processes() {
            key = with_process(&value.key, value.pid.to_string());
            if shown.contains_key(&key) {
                key = with_process(&value.key, format!("{}-{}", value.pid, value.place));
            }
        }
        match shown.get_mut(&key) {
            Some(before) if mode.is_most_recent() => {
                if before.time < value.time {
                    *before = value;
                }
            }
            Some(before) => before.value = mode.merge(before.value, value.value),
            None => drop(shown.insert(key, value)),
        }
    }
    let mut family = FamilySamples::new(definition);
    shown.iter().for_each(|(key, value)| family.push(key, None)[VALUE_CELL] = value.value);
    family
}

/// Adds the label of a process to canonical labels.
fn with_process(key: &str, process: String) -> String {
    let mut labels = labels::decode(key).unwrap_or_default();
    labels.insert(PROCESS_LABEL.to_owned(), process);
    labels::encode(&labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::metric_type::MetricType;

    fn merged(mode: GaugeMode) -> Vec<(String, f64)> {
        let value = |place: u64, value: f64, time: f64, pid: u64, is_live: bool| ProcessValue {
            key: "{}".to_owned(),
            value,
            time,
            pid,
            place,
            is_live,
        };
        let values = vec![
            value(0, 9.0, 3.0, 7, false),
            value(1, 2.0, 1.0, 7, true),
            value(2, 5.0, 2.0, 8, true),
            value(3, -1.0, 0.0, 9, false),
        ];
        let definition = Definition::new("g", "", MetricType::Gauge, &[], &[]).unwrap();
        let family = merge(definition.with_mode(mode).unwrap(), mode, values);
        family.series().map(|series| (series.key().to_owned(), series.value())).collect()
    }

    #[test]
    fn each_mode_merges_as_its_name_says() {
        let one = |value: f64| vec![("{}".to_owned(), value)];
        assert_eq!(merged(GaugeMode::Min), one(-1.0));
        assert_eq!(merged(GaugeMode::LiveMin), one(2.0));
        assert_eq!(merged(GaugeMode::Max), one(9.0));
        assert_eq!(merged(GaugeMode::LiveMax), one(5.0));
        assert_eq!(merged(GaugeMode::Sum), one(15.0));
        assert_eq!(merged(GaugeMode::LiveSum), one(7.0));
        assert_eq!(merged(GaugeMode::MostRecent), one(9.0));
        assert_eq!(merged(GaugeMode::LiveMostRecent), one(5.0));
        let of = |pid: &str, value: f64| (format!("{{\"pid\":\"{pid}\"}}"), value);
        assert_eq!(merged(GaugeMode::LiveAll), [of("7", 2.0), of("8", 5.0)]);
        assert_eq!(merged(GaugeMode::All), [of("7", 2.0), of("7-0", 9.0), of("8", 5.0), of("9", -1.0)]);
    }
}
