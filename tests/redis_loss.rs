//! The Redis store after the server lost confirmed data: it restarts empty, is flushed, or keys expire.
//! Counters continue with later counts, every series that a living process knows exists again, and gauges
//! have their last value.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use log::Level;
use pytheus_backend_rs::{Backend, Definition, Lifetime, Metric, MetricFamily, MetricType};

use support::process::fork;
use support::proxy::{Direction, Proxy};
use support::*;

/// Returns the sorted sample lines of all families.
fn lines(backend: &Backend) -> Vec<String> {
    let text = backend.collect_text().unwrap();
    let mut lines: Vec<String> =
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    lines.sort();
    lines
}

fn definitions(server: &Server) -> BTreeSet<String> {
    server.run_words("HKEYS pytheus:families")
}

/// One family of each kind, with values.
struct Everything {
    requests: Arc<Metric>,
    by_path: MetricFamily,
    size: Arc<Metric>,
    time: Arc<Metric>,
    level: Arc<Metric>,
    in_progress: MetricFamily,
}

impl Everything {
    fn new(backend: &Backend) -> Self {
        let one = |name, metric_type| declare(backend, name, metric_type, &[]).metric(&[]).unwrap();
        let everything = Self {
            requests: counter(backend, "requests_total"),
            by_path: declare(backend, "by_path_total", MetricType::Counter, &["path"]),
            size: one("size", MetricType::Summary),
            time: declare_with_buckets(backend, "time", MetricType::Histogram, &[], &[1.0])
                .metric(&[])
                .unwrap(),
            level: gauge(backend, "level"),
            in_progress: declare(backend, "in_progress", MetricType::Gauge, &["path"]),
        };
        everything.requests.inc(5.0).unwrap();
        everything.by_path.metric(&["/"]).unwrap().inc(6.0).unwrap();
        everything.size.observe(7.0).unwrap();
        everything.time.observe(0.5).unwrap();
        everything.level.set(70.0).unwrap();
        everything.level.inc(3.0).unwrap();
        everything.in_progress.metric(&["/"]).unwrap().inc(2.0).unwrap();
        flush(backend);
        everything.in_progress.metric(&["/"]).unwrap().inc(2.0).unwrap();
        everything.in_progress.metric(&["/"]).unwrap().dec(1.0).unwrap();
        flush(backend);
        everything
    }

    fn names() -> BTreeSet<String> {
        ["requests_total", "by_path_total", "size", "time", "level", "in_progress"].map(str::to_owned).into()
    }

    /// Returns the lines of a scrape after the server lost all data.
    fn lines_after_loss() -> Vec<&'static str> {
        vec![
            "by_path_total{path=\"/\"} 0",
            "in_progress{path=\"/\"} 3",
            "level 73",
            "requests_total 0",
            "size_count 0",
            "size_sum 0",
            "time_bucket{le=\"+Inf\"} 0",
            "time_bucket{le=\"1\"} 0",
            "time_count 0",
            "time_sum 0",
        ]
    }

    fn is_there(server: &Server) -> bool {
        server.value("level") == 73.0
            && server.field("in_progress", r#"{"path":"/"}"#) == 3.0
            && server.run_words::<u64>("EXISTS requests_total by_path_total size time") == 4
            && definitions(server) == Self::names()
    }
}

#[test]
fn the_first_scrape_after_an_empty_restart_shows_all_series_and_gauges() {
    remember_log();
    let mut server = Server::start();
    // Only the scrape makes this process contact the server.
    let backend = open(&server, "flush_interval_ms=3600000");
    let everything = Everything::new(&backend);
    server.kill();
    server.run();
    assert_eq!(lines(&backend), Everything::lines_after_loss());
    assert!(Everything::is_there(&server), "the server has the series again");
    everything.requests.inc(1.0).unwrap();
    everything.time.observe(2.0).unwrap();
    everything.level.inc(1.0).unwrap();
    assert_eq!(everything.requests.get().unwrap(), 1.0, "only later counts");
    assert_eq!(everything.time.get_count().unwrap(), 1.0);
    assert_eq!(everything.level.get().unwrap(), 74.0);
    let port = format!(":{}", server.port());
    assert_eq!(log_records(Level::Warn, &["has lost 6 metric families", &port]).len(), 1, "one record");
}

