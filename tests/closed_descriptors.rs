//! Programs that close all descriptors and open sockets of their own under the same numbers. No byte of the
//! engine arrives at those sockets, and the engine closes none of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod support;

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use pytheus_backend_rs::{Backend, Exporter, ExporterOptions};

use support::http::Client;
use support::process::fork;
use support::*;

/// Sockets of the program: one under each number that was open before, with their other ends.
struct OwnSockets(Vec<(UnixStream, UnixStream)>);

impl OwnSockets {
    /// Closes all descriptors but the standard ones, and opens sockets until all their numbers are in use.
    fn in_place_of_all() -> Self {
        let numbers: Vec<i32> = fs::read_dir("/proc/self/fd")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .filter(|number| *number > 2)
            .collect();
        let most = *numbers.iter().max().unwrap();
        // SAFETY: the program closes descriptors that it does not know, as a daemon does.
        (3..=most).for_each(|number| unsafe { assert!(libc::close(number) <= 0) });
        let mut pairs = Vec::new();
        while pairs.last().is_none_or(|(_, end): &(UnixStream, UnixStream)| end.as_raw_fd() <= most) {
            let pair = UnixStream::pair().unwrap();
            pair.0.set_nonblocking(true).unwrap();
            pair.1.set_nonblocking(true).unwrap();
            pairs.push(pair);
        }
        Self(pairs)
    }

    /// Whether all are open, and no byte has arrived.
    fn are_untouched(&self) -> bool {
        let hears_nothing = |mut end: &UnixStream| {
            end.read(&mut [0; 16]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        self.0.iter().all(|(one, other)| hears_nothing(one) && hears_nothing(other))
    }
}

#[test]
fn a_redis_store_leaves_the_sockets_of_the_program_alone_and_connects_again() {
    let server = Server::start();
    fork(|| {
        let backend = open(&server, "");
        let hits = counter(&backend, "hits_total");
        hits.inc(1.0).unwrap();
        flush(&backend);
        let own = OwnSockets::in_place_of_all();
        hits.inc(2.0).unwrap();
        flush_at_last(&backend);
        let text = backend.collect_text().unwrap();
        fork(|| {
            hits.inc(4.0).unwrap();
            backend.flush(PATIENCE).is_ok()
        })
        .join();
        backend.close().unwrap();
        text.contains("\nhits_total 3\n") && own.are_untouched()
    })
    .join();
    assert_eq!(server.value("hits_total"), 7.0);
}

#[test]
fn a_redis_store_has_no_standard_descriptor() {
    let server = Server::start();
    fork(|| {
        // SAFETY: plain system calls. The child needs no standard streams.
        (0..3).for_each(|number| unsafe { assert!(libc::close(number) <= 0) });
        let backend = open(&server, "");
        counter(&backend, "hits_total").inc(1.0).unwrap();
        flush(&backend);
        let is_socket = |number: i32| {
            fs::read_link(format!("/proc/self/fd/{number}"))
                .is_ok_and(|link| link.to_string_lossy().starts_with("socket:"))
        };
        !(0..3).any(is_socket)
    })
    .join();
}

#[test]
fn an_exporter_leaves_the_sockets_of_the_program_alone() {
    fork(|| {
        let backend = Backend::open("memory:").unwrap();
        let exporter = Exporter::start(&backend, ExporterOptions::default()).unwrap();
        let mut client = Client::connect(exporter.address());
        assert_eq!(client.get("/metrics").status, 200);
        // Its number is about to be closed, and to belong to another socket.
        std::mem::forget(client);
        let own = OwnSockets::in_place_of_all();
        drop(exporter);
        own.are_untouched()
    })
    .join();
}
