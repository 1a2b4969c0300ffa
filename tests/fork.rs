//! Forks, at any time and in any thread: the parent is undisturbed, the child counts with the handles that it
//! inherited, and the server ends with exactly what both counted. A child only uses the engine and ends by
//! `_exit`, because the threads of the test harness do not exist in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pytheus_backend_rs::{Backend, Lifetime, Metric, MetricType};

use support::process::{EndOnDrop, Process, fork};
use support::*;

/// A pipe that lets one process wait for another.
struct Gate([i32; 2]);

impl Gate {
    fn new() -> Self {
        let mut ends = [0; 2];
        // SAFETY: the array has room for the two ends.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        Self(ends)
    }

    fn open(&self) {
        // SAFETY: one byte of a live array is written.
        assert_eq!(unsafe { libc::write(self.0[1], [1_u8].as_ptr().cast(), 1) }, 1);
    }

    fn wait(&self) {
        let mut byte = [0_u8];
        // SAFETY: one byte is read into a live array.
        assert_eq!(unsafe { libc::read(self.0[0], byte.as_mut_ptr().cast(), 1) }, 1);
    }
}

fn is_sent(backend: &Backend) -> bool {
    backend.flush(PATIENCE).is_ok()
}

#[test]
fn children_forked_under_load_count_exactly() {
    let server = Server::start();
    let backend = open(&server, "flush_interval_ms=1");
    let requests = counter(&backend, "requests_total");
    let level = gauge(&backend, "level");
    let time = declare(&backend, "time", MetricType::Histogram, &["a"]).metric(&["x"]).unwrap();
    let load = Load::start(&requests, 3);
    let forks = 40;
    let mut children = Vec::new();
    for _ in 0..forks {
        load.wait_for(300);
        time.observe(1.0).unwrap();
        level.inc(1.0).unwrap();
        children.push(fork(|| {
            for _ in 0..1_000 {
                requests.inc(1.0).unwrap();
            }
            time.observe(1.0).unwrap();
            level.inc(1.0).unwrap();
            is_sent(&backend)
        }));
        // At most four children at a time, like the workers of a server.
        if children.len() == 4 {
            children.drain(..).for_each(Process::join);
        }
    }
    children.into_iter().for_each(Process::join);
    let total = load.end() + f64::from(forks) * 1_000.0;
    flush(&backend);
    assert_eq!(server.value("requests_total"), total);
    assert_eq!(server.value("level"), 2.0 * f64::from(forks));
    assert_eq!(time.get_count().unwrap(), 2.0 * f64::from(forks));
    assert_eq!(time.get_sum().unwrap(), 2.0 * f64::from(forks));
}

#[test]
fn forks_while_others_scrape_declare_and_remove_do_not_hang_the_child() {
    let server = Server::start();
    let backend = open(&server, "flush_interval_ms=1");
    let requests = counter(&backend, "requests_total");
    let ends = AtomicBool::new(false);
    let goes_on = || !ends.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let _end = EndOnDrop(&ends);
        scope.spawn(|| {
            while goes_on() {
                backend.collect(None).unwrap();
            }
        });
        scope.spawn(|| {
            let family = declare(&backend, "errors_total", MetricType::Counter, &["n"]);
            for n in (0..).take_while(|_| goes_on()) {
                family.metric(&[&n.to_string()]).unwrap().inc(1.0).unwrap();
                family.remove(&[&n.to_string()]).unwrap();
                std::thread::yield_now();
            }
        });
        scope.spawn(|| {
            while goes_on() {
                let short = open(&server, "pipeline_threads=1");
                counter(&short, "short_total").inc(1.0).unwrap();
                short.close().unwrap();
            }
        });
        for _ in 0..30 {
            let child = fork(|| {
                requests.inc(1.0).unwrap();
                let declared = counter(&backend, "child_total");
                declared.inc(1.0).unwrap();
                declared.get().is_ok_and(|value| value >= 1.0) && backend.collect(None).is_ok()
            });
            child.join();
        }
    });
    flush(&backend);
    assert_eq!(server.value("requests_total"), 30.0);
    assert_eq!(server.value("child_total"), 30.0);
}

