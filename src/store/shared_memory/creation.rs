//! How a metrics file is made: as a draft beside its name, which it gets once it is complete.
//!
//! Other processes that open the name at any time find either no file or a complete one.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::layout::{Header, SEGMENT_SIZE};
use super::options::SharedMemoryOptions;
use super::space;
use crate::process::clock::since_1970;
use crate::process::random::random_bits;

/// Makes the file of `options.path`. Fails with [`io::ErrorKind::AlreadyExists`] if there is one.
pub(super) fn create(path: &Path, options: &SharedMemoryOptions) -> io::Result<()> {
    let draft = draft_of(path)?;
    // A link, unlike a rename, does not replace a file that another process has made meanwhile.
    let made = write_draft(&draft, options).and_then(|()| {
        rustix::fs::linkat(rustix::fs::CWD, &draft, rustix::fs::CWD, path, AtFlags::empty())
            .map_err(io::Error::from)
    });
    // Removes the second name of a file that was made, and what a failure has left.
    let _ = std::fs::remove_file(&draft);
    made
}

/// Returns a name in the same folder that no other process uses.
fn draft_of(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut draft = OsString::from(".");
    draft.push(name);
    draft.push(format!(".{}.{:x}", std::process::id(), random_bits()));
    Ok(path.with_file_name(draft))
}

fn write_draft(draft: &Path, options: &SharedMemoryOptions) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(options.mode)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(draft)?;
    // The umask may have taken bits away.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(options.mode as rustix::fs::RawMode))?;
    space::reserve(file.as_fd(), 0, SEGMENT_SIZE)?;
    let mut identity = [0; 16];
    identity[..8].copy_from_slice(&random_bits().to_le_bytes());
    identity[8..].copy_from_slice(&random_bits().to_le_bytes());
    let created = since_1970().as_secs();
    file.write_all(&Header { size_limit: options.size_limit, identity, created }.encode())
}
