//! A metrics file that is only read (`start=attach`), and the report of `check` about a file. The engine
//! creates the files and a test damages them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use pytheus_backend_rs::{Backend, Definition, ErrorKind, Lifetime, MetricFamily, MetricType};
use support::shared_file::{
    COMMITTED_AT, FREE_LISTS_AT, HEADER, IN_HAND_AT, INDEX_STATE_AT, LEVELS_AT, SEGMENT, TestFile, entry,
    entry_word, fnv,
};

fn counter(backend: &Backend, name: &str, labels: &[&str]) -> MetricFamily {
    let definition = Definition::new(name, "Help.", MetricType::Counter, labels, &[]).unwrap();
    backend.declare(definition, labels, Lifetime::Backend).unwrap()
}

/// Fills a file with a counter of two metrics and a histogram.
fn filled(file: &TestFile) -> Backend {
    let backend = file.open();
    let requests = counter(&backend, "requests_total", &["path"]);
    requests.metric(&["/"]).unwrap().inc(2.0).unwrap();
    requests.metric(&["/a"]).unwrap().inc(1.0).unwrap();
    let definition = Definition::new("seconds", "", MetricType::Histogram, &[], &[1.0]).unwrap();
    let seconds = backend.declare(definition, &[], Lifetime::Backend).unwrap();
    seconds.metric(&[]).unwrap().observe(0.5).unwrap();
    backend
}

fn attach(file: &TestFile) -> Backend {
    Backend::open(&file.url("start=attach")).unwrap()
}

fn faults(file: &TestFile) -> Vec<String> {
    attach(file).check().unwrap().faults().to_vec()
}

#[test]
fn attaching_to_a_missing_file_is_an_error_and_creates_none() {
    let file = TestFile::new();
    let error = Backend::open(&file.url("start=attach")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("no metrics file"), "{error}");
    assert!(error.message().contains(&*file.path.to_string_lossy()), "{error}");
    assert_eq!(std::fs::read_dir(file.folder()).unwrap().count(), 0);
}

#[test]
fn an_attached_backend_sees_the_counts_of_other_processes() {
    let file = TestFile::new();
    let backend = filled(&file);
    let reader = attach(&file);
    assert_eq!(reader.collect_text().unwrap(), backend.collect_text().unwrap());
    counter(&backend, "later_total", &[]).metric(&[]).unwrap().inc(7.0).unwrap();
    assert!(reader.collect_text().unwrap().ends_with("\nlater_total 7\n"));
}

#[test]
fn a_file_without_write_permission_is_read_and_no_byte_of_it_changes() {
    let file = TestFile::new();
    filled(&file);
    std::fs::set_permissions(&file.path, std::fs::Permissions::from_mode(0o400)).unwrap();
    let (before, modified) = (file.bytes(), std::fs::metadata(&file.path).unwrap());
    let reader = attach(&file);
    assert!(reader.collect_text().unwrap().contains("requests_total{path=\"/\"} 2\n"));
    assert!(reader.check().unwrap().is_sound());
    assert_eq!(file.bytes(), before);
    let after = std::fs::metadata(&file.path).unwrap();
    assert_eq!((after.mtime_nsec(), after.blocks()), (modified.mtime_nsec(), modified.blocks()));
}

#[test]
fn a_sparse_copy_is_read_and_stays_sparse() {
    let file = TestFile::new();
    let text = filled(&file).collect_text().unwrap();
    let used = file.bytes()[..64 << 10].to_vec();
    std::fs::remove_file(&file.path).unwrap();
    std::fs::write(&file.path, used).unwrap();
    file.handle().set_len(SEGMENT).unwrap();
    assert_eq!(attach(&file).collect_text().unwrap(), text);
    assert!(file.bytes()[64 << 10..].iter().all(|byte| *byte == 0));
}

#[test]
fn nothing_can_be_declared_in_an_attached_file() {
    let file = TestFile::new();
    filled(&file);
    let definition = Definition::new("requests_total", "Help.", MetricType::Counter, &["path"], &[]).unwrap();
    let error = attach(&file).declare(definition, &["path"], Lifetime::Backend).unwrap_err();
    assert!(error.message().contains("only read (start=attach)"), "{error}");
}

