//! Counts orders of a shop in memory, and prints what Prometheus would scrape.
//!
//! `cargo run --example memory`, or with a store URL to keep the values elsewhere:
//! `cargo run --example memory -- redis://127.0.0.1:6379`.

use std::env;
use std::error::Error;

use pytheus_backend_rs::{Backend, Definition, Lifetime, MetricType};

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).unwrap_or_else(|| "memory:".to_owned());
    let backend = Backend::open(&url)?;

    let orders = Definition::new(
        "shop_orders_total",
        "Orders, by the way they were paid.",
        MetricType::Counter,
        &["payment"],
        &[],
    )?;
    let orders = backend.declare(orders, &["payment"], Lifetime::Backend)?;
    let seconds = Definition::new(
        "shop_order_seconds",
        "How long an order took.",
        MetricType::Histogram,
        &[],
        &[0.1, 0.5, 2.0],
    )?;
    let seconds = backend.declare(seconds, &[], Lifetime::Backend)?;

    // Ask a family once for each metric and keep the handle: counting with it looks nothing up.
    let (by_card, by_cash) = (orders.metric(&["card"])?, orders.metric(&["cash"])?);
    let duration = seconds.metric(&[])?;

    for (number, took) in [0.25, 0.0625, 3.0, 0.5].into_iter().enumerate() {
        let metric = if number < 3 { &by_card } else { &by_cash };
        // A counter refuses negative amounts, and nothing else.
        metric.inc(1.0)?;
        duration.observe(took)?;
    }

    print!("{}", backend.collect_text()?);
    Ok(())
}
