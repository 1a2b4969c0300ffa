//! Finds the addresses at which a server may be reached, before a deadline.
//!
//! The system's resolver of host names takes as long as it likes, and no call can end it. So a look-up runs on
//! a thread of its own, which is left to itself at the deadline. A child that was forked in the middle of a
//! look-up of another thread may never get an answer from the resolver. It then sees a time-out, too.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_channel::bounded;
use socket2::SockAddr;

use super::options::Address;
use crate::process::thread::Thread;

/// The most look-ups that may run at once. A resolver that never answers must not gather threads.
const MAX_LOOKUPS: u32 = 8;

/// How many look-ups run in this process.
static LOOKUPS: Lookups = Lookups(AtomicU64::new(0));

/// Returns the addresses of a server.
pub(crate) fn resolve(address: &Address, deadline: Instant) -> io::Result<Vec<SockAddr>> {
    if let Address::Unix { path } = address {
        return Ok(vec![SockAddr::unix(path)?]);
    }
    let Some((host, port)) = address.host_and_port() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not one server"));
    };
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::from((ip, port)).into()]);
    }
    let host = host.to_owned();
    look_up(&LOOKUPS, deadline, move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect))
}

/// Runs `look` on a thread, and waits for its result until `deadline`.
fn look_up(
    lookups: &'static Lookups,
    deadline: Instant,
    look: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
) -> io::Result<Vec<SockAddr>> {
    let process = std::process::id();
    if !lookups.begin(process) {
        return Err(io::Error::other("the resolver of host names does not answer"));
    }
    let (answer, answers) = bounded(1);
    let thread = Thread::spawn("resolver", move || {
        let _ = answer.send(look());
        lookups.end(process);
    });
    if let Err(error) = thread {
        lookups.end(process);
        return Err(error);
    }
    let unanswered = || io::Error::new(io::ErrorKind::TimedOut, "the resolver of host names did not answer");
    let found = answers.recv_deadline(deadline).map_err(|_| unanswered())??;
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found.into_iter().map(SockAddr::from).collect())
}

/// Counts look-ups. The upper half of the number is the process that counted, because a forked child has none
/// of its parent's threads.
#[derive(Debug)]
struct Lookups(AtomicU64);

impl Lookups {
    /// Counts a look-up that begins, unless there are too many.
    fn begin(&self, process: u32) -> bool {
        // Relaxed: the number guards no other memory.
        let counted = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
            let running = if state >> 32 == u64::from(process) { state as u32 } else { 0 };
            (running < MAX_LOOKUPS).then(|| u64::from(process) << 32 | u64::from(running + 1))
        });
        counted.is_ok()
    }

    /// Counts a look-up of `process` that has ended.
    fn end(&self, process: u32) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
            (state >> 32 == u64::from(process) && state as u32 > 0).then(|| state - 1)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn numbers_need_no_look_up_and_unknown_names_are_an_error() {
        let deadline = Instant::now();
        let address = Address::Tcp { host: "::1".into(), port: 7 };
        let found = resolve(&address, deadline).unwrap();
        assert_eq!(found[0].as_socket().unwrap(), "[::1]:7".parse().unwrap());
        let unknown = Address::Tcp { host: "no-such-host.invalid".into(), port: 7 };
        assert!(resolve(&unknown, Instant::now() + Duration::from_secs(60)).is_err());
        let local = Address::Tcp { host: "localhost".into(), port: 7 };
        assert!(!resolve(&local, Instant::now() + Duration::from_secs(60)).unwrap().is_empty());
    }

    #[test]
    fn a_resolver_that_does_not_answer_costs_the_deadline_and_few_threads() {
        static COUNT: Lookups = Lookups(AtomicU64::new(0));
        let (open, gate) = bounded::<()>(0);
        for _ in 0..MAX_LOOKUPS {
            let gate = gate.clone();
            let stuck = move || {
                let _ = gate.recv();
                Ok(Vec::new())
            };
            let error = look_up(&COUNT, Instant::now(), stuck).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        let more = || -> io::Result<Vec<SocketAddr>> { panic!("one look-up too many") };
        let error = look_up(&COUNT, Instant::now(), more).unwrap_err();
        assert!(error.to_string().contains("does not answer"), "{error}");
        drop(open);
        while COUNT.0.load(Ordering::Relaxed) as u32 > 0 {
            std::thread::yield_now();
        }
        let found = look_up(&COUNT, Instant::now() + Duration::from_secs(60), || {
            Ok(vec!["127.0.0.1:1".parse().unwrap()])
        });
        assert_eq!(found.unwrap().len(), 1);
    }

    #[test]
    fn a_forked_child_does_not_count_the_threads_of_its_parent() {
        let lookups = Lookups(AtomicU64::new(0));
        for _ in 0..MAX_LOOKUPS {
            assert!(lookups.begin(7));
        }
        assert!(!lookups.begin(7));
        assert!(lookups.begin(8));
        lookups.end(7);
        lookups.end(8);
        lookups.end(8);
        assert_eq!(lookups.0.load(Ordering::Relaxed), 8 << 32);
    }
}
