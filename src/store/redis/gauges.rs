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
