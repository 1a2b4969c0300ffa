//! The options for rendering a backend.

use super::metric_family::MetricFamily;
use crate::exposition::{ForeignFamily, Format, NameFilter};

/// The options of [`Backend::render`](crate::Backend::render). The default is all families of the store, as
/// text 0.0.4.
#[derive(Debug, Clone, Copy, Default)]
pub struct RenderOptions<'options> {
    /// The format; see [`Format::negotiate`].
    pub format: Format,
    /// The prefix of the name of each family; an underscore follows it.
    pub name_prefix: Option<&'options str>,
    /// The families to render, in this order, or `None` for all families of the store.
    pub families: Option<&'options [MetricFamily]>,
    /// The further families that are rendered if `families` is given.
    pub others: Others,
    /// Whether OpenMetrics has a sample `_created` of each counter, summary and histogram whose store knows when the
    /// series began. Prometheus stores these samples as series of their own.
    pub created_samples: bool,
    /// Families whose samples come from the caller. `name_prefix` does not apply to them.
    pub foreign: &'options [ForeignFamily],
    /// Of all these families, only those that the client asks for, or `None` for all: see
    /// [`NameFilter::from_query`].
    pub names: Option<&'options NameFilter>,
}

/// The families that are rendered in addition to [`RenderOptions::families`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Others {
    /// No others.
    #[default]
    None,
    /// The families of the store that this process has not declared, after the given ones. Other processes
    /// have declared them.
    Append,
}
