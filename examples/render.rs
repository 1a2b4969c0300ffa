//! Renders a scrape in a format of the program's own: one line for each sample, separated by tabs.
//!
//! `cargo run --example render`. `Backend::collect` returns the values as data; `Backend::render` is for
//! Prometheus' formats.

use std::error::Error;

use pytheus_backend_rs::{Backend, Definition, Lifetime, MetricType, Snapshot};

fn main() -> Result<(), Box<dyn Error>> {
    let backend = Backend::open("memory:")?;
    let temperature =
        Definition::new("room_celsius", "Temperature of a room.", MetricType::Gauge, &["room"], &[])?;
    let temperature = backend.declare(temperature, &["room"], Lifetime::Backend)?;
    temperature.metric(&["kitchen"])?.set(21.5)?;
    temperature.metric(&["cellar"])?.set(12.0)?;
    let size = Definition::new("size_bytes", "Size of an answer.", MetricType::Histogram, &[], &[100.0])?;
    let size = backend.declare(size, &[], Lifetime::Backend)?.metric(&[])?;
    size.observe(50.0)?;
    size.observe(500.0)?;

    print!("{}", tab_separated(&backend.collect(None)?));
    Ok(())
}

/// One line for each sample: name, labels as JSON, value.
fn tab_separated(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for family in &snapshot.families {
        let name = family.definition.name();
        for series in family.series() {
            let labels = series.key();
            if family.definition.metric_type() == MetricType::Histogram {
                // The last cumulative bucket is `+Inf`, which equals the count.
                for (bound, count) in family.definition.buckets().iter().zip(series.cumulative_buckets()) {
                    text += &format!("{name}_bucket_{bound}\t{labels}\t{count}\n");
                }
                text += &format!("{name}_count\t{labels}\t{}\n", series.count());
                text += &format!("{name}_sum\t{labels}\t{}\n", series.value());
            } else {
                text += &format!("{name}\t{labels}\t{}\n", series.value());
            }
        }
    }
    text
}
