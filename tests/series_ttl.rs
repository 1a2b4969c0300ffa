//! Series that end when no process uses them: when they are gone, what is use, and that a series that begins anew
//! misses no count.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::{Arc, Barrier, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use log::Level;
use pytheus_backend_rs::{
    Backend, Definition, ErrorKind, GaugeMode, Lifetime, Metric, MetricFamily, MetricType,
};

use support::process::{SharedNumbers, fork};
use support::shared_file::{RawRecord, SEGMENT, TestFile};
use support::*;

/// Where the word of the last use stands in a record.
const LAST_USE_AT: u64 = 56;
const BURIED: u64 = 1 << 31;

fn definition(name: &str, metric_type: MetricType, ttl: f64) -> Definition {
    Definition::new(name, "", metric_type, &["a"], &[]).unwrap().with_series_ttl(ttl).unwrap()
}

fn family(backend: &Backend, metric_type: MetricType, ttl: f64) -> MetricFamily {
    let definition = definition(metric_type.name(), metric_type, ttl);
    backend.declare(definition, &["a"], Lifetime::Backend).unwrap()
}

/// Returns the lines of all series.
fn shown(backend: &Backend) -> Vec<String> {
    let text = backend.collect_text().unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

fn records(file: &TestFile) -> Vec<RawRecord> {
    file.records().into_iter().filter(|record| record.kind == 3).collect()
}

/// Makes the series of a record look as if it was last used so many seconds earlier.
fn age(file: &TestFile, record: &RawRecord, seconds: u64) {
    let at = record.offset + LAST_USE_AT;
    file.set_word(at, file.word(at) - seconds);
}

#[test]
fn a_series_that_is_not_used_is_gone_and_begins_anew_at_0() {
    let file = TestFile::new();
    for url in ["memory:".to_owned(), file.url("")] {
        let backend = Backend::open(&url).unwrap();
        let counters = family(&backend, MetricType::Counter, 1.0);
        let (kept, used) = (counters.metric(&["kept"]).unwrap(), counters.metric(&["used"]).unwrap());
        kept.inc(5.0).unwrap();
        counters.metric(&["dropped"]).unwrap().inc(1.0).unwrap();
        let kept_is_gone = || {
            used.inc(1.0).unwrap();
            !shown(&backend).iter().any(|line| line.contains("kept") || line.contains("dropped"))
        };
        assert_eq!(shown(&backend).len(), 3, "{url}");
        wait_until("the series has ended", kept_is_gone);
        assert_eq!(shown(&backend).len(), 1, "{url}: a series that is used stays");
        assert_eq!(kept.get().unwrap(), 0.0, "{url}");
        assert_eq!(shown(&backend).len(), 1, "{url}: reading is no use");
        kept.inc(2.0).unwrap();
        assert_eq!(kept.get().unwrap(), 2.0, "{url}");
        assert!(shown(&backend).contains(&"counter{a=\"kept\"} 2".to_owned()), "{url}");
        wait_until("it has ended again", || {
            used.inc(1.0).unwrap();
            shown(&backend).len() == 1
        });
        assert!(Arc::ptr_eq(&counters.metric(&["kept"]).unwrap(), &kept), "{url}");
        assert!(shown(&backend).contains(&"counter{a=\"kept\"} 0".to_owned()), "{url}: a look-up is use");
    }
}

#[test]
fn without_a_scrape_in_between_a_series_begins_anew_too() {
    let file = TestFile::new();
    for url in ["memory:".to_owned(), file.url("")] {
        let backend = Backend::open(&url).unwrap();
        let counters = family(&backend, MetricType::Counter, 1.0);
        let counter = counters.metric(&["x"]).unwrap();
        counter.inc(5.0).unwrap();
        wait_until("the series has ended", || counter.get().unwrap() == 0.0);
        counter.inc(1.0).unwrap();
        assert_eq!(shown(&backend), ["counter{a=\"x\"} 1"], "{url}");
    }
}

#[test]
fn every_type_begins_anew() {
    let file = TestFile::new();
    for url in ["memory:".to_owned(), file.url("")] {
        let backend = Backend::open(&url).unwrap();
        let metric = |metric_type| family(&backend, metric_type, 1.0).metric(&["x"]).unwrap();
        let (gauge, summary) = (metric(MetricType::Gauge), metric(MetricType::Summary));
        let (histogram, ages) = (metric(MetricType::Histogram), metric(MetricType::GaugeHistogram));
        let native = Definition::new("native", "", MetricType::Histogram, &["a"], &[]).unwrap();
        let native = native.with_native(Default::default(), false).unwrap().with_series_ttl(1.0).unwrap();
        let native = backend.declare(native, &["a"], Lifetime::Backend).unwrap().metric(&["x"]).unwrap();
        let states = Definition::state_set(Default::default(), "states", "", &["a"], &["on", "off"]).unwrap();
        let states = states.with_series_ttl(1.0).unwrap();
        let states = backend.declare(states, &["a"], Lifetime::Backend).unwrap().metric(&["x"]).unwrap();
        let info = family(&backend, MetricType::Info, 1.0);
        let count = || {
            gauge.set(7.0).unwrap();
            [&summary, &histogram, &ages, &native].iter().for_each(|metric| metric.observe(2.0).unwrap());
            states.set_state("on", true).unwrap();
            info.set_info(&["x"], &[("version", "1")]).unwrap();
            shown(&backend)
        };
        let first = count();
        assert!(first.len() > 30, "{first:?}");
        wait_until("all series have ended", || shown(&backend).is_empty());
        assert_eq!(count(), first, "{url}");
        assert_eq!(native.get_count().unwrap(), 1.0);
    }
}

#[test]
fn setting_the_same_value_is_use() {
    let file = TestFile::new();
    for url in ["memory:".to_owned(), file.url("")] {
        let backend = Backend::open(&url).unwrap();
        let gauges = family(&backend, MetricType::Gauge, 1.0);
        let (same, other) = (gauges.metric(&["same"]).unwrap(), gauges.metric(&["other"]).unwrap());
        other.set(3.0).unwrap();
        wait_until("the other series has ended", || {
            same.set(3.0).unwrap();
            shown(&backend).len() == 1
        });
        assert_eq!(shown(&backend), ["gauge{a=\"same\"} 3"], "{url}");
    }
}

#[test]
fn the_option_of_a_store_is_for_families_that_say_nothing_themselves() {
    let file = TestFile::new();
    for url in
        ["memory:?series_ttl=1&self_metrics=true".to_owned(), file.url("series_ttl=1&self_metrics=true")]
    {
        let backend = Backend::open(&url).unwrap();
        let declare = |name: &str, ttl: Option<f64>| {
            let mut definition = Definition::new(name, "", MetricType::Gauge, &[], &[]).unwrap();
            if let Some(ttl) = ttl {
                definition = definition.with_series_ttl(ttl).unwrap();
            }
            backend.declare(definition, &[], Lifetime::Backend).unwrap().metric(&[]).unwrap()
        };
        let gauges = [
            declare("g_store", None),
            declare("g_long", Some(1000.0)),
            declare("g_never", Some(f64::INFINITY)),
        ];
        gauges.iter().for_each(|gauge| gauge.set(1.0).unwrap());
        let mode = Definition::new("g_mode", "", MetricType::Gauge, &[], &[]).unwrap();
        let mode = backend.declare(mode.with_mode(GaugeMode::Max).unwrap(), &[], Lifetime::Backend).unwrap();
        mode.metric(&[]).unwrap().set(1.0).unwrap();
        let own = || shown(&backend).into_iter().filter(|line| line.starts_with("g_")).collect::<Vec<_>>();
        wait_until("the series has ended", || own() == ["g_long 1", "g_never 1", "g_mode 1"]);
        assert!(shown(&backend).iter().any(|line| line.starts_with("pytheus_backend_losses_total")), "{url}");
        for wrong in ["0", "-1", "nan", "inf", "1.5", "x", "315360001"] {
            let error = Backend::open(&url.replace("ttl=1", &format!("ttl={wrong}"))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(
                error.message().contains("\"series_ttl\"") && error.message().contains("from 1 to"),
                "{error}"
            );
        }
    }
}

#[test]
fn series_that_nobody_holds_leave_no_memory_behind() {
    let backend = Backend::open("memory:").unwrap();
    let counters = family(&backend, MetricType::Counter, 1.0);
    for number in 0..1000 {
        counters.metric(&[&number.to_string()]).unwrap().inc(1.0).unwrap();
    }
    let metrics = || backend.check().unwrap().facts().join(", ");
    assert!(metrics().contains("1000 metrics"), "{}", metrics());
    wait_until("the series have ended", || shown(&backend).is_empty());
    assert!(metrics().contains("0 metrics"), "{}", metrics());
}

#[test]
fn a_removed_metric_does_not_come_back() {
    let file = TestFile::new();
    for url in ["memory:".to_owned(), file.url("")] {
        let backend = Backend::open(&url).unwrap();
        let counters = family(&backend, MetricType::Counter, 1.0);
        let counter = counters.metric(&["x"]).unwrap();
        counters.remove(&["x"]).unwrap();
        counter.inc(1.0).unwrap();
        assert!(shown(&backend).is_empty(), "{url}");
        let counter = counters.metric(&["x"]).unwrap();
        counters.clear().unwrap();
        counter.inc(1.0).unwrap();
        assert!(shown(&backend).is_empty(), "{url}");
    }
}

#[test]
fn another_process_ends_a_series_and_its_handle_counts_in_a_new_one() {
    let file = TestFile::new();
    let (backend, other) = (file.open(), file.open());
    let counter = family(&backend, MetricType::Counter, 60.0).metric(&["x"]).unwrap();
    counter.inc(5.0).unwrap();
    assert_eq!(shown(&other), ["counter{a=\"x\"} 5"]);
    let began = other.collect(None).unwrap().families[0].series().next().unwrap().created().unwrap();
    wait_until("a later millisecond", || {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() > began + 0.001
    });
    age(&file, &records(&file)[0], 61);
    let reader = Backend::open(&file.url("start=attach")).unwrap();
    let before = file.bytes();
    assert!(shown(&reader).is_empty(), "a reader hides it");
    assert!(reader.check().unwrap().facts().join(", ").contains("0 metrics"));
    assert_eq!(file.bytes(), before, "and changes nothing");
    assert!(shown(&other).is_empty());
    assert_eq!(file.word(records(&file)[0].offset + LAST_USE_AT) & BURIED, BURIED);
    counter.inc(2.0).unwrap();
    for backend in [&backend, &other, &reader] {
        assert_eq!(shown(backend), ["counter{a=\"x\"} 2"]);
    }
    let begins = other.collect(None).unwrap().families[0].series().next().unwrap().created().unwrap();
    assert!(begins > began);
    assert_eq!(records(&file).len(), 2, "the first record is not reused yet");
    assert_eq!(other.check().unwrap().faults(), [""; 0]);
}

#[test]
fn records_of_ended_series_are_used_again_after_their_quarantine() {
    let file = TestFile::new();
    let backend = file.open();
    let counters = family(&backend, MetricType::Counter, 60.0);
    let begin = |label: &str| drop(counters.metric(&[label]).unwrap());
    begin("x0");
    age(&file, &records(&file)[0], 61);
    assert!(shown(&backend).is_empty());
    begin("x1");
    assert_eq!(records(&file).len(), 2);
    age(&file, &records(&file)[0], 61);
    shown(&backend);
    assert!(!records(&file)[0].is_live(), "it is free now");
    begin("x2");
    let texts: Vec<_> = records(&file).into_iter().map(|record| record.text).collect();
    assert_eq!(texts, [r#"{"a":"x2"}"#, r#"{"a":"x1"}"#]);
}

#[test]
fn records_that_were_buried_before_the_machine_was_started_are_used_again_at_once() {
    let file = TestFile::new();
    let backend = file.open();
    let counters = family(&backend, MetricType::Counter, 60.0);
    drop(counters.metric(&["x0"]).unwrap());
    age(&file, &records(&file)[0], 61);
    assert!(shown(&backend).is_empty());
    assert!(records(&file)[0].is_live(), "it is buried");
    // The clock has begun anew, so the burial seems to come later.
    let at = records(&file)[0].offset + LAST_USE_AT;
    file.set_word(at, file.word(at) + 1000);
    shown(&backend);
    assert!(!records(&file)[0].is_live(), "it is free");
}

#[test]
fn a_file_that_only_a_side_car_scrapes_does_not_grow() {
    let file = TestFile::new();
    let backend = file.open();
    let counters = family(&backend, MetricType::Counter, 1.0);
    let first = counters.metric(&["first"]).unwrap();
    age(&file, &records(&file)[0], 100);
    let mut number = 0;
    wait_until("a new series has ended the first one", || {
        counters.metric(&[&format!("{number:05}")]).unwrap();
        number += 1;
        file.word(records(&file)[0].offset + LAST_USE_AT) & BURIED > 0
    });
    age(&file, &records(&file)[0], 61);
    wait_until("a new series has the room of the first one", || {
        counters.metric(&[&format!("{number:05}")]).unwrap();
        number += 1;
        records(&file)[0].text != r#"{"a":"first"}"#
    });
    drop(first);
}

#[test]
fn the_first_change_after_an_end_looks_for_few_other_series() {
    let file = TestFile::new();
    let (backend, other) = (file.open(), file.open());
    let counter = family(&backend, MetricType::Counter, 1.0).metric(&["x"]).unwrap();
    let others = family(&other, MetricType::Counter, 1.0);
    let _unused = others.metric(&["unused"]).unwrap();
    let last_use = |label: &str| {
        let of_label = |record: &RawRecord| record.text == format!(r#"{{"a":"{label}"}}"#);
        file.word(records(&file).into_iter().find(of_label).unwrap().offset + LAST_USE_AT)
    };
    let mut number = 0;
    age(&file, &records(&file)[1], 100);
    wait_until("new series make other processes look for all that have ended", || {
        others.metric(&[&number.to_string()]).unwrap();
        number += 1;
        last_use("unused") & BURIED > 0
    });
    let _fresh = others.metric(&["fresh"]).unwrap();
    for record in records(&file) {
        if [r#"{"a":"x"}"#, r#"{"a":"fresh"}"#].contains(&record.text.as_str()) {
            age(&file, &record, 50);
        }
    }
    counter.inc(1.0).unwrap();
    assert_eq!(last_use("fresh") & BURIED, 0, "a change does not look at the whole file");
    // Yet the file does not grow if nothing else happens.
    for _ in 0..500 {
        for record in records(&file) {
            let word = file.word(record.offset + LAST_USE_AT);
            if word & BURIED > 0 || record.text == r#"{"a":"x"}"# {
                age(&file, &record, 70);
            }
        }
        counter.inc(1.0).unwrap();
    }
    assert!(records(&file).len() < 200 + number, "{} records", records(&file).len());
}

/// Declares a family whose series end after `ttl` seconds, or whose series do not end.
fn counters(backend: &Backend, ttl: Option<f64>) -> MetricFamily {
    family(backend, MetricType::Counter, ttl.unwrap_or(f64::INFINITY))
}

#[test]
fn a_metric_that_waits_for_room_in_the_file_follows_the_time_there() {
    for (in_file, own) in [(Some(60.0), None), (Some(60.0), Some(1000.0)), (Some(1000.0), Some(60.0))] {
        let file = TestFile::new();
        let url = file.url(&format!("size_limit={SEGMENT}"));
        let other = Backend::open(&url).unwrap();
        counters(&other, in_file);
        let fillers = declare(&other, "fillers", MetricType::Gauge, &["a"]);
        let backend = Backend::open(&url).unwrap();
        let own_fillers = declare(&backend, "fillers", MetricType::Gauge, &["a"]);
        let mut number = 0;
        while number % 100 > 0 || backend.statistics().metrics_held_back == 0 {
            number += 1;
            own_fillers.metric(&[&number.to_string()]).unwrap();
        }
        let held_back = backend.statistics().metrics_held_back;
        let counter = counters(&backend, own).metric(&["x"]).unwrap();
        counter.inc(5.0).unwrap();
        assert_eq!(backend.statistics().metrics_held_back, held_back + 1);
        for number in 1..=200 {
            fillers.remove(&[&number.to_string()]).unwrap();
        }
        flush(&backend);
        assert_eq!(lines(&other, "counter{"), ["counter{a=\"x\"} 5"]);
        let record =
            |file: &TestFile| records(file).into_iter().find(|record| record.text.contains("x")).unwrap();
        age(&file, &record(&file), 61);
        counter.inc(1.0).unwrap();
        let expected = if in_file == Some(60.0) { "counter{a=\"x\"} 1" } else { "counter{a=\"x\"} 6" };
        assert_eq!(lines(&other, "counter{"), [expected], "in the file {in_file:?}, here {own:?}");
    }
}

#[test]
fn the_first_change_after_an_end_does_not_wait_for_the_lock_of_the_file() {
    remember_log();
    let file = TestFile::new();
    let backend = file.open();
    let counter = family(&backend, MetricType::Counter, 60.0).metric(&["x"]).unwrap();
    counter.inc(5.0).unwrap();
    age(&file, &records(&file)[0], 61);
    let lock = file.lock();
    counter.inc(2.0).unwrap();
    counter.inc(1.0).unwrap();
    assert_eq!(backend.statistics().metrics_held_back, 1);
    // A caller that waits gives up after a while, and logs this.
    assert!(log_records(Level::Error, &[file.path.to_str().unwrap(), "locked"]).is_empty());
    assert_eq!(counter.get().unwrap(), 3.0, "it counts in this process");
    drop(lock);
    assert_eq!(shown(&backend), ["counter{a=\"x\"} 3"]);
    // Without a scrape of this process, a later change gives the series its place in the file.
    let reader = Backend::open(&file.url("start=attach")).unwrap();
    let record = records(&file).into_iter().find(|record| record.cells == [3.0]).unwrap();
    age(&file, &record, 61);
    let lock = file.lock();
    counter.inc(1.0).unwrap();
    assert!(shown(&reader).is_empty());
    drop(lock);
    let mut expected = 1.0;
    wait_until("a change has stored the series", || {
        counter.inc(1.0).unwrap();
        expected += 1.0;
        shown(&reader) == [format!("counter{{a=\"x\"}} {expected}")]
    });
}

#[test]
fn a_removal_at_the_moment_at_which_a_series_ends_is_final() {
    let file = TestFile::new();
    let backend = file.open();
    let counters = family(&backend, MetricType::Counter, 60.0);
    let (start, end) = (Barrier::new(2), Barrier::new(2));
    let current: Mutex<Option<Arc<Metric>>> = Mutex::new(None);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..500_u64 {
                start.wait();
                let counter = current.lock().unwrap().take().unwrap();
                (0..round % 97 * 8).for_each(|_| std::hint::spin_loop());
                counter.inc(1.0).unwrap();
                end.wait();
            }
        });
        for round in 0..500_u64 {
            let counter = counters.metric(&["x"]).unwrap();
            counter.inc(1.0).unwrap();
            let live =
                |record: &RawRecord| record.is_live() && file.word(record.offset + LAST_USE_AT) & BURIED == 0;
            let record = records(&file).into_iter().find(live).unwrap();
            age(&file, &record, 61);
            *current.lock().unwrap() = Some(counter);
            start.wait();
            (0..round % 89 * 8).for_each(|_| std::hint::spin_loop());
            counters.remove(&["x"]).unwrap();
            end.wait();
            assert!(shown(&backend).is_empty(), "round {round}");
            // Room for the next rounds.
            for record in records(&file).iter().filter(|record| record.is_live()) {
                age(&file, record, 61);
            }
        }
    });
    assert!(records(&file).len() < 10, "{} records", records(&file).len());
}

