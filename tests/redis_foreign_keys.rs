//! The Redis store beside keys and fields that other programs wrote, and as a user with few permissions: the
//! key is named, and everything else works.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use log::Level;
use pytheus_backend_rs::{Backend, Definition, ErrorKind, Lifetime, MetricType};

use support::*;

#[test]
fn a_conflicting_declaration_is_refused_in_the_process_and_reported_between_processes() {
    remember_log();
    let server = Server::start();
    let backend = open(&server, "");
    declare(&backend, "conflict_total", MetricType::Counter, &["a"]);
    for (metric_type, labels) in
        [(MetricType::Gauge, &["a"][..]), (MetricType::Counter, &["b"]), (MetricType::Counter, &[])]
    {
        let definition = Definition::new("conflict_total", "Some help.", metric_type, labels, &[]).unwrap();
        let lifetimes = match metric_type {
            MetricType::Gauge => &[Lifetime::Backend, Lifetime::Handle][..],
            // Client libraries may have two families of one name with different labels.
            _ => &[Lifetime::Backend],
        };
        for &lifetime in lifetimes {
            let error = backend.declare(definition.clone(), labels, lifetime).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert!(error.message().contains("conflict_total"), "{error}");
        }
    }
    flush(&backend);
    let other = open(&server, "");
    declare(&other, "conflict_total", MetricType::Gauge, &["a"]);
    flush(&other);
    let warnings = log_records(Level::Warn, &["conflict_total"]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("gauge") && warnings[0].contains("counter"), "{warnings:?}");
}

#[test]
fn a_key_of_another_type_is_named_and_all_others_arrive() {
    remember_log();
    let server = Server::start();
    server.run_words::<()>("LPUSH taken_total x");
    let backend = open(&server, "");
    let taken = counter(&backend, "taken_total");
    let other = counter(&backend, "other_total");
    taken.inc(2.0).unwrap();
    other.inc(3.0).unwrap();
    let error = backend.flush(PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.message().contains("\"taken_total\""), "{error}");
    assert_eq!(server.value("other_total"), 3.0);
    assert_eq!(lines(&backend, "other_total"), ["other_total 3"]);
    assert_eq!(lines(&backend, "taken_total"), [""; 0]);
    let error = taken.get().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.message().contains("\"taken_total\""), "{error}");
    for _ in 0..5 {
        taken.inc(1.0).unwrap();
        other.inc(1.0).unwrap();
        backend.collect(None).unwrap();
    }
    assert_eq!(server.value("other_total"), 8.0);
    assert_eq!(log_records(Level::Error, &["\"taken_total\" is refused"]).len(), 1, "one record");
    assert_eq!(log_records(Level::Error, &["\"taken_total\" cannot be read"]).len(), 1, "one record");
    assert_eq!(times_lost(server.port()), 0, "the store is not lost");
    server.run_words::<()>("DEL taken_total");
    wait_until("the refused change arrives without a flush", || server.value("taken_total") == 7.0);
    wait_until("the log says so", || {
        log_records(Level::Info, &["\"taken_total\" is accepted again"]).len() == 1
    });
    flush(&backend);
    assert_eq!(lines(&backend, "taken_total"), ["taken_total 7"]);
}

#[test]
fn a_set_does_not_overwrite_a_key_of_another_type() {
    let server = Server::start();
    server.run_words::<()>("HSET level a b");
    server.run_words::<()>("SET size 5");
    let backend = open(&server, "");
    let level = gauge(&backend, "level");
    level.set(1.0).unwrap();
    declare(&backend, "size", MetricType::Summary, &[]).metric(&[]).unwrap().observe(1.0).unwrap();
    let cleared = declare(&backend, "level", MetricType::Gauge, &[]);
    let error = backend.flush(PATIENCE).unwrap_err();
    assert!(error.message().contains("\"level\"") && error.message().contains("\"size\""), "{error}");
    cleared.clear().unwrap();
    backend.flush(PATIENCE).unwrap_err();
    assert_eq!(hash(&server, "level"), map(&[("a", "b")]));
    assert_eq!(server.run_words::<String>("GET size"), "5");
}

