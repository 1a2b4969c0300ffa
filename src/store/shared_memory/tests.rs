//! Writers that are killed before each of their stores, and the number of records that a look-up reads.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::entry::Entry;
use super::file::SharedFile;
use super::index::Index;
use super::layout::{
    FAMILY_AT, FREE_LISTS, FREE_LISTS_AT, GUARD_AT, GUARD_MARK, GUARD_WITH_FLOCK, INDEX_STATE_AT,
    KIND_FAMILY, KIND_METRIC,
};
use super::options::SharedMemoryOptions;
use super::outline::LastOutline;
use super::places;
use super::record::{Contents, READS, Record, STORES_LEFT, committed, live_records, word};
use super::records::Records;
use super::survey::survey;
use crate::cell::segment::load;
use crate::exposition::Selection;
use crate::model::definition::Definition;
use crate::model::error::Result;
use crate::model::gauge_mode::GaugeMode;
use crate::model::metric_type::MetricType;
use crate::model::sample::FamilySamples;

/// A path in memory that is removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = base.join(format!("pytheus-index-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> (Arc<SharedFile>, Records) {
    let options = SharedMemoryOptions { size_limit: 64 << 20, mode: 0o600, ..Default::default() };
    let file = Arc::new(SharedFile::open(path, &options).unwrap());
    let records = Records::new(Arc::clone(&file));
    (file, records)
}

fn family(records: &mut Records, name: &str) -> Result<Record> {
    let text = format!("{name}\n{{\"type\":\"counter\",\"help\":\"\",\"labels\":[\"a\"]}}");
    let wanted = Contents {
        kind: KIND_FAMILY,
        family: 0,
        cell_count: 0,
        slots: 0,
        created: None,
        ends: false,
        text: &text,
    };
    records.find_or_append(records.checked_length()?, &wanted, |_| Ok(None))
}

fn metric(records: &mut Records, family: &Record, value: &str) -> Result<Record> {
    metric_after(records, family, value, || ())
}

/// Does the same, and calls `missed` when a look has not found the series.
fn metric_after(records: &Records, family: &Record, value: &str, missed: impl Fn()) -> Result<Record> {
    let text = format!("{{\"a\":\"{value}\"}}");
    let wanted = Contents {
        kind: KIND_METRIC,
        family: family.offset,
        cell_count: 1,
        slots: 0,
        created: None,
        ends: false,
        text: &text,
    };
    records.find_or_append(records.checked_length()?, &wanted, |_| {
        missed();
        Ok(None)
    })
}

fn remove(records: &mut Records, family: &Record, value: &str) -> Result<bool> {
    let text = format!("{{\"a\":\"{value}\"}}");
    records.remove(&Contents {
        kind: KIND_METRIC,
        family: family.offset,
        cell_count: 1,
        slots: 0,
        created: None,
        ends: false,
        text: &text,
    })
}

fn texts(file: &SharedFile) -> Vec<String> {
    let mut texts: Vec<String> = live_records(file).unwrap().into_iter().map(|record| record.text).collect();
    texts.sort();
    texts
}

/// Asserts that the index is whole and leads to each record, and that the lists hold each free record once.
fn assert_sound(file: &SharedFile) {
    let report = survey(file).unwrap();
    assert_eq!(report.faults(), [""; 0]);
    assert!(Index::new(file, committed(file).unwrap()).is_whole().unwrap());
    let entry =
        |at: u64| Entry::decode(load(word(file, file.segment(at).unwrap(), at, 0).unwrap()), at).unwrap();
    let mut listed = BTreeSet::new();
    for list in 0..FREE_LISTS {
        let mut next = entry(FREE_LISTS_AT + list * 8).offset;
        while next != 0 {
            assert!(listed.insert(next), "{next} is listed twice");
            next = entry(next + FAMILY_AT).offset;
        }
    }
    let free = match listed.len() {
        1 => "1 free record".to_owned(),
        count => format!("{count} free records"),
    };
    assert!(report.facts().iter().any(|fact| fact.ends_with(&free)), "{free}: {report:?}");
}

