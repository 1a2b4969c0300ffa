//! Chooses the format by the `Accept` header of a client, and gzip by its `Accept-Encoding` header.
//!
//! As in HTTP (RFC 9110), the most specific range that matches a format decides its quality. Of formats with
//! equal quality, the one that the client names first wins, then the one that comes first in [`OFFERS`].
//! Nothing here fails: invalid elements are ignored.

use super::escaping::Escaping;
use super::format::{Format, Syntax};

/// The supported formats. A client that accepts anything gets the first one.
const OFFERS: [Offer; 5] = [
    Offer { syntax: Syntax::Text0_0_4, kind: "text", subtype: "plain", version: "0.0.4" },
    Offer { syntax: Syntax::Text1_0_0, kind: "text", subtype: "plain", version: "1.0.0" },
    Offer {
        syntax: Syntax::OpenMetrics1_0_0,
        kind: "application",
        subtype: "openmetrics-text",
        version: "1.0.0",
    },
    Offer {
        syntax: Syntax::OpenMetrics0_0_1,
        kind: "application",
        subtype: "openmetrics-text",
        version: "0.0.1",
    },
    Offer { syntax: Syntax::Protobuf, kind: "application", subtype: "vnd.google.protobuf", version: "" },
];

/// A format with its media type.
#[derive(Debug, Clone, Copy)]
struct Offer {
    syntax: Syntax,
    kind: &'static str,
    subtype: &'static str,
    /// Protobuf has the parameters `proto` and `encoding` instead.
    version: &'static str,
}

/// Chooses one of the formats that `is_offered` admits for an `Accept` header.
pub(super) fn format(accept: &str, is_offered: impl Fn(Syntax) -> bool) -> Format {
    let ranges: Vec<Range<'_>> = elements(accept).filter_map(Range::parse).collect();
    let mut best: Option<(f32, usize, Syntax)> = None;
    for offer in OFFERS.into_iter().filter(|offer| is_offered(offer.syntax)) {
        let matching = ranges.iter().enumerate().filter(|(_, range)| range.covers(offer));
        // `min_by_key` returns the first of the most specific ranges.
        let Some((index, range)) = matching.min_by_key(|(_, range)| range.vagueness()) else { continue };
        let is_better = best.is_none_or(|(quality, position, _)| {
            range.quality > quality || (range.quality == quality && index < position)
        });
        if range.quality > 0.0 && is_better {
            best = Some((range.quality, index, offer.syntax));
        }
    }
    let syntax = best.map_or(Syntax::default(), |(_, _, syntax)| syntax);
    let escaping = escaping(&ranges, best.map(|(_, index, _)| index));
    Format {
        syntax,
        escaping: escaping.unwrap_or_default(),
        // A client that accepts text 1.0.0 knows the `escaping` parameter.
        tells_escaping: escaping.is_some() || syntax == Syntax::Text1_0_0,
    }
}

/// Whether an `Accept-Encoding` header allows gzip.
pub fn accepts_gzip(accept_encoding: &str) -> bool {
    let codings = elements(accept_encoding).map(|element| {
        let mut parts = element.split(';').map(str::trim);
        (parts.next().unwrap_or_default(), quality(parts))
    });
    let quality_of = |names: &[&str]| {
        let mut found = codings.clone();
        let is_named = |coding: &str| names.iter().any(|name| coding.eq_ignore_ascii_case(name));
        found.find(|(coding, _)| is_named(coding)).map(|(_, quality)| quality)
    };
    quality_of(&["gzip", "x-gzip"]).or_else(|| quality_of(&["*"])).is_some_and(|quality| quality > 0.0)
}

/// One media range of an `Accept` header.
#[derive(Debug)]
struct Range<'header> {
    kind: &'header str,
    subtype: &'header str,
    version: Option<&'header str>,
    /// Whether the parameters ask for delimited messages of the type MetricFamily. Protobuf has other
    /// encodings, such as its text form.
    is_delimited_families: bool,
    escaping: Option<Escaping>,
    quality: f32,
}

