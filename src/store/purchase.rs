//! Minutes for money: quote, purchase, recharge, goodwill. Card, entry and invoice line are one
//! `db_tx` (I10); an idempotency key gets the first answer again.

use jiff::Timestamp;
use jiff::civil::{DateTime, date};
use jiff::tz::{Offset, TimeZone};
use sqlx::AnyConnection;

use super::audit::OPERATOR;
use super::cards::{about, card, row, valid_note, wrong_state};
use super::ledger::{NewEntry, write_entry};
use super::pin_key::{random_bytes, sha256};
use super::projects::{Settings, invalid, live_cards, project, tariff_of_project};
use super::{Act, AdminError, CardRow, DbTx, NewCard, QuoteRow, Refusal, Store, StoreFault, rfc3339};
use crate::card::pin;
use crate::card::tariff::Price;
use crate::ids::CallKey;
use crate::now::UnixTime;
use crate::secret::Pin;
use crate::units::Cents;

/// A card expires on 31 December of this year after its purchase (§§ 195, 199 BGB).
pub(super) const EXPIRY_YEARS: i64 = 3;
/// How long a quote keeps its price.
const QUOTE_MS: i64 = 15 * 60_000;

/// What is sold, at which price.
struct Offer {
    quote: Option<String>,
    version: i64,
    vat_bp: i64,
    minutes: i64,
    price: Price,
}

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
        remember_answer(db.conn(), act, "card.buy", &request, &answer).await?;
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
        remember_answer(db.conn(), act, "card.topup", &request, &answer).await?;
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
        remember_answer(db.conn(), act, "call.extend", &request, &answer).await?;
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

/// The present tariff's price.
async fn offer(conn: &mut AnyConnection, project: i64, minutes: i64) -> Result<Offer, StoreFault> {
    let tariff = tariff_of_project(conn, project).await?;
    Ok(Offer {
        quote: None,
        version: tariff.version,
        vat_bp: i64::from(tariff.vat_basis_points),
        minutes,
        price: tariff.price(u32::try_from(minutes).unwrap_or(0)),
    })
}

/// The price of a quote, if it is this project's, for these minutes, and still valid.
async fn quoted(
    conn: &mut AnyConnection,
    quote: &str,
    project: &Settings,
    minutes: i64,
    now: UnixTime,
) -> Result<Offer, AdminError> {
    type Row = (i64, i64, i64, i64, i64);
    let row: Option<Row> = sqlx::query_as(
        "SELECT q.tariff_version_id, v.vat_bp, q.net_cents, q.vat_cents, q.valid_until
         FROM quote q JOIN tariff_version v ON v.id = q.tariff_version_id
         WHERE q.id = $1 AND q.project_id = $2 AND q.minutes = $3",
    )
    .bind(quote)
    .bind(project.id)
    .bind(minutes)
    .fetch_optional(conn)
    .await?;
    let Some((version, vat_bp, net, vat, valid_until)) = row else {
        return Err(Refusal::not_found("quote", quote).into());
    };
    if valid_until < now.as_ms() {
        return Err(Refusal::QuoteExpired.into());
    }
    Ok(Offer {
        quote: Some(quote.to_owned()),
        version,
        vat_bp,
        minutes,
        price: Price {
            net: Cents::new(net),
            vat: Cents::new(vat),
            gross: Cents::new(net + vat),
            free: net == 0,
        },
    })
}

/// Open invoice lines and this purchase together stay within the operator's limit.
async fn within_limit(conn: &mut AnyConnection, offer: &Offer) -> Result<(), AdminError> {
    let (limit, open): (Option<i64>, i64) = sqlx::query_as(
        "SELECT o.credit_limit_cents, CAST(COALESCE((SELECT SUM(l.net_cents + l.vat_cents) FROM invoice_line l
            JOIN invoice i ON i.id = l.invoice_id WHERE i.operator_id = o.id AND i.state = 'open'), 0) AS BIGINT)
         FROM operator o WHERE o.id = $1",
    )
    .bind(OPERATOR)
    .fetch_one(conn)
    .await?;
    match limit {
        Some(limit_cents) if open.saturating_add(offer.price.gross.get()) > limit_cents => {
            Err(Refusal::OverLimit { limit_cents }.into())
        }
        Some(_) | None => Ok(()),
    }
}

