//! Minutes for money: purchase, recharge, goodwill. Card, entry and invoice line are one
//! `db_tx` (I10); an idempotency key gets the first answer again.

use sqlx::AnyConnection;

use super::cards::{CardSql, about, card, row, valid_note, wrong_state};
use super::lapse::revive;
use super::ledger::{NewEntry, write_entry};
use super::pin_key::{random_bytes, sha256};
use super::projects::{Settings, invalid, live_cards, project};
use super::sale::sell;
use super::{Act, AdminError, CardRow, DbTx, NewCard, Refusal, Store, StoreFault};
use crate::card::pin;
use crate::ids::CallKey;
use crate::now::UnixTime;
use crate::secret::Pin;
use crate::units::Cents;

impl Store {
    /// Sets up the card and invoices it, atomically (S10). The row has the PIN and the price.
    ///
    /// # Errors
    /// `project_not_found`, `invalid_minutes`, `invalid_note`, `quote_not_found`, `quote_mismatch`,
    /// `quote_used`, `quote_expired`, `over_limit`, `idempotency_key_reused`.
    pub async fn card_buy(&self, act: &Act, new: &NewCard) -> Result<CardRow, AdminError> {
        valid_minutes(new.minutes)?;
        let note = valid_note(new.note.as_deref().unwrap_or(""))?;
        let request = format!("{new:?}");
        let mut db = self.begin().await?;
        if let Some(answer) = replay(db.conn(), act, "card.buy", &request).await? {
            return self.answer_again(db, act, &answer, true).await;
        }
        let project = project(db.conn(), &new.project).await?;
        let offer = self
            .priced(db.conn(), project.id, new.minutes, new.quote.as_deref(), act.now)
            .await?;
        let expiry = offer.expires_at(act.now);
        let (serial, id) = self
            .insert_card(db.conn(), &project, &note, expiry, act.now)
            .await?;
        sell(db.conn(), act, id, &serial, "purchase", &offer).await?;
        let is = serde_json::json!({ "minutes": new.minutes, "gross_cents": offer.price.gross.get(), "note": note });
        self.audit(db.conn(), about(act, "card.buy", &serial, None, Some(is)))
            .await?;
        let answer = answer_text(&serial, offer.price.gross);
        remember_answer(db.conn(), act, &answer).await?;
        self.answer_again(db, act, &answer, true).await
    }

    /// Recharges at any time: PIN and lines stay, the expiry moves on (S22, S23, A6). Afterwards
    /// post `CardChanged(row.id)`.
    ///
    /// # Errors
    /// `card_not_found`, `card_state` if it is cancelled, `invalid_minutes`, `over_limit`,
    /// `idempotency_key_reused`.
    pub async fn card_topup(&self, act: &Act, serial: &str, minutes: i64) -> Result<CardRow, AdminError> {
        self.card_topup_quoted(act, serial, minutes, None).await
    }

    /// The same, at the price of a quote.
    ///
    /// # Errors
    /// Those of `card_topup`, and `quote_not_found`, `quote_mismatch`, `quote_used`, `quote_expired`.
    pub async fn card_topup_quoted(
        &self,
        act: &Act,
        serial: &str,
        minutes: i64,
        quote: Option<&str>,
    ) -> Result<CardRow, AdminError> {
        valid_minutes(minutes)?;
        let request = match quote {
            Some(quote) => format!("{serial} {minutes} {quote}"),
            None => format!("{serial} {minutes}"),
        };
        let mut db = self.begin().await?;
        if let Some(answer) = replay(db.conn(), act, "card.topup", &request).await? {
            return self.answer_again(db, act, &answer, false).await;
        }
        let before = self.lock_card(db.conn(), serial).await?;
        if before.state == "storniert" {
            return Err(wrong_state(&before, act.now)?.into());
        }
        let offer = self
            .priced(db.conn(), before.project_id, minutes, quote, act.now)
            .await?;
        let revived_ms = revive(db.conn(), act, &before).await?;
        sell(db.conn(), act, before.id, serial, "topup", &offer).await?;
        sqlx::query(
            "UPDATE card SET
                expires_at = CASE WHEN $1 IS NULL OR expires_at IS NULL THEN NULL
                    WHEN expires_at > $1 THEN expires_at ELSE $1 END,
                state = CASE WHEN state <> 'abgelaufen' THEN state
                    WHEN activated_at IS NULL THEN 'neu' ELSE 'freigeschaltet' END
             WHERE id = $2",
        )
        .bind(offer.expires_at(act.now))
        .bind(before.id)
        .execute(db.conn())
        .await?;
        let was = serde_json::json!({ "balance_ms": before.balance_ms });
        let gross_cents = offer.price.gross.get();
        let is =
            serde_json::json!({ "minutes": minutes, "gross_cents": gross_cents, "revived_ms": revived_ms });
        self.audit(db.conn(), about(act, "card.topup", serial, Some(was), Some(is)))
            .await?;
        let answer = answer_text(serial, offer.price.gross);
        remember_answer(db.conn(), act, &answer).await?;
        self.answer_again(db, act, &answer, false).await
    }

