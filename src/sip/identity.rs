//! Who called whom: the called number and the caller number of an INVITE, by the trunk's rules
//! (product.md 3.1 IDENTIFY; RFC 3323, RFC 3325, RFC 3966).
//!
//! A withheld number is withheld everywhere: nothing of it leaves this file. Deliberately absent:
//! Diversion and History-Info, display names, number plans other than the country code's.

use crate::config::{CalledFrom, NumberFormat, TrunkConfig};
use crate::sip::message::{Host, NameAddr, Request, Scheme, Uri};
use crate::sip::wire;
use crate::sip::{Caller, Screening};
use crate::units::E164;

/// The called number, `None` if it is none in the trunk's format, and the caller.
pub fn resolve(request: &Request, trunk: &TrunkConfig) -> (Option<E164>, Caller) {
    let called = match trunk.called_from {
        CalledFrom::RequestUri => &request.uri,
        CalledFrom::To => &request.to().uri,
    };
    (number_of(called, trunk), caller(request, trunk))
}

fn caller(request: &Request, trunk: &TrunkConfig) -> Caller {
    let from = request.from();
    if wants_privacy(request) || is_anonymous(from) {
        return Caller::Withheld;
    }
    let shown = number_of(&from.uri, trunk);
    let (number, screening) = match (asserted(request, trunk), shown) {
        (Asserted::Withheld, _) | (Asserted::Nothing, None) => return Caller::Withheld,
        (Asserted::Number(number, _), Some(shown)) if number != shown => (number, Screening::Contradicted),
        (Asserted::Number(number, screening), _) => (number, screening),
        (Asserted::Nothing, Some(shown)) => (shown, Screening::User),
    };
    if is_service_number(&number) || raw_is_service_number(&from.uri) {
        return Caller::Withheld;
    }
    Caller::Line { number, screening }
}

/// What the network says about the caller, if we believe it.
enum Asserted {
    Nothing,
    Withheld,
    Number(E164, Screening),
}

/// P-Asserted-Identity before Remote-Party-ID; of several values the first that holds a number.
fn asserted(request: &Request, trunk: &TrunkConfig) -> Asserted {
    if !trunk.trust_pai {
        return Asserted::Nothing;
    }
    let mut hidden = false;
    for value in request.headers("P-Asserted-Identity") {
        let Ok(identity) = NameAddr::parse(value) else {
            continue;
        };
        if raw_is_service_number(&identity.uri) {
            return Asserted::Withheld;
        }
        if let Some(number) = number_of(&identity.uri, trunk) {
            return Asserted::Number(number, Screening::Network);
        }
        hidden |= is_anonymous(&identity);
    }
    if hidden {
        return Asserted::Withheld;
    }
    remote_party(request, trunk)
}

/// The header that PAI replaced and old exchanges still send: `;party=calling;screen=yes;privacy=off`.
fn remote_party(request: &Request, trunk: &TrunkConfig) -> Asserted {
    for value in request.headers("Remote-Party-ID") {
        let Ok(identity) = NameAddr::parse(value) else {
            continue;
        };
        let param = |name| wire::param(&identity.params, name).unwrap_or_default();
        let party = param("party");
        if !(party.is_empty() || party.eq_ignore_ascii_case("calling")) {
            continue;
        }
        let privacy = param("privacy").to_ascii_lowercase();
        let private = privacy.contains("full") || privacy.contains("uri");
        if private || is_anonymous(&identity) || raw_is_service_number(&identity.uri) {
            return Asserted::Withheld;
        }
        let screened = param("screen").eq_ignore_ascii_case("yes");
        let screening = if screened {
            Screening::Network
        } else {
            Screening::User
        };
        if let Some(number) = number_of(&identity.uri, trunk) {
            return Asserted::Number(number, screening);
        }
    }
    Asserted::Nothing
}

/// Any Privacy value of RFC 3323 and 3325 that hides the caller; tokens stand behind `;` or `,`.
fn wants_privacy(request: &Request) -> bool {
    let mut tokens = request
        .headers("Privacy")
        .flat_map(|value| value.split([';', ',']));
    tokens.any(|token| {
        let token = token.trim_ascii().to_ascii_lowercase();
        matches!(token.as_str(), "id" | "user" | "header")
    })
}

/// The spellings of "no number" in a name-addr. A display name of that kind hides the number too:
/// whoever sends it does not want to be shown.
fn is_anonymous(identity: &NameAddr) -> bool {
    let hides = |text: &str| {
        let text = text.trim_ascii().to_ascii_lowercase();
        matches!(
            text.as_str(),
            "" | "anonymous" | "unknown" | "restricted" | "unavailable" | "private"
        )
    };
    let invalid_host = match &identity.uri.host {
        Some(Host::Name(name)) => {
            let name = name.to_ascii_lowercase();
            name == "invalid" || name.ends_with(".invalid")
        }
        Some(Host::Ip(_)) | None => false,
    };
    invalid_host
        || identity.uri.user().as_deref().is_none_or(hides)
        || identity.display.as_deref().is_some_and(hides)
}

/// The number in a sip:, sips: or tel: URI's user part, without what stands behind its `;`.
fn number_of(uri: &Uri, trunk: &TrunkConfig) -> Option<E164> {
    to_e164(&digits_of(uri)?, trunk.number_format, &trunk.country_code)
}

/// The user part without visual separators (RFC 3966 §5.1.1).
fn digits_of(uri: &Uri) -> Option<String> {
    match uri.scheme {
        Scheme::Sip | Scheme::Sips | Scheme::Tel => {}
        Scheme::Other => return None,
    }
    let user = uri.user()?;
    let separator = |c: &char| matches!(c, '-' | '.' | '(' | ')' | ' ');
    Some(user.chars().filter(|c| !separator(c)).collect())
}

/// Reads a number as the trunk writes it; `+` is understood from every trunk, any other form only
/// where it is declared (interop.md I17).
pub fn to_e164(text: &str, format: NumberFormat, country_code: &str) -> Option<E164> {
    if text.starts_with('+') {
        return E164::parse(text).ok();
    }
    let international = |digits: &str| E164::parse(&format!("+{digits}")).ok();
    match format {
        NumberFormat::E164 => None,
        NumberFormat::Digits => international(text),
        NumberFormat::DoubleZero => international(text.strip_prefix("00")?),
        NumberFormat::National => match text.strip_prefix("00") {
            Some(digits) => international(digits),
            None => {
                let national = text.strip_prefix('0')?;
                E164::parse(&format!("+{country_code}{national}")).ok()
            }
        },
    }
}

/// Emergency, mass-calling, premium and directory numbers cannot call anybody: such a caller number
/// is forged (interop.md I23). Written out with the German country code ...
fn is_service_number(number: &E164) -> bool {
    let Some(national) = number.as_str().strip_prefix("+49") else {
        return false;
    };
    matches!(national, "110" | "112") || ["137", "900", "118"].iter().any(|p| national.starts_with(p))
}

/// ... or as it is dialled, which a trunk's format may not even admit.
fn raw_is_service_number(uri: &Uri) -> bool {
    let Some(digits) = digits_of(uri) else {
        return false;
    };
    let directory = digits.starts_with("118") && (5..=6).contains(&digits.len());
    directory
        || matches!(digits.as_str(), "110" | "112")
        || digits.starts_with("0137")
        || digits.starts_with("0900")
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
