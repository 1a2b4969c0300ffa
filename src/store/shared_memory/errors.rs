//! Errors that name the metrics file: every error of this store is made here.

use std::fmt::Display;
use std::path::Path;

use crate::model::error::{Error, ErrorKind};

/// Returns an error for a step that failed: `what` follows the name of the file, as in "cannot grow".
pub(super) fn failed(path: &Path, what: &str, error: impl Display) -> Error {
    Error::new(ErrorKind::Store, format!("the metrics file {} {what}: {error}", path.display()))
}

/// Returns an error for a file that cannot be used because of its state or contents.
pub(super) fn unusable(path: &Path, reason: impl Display) -> Error {
    Error::new(ErrorKind::Store, format!("the metrics file {} cannot be used: {reason}", path.display()))
}

/// Returns an error for bytes that cannot come from a writer of this format.
pub(super) fn damaged(path: &Path, offset: u64) -> Error {
    Error::new(ErrorKind::Store, format!("the metrics file {} is damaged at byte {offset}", path.display()))
}
