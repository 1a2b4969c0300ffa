//! The value of a counter in this process's memory.
//!
//! Most amounts are small whole numbers. They are counted in an integer of their own: a fetch-and-add takes a
//! quarter of the time of a compare-and-swap loop on an `f64`, and never has to be repeated.

use super::at_once::AtOnce;
use super::stripe_memory::LOOK;
use super::stripes::Stripes;
use super::value::{self, ValueCell};
use crate::cell::atomic::{AtomicU64, Ordering};

/// The sum of the small whole amounts, and the sum of all others.
///
/// Both only grow, and a reader adds them up. So the value that a thread reads never goes down, and includes
/// everything that this thread has added. Every ordering is `Relaxed`, as in [`ValueCell`].
#[derive(Debug, Default)]
pub(crate) struct CounterCell {
    whole: AtomicU64,
    rest: ValueCell,
    /// For each a word of either sum.
    pub(super) stripes: Stripes,
}

impl CounterCell {
    /// Adds `amount`, unless it is negative or not a number, or threads have stripes.
    ///
    /// An addition to an integer does not fail, so it does not show that threads collide. The thread whose addition
    /// follows a certain value returns [`AtOnce::Unfinished`], and [`look`](Self::look)s.
    #[inline(always)]
    pub(crate) fn add_at_once(&self, amount: f64) -> AtOnce {
        if !self.stripes.are_none() {
            return AtOnce::HasStripes;
        }
        if let Some(whole) = small(amount) {
            let before = self.whole.fetch_add(whole, Ordering::Relaxed);
            return if before & LOOK == LOOK { AtOnce::Unfinished } else { AtOnce::Done };
        }
        if amount >= 0.0 {
            return if self.rest.add(amount) { AtOnce::Unfinished } else { AtOnce::Done };
        }
        AtOnce::NotDone
    }

    /// Adds `amount` to this thread's stripe, unless it is negative or not a number, or there are no stripes.
    #[inline]
    pub(crate) fn add_in_stripe(&self, amount: f64) -> AtOnce {
        let Some([whole, rest, ..]) = self.stripes.mine(WIDTH) else { return AtOnce::NotDone };
        match small(amount) {
            Some(amount) => drop(whole.fetch_add(amount, Ordering::Relaxed)),
            None if amount >= 0.0 => drop(value::add(rest, amount)),
            None => return AtOnce::NotDone,
        }
        AtOnce::Done
    }

    /// Adds `amount`. It is below 0 only when the program sets the counter.
    pub(crate) fn add(&self, amount: f64) {
        let (whole, rest) = match self.stripes.mine(WIDTH) {
            Some([whole, rest, ..]) => (whole, rest),
            _ => (&self.whole, self.rest.word()),
        };
        match small(amount) {
            Some(amount) => drop(whole.fetch_add(amount, Ordering::Relaxed)),
            None => drop(value::add(rest, amount)),
        }
    }

    /// Replaces the value. Additions of other threads in the meantime may be lost.
    pub(crate) fn set(&self, value: f64) {
        let difference = value - self.get();
        if difference.is_finite() {
            return self.add(difference);
        }
        // No addition leads from infinity, or from what is not a number, to another value.
        self.rest.set(value);
        self.whole.store(0, Ordering::Relaxed);
        self.stripes.each().flatten().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// Makes stripes if threads collide at this counter.
    pub(crate) fn look(&self) {
        let whole = || self.whole.load(Ordering::Relaxed);
        self.stripes.make_if_contended(WIDTH, || whole().wrapping_add(self.rest.get().to_bits()));
    }

    /// Returns the value.
    pub(crate) fn get(&self) -> f64 {
        let own = (self.whole.load(Ordering::Relaxed), self.rest.get());
        let (whole, rest) = self.stripes.each().fold(own, |(whole, rest), stripe| match stripe {
            [a_whole, a_rest, ..] => (whole + a_whole.load(Ordering::Relaxed), rest + value::get(a_rest)),
            _ => (whole, rest),
        });
        whole as f64 + rest
    }
}

/// The words of a stripe: one for each of the two sums.
const WIDTH: usize = 2;
/// From here on, neighbouring numbers differ by 1.
const TWO_TO_52: f64 = (1_u64 << 52) as f64;
/// Whole amounts below this go into the integer. It would overflow after 2^56 such additions, which take
/// eleven years at 5 ns each.
const SMALL: u64 = 256;

/// Returns `amount` if it is a small whole number, as it nearly always is.
#[inline]
fn small(amount: f64) -> Option<u64> {
    // The sum has no fraction, so its bits are those of 2^52 plus the amount, rounded. NaN is too large.
    let sum = amount + TWO_TO_52;
    let whole = sum.to_bits().wrapping_sub(TWO_TO_52.to_bits());
    (whole < SMALL && (sum - TWO_TO_52).to_bits() == amount.to_bits()).then_some(whole)
}
