//! The engine's own threads: named, with all signals blocked, and safe to start in a forked child.
//!
//! They are plain POSIX threads. In a program with a Rust `main`, `std::thread` takes a process-wide lock
//! (for its stack overflow message) when a thread starts or ends. A child that is forked at such a moment
//! could never start a thread again.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The interval at which [`Thread::join_by`] checks whether the thread has ended.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A running thread. Dropping the handle detaches the thread, which then ends by itself.
#[derive(Debug)]
pub(crate) struct Thread {
    /// `None` after the thread was joined.
    id: Option<libc::pthread_t>,
    is_finished: Arc<AtomicBool>,
}

// SAFETY: POSIX lets any thread of the process use the id of another one. The implementation is needed where
// the id is a pointer (musl).
unsafe impl Send for Thread {}
// SAFETY: as above. A shared reference only reads the flag.
unsafe impl Sync for Thread {}

type Body = Box<dyn FnOnce() + Send>;

impl Thread {
    /// Starts a thread in which all signals are blocked, because a signal to the process must be handled on a
    /// thread of the program.
    pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let is_finished = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_finished);
        let name = CString::new(name).unwrap_or_default();
        let whole: Body = Box::new(move || {
            set_name(&name);
            body();
            // Release: a thread that reads the flag as true also sees what the body did.
            flag.store(true, Ordering::Release);
        });
        let argument: *mut Body = Box::into_raw(Box::new(whole));
        let mut id = MaybeUninit::<libc::pthread_t>::uninit();
        let before = block_signals();
        // SAFETY: `run` takes ownership of the argument and frees it.
        let result = unsafe { libc::pthread_create(id.as_mut_ptr(), std::ptr::null(), run, argument.cast()) };
        restore_signals(&before);
        if result != 0 {
            // SAFETY: no thread was started, so this function still owns the argument.
            drop(unsafe { Box::from_raw(argument) });
            return Err(io::Error::from_raw_os_error(result));
        }
        // SAFETY: a successful pthread_create has written the id.
        Ok(Self { id: Some(unsafe { id.assume_init() }), is_finished })
    }

    /// Joins the thread if it ends before the deadline. Otherwise detaches it, and it ends by itself.
    pub(crate) fn join_by(self, deadline: Instant) {
        while !self.is_finished.load(Ordering::Acquire) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
        self.join();
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
    // SAFETY: `spawn` created the argument with `Box::into_raw`, and passes its ownership to this thread.
    let body = unsafe { Box::from_raw(argument.cast::<Body>()) };
    // Bodies catch and log their own panics. A panic that escapes must not unwind into C code.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    std::ptr::null_mut()
}

/// Names the calling thread. If the name is too long, the system rejects it, and the thread keeps the name of
/// its parent.
fn set_name(name: &CStr) {
    // SAFETY: the name is a C string that lives during the call.
    #[cfg(target_vendor = "apple")]
    unsafe {
        libc::pthread_setname_np(name.as_ptr());
    }
    // SAFETY: as above.
    #[cfg(not(target_vendor = "apple"))]
    unsafe {
        libc::pthread_setname_np(libc::pthread_self(), name.as_ptr());
    }
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: all zeros is a valid sigset_t. Both calls only access the two given sets, and cannot fail with
    // these arguments.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    }
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: pthread_sigmask has filled in `before`, for this same thread.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut());
    }
}
