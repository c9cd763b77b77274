//! What can go wrong in the store, sorted by who must act: a [`Refusal`] is a business "no" that the
//! operator reads; a [`StoreFault`] is our outside failing (file, database, key).

use super::RowFault;
use crate::card::binding::Unbindable;

/// The database, its file or the PIN key failed us.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    #[error("cannot open the database {url}: {problem}; {cure}")]
    Open {
        url: String,
        problem: String,
        cure: &'static str,
    },
    #[error(
        "the database {url} has schema {found}, this program knows up to {known}: it was written by a newer Cardline; start that one, or restore a backup from before the upgrade"
    )]
    Newer { url: String, found: i64, known: i64 },
    #[error("PIN key in {place}: {problem}; {cure}")]
    PinKey {
        place: String,
        problem: String,
        cure: &'static str,
    },
    /// This process may not write for calls (any more): another node has taken its lease, or it could
    /// not be renewed in time.
    #[error("this node has lost its lease; another one settles its calls")]
    Fenced,
    #[error(
        "node \"{node}\" is served by another cardline, whose lease lives for {seconds} s more; give this one a name of its own in node.name, or start it again when the other one has ended"
    )]
    NodeHeld { node: String, seconds: i64 },
    #[error("database: {0}")]
    Sql(#[from] sqlx::Error),
    /// No answer came; the order may have been carried out.
    #[error("no answer: {what}")]
    Unknown { what: String },
    /// A row that must exist is missing, or a column holds a word that the schema does not know.
    #[error("the database is damaged: {what}")]
    Damaged { what: String },
}

impl StoreFault {
    /// Whether the database is away or takes no writes, so that anything else would fail as well;
    /// otherwise the fault is the request's own.
    pub fn is_away(&self) -> bool {
        match self {
            StoreFault::Open { .. } | StoreFault::Fenced | StoreFault::Unknown { .. } => true,
            StoreFault::Sql(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                // SQLite's extended codes carry the kind in their lowest byte.
                let sqlite = code.parse::<u32>().ok().map(|code| code & 0xff);
                match code.len() {
                    5 => AWAY_POSTGRES.iter().any(|class| code.starts_with(class)),
                    _ => sqlite.is_some_and(|code| AWAY_SQLITE.contains(&code)),
                }
            }
            StoreFault::Sql(
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
                | sqlx::Error::BeginFailed,
            ) => true,
            StoreFault::Sql(_)
            | StoreFault::Newer { .. }
            | StoreFault::PinKey { .. }
            | StoreFault::NodeHeld { .. }
            | StoreFault::Damaged { .. } => false,
        }
    }

    /// Whether the statement only met another one on its way, so that a second try may do.
    pub fn is_collision(&self) -> bool {
        let StoreFault::Sql(sqlx::Error::Database(error)) = self else {
            return false;
        };
        COLLISIONS.contains(&error.code().unwrap_or_default().as_ref())
    }

    pub(crate) fn damaged(what: impl Into<String>) -> StoreFault {
        StoreFault::Damaged { what: what.into() }
    }
}

/// SQLSTATE: unique violation, serialization failure, deadlock.
const COLLISIONS: [&str; 3] = ["23505", "40001", "40P01"];
/// SQLSTATE classes and codes: connection, resources, operator intervention, system, read only.
const AWAY_POSTGRES: [&str; 5] = ["08", "53", "57", "58", "25006"];
/// BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN (sqlite3.h).
const AWAY_SQLITE: [u32; 6] = [5, 6, 8, 10, 13, 14];

/// Who must act on a refusal; the admin listener makes a status of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalClass {
    /// The named thing does not exist (or belongs to someone else).
    NotFound,
    /// The request itself is wrong.
    Invalid,
    /// The request is right, the present state forbids it.
    Conflict,
}

