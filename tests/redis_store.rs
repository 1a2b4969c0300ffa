//! The Redis store with a real server: what it writes (the layout of `docs/redis-layout.md`), and how it combines and
//! removes values. What it reads is in `redis_read.rs`, foreign keys in `redis_foreign_keys.rs`, faults in
//! `redis_faults.rs` and `redis_refusals.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use log::Level;
use pytheus_backend_rs::{
    Backend, Definition, ErrorKind, Format, Lifetime, Metric, MetricType, NameRule, Others, RenderOptions,
    Snapshot,
};
use serde_json::{Value as Json, json};

use support::*;

fn keys(server: &Server) -> BTreeSet<String> {
    server.run_words("KEYS *")
}

fn hash(server: &Server, key: &str) -> BTreeMap<String, String> {
    server.run_command(&["HGETALL", key])
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Returns the series of one family: labels as JSON, and the value.
fn values(snapshot: &Snapshot, name: &str) -> BTreeMap<String, f64> {
    let family = snapshot.families.iter().find(|family| family.definition.name() == name);
    let series = family.unwrap_or_else(|| panic!("{name} is not in the snapshot")).series();
    series.map(|series| (json!(series.labels()).to_string(), series.value())).collect()
}

/// Returns the sample lines of one family.
fn lines(backend: &Backend, name: &str) -> Vec<String> {
    let text = backend.collect_text().unwrap();
    text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect()
}

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
        "{requests_total}:writers",
        "{temperature}:writers",
    ];
    assert_eq!(keys(&server), expected.map(str::to_owned).into());
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
    let expected = ["app-pytheus:families", "app-requests_total", "{app-requests_total}:writers"];
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
    assert_eq!(all.len(), 5);
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
    for key in ["requests_total", "{requests_total}:writers", "size", "{size}:writers"] {
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
    Some((count - 13) / 3)
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

// What is read.

#[test]
fn a_scrape_shows_every_change_that_happened_before_it() {
    let server = Server::start();
    // The flush interval is so long that nothing arrives without a scrape.
    let backend = open(&server, "flush_interval_ms=3600000");
    let requests = counter(&backend, "requests_total");
    for n in 1..200 {
        requests.inc(1.0).unwrap();
        assert_eq!(lines(&backend, "requests_total"), [format!("requests_total {n}")]);
    }
    requests.inc(1.0).unwrap();
    assert_eq!(requests.get().unwrap(), 200.0, "a read shows every change, too");
}

#[test]
fn metrics_that_only_other_processes_created_are_read() {
    let server = Server::start();
    let writer = open(&server, "");
    counter(&writer, "requests_total").inc(4.0).unwrap();
    declare(&writer, "errors_total", MetricType::Counter, &["b", "a"])
        .metric(&["1", "2"])
        .unwrap()
        .inc(5.0)
        .unwrap();
    declare(&writer, "size", MetricType::Summary, &[]).metric(&[]).unwrap().observe(2.0).unwrap();
    let time = declare_with_buckets(&writer, "time", MetricType::Histogram, &["a"], &[1.0, 2.0]);
    time.metric(&["x"]).unwrap().observe(1.5).unwrap();
    flush(&writer);
    let reader = open(&server, "");
    let own = counter(&reader, "zebra_total");
    own.inc(1.0).unwrap();
    let empty = declare(&reader, "errors_total", MetricType::Counter, &["a", "b"]);
    assert_eq!(
        reader.collect_text().unwrap(),
        "# HELP zebra_total Some help.\n# TYPE zebra_total counter\nzebra_total 1\n\
         # HELP errors_total Some help.\n# TYPE errors_total counter\nerrors_total{a=\"2\",b=\"1\"} 5\n\
         # HELP requests_total Some help.\n# TYPE requests_total counter\nrequests_total 4\n\
         # HELP size Some help.\n# TYPE size summary\nsize_sum 2\nsize_count 1\n\
         # HELP time Some help.\n# TYPE time histogram\n\
         time_bucket{a=\"x\",le=\"1\"} 0\ntime_bucket{a=\"x\",le=\"2\"} 1\n\
         time_bucket{a=\"x\",le=\"+Inf\"} 1\ntime_sum{a=\"x\"} 1.5\ntime_count{a=\"x\"} 1\n"
    );
    let some = reader.collect(Some(&[empty])).unwrap();
    assert_eq!(some.families.len(), 1, "the requested families only");
    assert_eq!(values(&some, "errors_total"), [(r#"{"a":"2","b":"1"}"#.to_owned(), 5.0)].into());
}

#[test]
fn families_of_other_processes_are_appended_on_request() {
    let server = Server::start();
    let (writer, reader) = (open(&server, ""), open(&server, ""));
    counter(&writer, "theirs_total").inc(1.0).unwrap();
    counter(&writer, "both_total").inc(2.0).unwrap();
    flush(&writer);
    let own = declare(&reader, "own_total", MetricType::Counter, &[]);
    declare(&reader, "both_total", MetricType::Counter, &[]);
    let options = RenderOptions { families: Some(&[own]), others: Others::Append, ..Default::default() };
    let rendered = reader.render(&options).unwrap();
    let (asked_for, others) = rendered.text.split_at(rendered.family_ends[0]);
    assert_eq!(asked_for, "# HELP own_total Some help.\n# TYPE own_total counter\n");
    assert_eq!(others, "# HELP theirs_total Some help.\n# TYPE theirs_total counter\ntheirs_total 1\n");
    let alone = reader.render(&RenderOptions { others: Others::None, ..options }).unwrap();
    assert_eq!(alone.text, asked_for);
}

#[test]
fn names_of_other_programs_are_escaped_for_the_client() {
    let server = Server::start();
    let definition = r#"{"type":"counter","help":"","labels":["http.method"]}"#;
    server.run_command::<()>(&["HSET", "pytheus:families", "http.requests_total", definition]);
    server.run_command::<()>(&["HSET", "http.requests_total", r#"{"http.method":"GET"}"#, "3"]);
    let reader = open(&server, "");
    assert_eq!(lines(&reader, "http"), [r#"http_requests_total{http_method="GET"} 3"#]);
    let format = Format::negotiate(Some("text/plain;version=1.0.0;escaping=allow-utf-8"));
    let text = reader.render(&RenderOptions { format, ..Default::default() }).unwrap().text;
    assert!(text.ends_with("\n{\"http.requests_total\",\"http.method\"=\"GET\"} 3\n"), "{text}");
}

#[test]
fn a_name_whose_key_is_taken_is_refused() {
    let server = Server::start();
    let backend = open(&server, "");
    for name in ["pytheus:families", "{requests_total}:writers"] {
        let definition =
            Definition::with_names(NameRule::Utf8, name, "", MetricType::Counter, &[], &[]).unwrap();
        let error = backend.declare(definition, &[], Lifetime::Backend).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains(name), "{error}");
    }
}

#[test]
fn foreign_spellings_of_labels_and_bounds_are_read() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "requests_total", MetricType::Counter, &["a", "b"]);
    family.metric(&["x", "1"]).unwrap().inc(1.0).unwrap();
    for (field, value) in [(r#"{"b": "1", "a": "x"}"#, "10"), (r#"{"b":1,"a":"x"}"#, "100")] {
        server.run_command::<()>(&["HSET", "requests_total", field, value]);
    }
    server.run_command::<()>(&["HSET", "requests_total", r#"{"a": "y", "b": "\u00e9"}"#, "1e1"]);
    assert_eq!(
        values(&backend.collect(None).unwrap(), "requests_total"),
        [(r#"{"a":"x","b":"1"}"#.to_owned(), 111.0), (r#"{"a":"y","b":"é"}"#.to_owned(), 10.0)].into()
    );
    declare_with_buckets(&backend, "size", MetricType::Histogram, &[], &[0.5, 10.0]).metric(&[]).unwrap();
    for (field, value) in
        [("{}#le=0.50", "1"), ("{}#le=1e1", "2"), ("{}#le=inf", "4"), ("{ }#sum", "7"), ("{}#le=3", "8")]
    {
        server.run_command::<()>(&["HSET", "size", field, value]);
    }
    assert_eq!(
        lines(&backend, "size"),
        [
            "size_bucket{le=\"0.5\"} 1",
            "size_bucket{le=\"10\"} 11",
            "size_bucket{le=\"+Inf\"} 15",
            "size_sum 7",
            "size_count 15"
        ]
    );
}

#[test]
fn additions_of_pytheus_backend_rs_0_0_9_to_the_same_keys_count() {
    let server = Server::start();
    let backend = open(&server, "");
    let requests = counter(&backend, "requests_total");
    let labels = declare(&backend, "errors_total", MetricType::Counter, &["z", "bob"]);
    let errors = labels.metric(&["1", "cat"]).unwrap();
    // The commands that 0.0.9 sends, as MONITOR shows them.
    let field = r#"{"bob":"cat","z":"1"}"#;
    for _ in 0..3 {
        requests.inc(0.25).unwrap();
        errors.inc(0.5).unwrap();
        flush(&backend);
        server.run_words::<()>("INCRBYFLOAT requests_total 2.0");
        server.run_command::<()>(&["HINCRBYFLOAT", "errors_total", field, "3.0"]);
    }
    assert_eq!((requests.get().unwrap(), errors.get().unwrap()), (6.75, 10.5));
    assert_eq!(lines(&backend, "errors_total"), ["errors_total{bob=\"cat\",z=\"1\"} 10.5"]);
}

#[test]
fn each_kind_of_value_can_be_read() {
    let server = Server::start();
    let backend = open(&server, "");
    let requests = declare(&backend, "requests_total", MetricType::Counter, &["a"]).metric(&["x"]).unwrap();
    requests.inc(2.0).unwrap();
    assert_eq!(requests.get().unwrap(), 2.0);
    let level = gauge(&backend, "level");
    level.set(-1.0).unwrap();
    assert_eq!(level.get().unwrap(), -1.0);
    let size = declare(&backend, "size", MetricType::Summary, &[]).metric(&[]).unwrap();
    size.observe(2.5).unwrap();
    assert_eq!((size.get_sum().unwrap(), size.get_count().unwrap()), (2.5, 1.0));
    let time = declare_with_buckets(&backend, "time", MetricType::Histogram, &[], &[1.0, 2.0]);
    let time = time.metric(&[]).unwrap();
    [0.5, 1.5, 1.5, 9.0].iter().for_each(|&value| time.observe(value).unwrap());
    assert_eq!((time.get_sum().unwrap(), time.get_count().unwrap()), (12.5, 4.0));
    let buckets = [1.0, 2.0, f64::INFINITY].map(|bound| time.get_bucket(bound).unwrap());
    assert_eq!(buckets, [1.0, 3.0, 4.0]);
    assert_eq!(time.get_bucket(1.5).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(time.get().unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(level.get_sum().unwrap_err().kind(), ErrorKind::WrongType);
}

#[test]
fn scrapes_from_many_threads_are_all_answered() {
    let server = Server::start();
    let backend = open(&server, "pipeline_threads=3");
    let requests = counter(&backend, "requests_total");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    requests.inc(1.0).unwrap();
                    assert!(requests.get().unwrap() >= 1.0);
                    assert_eq!(backend.collect(None).unwrap().families.len(), 1);
                }
            });
        }
    });
    assert_eq!(requests.get().unwrap(), 200.0);
}

// What is taken away.

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
    let new = family.metric(&["x"]).unwrap();
    new.inc(2.0).unwrap();
    theirs.inc(7.0).unwrap();
    flush(&other);
    assert_eq!(new.get().unwrap(), 2.0);
    assert_eq!(theirs.get().unwrap(), 7.0);
}

// What others do wrong.

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
        for lifetime in [Lifetime::Backend, Lifetime::Handle] {
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
        log_records(Level::Error, &["garbled_total", r#"{"a":"x"}: the value was no number"#]).len(),
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
    let server = Server::start();
    let backend = open(&server, "");
    let requests = counter(&backend, "requests_total");
    requests.inc(5.0).unwrap();
    flush(&backend);
    server.run_words::<()>("FLUSHALL");
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
