//! Finishes the work of all participants when the process ends.
//!
//! Closes the backends of a program that returns from `main` or calls `exit` without closing them. (`_exit`,
//! a fatal signal and `exec` run no handlers.) Participants register themselves; this file does not depend on
//! them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::fork::{self, ForkGuard, Participant, Rank};
use super::thread::Thread;

/// A participant with work to finish before the process ends.
pub(crate) trait AtExit: Send + Sync {
    /// Begins to finish, without waiting. It is called on all participants before `finish` is called on any
    /// of them.
    fn begin(&self) {}

    /// Finishes the work. The participant limits the time that this takes, and logs failures.
    fn finish(&self);
}

/// The phase in which a participant finishes. All participants of a phase finish concurrently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Sends pending changes.
    Send,
    /// Stops serving.
    Serve,
}

type List = Vec<(Phase, Weak<dyn AtExit>)>;

static PARTICIPANTS: Mutex<List> = Mutex::new(Vec::new());

/// Registers a participant, for as long as it lives.
pub(crate) fn register(phase: Phase, participant: Weak<dyn AtExit>) {
    install();
    let mut list = lock();
    list.retain(|(_, known)| known.strong_count() > 0);
    let at = list.partition_point(|(known, _)| *known <= phase);
    list.insert(at, (phase, participant));
}

/// Installs the handler, once per process.
fn install() {
    fork::register_static(Rank::Leaf, &LockedList);
    // A flag, not a `Once`: a child that is forked during the call would wait for ever for a thread of its
    // parent.
    static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
    if IS_INSTALLED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: the handler is a function that lives as long as the library, which is never unloaded.
    #[allow(unsafe_code)]
    let result = unsafe { libc::atexit(handler) };
    if result != 0 {
        log::warn!("cannot install the exit handler: close backends before the process ends");
    }
}

/// Finishes the work of all participants, phase by phase. The participants of a phase finish concurrently, so
/// a phase takes no longer than its slowest participant.
pub(crate) fn close_all() {
    let participants: Vec<(Phase, Arc<dyn AtExit>)> =
        lock().iter().filter_map(|(phase, known)| Some((*phase, known.upgrade()?))).collect();
    participants.iter().for_each(|(_, participant)| participant.begin());
    for phase in participants.chunk_by(|(one, _), (other, _)| one == other) {
        finish(phase);
    }
}

fn finish(participants: &[(Phase, Arc<dyn AtExit>)]) {
    // This thread finishes one participant itself: most programs have only one and need no further thread.
    let Some(((_, own), others)) = participants.split_last() else { return };
    let threads: Vec<Thread> = others
        .iter()
        .filter_map(|(_, participant)| {
            let other = Arc::clone(participant);
            // If no thread can be started, this thread finishes the participant.
            Thread::spawn("close", move || other.finish()).map_err(|_| participant.finish()).ok()
        })
        .collect();
    own.finish();
    threads.into_iter().for_each(Thread::join);
}

extern "C" fn handler() {
    // A panic must not leave the handler, because it would unwind into C code.
    let _ = std::panic::catch_unwind(close_all);
}

fn lock() -> MutexGuard<'static, List> {
    PARTICIPANTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The participant of forks that locks the list.
struct LockedList;

impl Participant for LockedList {
    fn lock_for_fork(&self) -> Box<dyn ForkGuard + '_> {
        Box::new(lock())
    }
}

impl ForkGuard for MutexGuard<'static, List> {
    /// The list stays unchanged: the child has the same backends, and finishes them at its own exit.
    fn forked(&mut self) {}
}
