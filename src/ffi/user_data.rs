//! The pointer that a program registers with a callback and receives with each call.

use std::ffi::c_void;

/// A pointer of the program, which any thread may hand back to the program.
pub(super) struct UserData(*mut c_void);

// SAFETY: this library never reads what it points to, and the header says that any thread may hand it back.
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
