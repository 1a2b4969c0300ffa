//! What happens at a fork: the parent notices nothing, and the child begins clean.
//!
//! A child has one thread, and memory in whatever state the other threads of its parent had it. So the forking
//! thread takes the locks of every [`Participant`] *before* the fork, in the order of their [`Rank`]; *after* it,
//! both sides release them. The child first calls [`ForkGuard::forked`] on each, which forgets what belongs to
//! the parent. Participants register themselves; this file knows none of them.
//!
//! The lock order, outermost first: the list of participants below, then the participants by rank. No participant may
//! hold its lock while it waits for the network or calls the program: a fork would wait as long.
//!
//! The hot path pays nothing for this: the child finds its cells empty and its flags clear.

use std::any::TypeId;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Has locks that a forked child must not inherit while another thread of the parent holds them.
pub(crate) trait Participant: Send + Sync {
    /// Takes the locks. They are held until the guard is dropped.
    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_>;
}

/// The locks of a [`Participant`] while a fork goes on. Dropping it releases them.
pub(crate) trait ForkGuard {
    /// In the child: forgets what belongs to the parent. It must not wait, and must not drop what another thread
    /// may have been changing.
    fn forked(&mut self);
}

/// Where the locks of a participant stand in the lock order: outer ranks first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// A backend: its table, then its store.
    Backend,
    /// The log.
    Log,
    /// Innermost: a lock under which no other is taken.
    Leaf,
}

/// A registered participant. The entry of a dropped one is removed with the next registration.
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

    /// Takes the locks of the participant.
    fn hold(&self) -> Option<Held> {
        let (participant, kept) = match self {
            Self::Fixed(_, participant) => (*participant, None),
            Self::Passing(participant) => {
                let kept = participant.upgrade()?;
                // SAFETY: the guard borrows from the participant, whose heap allocation does not move, and which
                // `Held` keeps behind the guard, so that the guard is dropped first.
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

/// How many forks lie between this process and the one that loaded the library.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Returns the number of this process in its line of forks. What carries another number belongs to an ancestor.
#[inline]
pub(crate) fn generation() -> u64 {
    // Relaxed: it changes only in the child handler, when there is one thread.
    GENERATION.load(Ordering::Relaxed)
}

/// The locks of one participant. Fields drop in order: the guard before what it borrows from.
struct Held {
    guard: Box<dyn ForkGuard>,
    _kept: Option<Arc<dyn Participant>>,
}

/// What the forking thread holds between the handlers.
struct AllHeld {
    participants: Vec<Held>,
    _list: MutexGuard<'static, Vec<(Rank, Entry)>>,
}

thread_local! {
    /// The thread that forks is the thread that runs all three handlers.
    static HELD: RefCell<Option<AllHeld>> = const { RefCell::new(None) };
}

/// Installs the handlers, once in a process.
fn install() {
    // A flag and not a `Once`: a child that is forked meanwhile would wait for ever for a thread of its parent.
    static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
    if IS_INSTALLED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: the handlers are functions that live as long as the library, which is never unloaded (the
    // shared library and the Python extension are linked with `-z nodelete`), so they are there at a fork.
    #[allow(unsafe_code)]
    let result = unsafe { libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) };
    if result != 0 {
        log::error!("cannot install the fork handlers: a forked child must not use this library");
    }
}

/// Includes a participant in every fork from now on, for as long as it lives.
pub(crate) fn register(rank: Rank, participant: Weak<dyn Participant>) {
    install();
    add(&mut lock_list(), rank, Entry::Passing(participant));
}

/// Includes the one participant of its type, which lives as long as the process. Registering it again does nothing.
pub(crate) fn register_static<P: Participant>(rank: Rank, participant: &'static P) {
    install();
    let own = TypeId::of::<P>();
    let is_same = |(_, known): &(Rank, Entry)| matches!(known, Entry::Fixed(known, _) if *known == own);
    // One look under one lock: a participant that stood in the list twice would wait for itself.
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

/// Keeps a panic inside a handler: it must not cross the C code that calls it.
fn guarded(handler: impl FnOnce()) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(handler));
}
