//! A writer that comes back at the second in which its series ends.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::model::metric_type::MetricType;
use crate::process::clock::TEST_UPTIME;

const ROUNDS: u32 = if cfg!(miri) { 20 } else { 1000 };
const TTL: u32 = 10;

/// Returns the value that a scrape shows of the only series, if there is one.
fn shown(backend: &Backend) -> Option<f64> {
    let snapshot = backend.collect(None).unwrap();
    snapshot.families[0].series().next().map(|series| series.value())
}

/// Lets one thread count while another one scrapes a second later by its clock, at which the series is over, if the
/// change comes later than the scrape.
fn race(writer: &Backend, reader: &Backend) {
    let definition = Definition::new("c", "", MetricType::Counter, &[], &[]).unwrap();
    let definition = definition.with_series_ttl(f64::from(TTL)).unwrap();
    let family = writer.declare(definition, &[], Lifetime::Backend).unwrap();
    TEST_UPTIME.set(Some(1));
    let counter = family.metric(&[]).unwrap();
    let (mut before, mut anew, mut kept) = (0.0, 0, 0);
    let (start, end) = (Barrier::new(3), Barrier::new(3));
    let used = AtomicU64::new(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                start.wait();
                TEST_UPTIME.set(Some(used.load(Ordering::SeqCst) as u32 + TTL));
                (0..round % 97 * 8).for_each(|_| std::hint::spin_loop());
                counter.inc(1.0).unwrap();
                end.wait();
            }
        });
        scope.spawn(|| {
            for round in 0..ROUNDS {
                start.wait();
                TEST_UPTIME.set(Some(used.load(Ordering::SeqCst) as u32 + TTL + 1));
                (0..round % 89 * 8).for_each(|_| std::hint::spin_loop());
                shown(reader);
                end.wait();
            }
        });
        for round in 0..ROUNDS {
            start.wait();
            end.wait();
            let now = used.load(Ordering::SeqCst) as u32 + TTL + 1;
            TEST_UPTIME.set(Some(now));
            let value = shown(reader).expect("the series is not there");
            if value == 1.0 {
                anew += 1
            } else {
                kept += 1
            }
            assert!(value == before + 1.0 || value == 1.0, "round {round}: {before}, then {value}");
            before = value;
            // The second of the last use becomes the present one.
            counter.inc(0.0).unwrap();
            used.store(now.into(), Ordering::SeqCst);
        }
    });
    TEST_UPTIME.set(None);
    assert!(cfg!(miri) || anew > 0 && kept > 0, "anew {anew}, kept {kept} times");
}

#[test]
fn a_thread_that_comes_back_while_its_series_ends_loses_nothing() {
    let backend = Backend::open("memory:").unwrap();
    race(&backend, &backend);
}

#[test]
#[cfg_attr(miri, ignore)]
fn a_writer_in_a_file_that_comes_back_while_its_series_ends_loses_nothing() {
    let path = std::env::temp_dir().join(format!("pytheus-ttl-race-{}", std::process::id()));
    let url = format!("shm://{}?start=reset", path.display());
    let writer = Backend::open(&url).unwrap();
    let reader = Backend::open(&url.replace("reset", "continue")).unwrap();
    race(&writer, &reader);
    std::fs::remove_file(path).unwrap();
}