impl<'header> Range<'header> {
    fn parse(element: &'header str) -> Option<Self> {
        let mut parts = element.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let is_range = |text: &str| !text.is_empty() && !text.contains(['/', ' ']);
        if !is_range(kind) || !is_range(subtype) || (kind == "*" && subtype != "*") {
            return None;
        }
        let parameter = |name| parameter(parts.clone(), name);
        Some(Self {
            kind,
            subtype,
            version: parameter("version"),
            is_delimited_families: parameter("proto") == Some("io.prometheus.client.MetricFamily")
                && parameter("encoding") == Some("delimited"),
            escaping: parameter("escaping").and_then(Escaping::from_name),
            quality: quality(parts.clone()),
        })
    }

    fn covers(&self, offer: Offer) -> bool {
        let Offer { syntax, kind, subtype, version } = offer;
        let matches = |range: &str, value: &str| range == "*" || range.eq_ignore_ascii_case(value);
        if !matches(self.kind, kind) || !matches(self.subtype, subtype) {
            return false;
        }
        if syntax == Syntax::Protobuf && self.subtype != "*" {
            return self.is_delimited_families;
        }
        // A range without a version means the oldest one (0.0.4, or 0.0.1 for OpenMetrics). A range with an
        // unsupported version matches nothing.
        match self.version {
            Some(wanted) => wanted == version,
            None if self.subtype == "*" => true,
            None => version == "0.0.4" || version == "0.0.1",
        }
    }

    fn vagueness(&self) -> usize {
        usize::from(self.kind == "*") + usize::from(self.subtype == "*")
    }
}

/// Returns the escaping of the chosen range. If that range has none, returns the escaping of the range that
/// the client likes best: a client that names a scheme can read it in every format.
fn escaping(ranges: &[Range<'_>], chosen: Option<usize>) -> Option<Escaping> {
    let chosen = &ranges[chosen?];
    let preferred = ranges.iter().filter(|range| range.quality >= chosen.quality);
    let best = preferred.filter(|range| range.escaping.is_some());
    let best = best.min_by(|one, other| other.quality.total_cmp(&one.quality));
    chosen.escaping.or_else(|| best.and_then(|range| range.escaping))
}

/// Splits a list header into its elements.
fn elements(header: &str) -> impl Iterator<Item = &str> + Clone {
    header.split(',').map(str::trim).filter(|element| !element.is_empty())
}

/// Returns the value of `q`. A missing one means 1. An invalid one means 0, so the range is not used.
fn quality<'header>(parameters: impl Iterator<Item = &'header str>) -> f32 {
    match parameter(parameters, "q") {
        None => 1.0,
        Some(text) => text.parse().ok().filter(|quality| (0.0..=1.0).contains(quality)).unwrap_or(0.0),
    }
}