#[test]
fn a_writer_that_comes_back_while_its_series_ends_loses_nothing() {
    const ROUNDS: u64 = 1000;
    let file = TestFile::new();
    let backend = file.open();
    family(&backend, MetricType::Counter, 1000.0);
    // The number of the round that begins, and of the last one in which the child has counted.
    let turns = SharedNumbers::new(2);
    let child = fork(|| {
        let backend = file.open();
        let counter = family(&backend, MetricType::Counter, 1000.0).metric(&["x"]).unwrap();
        counter.inc(1.0).unwrap();
        turns.add(1, 1);
        for round in 1..=ROUNDS {
            while turns.get(0) < round {
                std::hint::spin_loop();
            }
            (0..round % 64).for_each(|_| std::hint::spin_loop());
            counter.inc(1.0).unwrap();
            turns.add(1, 1);
        }
        true
    });
    let mut expected = 1.0;
    let mut anew = 0;
    for round in 1..=ROUNDS {
        wait_until("the child has counted", || turns.get(1) == round);
        let live =
            |record: &RawRecord| record.is_live() && file.word(record.offset + LAST_USE_AT) & BURIED == 0;
        let record = records(&file).into_iter().find(live).unwrap();
        // At the last second at which the series lives, or one later.
        age(&file, &record, 1000 + round % 2);
        turns.add(0, 1);
        shown(&backend);
        wait_until("the child has counted again", || turns.get(1) == round + 1);
        let value: f64 = match &shown(&backend)[..] {
            [line] => line.strip_prefix("counter{a=\"x\"} ").unwrap().parse().unwrap(),
            lines => panic!("round {round}: {lines:?}"),
        };
        assert!(value == expected + 1.0 || value == 1.0, "round {round}: {expected}, then {value}");
        anew += u64::from(value == 1.0);
        expected = value;
        // Room for the next rounds.
        for record in records(&file).iter().filter(|record| record.is_live() && !live(record)) {
            age(&file, record, 61);
        }
    }
    child.join();
    assert!(
        anew >= ROUNDS / 2 && records(&file).len() < 10,
        "{anew} of {ROUNDS}, {} records",
        records(&file).len()
    );
}

