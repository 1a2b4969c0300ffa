//! The Redis store after the server lacks batches that it, or its master, had confirmed: a replica that
//! lagged behind became the master, or the server crashed before its file was written. The replay log sends
//! exactly those batches again. The same runs without the log lose counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use log::Level;
use pytheus_backend_rs::{Backend, Metric, MetricType};

use support::replicas::Replicas;
use support::*;

/// Short, so that a server that is gone does not slow the test down.
const OPTIONS: &str = "flush_interval_ms=1&socket_timeout=1&connect_timeout=0.5&shutdown_timeout=20";

/// How often each fault is tried. `make test-long` tries it more often.
fn rounds() -> usize {
    std::env::var("PYTHEUS_TEST_ROUNDS").map_or(2, |rounds| rounds.parse().unwrap())
}

/// A backend that counts in each kind of metric until it is told to stop.
struct Writer {
    backend: Backend,
    number: usize,
    counted: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(url: &str, number: usize) -> Self {
        let backend = Backend::open(url).unwrap();
        let plain = counter(&backend, "plain_total");
        let requests = declare(&backend, "requests_total", MetricType::Counter, &["path"]);
        let time = declare_with_buckets(&backend, "time", MetricType::Histogram, &[], &[0.5]);
        let time = time.metric(&[]).unwrap();
        let own = number.to_string();
        let last = declare(&backend, "last", MetricType::Gauge, &["writer"]).metric(&[&own]).unwrap();
        let sum = declare(&backend, "sum", MetricType::Gauge, &[]).metric(&[]).unwrap();
        let (counted, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (Arc::clone(&counted), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let count = count.fetch_add(1, Ordering::Relaxed) + 1;
                plain.inc(1.0).unwrap();
                requests.metric(&[&(count % 7).to_string()]).unwrap().inc(1.0).unwrap();
                time.observe(if count % 2 == 0 { 0.25 } else { 1.0 }).unwrap();
                last.set(count as f64).unwrap();
                sum.inc(1.0).unwrap();
                if count % 4 == 0 {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        Self { backend, number, counted, ends, thread: Some(thread) }
    }

    fn counted(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }

    fn stop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn start_writers(url: &str) -> Vec<Writer> {
    (0..4).map(|number| Writer::start(url, number)).collect()
}

/// Waits until the writers have counted this much more.
fn count_on(writers: &[Writer], more: u64) {
    let total = || writers.iter().map(Writer::counted).sum::<u64>();
    let until = total() + more;
    wait_until("the writers count", || total() >= until);
}

/// Waits until all writers have sent something to the server.
fn until_all_sent(writers: &[Writer]) {
    for writer in writers {
        wait_until("it is sent", || writer.backend.statistics().batches_sent > 20);
    }
}

/// What a server holds, compared with what the writers have counted.
#[derive(Debug, PartialEq)]
struct Difference {
    plain: f64,
    by_path: f64,
    observations: f64,
    time: f64,
    sum: f64,
    gauges: usize,
}

const NONE: Difference =
    Difference { plain: 0.0, by_path: 0.0, observations: 0.0, time: 0.0, sum: 0.0, gauges: 0 };

/// Stops the writers, sends what is pending, and returns what is missing on the server.
fn missing(writers: &mut [Writer], server: &Server) -> Difference {
    writers.iter_mut().for_each(Writer::stop);
    writers.iter().for_each(|writer| flush_at_last(&writer.backend));
    let total = writers.iter().map(Writer::counted).sum::<u64>() as f64;
    let halves = |count: u64| (count / 2) as f64 * 0.25 + (count - count / 2) as f64;
    let time: f64 = writers.iter().map(|writer| halves(writer.counted())).sum();
    let by_path = (0..7).map(|path| server.field("requests_total", &format!(r#"{{"path":"{path}"}}"#)));
    let is_wrong = |writer: &&Writer| {
        server.field("last", &format!(r#"{{"writer":"{}"}}"#, writer.number)) != writer.counted() as f64
    };
    Difference {
        plain: total - server.value("plain_total"),
        by_path: total - by_path.sum::<f64>(),
        observations: total - server.field("time", "{}#le=0.5") - server.field("time", "{}#le=+Inf"),
        time: time - server.field("time", "{}#sum"),
        sum: total - server.value("sum"),
        gauges: writers.iter().filter(is_wrong).count(),
    }
}

/// Returns the sum of a statistic of all writers.
fn replayed(writers: &[Writer]) -> u64 {
    writers.iter().map(|writer| writer.backend.statistics().batches_replayed).sum()
}

fn losses(writers: &[Writer]) -> u64 {
    writers.iter().map(|writer| writer.backend.statistics().losses).sum()
}

/// Kills a master whose replicas have not got its last batches, and makes one of them the master. Returns
/// what is missing then, how many batches were sent again, and how many losses were counted.
fn kill_master(options: &str) -> (Difference, u64, u64) {
    let mut servers = Replicas::start();
    let mut writers = start_writers(&servers.front.url(&format!("{OPTIONS}&{options}")));
    until_all_sent(&writers);
    servers.cut();
    count_on(&writers, 2_000);
    servers.master.kill();
    servers.promote(0);
    count_on(&writers, 500);
    let missing = missing(&mut writers, &servers.replicas[0]);
    (missing, replayed(&writers), losses(&writers))
}

#[test]
fn a_master_that_is_killed_before_its_replicas_have_everything_loses_nothing() {
    for _ in 0..rounds() {
        let (missing, replayed, losses) = kill_master("");
        assert_eq!(missing, NONE);
        assert!(replayed > 0 && losses == 0, "{replayed} {losses}");
    }
}

#[test]
fn without_the_log_a_killed_master_loses_counts_and_the_loss_is_counted() {
    let (missing, replayed, losses) = kill_master("replay_log_mb=0");
    assert!(missing.plain > 0.0 && missing.by_path > 0.0 && missing.sum > 0.0, "{missing:?}");
    assert!(replayed == 0 && losses > 0, "{replayed} {losses}");
}
