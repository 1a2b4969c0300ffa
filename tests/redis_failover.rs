//! The Redis store after the server lacks batches that it, or its master, had confirmed: a replica that
//! lagged behind became the master, or the server crashed before its file was written. The replay log sends
//! exactly those batches again. The same runs without the log lose counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use log::Level;
use pytheus_backend_rs::{Backend, MetricFamily, MetricType};

use support::process::Random;
use support::replicas::Replicas;
use support::writers::*;
use support::*;

fn url(servers: &Replicas, options: &str) -> String {
    servers.front.url(&format!("{OPTIONS}&{options}"))
}

/// Kills a master whose replicas have not got its last batches, and makes one of them the master.
fn kill_master(options: &str) -> Outcome {
    let mut servers = Replicas::start();
    let mut writers = start_writers(&url(&servers, options));
    until_all_sent(&writers);
    servers.cut();
    send_on(&writers, 2_000);
    servers.master.kill();
    servers.promote(0);
    count_on(&writers, 500);
    outcome(&mut writers, &servers.replicas[0])
}

#[test]
fn a_master_that_is_killed_before_its_replicas_have_everything_loses_nothing() {
    (0..rounds()).for_each(|_| assert_exact(&kill_master("")));
}

#[test]
fn without_the_log_a_killed_master_loses_counts_and_the_loss_is_counted() {
    (0..rounds()).for_each(|_| assert_lossy(&kill_master("replay_log_mb=0")));
}

/// Makes a replica the master that has lagged behind, while the other replica has everything.
fn promote_lagging(options: &str) -> Outcome {
    let servers = Replicas::start();
    let mut writers = start_writers(&url(&servers, options));
    until_all_sent(&writers);
    wait_until("it is replicated", || servers.replicas[0].value("plain_total") > 0.0);
    servers.cut_one(0);
    send_on(&writers, 2_000);
    let asked = servers.master.calls_of("wait");
    wait_until("each writer has asked the replicas", || servers.master.calls_of("wait") > asked + 4);
    servers.promote(0);
    servers.front.end_connections();
    count_on(&writers, 500);
    outcome(&mut writers, &servers.replicas[0])
}

#[test]
fn a_replica_that_lagged_behind_gets_what_it_lacks_when_it_is_promoted() {
    (0..rounds()).for_each(|_| assert_exact(&promote_lagging("replicas=2")));
}

#[test]
fn one_replica_is_not_enough_if_another_one_is_promoted() {
    let (missing, _, losses) = promote_lagging("replicas=1");
    assert!(missing.plain > 0.0 && losses > 0, "{missing:?} {losses}");
}

#[test]
fn an_acknowledgement_that_arrives_with_a_failover_hides_no_loss() {
    let servers = Replicas::start();
    let options = "flush_interval_ms=3600000&replicas=1";
    let backend = Backend::open(&servers.front.url(options)).unwrap();
    let total = counter(&backend, "requests_total");
    let mut counted = 0.0;
    let mut count = || {
        total.inc(1.0).unwrap();
        counted += 1.0;
        flush_at_last(&backend);
        counted
    };
    count();
    wait_until("it is replicated", || servers.replicas[0].value("requests_total") == 1.0);
    servers.cut_one(0);
    // The other replica acknowledges. The answer usually arrives before the failover, and is read after it.
    let asked = servers.master.calls_of("wait");
    wait_until("the replicas are asked", || {
        count();
        servers.master.calls_of("wait") > asked
    });
    servers.promote(0);
    servers.front.end_connections();
    let counted = count();
    // If the answer was read before, the batch is no longer in the log.
    let is_exact = servers.replicas[0].value("requests_total") == counted;
    assert_eq!(backend.statistics().losses, u64::from(!is_exact));
}

/// Two masters accept writes for a while: the old one those of existing connections, the new one those of new
/// connections. Then the old one becomes a replica, and its data is gone.
fn split_brain(options: &str) -> Outcome {
    let servers = Replicas::start();
    let mut writers = start_writers(&url(&servers, options));
    until_all_sent(&writers);
    servers.cut();
    servers.promote(0);
    writers.push(Writer::start(&url(&servers, options), writers.len()));
    until_all_sent(&writers);
    send_on(&writers, 2_000);
    servers.depose(0);
    count_on(&writers, 500);
    outcome(&mut writers, &servers.replicas[0])
}

