//! A scrape reads a large hash in pieces, so that the server serves others in between. It shows what one read of
//! the whole hash would show.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use pytheus_backend_rs::{Backend, MetricType};

use support::cluster::Cluster;
use support::proxy::{Direction, Proxy};
use support::*;

/// How many series a large family of counters has. Each is a field.
const COUNTERS: usize = 12_000;

/// How many series a large histogram has. Each has a field for its sum, and one for each bucket.
const HISTOGRAMS: usize = 800;

/// How often each series of the histogram is observed while it is read.
const ROUNDS: usize = 60;

/// A large family takes its time on a busy machine.
const PATIENT: &str = "socket_timeout=60";
const BOUNDS: [f64; 9] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];

/// Counts every series of a large family up to its number.
fn fill_counters(backend: &Backend, name: &str) {
    let family = declare(backend, name, MetricType::Counter, &["n"]);
    for number in 0..COUNTERS {
        family.metric(&[&number.to_string()]).unwrap().inc(number as f64).unwrap();
    }
    flush(backend);
}

/// Returns the values of all series of a family of counters, by the number in their label.
fn counters(backend: &Backend, name: &str) -> BTreeMap<usize, f64> {
    let start = format!("{name}{{n=\"");
    let text = backend.collect_text().unwrap();
    let samples = text.lines().filter_map(|line| line.strip_prefix(&start)?.split_once("\"} "));
    samples.map(|(number, value)| (number.parse().unwrap(), value.parse().unwrap())).collect()
}

fn expected() -> BTreeMap<usize, f64> {
    (0..COUNTERS).map(|number| (number, number as f64)).collect()
}

#[test]
fn the_server_is_never_asked_for_a_large_hash_as_a_whole() {
    let server = Server::start();
    let (writer, reader) = (open(&server, PATIENT), open(&server, PATIENT));
    fill_counters(&writer, "requests_total");
    reader.collect_text().unwrap();
    let mut expected = expected();
    let calls = || ["hgetall", "hscan", "hmget"].map(|command| server.calls_of(command));
    let family = declare(&writer, "requests_total", MetricType::Counter, &["n"]);
    for round in 1..4 {
        family.metric(&["7"]).unwrap().inc(1.0).unwrap();
        flush(&writer);
        expected.insert(7, 7.0 + f64::from(round));
        let before = calls();
        assert_eq!(counters(&reader, "requests_total"), expected);
        let after = calls();
        let made: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        assert_eq!(made, [1, 0, 3], "the definitions, and the fields that are known, in three pieces");
    }
    let before = calls();
    family.metric(&["new"]).unwrap();
    flush(&writer);
    assert_eq!(lines(&reader, "requests_total").len(), COUNTERS + 1, "a series that is new");
    assert!(calls()[1] > before[1], "the fields are listed again");
    for number in 0..COUNTERS / 2 {
        server.run_command::<u64>(&["HDEL", "requests_total", &format!("{{\"n\":\"{number}\"}}")]);
    }
    assert_eq!(lines(&reader, "requests_total").len(), COUNTERS / 2 + 1, "series that are gone");
    assert_eq!(calls()[0] - before[0], 2, "the definitions only");
}

#[test]
fn a_large_hash_is_read_in_pieces_by_a_process_that_declares_the_family_without_labels() {
    let server = Server::start();
    let (writer, reader) = (open(&server, PATIENT), open(&server, PATIENT));
    fill_counters(&writer, "requests_total");
    counter(&reader, "requests_total");
    let family = declare(&writer, "requests_total", MetricType::Counter, &["n"]);
    reader.collect_text().unwrap();
    for _ in 0..2 {
        family.metric(&["7"]).unwrap().inc(1.0).unwrap();
        flush(&writer);
        let before = server.calls_of("hgetall");
        assert_eq!(lines(&reader, "requests_total").len(), COUNTERS + 1, "and the series without labels");
        assert_eq!(server.calls_of("hgetall") - before, 1, "the definitions only");
    }
}