/// Kills a writer before each store of `work`, and lets another process do the work then.
///
/// The file must be sound after the kill and after the second try, and hold what it holds when no writer is
/// killed, in as much space but for the tables that a kill may cost.
fn kill_at_each_store(prepare: impl Fn(&Path), work: impl Fn(&mut Records)) {
    let folder = Folder::new();
    let (template, path) = (folder.path("template"), folder.path("metrics"));
    prepare(&template);
    let (file, before) = (&path, texts(&open(&template).0));
    std::fs::copy(&template, file).unwrap();
    let (reference, mut records) = open(file);
    STORES_LEFT.set(u64::MAX);
    work(&mut records);
    let stores = u64::MAX - STORES_LEFT.get();
    let after = texts(&reference);
    assert_sound(&reference);
    assert!(stores > 5, "{stores} stores");
    let end = committed(&reference).unwrap();
    // Most stores of a long work fill a table or a text, and each of them is like its neighbours.
    let sampled =
        (0..stores).filter(|store| stores < 300 || *store < 25 || store + 25 > stores || store % 397 == 0);
    for store in sampled {
        std::fs::remove_file(file).unwrap();
        std::fs::copy(&template, file).unwrap();
        let (killed, mut records) = open(file);
        STORES_LEFT.set(store);
        let outcome = catch_unwind(AssertUnwindSafe(|| work(&mut records)));
        STORES_LEFT.set(u64::MAX);
        assert!(outcome.is_err(), "store {store} of {stores}");
        assert_eq!(survey(&killed).unwrap().faults(), [""; 0], "killed before store {store} of {stores}");
        let left = texts(&killed);
        assert!(left == before || left == after || left.len() > before.len().min(after.len()), "{left:?}");
        let (found, mut records) = open(file);
        work(&mut records);
        assert_eq!(texts(&found), after, "killed before store {store} of {stores}");
        assert_sound(&found);
        // At most one table or directory is lost.
        let now = committed(&found).unwrap();
        assert!((end..=end + 8256).contains(&now), "{now} instead of {end}: store {store} of {stores}");
    }
}

fn with_three_series(path: &Path) {
    let (_, mut records) = open(path);
    let hits = family(&mut records, "hits").unwrap();
    for value in ["x", "y", "z"] {
        metric(&mut records, &hits, value).unwrap();
    }
}

fn with_a_free_record(path: &Path) {
    with_three_series(path);
    let (_, mut records) = open(path);
    let hits = family(&mut records, "hits").unwrap();
    assert!(remove(&mut records, &hits, "x").unwrap());
}

#[test]
fn a_writer_killed_while_it_begins_a_file_leaves_it_sound() {
    kill_at_each_store(|path| drop(open(path)), |records| drop(family(records, "hits").unwrap()));
}

#[test]
fn a_writer_killed_while_it_appends_leaves_a_sound_file() {
    kill_at_each_store(with_three_series, |records| {
        let more = family(records, "more").unwrap();
        metric(records, &more, "x").unwrap();
    });
}

#[test]
fn a_writer_killed_while_it_appends_beside_padding_leaves_a_sound_file() {
    let (filler, wanted) = ("x".repeat(1_020_000), "y".repeat(20_000));
    kill_at_each_store(
        |path| {
            let (_, mut records) = open(path);
            let hits = family(&mut records, "hits").unwrap();
            metric(&mut records, &hits, &filler).unwrap();
        },
        |records| {
            let hits = family(records, "hits").unwrap();
            metric(records, &hits, &wanted).unwrap();
        },
    );
}

#[test]
fn a_writer_killed_while_it_removes_leaves_a_sound_file() {
    kill_at_each_store(with_three_series, |records| {
        let hits = family(records, "hits").unwrap();
        remove(records, &hits, "y").unwrap();
    });
}

#[test]
fn a_writer_killed_while_it_reuses_a_record_leaves_it_free() {
    kill_at_each_store(with_a_free_record, |records| {
        let hits = family(records, "hits").unwrap();
        metric(records, &hits, "new").unwrap();
    });
}

#[test]
fn a_writer_killed_while_it_reuses_a_large_record_leaves_it_free() {
    let values: Vec<String> = [26_000, 27_000, 28_000].map(|length| "x".repeat(length)).into();
    kill_at_each_store(
        |path| {
            let (_, mut records) = open(path);
            let hits = family(&mut records, "hits").unwrap();
            for value in &values {
                metric(&mut records, &hits, value).unwrap();
            }
            for value in &values {
                remove(&mut records, &hits, value).unwrap();
            }
        },
        |records| {
            let hits = family(records, "hits").unwrap();
            // The second of the list, so that it is taken out of the middle.
            metric(records, &hits, &values[1].replace('x', "y")).unwrap();
        },
    );
}

#[test]
fn a_writer_killed_while_it_builds_the_index_leaves_the_work_to_the_next_one() {
    kill_at_each_store(
        |path| {
            with_a_free_record(path);
            let (file, _) = open(path);
            word(&file, file.segment(0).unwrap(), 0, INDEX_STATE_AT).unwrap().store(0, Ordering::Release);
        },
        |records| {
            let hits = family(records, "hits").unwrap();
            metric(records, &hits, "new").unwrap();
        },
    );
}