#[test]
fn what_a_deposed_master_has_accepted_is_sent_to_the_new_one() {
    (0..rounds()).for_each(|_| assert_exact(&split_brain("")));
}

#[test]
fn without_the_log_a_deposed_master_loses_what_it_has_accepted() {
    (0..rounds()).for_each(|_| assert_lossy(&split_brain("replay_log_mb=0")));
}

/// The second replica, which lags behind even further, takes over from the first.
fn fail_over_twice(options: &str) -> Outcome {
    let mut servers = Replicas::start();
    let mut writers = start_writers(&url(&servers, options));
    until_all_sent(&writers);
    servers.cut_one(1);
    send_on(&writers, 1_000);
    servers.cut_one(0);
    send_on(&writers, 1_000);
    servers.master.kill();
    servers.promote(0);
    count_on(&writers, 500);
    servers.replicas[0].kill();
    servers.promote(1);
    count_on(&writers, 500);
    outcome(&mut writers, &servers.replicas[1])
}

#[test]
fn two_failovers_in_a_row_lose_nothing() {
    (0..rounds()).for_each(|_| assert_exact(&fail_over_twice("")));
}

#[test]
fn without_the_log_two_failovers_lose_counts() {
    (0..rounds()).for_each(|_| assert_lossy(&fail_over_twice("replay_log_mb=0")));
}

/// Replaces the append-only file of a killed server by its state of a moment before, as after a power cut.
fn crash(options: &str) -> Outcome {
    let mut server = Server::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let mut writers = start_writers(&server.url(&format!("{OPTIONS}&{options}")));
    until_all_sent(&writers);
    let before = server.copy_files();
    send_on(&writers, 2_000);
    server.kill();
    server.restore_files(&before);
    server.run();
    count_on(&writers, 500);
    outcome(&mut writers, &server)
}

#[test]
fn a_server_that_crashes_before_its_file_is_written_loses_nothing() {
    (0..rounds()).for_each(|_| assert_exact(&crash("")));
}

#[test]
fn without_the_log_a_crash_loses_what_was_not_written() {
    (0..rounds()).for_each(|_| assert_lossy(&crash("replay_log_mb=0")));
}

#[test]
fn an_idle_process_sends_again_what_the_new_master_lacks() {
    let mut servers = Replicas::start();
    let backend = Backend::open(&url(&servers, "")).unwrap();
    let (total, level) = (counter(&backend, "requests_total"), gauge(&backend, "level"));
    total.inc(1.0).unwrap();
    level.set(1.0).unwrap();
    flush(&backend);
    wait_until("it is replicated", || servers.replicas[0].value("level") == 1.0);
    servers.cut();
    total.inc(2.0).unwrap();
    level.set(4.0).unwrap();
    flush(&backend);
    counter(&backend, "new_total").inc(6.0).unwrap();
    flush(&backend);
    servers.master.kill();
    servers.promote(0);
    let new = &servers.replicas[0];
    wait_until("it is sent again", || {
        new.value("requests_total") == 3.0 && new.value("level") == 4.0 && new.value("new_total") == 6.0
    });
    wait_until("it is counted", || backend.statistics().batches_replayed >= 3);
    assert_eq!(backend.statistics().losses, 0);
}

