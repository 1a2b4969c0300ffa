//! What the system says about this process: its processor time, memory and descriptors.
//!
//! Linux says it in `/proc`. Elsewhere some of it is unknown.

#![allow(unsafe_code)]

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// The figures of this process. `None`: unknown.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Usage {
    /// User and system time of all threads.
    pub(crate) cpu: Duration,
    pub(crate) resident_bytes: Option<f64>,
    pub(crate) virtual_bytes: Option<f64>,
    pub(crate) open_descriptors: Option<f64>,
    pub(crate) max_descriptors: Option<f64>,
}

impl Usage {
    /// Reads the figures. It makes about ten system calls, and lists the descriptors.
    pub(crate) fn read() -> Self {
        let stat = Stat::read();
        let page = system(libc::_SC_PAGESIZE);
        let limit = getrlimit(Resource::Nofile);
        Self {
            cpu: cpu_time(),
            resident_bytes: stat.as_ref().map(|stat| stat.resident_pages * page),
            virtual_bytes: stat.as_ref().map(|stat| stat.virtual_bytes),
            // The listing has a descriptor of its own.
            open_descriptors: fs::read_dir("/proc/self/fd").ok().map(|list| list.count() as f64 - 1.0),
            max_descriptors: Some(limit.current.map_or(f64::INFINITY, |limit| limit as f64)),
        }
    }
}

/// Returns the time at which this process started, in seconds since 1970, if it is known. A process that calls this
/// twice may get times that differ by a second, because the system may set its clock.
pub(crate) fn start_time() -> Option<f64> {
    start_time_of("self")
}

/// Returns the same of the process with this number, or of `self`.
pub(crate) fn start_time_of(process: &str) -> Option<f64> {
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + Stat::read_of(process)?.start_ticks / system(libc::_SC_CLK_TCK))
}

/// The fields of `/proc/pid/stat` that are needed.
struct Stat {
    start_ticks: f64,
    virtual_bytes: f64,
    resident_pages: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::read_of("self")
    }

    fn read_of(process: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name of the program stands in parentheses, and may contain some. The state, field 3, follows.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse().ok();
        Some(Self { start_ticks: field(22)?, virtual_bytes: field(23)?, resident_pages: field(24)? })
    }
}

/// Returns a number of the system.
fn system(name: libc::c_int) -> f64 {
    // SAFETY: the call has no conditions.
    unsafe { libc::sysconf(name) as f64 }
}

fn cpu_time() -> Duration {
    // SAFETY: all fields are numbers, for which zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes one rusage.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) } != 0 {
        return Duration::ZERO;
    }
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_a_process_make_sense() {
        let first = Usage::read();
        assert!(first.virtual_bytes > first.resident_bytes && first.resident_bytes > Some(1e5), "{first:?}");
        let _file = fs::File::open("/proc/self/stat").unwrap();
        assert!(
            first.open_descriptors > Some(2.0) && first.max_descriptors > first.open_descriptors,
            "{first:?}"
        );
        while Usage::read().cpu <= first.cpu {}
        let now = crate::process::clock::since_1970().as_secs_f64();
        let started = start_time().unwrap();
        assert!(started <= now + 2.0 && started > now - 86_400.0, "{started} of {now}");
    }

    #[test]
    fn the_name_of_a_program_may_contain_anything() {
        let stat =
            Stat::parse("1 (a) b (c)) R 1 1 1 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 22 23 24 18").unwrap();
        assert_eq!((stat.start_ticks, stat.virtual_bytes, stat.resident_pages), (22.0, 23.0, 24.0));
        assert!(Stat::parse("1 (a").is_none());
    }
}
