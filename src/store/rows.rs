//! Rows as the admin listener shows them: plain values, serialisable; the core's types are not.
//!
//! Times are RFC 3339 in UTC. A PIN stands in [`CardRow`] only in the answers to `card_buy` and
//! `card_pin`.

use serde::{Deserialize, Serialize};

use crate::call::directory::Role;
use crate::ids::CardId;
use crate::now::UnixTime;
use crate::store::{TariffEdit, TariffRow};

/// Who asks, and when; given to every write.
#[derive(Clone, Debug)]
pub struct Act {
    pub now: UnixTime,
    /// For the audit: `uid:1000`, `token:desk`, `operator`, `demo`.
    pub actor: String,
    /// Idempotency key: a repeated request with the same key gets the first answer.
    pub key: Option<String>,
}

/// RFC 3339, UTC, milliseconds: `2025-11-25T08:15:00.000Z`.
pub fn rfc3339(at: UnixTime) -> String {
    jiff::Timestamp::from_millisecond(at.as_ms())
        .map_or_else(|_| at.as_ms().to_string(), |stamp| format!("{stamp:.3}"))
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProjectRow {
    pub name: String,
    /// `de` or `en`.
    pub language: String,
    pub prompt_set: String,
    pub enabled: bool,
    /// Policy A3: lines that one card may remember; 1 replaces, 0 remembers none.
    pub max_lines: i64,
    /// Length of the PINs it issues now.
    pub pin_length: u8,
    /// The risk of that length: years of a sustained attack until one guess hits a card.
    pub pin_years_per_hit: u64,
    pub accept_key: bool,
    /// Longest pause while the advisor holds; `null` lets the clock run.
    pub hold_pause_s: Option<i64>,
    pub show_caller: bool,
    pub show_note: bool,
    pub max_parallel: i64,
    pub tariff: TariffRow,
    pub cards: i64,
    pub numbers: Vec<NumberRow>,
    pub created_at: String,
}

/// What `project_edit` changes; `None` leaves a value. A tariff value makes a new version of the
/// project's own tariff.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectEdit {
    pub name: Option<String>,
    pub language: Option<String>,
    pub prompt_set: Option<String>,
    pub enabled: Option<bool>,
    pub max_lines: Option<i64>,
    /// 8..=12; 0 goes back to the automatic length.
    pub pin_length: Option<i64>,
    pub accept_key: Option<bool>,
    /// 0 lets the clock run while the advisor holds.
    pub hold_pause_s: Option<i64>,
    pub show_caller: Option<bool>,
    pub show_note: Option<bool>,
    pub max_parallel: Option<i64>,
    /// Sells and charges by this tariff from now on.
    pub tariff: Option<String>,
    pub price_per_minute_millicents: Option<i64>,
    pub vat_basis_points: Option<i64>,
    pub first_increment_ms: Option<i64>,
    pub next_increment_ms: Option<i64>,
    pub minimum_ms: Option<i64>,
    pub free_under_ms: Option<i64>,
    pub connect_fee_ms: Option<i64>,
}