#[test]
fn a_gauge_that_another_process_has_set_since_keeps_its_value() {
    for _ in 0..rounds() {
        let mut servers = Replicas::start();
        let backend = Backend::open(&url(&servers, "")).unwrap();
        let level = declare(&backend, "level", MetricType::Gauge, &["of"]);
        let (shared, own) = (level.metric(&["both"]).unwrap(), level.metric(&["one"]).unwrap());
        for gauge in [&shared, &own] {
            gauge.set(0.1).unwrap();
            gauge.inc(0.2).unwrap();
        }
        flush(&backend);
        let stored = |server: &Server, of: &str| server.field("level", &format!(r#"{{"of":"{of}"}}"#));
        wait_until("it is replicated", || stored(&servers.replicas[0], "one") == 0.1 + 0.2);
        servers.cut();
        for gauge in [&shared, &own] {
            gauge.inc(0.3).unwrap();
            gauge.set(5.0).unwrap();
        }
        flush(&backend);
        // The first process cannot reach the new master before the other one has set the gauge there.
        servers.front.refuse(true);
        servers.master.kill();
        servers.promote(0);
        let new = &servers.replicas[0];
        let other = open(new, OPTIONS);
        let level = declare(&other, "level", MetricType::Gauge, &["of"]);
        level.metric(&["both"]).unwrap().set(9.0).unwrap();
        flush(&other);
        servers.front.refuse(false);
        wait_until("the other gauge is sent again", || stored(new, "one") == 5.0);
        flush_at_last(&backend);
        assert_eq!(stored(new, "both"), 9.0);
    }
}

/// Changes metrics of some families at random, in the same way in both backends.
struct Twins {
    stored: [MetricFamily; 3],
    expected: [MetricFamily; 3],
    random: Random,
}

impl Twins {
    fn new(stored: &Backend, expected: &Backend) -> Self {
        let families = |backend| {
            [
                declare(backend, "requests_total", MetricType::Counter, &["n"]),
                declare(backend, "level", MetricType::Gauge, &["n"]),
                declare_with_buckets(backend, "size", MetricType::Histogram, &["n"], &[8.0]),
            ]
        };
        Self { stored: families(stored), expected: families(expected), random: Random::new() }
    }

    fn step(&mut self) {
        let (what, which) = (self.random.below(12), self.random.below(3).to_string());
        let amount = self.random.below(16) as f64;
        for families in [&self.stored, &self.expected] {
            let metric = |family: usize| families[family].metric(&[&which]).unwrap();
            match what {
                0..3 => metric(0).inc(amount).unwrap(),
                3..5 => metric(1).set(amount).unwrap(),
                5..7 => metric(1).inc(amount).unwrap(),
                7..9 => metric(2).observe(amount).unwrap(),
                // There may be no such metric.
                9..11 => drop(families[amount as usize % 3].remove(&[&which])),
                _ => families[amount as usize % 3].clear().unwrap(),
            }
        }
    }
}

#[test]
fn deletions_before_and_after_a_failover_leave_no_wrong_series() {
    for _ in 0..rounds() {
        let mut servers = Replicas::start();
        let backend = Backend::open(&url(&servers, "")).unwrap();
        let memory = Backend::open("memory:").unwrap();
        let mut twins = Twins::new(&backend, &memory);
        let mut go_on = |steps: usize| {
            for _ in 0..steps {
                twins.step();
                if twins.random.below(4) == 0 {
                    flush_at_last(&backend);
                }
            }
        };
        go_on(60);
        servers.cut();
        go_on(200);
        servers.master.kill();
        servers.promote(0);
        go_on(40);
        flush_at_last(&backend);
        let text = |backend: &Backend| backend.collect_text().unwrap();
        assert_eq!(text(&backend), text(&memory));
        let new = open(&servers.replicas[0], "");
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&text(&new)), sorted(&text(&memory)), "what another process reads");
        assert!(backend.statistics().batches_replayed > 0);
    }
}

#[test]
fn a_server_that_is_flushed_gets_nothing_back_from_the_log() {
    let servers = Replicas::start();
    servers.cut();
    let backend = Backend::open(&url(&servers, "")).unwrap();
    let (total, level) = (counter(&backend, "requests_total"), gauge(&backend, "level"));
    total.inc(5.0).unwrap();
    level.set(3.0).unwrap();
    flush(&backend);
    servers.master.run_words::<()>("FLUSHALL");
    total.inc(1.0).unwrap();
    flush(&backend);
    assert_eq!((servers.master.value("requests_total"), servers.master.value("level")), (1.0, 0.0));
    servers.front.end_connections();
    total.inc(1.0).unwrap();
    flush_at_last(&backend);
    assert_eq!(servers.master.value("requests_total"), 2.0);
    assert_eq!(backend.statistics().batches_replayed, 0);
}

