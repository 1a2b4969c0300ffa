#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pytheus_backend_rs::fuzzing::metrics_file(bytes));