impl ProjectEdit {
    /// The part that is the tariff's.
    pub(super) fn of_tariff(&self) -> TariffEdit {
        TariffEdit {
            price_per_minute_millicents: self.price_per_minute_millicents,
            vat_basis_points: self.vat_basis_points,
            first_increment_ms: self.first_increment_ms,
            next_increment_ms: self.next_increment_ms,
            minimum_ms: self.minimum_ms,
            free_under_ms: self.free_under_ms,
            connect_fee_ms: self.connect_fee_ms,
            ..TariffEdit::default()
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NumberRow {
    /// `+493023125101`
    pub e164: String,
    /// `+49 30 23125101`
    pub international: String,
    /// `0049 30 23125101`
    pub international_00: String,
    /// `030 23125101`; `null` outside Germany.
    pub national: Option<String>,
    pub project: String,
    /// `activation`, `consultation` or `both`.
    pub role: String,
    pub added_at: String,
}

#[derive(Clone, Debug)]
pub struct NewNumber {
    pub e164: crate::units::E164,
    pub project: String,
    pub role: Role,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetRow {
    pub id: i64,
    pub project: String,
    /// As typed: `sip:user@192.0.2.7:5060`, or an E.164 number that goes through the trunk's proxy.
    pub address: String,
    pub order: i64,
    pub ring_s: i64,
    pub added_at: String,
}

#[derive(Clone, Debug)]
pub struct NewTarget {
    pub project: String,
    pub address: String,
    /// Place in the hunting order; `None` puts it last.
    pub order: Option<i64>,
    /// 5..=180; 25 by default.
    pub ring_s: Option<i64>,
}

/// A price for minutes, valid for 15 minutes. Money in cents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteRow {
    pub quote: String,
    pub project: String,
    pub minutes: i64,
    pub net_cents: i64,
    pub vat_cents: i64,
    pub gross_cents: i64,
    pub vat_basis_points: i64,
    pub tariff_version: i64,
    /// Shown as `kostenfrei`.
    pub free: bool,
    pub valid_until: String,
}

#[derive(Clone, Debug)]
pub struct NewCard {
    pub project: String,
    /// 1..=9999.
    pub minutes: i64,
    /// Up to 200 characters.
    pub note: Option<String>,
    /// A quote whose price is to be kept; else the present tariff's.
    pub quote: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CardRow {
    /// For `Input::CardChanged`.
    #[serde(skip)]
    pub id: CardId,
    pub serial: String,
    pub project: String,
    pub note: String,
    /// `neu`, `freigeschaltet`, `leer`, `abgelaufen`, `gesperrt` or `storniert`.
    pub state: &'static str,
    pub balance_ms: i64,
    pub reserved_ms: i64,
    pub available_ms: i64,
    pub lines: Vec<LineRow>,
    pub created_at: String,
    pub activated_at: Option<String>,
    pub expires_at: Option<String>,
    pub last_use_at: Option<String>,
    pub bought_ms: i64,
    pub used_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Only in the answers to `card_buy` and `card_topup`: gross.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_cents: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineRow {
    pub e164: String,
    /// `pin`, `operator` or `import`.
    pub source: String,
    pub first_use: Option<String>,
    pub last_use: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct CardFilter {
    pub project: Option<String>,
    /// Part of the note, without case.
    pub note: Option<String>,
    /// Part of a remembered line, such as its last digits.
    pub line: Option<String>,
    /// German state word.
    pub state: Option<String>,
    /// At most this many, newest first; 0 stands for 10 000, the most.
    pub limit: i64,
    /// Leaves out this many.
    pub offset: i64,
}

/// One ledger entry of a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryRow {
    pub seq: i64,
    pub kind: String,
    pub delta_ms: i64,
    pub call: Option<String>,
    pub purchase: Option<i64>,
    pub actor: String,
    pub at: String,
    pub row_hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CallRow {
    /// 16 hex digits.
    pub id: String,
    pub project: Option<String>,
    /// Serial.
    pub card: Option<String>,
    pub caller: Option<String>,
    pub called: Option<String>,
    /// As typed by the operator.
    pub target: Option<String>,
    /// `open` or `ended`; the live state comes from the switch.
    pub state: String,
    pub started_at: String,
    pub answered_at: Option<String>,
    pub ringing_at: Option<String>,
    pub advisor_answered_at: Option<String>,
    pub bridged_at: Option<String>,
    pub ended_at: Option<String>,
    pub hold_ms: i64,
    pub raw_ms: i64,
    pub billed_ms: i64,
    pub end_cause: Option<String>,
    /// The outcome word of product.md 3.7, which is the end cause's.
    pub result: Option<String>,
    pub trunk: String,
    pub codec: Option<String>,
    pub warnings_s: Vec<u32>,
    pub tariff_version: Option<i64>,
    pub stats_a: Option<serde_json::Value>,
    pub stats_b: Option<serde_json::Value>,
    pub attempts: Vec<AttemptRow>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttemptRow {
    pub target: String,
    pub dialled_at: String,
    pub status: i64,
}

#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    pub project: Option<String>,
    /// Serial.
    pub card: Option<String>,
    /// Only rows without an end.
    pub open: bool,
    /// At most this many, newest first; 0 stands for 1000.
    pub limit: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditRow {
    pub id: i64,
    pub at: String,
    pub actor: String,
    pub action: String,
    pub subject: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// What `check` found: every rule it tried, and who broke it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    pub clean: bool,
    /// Names of the rules that were tried, such as `I1 balance is the sum of entries`.
    pub rules: Vec<String>,
    /// Invariants that rows cannot show.
    pub elsewhere: Vec<Proof>,
    pub offenders: Vec<Offender>,
    /// Serials of cards that this check has blocked.
    pub blocked: Vec<String>,
    pub cards: i64,
    pub entries: i64,
    pub calls: i64,
    pub took_ms: i64,
    pub anchor: AnchorRow,
}

/// An invariant and where it is proved, if not by this check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    pub rule: &'static str,
    pub proof: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offender {
    /// As in the specification: `I1`, `L9`.
    pub id: String,
    pub rule: String,
    /// Card, call and row, with the numbers that do not agree.
    pub what: String,
    /// Serial.
    pub card: Option<String>,
    pub call: Option<String>,
    /// Id in the table that the rule is about.
    pub row: Option<i64>,
}

/// A hash that stands for all entries up to a row. Kept apart from the database, it shows later
/// whether somebody rewrote them, hashes and all (reliability.md T18).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnchorRow {
    /// Id of the newest entry in it.
    pub upto: i64,
    pub entries: i64,
    /// SHA-256, hex.
    pub hash: String,
}

/// The verdict of the newest check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastCheck {
    pub at: String,
    pub took_ms: i64,
    pub clean: bool,
    pub offenders: i64,
    pub first_offence: Option<String>,
    pub anchor_upto: i64,
    pub anchor: String,
}