#[test]
fn processes_that_declare_another_time_follow_the_file() {
    let file = TestFile::new();
    let (first, second) = (file.open(), file.open());
    let counter = family(&first, MetricType::Counter, 60.0).metric(&["x"]).unwrap();
    counter.inc(1.0).unwrap();
    let plain = Definition::new("counter", "", MetricType::Counter, &["a"], &[]).unwrap();
    let other = second.declare(plain, &["a"], Lifetime::Backend).unwrap().metric(&["x"]).unwrap();
    age(&file, &records(&file)[0], 61);
    other.inc(1.0).unwrap();
    assert_eq!(shown(&first), ["counter{a=\"x\"} 1"], "its handle begins the series anew");

    let file = TestFile::new();
    let (first, second) = (file.open(), file.open());
    let plain = Definition::new("counter", "", MetricType::Counter, &["a"], &[]).unwrap();
    first.declare(plain, &["a"], Lifetime::Backend).unwrap().metric(&["x"]).unwrap().inc(1.0).unwrap();
    let counter: Arc<Metric> = family(&second, MetricType::Counter, 1.0).metric(&["x"]).unwrap();
    counter.inc(1.0).unwrap();
    assert_eq!(file.word(records(&file)[0].offset + LAST_USE_AT), 0, "series of the file do not end");
    assert_eq!(shown(&second), ["counter{a=\"x\"} 2"]);
}