/// Returns the parameter of this name, without quotes.
fn parameter<'header>(parameters: impl Iterator<Item = &'header str>, name: &str) -> Option<&'header str> {
    let mut pairs = parameters.filter_map(|parameter| parameter.split_once('='));
    let (_, value) = pairs.find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
    Some(value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    const OPEN_METRICS_0_0_1: &str = "application/openmetrics-text; version=0.0.1; charset=utf-8";
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    const TEXT_1_0_0: &str = "text/plain; version=1.0.0; charset=utf-8";

    const PROTOBUF: &str =
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

    #[test]
    fn a_client_gets_what_it_likes_best() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,\
            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let protobuf_first = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
            encoding=delimited;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let firefox = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        let prometheus_2_with_protobuf = "application/vnd.google.protobuf;\
            proto=io.prometheus.client.MetricFamily;encoding=delimited,\
            application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,\
            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let cases = [
            ("", TEXT, ""),
            ("*/*", TEXT, ""),
            ("text/*", TEXT, ""),
            ("application/*", OPEN_METRICS, ""),
            (firefox, TEXT, ""),
            (prometheus_2, OPEN_METRICS, ""),
            (prometheus_3, OPEN_METRICS, "; escaping=allow-utf-8"),
            (protobuf_first, PROTOBUF, "; escaping=allow-utf-8"),
            (prometheus_2_with_protobuf, PROTOBUF, ""),
            ("application/json", TEXT, ""),
            ("application/openmetrics-text", OPEN_METRICS_0_0_1, ""),
            ("application/openmetrics-text; version=0.0.1", OPEN_METRICS_0_0_1, ""),
            ("application/openmetrics-text; version=\"1.0.0\"", OPEN_METRICS, ""),
            ("APPLICATION/OpenMetrics-Text;VERSION=1.0.0", OPEN_METRICS, ""),
            ("application/openmetrics-text; version=2.0.0", TEXT, ""),
            (
                "application/openmetrics-text; version=2.0.0, application/openmetrics-text; version=1.0.0",
                OPEN_METRICS,
                "",
            ),
            ("text/plain", TEXT, ""),
            ("text/plain; version=0.0.4; charset=utf-8", TEXT, ""),
            ("text/plain; version=0.0.3", TEXT, ""),
            ("text/plain; version=1.0.0", TEXT_1_0_0, "; escaping=underscores"),
            ("text/plain; version=1.0.0; escaping=allow-utf-8", TEXT_1_0_0, "; escaping=allow-utf-8"),
            ("text/plain; version=0.0.4; escaping=dots", TEXT, "; escaping=dots"),
            ("text/plain; escaping=values", TEXT, "; escaping=values"),
            ("*/*; escaping=values", TEXT, "; escaping=values"),
            ("text/plain; version=0.0.4; escaping=odd", TEXT, ""),
            ("application/vnd.google.protobuf", TEXT, ""),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
                TEXT,
                "",
            ),
            ("application/vnd.google.protobuf;proto=other;encoding=delimited", TEXT, ""),
            (
                "application/vnd.google.protobuf;proto=\"io.prometheus.client.MetricFamily\";encoding=delimited;q=0.1",
                PROTOBUF,
                "",
            ),
            // Quality decides first.
            (
                &format!("{protobuf_first},text/plain;version=1.0.0;q=0.7"),
                TEXT_1_0_0,
                "; escaping=underscores",
            ),
            ("text/plain;q=0.5, application/openmetrics-text;version=1.0.0;q=0.4", TEXT, ""),
            ("text/plain;q=0.4, application/openmetrics-text;version=1.0.0;q=0.5", OPEN_METRICS, ""),
            ("application/openmetrics-text;version=1.0.0, text/plain", OPEN_METRICS, ""),
            ("text/plain, application/openmetrics-text;version=1.0.0", TEXT, ""),
            ("*/*;q=0.1, application/openmetrics-text;version=1.0.0;q=0.5", OPEN_METRICS, ""),
            (
                "text/*;q=0.9, text/plain;q=0.1, application/openmetrics-text;version=1.0.0;q=0.5",
                TEXT_1_0_0,
                "; escaping=underscores",
            ),
            ("text/plain;version=0.0.4;q=0, */*", TEXT_1_0_0, "; escaping=underscores"),
            ("text/*;q=0, */*", OPEN_METRICS, ""),
            ("application/openmetrics-text;version=1.0.0;q=0", TEXT, ""),
            ("application/openmetrics-text;version=1.0.0;q=odd, text/plain;q=0.1", TEXT, ""),
            ("text/plain;q=2, application/openmetrics-text;version=1.0.0;q=0.1", OPEN_METRICS, ""),
            // Invalid elements are ignored.
            (",,;;q=1,/,text,*/plain,text/plain/x, / ,;=;", TEXT, ""),
            ("application/openmetrics-text;version", OPEN_METRICS_0_0_1, ""),
            ("é/ö;version=\u{1F600}", TEXT, ""),
        ];
        for (accept, expected, escaping) in cases {
            let got = Format::negotiate(Some(accept)).content_type();
            assert_eq!(got, format!("{expected}{escaping}"), "{accept}");
        }
        assert_eq!(Format::negotiate(None).content_type(), TEXT);
        for (accept, expected) in
            [(protobuf_first, TEXT), (prometheus_2_with_protobuf, OPEN_METRICS), (prometheus_2, OPEN_METRICS)]
        {
            let got = Format::negotiate_text(Some(accept)).content_type();
            assert!(got.starts_with(expected), "{accept}: {got}");
        }
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for good in
            ["gzip", "GZIP", "x-gzip", "deflate, gzip;q=0.5", "*", "gzip;q=1.0, identity;q=0", "*;q=0.1"]
        {
            assert!(accepts_gzip(good), "{good}");
        }
        for bad in
            ["", "identity", "gzip;q=0", "gzip; q=0.000", "*;q=0", "gzip;q=0, *", "gzipped", "gzip;q=x"]
        {
            assert!(!accepts_gzip(bad), "{bad}");
        }
    }
}
