//! Series on a server that end when no process uses them: what the script notes, when readers hide them, who ends them,
//! and that a series that begins anew misses no count.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use pytheus_backend_rs::{Backend, Definition, Lifetime, MetricFamily, MetricType};

use support::cluster::Cluster;
use support::process::{SharedNumbers, fork, live_for};
use support::replicas::Replicas;
use support::*;

/// With this time, the last use is noted once in 10 seconds, and a series ends 180 seconds after the noted one.
const TTL: f64 = 160.0;
const GRAIN: i64 = 10;
const LIMIT: i64 = 180;

fn family(backend: &Backend, metric_type: MetricType, labels: &[&str], ttl: f64) -> MetricFamily {
    let definition = Definition::new(metric_type.name(), "", metric_type, labels, &[]).unwrap();
    backend.declare(definition.with_series_ttl(ttl).unwrap(), labels, Lifetime::Backend).unwrap()
}

fn counters(backend: &Backend, ttl: f64) -> MetricFamily {
    family(backend, MetricType::Counter, &["a"], ttl)
}

/// Returns the lines of all series.
fn shown(backend: &Backend) -> Vec<String> {
    let text = backend.collect_text().unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

fn labels(value: &str) -> String {
    format!(r#"{{"a":"{value}"}}"#)
}

/// Returns when a series of the counter was last used and when it began, as the server has noted it.
fn used(server: &Server, labels: &str) -> Option<(i64, i64)> {
    let text: Option<String> = server.run_command(&["HGET", "{counter}:meta", &format!("used {labels}")]);
    let text = text?;
    let (used, began) = text.split_once(' ').unwrap();
    Some((used.parse().unwrap(), began.parse().unwrap()))
}

/// Makes a series of the counter look as if it was used so many seconds earlier.
fn age(server: &Server, labels: &str, seconds: i64) {
    let (used, began) = used(server, labels).unwrap();
    let times = format!("{} {}", used - seconds, began - seconds);
    server.run_command::<()>(&["HSET", "{counter}:meta", &format!("used {labels}"), &times]);
}

/// Lets the next batch search for series that have ended, though one has just done so.
fn search_again(server: &Server) {
    let text: Option<String> = server.run_command(&["HGET", "{counter}:writers", "ttl"]);
    let text = text.unwrap();
    let (state, _) = text.rsplit_once(' ').unwrap();
    server.run_command::<()>(&["HSET", "{counter}:writers", "ttl", &format!("{state} 0")]);
}

fn now(server: &Server) -> i64 {
    server.run_words::<(i64, i64)>("TIME").0
}

#[test]
fn a_series_that_is_not_used_is_gone_and_begins_anew_at_0() {
    let server = Server::start();
    let backend = open(&server, "");
    let counters = counters(&backend, 1.0);
    let (kept, used) = (counters.metric(&["kept"]).unwrap(), counters.metric(&["used"]).unwrap());
    kept.inc(5.0).unwrap();
    counters.metric(&["dropped"]).unwrap().inc(1.0).unwrap();
    assert_eq!(shown(&backend).len(), 3);
    wait_until("the others have ended", || {
        used.inc(1.0).unwrap();
        shown(&backend).len() == 1
    });
    assert_eq!(kept.get().unwrap(), 0.0);
    wait_until("a batch has deleted them", || {
        used.inc(1.0).unwrap();
        flush(&backend);
        hash(&server, "counter").len() == 1
    });
    let of_used = [labels("used")].map(|labels| (format!("created {labels}"), format!("used {labels}")));
    let meta: Vec<String> = hash(&server, "{counter}:meta").into_keys().collect();
    assert_eq!(meta, [of_used[0].0.as_str(), &of_used[0].1]);
    kept.inc(2.0).unwrap();
    assert_eq!(kept.get().unwrap(), 2.0);
    assert!(shown(&backend).contains(&"counter{a=\"kept\"} 2".to_owned()));
    wait_until("it has ended again", || {
        used.inc(1.0).unwrap();
        shown(&backend).len() == 1
    });
    assert!(Arc::ptr_eq(&counters.metric(&["kept"]).unwrap(), &kept));
    assert!(shown(&backend).contains(&"counter{a=\"kept\"} 0".to_owned()), "a look-up is use");
}

#[test]
fn a_series_that_has_ended_is_hidden_from_every_reader_and_begins_anew_with_the_next_change() {
    let server = Server::start();
    let (backend, other) = (open(&server, ""), open(&server, ""));
    let counter = counters(&backend, TTL).metric(&["x"]).unwrap();
    counter.inc(5.0).unwrap();
    flush(&backend);
    assert_eq!(shown(&other), ["counter{a=\"x\"} 5"]);
    let created =
        |server: &Server| hash(server, "{counter}:meta")[&format!("created {}", labels("x"))].clone();
    let before = created(&server);
    age(&server, &labels("x"), LIMIT + 1);
    let reader = open(&server, "read_only=true");
    for backend in [&backend, &other, &reader] {
        assert_eq!(shown(backend), [""; 0]);
    }
    assert_eq!(server.field("counter", &labels("x")), 5.0, "readers delete nothing");
    counter.inc(2.0).unwrap();
    flush(&backend);
    for backend in [&backend, &other, &reader] {
        assert_eq!(shown(backend), ["counter{a=\"x\"} 2"]);
    }
    assert_ne!(created(&server), before);
    let (used, began) = used(&server, &labels("x")).unwrap();
    assert!(used == began && now(&server) - began <= 2);
}

#[test]
fn every_type_begins_anew() {
    let server = Server::start();
    let backend = open(&server, "");
    let of_type = |metric_type| family(&backend, metric_type, &["a"], TTL);
    let metric = |metric_type| of_type(metric_type).metric(&["x"]).unwrap();
    let (gauge, summary) = (metric(MetricType::Gauge), metric(MetricType::Summary));
    let (histogram, ages) = (metric(MetricType::Histogram), metric(MetricType::GaugeHistogram));
    let native = Definition::new("native", "", MetricType::Histogram, &["a"], &[]).unwrap();
    let native = native.with_native(Default::default(), false).unwrap().with_series_ttl(TTL).unwrap();
    let native = backend.declare(native, &["a"], Lifetime::Backend).unwrap().metric(&["x"]).unwrap();
    let states = Definition::state_set(Default::default(), "states", "", &["a"], &["on", "off"]).unwrap();
    let states = states.with_series_ttl(TTL).unwrap();
    let states = backend.declare(states, &["a"], Lifetime::Backend).unwrap().metric(&["x"]).unwrap();
    // Without labels it is a string.
    let plain = Definition::new("plain", "", MetricType::Counter, &[], &[]).unwrap();
    let plain = backend.declare(plain.with_series_ttl(TTL).unwrap(), &[], Lifetime::Backend).unwrap();
    let plain = plain.metric(&[]).unwrap();
    let info = of_type(MetricType::Info);
    let count = || {
        gauge.set(7.0).unwrap();
        [&summary, &histogram, &ages, &native].iter().for_each(|metric| metric.observe(2.0).unwrap());
        states.set_state("on", true).unwrap();
        plain.inc(3.0).unwrap();
        info.set_info(&["x"], &[("version", "1")]).unwrap();
        flush(&backend);
        shown(&backend)
    };
    let first = count();
    assert!(first.len() > 30, "{first:?}");
    for key in keys(&server).iter().filter(|key| key.ends_with(":meta")) {
        for (field, times) in hash(&server, key) {
            if field.starts_with("used ") {
                let (used, began) = times.split_once(' ').unwrap();
                let earlier = |time: &str| time.parse::<i64>().unwrap() - LIMIT - 1;
                let times = format!("{} {}", earlier(used), earlier(began));
                server.run_command::<()>(&["HSET", key, &field, &times]);
            }
        }
    }
    assert_eq!(shown(&backend), [""; 0]);
    assert_eq!(count(), first);
    assert_eq!(native.get_count().unwrap(), 1.0);
}

#[test]
fn a_series_that_begins_anew_has_no_exemplar_of_the_one_before() {
    let server = Server::start();
    let backend = open(&server, "");
    let definition = Definition::new("counter", "", MetricType::Counter, &["a"], &[]).unwrap();
    let definition = definition.with_exemplars().unwrap().with_series_ttl(TTL).unwrap();
    let counter = backend.declare(definition, &["a"], Lifetime::Backend).unwrap().metric(&["x"]).unwrap();
    let inc = |trace: &str| {
        counter.inc_with_exemplar(1.0, &[("trace_id", trace)]).unwrap();
        flush(&backend);
    };
    let exemplars = || {
        let meta = hash(&server, "{counter}:meta").into_iter();
        meta.filter(|(field, _)| field.starts_with("exemplar ")).map(|(_, text)| text).collect::<Vec<_>>()
    };
    inc("first");
    assert_eq!(exemplars().len(), 1);
    age(&server, &labels("x"), LIMIT + 1);
    counter.inc(1.0).unwrap();
    flush(&backend);
    assert_eq!(exemplars(), [""; 0]);
    wait_until("the slot takes another exemplar", || counter.takes_exemplar(1.0));
    age(&server, &labels("x"), LIMIT + 1);
    inc("second");
    assert_eq!(server.field("counter", &labels("x")), 1.0);
    assert!(exemplars()[0].ends_with("{\"trace_id\":\"second\"}"), "with its first change");
}

#[test]
fn setting_the_same_value_and_looking_a_metric_up_are_use() {
    let server = Server::start();
    let backend = open(&server, "");
    let gauges = family(&backend, MetricType::Gauge, &["a"], 1.0);
    let same = gauges.metric(&["same"]).unwrap();
    gauges.metric(&["looked up"]).unwrap().set(2.0).unwrap();
    gauges.metric(&["other"]).unwrap().set(3.0).unwrap();
    wait_until("the other series has ended", || {
        same.set(3.0).unwrap();
        gauges.metric(&["looked up"]).unwrap();
        shown(&backend).len() == 2
    });
    assert_eq!(shown(&backend), ["gauge{a=\"looked up\"} 2", "gauge{a=\"same\"} 3"]);
}

#[test]
fn the_option_of_a_store_is_for_families_that_say_nothing_themselves() {
    let server = Server::start();
    let backend = open(&server, "series_ttl=1&self_metrics=true");
    gauge(&backend, "g_store").set(1.0).unwrap();
    let endless = Definition::new("g_never", "", MetricType::Gauge, &[], &[]).unwrap();
    let endless = endless.with_series_ttl(f64::INFINITY).unwrap();
    let endless = backend.declare(endless, &[], Lifetime::Backend).unwrap();
    endless.metric(&[]).unwrap().set(1.0).unwrap();
    let own = || shown(&backend).into_iter().filter(|line| line.starts_with("g_")).collect::<Vec<_>>();
    wait_until("the series has ended", || own() == ["g_never 1"]);
    assert!(shown(&backend).iter().any(|line| line.starts_with("pytheus_backend_losses_total")));
}

#[test]
fn a_use_is_noted_once_in_a_sixteenth_of_the_time() {
    let server = Server::start();
    let backend = open(&server, "");
    let counter = counters(&backend, TTL).metric(&["x"]).unwrap();
    let count = || {
        counter.inc(1.0).unwrap();
        flush(&backend);
    };
    count();
    age(&server, &labels("x"), GRAIN - 3);
    let before = used(&server, &labels("x"));
    (0..3).for_each(|_| count());
    assert_eq!(used(&server, &labels("x")), before);
    age(&server, &labels("x"), 4);
    count();
    let (used, _) = used(&server, &labels("x")).unwrap();
    assert!(now(&server) - used <= 1, "{used}");
    assert_eq!(server.field("counter", &labels("x")), 5.0);
}

#[test]
fn a_batch_ends_a_bounded_number_of_series() {
    let server = Server::start();
    let backend = open(&server, "");
    let family = counters(&backend, TTL);
    let counter = family.metric(&["used"]).unwrap();
    for number in 0..1000 {
        family.metric(&[&number.to_string()]).unwrap().inc(1.0).unwrap();
    }
    flush(&backend);
    for number in 0..1000 {
        age(&server, &labels(&number.to_string()), LIMIT + 1);
    }
    let mut left = 1001;
    while left > 1 {
        search_again(&server);
        counter.inc(1.0).unwrap();
        flush(&backend);
        let now_left = hash(&server, "counter").len();
        assert!(left - now_left <= 100, "{left}, then {now_left}");
        left = now_left;
        assert_eq!(shown(&backend).len(), 1, "all are hidden");
    }
    assert_eq!(hash(&server, "{counter}:meta").len(), 2);
}

#[test]
fn a_writer_that_comes_back_while_its_series_ends_loses_nothing() {
    const ROUNDS: u64 = 1000;
    let server = Server::start();
    let (backend, other) = (open(&server, ""), open(&server, ""));
    let sweeper = counters(&backend, TTL).metric(&["sweeper"]).unwrap();
    // The number of the round that begins, and of the last one in which the child has counted.
    let turns = SharedNumbers::new(2);
    let child = fork(|| {
        live_for(300);
        let backend = open(&server, "");
        let counter = counters(&backend, TTL).metric(&["x"]).unwrap();
        for round in 0..=ROUNDS {
            while turns.get(0) < round {
                std::hint::spin_loop();
            }
            counter.inc(1.0).unwrap();
            flush(&backend);
            turns.add(1, 1);
        }
        true
    });
    let (mut expected, mut anew) = (1.0, 0);
    for round in 1..=ROUNDS {
        wait_until("the child has counted", || turns.get(1) == round);
        // At the last second at which the series lives, or one later.
        age(&server, &labels("x"), LIMIT + round as i64 % 2);
        search_again(&server);
        turns.add(0, 1);
        sweeper.inc(1.0).unwrap();
        flush(&backend);
        shown(&other);
        wait_until("the child has counted again", || turns.get(1) == round + 1);
        let value =
            shown(&other).iter().find_map(|line| line.strip_prefix("counter{a=\"x\"} ").map(str::to_owned));
        let value: f64 = value.unwrap_or_else(|| panic!("round {round}: it is not there")).parse().unwrap();
        assert!(value == expected + 1.0 || value == 1.0, "round {round}: {expected}, then {value}");
        anew += u64::from(value == 1.0);
        expected = value;
    }
    child.join();
    assert!(anew >= ROUNDS / 2, "{anew} of {ROUNDS}");
}

#[test]
fn a_writer_that_declares_no_time_follows_those_that_do_as_long_as_there_are_some() {
    let server = Server::start();
    let (backend, other) = (open(&server, ""), open(&server, ""));
    counters(&backend, TTL).metric(&["x"]).unwrap().inc(1.0).unwrap();
    flush(&backend);
    let plain = declare(&other, "counter", MetricType::Counter, &["a"]).metric(&["x"]).unwrap();
    age(&server, &labels("x"), LIMIT - 5);
    plain.inc(1.0).unwrap();
    flush(&other);
    assert!(now(&server) - used(&server, &labels("x")).unwrap().0 <= 1, "its changes are use");
    age(&server, &labels("x"), LIMIT + 1);
    plain.inc(1.0).unwrap();
    flush(&other);
    assert_eq!(server.field("counter", &labels("x")), 1.0);
    age(&server, &labels("x"), LIMIT + 1);
    let old = format!("160 0 {}", now(&server) - LIMIT - 1);
    server.run_command::<()>(&["HSET", "{counter}:writers", "ttl", &old]);
    plain.inc(1.0).unwrap();
    flush(&other);
    assert_eq!(server.field("counter", &labels("x")), 2.0, "no series end any more");
}

#[test]
fn a_series_that_only_older_programs_use_does_not_end() {
    let server = Server::start();
    let backend = open(&server, "");
    let counter = counters(&backend, TTL).metric(&["x"]).unwrap();
    counter.inc(1.0).unwrap();
    flush(&backend);
    server.run_command::<()>(&["HINCRBYFLOAT", "counter", &labels("old"), "3"]);
    search_again(&server);
    counter.inc(1.0).unwrap();
    assert_eq!(shown(&backend), ["counter{a=\"old\"} 3", "counter{a=\"x\"} 2"]);
    // A newer program that uses it notes that.
    counters(&backend, TTL).metric(&["old"]).unwrap().inc(1.0).unwrap();
    flush(&backend);
    assert!(used(&server, &labels("old")).is_some());
    assert_eq!(server.field("counter", &labels("old")), 4.0);
}

#[test]
fn a_removed_series_leaves_no_time_behind() {
    let server = Server::start();
    let backend = open(&server, "");
    let counters = counters(&backend, TTL);
    counters.metric(&["x"]).unwrap().inc(1.0).unwrap();
    flush(&backend);
    counters.remove(&["x"]).unwrap();
    flush(&backend);
    assert_eq!(hash(&server, "{counter}:meta").len(), 0);
    counters.metric(&["x"]).unwrap().inc(1.0).unwrap();
    flush(&backend);
    assert!(used(&server, &labels("x")).is_some());
    counters.clear().unwrap();
    flush(&backend);
    assert_eq!(hash(&server, "{counter}:meta").len(), 0);
}

#[test]
fn a_clock_that_was_ahead_keeps_no_series_alive() {
    let server = Server::start();
    let backend = open(&server, "");
    let counter = counters(&backend, TTL).metric(&["x"]).unwrap();
    counter.inc(1.0).unwrap();
    flush(&backend);
    age(&server, &labels("x"), -100_000);
    counter.inc(1.0).unwrap();
    assert_eq!(shown(&backend), ["counter{a=\"x\"} 2"]);
    let (used, began) = used(&server, &labels("x")).unwrap();
    assert!(used <= now(&server) && began <= used);
}

#[test]
fn series_that_nobody_holds_leave_no_memory_behind() {
    let server = Server::start();
    let backend = open(&server, "");
    let counters = counters(&backend, 1.0);
    let counter = counters.metric(&["x"]).unwrap();
    counter.inc(1.0).unwrap();
    let left = Arc::downgrade(&counter);
    drop(counter);
    let mut number = 0;
    wait_until("the table has dropped it", || {
        number += 1;
        counters.metric(&[&number.to_string()]).unwrap();
        flush(&backend);
        left.strong_count() == 0
    });
}

#[test]
fn a_loss_brings_no_series_back_that_has_ended() {
    let mut server = Server::start();
    let backend = open(&server, "");
    // The series must not end while the server is away.
    let gauges = family(&backend, MetricType::Gauge, &["a"], 3.0);
    let (ended, used) = (gauges.metric(&["ended"]).unwrap(), gauges.metric(&["used"]).unwrap());
    ended.set(5.0).unwrap();
    wait_until("the other series has ended", || {
        used.set(7.0).unwrap();
        shown(&backend).len() == 1
    });
    server.lose_data();
    let count = || backend.collect_text().map_or(0, |text| text.matches("\ngauge{").count());
    wait_until("the gauge is restored", || {
        used.inc(0.0).unwrap();
        count() == 1
    });
    assert_eq!(shown(&backend), ["gauge{a=\"used\"} 7"]);
    // What it was set to before its end does not come back either.
    ended.inc(1.0).unwrap();
    flush(&backend);
    server.lose_data();
    wait_until("both gauges are restored", || {
        used.inc(0.0).unwrap();
        ended.inc(0.0).unwrap();
        count() == 2
    });
    assert_eq!(shown(&backend), ["gauge{a=\"ended\"} 1", "gauge{a=\"used\"} 7"]);
}

#[test]
fn a_gauge_that_was_only_added_to_is_restored_after_each_loss() {
    let mut server = Server::start();
    let backend = open(&server, "");
    let gauges = family(&backend, MetricType::Gauge, &["a"], 60.0);
    let added = gauges.metric(&["added"]).unwrap();
    added.inc(10.0).unwrap();
    flush(&backend);
    for expected in [11, 12] {
        server.lose_data();
        added.inc(1.0).unwrap();
        let line = format!("\ngauge{{a=\"added\"}} {expected}\n");
        wait_until("the gauge is restored", || {
            added.inc(0.0).unwrap();
            backend.collect_text().is_ok_and(|text| text.contains(&line))
        });
    }
}

#[test]
fn a_series_that_ended_before_a_failover_does_not_come_back_with_old_counts() {
    let mut servers = Replicas::start();
    let backend = Backend::open(&servers.front.url("")).unwrap();
    // What is sent again must not have ended by then.
    let counters = counters(&backend, 5.0);
    let (before, within) = (counters.metric(&["before"]).unwrap(), counters.metric(&["within"]).unwrap());
    let used = counters.metric(&["used"]).unwrap();
    before.inc(5.0).unwrap();
    flush(&backend);
    let replica = |label: &str| servers.replicas[0].field("counter", &labels(label));
    wait_until("it is replicated", || replica("before") == 5.0);
    servers.cut();
    within.inc(7.0).unwrap();
    wait_until("both series have ended", || {
        used.inc(1.0).unwrap();
        shown(&backend).len() == 1
    });
    before.inc(1.0).unwrap();
    within.inc(1.0).unwrap();
    flush(&backend);
    let total: f64 = servers.master.field("counter", &labels("used"));
    servers.master.kill();
    servers.promote(0);
    flush_at_last(&backend);
    let new = &servers.replicas[0];
    wait_until("it is sent again", || new.field("counter", &labels("used")) == total);
    assert_eq!(new.field("counter", &labels("before")), 1.0);
    assert_eq!(new.field("counter", &labels("within")), 1.0);
    assert_eq!(backend.statistics().losses, 0);
}

#[test]
fn series_end_in_a_cluster_and_do_not_stop_a_move_of_their_slot() {
    let cluster = Cluster::start();
    let backend = Backend::open(&cluster.url("")).unwrap();
    let family = counters(&backend, TTL);
    family.metric(&["x"]).unwrap().inc(1.0).unwrap();
    family.metric(&["old"]).unwrap().inc(1.0).unwrap();
    flush(&backend);
    let slot = cluster.slot("counter");
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    age(&cluster.nodes[from], &labels("old"), LIMIT + 1);
    assert_eq!(lines(&backend, "counter"), ["counter{a=\"x\"} 1"]);
    cluster.begin_move(slot, to);
    for key in ["counter", "{counter}:writers"] {
        cluster.move_key(key, from, to);
    }
    family.metric(&["y"]).unwrap().inc(1.0).unwrap();
    flush(&backend);
    // This fails if the other node has made the key already.
    cluster.move_key("{counter}:meta", from, to);
    // The times cannot be listed while the slot moves, so a scrape may show the other series, too.
    let shown = lines(&backend, "counter");
    assert!(
        ["counter{a=\"x\"} 1", "counter{a=\"y\"} 1"].iter().all(|line| shown.contains(&(*line).to_owned()))
    );
}