#[test]
fn an_older_program_does_not_know_the_type_of_such_a_family() {
    let file = TestFile::new();
    let backend = file.open();
    family(&backend, MetricType::Counter, 60.0);
    let text = file.records()[0].text.clone();
    assert!(text.contains(r#""type":"expiring""#) && text.contains(r#""of":"counter""#), "{text}");
    assert!(text.contains(r#""ttl":60"#), "{text}");
}

#[test]
fn a_record_of_an_ended_series_that_is_used_anew_is_shown() {
    let file = TestFile::new();
    let backend = file.open();
    let (ending, plain) = (family(&backend, MetricType::Counter, 10.0), plain_gauges(&backend));
    ending.metric(&["x"]).unwrap().inc(1.0).unwrap();
    plain.metric(&["y"]).unwrap().set(1.0).unwrap();
    let record = records(&file).into_iter().find(|record| record.text.contains('x')).unwrap();
    age(&file, &record, 20);
    let reader = Backend::open(&file.url("start=attach")).unwrap();
    assert_eq!(shown(&backend), ["gauge{a=\"y\"} 1"]);
    assert_eq!(shown(&reader), ["gauge{a=\"y\"} 1"]);
    // A minute later the record is free.
    age(&file, &record, 61);
    let buried = file.word(record.offset + LAST_USE_AT);
    assert_eq!(shown(&backend), ["gauge{a=\"y\"} 1"]);
    plain.metric(&["z"]).unwrap().set(2.0).unwrap();
    assert!(records(&file).iter().any(|now| now.offset == record.offset && now.text.contains('z')));
    // An older program leaves the word as it is.
    file.set_word(record.offset + LAST_USE_AT, buried);
    assert_eq!(shown(&reader), ["gauge{a=\"y\"} 1", "gauge{a=\"z\"} 2"]);
    assert_eq!(shown(&backend), ["gauge{a=\"y\"} 1", "gauge{a=\"z\"} 2"]);
}

fn plain_gauges(backend: &Backend) -> MetricFamily {
    let definition = Definition::new("gauge", "", MetricType::Gauge, &["a"], &[]).unwrap();
    backend.declare(definition, &["a"], Lifetime::Backend).unwrap()
}
