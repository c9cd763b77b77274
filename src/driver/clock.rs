//! The only reader of the machine's clocks: it turns them into the core's `Now`; and the seed of
//! its chance.
//!
//! Monotonic time is the system's own, so that a successor of this process can go on from a time
//! that this one noted. It counts from one hour before the boot: the core may subtract a span from
//! an early instant without meeting zero. It stands still while the machine is suspended; nobody
//! talks then.

use std::fmt;
use std::io::{self, Read};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::now::{self, Now, UnixTime};

/// A copyable clock; every copy, in every process since the boot, counts from the same epoch.
#[derive(Clone, Copy, Debug)]
pub struct Clock(());

impl Clock {
    pub fn start() -> Clock {
        Clock(())
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
        // Negative only in a time namespace that was set up wrongly; nothing older than the boot counts.
        let since_boot = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
        now::Instant::from_nanos(0) + BEFORE_BOOT + since_boot
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
pub fn random_seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}

/// Which run of the machine this is. Monotonic times of two boots cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootId(String);

impl BootId {
    /// # Errors
    /// The system does not tell.
    pub fn read() -> io::Result<BootId> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok(BootId(text.trim().to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const BEFORE_BOOT: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clocks_count_from_the_same_moment() {
        let (one, other) = (Clock::start(), Clock::start());
        let (first, second, third) = (one.mono(), other.mono(), one.mono());
        assert!(
            first <= second && second <= third,
            "{first:?} {second:?} {third:?}"
        );
        assert!(first.since(now::Instant::default()) > BEFORE_BOOT);
    }

    #[test]
    fn the_boot_has_a_name_that_stays() {
        let boot = BootId::read().unwrap();
        assert_eq!(boot.as_str().len(), 36, "{boot}");
        assert_eq!(BootId::read().unwrap(), boot);
    }
}
