//! What concerns the whole process: forks, its end, threads, the log, clocks, descriptors.
//!
//! The lowest layer. What must act at a fork or at the end registers itself here; nothing here knows it.

pub(crate) mod clock;
pub(crate) mod descriptor;
pub(crate) mod exit;
pub(crate) mod fork;
pub(crate) mod logging;
pub(crate) mod once;
pub(crate) mod random;
pub(crate) mod service;
pub(crate) mod thread;
