//! A metrics engine behind a stable C ABI.
//!
//! Programs in any language count with it (counters, gauges, histograms, summaries, with labels). It keeps
//! the values where all processes of a service can share them, and renders them as text for Prometheus.
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
//! # The path of an increment
//!
//! [`Metric::inc`] checks the type, and changes the metric's [`cell::Cells`] with [`add`](cell::Cells::add):
//!
//! - in memory, a [`CounterCell`](cell::counter::CounterCell) or a [`ValueCell`](cell::value::ValueCell);
//! - in shared memory, [`SharedCells`](cell::shared::SharedCells) of a mapped [`Segment`](cell::segment::Segment);
//! - with a server, [`PendingCells`](cell::pending::PendingCells), whose
//!   [`mark_dirty`](cell::pending::PendingCells::mark_dirty) queues the metric for the thread of its
//!   [`Store`](store::Store).
//!
//! `ARCHITECTURE.md` describes the rest: the layers, the paths of a batch and of a scrape, the threads and
//! the locks.

// The links above lead to private modules, because that section is for readers of the source.
#![allow(rustdoc::private_intra_doc_links)]

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

/// Runs the example of the page for Rust programs.
#[cfg(doctest)]
#[doc = include_str!("../docs/rust.md")]
mod rust_page {}

pub use backend::{Backend, MetricFamily, Others, RenderOptions, process_families};
pub use exporter::{
    ClientCertificates, Exporter, ExporterOptions, ExporterTls, Guard, Listener, TlsVersions,
};
pub use exposition::{
    Escaping, ForeignFamily, Format, NameFilter, Rendered, TEXT_CONTENT_TYPE, accepts_gzip, render_text,
};
pub use metric::family::Lifetime;
pub use metric::{Metric, Refusal};
pub use model::definition::{DEFAULT_BUCKETS, Definition};
pub use model::error::{Error, ErrorKind, Result};
pub use model::exemplar::Exemplar;
pub use model::gauge_mode::GaugeMode;
pub use model::labels::Labels;
pub use model::metric_type::MetricType;
pub use model::name::NameRule;
pub use model::native::{Native, NativeHistogram, ZERO_THRESHOLD};
pub use model::report::{Report, Writer};
pub use model::sample::{FamilySamples, Series, Snapshot};
pub use model::statistics::Statistics;
