//! `check`: examines the store and prints one finding per line, then a verdict.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{ArgMatches, Command};
use pytheus_backend_rs::{Report, Writer};
use serde_json::json;

use crate::dump::print;
use crate::failure::Failure;
use crate::json;
use crate::store::{self, Presence};
use crate::with_common_options;

pub(crate) fn command() -> Command {
    with_common_options(
        Command::new("check").about("Say whether the store is sound: read all of it, and name what is wrong"),
    )
    .arg(json::argument("Print an object: sound is true or false; facts, faults and leftovers are lists of sentences; writers is a list of \
         processes"))
    .after_help(
        "A writer is a process that counts in the store, as far as it can be seen: one that this user may see and that \
         has the metrics file open, or that has a gauge of its own; on Redis one that has written and not ended \
         normally. It lives if it has the file open, or if a connection to the server bears its name. Leftovers are of \
         processes that have ended. They do no harm.\n\
         Exit codes: 0 sound, 1 not sound or not reachable, 2 not understood.",
    )
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let report = store::open(matches, Presence::Required)?.check()?;
    let _ = print(&match json::is_wanted(matches) {
        true => json::line(&object(&report)),
        false => lines(&report),
    })?;
    if report.is_sound() { Ok(()) } else { Err(Failure::failed("")) }
}

fn object(report: &Report) -> serde_json::Value {
    json!({
        "sound": report.is_sound(), "facts": report.facts(), "faults": report.faults(),
        "writers": report.writers().iter().map(writer_object).collect::<serde_json::Value>(),
        "leftovers": report.leftovers(),
    })
}

fn writer_object(writer: &Writer) -> serde_json::Value {
    json!({
        "pid": writer.pid, "program": writer.program, "alive": writer.is_alive, "since": writer.since,
        "last_batch": writer.last_batch,
    })
}

/// Returns a writer as a line, with ages in place of times.
fn writer_line(writer: &Writer) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let program = writer.program.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let life = match writer.is_alive {
        Some(true) => ", alive",
        Some(false) => ", not alive",
        None => "",
    };
    let age = |text: &str, time: Option<u64>| {
        time.map(|time| format!(", {text} {} s ago", now.saturating_sub(time))).unwrap_or_default()
    };
    let (since, last) = (age("began", writer.since), age("last batch", writer.last_batch));
    format!("writer: process {}{program}{life}{since}{last}\n", writer.pid)
}

fn lines(report: &Report) -> String {
    let facts = report.facts().iter().map(|fact| format!("{fact}\n"));
    let faults = report.faults().iter().map(|fault| format!("fault: {fault}\n"));
    let writers = report.writers().iter().map(writer_line);
    let leftovers = report.leftovers().iter().map(|leftover| format!("leftover: {leftover}\n"));
    let verdict = match report.faults().len() {
        0 => "sound\n".to_owned(),
        1 => "not sound: 1 fault\n".to_owned(),
        count => format!("not sound: {count} faults\n"),
    };
    facts.chain(writers).chain(leftovers).chain(faults).chain([verdict]).collect()
}
