//! Scrapes that read from replicas (`read_from_replicas`): the values come from a replica, and yet everything is shown
//! that was sent before. A replica that hangs, lags behind or is promoted costs no value and no scrape.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use log::Level;
use pytheus_backend_rs::{Backend, Metric, MetricType};

use support::cluster::Cluster;
use support::replicas::Replicas;
use support::sentinels::Trio;
use support::writers::OPTIONS;
use support::*;

const AT_REPLICA: &str = "read_from_replicas=true";

fn open_at(url: &str) -> Backend {
    Backend::open(url).unwrap()
}

fn url(servers: &Replicas) -> String {
    servers.front.url(&format!("{OPTIONS}&{AT_REPLICA}"))
}

/// Returns the metric of a family with a label, whose values a scrape reads with `HGETALL`.
fn labelled(backend: &Backend, name: &str) -> Arc<Metric> {
    declare(backend, name, MetricType::Counter, &["a"]).metric(&["x"]).unwrap()
}

fn shows(backend: &Backend, name: &str) -> f64 {
    let line = lines(backend, name).pop();
    line.and_then(|line| line.rsplit(' ').next().map(|value| value.parse().unwrap())).unwrap_or(0.0)
}

/// Returns how often servers were asked for the fields of a hash.
fn reads<'server>(servers: impl IntoIterator<Item = &'server Server>) -> u64 {
    servers.into_iter().map(|server| server.calls_of("hgetall")).sum()
}

#[test]
fn values_come_from_a_replica_and_show_what_was_sent_before() {
    let servers = Replicas::start();
    let (backend, other) = (open_at(&url(&servers)), open_at(&servers.front.url(OPTIONS)));
    let (own, foreign) = (labelled(&backend, "own_total"), labelled(&other, "foreign_total"));
    own.inc(1.0).unwrap();
    foreign.inc(1.0).unwrap();
    flush(&other);
    let mut count = 1.0;
    let mut is_at_replica = false;
    for _ in 0..200 {
        own.inc(1.0).unwrap();
        foreign.inc(1.0).unwrap();
        flush(&other);
        count += 1.0;
        let before = (reads([&servers.master]), reads(&servers.replicas));
        assert_eq!(shows(&backend, "own_total"), count, "what this process has counted");
        let now = (reads([&servers.master]), reads(&servers.replicas));
        // The definitions come from the master, and both families from a replica, unless it lags behind.
        is_at_replica |= (now.0 - before.0, now.1 - before.1) == (1, 2);
        assert_eq!(shows(&backend, "foreign_total"), count, "what another process has sent");
    }
    assert!(is_at_replica);
}

#[test]
fn families_that_have_not_changed_are_not_read_again_at_the_replica() {
    let servers = Replicas::start();
    let (backend, other) = (open_at(&url(&servers)), open_at(&servers.front.url(OPTIONS)));
    for name in ["one_total", "two_total"] {
        labelled(&other, name).inc(1.0).unwrap();
    }
    flush(&other);
    // A replica that lags behind for a moment makes a scrape read everything at the master.
    wait_until("nothing is read again", || {
        let before = reads(&servers.replicas);
        (0..5).for_each(|_| assert!(shows(&backend, "two_total") > 0.0));
        before > 0 && reads(&servers.replicas) == before
    });
    let mut count = 1.0;
    wait_until("the family that has changed is read again", || {
        let before = reads(&servers.replicas);
        labelled(&other, "two_total").inc(1.0).unwrap();
        flush(&other);
        count += 1.0;
        assert_eq!(shows(&backend, "two_total"), count);
        reads(&servers.replicas) == before + 1
    });
}

#[test]
fn large_hashes_are_listed_and_read_at_a_replica() {
    let servers = Replicas::start();
    let (backend, other) = (open_at(&url(&servers)), open_at(&servers.front.url(OPTIONS)));
    let family = declare(&other, "large_total", MetricType::Counter, &["a"]);
    let metrics: Vec<_> = (0..7_000).map(|a| family.metric(&[&a.to_string()]).unwrap()).collect();
    let listed = |server: &Server| server.calls_of("hscan");
    let mut count = 0;
    wait_until("the hash is listed at a replica alone", || {
        metrics.iter().for_each(|metric| metric.inc(1.0).unwrap());
        flush(&other);
        count += 1;
        let shown = lines(&backend, "large_total");
        assert_eq!(shown.len(), metrics.len());
        assert!(shown.iter().all(|line| line.ends_with(&format!(" {count}"))), "{count}");
        let before = servers.all().map(listed);
        assert_eq!(lines(&open_at(&url(&servers)), "large_total"), shown);
        let now = servers.all().map(listed);
        now[0] == before[0] && now != before
    });
}

