//! The shared-memory store: backends of one file see each other's values, removed metrics are gone for all of
//! them, and their space is reused. Bad files are in `shared_memory_faults.rs` and `shared_memory_damage.rs`,
//! forked and killed processes in `shared_memory_processes.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod support;

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::Level;
use pytheus_backend_rs::{Backend, Definition, ErrorKind, Lifetime, MetricFamily, MetricType, NameRule};

use support::process::{EndOnDrop, fork};
use support::shared_file::{SEGMENT, TURNS_AT, TestFile};
use support::*;

fn labelled(backend: &Backend, name: &str) -> MetricFamily {
    declare(backend, name, MetricType::Counter, &["a"])
}

// Visibility.

#[test]
fn values_are_visible_to_others_at_once() {
    let file = TestFile::new();
    let (first, second) = (file.open(), file.open());
    let (one, other) = (counter(&first, "requests_total"), counter(&second, "requests_total"));
    for round in 1..=100 {
        one.inc(1.0).unwrap();
        assert_eq!(other.get().unwrap(), f64::from(2 * round - 1));
        other.inc(1.0).unwrap();
        assert_eq!(one.get().unwrap(), f64::from(2 * round));
    }
    let (one, other) = (gauge(&first, "level"), gauge(&second, "level"));
    one.set(-2.5).unwrap();
    other.dec(1.0).unwrap();
    assert_eq!(one.get().unwrap(), -3.5);
    assert_eq!(lines(&second, "level"), ["level -3.5"]);
}

