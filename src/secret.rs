//! What no log, trace, record or snapshot may show: PINs, digits, passwords, keys.

use std::fmt;

/// A value without `Display` and with a `Debug` that hides it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    pub const fn new(value: T) -> Secret<T> {
        Secret(value)
    }

    /// The value itself; each call site answers for where it goes.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// One key of the caller's telephone (RFC 4733 §3.2, events 0 to 11). Keys A to D are ignored.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Digit {
    /// 0..=9.
    Number(u8),
    Star,
    Hash,
}

impl Digit {
    /// The telephone-event code; `None` for events that are no digit of a PIN pad.
    pub const fn from_event(event: u8) -> Option<Digit> {
        match event {
            0..=9 => Some(Digit::Number(event)),
            10 => Some(Digit::Star),
            11 => Some(Digit::Hash),
            _ => None,
        }
    }

    pub const fn event(self) -> u8 {
        match self {
            Digit::Number(n) => n,
            Digit::Star => 10,
            Digit::Hash => 11,
        }
    }
}

impl fmt::Debug for Digit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<digit>")
    }
}

/// A card's PIN: 1 to 16 decimal digits (a caller may type too few; issued ones have 8 to 12).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pin(Secret<String>);

impl Pin {
    /// `None` unless the text is 1..=16 decimal digits.
    pub fn parse(digits: &str) -> Option<Pin> {
        let plain = (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| Pin(Secret::new(digits.to_owned())))
    }

    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<pin>")
    }
}
