//! Brings in the tail: when a process ends normally, what it has counted is sent.
//!
//! A program that returns from `main` or calls `exit` without closing its backends has them closed here.
//! (`_exit`, a signal and `exec` run no handlers.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::backend::BackendParts;
use crate::exporter;
use crate::process::fork;
use crate::process::thread::Thread;

/// Installs the handler, once in a process.
pub(crate) fn install() {
    // A flag and not a `Once`: see `fork::install`.
    static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
    if IS_INSTALLED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: the handler is a function that lives as long as the library, which is never unloaded: see
    // `fork::install`.
    #[allow(unsafe_code)]
    let result = unsafe { libc::atexit(handler) };
    if result != 0 {
        log::warn!("the exit handler could not be installed: close backends before the process ends");
    }
}

/// Stops all exporters and closes all backends at the same time, so that together they take no longer than the
/// slowest, and the exporters [`exporter::STOP_TIMEOUT`]. What could not be sent is told to the log.
pub(crate) fn close_all() {
    let exporters = exporter::servers();
    exporters.iter().for_each(|exporter| exporter.ask_to_stop());
    let mut backends = fork::backends();
    // One of them is closed by this thread: most programs have one.
    let own = backends.pop();
    let threads: Vec<Thread> = backends
        .into_iter()
        .filter_map(|parts| {
            let other = Arc::clone(&parts);
            // Without a thread it is closed here and now.
            Thread::spawn("close", move || close(&other)).map_err(|_| close(&parts)).ok()
        })
        .collect();
    own.iter().for_each(|parts| close(parts));
    threads.into_iter().for_each(Thread::join);
    let deadline = Instant::now() + exporter::STOP_TIMEOUT;
    exporters.iter().for_each(|exporter| exporter.stop_by(deadline));
}

fn close(parts: &BackendParts) {
    if let Err(error) = parts.close() {
        log::error!("{error}");
    }
}

extern "C" fn handler() {
    // A panic must not leave the handler: it would cross C code.
    let _ = std::panic::catch_unwind(close_all);
}
