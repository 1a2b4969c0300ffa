//! Decides how long the BackendAction thread gathers changes before it sends them.
//!
//! The server's work grows with the number of batches, and not with the number of changes in them. So a
//! process that has had something to send for a while waits twice as long each time, up to
//! `max_flush_interval_ms`. A process that had nothing to send is fast again: its next change is sent after
//! `flush_interval_ms`.

use std::time::Duration;

/// How many intervals in a row must gather something before they grow. A few changes after one another, as a
/// test or a job makes them, do not slow a process down.
const PATIENCE: u32 = 16;

/// The time between two sends, which adapts to how busy the process is.
#[derive(Debug)]
pub(crate) struct Pace {
    shortest: Duration,
    longest: Duration,
    interval: Duration,
    /// How many intervals in a row have gathered something.
    streak: u32,
}

impl Pace {
    /// Makes a pace that begins with the shortest interval. If `longest` is shorter than `shortest`, the
    /// interval is always `shortest`.
    pub(crate) fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest: longest.max(shortest), interval: shortest, streak: 0 }
    }

    /// Returns how long changes are gathered now.
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// Notes whether an interval has gathered anything.
    pub(crate) fn has_waited(&mut self, has_gathered: bool) {
        if !has_gathered {
            self.streak = 0;
            self.interval = self.shortest;
        } else if self.streak < PATIENCE {
            self.streak += 1;
        } else {
            self.interval = self.interval.saturating_mul(2).min(self.longest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_busy_process_gathers_for_longer_and_an_idle_one_is_fast_again() {
        let mut pace = Pace::new(ms(5), ms(250));
        let mut intervals = Vec::new();
        for _ in 0..PATIENCE {
            pace.has_waited(true);
            assert_eq!(pace.interval(), ms(5));
        }
        for _ in 0..8 {
            intervals.push(pace.interval().as_millis());
            pace.has_waited(true);
        }
        assert_eq!(intervals, [5, 10, 20, 40, 80, 160, 250, 250]);
        pace.has_waited(false);
        assert_eq!(pace.interval(), ms(5));
    }

    #[test]
    fn an_interval_longer_than_the_longest_stays_as_it_is() {
        for shortest in [ms(1000), Duration::MAX] {
            let mut pace = Pace::new(shortest, ms(250));
            for _ in 0..=PATIENCE {
                pace.has_waited(true);
            }
            assert_eq!(pace.interval(), shortest);
        }
    }
}