#[test]
fn a_scrape_of_some_families_restores_them_and_their_definitions() {
    let server = Server::start();
    let backend = open(&server, "flush_interval_ms=3600000&expire_key_time=1");
    let everything = Everything::new(&backend);
    wait_until("all keys expire", || server.run_words::<u64>("DBSIZE") == 0);
    let some = backend.collect(Some(std::slice::from_ref(&everything.in_progress))).unwrap();
    assert_eq!(some.families[0].series().next().unwrap().value(), 3.0);
    assert_eq!(definitions(&server), Everything::names());
    // Reading one metric restores them, too.
    assert_eq!(everything.level.get().unwrap(), 73.0);
    assert_eq!(
        lines(&open(&server, "")),
        ["in_progress{path=\"/\"} 3", "level 73"],
        "the others were not asked for"
    );
}

#[test]
fn the_first_change_after_a_loss_restores_its_family() {
    let mut server = Server::start();
    let backend = open(&server, "flush_interval_ms=3600000");
    let everything = Everything::new(&backend);
    for round in 1..4 {
        server.lose_data();
        everything.in_progress.metric(&["/other"]).unwrap().inc(1.0).unwrap();
        everything.by_path.metric(&["/other"]).unwrap().inc(1.0).unwrap();
        flush(&backend);
        let fields: BTreeSet<String> = server.run_words("HKEYS by_path_total");
        assert_eq!(fields, [r#"{"path":"/"}"#, r#"{"path":"/other"}"#].map(str::to_owned).into());
        assert_eq!(server.field("by_path_total", r#"{"path":"/other"}"#), 1.0);
        assert_eq!(server.field("in_progress", r#"{"path":"/"}"#), 3.0);
        assert_eq!(server.field("in_progress", r#"{"path":"/other"}"#), f64::from(round));
        assert_eq!(definitions(&server), Everything::names());
    }
}

#[test]
fn an_idle_process_notices_an_empty_restart() {
    let mut server = Server::start();
    let backend = open(&server, "");
    let _everything = Everything::new(&backend);
    server.kill();
    server.run();
    wait_until("everything is restored without a scrape or a count", || Everything::is_there(&server));
}

#[test]
fn an_idle_process_announces_definitions_again_without_metrics() {
    let mut server = Server::start();
    let backend = open(&server, "");
    declare(&backend, "requests_total", MetricType::Counter, &["path"]);
    flush(&backend);
    server.kill();
    server.run();
    wait_until("the definition is restored", || definitions(&server).contains("requests_total"));
}

#[test]
fn an_idle_process_sends_nothing() {
    let server = Server::start();
    let backend = open(&server, "pipeline_threads=1&client_name=idler");
    let _everything = Everything::new(&backend);
    backend.collect(None).unwrap();
    // The server knows for how many seconds each connection has been idle.
    wait_until("all connections of the process are idle", || {
        let clients: String = server.run_words("CLIENT LIST");
        let own: Vec<&str> = clients.lines().filter(|line| line.contains("name=idler")).collect();
        let silence = |line: &&str| line.split_once(" idle=")?.1.split(' ').next()?.parse::<u64>().ok();
        own.len() == 2 && own.iter().all(|line| silence(line).is_some_and(|seconds| seconds >= 4))
    });
}

#[test]
fn expired_families_are_restored_as_lost_ones() {
    let server = Server::start();
    let backend = open(&server, "expire_key_time=1");
    let _everything = Everything::new(&backend);
    wait_until("all keys expire", || server.run_words::<u64>("DBSIZE") == 0);
    assert_eq!(lines(&backend), Everything::lines_after_loss());
}

#[test]
fn a_restart_with_its_data_loses_nothing() {
    remember_log();
    let mut server = Server::start();
    let backend = open(&server, "");
    let everything = Everything::new(&backend);
    let before = lines(&backend);
    server.run_words::<()>("SAVE");
    server.kill();
    everything.requests.inc(1.0).unwrap();
    backend.collect(None).unwrap_err();
    server.run();
    flush_at_last(&backend);
    let after: Vec<String> =
        before.iter().map(|line| line.replace("requests_total 5", "requests_total 6")).collect();
    assert_eq!(lines(&backend), after);
    assert_eq!(log_records(Level::Warn, &["has lost", &format!(":{}", server.port())]), [""; 0]);
    assert_eq!((times_lost(server.port()), times_back(server.port())), (1, 1));
}

#[test]
fn each_process_restores_its_share_of_a_gauge_once() {
    let mut server = Server::start();
    let workers = [open(&server, ""), open(&server, ""), open(&server, "")];
    let gauges = workers.each_ref().map(|worker| gauge(worker, "in_progress"));
    gauges[0].inc(3.0).unwrap();
    gauges[1].inc(4.0).unwrap();
    gauges[1].dec(2.0).unwrap();
    workers.iter().for_each(flush);
    for _ in 0..3 {
        server.lose_data();
        for _ in 0..2 {
            workers.iter().for_each(|worker| drop(worker.collect(None).unwrap()));
        }
        assert_eq!(server.value("in_progress"), 5.0);
    }
    gauges[0].dec(3.0).unwrap();
    assert_eq!(gauges[0].get().unwrap(), 2.0);
}

#[test]
fn the_latest_value_that_any_process_has_set_is_restored() {
    let mut server = Server::start();
    let workers = [open(&server, ""), open(&server, ""), open(&server, "")];
    let gauges = workers.each_ref().map(|worker| gauge(worker, "level"));
    for (worker, gauge) in workers.iter().zip(&gauges).rev().skip(1) {
        gauge.set(20.0 + gauge.get().unwrap()).unwrap();
        flush(worker);
    }
    // The second worker set the gauge to 20, then the first set it to 40. The third never set it.
    assert_eq!(server.value("level"), 40.0);
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0]] {
        server.lose_data();
        for index in order {
            workers[index].collect(None).unwrap();
        }
        assert_eq!(server.value("level"), 40.0, "restored in the order {order:?}");
    }
}

#[test]
fn a_loss_is_restored_although_another_key_is_refused() {
    let mut server = Server::start();
    let (here, elsewhere) = (open(&server, "flush_interval_ms=3600000"), open(&server, ""));
    // The gauge is sent first, because families are sent by name.
    let (level, requests) = (gauge(&here, "a_level"), counter(&here, "b_requests_total"));
    let other_level = gauge(&elsewhere, "a_level");
    level.inc(5.0).unwrap();
    requests.inc(1.0).unwrap();
    flush(&here);
    server.lose_data();
    // Another process begins a new epoch of the gauge. The reply says so without a write.
    other_level.inc(2.0).unwrap();
    flush(&elsewhere);
    server.run_words::<()>("CONFIG SET maxmemory 1");
    level.inc(1.0).unwrap();
    requests.inc(1.0).unwrap();
    let error = here.flush(Duration::from_secs(30)).unwrap_err();
    assert!(error.message().contains("OOM"), "{error}");
    server.run_words::<()>("CONFIG SET maxmemory 0");
    wait_until("the restored gauge", || here.flush(Duration::from_secs(1)).is_ok());
    assert_eq!(server.value("a_level"), 8.0);
    assert_eq!(server.value("b_requests_total"), 1.0);
}

#[test]
fn a_value_set_after_a_loss_is_not_overwritten_by_an_older_one() {
    let mut server = Server::start();
    let (before, after) = (open(&server, ""), open(&server, ""));
    let level = gauge(&before, "level");
    for value in [0.0, 5.0] {
        level.set(70.0).unwrap();
        flush(&before);
        server.lose_data();
        let others = gauge(&after, "level");
        others.set(value).unwrap();
        flush(&after);
        assert_eq!(level.get().unwrap(), value);
    }
    // Also if the restored value stood there in between.
    server.lose_data();
    wait_until("the value that was set last is restored", || level.get().is_ok_and(|value| value == 5.0));
    let others = gauge(&after, "level");
    others.set(0.0).unwrap();
    others.inc(1.0).unwrap();
    others.dec(1.0).unwrap();
    assert_eq!(others.get().unwrap(), 0.0);
    assert_eq!(level.get().unwrap(), 0.0);
}

#[test]
fn a_process_that_only_knows_a_gauge_does_not_hide_what_another_remembers() {
    let server = Server::start();
    let backend = open(&server, "expire_key_time=1");
    let level = gauge(&backend, "level");
    level.set(70.0).unwrap();
    flush(&backend);
    wait_until("all keys expire", || server.run_words::<u64>("DBSIZE") == 0);
    let newcomer = open(&server, "");
    assert_eq!(gauge(&newcomer, "level").get().unwrap(), 0.0);
    assert_eq!(level.get().unwrap(), 70.0);
    assert_eq!(gauge(&newcomer, "level").get().unwrap(), 70.0);
}

#[test]
fn values_without_their_writers_key_are_not_added_twice() {
    let server = Server::start();
    let backend = open(&server, "");
    let _everything = Everything::new(&backend);
    let before = lines(&backend);
    for key in server.run_words::<Vec<String>>("KEYS {*}:writers") {
        server.run_command::<()>(&["DEL", &key]);
    }
    assert_eq!(lines(&backend), before);
    assert_eq!(lines(&backend), before);
}

#[test]
fn a_definition_without_values_is_written_again_beside_a_new_one_after_a_restart() {
    let mut server = Server::start();
    let backend = open(&server, "flush_interval_ms=3600000");
    let _old = declare(&backend, "old_total", MetricType::Counter, &["a"]);
    flush(&backend);
    server.lose_data();
    // The new definition is what makes the process connect again.
    let _new = declare(&backend, "new_total", MetricType::Counter, &["a"]);
    flush(&backend);
    let names: Vec<String> = hash(&server, "pytheus:families").into_keys().collect();
    assert_eq!(names, ["new_total", "old_total"]);
}

#[test]
fn removed_and_cleared_metrics_do_not_come_back() {
    let mut server = Server::start();
    let backend = open(&server, "");
    let removed = declare(&backend, "level", MetricType::Gauge, &["a"]);
    let cleared = declare(&backend, "other", MetricType::Gauge, &["a"]);
    for value in ["x", "y"] {
        removed.metric(&[value]).unwrap().set(7.0).unwrap();
        cleared.metric(&[value]).unwrap().inc(7.0).unwrap();
    }
    flush(&backend);
    removed.remove(&["x"]).unwrap();
    cleared.clear().unwrap();
    flush(&backend);
    server.lose_data();
    assert_eq!(lines(&backend), ["level{a=\"y\"} 7"]);
    // A metric that is created again has no earlier value.
    removed.metric(&["x"]).unwrap();
    cleared.metric(&["x"]).unwrap();
    flush(&backend);
    server.lose_data();
    assert_eq!(lines(&backend), ["level{a=\"x\"} 0", "level{a=\"y\"} 7", "other{a=\"x\"} 0"]);
}

#[test]
fn more_series_than_a_batch_holds_are_restored() {
    let mut server = Server::start();
    let backend = open(&server, "");
    let family = declare(&backend, "level", MetricType::Gauge, &["n"]);
    for n in 0..2_500 {
        family.metric(&[&n.to_string()]).unwrap().set(f64::from(n)).unwrap();
    }
    flush(&backend);
    for _ in 0..2 {
        server.lose_data();
        family.metric(&["0"]).unwrap().inc(1.0).unwrap();
        flush(&backend);
        assert_eq!(server.run_words::<u64>("HLEN level"), 2_500);
        assert_eq!(server.field("level", r#"{"n":"2499"}"#), 2_499.0);
    }
    assert_eq!(server.field("level", r#"{"n":"0"}"#), 2.0);
}

#[test]
fn a_loss_under_load_costs_at_most_the_confirmed_counts() {
    let mut server = Server::start();
    let backends = [open(&server, "flush_interval_ms=1"), open(&server, "flush_interval_ms=1")];
    let gauges = backends.each_ref().map(|backend| gauge(backend, "in_progress"));
    let loads = gauges.each_ref().map(|gauge| Load::start(gauge, 1));
    for _ in 0..10 {
        loads.iter().for_each(|load| load.wait_for(1_000));
        server.lose_data();
    }
    let total: f64 = loads.into_iter().map(Load::end).sum();
    backends.iter().for_each(|backend| drop(backend.collect(None).unwrap()));
    assert_eq!(server.value("in_progress"), total, "each process remembers its last value");
}

#[test]
fn a_forked_child_restores_its_own_share_and_not_its_parents() {
    let server = Server::start();
    let backend = open(&server, "expire_key_time=1");
    let gauge = gauge(&backend, "in_progress");
    gauge.inc(5.0).unwrap();
    flush(&backend);
    let child = fork(|| {
        gauge.inc(1.0).unwrap();
        let is_counted = gauge.get().unwrap() == 6.0;
        wait_until("the keys expire", || server.run_words::<u64>("DBSIZE") == 0);
        is_counted && gauge.get().unwrap() == 1.0
    });
    child.join();
    assert_eq!(gauge.get().unwrap(), 6.0);
}

#[test]
fn a_server_that_forgets_each_write_is_an_error_and_no_endless_loop() {
    remember_log();
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let backend = Backend::open(&proxy.url("flush_interval_ms=1")).unwrap();
    let level = gauge(&backend, "level");
    level.set(5.0).unwrap();
    flush(&backend);
    // The reply to every batch says that the family is new. (Three commands announce a definition.)
    proxy.answer_all(Some("*2\r\n:2\r\n$1\r\nx\r\n".repeat(3).as_bytes()));
    level.set(6.0).unwrap();
    let error = backend.flush(PATIENCE).unwrap_err();
    assert!(error.message().contains("loses what it is told"), "{error}");
    proxy.answer_all(None);
    flush_at_last(&backend);
    assert_eq!(server.value("level"), 6.0);
    assert_eq!((times_lost(proxy.port()), times_back(proxy.port())), (1, 1));
}

#[test]
fn a_batch_that_arrives_late_does_not_hide_a_loss() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let backend =
        Backend::open(&proxy.url("socket_timeout=0.2&flush_interval_ms=3600000&expire_key_time=1")).unwrap();
    let family = declare(&backend, "level", MetricType::Gauge, &[]);
    flush(&backend);
    // The first batch, which begins the epoch, is held in the network. It is sent again and succeeds.
    proxy.hold_connections(Direction::Request);
    let level = family.metric(&[]).unwrap();
    level.set(70.0).unwrap();
    flush(&backend);
    assert!(proxy.held_back() > 0 && server.value("level") == 70.0);
    wait_until("the keys expire", || server.run_words::<u64>("DBSIZE") == 0);
    proxy.release();
    wait_until("the late batch begins an epoch", || server.run_words::<bool>("EXISTS {level}:writers"));
    assert_eq!(level.get().unwrap(), 70.0);
}

// A server that was emptied on purpose.

#[test]
fn a_flushed_server_gets_nothing_back_but_later_changes() {
    remember_log();
    let server = Server::start();
    let backend = open(&server, "flush_interval_ms=3600000");
    let everything = Everything::new(&backend);
    server.run_words::<()>("FLUSHALL");
    let zeros: Vec<String> = Everything::lines_after_loss()
        .iter()
        .map(|line| format!("{} 0", line.rsplit_once(' ').unwrap().0))
        .collect();
    for _ in 0..2 {
        assert_eq!(lines(&backend), zeros, "the process shows what it knows, with nothing in it");
        assert_eq!(server.run_words::<u64>("DBSIZE"), 0, "and writes nothing");
    }
    everything.level.inc(1.0).unwrap();
    everything.in_progress.metric(&["/"]).unwrap().inc(1.0).unwrap();
    everything.requests.inc(2.0).unwrap();
    flush(&backend);
    assert_eq!(server.value("level"), 1.0, "a gauge begins at 0");
    assert_eq!(server.field("in_progress", r#"{"path":"/"}"#), 1.0);
    assert_eq!(server.value("requests_total"), 2.0);
    let others = ["in_progress{path=\"/\"} 1", "level 1", "requests_total 2"];
    assert_eq!(lines(&open(&server, "")), others, "and nothing else is there for other processes");
    let port = format!(":{}", server.port());
    assert_eq!(log_records(Level::Warn, &["was emptied of 6 metric families", &port]).len(), 1);
    assert_eq!(log_records(Level::Warn, &["has lost", &port]), [""; 0]);
}

#[test]
fn a_flushed_server_is_recognised_on_a_new_connection() {
    let server = Server::start();
    let backend = open(&server, "flush_interval_ms=3600000");
    let level = gauge(&backend, "level");
    level.set(70.0).unwrap();
    flush(&backend);
    server.run_words::<()>("FLUSHALL");
    server.run_words::<()>("CLIENT KILL TYPE normal");
    assert_eq!(level.get().unwrap(), 0.0);
    level.inc(1.0).unwrap();
    assert_eq!(level.get().unwrap(), 1.0);
}

#[test]
fn a_metric_of_an_earlier_test_does_not_disturb_the_next_one() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let backend = Backend::open(&proxy.url("")).unwrap();
    let declare_again = |labels: &[&str]| {
        let definition = Definition::new("jobs", "Some help.", MetricType::Gauge, labels, &[]).unwrap();
        backend.declare(definition, labels, Lifetime::Handle).unwrap()
    };
    let mut earlier = Vec::new();
    for round in 0..10 {
        server.run_words::<()>("FLUSHALL");
        let family = declare_again(&[]);
        let metric = family.metric(&[]).unwrap();
        metric.inc(1.0).unwrap();
        proxy.release();
        assert_eq!(metric.get().unwrap(), 1.0, "round {round}");
        // What this test counts last is still on its way when the next test begins.
        proxy.hold(Direction::Request);
        let before = proxy.held_back();
        metric.inc(5.0).unwrap();
        wait_until("the batch is on its way", || proxy.held_back() > before);
        earlier.push((family, metric));
    }
}