#[test]
fn a_replica_that_lags_behind_or_hangs_costs_no_value_and_no_scrape() {
    let servers = Replicas::start();
    let backend = open_at(&url(&servers));
    let total = labelled(&backend, "requests_total");
    let mut count = 0.0;
    let mut scrape = || {
        total.inc(1.0).unwrap();
        count += 1.0;
        assert_eq!(shows(&backend, "requests_total"), count);
    };
    (0..10).for_each(|_| scrape());
    servers.cut();
    (0..10).for_each(|_| scrape());
    servers.mend();
    let before = reads(&servers.replicas);
    wait_until("a replica is read from again", || {
        scrape();
        reads(&servers.replicas) > before
    });
    for replica in &servers.replicas {
        replica.stop();
        (0..10).for_each(|_| scrape());
    }
    servers.replicas.iter().for_each(Server::go_on);
    let before = reads(&servers.replicas);
    wait_until("a replica is read from again", || {
        scrape();
        reads(&servers.replicas) > before
    });
    assert_eq!(backend.statistics().scrape_errors, 0);
    assert_eq!(backend.statistics().losses, 0);
}

#[test]
fn a_replica_that_lags_behind_leaves_the_reads_to_another_replica() {
    let servers = Replicas::start();
    let backend = open_at(&url(&servers));
    let total = labelled(&backend, "requests_total");
    let mut count = 0.0;
    for (lagging, other) in [(0, 1), (1, 0)] {
        servers.cut_one(lagging);
        let before = reads(&servers.replicas[other..=other]);
        wait_until("the other replica is read from", || {
            total.inc(1.0).unwrap();
            count += 1.0;
            assert_eq!(shows(&backend, "requests_total"), count);
            reads(&servers.replicas[other..=other]) > before
        });
        servers.mend();
    }
}

#[test]
fn families_that_begin_while_others_scrape_are_not_taken_for_lost() {
    remember_log();
    let servers = Replicas::start();
    let backend = open_at(&url(&servers));
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !ends.load(Ordering::Relaxed) {
                    backend.collect_text().unwrap();
                }
            });
        }
        for number in 0..200 {
            let name = format!("family{number}_total");
            labelled(&backend, &name).inc(1.0).unwrap();
            if number % 3 == 0 {
                flush(&backend);
            }
        }
        ends.store(true, Ordering::Relaxed);
    });
    for number in 0..200 {
        assert_eq!(shows(&backend, &format!("family{number}_total{{")), 1.0);
    }
    let port = format!(":{}", servers.front.port());
    assert_eq!(log_records(Level::Warn, &[&port, "has lost"]), Vec::<String>::new());
    assert_eq!(backend.statistics().losses, 0);
}

#[test]
fn what_has_expired_is_restored_and_shown() {
    let servers = Replicas::start();
    let options = format!("{OPTIONS}&{AT_REPLICA}&expire_key_time=1");
    let backend = open_at(&servers.front.url(&options));
    gauge(&backend, "level").set(5.0).unwrap();
    assert_eq!(shows(&backend, "level"), 5.0);
    wait_until("it has expired", || {
        keys(&servers.master).is_empty() && keys(&servers.replicas[0]).is_empty()
    });
    assert_eq!(shows(&backend, "level"), 5.0);
}

#[test]
fn a_scrape_at_a_replica_renews_the_expiry_at_the_master() {
    let servers = Replicas::start();
    let options = format!("{OPTIONS}&{AT_REPLICA}&expire_key_time=100");
    let backend = open_at(&servers.front.url(&options));
    labelled(&backend, "requests_total").inc(1.0).unwrap();
    flush(&backend);
    let keys = ["requests_total", "{requests_total}:writers", "pytheus:families"];
    for key in keys {
        servers.master.run_command::<()>(&["EXPIRE", key, "50"]);
    }
    assert_eq!(shows(&backend, "requests_total"), 1.0);
    for key in keys {
        assert!(servers.master.run_command::<i64>(&["TTL", key]) > 90, "{key}");
    }
}

#[test]
fn scrapes_follow_a_failover_to_the_replica_that_is_left() {
    let mut trio = Trio::start();
    let backend = open_at(&trio.url(&format!("{OPTIONS}&{AT_REPLICA}")));
    let total = labelled(&backend, "requests_total");
    total.inc(1.0).unwrap();
    wait_until("a replica is read from", || {
        assert_eq!(shows(&backend, "requests_total"), 1.0);
        reads(&trio.servers.replicas) > 0
    });
    let old = trio.servers.master.port();
    trio.servers.master.kill();
    let mut counted = 1.0;
    let mut scrape = || {
        total.inc(1.0).unwrap();
        counted += 1.0;
        // Without a master, a scrape fails, and shows nothing that is out of date.
        if backend.collect_text().is_ok() {
            assert_eq!(shows(&backend, "requests_total"), counted);
        }
    };
    while trio.master_port() == old {
        scrape();
    }
    let new = trio.master_port();
    let left = trio.servers.replicas.iter().find(|replica| replica.port() != new).unwrap();
    let before = reads([left]);
    wait_until("the replica that is left is read from", || {
        scrape();
        reads([left]) > before
    });
    assert_eq!(backend.statistics().losses, 0);
}

/// Returns the name of a counter that each master serves.
fn names_by_node(cluster: &Cluster) -> Vec<String> {
    let name_at = |node: usize| {
        let mut names = (0..).map(|number| format!("counter{number}_total"));
        names.find(|name| cluster.owner(cluster.slot(name)) == node).unwrap()
    };
    (0..3).map(name_at).collect()
}

