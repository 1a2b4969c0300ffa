//! Pointer arguments. Each helper checks one argument and names it in the error.

use super::failure::Failure;

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

/// Borrows `count` values. NULL is an empty list if `count` is 0.
///
/// # Safety
/// `values` is NULL or points to `count` values that live for `'call`.
pub(super) unsafe fn borrow_slice<'call, T>(
    values: *const T,
    count: usize,
    parameter: &str,
) -> Result<&'call [T], Failure> {
    // A slice must not be larger than half of the address space.
    let most = isize::MAX as usize / size_of::<T>();
    match (values.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Failure::null(parameter)),
        // SAFETY: the caller's promise, and the size was checked.
        (false, _) if count <= most => Ok(unsafe { std::slice::from_raw_parts(values, count) }),
        _ => Err(Failure::invalid(format!(
            "{parameter} has {count} elements: expected a list that fits in memory"
        ))),
    }
}

/// Borrows what each of `count` pointers points to.
///
/// # Safety
/// As [`borrow_slice`], and each pointer as in [`borrow`].
pub(super) unsafe fn borrow_each<'call, T>(
    pointers: *const *const T,
    count: usize,
    parameter: &str,
) -> Result<Vec<&'call T>, Failure> {
    // SAFETY: the caller's promise.
    let pointers = unsafe { borrow_slice(pointers, count, parameter) }?;
    let each = pointers.iter().enumerate();
    // SAFETY: the caller's promise.
    each.map(|(index, &pointer)| unsafe { borrow(pointer, &format!("{parameter}[{index}]")) }).collect()
}

/// Takes the value of a handle back from the program. NULL has none.
///
/// # Safety
/// `handle` is NULL or came from `Box::into_raw`, and was not taken back before.
pub(super) unsafe fn take<T>(handle: *mut T) -> Option<Box<T>> {
    // SAFETY: the caller's promise.
    (!handle.is_null()).then(|| unsafe { Box::from_raw(handle) })
}
