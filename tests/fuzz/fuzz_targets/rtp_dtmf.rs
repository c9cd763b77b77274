#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cardline::media::audio::fuzz(bytes));
