//! How measured talk becomes billed talk. What minutes cost is [`super::price`].
//!
//! Deliberately absent: floats. Talk time rounds up to the tariff's steps and never above the
//! grants.

use crate::fault::{self, Fault};
use crate::units::TalkTime;

/// The billing rules of one tariff version (product.md 3.5, A7). Never changes once used (I18).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tariff {
    pub version: i64,
    /// First block and following steps; 1 s and 1 s by default.
    pub first_increment: TalkTime,
    pub next_increment: TalkTime,
    /// Least charge of a call that is charged at all.
    pub minimum: TalkTime,
    /// Calls with less raw talk than this are free; 5 s by default.
    pub free_under: TalkTime,
    pub connect_fee: TalkTime,
}

/// Least talk time to start a call with, whatever the first block (product.md 3.2).
const START_MINIMUM: TalkTime = TalkTime::from_secs(10);

impl Default for Tariff {
    /// What a new project has: by the second, the first 5 s are never charged.
    fn default() -> Tariff {
        Tariff {
            version: 0,
            first_increment: TalkTime::from_secs(1),
            next_increment: TalkTime::from_secs(1),
            minimum: TalkTime::ZERO,
            free_under: TalkTime::from_secs(5),
            connect_fee: TalkTime::ZERO,
        }
    }
}

impl Tariff {
    /// The charge for `raw` talk: nothing below `free_under` (decided before rounding), else the
    /// connect fee and whole steps, at least the minimum, at most what was granted.
    pub fn bill(&self, raw: TalkTime, granted: TalkTime) -> TalkTime {
        if raw <= TalkTime::ZERO || raw < self.free_under {
            return TalkTime::ZERO;
        }
        if fault::planted(Fault::ChargedPastGrant) {
            return self.charge(raw);
        }
        self.charge(raw).min(granted).max(TalkTime::ZERO)
    }

    /// The charge for the shortest talk that is charged.
    pub fn first_block(&self) -> TalkTime {
        self.charge(TalkTime::from_ms(1))
    }

    /// Talk time that must be available to start: 10 s, or the first block if that is more.
    pub fn start_minimum(&self) -> TalkTime {
        self.first_block().max(START_MINIMUM)
    }

    /// `want`, rounded up to an amount that a charge can be: so a caller whose grant ends has used
    /// whole steps. Good for the first slice and, since steps add up, for further ones.
    pub fn slice(&self, want: TalkTime) -> TalkTime {
        self.charge(want.max(TalkTime::from_ms(1)))
    }

