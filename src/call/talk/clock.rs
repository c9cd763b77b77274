//! What is charged: the time since the bridge without the advisor's pauses, on the monotonic clock.

use std::time::Duration;

use crate::now::Instant;
use crate::units::TalkTime;

/// The talk's clock. It stands still while the advisor holds the call, as long as the project and
/// the limit allow.
#[derive(Clone, Debug)]
pub(in crate::call) struct TalkClock {
    /// Charged talk before this bridge.
    before: Duration,
    /// The bridge (t0).
    started: Instant,
    /// Pauses that are over.
    paused: Duration,
    /// The pause that is on.
    since: Option<Instant>,
    /// All pauses of a call together are not longer than this.
    most: Duration,
}

impl TalkClock {
    pub fn started(now: Instant, most: Duration, before: Duration) -> TalkClock {
        TalkClock {
            before,
            started: now,
            paused: Duration::ZERO,
            since: None,
            most,
        }
    }

    /// Charged talk up to `at`, exact to the nanosecond.
    pub fn used(&self, at: Instant) -> Duration {
        self.before + at.since(self.started).saturating_sub(self.pauses(at))
    }

    /// All pauses up to `at` together.
    pub fn pauses(&self, at: Instant) -> Duration {
        let running = self.since.map_or(Duration::ZERO, |since| at.since(since));
        (self.paused + running).min(self.most)
    }

    /// When `granted` will have been used; `None` while the clock stands still.
    pub fn end(&self, granted: TalkTime) -> Option<Instant> {
        match self.since {
            Some(_) => None,
            None => {
                let left = granted.to_duration().saturating_sub(self.before);
                Some(self.started + self.paused + left)
            }
        }
    }

    /// When the running pause will have used up what pauses may take.
    pub fn pause_end(&self) -> Option<Instant> {
        self.since
            .map(|since| since + self.most.saturating_sub(self.paused))
    }

    pub fn pause(&mut self, now: Instant) {
        if self.since.is_none() && self.paused < self.most {
            self.since = Some(now);
        }
    }

    /// The clock runs again; `now` may lie after the end of the pause.
    pub fn resume(&mut self, now: Instant) {
        self.paused = self.pauses(now);
        self.since = None;
    }

    /// Nothing of ours ran in that span, so no audio flowed: it is no talk. For an earlier moment than
    /// `from` the clock now shows less, in the caller's favour. A pause that is on lasts through it.
    pub fn stood_still(&mut self, from: Instant, until: Instant) {
        if self.since.is_none() {
            self.started = self.started + until.since(from.max(self.started));
        }
    }

    pub fn is_paused(&self) -> bool {
        self.since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_pause_moves_the_end_by_its_own_length() {
        let mut clock = TalkClock::started(at(1_000), Duration::from_secs(600), Duration::ZERO);
        assert_eq!(clock.end(TalkTime::from_secs(120)), Some(at(121_000)));
        clock.pause(at(11_000));
        assert_eq!(clock.end(TalkTime::from_secs(120)), None);
        assert_eq!(clock.used(at(15_000)), Duration::from_secs(10));
        clock.resume(at(16_500));
        assert_eq!(clock.end(TalkTime::from_secs(120)), Some(at(126_500)));
        assert_eq!(clock.used(at(126_500)), Duration::from_secs(120));
        assert_eq!(clock.pauses(at(200_000)), Duration::from_millis(5_500));
    }

    #[test]
    fn earlier_talk_counts() {
        let clock = TalkClock::started(at(5_000), Duration::ZERO, Duration::from_secs(60));
        assert_eq!(clock.used(at(4_000)), Duration::from_secs(60));
        assert_eq!(clock.used(at(8_000)), Duration::from_secs(63));
        assert_eq!(clock.end(TalkTime::from_secs(100)), Some(at(45_000)));
    }

    #[test]
    fn a_span_in_which_the_process_stood_still_is_no_talk() {
        let mut clock = TalkClock::started(at(1_000), Duration::from_secs(600), Duration::from_secs(2));
        clock.stood_still(at(11_000), at(31_000));
        assert_eq!(clock.used(at(31_000)), Duration::from_secs(12));
        assert_eq!(clock.end(TalkTime::from_secs(20)), Some(at(39_000)));
        clock.pause(at(32_000));
        clock.stood_still(at(33_000), at(43_000));
        clock.resume(at(44_000));
        assert_eq!(
            clock.used(at(44_000)),
            Duration::from_secs(13),
            "a pause counts once"
        );
        let mut late = TalkClock::started(at(5_000), Duration::ZERO, Duration::ZERO);
        late.stood_still(at(4_000), at(8_000));
        assert_eq!(late.used(at(9_000)), Duration::from_secs(1), "from the bridge on");
    }

    #[test]
    fn pauses_end_when_their_sum_is_used_up() {
        let mut clock = TalkClock::started(at(0), Duration::from_secs(10), Duration::ZERO);
        clock.pause(at(5_000));
        clock.resume(at(9_000));
        clock.pause(at(20_000));
        assert_eq!(clock.pause_end(), Some(at(26_000)));
        clock.resume(at(60_000));
        assert_eq!(clock.used(at(60_000)), Duration::from_secs(50));
        clock.pause(at(61_000));
        assert!(!clock.is_paused(), "nothing is left to pause with");
    }
}
