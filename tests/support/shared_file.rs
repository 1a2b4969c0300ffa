//! A private metrics file, and a reader of its bytes that follows `docs/shared-memory-layout.md` instead of
//! the engine's code.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use pytheus_backend_rs::{Backend, MetricType};

use super::{counter, declare, declare_with_buckets, gauge};

pub const SEGMENT: u64 = 1 << 20;
pub const HEADER: u64 = 4096;
pub const COMMITTED_AT: u64 = 64;
pub const CHANGES_AT: u64 = 128;
pub const TURNS_AT: u64 = 192;
pub const GUARD_AT: u64 = 256;

/// A folder in memory with the path of a metrics file. Dropping it removes the folder.
pub struct TestFile {
    folder: PathBuf,
    pub path: PathBuf,
}

/// A record, as the layout page describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct RawRecord {
    pub offset: u64,
    pub kind: u32,
    pub size: u64,
    pub generation: u64,
    pub family: u64,
    pub cells: Vec<f64>,
    pub text: String,
}

impl RawRecord {
    pub fn is_live(&self) -> bool {
        self.generation % 2 == 1
    }
}

impl TestFile {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = base.join(format!("pytheus-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self { path: folder.join("metrics"), folder }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the store URL, with options as in `"start=reset"`.
    pub fn url(&self, options: &str) -> String {
        format!("shm://{}?{options}", self.path.display())
    }

    pub fn open(&self) -> Backend {
        Backend::open(&self.url("")).unwrap()
    }

    /// Returns the error message of opening the file.
    pub fn refusal(&self, options: &str) -> String {
        match Backend::open(&self.url(options)) {
            Ok(_) => panic!("{} was opened", self.path.display()),
            Err(error) => error.message().to_owned(),
        }
    }

    pub fn handle(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.path).unwrap()
    }

    pub fn size(&self) -> u64 {
        std::fs::metadata(&self.path).unwrap().len()
    }

    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    pub fn word(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.handle().read_exact_at(&mut bytes, offset).unwrap();
        u64::from_le_bytes(bytes)
    }

    pub fn set_word(&self, offset: u64, value: u64) {
        self.handle().write_all_at(&value.to_le_bytes(), offset).unwrap();
    }

    pub fn committed(&self) -> u64 {
        self.word(COMMITTED_AT)
    }

    /// Returns all records except padding, free ones included. Panics if the file contradicts the layout
    /// page.
    pub fn records(&self) -> Vec<RawRecord> {
        let bytes = self.bytes();
        let word = |at: u64| u64::from_le_bytes(bytes[at as usize..][..8].try_into().unwrap());
        let (mut records, mut at) = (Vec::new(), HEADER);
        while at < word(COMMITTED_AT) {
            let (kind, size) = (word(at) as u32, word(at) >> 32);
            assert!(size > 0 && size % 64 == 0, "size {size} at {at}");
            assert!(at % SEGMENT + size <= SEGMENT, "the record at {at} crosses a border");
            assert_eq!(word(at + 40), fnv(&[word(at), at], b""), "at {at}");
            let (text_length, count) = (word(at + 24) & 0xffff_ffff, word(at + 24) >> 32);
            let text_at = at + 64 + count * 8;
            let text = &bytes[text_at as usize..][..text_length as usize];
            let generation = word(at + 8);
            if generation % 2 == 1 || kind == 1 {
                assert_eq!(word(at + 32), fnv(&[word(at), word(at + 16), word(at + 24)], text), "at {at}");
            }
            if kind != 1 {
                let cells = (0..count).map(|index| f64::from_bits(word(at + 64 + index * 8))).collect();
                let text = String::from_utf8(text.to_vec()).unwrap();
                records.push(RawRecord {
                    offset: at,
                    kind,
                    size,
                    generation,
                    family: word(at + 16),
                    cells,
                    text,
                });
            }
            at += size;
        }
        assert_eq!(at, word(COMMITTED_AT));
        records
    }

    /// Returns the live record with this text.
    pub fn record(&self, text: &str) -> RawRecord {
        let found = self.records().into_iter().find(|record| record.is_live() && record.text == text);
        found.unwrap_or_else(|| panic!("no record {text:?}"))
    }

    /// Takes the file's lock, like a process that appends.
    pub fn lock(&self) -> Locked {
        let file = self.handle();
        // SAFETY: a plain system call on an open file.
        assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
        let namespace = std::fs::metadata("/proc/self/ns/pid").unwrap().ino() & 0x7f_ffff;
        let guard = 0xa5 << 56 | 1 << 55 | namespace << 32 | u64::from(std::process::id());
        file.write_all_at(&guard.to_le_bytes(), GUARD_AT).unwrap();
        Locked(file)
    }
}

/// The lock of the file. Dropping it unlocks explicitly, because a process that another test forked may have
/// inherited the handle.
pub struct Locked(pub File);

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.write_all_at(&[0; 8], GUARD_AT).unwrap();
        // SAFETY: a plain system call on an open file.
        unsafe { libc::flock(self.0.as_raw_fd(), libc::LOCK_UN) };
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Returns FNV-1a over the words (little-endian) and the bytes.
pub fn fnv(words: &[u64], bytes: &[u8]) -> u64 {
    let words = words.iter().flat_map(|word| word.to_le_bytes());
    words.chain(bytes.iter().copied()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Fills a file with several families and metrics, one of them removed.
pub fn fill(file: &TestFile) {
    let backend = file.open();
    let family = declare(&backend, "requests_total", MetricType::Counter, &["path", "bob"]);
    for index in 0..8 {
        family.metric(&[&format!("/{index}"), "cat"]).unwrap().inc(f64::from(index) + 1.0).unwrap();
    }
    gauge(&backend, "level").set(-2.5).unwrap();
    let time = declare_with_buckets(&backend, "time", MetricType::Histogram, &["a"], &[0.5, 10.0]);
    for value in ["x", "y", "z"] {
        time.metric(&[value]).unwrap().observe(7.0).unwrap();
    }
    declare(&backend, "size", MetricType::Summary, &[]).metric(&[]).unwrap().observe(3.0).unwrap();
    counter(&backend, "last_total").inc(9.0).unwrap();
    time.remove(&["y"]).unwrap();
    family.remove(&["/3", "cat"]).unwrap();
}

/// Creates a file and fills it.
pub fn filled() -> TestFile {
    let file = TestFile::new();
    fill(&file);
    file
}
