//! The manual pages in `man/` and the shell completions in `completions/`, which this file derives from the command
//! line.
//!
//! They are checked in, so that an installation needs no second build. The test fails if a file differs from what
//! the command line says; with `UPDATE_PAGES=1`, as `make pages` runs it, the test writes the files instead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::{NAME, command};

/// When the commands last changed. The pages show it.
const DATE: &str = "2026-11-28";

/// What clap cannot know: the variable that names the store, and where a reader finds more.
const ENVIRONMENT: &str = "\
.SH ENVIRONMENT\n\
.TP\n\
\\fBPYTHEUS_BACKEND_RS_STORE\\fR\n\
The URL of the store, or several with spaces between them, if there is no \\fB\\-\\-store\\fR. A URL with a \
password belongs here, because other users of the machine can read the arguments of a command.\n";

/// Returns the text of each generated file by its path in the crate.
fn pages() -> BTreeMap<PathBuf, String> {
    let mut command = command();
    command.build();
    let names: Vec<String> = command.get_subcommands().map(page_name).collect();
    let mut pages = BTreeMap::new();
    for subcommand in command.get_subcommands() {
        pages.insert(
            format!("man/{}.1", page_name(subcommand)).into(),
            manual_page(subcommand, &[NAME.to_owned()]),
        );
    }
    pages.insert(format!("man/{NAME}.1").into(), manual_page(&command, &names));
    for (shell, file) in [
        (Shell::Bash, format!("{NAME}.bash")),
        (Shell::Zsh, format!("_{NAME}")),
        (Shell::Fish, format!("{NAME}.fish")),
    ] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut super::command(), NAME, &mut text);
        pages.insert(Path::new("completions").join(file), without_trailing_spaces(text));
    }
    pages
}

/// The page of `serve` is `pytheus-backend-rs-serve`.
fn page_name(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

fn manual_page(command: &Command, see_also: &[String]) -> String {
    let name = page_name(command);
    let title = format!(
        ".TH \"{}\" \"1\" \"{DATE}\" \"{NAME} {}\" \"User Commands\"",
        name.to_uppercase(),
        env!("CARGO_PKG_VERSION")
    );
    let mut text = Vec::new();
    Man::new(command.clone()).render(&mut text).unwrap();
    let page: String = without_trailing_spaces(text)
        .lines()
        // clap_mangen leaves the date out, and a reader then takes the version for it.
        .map(|line| if line.starts_with(".TH ") { format!("{title}\n") } else { format!("{line}\n") })
        .collect();
    let see_also: Vec<String> =
        see_also.iter().map(|name| format!(".BR {} (1)", name.replace('-', "\\-"))).collect();
    page.replace(".SH EXTRA\n", ".SH NOTES\n").replace(".br\n\n.br\n", ".sp\n")
        + ENVIRONMENT
        + ".SH \"SEE ALSO\"\n"
        + &see_also.join(" ,\n")
        + "\n"
}

fn without_trailing_spaces(text: Vec<u8>) -> String {
    let text = String::from_utf8(text).unwrap();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn the_checked_in_pages_and_completions_are_those_of_the_command_line() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, text) in pages() {
        let path = folder.join(path);
        if env::var_os("UPDATE_PAGES").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        } else {
            let found = fs::read_to_string(&path).unwrap_or_default();
            assert!(found == text, "{} is not what the command line says: run `make pages`", path.display());
        }
    }
}

#[test]
fn no_page_of_a_command_that_is_gone_is_left() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let expected: Vec<PathBuf> = pages().into_keys().map(|path| folder.join(path)).collect();
    for kind in ["man", "completions"] {
        for file in fs::read_dir(folder.join(kind)).unwrap() {
            let path = file.unwrap().path();
            assert!(expected.contains(&path), "{} is of no command: remove it", path.display());
        }
    }
}
