//! Renders a snapshot for Prometheus: as text 0.0.4 and 1.0.0, OpenMetrics 0.0.1 and 1.0.0, and protobuf.
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
mod protobuf;
mod selection;
mod wire;

use self::claims::Claims;
pub use self::escaping::Escaping;
use self::family::{FamilyWriter, full_name};
pub use self::foreign::ForeignFamily;
pub use self::format::{Format, TEXT_CONTENT_TYPE};
pub use self::negotiation::accepts_gzip;
pub use self::selection::NameFilter;
pub(crate) use self::selection::Selection;
use crate::model::sample::{FamilySamples, Snapshot};

/// A rendered exposition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The body of the response: UTF-8 text, or messages of protobuf. OpenMetrics ends with `# EOF`.
    pub body: Vec<u8>,
    /// The media type, for the `Content-Type` header.
    pub content_type: String,
}

impl Rendered {
    /// Returns the body of a text format. In the body of protobuf, which is not text, U+FFFD replaces what is
    /// not UTF-8.
    pub fn into_text(self) -> String {
        String::from_utf8(self.body)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

/// Renders the snapshot as Prometheus text 0.0.4.
pub fn render_text(snapshot: &Snapshot) -> String {
    snapshot.render(Format::default()).into_text()
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
    /// Whether OpenMetrics has a sample `_created` of each series whose store knows when it began.
    pub(crate) created_samples: bool,
    /// The prefix of the name of each family of the snapshot; an underscore follows it.
    pub(crate) name_prefix: Option<&'options str>,
    /// The number of families that the caller named; the snapshot begins with them. `None` means the whole
    /// store. The caller cannot know positions then, so foreign families come last.
    pub(crate) named: Option<usize>,
    /// Families that are rendered among those of the snapshot.
    pub(crate) foreign: &'options [ForeignFamily],
}

/// A family of an exposition.
enum Shown<'family> {
    Stored(&'family FamilySamples),
    Foreign(&'family ForeignFamily),
}

/// Renders a snapshot and the foreign families.
pub(crate) fn render(snapshot: &Snapshot, options: &Rendering<'_>) -> Rendered {
    let format = options.format;
    let mut claims = Claims::default();
    let families = in_order(snapshot, options);
    let admitted = families.into_iter().filter_map(|family| {
        let (definition, name_prefix) = match &family {
            Shown::Stored(family) => (&family.definition, options.name_prefix),
            Shown::Foreign(family) => (family.definition(), None),
        };
        let name = full_name(definition, name_prefix);
        let writer = FamilyWriter::new(definition, &name, format, options.created_samples);
        writer.is_admitted(&mut claims).then_some((family, writer))
    });
    // Growing a body of megabytes would copy it again and again. Protobuf is shorter than text.
    let likely_length = snapshot.families.iter().map(family::likely_length).sum();
    let body = match format.is_protobuf() {
        true => {
            let mut body = Vec::with_capacity(likely_length);
            for (family, writer) in admitted {
                match family {
                    Shown::Stored(family) => protobuf::write_family(&mut body, family, &writer),
                    Shown::Foreign(family) => protobuf::write_foreign(&mut body, family, format, &writer),
                }
            }
            body
        }
        false => {
            let mut text = String::with_capacity(likely_length);
            for (family, writer) in admitted {
                match family {
                    Shown::Stored(family) => writer.write(&mut text, family),
                    Shown::Foreign(family) => foreign::write_foreign(&mut text, family, format, &writer),
                }
            }
            if format.is_open_metrics() {
                text.push_str("# EOF\n");
            }
            text.into_bytes()
        }
    };
    Rendered { body, content_type: format.content_type() }
}

/// Returns the families in the order of the exposition: each foreign family stands at its position.
fn in_order<'family>(snapshot: &'family Snapshot, options: &Rendering<'family>) -> Vec<Shown<'family>> {
    let named = options.named;
    let count = snapshot.families.len();
    let position =
        |family: &ForeignFamily| named.map_or(count, |named| family.position().min(named).min(count));
    let mut foreign: Vec<&ForeignFamily> = options.foreign.iter().collect();
    foreign.sort_by_key(|family| position(family));
    let mut foreign = foreign.into_iter().peekable();
    let mut all = Vec::with_capacity(count + options.foreign.len());
    for index in 0..=count {
        while let Some(family) = foreign.next_if(|family| position(family) == index) {
            all.push(Shown::Foreign(family));
        }
        all.extend(snapshot.families.get(index).map(Shown::Stored));
    }
    all
}

#[cfg(test)]
mod tests;
