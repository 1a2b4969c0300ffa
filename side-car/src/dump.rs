//! `dump`: prints the metrics once, as text for Prometheus.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, ValueHint, value_parser};
use pytheus_backend_rs::{Format, TEXT_CONTENT_TYPE};
use wildmatch::WildMatch;

use crate::failure::Failure;
use crate::store::{self, Presence};
use crate::{json, output, printable, text, with_common_options};

pub(crate) fn command() -> Command {
    let format = Arg::new("format")
        .long("format")
        .short('f')
        .value_name("FORMAT")
        .value_parser(["text", "openmetrics"])
        .default_value("text")
        .conflicts_with("json")
        .help("Prometheus text 0.0.4, or OpenMetrics 1.0.0");
    let name = Arg::new("name").long("name").short('n').value_name("PATTERN").value_hint(ValueHint::Other).help(
        "Only metric families with this in their name; with * (any text) or ? (any character) the pattern is for \
         the whole name",
    );
    let output = Arg::new("output")
        .long("output")
        .short('o')
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
        .value_parser(value_parser!(PathBuf))
        .help(
            "Write to this file, which is replaced as a whole and readable by all users; a failure leaves the old one. \
             In the folder of node_exporter's textfile collector its name ends in .prom",
        );
    let about = "Print the metrics once, as text for Prometheus";
    let json = json::argument(
        "Print a list of the metric families: name, type, help and series, each with its labels and values. A number \
         that is not finite is the text NaN, +Inf or -Inf",
    );
    with_common_options(Command::new("dump").about(about)).arg(format).arg(name).arg(json).arg(output)
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let backend = store::open(matches, Presence::Required)?;
    let mut snapshot = backend.collect(None)?;
    if let Some(pattern) = text(matches, "name") {
        snapshot.families.retain(|family| matches_name(pattern, family.definition.name()));
    }
    let accepted = match text(matches, "format") {
        Some("openmetrics") => "application/openmetrics-text; version=1.0.0",
        _ => TEXT_CONTENT_TYPE,
    };
    let text = match json::is_wanted(matches) {
        true => json::line(&json::families(&snapshot)),
        false => snapshot.render(Format::negotiate(Some(accepted))).into_text(),
    };
    match matches.get_one::<PathBuf>("output") {
        Some(path) => output::replace(path, &text),
        None => print(&text).map(drop),
    }
}

/// Writes to stdout. If stdout is a terminal, escapes control characters first. Returns `Break` if the reader
/// has closed the pipe (`| head`), which is not a failure.
pub(crate) fn print(text: &str) -> Result<ControlFlow<()>, Failure> {
    let mut stdout = io::stdout().lock();
    let text = if stdout.is_terminal() { Cow::Owned(printable::lines(text)) } else { Cow::Borrowed(text) };
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(Failure::failed(format!("cannot write to stdout: {error}"))),
    }
}

fn matches_name(pattern: &str, name: &str) -> bool {
    match pattern.contains(['*', '?']) {
        true => WildMatch::new(pattern).matches(name),
        false => name.contains(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_part_of_the_name_or_has_wildcards() {
        for (pattern, name, expected) in [
            ("requests", "http_requests_total", true),
            ("", "m", true),
            ("Requests", "http_requests_total", false),
            ("http_*", "http_requests_total", true),
            ("http_*_total", "http_requests_total", true),
            ("*a*ab", "aaab", true),
            ("*_total", "http_requests_total", true),
            ("*_totals", "http_requests_total", false),
            ("requests*", "http_requests_total", false),
            ("m?", "m", false),
            ("m?", "mé", true),
            ("*", "", true),
        ] {
            assert_eq!(matches_name(pattern, name), expected, "{pattern} {name}");
        }
    }
}
