//! What a descriptor number refers to.
//!
//! A number alone proves nothing: the program may close every descriptor (a daemon does) and open its own files
//! under the same numbers. Code that keeps a number for later, to write to it or to close it in a forked child,
//! keeps its [`Identity`] too, and checks it first.

use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The device and inode of an open file. Each socket, pipe and file has its own for as long as it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Returns the identity of what `number` refers to now; `None` if it is closed.
    pub(crate) fn of(number: RawFd) -> Option<Self> {
        Self::with_length(number).map(|(identity, _)| identity)
    }

    /// Returns the identity of what `number` refers to now, and its length in bytes; `None` if it is closed.
    pub(crate) fn with_length(number: RawFd) -> Option<(Self, u64)> {
        if number < 0 {
            return None;
        }
        // SAFETY: the number is only passed to fstat, which reports a closed one as an error; it is not -1.
        #[allow(unsafe_code)]
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        let stat = rustix::fs::fstat(borrowed).ok()?;
        #[allow(clippy::unnecessary_cast)] // the types differ between systems
        Some((Self { device: stat.st_dev as u64, inode: stat.st_ino as u64 }, stat.st_size as u64))
    }

    /// Returns the identity of the file at `path`; `None` if there is none. Does not follow a symbolic link.
    pub(crate) fn of_path(path: &Path) -> Option<Self> {
        let metadata = std::fs::symlink_metadata(path).ok()?;
        Some(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// A descriptor number, and what it referred to when it was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Noted {
    number: RawFd,
    identity: Identity,
}

impl Noted {
    /// Notes an open descriptor; `None` if it is closed.
    pub(crate) fn new(number: RawFd) -> Option<Self> {
        Some(Self { number, identity: Identity::of(number)? })
    }

    /// Whether the number still refers to what was noted.
    pub(crate) fn is_same(self) -> bool {
        Identity::of(self.number) == Some(self.identity)
    }

    /// Closes the descriptor, unless the number refers to something else by now.
    ///
    /// Call it only in a forked child, whose copy of the descriptor has no owner: see [`crate::process::fork`].
    pub(crate) fn close_inherited(self) {
        if self.is_same() {
            // SAFETY: the number refers to what this library has opened (checked), and its owner is memory of a
            // thread of the parent, which does not exist here and never drops it.
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
        // SAFETY: this test has made the duplicate.
        #[allow(unsafe_code)]
        unsafe {
            libc::close(number);
        }
        assert_eq!(Identity::of(number), None);
    }
}