#[test]
fn an_addition_returns_the_total_of_all_backends() {
    let file = TestFile::new();
    let (first, second) = (file.open(), file.open());
    let (one, other) = (counter(&first, "requests_total"), counter(&second, "requests_total"));
    assert_eq!(one.inc_and_get(1.0).unwrap(), 1.0);
    assert_eq!(other.inc_and_get(2.5).unwrap(), 3.5);
    assert_eq!(one.inc_and_get(-1.0).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(one.inc_and_get(0.0).unwrap(), 3.5);
}

#[test]
fn a_family_is_known_to_a_backend_that_never_declared_it() {
    let file = TestFile::new();
    let first = file.open();
    let definition =
        Definition::new("size", "a \\ \"help\"\nin é", MetricType::Histogram, &["y", "x"], &[0.5, 1e20])
            .unwrap();
    let family = first.declare(definition.clone(), &["y", "x"], Lifetime::Backend).unwrap();
    let second = file.open();
    let found = second.collect(None).unwrap();
    assert_eq!(found.families.len(), 1);
    assert_eq!(found.families[0].definition, definition, "before the first metric exists");
    family.metric(&["1", "2"]).unwrap().observe(7.0).unwrap();
    assert_eq!(
        second.collect_text().unwrap(),
        "# HELP size a \\\\ \"help\"\\nin é\n# TYPE size histogram\n\
         size_bucket{x=\"2\",y=\"1\",le=\"0.5\"} 0\nsize_bucket{x=\"2\",y=\"1\",le=\"1e20\"} 1\n\
         size_bucket{x=\"2\",y=\"1\",le=\"+Inf\"} 1\nsize_sum{x=\"2\",y=\"1\"} 7\nsize_count{x=\"2\",y=\"1\"} 1\n"
    );
}

#[test]
fn every_type_reads_as_in_the_memory_store() {
    let file = TestFile::new();
    let (memory, shared) = (Backend::open("memory:").unwrap(), file.open());
    for backend in [&memory, &shared] {
        let requests = declare(backend, "requests_total", MetricType::Counter, &["path", "bob"]);
        for (index, value) in ["z", "a", "é\"\\\n", "", "{}"].into_iter().enumerate() {
            requests.metric(&[value, "cat"]).unwrap().inc(index as f64 + 0.1).unwrap();
        }
        assert!(requests.metric(&["z", "cat"]).unwrap().inc(-1.0).is_err());
        for (name, value) in [("inf", f64::INFINITY), ("nan", f64::NAN), ("small", 1e-300), ("zero", -0.0)] {
            gauge(backend, name).set(value).unwrap();
        }
        let untyped = declare(backend, "other", MetricType::Untyped, &[]).metric(&[]).unwrap();
        untyped.inc(5.0).unwrap();
        untyped.dec(7.5).unwrap();
        let size = declare(backend, "size", MetricType::Summary, &["a"]).metric(&["x"]).unwrap();
        let buckets = [-1.0, 0.5, 10.0];
        let time =
            declare_with_buckets(backend, "time", MetricType::Histogram, &[], &buckets).metric(&[]).unwrap();
        for value in [-3.0, 0.5, 0.6, 10.0, 11.0, f64::NAN] {
            size.observe(value).unwrap();
            time.observe(value).unwrap();
        }
        assert_eq!(size.get_count().unwrap(), 6.0);
        assert_eq!(time.get_bucket(10.0).unwrap(), 4.0);
        declare(backend, "empty", MetricType::Gauge, &["a"]);
    }
    assert_eq!(shared.collect_text().unwrap(), memory.collect_text().unwrap());
    assert_eq!(file.open().collect_text().unwrap(), memory.collect_text().unwrap());
}

#[test]
fn counts_are_kept_while_no_process_has_the_file_open() {
    let file = TestFile::new();
    counter(&file.open(), "requests_total").inc(3.0).unwrap();
    let backend = file.open();
    assert_eq!(lines(&backend, "requests_total"), ["requests_total 3"]);
    assert_eq!(counter(&backend, "requests_total").get().unwrap(), 3.0, "a new handle does not reset it");
}

#[test]
fn equal_definitions_share_one_family_and_others_conflict() {
    let file = TestFile::new();
    let (first, second) = (file.open(), file.open());
    labelled(&first, "requests_total").metric(&["x"]).unwrap().inc(1.0).unwrap();
    let define = |metric_type, help, labels: &[&str], buckets: &[f64]| {
        Definition::new("requests_total", help, metric_type, labels, buckets).unwrap()
    };
    let other_help = define(MetricType::Counter, "In other words.", &["a"], &[]);
    let shared = second.declare(other_help, &["a"], Lifetime::Backend).unwrap();
    shared.metric(&["x"]).unwrap().inc(1.0).unwrap();
    assert_eq!(lines(&first, "requests_total"), ["requests_total{a=\"x\"} 2"]);
    assert!(second.collect_text().unwrap().contains("# HELP requests_total Some help."));
    let before = file.records();
    for (definition, order) in [
        (define(MetricType::Gauge, "", &["a"], &[]), &["a"][..]),
        (define(MetricType::Histogram, "", &["a"], &[0.5]), &["a"]),
    ] {
        let third = file.open();
        let wanted = definition.describe();
        let error = third.declare(definition, order, Lifetime::Handle).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        for part in ["counter requests_total with labels a", &wanted] {
            assert!(error.message().contains(part), "{error}: {part}");
        }
    }
    assert_eq!(file.records(), before, "nothing was written");
    let buckets = |bounds: &[f64]| {
        let definition = Definition::new("time", "", MetricType::Histogram, &[], bounds).unwrap();
        file.open().declare(definition, &[], Lifetime::Backend)
    };
    buckets(&[0.5]).unwrap();
    let error = buckets(&[0.25]).unwrap_err();
    assert!(error.message().contains("0.5") && error.message().contains("0.25"), "{error}");
}

#[test]
fn names_may_have_any_characters_but_line_feeds() {
    let file = TestFile::new();
    let backend = file.open();
    let odd = |name: &str| {
        let labels = &["größe \"x\"\n"];
        let definition = Definition::with_names(NameRule::Utf8, name, "", MetricType::Gauge, labels, &[]);
        backend.declare(definition.unwrap(), labels, Lifetime::Backend)
    };
    odd("http.größe").unwrap().metric(&["a"]).unwrap().set(2.0).unwrap();
    let snapshot = file.open().collect(None).unwrap();
    assert_eq!(snapshot.families[0].definition.name(), "http.größe");
    let series = snapshot.families[0].series().next().unwrap();
    assert_eq!((series.labels()["größe \"x\"\n"].as_str(), series.value()), ("a", 2.0));
    let error = odd("a\nb").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains("line feed"), "{error}");
}

