//! Why a command ended: a sentence for stderr, and an exit code.
//!
//! Every error of the side-car comes through here. No sentence holds a password.

use std::io::Write;

use pytheus_backend_rs::{Error, ErrorKind};

use crate::printable::one_line;

/// An end that was not wanted.
#[derive(Debug)]
pub(crate) struct Failure {
    sentence: String,
    exit_code: i32,
}

impl Failure {
    /// What was asked for could not be done. An empty sentence: it was said already.
    pub(crate) fn failed(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), exit_code: 1 }
    }

    /// What was asked for makes no sense.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), exit_code: 2 }
    }

    /// Arguments that were not understood.
    pub(crate) fn of_arguments(error: &clap::Error, arguments: impl Iterator<Item = String>) -> Self {
        let rendered = error.render().to_string();
        // Usage and tips follow in paragraphs of their own.
        let sentence = rendered.split("\n\n").next().unwrap_or_default();
        let mut sentence = sentence.trim_start_matches("error: ").replace('\n', " ");
        // clap repeats what it did not understand, which may be a URL that was put in the wrong place.
        for argument in arguments {
            let value = argument.split_once('=').map_or(argument.as_str(), |(_, value)| value);
            if value.contains([':', '@']) {
                sentence = sentence.replace(value, "…");
            }
        }
        let words: Vec<&str> = sentence.split_whitespace().collect();
        Self::usage(format!("{}; see --help", words.join(" ")))
    }

    /// Writes the sentence.
    pub(crate) fn tell(&self, output: &mut impl Write) {
        if !self.sentence.is_empty() {
            // If stderr is closed, the exit code is what is left.
            let _ = writeln!(output, "{}: {}", crate::NAME, one_line(&self.sentence));
        }
    }

    pub(crate) fn exit_code(&self) -> i32 {
        self.exit_code
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Configuration => Self::usage(error.message()),
            _ => Self::failed(error.message()),
        }
    }
}
