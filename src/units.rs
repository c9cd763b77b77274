//! Units with one meaning each: talk time, money, telephone numbers.
//!
//! Deliberately absent: floats, `Deref`, unchecked arithmetic.

use std::fmt;
use std::time::Duration;

/// Talk time in whole milliseconds; signed, because an entry's delta may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TalkTime(i64);

impl TalkTime {
    pub const ZERO: TalkTime = TalkTime(0);

    pub const fn from_ms(ms: i64) -> TalkTime {
        TalkTime(ms)
    }

    pub const fn from_secs(secs: u32) -> TalkTime {
        TalkTime(secs as i64 * 1000)
    }

    pub const fn from_minutes(minutes: u32) -> TalkTime {
        TalkTime(minutes as i64 * 60_000)
    }

    /// Whole milliseconds of a measured duration, rounded down (in the caller's favour).
    pub fn from_duration(duration: Duration) -> TalkTime {
        TalkTime(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }

    /// The same span as a `Duration`; negative talk time gives zero.
    pub fn to_duration(self) -> Duration {
        Duration::from_millis(u64::try_from(self.0).unwrap_or(0))
    }

    pub const fn as_ms(self) -> i64 {
        self.0
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub fn checked_add(self, other: TalkTime) -> Option<TalkTime> {
        self.0.checked_add(other.0).map(TalkTime)
    }

    pub fn checked_sub(self, other: TalkTime) -> Option<TalkTime> {
        self.0.checked_sub(other.0).map(TalkTime)
    }

    pub fn saturating_add(self, other: TalkTime) -> TalkTime {
        TalkTime(self.0.saturating_add(other.0))
    }

    pub fn saturating_sub(self, other: TalkTime) -> TalkTime {
        TalkTime(self.0.saturating_sub(other.0))
    }
}

/// `mm:ss` rounded down, as the operator reads it.
impl fmt::Display for TalkTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.abs() / 1000;
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}:{:02}", secs / 60, secs % 60)
    }
}

/// Money in whole euro cents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cents(i64);

impl Cents {
    pub const ZERO: Cents = Cents(0);

    pub const fn new(cents: i64) -> Cents {
        Cents(cents)
    }

    pub const fn get(self) -> i64 {
        self.0
    }
}

/// A telephone number in international form: `+` and 2 to 15 digits, no leading zero (ITU-T E.164).
///
/// `Debug` and `masked` hide all but the last three digits; `as_str` gives the whole number and is
/// for the wire, the store and the operator's own screen.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct E164(String);

impl E164 {
    /// # Errors
    /// Anything that is not `+` followed by 2..=15 digits, the first of them not zero.
    pub fn parse(text: &str) -> Result<E164, NotE164> {
        let digits = text.strip_prefix('+').ok_or(NotE164)?;
        let plain = (2..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        if !plain || digits.starts_with('0') {
            return Err(NotE164);
        }
        Ok(E164(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digits without the plus.
    pub fn digits(&self) -> &str {
        self.0.trim_start_matches('+')
    }

    /// `+49*********567`: for logs from INFO up.
    pub fn masked(&self) -> String {
        mask_number(&self.0)
    }
}

impl fmt::Debug for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// Hides every digit of `text` but the last three, and a country code's first two.
pub fn mask_number(text: &str) -> String {
    let count = text.chars().count();
    text.chars()
        .enumerate()
        .map(|(i, c)| {
            if i < 3.min(count.saturating_sub(3)) || i + 3 >= count || !c.is_ascii_digit() {
                c
            } else {
                '*'
            }
        })
        .collect()
}

/// The text is no E.164 number: `+`, then 2 to 15 digits, the first not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an E.164 number (want + and 2 to 15 digits, such as +493023125101)")]
pub struct NotE164;
