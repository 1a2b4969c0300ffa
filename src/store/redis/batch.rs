//! A batch: changes of one family's key that the server applies exactly once.
//!
//! The script `batch.lua` remembers the last batch number of each writer and skips a batch that it has seen,
//! so a batch without an answer can be sent again, unchanged, as often as needed. For one key and writer
//! there is at most one unanswered batch. The server applies a batch only in the [epoch](super::epoch) that
//! it was made for. This tells a batch that was applied and then lost with the whole key from one that never
//! arrived. Within the epoch the server applies a batch only on top of its *base*, the last batch of this
//! writer before it. This tells a server that lacks confirmed batches, and the [replay
//! log](super::replay_log) then fills the gap.
//!
//! A batch is refused as a whole, or it counts as applied. If the server refuses a change after it has made
//! an earlier one of the same batch, that change is reported and not tried again.

use std::sync::Weak;

use once_cell::sync::Lazy;
use redis::{Arg, Cmd, Script};

use super::connection::command;
use super::ending::Ending;
use super::exemplar_field;
use super::native_field;
use crate::metric::Metric;
use crate::model::exemplar::Exemplar;
use crate::model::native::{Native, NativeHistogram};

/// The most operations in one batch. It bounds how long one script call occupies the server.
pub(crate) const MAX_OPERATIONS: usize = 1_000;

/// About how long the server takes for an addition to a native histogram, in additions to a number.
const NATIVE_WEIGHT: usize = 20;

/// About how many bytes of a request a bucket of a native histogram takes.
const BYTES_OF_BUCKET: usize = 8;

/// About how many bytes of a request an exemplar takes at most.
const BYTES_OF_EXEMPLAR: usize = 200;

/// From this number of writers on, the script sweeps out entries of dead processes for each new writer.
const WRITERS_BEFORE_SWEEP: u64 = 128;

/// How many seconds a writer's entry stays at least after its last batch. If a batch was applied and its
/// answer does not arrive for longer than this, sending it again could apply it twice.
pub(crate) const WRITER_RETENTION: u64 = 86_400;

static SCRIPT: Lazy<Script> = Lazy::new(|| Script::new(include_str!("batch.lua")));

/// Computes the script's hash now. A forked child must not find another thread computing it.
pub(crate) fn initialize() {
    Lazy::force(&SCRIPT);
}

/// Returns the command that loads the script.
pub(crate) fn load_script() -> Cmd {
    command("SCRIPT", &["LOAD", include_str!("batch.lua")])
}

/// Returns a command that runs the script without any effect.
pub(crate) fn try_script() -> Cmd {
    command("EVALSHA", &[SCRIPT.get_hash(), "0"])
}

/// One change of a key.
#[derive(Debug)]
pub(crate) enum Operation {
    Add {
        field: String,
        amount: f64,
        /// The metric that the amount comes from. Dangling if the addition restores a lost value.
        metric: Weak<Metric>,
        /// Whether the metric is a gauge, so that the confirmed amount is remembered.
        is_gauge: bool,
    },
    Set {
        field: String,
        value: f64,
        metric: Weak<Metric>,
    },
    /// Adds to the native histogram in a field, whose family has these options.
    AddNative {
        field: String,
        added: Box<(Native, NativeHistogram)>,
        metric: Weak<Metric>,
    },
    /// Keeps an exemplar, unless the server has a newer one in this field. The field is none of the values.
    Exemplar {
        field: String,
        exemplar: Box<Exemplar>,
        metric: Weak<Metric>,
    },
    Delete {
        field: String,
    },
    /// Deletes the whole key.
    Clear,
    /// Sets a value that the server has lost, unless another process has changed it since. This process last
    /// changed the value at the time `at`, in microseconds of unix time.
    Restore {
        field: String,
        value: f64,
        at: u64,
    },
    /// Says in which seconds a server has applied the following operations on this series before: the first and the
    /// last.
    Made {
        field: String,
        first: u64,
        last: u64,
    },
    /// Sets a gauge again that this process has set before, unless another process has set it since. `before`
    /// is the value that the gauge had before, as far as this process knows.
    Replay {
        field: String,
        value: f64,
        before: f64,
    },
}

