//! What the fuzz targets run: one function for each kind of bytes that comes from outside.
//!
//! `fuzz/` calls these with coverage feedback; the tests below call them with a few thousand inputs that are the
//! same in every run. A target panics where the engine breaks a promise; that it must not panic otherwise,
//! allocate without bound or hang is what every target tests.

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use ::redis::{Parser, Value};

use crate::backend::{Backend, RenderOptions};
use crate::exposition::{Format, accepts_gzip};
use crate::metric::family::Lifetime;
use crate::model::definition::Definition;
use crate::model::error::{Error, ErrorKind};
use crate::model::labels;
use crate::model::metric_type::MetricType;
use crate::model::number::parse_number;
use crate::store::redis::frames::Frames;
use crate::store::redis::{self, reply};
use crate::store::shared_memory::entry::Entry;
use crate::store::shared_memory::layout;
use crate::store::url::StoreUrl;

/// A store URL: accepted, or refused in one line.
pub fn store_url(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = StoreUrl::parse(&text) {
        assert!(!error.message().contains(['\n', '\r']), "an error of more than one line: {error:?}");
    }
}

/// The `Accept` and `Accept-Encoding` headers of a request: every header gets an answer with a sound
/// content type.
pub fn accept_header(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let content_type = Format::negotiate(Some(&text)).content_type();
    assert!(content_type.is_ascii() && !content_type.contains(['\n', '\r']), "{content_type:?}");
    accepts_gzip(&text);
}

/// Labels JSON as a store may hold it: the canonical spelling is canonical, and means the same labels.
pub fn labels_json(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Some(canonical) = labels::canonical(&text) else {
        assert_eq!(labels::decode(&text), None);
        return;
    };
    assert_eq!(labels::canonical(&canonical).as_deref(), Some(&*canonical));
    assert_eq!(labels::decode(&canonical), labels::decode(&text));
    let pairs = labels::raw_pairs(&canonical).count();
    assert_eq!(Some(pairs), labels::decode(&text).map(|labels| labels.len()));
}

/// The definition of a family as a store may hold it: what is read is written back equal.
pub fn definition_json(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(definition) = Definition::from_json("size_bytes", &text) {
        let again = Definition::from_json("size_bytes", &definition.to_json());
        assert_eq!(again.as_ref(), Ok(&definition));
    }
}

/// Replies of a server, one behind the other: each is parsed, and read as the fields of every type of family.
/// Where one ends, its parser must agree, and the fields of a hash must be those that the parser finds.
pub fn redis_replies(bytes: &[u8]) {
    let mut frames = Frames::default();
    let (mut parser, mut rest) = (Parser::new(), bytes);
    let mut reader = bytes;
    while let Ok(frame) = frames.next(&mut reader) {
        let Ok(reply) = frame.value() else { return };
        assert_eq!(
            parser.parse_value(&mut rest).ok().as_ref(),
            Some(&reply),
            "the parser sees another reply"
        );
        if let (Some(pairs), Ok(fields)) = (plain_pairs(&reply), frame.into_fields()) {
            assert!(fields.pairs().eq(pairs.iter().map(|(field, value)| (&**field, &**value))));
        }
        read_reply(reply);
    }
}

/// Returns the fields and values of a hash, if the reply is one: texts only, and one value for each field.
fn plain_pairs(reply: &Value) -> Option<Vec<(String, String)>> {
    let is_plain = match reply {
        Value::Array(values) => values.iter().all(is_text) && values.len().is_multiple_of(2),
        Value::Map(pairs) => pairs.iter().all(|(field, value)| is_text(field) && is_text(value)),
        _ => false,
    };
    is_plain.then(|| reply::pairs(reply.clone()))
}

fn is_text(value: &Value) -> bool {
    matches!(value, Value::BulkString(_))
}

/// Reads one reply as a hash of values and as one of definitions, as scrapes and `check` do.
fn read_reply(reply: Value) {
    let pairs = reply::pairs(reply);
    for metric_type in [MetricType::Counter, MetricType::Summary, MetricType::Histogram] {
        let Ok(definition) = Definition::new("size_bytes", "", metric_type, &[], &[]) else { return };
        for (field, value) in &pairs {
            let _ = parse_number(value);
            let Some((labels, cell)) = redis::layout::parse_field(&definition, field) else { continue };
            assert!(cell < definition.cell_count(), "field {field:?} has cell {cell}");
            if let Some(canonical) = labels::canonical(labels) {
                definition.allows_labels(&canonical);
            }
        }
    }
    for (name, json) in &pairs {
        let _ = Definition::from_json(name, json);
    }
}