#[test]
fn a_file_that_replaces_the_attached_one_is_seen() {
    let file = TestFile::new();
    filled(&file);
    let reader = attach(&file);
    assert!(reader.collect_text().unwrap().contains("requests_total"));
    let second = Backend::open(&file.url("start=reset")).unwrap();
    counter(&second, "second_total", &[]).metric(&[]).unwrap().inc(1.0).unwrap();
    assert_eq!(reader.collect_text().unwrap(), second.collect_text().unwrap());

    std::fs::remove_file(&file.path).unwrap();
    let error = reader.collect_text().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let third = filled(&file);
    assert_eq!(reader.collect_text().unwrap(), third.collect_text().unwrap());
}

#[test]
fn a_file_that_is_not_required_may_appear_later() {
    let file = TestFile::new();
    let reader = Backend::open(&file.url("start=attach&required=false")).unwrap();
    assert!(reader.collect_text().unwrap_err().message().contains("there is no metrics file"));
    std::fs::write(&file.path, "something else").unwrap();
    assert!(reader.collect_text().unwrap_err().message().contains("it is no metrics file"));
    std::fs::remove_file(&file.path).unwrap();
    let backend = filled(&file);
    assert_eq!(reader.collect_text().unwrap(), backend.collect_text().unwrap());
}

#[test]
fn a_sound_file_is_reported_with_its_contents() {
    let file = TestFile::new();
    let backend = filled(&file);
    counter(&backend, "requests_total", &["path"]).remove(&["/a"]).unwrap();
    let report = backend.check().unwrap();
    assert!(report.is_sound(), "{:?}", report.faults());
    let facts = report.facts().join("\n");
    assert!(facts.contains("2 families, 2 metrics, 1 free record"), "{facts}");
    assert!(
        facts.contains(&format!("{} bytes of at most {} are used", file.committed(), 64 << 20)),
        "{facts}"
    );
    assert_eq!(attach(&file).check().unwrap(), report);
}

#[test]
fn a_file_of_many_segments_with_padding_is_sound() {
    let file = TestFile::new();
    let backend = file.open();
    let family = counter(&backend, "many_total", &["a"]);
    for index in 0..9_000 {
        family.metric(&[&"x".repeat(index % 200)[..]]).unwrap();
        family.metric(&[&index.to_string()]).unwrap();
    }
    assert!(file.committed() > SEGMENT);
    assert_eq!(faults(&file), [""; 0]);
}

