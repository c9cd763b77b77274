//! The endpoint from outside: pairs on a virtual clock, raw messages, and mutated ones.

#![expect(clippy::unwrap_used, reason = "a test may fail on a broken premise")]

mod calls;
mod pair;
