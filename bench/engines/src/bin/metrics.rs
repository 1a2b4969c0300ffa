//! The crate `metrics` with its exporter for Prometheus.
//!
//! The exporter keeps each observation until a scrape or a call of its upkeep. Upkeep runs between the rounds here, so
//! its cost is not in the figures.

use std::hint::black_box;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder};

fn main() -> Result<(), BuildError> {
    let recorder =
        PrometheusBuilder::new().set_buckets(&pytheus_backend_rs::DEFAULT_BUCKETS)?.build_recorder();
    let handle = recorder.handle();
    let (one, other, seconds) = metrics::with_local_recorder(&recorder, || {
        (metrics::counter!("one_total"), metrics::counter!("other_total"), metrics::histogram!("seconds"))
    });
    engines::serve(|round| {
        round.increments("crate metrics, Counter", || one.increment(1), || other.increment(1));
        round.observations("crate metrics, Histogram", || seconds.record(black_box(0.3)));
        handle.run_upkeep();
    });
    Ok(())
}