    fn charge(&self, talk: TalkTime) -> TalkTime {
        let first = self.first_increment.as_ms().max(1);
        let next = self.next_increment.as_ms().max(1);
        let beyond = talk.as_ms().saturating_sub(first).max(0);
        let steps = beyond / next + i64::from(beyond % next != 0);
        let rounded = TalkTime::from_ms(first.saturating_add(steps.saturating_mul(next)));
        self.connect_fee.saturating_add(rounded.max(self.minimum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tariff(first_s: u32, next_s: u32, minimum_s: u32, free_under_s: u32, fee_s: u32) -> Tariff {
        Tariff {
            first_increment: TalkTime::from_secs(first_s),
            next_increment: TalkTime::from_secs(next_s),
            minimum: TalkTime::from_secs(minimum_s),
            free_under: TalkTime::from_secs(free_under_s),
            connect_fee: TalkTime::from_secs(fee_s),
            ..Tariff::default()
        }
    }

    #[test]
    fn talk_is_billed_in_steps_below_the_grant() {
        let by_second = tariff(1, 1, 0, 5, 0);
        let by_minute = tariff(60, 60, 0, 0, 0);
        let minute_then_seconds = tariff(60, 1, 0, 5, 0);
        let with_fee = tariff(30, 6, 0, 0, 10);
        let with_minimum = tariff(1, 1, 90, 5, 0);
        for (what, rules, raw_ms, granted_s, want_ms) in [
            ("nothing", &by_second, 0, 120, 0),
            ("just below free_under", &by_second, 4_999, 120, 0),
            ("exactly free_under", &by_second, 5_000, 120, 5_000),
            ("one ms more", &by_second, 5_001, 120, 6_000),
            (
                "the exemption is decided before rounding",
                &by_second,
                9_200,
                120,
                10_000,
            ),
            ("the whole card", &by_second, 120_000, 120, 120_000),
            ("a late cut costs nothing more", &by_second, 120_011, 120, 120_000),
            ("a first minute", &by_minute, 1, 120, 60_000),
            ("two minutes", &by_minute, 60_001, 120, 120_000),
            ("60/1", &minute_then_seconds, 61_500, 120, 62_000),
            ("60/1 short", &minute_then_seconds, 20_000, 120, 60_000),
            ("a grant that is no whole step", &by_minute, 61_000, 90, 90_000),
            ("fee and steps", &with_fee, 31_000, 120, 46_000),
            ("minimum", &with_minimum, 6_000, 120, 90_000),
            ("minimum above the grant", &with_minimum, 6_000, 60, 60_000),
            ("no grant", &by_second, 60_000, 0, 0),
            ("negative raw", &by_minute, -5, 120, 0),
        ] {
            let billed = rules.bill(TalkTime::from_ms(raw_ms), TalkTime::from_secs(granted_s));
            assert_eq!(billed.as_ms(), want_ms, "{what}");
        }
    }

    #[test]
    fn a_call_starts_with_ten_seconds_or_its_first_block() {
        for (rules, want_s) in [
            (tariff(1, 1, 0, 5, 0), 10),
            (tariff(60, 60, 0, 5, 0), 60),
            (tariff(1, 1, 90, 5, 0), 90),
            (tariff(30, 6, 0, 5, 10), 40),
        ] {
            assert_eq!(rules.start_minimum(), TalkTime::from_secs(want_s), "{rules:?}");
        }
    }

    #[test]
    fn grants_are_whole_steps() {
        for (rules, want_s, slice_s) in [
            (tariff(1, 1, 0, 5, 0), 120, 120),
            (tariff(60, 60, 0, 5, 0), 100, 120),
            (tariff(60, 1, 0, 5, 0), 30, 60),
            (tariff(30, 6, 0, 5, 10), 120, 130),
        ] {
            assert_eq!(
                rules.slice(TalkTime::from_secs(want_s)),
                TalkTime::from_secs(slice_s),
                "{rules:?}"
            );
        }
    }

    fn any_tariff() -> impl Strategy<Value = Tariff> {
        (1..200u32, 1..200u32, 0..200u32, 0..30u32, 0..30u32)
            .prop_map(|(first, next, minimum, free, fee)| tariff(first, next, minimum, free, fee))
    }

    proptest! {
        #[test]
        fn a_bill_never_exceeds_the_grant(rules in any_tariff(), raw in -10i64..10_000_000, granted in 0i64..10_000_000) {
            let billed = rules.bill(TalkTime::from_ms(raw), TalkTime::from_ms(granted)).as_ms();
            prop_assert!((0..=granted).contains(&billed));
        }

        #[test]
        fn more_talk_never_costs_less(rules in any_tariff(), raw in 0i64..10_000_000, more in 0i64..100_000) {
            let granted = TalkTime::from_ms(i64::MAX);
            let less = rules.bill(TalkTime::from_ms(raw), granted);
            prop_assert!(less <= rules.bill(TalkTime::from_ms(raw + more), granted));
            prop_assert!(less.is_zero() || less.as_ms() >= raw);
        }

        #[test]
        fn talk_up_to_a_slice_is_billed_within_it(rules in any_tariff(), want in 1i64..1_000_000) {
            let slice = rules.slice(TalkTime::from_ms(want));
            prop_assert!(slice.as_ms() >= want);
            let unlimited = TalkTime::from_ms(i64::MAX);
            prop_assert!(rules.bill(TalkTime::from_ms(want), unlimited) <= slice);
        }
    }
}
