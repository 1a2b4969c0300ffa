//! The shared-memory store with damaged contents, and with bytes that change while it is open: an error, or a
//! record that is skipped, but never a crash, a hang or a signal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod support;

use std::fs::{self};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use pytheus_backend_rs::{Backend, Definition, Lifetime, MetricType, Native, Snapshot};

use support::process::{SharedNumbers, fork};
use support::shared_file::{
    COMMITTED_AT, FREE_LISTS_AT, HEADER, IN_HAND_AT, INDEX_STATE_AT, LEVELS_AT, RawRecord, SEGMENT, TURNS_AT,
    TestFile, entry, filled, fnv,
};
use support::*;

/// Returns all series as family, labels and values.
fn series(snapshot: &Snapshot) -> Vec<(String, String, Vec<f64>)> {
    let mut all = Vec::new();
    for family in &snapshot.families {
        for one in family.series() {
            let name = family.definition.name().to_owned();
            all.push((name, format!("{:?}", one.labels()), one.values(&family.definition)));
        }
    }
    all
}

// Damaged records.

/// Asserts that the file shows all series of `good` but the one with `labels`.
fn assert_others_are_read(file: &TestFile, good: &[(String, String, Vec<f64>)], labels: &str) {
    let backend = file.open();
    let found = series(&backend.collect(None).unwrap());
    let expected: Vec<_> = good.iter().filter(|one| one.1 != labels).cloned().collect();
    assert_eq!(expected.len() + 1, good.len());
    assert_eq!(found, expected);
}

#[test]
fn a_damaged_record_is_skipped_and_all_others_are_read() {
    let labels = r#"{"bob": "cat", "path": "/1"}"#;
    let text = r#"{"bob":"cat","path":"/1"}"#;
    for at in (0..8).chain(16..48).chain(72..72 + text.len() as u64) {
        for mask in [0x01, 0x80, 0xff] {
            let file = filled();
            let good = series(&file.open().collect(None).unwrap());
            let place = file.record(text).offset + at;
            let mut byte = [0];
            file.handle().read_exact_at(&mut byte, place).unwrap();
            file.handle().write_all_at(&[byte[0] ^ mask], place).unwrap();
            assert_others_are_read(&file, &good, labels);
            // Everything keeps working, and the damaged metric begins again.
            let backend = file.open();
            let family = declare(&backend, "requests_total", MetricType::Counter, &["path", "bob"]);
            for path in ["/1", "/3", "/new"] {
                family.metric(&[path, "cat"]).unwrap().inc(1.0).unwrap();
            }
            let mut expected = good;
            let find = expected.iter().position(|one| one.1 == labels).unwrap();
            expected[find].2 = vec![1.0];
            for (index, path) in [(3, "/3"), (8, "/new")] {
                let one = ("requests_total".into(), labels.replace("/1", path), vec![1.0]);
                expected.insert(index, one);
            }
            assert_eq!(series(&file.open().collect(None).unwrap()), expected, "byte {at}, mask {mask}");
        }
    }
}

#[test]
fn a_damaged_bucket_of_a_native_histogram_is_left_out_and_reported() {
    let file = TestFile::new();
    let backend = file.open();
    let definition = Definition::new("size", "", MetricType::Histogram, &[], &[]).unwrap();
    let definition = definition.with_native(Native::default(), false).unwrap();
    let metric = backend.declare(definition, &[], Lifetime::Backend).unwrap().metric(&[]).unwrap();
    (1..=3).for_each(|value| metric.observe(f64::from(value)).unwrap());
    assert_eq!(file.open().check().unwrap().faults(), [""; 0]);
    // Sum, `+Inf`, zeros, used, and then the words, of which the last is free.
    let last = file.record("{}").offset + 64 + 8 * (4 + 383);
    assert_eq!(file.word(last), 0);
    file.set_word(last, 7 << 61 | 5);
    let faults = file.open().check().unwrap().faults().join("\n");
    assert!(faults.contains("the native histogram of size{} at byte"), "{faults}");
    assert!(faults.contains("has 1 word that hold no bucket of it"), "{faults}");
    assert_eq!(metric.get_count().unwrap(), 3.0);
}

