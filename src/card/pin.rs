//! PIN rules: generation, length, attempt counting, delay, lock.
//!
//! Deliberately absent: digits on their way (the call collects them) and PINs at rest (the store's).

use std::time::Duration;

use crate::now::{IdSource, UnixTime};
use crate::secret::Pin;

/// PIN length up to [`MANY_CARDS`] live cards on a number, and from there on.
pub const SHORT: u8 = 10;
pub const LONG: u8 = 12;
pub const MANY_CARDS: u64 = 300;

/// Wrong tries from one line in [`WRONG_WINDOW_MS`] that lock it for [`LOCK_MS`].
pub const WRONG_PER_LINE: usize = 6;
pub const WRONG_WINDOW_MS: i64 = 3_600_000;
pub const LOCK_MS: i64 = 3_600_000;

/// Length of the next PIN; `chosen` is the project's own wish, 8..=12. Density decides how often a
/// guess hits: 10 digits to 300 live cards is below 3e-8.
pub fn length(live_cards: u64, chosen: Option<u8>) -> u8 {
    match chosen {
        Some(length) => length.clamp(8, LONG),
        None if live_cards < MANY_CARDS => SHORT,
        None => LONG,
    }
}

/// Wrong tries of a project within [`ALARM_WINDOW_MS`] from which on somebody seems to be guessing.
pub const ALARM_FROM: usize = 60;
pub const ALARM_WINDOW_MS: i64 = 600_000;
/// The alarm ends below this; in between, an attack at the cap would raise and end it by turns.
pub const ALARM_ENDS_BELOW: i64 = 30;
/// Under alarm all lines without a binding share one try in this time: 0.1/s. At 3e-8 hits per try
/// that is a hit in ten years of attack (reliability.md T2).
pub const TURN_MS: i64 = 10_000;

/// Whether so many wrong tries are an attack.
pub fn alarm(wrong: i64) -> bool {
    usize::try_from(wrong).is_ok_and(|wrong| wrong >= ALARM_FROM)
}

/// When the next stranger's try may be looked at, after one now.
pub fn next_turn(now: UnixTime) -> UnixTime {
    UnixTime::from_ms(now.as_ms().saturating_add(TURN_MS))
}

/// What a length means: whole years of a sustained attack, at the cap, until one guess hits a card.
pub fn years_per_hit(live_cards: u64, length: u8) -> u64 {
    const TURNS_PER_YEAR: u64 = 365 * 86_400_000 / TURN_MS.unsigned_abs();
    let pins = 9 * 10_u64.pow(u32::from(length.clamp(8, LONG)) - 1);
    pins / live_cards.max(1) / TURNS_PER_YEAR
}

/// Random digits, the first not zero.
pub fn generate(ids: &mut IdSource, length: u8) -> Pin {
    let digits: String = (0..length.clamp(8, LONG))
        .map(|place| {
            let digit = if place == 0 {
                1 + ids.below(9)
            } else {
                ids.below(10)
            };
            char::from(b'0' + u8::try_from(digit).expect("a digit is below ten"))
        })
        .collect();
    Pin::parse(&digits).expect("8 to 12 digits are a PIN")
}

/// Until when a line is locked, given the times of its wrong tries in any order. A right PIN in
/// between changes nothing: who owns one card may not guess others.
pub fn locked_until(wrong: &[UnixTime], now: UnixTime) -> Option<UnixTime> {
    let mut times: Vec<i64> = wrong
        .iter()
        .map(|at| at.as_ms())
        .filter(|at| *at <= now.as_ms())
        .collect();
    times.sort_unstable();
    times
        .windows(WRONG_PER_LINE)
        .filter_map(|window| Some((*window.first()?, *window.last()?)))
        .filter(|(first, last)| last - first < WRONG_WINDOW_MS)
        .map(|(_, last)| last.saturating_add(LOCK_MS))
        .filter(|until| *until > now.as_ms())
        .max()
        .map(UnixTime::from_ms)
}

/// The pause before the answer to the n-th wrong try of a call (1, 2, 3 ...): 1, 2, 4 s.
pub fn retry_delay(wrong_tries: u32) -> Duration {
    match wrong_tries {
        0 => Duration::ZERO,
        n => Duration::from_secs(1 << (n - 1).min(2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_long_enough_for_the_cards_on_a_number() {
        for (cards, chosen, want) in [
            (0, None, 10),
            (299, None, 10),
            (300, None, 12),
            (30_000, None, 12),
            (30_000, Some(8), 8),
            (0, Some(12), 12),
            (0, Some(99), 12),
            (0, Some(1), 8),
        ] {
            assert_eq!(length(cards, chosen), want, "{cards} cards, {chosen:?}");
        }
    }

    #[test]
    fn pins_have_their_length_and_no_leading_zero() {
        let mut ids = IdSource::from_number(1);
        let mut seen = std::collections::BTreeSet::new();
        for round in 0..2000u32 {
            let want = 8 + u8::try_from(round % 5).unwrap();
            let pin = generate(&mut ids, want);
            assert_eq!(pin.expose().len(), usize::from(want));
            assert!(!pin.expose().starts_with('0'));
            seen.extend(pin.expose().chars());
        }
        assert_eq!(seen.len(), 10, "every digit occurs");
    }

    #[test]
    fn six_wrong_tries_in_an_hour_lock_the_line_for_an_hour() {
        const MINUTE: i64 = 60_000;
        for (what, minutes, now, want) in [
            ("none", vec![], 0, None),
            ("five", vec![0, 1, 2, 3, 4], 5, None),
            ("six at once", vec![0, 0, 0, 0, 0, 0], 0, Some(60)),
            ("six in an hour", vec![0, 10, 20, 30, 40, 59], 59, Some(119)),
            ("six in more than an hour", vec![0, 10, 20, 30, 40, 60], 60, None),
            ("the hour is over", vec![0, 0, 0, 0, 0, 5], 65, None),
            ("one minute before", vec![0, 0, 0, 0, 0, 5], 64, Some(65)),
            ("unsorted", vec![5, 0, 4, 1, 3, 2], 6, Some(65)),
            (
                "tries of the future do not count",
                vec![0, 1, 2, 3, 4, 90],
                5,
                None,
            ),
        ] {
            let wrong: Vec<UnixTime> = minutes
                .iter()
                .map(|m: &i64| UnixTime::from_ms(m * MINUTE))
                .collect();
            assert_eq!(
                locked_until(&wrong, UnixTime::from_ms(now * MINUTE)),
                want.map(|m: i64| UnixTime::from_ms(m * MINUTE)),
                "{what}"
            );
        }
    }

    #[test]
    fn wrong_tries_wait_longer_each_time() {
        let waits: Vec<u64> = (0..6).map(|n| retry_delay(n).as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 4, 4, 4]);
    }
}
