//! The word that says when a series was last used, and whether it has ended.
//!
//! It has the second of the last use in bits 0 to 30, by a clock that all processes of the machine share
//! ([`uptime`](crate::process::clock::uptime)). Bit 31 is set when the series has ended: it was *buried*, and the
//! second is that of the burial. The upper half is the owner: in a file the lower half of the record's generation, so
//! that the word of a record that was given to another series is told apart. 0 is the word of a series that does not
//! end.
//!
//! # Why no change is lost
//!
//! A writer changes a cell (A), and then touches the word (B): a compare-and-swap to the present second, unless the
//! word has it already. The series ends by a compare-and-swap (C) from a second that is too long ago to the burial, and
//! a buried word never changes again while it has this owner. If B comes before C in the order of the word, C fails,
//! because B has changed the second: the word that C expects is older than B by more than the time to live. If C comes
//! first, B finds the series buried. All that its cells hold is discarded, the change A too, so the writer makes the
//! change again in a new series. It does so exactly once.
//!
//! A writer buries a series, too, if it finds that the series was unused for too long. So it does not depend on the
//! scrapes whether a series counts on or begins anew.

use super::atomic::{AtomicU64, Ordering};

const OWNER: u32 = 32;
const BURIED: u64 = 1 << 31;
const SECOND: u64 = BURIED - 1;

/// Returns the word of a series that this owner uses at the second `now`.
pub(crate) fn begin(owner: u32, now: u32) -> u64 {
    u64::from(owner) << OWNER | u64::from(now) & SECOND
}

/// Returns whether the series of this word has ended.
pub(crate) fn is_buried(word: u64) -> bool {
    word & BURIED != 0
}

/// Returns for how many seconds the series has been unused, or buried.
pub(crate) fn age(word: u64, now: u32) -> u32 {
    now.saturating_sub((word & SECOND) as u32)
}

/// Returns whether a series has ended, or is to end, because it was unused for longer than `ttl`.
pub(crate) fn is_over(word: u64, ttl: u32, now: u32) -> bool {
    is_buried(word) || word != 0 && age(word, now) > ttl
}

/// Returns whether the second is that of an earlier start of the machine, because the clock began anew.
pub(crate) fn is_of_earlier_start(word: u64, now: u32) -> bool {
    word & SECOND > u64::from(now) + 1
}

/// Returns whether [`expire`] may change the word, or find that the series has ended.
pub(crate) fn must_look(word: u64, ttl: u32, now: u32) -> bool {
    is_over(word, ttl, now) || is_of_earlier_start(word, now)
}

/// Notes that the series of `owner` was used just now. Returns `false` if it has ended, or ends with this, because it
/// was unused for longer than `ttl`. Call it after the change.
pub(crate) fn touch(word: &AtomicU64, owner: u32, ttl: u32, now: u32) -> bool {
    change(word, owner, |seen| match age(seen, now) {
        age if age > ttl => bury(seen, now),
        // Another thread has read the clock a moment later.
        _ if seen & SECOND == u64::from(now) + 1 => seen,
        _ => begin(owner, now),
    })
}

/// Ends the series of `owner` if it was unused for longer than `ttl`. Returns whether it has ended.
pub(crate) fn expire(word: &AtomicU64, owner: u32, ttl: u32, now: u32) -> bool {
    !change(word, owner, |seen| match age(seen, now) {
        age if age > ttl => bury(seen, now),
        _ if is_of_earlier_start(seen, now) => begin(owner, now),
        _ => seen,
    })
}

/// Makes the word that of a series that does not end, because another word says from now on when it was last used.
/// Returns `false` if the series has ended.
pub(crate) fn hand_over(word: &AtomicU64) -> bool {
    let mut seen = word.load(Ordering::Acquire);
    while !is_buried(seen) {
        match word.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return true,
            Err(now) => seen = now,
        }
    }
    false
}

fn bury(word: u64, now: u32) -> u64 {
    word & !SECOND | BURIED | u64::from(now) & SECOND
}

/// Replaces the word by `next(word)`. Returns `false` if the series has ended.
fn change(word: &AtomicU64, owner: u32, next: impl Fn(u64) -> u64) -> bool {
    let mut seen = word.load(Ordering::Acquire);
    loop {
        if seen == 0 {
            return true;
        }
        if is_buried(seen) || seen >> OWNER != u64::from(owner) {
            return false;
        }
        let next = next(seen);
        if next == seen {
            return true;
        }
        // Release: a thread that buries the series, or sees it buried, sees the changes that other threads made before.
        match word.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return !is_buried(next),
            Err(now) => seen = now,
        }
    }
}
