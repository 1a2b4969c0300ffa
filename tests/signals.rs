//! A signal handler that counts while it interrupts a thread that counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use pytheus_backend_rs::{Backend, Metric, MetricType};

use support::process::fork;
use support::shared_file::TestFile;
use support::*;

/// The metrics that the handler counts with.
static METRICS: [AtomicPtr<Metric>; 3] = [const { AtomicPtr::new(std::ptr::null_mut()) }; 3];
static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: libc::c_int) {
    // SAFETY: the test sets the pointers before the first signal, and keeps the metrics alive.
    let [counter, gauge, histogram] =
        METRICS.each_ref().map(|metric| unsafe { &*metric.load(Ordering::Relaxed) });
    let _ = (counter.inc(0.5), gauge.inc(1.0), histogram.observe(2.0));
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_handler_counts_while_it_interrupts_a_thread_that_counts() {
    let file = TestFile::new();
    for url in ["memory:", "memory:?cell=mutex", &file.url("")] {
        // In a process of its own, which an alarm ends if it hangs.
        fork(|| {
            let backend = Backend::open(url).unwrap();
            let make =
                |name: &str, metric_type| declare(&backend, name, metric_type, &[]).metric(&[]).unwrap();
            let metrics = [
                make("requests_total", MetricType::Counter),
                make("level", MetricType::Gauge),
                make("seconds", MetricType::Histogram),
            ];
            for (slot, metric) in METRICS.iter().zip(&metrics) {
                slot.store(std::sync::Arc::as_ptr(metric).cast_mut(), Ordering::Relaxed);
            }
            // SAFETY: the handler changes atomics only.
            unsafe { libc::signal(libc::SIGUSR1, count as extern "C" fn(libc::c_int) as libc::sighandler_t) };
            // SAFETY: a plain system call.
            let counting_thread = unsafe { libc::pthread_self() };
            let is_done = AtomicBool::new(false);
            let rounds = 300_000;
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !is_done.load(Ordering::Relaxed) {
                        // SAFETY: the scope keeps the thread alive.
                        unsafe { libc::pthread_kill(counting_thread, libc::SIGUSR1) };
                        std::thread::sleep(std::time::Duration::from_micros(20));
                    }
                });
                for _ in 0..rounds {
                    metrics[0].inc(0.5).unwrap();
                    metrics[1].inc(1.0).unwrap();
                    metrics[2].observe(2.0).unwrap();
                }
                is_done.store(true, Ordering::Relaxed);
            });
            let handled = HANDLED.load(Ordering::Relaxed);
            let total = (rounds + handled) as f64;
            assert!(handled > 100, "{handled} signals");
            metrics[0].get().unwrap() == total * 0.5
                && metrics[1].get().unwrap() == total
                && metrics[2].get_count().unwrap() == total
                && metrics[2].get_sum().unwrap() == total * 2.0
        })
        .join();
    }
}
