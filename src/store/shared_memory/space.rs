//! Reserves space of the file before it is used.
//!
//! A write to a mapped page for which the file system has no space raises SIGBUS. Reserving the space first
//! turns a full disk into an error. The limit of the process for file sizes is checked before each call,
//! because the kernel raises SIGXFSZ, which ends a program by default, when a call exceeds it.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Reserves `length` bytes at `offset`, and extends the file to their end if it is shorter.
pub(super) fn reserve(file: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    let end = offset + length;
    let grows = end > rustix::fs::fstat(file)?.st_size as u64;
    if grows && getrlimit(Resource::Fsize).current.is_some_and(|limit| end > limit) {
        return Err(Errno::FBIG.into());
    }
    // Apple's systems can only reserve space after the end of the file, so holes stay.
    if cfg!(target_vendor = "apple") && !grows {
        return Ok(());
    }
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), offset, length) {
            Err(Errno::INTR) => {}
            // The two errors are one number on Linux, and two numbers elsewhere.
            Err(error) if [Errno::OPNOTSUPP, Errno::NOTSUP].contains(&error) => {
                return write_zeros(file, offset, length);
            }
            result => return Ok(result?),
        }
    }
}

/// Reserves the bytes on a file system without `fallocate`, by writing zeros.
fn write_zeros(file: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    let file = File::from(file.try_clone_to_owned()?);
    let zeros = [0; 4096];
    // Bytes below the end may be in use already: another process may have extended the file first.
    let mut at = offset.max(file.metadata()?.len());
    while at < offset + length {
        let count = zeros.len().min((offset + length - at) as usize);
        file.write_all_at(&zeros[..count], at)?;
        at += count as u64;
    }
    Ok(())
}
