//! Talk time is taken back: a storno entry on the card, and invoice lines that reverse what was paid
//! for it (I10). Only what is available may be taken, never what a call has reserved (I9).
//!
//! Which purchases are reversed is the rule of [`crate::card::paid`]; each is reversed in proportion,
//! at the price that it had, and never by more than it cost.

use sqlx::AnyConnection;

use super::cards::{CardSql, about, wrong_state};
use super::ledger::{NewEntry, write_entry};
use super::lines::talk;
use super::purchase::{answer_text, remember_answer, replay, valid_minutes};
use super::sale::open_invoice;
use super::{Act, AdminError, CardRow, Refusal, Store, StoreFault};
use crate::card::paid::{self, Lot, Spent};
use crate::card::price::share;
use crate::units::Cents;

impl Store {
    /// Takes `minutes` of the available talk time back. `price_cents` of the answer is what the
    /// invoice falls by, so it is not positive. Afterwards post `CardChanged(row.id)`.
    ///
    /// # Errors
    /// `card_not_found`, `card_state` if it is cancelled, `invalid_minutes`, `not_available`,
    /// `idempotency_key_reused`.
    pub async fn card_storno(&self, act: &Act, serial: &str, minutes: i64) -> Result<CardRow, AdminError> {
        valid_minutes(minutes)?;
        let request = format!("{serial} {minutes}");
        let mut db = self.begin().await?;
        if let Some(answer) = replay(db.conn(), act, "card.storno", &request).await? {
            return self.answer_again(db, act, &answer, false).await;
        }
        let before = self.lock_card(db.conn(), serial).await?;
        if before.state == "storniert" {
            return Err(wrong_state(&before, act.now)?.into());
        }
        let amount_ms = minutes * 60_000;
        available(&before, amount_ms)?;
        let op = self.draw(|ids| ids.op_id().to_string());
        let gross = self
            .reverse(db.conn(), act, &before, amount_ms, &format!("storno:{op}"))
            .await?;
        let was = serde_json::json!({ "balance_ms": before.balance_ms });
        let is = serde_json::json!({ "minutes": minutes, "gross_cents": -gross.get() });
        self.audit(db.conn(), about(act, "card.storno", serial, Some(was), Some(is)))
            .await?;
        let answer = answer_text(serial, Cents::new(-gross.get()));
        remember_answer(db.conn(), act, &answer).await?;
        self.answer_again(db, act, &answer, false).await
    }

    /// Writes the storno entry for `amount_ms`, which is available and not zero, and the reversing
    /// lines; gives their gross sum. The card's row is locked.
    pub(super) async fn reverse(
        &self,
        conn: &mut AnyConnection,
        act: &Act,
        card: &CardSql,
        amount_ms: i64,
        op_key: &str,
    ) -> Result<Cents, StoreFault> {
        let mut parts = taken(conn, card, amount_ms).await?;
        let entry = NewEntry {
            card: card.id,
            kind: "storno",
            delta_ms: -amount_ms,
            call: None,
            purchase: None,
            op_key,
            actor: &act.actor,
            at: act.now,
        };
        write_entry(conn, &entry).await?;
        if parts.is_empty() {
            return Ok(Cents::ZERO);
        }
        // In one order, so that two stornos cannot wait for each other.
        parts.sort_unstable_by_key(|part| part.purchase);
        let invoice = open_invoice(conn, act.now).await?;
        let mut gross = 0_i64;
        for part in &parts {
            gross = gross.saturating_add(self.reverse_part(conn, act, card, invoice, part).await?);
            move_paid(conn, card.id, part, "storno", act).await?;
        }
        Ok(Cents::new(gross))
    }

