//! Corrections of a balance: a booked entry with a reason, never an edit (I10).

use super::cards::about;
use super::ledger::{NewEntry, write_entry};
use super::projects::invalid;
use super::purchase::{answer_text, remember_answer, replay};
use super::{Act, AdminError, CardRow, Refusal, Store};
use crate::units::Cents;

/// A correction beyond the longest card (9999 minutes) is a slip of the finger.
const MOST_MS: i64 = 9999 * 60_000;

impl Store {
    /// Adds or takes talk time with a reason, free of charge. What is reserved by a call in
    /// progress cannot be taken (I9). Afterwards post `CardChanged(row.id)`.
    ///
    /// # Errors
    /// `card_not_found`, `invalid_delta_ms`, `invalid_reason`, `not_available`,
    /// `idempotency_key_reused`.
    pub async fn card_correct(
        &self,
        act: &Act,
        serial: &str,
        delta_ms: i64,
        reason: &str,
    ) -> Result<CardRow, AdminError> {
        check_input(delta_ms, reason)?;
        let request = format!("{serial} {delta_ms} {reason}");
        let mut db = self.begin().await?;
        if let Some(answer) = replay(db.conn(), act, "card.correct", &request).await? {
            return self.answer_again(db, act, &answer, false).await;
        }
        let before = self.lock_card(db.conn(), serial).await?;
        if before.balance_ms - before.reserved_ms + delta_ms < 0 {
            let available_ms = before.balance_ms - before.reserved_ms;
            return Err(Refusal::NotAvailable {
                serial: serial.to_owned(),
                available_ms,
            }
            .into());
        }
        let op = self.draw(|ids| ids.op_id().to_string());
        let entry = NewEntry {
            card: before.id,
            kind: "correction",
            delta_ms,
            call: None,
            purchase: None,
            op_key: &format!("correction:{op}"),
            actor: &act.actor,
            at: act.now,
        };
        write_entry(db.conn(), &entry).await?;
        let is = serde_json::json!({ "delta_ms": delta_ms, "reason": reason });
        self.audit(db.conn(), about(act, "card.correct", serial, None, Some(is)))
            .await?;
        let answer = answer_text(serial, Cents::ZERO);
        remember_answer(db.conn(), act, &answer).await?;
        self.answer_again(db, act, &answer, false).await
    }
}

fn check_input(delta_ms: i64, reason: &str) -> Result<(), Refusal> {
    if delta_ms == 0 || delta_ms.abs() > MOST_MS {
        return Err(invalid(
            "delta_ms",
            &delta_ms.to_string(),
            "milliseconds up to 9999 minutes, not zero",
            "Korrektur: Millisekunden bis zu 9999 Minuten, nicht null.",
        ));
    }
    if reason.trim().is_empty() || reason.chars().count() > 200 {
        return Err(invalid(
            "reason",
            reason,
            "1 to 200 characters that say why",
            "Grund: 1 bis 200 Zeichen.",
        ));
    }
    Ok(())
}
