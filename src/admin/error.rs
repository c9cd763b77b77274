//! Every "no" of the admin listener: a stable code, and words in both languages for the person who
//! must act (RFC 9457).
//!
//! What the public reads and what the log keeps are two fields: a database's own words never leave.
//! Deliberately absent: catch-all codes.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::card::binding::Unbindable;
use crate::store::{AdminError, Refusal, RefusalClass};

/// The language of messages, by `Accept-Language`; German is the house's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lang {
    #[default]
    De,
    En,
}

impl Lang {
    /// The first language of the header that we speak.
    pub fn from_header(value: &str) -> Lang {
        value
            .split(',')
            .map(|part| part.trim().to_ascii_lowercase())
            .find_map(|part| match part.get(..2) {
                Some("de") => Some(Lang::De),
                Some("en") => Some(Lang::En),
                Some(_) | None => None,
            })
            .unwrap_or_default()
    }
}

/// The same sentence in both languages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub de: String,
    pub en: String,
}

impl Text {
    pub fn new(de: impl Into<String>, en: impl Into<String>) -> Text {
        Text {
            de: de.into(),
            en: en.into(),
        }
    }

    pub fn pick(&self, lang: Lang) -> &str {
        match lang {
            Lang::De => &self.de,
            Lang::En => &self.en,
        }
    }
}

/// A problem's heading; the same for all problems of its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Title {
    pub de: &'static str,
    pub en: &'static str,
}

impl Title {
    pub const fn pick(self, lang: Lang) -> &'static str {
        match lang {
            Lang::De => self.de,
            Lang::En => self.en,
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $status:ident $de:literal $en:literal,)*) => {
        /// A stable word for programs; each has one HTTP status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Code::$name => $code,)*
                }
            }

            pub const fn status(self) -> StatusCode {
                match self {
                    $(Code::$name => StatusCode::$status,)*
                }
            }

            /// What to do about it.
            pub const fn title(self, lang: Lang) -> &'static str {
                match (self, lang) {
                    $((Code::$name, Lang::De) => $de, (Code::$name, Lang::En) => $en,)*
                }
            }
        }
    };
}

codes! {
    BadJson = "bad_json" BAD_REQUEST "Kein lesbares JSON" "Not readable JSON",
    UnknownField = "unknown_field" BAD_REQUEST "Unbekanntes Feld" "Unknown field",
    MissingField = "missing_field" BAD_REQUEST "Feld fehlt" "Field missing",
    BadValue = "bad_value" UNPROCESSABLE_ENTITY "Unzulässiger Wert" "Value not allowed",
    InvalidMinutes = "invalid_minutes" UNPROCESSABLE_ENTITY "Unzulässige Minutenzahl" "Minutes not allowed",
    NumberInvalid = "number_invalid" UNPROCESSABLE_ENTITY "Keine gültige Rufnummer" "Not a valid number",
    NumberWithheld = "number_withheld" UNPROCESSABLE_ENTITY "Unterdrückte Rufnummer" "Withheld number",
    NumberShort = "number_short" UNPROCESSABLE_ENTITY "Kurzwahl oder Notruf" "Short or emergency number",
    NumberPremium = "number_premium" UNPROCESSABLE_ENTITY "Sonderrufnummer" "Premium or service number",
    NumberOwn = "number_own" UNPROCESSABLE_ENTITY "Eigene Rufnummer" "One of our own numbers",
    InvalidTarget = "invalid_target" UNPROCESSABLE_ENTITY "Kein gültiges Ziel" "Not a valid target",
    ReloadRefused = "reload_refused" CONFLICT "Konfiguration nicht übernommen" "Configuration not taken over",
    NoRoute = "no_such_path" NOT_FOUND "Diesen Pfad gibt es nicht" "No such path",
    CallNotFound = "call_not_found" NOT_FOUND "Anruf nicht gefunden" "Call not found",
    CallOver = "call_over" CONFLICT "Zurzeit nicht möglich" "Not possible now",
    MethodNotAllowed = "method_not_allowed" METHOD_NOT_ALLOWED "Methode nicht erlaubt" "Method not allowed",
    KeyInvalid = "idempotency_key_invalid" BAD_REQUEST "Idempotency-Key ungültig" "Idempotency key invalid",
    BodyTooLarge = "body_too_large" PAYLOAD_TOO_LARGE "Anfrage zu groß" "Request too large",
    TokenMissing = "token_missing" UNAUTHORIZED "Anmeldung fehlt" "Not authorised",
    HostForbidden = "host_forbidden" FORBIDDEN "Fremder Host-Name" "Foreign host name",
    LedgerBroken = "ledger_broken" CONFLICT "Kontoprüfung fand Fehler" "The ledger check found faults",
    Overloaded = "overloaded" SERVICE_UNAVAILABLE "Zu viele Anfragen" "Too many requests",
    SwitchSilent = "switch_silent" SERVICE_UNAVAILABLE "Vermittlung antwortet nicht" "The switch does not answer",
    StoreDown = "store_unavailable" SERVICE_UNAVAILABLE "Datenbank nicht erreichbar" "Database not reachable",
    TimedOut = "timed_out" SERVICE_UNAVAILABLE "Zu langsam" "Too slow",
    NotReady = "not_ready" SERVICE_UNAVAILABLE "Nicht bereit" "Not ready",
    Internal = "internal" INTERNAL_SERVER_ERROR "Interner Fehler" "Internal error",
}

