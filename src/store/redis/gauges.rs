//! What the server has confirmed of this process's gauges: what it must be told again when it has lost them.
//!
//! It is a fold over confirmed operations, kept by the outbox, and so the hot path knows nothing of it. A
//! gauge that this process has set is remembered by its last value; one that it only ever added to by the
//! sum, since the other processes that add to it remember theirs.

use std::collections::{HashMap, HashSet};

use super::batch::Operation;

/// The number of gauges at which those that nobody uses any more are swept out first.
const FIRST_SWEEP: usize = 64;

/// The gauges of one family, by hash field.
#[derive(Debug, Default)]
pub(crate) struct ConfirmedGauges {
    by_field: HashMap<String, Confirmed>,
    sweep_at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Confirmed {
    /// The last value set, and what was added since; and when, in microseconds of unix time.
    Set { value: f64, at: u64 },
    /// The sum of what was added.
    Added(f64),
}

impl ConfirmedGauges {
    /// The server has applied this, which was sent at that time.
    pub(crate) fn note(&mut self, operation: &Operation, at: u64) {
        match operation {
            Operation::Add { field, amount } => {
                let confirmed = self.by_field.entry(field.clone()).or_insert(Confirmed::Added(0.0));
                match confirmed {
                    Confirmed::Set { value, at: changed_at } => {
                        *value += amount;
                        *changed_at = at;
                    }
                    Confirmed::Added(sum) => *sum += amount,
                }
            }
            Operation::Set { field, value } => {
                self.by_field.insert(field.clone(), Confirmed::Set { value: *value, at });
            }
            Operation::Delete { field } => drop(self.by_field.remove(field)),
            Operation::Clear => self.by_field.clear(),
            // It tells the server what is remembered here.
            Operation::Restore { .. } => {}
        }
    }

    /// What brings a lost gauge back. `keeps_values`: if it is there, so is all that was added to it.
    pub(crate) fn restore(&self, field: String, keeps_values: bool) -> Operation {
        match self.by_field.get(&field) {
            Some(&Confirmed::Set { value, at }) => Operation::Restore { field, value, at },
            Some(&Confirmed::Added(amount)) if !keeps_values => Operation::Add { field, amount },
            _ => Operation::Add { field, amount: 0.0 },
        }
    }

    /// Whether there are so many that it is time to look for those that nobody uses any more.
    pub(crate) fn wants_sweep(&self) -> bool {
        self.by_field.len() >= self.sweep_at.max(FIRST_SWEEP)
    }

    /// Forgets all fields but those in use.
    pub(crate) fn sweep(&mut self, used: &HashSet<String>) {
        self.by_field.retain(|field, _| used.contains(field));
        self.sweep_at = 2 * self.by_field.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field() -> String {
        "{}".to_owned()
    }

    fn add(amount: f64) -> Operation {
        Operation::Add { field: field(), amount }
    }

    fn set(value: f64) -> Operation {
        Operation::Set { field: field(), value }
    }

    fn restored(operations: &[Operation], keeps_values: bool) -> Operation {
        let mut gauges = ConfirmedGauges::default();
        operations.iter().zip(1..).for_each(|(operation, at)| gauges.note(operation, at));
        gauges.restore(field(), keeps_values)
    }

    #[test]
    fn a_gauge_is_restored_as_it_was_last_set_or_by_all_that_was_added() {
        let restore = |value, at| Operation::Restore { field: field(), value, at };
        assert_eq!(restored(&[add(1.0), set(7.0), add(2.0)], false), restore(9.0, 3));
        assert_eq!(restored(&[set(7.0), set(4.0)], true), restore(4.0, 2));
        assert_eq!(restored(&[add(1.0), add(0.0), add(2.0)], false), add(3.0));
        assert_eq!(restored(&[add(1.0), add(2.0)], true), add(0.0), "it is there already");
        assert_eq!(restored(&[], false), add(0.0));
        for end in [Operation::Clear, Operation::Delete { field: field() }] {
            assert_eq!(restored(&[set(7.0), end.clone()], false), add(0.0));
            assert_eq!(restored(&[set(7.0), end, add(1.0)], false), add(1.0));
        }
    }

    #[test]
    fn what_nobody_uses_any_more_is_forgotten() {
        let mut gauges = ConfirmedGauges::default();
        let note = |gauges: &mut ConfirmedGauges, n: usize| {
            gauges.note(&Operation::Set { field: n.to_string(), value: 1.0 }, 1);
        };
        for n in 0..10_000 {
            note(&mut gauges, n);
            if gauges.wants_sweep() {
                gauges.sweep(&[n.to_string(), "0".to_owned()].into());
            }
        }
        assert!(gauges.by_field.len() <= FIRST_SWEEP);
        assert!(gauges.by_field.contains_key("0") && gauges.by_field.contains_key("9999"));
    }
}
