//! The pointer that a program registers with a callback, and gets back with each call of it.

use std::ffi::c_void;

/// The program's own pointer, which we hand on from whatever thread calls back.
pub(super) struct UserData(*mut c_void);

// SAFETY: we never look at what it points to; the program was told that any thread may hand it over.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

impl UserData {
    pub(super) fn new(pointer: *mut c_void) -> Self {
        Self(pointer)
    }

    pub(super) fn get(&self) -> *mut c_void {
        self.0
    }
}
