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
use crate::model::sample::Snapshot;

/// An exposition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text. In OpenMetrics it ends with `# EOF`.
    pub text: String,
    /// The media type, for the `Content-Type` header.
    pub content_type: String,
}

/// The snapshot as Prometheus text 0.0.4.
pub fn render_text(snapshot: &Snapshot) -> String {
    snapshot.render(Format::default()).text
}

impl Snapshot {
    /// The snapshot as text of this format.
    pub fn render(&self, format: Format) -> Rendered {
        render(self, &Rendering { format, ..Rendering::default() })
    }
}

/// How a snapshot is rendered.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rendering<'options> {
    pub(crate) format: Format,
    /// Stands in front of the name of each family of the snapshot, with an underscore.
    pub(crate) name_prefix: Option<&'options str>,
    /// How many families were asked for; the snapshot begins with them. `None`: the whole store. The caller then
    /// cannot know positions, and foreign families come last.
    pub(crate) named: Option<usize>,
    /// Families that are rendered between those of the snapshot.
    pub(crate) foreign: &'options [ForeignFamily],
}

/// Renders a snapshot.
pub(crate) fn render(snapshot: &Snapshot, options: &Rendering<'_>) -> Rendered {
    let named = options.named;
    let count = snapshot.families.len();
    let position =
        |family: &ForeignFamily| named.map_or(count, |named| family.position().min(named).min(count));
    let mut foreign: Vec<&ForeignFamily> = options.foreign.iter().collect();
    foreign.sort_by_key(|family| position(family));
    let mut foreign = foreign.into_iter().peekable();

    let format = options.format;
    let mut text = String::new();
    let mut claims = Claims::default();
    for index in 0..=count {
        while let Some(family) = foreign.next_if(|family| position(family) == index) {
            foreign::write_foreign(&mut text, family, format, &mut claims);
        }
        if let Some(family) = snapshot.families.get(index) {
            family::write_family(&mut text, family, format, options.name_prefix, &mut claims);
        }
    }
    if format.is_open_metrics() {
        text.push_str("# EOF\n");
    }
    Rendered { text, content_type: format.content_type() }
}

#[cfg(test)]
mod tests;
