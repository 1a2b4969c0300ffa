//! Redis servers that answer but do not serve: one log record names the reason, and all counts arrive when
//! the server serves again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use log::Level;
use pytheus_backend_rs::{Backend, Metric, MetricType};

use support::proxy::Proxy;
use support::*;

#[test]
fn a_garbage_reply_is_an_error_and_the_batch_is_sent_again() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let backend = Backend::open(&proxy.url("socket_timeout=0.2&flush_interval_ms=1")).unwrap();
    let requests = counter(&backend, "requests_total");
    flush(&backend);
    let rubbish: [&[u8]; 16] = [
        b"rubbish\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+OK\r\n",
        b":1\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"$5\r\nab",
        b"$99999999999\r\n",
        b"*2147483647\r\n",
        b"*99999999999999999999\r\n",
        b"\r\n",
        b"\0\0\0\0",
        b"\xff\xfe\xfd\r\n",
        b"-\r\n",
        b"-ERR unknown command\r\n",
        b"-NOSCRIPT none\r\n",
    ];
    for (index, bytes) in rubbish.iter().enumerate() {
        proxy.answer(bytes);
        requests.inc(1.0).unwrap();
        wait_until("the garbage is sent", || proxy.answers_left() == 0);
        flush_at_last(&backend);
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(server.value("requests_total"), 1.0 + index as f64, "after {shown:?}");
        // The garbage may have taken the place of the notice that the key has changed.
        assert_eq!(requests.get().unwrap(), 1.0 + index as f64, "after {shown:?}");
    }
}

#[test]
fn a_reply_with_too_few_values_is_an_error() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    // With one reader thread both reads use the same connection.
    let backend = Backend::open(&proxy.url("pipeline_threads=1")).unwrap();
    let size = declare(&backend, "size", MetricType::Summary, &[]).metric(&[]).unwrap();
    size.observe(2.0).unwrap();
    assert_eq!(size.get_sum().unwrap(), 2.0);
    let epoch: String = server.run_words("HGET {size}:writers epoch");
    // The replies of a read: the definitions are renewed, the values, the epoch, and the time to live.
    let replies = format!(":1\r\n*0\r\n${}\r\n{epoch}\r\n:3600\r\n", epoch.len());
    proxy.answer(replies.as_bytes());
    let error = size.get_sum().unwrap_err();
    assert!(error.message().contains("0 values: expected 2"), "{error}");
    assert_eq!(size.get_sum().unwrap(), 2.0);
}

#[test]
fn a_server_that_does_not_speak_redis_is_an_error() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    proxy.answer(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let error = Backend::open(&proxy.url("")).unwrap_err();
    assert!(is_out_of_reach(&error), "{error}");
    proxy.refuse(true);
    let error = Backend::open(&proxy.url("")).unwrap_err();
    assert!(is_out_of_reach(&error), "{error}");
    assert!(error.message().contains(&proxy.port().to_string()), "{error}");
}

#[test]
fn a_flushed_script_is_loaded_again() {
    remember_log();
    let server = Server::start();
    let backend = open(&server, "flush_interval_ms=1");
    let requests = counter(&backend, "requests_total");
    let load = Load::start(&requests, 2);
    for _ in 0..20 {
        load.wait_for(1_000);
        server.run_words::<()>("SCRIPT FLUSH");
    }
    let total = load.end();
    flush_at_last(&backend);
    assert_eq!(server.value("requests_total"), total);
    assert_eq!(times_lost(server.port()), 0, "a flushed script is not a loss of the store");
}