/// A "no" to an operator. `Display` is English, [`Refusal::german`] the operator page's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no {kind} {name:?}")]
    NotFound { kind: &'static str, name: String },
    #[error("{kind} {name:?} exists already")]
    Exists { kind: &'static str, name: String },
    /// `field` says which input; the stable code is `invalid_<field>`.
    #[error("{field} {value:?}: {problem}")]
    Invalid {
        field: &'static str,
        value: String,
        problem: &'static str,
        german: &'static str,
    },
    /// `state` is the German word of the card's state.
    #[error("card {serial} is {state}")]
    CardState { serial: String, state: &'static str },
    #[error("a call is in progress on card {serial}")]
    CardInUse { serial: String },
    #[error("the line cannot be remembered: {0}")]
    Line(#[from] Unbindable),
    #[error("the line is bound to card {serial} of the same project")]
    LineTaken { serial: String },
    #[error("the card has {limit} lines already, which is the project's limit")]
    LinesFull { limit: u32 },
    #[error("the project remembers no lines")]
    LinesOff,
    #[error("the idempotency key was used for another request")]
    KeyReused,
    #[error("the quote is older than 15 minutes; ask for a new one")]
    QuoteExpired,
    #[error("the quote is for {minutes} minutes in project {project:?}")]
    QuoteMismatch { project: String, minutes: i64 },
    #[error("the quote was used already, for card {serial}; ask for a new one")]
    QuoteUsed { serial: String },
    #[error("the purchase would exceed the operator's limit of {limit_cents} cents")]
    OverLimit { limit_cents: i64 },
    #[error("card {serial} has only {available_ms} ms available")]
    NotAvailable { serial: String, available_ms: i64 },
    #[error("too many PINs were revealed within the hour; this is limited to 60")]
    TooManyReveals,
    #[error("the same line stands in the file twice")]
    LineTwice,
    #[error("{} faults in the file; nothing was imported", .0.len())]
    Rows(Vec<RowFault>),
    #[error("talk time stays in its project: one card is in {from:?}, the other in {to:?}")]
    OtherProject { from: String, to: String },
    #[error("call {id} has ended or has no card")]
    CallOver { id: String },
    #[error(
        "cards that expire before the claim does, at the end of the third year after the purchase (§§ 195, 199 BGB), are mostly void in terms of business; say accept_short_expiry (--accept-short-expiry) if you want it all the same"
    )]
    ShortExpiry,
    #[error(
        "{projects} projects have this tariff; change it with `tariff edit`, or give this project another one"
    )]
    TariffShared { projects: i64 },
}

impl Refusal {
    pub fn class(&self) -> RefusalClass {
        match self {
            Refusal::NotFound { .. } => RefusalClass::NotFound,
            Refusal::Invalid { .. } | Refusal::Line(_) | Refusal::LineTwice | Refusal::Rows(_) => {
                RefusalClass::Invalid
            }
            Refusal::Exists { .. }
            | Refusal::CardState { .. }
            | Refusal::CardInUse { .. }
            | Refusal::LineTaken { .. }
            | Refusal::LinesFull { .. }
            | Refusal::LinesOff
            | Refusal::KeyReused
            | Refusal::QuoteExpired
            | Refusal::QuoteMismatch { .. }
            | Refusal::QuoteUsed { .. }
            | Refusal::OverLimit { .. }
            | Refusal::NotAvailable { .. }
            | Refusal::TooManyReveals
            | Refusal::CallOver { .. }
            | Refusal::OtherProject { .. }
            | Refusal::ShortExpiry
            | Refusal::TariffShared { .. } => RefusalClass::Conflict,
        }
    }

    /// The stable word for programs.
    pub fn code(&self) -> String {
        match self {
            Refusal::NotFound { kind, .. } => format!("{kind}_not_found"),
            Refusal::Exists { kind, .. } => format!("{kind}_exists"),
            Refusal::Invalid { field, .. } => format!("invalid_{field}"),
            Refusal::CardState { .. } => "card_state".to_owned(),
            Refusal::CardInUse { .. } => "card_in_use".to_owned(),
            Refusal::Line(_) => "line_refused".to_owned(),
            Refusal::LineTaken { .. } => "line_taken".to_owned(),
            Refusal::LinesFull { .. } => "lines_full".to_owned(),
            Refusal::LinesOff => "lines_off".to_owned(),
            Refusal::KeyReused => "idempotency_key_reused".to_owned(),
            Refusal::QuoteExpired => "quote_expired".to_owned(),
            Refusal::QuoteMismatch { .. } => "quote_mismatch".to_owned(),
            Refusal::QuoteUsed { .. } => "quote_used".to_owned(),
            Refusal::OverLimit { .. } => "over_limit".to_owned(),
            Refusal::NotAvailable { .. } => "not_available".to_owned(),
            Refusal::TooManyReveals => "too_many_reveals".to_owned(),
            Refusal::LineTwice => "line_twice".to_owned(),
            Refusal::Rows(_) => "import_refused".to_owned(),
            Refusal::OtherProject { .. } => "other_project".to_owned(),
            Refusal::CallOver { .. } => "call_over".to_owned(),
            Refusal::ShortExpiry => "short_expiry".to_owned(),
            Refusal::TariffShared { .. } => "tariff_shared".to_owned(),
        }
    }

