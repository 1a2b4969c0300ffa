//! The metrics file of one process: opened, checked, mapped and grown.
//!
//! It maps a segment when the segment is first needed, and keeps the map until the store is dropped. This
//! module checks the file as a whole; [`super::record`] checks its records.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use once_cell::race::OnceBox;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::creation::create;
use super::descriptor::{Access, FileDescriptor};
use super::errors::{failed, unusable};
use super::layout::{HEADER_SIZE, Header, SEGMENT_SIZE};
use super::options::{SharedMemoryOptions, Start};
use super::space;
use crate::cell::segment::Segment;
use crate::model::error::{Error, ErrorKind, Result};
use crate::process::service::pid_namespace;

/// How often an open is tried while other processes make and remove the file.
const OPEN_ATTEMPTS: usize = 100;

/// An open file and its mapped segments.
#[derive(Debug)]
pub(super) struct SharedFile {
    path: PathBuf,
    descriptor: FileDescriptor,
    access: Access,
    header: Header,
    /// One slot for each segment that the file may ever have.
    slots: Box<[Slot]>,
    /// The inode of this process's pid namespace, or 0 if it is unknown.
    namespace: AtomicU64,
    /// Whether another program held the `flock` when this process last took the lock.
    has_outsider: AtomicBool,
}

/// A segment that is mapped when it is first needed.
#[derive(Debug, Default)]
struct Slot {
    /// Not a `OnceLock`: a forked child must not wait for a thread that it does not have.
    segment: OnceBox<Arc<Segment>>,
    /// Whether the file system has reserved all its bytes.
    is_reserved: AtomicBool,
}

