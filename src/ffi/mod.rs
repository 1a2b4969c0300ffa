//! The C interface. build.rs writes the header `include/pytheus_backend_rs.h` from these files.
//!
//! Each file holds one C type and the functions on it. An exported function checks its arguments, calls the
//! engine and converts the result; `guard`, `pointer`, `string` and `options` help with that. No logic
//! lives here, and a panic never crosses into the program: `guard` turns it into `BACKEND_STATUS_PANIC`. The hot
//! functions of `metric` do without it what never panics.
//!
//! The functions appear in the header in the order of the modules below.
//!
//! # Safety
//!
//! Every exported function relies on these promises, which the header asks of the program. The comment
//! `SAFETY: the program's promises` refers to them.
//!
//! - A pointer argument is NULL or points to what its type and the header say, until the call returns.
//! - A handle came from this library and was not freed. No other thread frees it during the call.

#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // The module states it once, and so does the header.

mod failure;
mod guard;
mod options;
mod pointer;
mod string;
mod user_data;

pub mod library;

pub mod backend;

pub mod family;
pub mod family_options;

pub mod metric;

pub mod render_options;

pub mod text;

pub mod snapshot;

pub mod foreign;

pub mod server;

pub mod statistics;

pub mod log;

pub mod error;
pub mod status;
