//! The identity of the file that a descriptor number refers to.
//!
//! A descriptor number alone is not safe to use later: the program may close every descriptor, as daemons do,
//! and open its own files under the same numbers. Code that keeps a number, to write to it or to close it in
//! a forked child, also keeps its [`Identity`] and checks it first.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The device and inode of an open file. They are unique among the sockets, pipes and files that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Returns the identity of the file that `number` refers to now, or `None` if the descriptor is closed.
    pub(crate) fn of(number: RawFd) -> Option<Self> {
        Self::with_length(number).map(|(identity, _)| identity)
    }

    /// Returns the identity of the file that `number` refers to now, and its length in bytes, or `None` if
    /// the descriptor is closed.
    pub(crate) fn with_length(number: RawFd) -> Option<(Self, u64)> {
        if number < 0 {
            return None;
        }
        // SAFETY: the number is not -1, and it is only passed to fstat, which returns an error for a closed
        // descriptor.
        #[allow(unsafe_code)]
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        let stat = rustix::fs::fstat(borrowed).ok()?;
        #[allow(clippy::unnecessary_cast)] // the types differ between systems
        Some((Self { device: stat.st_dev as u64, inode: stat.st_ino as u64 }, stat.st_size as u64))
    }

    /// Returns the identity of the file at `path`, or `None` if there is no file. Does not follow a symbolic
    /// link.
    pub(crate) fn of_path(path: &Path) -> Option<Self> {
        let metadata = std::fs::symlink_metadata(path).ok()?;
        Some(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// Moves a descriptor above 2: programs close and replace the standard ones.
pub(crate) fn above_standard(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    if descriptor.as_raw_fd() > 2 {
        return Ok(descriptor);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&descriptor, 3)?)
}

/// A descriptor number, with the identity of its file when it was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Noted {
    number: RawFd,
    identity: Identity,
}

impl Noted {
    /// Notes an open descriptor. Returns `None` if it is closed.
    pub(crate) fn new(number: RawFd) -> Option<Self> {
        Some(Self { number, identity: Identity::of(number)? })
    }

    /// Whether the number still refers to the noted file.
    pub(crate) fn is_same(self) -> bool {
        Identity::of(self.number) == Some(self.identity)
    }

    /// Closes the descriptor, unless the number refers to another file now.
    ///
    /// Call it only in a forked child, whose copy of the descriptor has no owner: see
    /// [`crate::process::fork`].
    pub(crate) fn close_inherited(self) {
        if self.is_same() {
            // SAFETY: the check above shows that the number refers to a file that this library opened. Its
            // owner belongs to a thread of the parent, which does not exist in this process, so no owner
            // closes it again.
            #[allow(unsafe_code)]
            unsafe {
                libc::close(self.number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::{AsRawFd, IntoRawFd};

    #[test]
    fn a_number_that_was_given_to_another_file_is_left_alone() {
        let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
        let noted = Noted::new(ours.as_raw_fd()).unwrap();
        assert!(noted.is_same());
        let program = UdpSocket::bind("127.0.0.1:0").unwrap();
        // SAFETY: both numbers are open, and owned by this test.
        #[allow(unsafe_code)]
        let number = unsafe { libc::dup2(program.as_raw_fd(), ours.into_raw_fd()) };
        assert_eq!(number, noted.number);
        assert!(!noted.is_same());
        noted.close_inherited();
        assert!(Identity::of(number).is_some(), "it is the program's now, and stays open");
        assert_eq!(Identity::of(number), Identity::of(program.as_raw_fd()));
        // SAFETY: this test created the duplicate, and nothing else owns it.
        #[allow(unsafe_code)]
        unsafe {
            libc::close(number);
        }
        assert_eq!(Identity::of(number), None);
    }
}
