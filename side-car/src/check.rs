//! `check`: examines the store and prints one finding per line, then a verdict.

use clap::{ArgMatches, Command};
use pytheus_backend_rs::Report;

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
    .arg(json::argument("Print an object: sound is true or false, facts and faults are lists of sentences"))
    .after_help("Exit codes: 0 sound, 1 not sound or not reachable, 2 not understood.")
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
    json!({ "sound": report.is_sound(), "facts": report.facts(), "faults": report.faults() })
}

fn lines(report: &Report) -> String {
    let facts = report.facts().iter().map(|fact| format!("{fact}\n"));
    let faults = report.faults().iter().map(|fault| format!("fault: {fault}\n"));
    let verdict = match report.faults().len() {
        0 => "sound\n".to_owned(),
        1 => "not sound: 1 fault\n".to_owned(),
        count => format!("not sound: {count} faults\n"),
    };
    facts.chain(faults).chain([verdict]).collect()
}