#[test]
fn in_a_cluster_each_node_is_read_from_at_its_replica() {
    let cluster = Cluster::start();
    let backend = open_at(&cluster.url(&format!("{OPTIONS}&{AT_REPLICA}")));
    let names = names_by_node(&cluster);
    let totals: Vec<_> = names.iter().map(|name| labelled(&backend, name)).collect();
    let mut count = 0.0;
    let mut scrape = || {
        totals.iter().for_each(|total| total.inc(1.0).unwrap());
        count += 1.0;
        let text = backend.collect_text().unwrap();
        for name in &names {
            assert!(text.contains(&format!("{name}{{a=\"x\"}} {count}\n")), "{count}: {text}");
        }
    };
    let (masters, replicas) = cluster.nodes.split_at(3);
    wait_until("all replicas are read from at once", || {
        let before = (reads(masters), reads(replicas));
        scrape();
        // The definitions come from their master.
        (reads(masters) - before.0, reads(replicas) - before.1) == (1, 3)
    });
    replicas[0].stop();
    (0..10).for_each(|_| scrape());
    replicas[0].go_on();
    let before = reads([&replicas[0]]);
    wait_until("it is read from again", || {
        scrape();
        reads([&replicas[0]]) > before
    });
    assert_eq!(backend.statistics().scrape_errors, 0);
}

#[test]
fn in_a_cluster_a_scrape_at_replicas_in_the_middle_of_a_move_is_complete() {
    let cluster = Cluster::start();
    let backend = open_at(&cluster.url(&format!("{OPTIONS}&{AT_REPLICA}")));
    // Another process has counted, so this one knows nothing of the family.
    let other = open_at(&cluster.url(OPTIONS));
    let requests = labelled(&other, "requests_total");
    let mut count = 0.0;
    let mut count_and_scrape = || {
        requests.inc(1.0).unwrap();
        count += 1.0;
        flush_at_last(&other);
        assert_eq!(shows(&backend, "requests_total"), count);
    };
    count_and_scrape();
    let slot = cluster.slot("requests_total");
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    cluster.begin_move(slot, to);
    count_and_scrape();
    cluster.move_key("requests_total", from, to);
    assert_eq!(shows(&backend, "requests_total"), 2.0);
    cluster.move_key("{requests_total}:writers", from, to);
    count_and_scrape();
    cluster.move_slots(&[slot], to);
    (0..20).for_each(|_| count_and_scrape());
    wait_until("the replica of the new node is read from", || {
        count_and_scrape();
        reads([&cluster.nodes[3 + to]]) > 0
    });
    assert_eq!(backend.statistics().losses, 0);
}

#[test]
fn in_a_cluster_scrapes_at_replicas_show_everything_while_slots_move() {
    let cluster = Cluster::start();
    let backend = open_at(&cluster.url(&format!("{OPTIONS}&{AT_REPLICA}")));
    let other = open_at(&cluster.url(OPTIONS));
    let names: Vec<String> = (0..20).map(|number| format!("counter{number}_total")).collect();
    let totals: Vec<_> = names.iter().map(|name| labelled(&other, name)).collect();
    let mut slots: Vec<usize> = names.iter().map(|name| cluster.slot(name)).collect();
    slots.sort_unstable();
    slots.dedup();
    let has_moved = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..9).for_each(|round| cluster.move_slots(&slots, round % 3));
            has_moved.store(true, Ordering::Relaxed);
        });
        let mut count = 0.0;
        while !has_moved.load(Ordering::Relaxed) {
            totals.iter().for_each(|total| total.inc(1.0).unwrap());
            count += 1.0;
            flush_at_last(&other);
            let text = backend.collect_text().unwrap();
            for name in &names {
                assert!(text.contains(&format!("{name}{{a=\"x\"}} {count}\n")), "{name} {count}: {text}");
            }
        }
    });
    assert!(reads(&cluster.nodes[3..]) > 0);
    assert_eq!((backend.statistics().losses, other.statistics().losses), (0, 0));
}

#[test]
fn in_a_cluster_scrapes_go_on_when_a_replica_has_become_the_master() {
    let mut cluster = Cluster::start();
    let backend = open_at(&cluster.url(&format!("{OPTIONS}&{AT_REPLICA}")));
    let names = names_by_node(&cluster);
    let totals: Vec<_> = names.iter().map(|name| labelled(&backend, name)).collect();
    totals.iter().for_each(|total| total.inc(1.0).unwrap());
    names.iter().for_each(|name| assert_eq!(shows(&backend, name), 1.0));
    cluster.nodes[0].kill();
    wait_until("the replica takes over, and nothing is missing", || {
        totals.iter().for_each(|total| total.inc(1.0).unwrap());
        flush_at_last(&backend);
        let counted = totals[0].get().ok();
        counted.is_some_and(|counted| names.iter().all(|name| shows(&backend, name) == counted))
    });
    assert_eq!(backend.statistics().losses, 0);
}
