//! The admin-side functions whose bodies are still to come; they say so.
#![expect(clippy::unused_async, reason = "the bodies that wait are still to come")]

use super::*;
use crate::call::directory::Directory;
use crate::card::{LedgerReply, LedgerRequest};
use crate::config::TrunkConfig;
use crate::ids::CallKey;
use crate::media::PromptSetId;
use crate::now::{Now, UnixTime};
use crate::units::E164;
use std::collections::BTreeMap;

fn unbuilt<T>() -> Result<T, AdminError> {
    Err(AdminError::Fault(StoreFault::damaged("not built yet")))
}

impl Store {
    /// Carries out one request of a call in one `db_tx`, idempotently; may be repeated after an
    /// unknown result.
    pub async fn ledger(&self, _now: Now, _request: &LedgerRequest) -> Result<LedgerReply, StoreFault> {
        Err(StoreFault::damaged("not built yet"))
    }
    /// At start, before the first call: settles what this node's earlier life left open.
    pub async fn recover(&self, _now: Now) -> Result<Recovered, StoreFault> {
        Err(StoreFault::damaged("not built yet"))
    }
    /// Each 30 s: ends reservations past `valid_until` + 30 s.
    pub async fn expire(&self, _now: Now) -> Result<Recovered, StoreFault> {
        Err(StoreFault::damaged("not built yet"))
    }
    /// `prompt_sets`: loaded sets by name (`de`, `en`, ...); `trunks`: E.164 targets go to the first
    /// that has a proxy.
    pub async fn directory(
        &self,
        _prompt_sets: &BTreeMap<String, PromptSetId>,
        _trunks: &[TrunkConfig],
    ) -> Result<Directory, StoreFault> {
        Err(StoreFault::damaged("not built yet"))
    }
    pub async fn project_new(
        &self,
        _act: &Act,
        _name: &str,
        _edit: &ProjectEdit,
    ) -> Result<ProjectRow, AdminError> {
        unbuilt()
    }
    pub async fn project_list(&self) -> Result<Vec<ProjectRow>, AdminError> {
        unbuilt()
    }
    pub async fn project_show(&self, _name: &str) -> Result<ProjectRow, AdminError> {
        unbuilt()
    }
    pub async fn project_edit(
        &self,
        _act: &Act,
        _name: &str,
        _edit: &ProjectEdit,
    ) -> Result<ProjectRow, AdminError> {
        unbuilt()
    }
    pub async fn number_add(&self, _act: &Act, _new: &NewNumber) -> Result<NumberRow, AdminError> {
        unbuilt()
    }
    /// All, or one project's.
    pub async fn number_list(&self, _project: Option<&str>) -> Result<Vec<NumberRow>, AdminError> {
        unbuilt()
    }
    pub async fn number_remove(&self, _act: &Act, _number: &E164) -> Result<(), AdminError> {
        unbuilt()
    }
    pub async fn target_add(&self, _act: &Act, _new: &NewTarget) -> Result<TargetRow, AdminError> {
        unbuilt()
    }
    pub async fn target_list(&self, _project: Option<&str>) -> Result<Vec<TargetRow>, AdminError> {
        unbuilt()
    }
    pub async fn target_remove(&self, _act: &Act, _id: i64) -> Result<(), AdminError> {
        unbuilt()
    }
    /// Side effect: none that a card or an invoice shows; the quote is kept for 15 minutes.
    pub async fn card_quote(
        &self,
        _now: UnixTime,
        _project: &str,
        _minutes: i64,
    ) -> Result<QuoteRow, AdminError> {
        unbuilt()
    }
    /// Card, entry and invoice line in one `db_tx`; the row has the PIN and the price.
    pub async fn card_buy(&self, _act: &Act, _new: &NewCard) -> Result<CardRow, AdminError> {
        unbuilt()
    }
    /// Afterwards post `Input::CardChanged(row.id)`.
    pub async fn card_topup(&self, _act: &Act, _serial: &str, _minutes: i64) -> Result<CardRow, AdminError> {
        unbuilt()
    }
    pub async fn card_list(&self, _filter: &CardFilter) -> Result<Vec<CardRow>, AdminError> {
        unbuilt()
    }
    pub async fn card_show(&self, _serial: &str) -> Result<CardRow, AdminError> {
        unbuilt()
    }
    /// The card's ledger, oldest first.
    pub async fn card_entries(&self, _serial: &str) -> Result<Vec<EntryRow>, AdminError> {
        unbuilt()
    }
    pub async fn card_note(&self, _act: &Act, _serial: &str, _note: &str) -> Result<CardRow, AdminError> {
        unbuilt()
    }
    pub async fn card_block(&self, _act: &Act, _serial: &str) -> Result<CardRow, AdminError> {
        unbuilt()
    }
    pub async fn card_unblock(&self, _act: &Act, _serial: &str) -> Result<CardRow, AdminError> {
        unbuilt()
    }
    /// Books out what is available (storno) and ends the card; refused while a call is on.
    pub async fn card_cancel(&self, _act: &Act, _serial: &str) -> Result<CardRow, AdminError> {
        unbuilt()
    }
    /// The row with the PIN; leaves an audit row.
    pub async fn card_pin(&self, _act: &Act, _serial: &str) -> Result<CardRow, AdminError> {
        unbuilt()
    }
    /// `take`: also if the line is bound to another card of the project.
    pub async fn card_bind(
        &self,
        _act: &Act,
        _serial: &str,
        _line: &E164,
        _take: bool,
    ) -> Result<CardRow, AdminError> {
        unbuilt()
    }
    pub async fn card_unbind(&self, _act: &Act, _serial: &str, _line: &E164) -> Result<CardRow, AdminError> {
        unbuilt()
    }
    pub async fn call_list(&self, _filter: &CallFilter) -> Result<Vec<CallRow>, AdminError> {
        unbuilt()
    }
    pub async fn call_show(&self, _call: CallKey) -> Result<CallRow, AdminError> {
        unbuilt()
    }
    /// Goodwill minutes for the card of a call in progress; afterwards post `CardChanged(row.id)`.
    pub async fn call_extend(
        &self,
        _act: &Act,
        _call: CallKey,
        _minutes: i64,
    ) -> Result<CardRow, AdminError> {
        unbuilt()
    }
    /// One audit row for an act that writes nothing else: hang-up, drain, reload.
    pub async fn audit_add(&self, _act: &Act, _action: &str, _subject: &str) -> Result<(), AdminError> {
        unbuilt()
    }
    /// Newest first.
    pub async fn audit_tail(&self, _limit: i64) -> Result<Vec<AuditRow>, AdminError> {
        unbuilt()
    }
    /// Every invariant of product.md section 4 that the data can show.
    pub async fn check(&self, _now: UnixTime) -> Result<CheckReport, AdminError> {
        unbuilt()
    }
}
