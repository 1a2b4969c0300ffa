//! The lock of the file, under which records are appended, removed and reused.
//!
//! It has two parts. The **guard**, a word of the file, excludes other writers. Only a process with
//! permission to write the file can set it. An `flock` of the file shows whether a writer was killed, because
//! the kernel then releases it. The `flock` alone is not enough, because every process with permission to
//! read the file can take and keep it. If a writer finds the `flock` taken while the guard stays free, it
//! enters with the guard alone.
//!
//! Counting and reading take no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::getpid;

use super::errors::failed;
use super::file::SharedFile;
use super::layout::{GUARD_AT, GUARD_MARK, GUARD_WITH_FLOCK, TURNS_AT};
use super::record::word;
use crate::cell::turn;
use crate::model::error::{Error, ErrorKind, Result};
use crate::process::service::has_ended;

/// How long a writer waits while the lock makes no progress.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the `flock` may be held without a writer at work, before its holder is judged to be another
/// program.
const OUTSIDER_TIMEOUT: Duration = Duration::from_millis(100);
/// The pauses between two attempts: each is twice the last.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// The last pause of a writer that does not wait. The lock is rarely held for longer.
const LAST_BRIEF_PAUSE: Duration = Duration::from_micros(100);
/// The most time that one attempt adds to a stall.
const LONGEST_STEP: Duration = Duration::from_millis(50);

/// The lock, held until it is dropped.
pub(super) struct FileLock<'file> {
    file: &'file SharedFile,
    guard: &'file AtomicU64,
    turns: &'file AtomicU64,
    has_flock: bool,
    /// The number of the turn before this one, if it has ended as it should.
    last_turn: Option<u64>,
}