#[test]
fn the_records_that_a_look_up_reads_do_not_grow_with_the_file() {
    let folder = Folder::new();
    let path = folder.path("metrics");
    let (_, mut writer) = open(&path);
    let hits = family(&mut writer, "hits").unwrap();
    for count in [0..500, 500..30_000] {
        for number in count {
            metric(&mut writer, &hits, &number.to_string()).unwrap();
        }
        for number in 0..100 {
            family(&mut writer, &format!("family {number}")).unwrap();
        }
        let reads = |work: &dyn Fn(&mut Records)| {
            let (_, mut records) = open(&path);
            let before = READS.get();
            work(&mut records);
            READS.get() - before
        };
        // Now and then two series have the same tag.
        let most = 6;
        let old = reads(&|records| drop(metric(records, &hits, "7").unwrap()));
        let new = reads(&|records| drop(metric(records, &hits, "new").unwrap()));
        let removed = reads(&|records| assert!(remove(records, &hits, "new").unwrap()));
        let known = reads(&|records| drop(family(records, "family 7").unwrap()));
        let unknown = reads(&|records| drop(family(records, "another").unwrap()));
        for (work, count) in
            [("old", old), ("new", new), ("removed", removed), ("known", known), ("unknown", unknown)]
        {
            assert!(count <= most, "{work}: {count} records were read");
        }
    }
}

#[test]
fn a_series_that_another_process_has_made_meanwhile_is_found() {
    let folder = Folder::new();
    let path = folder.path("metrics");
    let (file, mut records) = open(&path);
    let (_, other) = open(&path);
    let hits = family(&mut records, "hits").unwrap();
    for is_removed in [false, true] {
        let made = Cell::new(None);
        let looks = Cell::new(0);
        let value = format!("{is_removed}");
        let found = metric_after(&records, &hits, &value, || {
            looks.set(looks.get() + 1);
            if looks.get() == 1 {
                made.set(Some(metric_after(&other, &hits, &value, || ()).unwrap().offset));
                if is_removed {
                    assert!(remove(&mut open(&path).1, &hits, &value).unwrap());
                }
            }
        });
        // A removed record is free, and so it is taken again.
        assert_eq!(Some(found.unwrap().offset), made.get());
        assert_eq!(looks.get(), if is_removed { 2 } else { 1 });
        assert_sound(&file);
    }
    // Nobody was there meanwhile, so one look is enough.
    let looks = Cell::new(0);
    metric_after(&records, &hits, "alone", || looks.set(looks.get() + 1)).unwrap();
    assert_eq!(looks.get(), 1);
}

#[test]
fn a_writer_looks_again_behind_one_that_was_killed() {
    let folder = Folder::new();
    let (file, mut records) = open(&folder.path("metrics"));
    let hits = family(&mut records, "hits").unwrap();
    // The guard of a killed process stays. Here the `flock` is released, as the kernel would do.
    let header = file.segment(0).unwrap();
    let guard = word(&file, header, 0, GUARD_AT).unwrap();
    guard.store(GUARD_MARK | GUARD_WITH_FLOCK | 1, Ordering::Relaxed);
    let looks = Cell::new(0);
    metric_after(&records, &hits, "after", || looks.set(looks.get() + 1)).unwrap();
    assert_eq!(looks.get(), 2);
    assert_sound(&file);
}

#[test]
fn a_free_record_is_found_among_many_sizes() {
    let folder = Folder::new();
    let (file, mut records) = open(&folder.path("metrics"));
    let hits = family(&mut records, "hits").unwrap();
    let values: Vec<String> =
        (0..60).map(|number| format!("{number:02}{}", "x".repeat(number * 700))).collect();
    for value in &values {
        metric(&mut records, &hits, value).unwrap();
    }
    let end = committed(&file).unwrap();
    for value in &values {
        assert!(remove(&mut records, &hits, value).unwrap());
    }
    assert_sound(&file);
    for value in &values {
        metric(&mut records, &hits, &value.replace('x', "y")).unwrap();
    }
    assert_eq!(committed(&file).unwrap(), end, "each new series took a free record");
    assert_sound(&file);
}

/// Declares a gauge with a mode, and gives it the value of the process with a place of its own.
fn gauge(records: &mut Records, file: &SharedFile, mode: &str, value: f64) -> Result<()> {
    let text =
        format!("{mode}\n{{\"type\":\"processgauge\",\"mode\":\"{mode}\",\"help\":\"\",\"labels\":[]}}");
    let wanted = Contents {
        kind: KIND_FAMILY,
        family: 0,
        cell_count: 0,
        slots: 0,
        created: None,
        ends: false,
        text: &text,
    };
    let family = records.find_or_append(records.checked_length()?, &wanted, |_| Ok(None))?;
    let mode = GaugeMode::from_name(mode).unwrap();
    let text = places::text(records.place()?, "{}");
    let cell_count = places::cell_count(mode);
    let wanted = Contents {
        kind: KIND_METRIC,
        family: family.offset,
        cell_count,
        slots: 0,
        created: None,
        ends: false,
        text: &text,
    };
    let record = records.find_or_append(records.checked_length()?, &wanted, |_| Ok(None))?;
    let cells = super::record::cells(file.writable_segment(record.offset)?, file, &record)?;
    cells.set(0, value);
    if mode.shows_processes() {
        cells.set(1, 7.0);
    }
    Ok(())
}

