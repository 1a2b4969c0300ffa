//! The id under which the server knows the batches of one backend in one process.

use std::process;
use std::time::Duration;

use crate::process::clock::since_1970;
use crate::process::random::random_bits;

/// Returns the process id and the time since 1970 in the id of a writer. `None` if it is none.
pub(crate) fn parse(id: &str) -> Option<(u32, Duration)> {
    let mut parts = id.split('-');
    let (pid, nanos) = (parts.next()?.parse().ok()?, u128::from_str_radix(parts.next()?, 16).ok()?);
    Some((pid, Duration::from_nanos(u64::try_from(nanos).ok()?)))
}

/// Returns an id that no other writer has: process id, time, and random bits.
pub(crate) fn writer_id() -> String {
    format!("{}-{:x}-{:016x}", process::id(), since_1970().as_nanos(), random_bits())
}
