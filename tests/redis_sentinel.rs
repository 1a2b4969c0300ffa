//! The Redis store behind Redis Sentinel: it follows the master through each kind of failover and loses
//! nothing, although the promoted replicas lack what the old master had confirmed. The same runs without the
//! replay log lose counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::{Duration, Instant};

use pytheus_backend_rs::{Backend, ErrorKind};

use support::proxy::{Direction, Proxy};
use support::sentinels::Trio;
use support::writers::*;
use support::*;

/// How often each fault is tried. `make test-long` tries it more often.
fn times() -> usize {
    if rounds() > 2 { rounds() } else { 1 }
}

fn url(trio: &Trio, options: &str) -> String {
    trio.url(&format!("{OPTIONS}&{options}"))
}

/// Starts writers, and cuts the links of the replicas before they count on.
fn start_lossy(trio: &Trio, options: &str) -> Vec<Writer> {
    let writers = start_writers(&url(trio, options));
    until_all_sent(&writers);
    trio.servers.cut();
    send_on(&writers, 2_000);
    writers
}

/// Waits until all writers send to the new master, and compares.
fn outcome_at(trio: &Trio, writers: &mut [Writer], port: u16) -> Outcome {
    let master = trio.at(port);
    let counted: Vec<f64> = writers.iter().map(|writer| writer.counted() as f64).collect();
    for (number, counted) in counted.into_iter().enumerate() {
        let last = format!(r#"{{"writer":"{number}"}}"#);
        wait_until("the writer follows", || master.field("last", &last) > counted);
    }
    outcome(writers, master)
}

/// Has a replica promoted by command. The old master goes on to accept writes for a while.
fn command(options: &str) -> Outcome {
    let trio = Trio::start();
    let mut writers = start_lossy(&trio, options);
    trio.fail_over();
    let master = trio.await_another_than(trio.servers.master.port());
    outcome_at(&trio, &mut writers, master)
}

fn kill(options: &str) -> Outcome {
    let mut trio = Trio::start();
    let mut writers = start_lossy(&trio, options);
    trio.servers.master.kill();
    let master = trio.await_another_than(trio.servers.master.port());
    outcome_at(&trio, &mut writers, master)
}

/// Stops the master. When it goes on, it believes for a while that it is the master.
fn stop(options: &str) -> Outcome {
    let trio = Trio::start();
    let mut writers = start_lossy(&trio, options);
    trio.servers.master.stop();
    let master = trio.await_another_than(trio.servers.master.port());
    trio.servers.master.go_on();
    outcome_at(&trio, &mut writers, master)
}

fn twice(options: &str) -> Outcome {
    let mut trio = Trio::start();
    let mut writers = start_lossy(&trio, options);
    trio.servers.master.kill();
    let second = trio.await_another_than(trio.servers.master.port());
    send_on(&writers, 500);
    trio.fail_over();
    let third = trio.await_another_than(second);
    outcome_at(&trio, &mut writers, third)
}

/// Promotes a replica that lags behind, while the other one has everything.
fn lagging(options: &str) -> Outcome {
    let mut trio = Trio::start();
    // Sentinel prefers the lower number, whatever the replica has.
    trio.servers.replicas[0].run_words::<()>("CONFIG SET replica-priority 1");
    let lagging = trio.servers.replicas[0].port().to_string();
    wait_until("the Sentinels know the priority", || {
        trio.sentinels.iter().all(|sentinel| {
            let replicas: Vec<std::collections::HashMap<String, String>> =
                sentinel.run_words("SENTINEL REPLICAS mymaster");
            replicas.iter().any(|replica| replica["port"] == lagging && replica["slave-priority"] == "1")
        })
    });
    let mut writers = start_writers(&url(&trio, options));
    until_all_sent(&writers);
    trio.servers.cut_one(0);
    send_on(&writers, 2_000);
    trio.servers.master.kill();
    let master = trio.await_another_than(trio.servers.master.port());
    assert_eq!(master.to_string(), lagging);
    outcome_at(&trio, &mut writers, master)
}

/// The old master is cut off from the Sentinels and the replicas, but not from clients.
fn split(options: &str) -> Outcome {
    let trio = Trio::start();
    let mut writers = start_lossy(&trio, options);
    trio.part_from_master();
    let master = trio.await_another_than(trio.servers.master.port());
    outcome_at(&trio, &mut writers, master)
}

/// Tries a fault with the replay log, which must lose nothing.
fn exact(fault: fn(&str) -> Outcome) {
    (0..times()).for_each(|_| assert_exact(&fault("")));
}

/// Tries a fault without the replay log, which must lose counts.
fn lossy(fault: fn(&str) -> Outcome) {
    (0..times()).for_each(|_| assert_lossy(&fault("replay_log_mb=0")));
}

#[test]
fn a_failover_by_command_loses_nothing() {
    exact(command);
}

#[test]
fn without_the_log_a_failover_by_command_loses_counts() {
    lossy(command);
}

#[test]
fn a_killed_master_loses_nothing() {
    exact(kill);
}

#[test]
fn without_the_log_a_killed_master_loses_counts() {
    lossy(kill);
}

#[test]
fn a_stopped_master_loses_nothing() {
    exact(stop);
}

#[test]
fn without_the_log_a_stopped_master_loses_counts() {
    lossy(stop);
}

#[test]
fn two_failovers_in_a_row_lose_nothing() {
    exact(twice);
}

#[test]
fn without_the_log_two_failovers_lose_counts() {
    lossy(twice);
}

#[test]
fn a_promoted_replica_that_lagged_behind_loses_nothing() {
    exact(lagging);
}

#[test]
fn without_the_log_a_lagging_replica_loses_counts() {
    lossy(lagging);
}

#[test]
fn a_master_without_its_sentinels_loses_nothing() {
    exact(split);
}

#[test]
fn without_the_log_a_split_brain_loses_counts() {
    lossy(split);
}

#[test]
fn a_scrape_reads_from_the_server_that_has_become_the_master() {
    let trio = Trio::start();
    let backend = Backend::open(&url(&trio, "")).unwrap();
    let total = counter(&backend, "requests_total");
    total.inc(1.0).unwrap();
    assert_eq!(lines(&backend, "requests_total"), ["requests_total 1"]);
    let reader = Backend::open(&url(&trio, "read_only=true")).unwrap();
    assert_eq!(lines(&reader, "requests_total"), ["requests_total 1"]);
    // The connections to the old master stay open, and it still answers.
    trio.part_from_master();
    trio.await_another_than(trio.servers.master.port());
    wait_until("this process sends to the new master", || {
        total.inc(1.0).unwrap();
        flush_at_last(&backend);
        trio.at(trio.master_port()).value("requests_total") > 1.0
    });
    let counted = total.get().unwrap();
    assert_eq!(lines(&backend, "requests_total"), [format!("requests_total {counted}")]);
    wait_until("a process that only reads follows", || {
        lines(&reader, "requests_total") == [format!("requests_total {counted}")]
    });
}

#[test]
fn an_idle_process_leaves_a_master_that_was_deposed_without_a_word() {
    let trio = Trio::start();
    let backend = Backend::open(&url(&trio, "")).unwrap();
    let total = counter(&backend, "requests_total");
    total.inc(1.0).unwrap();
    flush(&backend);
    wait_until("it is replicated", || {
        trio.servers.replicas.iter().all(|one| one.value("requests_total") == 1.0)
    });
    trio.servers.cut();
    total.inc(2.0).unwrap();
    flush(&backend);
    // The connection stays open, and nothing is counted any more.
    trio.part_from_master();
    let master = trio.await_another_than(trio.servers.master.port());
    wait_until("it is sent again", || trio.at(master).value("requests_total") == 3.0);
    assert_eq!(backend.statistics().losses, 0);
}

#[test]
fn an_idle_process_asks_nothing_once_the_replicas_have_everything() {
    let trio = Trio::start();
    let sentinel = Proxy::start(trio.sentinels[0].port());
    let url = format!("redis-sentinel://127.0.0.1:{}/mymaster", sentinel.port());
    let backend = Backend::open(&url).unwrap();
    let total = counter(&backend, "requests_total");
    total.inc(1.0).unwrap();
    flush(&backend);
    let asked = || sentinel.passed(Direction::Request);
    assert!(asked() > 0);
    // That a process asks nothing can only be seen by giving it time to ask.
    wait_until("it is silent for longer than the pause between two questions", || {
        let before = asked();
        std::thread::sleep(Duration::from_millis(2_500));
        asked() == before
    });
}

fn refusal(url: &str) -> String {
    let error = Backend::open(url).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    error.message().to_owned()
}

#[test]
fn each_refusal_says_what_is_wrong() {
    let trio = Trio::start_with(&[], &["--requirepass", "s3cret"]);
    let options = "connect_timeout=2&sentinel_password=s3cret";
    drop(Backend::open(&trio.url(options)).unwrap());
    let unknown = refusal(&trio.url(options).replace("mymaster", "other"));
    assert!(unknown.contains("no Sentinel names the master \"other\""), "{unknown}");
    assert!(unknown.contains("does not know \"other\""), "{unknown}");
    let unauthorized = refusal(&trio.url("connect_timeout=2"));
    assert!(unauthorized.contains("NOAUTH"), "{unauthorized}");
    let wrong = refusal(&trio.url("connect_timeout=2&sentinel_password=wr0ng"));
    assert!(wrong.contains("WRONGPASS") && !wrong.contains("wr0ng"), "{wrong}");
    let nobody = format!("redis-sentinel://127.0.0.1:{}/mymaster?connect_timeout=1", free_port());
    assert!(refusal(&nobody).contains("cannot connect to Sentinel at 127.0.0.1:"), "{}", refusal(&nobody));
    // A server that is no Sentinel.
    let server = Server::start();
    let wrong_port = format!("redis-sentinel://127.0.0.1:{}/mymaster?connect_timeout=1", server.port());
    assert!(refusal(&wrong_port).contains("unknown command"), "{}", refusal(&wrong_port));
}

#[test]
fn sentinels_that_are_gone_or_hang_are_passed_over() {
    let mut trio = Trio::start();
    trio.sentinels[0].stop();
    let begin = Instant::now();
    let backend = Backend::open(&trio.url("connect_timeout=4")).unwrap();
    assert!(begin.elapsed().as_secs() < 4);
    let total = counter(&backend, "requests_total");
    total.inc(1.0).unwrap();
    flush(&backend);
    trio.sentinels[0].go_on();
    trio.sentinels.iter_mut().for_each(Server::kill);
    // Without a Sentinel, the connection to the master stays.
    let begin = Instant::now();
    wait_until("polls are not answered", || {
        total.inc(1.0).unwrap();
        flush(&backend);
        begin.elapsed().as_secs() >= 3
    });
    assert_eq!(trio.servers.master.value("requests_total"), total.get().unwrap());
    assert_eq!(backend.statistics().losses, 0);
}

#[test]
fn a_replica_that_a_sentinel_names_is_not_written_to() {
    let mut trio = Trio::start();
    trio.servers.master.run_words::<()>(&format!("REPLICAOF 127.0.0.1 {}", trio.servers.replicas[1].port()));
    // The Sentinels need some time to notice.
    let error = refusal(&trio.url("connect_timeout=2"));
    assert!(error.contains("is no master, though a Sentinel says so, but a slave"), "{error}");
    trio.sentinels.iter_mut().for_each(Server::kill);
}
