//! The cells of metrics, addressed one by one, and metrics that another backend has removed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use pytheus_backend_rs::{Backend, Definition, ErrorKind, Lifetime, MetricFamily, MetricType, Refusal};
use support::shared_file::TestFile;

fn declared(backend: &Backend, metric_type: MetricType) -> MetricFamily {
    let bounds: &[f64] = if metric_type == MetricType::Histogram { &[1.0, 2.0] } else { &[] };
    let definition = Definition::new("m", "", metric_type, &["label"], bounds).unwrap();
    backend.declare(definition, &["label"], Lifetime::Backend).unwrap()
}

#[test]
fn each_cell_is_added_to_set_and_read() {
    for metric_type in [MetricType::Counter, MetricType::Gauge, MetricType::Summary, MetricType::Histogram] {
        let file = TestFile::new();
        for backend in [Backend::open("memory:").unwrap(), file.open()] {
            let metric = declared(&backend, metric_type).metric(&["x"]).unwrap();
            let cells = match metric_type {
                MetricType::Histogram => 4,
                MetricType::Summary => 2,
                _ => 1,
            };
            for cell in 0..cells {
                metric.add_to_cell(cell, 5.0).unwrap();
                metric.set_cell(cell, 2.0).unwrap();
                metric.add_to_cell(cell, 1.0 + cell as f64).unwrap();
                assert_eq!(metric.get_cell(cell).unwrap(), 3.0 + cell as f64, "{metric_type:?} {cell}");
            }
            assert_eq!(metric.add_to_cell(cells, 1.0), Err(Refusal::UnknownCell));
            assert_eq!(metric.set_cell(cells, 1.0), Err(Refusal::UnknownCell));
            assert_eq!(metric.get_cell(cells).unwrap_err().kind(), ErrorKind::NotFound);
            if metric_type == MetricType::Histogram {
                assert_eq!(metric.get_bucket(2.0).unwrap(), 9.0);
                assert_eq!(metric.get_count().unwrap(), 15.0);
            }
        }
    }
}

#[test]
fn a_cell_that_has_reached_infinity_can_be_set() {
    for metric_type in [MetricType::Counter, MetricType::Summary, MetricType::Histogram] {
        let file = TestFile::new();
        let urls = ["memory:".to_owned(), "memory:?series_ttl=1000".to_owned(), file.url("series_ttl=1000")];
        for url in urls {
            let backend = Backend::open(&url).unwrap();
            let metric = declared(&backend, metric_type).metric(&["x"]).unwrap();
            for endless in [f64::INFINITY, f64::NAN] {
                metric.set_cell(0, endless).unwrap();
                metric.set_cell(0, 2.0).unwrap();
                metric.add_to_cell(0, 1.0).unwrap();
                assert_eq!(metric.get_cell(0).unwrap(), 3.0, "{metric_type:?} after {endless} in {url}");
            }
            metric.add_to_cell(0, f64::INFINITY).unwrap();
            metric.set_cell(0, f64::INFINITY).unwrap();
            assert_eq!(metric.get_cell(0).unwrap(), f64::INFINITY);
        }
    }
}

#[test]
fn a_metric_tells_that_another_backend_has_removed_it() {
    let file = TestFile::new();
    let (one, other) = (file.open(), file.open());
    let family = declared(&one, MetricType::Counter);
    let metric = family.metric(&["x"]).unwrap();
    metric.add_to_cell(0, 1.0).unwrap();
    assert!(metric.is_live());
    declared(&other, MetricType::Counter).remove(&["x"]).unwrap();
    assert!(!metric.is_live());
    assert_eq!(metric.add_to_cell(0, 1.0), Err(Refusal::Removed));
    let again = family.metric(&["x"]).unwrap();
    assert!(again.is_live());
    again.add_to_cell(0, 1.0).unwrap();
    assert_eq!(again.get().unwrap(), 1.0);
}