/// Makes the server refuse, counts, checks that one record names the reason, ends the refusal, and checks
/// that all counts arrive.
fn check_refusal(
    server: &Server,
    reason: &str,
    break_it: impl Fn(&mut redis::Connection),
    mend: impl Fn(&mut redis::Connection),
) {
    remember_log();
    let login = if server.password().is_some() { "&password=right" } else { "" };
    let backend = open(server, &format!("flush_interval_ms=1&collect_timeout=2{login}"));
    let requests = counter(&backend, "requests_total");
    let family = declare(&backend, "errors_total", MetricType::Counter, &["n"]);
    requests.inc(5.0).unwrap();
    flush(&backend);
    let mut raw = server.connection();
    break_it(&mut raw);
    let metrics: Vec<Arc<Metric>> = (0..50).map(|n| family.metric(&[&n.to_string()]).unwrap()).collect();
    wait_until("the refusal is noticed", || {
        requests.inc(1.0).unwrap();
        metrics.iter().for_each(|metric| metric.inc(1.0).unwrap());
        times_lost(server.port()) == 1
    });
    let error = backend.flush(PATIENCE).unwrap_err();
    assert!(is_out_of_reach(&error), "{error}");
    assert!(error.message().contains(&server.port().to_string()), "{error}");
    assert!(error.message().contains(reason), "{error}");
    assert!(is_out_of_reach(&backend.collect(None).unwrap_err()));
    let port = format!(":{}", server.port());
    assert_eq!(log_records(Level::Error, &["the store is lost", &port, reason]).len(), 1);
    mend(&mut raw);
    wait_until("the store is back", || times_back(server.port()) == 1);
    flush(&backend);
    let total = requests.get().unwrap();
    assert!(total > 5.0);
    assert_eq!(server.value("requests_total"), total);
    for n in 0..50 {
        assert_eq!(server.field("errors_total", &format!("{{\"n\":\"{n}\"}}")), total - 5.0);
    }
    assert_eq!((times_lost(server.port()), times_back(server.port())), (1, 1), "one record each");
}

fn raw(connection: &mut redis::Connection, words: &str) {
    let mut words = words.split_whitespace();
    let mut command = redis::cmd(words.next().unwrap());
    for word in words {
        command.arg(if word == "''" { "" } else { word });
    }
    command.exec(connection).unwrap();
}

#[test]
fn a_server_without_memory_gets_everything_later() {
    let server = Server::start();
    check_refusal(
        &server,
        "OOM",
        |connection| raw(connection, "CONFIG SET maxmemory 1"),
        |connection| raw(connection, "CONFIG SET maxmemory 0"),
    );
}

#[test]
fn a_server_that_wants_a_password_gets_everything_later() {
    let server = Server::start();
    check_refusal(
        &server,
        "NOAUTH",
        |connection| {
            raw(connection, "CONFIG SET requirepass secret");
            raw(connection, "CLIENT KILL TYPE normal");
        },
        |connection| raw(connection, "CONFIG SET requirepass ''"),
    );
}

#[test]
fn a_server_whose_password_was_changed_gets_everything_when_it_is_right_again() {
    let server = Server::start_with(&["--requirepass", "right"]);
    check_refusal(
        &server,
        "WRONGPASS",
        |connection| {
            raw(connection, "CONFIG SET requirepass another");
            raw(connection, "CLIENT KILL TYPE normal");
        },
        |connection| raw(connection, "CONFIG SET requirepass right"),
    );
}

#[test]
fn a_server_with_too_many_clients_at_the_start_gets_everything_later() {
    remember_log();
    let server = Server::start();
    let mut raw_connection = server.connection();
    raw(&mut raw_connection, "CONFIG SET maxclients 1");
    for options in ["", "password=some&db=1&client_name=me"] {
        let error = Backend::open(&server.url(options)).unwrap_err();
        assert!(is_out_of_reach(&error), "{error}");
        assert!(error.message().contains("max number of clients"), "{error}");
    }
    let backend = open(&server, "required=false");
    let requests = counter(&backend, "requests_total");
    requests.inc(3.0).unwrap();
    backend.flush(PATIENCE).unwrap_err();
    raw(&mut raw_connection, "CONFIG SET maxclients 1000");
    wait_until("the counts arrive without a flush", || server.value("requests_total") == 3.0);
    flush(&backend);
    assert_eq!((times_lost(server.port()), times_back(server.port())), (1, 1));
}

