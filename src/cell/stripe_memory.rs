//! The memory of [`stripes`](crate::cell::stripes), and what tells threads apart.
//!
//! Stripes are made by a call that counts, which a signal handler may make. So their memory comes from `mmap`: an
//! allocator may hold a lock that the interrupted thread has taken. In a forked child they are a copy, as all memory.
//! `tests/loom_stripes.rs` replaces this file.

#![allow(unsafe_code)]

use std::sync::atomic::AtomicU64;

use super::back_off::back_off;

/// How many stripes a metric has: more than the threads that collide at one metric in most programs.
pub(crate) const STRIPES: usize = 16;
/// The words of two cache lines: processors fetch lines in pairs.
pub(crate) const LINE: usize = 16;

/// How often the value must change while a thread waits, before threads count as colliding.
pub(crate) const WINDOWS: usize = 3;
/// A thread looks for collisions at a counter when these bits of its integer are all set: rarely enough to cost
/// nothing.
pub(crate) const LOOK: u64 = 0xffff;

/// Maps `count` words that are 0. Returns `None` if there is no memory.
pub(crate) fn map(count: usize) -> Option<*mut AtomicU64> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new map of anonymous memory touches nothing that exists.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), count * 8, protection, flags, -1, 0) };
    (mapped != libc::MAP_FAILED).then_some(mapped.cast())
}

/// Unmaps what [`map`] returned.
///
/// # Safety
/// `words` came from `map(count)`, and nothing refers to it any more.
pub(crate) unsafe fn unmap(words: *mut AtomicU64, count: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::munmap(words.cast(), count * 8) };
}

/// Returns a number that no other running thread has, and that is not 0.
#[inline]
pub(crate) fn thread() -> u64 {
    // SAFETY: it has no requirements. It is a pointer or an integer, and reads one register.
    unsafe { libc::pthread_self() as u64 | 1 << 63 }
}

/// Waits long enough for a colliding thread to change the value.
pub(crate) fn pause() {
    back_off();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn mapped_words_are_zero_and_can_be_changed() {
        let words = map(1000).unwrap();
        // SAFETY: `map` has returned 1000 words.
        let all = unsafe { std::slice::from_raw_parts(words, 1000) };
        assert!(all.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        all[999].store(1, Ordering::Relaxed);
        // SAFETY: from `map`, and `all` is not used any more.
        unsafe { unmap(words, 1000) };
    }

    #[test]
    fn threads_have_different_numbers() {
        let here = thread();
        assert_eq!(here, thread());
        assert_ne!(here, std::thread::spawn(thread).join().unwrap());
    }
}
