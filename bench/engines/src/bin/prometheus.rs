//! The crate `prometheus`: `Counter` keeps an f64, `IntCounter` a u64.

use std::hint::black_box;

use prometheus::{Counter, Histogram, HistogramOpts, IntCounter, Result};

fn main() -> Result<()> {
    let one = Counter::new("one_total", "Counted by the benchmark.")?;
    let other = Counter::new("other_total", "Counted by the benchmark.")?;
    let one_int = IntCounter::new("one_int_total", "Counted by the benchmark.")?;
    let other_int = IntCounter::new("other_int_total", "Counted by the benchmark.")?;
    let options = HistogramOpts::new("seconds", "Observed by the benchmark.");
    let seconds = Histogram::with_opts(options.buckets(pytheus_backend_rs::DEFAULT_BUCKETS.to_vec()))?;
    engines::serve(|round| {
        round.increments("crate prometheus, Counter", || one.inc(), || other.inc());
        round.increments("crate prometheus, IntCounter", || one_int.inc(), || other_int.inc());
        round.observations("crate prometheus, Histogram", || seconds.observe(black_box(0.3)));
    });
    Ok(())
}