    /// Goodwill minutes for the card of a call in progress, free of charge (a `goodwill` entry).
    /// Afterwards post `CardChanged(row.id)`.
    ///
    /// # Errors
    /// `call_not_found`, `call_over`, `invalid_minutes`, `idempotency_key_reused`.
    pub async fn call_extend(&self, act: &Act, call: CallKey, minutes: i64) -> Result<CardRow, AdminError> {
        valid_minutes(minutes)?;
        let id = call.to_string();
        let request = format!("{id} {minutes}");
        let mut db = self.begin().await?;
        if let Some(answer) = replay(db.conn(), act, "call.extend", &request).await? {
            return self.answer_again(db, act, &answer, false).await;
        }
        let known: Option<i64> = sqlx::query_scalar("SELECT invited_at FROM call WHERE id = $1")
            .bind(&id)
            .fetch_optional(db.conn())
            .await?;
        if known.is_none() {
            return Err(Refusal::not_found("call", &id).into());
        }
        let serial: Option<String> = sqlx::query_scalar(
            "SELECT c.serial FROM reservation r JOIN card c ON c.id = r.card_id
             WHERE r.call = $1 AND r.state = 'open'",
        )
        .bind(&id)
        .fetch_optional(db.conn())
        .await?;
        let Some(serial) = serial else {
            return Err(Refusal::CallOver { id }.into());
        };
        let before = self.lock_card(db.conn(), &serial).await?;
        let op = self.draw(|ids| ids.op_id().to_string());
        let entry = NewEntry {
            card: before.id,
            kind: "goodwill",
            delta_ms: minutes * 60_000,
            call: Some(&id),
            purchase: None,
            op_key: &format!("goodwill:{op}"),
            actor: &act.actor,
            at: act.now,
        };
        write_entry(db.conn(), &entry).await?;
        let is = serde_json::json!({ "call": id, "minutes": minutes });
        self.audit(db.conn(), about(act, "call.extend", &serial, None, Some(is)))
            .await?;
        let answer = answer_text(&serial, Cents::ZERO);
        remember_answer(db.conn(), act, &answer).await?;
        self.answer_again(db, act, &answer, false).await
    }

    /// Commits, with the card as it is now and the price as it was: for the first request and for
    /// each repeat alike.
    pub(super) async fn answer_again(
        &self,
        mut db: DbTx,
        act: &Act,
        answer: &str,
        with_pin: bool,
    ) -> Result<CardRow, AdminError> {
        let (serial, cents) = answer
            .split_once(' ')
            .ok_or_else(|| StoreFault::damaged(format!("kept answer {answer:?}")))?;
        let card = card(db.conn(), serial).await?;
        let pin = match with_pin && card.state != "storniert" {
            true => Some(self.inner.pin_key.reveal(&card.serial, &card.pin_sealed)?),
            false => None,
        };
        let mut row = row(db.conn(), card, act.now).await?;
        row.pin = pin.map(|pin| pin.expose().to_owned());
        row.price_cents = cents.parse().ok();
        db.commit().await?;
        Ok(row)
    }

