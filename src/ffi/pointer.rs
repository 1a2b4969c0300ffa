//! Pointer arguments: handles, values to read and places to write to.
//!
//! Each helper checks one argument and names it in the error. All rely on the promise that `ffi` states once:
//! a pointer is NULL or points to what its type says.

use super::error::Failure;

/// Borrows what an argument points to.
///
/// # Safety
/// `pointer` is NULL or points to a `T` that lives for `'call`.
pub(super) unsafe fn borrow<'call, T>(pointer: *const T, parameter: &str) -> Result<&'call T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| Failure::null(parameter))
}

/// Borrows what an argument points to, to change it.
///
/// # Safety
/// As [`borrow`], and nothing else uses the `T` for `'call`.
pub(super) unsafe fn borrow_mut<'call, T>(pointer: *mut T, parameter: &str) -> Result<&'call mut T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_mut() }.ok_or_else(|| Failure::null(parameter))
}

/// The place where a call writes a result.
pub(super) struct Out<T>(*mut T);

/// Checks an out-parameter. Exported functions do so before they act, and write at their end.
///
/// # Safety
/// `pointer` is NULL or points to memory for a `T`, for as long as the result lives.
pub(super) unsafe fn out<T>(pointer: *mut T, parameter: &str) -> Result<Out<T>, Failure> {
    if pointer.is_null() { Err(Failure::null(parameter)) } else { Ok(Out(pointer)) }
}

impl<T> Out<T> {
    /// Writes a result. What was there is not dropped.
    pub(super) fn write(self, value: T) {
        // SAFETY: `out` has checked the pointer, and its caller has promised the rest.
        unsafe { self.0.write(value) }
    }
}

impl<T> Out<*mut T> {
    /// Hands a value over to the program, which frees it with a call that ends in [`take`].
    pub(super) fn give(self, value: T) {
        self.write(Box::into_raw(Box::new(value)));
    }
}

/// Takes back a value that [`Out::give`] has handed over. NULL is no value.
///
/// # Safety
/// `handle` is NULL or came from [`Out::give`], and was not taken back before.
pub(super) unsafe fn take<T>(handle: *mut T) -> Option<Box<T>> {
    // SAFETY: the caller's promise.
    (!handle.is_null()).then(|| unsafe { Box::from_raw(handle) })
}
