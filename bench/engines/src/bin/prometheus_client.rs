//! The crate `prometheus-client`, of the OpenMetrics project: counters of u64 and of f64.

use std::hint::black_box;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

fn main() {
    let [one, other] = [(); 2].map(|()| Counter::<u64, AtomicU64>::default());
    let [one_float, other_float] = [(); 2].map(|()| Counter::<f64, AtomicU64>::default());
    let seconds = Histogram::new(pytheus_backend_rs::DEFAULT_BUCKETS);
    engines::serve(|round| {
        round.increments("crate prometheus-client, Counter<u64>", || _ = one.inc(), || _ = other.inc());
        round.increments(
            "crate prometheus-client, Counter<f64>",
            || _ = one_float.inc(),
            || _ = other_float.inc(),
        );
        round.observations("crate prometheus-client, Histogram", || seconds.observe(black_box(0.3)));
    });
}
