//! Renders a snapshot as text for Prometheus: text 0.0.4 and 1.0.0, OpenMetrics 0.0.1 and 1.0.0.
//!
//! One pass over the samples, one output buffer. It knows nothing of stores or languages, and never writes
//! what a parser would refuse: what would spoil a scrape is left out, and reported once.

mod claims;
mod escaping;
mod family;
mod foreign;
mod format;
mod negotiation;

use self::claims::Claims;
pub use self::escaping::Escaping;
pub use self::foreign::ForeignFamily;
pub use self::format::{Format, TEXT_CONTENT_TYPE};
pub use self::negotiation::accepts_gzip;
use crate::family::MetricFamily;
use crate::model::sample::Snapshot;

/// What [`Backend::render`](crate::Backend::render) renders, and how. The default: all families of the
/// store, as text 0.0.4.
#[derive(Debug, Clone, Copy, Default)]
pub struct RenderOptions<'options> {
    /// The format; see [`Format::negotiate`].
    pub format: Format,
    /// Stands in front of each family's name, with an underscore.
    pub name_prefix: Option<&'options str>,
    /// These families in their order, or all of the store.
    pub families: Option<&'options [MetricFamily]>,
    /// What else, if `families` are named.
    pub others: Others,
    /// Families whose samples come from the caller. `name_prefix` does not concern them.
    pub foreign: &'options [ForeignFamily],
}

/// Which families are shown besides those that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Others {
    /// None.
    #[default]
    None,
    /// Behind them, those of the store that this process has not declared: other processes have.
    Append,
}

/// An exposition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text. In OpenMetrics it ends with `# EOF`.
    pub text: String,
    /// The media type, for the `Content-Type` header.
    pub content_type: String,
    /// Where the text of each family that was asked for ends, in bytes. What follows the last are the others,
    /// and `# EOF`.
    pub family_ends: Vec<usize>,
}

/// The snapshot as Prometheus text 0.0.4.
pub fn render_text(snapshot: &Snapshot) -> String {
    snapshot.render(Format::default()).text
}

impl Snapshot {
    /// The snapshot as text of this format.
    pub fn render(&self, format: Format) -> Rendered {
        render(self, None, &RenderOptions { format, ..RenderOptions::default() })
    }
}

/// Renders a snapshot, and the foreign families of `options` between its families.
///
/// `named` is the number of families that were asked for, with which the snapshot begins. `None` stands for
/// the whole store: then the caller cannot know positions, and foreign families come last.
pub(crate) fn render(snapshot: &Snapshot, named: Option<usize>, options: &RenderOptions<'_>) -> Rendered {
    let count = snapshot.families.len();
    let position =
        |family: &ForeignFamily| named.map_or(count, |named| family.position().min(named).min(count));
    let mut foreign: Vec<&ForeignFamily> = options.foreign.iter().collect();
    foreign.sort_by_key(|family| position(family));
    let mut foreign = foreign.into_iter().peekable();

    let format = options.format;
    let mut text = String::new();
    let mut claims = Claims::default();
    let mut family_ends = Vec::new();
    for index in 0..=count {
        while let Some(family) = foreign.next_if(|family| position(family) == index) {
            foreign::write_foreign(&mut text, family, format, &mut claims);
        }
        if let Some(family) = snapshot.families.get(index) {
            family::write_family(&mut text, family, format, options.name_prefix, &mut claims);
        }
        if named.is_some_and(|named| index < named) {
            family_ends.push(text.len());
        }
    }
    if format.is_open_metrics() {
        text.push_str("# EOF\n");
    }
    Rendered { text, content_type: format.content_type(), family_ends }
}

#[cfg(test)]
mod tests;
