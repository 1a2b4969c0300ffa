//! The exporter and processes: after a fork the parent keeps serving, a child inherits no socket, and the
//! exporter ends with its process. Children only use the engine and plain system calls, because the threads
//! of the test harness do not exist in them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use pytheus_backend_rs::{Backend, Exporter, ExporterOptions};
use support::http::{Client, wait_until_free};
use support::process::{EndOnDrop, SharedNumbers, fork};
use support::*;

const REQUESTS: &str = "# HELP requests_total Some help.\n# TYPE requests_total counter\nrequests_total 3\n";

fn memory() -> Backend {
    let backend = Backend::open("memory:").unwrap();
    counter(&backend, "requests_total").inc(3.0).unwrap();
    backend
}

/// Starts an exporter at a port that the system does not give to another socket after its end.
fn serve(backend: &Backend) -> Exporter {
    loop {
        let options = ExporterOptions { port: free_port(), ..ExporterOptions::default() };
        match Exporter::start(backend, options) {
            Ok(exporter) => return exporter,
            Err(error) => assert!(error.message().contains("in use"), "{error}"),
        }
    }
}

fn scrape(address: SocketAddr) -> String {
    Client::connect(address).get("/metrics").text().to_owned()
}

/// A pipe that lets one process wait for another.
struct Gate {
    reader: io::PipeReader,
    writer: io::PipeWriter,
}

impl Gate {
    fn new() -> Self {
        let (reader, writer) = io::pipe().unwrap();
        Self { reader, writer }
    }

    fn open(&mut self) {
        self.writer.write_all(&[1]).unwrap();
    }

    fn wait(&mut self) {
        self.reader.read_exact(&mut [0]).unwrap();
    }
}

/// Returns the targets of this process's descriptors, except those of event loops: they keep nothing open.
fn open_descriptors() -> Vec<String> {
    let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    // Leaves out the descriptor that read the list.
    let links =
        links.map(|link| link.to_string_lossy().into_owned()).filter(|link| !link.starts_with("/proc/"));
    let links = links.filter(|link| !link.starts_with("anon_inode:"));
    let mut links: Vec<String> = links.collect();
    links.sort();
    links
}

fn link_of(socket: &impl AsRawFd) -> String {
    let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
    link.to_string_lossy().into_owned()
}

#[test]
fn the_parent_keeps_serving_and_a_child_inherits_no_socket() {
    // In a child, because other tests of this process open descriptors.
    let parent = fork(|| {
        let mut gate = Gate::new();
        let mut expected = open_descriptors();
        let exporter = serve(&memory());
        let mut idle = Client::connect(exporter.address());
        assert_eq!(idle.get("/metrics").text(), REQUESTS);
        // The listening socket and the two ends of the connection.
        assert_eq!(open_descriptors().len(), expected.len() + 3);
        expected.push(link_of(&idle.socket));
        expected.sort();
        let child = fork(|| {
            let inherited = open_descriptors();
            gate.wait();
            inherited == expected
        });
        // The child is alive.
        assert_eq!(idle.get("/metrics").text(), REQUESTS);
        assert_eq!(scrape(exporter.address()), REQUESTS);
        let address = exporter.address();
        drop(exporter);
        // No other process keeps the connection or the port.
        idle.wait_for_end();
        wait_until_free(address);
        gate.open();
        child.join();
        true
    });
    parent.join();
}

#[test]
fn a_killed_parent_frees_its_port_and_connections_while_a_child_lives() {
    let address = SharedNumbers::new(2);
    let (mut parent_gate, mut child_gate) = (Gate::new(), Gate::new());
    let parent = fork(|| {
        let exporter = serve(&memory());
        // SAFETY: the grandchild calls nothing but plain system calls and _exit.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: plain system calls. If the test fails, the alarm ends this process.
                unsafe { libc::alarm(PATIENCE.as_secs() as u32 * 4) };
                address.add(1, u64::from(std::process::id()));
                child_gate.wait();
                // SAFETY: as above.
                unsafe { libc::_exit(0) }
            }
            pid => assert!(pid > 0),
        }
        address.add(0, u64::from(exporter.port()));
        parent_gate.wait();
        false
    });
    wait_until("both processes are there", || address.get(0) > 0 && address.get(1) > 0);
    let child = address.get(1) as i32;
    let address = SocketAddr::from(([127, 0, 0, 1], address.get(0) as u16));
    let (mut idle, mut fresh) = (Client::connect(address), Client::connect(address));
    assert_eq!(idle.get("/metrics").text(), REQUESTS);
    parent.kill();
    idle.wait_for_end();
    fresh.wait_for_end();
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    wait_until_free(address);
    // SAFETY: a plain system call; signal 0 asks whether the process is there.
    assert_eq!(unsafe { libc::kill(child, 0) }, 0, "the child has ended before its time");
    child_gate.open();
}

#[test]
fn a_child_starts_an_exporter_of_its_own() {
    let backend = memory();
    let exporter = serve(&backend);
    let port = SharedNumbers::new(1);
    let mut gate = Gate::new();
    let child = fork(|| {
        let before = open_descriptors();
        let own = serve(&backend);
        counter(&backend, "requests_total").inc(4.0).unwrap();
        port.add(0, u64::from(own.port()));
        gate.wait();
        // The grandchild inherits no socket of either.
        fork(|| open_descriptors() == before).join();
        own.stop();
        wait_until_free(own.address());
        true
    });
    wait_until("the child serves", || port.get(0) > 0);
    let address = SocketAddr::from(([127, 0, 0, 1], port.get(0) as u16));
    assert_ne!(address, exporter.address());
    assert_eq!(scrape(address), REQUESTS.replace('3', "7"));
    assert_eq!(scrape(exporter.address()), REQUESTS);
    gate.open();
    child.join();
    assert_eq!(scrape(exporter.address()), REQUESTS);
}

