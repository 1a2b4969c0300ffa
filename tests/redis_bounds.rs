//! What the Redis store costs at most when a server is away, refuses, or never stops answering: memory is
//! bounded by the metrics that live, the log by a number of records, and what can never be sent costs its own
//! series only.
//!
//! Memory is measured in forked children, because the tests of this file share their process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use log::Level;
use pytheus_backend_rs::{Backend, Definition, Lifetime, MetricType};

use support::process::fork;
use support::proxy::Proxy;
use support::*;

const MEBIBYTE: usize = 1 << 20;

/// How many bytes of this process are in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Makes and clears label sets in several rounds. Returns how much memory the later rounds have taken.
fn churn(backend: &Backend, clear: impl Fn(&pytheus_backend_rs::MetricFamily, &str)) -> usize {
    let family = declare(backend, "requests_total", MetricType::Counter, &["n"]);
    let mut before = 0;
    for round in 0..6 {
        for n in 0..10_000 {
            let label = format!("{round}-{n}");
            family.metric(&[&label]).unwrap().inc(1.0).unwrap();
            clear(&family, &label);
        }
        family.clear().unwrap();
        if round == 1 {
            // By now the thread that sends has met the silence of the server, and memory has its size.
            std::thread::sleep(Duration::from_millis(300));
            before = resident();
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    resident().saturating_sub(before)
}

#[test]
fn memory_does_not_grow_with_label_sets_that_were_cleared_while_the_server_is_away() {
    let mut server = Server::start();
    let backend = open(&server, "shutdown_timeout=0.1");
    counter(&backend, "other_total").inc(1.0).unwrap();
    flush(&backend);
    server.stop();
    for removes_each in [false, true] {
        let child = fork(|| {
            let grown = churn(&backend, |family, label| {
                if removes_each {
                    family.remove(&[label]).unwrap();
                }
            });
            assert!(grown < 15 * MEBIBYTE, "stalled, {removes_each}: {} KiB for 40,000 sets", grown / 1024);
            true
        });
        child.join();
    }
    server.go_on();
    server.kill();
    let child = fork(|| {
        let grown = churn(&backend, |_, _| {});
        assert!(grown < 15 * MEBIBYTE, "gone: {} KiB for 40,000 sets", grown / 1024);
        true
    });
    child.join();
}

#[test]
fn families_that_live_for_a_moment_leave_nothing_behind() {
    let mut server = Server::start();
    let backend = open(&server, "shutdown_timeout=0.1");
    flush(&backend);
    server.kill();
    let declare_many = |from: u32| {
        for n in from..from + 5_000 {
            let name = format!("family_{n}");
            let definition = Definition::new(&name, "Some help.", MetricType::Counter, &[], &[]).unwrap();
            backend.declare(definition, &[], Lifetime::Handle).unwrap();
        }
    };
    let child = fork(|| {
        declare_many(0);
        std::thread::sleep(Duration::from_millis(200));
        let before = resident();
        (1..10).for_each(|round| declare_many(round * 5_000));
        std::thread::sleep(Duration::from_millis(200));
        let grown = resident().saturating_sub(before);
        assert!(grown < 20 * MEBIBYTE, "{} KiB for 45,000 families", grown / 1024);
        true
    });
    child.join();
}

#[test]
fn a_label_that_the_server_refuses_costs_its_own_series_only() {
    remember_log();
    let server = Server::start_with(&["--proto-max-bulk-len", "1048576"]);
    let backend = open(&server, "");
    let family = declare(&backend, "refused_labels_total", MetricType::Counter, &["path"]);
    let long = "x".repeat(2 * MEBIBYTE);
    let huge = family.metric(&[&long]).unwrap();
    for _ in 0..3 {
        huge.inc(1.0).unwrap();
        family.metric(&["/"]).unwrap().inc(1.0).unwrap();
        counter(&backend, "other_total").inc(1.0).unwrap();
        flush(&backend);
    }
    assert_eq!(server.field("refused_labels_total", r#"{"path":"/"}"#), 3.0);
    assert_eq!(server.value("other_total"), 3.0);
    assert_eq!(times_lost(server.port()), 0);
    let records = log_records(Level::Error, &["refused_labels_total", "this series is not stored"]);
    assert_eq!(records.len(), 1, "one record");
    assert!(records[0].contains(r#"{"path":"xxxx"#) && records[0].len() < 500, "{}", records[0]);
    // The longest that is stored is accepted by such a server.
    let longest = "y".repeat(MEBIBYTE - 100);
    family.metric(&[&longest]).unwrap().inc(1.0).unwrap();
    flush(&backend);
    assert_eq!(server.run_words::<u64>("HLEN refused_labels_total"), 2);
    let help = "z".repeat(2 * MEBIBYTE);
    let definition = Definition::new("helpful", &help, MetricType::Counter, &[], &[]).unwrap();
    let error = backend.declare(definition, &[], Lifetime::Backend).unwrap_err();
    assert!(error.message().contains("\"helpful\"") && error.message().len() < 500, "{error}");
}

#[test]
fn many_long_labels_are_sent_in_small_batches() {
    let server = Server::start();
    let backend = open(&server, "flush_interval_ms=3600000");
    let family = declare(&backend, "requests_total", MetricType::Counter, &["path"]);
    for n in 0..60 {
        family.metric(&[&format!("{n}-{}", "x".repeat(MEBIBYTE / 4))]).unwrap().inc(1.0).unwrap();
    }
    flush(&backend);
    assert_eq!(server.run_words::<u64>("HLEN requests_total"), 60);
    assert!(
        backend.statistics().batches_sent >= 15,
        "15 MiB in {} batches",
        backend.statistics().batches_sent
    );
}

/// Answers as a Redis server until the first command that is neither a login nor the start of a store, and
/// then with `bytes` again and again.
fn hostile(listener: &TcpListener, bytes: &'static [u8]) {
    let serve = |mut client: TcpStream| {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = match client.read(&mut buffer) {
                Ok(count @ 1..) => count,
                _ => return,
            };
            let request = String::from_utf8_lossy(&buffer[..count]).into_owned();
            let mut answer = String::new();
            for (word, reply) in [
                ("PING", "+PONG\r\n"),
                ("SETNAME", "+OK\r\n"),
                ("INFO", "$-1\r\n"),
                ("LOAD", "+x\r\n"),
                ("EVALSHA", "*1\r\n:0\r\n"),
            ] {
                let times = request.matches(&format!("\r\n{word}\r\n")).count();
                answer += &reply.repeat(times);
            }
            if answer.is_empty() || request.contains("\r\nHSET\r\n") {
                while client.write_all(bytes).is_ok() {}
                return;
            }
            client.write_all(answer.as_bytes()).unwrap();
        }
    };
    for client in listener.incoming().flatten() {
        std::thread::spawn(move || serve(client));
    }
}

#[test]
fn a_server_that_never_stops_answering_takes_a_bounded_amount_of_memory() {
    let endless_array: &[u8] =
        Box::leak(b"*2147483647\r\n".iter().chain(&b":1\r\n".repeat(20_000)).copied().collect());
    let endless_text: &[u8] = Box::leak(b"$2147483647\r\n".iter().chain(&[b'x'; 80_000]).copied().collect());
    for bytes in [endless_array, endless_text] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || hostile(&listener, bytes));
        let options = "shutdown_timeout=0.1&socket_timeout=20&collect_timeout=20";
        let backend = Backend::open(&format!("redis://127.0.0.1:{port}/?{options}")).unwrap();
        let child = fork(|| {
            let before = resident();
            let metric = counter(&backend, "requests_total");
            metric.inc(1.0).unwrap();
            let began = Instant::now();
            let message = backend.flush(PATIENCE).unwrap_err().message().to_owned();
            let grown = resident().saturating_sub(before);
            assert!(message.contains("too large"), "{message}");
            assert!(began.elapsed() < PATIENCE);
            assert!(grown < 100 * MEBIBYTE, "{} KiB", grown / 1024);
            true
        });
        child.join();
    }
}

#[test]
fn a_reply_with_many_remarks_writes_few_log_records() {
    remember_log();
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let backend = Backend::open(&proxy.url("flush_interval_ms=3600000")).unwrap();
    let metric = counter(&backend, "flooded_total");
    flush(&backend);
    let mut reply = b"*20001\r\n:1\r\n".to_vec();
    for n in 0..20_000 {
        reply.extend(format!("$7\r\nx {n:05}\r\n").bytes());
    }
    proxy.answer(&reply);
    metric.inc(1.0).unwrap();
    flush(&backend);
    let records = log_records(Level::Error, &["\"flooded_total\""]);
    assert!((2..=10).contains(&records.len()), "{} records", records.len());
    assert!(records.iter().any(|record| record.contains("19995 more")), "{records:?}");
}

#[test]
fn pending_changes_and_the_loss_at_the_end_are_true_while_the_server_hangs() {
    let server = Server::start();
    let backend = open(&server, "shutdown_timeout=0.3&socket_timeout=20&connect_timeout=20");
    let family = declare(&backend, "requests_total", MetricType::Counter, &["n"]);
    let metrics: Vec<_> = (0..20).map(|n| family.metric(&[&n.to_string()]).unwrap()).collect();
    flush(&backend);
    server.stop();
    metrics[0].inc(1.0).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    // The thread that sends hangs with the first change. These wait.
    metrics[1..10].iter().for_each(|metric| metric.inc(1.0).unwrap());
    metrics[10..15].iter().for_each(|metric| family.remove(&[&metric.labels()["n"]]).unwrap());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(backend.statistics().metrics_pending, 10);
    let message = backend.close().unwrap_err().message().to_owned();
    assert!(message.starts_with("15 changes"), "{message}");
    server.go_on();
}
