//! What happens at a fork: the parent notices nothing, and the child begins clean.
//!
//! A child has one thread, and memory in whatever state the other threads of its parent had it. So
//! *before* a fork the forking thread takes the short metadata locks of every backend, in a fixed
//! order (registry, then for each backend its table and its store, then the log, the callback and what
//! the exporters have open); none of them is ever held across the network. *After* it both sides release
//! them. The child first sets pending changes to zero (the parent owns them, and sends them), has each
//! store forget its threads, channels and connections without touching them (they may be half changed), and
//! closes the sockets that it has inherited. A store starts anew on its first use; an exporter does not.
//!
//! The hot path pays nothing for this, or one relaxed load ([`generation`]): it finds its cells empty and its
//! flag clear.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLockWriteGuard, Weak};

use crate::backend::BackendParts;
use crate::exporter;
use crate::process::logging;
use crate::table::Records;

/// The locks of a store while a fork goes on. Dropping it releases them.
pub(crate) trait ForkGuard {
    /// In the child: forgets what belongs to the parent. It must not wait, and not drop what another
    /// thread may have been changing.
    fn forked(&mut self);
}

/// All backends that are in use, also closed ones: their locks must not be inherited either.
static BACKENDS: Mutex<Vec<Weak<BackendParts>>> = Mutex::new(Vec::new());

/// How many forks lie between this process and the one that loaded the library.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// The number of this process in its line of forks: what carries another one belongs to an ancestor.
#[inline]
pub(crate) fn generation() -> u64 {
    // Relaxed: it changes only in the child handler, when there is one thread.
    GENERATION.load(Ordering::Relaxed)
}

/// What the forking thread holds between the handlers. Fields drop in order: guards before what they
/// guard.
struct Held {
    backends: Vec<HeldBackend>,
    _registry: MutexGuard<'static, Vec<Weak<BackendParts>>>,
    log: logging::ForkGuard,
    _restarted: MutexGuard<'static, Option<Restarted>>,
    exporters: exporter::ForkGuard,
}

struct HeldBackend {
    records: RwLockWriteGuard<'static, Records>,
    store: Box<dyn ForkGuard>,
    /// Keeps alive what the guards above point into.
    parts: Arc<BackendParts>,
}

thread_local! {
    /// The thread that forks is the thread that runs all three handlers.
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// Installs the handlers, once in a process.
pub(crate) fn install() {
    // A flag and not a `Once`: a child that is forked meanwhile must not wait for a thread that it lacks.
    static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
    if IS_INSTALLED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: the handlers are functions that live as long as the library, which is never unloaded (the
    // shared library and the Python extension are linked with `-z nodelete`), so they are there at a fork.
    #[allow(unsafe_code)]
    let result = unsafe { libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) };
    if result != 0 {
        log::error!("the fork handlers could not be installed: a forked child must not use this library");
    }
}

/// What the program wants to do when a store's threads start anew in a forked child.
type Restarted = Arc<dyn Fn() + Send + Sync>;

static RESTARTED: Mutex<Option<Restarted>> = Mutex::new(None);

/// Sets what is done when a store's threads start anew in a forked child.
pub(crate) fn on_restart(callback: Option<Restarted>) {
    *RESTARTED.lock().unwrap_or_else(PoisonError::into_inner) = callback;
}

/// A store's threads have started anew in a forked child. Not while a lock is held: the program's own code
/// is at the other end.
pub(crate) fn restarted() {
    let callback = RESTARTED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(callback) = callback {
        callback();
    }
}

/// From now on, and as long as it is used, forks take care of this backend.
pub(crate) fn register(parts: &Arc<BackendParts>) {
    let mut backends = lock_registry();
    backends.retain(|known| known.strong_count() > 0);
    backends.push(Arc::downgrade(parts));
}

/// All backends that are in use.
pub(crate) fn backends() -> Vec<Arc<BackendParts>> {
    lock_registry().iter().filter_map(Weak::upgrade).collect()
}

fn lock_registry() -> MutexGuard<'static, Vec<Weak<BackendParts>>> {
    BACKENDS.lock().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn before() {
    guarded(|| {
        let registry = lock_registry();
        let backends = registry.iter().filter_map(Weak::upgrade).map(hold).collect();
        let restarted = RESTARTED.lock().unwrap_or_else(PoisonError::into_inner);
        let held = Held {
            backends,
            _registry: registry,
            log: logging::lock_for_fork(),
            _restarted: restarted,
            exporters: exporter::lock_for_fork(),
        };
        HELD.with(|slot| *slot.borrow_mut() = Some(held));
    });
}

fn hold(parts: Arc<BackendParts>) -> HeldBackend {
    // SAFETY: the guards borrow from `parts`, whose heap allocation does not move and which is kept
    // in the same struct, behind the guards, so that they are dropped first.
    #[allow(unsafe_code)]
    let eternal: &'static BackendParts = unsafe { &*Arc::as_ptr(&parts) };
    HeldBackend { records: eternal.table.lock_for_fork(), store: eternal.store.lock_for_fork(), parts }
}

extern "C" fn after_in_parent() {
    guarded(|| drop(HELD.with(|slot| slot.borrow_mut().take())));
}

extern "C" fn after_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    guarded(|| {
        let held = HELD.with(|slot| slot.borrow_mut().take());
        if let Some(mut held) = held {
            for backend in &mut held.backends {
                backend.records.reset_metrics_after_fork();
                backend.store.forked();
                backend.parts.tally.forked();
            }
            held.log.forked();
            held.exporters.forked();
        }
    });
}

/// A panic must not leave a handler: it would cross C code. There is nobody to tell.
fn guarded(handler: impl FnOnce()) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(handler));
}