/// A metrics file: opened for writing and for reading, used, scraped and checked.
///
/// The bytes are a list of changes to a sound file, five each: an offset (counted from the end of the file if its
/// highest bit is set) and the byte that is written there. Where the first byte of all is odd, the header's
/// checksum is made right afterwards, so that the changes get past it. Where its second bit is set, the check
/// of each changed word is made right, as if it were an entry of the index.
pub fn metrics_file(bytes: &[u8]) {
    let mut file = sound_file();
    if let Some((&first, changes)) = bytes.split_first() {
        for change in changes.chunks_exact(5) {
            let offset = u32::from_le_bytes([change[0], change[1], change[2], change[3]]) as usize;
            let length = file.len();
            file[offset % length] = change[4];
            if first & 2 != 0 {
                seal_entry(&mut file, offset % length / 8 * 8);
            }
        }
        if first % 2 == 1 {
            seal_header(&mut file);
        }
    }
    let path = temporary_path();
    if fs::write(&path, &file).is_err() {
        return;
    }
    for start in ["continue", "attach"] {
        if let Ok(backend) = Backend::open(&format!("shm://{}?start={start}", path.display())) {
            use_all(&backend);
        }
    }
    let _ = fs::remove_file(&path);
}

/// Calls whatever reads or changes the store. Errors are right; what comes out must be a scrape.
fn use_all(backend: &Backend) {
    for metric_type in [MetricType::Counter, MetricType::Histogram] {
        let Ok(definition) = Definition::new("size_bytes", "Some help.", metric_type, &["path"], &[]) else {
            return;
        };
        let Ok(family) = backend.declare(definition, &["path"], Lifetime::Backend) else { continue };
        for path in ["/", "/new"] {
            let Ok(metric) = family.metric(&[path]) else { continue };
            let _ = metric.inc(1.0);
            let _ = metric.observe(1.0);
            let _ = metric.get_sum();
        }
        let _ = family.remove(&["/"]);
    }
    let _ = backend.check();
    let open_metrics = Format::negotiate(Some("application/openmetrics-text; version=1.0.0"));
    if let Ok(rendered) = backend.render(&RenderOptions { format: open_metrics, ..RenderOptions::default() })
    {
        assert!(rendered.body.ends_with(b"# EOF\n"));
    }
    if let Ok(text) = backend.collect_text() {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let value = line.rsplit(' ').next().unwrap_or_default();
            assert!(parse_number(value).is_some(), "no sample: {line:?}");
        }
    }
}

/// The bytes of a metrics file with one family of two metrics, and a free record.
fn sound_file() -> Vec<u8> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let make = || {
        let path = temporary_path();
        let backend = Backend::open(&format!("shm://{}?size_limit=2097152", path.display()))?;
        let definition =
            Definition::new("size_bytes", "Some help.", MetricType::Histogram, &["path"], &[1.0])?;
        let family = backend.declare(definition, &["path"], Lifetime::Backend)?;
        for label in ["/", "/cart", "/gone"] {
            let _ = family.metric(&[label])?.observe(0.5);
        }
        family.remove(&["/gone"])?;
        let bytes = fs::read(&path);
        let _ = fs::remove_file(&path);
        bytes.map_err(|error| Error::new(ErrorKind::Store, error.to_string()))
    };
    BYTES.get_or_init(|| make().unwrap_or_default()).clone()
}

/// Makes the checksum of the header right.
fn seal_header(file: &mut [u8]) {
    let Some((header, checksum)) = file.split_at_mut_checked(layout::CHECKSUM_AT) else { return };
    checksum[..8].copy_from_slice(&layout::checksum(&[header]).to_le_bytes());
}

/// Makes the check of the word at `at` right, as if it were an entry of the index.
fn seal_entry(file: &mut [u8], at: usize) {
    let Some(word) = file.get_mut(at..at + 8) else { return };
    let payload = word.iter().take(6).rev().fold(0, |payload, byte| payload << 8 | u64::from(*byte));
    word.copy_from_slice(&Entry::of_payload(payload).encode(at as u64).to_le_bytes());
}

