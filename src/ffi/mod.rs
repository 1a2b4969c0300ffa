//! The C boundary. The header `include/pytheus_backend_rs.h` is made from these files.
//!
//! Every function checks its pointers, calls the engine, and converts; no logic lives here. A panic
//! never crosses: `status::guard` turns it into `BACKEND_STATUS_PANIC`.
//!
//! What every exported function relies on, instead of a `# Safety` section for each: a pointer argument is NULL
//! or points to what its type and the header say, for the length of the call; a handle was made by this
//! library and has not been freed.

#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)] // see above; the header says it once, too

pub mod backend;
pub mod error;
pub mod family;
pub mod foreign;
pub mod log;
pub mod metric;
pub mod metrics;
mod options;
mod pointer;
pub mod serve;
pub mod statistics;
pub mod status;
mod text;
mod user_data;
