//! Brings in the tail: when a process ends normally, what it has counted is sent.
//!
//! A C program that returns from `main` or calls `exit` without closing its backends has them closed here.
//! (`_exit`, a signal and `exec` run no handlers.)

use std::sync::atomic::{AtomicBool, Ordering};

use crate::fork;

/// Installs the handler, once in a process.
pub(crate) fn install() {
    // A flag and not a `Once`: see `fork::install`.
    static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
    if IS_INSTALLED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: the handler is a function that lives as long as the library, which is linked with
    // `-z nodelete`, so it is there when the process ends.
    #[allow(unsafe_code)]
    let result = unsafe { libc::atexit(close_all) };
    if result != 0 {
        log::warn!("the exit handler could not be installed: close backends before the process ends");
    }
}

extern "C" fn close_all() {
    // A panic must not leave the handler: it would cross C code.
    let _ = std::panic::catch_unwind(|| {
        for backend in fork::backends() {
            if let Err(error) = backend.store.close() {
                log::error!("{error}");
            }
        }
    });
}
