//! Serves metrics by HTTP for Prometheus, from a program without a web server.
//!
//! `cargo run --example exporter -- 9464` serves on http://127.0.0.1:9464/metrics until it is interrupted.
//! Without a port it serves on a free one, scrapes itself once, and ends.

use std::env;
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use pytheus_backend_rs::{Backend, Definition, Exporter, ExporterOptions, Lifetime, MetricType};

fn main() -> Result<(), Box<dyn Error>> {
    let backend = Backend::open("memory:")?;
    let definition = Definition::new("jobs_total", "Jobs done.", MetricType::Counter, &[], &[])?;
    let jobs = backend.declare(definition, &[], Lifetime::Backend)?.metric(&[])?;
    jobs.inc(1.0)?;

    let port = env::args().nth(1).map(|port| port.parse()).transpose()?;
    let options = ExporterOptions { port: port.unwrap_or(0), ..ExporterOptions::default() };
    // It serves from threads of its own until the handle is dropped.
    let exporter = Exporter::start(&backend, options)?;
    println!("serving http://{}/metrics", exporter.address());

    if port.is_none() {
        let mut client = TcpStream::connect(exporter.address())?;
        client.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        println!("{answer}");
        return Ok(());
    }
    loop {
        thread::sleep(Duration::from_secs(1));
        jobs.inc(1.0)?;
    }
}
