//! The locks by which processes see who lives.
//!
//! A process with a place locks one byte for it, far behind the end of the file. The kernel drops the lock when the
//! process ends in any way, so every process that can read the file sees at once who lives, across pid namespaces
//! too. The lock belongs to an open file description that serves nothing else, and that a forked child closes.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// The byte that the process with the place 0 locks: 2^62.
const LOCKS_AT: libc::off_t = 1 << (libc::off_t::BITS - 2);
/// How many processes can have a place.
pub(super) const PLACES: u64 = 65_536;

/// Locks the byte of a place. Returns `false` if another process has it.
pub(super) fn lock(file: BorrowedFd<'_>, place: u64) -> io::Result<bool> {
    match control(file, libc::F_OFD_SETLK, place) {
        Ok(_) => Ok(true),
        Err(error) if [Errno::AGAIN, Errno::ACCESS].iter().any(|errno| is(&error, *errno)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns whether a process has locked the byte of a place, through another open file description than `file`.
pub(super) fn is_locked(file: BorrowedFd<'_>, place: u64) -> io::Result<bool> {
    Ok(control(file, libc::F_OFD_GETLK, place)?.l_type != libc::F_UNLCK as libc::c_short)
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

fn control(file: BorrowedFd<'_>, command: libc::c_int, place: u64) -> io::Result<libc::flock> {
    // SAFETY: all fields are numbers, for which zeros are valid.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = LOCKS_AT + place as libc::off_t;
    lock.l_len = 1;
    loop {
        // SAFETY: the descriptor is open, and the command reads and writes one flock.
        if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) } == 0 {
            return Ok(lock);
        }
        let error = io::Error::last_os_error();
        if !is(&error, Errno::INTR) {
            return Err(error);
        }
    }
}
