//! The Redis store with a real server: what it writes (the layout of `docs/redis-layout.md`), and how it
//! combines and removes values. What it reads is in `redis_read.rs`, foreign keys in `redis_foreign_keys.rs`,
//! faults in
//! `redis_faults.rs` and `redis_refusals.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pytheus_backend_rs::{Backend, Definition, ErrorKind, Metric, MetricType};
use serde_json::{Value as Json, json};

use support::*;

// What is written.

#[test]
fn a_counter_or_gauge_without_labels_is_a_string_key() {
    let server = Server::start();
    let backend = open(&server, "");
    counter(&backend, "requests_total").inc(3.0).unwrap();
    gauge(&backend, "temperature").set(-2.5).unwrap();
    flush(&backend);
    assert_eq!(server.run_words::<String>("GET requests_total"), "3");
    assert_eq!(server.run_words::<String>("GET temperature"), "-2.5");
    let expected = [
        "pytheus:families",
        "requests_total",
        "temperature",
        "{requests_total}:meta",
        "{requests_total}:writers",
        "{temperature}:writers",
    ];
    assert_eq!(keys(&server), expected.map(str::to_owned).into());
}

#[test]
fn an_addition_returns_the_total_on_the_server() {
    let server = Server::start();
    let (first, second) = (open(&server, ""), open(&server, ""));
    assert_eq!(counter(&first, "requests_total").inc_and_get(3.0).unwrap(), 3.0);
    assert_eq!(counter(&second, "requests_total").inc_and_get(0.5).unwrap(), 3.5);
    let level = gauge(&first, "level");
    level.set(2.0).unwrap();
    assert_eq!(level.inc_and_get(-0.5).unwrap(), 1.5);
}

