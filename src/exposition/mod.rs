//! Renders a snapshot as text for Prometheus: text 0.0.4 and 1.0.0, OpenMetrics 0.0.1 and 1.0.0.
//!
//! The renderer makes one pass over the samples and fills one buffer. It does not depend on stores or on the
//! caller's language. Families and series that would make a scraper reject the whole response are left out
//! and logged once.

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

/// A rendered exposition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text. In OpenMetrics it ends with `# EOF`.
    pub text: String,
    /// The media type, for the `Content-Type` header.
    pub content_type: String,
}

/// Renders the snapshot as Prometheus text 0.0.4.
pub fn render_text(snapshot: &Snapshot) -> String {
    snapshot.render(Format::default()).text
}

impl Snapshot {
    /// Renders the snapshot in this format.
    pub fn render(&self, format: Format) -> Rendered {
        render(self, &Rendering { format, ..Rendering::default() })
    }
}

/// How a snapshot is rendered.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rendering<'options> {
    pub(crate) format: Format,
    /// The prefix of the name of each family of the snapshot; an underscore follows it.
    pub(crate) name_prefix: Option<&'options str>,
    /// The number of families that the caller named; the snapshot begins with them. `None` means the whole
    /// store. The caller cannot know positions then, so foreign families come last.
    pub(crate) named: Option<usize>,
    /// Families that are rendered among those of the snapshot.
    pub(crate) foreign: &'options [ForeignFamily],
}

/// Renders a snapshot and the foreign families.
pub(crate) fn render(snapshot: &Snapshot, options: &Rendering<'_>) -> Rendered {
    let named = options.named;
    let count = snapshot.families.len();
    let position =
        |family: &ForeignFamily| named.map_or(count, |named| family.position().min(named).min(count));
    let mut foreign: Vec<&ForeignFamily> = options.foreign.iter().collect();
    foreign.sort_by_key(|family| position(family));
    let mut foreign = foreign.into_iter().peekable();

    let format = options.format;
    // Growing a text of megabytes would copy it again and again.
    let mut text = String::with_capacity(snapshot.families.iter().map(family::likely_length).sum());
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
