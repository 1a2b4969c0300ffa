//! Limits how many records the store writes to the log.
//!
//! The server's answers decide how many records there are. A confused or hostile server must not fill a disk.

use std::time::{Duration, Instant};

/// How many records are written in one window.
const MOST: u32 = 50;

/// The length of a window.
const WINDOW: Duration = Duration::from_secs(10);

/// Counts the records of the present window.
#[derive(Debug)]
pub(crate) struct Throttle {
    began: Instant,
    written: u32,
    left_out: u64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { began: Instant::now(), written: 0, left_out: 0 }
    }
}

impl Throttle {
    /// Returns whether a record may be written, and counts it. At the start of a window, the number of
    /// records that were left out in the last one is logged.
    pub(crate) fn admits(&mut self) -> bool {
        if self.began.elapsed() >= WINDOW {
            if self.left_out > 0 {
                log::warn!("{} more log records about the Redis store were left out", self.left_out);
            }
            *self = Self::default();
        }
        if self.written == MOST {
            self.left_out += 1;
            return false;
        }
        self.written += 1;
        true
    }
}
