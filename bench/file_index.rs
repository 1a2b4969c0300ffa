//! Measures what a metrics file of many series costs a process that starts, looks up or makes something.
//!
//!     cargo bench --bench file_index [most series]
//!
//! Each line has a file of its own in memory. Times are medians of several backends that open that file anew, so
//! "first series" is what a new process pays for its first one.

#![allow(missing_docs)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pytheus_backend_rs::{Backend, Definition, Lifetime, MetricFamily, MetricType};

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const ROUNDS: usize = 7;
/// How many series or families are made or looked up in a round, after the first one.
const REPEATS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let most = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(usize::MAX);
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let path = folder.join(format!("file-index-bench-{}", std::process::id()));
    println!(
        "{:>9} {:>12} {:>14} {:>14} {:>12} {:>12} {:>12}",
        "series", "bytes/series", "first new, µs", "first old, µs", "look-up, µs", "new, µs", "family, µs"
    );
    for series in SIZES.into_iter().filter(|series| *series <= most) {
        let result = measure(&path, series);
        std::fs::remove_file(&path)?;
        result?;
    }
    Ok(())
}

fn measure(path: &PathBuf, series: usize) -> Result<(), Box<dyn Error>> {
    let url = format!("shm://{}?size_limit={}", path.display(), 4_u64 << 30);
    let backend = Backend::open(&url)?;
    let family = declare(&backend, "requests_total")?;
    for number in 0..series {
        family.metric(&[&number.to_string()])?.inc(1.0)?;
    }
    let bytes = std::fs::metadata(path)?.len() / series as u64;
    drop(backend);
    let mut columns: [Vec<f64>; 5] = Default::default();
    for round in 0..ROUNDS {
        let start = Instant::now();
        let backend = Backend::open(&url)?;
        declare(&backend, "requests_total")?.metric(&[&format!("new {round}")])?.inc(1.0)?;
        columns[0].push(micros(start, 1));

        let start = Instant::now();
        let backend = Backend::open(&url)?;
        let family = declare(&backend, "requests_total")?;
        family.metric(&["7"])?.inc(1.0)?;
        columns[1].push(micros(start, 1));

        let start = Instant::now();
        for number in 0..REPEATS {
            family.metric(&[&(8 + round * REPEATS + number).to_string()])?;
        }
        columns[2].push(micros(start, REPEATS));

        let start = Instant::now();
        for number in 0..REPEATS {
            family.metric(&[&format!("{round} {number}")])?;
        }
        columns[3].push(micros(start, REPEATS));

        let start = Instant::now();
        for number in 0..REPEATS {
            declare(&backend, &format!("family_{round}_{number}_total"))?.metric(&["only"])?;
        }
        columns[4].push(micros(start, REPEATS));
    }
    print!("{series:>9} {bytes:>12}");
    for (column, width) in columns.iter_mut().zip([14, 14, 12, 12, 12]) {
        column.sort_by(f64::total_cmp);
        print!(" {:>width$.1}", column[ROUNDS / 2]);
    }
    println!();
    Ok(())
}

fn declare(backend: &Backend, name: &str) -> Result<MetricFamily, Box<dyn Error>> {
    let definition = Definition::new(name, "Some help.", MetricType::Counter, &["path"], &[])?;
    Ok(backend.declare(definition, &["path"], Lifetime::Backend)?)
}

fn micros(start: Instant, count: usize) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / count as f64
}
