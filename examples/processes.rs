//! Four processes count into one file; the first one prints their total.
//!
//! `cargo run --example processes`. The program starts itself again for each worker, as a service manager
//! would start them: all that they share is the path of the file.

use std::env;
use std::error::Error;
use std::process::{self, Command};

use pytheus_backend_rs::{Backend, Definition, Lifetime, MetricType};

const WORKERS: usize = 4;
const REQUESTS: usize = 25_000;

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        Some(url) => work(&url),
        None => supervise(),
    }
}

/// Starts the workers, waits for them, and prints what they have counted.
fn supervise() -> Result<(), Box<dyn Error>> {
    let path = env::temp_dir().join(format!("processes-example-{}", process::id()));
    let url = format!("shm://{}", path.display());
    let program = env::current_exe()?;
    let workers: Vec<_> =
        (0..WORKERS).map(|_| Command::new(&program).arg(&url).spawn()).collect::<Result<_, _>>()?;
    for mut worker in workers {
        if !worker.wait()?.success() {
            return Err("a worker failed".into());
        }
    }

    // This process has declared nothing: the file knows the family.
    let text = Backend::open(&url)?.collect_text()?;
    std::fs::remove_file(path)?;
    print!("{text}");
    Ok(())
}

/// Counts in one worker process.
fn work(url: &str) -> Result<(), Box<dyn Error>> {
    let backend = Backend::open(url)?;
    let definition =
        Definition::new("requests_total", "Requests of all workers.", MetricType::Counter, &[], &[])?;
    let requests = backend.declare(definition, &[], Lifetime::Backend)?.metric(&[])?;
    (0..REQUESTS).try_for_each(|_| requests.inc(1.0))?;
    // The values are in the file already: there is nothing to flush.
    Ok(())
}