/// Returns what a scrape shows of the gauges with a mode.
fn shown(file: &SharedFile) -> Vec<(String, Vec<f64>)> {
    let families =
        super::families::read_families(file, &LastOutline::default(), &Selection::default(), |_, _| {
            Ok(false)
        })
        .unwrap();
    let values = |family: &FamilySamples| family.series().map(|series| series.value()).collect();
    families.iter().map(|family| (family.definition.name().to_owned(), values(family))).collect()
}

#[test]
fn a_process_killed_while_it_takes_the_place_of_a_dead_one_loses_nothing_and_counts_nothing_twice() {
    let modes = ["sum", "max", "all", "livemin"];
    let kept = |sum: f64, max: f64| {
        let values = [vec![sum], vec![max], vec![], vec![]];
        modes.iter().map(|mode| (*mode).to_owned()).zip(values).collect::<Vec<_>>()
    };
    let folder = Folder::new();
    let mut stores = 0;
    loop {
        let path = folder.path(&format!("metrics-{stores}"));
        for value in [2.0, 5.0] {
            let (file, mut records) = open(&path);
            modes.iter().for_each(|mode| gauge(&mut records, &file, mode, value).unwrap());
        }
        let (file, mut records) = open(&path);
        assert_eq!(shown(&file)[..2], kept(7.0, 5.0)[..2]);
        STORES_LEFT.set(stores);
        let outcome = catch_unwind(AssertUnwindSafe(|| records.place()));
        STORES_LEFT.set(u64::MAX);
        drop(records);
        assert_eq!(shown(&file)[..2], kept(7.0, 5.0)[..2], "killed before store {stores}");
        let (_, mut records) = open(&path);
        assert_eq!(records.place().unwrap(), 0);
        assert_eq!(shown(&file), kept(7.0, 5.0), "killed before store {stores}");
        assert_sound(&file);
        if outcome.is_ok() {
            break;
        }
        stores += 1;
    }
    assert!(stores > 15, "{stores} stores");
}

#[test]
fn a_scrape_reads_only_the_records_that_the_last_one_did_not_find() {
    let folder = Folder::new();
    let path = folder.path("outline");
    let backend = crate::Backend::open(&format!("shm://{}", path.display())).unwrap();
    let reader = crate::Backend::open(&format!("shm://{}?start=attach", path.display())).unwrap();
    let declare = |name: &str| {
        let definition = Definition::new(name, "", MetricType::Counter, &["a"], &[]).unwrap();
        backend.declare(definition, &["a"], crate::Lifetime::Backend).unwrap()
    };
    let (one, two) = (declare("one_total"), declare("two_total"));
    let text = || {
        READS.set(0);
        let text = reader.render(&crate::RenderOptions::default()).unwrap().into_text();
        let lines: Vec<String> =
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        (lines, READS.get() > 0)
    };
    let shown = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();

    one.metric(&["b"]).unwrap().inc(1.0).unwrap();
    let first = one.metric(&["a"]).unwrap();
    assert_eq!(text(), (shown(&["one_total{a=\"a\"} 0", "one_total{a=\"b\"} 1"]), true));
    first.inc(2.0).unwrap();
    assert_eq!(text(), (shown(&["one_total{a=\"a\"} 2", "one_total{a=\"b\"} 1"]), false));
    one.remove(&["a"]).unwrap();
    assert_eq!(text(), (shown(&["one_total{a=\"b\"} 1"]), true));
    assert_eq!(text(), (shown(&["one_total{a=\"b\"} 1"]), false));
    // It takes the record that is free.
    two.metric(&["c"]).unwrap().inc(3.0).unwrap();
    assert_eq!(text(), (shown(&["one_total{a=\"b\"} 1", "two_total{a=\"c\"} 3"]), true));
    assert_eq!(text(), (shown(&["one_total{a=\"b\"} 1", "two_total{a=\"c\"} 3"]), false));
    two.metric(&["d"]).unwrap();
    assert_eq!(text().0, shown(&["one_total{a=\"b\"} 1", "two_total{a=\"c\"} 3", "two_total{a=\"d\"} 0"]));
}
