//! Random numbers that tell processes, writers and files apart. They are not for secrets.

use super::clock::since_1970;

/// Returns 64 random bits from the system, or the clock's nanoseconds if the system provides none.
pub(crate) fn random_bits() -> u64 {
    getrandom::u64().unwrap_or_else(|_| since_1970().as_nanos() as u64)
}
