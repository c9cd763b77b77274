//! Minutes for money: quote, purchase, recharge, goodwill. Card, entry and invoice line are one
//! `db_tx` (I10); an idempotency key gets the first answer again.

use sqlx::AnyConnection;

use super::cards::{about, card, row, valid_note, wrong_state};
use super::ledger::{NewEntry, write_entry};
use super::pin_key::{random_bytes, sha256};
use super::projects::{Settings, invalid, live_cards, project};
use super::sale::{expires_at, offer, quoted, sell, within_limit};
use super::{Act, AdminError, CardRow, DbTx, NewCard, QuoteRow, Refusal, Store, StoreFault, rfc3339};
use crate::card::pin;
use crate::ids::CallKey;
use crate::now::UnixTime;
use crate::secret::Pin;
use crate::units::Cents;

/// How long a quote keeps its price.
const QUOTE_MS: i64 = 15 * 60_000;

impl Store {
    /// The price of `minutes`, kept for 15 minutes (S8).
    ///
    /// # Errors
    /// `project_not_found`, `invalid_minutes`.
    pub async fn card_quote(
        &self,
        now: UnixTime,
        project_name: &str,
        minutes: i64,
    ) -> Result<QuoteRow, AdminError> {
        valid_minutes(minutes)?;
        let id = self.draw(|ids| format!("Q{}", ids.token()));
        let mut db = self.begin().await?;
        let project = project(db.conn(), project_name).await?;
        let offer = offer(db.conn(), project.id, minutes).await?;
        let valid_until = UnixTime::from_ms(now.as_ms() + QUOTE_MS);
        sqlx::query(
            "INSERT INTO quote (id, project_id, tariff_version_id, minutes, net_cents, vat_cents, created_at, valid_until)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&id)
        .bind(project.id)
        .bind(offer.version)
        .bind(minutes)
        .bind(offer.price.net.get())
        .bind(offer.price.vat.get())
        .bind(now.as_ms())
        .bind(valid_until.as_ms())
        .execute(db.conn())
        .await?;
        db.commit().await?;
        Ok(QuoteRow {
            quote: id,
            project: project.name,
            minutes,
            net_cents: offer.price.net.get(),
            vat_cents: offer.price.vat.get(),
            gross_cents: offer.price.gross.get(),
            vat_basis_points: offer.vat_bp,
            tariff_version: offer.version,
            free: offer.price.free,
            valid_until: rfc3339(valid_until),
        })
    }

    /// Sets up the card and invoices it, atomically (S10). The row has the PIN and the price.
    ///
    /// # Errors
    /// `project_not_found`, `invalid_minutes`, `invalid_note`, `quote_not_found`, `quote_expired`,
    /// `over_limit`, `idempotency_key_reused`.
    pub async fn card_buy(&self, act: &Act, new: &NewCard) -> Result<CardRow, AdminError> {
        valid_minutes(new.minutes)?;
        let note = valid_note(new.note.as_deref().unwrap_or(""))?;
        let request = format!("{new:?}");
        let mut db = self.begin().await?;
        if let Some(answer) = replay(db.conn(), act, "card.buy", &request).await? {
            return self.answer_again(db, act, &answer, true).await;
        }
        let project = project(db.conn(), &new.project).await?;
        let offer = match &new.quote {
            Some(quote) => quoted(db.conn(), quote, &project, new.minutes, act.now).await?,
            None => offer(db.conn(), project.id, new.minutes).await?,
        };
        within_limit(db.conn(), &offer).await?;
        let (serial, id) = self.insert_card(db.conn(), &project, &note, act.now).await?;
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
        valid_minutes(minutes)?;
        let request = format!("{serial} {minutes}");
        let mut db = self.begin().await?;
        if let Some(answer) = replay(db.conn(), act, "card.topup", &request).await? {
            return self.answer_again(db, act, &answer, false).await;
        }
        let before = self.lock_card(db.conn(), serial).await?;
        if before.state == "storniert" {
            return Err(wrong_state(&before, act.now)?.into());
        }
        let offer = offer(db.conn(), before.project_id, minutes).await?;
        within_limit(db.conn(), &offer).await?;
        sell(db.conn(), act, before.id, serial, "topup", &offer).await?;
        let expiry = expires_at(db.conn(), before.project_id, act.now).await?;
        sqlx::query(
            "UPDATE card SET
                expires_at = CASE WHEN $1 IS NULL OR expires_at IS NULL THEN NULL
                    WHEN expires_at > $1 THEN expires_at ELSE $1 END,
                state = CASE WHEN state <> 'abgelaufen' THEN state
                    WHEN activated_at IS NULL THEN 'neu' ELSE 'freigeschaltet' END
             WHERE id = $2",
        )
        .bind(expiry)
        .bind(before.id)
        .execute(db.conn())
        .await?;
        let was = serde_json::json!({ "balance_ms": before.balance_ms });
        let is = serde_json::json!({ "minutes": minutes, "gross_cents": offer.price.gross.get() });
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
        now: UnixTime,
    ) -> Result<(String, i64), AdminError> {
        let cards = u64::try_from(live_cards(conn, project.id).await?).unwrap_or(0);
        let chosen = project.pin_length.and_then(|n| u8::try_from(n).ok());
        let length = pin::length(cards, chosen);
        let (serial, pin) = self.fresh_names(conn, length).await?;
        let key = &self.inner.pin_key;
        let sealed = key.seal(&serial, &pin, random_bytes()?)?;
        let expiry = expires_at(conn, project.id, now).await?;
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
        .bind(expiry)
        .bind(now.as_ms())
        .fetch_one(conn)
        .await?;
        Ok((serial, id))
    }

    /// Tries until neither is taken; with 8 digits and 10 000 cards the first try is free in 9 999
    /// of 10 000 cases.
    async fn fresh_names(&self, conn: &mut AnyConnection, length: u8) -> Result<(String, Pin), AdminError> {
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

fn valid_minutes(minutes: i64) -> Result<(), Refusal> {
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