impl<'file> FileLock<'file> {
    /// Takes the lock. The caller holds the process's own lock of its records, and has checked the file's
    /// length.
    ///
    /// Waits for as long as other processes take turns. So a burst of thousands of new series slows some
    /// processes down, but fails for none. Fails if no process has taken a turn for [`STALL_TIMEOUT`]. Unless it
    /// `may_wait`, it fails after a few tries, in less than a millisecond.
    pub(super) fn take(file: &'file SharedFile, may_wait: bool) -> Result<Self> {
        let header = file.writable_segment(0)?;
        let (turns, guard) = (word(file, header, 0, TURNS_AT)?, word(file, header, 0, GUARD_AT)?);
        // Relaxed: the number only shows that other processes make progress.
        let mut seen = turns.load(Ordering::Relaxed);
        let (mut stalled, mut last) = (Duration::ZERO, Instant::now());
        let mut pause = FIRST_PAUSE;
        loop {
            let has_flock = file.has_own_flock() && try_flock(file)?;
            let current = turns.load(Ordering::Relaxed);
            // A machine that is suspended or overloaded stops the holder of the lock as well as this process.
            // So a long time between two attempts counts as a short one.
            let now = Instant::now();
            stalled += (now - last).min(LONGEST_STEP);
            last = now;
            if current != seen {
                (seen, stalled) = (current, Duration::ZERO);
            }
            let may_enter =
                has_flock || !file.has_own_flock() || file.has_outsider() || stalled >= OUTSIDER_TIMEOUT;
            if may_enter && let Some(was_free) = enter(guard, file.namespace(), has_flock, stalled) {
                file.set_outsider(!has_flock);
                let last_turn = Some(turn::begin(turns)).filter(|_| was_free);
                return Ok(Self { file, guard, turns, has_flock, last_turn });
            }
            if has_flock {
                unlock(file);
            }
            if stalled >= STALL_TIMEOUT || !may_wait && pause > LAST_BRIEF_PAUSE {
                let period = if may_wait { STALL_TIMEOUT } else { LAST_BRIEF_PAUSE };
                let message = format!(
                    "the metrics file {} is locked by another process for more than {period:?}",
                    file.path().display()
                );
                return Err(Error::new(ErrorKind::Timeout, message));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Returns the number of the last turn, or `None` if a writer is at work. See [`turn::last_ended`].
pub(super) fn last_turn(file: &SharedFile) -> Result<Option<u64>> {
    let header = file.segment(0)?;
    Ok(turn::last_ended(word(file, header, 0, TURNS_AT)?, word(file, header, 0, GUARD_AT)?))
}

impl FileLock<'_> {
    /// Shows the processes that wait that this one makes progress, as long work under the lock must.
    pub(super) fn show_progress(&self) {
        turn::begin(self.turns);
    }

    /// Returns whether no process has changed the file since [`last_turn`] has returned `turn`.
    pub(super) fn follows(&self, turn: Option<u64>) -> bool {
        turn.is_some() && turn == self.last_turn
    }
}

impl Drop for FileLock<'_> {
    fn drop(&mut self) {
        // Release: the next writer sees what this one has written.
        self.guard.store(0, Ordering::Release);
        if self.has_flock {
            unlock(self.file);
        }
    }
}

/// Takes the `flock` if it is free.
fn try_flock(file: &SharedFile) -> Result<bool> {
    match rustix::fs::flock(file.descriptor()?, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(error) => Err(failed(file.path(), "cannot be locked", error)),
    }
}

fn unlock(file: &SharedFile) {
    // `descriptor` checks the number again. If the program has closed the descriptor, that has released the
    // lock, and the number may belong to a file that the program itself has locked.
    if let Ok(descriptor) = file.descriptor() {
        let _ = rustix::fs::flock(descriptor, FlockOperation::Unlock);
    }
}

/// Sets the guard if it is free, or if the process that has set it is gone. Returns whether it was free, or `None` if it
/// was not set.
fn enter(guard: &AtomicU64, namespace: u64, has_flock: bool, stalled: Duration) -> Option<bool> {
    let pid = getpid().as_raw_nonzero().get() as u64;
    let with_flock = if has_flock { GUARD_WITH_FLOCK } else { 0 };
    let own = GUARD_MARK | with_flock | of_namespace(namespace) | pid;
    let current = guard.load(Ordering::Relaxed);
    let may_set = current == 0 || is_left(current, namespace, has_flock, stalled);
    // Acquire: this writer sees what the last one has written.
    let is_set =
        may_set && guard.compare_exchange(current, own, Ordering::Acquire, Ordering::Relaxed).is_ok();
    is_set.then_some(current == 0)
}

/// Returns whether the process that has set the guard to `value` is gone, so that no writer is at work.
fn is_left(value: u64, namespace: u64, has_flock: bool, stalled: Duration) -> bool {
    const MARK: u64 = 0xff << 56;
    if value & MARK != GUARD_MARK {
        // A writer never sets such a value, so the file was damaged.
        return true;
    }
    // The guard's process held the `flock` that this process holds now, so it was killed.
    (has_flock && value & GUARD_WITH_FLOCK != 0)
        || (stalled >= OUTSIDER_TIMEOUT
            && value & NAMESPACE_BITS == of_namespace(namespace)
            && has_ended(value as i32))
        // A process of another pid namespace cannot be seen, and a process id may be used again. The guard's
        // process entered without the `flock`. It has made no progress for so long that it was killed or
        // stopped.
        || (has_flock && stalled >= STALL_TIMEOUT)
}

/// Returns the process that has set the guard, and has ended since, so that no writer is at work.
pub(super) fn left_by(file: &SharedFile) -> Result<Option<i32>> {
    // Relaxed: nothing that the guard protects is read.
    let guard = word(file, file.segment(0)?, 0, GUARD_AT)?.load(Ordering::Relaxed);
    let is_of_here =
        guard >> 56 == GUARD_MARK >> 56 && guard & NAMESPACE_BITS == of_namespace(file.namespace());
    let pid = guard as i32;
    Ok((is_of_here && has_ended(pid)).then_some(pid))
}

/// The bits of a guard that stand for the pid namespace.
const NAMESPACE_BITS: u64 = 0x7f_ffff << 32;

fn of_namespace(namespace: u64) -> u64 {
    namespace << 32 & NAMESPACE_BITS
}
