//! What is checked of a Redis server when a store is opened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::{Duration, Instant};

use log::Level;
use pytheus_backend_rs::{Backend, ErrorKind};
use support::{Server, counter, log_records, open, remember_log};

#[test]
fn a_replica_is_refused_unless_the_program_only_reads() {
    let master = Server::start();
    let replica = Server::start();
    replica.run_words::<()>(&format!("REPLICAOF 127.0.0.1 {}", master.port()));
    let error = Backend::open(&replica.url("")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    for part in [format!("127.0.0.1:{}", replica.port()), format!("a replica of 127.0.0.1:{}", master.port())]
    {
        assert!(error.message().contains(&part), "{error}");
    }
    Backend::open(&replica.url("read_only=true")).unwrap().collect_text().unwrap();
}

#[test]
fn a_server_that_may_evict_families_is_named_in_the_log() {
    remember_log();
    let server = Server::start();
    let warnings = || log_records(Level::Warn, &["evict", &format!(":{} ", server.port())]);
    server.run_words::<()>("CONFIG SET maxmemory-policy allkeys-lru");
    open(&server, "");
    assert_eq!(warnings().len(), 0, "without a bound nothing is evicted: {:?}", warnings());
    server.run_words::<()>("CONFIG SET maxmemory 1gb");
    open(&server, "");
    assert_eq!(warnings().len(), 1);
    assert!(warnings()[0].contains("maxmemory-policy allkeys-lru"), "{:?}", warnings());
    server.run_words::<()>("CONFIG SET maxmemory-policy noeviction");
    open(&server, "");
    assert_eq!(warnings().len(), 1);
}

#[test]
fn a_process_that_always_has_something_to_send_makes_fewer_batches() {
    let server = Server::start();
    let steady = open(&server, "flush_interval_ms=1&max_flush_interval_ms=1");
    let adaptive = open(&server, "flush_interval_ms=1");
    let (one, other) = (counter(&steady, "steady_total"), counter(&adaptive, "adaptive_total"));
    let give_up = Instant::now() + Duration::from_secs(60);
    while steady.statistics().batches_sent < 300 && Instant::now() < give_up {
        one.inc(1.0).unwrap();
        other.inc(1.0).unwrap();
    }
    let (often, seldom) = (steady.statistics().batches_sent, adaptive.statistics().batches_sent);
    assert!(often >= 300 && seldom >= 1 && seldom * 3 < often, "{often} and {seldom} batches");
}