impl SharedFile {
    /// Opens the file for counting, or makes it.
    pub(super) fn open(path: &Path, options: &SharedMemoryOptions) -> Result<Self> {
        if options.start == Start::Reset {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(path, "cannot be removed", error));
                }
                _ => {}
            }
        }
        // Another process may make or remove the file between the two calls.
        for _ in 0..OPEN_ATTEMPTS {
            match FileDescriptor::open(path, Access::ReadWrite) {
                Ok(descriptor) => {
                    check_owner(path, &descriptor, options.mode)?;
                    return Self::new(path, descriptor, Access::ReadWrite);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(not_opened(path, "cannot be opened for reading and writing", error));
                }
            }
            match create(path, options) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(path, "cannot be made", error)),
            }
        }
        Err(unusable(path, "another process removes it whenever it is made"))
    }

    /// Opens a file that exists, and maps it so that this process cannot change it.
    pub(super) fn open_to_read(path: &Path) -> Result<Self> {
        match FileDescriptor::open(path, Access::ReadOnly) {
            Ok(descriptor) => Self::new(path, descriptor, Access::ReadOnly),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let message = format!(
                    "there is no metrics file {}: the application makes it when it starts",
                    path.display()
                );
                Err(Error::new(ErrorKind::Unavailable, message))
            }
            Err(error) => Err(not_opened(path, "cannot be opened for reading", error)),
        }
    }

    fn new(path: &Path, descriptor: FileDescriptor, access: Access) -> Result<Self> {
        let file = descriptor.get(path).map_err(|error| failed(path, "cannot be read", error))?;
        let header = read_header(path, file)?;
        let count = header.size_limit / SEGMENT_SIZE;
        if !(1..=1 << 20).contains(&count) {
            return Err(unusable(path, format!("its size limit is {} bytes", header.size_limit)));
        }
        let slots = (0..count).map(|_| Slot::default()).collect();
        let (namespace, has_outsider) = (AtomicU64::new(pid_namespace()), AtomicBool::new(false));
        let path = path.to_owned();
        let shared = Self { path, descriptor, access, header, slots, namespace, has_outsider };
        // The first segment holds the words that every operation needs.
        shared.segment(0)?;
        Ok(shared)
    }

    /// Returns whether the name still leads to this file.
    pub(super) fn has_its_name(&self) -> bool {
        self.descriptor.is_named(&self.path)
    }

    /// Returns the part of the header that never changes.
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the file's name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the length of the file in bytes.
    pub(super) fn length(&self) -> Result<u64> {
        self.descriptor
            .length(&self.path)
            .map_err(|error| failed(&self.path, "cannot be opened again", error))
    }

    /// Returns the descriptor, checked.
    pub(super) fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        self.descriptor.get(&self.path).map_err(|error| failed(&self.path, "cannot be opened again", error))
    }

    /// Returns whether an `flock` of the descriptor keeps all other processes out.
    pub(super) fn has_own_flock(&self) -> bool {
        !self.descriptor.is_shared()
    }

    /// Returns the inode of this process's pid namespace.
    pub(super) fn namespace(&self) -> u64 {
        // Relaxed, here and below: the values publish nothing.
        self.namespace.load(Ordering::Relaxed)
    }

    /// Returns whether another program held the `flock` when this process last took the lock.
    pub(super) fn has_outsider(&self) -> bool {
        self.has_outsider.load(Ordering::Relaxed)
    }

    /// Notes whether another program holds the `flock`.
    pub(super) fn set_outsider(&self, is_there: bool) {
        self.has_outsider.store(is_there, Ordering::Relaxed);
    }

    /// Opens the file once more, with an open file description of its own.
    pub(super) fn open_again(&self) -> Result<FileDescriptor> {
        let again = self.descriptor.open_again(&self.path);
        again.map_err(|error| failed(&self.path, "cannot be opened again", error))
    }

    /// Prepares the file for a forked child.
    pub(super) fn forked(&self) {
        self.namespace.store(pid_namespace(), Ordering::Relaxed);
        self.descriptor.forked(&self.path);
    }

    /// Returns the segment that holds the byte at `offset`, for reading. Maps it if it is not mapped yet.
    pub(super) fn segment(&self, offset: u64) -> Result<&Arc<Segment>> {
        let slot = self.slot(offset)?;
        if let Some(segment) = slot.segment.get() {
            return Ok(segment);
        }
        let start = offset / SEGMENT_SIZE * SEGMENT_SIZE;
        self.check_length(start + SEGMENT_SIZE)?;
        let file = self.descriptor()?;
        let has_holes = has_holes(file).map_err(|error| failed(&self.path, "cannot be read", error))?;
        if has_holes && !has_data(file, start) {
            let end = start + SEGMENT_SIZE;
            return Err(unusable(&self.path, format!("bytes {start} to {end} are a hole")));
        }
        let what = if has_holes { "has holes that cannot be filled" } else { "cannot be mapped" };
        let map = || match self.access {
            Access::ReadWrite => Segment::map(file.as_raw_fd(), start, SEGMENT_SIZE, has_holes),
            Access::ReadOnly => Segment::map_to_read(file.as_raw_fd(), start, SEGMENT_SIZE, has_holes),
        };
        let segment = map().or_else(|error| match self.access {
            // Reserving the space either helps or says why the holes cannot be read.
            Access::ReadWrite if has_holes => {
                space::reserve(file, start, SEGMENT_SIZE)?;
                map()
            }
            _ => Err(error),
        });
        let segment = segment.map_err(|error| failed(&self.path, what, error))?;
        // If another thread has mapped it meanwhile, its map stays, and this one is dropped.
        Ok(slot.segment.get_or_init(|| Box::new(segment)))
    }

    /// Returns the segment that holds the byte at `offset`, for writing. Fills its holes, which a copied file
    /// may have, so that no later write raises SIGBUS.
    pub(super) fn writable_segment(&self, offset: u64) -> Result<&Arc<Segment>> {
        let segment = self.segment(offset)?;
        let slot = self.slot(offset)?;
        // Relaxed: the flag publishes nothing, and reserving twice does no harm.
        if !slot.is_reserved.load(Ordering::Relaxed) {
            if self.access == Access::ReadOnly {
                return Err(unusable(&self.path, "it is open for reading only"));
            }
            let start = offset / SEGMENT_SIZE * SEGMENT_SIZE;
            space::reserve(self.descriptor()?, start, SEGMENT_SIZE)
                .map_err(|error| failed(&self.path, "has holes that cannot be filled", error))?;
            slot.is_reserved.store(true, Ordering::Relaxed);
        }
        Ok(segment)
    }

    fn slot(&self, offset: u64) -> Result<&Slot> {
        usize::try_from(offset / SEGMENT_SIZE)
            .ok()
            .and_then(|number| self.slots.get(number))
            .ok_or_else(|| unusable(&self.path, "it refers to a place behind its size limit"))
    }

    /// Checks that the file has at least `needed` bytes. A read behind the end of a file that was cut off
    /// would raise SIGBUS.
    pub(super) fn check_length(&self, needed: u64) -> Result<()> {
        let length = self.length()?;
        if length >= needed {
            return Ok(());
        }
        Err(unusable(&self.path, format!("it was cut off: {length} bytes, expected at least {needed}")))
    }

    /// Returns how many bytes the file system has left for this user.
    pub(super) fn space_left(&self) -> Result<u64> {
        let system = rustix::fs::fstatvfs(self.descriptor()?)
            .map_err(|error| failed(&self.path, "cannot be read", error))?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }

    /// Adds the segment that begins at `offset` to the file.
    pub(super) fn grow(&self, offset: u64) -> Result<()> {
        let limit = self.header.size_limit;
        if offset + SEGMENT_SIZE > limit {
            return Err(unusable(&self.path, format!("its size limit of {limit} bytes is reached")));
        }
        space::reserve(self.descriptor()?, offset, SEGMENT_SIZE)
            .map_err(|error| failed(&self.path, "cannot grow", error))
    }
}

