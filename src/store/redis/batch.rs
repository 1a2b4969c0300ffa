//! A batch: changes of one family's key that the server applies once.
//!
//! It is refused as a whole, and changes nothing, or it counts as applied: a change that is refused behind one
//! that was made is reported, and not tried again.
//!
//! The script remembers, for each writer, the last batch number that it applied, and skips a batch
//! that it has seen. So a batch without an answer can be sent again, unchanged, for as long as it
//! takes. There is at most one unanswered batch per key and writer: a later one never overtakes.
//!
//! A batch is made for one [epoch](super::epoch) of its key, and does nothing in any other: so one that the
//! server has lost together with all else can be told from one that it never got.

use std::sync::Weak;

use once_cell::sync::Lazy;
use redis::{Cmd, Script};

use crate::metric::Metric;

/// The most operations in one batch: it bounds how long one script call keeps the server.
pub(crate) const MAX_OPERATIONS: usize = 1_000;

/// The number of writers at which a new one makes the script sweep out those of dead processes.
const WRITERS_BEFORE_SWEEP: u64 = 128;

/// How long a writer's entry outlives its last batch, at least, in seconds. A batch that was applied,
/// but stays unanswered for longer than this, could be applied twice.
const WRITER_RETENTION: u64 = 86_400;

static SCRIPT: Lazy<Script> = Lazy::new(|| Script::new(include_str!("batch.lua")));

/// Computes the script's hash now: a fork must not find another thread at it.
pub(crate) fn initialize() {
    Lazy::force(&SCRIPT);
}

/// The command that makes the server know the script.
pub(crate) fn load_script() -> Cmd {
    let mut command = redis::cmd("SCRIPT");
    command.arg("LOAD").arg(include_str!("batch.lua"));
    command
}

/// One change of a key.
#[derive(Debug)]
pub(crate) enum Operation {
    Add {
        field: String,
        amount: f64,
        /// The metric, if it is a gauge: what is added to it is remembered.
        gauge: Option<Weak<Metric>>,
    },
    Set {
        field: String,
        value: f64,
        gauge: Weak<Metric>,
    },
    Delete {
        field: String,
    },
    /// Deletes the whole key.
    Clear,
    /// Sets what the server has lost, unless somebody was faster; it had this value since `at`, in
    /// microseconds of unix time.
    Restore {
        field: String,
        value: f64,
        at: u64,
    },
}

/// Where a batch goes, and who sends it.
#[derive(Debug)]
pub(crate) struct Target<'target> {
    pub(crate) key: &'target str,
    pub(crate) writers_key: &'target str,
    pub(crate) is_hash: bool,
    pub(crate) writer: &'target str,
    pub(crate) expire_key_time: u64,
    /// Empty if it is not known yet: then the server answers with it, and does nothing else.
    pub(crate) epoch: &'target str,
}

/// A numbered batch, ready to be sent and to be sent again.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) command: Cmd,
    operations: Vec<Operation>,
    /// How many of the operations, the first, restore what the server has lost.
    restoring: usize,
    /// When it was made, in microseconds of unix time.
    made_at: u64,
    /// Whether it was sent, and its answer was lost.
    pub(crate) is_unanswered: bool,
}

impl Batch {
    /// The batch `number` of `target.writer` for `target.key`. The first `restoring` operations restore what
    /// the server has lost. A batch without operations asks whether the epoch is still the same.
    pub(crate) fn new(
        target: &Target<'_>,
        number: u64,
        made_at: u64,
        operations: Vec<Operation>,
        restoring: usize,
    ) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(SCRIPT.get_hash()).arg(2).arg(target.key).arg(target.writers_key);
        command
            .arg(target.writer)
            .arg(number)
            .arg(target.expire_key_time)
            .arg(if target.is_hash { "hash" } else { "string" })
            .arg(made_at / 1_000_000)
            .arg(WRITER_RETENTION.max(2 * target.expire_key_time))
            .arg(WRITERS_BEFORE_SWEEP)
            .arg(target.epoch);
        for operation in &operations {
            // Rust's exponent form is the shortest that reads back, and Lua reads it.
            match operation {
                Operation::Add { field, amount, .. } => {
                    command.arg("add").arg(field).arg(format!("{amount:e}"))
                }
                Operation::Set { field, value, .. } => {
                    command.arg("set").arg(field).arg(format!("{value:e}"))
                }
                Operation::Delete { field } => command.arg("delete").arg(field).arg(""),
                Operation::Clear => command.arg("clear").arg("").arg(""),
                Operation::Restore { field, value, at } => {
                    command.arg("restore").arg(field).arg(format!("{value:e} {at}"))
                }
            };
        }
        Self { command, operations, restoring, made_at, is_unanswered: false }
    }

    /// The changes, without what restores.
    pub(crate) fn changes(&self) -> &[Operation] {
        &self.operations[self.restoring..]
    }

    /// The changes, out of a batch that was not applied.
    pub(crate) fn into_changes(mut self) -> Vec<Operation> {
        self.operations.split_off(self.restoring)
    }

    /// When it was made, in microseconds of unix time.
    pub(crate) fn made_at(&self) -> u64 {
        self.made_at
    }
}
