//! Clocks: the time since 1970 for data, and deadlines for waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A year: stands for "no deadline".
const NO_DEADLINE: Duration = Duration::from_secs(365 * 86_400);

/// Returns the time since 1970, or zero if the system clock is set to an earlier time.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the second of a clock that all processes of this machine share, that no one sets, and that begins anew when
/// the machine is started. It stands still while the machine sleeps.
pub(crate) fn uptime() -> u32 {
    #[cfg(test)]
    if let Some(second) = TEST_UPTIME.get() {
        return second;
    }
    #[cfg(target_os = "linux")]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC_COARSE;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // The C library, not rustix: that finds the kernel's function by itself, and crashes in valgrind.
    // SAFETY: the call writes to `time` only. It does not fail for a clock that the system has; 0 would be a valid time.
    #[allow(unsafe_code)]
    unsafe {
        libc::clock_gettime(CLOCK, &mut time)
    };
    time.tv_sec as u32
}

#[cfg(test)]
thread_local! {
    /// The second that [`uptime`] returns to this thread.
    pub(crate) static TEST_UPTIME: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
}

/// Returns the time in microseconds since 1970, for a change that replaces an earlier one: later than every
/// time that this process got from here before.
pub(crate) fn micros_of_change() -> f64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = since_1970().as_micros() as u64;
    // Relaxed: the word publishes nothing but itself.
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
    now.max(last.unwrap_or_default() + 1) as f64
}

/// Returns the time at which `timeout` is over. A timeout too large for `Instant` means "no deadline".
pub(crate) fn deadline_after(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or_else(|| now + NO_DEADLINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_has_a_later_time() {
        let times: Vec<f64> = (0..1000).map(|_| micros_of_change()).collect();
        assert!(times.is_sorted_by(|one, other| one < other));
    }

    #[test]
    fn a_timeout_that_no_clock_can_hold_is_far_away() {
        let soon = Instant::now() + Duration::from_secs(86_400);
        assert!(deadline_after(Duration::MAX) > soon);
        assert!(deadline_after(Duration::ZERO) < soon);
    }
}
