//! The Redis store when the server or the network fails: no count is lost or doubled, no increment fails or
//! waits, and each read ends in time, with values or with an error. The server and its faults are real, and a
//! proxy breaks connections at chosen bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use log::Level;
use pytheus_backend_rs::{Backend, ErrorKind, MetricType};

use support::process::{allow_threads, forbid_threads, fork};
use support::proxy::{Direction, Proxy};
use support::*;

// Opening.

#[test]
fn opening_without_a_server_names_host_and_port() {
    let port = free_port();
    for host in ["127.0.0.1", "localhost"] {
        let error = Backend::open(&format!("redis://{host}:{port}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains(&format!("{host}:{port}")), "{error}");
    }
    let error = Backend::open("redis+unix:///nowhere/redis.sock").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("/nowhere/redis.sock"), "{error}");
}

#[test]
fn opening_with_a_stalled_server_ends_in_time() {
    let server = Server::start();
    server.stop();
    let began = Instant::now();
    let error = Backend::open(&server.url("connect_timeout=0.3")).unwrap_err();
    assert!(is_out_of_reach(&error), "{error}");
    assert!(error.message().contains(&format!(":{}", server.port())), "{error}");
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn opening_a_unix_socket_with_a_full_backlog_ends_in_time() {
    let path = std::env::temp_dir().join(format!("pytheus-test-backlog-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let address = socket2::SockAddr::unix(&path).unwrap();
    let mut waiting = Vec::new();
    // Fills the backlog of the socket, so that the next client blocks.
    loop {
        let client = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        if client.connect(&address).is_err() {
            break;
        }
        waiting.push(client);
    }
    let began = Instant::now();
    let url = format!("redis+unix://{}?connect_timeout=0.3", path.display());
    let error = Backend::open(&url).unwrap_err();
    assert!(began.elapsed() < PATIENCE);
    std::fs::remove_file(&path).unwrap();
    assert!(is_out_of_reach(&error), "{error}");
    assert!(error.message().contains(path.to_str().unwrap()), "{error}");
    assert!(!waiting.is_empty());
    drop(listener);
}

#[test]
fn a_server_that_is_not_required_may_start_later() {
    remember_log();
    let mut server = Server::not_started(&[]);
    let backend = open(&server, "required=false");
    let requests = counter(&backend, "requests_total");
    requests.inc(3.0).unwrap();
    assert_eq!(backend.collect(None).unwrap_err().kind(), ErrorKind::Unavailable);
    requests.inc(4.0).unwrap();
    server.run();
    wait_until("the counts arrive without a flush", || server.value("requests_total") == 7.0);
    flush(&backend);
    assert_eq!((times_lost(server.port()), times_back(server.port())), (1, 1));
}

#[test]
fn a_refused_login_is_an_error_without_the_password() {
    remember_log();
    let server = Server::start_with(&["--requirepass", "right"]);
    let address = format!("127.0.0.1:{}", server.port());
    for url in [
        format!("redis://:wr0ng@{address}"),
        format!("redis://someb0dy:wr0ng@{address}"),
        format!("redis://{address}?password=wr0ng"),
        format!("redis://{address}"),
    ] {
        let error = Backend::open(&url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains(&address), "{error}");
        assert!(error.message().contains("WRONGPASS") || error.message().contains("NOAUTH"), "{error}");
        assert!(!format!("{error} {error:?}").contains("wr0ng"), "{error}");
    }
    let waiting = Backend::open(&format!("redis://:wr0ng@{address}?required=false")).unwrap();
    counter(&waiting, "requests_total").inc(1.0).unwrap();
    let error = waiting.flush(PATIENCE).unwrap_err();
    assert!(!format!("{error:?}").contains("wr0ng"), "{error}");
    assert_eq!(times_lost(server.port()), 1);
    for level in [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace] {
        assert_eq!(log_records(level, &["wr0ng"]), [""; 0]);
    }
    let backend = Backend::open(&format!("redis://:right@{address}")).unwrap();
    assert_eq!(counter(&backend, "requests_total").get().unwrap(), 0.0);
}

// Connections that break.

#[test]
fn killed_connections_under_load_neither_lose_nor_double_counts() {
    let server = Server::start();
    let backend = open(&server, "flush_interval_ms=1");
    let requests = counter(&backend, "requests_total");
    let load = Load::start(&requests, 3);
    let mut killed = 0;
    for _ in 0..10 {
        load.wait_for(2_000);
        killed += server.run_words::<u64>("CLIENT KILL TYPE normal");
        // The reader's connections are killed, too.
        backend.collect(None).unwrap();
    }
    let total = load.end();
    flush(&backend);
    assert!(killed >= 10, "{killed} connections were killed");
    assert_eq!(server.value("requests_total"), total);
    assert_eq!(requests.get().unwrap(), total);
}

#[test]
fn a_stopped_server_under_load_neither_loses_nor_doubles_counts() {
    remember_log();
    let server = Server::start();
    let backend = open_impatient(&server);
    let requests = counter(&backend, "requests_total");
    let load = Load::start(&requests, 3);
    for round in 1..=2 {
        load.wait_for(5_000);
        server.stop();
        // By then a batch timed out and was sent again.
        wait_until("the stop is noticed", || times_lost(server.port()) == round);
        load.wait_for(5_000);
        server.go_on();
        wait_until("the store is back", || times_back(server.port()) == round);
    }
    let total = load.end();
    flush(&backend);
    assert_eq!(server.value("requests_total"), total);
}

#[test]
fn a_restarted_server_gets_the_counts_made_while_it_was_away() {
    remember_log();
    let mut server = Server::start();
    let backend = open(&server, "collect_timeout=1");
    let requests = counter(&backend, "requests_total");
    requests.inc(5.0).unwrap();
    flush(&backend);
    server.kill();
    for _ in 0..100_000 {
        requests.inc(1.0).unwrap();
    }
    for _ in 0..5 {
        let began = Instant::now();
        let error = backend.collect(None).unwrap_err();
        assert!(is_out_of_reach(&error), "{error}");
        assert!(error.message().contains(&format!(":{}", server.port())), "{error}");
        assert!(is_out_of_reach(&requests.get().unwrap_err()));
        assert!(is_out_of_reach(&backend.flush(Duration::from_secs(1)).unwrap_err()));
        assert!(began.elapsed() < PATIENCE);
    }
    server.run();
    wait_until("the counts arrive without a flush", || server.value("requests_total") == 100_000.0);
    wait_until("the log says so", || times_back(server.port()) == 1);
    assert_eq!(times_lost(server.port()), 1, "one record for any number of attempts");
    assert_eq!(backend.collect_text().unwrap().lines().last(), Some("requests_total 100000"));
}

#[test]
fn a_stopped_server_is_an_error_within_the_deadline_of_a_scrape() {
    let server = Server::start();
    // Much shorter than the socket timeout.
    let backend = open(&server, "collect_timeout=0.3&socket_timeout=100&shutdown_timeout=0.2");
    let requests = counter(&backend, "requests_total");
    flush(&backend);
    server.stop();
    requests.inc(1.0).unwrap();
    let began = Instant::now();
    assert_eq!(backend.collect(None).unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(requests.get().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(backend.flush(Duration::from_millis(100)).unwrap_err().kind(), ErrorKind::Timeout);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    server.go_on();
    flush(&backend);
    assert_eq!(requests.get().unwrap(), 1.0, "the failed scrape loses nothing");
}

#[test]
fn a_batch_that_is_cut_at_any_byte_is_counted_once() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let backend = Backend::open(&proxy.url("flush_interval_ms=3600000")).unwrap();
    let requests = counter(&backend, "requests_total");
    let family = declare(&backend, "time", MetricType::Summary, &["a"]);
    let (time, level) = (family.metric(&["x"]).unwrap(), gauge(&backend, "level"));
    flush(&backend);
    let mut count = 0.0;
    let mut change = || {
        count += 1.0;
        requests.inc(1.0).unwrap();
        time.observe(2.0).unwrap();
        // A batch that is applied twice shows, because the addition follows the set.
        level.set(10.0).unwrap();
        flush(&backend);
        level.inc(1.0).unwrap();
        count
    };
    let check = |count: f64| {
        assert_eq!(server.value("requests_total"), count);
        assert_eq!(server.field("time", r#"{"a":"x"}#count"#), count);
        assert_eq!(server.field("time", r#"{"a":"x"}#sum"#), 2.0 * count);
        assert_eq!(server.value("level"), 11.0);
    };
    for direction in [Direction::Request, Direction::Reply] {
        // The sizes of a batch and of its reply.
        let count = change();
        requests.inc(0.0).unwrap();
        let before = proxy.passed(direction);
        flush(&backend);
        let length = proxy.passed(direction) - before;
        check(count);
        assert!(length >= 8, "{length} bytes");
        let mut position = 0;
        while position < length {
            let count = change();
            let cuts = proxy.cuts_done();
            proxy.cut_after(direction, position);
            flush(&backend);
            // Batches of a round differ by some bytes, so the cut may lie after the last one's end.
            proxy.forget_cuts();
            assert!(proxy.cuts_done() > cuts || position + 8 >= length, "no cut at {position} of {length}");
            check(count);
            position += 1;
        }
    }
}

#[test]
fn the_first_batches_of_a_backend_may_be_cut_too() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    // Cuts definitions, NOSCRIPT, SCRIPT LOAD and the login after every 23rd byte.
    for direction in [Direction::Request, Direction::Reply] {
        for position in (0..2_000).step_by(23) {
            server.run_words::<()>("FLUSHALL");
            server.run_words::<()>("SCRIPT FLUSH");
            let cuts = proxy.cuts_done();
            let backend = Backend::open(&proxy.url("required=false&client_name=some&db=1")).unwrap();
            proxy.cut_after(direction, position);
            let requests = counter(&backend, "requests_total");
            requests.inc(3.0).unwrap();
            flush_at_last(&backend);
            // The cut may hit the reader's connection instead.
            let mut read = None;
            wait_until("the value can be read", || {
                read = requests.get().ok();
                read.is_some()
            });
            assert_eq!(read, Some(3.0), "cut at {position}");
            backend.close().unwrap();
            proxy.forget_cuts();
            if proxy.cuts_done() == cuts {
                break;
            }
        }
    }
    assert!(proxy.cuts_done() > 30);
}

#[test]
fn a_batch_that_is_cut_again_and_again_is_counted_once() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let backend = Backend::open(&proxy.url("flush_interval_ms=1")).unwrap();
    let requests = counter(&backend, "requests_total");
    flush(&backend);
    let before = proxy.cuts_done();
    for position in [100, 0, 153] {
        proxy.cut_after(Direction::Request, position);
        proxy.cut_after(Direction::Reply, position % 8);
    }
    let load = Load::start(&requests, 2);
    wait_until("all cuts are made", || proxy.cuts_done() == before + 6);
    let total = load.end();
    flush_at_last(&backend);
    assert_eq!(server.value("requests_total"), total);
}

#[test]
fn a_batch_whose_reply_is_lost_is_sent_again_and_counted_once() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let backend = Backend::open(&proxy.url("socket_timeout=0.2&flush_interval_ms=1")).unwrap();
    let requests = counter(&backend, "requests_total");
    flush(&backend);
    for round in 1..=3 {
        let (batches, swallowed) = (server.calls_of("evalsha"), proxy.held_back());
        proxy.swallow_reply();
        requests.inc(10.0).unwrap();
        flush(&backend);
        assert!(proxy.held_back() > swallowed, "a reply was lost");
        assert_eq!(server.calls_of("evalsha"), batches + 2, "it was sent twice");
        assert_eq!(server.value("requests_total"), 10.0 * f64::from(round));
    }
    // Counts made while the reply is missing form another batch.
    proxy.swallow_reply();
    requests.inc(1.0).unwrap();
    let swallowed = proxy.held_back();
    wait_until("the reply is lost", || proxy.held_back() > swallowed);
    requests.inc(1.0).unwrap();
    flush(&backend);
    assert_eq!(server.value("requests_total"), 32.0);
}

#[test]
fn a_late_batch_does_not_overwrite_a_later_one() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let backend =
        Backend::open(&proxy.url("socket_timeout=0.2&connect_timeout=0.2&flush_interval_ms=1")).unwrap();
    let level = gauge(&backend, "level");
    flush(&backend);
    // The request stays in the network until long after its sender gave up.
    proxy.hold(Direction::Request);
    level.set(1.0).unwrap();
    wait_until("the batch is on its way", || proxy.held_back() > 0);
    wait_until("the sender gives up", || proxy.connections() > 1);
    level.set(2.0).unwrap();
    proxy.release();
    flush_at_last(&backend);
    assert_eq!(server.value("level"), 2.0);
    let direct = open(&server, "");
    assert_eq!(gauge(&direct, "level").get().unwrap(), 2.0);
}

#[test]
fn a_reply_that_comes_late_is_not_taken_for_another() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let backend = Backend::open(
        &proxy.url("socket_timeout=0.2&connect_timeout=0.2&collect_timeout=0.3&pipeline_threads=1"),
    )
    .unwrap();
    let requests = counter(&backend, "requests_total");
    requests.inc(1.0).unwrap();
    assert_eq!(requests.get().unwrap(), 1.0);
    proxy.hold(Direction::Reply);
    requests.inc(1.0).unwrap();
    assert!(is_out_of_reach(&requests.get().unwrap_err()));
    proxy.release();
    requests.inc(1.0).unwrap();
    wait_until("the value can be read again", || requests.get().is_ok());
    assert_eq!(requests.get().unwrap(), 3.0);
    assert_eq!(backend.collect(None).unwrap().families.len(), 1);
}

#[test]
fn silently_dead_connections_are_replaced() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let backend = Backend::open(&proxy.url("socket_timeout=0.2&collect_timeout=5")).unwrap();
    let requests = counter(&backend, "requests_total");
    // By now each of the four readers has a connection.
    for _ in 0..16 {
        requests.inc(1.0).unwrap();
        requests.get().unwrap();
    }
    proxy.forget_connections();
    requests.inc(1.0).unwrap();
    for scrape in 0..4 {
        let read = requests.get();
        assert_eq!(read.ok(), Some(17.0), "scrape {scrape} has the time for a new connection");
    }
}

// Closing.

#[test]
fn closing_without_a_server_ends_in_time_and_reports_the_loss() {
    let mut server = Server::start();
    let backend = open(&server, "shutdown_timeout=0.5&flush_interval_ms=1");
    let family = declare(&backend, "requests_total", MetricType::Counter, &["n"]);
    let metrics = ["1", "2", "3"].map(|n| family.metric(&[n]).unwrap());
    flush(&backend);
    server.kill();
    metrics.iter().for_each(|metric| metric.inc(1.0).unwrap());
    let began = Instant::now();
    let error = backend.close().unwrap_err();
    assert!(is_out_of_reach(&error), "{error}");
    assert!(error.message().starts_with("3 changes"), "{error}");
    assert!(error.message().contains(&format!(":{}", server.port())), "{error}");
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn a_waiting_change_is_reported_once_however_often_it_was_tried() {
    let mut server = Server::start();
    let backend = open(&server, "shutdown_timeout=0.5&flush_interval_ms=1&collect_timeout=1");
    let requests = counter(&backend, "requests_total");
    flush(&backend);
    server.kill();
    requests.inc(1.0).unwrap();
    backend.collect(None).unwrap_err();
    // One batch is in flight, and this change waits for it.
    requests.inc(1.0).unwrap();
    for _ in 0..20 {
        backend.collect(None).unwrap_err();
    }
    let error = backend.close().unwrap_err();
    assert!(error.message().starts_with("2 changes"), "{error}");
}

#[test]
fn closing_while_the_server_is_stalled_reports_the_loss() {
    let server = Server::start();
    // As by default, the socket timeout is longer than the shutdown timeout.
    let backend = open(&server, "shutdown_timeout=0.3&socket_timeout=3");
    let requests = counter(&backend, "requests_total");
    flush(&backend);
    server.stop();
    requests.inc(1.0).unwrap();
    let error = backend.close().unwrap_err();
    assert!(is_out_of_reach(&error), "{error}");
    assert!(error.message().starts_with("1 change"), "{error}");
}

#[test]
fn closing_with_nothing_to_send_needs_no_server() {
    let mut server = Server::start();
    let backend = open(&server, "shutdown_timeout=0.5");
    let requests = counter(&backend, "requests_total");
    requests.inc(1.0).unwrap();
    flush(&backend);
    server.kill();
    backend.close().unwrap();
    let never_there = open(&server, "required=false&shutdown_timeout=0.5");
    never_there.close().unwrap();
}

#[test]
fn closing_with_nothing_to_send_is_no_loss_if_the_server_stalls() {
    let server = Server::start();
    let backend = open(&server, "shutdown_timeout=0.5");
    let requests = counter(&backend, "requests_total");
    requests.inc(1.0).unwrap();
    flush(&backend);
    server.stop();
    let closed = backend.close();
    server.go_on();
    closed.unwrap();
    assert_eq!(server.value("requests_total"), 1.0);
}

#[test]
fn closing_waits_for_a_server_that_comes_back_in_time() {
    let mut server = Server::start();
    let backend = open(&server, "shutdown_timeout=20");
    let requests = counter(&backend, "requests_total");
    flush(&backend);
    server.kill();
    requests.inc(2.0).unwrap();
    backend.flush(PATIENCE).unwrap_err();
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| backend.close());
        server.run();
        closing.join().unwrap().unwrap();
    });
    assert_eq!(server.value("requests_total"), 2.0);
}

#[test]
fn many_removals_while_the_server_is_away_do_not_hold_up_the_rest() {
    let mut server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "requests_total", MetricType::Histogram, &["n"]);
    let other = counter(&backend, "other_total");
    flush(&backend);
    server.kill();
    for n in 0..20_000 {
        let n = n.to_string();
        family.metric(&[&n]).unwrap().observe(1.0).unwrap();
        family.remove(&[&n]).unwrap();
    }
    other.inc(1.0).unwrap();
    server.run();
    wait_until("the other changes arrive", || server.value("other_total") == 1.0);
}

