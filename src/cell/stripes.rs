//! Words of a metric that belong to one thread each, for a metric at which threads collide.
//!
//! Cores that add to one word hand its cache line to and fro, which takes many times as long as the addition. So
//! threads that collide again and again get a stripe each: a copy of the words in cache lines of its own. A reader
//! adds up the words of the metric and those of all stripes. A metric at which no threads collide has no stripes,
//! and takes no memory for them.
//!
//! # Why no addition is lost or counted twice
//!
//! An addition changes one word with one read-modify-write: the metric's own, or one in a stripe. Stripes are made
//! once, by an exchange of a null pointer, and stay until the metric is dropped. Which stripe a thread takes
//! decides only how fast it is: two threads may share one. So a thread may be interrupted by a signal handler that
//! counts, or copied by a fork, between any two instructions. `tests/loom_stripes.rs` tries the interleavings.
//!
//! Words of counters only grow, in the metric and in each stripe. A thread that has seen the pointer sees it ever
//! after. So the total that a thread reads never goes down, and includes all that this thread has added.

#![allow(unsafe_code)]

use crate::cell::atomic::{AtomicPtr, AtomicU64, Ordering};
use crate::cell::stripe_memory::{self, LINE, STRIPES, WINDOWS};

/// The stripes of a metric, if it has some.
///
/// The pointer leads to words: how many words a stripe holds, the threads that own the stripes, and the stripes.
/// Owners are written once and then only read, so they share lines with each other, but with no stripe.
#[derive(Debug, Default)]
pub(crate) struct Stripes(AtomicPtr<AtomicU64>);

const _: () = assert!(STRIPES.is_power_of_two(), "the highest bits of a product tell a place");
/// The place of the first owner.
const OWNERS: usize = 1;
/// The place of the first stripe.
const FIRST: usize = (OWNERS + STRIPES).div_ceil(LINE) * LINE;

impl Stripes {
    /// Returns whether there are none, so that the words of the metric itself are to be changed.
    #[inline]
    pub(crate) fn are_none(&self) -> bool {
        // Relaxed: a thread that does not see them yet changes the words of the metric, which is right, too.
        self.0.load(Ordering::Relaxed).is_null()
    }

    /// Makes stripes of `width` words if `value` changes again and again while this thread waits.
    ///
    /// It takes a microsecond at most, so a thread calls it when it has met a collision, or at times.
    #[cold]
    pub(crate) fn make_if_contended(&self, width: usize, value: impl Fn() -> u64) {
        let mut seen = value();
        let is_contended = self.are_none()
            && (0..WINDOWS).all(|_| {
                stripe_memory::pause();
                std::mem::replace(&mut seen, value()) != seen
            });
        if is_contended {
            self.make(width);
        }
    }

    /// Makes stripes of `width` words, if there is memory for them. It may run in a signal handler.
    fn make(&self, width: usize) {
        let Some(words) = stripe_memory::map(length(width)) else { return };
        // SAFETY: the memory has `length` words, and no other thread knows it yet.
        unsafe { &*words }.store(width as u64, Ordering::Relaxed);
        // Release: a thread that sees the pointer sees the width.
        let made = self.0.compare_exchange(std::ptr::null_mut(), words, Ordering::Release, Ordering::Relaxed);
        if made.is_err() {
            // SAFETY: as above: another thread has made stripes meanwhile, and these were never published.
            unsafe { stripe_memory::unmap(words, length(width)) };
        }
    }

    /// Returns the words, if there are stripes.
    #[inline]
    fn words(&self) -> Option<&[AtomicU64]> {
        let words = self.0.load(Ordering::Acquire);
        if words.is_null() {
            return None;
        }
        // SAFETY: `make` has published this many words, and only `drop` unmaps them.
        unsafe {
            let width = (*words).load(Ordering::Relaxed) as usize;
            Some(std::slice::from_raw_parts(words, length(width)))
        }
    }

    /// Returns the words of this thread's stripe, if there are stripes: `width` words, as they were made. It never
    /// panics.
    #[inline(always)]
    pub(crate) fn mine(&self, width: usize) -> Option<&[AtomicU64]> {
        let words = self.words()?;
        let me = stripe_memory::thread();
        // Threads begin at different places, so that they rarely meet. The multiplier is 2^64 / the golden ratio.
        let home = (me.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - STRIPES.trailing_zeros())) as usize;
        // Relaxed: an owner decides nothing but who is fast.
        let place = match words.get(OWNERS + home)?.load(Ordering::Relaxed) == me {
            true => home,
            false => claim(words, home, me),
        };
        stripe(words, width, place)
    }

    /// Returns the words of each stripe.
    pub(crate) fn each(&self) -> impl Iterator<Item = &[AtomicU64]> {
        self.words().into_iter().flat_map(|words| {
            let width = words.first().map_or(0, |width| width.load(Ordering::Relaxed) as usize);
            (0..STRIPES).filter_map(move |place| stripe(words, width, place))
        })
    }
}

impl Drop for Stripes {
    fn drop(&mut self) {
        if let Some(words) = self.words() {
            let length = words.len();
            // SAFETY: no other thread has the metric any more, and `make` mapped this many words.
            unsafe { stripe_memory::unmap(self.0.load(Ordering::Relaxed), length) };
        }
    }
}

/// Returns the place of a stripe: from `home` on, the first that the thread `me` owns, or that it can take.
#[inline(never)]
fn claim(words: &[AtomicU64], home: usize, me: u64) -> usize {
    let mut places = (0..STRIPES).map(|step| (home + step) % STRIPES);
    let found = places.find(|place| {
        let Some(owner) = words.get(OWNERS + place) else { return false };
        match owner.load(Ordering::Relaxed) {
            0 => owner.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed).is_ok(),
            known => known == me,
        }
    });
    // If all belong to other threads, which may have ended, two threads share one.
    found.unwrap_or(home)
}

/// Returns how many words there are for stripes of `width` words.
fn length(width: usize) -> usize {
    FIRST + STRIPES * stride(width)
}

/// Returns how far stripes of `width` words are apart.
fn stride(width: usize) -> usize {
    width.div_ceil(LINE) * LINE
}

#[inline]
fn stripe(words: &[AtomicU64], width: usize, place: usize) -> Option<&[AtomicU64]> {
    let start = FIRST + place * stride(width);
    words.get(start..start + width)
}
