//! A scrape does not read the families again that have not changed since the last one. It shows every change, also
//! those of other programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use pytheus_backend_rs::MetricType;

use support::*;

/// Returns how often the server was asked for the fields of a hash.
fn reads(server: &Server) -> u64 {
    server.calls_of("hgetall")
}

#[test]
fn only_families_that_have_changed_are_read_again() {
    let server = Server::start();
    let (writer, reader) = (open(&server, ""), open(&server, ""));
    let of = |backend, name| declare(backend, name, MetricType::Counter, &["a"]).metric(&["x"]).unwrap();
    for name in ["one", "two", "three"] {
        of(&writer, name).inc(1.0).unwrap();
    }
    flush(&writer);
    // The first scrapes also announce the definitions.
    reader.collect_text().unwrap();
    reader.collect_text().unwrap();
    let before = reads(&server);
    for _ in 0..5 {
        assert_eq!(lines(&reader, "two"), ["two{a=\"x\"} 1"]);
    }
    // One of the reads is that of the definitions.
    assert_eq!(reads(&server) - before, 5, "nothing has changed");
    of(&writer, "two").inc(1.0).unwrap();
    flush(&writer);
    assert_eq!(lines(&reader, "two"), ["two{a=\"x\"} 2"]);
    assert_eq!(reads(&server) - before, 7, "one family has changed");
    let own = of(&reader, "three");
    for count in 2..50 {
        own.inc(1.0).unwrap();
        assert_eq!(
            lines(&reader, "three"),
            [format!("three{{a=\"x\"}} {count}")],
            "what this process counted"
        );
    }
}

#[test]
fn changes_of_other_programs_are_seen() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "requests_total", MetricType::Counter, &["a"]);
    family.metric(&["x"]).unwrap().inc(1.0).unwrap();
    let plain = counter(&backend, "plain_total");
    plain.inc(1.0).unwrap();
    let shown = |name| lines(&backend, name);
    assert_eq!(shown("requests_total"), ["requests_total{a=\"x\"} 1"]);
    let field = "{\"a\":\"x\"}";
    for count in 2..20 {
        server.run_command::<String>(&["HINCRBYFLOAT", "requests_total", field, "1"]);
        server.run_command::<String>(&["INCRBYFLOAT", "plain_total", "1"]);
        assert_eq!(shown("requests_total"), [format!("requests_total{{a=\"x\"}} {count}")]);
        assert_eq!(shown("plain_total"), [format!("plain_total {count}")]);
    }
    server.run_command::<u64>(&["HSET", "requests_total", "{\"a\":\"y\"}", "7"]);
    assert_eq!(shown("requests_total"), ["requests_total{a=\"x\"} 19", "requests_total{a=\"y\"} 7"]);
    server.run_command::<u64>(&["HDEL", "requests_total", "{\"a\":\"y\"}"]);
    assert_eq!(shown("requests_total"), ["requests_total{a=\"x\"} 19"]);
    server.run_command::<u64>(&["DEL", "requests_total"]);
    assert_eq!(shown("requests_total"), ["requests_total{a=\"x\"} 0"], "this process knows the series");
    server.run_words::<()>("FLUSHALL");
    assert_eq!(shown("plain_total"), ["plain_total 0"]);
}

#[test]
fn a_change_in_the_middle_of_a_scrape_is_seen_by_a_later_one() {
    const FAMILIES: usize = 400;
    let server = Server::start();
    let (writer, reader) = (open(&server, ""), open(&server, ""));
    let name = |number: usize| format!("requests_{number}_total");
    for number in 0..FAMILIES {
        let family = declare(&writer, &name(number), MetricType::Counter, &["a"]);
        family.metric(&["x"]).unwrap().inc(1.0).unwrap();
    }
    flush(&writer);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = server.connection();
            for change in 0..20_000 {
                let mut command = redis::cmd("HINCRBYFLOAT");
                command.arg(name(change * 7 % FAMILIES)).arg("{\"a\":\"x\"}").arg(1);
                command.query::<f64>(&mut connection).unwrap();
            }
            is_done.store(true, Ordering::Relaxed);
        });
        while !is_done.load(Ordering::Relaxed) {
            reader.collect_text().unwrap();
        }
    });
    let text = reader.collect_text().unwrap();
    for number in 0..FAMILIES {
        let line = format!("{}{{a=\"x\"}} {}\n", name(number), 1 + 20_000 / FAMILIES);
        assert!(text.contains(&line), "{line}");
    }
}

#[test]
fn a_user_who_may_not_track_reads_everything() {
    let server = Server::start();
    server.run_words::<()>("ACL SETUSER reader on nopass ~* +@all -client");
    let backend = open(&server, "username=reader&password=x");
    let requests = counter(&backend, "requests_total");
    requests.inc(1.0).unwrap();
    // The first scrape also finds out that the definitions are on the server.
    backend.collect_text().unwrap();
    let before = server.calls_of("get");
    for _ in 0..3 {
        assert_eq!(lines(&backend, "requests_total").len(), 1);
    }
    assert_eq!(server.calls_of("get") - before, 3, "each scrape reads the family");
}

#[test]
fn a_server_that_was_restarted_is_read_again() {
    let mut server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "size", MetricType::Gauge, &["a"]);
    let size = family.metric(&["x"]).unwrap();
    size.set(3.0).unwrap();
    assert_eq!(lines(&backend, "size"), ["size{a=\"x\"} 3"]);
    server.lose_data();
    wait_until("the server is back", || backend.collect_text().is_ok());
    assert_eq!(lines(&backend, "size"), ["size{a=\"x\"} 3"], "the process restores its gauge");
    server.run_command::<u64>(&["HSET", "size", "{\"a\":\"x\"}", "4"]);
    assert_eq!(lines(&backend, "size"), ["size{a=\"x\"} 4"]);
}
