//! How many connections a process holds: one to count, one for each scrape at a time, one more behind Sentinel,
//! and in a cluster those to the nodes of its own families.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Barrier;

use pytheus_backend_rs::{Backend, Lifetime, MetricType};

use support::cluster::Cluster;
use support::process::{SharedNumbers, fork};
use support::sentinels::Trio;
use support::*;

/// Returns the number of connections by this name.
fn named(server: &Server, name: &str) -> usize {
    let name = format!(" name={name} ");
    server.run_words::<String>("CLIENT LIST").lines().filter(|line| line.contains(&name)).count()
}

#[test]
fn a_process_that_counts_holds_one_connection_and_scrapes_share_another() {
    let server = Server::start();
    let backend = open(&server, "client_name=it");
    assert_eq!(named(&server, "it"), 1, "a new backend");
    let requests = counter(&backend, "requests_total");
    for _ in 0..3 {
        requests.inc(1.0).unwrap();
        flush(&backend);
    }
    assert_eq!(named(&server, "it"), 1, "while it counts");
    for _ in 0..10 {
        requests.get().unwrap();
        backend.collect_text().unwrap();
    }
    assert_eq!(named(&server, "it"), 2, "after scrapes, one after another");
}

#[test]
fn scrapes_at_the_same_time_hold_at_most_a_connection_for_each_pipeline_thread() {
    let server = Server::start();
    let backend = open(&server, "client_name=it&pipeline_threads=3");
    let requests = counter(&backend, "requests_total");
    let barrier = Barrier::new(6);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                barrier.wait();
                (0..20).for_each(|_| assert!(requests.get().is_ok()));
            });
        }
    });
    let held = named(&server, "it");
    assert!((2..=4).contains(&held), "{held}");
}

#[test]
fn a_forked_child_holds_no_connection_until_it_counts() {
    let server = Server::start();
    let backend = open(&server, "client_name=it");
    let requests = counter(&backend, "requests_total");
    requests.inc(1.0).unwrap();
    requests.get().unwrap();
    assert_eq!(named(&server, "it"), 2);
    let steps = SharedNumbers::new(2);
    let step = |number: usize| wait_until("the other process", || steps.get(number) == 1);
    let child = fork(|| {
        steps.add(0, 1);
        step(1);
        requests.inc(1.0).unwrap();
        backend.flush(PATIENCE).unwrap();
        // Its own, and the two of the parent.
        named(&server, "it") == 3
    });
    step(0);
    assert_eq!(named(&server, "it"), 2, "the child is idle");
    steps.add(1, 1);
    child.join();
}

#[test]
fn behind_sentinel_a_process_holds_one_connection_more() {
    let trio = Trio::start();
    let backend = Backend::open(&trio.url("client_name=it&flush_interval_ms=1")).unwrap();
    let requests = counter(&backend, "requests_total");
    let held = || {
        let at = |server: &Server| named(server, "it");
        (at(&trio.servers.master), trio.sentinels.iter().map(at).sum::<usize>())
    };
    for _ in 0..3 {
        requests.inc(1.0).unwrap();
        flush(&backend);
    }
    assert_eq!(held(), (1, 1), "while it counts");
    (0..5).for_each(|_| assert!(requests.get().is_ok()));
    assert_eq!(held(), (2, 1), "after scrapes");
}

#[test]
fn in_a_cluster_a_process_holds_connections_to_the_nodes_of_its_families_only() {
    let cluster = Cluster::start_with(3, false, &[]);
    let backend = Backend::open(&cluster.url("client_name=it&flush_interval_ms=1")).unwrap();
    let held = || -> Vec<usize> { cluster.nodes.iter().map(|node| named(node, "it")).collect() };
    assert_eq!(held(), [1, 0, 0], "a new backend has asked the first node for the others");
    // The definitions are a hash of their own.
    let home = cluster.owner(cluster.slot("pytheus:families"));
    let mut names = (0..).map(|number| format!("counter{number}_total"));
    let first = names.find(|name| cluster.owner(cluster.slot(name)) == home).unwrap();
    let away = (home + 1) % 3;
    let second = names.find(|name| cluster.owner(cluster.slot(name)) == away).unwrap();

    let count = |name: &str| {
        let family = declare(&backend, name, MetricType::Counter, &[]);
        let counter = family.metric(&[]).unwrap();
        for _ in 0..3 {
            counter.inc(1.0).unwrap();
            flush(&backend);
        }
    };
    let with = |at_home: usize, at_away: usize| {
        let mut expected = [0; 3];
        expected[home] = at_home;
        expected[away] = at_away;
        expected
    };
    count(&first);
    assert_eq!(held(), with(1, 0), "a family beside the definitions");
    count(&second);
    assert_eq!(held(), with(1, 1), "a family at another node");
    (0..5).for_each(|_| drop(backend.collect_text().unwrap()));
    assert_eq!(held(), with(2, 2), "after scrapes");

    // Families move: the connections follow.
    let last = (home + 2) % 3;
    cluster.move_slots(&[cluster.slot(&second)], last);
    count(&second);
    (0..2).for_each(|_| drop(backend.collect_text().unwrap()));
    let mut expected = with(2, 0);
    expected[last] = 2;
    wait_until("the node that serves nothing of this process is left", || {
        count(&second);
        drop(backend.collect_text().unwrap());
        held() == expected
    });
}

#[test]
fn a_node_that_restarts_empty_gets_back_the_gauges_of_an_idle_process() {
    let mut cluster = Cluster::start_with(2, false, &[]);
    let backend = Backend::open(&cluster.url("flush_interval_ms=1")).unwrap();
    let mut names = (0..).map(|number| format!("gauge{number}"));
    let name = names.find(|name| cluster.owner(cluster.slot(name)) == 1).unwrap();
    let definition = pytheus_backend_rs::Definition::new(&name, "Some help.", MetricType::Gauge, &[], &[]);
    let gauge = backend.declare(definition.unwrap(), &[], Lifetime::Backend).unwrap().metric(&[]).unwrap();
    gauge.set(7.0).unwrap();
    flush(&backend);
    cluster.nodes[1].lose_data();
    wait_until("the gauge is restored", || {
        let node = &cluster.nodes[1];
        let get = redis::cmd("GET").arg(&name).query::<Option<String>>(&mut node.connection());
        get.is_ok_and(|value| value.as_deref() == Some("7"))
    });
}
