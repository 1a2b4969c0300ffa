//! The error type of the engine: a kind for programs, and a sentence for people.
//!
//! Every fallible function of the engine returns [`Error`]. The sentence says what is wrong, names the value,
//! and says what was expected. It never contains a password.

use std::fmt;

/// The kinds of failure that a program may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A name, label, amount or bucket bound is not acceptable.
    InvalidArgument,
    /// The store URL or one of its options is not acceptable.
    Configuration,
    /// A family of this name exists with another definition.
    Conflict,
    /// The operation does not exist for this type of metric.
    WrongType,
    /// The metric or the bucket that was asked for does not exist.
    NotFound,
    /// The store cannot be reached or refuses to serve, or the exporter cannot listen at its address.
    Unavailable,
    /// The store did not answer before the deadline.
    Timeout,
    /// The store answered, but contains data that this library cannot use.
    Store,
}

/// An error: its [`ErrorKind`] and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// The result of the engine's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Creates an error.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the sentence for people.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