#[test]
fn a_writers_key_of_another_type_is_named() {
    let server = Server::start();
    server.run_words::<()>("SET {requests_total}:writers x");
    let backend = open(&server, "");
    counter(&backend, "requests_total").inc(1.0).unwrap();
    let error = backend.flush(PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.message().contains("{requests_total}:writers"), "the error must name the key: {error}");
}

#[test]
fn definitions_of_another_type_do_not_stop_the_values() {
    remember_log();
    let server = Server::start();
    server.run_words::<()>("SET noted-pytheus:families x");
    let backend = open(&server, "key_prefix=noted");
    let requests = counter(&backend, "requests_total");
    requests.inc(2.0).unwrap();
    flush(&backend);
    assert_eq!(server.value("noted-requests_total"), 2.0);
    assert_eq!(lines(&backend, "requests_total"), ["requests_total 2"]);
    assert_eq!(log_records(Level::Error, &["\"noted-pytheus:families\" is refused"]).len(), 1);
    server.run_words::<()>("DEL noted-pytheus:families");
    backend.collect(None).unwrap();
    wait_until("the definitions arrive", || {
        server.run_words::<bool>("HEXISTS noted-pytheus:families requests_total")
    });
}

#[test]
fn definitions_that_are_garbage_are_left_out_or_replaced() {
    let server = Server::start();
    for (name, json) in [
        ("a_total", "not json"),
        ("", r#"{"type":"counter","help":"","labels":[]}"#),
        ("b_total", r#"{"type":"counter","help":"","labels":[""]}"#),
        ("c_total", r#"{"type":"counter","help":"","labels":["__name__"]}"#),
        ("d_total", r#"{"type":"odd","help":"","labels":[]}"#),
        ("requests_total", "[]"),
    ] {
        server.run_command::<()>(&["HSET", "pytheus:families", name, json]);
    }
    let reader = open(&server, "");
    assert_eq!(reader.collect_text().unwrap(), "");
    let backend = open(&server, "");
    counter(&backend, "requests_total").inc(1.0).unwrap();
    flush(&backend);
    assert_eq!(lines(&reader, "requests_total"), ["requests_total 1"]);
}

#[test]
fn a_value_that_is_not_a_number_is_reported_and_replaced() {
    remember_log();
    let server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "garbled_total", MetricType::Counter, &["a"]);
    let metrics = ["x", "y"].map(|value| family.metric(&[value]).unwrap());
    flush(&backend);
    server.run_command::<()>(&["HSET", "garbled_total", r#"{"a":"x"}"#, "many"]);
    server.run_command::<()>(&["HSET", "garbled_total", "no json", "7"]);
    assert_eq!(lines(&backend, "garbled_total"), ["garbled_total{a=\"x\"} 0", "garbled_total{a=\"y\"} 0"]);
    let error = metrics[0].get().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.message().contains("garbled_total") && error.message().contains("many"), "{error}");
    metrics.iter().for_each(|metric| metric.inc(2.0).unwrap());
    flush(&backend);
    assert_eq!(lines(&backend, "garbled_total"), ["garbled_total{a=\"x\"} 2", "garbled_total{a=\"y\"} 2"]);
    assert_eq!(
        log_records(Level::Error, &["garbled_total", r#"{"a":"x"}: the value was not a number"#]).len(),
        1
    );
    assert_eq!(server.field("garbled_total", "no json"), 7.0, "foreign fields are untouched");
}

#[test]
fn fields_of_other_programs_do_not_spoil_the_exposition() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "requests_total", MetricType::Counter, &["a"]);
    family.metric(&["x"]).unwrap().inc(1.0).unwrap();
    flush(&backend);
    let size = declare_with_buckets(&backend, "size", MetricType::Histogram, &["a"], &[1.0]);
    size.metric(&["x"]).unwrap().observe(1.0).unwrap();
    flush(&backend);
    for field in [r#"{"":"x"}"#, r#"{"__name__":"x"}"#, "{", "}", "{}}", r#"{"a":"x"} "#] {
        server.run_command::<()>(&["HSET", "requests_total", field, "7"]);
    }
    for field in [r#"{"le":"5"}#le=1"#, r#"{"a":"x"}"#, r#"{"a":"x"}#le=one"#, "#sum"] {
        server.run_command::<()>(&["HSET", "size", field, "7"]);
    }
    // Prometheus rejects the whole scrape for one malformed line.
    assert_eq!(lines(&backend, "requests_total"), ["requests_total{a=\"x\"} 1"]);
    assert_eq!(
        lines(&backend, "size"),
        [
            "size_bucket{a=\"x\",le=\"1\"} 1",
            "size_bucket{a=\"x\",le=\"+Inf\"} 1",
            "size_sum{a=\"x\"} 1",
            "size_count{a=\"x\"} 1"
        ]
    );
}

#[test]
fn definitions_are_announced_again_when_the_server_has_lost_them() {
    let mut server = Server::start();
    let backend = open(&server, "");
    let requests = counter(&backend, "requests_total");
    requests.inc(5.0).unwrap();
    flush(&backend);
    server.lose_data();
    assert_eq!(lines(&backend, "requests_total"), ["requests_total 0"]);
    wait_until("the definition is restored", || {
        server.run_words::<bool>("HEXISTS pytheus:families requests_total")
    });
    requests.inc(1.0).unwrap();
    flush(&backend);
    assert_eq!(lines(&open(&server, ""), "requests_total"), ["requests_total 1"]);
}

#[test]
fn a_key_that_the_user_may_not_touch_is_named_and_all_others_arrive() {
    let server = Server::start();
    server.run_words::<()>("ACL SETUSER metrics on >secret ~ok_* ~{ok_*}* ~pytheus:* +@all");
    let backend = Backend::open(&format!("redis://metrics:secret@127.0.0.1:{}", server.port())).unwrap();
    counter(&backend, "ok_total").inc(1.0).unwrap();
    let hidden = counter(&backend, "hidden_total");
    hidden.inc(1.0).unwrap();
    let error = backend.flush(PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.message().contains("\"hidden_total\""), "{error}");
    assert_eq!(lines(&backend, "ok_total"), ["ok_total 1"]);
    server.run_words::<()>("ACL SETUSER metrics allkeys");
    flush(&backend);
    assert_eq!(server.value("hidden_total"), 1.0);
}

// A user that may not do everything.

/// Opens a backend as a user who may not use the commands `denied`.
fn open_without(server: &Server, denied: &str) -> Backend {
    server.run_words::<()>(&format!("ACL SETUSER some on >secret ~* &* +@all {denied}"));
    let url = format!("redis://some:secret@127.0.0.1:{}?flush_interval_ms=1", server.port());
    Backend::open(&url).unwrap()
}

#[test]
fn a_user_that_may_not_sweep_counts_exactly() {
    let server = Server::start();
    for writer in 0..200 {
        server.run_words::<()>(&format!("HSET {{requests_total}}:writers old{writer} 1"));
        server.run_words::<()>(&format!("HSET {{requests_total}}:writers older{writer} 1"));
    }
    let backend = open_without(&server, "-hrandfield -hscan -hdel");
    let requests = counter(&backend, "requests_total");
    for _ in 0..20 {
        requests.inc(5.0).unwrap();
        flush(&backend);
    }
    assert_eq!(server.value("requests_total"), 100.0);
}

#[test]
fn a_batch_that_is_refused_half_way_is_not_sent_again() {
    let server = Server::start();
    let backend = open_without(&server, "-hdel");
    let family = declare(&backend, "requests_total", MetricType::Counter, &["a"]);
    let other = family.metric(&["other"]).unwrap();
    family.metric(&["gone"]).unwrap().inc(1.0).unwrap();
    other.inc(1.0).unwrap();
    flush(&backend);
    // HDEL is refused, and with it the batch that it begins. Later changes wait.
    family.remove(&["gone"]).unwrap();
    for _ in 0..5 {
        other.inc(1.0).unwrap();
        let _ = backend.flush(PATIENCE);
    }
    assert_eq!(server.field("requests_total", r#"{"a":"other"}"#), 1.0);
    server.run_words::<()>("ACL SETUSER some +hdel");
    wait_until("the allowed batch arrives once", || {
        let _ = backend.flush(PATIENCE);
        server.field("requests_total", r#"{"a":"other"}"#) == 6.0
    });
    assert!(!server.run_words::<bool>(r#"HEXISTS requests_total {"a":"gone"}"#));
}

#[test]
fn a_user_that_may_not_expire_changes_nothing_until_it_may() {
    let server = Server::start();
    let backend = open_without(&server, "-expire");
    let requests = counter(&backend, "requests_total");
    for _ in 0..5 {
        requests.inc(1.0).unwrap();
        backend.flush(PATIENCE).unwrap_err();
    }
    assert_eq!(server.value("requests_total"), 0.0);
    server.run_words::<()>("ACL SETUSER some +expire");
    wait_until("the batch arrives once", || {
        backend.flush(PATIENCE).is_ok() && server.value("requests_total") == 5.0
    });
}

// Keys of the application.

#[test]
fn a_number_of_another_program_is_counted_on_with_one_warning_and_gets_no_expiry() {
    remember_log();
    let server = Server::start();
    server.run_words::<()>("SET visits_total 1000");
    server.run_words::<()>("SET views_total 10 EX 1000");
    let workers = [open(&server, "expire_key_time=500"), open(&server, "expire_key_time=500")];
    for worker in &workers {
        let metrics = ["visits_total", "views_total"].map(|name| counter(worker, name));
        metrics.iter().for_each(|metric| metric.inc(1.0).unwrap());
        flush(worker);
        worker.collect(None).unwrap();
    }
    assert_eq!((server.value("visits_total"), server.value("views_total")), (1002.0, 12.0));
    let ttl = |key: &str| server.run_command::<i64>(&["TTL", key]);
    assert_eq!(ttl("visits_total"), -1, "a key without an expiry keeps none");
    assert!((400..=500).contains(&ttl("views_total")), "a key with an expiry is renewed");
    let port = format!(":{}", server.port());
    let warnings = log_records(Level::Warn, &["already had values", "key_prefix", &port]);
    assert!((1..=2).contains(&warnings.len()), "{warnings:?}");
    let all = warnings.join("\n");
    assert_eq!((all.matches("visits_total").count(), all.matches("views_total").count()), (1, 1), "{all}");
}

#[test]
fn a_key_of_another_program_is_neither_changed_nor_given_an_expiry() {
    remember_log();
    let server = Server::start();
    server.run_words::<()>("SET motto hello");
    server.run_words::<()>("HSET profile name Ada");
    server.run_words::<()>("LPUSH jobs first");
    server.run_words::<()>("SET sessions 5");
    let backend = open(&server, "");
    gauge(&backend, "motto").set(1.0).unwrap();
    declare(&backend, "jobs", MetricType::Gauge, &[]).metric(&[]).unwrap().inc(1.0).unwrap();
    for name in ["profile", "sessions"] {
        let family = declare(&backend, name, MetricType::Counter, &["kind"]);
        family.metric(&["a"]).unwrap().inc(1.0).unwrap();
    }
    counter(&backend, "ours_total").inc(1.0).unwrap();
    let message = backend.flush(PATIENCE).unwrap_err().message().to_owned();
    for (key, reason) in [
        ("motto", "it holds \"hello\", which is not a number"),
        ("profile", "its field \"name\" is not a set of labels"),
        ("jobs", "it is a list"),
        ("sessions", "it is a string"),
    ] {
        let expected =
            format!("Redis key \"{key}\" is refused: {reason}, so it is not a metric; set key_prefix");
        assert!(message.contains(&expected), "{message}");
        assert_eq!(server.run_command::<i64>(&["TTL", key]), -1, "{key}");
    }
    for _ in 0..2 {
        backend.collect(None).unwrap();
    }
    assert_eq!(server.value("ours_total"), 1.0);
    assert_eq!(server.run_words::<String>("GET motto"), "hello");
    assert_eq!(hash(&server, "profile"), map(&[("name", "Ada")]));
    assert_eq!(server.run_words::<Vec<String>>("LRANGE jobs 0 -1"), ["first"]);
    assert_eq!(server.run_words::<String>("GET sessions"), "5");
    for key in ["motto", "profile", "jobs", "sessions"] {
        assert_eq!(server.run_command::<i64>(&["TTL", key]), -1, "a scrape gives {key} no expiry");
    }
    assert_eq!(log_records(Level::Error, &["\"motto\" is refused"]).len(), 1);
    server.run_words::<()>("DEL motto");
    wait_until("the change arrives when the key is free", || server.value("motto") == 1.0);
}

#[test]
fn a_family_with_labels_in_one_process_and_without_in_another_is_one_hash() {
    let server = Server::start();
    let (old, new) = (open(&server, ""), open(&server, ""));
    let without = counter(&old, "requests_total");
    without.inc(3.0).unwrap();
    flush(&old);
    let family = declare(&new, "requests_total", MetricType::Counter, &["path"]);
    let with = family.metric(&["/"]).unwrap();
    with.inc(5.0).unwrap();
    flush(&new);
    assert_eq!(hash(&server, "requests_total"), map(&[("{}", "3"), (r#"{"path":"/"}"#, "5")]));
    without.inc(1.0).unwrap();
    assert_eq!(without.get().unwrap(), 4.0);
    assert_eq!(with.get().unwrap(), 5.0);
    let both = ["requests_total{path=\"/\"} 5", "requests_total 4"];
    assert_eq!(lines(&new, "requests_total"), both);
    assert_eq!(lines(&old, "requests_total"), both);
    assert!(server.run_words::<i64>("TTL requests_total") > 0);
    // The other way round: while it is a string, a reader with labels sees the value without.
    let (with_labels, alone) = (open(&server, ""), open(&server, ""));
    declare(&with_labels, "errors_total", MetricType::Counter, &["path"]);
    counter(&alone, "errors_total").inc(2.0).unwrap();
    flush(&alone);
    assert_eq!(lines(&with_labels, "errors_total"), ["errors_total 2"]);
}

#[test]
fn keys_that_never_expire_have_no_expiry() {
    let server = Server::start();
    let expiring = open(&server, "");
    counter(&expiring, "old_total").inc(1.0).unwrap();
    flush(&expiring);
    for value in ["never", "0"] {
        let backend = open(&server, &format!("expire_key_time={value}"));
        for name in ["old_total", "jobs_total"] {
            counter(&backend, name).inc(1.0).unwrap();
        }
        flush(&backend);
        backend.collect(None).unwrap();
        for key in keys(&server) {
            assert_eq!(server.run_command::<i64>(&["TTL", &key]), -1, "{key}");
        }
    }
    assert_eq!(server.value("jobs_total"), 2.0);
}

#[test]
fn a_user_that_may_not_run_scripts_is_told_when_the_store_is_opened() {
    remember_log();
    let server = Server::start();
    for denied in ["-evalsha", "-script"] {
        server.run_words::<()>(&format!("ACL SETUSER limited on >secret ~* &* +@all {denied}"));
        let url = format!("redis://limited:secret@127.0.0.1:{}", server.port());
        let message = Backend::open(&url).unwrap_err().message().to_owned();
        assert!(message.contains("NOPERM") && message.contains(&denied[1..]), "{message}");
        Backend::open(&format!("{url}?read_only=true")).unwrap().collect_text().unwrap();
        let _waiting = Backend::open(&format!("{url}?required=false")).unwrap();
        let port = format!(":{}", server.port());
        let told = log_records(Level::Error, &["the store is lost", "NOPERM", &denied[1..], &port]);
        assert_eq!(told.len(), 1, "{told:?}");
    }
}

#[test]
fn the_server_shows_program_host_and_process_of_each_connection() {
    let server = Server::start();
    let backend = open(&server, "");
    counter(&backend, "requests_total").get().unwrap();
    let clients: String = server.run_words("CLIENT LIST");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let name = format!(":{}:{} ", host.trim_end(), std::process::id());
    let own = clients.lines().filter(|line| line.contains("name=redis_foreign_keys") && line.contains(&name));
    assert_eq!(own.count(), 2, "{clients}");
    server.run_words::<()>("ACL SETUSER limited on >secret ~* &* +@all -client -info");
    let url = format!("redis://limited:secret@127.0.0.1:{}", server.port());
    assert_eq!(counter(&Backend::open(&url).unwrap(), "requests_total").get().unwrap(), 0.0);
}
