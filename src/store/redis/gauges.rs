//! The confirmed values of this process's gauges, from which they are restored when the server loses them.
//!
//! The outbox updates them for each confirmed operation; the hot path is not involved. If this process has
//! set a gauge, its last value is remembered. If this process has only added to a gauge, the sum of its own
//! additions is remembered, because other processes remember theirs. A gauge is forgotten with its metric.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::batch::Operation;
use crate::metric::Metric;

/// How many gauges are kept before those whose metrics are gone are first swept out.
const FIRST_SWEEP: usize = 64;

/// The gauges of one family, by the address of their metric.
#[derive(Debug, Default)]
pub(crate) struct ConfirmedGauges {
    by_address: HashMap<usize, Known>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Known {
    /// The weak pointer keeps the address from being reused.
    metric: Weak<Metric>,
    confirmed: Confirmed,
}

#[derive(Debug)]
enum Confirmed {
    /// The last value that was set plus later additions, and the time of the last change, in microseconds of
    /// unix time.
    Set { value: f64, at: u64 },
    /// The sum of everything that was added.
    Added(f64),
}

impl Confirmed {
    fn value(&self) -> f64 {
        match *self {
            Self::Set { value, .. } => value,
            Self::Added(sum) => sum,
        }
    }
}

impl ConfirmedGauges {
    /// Notes that the server has applied `operation`, which was sent at the time `at`. Deletions need no
    /// note, because a metric that was removed is not restored, and a new one in its place is another metric.
    ///
    /// Returns the value that the gauge had before, as far as this process knows. `None` if the operation
    /// changes no gauge.
    pub(crate) fn note(&mut self, operation: &Operation, at: u64) -> Option<f64> {
        match operation {
            Operation::Add { amount, metric, is_gauge: true, .. } => {
                let known = self.known(metric);
                let before = known.value();
                match known {
                    Confirmed::Set { value, at: changed_at } => {
                        *value += amount;
                        *changed_at = at;
                    }
                    Confirmed::Added(sum) => *sum += amount,
                }
                Some(before)
            }
            Operation::Set { value, metric, .. } => {
                let now = Confirmed::Set { value: *value, at };
                Some(std::mem::replace(self.known(metric), now).value())
            }
            _ => None,
        }
    }

    /// Forgets a gauge, because its series has ended on the server and begins again.
    pub(crate) fn forget(&mut self, metric: &Weak<Metric>) {
        self.by_address.remove(&metric.as_ptr().addr());
    }

    /// Forgets all gauges.
    pub(crate) fn clear(&mut self) {
        self.by_address.clear();
    }

    /// Returns the operation that restores a lost gauge. If `keeps_values`, the server still has everything
    /// that was added to it.
    pub(crate) fn restore(&self, metric: &Arc<Metric>, field: String, keeps_values: bool) -> Operation {
        match self.by_address.get(&Arc::as_ptr(metric).addr()).map(|known| &known.confirmed) {
            Some(&Confirmed::Set { value, at }) => Operation::Restore { field, value, at },
            Some(&Confirmed::Added(amount)) if !keeps_values => restoring_add(field, amount),
            _ => restoring_add(field, 0.0),
        }
    }

    fn known(&mut self, metric: &Weak<Metric>) -> &mut Confirmed {
        if self.by_address.len() >= self.sweep_at.max(FIRST_SWEEP) {
            self.by_address.retain(|_, known| known.metric.strong_count() > 0);
            self.sweep_at = 2 * self.by_address.len();
        }
        let new = || Known { metric: Weak::clone(metric), confirmed: Confirmed::Added(0.0) };
        &mut self.by_address.entry(metric.as_ptr().addr()).or_insert_with(new).confirmed
    }
}

/// Makes an addition that is not remembered again when the server confirms it.
pub(crate) fn restoring_add(field: String, amount: f64) -> Operation {
    Operation::Add { field, amount, metric: Weak::new(), is_gauge: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Cells;
    use crate::metric::family::Family;
    use crate::model::definition::Definition;
    use crate::model::metric_type::MetricType;

    fn gauge() -> Arc<Metric> {
        let definition = Definition::new("level", "", MetricType::Gauge, &[], &[]).unwrap();
        let cells = Cells::in_memory(&definition);
        Arc::new(Metric::new(Family::detached(definition), "{}".into(), cells))
    }

    fn add(gauge: &Arc<Metric>, amount: f64) -> Operation {
        Operation::Add { field: "{}".to_owned(), amount, metric: Arc::downgrade(gauge), is_gauge: true }
    }

    fn set(gauge: &Arc<Metric>, value: f64) -> Operation {
        Operation::Set { field: "{}".to_owned(), value, metric: Arc::downgrade(gauge) }
    }

    /// Returns a short description of the operation that restores `gauge`.
    fn restored(gauges: &ConfirmedGauges, gauge: &Arc<Metric>, keeps_values: bool) -> String {
        match gauges.restore(gauge, "{}".to_owned(), keeps_values) {
            Operation::Restore { value, at, .. } => format!("{value} of {at}"),
            Operation::Add { amount, .. } => format!("+{amount}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_gauge_is_restored_as_it_was_last_set_or_by_all_that_was_added() {
        let gauge = gauge();
        let after = |operations: &[Operation], keeps_values: bool| {
            let mut gauges = ConfirmedGauges::default();
            for (operation, at) in operations.iter().zip(1..) {
                gauges.note(operation, at);
            }
            restored(&gauges, &gauge, keeps_values)
        };
        assert_eq!(after(&[add(&gauge, 1.0), set(&gauge, 7.0), add(&gauge, 2.0)], false), "9 of 3");
        assert_eq!(after(&[set(&gauge, 7.0), set(&gauge, 4.0)], true), "4 of 2");
        assert_eq!(after(&[add(&gauge, 1.0), add(&gauge, 0.0), add(&gauge, 2.0)], false), "+3");
        assert_eq!(after(&[add(&gauge, 1.0), add(&gauge, 2.0)], true), "+0", "it is there already");
        assert_eq!(after(&[], false), "+0");
    }

    #[test]
    fn a_gauge_whose_series_has_ended_begins_anew() {
        let gauge = gauge();
        let mut gauges = ConfirmedGauges::default();
        gauges.note(&set(&gauge, 7.0), 10);
        gauges.forget(&Arc::downgrade(&gauge));
        gauges.note(&add(&gauge, 1.0), 20);
        assert_eq!(restored(&gauges, &gauge, false), "+1");
    }

    #[test]
    fn a_gauge_is_forgotten_with_its_metric() {
        let mut gauges = ConfirmedGauges::default();
        let lasting = gauge();
        gauges.note(&set(&lasting, 7.0), 1);
        for _ in 0..10_000 {
            let passing = gauge();
            assert_eq!(restored(&gauges, &passing, false), "+0", "another one in the same place");
            gauges.note(&set(&passing, 1.0), 1);
        }
        assert!(gauges.by_address.len() <= FIRST_SWEEP);
        assert_eq!(restored(&gauges, &lasting, false), "7 of 1");
    }
}
