//! The statistics of a backend (batches, operations, scrapes, pending metrics) as numbers and, with
//! `self_metrics`, as metrics of the same store. Server and faults are real. An idle process does not update
//! its metrics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pytheus_backend_rs::{Backend, ErrorKind, MetricType, Statistics};

use support::proxy::{Direction, Proxy};
use support::*;

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Returns the value of a metric without labels from a scrape.
fn shown(backend: &Backend, name: &str) -> f64 {
    let text = backend.collect_text().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

const SELF_METRICS: [&str; 11] = [
    "pytheus_backend_batches_sent_total",
    "pytheus_backend_batches_resent_total",
    "pytheus_backend_batches_refused_total",
    "pytheus_backend_operations_sent_total",
    "pytheus_backend_batches_replayed_total",
    "pytheus_backend_losses_total",
    "pytheus_backend_scrapes_total",
    "pytheus_backend_scrape_errors_total",
    "pytheus_backend_last_flush_timestamp_seconds",
    "pytheus_backend_metrics_pending",
    "pytheus_backend_metrics_held_back",
];

// As numbers.

#[test]
fn a_confirmed_batch_is_counted_with_its_operations() {
    let server = Server::start();
    let backend = open(&server, "");
    assert_eq!(backend.statistics(), Statistics::default());
    let family = declare(&backend, "seconds", MetricType::Summary, &["path"]);
    let requests = counter(&backend, "requests_total");
    let summaries = ["/a", "/b"].map(|path| family.metric(&[path]).unwrap());
    flush(&backend);
    let before = backend.statistics();
    summaries.iter().for_each(|summary| summary.observe(0.5).unwrap());
    requests.inc(1.0).unwrap();
    flush(&backend);
    let after = backend.statistics();
    // Each summary has a sum and a count, and there is the counter. The summaries share a key, whose changes
    // may come in two batches.
    assert_eq!(after.operations_sent - before.operations_sent, 5);
    assert!((2..=3).contains(&(after.batches_sent - before.batches_sent)), "{before:?} {after:?}");
    assert_eq!((after.batches_resent, after.batches_refused, after.metrics_pending), (0, 0, 0));
}

#[test]
fn the_last_flush_is_the_last_time_nothing_was_pending() {
    let mut server = Server::start();
    let backend = open(&server, "socket_timeout=0.5&connect_timeout=0.5");
    let requests = counter(&backend, "requests_total");
    let began = now();
    requests.inc(1.0).unwrap();
    flush(&backend);
    let first = backend.statistics().last_flush_timestamp;
    // The engine counts in milliseconds.
    assert!(began - 0.001 <= first && first <= now(), "{began} {first}");
    // A flush without changes counts, too.
    wait_until("a flush updates the time", || {
        flush(&backend);
        backend.statistics().last_flush_timestamp > first
    });
    server.kill();
    requests.inc(1.0).unwrap();
    backend.flush(PATIENCE).unwrap_err();
    let without_server = backend.statistics().last_flush_timestamp;
    wait_until("the clock advances", || now() > without_server + 0.002);
    server.run();
    flush_at_last(&backend);
    assert!(backend.statistics().last_flush_timestamp > without_server);
}

#[test]
fn a_batch_whose_reply_is_lost_counts_once_as_sent_and_once_as_resent() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let backend = Backend::open(&proxy.url("flush_interval_ms=1")).unwrap();
    let requests = counter(&backend, "requests_total");
    flush(&backend);
    for round in 1..=3 {
        let before = backend.statistics();
        // The cut is in the middle of the reply, so the server has applied the batch.
        proxy.cut_after(Direction::Reply, 2);
        requests.inc(1.0).unwrap();
        flush_at_last(&backend);
        let after = backend.statistics();
        assert_eq!(proxy.cuts_done(), round);
        assert_eq!(after.batches_resent - before.batches_resent, 1, "{after:?}");
        assert_eq!(after.batches_sent - before.batches_sent, 1, "{after:?}");
        assert_eq!(after.operations_sent - before.operations_sent, 1, "{after:?}");
        assert_eq!(server.value("requests_total"), round as f64);
    }
    assert_eq!(backend.statistics().batches_refused, 0);
}

