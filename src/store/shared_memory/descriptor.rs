//! The one descriptor that a metrics file keeps open.
//!
//! The file needs it to grow, to be locked, and to see whether it was cut off. The program may close every
//! descriptor (a daemon does, and so does `os.closerange`) and then open its own files under the same
//! numbers. So the descriptor lies above the standard ones, and each use first checks that the number still
//! refers to the metrics file. If it does not, the file is opened again by its name.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::fs::OFlags;

use crate::process::descriptor::{Identity, above_standard};

/// What a process does with a file that it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    ReadWrite,
    ReadOnly,
}

/// A descriptor that is checked before each use.
#[derive(Debug)]
pub(super) struct FileDescriptor {
    number: AtomicI32,
    access: Access,
    /// The identity of the metrics file. No other file has it while this one is mapped or open.
    identity: Identity,
    /// Whether another process uses the same open file description, and so the same lock.
    is_shared: AtomicBool,
}

impl FileDescriptor {
    /// Opens `path`. Does not follow a symbolic link, and does not wait for the writer of a pipe.
    pub(super) fn open(path: &Path, access: Access) -> io::Result<Self> {
        let file = open(path, access, OFlags::NOFOLLOW)?;
        let identity = Identity::of(file.as_raw_fd())
            .ok_or_else(|| io::Error::other("its descriptor was closed by the program"))?;
        let number = AtomicI32::new(above_standard(file.into())?.into_raw_fd());
        Ok(Self { number, access, identity, is_shared: AtomicBool::new(false) })
    }

    /// Returns the descriptor after checking that it refers to the metrics file. If not, opens `path` again.
    pub(super) fn get(&self, path: &Path) -> io::Result<BorrowedFd<'_>> {
        // Relaxed: the number publishes nothing. A thread that uses an old one checks it like any other.
        let number = self.number.load(Ordering::Relaxed);
        if Identity::of(number) == Some(self.identity) {
            // SAFETY: the number is open, which is checked above. If the program closes it before it is used,
            // the use fails. A race remains that no check can close: the use may reach a file that the
            // program has just opened under this number.
            return Ok(unsafe { BorrowedFd::borrow_raw(number) });
        }
        let file = open(path, self.access, OFlags::NOFOLLOW)?;
        if Identity::of(file.as_raw_fd()) != Some(self.identity) {
            let reason = "the program has closed its descriptor, and its name leads to another file";
            return Err(io::Error::other(reason));
        }
        let fresh = above_standard(file.into())?.into_raw_fd();
        // The old number belongs to the program now, so it is not closed.
        if let Err(found) = self.number.compare_exchange(number, fresh, Ordering::Relaxed, Ordering::Relaxed)
        {
            // Another thread was faster.
            // SAFETY: this function has opened `fresh`, and no other code knows the number.
            drop(unsafe { OwnedFd::from_raw_fd(fresh) });
            // SAFETY: as above: the other thread has just checked it.
            return Ok(unsafe { BorrowedFd::borrow_raw(found) });
        }
        self.is_shared.store(false, Ordering::Relaxed);
        // SAFETY: opened above.
        Ok(unsafe { BorrowedFd::borrow_raw(fresh) })
    }

    /// Returns the length of the file, with the same check in one system call.
    pub(super) fn length(&self, path: &Path) -> io::Result<u64> {
        match Identity::with_length(self.number.load(Ordering::Relaxed)) {
            Some((identity, length)) if identity == self.identity => Ok(length),
            _ => Ok(rustix::fs::fstat(self.get(path)?)?.st_size as u64),
        }
    }

    /// Returns whether `path` still leads to the file: it may have been removed, or replaced by another one.
    pub(super) fn is_named(&self, path: &Path) -> bool {
        Identity::of_path(path) == Some(self.identity)
    }

    /// Returns whether another process has the same open file description, so that an `flock` does not keep
    /// that process out.
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::Relaxed)
    }

    /// Opens the file anew in a forked child.
    ///
    /// A lock belongs to an open file description, which the child shares with its parent until it opens the
    /// file itself. It does so at the fork, before the program may give up the privileges that this needs.
    pub(super) fn forked(&self, path: &Path) {
        let number = self.number.load(Ordering::Relaxed);
        if Identity::of(number) != Some(self.identity) {
            return;
        }
        match self.fresh(number, path) {
            Ok(fresh) => {
                self.number.store(fresh.into_raw_fd(), Ordering::Relaxed);
                // SAFETY: the number refers to the metrics file (checked above), and the child has only this
                // thread.
                drop(unsafe { OwnedFd::from_raw_fd(number) });
            }
            Err(_) => self.is_shared.store(true, Ordering::Relaxed),
        }
    }

    /// Opens the file once more. No map refers to the new open file description, so its locks end with its descriptor.
    pub(super) fn open_again(&self, path: &Path) -> io::Result<Self> {
        let number = AtomicI32::new(self.fresh(self.get(path)?.as_raw_fd(), path)?.into_raw_fd());
        Ok(Self { number, access: self.access, identity: self.identity, is_shared: AtomicBool::new(false) })
    }

    /// Opens the file to which the descriptor `number` refers.
    fn fresh(&self, number: RawFd, path: &Path) -> io::Result<OwnedFd> {
        // The name may lead to another file by now, or nowhere. /proc always leads to the open file.
        let by_number = format!("/proc/self/fd/{number}");
        let file = open(Path::new(&by_number), self.access, OFlags::empty())
            .or_else(|_| open(path, self.access, OFlags::NOFOLLOW))?;
        if Identity::of(file.as_raw_fd()) != Some(self.identity) {
            return Err(io::Error::other("its name leads to another file"));
        }
        above_standard(file.into())
    }
}

impl Drop for FileDescriptor {
    fn drop(&mut self) {
        let number = *self.number.get_mut();
        if Identity::of(number) == Some(self.identity) {
            // SAFETY: it refers to the metrics file, and `self` was its owner.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
}

fn open(path: &Path, access: Access, flags: OFlags) -> io::Result<File> {
    // NONBLOCK: a pipe of that name would wait for a writer. CLOEXEC is the standard library's default.
    OpenOptions::new()
        .read(true)
        .write(access == Access::ReadWrite)
        .custom_flags((flags | OFlags::NONBLOCK).bits() as i32)
        .open(path)
}
