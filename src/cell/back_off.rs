//! Waits a moment after another core was in the way.

/// Waits for a fifth of a microsecond, so that the other core changes the word some dozen times before it must
/// give the cache line back. Handing the line over takes longer than ten additions.
#[inline]
pub(crate) fn back_off() {
    // The black box keeps the compiler from writing 32 instructions into every hot function.
    (0..std::hint::black_box(32)).for_each(|_| std::hint::spin_loop());
}