// A forked child that cannot start threads.

#[test]
fn a_child_without_threads_sends_everything_when_it_can_start_them() {
    let server = Server::start();
    let backend = open(&server, "flush_interval_ms=3600000");
    let requests = counter(&backend, "requests_total");
    flush(&backend);
    let child = fork(|| {
        forbid_threads();
        // Only the first attempt is immediate. The other increments still count.
        (0..3).for_each(|_| requests.inc(1.0).unwrap());
        let created = counter(&backend, "created_total");
        created.inc(2.0).unwrap();
        for error in [backend.flush(PATIENCE).unwrap_err(), backend.collect(None).unwrap_err()] {
            assert!(is_out_of_reach(&error), "{error}");
            assert!(error.message().contains("cannot start a thread"), "{error}");
            assert!(error.message().contains("is kept"), "{error}");
        }
        allow_threads();
        // No further change wakes the store.
        requests.get().unwrap() == 3.0 && created.get().unwrap() == 2.0
    });
    child.join();
    let others = open(&server, "");
    assert!(others.collect_text().unwrap().ends_with("\nrequests_total 3\n"));
    assert!(others.collect_text().unwrap().contains("\ncreated_total 2\n"));
}

#[test]
fn a_store_opened_without_threads_sends_everything_when_it_can_start_them() {
    let server = Server::start();
    fork(|| {
        forbid_threads();
        let backend = open(&server, "flush_interval_ms=1");
        let requests = counter(&backend, "requests_total");
        requests.inc(1.0).unwrap();
        let error = requests.get().unwrap_err();
        assert!(error.message().contains("cannot start a thread"), "{error}");
        allow_threads();
        flush_at_last(&backend);
        true
    })
    .join();
    assert_eq!(server.value("requests_total"), 1.0);
}

