//! The side-car: reads the metrics of a service from another process, without the application.
//!
//! This file parses the command line, and turns failures into sentences and exit codes. Each command has its
//! own file. The commands use only the engine's public interface.

mod activation;
mod check;
mod dump;
mod failure;
mod json;
mod listen;
mod migrate;
mod output;
#[cfg(test)]
mod pages;
mod printable;
mod push;
mod rates;
mod screen;
mod serve;
mod store;
mod table;
mod top;
mod users;
mod web_config;

use std::io::{self, Write};
use std::panic;
use std::process::exit;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

use self::failure::Failure;
use self::printable::one_line;

const NAME: &str = "pytheus-backend-rs";

fn main() {
    // A panic is reported as one sentence, without a backtrace.
    panic::set_hook(Box::new(|panic| {
        screen::restore();
        let _ = writeln!(io::stderr(), "{NAME}: internal error, please report it: {panic}");
    }));
    let result = panic::catch_unwind(run).unwrap_or(Err(Failure::failed("")));
    if let Err(failure) = result {
        failure.tell(&mut io::stderr());
        exit(failure.exit_code());
    }
}

fn run() -> Result<(), Failure> {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return dump::print(&format!("{}\n", error.render().to_string().trim_end())).map(drop);
        }
        Err(error) => return Err(Failure::of_arguments(&error, std::env::args())),
    };
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    log_to_stderr(matches.get_flag("verbose"));
    match name {
        "serve" => serve::run(matches),
        "dump" => dump::run(matches),
        "top" => top::run(matches),
        "migrate" => migrate::run(matches),
        "push" => push::run(matches),
        _ => check::run(matches),
    }
}

fn command() -> Command {
    Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Looks at the metrics of a service from outside: in its shared-memory file, or on its Redis server.")
        .after_help(
            "Exit codes: 0 done, 1 failed (or not sound, for check), 2 not understood.\n\
             Only migrate changes the store; but on Redis a scrape (serve, dump, top, push) renews the expiry of what it reads.",
        )
        .max_term_width(100)
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommand(serve::command())
        .subcommand(dump::command())
        .subcommand(top::command())
        .subcommand(check::command())
        .subcommand(migrate::command())
        .subcommand(push::command())
}

/// Adds the options that all commands share.
fn with_common_options(command: Command) -> Command {
    command.arg(store::argument()).arg(
        Arg::new("verbose")
            .long("verbose")
            .short('v')
            .action(ArgAction::SetTrue)
            .help("Tell more about what happens, on stderr"),
    )
}

fn text<'matches>(matches: &'matches ArgMatches, name: &str) -> Option<&'matches str> {
    matches.get_one::<String>(name).map(String::as_str)
}

/// Prints the engine's log records as lines on stderr.
struct StderrLog;

impl log::Log for StderrLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("pytheus_backend_rs")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_lowercase();
            // A closed stderr must not end the command.
            let _ = writeln!(io::stderr(), "{NAME}: {level}: {}", one_line(&record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

fn log_to_stderr(verbose: bool) {
    // This cannot fail: no other code in this program sets a logger.
    let _ = log::set_logger(&StderrLog);
    log::set_max_level(if verbose { log::LevelFilter::Info } else { log::LevelFilter::Warn });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn an_argument_that_may_hold_a_password_is_not_repeated() {
        for line in [
            &["dump", "redis://:s3cret@h"][..],
            &["dump", "--stor=redis://:s3cret@h"],
            &["top", "--interval", "redis://:s3cret@h"],
            &["top", "--interval=redis://:s3cret@h"],
            &["serve", "--listen", "u:s3cret@h"],
            &["redis://:s3cret@h"],
            &["push", "--job", "j", "--label", "http://:s3cret@h"],
            &["dump", "--format", "s3cret@h"],
        ] {
            let line: Vec<String> = [NAME].iter().chain(line).map(|&argument| argument.to_owned()).collect();
            let error = command().try_get_matches_from(&line).unwrap_err();
            let failure = Failure::of_arguments(&error, line.clone().into_iter());
            let mut told = Vec::new();
            failure.tell(&mut told);
            let told = String::from_utf8(told).unwrap();
            assert!(!told.contains("s3cret"), "{line:?}: {told}");
            assert_eq!(failure.exit_code(), 2);
            assert_eq!(told.lines().count(), 1, "{told}");
            assert!(told.starts_with("pytheus-backend-rs: ") && told.contains("--help"), "{told}");
        }
    }
}
