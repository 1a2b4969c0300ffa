//! A private metrics file, and a reader of its bytes that follows `docs/shared-memory-layout.md` instead of
//! the engine's code.

use std::fs::{File, OpenOptions};
use std::hash::Hasher;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use pytheus_backend_rs::{Backend, MetricType};

use super::{counter, declare, declare_with_buckets, gauge};

pub const SEGMENT: u64 = 1 << 20;
pub const HEADER: u64 = 4096;
pub const COMMITTED_AT: u64 = 64;
pub const INDEX_STATE_AT: u64 = 128;
pub const TURNS_AT: u64 = 192;
pub const GUARD_AT: u64 = 256;
pub const IN_HAND_AT: u64 = 320;
pub const LEVELS_AT: u64 = 512;
pub const FREE_LISTS_AT: u64 = 1024;

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

    /// Returns all families and metrics, free ones included. Panics if the file contradicts the layout page.
    pub fn records(&self) -> Vec<RawRecord> {
        let is_of_index = |record: &RawRecord| matches!(record.kind, 4 | 5);
        self.all_records().into_iter().filter(|record| !is_of_index(record)).collect()
    }

    /// Returns all records except padding.
    fn all_records(&self) -> Vec<RawRecord> {
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

    /// Panics if the index does not lead to each live record, if its free lists do not hold each free record
    /// once, or if a directory or a table is missing. No writer may be at work.
    pub fn assert_index_is_sound(&self) {
        let records = self.records();
        assert_eq!(self.word(INDEX_STATE_AT), 1);
        let bytes = self.bytes();
        for record in records.iter().filter(|record| record.is_live()) {
            let places = self.slots(&bytes, record);
            assert!(places.contains(&record.offset), "no slot leads to {record:?}");
        }
        let mut free: Vec<u64> = Vec::new();
        for list in 0..384 {
            let mut next = entry(&bytes, FREE_LISTS_AT + list * 8).0;
            while next != 0 {
                let record = records.iter().find(|record| record.offset == next && !record.is_live());
                let record = record.unwrap_or_else(|| panic!("no free record at {next}"));
                assert_eq!((record.size / 64).min(384), list + 1, "{record:?}");
                free.push(next);
                next = entry(&bytes, next + 16).0;
            }
        }
        // A killed writer leaves a free record in its hand, and the next one puts it into its list.
        let in_hand = entry(&bytes, IN_HAND_AT).0;
        let is_free = |record: &&RawRecord| !record.is_live();
        if in_hand != 0 && !free.contains(&in_hand) {
            free.extend(
                records.iter().filter(is_free).map(|record| record.offset).filter(|at| *at == in_hand),
            );
        }
        free.sort_unstable();
        let expected: Vec<u64> = records.iter().filter(is_free).map(|record| record.offset).collect();
        assert_eq!(free, expected);
    }

    /// Returns where the slots of all levels lead that have the tag of the record's hash.
    fn slots(&self, bytes: &[u8], record: &RawRecord) -> Vec<u64> {
        let key = if record.kind == 2 { record.text.split('\n').next().unwrap() } else { &record.text };
        let hash = siphash(&bytes[32..48], record.family, key.as_bytes());
        let mut found = Vec::new();
        for level in 0..64 {
            let (directory, _) = entry(bytes, LEVELS_AT + level * 8);
            if directory == 0 {
                break;
            }
            let tables = 4_u64.pow(level.min(8) as u32);
            let (table, _) = entry(bytes, directory + 64 + hash % tables * 8);
            let first = hash >> 40 & 31;
            let second = (first + (hash >> 45 & 31) % 31 + 1) % 32;
            for bucket in [first, second].into_iter().filter(|_| table != 0) {
                let start = table + 64 + bucket * 256;
                let slots = (start..start + 256).step_by(8).map(|at| entry(bytes, at));
                found.extend(slots.filter(|(_, tag)| *tag == hash >> 50).map(|(offset, _)| offset));
            }
        }
        found
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

/// Returns offset and tag of the entry at `at`. Panics if its check is wrong.
pub fn entry(bytes: &[u8], at: u64) -> (u64, u64) {
    let word = u64::from_le_bytes(bytes[at as usize..][..8].try_into().unwrap());
    let payload = word & 0xffff_ffff_ffff;
    assert_eq!(word, entry_word(at, payload), "the entry at {at}");
    (payload % (1 << 34) * 64, payload >> 34)
}

/// Returns the word of an entry at `at`.
pub fn entry_word(at: u64, payload: u64) -> u64 {
    payload | check(payload, at) << 48
}

/// Returns the check of an entry with this payload at this place.
pub fn check(payload: u64, at: u64) -> u64 {
    let mixed = payload ^ at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 48
}

/// Returns SipHash-2-4 of a family's offset and a key.
#[expect(deprecated, reason = "the only SipHash-2-4 of the standard library")]
pub fn siphash(identity: &[u8], family: u64, key: &[u8]) -> u64 {
    let word = |at: usize| u64::from_le_bytes(identity[at..at + 8].try_into().unwrap());
    let mut hasher = std::hash::SipHasher::new_with_keys(word(0), word(8));
    hasher.write(&family.to_le_bytes());
    hasher.write(key);
    hasher.finish()
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
