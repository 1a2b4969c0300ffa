//! How far a change came that was made at once.
//!
//! Hot calls first try what never panics, waits or calls anything. What is left, if anything, is done apart, so that
//! it costs the hot path nothing.

/// How far a change came that was made at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtOnce {
    /// The change is made.
    Done,
    /// The change is made, but [`Cells::changed`](super::Cells::changed) must still be called.
    Unfinished,
    /// Nothing has changed: threads have [`stripes`](super::stripes), and the change must be made in one of them.
    HasStripes,
    /// Nothing has changed: the change must be made in the other way.
    NotDone,
}
