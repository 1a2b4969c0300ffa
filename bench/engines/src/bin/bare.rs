//! The floor, from Rust: an atomic addition, and the compare-and-swap loop that adding to an `f64` takes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Each on a cache line of its own.
#[repr(align(128))]
struct Cell(AtomicU64);

fn main() {
    let [one, other] = [const { Cell(AtomicU64::new(0)) }; 2];
    engines::serve(|round| {
        round.increments(
            "bare fetch_add on u64 (Rust)",
            || _ = one.0.fetch_add(1, Relaxed),
            || _ = other.0.fetch_add(1, Relaxed),
        );
        round.increments("bare CAS loop on f64 (Rust)", || add(&one.0, 1.0), || add(&other.0, 1.0));
    });
}

fn add(cell: &AtomicU64, amount: f64) {
    let mut current = cell.load(Relaxed);
    while let Err(seen) =
        cell.compare_exchange_weak(current, (f64::from_bits(current) + amount).to_bits(), Relaxed, Relaxed)
    {
        current = seen;
    }
}