#[test]
fn a_removed_record_with_a_damaged_size_is_not_reused() {
    for size in [64_u64, 192, 256, 512] {
        let file = filled();
        let good = series(&file.open().collect(None).unwrap());
        let free: Vec<RawRecord> = file.records().into_iter().filter(|record| !record.is_live()).collect();
        assert_eq!(free.len(), 2);
        for record in &free {
            file.set_word(record.offset, 3 | size << 32);
        }
        let backend = file.open();
        let family = declare(&backend, "new", MetricType::Counter, &["a"]);
        for length in 0..600 {
            family.metric(&[&"x".repeat(length)]).unwrap().inc(1.0).unwrap();
        }
        let found = series(&file.open().collect(None).unwrap());
        assert_eq!(found[..good.len()], good, "size {size}");
        assert_eq!(found.len(), good.len() + 600);
    }
}

/// Appends a record with correct checksums, as another program may write it. That program leaves the index to
/// the next writer.
fn append_foreign(file: &TestFile, kind: u32, family: u64, cells: &[f64], text: &str) {
    let size = (64 + cells.len() as u64 * 8 + text.len() as u64).next_multiple_of(64);
    let (at, kind_and_size) = (file.committed(), u64::from(kind) | size << 32);
    file.set_word(INDEX_STATE_AT, 0);
    let lengths = text.len() as u64 | (cells.len() as u64) << 32;
    file.set_word(at, kind_and_size);
    file.set_word(at + 8, 1);
    file.set_word(at + 16, family);
    file.set_word(at + 24, lengths);
    file.set_word(at + 32, fnv(&[kind_and_size, family, lengths], text.as_bytes()));
    file.set_word(at + 40, fnv(&[kind_and_size, at], b""));
    for (index, cell) in cells.iter().enumerate() {
        file.set_word(at + 64 + index as u64 * 8, cell.to_bits());
    }
    file.handle().write_all_at(text.as_bytes(), at + 64 + cells.len() as u64 * 8).unwrap();
    file.set_word(COMMITTED_AT, at + size);
}

