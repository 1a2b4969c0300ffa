//! A metrics engine behind a stable C ABI.
//!
//! Programs in any language count with it (counters, gauges, histograms, summaries, with labels); it
//! keeps the values where all processes of a service can share them; and it renders them as
//! Prometheus text when somebody scrapes.
//!
//! ```
//! use pytheus_backend_rs::{Backend, Definition, Lifetime, MetricType};
//!
//! let backend = Backend::open("memory:")?;
//! let definition = Definition::new("http_requests_total", "Requests.", MetricType::Counter, &["method"], &[])?;
//! let requests = backend.declare(definition, &["method"], Lifetime::Backend)?;
//! requests.metric(&["GET"])?.inc(1.0).unwrap();
//! assert!(backend.collect_text()?.ends_with("\nhttp_requests_total{method=\"GET\"} 1\n"));
//! # Ok::<(), pytheus_backend_rs::Error>(())
//! ```
//!
//! # The map
//!
//! The path of an increment: `metric` → `cell` (values in memory) or `pending` (values on their way to a
//! server, on the words of `atomic`). The path of a scrape: `exporter` → `backend` → `store` → `sample` →
//! `exposition`. What is counted: `family`, `name`, `labels`, `number`, in the `table` of a backend. What the engine
//! tells about itself and its store: `statistics`, `report`, `logging`. What happens at a fork and at the end: `fork`,
//! `exit`. The C boundary: [`ffi`]. Unsafe code is there, in `fork`, `exit` and `thread`, in the mapped segments of
//! the shared-memory store, and where a fork closes descriptors. The side-car is a program of its own, in
//! `src/bin/pytheus-backend-rs`.

mod backend;
mod cell;
mod exporter;
mod exposition;
pub mod ffi;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod metric;
mod model;
mod process;
mod store;

pub use backend::{Backend, MetricFamily, Others, RenderOptions};
pub use exporter::{Exporter, ExporterOptions};
pub use exposition::{
    Escaping, ForeignFamily, Format, Rendered, TEXT_CONTENT_TYPE, accepts_gzip, render_text,
};
pub use metric::family::Lifetime;
pub use metric::{Metric, Refusal};
pub use model::definition::{DEFAULT_BUCKETS, Definition};
pub use model::error::{Error, ErrorKind, Result};
pub use model::labels::Labels;
pub use model::metric_type::MetricType;
pub use model::name::NameRule;
pub use model::report::Report;
pub use model::sample::{FamilySamples, Series, Snapshot};
pub use model::statistics::Statistics;
