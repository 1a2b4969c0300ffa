//! The Redis store on a Redis Cluster: exact while slots move and nodes fail, and each node's trouble costs only
//! the families that it serves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use log::Level;
use pytheus_backend_rs::{Backend, Definition, ErrorKind, Lifetime, MetricType, NameRule};

use support::cluster::Cluster;
use support::process::fork;
use support::writers::*;
use support::*;

fn url(cluster: &Cluster, options: &str) -> String {
    cluster.url(&format!("{OPTIONS}&{options}"))
}

/// The keys of the families of the writers.
const KEYS: [&str; 5] = ["plain_total", "requests_total", "time", "last", "sum"];

#[test]
fn totals_are_exact_while_slots_are_moved() {
    // On a busy machine, no replica takes over from a master that is only slow.
    let cluster = Cluster::start_with(3, true, &["--cluster-node-timeout", "60000"]);
    let mut writers = start_writers(&url(&cluster, ""));
    until_all_sent(&writers);
    for round in 0..3 {
        let to = round % 3;
        // The slots of the families, and others beside them.
        let mut slots: Vec<usize> = KEYS.iter().map(|key| cluster.slot(key)).collect();
        slots
            .extend((0..16_384).filter(|slot| slot % 3 != to && slot % 8 == round).take(2_000 - slots.len()));
        cluster.move_slots(&slots, to);
        count_on(&writers, 500);
    }
    let outcome = outcome(&mut writers, &cluster);
    assert_eq!((outcome.0, outcome.2), (NONE, 0));
}

/// Kills a master whose replica lacks its last batches, and waits until the replica has taken over.
fn kill_master(options: &str) -> Outcome {
    // A replica that lags behind may take over, too.
    let mut cluster = Cluster::start_with(3, true, &["--cluster-replica-validity-factor", "0"]);
    let mut writers = start_writers(&url(&cluster, options));
    until_all_sent(&writers);
    let victim = cluster.owner(cluster.slot("requests_total"));
    cluster.part_from_replicas(victim);
    send_on(&writers, 2_000);
    cluster.nodes[victim].kill();
    wait_until("the replica takes over", || is_master(&cluster.nodes[victim + 3]));
    count_on(&writers, 500);
    outcome(&mut writers, &cluster)
}

#[test]
fn a_killed_master_loses_nothing() {
    (0..rounds()).for_each(|_| assert_exact(&kill_master("")));
}

#[test]
fn without_the_log_a_killed_master_loses_counts() {
    let (missing, replayed, losses) = kill_master("replay_log_mb=0");
    assert!(missing.by_path > 0.0 && losses > 0, "{missing:?}");
    assert_eq!(replayed, 0);
}

fn is_master(server: &Server) -> bool {
    server.run_words::<String>("INFO replication").contains("role:master")
}

/// Returns the name of a counter that each node serves.
fn names_by_node(cluster: &Cluster, masters: usize) -> Vec<String> {
    let name_at = |node: usize| {
        let mut names = (0..).map(|number| format!("counter{number}_total"));
        names.find(|name| cluster.owner(cluster.slot(name)) == node).unwrap()
    };
    (0..masters).map(name_at).collect()
}

#[test]
fn a_stopped_node_costs_only_its_own_families() {
    remember_log();
    let cluster = Cluster::start_with(3, false, &["--cluster-require-full-coverage", "no"]);
    let backend = Backend::open(&url(&cluster, "")).unwrap();
    let names = names_by_node(&cluster, 3);
    let counters: Vec<_> = names.iter().map(|name| counter(&backend, name)).collect();
    counters.iter().for_each(|counter| counter.inc(1.0).unwrap());
    flush(&backend);
    let definitions = cluster.owner(cluster.slot("pytheus:families"));
    let stopped = (0..3).find(|&node| node != definitions).unwrap();
    cluster.nodes[stopped].stop();
    counters.iter().for_each(|counter| counter.inc(1.0).unwrap());
    let error = backend.flush(PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.message().contains(&names[stopped]), "{error}");
    assert!(!log_records(Level::Error, &["waits for its node", &names[stopped]]).is_empty());
    for (node, name) in names.iter().enumerate().filter(|&(node, _)| node != stopped) {
        assert_eq!(cluster.nodes[node].value(name), 2.0);
        assert_eq!(lines(&backend, name), [format!("{name} 2")]);
    }
    cluster.nodes[stopped].go_on();
    flush_at_last(&backend);
    assert_eq!(cluster.nodes[stopped].value(&names[stopped]), 2.0);
    // The connection for scrapes leaves a node alone for a while that it could not reach.
    wait_until("scrapes reach the node again", || !lines(&backend, &names[stopped]).is_empty());
    assert_eq!(lines(&backend, &names[stopped]), [format!("{} 2", names[stopped])]);
    assert_eq!(backend.statistics().losses, 0);
}

