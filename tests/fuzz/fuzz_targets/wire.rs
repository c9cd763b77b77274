//! Any datagram: reading must not panic, and what is read can be answered.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cardline::sip::wire::fuzz(bytes));
