//! The library as a whole: its version, and what concerns all backends of the process.

use std::ffi::{CString, c_char};
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::BackendError;
use super::guard::{guard, guard_void};
use super::status::BackendStatus;

/// Returns the version of this library, for example "0.1.0". The text is static: never free it.
#[unsafe(no_mangle)]
pub extern "C" fn backend_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Returns the number of the binary interface, with which the SONAME ends. It must equal the
/// BACKEND_ABI_VERSION of the header that the program was compiled with.
#[unsafe(no_mangle)]
pub extern "C" fn backend_abi_version() -> u32 {
    // build.rs writes a number, so that the conversion cannot fail.
    const VERSION: u32 = match u32::from_str_radix(env!("BACKEND_ABI_VERSION"), 10) {
        Ok(version) => version,
        Err(_) => 0,
    };
    VERSION
}

/// Stops all servers of this process and closes all its backends at the same time, each as
/// `backend_close` does. Changes that could not be sent are reported to the log. A process that
/// ends normally does this by itself; a language runtime calls it where the runtime ends.
#[unsafe(no_mangle)]
pub extern "C" fn backend_close_all() {
    guard_void(crate::process::exit::close_all);
}

/// Panics within the library and returns BACKEND_STATUS_PANIC, so that a program can test how it
/// handles a defect. It has no other use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_panic(error: *mut *mut BackendError) -> BackendStatus {
    let panic = || {
        log_panics();
        #[allow(clippy::panic)] // the purpose of this function
        std::panic::panic_any("backend_panic was called");
    };
    // SAFETY: the program's promises.
    unsafe { guard(error, panic) }
}

/// Frees a text that a function of this library has written to a `char **`. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn backend_string_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: `CString::into_raw` made it, and the program frees it once.
        guard_void(|| drop(unsafe { CString::from_raw(text) }));
    }
}

/// Has panics reported to the log instead of the standard error, which belongs to the program.
pub(super) fn log_panics() {
    static IS_SET: AtomicBool = AtomicBool::new(false);
    if !IS_SET.swap(true, Ordering::Relaxed) {
        std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    }
}
