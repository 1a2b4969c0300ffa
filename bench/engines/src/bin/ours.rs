//! This engine, called from Rust. Arguments: calls per round, and the path of a shared-memory file to make.

use std::hint::black_box;

use pytheus_backend_rs::{Backend, DEFAULT_BUCKETS, Definition, Lifetime, Metric, MetricType, Result};
use std::sync::Arc;

fn main() -> Result<()> {
    let path = std::env::args().nth(2).unwrap_or_default();
    let stores = [
        ("ours, memory (Rust)", "memory:".to_owned()),
        ("ours, shared memory (Rust)", format!("shm://{path}")),
    ];
    let mut engines = Vec::new();
    for (name, url) in stores {
        let backend = Backend::open(&url)?;
        let counter = |name| metric(&backend, name, MetricType::Counter, &[]);
        let histogram = |name| metric(&backend, name, MetricType::Histogram, &DEFAULT_BUCKETS);
        let counters = (counter("one_total")?, counter("other_total")?, counter("contended_total")?);
        let histograms = (histogram("seconds")?, histogram("contended_seconds")?);
        engines.push((name, backend, counters, histograms));
    }
    engines::serve(|round| {
        for (name, _, (one, other, contended), (seconds, contended_seconds)) in &engines {
            round.increments_apart(
                name,
                || _ = one.inc(black_box(1.0)),
                || _ = other.inc(black_box(1.0)),
                || _ = contended.inc(black_box(1.0)),
            );
            round.observations_apart(
                name,
                || _ = seconds.observe(black_box(0.3)),
                || _ = contended_seconds.observe(black_box(0.3)),
            );
        }
    });
    Ok(())
}

fn metric(backend: &Backend, name: &str, metric_type: MetricType, buckets: &[f64]) -> Result<Arc<Metric>> {
    let definition = Definition::new(name, "Counted by the benchmark.", metric_type, &[], buckets)?;
    backend.declare(definition, &[], Lifetime::Backend)?.metric(&[])
}
