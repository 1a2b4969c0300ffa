//! `serve`: the metrics over HTTP, for Prometheus to scrape.

use clap::{ArgMatches, Command};

use crate::failure::Failure;
use crate::with_common_options;

pub(crate) fn command() -> Command {
    with_common_options(Command::new("serve").about("Serve the metrics over HTTP, for Prometheus to scrape"))
}

pub(crate) fn run(_: &ArgMatches) -> Result<(), Failure> {
    Err(Failure::failed("serve is not there yet"))
}
