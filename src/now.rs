//! Time and chance, handed in from outside: the core reads no clock and draws no randomness.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use crate::ids::{CallKey, OpId};

/// A point of the monotonic clock: nanoseconds since an epoch that the driver (or the simulator)
/// chooses once per process. Limits and charging use this and nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero if that lies in the future.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, span: Duration) -> Instant {
        Instant(
            self.0
                .saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, span: Duration) -> Instant {
        Instant(
            self.0
                .saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z; for rows and display, never for limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(i64);

impl UnixTime {
    pub const fn from_ms(ms: i64) -> UnixTime {
        UnixTime(ms)
    }

    pub const fn as_ms(self) -> i64 {
        self.0
    }
}

/// What time it is, by both clocks; every `handle` gets one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub mono: Instant,
    pub wall: UnixTime,
}

/// The core's only source of chance: keys, tags, branches, Call-IDs, PINs, RTP start values.
/// Seeded at construction: from the operating system in production, from a number in tests.
pub struct IdSource {
    rng: ChaCha12Rng,
}

impl IdSource {
    pub fn from_seed(seed: [u8; 32]) -> IdSource {
        IdSource {
            rng: ChaCha12Rng::from_seed(seed),
        }
    }

    pub fn from_number(seed: u64) -> IdSource {
        IdSource {
            rng: ChaCha12Rng::seed_from_u64(seed),
        }
    }

    pub fn next_u32(&mut self) -> u32 {
        self.rng.next_u32()
    }

    pub fn next_u64(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// A uniform number below `bound`, without modulo bias. `bound` zero gives zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let zone = u64::MAX - u64::MAX % bound;
        loop {
            let draw = self.rng.next_u64();
            if draw < zone {
                return draw % bound;
            }
        }
    }

    pub fn call_key(&mut self) -> CallKey {
        CallKey::new(self.next_u64())
    }

    pub fn op_id(&mut self) -> OpId {
        OpId(u128::from(self.next_u64()) << 64 | u128::from(self.next_u64()))
    }

    /// 16 hex digits: for tags, branches (behind the magic cookie) and Call-IDs (RFC 3261 §19.3).
    pub fn token(&mut self) -> String {
        format!("{:016x}", self.next_u64())
    }
}

impl fmt::Debug for IdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdSource")
    }
}
