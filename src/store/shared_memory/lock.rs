//! The lock of the file, under which records are appended, removed and reused.
//!
//! It is an `flock`, which ends with the process that holds it. Counting and reading take no lock.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::errors::failed;
use super::file::SharedFile;
use super::layout::TURNS_AT;
use super::record::word;
use crate::model::error::{Error, ErrorKind, Result};

/// How long a writer waits while the lock makes no progress.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The pauses between two attempts: each is twice the last.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// The lock, held until it is dropped.
pub(super) struct FileLock<'file>(&'file SharedFile);

impl<'file> FileLock<'file> {
    /// Takes the lock. The caller holds the process's own lock of its records, and has checked the file's
    /// length.
    ///
    /// Waits for as long as other processes take turns. A burst of thousands of new series is thereby slow
    /// for some, and refused for none. Fails if no process has taken the lock for [`STALL_TIMEOUT`].
    pub(super) fn take(file: &'file SharedFile) -> Result<Self> {
        if !file.has_own_lock() {
            let reason = "this process shares the lock of its parent: set the option \"mode\" so \
                          that its user may read and write the file";
            return Err(failed(file.path(), "cannot be locked", reason));
        }
        let descriptor = file.descriptor()?;
        let turns = word(file, file.writable_segment(0)?, 0, TURNS_AT)?;
        // Relaxed: the number only tells that time was not spent in vain.
        let mut seen = turns.load(Ordering::Relaxed);
        let mut give_up_at = Instant::now() + STALL_TIMEOUT;
        let mut pause = FIRST_PAUSE;
        loop {
            match rustix::fs::flock(descriptor, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    turns.store(turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
                    return Ok(Self(file));
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => return Err(failed(file.path(), "cannot be locked", error)),
            }
            let now = Instant::now();
            let current = turns.load(Ordering::Relaxed);
            if current != seen {
                seen = current;
                give_up_at = now + STALL_TIMEOUT;
            } else if now >= give_up_at {
                let message = format!(
                    "the metrics file {} is locked by another process for more than {STALL_TIMEOUT:?}",
                    file.path().display()
                );
                return Err(Error::new(ErrorKind::Timeout, message));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Drop for FileLock<'_> {
    fn drop(&mut self) {
        // Checked again: the program may have closed the descriptor, which has released the lock, and the
        // number may be that of a file that the program itself has locked.
        if let Ok(descriptor) = self.0.descriptor() {
            let _ = rustix::fs::flock(descriptor, FlockOperation::Unlock);
        }
    }
}