#[test]
fn changes_pending_at_the_fork_are_sent_once() {
    let server = Server::start();
    // The flush interval is so long that nothing is sent without a flush.
    let backend = open(&server, "flush_interval_ms=3600000");
    let requests = counter(&backend, "requests_total");
    let level = gauge(&backend, "level");
    let family = declare(&backend, "errors_total", MetricType::Counter, &["n"]);
    flush(&backend);
    requests.inc(1.0).unwrap();
    flush(&backend);
    let watched = {
        let definition = family.definition().clone();
        backend.declare(definition, &["n"], Lifetime::Handle).unwrap().metric(&["watched"]).unwrap()
    };
    requests.inc(10.0).unwrap();
    level.set(5.0).unwrap();
    level.inc(1.0).unwrap();
    family.metric(&["new"]).unwrap().inc(3.0).unwrap();
    watched.inc(4.0).unwrap();
    let child = fork(|| {
        // Whatever the child does, it must not send the parent's changes.
        let touched = is_sent(&backend);
        requests.inc(100.0).unwrap();
        level.inc(0.0).unwrap();
        watched.inc(40.0).unwrap();
        touched && backend.collect(None).is_ok() && is_sent(&backend)
    });
    child.join();
    assert_eq!(server.value("requests_total"), 101.0);
    assert_eq!(server.value("level"), 0.0, "the parent's change is still pending in the parent");
    assert_eq!(server.field("errors_total", r#"{"n":"watched"}"#), 40.0);
    flush(&backend);
    assert_eq!(server.value("requests_total"), 111.0);
    assert_eq!(server.value("level"), 6.0);
    assert_eq!(server.field("errors_total", r#"{"n":"new"}"#), 3.0);
    assert_eq!(server.field("errors_total", r#"{"n":"watched"}"#), 44.0);
}

#[test]
fn a_child_that_does_nothing_changes_nothing() {
    let server = Server::start();
    let backend = open(&server, "");
    let requests = counter(&backend, "requests_total");
    let load = Load::start(&requests, 2);
    for _ in 0..20 {
        load.wait_for(200);
        fork(|| true).join();
    }
    let total = load.end();
    flush(&backend);
    assert_eq!(server.value("requests_total"), total);
    let entries: u64 = server.run_words("HLEN {requests_total}:writers");
    assert_eq!(entries, 2, "the epoch and one writer, because the children have not written");
}

#[test]
fn a_child_closes_inherited_connections_without_sending_anything() {
    let server = Server::start();
    let backend = open(&server, "pipeline_threads=2");
    let requests = counter(&backend, "requests_total");
    for _ in 0..4 {
        requests.inc(1.0).unwrap();
        requests.get().unwrap();
    }
    let gate = Gate::new();
    let child = fork(|| {
        gate.wait();
        true
    });
    assert_eq!(requests.get().unwrap(), 4.0, "the parent's connections are still open");
    backend.close().unwrap();
    // The server would keep them if the child had them open, too.
    wait_until("the parent's connections end", || server.clients() == 0);
    gate.open();
    child.join();
}

#[test]
fn a_grandchild_counts_too() {
    let server = Server::start();
    let backend = open(&server, "");
    let requests = counter(&backend, "requests_total");
    requests.inc(1.0).unwrap();
    let child = fork(|| {
        requests.inc(10.0).unwrap();
        // Before and after the child starts its own threads.
        fork(|| {
            requests.inc(100.0).unwrap();
            is_sent(&backend)
        })
        .join();
        let sent = is_sent(&backend);
        requests.inc(10.0).unwrap();
        fork(|| {
            requests.inc(100.0).unwrap();
            requests.get().is_ok_and(|value| value >= 210.0)
        })
        .join();
        sent && is_sent(&backend)
    });
    child.join();
    flush(&backend);
    assert_eq!(server.value("requests_total"), 221.0);
}

#[test]
fn a_child_that_closes_the_backend_sends_its_changes() {
    let server = Server::start();
    let backend = open(&server, "flush_interval_ms=3600000");
    let requests = counter(&backend, "requests_total");
    flush(&backend);
    fork(|| {
        requests.inc(2.0).unwrap();
        requests.inc(3.0).unwrap();
        backend.close().is_ok()
    })
    .join();
    assert_eq!(server.value("requests_total"), 5.0);
    fork(|| backend.close().is_ok()).join();
    requests.inc(1.0).unwrap();
    assert_eq!(requests.get().unwrap(), 6.0, "the parent's backend is still open");
}

#[test]
fn a_child_counts_while_the_server_is_away() {
    let mut server = Server::start();
    let backend = open(&server, "collect_timeout=1");
    let requests = counter(&backend, "requests_total");
    flush(&backend);
    server.kill();
    requests.inc(1.0).unwrap();
    backend.flush(Duration::from_secs(1)).unwrap_err();
    let (counted, back) = (Gate::new(), Gate::new());
    let child = fork(|| {
        requests.inc(10.0).unwrap();
        let fails = backend.collect(None).is_err();
        counted.open();
        back.wait();
        fails && is_sent(&backend)
    });
    counted.wait();
    server.run();
    back.open();
    child.join();
    flush_at_last(&backend);
    assert_eq!(server.value("requests_total"), 11.0);
}

#[test]
fn a_fork_in_another_thread_is_a_fork_too() {
    let server = Server::start();
    let backend = open(&server, "flush_interval_ms=1");
    let requests = counter(&backend, "requests_total");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..5 {
                    requests.inc(1.0).unwrap();
                    fork(|| {
                        requests.inc(1.0).unwrap();
                        is_sent(&backend)
                    })
                    .join();
                }
            });
        }
    });
    flush(&backend);
    assert_eq!(server.value("requests_total"), 30.0);
}

#[test]
fn a_child_counts_on_with_a_copy_of_the_memory_store() {
    let backend = Backend::open("memory:").unwrap();
    let requests = counter(&backend, "requests_total");
    let load = Load::start(&requests, 3);
    for _ in 0..20 {
        load.wait_for(1_000);
        let child = fork(|| {
            let before = requests.get().unwrap();
            requests.inc(5.0).unwrap();
            counter(&backend, "child_total").inc(1.0).unwrap();
            let text = backend.collect_text().unwrap();
            before >= 1_000.0 && requests.get().unwrap() == before + 5.0 && text.ends_with("child_total 1\n")
        });
        child.join();
    }
    let total = load.end();
    assert_eq!(requests.get().unwrap(), total, "the child's counts stay in the child");
    assert!(!backend.collect_text().unwrap().contains("child_total"));
}

#[test]
fn metrics_of_a_dropped_backend_discard_counts_in_a_child_too() {
    let server = Server::start();
    let requests: Arc<Metric> = {
        let backend = open(&server, "flush_interval_ms=1");
        let requests = counter(&backend, "requests_total");
        requests.inc(1.0).unwrap();
        requests
    };
    wait_until("the dropped backend ends", || server.clients() == 0);
    assert_eq!(server.value("requests_total"), 1.0, "earlier changes are sent");
    let count_and_read = || {
        requests.inc(10.0).unwrap();
        requests.get().is_err()
    };
    fork(count_and_read).join();
    assert!(count_and_read());
    wait_until("no client is connected", || server.clients() == 0);
    assert_eq!(server.value("requests_total"), 1.0);
}

/// At the fork other threads hold the locks of a removed metric or of a dropped backend. The child does not
/// have these threads, so it must not wait for them.
#[test]
fn a_child_never_waits_for_handles_of_removed_metrics_and_dropped_backends() {
    let server = Server::start();
    for url in ["memory:", &server.url("")] {
        for is_dropped in [false, true] {
            let backend = Backend::open(url).unwrap();
            let family = declare(&backend, "requests_total", MetricType::Counter, &["n"]);
            let metric = family.metric(&["removed"]).unwrap();
            family.remove(&["removed"]).unwrap();
            let backend = (!is_dropped).then_some(backend);
            let ends = AtomicBool::new(false);
            let goes_on = || !ends.load(Ordering::Relaxed);
            std::thread::scope(|scope| {
                let _end = EndOnDrop(&ends);
                for _ in 0..2 {
                    scope.spawn(|| {
                        while goes_on() {
                            metric.inc(1.0).unwrap();
                        }
                    });
                    scope.spawn(|| {
                        for number in (0..100).cycle().take_while(|_| goes_on()) {
                            family.metric(&[&number.to_string()]).unwrap();
                        }
                    });
                }
                for _ in 0..30 {
                    fork(|| {
                        metric.inc(1.0).unwrap();
                        family.metric(&["child"]).is_ok()
                    })
                    .join();
                }
            });
            drop(backend);
        }
    }
}

#[test]
fn metrics_and_backends_have_debug_output() {
    let server = Server::start();
    for backend in [open(&server, ""), Backend::open("memory:").unwrap()] {
        let requests = counter(&backend, "requests_total");
        // In a child, because endless recursion would end the process.
        fork(|| format!("{requests:?} {backend:?}").contains("requests_total")).join();
    }
}
