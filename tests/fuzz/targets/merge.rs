#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| peerup_replay::run("merge", bytes));
