//! The endpoint from outside: pairs on a virtual clock, raw messages, and mutated ones.

mod calls;
mod dialled;
mod glare;
mod inside;
mod pair;
mod raw;
mod seeded;
mod session_timer;
mod solo;
mod torture;