#[test]
fn the_order_of_labels_does_not_matter() {
    let file = TestFile::new();
    let declare = |order: &[&str]| {
        let definition = Definition::new("hits", "", MetricType::Counter, order, &[]).unwrap();
        file.open().declare(definition, order, Lifetime::Backend).unwrap()
    };
    declare(&["path", "bob"]).metric(&["/a b", "cat"]).unwrap().inc(1.0).unwrap();
    declare(&["bob", "path"]).metric(&["cat", "/a b"]).unwrap().inc(1.0).unwrap();
    let record = file.record(r#"{"bob":"cat","path":"/a b"}"#);
    assert_eq!(record.cells, [2.0]);
    assert_eq!(file.records().len(), 2);
}

#[test]
fn the_file_follows_the_layout_page() {
    let file = TestFile::new();
    let backend = file.open();
    let family = declare_with_buckets(&backend, "time", MetricType::Histogram, &["a"], &[0.5, 10.0]);
    let metric = family.metric(&["x"]).unwrap();
    for value in [0.1, 7.0, 8.0] {
        metric.observe(value).unwrap();
    }
    let bytes = file.bytes();
    assert_eq!(bytes.len() as u64, SEGMENT);
    assert_eq!(&bytes[..8], b"PYTHEUSM");
    assert_eq!(file.word(8), 2 | 0x0a0b_0c0d << 32);
    assert_eq!(file.word(16), 4096 | SEGMENT << 32);
    assert_eq!(file.word(24), 64 << 20);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now - file.word(48) < 600, "the creation time is recent");
    assert_eq!(file.word(56), support::shared_file::fnv(&[], &bytes[..56]));
    let records = file.records();
    assert_eq!(records.len(), 2);
    // The first level of the index comes first: a directory of one table, and the table.
    let family_at = 4096 + 128 + 8256;
    assert_eq!((records[0].offset, records[0].kind, records[0].generation), (family_at, 2, 1));
    assert_eq!(
        records[0].text,
        "time\n{\"buckets\":[0.5,10.0],\"help\":\"Some help.\",\"labels\":[\"a\"],\"type\":\"histogram\"}"
    );
    assert_eq!((records[1].kind, records[1].family, records[1].generation), (3, family_at, 1));
    assert_eq!(records[1].text, r#"{"a":"x"}"#);
    assert_eq!(records[1].cells, [15.1, 1.0, 2.0, 0.0]);
    assert_eq!(records[1].size, 128);
    let (sum, word) = (file.word(records[1].offset + 32), file.word(records[1].offset + 48));
    let created = word & 0xffff_ffff_ffff;
    assert!(now - created / 1_000 < 600, "the time at which the metric began is recent");
    assert_eq!(word >> 48, support::shared_file::check(created ^ sum, 1));
    assert_eq!(file.committed(), records[1].offset + 128);
    assert_eq!(file.word(128), 1);
    file.assert_index_is_sound();
    family.remove(&["x"]).unwrap();
    assert_eq!(file.records()[1].generation, 2);
    file.assert_index_is_sound();
}

// Removal and reuse of space.

#[test]
fn a_removed_metric_is_gone_for_all_processes() {
    let file = TestFile::new();
    let (first, second) = (file.open(), file.open());
    let (one, other) = (labelled(&first, "hits"), labelled(&second, "hits"));
    let old = one.metric(&["x"]).unwrap();
    old.inc(5.0).unwrap();
    one.metric(&["y"]).unwrap().inc(1.0).unwrap();
    other.remove(&["x"]).expect("who removes a metric need not have it");
    assert_eq!(other.remove(&["x"]).unwrap_err().kind(), ErrorKind::NotFound);
    for backend in [&first, &second, &file.open()] {
        assert_eq!(lines(backend, "hits"), ["hits{a=\"y\"} 1"]);
    }
    old.inc(1.0).unwrap();
    let error = old.get().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains(r#"hits{"a":"x"}"#), "{error}");
    assert_eq!(lines(&first, "hits"), ["hits{a=\"y\"} 1"]);
    let again = one.metric(&["x"]).unwrap();
    assert_eq!(again.get().unwrap(), 0.0, "a new metric begins at 0");
    again.inc(2.0).unwrap();
    assert_eq!(lines(&second, "hits"), ["hits{a=\"x\"} 2", "hits{a=\"y\"} 1"]);
    assert_eq!(other.metric(&["x"]).unwrap().get().unwrap(), 2.0);
}

#[test]
fn clearing_removes_the_metrics_of_all_processes_and_keeps_other_families() {
    let file = TestFile::new();
    let (first, second) = (file.open(), file.open());
    let one = labelled(&first, "hits");
    let olds: Vec<_> = (0..50).map(|index| one.metric(&[&index.to_string()]).unwrap()).collect();
    counter(&first, "other_total").inc(1.0).unwrap();
    let other = labelled(&second, "hits");
    other.clear().unwrap();
    assert_eq!(lines(&first, "hits"), [""; 0]);
    assert!(first.collect_text().unwrap().contains("# TYPE hits counter\n"), "the family stays");
    assert_eq!(lines(&first, "other_total"), ["other_total 1"]);
    assert!(olds.iter().all(|old| old.get().is_err()));
    assert_eq!(one.metric(&["7"]).unwrap().get().unwrap(), 0.0);
}

#[test]
fn an_old_handle_never_counts_in_the_next_owner_of_its_record() {
    let file = TestFile::new();
    let (first, second) = (file.open(), file.open());
    let (one, other) = (labelled(&first, "hits"), labelled(&second, "hits"));
    let old = one.metric(&["x"]).unwrap();
    old.inc(5.0).unwrap();
    let place = file.record(r#"{"a":"x"}"#).offset;
    other.metric(&["x"]).unwrap();
    other.remove(&["x"]).unwrap();
    let next = other.metric(&["z"]).unwrap();
    assert_eq!(file.record(r#"{"a":"z"}"#).offset, place, "the record has a new owner");
    assert_eq!(next.get().unwrap(), 0.0);
    next.inc(1.0).unwrap();
    old.inc(100.0).unwrap();
    assert_eq!(next.get().unwrap(), 1.0);
    assert!(old.get().is_err());
    // A new metric with the same labels. Handles of the removed one do not count in it.
    other.remove(&["z"]).unwrap();
    other.metric(&["x"]).unwrap().inc(2.0).unwrap();
    old.inc(100.0).unwrap();
    assert_eq!(lines(&first, "hits"), ["hits{a=\"x\"} 2"]);
    assert_eq!(one.metric(&["x"]).unwrap().get().unwrap(), 2.0);
}

#[test]
fn handles_that_count_during_removal_never_count_in_the_next_owner() {
    let file = TestFile::new();
    let backend = file.open();
    let family = labelled(&backend, "hits");
    for round in 0..200 {
        let old = family.metric(&["old"]).unwrap();
        old.inc(1.0).unwrap();
        let is_counting = AtomicBool::new(false);
        let ends_round = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _end = EndOnDrop(&ends_round);
            scope.spawn(|| {
                while !ends_round.load(Ordering::Relaxed) {
                    old.inc(1.0).unwrap();
                    is_counting.store(true, Ordering::Relaxed);
                }
            });
            wait_until("the thread counts", || is_counting.load(Ordering::Relaxed));
            family.remove(&["old"]).unwrap();
            let next = family.metric(&["new"]).unwrap();
            // A value that the old metric never had.
            next.inc(0.5).unwrap();
            std::thread::yield_now();
            assert_eq!(next.get().unwrap(), 0.5, "round {round}");
            family.remove(&["new"]).unwrap();
        });
    }
    assert_eq!(file.records().len(), 2);
}

#[test]
fn free_space_is_reused_by_any_process() {
    let file = TestFile::new();
    let backends = [file.open(), file.open()];
    let families = backends.each_ref().map(|backend| labelled(backend, "hits"));
    let kept = families[0].metric(&["kept"]).unwrap();
    let mut after_first_rounds = None;
    for round in 0..400 {
        // The backends take turns at creating and removing.
        let (maker, remover) = (&families[round % 2], &families[(round / 2) % 2]);
        for index in 0..5 {
            maker.metric(&[&format!("{round}-{index}")]).unwrap().inc(1.0).unwrap();
        }
        kept.inc(1.0).unwrap();
        if round % 3 == 0 {
            remover.clear().unwrap();
            families[1].metric(&["kept"]).unwrap().inc(round as f64).unwrap();
        } else {
            for index in 0..5 {
                remover.metric(&[&format!("{round}-{index}")]).unwrap();
                remover.remove(&[&format!("{round}-{index}")]).unwrap();
            }
        }
        if round == 10 {
            after_first_rounds = Some((file.size(), file.committed()));
        }
    }
    assert_eq!(Some((file.size(), file.committed())), after_first_rounds);
    assert_eq!(file.records().iter().filter(|record| record.kind == 3 && record.is_live()).count(), 1);
}

#[test]
fn space_is_reused_for_a_family_with_another_help_text() {
    let file = TestFile::new();
    let (first, second) = (file.open(), file.open());
    labelled(&first, "hits");
    let definition = Definition::new("hits", "In other words.", MetricType::Counter, &["a"], &[]).unwrap();
    let family = second.declare(definition, &["a"], Lifetime::Backend).unwrap();
    let size = |_| {
        family.metric(&["x"]).unwrap().inc(1.0).unwrap();
        family.remove(&["x"]).unwrap();
        file.committed()
    };
    let sizes: Vec<u64> = (0..50).map(size).collect();
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
}

#[test]
fn threads_that_remove_and_make_the_same_metrics_find_live_ones() {
    let file = TestFile::new();
    let backends = [file.open(), file.open()];
    std::thread::scope(|scope| {
        for (number, backend) in backends.iter().enumerate() {
            scope.spawn(move || {
                let family = labelled(backend, "hits");
                let own = family.metric(&[&format!("own-{number}")]).unwrap();
                for round in 0..500 {
                    own.inc(1.0).unwrap();
                    let shared = family.metric(&["shared"]).unwrap();
                    shared.inc(1.0).unwrap();
                    // Another thread's backend may remove it before this read.
                    if let Ok(value) = shared.get() {
                        assert!((1.0..=1_000.0).contains(&value), "{value}");
                    }
                    if round % 3 == number {
                        // The backend's table may not know it any more.
                        let _ = family.remove(&["shared"]);
                    }
                }
            });
        }
    });
    let expected = ["hits{a=\"own-0\"} 500", "hits{a=\"own-1\"} 500"];
    assert_eq!(&lines(&backends[0], "hits")[..2], expected);
    assert_eq!(file.records().iter().filter(|record| record.kind == 3).count(), 3);
}

#[test]
fn families_are_shown_in_the_order_of_their_declaration() {
    let file = TestFile::new();
    let backend = file.open();
    let family = labelled(&backend, "hits");
    // Frees records of every size that a family can have.
    for length in 0..400 {
        family.metric(&[&"x".repeat(length)]).unwrap();
    }
    counter(&backend, "second");
    family.clear().unwrap();
    counter(&file.open(), "third");
    counter(&backend, "fourth");
    let found = file.open().collect(None).unwrap();
    let names: Vec<_> = found.families.iter().map(|family| family.definition.name()).collect();
    assert_eq!(names, ["hits", "second", "third", "fourth"]);
}

// Growth and limits.

#[test]
fn the_file_grows_while_others_read_and_count() {
    let file = TestFile::new();
    let (writer, reader) = (file.open(), file.open());
    let family = labelled(&writer, "hits");
    let early = labelled(&reader, "hits").metric(&["0"]).unwrap();
    let count = 30_000;
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let end = EndOnDrop(&ends);
        let counting = scope.spawn(|| {
            let mut counted = 0.0;
            while !ends.load(Ordering::Relaxed) {
                early.inc(1.0).unwrap();
                counted += 1.0;
            }
            counted
        });
        let reading = scope.spawn(|| {
            let (mut last, mut scrapes) = (0, 0);
            while !ends.load(Ordering::Relaxed) {
                let found = reader.collect(None).unwrap().families[0].series().len();
                assert!(found >= last, "{found} after {last}: a metric disappeared");
                last = found;
                scrapes += 1;
            }
            scrapes
        });
        for index in 1..=count {
            family.metric(&[&index.to_string()]).unwrap().inc(f64::from(index)).unwrap();
        }
        drop(end);
        let counted = counting.join().unwrap();
        assert_eq!(early.get().unwrap(), counted);
        assert!(reading.join().unwrap() > 0);
    });
    assert!(file.size() >= 4 * SEGMENT, "{} bytes", file.size());
    let snapshot = file.open().collect(None).unwrap();
    let series = snapshot.families[0].series();
    assert_eq!(series.len(), count as usize + 1);
    for one in series.filter(|one| one.labels()["a"] != "0") {
        assert_eq!(one.value().to_string(), one.labels()["a"]);
    }
}

#[test]
fn records_of_any_size_never_cross_a_segment() {
    let file = TestFile::new();
    let backend = file.open();
    let family = labelled(&backend, "hits");
    for index in 0..40 {
        let value = format!("{index}-{}", "x".repeat(index * 9_001 % 300_000));
        family.metric(&[&value]).unwrap().inc(index as f64).unwrap();
    }
    assert!(file.size() >= 3 * SEGMENT);
    // The reader of the raw file checks the segment borders.
    assert_eq!(file.records().len(), 41);
    let snapshot = file.open().collect(None).unwrap();
    for series in snapshot.families[0].series() {
        assert!(series.labels()["a"].starts_with(&format!("{}-", series.value())));
    }
    assert_eq!(snapshot.families[0].series().len(), 40);
}

#[test]
fn at_the_size_limit_only_new_metrics_are_held_back() {
    remember_log();
    let file = TestFile::new();
    let limit = 2 << 20;
    let backend = Backend::open(&file.url(&format!("size_limit={limit}"))).unwrap();
    let family = labelled(&backend, "hits");
    let first = family.metric(&["0"]).unwrap();
    let is_full = || !log_records(Level::Error, &[file.path.to_str().unwrap(), "size limit"]).is_empty();
    let mut made = 0;
    while !is_full() {
        made += 1;
        family.metric(&[&made.to_string()]).unwrap().inc(1.0).unwrap();
    }
    assert!((14_000..15_000).contains(&made), "{made} metrics of 128 bytes, with the index");
    let path = file.path.to_str().unwrap();
    assert_eq!(log_records(Level::Error, &[path, "size limit", &limit.to_string()]).len(), 1);
    let faults = backend.check().unwrap().faults().to_vec();
    assert!(matches!(&faults[..], [fault] if fault.contains("it is full: its size limit")), "{faults:?}");
    first.inc(1.0).unwrap();
    assert_eq!(first.get().unwrap(), 1.0);
    assert_eq!(lines(&backend, "hits").len(), made);
    assert!(labelled(&backend, "hits").metric(&["7"]).is_ok(), "existing metrics are found");
    // The limit belongs to the file. A later backend cannot change it.
    let other = Backend::open(&file.url("size_limit=99999999")).unwrap();
    let others = labelled(&other, "hits");
    let one_more = others.metric(&["one more"]).unwrap();
    one_more.inc(1.0).unwrap();
    assert_eq!(other.statistics().metrics_held_back, 1);
    family.remove(&["5"]).unwrap();
    assert_eq!(lines(&other, "hits{a=\"one"), ["hits{a=\"one more\"} 1"]);
    assert_eq!(file.size(), limit);
}

#[test]
fn a_record_larger_than_a_segment_is_held_back_with_both_sizes() {
    remember_log();
    let file = TestFile::new();
    let backend = file.open();
    let family = labelled(&backend, "hits");
    let too_long = "x".repeat(SEGMENT as usize);
    family.metric(&[&too_long]).unwrap().inc(1.0).unwrap();
    assert_eq!(log_records(Level::Error, &["1048584 bytes", file.path.to_str().unwrap()]).len(), 1);
    // The header takes 4096 bytes, the record 64 + 8 and the 8 of {"a":""}.
    let longest = "x".repeat(SEGMENT as usize - 4096 - 80);
    family.metric(&[&longest]).unwrap().inc(1.0).unwrap();
    family.metric(&[&format!("{longest}x")]).unwrap().inc(1.0).unwrap();
    assert_eq!(backend.statistics().metrics_held_back, 2);
    family.metric(&["short"]).unwrap().inc(1.0).unwrap();
    assert_eq!(lines(&file.open(), "hits").len(), 2);
}

// Options.

#[test]
fn a_start_continues_or_resets() {
    let file = TestFile::new();
    let old = file.open();
    let old_counter = counter(&old, "requests_total");
    old_counter.inc(1.0).unwrap();
    let second = Backend::open(&file.url("start=continue")).unwrap();
    assert_eq!(lines(&second, "requests_total"), ["requests_total 1"]);
    let third = Backend::open(&file.url("start=reset")).unwrap();
    assert_eq!(third.collect_text().unwrap(), "");
    old_counter.inc(1.0).unwrap();
    assert_eq!(old_counter.get().unwrap(), 2.0, "backends of the old file keep counting in it");
    assert_eq!(counter(&old, "late_total").get().unwrap(), 0.0);
    assert_eq!(third.collect_text().unwrap(), "");
    assert_eq!(file.open().collect_text().unwrap(), "");
    let fresh = TestFile::new();
    Backend::open(&fresh.url("start=reset")).unwrap();
    assert_eq!(fresh.size(), SEGMENT, "a reset does not need an existing file");
}

#[test]
fn the_file_has_the_requested_mode_whatever_the_umask() {
    let mode = |file: &TestFile| std::fs::metadata(&file.path).unwrap().permissions().mode() & 0o7777;
    let file = TestFile::new();
    file.open();
    assert_eq!(mode(&file), 0o600);
    Backend::open(&file.url("mode=0666")).unwrap();
    assert_eq!(mode(&file), 0o600, "the mode only applies to a new file");
    let (narrow, wide) = (TestFile::new(), TestFile::new());
    // In a child, because the umask belongs to the process.
    fork(|| {
        // SAFETY: a plain system call.
        unsafe { libc::umask(0o077) };
        let narrow = Backend::open(&narrow.url("mode=0664")).is_ok();
        // SAFETY: a plain system call.
        unsafe { libc::umask(0) };
        narrow && Backend::open(&wide.url("")).is_ok()
    })
    .join();
    assert_eq!(mode(&narrow), 0o664);
    assert_eq!(mode(&wide), 0o600);
}

#[test]
fn wrong_options_are_named() {
    let file = TestFile::new();
    for (options, parts) in [
        ("size_limit=1000", ["\"size_limit\"", "\"1000\""]),
        ("size_limit=1048575", ["\"size_limit\"", "from 1048576"]),
        ("size_limit=2199023255552", ["\"size_limit\"", "to 1099511627776"]),
        ("size_limit=64M", ["\"size_limit\"", "\"64M\""]),
        ("size_limit=-1", ["\"size_limit\"", "\"-1\""]),
        ("start=again", ["\"start\"", "continue, reset or attach"]),
        ("mode=0400", ["\"mode\"", "\"0400\""]),
        ("mode=04600", ["\"mode\"", "\"04600\""]),
        ("mode=rw", ["\"mode\"", "\"rw\""]),
        ("mode=0800", ["\"mode\"", "\"0800\""]),
        ("mode=0600&mode=0600", ["\"mode\"", "given twice"]),
        ("segment=5", ["\"segment\"", "unknown option"]),
    ] {
        let error = Backend::open(&file.url(options)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{options}");
        assert!(parts.iter().all(|part| error.message().contains(part)), "{options}: {error}");
    }
    for url in ["shm://", "shm:///", "shm://host/metrics", "shm://metrics"] {
        let error = Backend::open(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{url}");
        assert!(error.message().contains("absolute path"), "{url}: {error}");
    }
    assert!(!file.path.exists());
}

#[test]
fn a_path_may_have_any_characters() {
    let file = TestFile::new();
    let folder = file.folder().join("a b é+&%");
    std::fs::create_dir(&folder).unwrap();
    let url = format!("shm://{}/a%20b%20%C3%A9+%26%25/me%3Ftrics", file.folder().display());
    Backend::open(&url).unwrap();
    assert!(folder.join("me?trics").is_file());
}

// Locks.

#[test]
fn a_scrape_does_not_wait_for_a_process_that_appends() {
    let file = TestFile::new();
    let backend = file.open();
    let family = labelled(&backend, "hits");
    let known = family.metric(&["x"]).unwrap();
    let lock = file.lock();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let making = scope.spawn(|| {
            let made = family.metric(&["new"]);
            is_done.store(true, Ordering::Relaxed);
            made.map(drop)
        });
        for _ in 0..100 {
            known.inc(1.0).unwrap();
            assert_eq!(lines(&backend, "hits"), [format!("hits{{a=\"x\"}} {}", known.get().unwrap())]);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!is_done.load(Ordering::Relaxed), "the scrapes ended while the other thread waited");
        drop(lock);
        making.join().unwrap().unwrap();
    });
    assert_eq!(lines(&backend, "hits").len(), 2);
}

#[test]
fn waiting_for_the_lock_goes_on_while_other_processes_take_turns() {
    remember_log();
    let file = TestFile::new();
    let backend = file.open();
    let family = labelled(&backend, "hits");
    let lock = file.lock();
    // As if many processes took the lock one after the other, for longer than a writer waits for one of them.
    let others = std::thread::spawn({
        let handle = file.handle();
        move || {
            for turn in 0..30_u64 {
                handle.write_all_at(&(1_000 + turn).to_le_bytes(), TURNS_AT).unwrap();
                std::thread::sleep(Duration::from_millis(200));
            }
            drop(lock);
        }
    });
    family.metric(&["x"]).unwrap().inc(1.0).unwrap();
    others.join().unwrap();
    assert!(log_records(Level::Error, &[file.path.to_str().unwrap(), "locked"]).is_empty());
    assert_eq!(lines(&file.open(), "hits").len(), 1);
}

#[test]
fn a_metric_that_waits_too_long_for_the_lock_is_held_back() {
    remember_log();
    let file = TestFile::new();
    let backend = file.open();
    let family = labelled(&backend, "hits");
    let lock = file.lock();
    family.metric(&["x"]).unwrap().inc(1.0).unwrap();
    assert_eq!(log_records(Level::Error, &[file.path.to_str().unwrap(), "locked", "5s"]).len(), 1);
    let start = Instant::now();
    family.metric(&["y"]).unwrap().inc(1.0).unwrap();
    assert!(start.elapsed() < Duration::from_secs(4), "the next look-up waits for the lock again");
    drop(lock);
    assert_eq!(lines(&backend, "hits").len(), 2);
}
