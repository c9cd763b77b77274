//! Any body: reading must not panic, and what is read can be printed and negotiated.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| cardline::sdp::fuzz(body));
