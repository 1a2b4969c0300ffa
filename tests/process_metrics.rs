//! What the system says about each process, as metrics of its store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod support;

use std::time::Duration;

use pytheus_backend_rs::{Backend, Definition, ErrorKind, Lifetime, MetricType};

use support::process::{SharedNumbers, fork};
use support::shared_file::TestFile;
use support::*;

const OF_EACH: [&str; 5] = [
    "process_resident_memory_bytes{",
    "process_virtual_memory_bytes{",
    "process_open_fds{",
    "process_max_fds{",
    "process_start_time_seconds{",
];

fn cpu(backend: &Backend) -> f64 {
    lines(backend, "process_cpu_seconds_total ")[0].rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn a_scrape_shows_each_living_process_and_the_time_of_all() {
    let (file, ready) = (TestFile::new(), SharedNumbers::new(1));
    let backend = file.open();
    backend.process_metrics("").unwrap();
    // A child of a process that has asked for the metrics is shown after it has asked, or scraped.
    let child = fork(|| {
        backend.process_metrics("").unwrap();
        let before = cpu(&backend);
        wait_until("the child has used a tenth of a second", || cpu(&backend) > before + 0.1);
        ready.add(0, 1);
        loop {
            // SAFETY: a plain system call.
            unsafe { libc::pause() };
        }
    });
    wait_until("the child has used some time", || ready.get(0) == 1);
    for name in OF_EACH {
        let shown = lines(&backend, name);
        assert_eq!(shown.len(), 2, "{shown:?}");
        let value = |line: &String| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
        assert!(shown.iter().map(value).all(|value| value > 2.0), "{shown:?}");
    }
    let used = cpu(&backend);
    child.kill();
    for name in OF_EACH {
        let shown = lines(&backend, name);
        assert!(
            shown.len() == 1 && shown[0].contains(&format!("pid=\"{}\"", std::process::id())),
            "{shown:?}"
        );
    }
    assert!(cpu(&backend) >= used, "the time of a dead process is counted");
}

#[test]
fn a_prefix_begins_the_names_and_a_name_of_the_program_is_a_conflict() {
    let backend = Backend::open("memory:").unwrap();
    assert_eq!(backend.process_metrics("a b").unwrap_err().kind(), ErrorKind::InvalidArgument);
    let definition = Definition::new("process_open_fds", "", MetricType::Counter, &[], &[]).unwrap();
    backend.declare(definition, &[], Lifetime::Backend).unwrap();
    assert_eq!(backend.process_metrics("").unwrap_err().kind(), ErrorKind::Conflict);
    backend.process_metrics("shop").unwrap();
    assert_eq!(lines(&backend, "shop_process_open_fds ").len(), 1);
}

#[test]
fn a_server_has_the_time_of_all_processes() {
    let server = Server::start();
    let (one, other) = (open(&server, ""), open(&server, ""));
    one.process_metrics("").unwrap();
    other.process_metrics("").unwrap();
    one.flush(Duration::from_secs(10)).unwrap();
    // Both backends are in one process, and count its time each.
    assert!(cpu(&other) > 0.0);
    assert_eq!(lines(&other, "process_open_fds"), [""; 0]);
}
