//! `migrate`: converts values that an older version stored in another layout, and prints one finding per
//! line.

use clap::{ArgMatches, Command};

use crate::dump::print;
use crate::failure::Failure;
use crate::store::{self, Presence};
use crate::with_common_options;

pub(crate) fn command() -> Command {
    with_common_options(Command::new("migrate").about(
        "Move histograms and summaries of pytheus-backend-rs 0.0.9, and of pytheus' own Redis backend, to this layout",
    ))
    .after_help(
        "Start the new version of the program first, because it declares the metrics. The command may be repeated, and \
         run while old programs still count: run it once more when they have ended.\n\
         Exit codes: 0 done, 1 something was left or the server is not reachable, 2 not understood.",
    )
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let report = store::open(matches, Presence::Required)?.migrate()?;
    let facts = report.facts().iter().map(|fact| format!("{fact}\n"));
    let faults = report.faults().iter().map(|fault| format!("left: {fault}\n"));
    let _ = print(&facts.chain(faults).collect::<String>())?;
    if report.is_sound() { Ok(()) } else { Err(Failure::failed("")) }
}
