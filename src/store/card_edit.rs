//! What an operator does to a card: note, block, cancel, reveal, bind.

use super::cards::{about, card, row, valid_note, wrong_state};
use super::lines::{NewBinding, activate, card_state, own_number};
use super::purchase::{answer_text, remember_answer, replay};
use super::{Act, AdminError, CardRow, DbTx, Refusal, Store};
use crate::card::CardState;
use crate::card::binding::{self, Placement};
use crate::now::UnixTime;
use crate::units::{Cents, E164};

/// PINs that one actor is shown within [`REVEAL_SPAN_MS`]: enough to help customers, too few to copy
/// a whole project (reliability.md T18).
const REVEALS: i64 = 60;
const REVEAL_SPAN_MS: i64 = 3_600_000;

impl Store {
    /// # Errors
    /// `card_not_found`, `invalid_note`.
    pub async fn card_note(&self, act: &Act, serial: &str, note: &str) -> Result<CardRow, AdminError> {
        let note = valid_note(note)?;
        let mut db = self.begin().await?;
        let before = self.lock_card(db.conn(), serial).await?;
        sqlx::query("UPDATE card SET note = $1 WHERE id = $2")
            .bind(&note)
            .bind(before.id)
            .execute(db.conn())
            .await?;
        let (was, is) = (
            serde_json::json!({ "note": before.note }),
            serde_json::json!({ "note": note }),
        );
        self.audit(db.conn(), about(act, "card.note", serial, Some(was), Some(is)))
            .await?;
        self.answer(db, act.now, serial).await
    }

    /// A call in progress keeps its slice; `CardChanged(row.id)` tells it.
    ///
    /// # Errors
    /// `card_not_found`, `card_state` if it is cancelled or blocked already.
    pub async fn card_block(&self, act: &Act, serial: &str) -> Result<CardRow, AdminError> {
        let mut db = self.begin().await?;
        let before = self.lock_card(db.conn(), serial).await?;
        if before.state == "gesperrt" || before.state == "storniert" {
            return Err(wrong_state(&before, act.now)?.into());
        }
        sqlx::query("UPDATE card SET state = 'gesperrt', state_before = state WHERE id = $1")
            .bind(before.id)
            .execute(db.conn())
            .await?;
        let was = serde_json::json!({ "state": before.state });
        self.audit(db.conn(), about(act, "card.block", serial, Some(was), None))
            .await?;
        self.answer(db, act.now, serial).await
    }

    /// Back to what it was before the block.
    ///
    /// # Errors
    /// `card_not_found`, `card_state` if it is not blocked.
    pub async fn card_unblock(&self, act: &Act, serial: &str) -> Result<CardRow, AdminError> {
        let mut db = self.begin().await?;
        let before = self.lock_card(db.conn(), serial).await?;
        if before.state != "gesperrt" {
            return Err(wrong_state(&before, act.now)?.into());
        }
        sqlx::query(
            "UPDATE card SET state = COALESCE(state_before, 'neu'), state_before = NULL WHERE id = $1",
        )
        .bind(before.id)
        .execute(db.conn())
        .await?;
        self.audit(db.conn(), about(act, "card.unblock", serial, None, None))
            .await?;
        self.answer(db, act.now, serial).await
    }

    /// Takes back what is left (storno, with its invoice lines), forgets the lines and frees the PIN.
    /// Refused while a call is on, because only what is available may be taken away (I9).
    /// `price_cents` of the answer is what the invoice falls by.
    ///
    /// # Errors
    /// `card_not_found`, `card_in_use`, `card_state` if it is cancelled already,
    /// `idempotency_key_reused`.
    pub async fn card_cancel(&self, act: &Act, serial: &str) -> Result<CardRow, AdminError> {
        let mut db = self.begin().await?;
        if let Some(answer) = replay(db.conn(), act, "card.cancel", serial).await? {
            return self.answer_again(db, act, &answer, false).await;
        }
        let before = self.lock_card(db.conn(), serial).await?;
        if before.state == "storniert" {
            return Err(wrong_state(&before, act.now)?.into());
        }
        if before.open_calls > 0 || before.reserved_ms > 0 {
            return Err(Refusal::CardInUse {
                serial: serial.to_owned(),
            }
            .into());
        }
        let mut gross = Cents::ZERO;
        if before.balance_ms > 0 {
            let key = format!("storno:{}", before.id);
            gross = self
                .reverse(db.conn(), act, &before, before.balance_ms, &key)
                .await?;
        }
        sqlx::query("UPDATE card SET state = 'storniert', state_before = NULL WHERE id = $1")
            .bind(before.id)
            .execute(db.conn())
            .await?;
        sqlx::query(
            "UPDATE line_binding SET removed_at = $1, removed_by = $2 WHERE card_id = $3 AND removed_at IS NULL",
        )
        .bind(act.now.as_ms())
        .bind(&act.actor)
        .bind(before.id)
        .execute(db.conn())
        .await?;
        let was = serde_json::json!({ "state": before.state, "balance_ms": before.balance_ms });
        let back = Cents::new(-gross.get());
        let is = serde_json::json!({ "gross_cents": back.get() });
        self.audit(db.conn(), about(act, "card.cancel", serial, Some(was), Some(is)))
            .await?;
        let answer = answer_text(serial, back);
        remember_answer(db.conn(), act, &answer).await?;
        self.answer_again(db, act, &answer, false).await
    }

