//! Telephone numbers as people type and read them: the one place that knows numbering plans.
//!
//! Deliberately absent: numbers from the wire. A trunk's rules normalise those in `sip`, and the
//! core must not depend on a metadata package.

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat, PhoneNumberType, Region};
use serde::Serialize;

use super::error::{Code, Problem};
use crate::store::NumberRow;
use crate::units::E164;

/// Why a typed number is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberRefusal {
    /// Empty, or a word for a suppressed number.
    Withheld,
    /// Emergency, service and directory numbers.
    Short,
    /// Premium, shared-cost, mass-call and toll-free numbers: no line transmits them.
    Premium,
    /// No number of any numbering plan.
    Invalid,
}

/// One number in the forms that an operator hands out (S5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NumberForms {
    /// `+493023125101`
    pub e164: String,
    /// `+49 30 23125101`
    pub international: String,
    /// `0049 30 23125101`: as it is dialled from most of the world.
    pub international_00: String,
    /// `030 23125101`; `null` outside Germany.
    pub national: Option<String>,
}

/// Loads the numbering plans, so that the first command does not wait for them.
pub fn warm_up() {
    if normalise("030 23125101").is_err() {
        tracing::error!("the numbering plans do not know Berlin: numbers will be refused");
    }
}

/// Reads a number that a person typed: German national form, `0049`, `+49(0)`, or foreign with `+`.
///
/// # Errors
/// Everything that is no number which a telephone line can transmit.
pub fn normalise(typed: &str) -> Result<E164, NumberRefusal> {
    let text = typed.trim();
    if is_withheld(text) {
        return Err(NumberRefusal::Withheld);
    }
    if text.len() > 40 || text.chars().any(char::is_alphabetic) {
        return Err(NumberRefusal::Invalid);
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let national_short = !text.starts_with('+') && !digits.starts_with('0') && digits.len() <= 6;
    if national_short && !digits.is_empty() {
        return Err(NumberRefusal::Short);
    }
    let text = text.replace("(0)", "");
    let number = match digits.strip_prefix("49") {
        _ if text.starts_with(['+', '0', '(']) => parse_valid(&text)?,
        Some(_) => parse_valid(&format!("+{digits}"))?,
        // `43 1 588000` may be Vienna or Kiel without its zero: a guess would bind a stranger.
        None => return Err(NumberRefusal::Invalid),
    };
    E164::parse(&format(&number, PhoneNumberFormat::E164)).map_err(|_| NumberRefusal::Invalid)
}

/// The number as the operator reads and hands it out.
pub fn forms(number: &E164) -> NumberForms {
    let parsed = PHONE_NUMBER_UTIL.parse(number.as_str(), Some(Region::DE)).ok();
    let shown = |form| parsed.as_ref().map(|p| format(p, form));
    let international = shown(PhoneNumberFormat::International).unwrap_or_else(|| number.as_str().to_owned());
    let german = number.digits().starts_with("49");
    let national = shown(PhoneNumberFormat::National).filter(|_| german);
    NumberForms {
        e164: number.as_str().to_owned(),
        international_00: format!("00{}", international.trim_start_matches('+')),
        national,
        international,
    }
}

/// The same for a number of ours as the store spells it.
pub fn forms_of(e164: &str) -> NumberForms {
    E164::parse(e164).map_or_else(
        |_| NumberForms {
            e164: e164.to_owned(),
            international: e164.to_owned(),
            international_00: e164.to_owned(),
            national: None,
        },
        |number| forms(&number),
    )
}

/// Spaces a stored number's forms as its numbering plan does.
pub fn dress(row: &mut NumberRow) {
    let forms = forms_of(&row.e164);
    row.international = forms.international;
    row.international_00 = forms.international_00;
    row.national = forms.national;
}

/// `normalise` with the words for an operator.
///
/// # Errors
/// A problem that names `field`.
pub fn typed(text: &str, field: &str) -> Result<E164, Problem> {
    normalise(text).map_err(|why| {
        let (code, de, en) = match why {
            NumberRefusal::Withheld => (
                Code::NumberWithheld,
                "Gebraucht wird die Rufnummer, die der Kunde wirklich überträgt; eine unterdrückte kann nicht erkannt werden.",
                "The number that the customer really transmits is needed; a withheld one cannot be recognised.",
            ),
            NumberRefusal::Short => (
                Code::NumberShort,
                "Notruf-, Kurzwahl- und Auskunftsnummern rufen nie an.",
                "Emergency, short and directory numbers never call.",
            ),
            NumberRefusal::Premium => (
                Code::NumberPremium,
                "Service- und Sonderrufnummern (0900, 0137, 0180, 0800) gehen hier nicht.",
                "Premium and service numbers (0900, 0137, 0180, 0800) are not possible here.",
            ),
            NumberRefusal::Invalid => (
                Code::NumberInvalid,
                "Das ist keine gültige Rufnummer. Gewünscht: mit Vorwahl, zum Beispiel 030 23125101 oder +43 1 588000.",
                "This is not a valid number. Wanted: with area code, such as 030 23125101 or +43 1 588000.",
            ),
        };
        Problem::new(code, de, en).field(field)
    })
}

fn is_withheld(text: &str) -> bool {
    let words = [
        "",
        "anonymous",
        "anonym",
        "unknown",
        "unbekannt",
        "withheld",
        "unterdrückt",
        "private",
        "privat",
        "unavailable",
    ];
    words.contains(&text.to_lowercase().as_str())
}

fn parse_valid(text: &str) -> Result<PhoneNumber, NumberRefusal> {
    let number = PHONE_NUMBER_UTIL
        .parse(text, Some(Region::DE))
        .map_err(|_| NumberRefusal::Invalid)?;
    let german = number.country_code == 49;
    let significant = number.national_number.to_string();
    // No German area code begins with 11: these are 110, 112, 115, 116xxx and 118xx.
    if german && significant.starts_with("11") {
        return Err(NumberRefusal::Short);
    }
    if german
        && ["900", "137", "138", "180"]
            .iter()
            .any(|p| significant.starts_with(p))
    {
        return Err(NumberRefusal::Premium);
    }
    match PHONE_NUMBER_UTIL.get_number_type(&number) {
        PhoneNumberType::FixedLine
        | PhoneNumberType::Mobile
        | PhoneNumberType::FixedLineOrMobile
        | PhoneNumberType::VoIP
        | PhoneNumberType::PersonalNumber
        | PhoneNumberType::UAN => Ok(number),
        PhoneNumberType::PremiumRate
        | PhoneNumberType::SharedCost
        | PhoneNumberType::TollFree
        | PhoneNumberType::Pager
        | PhoneNumberType::VoiceMail => Err(NumberRefusal::Premium),
        PhoneNumberType::Unknown => Err(NumberRefusal::Invalid),
    }
}

fn format(number: &PhoneNumber, form: PhoneNumberFormat) -> String {
    PHONE_NUMBER_UTIL.format(number, form).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_numbers_become_one_form() {
        for (typed, wanted) in [
            ("030 23125101", Ok("+493023125101")),
            ("030/23125-101", Ok("+493023125101")),
            ("0049 30 23125101", Ok("+493023125101")),
            ("+49 (0)30 23125101", Ok("+493023125101")),
            ("+493023125101", Ok("+493023125101")),
            ("49 30 23125101", Ok("+493023125101")),
            ("0170 1234567", Ok("+491701234567")),
            ("+43 1 5880 00", Ok("+431588000")),
            ("0043 1 588000", Ok("+431588000")),
            ("43 1 588000", Err(NumberRefusal::Invalid)),
            ("", Err(NumberRefusal::Withheld)),
            ("anonymous", Err(NumberRefusal::Withheld)),
            ("Unterdrückt", Err(NumberRefusal::Withheld)),
            ("110", Err(NumberRefusal::Short)),
            ("112", Err(NumberRefusal::Short)),
            ("+49110", Err(NumberRefusal::Short)),
            ("11833", Err(NumberRefusal::Short)),
            ("116116", Err(NumberRefusal::Short)),
            ("0900 1234567", Err(NumberRefusal::Premium)),
            ("0137 1234567", Err(NumberRefusal::Premium)),
            ("0180 5123456", Err(NumberRefusal::Premium)),
            ("0800 1234567", Err(NumberRefusal::Premium)),
            ("030", Err(NumberRefusal::Invalid)),
            ("030 CALLNOW", Err(NumberRefusal::Invalid)),
            ("+999 123", Err(NumberRefusal::Invalid)),
            ("sip:x@y", Err(NumberRefusal::Invalid)),
        ] {
            let got = normalise(typed);
            let got = got.as_ref().map(E164::as_str).map_err(|why| *why);
            assert_eq!(got, wanted, "{typed:?}");
        }
    }

    #[test]
    fn a_number_is_shown_for_home_and_abroad() {
        let shown = forms(&E164::parse("+493023125101").unwrap());
        assert_eq!(shown.international, "+49 30 23125101");
        assert_eq!(shown.international_00, "0049 30 23125101");
        assert_eq!(shown.national.as_deref(), Some("030 23125101"));
        let foreign = forms(&E164::parse("+431588000").unwrap());
        assert_eq!(foreign.national, None);
    }
}
