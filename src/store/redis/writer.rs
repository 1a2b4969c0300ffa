//! The id under which the server knows the batches of one backend in one process.

use std::process;

use crate::process::clock::since_1970;
use crate::process::random::random_bits;

/// Returns an id that no other writer has: process id, time, and random bits.
pub(crate) fn writer_id() -> String {
    format!("{}-{:x}-{:016x}", process::id(), since_1970().as_nanos(), random_bits())
}