#[test]
fn a_child_without_threads_reports_its_loss_when_it_closes() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "requests_total", MetricType::Counter, &["a"]);
    let requests = family.metric(&["x"]).unwrap();
    flush(&backend);
    let losing = fork(|| {
        forbid_threads();
        requests.inc(1.0).unwrap();
        assert!(family.remove(&["x"]).is_err(), "the removal cannot be sent");
        let error = backend.close().unwrap_err();
        assert!(error.message().contains("is lost: cannot start a thread"), "{error}");
        true
    });
    losing.join();
    let recovering = fork(|| {
        forbid_threads();
        requests.inc(10.0).unwrap();
        allow_threads();
        backend.close().is_ok()
    });
    recovering.join();
    let idle = fork(|| {
        forbid_threads();
        backend.close().is_ok()
    });
    idle.join();
    assert_eq!(server.field("requests_total", r#"{"a":"x"}"#), 10.0);
}

#[test]
fn a_child_forked_while_a_connection_is_made_does_not_keep_it_open() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let backend =
        Backend::open(&proxy.url("pipeline_threads=1&connect_timeout=30&collect_timeout=30")).unwrap();
    let requests = counter(&backend, "requests_total");
    flush(&backend);
    // The reader's connection is open and waits for the reply to its login.
    proxy.hold(Direction::Reply);
    let child = std::thread::scope(|scope| {
        let reading = scope.spawn(|| requests.get());
        wait_until("the login is under way", || proxy.held_back() > 0);
        let child = fork(|| {
            std::thread::sleep(PATIENCE);
            true
        });
        proxy.release();
        assert_eq!(reading.join().unwrap().unwrap(), 0.0);
        child
    });
    backend.close().unwrap();
    // The server would keep them if the child had them open, too.
    wait_until("the parent's connections end", || server.clients() == 0);
    child.kill();
}