    /// One reversing line; gives its gross amount. The shares of a purchase that stornos give back
    /// grow up to exactly its price.
    async fn reverse_part(
        &self,
        conn: &mut AnyConnection,
        act: &Act,
        card: &CardSql,
        invoice: i64,
        part: &Lot,
    ) -> Result<i64, StoreFault> {
        let (minutes, net, vat, vat_bp, line): (i64, i64, i64, i64, i64) = sqlx::query_as(self.locking_of(
            "SELECT p.minutes, p.net_cents, p.vat_cents, p.vat_bp, l.id
             FROM purchase p JOIN invoice_line l ON l.purchase_id = p.id WHERE p.id = $1",
            "p",
        ))
        .bind(part.purchase)
        .fetch_one(&mut *conn)
        .await?;
        let (done_ms, done_net, done_vat): (i64, i64, i64) = sqlx::query_as(
            "SELECT CAST(COALESCE(-SUM(talk_ms), 0) AS BIGINT), CAST(COALESCE(-SUM(net_cents), 0) AS BIGINT),
                CAST(COALESCE(-SUM(vat_cents), 0) AS BIGINT)
             FROM invoice_line WHERE reverses_id = $1",
        )
        .bind(line)
        .fetch_one(&mut *conn)
        .await?;
        let (whole, part_ms) = (minutes * 60_000, part.amount.as_ms());
        let net = share(net, done_ms + part_ms, whole) - done_net;
        let vat = share(vat, done_ms + part_ms, whole) - done_vat;
        sqlx::query(
            "INSERT INTO invoice_line (invoice_id, reverses_id, text, minutes, net_cents, vat_cents, vat_bp, at, talk_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(invoice)
        .bind(line)
        .bind(format!("Storno Karte {}, {} Minuten", card.serial, talk(part_ms)))
        .bind(-(part_ms / 60_000))
        .bind(-net)
        .bind(-vat)
        .bind(vat_bp)
        .bind(act.now.as_ms())
        .bind(-part_ms)
        .execute(conn)
        .await?;
        Ok(net + vat)
    }
}

/// # Errors
/// `not_available`: a call has reserved the rest, or there is none.
pub(super) fn available(card: &CardSql, amount_ms: i64) -> Result<(), Refusal> {
    let available_ms = card.balance_ms - card.reserved_ms;
    if amount_ms <= available_ms {
        return Ok(());
    }
    Err(Refusal::NotAvailable {
        serial: card.serial.clone(),
        available_ms,
    })
}

/// The paid talk time that goes when `amount_ms` is taken off the card.
pub(super) async fn taken(
    conn: &mut AnyConnection,
    card: &CardSql,
    amount_ms: i64,
) -> Result<Vec<Lot>, StoreFault> {
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT purchase_id, CAST(SUM(ms) AS BIGINT) FROM (
            SELECT id AS purchase_id, minutes * 60000 AS ms FROM purchase WHERE card_id = $1
            UNION ALL SELECT purchase_id, delta_ms AS ms FROM paid_move WHERE card_id = $1) AS lots
         GROUP BY purchase_id ORDER BY purchase_id",
    )
    .bind(card.id)
    .fetch_all(conn)
    .await?;
    let lots: Vec<Lot> = rows
        .into_iter()
        .map(|(purchase, ms)| Lot {
            purchase,
            amount: talk(ms),
        })
        .collect();
    let spent = Spent {
        used: talk(card.used_ms),
        reserved: talk(card.reserved_ms),
        available: talk(card.balance_ms - card.reserved_ms),
    };
    Ok(paid::taken(&lots, spent, talk(amount_ms)))
}

/// `kind` says which way: `transfer_in` adds, the others take.
pub(super) async fn move_paid(
    conn: &mut AnyConnection,
    card: i64,
    part: &Lot,
    kind: &'static str,
    act: &Act,
) -> Result<(), StoreFault> {
    let ms = part.amount.as_ms();
    sqlx::query(
        "INSERT INTO paid_move (card_id, purchase_id, kind, delta_ms, at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(card)
    .bind(part.purchase)
    .bind(kind)
    .bind(if kind == "transfer_in" { ms } else { -ms })
    .bind(act.now.as_ms())
    .execute(conn)
    .await?;
    Ok(())
}