#[test]
fn a_damaged_text_is_a_fault_at_its_byte() {
    let file = TestFile::new();
    filled(&file);
    let record = file.record(r#"{"path":"/a"}"#);
    file.handle().write_all_at(b"#", record.offset + 64 + 8 + 3).unwrap();
    assert_eq!(faults(&file), [format!("the record at byte {} is damaged", record.offset)]);
}

#[test]
fn a_damaged_size_is_a_fault_and_the_records_behind_it_are_read() {
    let file = TestFile::new();
    filled(&file);
    let record = file.record(r#"{"path":"/"}"#);
    file.set_word(record.offset, 0);
    let last = record.offset + record.size - 1;
    assert_eq!(
        faults(&file),
        [format!("bytes {} to {last} are damaged: no record begins there", record.offset)]
    );
    assert!(attach(&file).check().unwrap().facts().iter().any(|fact| fact.contains("2 metrics")));
}

#[test]
fn metrics_of_a_damaged_family_are_faults_too() {
    let file = TestFile::new();
    filled(&file);
    let family = file.records().into_iter().find(|record| record.text.starts_with("requests_total")).unwrap();
    file.handle().write_all_at(b"#", family.offset + 64).unwrap();
    let faults = faults(&file);
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert_eq!(faults.iter().filter(|fault| fault.contains("no family that can be read")).count(), 2);
}

#[test]
fn damage_of_the_index_and_a_record_that_it_lacks_are_faults() {
    let file = TestFile::new();
    let backend = filled(&file);
    let bytes = file.bytes();
    let directory = entry(&bytes, LEVELS_AT).0;
    let table = entry(&bytes, directory + 64).0;
    for at in [LEVELS_AT, IN_HAND_AT, FREE_LISTS_AT + 8, directory + 64, table + 64, table + 64 + 8191 - 7] {
        let right = file.word(at);
        file.set_word(at, right ^ 1 << 20);
        let found = faults(&file);
        let expected =
            format!("the index is damaged at byte {at}: the next series that needs it builds it anew");
        assert_eq!(found, [expected]);
        file.set_word(at, right);
        assert_eq!(faults(&file), [""; 0]);
    }
    let record = file.record(r#"{"path":"/a"}"#).offset;
    let slot = (table + 64..table + 64 + 8192).step_by(8).find(|at| entry(&bytes, *at).0 == record).unwrap();
    file.set_word(slot, entry_word(slot, 0));
    assert_eq!(faults(&file), [format!("the index does not lead to the record at byte {record}")]);
    // A writer that was killed while it built the index has left no damage.
    file.set_word(INDEX_STATE_AT, 0);
    let report = attach(&file).check().unwrap();
    assert!(report.is_sound() && report.facts().iter().any(|fact| fact.contains("not whole")), "{report:?}");
    counter(&backend, "other_total", &[]).metric(&[]).unwrap();
    assert_eq!(faults(&file), [""; 0]);
    file.assert_index_is_sound();
}

#[test]
fn a_duplicate_metric_is_a_fault() {
    let file = TestFile::new();
    filled(&file);
    let record = file.record(r#"{"path":"/a"}"#);
    let end = file.committed();
    let mut copy = file.bytes()[record.offset as usize..][..record.size as usize].to_vec();
    let place = fnv(&[file.word(record.offset), end], b"");
    copy[40..48].copy_from_slice(&place.to_le_bytes());
    file.handle().write_all_at(&copy, end).unwrap();
    file.set_word(COMMITTED_AT, end + record.size);
    let faults = faults(&file);
    assert_eq!(
        faults,
        [format!(r#"the metric requests_total{{"path":"/a"}} is there a second time at byte {end}"#)]
    );
}

#[test]
fn each_damaged_byte_of_a_record_is_a_fault_or_only_changes_a_value() {
    let file = TestFile::new();
    filled(&file);
    let good = file.bytes();
    for record in file.records() {
        let cells = record.offset + 64..record.offset + 64 + record.cells.len() as u64 * 8;
        // The padding after the checksums has no meaning. Generations have no checksum, and any odd one is
        // valid.
        let text_end = cells.end + record.text.len() as u64;
        for at in (record.offset..text_end).filter(|at| !cells.contains(at)) {
            let place = at - record.offset;
            if (8..16).contains(&place) || (48..64).contains(&place) {
                continue;
            }
            file.handle().write_all_at(&[good[at as usize] ^ 0x20], at).unwrap();
            assert_ne!(faults(&file), [""; 0], "byte {place} of {record:?}");
            file.handle().write_all_at(&good[at as usize..=at as usize], at).unwrap();
        }
    }
    assert!(file.committed() > HEADER);
    assert_eq!(faults(&file), [""; 0]);
}

#[test]
fn checking_beside_a_process_that_makes_and_removes_metrics_finds_no_fault() {
    let file = TestFile::new();
    let backend = filled(&file);
    let family = counter(&backend, "busy_total", &["a"]);
    let reader = attach(&file);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            // Two of seven metrics exist at any time, so each is created in the place of another.
            for index in 0..3_000 {
                family.metric(&[&(index % 7).to_string()]).unwrap().inc(1.0).unwrap();
                if index >= 2 {
                    family.remove(&[&((index - 2) % 7).to_string()]).unwrap();
                }
            }
        });
        while !writer.is_finished() {
            assert_eq!(reader.check().unwrap().faults(), [""; 0]);
        }
    });
}