    pub fn german(&self) -> String {
        match self {
            Refusal::NotFound { name, .. } => format!("Nicht gefunden: {name}"),
            Refusal::Exists { name, .. } => format!("Gibt es schon: {name}"),
            Refusal::Invalid { german, .. } => (*german).to_owned(),
            Refusal::CardState { serial, state } => format!("Die Karte {serial} ist {state}."),
            Refusal::CardInUse { serial } => format!("Mit der Karte {serial} wird gerade gesprochen."),
            Refusal::Line(why) => why.german().to_owned(),
            Refusal::LineTaken { serial } => {
                format!("Dieser Anschluss ist schon für die Karte {serial} freigeschaltet.")
            }
            Refusal::LinesFull { limit } => format!("Die Karte hat schon {limit} Anschlüsse."),
            Refusal::LinesOff => "Dieses Projekt merkt sich keine Anschlüsse.".to_owned(),
            Refusal::KeyReused => "Dieser Schlüssel gehört schon zu einer anderen Anfrage.".to_owned(),
            Refusal::QuoteExpired => "Das Angebot ist abgelaufen. Bitte neu berechnen.".to_owned(),
            Refusal::QuoteMismatch { project, minutes } => {
                format!("Das Angebot gilt für {minutes} Minuten im Projekt {project}.")
            }
            Refusal::QuoteUsed { serial } => {
                format!("Das Angebot wurde schon für die Karte {serial} benutzt. Bitte neu berechnen.")
            }
            Refusal::OverLimit { .. } => "Der Kauf überschreitet den Kreditrahmen.".to_owned(),
            Refusal::NotAvailable { .. } => "So viel Restzeit ist auf der Karte nicht verfügbar.".to_owned(),
            Refusal::TooManyReveals => {
                "In der letzten Stunde wurden zu viele PINs angezeigt; erlaubt sind 60.".to_owned()
            }
            Refusal::LineTwice => "Dieser Anschluss steht zweimal in der Datei.".to_owned(),
            Refusal::Rows(faults) => {
                format!("{} Fehler in der Datei; nichts wurde eingelesen.", faults.len())
            }
            Refusal::OtherProject { from, to } => {
                format!("Restzeit bleibt in ihrem Projekt: eine Karte ist in {from}, die andere in {to}.")
            }
            Refusal::CallOver { .. } => "Dieser Anruf ist schon beendet.".to_owned(),
            Refusal::ShortExpiry => "Karten, die vor dem Anspruch enden (Ende des dritten Jahres nach dem Kauf, §§ 195, 199 BGB), sind in AGB meist unwirksam. Wer es trotzdem will, gibt accept_short_expiry (--accept-short-expiry) an.".to_owned(),
            Refusal::TariffShared { projects } => {
                format!("Diesen Tarif haben {projects} Projekte. Bitte „tariff edit“ benutzen oder dem Projekt einen anderen Tarif geben.")
            }
        }
    }

    pub(crate) fn not_found(kind: &'static str, name: &str) -> Refusal {
        Refusal::NotFound {
            kind,
            name: name.to_owned(),
        }
    }
}

/// Why an admin request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Fault(#[from] StoreFault),
}

impl From<sqlx::Error> for AdminError {
    fn from(error: sqlx::Error) -> AdminError {
        AdminError::Fault(StoreFault::Sql(error))
    }
}
