//! The id under which the server knows the batches of one backend in one process.

use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns an id that no other writer has: process id, time, and random bits.
pub(crate) fn writer_id() -> String {
    use std::io::Read;
    let mut random = [0; 8];
    // Without random bits the process id and the time still tell the processes of a host apart.
    let _ = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    format!("{}-{nanoseconds:x}-{:016x}", process::id(), u64::from_ne_bytes(random))
}
