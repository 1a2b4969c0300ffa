//! The engine's own threads: named, deaf to signals, and safe to start in a forked child.
//!
//! They are plain POSIX threads. `std::thread` takes a lock of the whole process when a thread starts or
//! ends (in a program whose `main` is Rust's, for its stack overflow message), and a child that was forked
//! at such a moment could never start a thread again.

#![allow(unsafe_code)]

use std::ffi::{CString, c_void};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A thread that was started. It is joined, or (if this is dropped) left to end by itself.
#[derive(Debug)]
pub(crate) struct Thread {
    /// None once it was joined.
    id: Option<libc::pthread_t>,
    is_finished: Arc<AtomicBool>,
}

type Body = Box<dyn FnOnce() + Send>;

impl Thread {
    /// Starts a thread in which all signals are blocked: a signal that is sent to the process must reach a
    /// thread of the program, whose handlers know nothing of ours.
    pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let is_finished = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_finished);
        let name = CString::new(name).unwrap_or_default();
        let whole: Body = Box::new(move || {
            // SAFETY: the name is a C string that lives during the call. A name that is too long is refused,
            // and then the thread has its parent's.
            unsafe { libc::pthread_setname_np(libc::pthread_self(), name.as_ptr()) };
            body();
            // Release: whoever sees the flag sees what the body did.
            flag.store(true, Ordering::Release);
        });
        let argument: *mut Body = Box::into_raw(Box::new(whole));
        let mut id: libc::pthread_t = 0;
        let before = block_signals();
        // SAFETY: `run` takes the argument over, and frees it; the id is written before this returns.
        let result = unsafe { libc::pthread_create(&raw mut id, std::ptr::null(), run, argument.cast()) };
        restore_signals(&before);
        if result != 0 {
            // SAFETY: no thread was started, so the argument is still ours.
            drop(unsafe { Box::from_raw(argument) });
            return Err(io::Error::from_raw_os_error(result));
        }
        Ok(Self { id: Some(id), is_finished })
    }

    /// Whether the body has returned.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_finished.load(Ordering::Acquire)
    }

    /// Waits until the thread has ended.
    pub(crate) fn join(mut self) {
        if let Some(id) = self.id.take() {
            // SAFETY: the thread was started, and is neither joined nor detached yet.
            unsafe { libc::pthread_join(id, std::ptr::null_mut()) };
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            // SAFETY: the thread was started, and is neither joined nor detached yet.
            unsafe { libc::pthread_detach(id) };
        }
    }
}

extern "C" fn run(argument: *mut c_void) -> *mut c_void {
    // SAFETY: made by `spawn`, which has given it to us.
    let body = unsafe { Box::from_raw(argument.cast::<Body>()) };
    // Bodies catch and log their panics; what is left must not cross into C.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    std::ptr::null_mut()
}

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

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: `before` is what pthread_sigmask filled in for this same thread.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut());
    }
}