#[test]
fn a_batch_that_found_no_connection_is_not_counted_as_resent() {
    let mut server = Server::start();
    let backend = open(&server, "flush_interval_ms=1&connect_timeout=0.5");
    let requests = counter(&backend, "requests_total");
    flush(&backend);
    server.kill();
    requests.inc(1.0).unwrap();
    // The first batch goes to a broken connection. After that there is no connection.
    for _ in 0..5 {
        backend.flush(PATIENCE).unwrap_err();
    }
    assert!(backend.statistics().batches_resent <= 1, "{:?}", backend.statistics());
    server.run();
    flush_at_last(&backend);
    assert!(backend.statistics().batches_resent <= 2, "{:?}", backend.statistics());
    assert_eq!(server.value("requests_total"), 1.0);
}

#[test]
fn a_refused_batch_is_counted_each_time_and_stays_pending() {
    let server = Server::start();
    let backend = open(&server, "");
    server.run_words::<()>("RPUSH requests_total x");
    let requests = counter(&backend, "requests_total");
    requests.inc(1.0).unwrap();
    let error = backend.flush(PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    let refused = backend.statistics().batches_refused;
    assert!(refused > 0);
    backend.flush(PATIENCE).unwrap_err();
    let statistics = backend.statistics();
    assert!(statistics.batches_refused > refused);
    assert_eq!((statistics.batches_sent, statistics.batches_resent), (0, 0));
    assert!(statistics.metrics_pending > 0);
    server.run_words::<()>("DEL requests_total");
    flush_at_last(&backend);
    let statistics = backend.statistics();
    assert!(statistics.batches_sent > 0);
    assert_eq!(statistics.metrics_pending, 0);
}

#[test]
fn metrics_are_pending_while_the_server_is_stalled() {
    let server = Server::start();
    let backend = open(&server, "socket_timeout=0.2&connect_timeout=0.2&collect_timeout=0.5");
    let requests = counter(&backend, "requests_total");
    let errors = counter(&backend, "errors_total");
    flush(&backend);
    assert_eq!(backend.statistics().metrics_pending, 0);
    server.stop();
    requests.inc(1.0).unwrap();
    assert!(backend.statistics().metrics_pending > 0, "pending in the process or in flight");
    backend.flush(PATIENCE).unwrap_err();
    assert_eq!(backend.statistics().metrics_pending, 1);
    errors.inc(1.0).unwrap();
    backend.flush(PATIENCE).unwrap_err();
    assert_eq!(backend.statistics().metrics_pending, 2);
    server.go_on();
    flush_at_last(&backend);
    assert_eq!(backend.statistics().metrics_pending, 0);
}

#[test]
fn scrapes_and_their_errors_are_counted() {
    let server = Server::start();
    let backend = open(&server, "socket_timeout=0.2&connect_timeout=0.2&collect_timeout=0.3");
    backend.collect(None).unwrap();
    backend.collect(Some(&[])).unwrap();
    server.stop();
    backend.collect_text().unwrap_err();
    server.go_on();
    let statistics = backend.statistics();
    assert_eq!((statistics.scrapes, statistics.scrape_errors), (3, 1));
}

#[test]
fn stores_that_send_nothing_count_scrapes_only() {
    let folder = std::env::temp_dir().join(format!("pytheus-statistics-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for url in ["memory:", &format!("shm://{}/plain", folder.display())] {
        let backend = Backend::open(url).unwrap();
        counter(&backend, "requests_total").inc(1.0).unwrap();
        flush(&backend);
        backend.collect(None).unwrap();
        backend.collect_text().unwrap();
        let mut statistics = backend.statistics();
        assert_eq!(statistics.scrapes, 2);
        statistics.scrapes = 0;
        assert_eq!(statistics, Statistics::default(), "{url}");
        assert!(!backend.collect_text().unwrap().contains("pytheus_backend_"));
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_forked_child_begins_at_zero() {
    let server = Server::start();
    let backend = open(&server, "self_metrics=true");
    let requests = counter(&backend, "requests_total");
    requests.inc(1.0).unwrap();
    backend.collect(None).unwrap();
    let scrapes = |backend: &Backend| backend.statistics().scrapes;
    let child = process::fork(|| {
        let at_first = backend.statistics();
        requests.inc(1.0).unwrap();
        backend.collect(None).unwrap();
        let later = backend.statistics();
        at_first == Statistics::default() && later.batches_sent > 0 && scrapes(&backend) == 1
    });
    child.join();
    assert_eq!(scrapes(&backend), 1);
    // One scrape of the parent, one of the child, and this one.
    assert_eq!(shown(&backend, "pytheus_backend_scrapes_total"), 3.0);
}

// As metrics.

#[test]
fn the_metrics_are_in_each_scrape_of_each_store() {
    let server = Server::start();
    let folder = std::env::temp_dir().join(format!("pytheus-self-metrics-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let urls = [
        "memory:?self_metrics=true".to_owned(),
        format!("shm://{}/shown?self_metrics=true", folder.display()),
        server.url("self_metrics=true"),
    ];
    for url in urls {
        let backend = Backend::open(&url).unwrap();
        let text = backend.collect_text().unwrap();
        for name in SELF_METRICS {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{url}: {text}");
            assert!(text.contains(&format!("\n{name} ")), "{url}: {text}");
        }
        assert_eq!(shown(&backend, "pytheus_backend_scrapes_total"), 2.0, "{url}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn two_processes_add_up() {
    let server = Server::start();
    let backend = open(&server, "self_metrics=true");
    let requests = counter(&backend, "requests_total");
    backend.collect(None).unwrap();
    let child = process::fork(|| {
        requests.inc(1.0).unwrap();
        flush(&backend);
        for _ in 0..4 {
            backend.collect(None).unwrap();
        }
        // The batches of the last scrape are counted at the end.
        backend.close().is_ok()
    });
    child.join();
    assert_eq!(shown(&backend, "pytheus_backend_scrapes_total"), 6.0);
    let own = backend.statistics().batches_sent as f64;
    assert!(shown(&backend, "pytheus_backend_batches_sent_total") > own, "the child's batches are missing");
}

#[test]
fn an_unscraped_program_updates_its_metrics_once_a_second() {
    let server = Server::start();
    let backend = open(&server, "self_metrics=true");
    let requests = counter(&backend, "requests_total");
    let load = Load::start(&requests, 1);
    wait_until("the metric is updated", || server.value("pytheus_backend_batches_sent_total") > 0.0);
    load.end();
}

#[test]
fn an_idle_process_falls_silent() {
    const SILENCE: Duration = Duration::from_millis(2500);
    let server = Server::start();
    let backend = open(&server, "self_metrics=true&flush_interval_ms=1");
    let requests = counter(&backend, "requests_total");
    let load = Load::start(&requests, 1);
    wait_until("the metrics are updated without a scrape", || {
        server.value("pytheus_backend_batches_sent_total") > 0.0
    });
    load.end();
    for _ in 0..3 {
        backend.collect(None).unwrap();
    }
    // Longer than the update interval. Batches that cause batches would never end.
    let mut seen = (server.calls_of("evalsha"), Instant::now());
    wait_until("no batch is sent for a while", || {
        std::thread::sleep(Duration::from_millis(20));
        let calls = server.calls_of("evalsha");
        if calls != seen.0 {
            seen = (calls, Instant::now());
        }
        seen.1.elapsed() > SILENCE
    });
}

#[test]
fn a_scrape_error_is_shown_when_the_server_is_back() {
    let server = Server::start();
    let options = "self_metrics=true&socket_timeout=0.2&connect_timeout=0.2&collect_timeout=0.3";
    let backend = open(&server, options);
    flush(&backend);
    server.stop();
    backend.collect_text().unwrap_err();
    server.go_on();
    flush_at_last(&backend);
    assert_eq!(server.value("pytheus_backend_scrape_errors_total"), 1.0);
    assert!(server.value("pytheus_backend_last_flush_timestamp_seconds") > 0.0);
}

#[test]
fn closing_updates_the_metrics_a_last_time() {
    let server = Server::start();
    let backend = open(&server, "self_metrics=true");
    counter(&backend, "requests_total").inc(1.0).unwrap();
    flush(&backend);
    let sent = backend.statistics().batches_sent;
    backend.close().unwrap();
    assert_eq!(server.value("pytheus_backend_batches_sent_total"), sent as f64);
}
