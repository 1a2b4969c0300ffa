//! Strings that cross the boundary.

use std::ffi::{CStr, CString, c_char};

use super::error::Failure;

/// A C string of `text`. A NUL inside (a label of another program may hold one) becomes U+FFFD, since
/// the string would end there.
pub(super) fn to_c_string(text: String) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let text = String::from_utf8_lossy(&error.into_vec()).replace('\0', "\u{FFFD}");
        CString::new(text).unwrap_or_default()
    })
}

/// Borrows the C string that `parameter` points to.
///
/// # Safety
/// `text` is NULL or a NUL-terminated string that lives for `'text`.
pub(super) unsafe fn borrow<'text>(text: *const c_char, parameter: &str) -> Result<&'text str, Failure> {
    if text.is_null() {
        return Err(Failure::null(parameter));
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(text) };
    bytes.to_str().map_err(|_| Failure::invalid(format!("{parameter} is {bytes:?}: expected UTF-8")))
}

/// Borrows a C string that the caller may leave out: NULL is none.
///
/// # Safety
/// As [`borrow`].
pub(super) unsafe fn borrow_optional<'text>(
    text: *const c_char,
    parameter: &str,
) -> Result<Option<&'text str>, Failure> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { borrow(text, parameter) }.map(Some)
}

/// Borrows `count` C strings. NULL is an empty list if `count` is 0.
///
/// # Safety
/// `texts` is NULL or points to `count` pointers, each as in [`borrow`].
pub(super) unsafe fn borrow_list<'text>(
    texts: *const *const c_char,
    count: usize,
    parameter: &str,
) -> Result<Vec<&'text str>, Failure> {
    // SAFETY: the caller's promise.
    let pointers = unsafe { borrow_slice(texts, count, parameter) }?;
    let borrow_at = |(index, &text): (usize, &*const c_char)| {
        // SAFETY: the caller's promise.
        unsafe { borrow(text, &format!("{parameter}[{index}]")) }
    };
    pointers.iter().enumerate().map(borrow_at).collect()
}

/// Borrows `count` values. NULL is an empty list if `count` is 0.
///
/// # Safety
/// `values` is NULL or points to `count` values that live for `'values`.
pub(super) unsafe fn borrow_slice<'values, T>(
    values: *const T,
    count: usize,
    parameter: &str,
) -> Result<&'values [T], Failure> {
    match (values.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Failure::null(parameter)),
        // SAFETY: the caller's promise; a count that cannot be is refused, since a slice must not be
        // larger than the address space.
        (false, count) if count <= isize::MAX as usize / size_of::<T>() => {
            Ok(unsafe { std::slice::from_raw_parts(values, count) })
        }
        _ => Err(Failure::invalid(format!(
            "{parameter} has {count} elements: expected a list that fits in memory"
        ))),
    }
}