#[test]
fn a_server_that_refuses_for_any_reason_gets_everything_later() {
    remember_log();
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let options = "flush_interval_ms=1&socket_timeout=0.5&connect_timeout=0.5&collect_timeout=1";
    let backend = Backend::open(&proxy.url(options)).unwrap();
    let requests = counter(&backend, "requests_total");
    let level = gauge(&backend, "level");
    level.set(10.0).unwrap();
    flush(&backend);
    let refusals = [
        "LOADING Redis is loading the dataset in memory",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "NOREPLICAS Not enough good replicas to write.",
        "CLUSTERDOWN The cluster is down",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "UNKILLABLE Sorry the script already executed write commands",
        "ERR unknown command 'EVALSHA'",
        "NOPERM this user has no permissions to run the 'evalsha' command",
    ];
    for (index, refusal) in refusals.iter().enumerate() {
        // The server applies the batch nevertheless, so a batch that is sent again with other contents shows.
        proxy.answer_all(Some(format!("-{refusal}\r\n").as_bytes()));
        level.inc(1.0).unwrap();
        requests.inc(1.0).unwrap();
        wait_until("the refusal is noticed", || times_lost(proxy.port()) == index + 1);
        level.inc(1.0).unwrap();
        requests.inc(1.0).unwrap();
        assert!(is_out_of_reach(&backend.flush(PATIENCE).unwrap_err()), "{refusal}");
        assert!(is_out_of_reach(&requests.get().unwrap_err()), "{refusal}");
        proxy.answer_all(None);
        wait_until("the store is back", || times_back(proxy.port()) == index + 1);
        flush_at_last(&backend);
        let rounds = 1.0 + index as f64;
        assert_eq!(server.value("requests_total"), 2.0 * rounds, "after {refusal:?}");
        assert_eq!(server.value("level"), 10.0 + 2.0 * rounds, "after {refusal:?}");
        let port = format!(":{}", proxy.port());
        let said = log_records(Level::Error, &["the store is lost", &port, refusal]);
        assert_eq!(said.len(), 1, "one record for {refusal:?}: {said:?}");
        assert_eq!(times_lost(proxy.port()), index + 1, "no second loss");
    }
}

#[test]
fn a_server_with_too_many_clients_gets_everything_later() {
    let server = Server::start();
    check_refusal(
        &server,
        "max number of clients",
        |connection| {
            raw(connection, "CONFIG SET maxclients 1");
            raw(connection, "CLIENT KILL TYPE normal");
        },
        |connection| raw(connection, "CONFIG SET maxclients 1000"),
    );
}

#[test]
fn a_server_that_became_a_read_only_replica_gets_everything_later() {
    let server = Server::start();
    check_refusal(
        &server,
        "READONLY",
        |connection| raw(connection, &format!("REPLICAOF 127.0.0.1 {}", free_port())),
        |connection| raw(connection, "REPLICAOF NO ONE"),
    );
}

#[test]
fn a_server_that_is_busy_with_a_script_gets_everything_later() {
    let server = Server::start();
    let mut busy = server.connection();
    raw(&mut busy, "CONFIG SET lua-time-limit 1");
    std::thread::scope(|scope| {
        check_refusal(
            &server,
            "BUSY",
            |_| {
                let mut connection = server.connection();
                scope.spawn(move || {
                    let script = redis::cmd("EVAL").arg("while true do end").arg(0).exec(&mut connection);
                    assert!(script.is_err(), "the script was killed");
                });
            },
            |_| {
                raw(
                    &mut redis::Client::open(server.url("")).unwrap().get_connection().unwrap(),
                    "SCRIPT KILL",
                )
            },
        );
    });
}
