//! The turns of the lock of a metrics file: they tell whether a process may have changed the file since another one has
//! looked at it.
//!
//! Each process that takes the lock sets the guard, then adds 1 to the number of the turns, and frees the guard when it
//! is done. `tests/loom_turns.rs` tries the interleavings.

use super::atomic::{AtomicU64, Ordering};

/// Begins a turn, or goes on with one. The caller has set the guard. Returns the number before.
pub(crate) fn begin(turns: &AtomicU64) -> u64 {
    // Relaxed: only the process that has set the guard changes the number.
    let last = turns.load(Ordering::Relaxed);
    // Release: who reads the new number sees that the guard was set.
    turns.store(last.wrapping_add(1), Ordering::Release);
    last
}

/// Returns the number of the last turn, or `None` if that turn has not ended.
///
/// The caller then sees all that was changed in that turn. If its own next turn follows this one, nothing has changed
/// in between, so what it reads until then is right.
pub(crate) fn last_ended(turns: &AtomicU64, guard: &AtomicU64) -> Option<u64> {
    // Acquire: the guard that is read next is that of this turn, or of a later one.
    let last = turns.load(Ordering::Acquire);
    // Acquire: what was changed before the guard was freed is seen.
    (guard.load(Ordering::Acquire) == 0).then_some(last)
}