#[test]
fn families_of_all_sizes_are_read_together() {
    let server = Server::start();
    let (writer, reader) = (open(&server, PATIENT), open(&server, PATIENT));
    let sizes = [1, 3, 499, 500, 501, 1_999, 2_000, 2_500, 4_999, 5_000, 5_001, 7_777, 4_000, 8_000, 1, 2];
    for (index, size) in sizes.into_iter().enumerate() {
        let family = declare(&writer, &format!("family_{index}_total"), MetricType::Counter, &["n"]);
        for number in 0..size {
            family.metric(&[&number.to_string()]).unwrap().inc(number as f64).unwrap();
        }
    }
    for round in 1..4 {
        for (index, size) in sizes.into_iter().enumerate() {
            let family = declare(&writer, &format!("family_{index}_total"), MetricType::Counter, &["n"]);
            family.metric(&["0"]).unwrap().inc(1.0).unwrap();
            flush(&writer);
            let mut expected: BTreeMap<usize, f64> =
                (0..size).map(|number| (number, number as f64)).collect();
            expected.insert(0, f64::from(round));
            assert_eq!(counters(&reader, &format!("family_{index}_total")), expected);
        }
        let text = reader.collect_text().unwrap();
        assert_eq!(
            text.lines().filter(|line| line.starts_with("family")).count(),
            sizes.iter().sum::<usize>()
        );
    }
}

#[test]
fn every_spelling_counts_and_what_is_no_series_is_left_out() {
    let server = Server::start();
    let (writer, reader) = (open(&server, PATIENT), open(&server, PATIENT));
    fill_counters(&writer, "requests_total");
    let mut expected = expected();
    let set = |field: &str, value: &str| {
        server.run_command::<u64>(&["HSET", "requests_total", field, value]);
    };
    set("{\"n\": \"3\"}", "0.5");
    set("{ \"n\":\"20000\"}", "2");
    set("no labels", "1");
    expected.insert(3, 3.5);
    expected.insert(20_000, 2.0);
    assert_eq!(counters(&reader, "requests_total"), expected);
    set("no labels either", "1");
    set("{\"n\":\"4\"}", "no number");
    set("{\"n\": \"3\"}", "1.5");
    // It is the only field of the series.
    expected.remove(&4);
    expected.insert(3, 4.5);
    assert_eq!(counters(&reader, "requests_total"), expected);
    server.run_command::<u64>(&["HDEL", "requests_total", "no labels", "no labels either"]);
    set("{\"n\":\"20001\"}", "1");
    expected.insert(20_001, 1.0);
    assert_eq!(counters(&reader, "requests_total"), expected, "what goes hides nothing that comes");
}

#[test]
fn the_parts_of_a_histogram_belong_together_while_it_is_observed() {
    let server = Server::start();
    let (writer, reader) = (open(&server, PATIENT), open(&server, PATIENT));
    let of = |backend| declare_with_buckets(backend, "size", MetricType::Histogram, &["n"], &BOUNDS);
    let family = of(&writer);
    let metrics: Vec<_> =
        (0..HISTOGRAMS).map(|number| family.metric(&[&number.to_string()]).unwrap()).collect();
    // In the beginning most buckets have no field.
    metrics.iter().for_each(|metric| metric.observe(1.0).unwrap());
    flush(&writer);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _end = process::EndOnDrop(&is_done);
            for round in 0..ROUNDS {
                if round % 20 == 0 {
                    // With a new series, the fields must be listed again.
                    family.metric(&[&(HISTOGRAMS + round).to_string()]).unwrap().observe(2.0).unwrap();
                }
                // A bucket tells the sum of what it holds.
                for (number, metric) in metrics.iter().enumerate() {
                    metric.observe(((round + number) % 9 + 1) as f64).unwrap();
                }
                flush(&writer);
            }
        });
        let mut scrapes = 0;
        while !is_done.load(Ordering::Relaxed) || scrapes == 0 {
            assert!(check_sums(&reader) >= HISTOGRAMS);
            scrapes += 1;
        }
    });
    assert!(server.calls_of("hmget") > 0 && server.calls_of("hscan") > 0, "it is read in pieces");
    assert_eq!(check_sums(&reader), HISTOGRAMS + ROUNDS / 20);
}

