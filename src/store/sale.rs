//! What a sale consists of: the offer, its limit, the rows that are written together (I10), and the
//! day on which a card ends (I14).

use jiff::Timestamp;
use jiff::civil::{DateTime, date};
use jiff::tz::{Offset, TimeZone};
use sqlx::AnyConnection;

use super::audit::OPERATOR;
use super::ledger::{NewEntry, write_entry};
use super::projects::{Settings, tariff_of_project};
use super::{Act, AdminError, Refusal, StoreFault};
use crate::card::tariff::Price;
use crate::now::UnixTime;
use crate::units::Cents;

/// A card expires on 31 December of this year after its purchase (§§ 195, 199 BGB).
pub(super) const EXPIRY_YEARS: i64 = 3;

/// What is sold, at which price.
pub(super) struct Offer {
    pub quote: Option<String>,
    pub version: i64,
    pub vat_bp: i64,
    pub minutes: i64,
    pub price: Price,
}

/// The present tariff's price.
pub(super) async fn offer(conn: &mut AnyConnection, project: i64, minutes: i64) -> Result<Offer, StoreFault> {
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
pub(super) async fn quoted(
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
pub(super) async fn within_limit(conn: &mut AnyConnection, offer: &Offer) -> Result<(), AdminError> {
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
pub(super) async fn sell(
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

impl super::Store {
    /// Minutes since midnight, in the operator's time zone.
    ///
    /// # Errors
    /// The database's.
    pub async fn local_minute(&self, now: UnixTime) -> Result<i64, StoreFault> {
        let mut conn = self.pool().acquire().await?;
        let time = local(now, &zone_named(&operator_zone(&mut conn).await?));
        Ok(i64::from(time.hour()) * 60 + i64::from(time.minute()))
    }
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
pub(super) async fn expires_at(
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
