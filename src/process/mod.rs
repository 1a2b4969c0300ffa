//! What concerns the whole process: forks, the exit, threads, the log.

pub(crate) mod exit;
pub(crate) mod fork;
pub(crate) mod logging;
pub(crate) mod thread;