#[test]
fn an_inherited_handle_does_nothing_in_a_child() {
    let mut exporter = Some(serve(&memory()));
    let address = exporter.as_ref().unwrap().address();
    let mut idle = Client::connect(address);
    assert_eq!(idle.get("/metrics").text(), REQUESTS);
    for stops_first in [true, false] {
        let child = fork(|| {
            let inherited = exporter.take().unwrap();
            if stops_first {
                inherited.stop();
            }
            drop(inherited);
            true
        });
        child.join();
        assert_eq!(idle.get("/metrics").text(), REQUESTS);
        assert_eq!(scrape(address), REQUESTS);
    }
    drop(exporter);
    idle.wait_for_end();
}

#[test]
fn forks_at_any_moment_disturb_neither_clients_nor_children() {
    let server = Server::start();
    let backend = open(&server, "flush_interval_ms=1");
    counter(&backend, "requests_total").inc(3.0).unwrap();
    flush(&backend);
    let exporter = serve(&backend);
    let ends = AtomicBool::new(false);
    let goes_on = || !ends.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let _end = EndOnDrop(&ends);
        for _ in 0..2 {
            scope.spawn(|| {
                while goes_on() {
                    assert_eq!(scrape(exporter.address()), REQUESTS);
                }
            });
        }
        scope.spawn(|| {
            while goes_on() {
                let short = serve(&backend);
                assert_eq!(scrape(short.address()), REQUESTS);
            }
        });
        for _ in 0..40 {
            let child = fork(|| {
                let own = serve(&backend);
                let mut client = Client::connect(own.address());
                let is_served = client.get("/metrics").text() == REQUESTS;
                drop(own);
                client.wait_for_end();
                is_served
            });
            child.join();
        }
    });
    assert_eq!(scrape(exporter.address()), REQUESTS);
}

#[test]
fn a_started_program_inherits_nothing() {
    let exporter = serve(&memory());
    let mut idle = Client::connect(exporter.address());
    assert_eq!(idle.get("/metrics").text(), REQUESTS);
    // `Command` may start the child without fork handlers.
    let output = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("socket:") && !text.contains("anon_inode:"), "{text}");
}

#[test]
fn a_process_that_ends_during_a_scrape_ends_well() {
    let server = Server::start();
    let port = SharedNumbers::new(1);
    let mut gate = Gate::new();
    let child = fork(|| {
        let backend =
            open(&server, "flush_interval_ms=1&collect_timeout=600&socket_timeout=600&shutdown_timeout=1");
        counter(&backend, "requests_total").inc(3.0).unwrap();
        flush(&backend);
        let exporter = serve(&backend);
        port.add(0, u64::from(exporter.port()));
        gate.wait();
        // Like a program that returns from main without closing its backend. Unsent changes are lost.
        // SAFETY: the handlers of this process are the engine's, and those of the C library.
        unsafe { libc::exit(0) }
    });
    wait_until("the child serves", || port.get(0) > 0);
    let address = SocketAddr::from(([127, 0, 0, 1], port.get(0) as u16));
    assert_eq!(scrape(address), REQUESTS);
    server.stop();
    let mut scrapers: Vec<Client> = (0..5).map(|_| Client::connect(address)).collect();
    for scraper in &mut scrapers {
        scraper.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    // By now the exporter has seen the earlier requests.
    assert_eq!(Client::connect(address).get("/-/healthy").status, 200);
    gate.open();
    child.join();
    for mut scraper in scrapers {
        match scraper.read_answer(true) {
            Ok(answer) => assert_eq!(answer.status, 503),
            Err(error) => assert_ne!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    server.go_on();
}

#[test]
fn closing_all_backends_stops_the_exporters() {
    let addresses = SharedNumbers::new(2);
    let mut gate = Gate::new();
    let child = fork(|| {
        let (first, second) = (serve(&memory()), serve(&memory()));
        for (index, exporter) in [&first, &second].into_iter().enumerate() {
            addresses.add(index, u64::from(exporter.port()));
        }
        gate.wait();
        pytheus_backend_rs::ffi::library::backend_close_all();
        wait_until_free(first.address());
        wait_until_free(second.address());
        true
    });
    wait_until("the child serves", || addresses.get(0) > 0 && addresses.get(1) > 0);
    for index in 0..2 {
        assert_eq!(scrape(SocketAddr::from(([127, 0, 0, 1], addresses.get(index) as u16))), REQUESTS);
    }
    gate.open();
    child.join();
}

#[test]
fn an_exporter_without_free_descriptors_serves_again_when_some_are_free() {
    let port = SharedNumbers::new(1);
    let mut gate = Gate::new();
    let child = fork(|| {
        let exporter = serve(&memory());
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY (all): plain system calls on a live struct.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
        let none = libc::rlimit { rlim_cur: 1, ..limit };
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const none) }, 0);
        port.add(0, u64::from(exporter.port()));
        gate.wait();
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        gate.wait();
        drop(exporter);
        true
    });
    wait_until("the child serves", || port.get(0) > 0);
    let address = SocketAddr::from(([127, 0, 0, 1], port.get(0) as u16));
    // The kernel accepts the connection for the exporter.
    let mut waiting = Client::connect(address);
    waiting.send("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(waiting.hears_nothing());
    gate.open();
    assert_eq!(waiting.answer().text(), REQUESTS);
    gate.open();
    child.join();
}
