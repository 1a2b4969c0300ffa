//! Starts the engine's own threads: named, and deaf to signals.
//!
//! A signal that is sent to the process must reach a thread of the program, whose handlers know
//! nothing of ours; a thread inherits the signal mask of the one that starts it.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread in which all signals are blocked.
pub(crate) fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let before = block_signals();
    let started = Builder::new().name(name).spawn(body);
    restore_signals(&before);
    started
}

#[allow(unsafe_code)]
fn block_signals() -> libc::sigset_t {
    // SAFETY: sigset_t is plain data for which all zeros is a value; both calls only write to the two
    // sets that they are given, and cannot fail with these arguments.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    }
}

#[allow(unsafe_code)]
fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: `before` is what pthread_sigmask filled in for this same thread.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut());
    }
}
