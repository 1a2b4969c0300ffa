//! `Failure`: why the body of an exported function fails. The guard converts it to a status and an error.

use std::any::Any;

use super::status::BackendStatus;
use crate::model::error::Error;

/// The failure of the body of an exported function.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: BackendStatus,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn null(parameter: &str) -> Self {
        Self {
            status: BackendStatus::NullPointer,
            message: format!("{parameter} is NULL: expected a pointer"),
        }
    }

    pub(super) fn invalid(message: String) -> Self {
        Self { status: BackendStatus::InvalidArgument, message }
    }

    pub(super) fn not_found(message: String) -> Self {
        Self { status: BackendStatus::NotFound, message }
    }

    pub(super) fn panic(payload: &(dyn Any + Send)) -> Self {
        let reason = payload.downcast_ref::<&str>().copied();
        let reason = reason.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = format!("a defect in this library: {}", reason.unwrap_or("a panic without a message"));
        Self { status: BackendStatus::Panic, message }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { status: error.kind().into(), message: error.message().to_owned() }
    }
}
