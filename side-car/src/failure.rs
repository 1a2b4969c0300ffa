//! The failure of a command: a sentence for stderr, and an exit code.
//!
//! Every error of the side-car becomes a [`Failure`]. Its sentence never contains a password.

use std::io::Write;

use pytheus_backend_rs::{Error, ErrorKind};

use crate::printable::one_line;

/// The reason why a command failed, and its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    sentence: String,
    exit_code: i32,
}

impl Failure {
    /// The command could not do its work (exit code 1). An empty sentence means that the reason was printed
    /// already.
    pub(crate) fn failed(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), exit_code: 1 }
    }

    /// The command line or its environment is invalid (exit code 2).
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), exit_code: 2 }
    }

    /// Converts a parser error. Values that may be URLs are hidden, because a URL may contain a password.
    pub(crate) fn of_arguments(error: &clap::Error, arguments: impl Iterator<Item = String>) -> Self {
        let rendered = error.render().to_string();
        // clap appends usage and tips as further paragraphs.
        let sentence = rendered.split("\n\n").next().unwrap_or_default();
        let mut sentence = sentence.trim_start_matches("error: ").replace('\n', " ");
        // clap quotes the argument that it rejects. That may be a URL in the wrong place.
        for argument in arguments {
            let value = argument.split_once('=').map_or(argument.as_str(), |(_, value)| value);
            if value.contains([':', '@']) {
                sentence = sentence.replace(value, "…");
            }
        }
        let words: Vec<&str> = sentence.split_whitespace().collect();
        Self::usage(format!("{}; see --help", words.join(" ")))
    }

    /// Adds to the sentence.
    pub(crate) fn but(self, addition: &str) -> Self {
        Self { sentence: format!("{}; {addition}", self.sentence), ..self }
    }

    /// Writes the sentence.
    pub(crate) fn tell(&self, output: &mut impl Write) {
        if !self.sentence.is_empty() {
            // If stderr is closed, only the exit code can report the failure.
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
