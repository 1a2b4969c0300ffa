//! What a program asks for when it has a backend rendered.

use super::metric_family::MetricFamily;
use crate::exposition::{ForeignFamily, Format};

/// What [`Backend::render`](crate::Backend::render) renders, and how. The default: all families of the store, as
/// text 0.0.4.
#[derive(Debug, Clone, Copy, Default)]
pub struct RenderOptions<'options> {
    /// The format; see [`Format::negotiate`].
    pub format: Format,
    /// Stands in front of the name of each family, with an underscore.
    pub name_prefix: Option<&'options str>,
    /// These families in their order, or all of the store.
    pub families: Option<&'options [MetricFamily]>,
    /// What else is rendered if `families` are given.
    pub others: Others,
    /// Families whose samples come from the caller. `name_prefix` does not apply to them.
    pub foreign: &'options [ForeignFamily],
}

/// Which families are shown besides those that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Others {
    /// None.
    #[default]
    None,
    /// After them, the families of the store that this process has not declared: other processes have.
    Append,
}
