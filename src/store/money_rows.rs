//! Rows and orders of money: tariffs, the operator's own data, batches.

use serde::{Deserialize, Serialize};

use super::CardRow;

/// One version of a tariff.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TariffRow {
    pub name: String,
    pub version: i64,
    /// When this version was made.
    pub since: String,
    pub price_per_minute_millicents: i64,
    pub steps: Vec<StepRow>,
    pub free_minutes: i64,
    pub vat_basis_points: i64,
    pub first_increment_ms: i64,
    pub next_increment_ms: i64,
    pub minimum_ms: i64,
    pub free_under_ms: i64,
    pub connect_fee_ms: i64,
    /// A card expires with the local year so many years after its purchase; `null` with `expiry_days`
    /// or if it never does.
    pub expiry_years: Option<i64>,
    pub expiry_days: Option<i64>,
    /// Whether cards end before the claim does (§§ 195, 199 BGB).
    pub short_expiry: bool,
    /// `kostenfrei` if no number of minutes costs anything.
    pub free: bool,
}

/// From here on a minute of a purchase costs something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StepRow {
    pub after_minutes: i64,
    pub price_per_minute_millicents: i64,
}

/// A tariff with its history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TariffSheet {
    #[serde(flatten)]
    pub now: TariffRow,
    /// Who sells and charges by it.
    pub projects: Vec<String>,
    /// Newest first; the first one is in force.
    pub versions: Vec<TariffRow>,
}

/// What `tariff_new` and `tariff_edit` set; `None` leaves a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TariffEdit {
    pub name: Option<String>,
    pub price_per_minute_millicents: Option<i64>,
    /// All steps together; an empty list takes them away.
    pub steps: Option<Vec<StepRow>>,
    pub free_minutes: Option<i64>,
    pub vat_basis_points: Option<i64>,
    pub first_increment_ms: Option<i64>,
    pub next_increment_ms: Option<i64>,
    pub minimum_ms: Option<i64>,
    pub free_under_ms: Option<i64>,
    pub connect_fee_ms: Option<i64>,
    /// 0 is never.
    pub expiry_years: Option<i64>,
    pub expiry_days: Option<i64>,
    /// The operator knows that a shorter expiry than the law's is mostly void.
    pub accept_short_expiry: bool,
}

/// The operator as invoices and limits see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperatorRow {
    pub name: String,
    pub address: String,
    pub vat_id: String,
    /// Days end here: cards expire and the books close by it.
    pub time_zone: String,
    /// Open invoice lines may reach this, gross; `null` is no limit.
    pub credit_limit_cents: Option<i64>,
    /// What they have reached.
    pub open_cents: i64,
    pub state: String,
}

/// What `operator_edit` changes; `None` leaves a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OperatorEdit {
    pub name: Option<String>,
    pub address: Option<String>,
    pub vat_id: Option<String>,
    pub time_zone: Option<String>,
    /// `null` takes the limit away.
    #[serde(deserialize_with = "also_null")]
    pub credit_limit_cents: Option<Option<i64>>,
}

/// A field that is there, be it `null`.
fn also_null<'de, D>(from: D) -> Result<Option<Option<i64>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    Option::<i64>::deserialize(from).map(Some)
}

/// Talk time that went from one card to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MovedRow {
    pub moved_ms: i64,
    pub from: CardRow,
    pub to: CardRow,
}

/// Equal cards that are bought together.
#[derive(Clone, Debug)]
pub struct NewBatch {
    pub project: String,
    pub count: i64,
    pub minutes: i64,
    pub note: Option<String>,
}

/// A card of a file that is imported.
#[derive(Clone, Debug)]
pub struct ImportRow {
    /// In the file, from 1.
    pub line_no: usize,
    pub note: String,
    pub minutes: i64,
    pub line: Option<crate::units::E164>,
}

/// What is wrong with one row of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowFault {
    pub line: usize,
    pub column: String,
    pub de: String,
    pub en: String,
}

/// Cards that were made together. Only here a PIN stands beside others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BatchRow {
    pub batch: i64,
    pub project: String,
    pub count: usize,
    /// Gross, of all cards.
    pub price_cents: i64,
    pub cards: Vec<BatchCard>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct BatchCard {
    pub serial: String,
    pub pin: String,
    pub note: String,
    pub minutes: i64,
    pub expires_at: Option<String>,
    /// Activated for it.
    pub line: Option<String>,
}

/// Without the PIN, which no formatter may see.
impl std::fmt::Debug for BatchCard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchCard")
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}
