//! Line and card: which lines may be remembered (I8), policy A3.
//!
//! Deliberately absent: how a caller number became E.164 (SIP's identity rules), and the rows.

use crate::units::E164;

/// Lines that a card remembers by default (policy A3).
pub const DEFAULT_MAX_LINES: u32 = 3;

/// Shortest subscriber number with country code that is taken for a person's line; shorter ones
/// are service codes (115, 116117, 22833) that many people share.
const SHORTEST: usize = 8;

/// Why a line is never remembered (I8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbindable {
    #[error("the number is withheld")]
    Withheld,
    #[error("the number is too short to be one person's line")]
    Short,
    #[error("emergency and service numbers never call")]
    Service,
    #[error("premium, mass-traffic and directory numbers never call (0900, 0137, 118)")]
    Premium,
    #[error("it is one of our own numbers")]
    Own,
}

impl Unbindable {
    pub const fn german(self) -> &'static str {
        match self {
            Unbindable::Withheld => "Die Rufnummer wird nicht übermittelt.",
            Unbindable::Short => "Die Rufnummer ist zu kurz für einen Anschluss.",
            Unbindable::Service => "Notruf- und Dienstnummern können nicht freigeschaltet werden.",
            Unbindable::Premium => "Sonderrufnummern (0900, 0137, 118…) können nicht freigeschaltet werden.",
            Unbindable::Own => "Das ist eine eigene Nummer. Gebraucht wird die Nummer des Kunden.",
        }
    }
}

/// Whether `line` may be remembered at all; `own` are the numbers that our trunks deliver.
///
/// # Errors
/// The reason, in the order of the variants.
pub fn may_bind<'a>(
    line: Option<&E164>,
    own: impl IntoIterator<Item = &'a E164>,
) -> Result<&E164, Unbindable> {
    let line = line.ok_or(Unbindable::Withheld)?;
    if let Some(national) = line.digits().strip_prefix("49") {
        if ["110", "112", "115", "116"].contains(&national) {
            return Err(Unbindable::Service);
        }
        let premium = ["900", "137", "118", "190", "180"];
        if premium.iter().any(|p| national.starts_with(p)) {
            return Err(Unbindable::Premium);
        }
    }
    if line.digits().len() < SHORTEST {
        return Err(Unbindable::Short);
    }
    if own.into_iter().any(|number| number == line) {
        return Err(Unbindable::Own);
    }
    Ok(line)
}

/// What remembering one more line does to a card (policy A3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// It is remembered already.
    Kept,
    Added,
    /// The card's one line makes way.
    Replaced,
    /// The card has as many lines as the project allows.
    Full,
    /// The project remembers none.
    Off,
}

/// `limit` as in the project: 0 none, 1 replaces, more adds; `lines` are active now.
pub fn place(limit: u32, lines: u32, bound_already: bool) -> Placement {
    match limit {
        0 => Placement::Off,
        _ if bound_already => Placement::Kept,
        1 if lines > 0 => Placement::Replaced,
        _ if lines < limit => Placement::Added,
        _ => Placement::Full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> E164 {
        E164::parse(text).unwrap()
    }

    #[test]
    fn lines_that_nobody_can_call_from_are_refused() {
        let own = [number("+493023125101")];
        for (line, want) in [
            (None, Err(Unbindable::Withheld)),
            (Some("+49110"), Err(Unbindable::Service)),
            (Some("+49112"), Err(Unbindable::Service)),
            (Some("+499001234567"), Err(Unbindable::Premium)),
            (Some("+491371234567"), Err(Unbindable::Premium)),
            (Some("+4911833"), Err(Unbindable::Premium)),
            (Some("+4922833"), Err(Unbindable::Short)),
            (Some("+493023125101"), Err(Unbindable::Own)),
            (Some("+491701234567"), Ok(())),
            (Some("+4315551234"), Ok(())),
            (Some("+4930231251"), Ok(())),
        ] {
            let line = line.map(number);
            assert_eq!(may_bind(line.as_ref(), &own).map(|_| ()), want, "{line:?}");
        }
    }

    #[test]
    fn the_policy_adds_replaces_or_forgets() {
        for (limit, lines, bound, want) in [
            (3, 0, false, Placement::Added),
            (3, 2, false, Placement::Added),
            (3, 3, false, Placement::Full),
            (3, 3, true, Placement::Kept),
            (1, 0, false, Placement::Added),
            (1, 1, false, Placement::Replaced),
            (1, 1, true, Placement::Kept),
            (0, 0, false, Placement::Off),
            (0, 1, true, Placement::Off),
        ] {
            assert_eq!(
                place(limit, lines, bound),
                want,
                "limit {limit}, {lines} lines, bound {bound}"
            );
        }
    }
}