/// An answer that says no. Nothing was changed, unless `detail` says otherwise.
#[derive(Clone, Debug)]
pub struct Problem {
    /// A [`Code`]'s word, or a store refusal's.
    pub code: Cow<'static, str>,
    pub status: StatusCode,
    pub title: Title,
    pub detail: Box<Text>,
    /// The field or parameter that is at fault, in JSON's own spelling.
    pub field: Option<Box<str>>,
    /// Machine-readable surroundings, such as the offenders of a ledger check.
    pub extra: Option<Box<Value>>,
    /// For the log only.
    pub internal: Option<String>,
}

impl Problem {
    pub fn new(code: Code, de: impl Into<String>, en: impl Into<String>) -> Problem {
        Problem {
            code: Cow::Borrowed(code.as_str()),
            status: code.status(),
            title: Title {
                de: code.title(Lang::De),
                en: code.title(Lang::En),
            },
            detail: Box::new(Text::new(de, en)),
            field: None,
            extra: None,
            internal: None,
        }
    }

    pub fn is(&self, code: Code) -> bool {
        self.code == code.as_str()
    }

    pub fn field(mut self, name: impl Into<String>) -> Problem {
        self.field = Some(name.into().into_boxed_str());
        self
    }

    pub fn extra(mut self, value: Value) -> Problem {
        self.extra = Some(Box::new(value));
        self
    }

    /// Keeps the cause for the log; the public never sees it.
    pub fn because(mut self, cause: impl std::fmt::Display) -> Problem {
        self.internal = Some(cause.to_string());
        self
    }

    pub fn internal(cause: impl std::fmt::Display) -> Problem {
        Problem::new(
            Code::Internal,
            "Das ist unser Fehler. Im Log steht mehr; bitte melden Sie ihn.",
            "This is our fault. The log says more; please report it.",
        )
        .because(cause)
    }

    /// The document of RFC 9457.
    pub fn to_json(&self, lang: Lang) -> Value {
        let mut document = json!({
            "type": format!("urn:cardline:problem:{}", self.code),
            "code": self.code,
            "title": self.title.pick(lang),
            "status": self.status.as_u16(),
            "detail": self.detail.pick(lang),
        });
        if let Some(field) = &self.field {
            document["field"] = json!(field);
        }
        if let Some(extra) = &self.extra {
            document["extra"] = (**extra).clone();
        }
        document
    }

    pub fn render(&self, lang: Lang) -> Response {
        let mut response = Response::new(Body::from(self.to_json(lang).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(
            header::CONTENT_LANGUAGE,
            HeaderValue::from_static(match lang {
                Lang::De => "de",
                Lang::En => "en",
            }),
        );
        if self.is(Code::TokenMissing) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Problem {
        match error {
            AdminError::Refused(refusal) => Problem::from(&refusal),
            AdminError::Fault(fault) => Problem::new(
                Code::StoreDown,
                "Die Datenbank hat den Auftrag nicht ausgeführt. Bitte später noch einmal versuchen; im Log steht die Ursache.",
                "The database did not carry out the order. Please try again later; the log has the cause.",
            )
            .because(fault),
        }
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Problem {
        if let Refusal::Line(why) = refusal {
            let code = match why {
                Unbindable::Withheld => Code::NumberWithheld,
                Unbindable::Short | Unbindable::Service => Code::NumberShort,
                Unbindable::Premium => Code::NumberPremium,
                Unbindable::Own => Code::NumberOwn,
            };
            return Problem::new(code, refusal.german(), refusal.to_string()).field("number");
        }
        let (status, title) = match refusal.class() {
            RefusalClass::NotFound => (
                StatusCode::NOT_FOUND,
                Title {
                    de: "Nicht gefunden",
                    en: "Not found",
                },
            ),
            RefusalClass::Invalid => (
                StatusCode::UNPROCESSABLE_ENTITY,
                Title {
                    de: "Unzulässiger Wert",
                    en: "Value not allowed",
                },
            ),
            RefusalClass::Conflict => (
                StatusCode::CONFLICT,
                Title {
                    de: "Zurzeit nicht möglich",
                    en: "Not possible now",
                },
            ),
        };
        let code = refusal.code();
        let mut extra = None;
        if let Refusal::Rows(faults) = refusal {
            extra = Some(Box::new(json!({ "faults": faults })));
        }
        Problem {
            field: code.strip_prefix("invalid_").map(Box::from),
            code: Cow::Owned(code),
            status,
            title,
            detail: Box::new(Text::new(refusal.german(), refusal.to_string())),
            extra,
            internal: None,
        }
    }
}

/// The words are chosen by the outermost layer, which knows the request's language: here the
/// problem only travels as an extension.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_words_of_their_own() {
        let mut words: Vec<&str> = Code::ALL.iter().map(|c| c.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Code::ALL.len());
        for code in Code::ALL {
            let status = code.status();
            assert!(status.is_client_error() || status.is_server_error(), "{code:?}");
        }
    }

    #[test]
    fn the_language_is_the_first_that_we_speak() {
        for (header, wanted) in [
            ("de-DE,de;q=0.9,en;q=0.8", Lang::De),
            ("en", Lang::En),
            ("fr, en-GB;q=0.5", Lang::En),
            ("", Lang::De),
            ("*", Lang::De),
            ("ü", Lang::De),
        ] {
            assert_eq!(Lang::from_header(header), wanted, "{header}");
        }
    }
}