/// Purchase, entry and invoice line.
async fn sell(
    conn: &mut AnyConnection,
    act: &Act,
    card: i64,
    serial: &str,
    kind: &'static str,
    offer: &Offer,
) -> Result<(), StoreFault> {
    let purchase: i64 = sqlx::query_scalar(
        "INSERT INTO purchase (card_id, quote_id, tariff_version_id, kind, minutes, net_cents, vat_cents, vat_bp, actor, at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id",
    )
    .bind(card)
    .bind(&offer.quote)
    .bind(offer.version)
    .bind(kind)
    .bind(offer.minutes)
    .bind(offer.price.net.get())
    .bind(offer.price.vat.get())
    .bind(offer.vat_bp)
    .bind(&act.actor)
    .bind(act.now.as_ms())
    .fetch_one(&mut *conn)
    .await?;
    let entry = NewEntry {
        card,
        kind,
        delta_ms: offer.minutes * 60_000,
        call: None,
        purchase: Some(purchase),
        op_key: &format!("purchase:{purchase}"),
        actor: &act.actor,
        at: act.now,
    };
    write_entry(conn, &entry).await?;
    let today = local(act.now, &zone_named(&operator_zone(conn).await?));
    let period = format!("{:04}-{:02}", today.year(), today.month());
    sqlx::query(
        "INSERT INTO invoice (operator_id, period, created_at) VALUES ($1, $2, $3)
         ON CONFLICT (operator_id, period) WHERE state = 'open' DO NOTHING",
    )
    .bind(OPERATOR)
    .bind(&period)
    .bind(act.now.as_ms())
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "INSERT INTO invoice_line (invoice_id, purchase_id, text, minutes, net_cents, vat_cents, vat_bp, at)
         SELECT id, $1, $2, $3, $4, $5, $6, $7 FROM invoice
         WHERE operator_id = $8 AND period = $9 AND state = 'open'",
    )
    .bind(purchase)
    .bind(format!("Karte {serial}, {} Minuten", offer.minutes))
    .bind(offer.minutes)
    .bind(offer.price.net.get())
    .bind(offer.price.vat.get())
    .bind(offer.vat_bp)
    .bind(act.now.as_ms())
    .bind(OPERATOR)
    .bind(&period)
    .execute(conn)
    .await?;
    Ok(())
}

/// The first answer to this idempotency key, if there was one.
pub(super) async fn replay(
    conn: &mut AnyConnection,
    act: &Act,
    verb: &'static str,
    request: &str,
) -> Result<Option<String>, AdminError> {
    let Some(key) = &act.key else {
        return Ok(None);
    };
    let row: Option<(String, String, String)> =
        sqlx::query_as("SELECT verb, request_hash, answer FROM idempotency WHERE key = $1")
            .bind(key)
            .fetch_optional(conn)
            .await?;
    match row {
        None => Ok(None),
        Some((same, hash, answer)) if same == verb && hash == sha256(request) => Ok(Some(answer)),
        Some(_) => Err(Refusal::KeyReused.into()),
    }
}

pub(super) async fn remember_answer(
    conn: &mut AnyConnection,
    act: &Act,
    verb: &'static str,
    request: &str,
    answer: &str,
) -> Result<(), StoreFault> {
    if let Some(key) = &act.key {
        sqlx::query(
            "INSERT INTO idempotency (key, verb, request_hash, answer, at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(key)
        .bind(verb)
        .bind(sha256(request))
        .bind(answer)
        .bind(act.now.as_ms())
        .execute(conn)
        .await?;
    }
    Ok(())
}

async fn operator_zone(conn: &mut AnyConnection) -> Result<String, StoreFault> {
    let zone = sqlx::query_scalar("SELECT time_zone FROM operator WHERE id = $1")
        .bind(OPERATOR)
        .fetch_one(conn)
        .await?;
    Ok(zone)
}

/// A machine without the zone database gets central European winter time, which is right on 31 December.
fn zone_named(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or_else(|_| TimeZone::fixed(Offset::constant(1)))
}

fn local(at: UnixTime, zone: &TimeZone) -> DateTime {
    zone.to_datetime(Timestamp::from_millisecond(at.as_ms()).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// End of 31 December of the tariff's n-th year after `now`, in the operator's zone (I14).
async fn expires_at(
    conn: &mut AnyConnection,
    project: i64,
    now: UnixTime,
) -> Result<Option<i64>, StoreFault> {
    let years: i64 = sqlx::query_scalar(
        "SELECT v.expiry_years FROM project p JOIN tariff_version v ON v.id = p.tariff_version_id WHERE p.id = $1",
    )
    .bind(project)
    .fetch_one(&mut *conn)
    .await?;
    let zone = operator_zone(conn).await?;
    Ok(end_of_year(now, years, &zone))
}

fn end_of_year(now: UnixTime, years: i64, zone: &str) -> Option<i64> {
    let zone = zone_named(zone);
    let year = i16::try_from(i64::from(local(now, &zone).year()) + years + 1).ok()?;
    if years == 0 || year > 9999 {
        return None;
    }
    let midnight = zone.to_timestamp(date(year, 1, 1).at(0, 0, 0, 0)).ok()?;
    Some(midnight.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_expire_with_the_third_year_after_purchase_in_local_time() {
        for (bought, years, want) in [
            ("2025-11-25T08:15:00Z", 3, Some("2028-12-31T23:00:00Z")),
            ("2025-12-31T22:59:59Z", 3, Some("2028-12-31T23:00:00Z")),
            ("2025-12-31T23:00:00Z", 3, Some("2029-12-31T23:00:00Z")),
            ("2025-07-01T00:00:00Z", 1, Some("2026-12-31T23:00:00Z")),
            ("2025-07-01T00:00:00Z", 0, None),
        ] {
            let now = UnixTime::from_ms(bought.parse::<Timestamp>().unwrap().as_millisecond());
            let got = end_of_year(now, years, "Europe/Berlin")
                .map(|ms| Timestamp::from_millisecond(ms).unwrap().to_string());
            assert_eq!(got.as_deref(), want, "{bought} + {years}");
        }
    }
}