#[test]
fn a_scrape_in_the_middle_of_a_move_is_complete() {
    let cluster = Cluster::start_with(2, false, &[]);
    let backend = Backend::open(&url(&cluster, "")).unwrap();
    let requests = declare(&backend, "requests_total", MetricType::Counter, &["path"]);
    requests.metric(&["a"]).unwrap().inc(1.0).unwrap();
    flush(&backend);
    let slot = cluster.slot("requests_total");
    let from = cluster.owner(slot);
    let to = 1 - from;
    cluster.begin_move(slot, to);
    // Only one of the two keys has moved: no script may run.
    cluster.move_key("requests_total", from, to);
    let expected = [r#"requests_total{path="a"} 1"#];
    assert_eq!(lines(&backend, "requests_total"), expected);
    requests.metric(&["a"]).unwrap().inc(1.0).unwrap();
    let error = backend.flush(PATIENCE).unwrap_err();
    assert!(error.message().contains("TRYAGAIN"), "{error}");
    assert_eq!(lines(&backend, "requests_total"), expected);
    // Both have moved, and the source only redirects.
    cluster.move_key("{requests_total}:writers", from, to);
    flush_at_last(&backend);
    assert_eq!(lines(&backend, "requests_total"), [r#"requests_total{path="a"} 2"#]);
    cluster.move_slots(&[slot], to);
    requests.metric(&["a"]).unwrap().inc(1.0).unwrap();
    assert_eq!(lines(&backend, "requests_total"), [r#"requests_total{path="a"} 3"#]);
    assert_eq!(backend.statistics().losses, 0);
}

#[test]
fn a_forked_child_counts_on_connections_of_its_own() {
    let cluster = Cluster::start_with(2, false, &[]);
    let backend = Backend::open(&url(&cluster, "")).unwrap();
    let names = names_by_node(&cluster, 2);
    let counters: Vec<_> = names.iter().map(|name| counter(&backend, name)).collect();
    let count = || {
        counters.iter().for_each(|counter| counter.inc(1.0).unwrap());
        flush(&backend);
    };
    count();
    fork(|| {
        count();
        true
    })
    .join();
    count();
    for name in &names {
        assert_eq!(lines(&backend, name), [format!("{name} 3")]);
    }
}

#[test]
fn each_refusal_says_what_is_wrong() {
    let refusal = |url: &str| Backend::open(url).map(|_| ()).unwrap_err().message().to_owned();
    let server = Server::start();
    let no_cluster = refusal(&format!("redis-cluster://127.0.0.1:{}", server.port()));
    assert!(no_cluster.contains("cluster support disabled"), "{no_cluster}");
    let cluster = Cluster::start_with(2, false, &[]);
    let one_node = refusal(&cluster.nodes[0].url(""));
    assert!(one_node.contains("is a node of a cluster: use redis-cluster://"), "{one_node}");
    assert!(refusal(&cluster.url("db=1")).contains("database 0 only"));
    let backend = Backend::open(&url(&cluster, "")).unwrap();
    let braces = Definition::with_names(NameRule::Utf8, "a{b}c", "", MetricType::Counter, &[], &[]).unwrap();
    let braces = backend.declare(braces, &[], Lifetime::Backend).map(|_| ()).unwrap_err();
    assert!(braces.message().contains("a name without braces"), "{braces}");
}

#[test]
fn a_named_node_that_is_gone_is_passed_over() {
    let mut cluster = Cluster::start_with(2, false, &["--cluster-require-full-coverage", "no"]);
    let name = names_by_node(&cluster, 2).remove(1);
    cluster.nodes[0].kill();
    let backend = Backend::open(&url(&cluster, "")).unwrap();
    counter(&backend, &name).inc(1.0).unwrap();
    wait_until("the other node has it", || {
        // The definitions may belong to the node that is gone.
        let _ = backend.flush(PATIENCE);
        cluster.nodes[1].value(&name) == 1.0
    });
}
