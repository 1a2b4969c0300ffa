//! The exposition formats and their media types.

use super::escaping::Escaping;
use super::negotiation;

/// The media type of text 0.0.4.
pub const TEXT_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const PROTOBUF_CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// A format, and how names are escaped in it. The default is text 0.0.4, which every scraper understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Format {
    pub(super) syntax: Syntax,
    pub(super) escaping: Escaping,
    /// Whether the content type states the escaping, for clients that know of it.
    pub(super) tells_escaping: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Syntax {
    #[default]
    Text0_0_4,
    Text1_0_0,
    OpenMetrics0_0_1,
    OpenMetrics1_0_0,
    Protobuf,
}

impl Format {
    /// Chooses the format for an `Accept` header. A missing, invalid or unsatisfiable header means text
    /// 0.0.4, because a readable scrape is better than an error.
    pub fn negotiate(accept: Option<&str>) -> Self {
        accept.map(|accept| negotiation::format(accept, |_| true)).unwrap_or_default()
    }

    /// Chooses like [`negotiate`](Self::negotiate), but never protobuf: for callers that need text.
    pub fn negotiate_text(accept: Option<&str>) -> Self {
        let is_text = |syntax| syntax != Syntax::Protobuf;
        accept.map(|accept| negotiation::format(accept, is_text)).unwrap_or_default()
    }

    /// Returns the `Content-Type` of a body in this format.
    pub fn content_type(self) -> String {
        let mut content_type = match self.syntax {
            Syntax::Text0_0_4 => TEXT_CONTENT_TYPE,
            Syntax::Text1_0_0 => "text/plain; version=1.0.0; charset=utf-8",
            Syntax::OpenMetrics0_0_1 => "application/openmetrics-text; version=0.0.1; charset=utf-8",
            Syntax::OpenMetrics1_0_0 => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Syntax::Protobuf => PROTOBUF_CONTENT_TYPE,
        }
        .to_owned();
        if self.tells_escaping {
            content_type += "; escaping=";
            content_type += self.escaping.name();
        }
        content_type
    }

    /// Whether the format is OpenMetrics, whose text ends with `# EOF`.
    pub fn is_open_metrics(self) -> bool {
        matches!(self.syntax, Syntax::OpenMetrics0_0_1 | Syntax::OpenMetrics1_0_0)
    }

    /// Whether the format is protobuf, whose body is not text.
    pub fn is_protobuf(self) -> bool {
        self.syntax == Syntax::Protobuf
    }

    /// Returns how names outside `[a-zA-Z_:][a-zA-Z0-9_:]*` are written.
    pub fn escaping(self) -> Escaping {
        self.escaping
    }
}
