//! Strings that cross the boundary.

use std::ffi::{CStr, CString, c_char};

use super::failure::Failure;
use super::pointer::borrow_slice;

/// Converts `text` to a C string. A NUL inside, which a label of another program may hold, would
/// end the string early and becomes U+FFFD.
pub(super) fn to_c_string(text: String) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let text = String::from_utf8_lossy(&error.into_vec()).replace('\0', "\u{FFFD}");
        CString::new(text).unwrap_or_default()
    })
}

/// Borrows a string argument.
///
/// # Safety
/// `text` is NULL or a NUL-terminated string that lives for `'call`.
pub(super) unsafe fn string<'call>(text: *const c_char, parameter: &str) -> Result<&'call str, Failure> {
    if text.is_null() {
        return Err(Failure::null(parameter));
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(text) };
    bytes.to_str().map_err(|_| Failure::invalid(format!("{parameter} is {bytes:?}: expected UTF-8")))
}

/// Borrows a string argument that the program may leave out as NULL.
///
/// # Safety
/// As [`string`].
pub(super) unsafe fn optional_string<'call>(
    text: *const c_char,
    parameter: &str,
) -> Result<Option<&'call str>, Failure> {
    // SAFETY: the caller's promise.
    (!text.is_null()).then(|| unsafe { string(text, parameter) }).transpose()
}

/// Reads the value of an HTTP header, or NULL for a request without it. Bytes that are not UTF-8
/// become U+FFFD, which no header that this library understands contains.
///
/// # Safety
/// As [`string`].
pub(super) unsafe fn header(text: *const c_char) -> Option<String> {
    // SAFETY: not NULL, and the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// Borrows `count` strings. NULL is an empty list if `count` is 0.
///
/// # Safety
/// `texts` is NULL or points to `count` pointers, each as in [`string`].
pub(super) unsafe fn strings<'call>(
    texts: *const *const c_char,
    count: usize,
    parameter: &str,
) -> Result<Vec<&'call str>, Failure> {
    // SAFETY: the caller's promise.
    let pointers = unsafe { borrow_slice(texts, count, parameter) }?;
    let each = pointers.iter().enumerate();
    // SAFETY: the caller's promise.
    each.map(|(index, &text)| unsafe { string(text, &format!("{parameter}[{index}]")) }).collect()
}
