//! The only reader of the machine's clocks: it turns them into the core's `Now`; and the seed of
//! its chance.
//!
//! The monotonic epoch lies one hour before the process began, so that the core may subtract a
//! span from an early instant without meeting zero.

use std::io::Read;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::now::{self, Now, UnixTime};

/// A copyable clock; every copy counts from the same epoch.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
    pub fn start() -> Clock {
        Clock {
            started: Instant::now(),
        }
    }

    /// Both clocks, read once.
    pub fn now(&self) -> Now {
        Now {
            mono: self.mono(),
            wall: self.wall(),
        }
    }

    /// Monotonic time since the epoch.
    pub fn mono(&self) -> now::Instant {
        now::Instant::from_nanos(0) + BEFORE_START + self.started.elapsed()
    }

    /// Wall time; a clock before 1970 or after the year 292 million gives the nearest bound.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
    pub fn wall(&self) -> UnixTime {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        UnixTime::from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// How long to wait from now until `deadline`; zero if it has passed.
    pub fn until(&self, deadline: now::Instant) -> Duration {
        deadline.since(self.mono())
    }
}

/// 32 bytes of the system's randomness, to seed the core's one source of chance.
///
/// # Errors
/// The system has none for us.
pub fn random_seed() -> std::io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}

const BEFORE_START: Duration = Duration::from_secs(3600);
