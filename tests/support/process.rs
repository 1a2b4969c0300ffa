//! Forked processes. A child only uses the engine and plain system calls and ends by `_exit`, because the
//! threads of the test harness do not exist in it. An alarm clock ends a child that hangs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::PATIENCE;

/// A forked process. It must be joined or killed.
pub struct Process(i32);

/// Runs `body` in a forked child, which ends with 0 if the body returns true.
pub fn fork(body: impl FnOnce() -> bool) -> Process {
    // SAFETY: the child only calls the engine, which promises to work after a fork, and _exit.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: plain system calls. A panic must not reach the test harness. The child ends with its
            // parent, so that a failed test leaves no process behind.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::alarm(PATIENCE.as_secs() as u32);
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
                libc::_exit(match result {
                    Ok(true) => 0,
                    Ok(false) => 1,
                    Err(_) => 2,
                })
            }
        }
        pid => Process(pid),
    }
}

/// Lets this child live for so many seconds more, instead of [`PATIENCE`].
pub fn live_for(seconds: u32) {
    // SAFETY: a plain system call.
    unsafe { libc::alarm(seconds) };
}

/// Returns whether this process runs as root.
pub fn is_root() -> bool {
    // SAFETY: a plain system call.
    unsafe { libc::geteuid() == 0 }
}

/// Runs `body` in a forked child that runs as another user.
pub fn as_user(user: u32, group: u32, body: impl FnOnce() -> bool) {
    fork(|| {
        // SAFETY: plain system calls.
        let done = unsafe {
            libc::setgroups(0, std::ptr::null()) == 0 && libc::setgid(group) == 0 && libc::setuid(user) == 0
        };
        done && body()
    })
    .join();
}

/// Runs `body` in a forked child without privileges.
pub fn as_nobody(body: impl FnOnce() -> bool) {
    if is_root() { as_user(65534, 65534, body) } else { fork(body).join() }
}

impl Process {
    /// Waits for the end of the child. Panics unless it exited with 0.
    pub fn join(self) {
        let status = self.wait();
        assert!(!libc::WIFSIGNALED(status), "the child was ended by signal {}", libc::WTERMSIG(status));
        assert_eq!(libc::WEXITSTATUS(status), 0, "the child's checks failed");
    }

    /// Kills the process. Panics if it has ended before.
    pub fn kill(self) {
        self.signal(libc::SIGKILL);
        let status = self.wait();
        assert!(
            libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL,
            "the child ended before it was killed: status {status:#x}"
        );
    }

    pub fn pid(&self) -> i32 {
        self.0
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a plain system call; the process is our child and has not been waited for.
        assert_eq!(unsafe { libc::kill(self.0, signal) }, 0);
    }

    fn wait(self) -> i32 {
        let mut status = 0;
        // SAFETY: a plain system call on our own child, which is waited for once.
        assert_eq!(unsafe { libc::waitpid(self.0, &raw mut status, 0) }, self.0);
        status
    }
}

/// Keeps this process, a forked child, from starting threads, by the limit of its user.
pub fn forbid_threads() {
    limit_threads(0);
    // SAFETY: plain system calls. The limit does not apply to root, so the child becomes the user nobody.
    unsafe {
        if libc::getuid() == 0 {
            let nobody = 65_534;
            assert_eq!(libc::setresuid(nobody, nobody, 0), 0, "{}", std::io::Error::last_os_error());
        }
    }
}

/// Undoes [`forbid_threads`].
pub fn allow_threads() {
    limit_threads(libc::RLIM_INFINITY);
}

fn limit_threads(count: libc::rlim_t) {
    // SAFETY: plain system calls, on a struct that the first fills in.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_NPROC, &raw mut limit), 0);
        limit.rlim_cur = count.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit), 0);
    }
}

/// Numbers that a test shares with its children, in memory outside the engine.
pub struct SharedNumbers {
    first: *const AtomicU64,
    count: usize,
}

impl SharedNumbers {
    pub fn new(count: usize) -> Self {
        // SAFETY: a new anonymous mapping of zeros, which is never unmapped.
        let first = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * 8,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(first, libc::MAP_FAILED);
        Self { first: first.cast(), count }
    }

    pub fn at(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.count);
        // SAFETY: the index is inside the mapping, which is aligned and never unmapped.
        unsafe { &*self.first.add(index) }
    }

    pub fn get(&self, index: usize) -> u64 {
        self.at(index).load(Ordering::SeqCst)
    }

    pub fn add(&self, index: usize, amount: u64) {
        self.at(index).fetch_add(amount, Ordering::SeqCst);
    }

    pub fn sum(&self) -> u64 {
        (0..self.count).map(|index| self.get(index)).sum()
    }
}

// SAFETY: it only points to atomics.
unsafe impl Send for SharedNumbers {}
// SAFETY: as above.
unsafe impl Sync for SharedNumbers {}

/// A linear congruential generator for the random moments of kills.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Self(time.as_nanos() as u64)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Sets a flag that ends threads, also when a test fails.
pub struct EndOnDrop<'flag>(pub &'flag AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