/// A path that no other call of this process or another one has.
fn temporary_path() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("pytheus-fuzzing-{}-{number}", process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs that are sound, or nearly so; the others are made from them.
    const URLS: [&str; 4] = [
        "memory:?cell=mutex",
        "shm:///dev/shm/x?size_limit=1048576&start=reset&mode=0660",
        "redis://user:pass%40word@[::1]:6379/3?key_prefix=app&required=false",
        "redis+unix:///run/redis.sock?db=1&flush_interval_ms=5&self_metrics=true",
    ];
    const HEADERS: [&str; 4] = [
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1",
        "text/plain; version=1.0.0; escaping=underscores",
        "gzip;q=1.0, *;q=0",
        "text/*;q=0, */*",
    ];
    const LABELS: [&str; 4] = [
        r#"{"bob":"cat","method":"GET"}"#,
        "{}",
        r#" { "a" : 1 , "b" : "\u00e9\"\\" } "#,
        r#"{"a":"x}#sum","a":null}"#,
    ];
    const DEFINITIONS: [&str; 3] = [
        r#"{"buckets":[0.1,1.0],"help":"Some help.","labels":["path"],"type":"histogram"}"#,
        r#"{"help":"","labels":[],"type":"counter","unit":"bytes"}"#,
        r#"{"type":"summary","help":"\n","labels":["a","a"],"buckets":[]}"#,
    ];
    const REPLIES: [&str; 4] = [
        "*4\r\n$7\r\n{}#le=1\r\n$1\r\n3\r\n$6\r\n{}#sum\r\n$4\r\n-inf\r\n",
        "%1\r\n$12\r\n{\"path\":\"/\"}\r\n,1.5\r\n+OK\r\n:1\r\n$-1\r\n",
        "-WRONGTYPE Operation against a key\r\n*-1\r\n_\r\n#t\r\n",
        "*2\r\n*1\r\n:2\r\n$5\r\nepoch\r\n=7\r\ntxt:abc\r\n~1\r\n:1\r\n",
    ];

    /// Bytes that mean something to one of the parsers.
    const MARKS: &[u8] = b"\"\\{}[]#=&%,:;/\r\n\0*$-9";

    /// xorshift64*: the same inputs in every run.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
        }

        fn below(&mut self, bound: usize) -> usize {
            (self.next() >> 33) as usize % bound
        }

        /// One of the seeds with a few bytes changed, doubled, cut out or taken from another seed.
        fn mutated(&mut self, seeds: &[&[u8]]) -> Vec<u8> {
            let mut input = seeds[self.below(seeds.len())].to_vec();
            for _ in 0..self.below(5) {
                let at = self.below(input.len() + 1);
                match self.below(5) {
                    0 if at < input.len() => input[at] = self.next() as u8,
                    1 if at < input.len() => input[at] ^= 1 << self.below(8),
                    2 => input.truncate(at),
                    3 => input.insert(at, MARKS[self.below(MARKS.len())]),
                    _ => {
                        let other = seeds[self.below(seeds.len())];
                        let start = self.below(other.len() + 1);
                        input.splice(at..at, other[start..].iter().copied());
                    }
                }
            }
            input
        }
    }

    fn run(target: fn(&[u8]), seeds: &[&[u8]], inputs: usize) {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        seeds.iter().for_each(|seed| target(seed));
        (0..inputs).for_each(|_| target(&random.mutated(seeds)));
    }

    #[test]
    fn store_urls() {
        run(store_url, &URLS.map(str::as_bytes), 5_000);
    }

    #[test]
    fn accept_headers() {
        run(accept_header, &HEADERS.map(str::as_bytes), 5_000);
    }

    #[test]
    fn labels_of_a_store() {
        run(labels_json, &LABELS.map(str::as_bytes), 5_000);
    }

    #[test]
    fn definitions_of_a_store() {
        run(definition_json, &DEFINITIONS.map(str::as_bytes), 5_000);
    }

    #[test]
    fn replies_of_a_server() {
        run(redis_replies, &REPLIES.map(str::as_bytes), 5_000);
    }

    #[test]
    fn files() {
        let mut random = Random(0xD1B5_4A32_D192_ED03);
        metrics_file(&[]);
        for _ in 0..1_000 {
            // The index and the records lie in the first kilobytes; what is behind them is hardly read.
            let mut changes = vec![random.next() as u8];
            for _ in 0..=random.below(3) {
                let offset = match random.below(4) {
                    0 => random.below(1280),
                    1 => 4096 + random.below(8384),
                    _ => 12_480 + random.below(1024),
                };
                changes.extend((offset as u32).to_le_bytes());
                changes.push(random.next() as u8);
            }
            metrics_file(&changes);
        }
    }
}
