//! The file: made, opened, checked, locked and grown.
//!
//! Everything that can be wrong with it is found here, and said with its name. It is never shrunk, and its
//! space is allocated before it is used, so that a full disk is an error and not a signal.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use once_cell::race::OnceBox;
use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::layout::{HEADER_SIZE, Header, SEGMENT_SIZE};
use super::options::{SharedMemoryOptions, Start};
use crate::cell::segment::Segment;
use crate::model::error::{Error, ErrorKind, Result};

/// How long appending waits for another process that appends.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// What an open file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    ReadWrite,
    ReadOnly,
}

/// An open file and its mapped segments.
#[derive(Debug)]
pub(crate) struct SharedFile {
    path: PathBuf,
    file: File,
    access: Access,
    header: Header,
    /// As many as the file may ever have; each is mapped when it is first needed, and stays. Not
    /// `OnceLock`s: a forked child must not wait for a thread that it lacks.
    segments: Box<[OnceBox<Arc<Segment>>]>,
}

impl SharedFile {
    /// Opens the file, or makes it.
    pub(crate) fn open(options: &SharedMemoryOptions) -> Result<Self> {
        let path = &options.path;
        if options.start == Start::Reset {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(path, "cannot be removed", &error));
                }
                _ => {}
            }
        }
        // Another process may make it, or remove it, at the same time.
        for _ in 0..100 {
            match open_existing(path, Access::ReadWrite) {
                Ok(file) => return Self::check(path, file, Access::ReadWrite),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(not_opened(path, "cannot be opened for reading and writing", &error));
                }
            }
            match create(options) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(path, "cannot be made", &error)),
            }
        }
        Err(unusable(path, "somebody removes it whenever it is made"))
    }

    /// Opens a file that exists, so that nothing this process does can change it.
    pub(crate) fn open_to_read(path: &Path) -> Result<Self> {
        match open_existing(path, Access::ReadOnly) {
            Ok(file) => Self::check(path, file, Access::ReadOnly),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let message = format!(
                    "there is no metrics file {}: the application makes it when it starts",
                    path.display()
                );
                Err(Error::new(ErrorKind::Unavailable, message))
            }
            Err(error) => Err(not_opened(path, "cannot be opened for reading", &error)),
        }
    }

    /// Whether the name still leads to this file: it may have been removed, or replaced by another.
    pub(crate) fn has_its_name(&self) -> bool {
        // While it is open, no other file gets its number.
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let named = std::fs::symlink_metadata(&self.path).map(identity);
        let open = self.file.metadata().map(identity);
        matches!((named, open), (Ok(named), Ok(open)) if named == open)
    }

    /// What the header says.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// How many bytes the file has at present.
    pub(crate) fn length(&self) -> Result<u64> {
        let metadata = self.file.metadata().map_err(|error| failed(&self.path, "cannot be read", &error))?;
        Ok(metadata.len())
    }

    /// The segment that holds the byte at `offset`, mapped now if it is not.
    pub(crate) fn segment(&self, offset: u64) -> Result<&Arc<Segment>> {
        let number = offset / SEGMENT_SIZE;
        let Some(slot) = usize::try_from(number).ok().and_then(|number| self.segments.get(number)) else {
            return Err(unusable(&self.path, "it refers to a place behind its size limit"));
        };
        if let Some(segment) = slot.get() {
            return Ok(segment);
        }
        let start = number * SEGMENT_SIZE;
        self.check_length(start + SEGMENT_SIZE)?;
        let segment = match self.access {
            Access::ReadWrite => {
                // A file that somebody has copied may have holes, which a full disk could not fill later.
                allocate(&self.file, start, SEGMENT_SIZE)
                    .map_err(|error| failed(&self.path, "has holes that cannot be filled", &error))?;
                Segment::map(&self.file, start, SEGMENT_SIZE)
            }
            Access::ReadOnly => Segment::map_to_read(&self.file, start, SEGMENT_SIZE),
        };
        let segment = segment.map_err(|error| failed(&self.path, "cannot be mapped", &error))?;
        // If another thread was faster, its map stays, and ours goes.
        Ok(slot.get_or_init(|| Box::new(segment)))
    }

    /// Sees that the file has as many bytes as are used: a file that somebody has cut off must not be
    /// touched behind its end.
    pub(crate) fn check_length(&self, needed: u64) -> Result<()> {
        let length = self.length()?;
        if length >= needed {
            return Ok(());
        }
        let reason = format!("it was cut off: {length} bytes, expected at least {needed}");
        Err(unusable(&self.path, &reason))
    }

    /// Makes room up to the end of the segment that begins at `offset`.
    pub(crate) fn grow(&self, offset: u64) -> Result<()> {
        let end = offset + SEGMENT_SIZE;
        if end > self.header.size_limit {
            let reason = format!("its size limit of {} bytes is reached", self.header.size_limit);
            return Err(unusable(&self.path, &reason));
        }
        allocate(&self.file, offset, SEGMENT_SIZE).map_err(|error| failed(&self.path, "cannot grow", &error))
    }

    /// Opens the file once more, to lock it. A lock belongs to an open file, which a forked child shares
    /// with its parent: each process needs its own.
    pub(crate) fn reopen(&self) -> Result<File> {
        if self.access == Access::ReadOnly {
            // Whoever asks is about to write, and the map would not bear it.
            return Err(unusable(&self.path, "it was opened for reading only"));
        }
        // The name may lead to another file by now, or nowhere; the open file leads to itself.
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(own)
            .map_err(|error| failed(&self.path, "cannot be opened again", &error))
    }

    /// Keeps other processes from appending, by `own`, which [`SharedFile::reopen`] gave. Waits for one
    /// that does.
    pub(crate) fn lock<'own>(&self, own: &'own File) -> Result<FileLock<'own>> {
        let give_up_at = Instant::now() + LOCK_TIMEOUT;
        let mut pause = Duration::from_micros(50);
        loop {
            match rustix::fs::flock(own, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(FileLock(own)),
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < give_up_at => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(5));
                }
                Err(Errno::WOULDBLOCK) => {
                    let message = format!(
                        "the metrics file {} is locked by another process for more than {LOCK_TIMEOUT:?}",
                        self.path.display()
                    );
                    return Err(Error::new(ErrorKind::Timeout, message));
                }
                Err(error) => return Err(failed(&self.path, "cannot be locked", &error.into())),
            }
        }
    }

    /// The file's name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn check(path: &Path, file: File, access: Access) -> Result<Self> {
        let metadata = file.metadata().map_err(|error| failed(path, "cannot be read", &error))?;
        if !metadata.is_file() {
            return Err(unusable(path, "it is no regular file"));
        }
        let user = rustix::process::geteuid().as_raw();
        if metadata.uid() != user {
            let reason =
                format!("it belongs to the user {}, and this process runs as {user}", metadata.uid());
            return Err(unusable(path, &reason));
        }
        let mut bytes = Vec::new();
        (&file)
            .take(HEADER_SIZE)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(path, "cannot be read", &error))?;
        let header = Header::decode(&bytes).map_err(|error| unusable(path, error.message()))?;
        let count = header.size_limit / SEGMENT_SIZE;
        if !(1..=1 << 20).contains(&count) {
            return Err(unusable(path, &format!("its size limit is {} bytes", header.size_limit)));
        }
        let segments = (0..count).map(|_| OnceBox::new()).collect();
        let shared = Self { path: path.to_owned(), file, access, header, segments };
        // The first segment holds the words that everybody needs.
        shared.segment(0)?;
        Ok(shared)
    }
}