fn read_header(path: &Path, file: BorrowedFd<'_>) -> Result<Header> {
    let cannot_be_read = |error: io::Error| failed(path, "cannot be read", error);
    // A duplicate, because the functions of the standard library need a descriptor that they own.
    let file = std::fs::File::from(file.try_clone_to_owned().map_err(cannot_be_read)?);
    let metadata = file.metadata().map_err(cannot_be_read)?;
    if !metadata.is_file() {
        return Err(unusable(path, "it is no regular file"));
    }
    let mut bytes = vec![0; HEADER_SIZE.min(metadata.len()) as usize];
    file.read_exact_at(&mut bytes, 0).map_err(cannot_be_read)?;
    Header::decode(&bytes).map_err(|error| unusable(path, error.message()))
}

/// Refuses to count in a file of another user, unless the owner is root or `mode` lets other users write.
///
/// The owner of a file can truncate it, which kills the processes that count in it. So a process does not
/// count by mistake in a file that another user has put into `/tmp` or `/dev/shm`. Reading needs permission
/// only.
fn check_owner(path: &Path, descriptor: &FileDescriptor, mode: u32) -> Result<()> {
    let file = descriptor.get(path).map_err(|error| failed(path, "cannot be read", error))?;
    let owner = rustix::fs::fstat(file).map_err(|error| failed(path, "cannot be read", error))?.st_uid;
    let user = rustix::process::geteuid().as_raw();
    if owner == user || owner == 0 || mode & 0o022 != 0 {
        return Ok(());
    }
    let reason = format!(
        "it belongs to the user {owner}, and this process runs as {user}: set the option \"mode\" to 0660 or \
         0666 in all processes that count in it"
    );
    Err(unusable(path, reason))
}

fn not_opened(path: &Path, what: &str, error: io::Error) -> Error {
    if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
        return unusable(path, "it is a symbolic link, which is not followed");
    }
    failed(path, what, error)
}

/// Returns whether the file system has reserved fewer bytes than the file has. A copy may be such a file.
fn has_holes(file: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = rustix::fs::fstat(file)?;
    // st_blocks counts units of 512 bytes, whatever the file system's own block size is.
    Ok((stat.st_blocks as u64) * 512 < stat.st_size as u64)
}

/// Returns whether the segment at `start` has any data. Each segment in use begins with a record, so a
/// segment without data was never written. Reading it could fill a tmpfs with empty pages.
fn has_data(file: BorrowedFd<'_>, start: u64) -> bool {
    match rustix::fs::seek(file, SeekFrom::Data(start)) {
        Ok(data) => data < start + SEGMENT_SIZE,
        Err(error) => error != Errno::NXIO,
    }
}
