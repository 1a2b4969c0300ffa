//! Writers that count in each kind of metric while servers fail, and what is then missing on the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pytheus_backend_rs::{Backend, Definition, Lifetime, MetricType, Native};

use super::*;

/// Short, so that a server that is gone does not slow the test down.
pub const OPTIONS: &str =
    "flush_interval_ms=1&max_flush_interval_ms=1&socket_timeout=1&connect_timeout=0.5&shutdown_timeout=20";

/// How often each fault is tried. `make test-long` tries it more often.
pub fn rounds() -> usize {
    std::env::var("PYTHEUS_TEST_ROUNDS").map_or(2, |rounds| rounds.parse().unwrap())
}

/// A backend that counts in each kind of metric until it is told to stop.
pub struct Writer {
    pub backend: Backend,
    number: usize,
    counted: Arc<AtomicU64>,
    waits: Arc<Metric>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(url: &str, number: usize) -> Self {
        // A busy machine can be slower than the short timeouts.
        let mut opened = None;
        wait_until("a writer connects", || {
            opened = Backend::open(url).ok();
            opened.is_some()
        });
        let backend = opened.unwrap();
        let plain = counter(&backend, "plain_total");
        let requests = declare(&backend, "requests_total", MetricType::Counter, &["path"]);
        let time = declare_with_buckets(&backend, "time", MetricType::Histogram, &[], &[0.5]);
        let time = time.metric(&[]).unwrap();
        let waits = Definition::new("waits", "", MetricType::Histogram, &[], &[]).unwrap();
        let waits = waits.with_native(Native::new(5, 64).unwrap(), false).unwrap();
        let waits = backend.declare(waits, &[], Lifetime::Backend).unwrap().metric(&[]).unwrap();
        let own = number.to_string();
        let last = declare(&backend, "last", MetricType::Gauge, &["writer"]).metric(&[&own]).unwrap();
        let sum = declare(&backend, "sum", MetricType::Gauge, &[]).metric(&[]).unwrap();
        let (counted, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end, observed) = (Arc::clone(&counted), Arc::clone(&ends), Arc::clone(&waits));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let count = count.fetch_add(1, Ordering::Relaxed) + 1;
                plain.inc(1.0).unwrap();
                requests.metric(&[&(count % 7).to_string()]).unwrap().inc(1.0).unwrap();
                time.observe(if count % 2 == 0 { 0.25 } else { 1.0 }).unwrap();
                // Ever wider, so that the schema falls.
                observed.observe(1.03f64.powi((count * 7 % (count / 20 + 1)) as i32 % 300)).unwrap();
                last.set(count as f64).unwrap();
                sum.inc(1.0).unwrap();
                if count % 4 == 0 {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        Self { backend, number, counted, waits, ends, thread: Some(thread) }
    }

    pub fn counted(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }

    pub fn stop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

pub fn start_writers(url: &str) -> Vec<Writer> {
    (0..4).map(|number| Writer::start(url, number)).collect()
}

/// Waits until the writers have counted this much more.
pub fn count_on(writers: &[Writer], more: u64) {
    let total = || writers.iter().map(Writer::counted).sum::<u64>();
    let until = total() + more;
    wait_until("the writers count", || total() >= until);
}

/// Waits until the writers have counted this much more, and the server has confirmed some of it to each.
pub fn send_on(writers: &[Writer], more: u64) {
    count_on(writers, more);
    for writer in writers {
        // The first batch may have been under way before.
        let until = writer.backend.statistics().batches_sent + 2;
        wait_until("the server confirms it", || writer.backend.statistics().batches_sent >= until);
    }
}

/// Waits until all writers have sent something to the server.
pub fn until_all_sent(writers: &[Writer]) {
    for writer in writers {
        wait_until("it is sent", || writer.backend.statistics().batches_sent > 20);
    }
}

/// What holds values: a server or a cluster.
pub trait Values {
    /// Returns a field of a hash as a number, or 0 without the field.
    fn field(&self, key: &str, field: &str) -> f64;

    /// Returns a string key as a number, or 0 without the key.
    fn value(&self, key: &str) -> f64;
}

impl Values for Server {
    fn field(&self, key: &str, field: &str) -> f64 {
        Server::field(self, key, field)
    }

    fn value(&self, key: &str) -> f64 {
        Server::value(self, key)
    }
}

/// What a server holds, compared with what the writers have counted.
#[derive(Debug, PartialEq)]
pub struct Difference {
    pub plain: f64,
    pub by_path: f64,
    pub observations: f64,
    pub time: f64,
    pub native: f64,
    pub sum: f64,
    pub gauges: usize,
}

pub const NONE: Difference =
    Difference { plain: 0.0, by_path: 0.0, observations: 0.0, time: 0.0, native: 0.0, sum: 0.0, gauges: 0 };

/// Stops the writers, sends what is pending, and returns what is missing on the server.
pub fn missing(writers: &mut [Writer], server: &impl Values) -> Difference {
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
        native: total - writers[0].waits.get_count().unwrap(),
        sum: total - server.value("sum"),
        gauges: writers.iter().filter(is_wrong).count(),
    }
}

/// Returns the sum of a statistic of all writers.
pub fn replayed(writers: &[Writer]) -> u64 {
    writers.iter().map(|writer| writer.backend.statistics().batches_replayed).sum()
}

pub fn losses(writers: &[Writer]) -> u64 {
    writers.iter().map(|writer| writer.backend.statistics().losses).sum()
}

/// What is missing after a fault, how many batches were sent again, and how many losses were counted.
pub type Outcome = (Difference, u64, u64);

pub fn outcome(writers: &mut [Writer], server: &impl Values) -> Outcome {
    let missing = missing(writers, server);
    (missing, replayed(writers), losses(writers))
}

/// Asserts that nothing is missing, and that this took the replay log.
pub fn assert_exact(outcome: &Outcome) {
    let (missing, replayed, losses) = outcome;
    assert_eq!(missing, &NONE);
    assert!(*replayed > 0, "no batch was lost, so this shows nothing");
    assert_eq!(*losses, 0);
}

/// Asserts that counts are missing, and that the loss was counted.
pub fn assert_lossy(outcome: &Outcome) {
    let (missing, replayed, losses) = outcome;
    assert!(missing.plain > 0.0 && missing.by_path > 0.0, "{missing:?}");
    assert_eq!(*replayed, 0);
    assert!(*losses > 0);
}