/// The lock of the file; dropping it releases it, and so does the end of the process.
pub(crate) struct FileLock<'file>(&'file File);

impl Drop for FileLock<'_> {
    fn drop(&mut self) {
        // It cannot fail for a file that is open and locked.
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}

fn open_existing(path: &Path, access: Access) -> io::Result<File> {
    // Not blocking: a pipe of that name would wait for a writer. CLOEXEC is Rust's default.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .write(access == Access::ReadWrite)
        .custom_flags(flags.bits() as i32)
        .open(path)
}

fn not_opened(path: &Path, what: &str, error: &io::Error) -> Error {
    if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
        return unusable(path, "it is a symbolic link, which is not followed");
    }
    failed(path, what, error)
}

/// Makes a new file that is whole from the first moment at which others can see it.
fn create(options: &SharedMemoryOptions) -> io::Result<()> {
    let folder = options.path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let name = options.path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut draft_name = std::ffi::OsString::from(".");
    draft_name.push(name);
    draft_name.push(format!(".{}.{:x}", std::process::id(), random_bits()));
    let draft = folder.unwrap_or(Path::new(".")).join(draft_name);
    let made = write_draft(&draft, options).and_then(|()| {
        // Unlike a rename, a link does not replace what another process has made meanwhile.
        rustix::fs::linkat(rustix::fs::CWD, &draft, rustix::fs::CWD, &options.path, AtFlags::empty())
            .map_err(io::Error::from)
    });
    // The draft is of no use any more, whether it was linked or not.
    let _ = std::fs::remove_file(&draft);
    made
}

fn write_draft(draft: &Path, options: &SharedMemoryOptions) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(options.mode)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(draft)?;
    // The mode that was asked for, whatever the umask takes away.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(options.mode as rustix::fs::RawMode))?;
    allocate(&file, 0, SEGMENT_SIZE)?;
    let header = Header {
        size_limit: options.size_limit,
        identity: identity(),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
    };
    file.write_all(&header.encode())
}

/// Reserves space. Where the file system cannot, writes zeros, which comes to the same.
fn allocate(file: &File, offset: u64, length: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), offset, length) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP) => return write_zeros(file, offset, length),
            result => return Ok(result?),
        }
    }
}

fn write_zeros(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let zeros = [0; 4096];
    // Another process may have made room, and used it, before us: then there is nothing to write.
    let mut at = offset.max(file.metadata()?.len());
    while at < offset + length {
        let count = zeros.len().min((offset + length - at) as usize);
        file.write_all_at(&zeros[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

fn identity() -> [u8; 16] {
    let mut identity = [0; 16];
    identity[..8].copy_from_slice(&random_bits().to_le_bytes());
    identity[8..].copy_from_slice(&random_bits().to_le_bytes());
    identity
}

fn random_bits() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the clock still tells two files apart.
    match File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64),
    }
}

fn failed(path: &Path, what: &str, error: &io::Error) -> Error {
    Error::new(ErrorKind::Store, format!("the metrics file {} {what}: {error}", path.display()))
}

fn unusable(path: &Path, reason: &str) -> Error {
    Error::new(ErrorKind::Store, format!("the metrics file {} cannot be used: {reason}", path.display()))
}
