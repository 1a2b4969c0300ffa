//! Runs the programs of `examples/` and compares what they print.
//!
//! `cargo test` builds the examples; `cargo test --test examples` alone needs `cargo build --examples` before.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::process::Command;

/// Runs an example to its end and returns its output.
fn run(name: &str) -> String {
    let test = std::env::current_exe().unwrap();
    // target/<profile>/deps/<this test> stands beside target/<profile>/examples.
    let folder: PathBuf = test.ancestors().nth(2).unwrap().join("examples");
    let output = Command::new(folder.join(name)).output().unwrap_or_else(|error| {
        panic!("cannot run the example {name}: {error}; build it with `cargo build --examples`")
    });
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn counting_in_memory_prints_what_the_c_and_ruby_examples_print() {
    assert_eq!(run("memory"), include_str!("../tests-c/expected_scrape.txt"));
}

#[test]
fn the_processes_of_a_service_count_one_total() {
    assert!(run("processes").ends_with("\nrequests_total 100000\n"));
}

#[test]
fn an_exporter_serves_what_the_program_counts() {
    let output = run("exporter");
    assert!(output.starts_with("serving http://127.0.0.1:"), "{output}");
    assert!(
        output.contains("\r\n\r\n# HELP jobs_total Jobs done.\n# TYPE jobs_total counter\njobs_total 1\n")
    );
}

#[test]
fn a_program_renders_a_format_of_its_own() {
    let expected = "room_celsius\t{\"room\":\"cellar\"}\t12\n\
                    room_celsius\t{\"room\":\"kitchen\"}\t21.5\n\
                    size_bytes_bucket_100\t{}\t1\n\
                    size_bytes_count\t{}\t2\n\
                    size_bytes_sum\t{}\t550\n";
    assert_eq!(run("render"), expected);
}
