//! Makes forks safe: the parent continues undisturbed, and the child starts with a clean state.
//!
//! A child has one thread, and inherits memory that other threads of its parent may have been changing. So
//! the forking thread takes the locks of every [`Participant`] *before* the fork, in the order of their
//! [`Rank`]. *After* the fork, parent and child release them. The child first calls [`ForkGuard::forked`] on
//! each, which discards the parent's state. Participants register themselves; this file does not depend on
//! them.
//!
//! The lock order, outermost first: the list of participants in this file, then the participants by rank. No
//! participant may hold its lock while it waits for the network or calls the program, because a fork would
//! have to wait too.
//!
//! The hot path does not check for forks, because the child clears pending cells and flags in its handler.

use std::any::TypeId;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// An object with locks that a child must not inherit while another thread of the parent holds them.
pub(crate) trait Participant: Send + Sync {
    /// Takes the locks until the guard is dropped.
    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_>;
}

/// The locks of a [`Participant`] during a fork. Dropping the guard releases them.
pub(crate) trait ForkGuard {
    /// Discards the parent's state; called in the child only. It must not wait, and must not drop data that
    /// another thread may have been changing.
    fn forked(&mut self);
}

/// The position of a participant in the lock order, outermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// A backend: its table, then its store.
    Backend,
    /// The log.
    Log,
    /// An innermost lock: while a thread holds it, it takes no other lock.
    Leaf,
}

/// A registered participant. The next registration removes the entries of dropped participants.
#[derive(Clone)]
enum Entry {
    Fixed(TypeId, &'static dyn Participant),
    Passing(Weak<dyn Participant>),
}

impl Entry {
    fn is_alive(&self) -> bool {
        match self {
            Self::Fixed(..) => true,
            Self::Passing(participant) => participant.strong_count() > 0,
        }
    }

    /// Takes the locks of the participant. Returns `None` if the participant was dropped.
    fn hold(&self) -> Option<Held> {
        let (participant, kept) = match self {
            Self::Fixed(_, participant) => (*participant, None),
            Self::Passing(participant) => {
                let kept = participant.upgrade()?;
                // SAFETY: the guard borrows from the participant, whose heap allocation does not move. `Held`
                // keeps the participant alive and drops the guard first.
                #[allow(unsafe_code)]
                let participant: &'static dyn Participant = unsafe { &*Arc::as_ptr(&kept) };
                (participant, Some(kept))
            }
        };
        Some(Held { guard: participant.lock_for_fork(), _kept: kept })
    }
}

/// All participants, sorted by rank.
static PARTICIPANTS: Mutex<Vec<(Rank, Entry)>> = Mutex::new(Vec::new());

/// The number of forks between the process that loaded the library and this one.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Returns the fork generation of this process. An object with another generation belongs to an ancestor.
#[inline]
pub(crate) fn generation() -> u64 {
    // Relaxed: it changes only in the child handler, while the process has one thread.
    GENERATION.load(Ordering::Relaxed)
}

/// The locks of one participant. Fields drop in order, so the guard is dropped before the participant that it
/// borrows from.
struct Held {
    guard: Box<dyn ForkGuard>,
    _kept: Option<Arc<dyn Participant>>,
}

/// The locks that the forking thread holds between the handlers.
struct AllHeld {
    participants: Vec<Held>,
    _list: MutexGuard<'static, Vec<(Rank, Entry)>>,
}

thread_local! {
    /// Thread-local, because the forking thread runs all three handlers.
    static HELD: RefCell<Option<AllHeld>> = const { RefCell::new(None) };
}

/// Installs the handlers, once per process.
fn install() {
    // A flag, not a `Once`: a child that is forked during the call would wait for ever for a thread of its
    // parent.
    static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
    if IS_INSTALLED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: the library is never unloaded (the shared library and the Python extension are linked with `-z
    // nodelete`), so the handlers exist at every later fork.
    #[allow(unsafe_code)]
    let result = unsafe { libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) };
    if result != 0 {
        log::error!("cannot install the fork handlers: a forked child must not use this library");
    }
}

/// Registers a participant for all later forks, for as long as it lives.
pub(crate) fn register(rank: Rank, participant: Weak<dyn Participant>) {
    install();
    add(&mut lock_list(), rank, Entry::Passing(participant));
}

/// Registers the only participant of its type, which lives as long as the process. Does nothing if it is
/// registered already.
pub(crate) fn register_static<P: Participant>(rank: Rank, participant: &'static P) {
    install();
    let own = TypeId::of::<P>();
    let is_same = |(_, known): &(Rank, Entry)| matches!(known, Entry::Fixed(known, _) if *known == own);
    // Check and add under one lock: a participant that is listed twice would deadlock at a fork.
    let mut list = lock_list();
    if !list.iter().any(is_same) {
        add(&mut list, rank, Entry::Fixed(own, participant));
    }
}

fn add(list: &mut Vec<(Rank, Entry)>, rank: Rank, entry: Entry) {
    list.retain(|(_, known)| known.is_alive());
    let at = list.partition_point(|(known, _)| *known <= rank);
    list.insert(at, (rank, entry));
}

fn lock_list() -> MutexGuard<'static, Vec<(Rank, Entry)>> {
    PARTICIPANTS.lock().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn before() {
    guarded(|| {
        let list = lock_list();
        let participants = list.iter().filter_map(|(_, entry)| entry.hold()).collect();
        let held = AllHeld { participants, _list: list };
        HELD.with(|slot| *slot.borrow_mut() = Some(held));
    });
}

extern "C" fn after_in_parent() {
    guarded(|| drop(HELD.with(|slot| slot.borrow_mut().take())));
}

extern "C" fn after_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    guarded(|| {
        let held = HELD.with(|slot| slot.borrow_mut().take());
        if let Some(mut held) = held {
            held.participants.iter_mut().for_each(|participant| participant.guard.forked());
        }
    });
}

/// Catches a panic in a handler, because it must not unwind into the C code that calls the handler.
fn guarded(handler: impl FnOnce()) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(handler));
}
