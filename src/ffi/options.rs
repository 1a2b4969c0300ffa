//! Structs that begin with their size, so that later versions of the library can add fields behind the last.
//!
//! A program that was compiled with an older header has a shorter struct, and one with a newer header a
//! longer. Only the fields that both sides know are read or written.

use std::mem::MaybeUninit;

use super::failure::Failure;

/// A struct that begins with its size.
///
/// # Safety
/// The type is `repr(C)`, begins with a `usize` for its size, has no padding between its
/// fields, and may be all zeros.
pub(super) unsafe trait SizeFirst: Sized {
    /// Its name in C.
    const NAME: &'static str;
    /// Its size in the first version of the library that had it. No program has a shorter one.
    const FIRST_SIZE: usize;
}

/// A newer program may have this much more than the library knows. A larger size is garbage.
const MOST_NEWER_BYTES: usize = 1024;

/// Reads options. Fields that an older program does not have are zero. Fields that the library does
/// not know must be zero.
///
/// # Safety
/// `options` is NULL or points to as many bytes as its first field says.
pub(super) unsafe fn read<T: SizeFirst>(options: *const T, parameter: &str) -> Result<T, Failure> {
    // SAFETY: the caller's promise.
    let size = unsafe { read_size(options, parameter) }?;
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(options.cast::<u8>(), size) };
    if bytes.iter().skip(size_of::<T>()).any(|&byte| byte != 0) {
        return Err(Failure::invalid(format!(
            "{parameter} has fields that this version of the library does not know"
        )));
    }
    let mut known = MaybeUninit::<T>::zeroed();
    // SAFETY: both are at least as long as what is copied, and `T` may be all zeros.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), known.as_mut_ptr().cast(), size.min(size_of::<T>()));
        Ok(known.assume_init())
    }
}

/// Reads options that the program may leave out as NULL. NULL means the same as a struct of zeros.
///
/// # Safety
/// As [`read`].
pub(super) unsafe fn read_or_zeros<T: SizeFirst>(options: *const T, parameter: &str) -> Result<T, Failure> {
    if options.is_null() {
        // SAFETY: `T` may be all zeros.
        return Ok(unsafe { MaybeUninit::<T>::zeroed().assume_init() });
    }
    // SAFETY: the caller's promise.
    unsafe { read(options, parameter) }
}

/// Fills a struct whose size the program has set. An older program gets the fields that it knows; a
/// newer one gets zeros in the fields that the library does not know.
///
/// # Safety
/// `place` is NULL or points to as many bytes as its first field says, which may be
/// written.
pub(super) unsafe fn fill<T: SizeFirst>(
    place: *mut T,
    parameter: &str,
    value: impl FnOnce(usize) -> T,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    let size = unsafe { read_size(place, parameter) }?;
    let value = value(size);
    // SAFETY: the caller's promise; `T` has no padding, whose bytes would be uninitialized.
    unsafe {
        let bytes = place.cast::<u8>();
        bytes.write_bytes(0, size);
        bytes.copy_from_nonoverlapping((&raw const value).cast(), size.min(size_of::<T>()));
    }
    Ok(())
}

unsafe fn read_size<T: SizeFirst>(pointer: *const T, parameter: &str) -> Result<usize, Failure> {
    let known_size = size_of::<T>();
    if pointer.is_null() {
        return Err(Failure::null(parameter));
    }
    // SAFETY: the size comes first in every version.
    let size = unsafe { pointer.cast::<usize>().read() };
    let is_possible = (T::FIRST_SIZE..=known_size + MOST_NEWER_BYTES).contains(&size);
    // The size of a struct is a multiple of its alignment.
    if is_possible && size.is_multiple_of(align_of::<T>()) {
        return Ok(size);
    }
    let name = T::NAME;
    Err(Failure::invalid(format!("{parameter}->size is {size}: expected sizeof({name}), {known_size}")))
}

/// Converts the number of a C enum. `values` pairs each number with what it stands for, in order.
pub(super) fn choose<T: Copy>(
    number: i32,
    parameter: &str,
    type_name: &str,
    values: &[(i32, T)],
) -> Result<T, Failure> {
    let found = values.iter().find(|(known, _)| *known == number);
    found.map(|&(_, value)| value).ok_or_else(|| {
        let (first, last) = (values[0].0, values[values.len() - 1].0);
        Failure::invalid(format!("{parameter} is {number}: expected a {type_name}, {first} to {last}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::status::BackendStatus;

    #[repr(C)]
    #[derive(Debug, PartialEq)]
    struct Known {
        size: usize,
        first: u64,
        added: u64,
    }

    /// The struct of a newer program.
    #[repr(C)]
    struct Newer {
        known: Known,
        unknown: u64,
    }

    // SAFETY: two u64 behind a usize, which is as large.
    unsafe impl SizeFirst for Known {
        const NAME: &'static str = "Known";
        const FIRST_SIZE: usize = 16;
    }

    fn newer(size: usize, unknown: u64) -> Newer {
        Newer { known: Known { size, first: 1, added: 2 }, unknown }
    }

    #[test]
    fn options_of_older_and_newer_programs_are_read() {
        let read = |options: &Newer| unsafe { read(&raw const options.known, "options") };
        assert_eq!(read(&newer(24, 9)).unwrap(), Known { size: 24, first: 1, added: 2 });
        assert_eq!(read(&newer(16, 9)).unwrap(), Known { size: 16, first: 1, added: 0 }, "an older program");
        assert_eq!(read(&newer(32, 0)).unwrap(), Known { size: 32, first: 1, added: 2 }, "a newer program");
        let failure = read(&newer(32, 9)).unwrap_err();
        assert!(failure.message.contains("does not know"), "{}", failure.message);
        for size in [0, 8, 15, 17, 24 + 1024 + 8, usize::MAX] {
            let failure = read(&newer(size, 0)).unwrap_err();
            assert_eq!(failure.status, BackendStatus::InvalidArgument);
            assert_eq!(failure.message, format!("options->size is {size}: expected sizeof(Known), 24"));
        }
        let none = unsafe { super::read::<Known>(std::ptr::null(), "options") };
        assert_eq!(none.unwrap_err().status, BackendStatus::NullPointer);
        let zeros = unsafe { read_or_zeros::<Known>(std::ptr::null(), "options") }.unwrap();
        assert_eq!(zeros, Known { size: 0, first: 0, added: 0 });
    }

    #[test]
    fn structs_of_older_and_newer_programs_are_filled() {
        let filled = |size| {
            let mut place = newer(size, 9);
            let value = |size| Known { size, first: 3, added: 4 };
            unsafe { fill(&raw mut place.known, "statistics", value) }.unwrap();
            (place.known.first, place.known.added, place.unknown)
        };
        assert_eq!(filled(24), (3, 4, 9));
        assert_eq!(filled(16), (3, 2, 9), "an older program");
        assert_eq!(filled(32), (3, 4, 0), "a newer program");
    }
}