impl Operation {
    /// Returns the metric that the change comes from.
    pub(crate) fn metric(&self) -> Option<&Weak<Metric>> {
        match self {
            Self::Add { metric, .. }
            | Self::Set { metric, .. }
            | Self::AddNative { metric, .. }
            | Self::Exemplar { metric, .. } => Some(metric),
            Self::Delete { .. }
            | Self::Clear
            | Self::Restore { .. }
            | Self::Made { .. }
            | Self::Replay { .. } => None,
        }
    }

    /// Returns the field that changes. `None` if the whole key is deleted.
    pub(crate) fn field(&self) -> Option<&str> {
        match self {
            Self::Add { field, .. }
            | Self::Set { field, .. }
            | Self::AddNative { field, .. }
            | Self::Exemplar { field, .. }
            | Self::Delete { field }
            | Self::Restore { field, .. }
            | Self::Made { field, .. }
            | Self::Replay { field, .. } => Some(field),
            Self::Clear => None,
        }
    }

    /// Returns about how many bytes the operation takes in the request, beside a number.
    pub(crate) fn size(&self) -> usize {
        let value = match self {
            Self::AddNative { added, .. } => BYTES_OF_BUCKET * added.1.buckets().count(),
            Self::Exemplar { .. } => BYTES_OF_EXEMPLAR,
            _ => 0,
        };
        self.field().map_or(0, str::len) + value
    }

    /// Returns about how many additions of numbers take the server as long.
    pub(crate) fn weight(&self) -> usize {
        if matches!(self, Self::AddNative { .. }) { NATIVE_WEIGHT } else { 1 }
    }
}

/// Where a batch goes, and which writer sends it.
#[derive(Debug)]
pub(crate) struct Target<'target> {
    pub(crate) key: &'target str,
    pub(crate) writers_key: &'target str,
    pub(crate) is_hash: bool,
    /// Whether the server notes when a series began.
    pub(crate) has_created_times: bool,
    /// When the series of the family end, if they do.
    pub(crate) ending: Option<&'target Ending>,
    pub(crate) writer: &'target str,
    /// In seconds. 0: the key does not expire.
    pub(crate) expire_key_time: u64,
    /// Empty if the writer does not know the epoch yet. The server then answers with it, and applies nothing.
    pub(crate) epoch: &'target str,
    /// The number of the last batch of this writer that the server must have. 0: none in this epoch.
    pub(crate) base: u64,
}

/// A numbered batch, ready to be sent once or more often.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) command: Cmd,
    number: u64,
    base: u64,
    operations: Vec<Operation>,
    /// How many operations at the front restore lost values.
    restoring: usize,
    /// When the batch was made, in microseconds of unix time.
    made_at: u64,
    /// Whether it was sent and its answer was lost.
    pub(crate) is_unanswered: bool,
    /// How many confirmed batches this one repeats. 0 for a batch of new changes.
    pub(crate) repeats: usize,
}