/// Checks that the sum of each series is that of its buckets. Returns how many there are.
fn check_sums(backend: &Backend) -> usize {
    let text = backend.collect_text().unwrap();
    let (mut from_buckets, mut below, mut checked) = (0.0, 0.0, 0);
    for line in text.lines() {
        let value = || line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
        if let Some((_, rest)) = line.split_once(",le=\"") {
            let bound: f64 = rest.split_once('"').unwrap().0.parse().unwrap();
            if bound.is_finite() {
                from_buckets += bound * (value() - below);
                below = value();
            }
        } else if line.starts_with("size_sum") {
            assert_eq!(value(), from_buckets, "{line}");
            checked += 1;
        } else if line.starts_with("size_count") {
            assert_eq!(value(), below, "{line}");
            (from_buckets, below) = (0.0, 0.0);
        }
    }
    checked
}

#[test]
fn a_scrape_that_goes_on_at_another_server_misses_nothing() {
    let (master, copy) = (Server::start(), Server::start());
    fill_counters(&open(&master, PATIENT), "requests_total");
    copy.run_words::<()>(&format!("REPLICAOF 127.0.0.1 {}", master.port()));
    // While the copy loads its data, it answers with an error.
    let length = || redis::cmd("HLEN").arg("requests_total").query::<usize>(&mut copy.connection());
    wait_until("the copy is complete", || length().is_ok_and(|length| length == COUNTERS));
    copy.run_words::<()>("REPLICAOF NO ONE");
    let proxy = Proxy::start(master.port());
    let expected = expected();
    let reader = Backend::open(&proxy.url(PATIENT)).unwrap();
    // How much a scrape takes that lists the fields, and reads them.
    let before = proxy.passed(Direction::Reply);
    assert_eq!(counters(&reader, "requests_total"), expected);
    let size = proxy.passed(Direction::Reply) - before;
    reader.close().unwrap();
    const PARTS: usize = 8;
    for part in 1..PARTS {
        proxy.redirect(master.port());
        let reader = Backend::open(&proxy.url(PATIENT)).unwrap();
        let own = declare(&reader, "own_total", MetricType::Counter, &[]);
        // This connects to the master. The next connections go to the copy.
        reader.collect(Some(&[own])).unwrap();
        proxy.redirect(copy.port());
        let (cuts, connections) = (proxy.cuts_done(), proxy.connections());
        proxy.cut_after(Direction::Reply, size * part / PARTS);
        proxy.cut_after(Direction::Reply, size * part / PARTS);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                wait_until("it is at the copy", || proxy.connections() > connections);
                proxy.redirect(master.port());
            });
            assert_eq!(counters(&reader, "requests_total"), expected, "after {part} parts");
        });
        proxy.forget_cuts();
        assert_ne!(proxy.cuts_done(), cuts);
        reader.close().unwrap();
    }
}

#[test]
fn a_family_that_moves_to_another_node_is_shown_completely() {
    let cluster = Cluster::start();
    fill_counters(&Backend::open(&cluster.url(PATIENT)).unwrap(), "requests_total");
    let slot = cluster.slot("requests_total");
    let expected = expected();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _end = process::EndOnDrop(&is_done);
            for round in 0..6 {
                cluster.move_slots(&[slot], (cluster.owner(slot) + 1 + round % 2) % 3);
            }
        });
        let mut scrapes = 0;
        while !is_done.load(Ordering::Relaxed) || scrapes == 0 {
            // Each new process lists the fields.
            let reader = Backend::open(&cluster.url(PATIENT)).unwrap();
            assert_eq!(counters(&reader, "requests_total"), expected);
            reader.close().unwrap();
            scrapes += 1;
        }
    });
}
