//! Measures a scrape: 38,000 lines from each store, read and rendered in one thread.
//!
//!     cargo bench --bench exposition
//!
//! An allocator of its own counts allocations and the most bytes in use. Redis is measured on a server that the
//! benchmark starts; it says so if there is no redis-server.

#![allow(unsafe_code)] // the counting allocator
#![allow(missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pytheus_backend_rs::{Backend, Definition, Format, Lifetime, MetricType, RenderOptions};

/// Histograms with one label, and with two, of the 11 default buckets: 14 lines each.
const SERIES: usize = 2_700;
const FAMILIES: usize = 27;
const SCRAPES: usize = 101;

struct Counting;

// Relaxed is enough: they are read while no other thread allocates.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static IN_USE: AtomicU64 = AtomicU64::new(0);
static MOST_IN_USE: AtomicU64 = AtomicU64::new(0);

fn took(size: usize) {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    let in_use = IN_USE.fetch_add(size as u64, Ordering::Relaxed) + size as u64;
    MOST_IN_USE.fetch_max(in_use, Ordering::Relaxed);
}

fn gave(size: usize) {
    IN_USE.fetch_sub(size as u64, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        took(size);
        gave(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<(), Box<dyn Error>> {
    println!("A scrape of {SERIES} histograms, one thread; the median and the fastest of {SCRAPES}\n");
    println!(
        "{:<33} {:>7} {:>9} {:>9} {:>9} {:>9} {:>14} {:>12}",
        "", "lines", "bytes", "ms", "fastest", "read only", "allocs/sample", "bytes/sample"
    );
    let folder = std::env::temp_dir().join(format!("exposition-bench-{}", std::process::id()));
    let shared = match Path::new("/dev/shm").is_dir() {
        true => PathBuf::from("/dev/shm").join(format!("exposition-bench-{}", std::process::id())),
        false => folder.join("metrics"),
    };
    std::fs::create_dir_all(&folder)?;
    measure("memory", &Backend::open("memory:")?)?;
    measure("shared memory", &Backend::open(&format!("shm://{}", shared.display()))?)?;
    std::fs::remove_file(&shared)?;
    match start_redis(&folder) {
        Ok(mut server) => {
            let result = connect(&folder).and_then(|backend| measure("Redis", &backend));
            server.kill()?;
            server.wait()?;
            result?;
        }
        Err(error) => println!("Redis: redis-server cannot be run: {error}"),
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn measure(name: &str, backend: &Backend) -> Result<(), Box<dyn Error>> {
    fill(backend)?;
    backend.flush(Duration::from_secs(30))?;
    for (format, accept) in
        [("", None), (", OpenMetrics", Some("application/openmetrics-text;version=1.0.0"))]
    {
        let options = RenderOptions { format: Format::negotiate(accept), ..Default::default() };
        let text = backend.render(&options)?.into_text();
        let samples = text.lines().filter(|line| !line.starts_with('#')).count();
        let (allocations, in_use) = (ALLOCATIONS.load(Ordering::Relaxed), IN_USE.load(Ordering::Relaxed));
        MOST_IN_USE.store(in_use, Ordering::Relaxed);
        backend.render(&options)?;
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
        let bytes = MOST_IN_USE.load(Ordering::Relaxed) - in_use;
        let mut times = Vec::new();
        let mut reading = Vec::new();
        for _ in 0..SCRAPES {
            let start = Instant::now();
            backend.render(&options)?;
            times.push(start.elapsed().as_secs_f64() * 1000.0);
            let start = Instant::now();
            backend.collect(None)?;
            reading.push(start.elapsed().as_secs_f64() * 1000.0);
        }
        times.sort_by(f64::total_cmp);
        reading.sort_by(f64::total_cmp);
        println!(
            "{:<33} {:>7} {:>9} {:>9.2} {:>9.2} {:>9.2} {:>14.3} {:>12.1}",
            format!("{name}{format}"),
            text.lines().count(),
            text.len(),
            times[SCRAPES / 2],
            times[0],
            reading[SCRAPES / 2],
            allocations as f64 / samples as f64,
            bytes as f64 / samples as f64
        );
    }
    Ok(())
}

fn fill(backend: &Backend) -> Result<(), Box<dyn Error>> {
    for family in 0..FAMILIES {
        let labels: &[&str] = if family % 2 == 0 { &["path"] } else { &["method", "path"] };
        let name = format!("http_request_duration_seconds_{family}");
        let definition =
            Definition::new(&name, "How long a request took.", MetricType::Histogram, labels, &[])?;
        let handle = backend.declare(definition, labels, Lifetime::Backend)?;
        for series in 0..SERIES / FAMILIES {
            let path = format!("/api/v1/resource/{series}");
            let values: &[&str] = if labels.len() == 1 { &[&path] } else { &["GET", &path] };
            let metric = handle.metric(values)?;
            for observation in 0..20 {
                metric.observe(0.003 * f64::from(observation) * (1.0 + series as f64))?;
            }
        }
    }
    Ok(())
}

fn start_redis(folder: &Path) -> std::io::Result<Child> {
    Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(folder.join("socket"))
        .stdout(Stdio::null())
        .spawn()
}

fn connect(folder: &Path) -> Result<Backend, Box<dyn Error>> {
    let url = format!("redis+unix://{}", folder.join("socket").display());
    let give_up_at = Instant::now() + Duration::from_secs(30);
    loop {
        match Backend::open(&url) {
            Ok(backend) => return Ok(backend),
            Err(error) if Instant::now() > give_up_at => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