    /// A new card with a PIN and a serial that nobody has.
    async fn insert_card(
        &self,
        conn: &mut AnyConnection,
        project: &Settings,
        note: &str,
        expires_at: Option<i64>,
        now: UnixTime,
    ) -> Result<(String, i64), AdminError> {
        let length = self.pin_length(conn, project, 0).await?;
        let (serial, pin) = self.fresh_names(conn, length).await?;
        let key = &self.inner.pin_key;
        let sealed = key.seal(&serial, &pin, random_bytes()?)?;
        let id = sqlx::query_scalar(
            "INSERT INTO card (project_id, serial, note, pin_hash, pin_sealed, pin_length, state, max_parallel,
                expires_at, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, 'neu', $7, $8, $9) RETURNING id",
        )
        .bind(project.id)
        .bind(&serial)
        .bind(note)
        .bind(key.look_up(&pin))
        .bind(sealed)
        .bind(i64::from(length))
        .bind(project.max_parallel)
        .bind(expires_at)
        .bind(now.as_ms())
        .fetch_one(conn)
        .await?;
        Ok((serial, id))
    }

    /// Another PIN for the card, of the length that its project issues now.
    pub(super) async fn new_pin(&self, conn: &mut AnyConnection, card: &CardSql) -> Result<(), AdminError> {
        let project = project(conn, &card.project).await?;
        let length = self.pin_length(conn, &project, 0).await?;
        let (_, pin) = self.fresh_names(conn, length).await?;
        let key = &self.inner.pin_key;
        let sealed = key.seal(&card.serial, &pin, random_bytes()?)?;
        sqlx::query("UPDATE card SET pin_hash = $1, pin_sealed = $2, pin_length = $3 WHERE id = $4")
            .bind(key.look_up(&pin))
            .bind(sealed)
            .bind(i64::from(length))
            .bind(card.id)
            .execute(conn)
            .await?;
        Ok(())
    }

    /// Of the PINs that a project issues when it gets `more` cards.
    pub(super) async fn pin_length(
        &self,
        conn: &mut AnyConnection,
        project: &Settings,
        more: u64,
    ) -> Result<u8, StoreFault> {
        let cards = u64::try_from(live_cards(conn, project.id).await?).unwrap_or(0);
        let chosen = project.pin_length.and_then(|n| u8::try_from(n).ok());
        Ok(pin::length(cards + more, chosen))
    }

    /// Tries until neither is taken; with 8 digits and 10 000 cards the first try is free in 9 999
    /// of 10 000 cases.
    pub(super) async fn fresh_names(
        &self,
        conn: &mut AnyConnection,
        length: u8,
    ) -> Result<(String, Pin), AdminError> {
        for _ in 0..50 {
            let (serial, pin) = self.draw(|ids| {
                (
                    format!("K{:07}", ids.below(10_000_000)),
                    pin::generate(ids, length),
                )
            });
            let taken: Option<i64> = sqlx::query_scalar(
                "SELECT id FROM card WHERE serial = $1 OR (pin_hash = $2 AND state <> 'storniert')",
            )
            .bind(&serial)
            .bind(self.inner.pin_key.look_up(&pin))
            .fetch_optional(&mut *conn)
            .await?;
            if taken.is_none() {
                return Ok((serial, pin));
            }
        }
        Err(StoreFault::damaged("no free PIN was found in 50 tries: choose a longer pin_length").into())
    }
}

pub(super) fn answer_text(serial: &str, gross: Cents) -> String {
    format!("{serial} {}", gross.get())
}

pub(super) fn valid_minutes(minutes: i64) -> Result<(), Refusal> {
    if (1..=9999).contains(&minutes) {
        return Ok(());
    }
    Err(invalid(
        "minutes",
        &minutes.to_string(),
        "a whole number from 1 to 9999",
        "Minuten: eine ganze Zahl von 1 bis 9999.",
    ))
}

/// The first answer to this idempotency key, if there was one. If not, the key is taken: whoever
/// comes with the same one at the same time waits for the end of this `db_tx`.
pub(super) async fn replay(
    conn: &mut AnyConnection,
    act: &Act,
    verb: &'static str,
    request: &str,
) -> Result<Option<String>, AdminError> {
    let Some(key) = &act.key else {
        return Ok(None);
    };
    let taken = sqlx::query(
        "INSERT INTO idempotency (key, verb, request_hash, answer, at) VALUES ($1, $2, $3, '', $4)
         ON CONFLICT (key) DO NOTHING",
    )
    .bind(key)
    .bind(verb)
    .bind(sha256(request))
    .bind(act.now.as_ms())
    .execute(&mut *conn)
    .await?;
    if taken.rows_affected() == 1 {
        return Ok(None);
    }
    let (same, hash, answer): (String, String, String) =
        sqlx::query_as("SELECT verb, request_hash, answer FROM idempotency WHERE key = $1")
            .bind(key)
            .fetch_one(conn)
            .await?;
    if same == verb && hash == sha256(request) {
        Ok(Some(answer))
    } else {
        Err(Refusal::KeyReused.into())
    }
}

/// Completes what `replay` began.
pub(super) async fn remember_answer(
    conn: &mut AnyConnection,
    act: &Act,
    answer: &str,
) -> Result<(), StoreFault> {
    if let Some(key) = &act.key {
        sqlx::query("UPDATE idempotency SET answer = $1 WHERE key = $2")
            .bind(answer)
            .bind(key)
            .execute(conn)
            .await?;
    }
    Ok(())
}
