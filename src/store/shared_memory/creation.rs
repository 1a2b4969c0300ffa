//! Makes a metrics file: writes a draft in the same folder, and gives it its name once it is complete.
//!
//! A process that opens the name at any time finds either no file or a complete one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::entry::write_empty_index;
use super::layout::{Header, SEGMENT_SIZE};
use super::options::SharedMemoryOptions;
use super::space;
use crate::process::clock::since_1970;
use crate::process::random::random_bits;

/// Makes the file of `options.path`. Fails with [`io::ErrorKind::AlreadyExists`] if there is one.
pub(super) fn create(path: &Path, options: &SharedMemoryOptions) -> io::Result<()> {
    let draft = draft_of(path)?;
    let made = write_draft(&draft, options).and_then(|()| give_name(&draft, path));
    // Removes the draft's own name after a success, and the draft after a failure.
    let _ = std::fs::remove_file(&draft);
    made
}

/// Returns a name in the same folder that no other process uses.
fn draft_of(path: &Path) -> io::Result<PathBuf> {
    path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // The draft's name does not contain the file's name, which may already be as long as a name can be.
    Ok(path.with_file_name(format!(".pytheus-backend-rs.{}.{:x}", std::process::id(), random_bits())))
}

/// Gives the draft its name. Never replaces a file that another process has made meanwhile.
fn give_name(draft: &Path, path: &Path) -> io::Result<()> {
    let linked = rustix::fs::linkat(CWD, draft, CWD, path, AtFlags::empty());
    match linked {
        // File systems without hard links: FAT, and some of FUSE and of network servers.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {}
        _ => return Ok(linked?),
    }
    // A link checks for the name and creates it in one step. Here an exclusive lock of the folder makes the
    // check and the rename one step.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = File::open(folder)?;
    rustix::fs::flock(&folder, FlockOperation::LockExclusive)?;
    if path.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    std::fs::rename(draft, path)
}

fn write_draft(draft: &Path, options: &SharedMemoryOptions) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(options.mode)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(draft)?;
    // The umask may have removed bits. A file system without permissions refuses the call, which does no
    // harm.
    match rustix::fs::fchmod(&file, Mode::from_raw_mode(options.mode as rustix::fs::RawMode)) {
        Err(Errno::PERM | Errno::OPNOTSUPP) => {}
        result => result?,
    }
    space::reserve(file.as_fd(), 0, SEGMENT_SIZE)?;
    let mut identity = [0; 16];
    identity[..8].copy_from_slice(&random_bits().to_le_bytes());
    identity[8..].copy_from_slice(&random_bits().to_le_bytes());
    let created = since_1970().as_secs();
    let mut header = Header { size_limit: options.size_limit, identity, created }.encode();
    write_empty_index(&mut header);
    file.write_all(&header)
}