impl Batch {
    /// Makes batch `number` of `target.writer` for `target.key`. The first `restoring` operations restore
    /// lost values. A batch without operations asks whether the epoch is still the same.
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
            .arg(target.epoch)
            .arg(target.base)
            .arg(if target.has_created_times { made_at / 1_000 } else { 0 });
        if let Some(ending) = target.ending.filter(|_| !operations.is_empty()) {
            command.arg(TTL).arg(ending.parts()).arg(ending.seconds());
        }
        for operation in &operations {
            // Rust's exponent form is the shortest text that reads back, and Lua reads it.
            match operation {
                Operation::Add { field, amount, .. } => {
                    command.arg("add").arg(field).arg(format!("{amount:e}"))
                }
                Operation::Set { field, value, .. } => {
                    command.arg("set").arg(field).arg(format!("{value:e}"))
                }
                Operation::AddNative { field, added, .. } => {
                    let (native, added) = &**added;
                    command.arg("native").arg(field).arg(native_field::format_addition(*native, added))
                }
                Operation::Exemplar { field, exemplar, .. } => {
                    command.arg("exemplar").arg(field).arg(exemplar_field::format(exemplar))
                }
                Operation::Delete { field } => command.arg("delete").arg(field).arg(""),
                Operation::Clear => command.arg("clear").arg("").arg(""),
                Operation::Restore { field, value, at } => {
                    command.arg("restore").arg(field).arg(format!("{value:e} {at}"))
                }
                Operation::Made { field, first, last } => {
                    command.arg("made").arg(field).arg(format!("{first} {last}"))
                }
                Operation::Replay { field, value, before } => {
                    command.arg("replay").arg(field).arg(format!("{value:e} {before:e}"))
                }
            };
        }
        let (base, is_unanswered) = (target.base, false);
        Self { command, number, base, operations, restoring, made_at, is_unanswered, repeats: 0 }
    }

    /// Makes the same batch again, for a server whose last batch of this writer is another one.
    pub(crate) fn rebased(self, target: &Target<'_>) -> Self {
        let is_unanswered = self.is_unanswered;
        let batch = Self::new(target, self.number, self.made_at, self.operations, self.restoring);
        Self { is_unanswered, ..batch }
    }

    /// Returns the number of the batch.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Returns the number of the batch on top of which this one may be applied.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Returns all operations.
    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Returns the changes, without the operations that restore.
    pub(crate) fn changes(&self) -> &[Operation] {
        &self.operations[self.restoring..]
    }

    /// Returns whether the batch has no operations, and so only asks for the epoch.
    pub(crate) fn is_question(&self) -> bool {
        self.operations.is_empty()
    }

    /// Splits a batch that was not applied into the operations that restore lost values, and the changes.
    pub(crate) fn into_parts(mut self) -> (Vec<Operation>, Vec<Operation>) {
        let changes = self.operations.split_off(self.restoring);
        (self.operations, changes)
    }

    /// Returns when the batch was made, in microseconds of unix time.
    pub(crate) fn made_at(&self) -> u64 {
        self.made_at
    }
}

/// The operation that comes first if the series of the family end. It has the parts of a series, and the seconds.
const TTL: &str = "ttl";

/// Where a batch says when its series began: behind the name of the command, the digest of the script, the number of
/// keys, two keys and nine arguments.
const CREATED_AT: usize = 14;

/// Returns the batch without the time at which its series began, and for a family whose series do not end. `None` if
/// the command is no batch.
///
/// The node that is about to get a slot may have the family already and its times not yet. Times that the script wrote
/// there would be in the way of those that come, and the slot could not be moved any further.
pub(crate) fn without_times(command: &Cmd) -> Option<Cmd> {
    let mut arguments = command.args_iter();
    if !matches!(arguments.next(), Some(Arg::Simple(b"EVALSHA"))) {
        return None;
    }
    let mut batch = redis::cmd("EVALSHA");
    let mut texts = Vec::new();
    for argument in arguments {
        let Arg::Simple(text) = argument else { return None };
        texts.push(text);
    }
    let (head, mut operations) = texts.split_at_checked(CREATED_AT)?;
    for text in &head[..CREATED_AT - 1] {
        batch.arg(*text);
    }
    batch.arg(0);
    if !operations.is_empty() {
        if operations[0] == TTL.as_bytes() {
            operations = operations.get(3..).unwrap_or_default();
        }
        // Other writers of the family may have said that its series end.
        batch.arg(TTL).arg("").arg(0);
    }
    for text in operations {
        batch.arg(*text);
    }
    Some(batch)
}