#[test]
fn a_record_that_another_program_wrote_is_read() {
    let file = filled();
    let family = file.committed();
    append_foreign(&file, 2, 0, &[], "foreign\n{\"type\":\"gauge\",\"help\":\"h\",\"labels\":[\"a\"]}");
    append_foreign(&file, 3, family, &[4.5], r#"{"a":"x"}"#);
    let backend = file.open();
    let metric = declare(&backend, "foreign", MetricType::Gauge, &["a"]).metric(&["x"]).unwrap();
    metric.inc(1.0).unwrap();
    assert!(file.open().collect_text().unwrap().ends_with("\nforeign{a=\"x\"} 5.5\n"));
}

#[test]
fn records_that_would_invalidate_the_scrape_are_skipped() {
    let file = filled();
    let series_of = |file: &TestFile| -> usize {
        let snapshot = file.open().collect(None).unwrap();
        snapshot.families.iter().map(|family| family.series().len()).sum()
    };
    let (good, count) = (file.open().collect_text().unwrap(), series_of(&file));
    let level = file.record("level\n{\"help\":\"Some help.\",\"labels\":[],\"type\":\"gauge\"}").offset;
    let time = file.records().into_iter().find(|record| record.text.starts_with("time\n")).unwrap().offset;
    for (kind, family, cells, text) in [
        (3, level, &[1.0][..], "{}"),
        (3, level, &[1.0], r#"{"__name__":"x"}"#),
        (3, level, &[1.0], r#"{"":"x"}"#),
        (3, time, &[1.0, 0.0, 1.0, 0.0], r#"{"le":"x"}"#),
        (3, level, &[1.0, 2.0], "{}"),
        (3, level, &[], "{}"),
        (3, level, &[1.0], "no json"),
        (3, level, &[1.0], ""),
        (3, 12, &[1.0], "{}"),
        (3, u64::MAX, &[1.0], "{}"),
        (3, level, &[1.0], "[[[["),
        (2, 0, &[], "level\n{\"type\":\"counter\",\"help\":\"h\",\"labels\":[]}"),
        (2, 0, &[], "\n{\"type\":\"counter\",\"help\":\"h\",\"labels\":[]}"),
        (2, 0, &[], "name\n{\"type\":\"counter\",\"help\":\"h\",\"labels\":[\"__name__\"]}"),
        (2, 0, &[], "name\nno json"),
        (2, 0, &[], "name"),
        (2, 0, &[], ""),
        (9, 0, &[1.0], "{}"),
        (0, 0, &[1.0], "{}"),
    ] {
        append_foreign(&file, kind, family, cells, text);
        assert_eq!(file.open().collect_text().unwrap(), good, "{kind} {text}");
        assert_eq!(series_of(&file), count, "{kind} {text}");
    }
    let backend = file.open();
    counter(&backend, "more_total").inc(1.0).unwrap();
    assert!(backend.collect_text().unwrap().starts_with(&good));
}

// A damaged index.

/// Returns a word of each part of the index, with the bytes of a sound file.
fn words_of_the_index(file: &TestFile) -> Vec<u64> {
    let bytes = file.bytes();
    let directory = entry(&bytes, LEVELS_AT).0;
    let table = entry(&bytes, directory + 64).0;
    let is_used = |at: &u64| entry(&bytes, *at).0 != 0;
    let slots = (table + 64..table + 64 + 8192).step_by(8);
    let (used, empty): (Vec<u64>, Vec<u64>) = slots.partition(is_used);
    let lists = (FREE_LISTS_AT..HEADER).step_by(8).filter(is_used);
    let state_and_entries =
        [INDEX_STATE_AT, IN_HAND_AT, LEVELS_AT, LEVELS_AT + 8, directory, table, directory + 64];
    state_and_entries.into_iter().chain(used).chain(lists).chain(empty.into_iter().step_by(64)).collect()
}

#[test]
fn a_series_is_found_whatever_of_the_index_is_damaged() {
    let sound = filled();
    let bytes = sound.bytes();
    for at in words_of_the_index(&sound) {
        for wrong in [0, u64::MAX, sound.word(at) ^ 1 << 7, sound.word(at) ^ 1 << 55] {
            let file = TestFile::new();
            fs::write(&file.path, &bytes).unwrap();
            file.set_word(at, wrong);
            let good = series(&file.open().collect(None).unwrap());
            assert_eq!(good, series(&sound.open().collect(None).unwrap()), "scrapes do not use the index");
            let (backend, other) = (file.open(), file.open());
            for path in ["/0", "/1", "/2", "/4", "/5", "/6", "/7"] {
                let number: f64 = path[1..].parse().unwrap();
                for backend in [&backend, &other] {
                    let family = declare(backend, "requests_total", MetricType::Counter, &["path", "bob"]);
                    let metric = family.metric(&[path, "cat"]).unwrap();
                    assert_eq!(metric.get().unwrap(), number + 1.0, "{path} with {wrong:x} at {at}");
                }
            }
            counter(&backend, "one_more_total").inc(1.0).unwrap();
            // The bytes of a table whose head is damaged are lost. The reader of the raw file refuses them.
            if [4 | 8256 << 32, 5 | 128 << 32].contains(&sound.word(at)) {
                continue;
            }
            // The family. The metric has taken a free record.
            assert_eq!(file.records().len(), sound.records().len() + 1, "{wrong:x} at {at}");
            // What no series of this test needed is damaged still. A writer that finds it builds the index.
            if file.word(at) == wrong {
                file.set_word(INDEX_STATE_AT, 0);
                counter(&backend, "yet_another_total").inc(1.0).unwrap();
            }
            file.assert_index_is_sound();
        }
    }
}

#[test]
fn a_full_file_with_a_damaged_index_finds_its_series() {
    let file = TestFile::new();
    let backend = Backend::open(&file.url(&format!("size_limit={SEGMENT}"))).unwrap();
    let family = declare(&backend, "hits", MetricType::Counter, &["a"]);
    let mut made = 0_u64;
    while backend.statistics().metrics_held_back == 0 {
        family.metric(&[&made.to_string()]).unwrap().inc(1.0).unwrap();
        made += 1;
    }
    // Tables whose heads are damaged cannot be used again, and there is no room for others.
    let bytes = file.bytes();
    for at in (HEADER..file.committed()).step_by(64) {
        if bytes[at as usize..][..8] == (4 | 8256_u64 << 32).to_le_bytes() {
            file.set_word(at + 40, 0);
        }
    }
    file.set_word(INDEX_STATE_AT, 0);
    let other = file.open();
    let metric = declare(&other, "hits", MetricType::Counter, &["a"]).metric(&["5"]).unwrap();
    metric.inc(1.0).unwrap();
    assert_eq!(metric.get().unwrap(), 2.0);
    assert_eq!(other.statistics().metrics_held_back, 0);
    declare(&other, "hits", MetricType::Counter, &["a"]).remove(&["6"]).unwrap();
    assert!(!other.collect_text().unwrap().contains("{a=\"6\"}"));
}

// Traces of a killed writer.

#[test]
fn bytes_after_the_committed_end_are_ignored_and_overwritten() {
    let file = filled();
    let good = file.open().collect_text().unwrap();
    let end = file.committed();
    let garbage: Vec<u8> = (0..SEGMENT - end).map(|index| (index * 37 % 251) as u8).collect();
    file.handle().write_all_at(&garbage, end).unwrap();
    // A complete record whose committed end is missing.
    append_foreign(&file, 3, file.records()[0].offset, &[7.0], r#"{"bob":"x","path":"x"}"#);
    file.set_word(COMMITTED_AT, end);
    let backend = file.open();
    assert_eq!(backend.collect_text().unwrap(), good);
    let family = declare(&backend, "new_total", MetricType::Counter, &["a"]);
    for index in 0..100 {
        assert_eq!(family.metric(&[&index.to_string()]).unwrap().get().unwrap(), 0.0);
    }
    let text = file.open().collect_text().unwrap();
    assert!(text.starts_with(&good), "{text}\n{good}");
    // The family and all metrics but two, which reuse the places of the two removed ones.
    assert_eq!(file.records().iter().filter(|record| record.offset >= end).count(), 99);
}

#[test]
fn counters_of_the_format_wrap_around() {
    let file = TestFile::new();
    let backend = file.open();
    let family = declare(&backend, "hits", MetricType::Counter, &["a"]);
    family.metric(&["x"]).unwrap();
    file.set_word(TURNS_AT, u64::MAX);
    file.set_word(file.record(r#"{"a":"x"}"#).offset + 8, u64::MAX);
    let family = declare(&file.open(), "hits", MetricType::Counter, &["a"]);
    for _ in 0..3 {
        let metric = family.metric(&["x"]).unwrap();
        metric.inc(1.0).unwrap();
        assert_eq!(metric.get().unwrap(), 1.0);
        family.remove(&["x"]).unwrap();
    }
    assert_eq!(file.records().len(), 2);
}

// Truncation of a mapped file.

#[test]
fn truncation_of_an_open_file_is_an_error_where_it_is_detectable() {
    for length in [0, 1, 4095, 4096, 8192, SEGMENT - 4096, SEGMENT - 1] {
        let file = filled();
        // In a child, because an undetected truncation ends the process with a signal.
        fork(|| {
            let backend = file.open();
            let family = declare(&backend, "level", MetricType::Gauge, &[]);
            let requests = declare(&backend, "requests_total", MetricType::Counter, &["path", "bob"]);
            file.handle().set_len(length).unwrap();
            let error = backend.collect(None).unwrap_err();
            assert!(error.message().contains("cut off") && error.message().contains("metrics"), "{error}");
            assert!(backend.collect(Some(&[family])).is_err());
            assert!(requests.clear().is_err());
            // No metric call fails because of the file.
            requests.metric(&["/new", "cat"]).unwrap().inc(1.0).unwrap();
            counter(&backend, "late").inc(1.0).unwrap();
            backend.statistics().metrics_held_back == 2
        })
        .join();
    }
}

// Random changes.

#[derive(Debug, Clone)]
enum Mutation {
    /// Flips bits of one byte.
    Flip(usize, u8),
    Overwrite(usize, Vec<u8>),
    /// Overwrites a block with one byte.
    Fill(usize, usize, u8),
    /// Overwrites an aligned word, where the file keeps its numbers.
    Word(usize, u64),
    /// Copies a block to another place.
    Copy(usize, usize, usize),
    Truncate(usize),
}

fn mutation(length: usize, with_truncation: bool) -> impl Strategy<Value = Mutation> {
    let interesting = prop_oneof![
        any::<u64>(),
        prop::sample::select(vec![
            0,
            1,
            2,
            3,
            63,
            64,
            4096,
            4160,
            SEGMENT,
            SEGMENT - 64,
            u64::MAX,
            u64::MAX - 1
        ]),
        (0..4_u64, 0..40_u64).prop_map(|(kind, size)| kind | (size * 64) << 32),
        (0..6_000_u64, 0..20_u64).prop_map(|(text, cells)| text | cells << 32),
        (0..200_u64).prop_map(|count| 4096 + count * 64),
    ];
    prop_oneof![
        4 => (0..length, 1..=255_u8).prop_map(|(at, mask)| Mutation::Flip(at, mask)),
        2 => (0..length, prop::collection::vec(any::<u8>(), 1..200))
            .prop_map(|(at, bytes)| Mutation::Overwrite(at, bytes)),
        1 => (0..length, 1..3_000_usize, prop::sample::select(vec![0, 0xff, 0x7f]))
            .prop_map(|(at, count, byte)| Mutation::Fill(at, count, byte)),
        4 => (0..length / 8, interesting).prop_map(|(at, word)| Mutation::Word(at * 8, word)),
        1 => (0..length / 64, 0..length / 64, 1..20_usize)
            .prop_map(|(from, to, count)| Mutation::Copy(from * 64, to * 64, count * 64)),
        if with_truncation { 1 } else { 0 } => (0..SEGMENT as usize).prop_map(Mutation::Truncate),
    ]
}

/// Applies the change within the existing bytes and returns the touched range.
fn apply(mutation: &Mutation, bytes: &mut Vec<u8>) -> std::ops::Range<usize> {
    let length = bytes.len();
    let end = |at: usize, count: usize| (at + count).min(length);
    match mutation {
        Mutation::Flip(at, mask) if *at < length => {
            bytes[*at] ^= mask;
            *at..at + 1
        }
        Mutation::Overwrite(at, new) if *at < length => {
            let range = *at..end(*at, new.len());
            let count = range.len();
            bytes[range.clone()].copy_from_slice(&new[..count]);
            range
        }
        Mutation::Fill(at, count, byte) if *at < length => {
            let range = *at..end(*at, *count);
            bytes[range.clone()].fill(*byte);
            range
        }
        Mutation::Word(at, word) if at + 8 <= length => {
            bytes[*at..at + 8].copy_from_slice(&word.to_le_bytes());
            *at..at + 8
        }
        Mutation::Copy(from, to, count) if *from < length && *to < length => {
            let count = (*count).min(length - from).min(length - to);
            bytes.copy_within(*from..from + count, *to);
            *to..to + count
        }
        Mutation::Truncate(to) => {
            bytes.truncate(*to);
            0..0
        }
        _ => 0..0,
    }
}

/// Uses every operation of a backend. Errors are allowed.
fn use_all(backend: &Backend) {
    let _ = backend.collect_text();
    let mut families = Vec::new();
    for (name, metric_type, labels) in [
        ("requests_total", MetricType::Counter, &["path", "bob"][..]),
        ("level", MetricType::Gauge, &[]),
        ("size", MetricType::Summary, &[]),
        ("new_total", MetricType::Counter, &["a"]),
    ] {
        let definition = Definition::new(name, "Some help.", metric_type, labels, &[]).unwrap();
        families.extend(backend.declare(definition, labels, Lifetime::Backend));
    }
    let definition =
        Definition::new("time", "Some help.", MetricType::Histogram, &["a"], &[0.5, 10.0]).unwrap();
    families.extend(backend.declare(definition, &["a"], Lifetime::Backend));
    for family in &families {
        let count = family.definition().label_names().len();
        for value in ["/1", "x", "y", "a new one"] {
            let values = vec![value; count];
            if let Ok(metric) = family.metric(&values) {
                let _ = metric.inc(1.0);
                let _ = metric.observe(1.0);
                let _ = metric.get();
                let _ = metric.get_count();
            }
            if value == "x" {
                let _ = family.remove(&values);
            }
        }
    }
    let _ = backend.collect(Some(&families));
    if let Some(family) = families.last() {
        let _ = family.clear();
    }
    let _ = backend.collect_text();
}

/// Runs `case` on many values in a forked child, which a signal, a panic or a hang would end. The shared
/// number identifies the failed case.
fn run_cases<S: Strategy>(cases: u32, strategy: S, case: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let done = SharedNumbers::new(1);
    fork(|| {
        // The alarm clock limits each case, not the whole run.
        let config =
            Config { cases, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
        let result = TestRunner::new(config).run(&strategy, |value| {
            // SAFETY: a plain system call.
            unsafe { libc::alarm(PATIENCE.as_secs() as u32) };
            done.add(0, 1);
            match catch_unwind(AssertUnwindSafe(|| case(value))) {
                Ok(result) => result,
                Err(_) => Err(TestCaseError::fail("panic")),
            }
        });
        if let Err(error) = &result {
            eprintln!("{error}");
        }
        result.is_ok()
    })
    .join();
    assert!(done.get(0) >= u64::from(cases));
}

/// Returns the metric records whose own bytes, family record and file header are untouched.
fn untouched(records: &[RawRecord], touched: &[std::ops::Range<usize>]) -> Vec<RawRecord> {
    let is_touched = |record: &RawRecord| {
        let (start, end) = (record.offset as usize, (record.offset + record.size) as usize);
        touched.iter().any(|range| range.start < end && start < range.end)
    };
    let is_good = |record: &RawRecord| {
        let family = records.iter().find(|family| family.offset == record.family);
        record.kind == 3 && record.is_live() && !is_touched(record) && !family.is_none_or(is_touched)
    };
    records.iter().filter(|record| is_good(record)).cloned().collect()
}

/// Returns whether the snapshot has the record's values.
fn shows(snapshot: &Snapshot, records: &[RawRecord], record: &RawRecord) -> bool {
    let family = records.iter().find(|family| family.offset == record.family).unwrap();
    let name = family.text.split('\n').next().unwrap();
    let mut families = snapshot.families.iter().filter(|family| family.definition.name() == name);
    families.next().is_some_and(|family| {
        let same = family.series().filter(|series| series.key() == record.text);
        same.map(|series| series.value()).eq([record.cells[0]])
    })
}

#[test]
fn any_change_of_a_file_is_refused_or_survived_and_intact_records_are_read() {
    let file = filled();
    let (good, records) = (file.bytes(), file.records());
    let used = file.committed() as usize;
    // Most changes hit the records. There are few at a time, so that some records stay untouched.
    let mutations = prop::collection::vec(mutation(used + 512, true), 1..6);
    run_cases(2_500, mutations, |mutations| {
        let mut bytes = good.clone();
        let touched: Vec<_> = mutations.iter().map(|mutation| apply(mutation, &mut bytes)).collect();
        fs::write(&file.path, &bytes).unwrap();
        let backend = match Backend::open(&file.url("")) {
            Ok(backend) => backend,
            Err(error) => {
                prop_assert!(error.message().contains(file.path.to_str().unwrap()));
                let header = touched.iter().any(|range| range.start < 72 && !range.is_empty());
                prop_assert!(header || bytes.len() < good.len(), "refused for no reason: {}", error);
                return Ok(());
            }
        };
        // A wrong but plausible committed end cannot be distinguished from a correct one.
        if bytes[64..72] == good[64..72] {
            let snapshot = backend.collect(None).unwrap();
            let copied = mutations.iter().any(|mutation| matches!(mutation, Mutation::Copy(..)));
            for record in untouched(&records, &touched) {
                prop_assert!(copied || shows(&snapshot, &records, &record), "{:?} is not read", record);
            }
        }
        use_all(&backend);
        if bytes[64..72] == good[64..72] {
            let last = records.iter().find(|record| record.text.starts_with("last_total")).unwrap();
            let kept: Vec<_> = untouched(&records, &touched)
                .into_iter()
                .filter(|record| record.family == last.offset)
                .collect();
            let snapshot = backend.collect(None).unwrap();
            for record in kept {
                prop_assert!(shows(&snapshot, &records, &record), "{:?} is lost by using the others", record);
            }
        }
        drop(backend);
        let again = Backend::open(&file.url(""));
        prop_assert!(again.is_ok(), "{:?}", again.err());
        Ok(())
    });
}

#[test]
fn any_bytes_are_refused_or_survived() {
    let file = TestFile::new();
    let header = filled().bytes()[..HEADER as usize].to_vec();
    let bytes = (any::<bool>(), prop::collection::vec(any::<u8>(), 0..9_000), any::<bool>());
    run_cases(1_500, bytes, |(has_header, random, is_long)| {
        let mut bytes = if has_header { header.clone() } else { Vec::new() };
        bytes.extend(random);
        if is_long {
            bytes.resize(SEGMENT as usize, 0);
        }
        fs::write(&file.path, &bytes).unwrap();
        match Backend::open(&file.url("")) {
            Ok(backend) => {
                prop_assert!(has_header && is_long);
                prop_assert_eq!(backend.collect_text().unwrap(), "");
                use_all(&backend);
                let is_counted = backend.collect_text().unwrap().contains("new_total{a=\"a new one\"} 1\n");
                prop_assert!(is_counted);
            }
            Err(error) => prop_assert!(error.message().contains(file.path.to_str().unwrap())),
        }
        Ok(())
    });
}

#[test]
fn any_change_of_an_open_file_is_survived() {
    let file = filled();
    let (good, records) = (file.bytes(), file.records());
    let used = file.committed() as usize;
    let rounds = prop::collection::vec(prop::collection::vec(mutation(used + 512, false), 1..4), 1..4);
    run_cases(1_200, rounds, |rounds| {
        let _ = fs::remove_file(&file.path);
        fs::write(&file.path, &good).unwrap();
        let (one, other) = (file.open(), file.open());
        let definition = Definition::new("last_total", "Some help.", MetricType::Counter, &[], &[]).unwrap();
        let last = one.declare(definition, &[], Lifetime::Backend).unwrap().metric(&[]).unwrap();
        use_all(&one);
        let mut touched = Vec::new();
        for mutations in &rounds {
            let mut bytes = file.bytes();
            for mutation in mutations {
                let range = apply(mutation, &mut bytes);
                file.handle().write_all_at(&bytes[range.clone()], range.start as u64).unwrap();
                touched.push(range);
            }
            use_all(&one);
            use_all(&other);
            last.inc(1.0).unwrap();
            let _ = last.get();
        }
        let end_is_good = !touched.iter().any(|range| range.start < 72 && 64 < range.end);
        let is_last = |record: &RawRecord| record.cells == [9.0] && record.text == "{}";
        if end_is_good && untouched(&records, &touched).iter().any(is_last) {
            prop_assert_eq!(last.get().unwrap(), 9.0 + rounds.len() as f64);
            let text = other.collect_text().unwrap();
            let line = format!("\nlast_total {}\n", 9 + rounds.len());
            prop_assert!(text.contains(&line), "{}", text);
        }
        Ok(())
    });
}

#[test]
fn a_constantly_changing_file_is_survived() {
    let file = filled();
    let stop = SharedNumbers::new(2);
    let spoiling = fork(|| {
        let mut random = support::process::Random::new();
        let handle = file.handle();
        while stop.get(0) == 0 {
            // Spares the header and the committed end, without which the file cannot be used.
            let at = HEADER + random.below(4_000);
            handle.write_all_at(&[random.below(256) as u8], at).unwrap();
            stop.at(1).fetch_add(1, Ordering::SeqCst);
        }
        true
    });
    let using = fork(|| {
        let backend = file.open();
        (0..500).for_each(|_| use_all(&backend));
        true
    });
    using.join();
    stop.add(0, 1);
    spoiling.join();
    assert!(stop.get(1) > 100);
}