    /// A new PIN in place of a lost one; the old one is void at once, talk time and lines stay. The
    /// row has the new PIN.
    ///
    /// # Errors
    /// `card_not_found`, `card_state` if it is cancelled, `idempotency_key_reused`.
    pub async fn card_replace_pin(&self, act: &Act, serial: &str) -> Result<CardRow, AdminError> {
        let mut db = self.begin().await?;
        if let Some(answer) = replay(db.conn(), act, "card.replace_pin", serial).await? {
            return self.answer_again(db, act, &answer, true).await;
        }
        let card = self.lock_card(db.conn(), serial).await?;
        if card.state == "storniert" {
            return Err(wrong_state(&card, act.now)?.into());
        }
        self.new_pin(db.conn(), &card).await?;
        self.audit(db.conn(), about(act, "card.replace_pin", serial, None, None))
            .await?;
        let answer = answer_text(serial, Cents::ZERO);
        remember_answer(db.conn(), act, &answer).await?;
        self.answer_again(db, act, &answer, true).await
    }

    /// The row with the PIN; every reveal leaves an audit row (I16).
    ///
    /// # Errors
    /// `card_not_found`, `card_state` if it is cancelled.
    pub async fn card_pin(&self, act: &Act, serial: &str) -> Result<CardRow, AdminError> {
        let mut db = self.begin().await?;
        let card = self.lock_card(db.conn(), serial).await?;
        if card.state == "storniert" {
            return Err(wrong_state(&card, act.now)?.into());
        }
        let lately: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM audit WHERE action = 'card.pin' AND at > $1 AND actor = $2",
        )
        .bind(act.now.as_ms().saturating_sub(REVEAL_SPAN_MS))
        .bind(&act.actor)
        .fetch_one(db.conn())
        .await?;
        if lately >= REVEALS {
            return Err(Refusal::TooManyReveals.into());
        }
        let pin = self.inner.pin_key.reveal(&card.serial, &card.pin_sealed)?;
        self.audit(db.conn(), about(act, "card.pin", serial, None, None))
            .await?;
        let mut row = self.answer(db, act.now, serial).await?;
        row.pin = Some(pin.expose().to_owned());
        Ok(row)
    }

    /// Activation by the operator (S20): the line is connected directly at its first call. `take`
    /// moves a line that another card of the project has.
    ///
    /// # Errors
    /// `card_not_found`, `card_state`, `line_refused` (I8), `line_taken`, `lines_full`, `lines_off`.
    pub async fn card_bind(
        &self,
        act: &Act,
        serial: &str,
        line: &E164,
        take: bool,
    ) -> Result<CardRow, AdminError> {
        let mut db = self.begin().await?;
        let card = self.lock_card(db.conn(), serial).await?;
        let state = card_state(&card.state, card.expires_at, act.now)?;
        if !matches!(state, CardState::New | CardState::Active) {
            return Err(wrong_state(&card, act.now)?.into());
        }
        let own = own_number(db.conn(), line).await?;
        binding::may_bind(Some(line), own.as_ref()).map_err(Refusal::Line)?;
        let other: Option<String> = sqlx::query_scalar(
            "SELECT c.serial FROM line_binding b JOIN card c ON c.id = b.card_id
             WHERE b.project_id = $1 AND b.e164 = $2 AND b.removed_at IS NULL AND b.card_id <> $3",
        )
        .bind(card.project_id)
        .bind(line.as_str())
        .bind(card.id)
        .fetch_optional(db.conn())
        .await?;
        if let Some(serial) = other.filter(|_| !take) {
            return Err(Refusal::LineTaken { serial }.into());
        }
        let new = NewBinding {
            card: card.id,
            project: card.project_id,
            line,
            source: "operator",
            actor: &act.actor,
            used_at: None,
            at: act.now,
        };
        match self.remember(db.conn(), &new).await? {
            Placement::Off => return Err(Refusal::LinesOff.into()),
            Placement::Full => return Err(self.lines_full(db.conn(), card.project_id).await?.into()),
            Placement::Kept | Placement::Added | Placement::Replaced => {}
        }
        activate(db.conn(), card.id, act.now).await?;
        let is = serde_json::json!({ "line": line.as_str() });
        self.audit(db.conn(), about(act, "card.bind", serial, None, Some(is)))
            .await?;
        self.answer(db, act.now, serial).await
    }

    /// # Errors
    /// `card_not_found`, `line_not_found`.
    pub async fn card_unbind(&self, act: &Act, serial: &str, line: &E164) -> Result<CardRow, AdminError> {
        let mut db = self.begin().await?;
        let card = self.lock_card(db.conn(), serial).await?;
        let gone = sqlx::query(
            "UPDATE line_binding SET removed_at = $1, removed_by = $2
             WHERE card_id = $3 AND e164 = $4 AND removed_at IS NULL",
        )
        .bind(act.now.as_ms())
        .bind(&act.actor)
        .bind(card.id)
        .bind(line.as_str())
        .execute(db.conn())
        .await?;
        if gone.rows_affected() == 0 {
            return Err(Refusal::not_found("line", line.as_str()).into());
        }
        let was = serde_json::json!({ "line": line.as_str() });
        self.audit(db.conn(), about(act, "card.unbind", serial, Some(was), None))
            .await?;
        self.answer(db, act.now, serial).await
    }

    /// Commits, with the card as it is now.
    async fn answer(&self, mut db: DbTx, now: UnixTime, serial: &str) -> Result<CardRow, AdminError> {
        let card = card(db.conn(), serial).await?;
        let row = row(db.conn(), card, now).await?;
        db.commit().await?;
        Ok(row)
    }
}
