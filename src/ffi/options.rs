//! Option structs that callers fill, and that grow.
//!
//! A program that is older than this library has a shorter struct, a newer one a longer. Only what both know
//! is read; nothing that either side does not know is taken for something else.

use std::mem::MaybeUninit;

use super::error::Failure;

/// Reads options whose first field is their size. Fields that an older program does not have are zero;
/// additional ones of a newer program must be.
///
/// # Safety
/// `options` is NULL or points to as many bytes as its first field says. `T` is `repr(C)`, begins with a
/// `usize`, and may be all zeros.
pub(super) unsafe fn read<T>(
    options: *const T,
    first_size: usize,
    parameter: &str,
    type_name: &str,
) -> Result<T, Failure> {
    let known_size = size_of::<T>();
    if options.is_null() {
        return Err(Failure::null(parameter));
    }
    // SAFETY: the size comes first in every version.
    let size = unsafe { options.cast::<usize>().read() };
    // What is no multiple of the alignment is the size of no struct.
    if !(first_size..=known_size + 1024).contains(&size) || !size.is_multiple_of(align_of::<T>()) {
        return Err(Failure::invalid(format!(
            "{parameter}->size is {size}: expected sizeof({type_name}), {known_size}"
        )));
    }
    // SAFETY: the program says that its struct has `size` bytes.
    let bytes = unsafe { std::slice::from_raw_parts(options.cast::<u8>(), size) };
    if bytes.iter().skip(known_size).any(|&byte| byte != 0) {
        return Err(Failure::invalid(format!(
            "{parameter} has fields that this version of the library does not know"
        )));
    }
    let mut known = MaybeUninit::<T>::zeroed();
    // SAFETY: both are at least as long as what is copied, and all fields may be zero.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), known.as_mut_ptr().cast(), size.min(known_size));
        Ok(known.assume_init())
    }
}