#[test]
fn a_family_with_labels_is_a_hash_of_sorted_compact_json() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "requests_total", MetricType::Counter, &["path", "bob"]);
    family.metric(&["/a b", "cat"]).unwrap().inc(1.0).unwrap();
    family.metric(&["\"é}\n", ""]).unwrap().inc(2.0).unwrap();
    flush(&backend);
    assert_eq!(
        hash(&server, "requests_total"),
        map(&[(r#"{"bob":"cat","path":"/a b"}"#, "1"), (r#"{"bob":"","path":"\"é}\n"}"#, "2")])
    );
}

#[test]
fn a_summary_has_the_fields_sum_and_count() {
    let server = Server::start();
    let backend = open(&server, "");
    let lone = declare(&backend, "size", MetricType::Summary, &[]).metric(&[]).unwrap();
    let labelled = declare(&backend, "time", MetricType::Summary, &["a"]).metric(&["x"]).unwrap();
    for metric in [lone, labelled] {
        metric.observe(2.5).unwrap();
        metric.observe(1.0).unwrap();
    }
    flush(&backend);
    assert_eq!(hash(&server, "size"), map(&[("{}#sum", "3.5"), ("{}#count", "2")]));
    assert_eq!(hash(&server, "time"), map(&[(r#"{"a":"x"}#sum"#, "3.5"), (r#"{"a":"x"}#count"#, "2")]));
}

#[test]
fn a_histogram_has_a_sum_and_buckets_that_are_not_cumulative() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = declare_with_buckets(&backend, "size", MetricType::Histogram, &[], &[0.5, 10.0, 1e20]);
    let metric = family.metric(&[]).unwrap();
    for value in [0.1, 0.5, 7.0, 1e10, 1e30] {
        metric.observe(value).unwrap();
    }
    flush(&backend);
    let fields = hash(&server, "size");
    let sum: f64 = fields["{}#sum"].parse().unwrap();
    assert_eq!(sum, 0.1 + 0.5 + 7.0 + 1e10 + 1e30);
    let buckets: BTreeMap<String, String> =
        fields.into_iter().filter(|(field, _)| field != "{}#sum").collect();
    assert_eq!(
        buckets,
        map(&[("{}#le=0.5", "2"), ("{}#le=10", "1"), ("{}#le=1e20", "1"), ("{}#le=+Inf", "1")])
    );
}

#[test]
fn a_new_metric_is_visible_to_others_with_0() {
    let server = Server::start();
    let backend = open(&server, "");
    counter(&backend, "requests_total");
    declare(&backend, "errors_total", MetricType::Counter, &["a"]).metric(&["x"]).unwrap();
    declare(&backend, "size", MetricType::Histogram, &[]).metric(&[]).unwrap();
    wait_until("the new metrics arrive without a count", || keys(&server).contains("size"));
    flush(&backend);
    assert_eq!(server.run_words::<String>("GET requests_total"), "0");
    assert_eq!(hash(&server, "errors_total"), map(&[(r#"{"a":"x"}"#, "0")]));
    assert_eq!(hash(&server, "size"), map(&[("{}#sum", "0")]));
    let other = open(&server, "");
    assert_eq!(lines(&other, "requests_total"), ["requests_total 0"]);
    assert_eq!(lines(&other, "errors_total"), ["errors_total{a=\"x\"} 0"]);
    assert_eq!(lines(&other, "size_count"), ["size_count 0"]);
}

#[test]
fn a_new_metric_does_not_reset_what_others_have_counted() {
    let server = Server::start();
    let first = open(&server, "");
    counter(&first, "requests_total").inc(5.0).unwrap();
    flush(&first);
    let second = open(&server, "");
    assert_eq!(counter(&second, "requests_total").get().unwrap(), 5.0);
}

#[test]
fn definitions_are_json_for_other_processes() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = declare_with_buckets(&backend, "size", MetricType::Histogram, &["b", "a"], &[0.5, 10.0]);
    counter(&backend, "requests_total");
    flush(&backend);
    let stored = hash(&server, "pytheus:families");
    let size: Json = serde_json::from_str(&stored["size"]).unwrap();
    assert_eq!(
        size,
        json!({"type": "histogram", "help": "Some help.", "labels": ["a", "b"], "buckets": [0.5, 10.0]})
    );
    let requests: Json = serde_json::from_str(&stored["requests_total"]).unwrap();
    assert_eq!(requests, json!({"type": "counter", "help": "Some help.", "labels": []}));
    assert_eq!(stored.len(), 2);
    assert_eq!(Definition::from_json("size", &stored["size"]).unwrap(), *family.definition());
}

#[test]
fn a_writers_entry_is_its_last_batch_and_the_time() {
    let server = Server::start();
    let backend = open(&server, "");
    let requests = counter(&backend, "requests_total");
    flush(&backend);
    let entries = || {
        let mut writers = hash(&server, "{requests_total}:writers");
        assert!(writers.remove("epoch").is_some());
        writers
    };
    let first = entries();
    requests.inc(1.0).unwrap();
    flush(&backend);
    let second = entries();
    assert_eq!(first.len(), 1);
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    let parse = |entry: &BTreeMap<String, String>| -> (u64, u64) {
        let (number, time) = entry.values().next().unwrap().split_once(' ').unwrap();
        (number.parse().unwrap(), time.parse().unwrap())
    };
    assert_eq!(parse(&second).0, parse(&first).0 + 1);
    let now: Vec<String> = server.run_words("TIME");
    assert!(now[0].parse::<u64>().unwrap() - parse(&second).1 < 600, "the time is unix time");
    let other = open(&server, "");
    counter(&other, "requests_total").inc(1.0).unwrap();
    flush(&other);
    assert_eq!(entries().len(), 2, "each backend is a writer");
}

/// Writes entries of `count` other writers whose last batch was `seconds_ago`.
fn pretend_writers(server: &Server, key: &str, count: usize, seconds_ago: u64) {
    let time: Vec<String> = server.run_words("TIME");
    let last = time[0].parse::<u64>().unwrap() - seconds_ago;
    let mut command = redis::cmd("HSET");
    command.arg(key);
    for number in 0..count {
        command.arg(format!("{number}-ago-{seconds_ago}")).arg(format!("7 {last}"));
    }
    command.exec(&mut server.connection()).unwrap();
}

#[test]
fn entries_of_writers_that_ended_long_ago_are_removed() {
    let server = Server::start();
    pretend_writers(&server, "{requests_total}:writers", 300, 400_000);
    pretend_writers(&server, "{requests_total}:writers", 50, 3_000);
    let mut epochs = BTreeSet::new();
    for _ in 0..40 {
        let backend = open(&server, "pipeline_threads=1");
        counter(&backend, "requests_total").inc(1.0).unwrap();
        backend.close().unwrap();
        epochs.insert(hash(&server, "{requests_total}:writers").remove("epoch"));
    }
    assert_eq!(epochs.len(), 1, "the epoch is never removed");
    let left = hash(&server, "{requests_total}:writers");
    let of = |suffix: &str| left.keys().filter(|writer| writer.ends_with(suffix)).count();
    assert!(of("-ago-400000") < 100, "{} of 300 are left", of("-ago-400000"));
    assert_eq!(of("-ago-3000"), 50);
    assert_eq!(server.value("requests_total"), 40.0);
}

#[test]
fn a_new_writer_does_not_make_the_server_read_all_others() {
    let server = Server::start();
    // The entries of 5,000 short-lived workers of one day. None is old enough to be removed.
    pretend_writers(&server, "{requests_total}:writers", 5_000, 3_000);
    let reads = server.calls_of("hgetall");
    for _ in 0..10 {
        let backend = open(&server, "pipeline_threads=1");
        counter(&backend, "requests_total").inc(1.0).unwrap();
        backend.close().unwrap();
    }
    assert_eq!(server.value("requests_total"), 10.0);
    let reads = server.calls_of("hgetall") - reads;
    assert!(reads <= 2, "10 new writers made the server read all 5,000 entries {reads} times");
}

#[test]
fn key_prefix_begins_every_key() {
    let server = Server::start();
    let backend = open(&server, "key_prefix=app");
    counter(&backend, "requests_total").inc(1.0).unwrap();
    flush(&backend);
    let expected = [
        "app-pytheus:families",
        "app-requests_total",
        "{app-requests_total}:meta",
        "{app-requests_total}:writers",
    ];
    assert_eq!(keys(&server), expected.map(str::to_owned).into());
    assert_eq!(lines(&open(&server, "key_prefix=app"), "requests_total"), ["requests_total 1"]);
    assert_eq!(open(&server, "").collect_text().unwrap(), "", "another prefix shares nothing");
}

#[test]
fn every_key_expires_after_its_last_write_or_scrape() {
    let server = Server::start();
    let backend = open(&server, "expire_key_time=500");
    let requests = counter(&backend, "requests_total");
    let family = declare(&backend, "size", MetricType::Summary, &[]);
    let size = family.metric(&[]).unwrap();
    flush(&backend);
    let all = keys(&server);
    assert_eq!(all.len(), 7);
    let times = |server: &Server| -> Vec<i64> {
        all.iter().map(|key| server.run_command::<i64>(&["TTL", key])).collect()
    };
    let is_fresh = |time: &i64| (400..=500).contains(time);
    assert!(times(&server).iter().all(is_fresh), "{:?}", times(&server));
    let age = || all.iter().for_each(|key| server.run_command(&["EXPIRE", key, "100"]));
    age();
    requests.inc(1.0).unwrap();
    size.observe(1.0).unwrap();
    flush(&backend);
    let data = |key: &str| server.run_command::<i64>(&["TTL", key]);
    let written =
        ["requests_total", "{requests_total}:writers", "{requests_total}:meta", "size", "{size}:writers"];
    for key in written {
        assert!(is_fresh(&data(key)), "a write refreshes {key}");
    }
    age();
    backend.collect(None).unwrap();
    assert!(times(&server).iter().all(is_fresh), "a scrape of all refreshes: {:?}", times(&server));
    age();
    backend.collect(Some(&[family])).unwrap();
    for key in ["size", "{size}:writers", "pytheus:families"] {
        assert!(is_fresh(&data(key)), "a scrape of one family refreshes {key}");
    }
    age();
    requests.get().unwrap();
    assert!(is_fresh(&data("requests_total")), "a read refreshes the key");
}

#[test]
fn definitions_do_not_expire_while_a_process_writes() {
    let server = Server::start();
    let backend = open(&server, "expire_key_time=2");
    let requests = counter(&backend, "requests_total");
    flush(&backend);
    server.run_command::<()>(&["HSET", "pytheus:families", "mark", "1"]);
    let left = || server.run_command::<i64>(&["PTTL", "pytheus:families"]);
    for _ in 0..3 {
        let mut before = left();
        wait_until("the definitions are written again before they expire", || {
            requests.inc(1.0).unwrap();
            let now = left();
            std::mem::replace(&mut before, now) + 300 < now
        });
    }
    assert_eq!(hash(&server, "pytheus:families").len(), 2, "the definitions did not expire in between");
}

#[test]
fn an_expired_family_begins_again_at_0() {
    let server = Server::start();
    let backend = open(&server, "");
    let requests = counter(&backend, "requests_total");
    requests.inc(5.0).unwrap();
    flush(&backend);
    server.run_words::<()>("DEL requests_total {requests_total}:writers");
    assert_eq!(lines(&backend, "requests_total"), ["requests_total 0"]);
    requests.inc(1.0).unwrap();
    assert_eq!(requests.get().unwrap(), 1.0);
}

#[test]
fn numbers_and_special_values_match_the_memory_store() {
    let server = Server::start();
    let redis = open(&server, "");
    let memory = Backend::open("memory:").unwrap();
    type Step = fn(&Metric);
    let steps: &[(&str, MetricType, &[Step])] = &[
        ("c_inf", MetricType::Counter, &[|m| m.inc(1.0).unwrap(), |m| m.inc(f64::INFINITY).unwrap()]),
        ("c_add", MetricType::Counter, &[|m| m.inc(0.1).unwrap(), |m| m.inc(0.2).unwrap()]),
        ("c_big", MetricType::Counter, &[|m| m.inc(1e300).unwrap(), |m| m.inc(1.0).unwrap()]),
        ("c_53", MetricType::Counter, &[|m| m.inc(9007199254740991.0).unwrap(), |m| m.inc(1.0).unwrap()]),
        ("c_odd", MetricType::Counter, &[|m| m.inc(123456789.01234567).unwrap()]),
        ("c_tiny", MetricType::Counter, &[|m| m.inc(5e-324).unwrap(), |m| m.inc(5e-324).unwrap()]),
        ("c_over", MetricType::Counter, &[|m| m.inc(1e308).unwrap(), |m| m.inc(1e308).unwrap()]),
        ("g_inf", MetricType::Gauge, &[|m| m.set(f64::INFINITY).unwrap(), |m| m.dec(5.0).unwrap()]),
        (
            "g_none",
            MetricType::Gauge,
            &[|m| m.inc(f64::INFINITY).unwrap(), |m| m.dec(f64::INFINITY).unwrap(), |m| m.inc(1.0).unwrap()],
        ),
        ("g_neg", MetricType::Gauge, &[|m| m.dec(f64::INFINITY).unwrap(), |m| m.inc(1.0).unwrap()]),
        ("g_back", MetricType::Gauge, &[|m| m.set(f64::NAN).unwrap(), |m| m.set(2.0).unwrap()]),
        ("g_nan", MetricType::Gauge, &[|m| m.set(2.0).unwrap(), |m| m.inc(f64::NAN).unwrap()]),
        ("g_zero", MetricType::Gauge, &[|m| m.inc(3.0).unwrap(), |m| m.set(0.0).unwrap()]),
        ("s_inf", MetricType::Summary, &[|m| m.observe(f64::INFINITY).unwrap()]),
        (
            "h_all",
            MetricType::Histogram,
            &[
                |m| m.observe(f64::NEG_INFINITY).unwrap(),
                |m| m.observe(f64::INFINITY).unwrap(),
                |m| m.observe(f64::NAN).unwrap(),
                |m| m.observe(-1.0).unwrap(),
            ],
        ),
        ("normal", MetricType::Counter, &[|m| m.inc(1.0).unwrap()]),
    ];
    for labels in [&[][..], &["a"]] {
        let values: Vec<&str> = labels.iter().map(|_| "x").collect();
        for &(name, metric_type, steps) in steps {
            let name = format!("{name}_{}", labels.len());
            let metric = |backend| declare(backend, &name, metric_type, labels).metric(&values).unwrap();
            let (here, there) = (metric(&memory), metric(&redis));
            for step in steps {
                step(&here);
                step(&there);
                // Each step finds the value that the previous one left on the server.
                flush(&redis);
            }
        }
    }
    assert_eq!(redis.collect_text().unwrap(), memory.collect_text().unwrap());
    assert_eq!(open(&server, "").collect_text().unwrap().lines().count(), {
        memory.collect_text().unwrap().lines().count()
    });
}

#[test]
fn counting_continues_from_special_values_of_other_processes() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "level", MetricType::Gauge, &["a"]);
    for (index, text) in
        ["inf", "+Inf", "-INF", "nan", "-nan", "1e3", " 7 ", "0.10000000000000000555"].into_iter().enumerate()
    {
        server.run_command::<()>(&["HSET", "level", &format!("{{\"a\":\"{index}\"}}"), text]);
        family.metric(&[&index.to_string()]).unwrap().inc(1.0).unwrap();
    }
    assert_eq!(
        lines(&backend, "level"),
        ["+Inf", "+Inf", "-Inf", "NaN", "NaN", "1001", "8", "1.1"]
            .iter()
            .enumerate()
            .map(|(index, value)| format!("level{{a=\"{index}\"}} {value}"))
            .collect::<Vec<_>>()
    );
}

#[test]
fn setting_and_adding_to_a_gauge_keep_their_order() {
    let server = Server::start();
    let backend = open(&server, "");
    let others = open(&server, "");
    let (level, theirs) = (gauge(&backend, "level"), gauge(&others, "level"));
    let steps: [(&dyn Fn(), f64); 4] = [
        (&|| (level.inc(5.0).unwrap(), level.set(2.0).unwrap(), level.inc(1.0).unwrap()).0, 3.0),
        (&|| (level.dec(1.5).unwrap(), level.inc(0.5).unwrap()).0, 2.0),
        (&|| (level.set(7.0).unwrap(), level.set(4.0).unwrap()).0, 4.0),
        (&|| (level.set(0.0).unwrap(), level.dec(1.0).unwrap()).0, -1.0),
    ];
    for (step, expected) in steps {
        step();
        assert_eq!(level.get().unwrap(), expected);
    }
    theirs.inc(10.0).unwrap();
    assert_eq!(theirs.get().unwrap(), 9.0, "an addition adds to the value that another process set");
    level.inc(1.0).unwrap();
    assert_eq!(level.get().unwrap(), 10.0);
    theirs.set(1.0).unwrap();
    assert_eq!(theirs.get().unwrap(), 1.0, "a set discards the additions of other processes");
}

#[test]
fn a_million_increments_take_fewer_than_2000_commands() {
    let server = Server::start();
    let backend = open(&server, "");
    let requests = counter(&backend, "requests_total");
    flush(&backend);
    server.run_words::<()>("CONFIG RESETSTAT");
    for _ in 0..1_000_000 {
        requests.inc(1.0).unwrap();
    }
    flush(&backend);
    assert_eq!(server.value("requests_total"), 1e6);
    let info: String = server.run_words("INFO commandstats");
    let calls =
        info.lines().filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok());
    assert!(calls.sum::<u64>() < 2_000, "{info}");
}

#[test]
fn many_changed_metrics_go_in_batches_of_at_most_1000() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "requests_total", MetricType::Counter, &["n"]);
    flush(&backend);
    server.run_words::<()>("CONFIG SET slowlog-log-slower-than 0");
    server.run_words::<()>("CONFIG SET slowlog-max-len 100000");
    // While the server is stopped, all changes but those in flight gather.
    server.stop();
    for n in 0..3_500 {
        family.metric(&[&n.to_string()]).unwrap().inc(f64::from(n)).unwrap();
    }
    server.go_on();
    flush(&backend);
    let stored = hash(&server, "requests_total");
    assert_eq!(stored.len(), 3_500);
    assert!((0..3_500).all(|n| stored[&format!("{{\"n\":\"{n}\"}}")] == n.to_string()));
    let log: Vec<redis::Value> = server.run_words("SLOWLOG GET 100000");
    let sizes: Vec<usize> = log.iter().filter_map(operations_of).collect();
    assert!(sizes.iter().sum::<usize>() >= 3_500, "{sizes:?}");
    assert!(sizes.iter().all(|&operations| operations <= 1_000), "{sizes:?}");
    assert!(sizes.iter().any(|&operations| operations > 500), "{sizes:?}");
}

/// Returns the number of operations of a batch from the slow log, which says "... (2977 more arguments)".
fn operations_of(entry: &redis::Value) -> Option<usize> {
    let redis::Value::Array(parts) = entry else { return None };
    let arguments: Vec<String> = redis::from_redis_value(parts[3].clone()).unwrap();
    if arguments[0] != "EVALSHA" {
        return None;
    }
    let more = arguments.last()?.strip_prefix("... (").and_then(|text| text.split(' ').next()?.parse().ok());
    let count = more.map_or(arguments.len(), |more: usize| arguments.len() - 1 + more);
    Some((count - 14) / 3)
}

#[test]
fn changes_of_several_backends_add_up_exactly() {
    let server = Server::start();
    let backends = [open(&server, "flush_interval_ms=1"), open(&server, "flush_interval_ms=2")];
    let mut threads = Vec::new();
    for backend in &backends {
        let requests = counter(backend, "requests_total");
        let times = declare(backend, "time", MetricType::Histogram, &["a"]);
        for thread in 0..3 {
            let (requests, time) = (Arc::clone(&requests), times.metric(&["x"]).unwrap());
            threads.push(std::thread::spawn(move || {
                for n in 0..20_000 {
                    requests.inc(1.0).unwrap();
                    time.observe(if n % 2 == 0 { 0.25 } else { 100.0 }).unwrap();
                    if n % 5_000 == 0 && thread == 0 {
                        requests.get().unwrap();
                    }
                }
            }));
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    backends.iter().for_each(flush);
    for backend in &backends {
        assert_eq!(lines(backend, "requests_total"), ["requests_total 120000"]);
        let text = lines(backend, "time");
        assert!(text.contains(&"time_bucket{a=\"x\",le=\"0.25\"} 60000".to_owned()), "{text:?}");
        assert!(text.contains(&"time_bucket{a=\"x\",le=\"+Inf\"} 120000".to_owned()), "{text:?}");
        assert!(text.contains(&"time_count{a=\"x\"} 120000".to_owned()), "{text:?}");
        assert!(text.contains(&"time_sum{a=\"x\"} 6015000".to_owned()), "{text:?}");
    }
}

// What is removed.

#[test]
fn a_removed_metric_is_gone_from_the_server_and_can_be_created_again() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "size", MetricType::Histogram, &["a"]);
    let (old, other) = (family.metric(&["x"]).unwrap(), family.metric(&["y"]).unwrap());
    old.observe(1.0).unwrap();
    other.observe(1.0).unwrap();
    flush(&backend);
    family.remove(&["x"]).unwrap();
    old.observe(1.0).unwrap();
    flush(&backend);
    assert!(hash(&server, "size").keys().all(|field| field.contains(r#""y""#)), "no field is left");
    assert_eq!(family.remove(&["x"]).unwrap_err().kind(), ErrorKind::NotFound);
    let new = family.metric(&["x"]).unwrap();
    assert_eq!(new.get_count().unwrap(), 0.0);
    assert_eq!(server.field("size", r#"{"a":"x"}#sum"#), 0.0);
    new.observe(4.0).unwrap();
    old.observe(100.0).unwrap();
    assert_eq!((new.get_sum().unwrap(), new.get_count().unwrap()), (4.0, 1.0));
}

#[test]
fn removing_and_creating_again_without_a_pause_keeps_their_order() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "requests_total", MetricType::Counter, &["a"]);
    for round in 1..300 {
        family.metric(&["x"]).unwrap().inc(1000.0).unwrap();
        family.remove(&["x"]).unwrap();
        let new = family.metric(&["x"]).unwrap();
        new.inc(f64::from(round)).unwrap();
        if round % 3 == 0 {
            assert_eq!(new.get().unwrap(), f64::from(round));
        }
        family.remove(&["x"]).unwrap();
    }
    flush(&backend);
    assert_eq!(hash(&server, "requests_total"), map(&[]));
}

#[test]
fn removing_a_metric_without_labels_deletes_its_key() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "level", MetricType::Gauge, &[]);
    family.metric(&[]).unwrap().set(3.0).unwrap();
    flush(&backend);
    family.remove(&[]).unwrap();
    flush(&backend);
    assert!(!keys(&server).contains("level"));
    assert_eq!(family.metric(&[]).unwrap().get().unwrap(), 0.0);
}

#[test]
fn clearing_a_family_removes_the_metrics_of_all_processes() {
    let server = Server::start();
    let (backend, other) = (open(&server, ""), open(&server, ""));
    let family = declare(&backend, "requests_total", MetricType::Counter, &["a"]);
    let theirs = declare(&other, "requests_total", MetricType::Counter, &["a"]).metric(&["y"]).unwrap();
    theirs.inc(1.0).unwrap();
    flush(&other);
    let old = family.metric(&["x"]).unwrap();
    old.inc(1.0).unwrap();
    flush(&backend);
    // Pending changes are cleared, too.
    old.inc(1.0).unwrap();
    family.clear().unwrap();
    old.inc(1.0).unwrap();
    flush(&backend);
    assert!(!keys(&server).contains("requests_total"));
    assert_eq!(server.calls_of("unlink"), 2, "a large family must not block the server");
    let new = family.metric(&["x"]).unwrap();
    new.inc(2.0).unwrap();
    theirs.inc(7.0).unwrap();
    flush(&other);
    assert_eq!(new.get().unwrap(), 2.0);
    assert_eq!(theirs.get().unwrap(), 7.0);
}

// Where the store is.

#[test]
fn database_unix_socket_and_client_name_are_used() {
    let server = Server::start();
    let url = format!("redis+unix://{}?db=3&client_name=me", server.unix_socket().display());
    let backend = Backend::open(&url).unwrap();
    counter(&backend, "requests_total").inc(1.0).unwrap();
    flush(&backend);
    assert!(server.run_words::<String>("CLIENT LIST").contains("name=me"));
    assert_eq!(keys(&server).len(), 0, "database 0 is empty");
    let backend = Backend::open(&format!("redis://127.0.0.1:{}/3", server.port())).unwrap();
    assert_eq!(lines(&backend, "requests_total"), ["requests_total 1"]);
}

#[test]
fn closing_sends_pending_changes_and_ends_the_connections() {
    let server = Server::start();
    let backend = open(&server, "flush_interval_ms=3600000");
    let requests = counter(&backend, "requests_total");
    for _ in 0..10 {
        requests.inc(1.0).unwrap();
    }
    requests.get().unwrap();
    requests.inc(1.0).unwrap();
    backend.close().unwrap();
    assert_eq!(server.value("requests_total"), 11.0);
    wait_until("its connections end", || server.clients() == 0);
    requests.inc(1.0).unwrap();
    for error in [backend.collect(None).unwrap_err(), backend.flush(PATIENCE).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("closed"), "{error}");
    }
    backend.close().unwrap();
    assert_eq!(server.value("requests_total"), 11.0);
}

#[test]
fn a_dropped_backend_ends_its_connections() {
    let server = Server::start();
    {
        let backend = open(&server, "");
        let requests = counter(&backend, "requests_total");
        requests.inc(1.0).unwrap();
        requests.get().unwrap();
    }
    // No handle is left, so the threads end.
    wait_until("its connections end", || server.clients() == 0);
}
