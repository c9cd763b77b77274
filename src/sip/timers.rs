//! The timers of RFC 3261 §17 (table 4) and RFC 6026 over UDP, under their letters.
//!
//! Deliberately absent: anything started. A timer is a deadline in the state that owns it.

use std::time::Duration;

use crate::now::Instant;

/// Round-trip estimate; the base of all others.
pub const T1: Duration = Duration::from_millis(500);
/// Longest gap between two retransmissions of a non-INVITE request or of a response to INVITE.
pub const T2: Duration = Duration::from_secs(4);
/// Longest life of a message in the network.
pub const T4: Duration = Duration::from_secs(5);
/// 64 x T1: how long either side tries before it gives up.
pub const GIVE_UP: Duration = Duration::from_secs(32);

/// INVITE client: retransmission, doubling without a limit but B.
pub const A: &str = "A";
/// INVITE client: gives up.
pub const B: &str = "B";
pub const TIMER_B: Duration = GIVE_UP;
/// INVITE client: absorbs repeated final responses ("at least 32 s" over UDP).
pub const D: &str = "D";
pub const TIMER_D: Duration = GIVE_UP;
/// Non-INVITE client: retransmission, doubling up to T2.
pub const E: &str = "E";
/// Non-INVITE client: gives up.
pub const F: &str = "F";
pub const TIMER_F: Duration = GIVE_UP;
/// INVITE server: repeats the final refusal, doubling up to T2.
pub const G: &str = "G";
/// INVITE server: gives up waiting for the ACK.
pub const H: &str = "H";
pub const TIMER_H: Duration = GIVE_UP;
/// INVITE server: absorbs repeated ACKs.
pub const I: &str = "I";
pub const TIMER_I: Duration = T4;
/// Non-INVITE server: absorbs repeated requests.
pub const J: &str = "J";
pub const TIMER_J: Duration = GIVE_UP;
/// Non-INVITE client: absorbs repeated responses.
pub const K: &str = "K";
pub const TIMER_K: Duration = T4;
/// INVITE server, Accepted: absorbs repeated INVITEs (RFC 6026 §7.1).
pub const L: &str = "L";
pub const TIMER_L: Duration = GIVE_UP;
/// INVITE client, Accepted: passes up 2xx of other forks (RFC 6026 §7.2).
pub const M: &str = "M";
pub const TIMER_M: Duration = GIVE_UP;

/// A message that is sent again and again until something stops it: the next time, and the gap
/// behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub at: Instant,
    gap: Duration,
}

impl Backoff {
    /// The message was sent just now; the first repetition is due after T1.
    pub fn start(now: Instant) -> Backoff {
        Backoff {
            at: now + T1,
            gap: T1,
        }
    }

    /// Twice the gap, without a limit (timer A).
    pub fn doubled(self, now: Instant) -> Backoff {
        let gap = self.gap.saturating_mul(2);
        Backoff { at: now + gap, gap }
    }

    /// Twice the gap, at most T2 (timers E and G, and the 200 of RFC 3261 §13.3.1.4).
    pub fn doubled_to_t2(self, now: Instant) -> Backoff {
        let gap = self.gap.saturating_mul(2).min(T2);
        Backoff { at: now + gap, gap }
    }

    /// From here on every T2 (timer E in Proceeding).
    pub fn at_t2(self, now: Instant) -> Backoff {
        Backoff {
            at: now + T2,
            gap: T2,
        }
    }
}

/// The earlier of two named deadlines.
pub fn earlier(
    one: Option<(Instant, &'static str)>,
    other: Option<(Instant, &'static str)>,
) -> Option<(Instant, &'static str)> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.0 < one.0 { other } else { one }),
        (one, None) => one,
        (None, other) => other,
    }
}
