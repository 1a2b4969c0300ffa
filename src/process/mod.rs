//! Facilities of the whole process: forks, exit, threads, the log, clocks, descriptors.
//!
//! This is the lowest layer. Objects that must act at a fork or at exit register themselves here; this layer
//! does not depend on them.

pub(crate) mod clock;
pub(crate) mod descriptor;
pub(crate) mod exit;
pub(crate) mod fork;
pub(crate) mod logging;
pub(crate) mod once;
pub(crate) mod random;
pub(crate) mod service;
pub(crate) mod thread;
pub(crate) mod usage;