#[test]
fn a_full_log_is_reported_once_and_a_failover_beyond_it_is_counted_as_a_loss() {
    remember_log();
    let mut servers = Replicas::start();
    let backend = Backend::open(&url(&servers, "replay_log_mb=1&replicas=2")).unwrap();
    let family = declare(&backend, "requests_total", MetricType::Counter, &["path"]);
    let metrics: Vec<_> =
        (0..500).map(|path| family.metric(&[&format!("/{path}/{}", "x".repeat(200))]).unwrap()).collect();
    let count = || {
        metrics.iter().for_each(|metric| metric.inc(1.0).unwrap());
        flush_at_last(&backend);
    };
    count();
    wait_until("it is replicated", || servers.replicas[0].run_words::<u64>("HLEN requests_total") == 500);
    servers.cut();
    let more = 100;
    (0..more).for_each(|_| count());
    servers.master.kill();
    servers.promote(0);
    count();
    let fields: std::collections::BTreeMap<String, f64> =
        servers.replicas[0].run_words("HGETALL requests_total");
    let is_between = |&count: &f64| 2.0 < count && count < f64::from(more + 2);
    assert!(
        fields.values().all(is_between),
        "the end of the log was sent again: {:?}",
        fields.values().next()
    );
    assert_eq!(backend.statistics().losses, 1);
    assert!(backend.statistics().batches_replayed > 0);
    let port = format!(":{}", servers.front.port());
    assert_eq!(log_records(Level::Warn, &[&port, "more than 1 MB of confirmed batches"]).len(), 1);
    assert_eq!(log_records(Level::Error, &[&port, "has lost confirmed batches", "requests_total"]).len(), 1);
}

#[test]
fn a_server_that_comes_back_with_an_old_snapshot_is_a_counted_loss() {
    remember_log();
    let mut server = Server::start();
    let backend = open(&server, "flush_interval_ms=3600000");
    let (total, idle) = (counter(&backend, "requests_total"), counter(&backend, "idle_total"));
    for counter in [&total, &idle] {
        counter.inc(3.0).unwrap();
    }
    flush(&backend);
    server.run_words::<()>("SAVE");
    for counter in [&total, &idle] {
        counter.inc(5.0).unwrap();
    }
    flush(&backend);
    server.lose_data();
    total.inc(1.0).unwrap();
    flush_at_last(&backend);
    assert_eq!((server.value("requests_total"), server.value("idle_total")), (4.0, 3.0));
    assert_eq!(backend.statistics().losses, 2, "also that of the family that has not changed since");
    total.inc(1.0).unwrap();
    flush(&backend);
    assert_eq!(server.value("requests_total"), 5.0);
    assert_eq!(backend.statistics().losses, 2, "each is counted once");
    let port = format!(":{}", server.port());
    let records = log_records(Level::Error, &[&port, "has lost confirmed batches"]);
    assert!(records.iter().any(|record| record.contains("requests_total")), "{records:?}");
}

#[test]
fn closing_waits_until_the_replicas_have_everything() {
    let servers = Replicas::start();
    servers.cut();
    let backend = Backend::open(&url(&servers, "")).unwrap();
    counter(&backend, "requests_total").inc(5.0).unwrap();
    flush(&backend);
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| backend.close());
        wait_until("it waits", || servers.master.run_words::<String>("CLIENT LIST").contains("cmd=wait"));
        assert!(!closing.is_finished());
        servers.mend();
        closing.join().unwrap().unwrap();
    });
    for replica in &servers.replicas {
        assert_eq!(replica.value("requests_total"), 5.0);
    }
}

#[test]
fn closing_does_not_wait_longer_than_its_deadline_for_replicas() {
    remember_log();
    let servers = Replicas::start();
    servers.cut();
    let options = "flush_interval_ms=1&shutdown_timeout=0.5";
    let backend = Backend::open(&servers.front.url(options)).unwrap();
    counter(&backend, "requests_total").inc(5.0).unwrap();
    backend.close().unwrap();
    let port = format!(":{}", servers.front.port());
    assert_eq!(log_records(Level::Warn, &[&port, "replicas have not confirmed"]).len(), 1);
}

#[test]
fn a_server_without_replicas_is_not_asked_to_wait() {
    let server = Server::start();
    let backend = open(&server, OPTIONS);
    let total = counter(&backend, "requests_total");
    for _ in 0..10 {
        total.inc(1.0).unwrap();
        flush(&backend);
    }
    backend.close().unwrap();
    assert_eq!(server.calls_of("wait"), 0);
}
