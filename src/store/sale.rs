//! What a sale consists of: the offer or quote, its limit, and the rows that are written together
//! (I10).

use jiff::tz::TimeZone;
use sqlx::AnyConnection;

use super::audit::OPERATOR;
use super::expiry::{expires_at, local_date, operator_zone};
use super::ledger::{NewEntry, write_entry};
use super::projects::project;
use super::purchase::valid_minutes;
use super::terms::{self, Expiry};
use super::{Act, AdminError, QuoteRow, Refusal, Store, StoreFault, rfc3339};
use crate::card::price::Price;
use crate::now::UnixTime;
use crate::units::Cents;

/// How long a quote keeps its price.
const QUOTE_MS: i64 = 15 * 60_000;

/// What is sold, at which price.
pub(super) struct Offer {
    pub quote: Option<String>,
    pub version: i64,
    pub vat_bp: i64,
    pub minutes: i64,
    pub price: Price,
    expiry: Expiry,
    zone: TimeZone,
}

impl Offer {
    /// When a card ends that is bought or recharged by this offer at `now`.
    pub fn expires_at(&self, now: UnixTime) -> Option<i64> {
        expires_at(now, self.expiry, &self.zone)
    }
}

impl Store {
    /// The price of `minutes`, kept for 15 minutes and one purchase (S8).
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

    /// The quote's price if one is named, else the present tariff's; within the operator's limit.
    pub(super) async fn priced(
        &self,
        conn: &mut AnyConnection,
        project: i64,
        minutes: i64,
        quote: Option<&str>,
        now: UnixTime,
    ) -> Result<Offer, AdminError> {
        let offer = match quote {
            Some(quote) => self.quoted(conn, quote, project, minutes, now).await?,
            None => offer(conn, project, minutes).await?,
        };
        self.within_limit(conn, offer.price.gross).await?;
        Ok(offer)
    }

    /// The price of a quote, if it is this project's, for these minutes, still valid and not used.
    async fn quoted(
        &self,
        conn: &mut AnyConnection,
        quote: &str,
        project: i64,
        minutes: i64,
        now: UnixTime,
    ) -> Result<Offer, AdminError> {
        type Row = (i64, i64, i64, i64, i64, i64, String);
        let row: Option<Row> = sqlx::query_as(self.locking_of(
            "SELECT q.tariff_version_id, q.project_id, q.minutes, q.net_cents, q.vat_cents, q.valid_until, p.name
             FROM quote q JOIN project p ON p.id = q.project_id WHERE q.id = $1 AND p.operator_id = $2",
            "q",
        ))
        .bind(quote)
        .bind(OPERATOR)
        .fetch_optional(&mut *conn)
        .await?;
        let Some((version, of_project, of_minutes, net, vat, valid_until, project_name)) = row else {
            return Err(Refusal::not_found("quote", quote).into());
        };
        if of_project != project || of_minutes != minutes {
            return Err(Refusal::QuoteMismatch {
                project: project_name,
                minutes: of_minutes,
            }
            .into());
        }
        let used: Option<String> = sqlx::query_scalar(
            "SELECT c.serial FROM purchase p JOIN card c ON c.id = p.card_id WHERE p.quote_id = $1 LIMIT 1",
        )
        .bind(quote)
        .fetch_optional(&mut *conn)
        .await?;
        if let Some(serial) = used {
            return Err(Refusal::QuoteUsed { serial }.into());
        }
        if valid_until < now.as_ms() {
            return Err(Refusal::QuoteExpired.into());
        }
        let terms = terms::version(conn, version).await?;
        Ok(Offer {
            quote: Some(quote.to_owned()),
            version,
            vat_bp: i64::from(terms.prices.vat_basis_points),
            minutes,
            price: Price {
                net: Cents::new(net),
                vat: Cents::new(vat),
                gross: Cents::new(net + vat),
                free: net == 0,
            },
            expiry: terms.expiry,
            zone: operator_zone(conn).await?,
        })
    }

    /// Open invoice lines and `gross` together stay within the operator's limit. Purchases of an
    /// operator with a limit take turns, so that two cannot both use its last cents.
    pub(super) async fn within_limit(
        &self,
        conn: &mut AnyConnection,
        gross: Cents,
    ) -> Result<(), AdminError> {
        let limit: Option<i64> = sqlx::query_scalar("SELECT credit_limit_cents FROM operator WHERE id = $1")
            .bind(OPERATOR)
            .fetch_one(&mut *conn)
            .await?;
        if limit.is_none() {
            return Ok(());
        }
        let limit: Option<i64> =
            sqlx::query_scalar(self.locking("SELECT credit_limit_cents FROM operator WHERE id = $1"))
                .bind(OPERATOR)
                .fetch_one(&mut *conn)
                .await?;
        let open = open_cents(conn).await?;
        match limit {
            Some(limit_cents) if open.saturating_add(gross.get()) > limit_cents => {
                Err(Refusal::OverLimit { limit_cents }.into())
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The present tariff's price.
pub(super) async fn offer(conn: &mut AnyConnection, project: i64, minutes: i64) -> Result<Offer, StoreFault> {
    let terms = terms::of_project(conn, project).await?;
    Ok(Offer {
        quote: None,
        version: terms.rules.version,
        vat_bp: i64::from(terms.prices.vat_basis_points),
        minutes,
        price: terms.prices.price(u32::try_from(minutes).unwrap_or(0)),
        expiry: terms.expiry,
        zone: operator_zone(conn).await?,
    })
}

/// Gross sum of the operator's open invoice lines, stornos included.
pub(super) async fn open_cents(conn: &mut AnyConnection) -> Result<i64, StoreFault> {
    let sum = sqlx::query_scalar(
        "SELECT CAST(COALESCE(SUM(l.net_cents + l.vat_cents), 0) AS BIGINT) FROM invoice_line l
         JOIN invoice i ON i.id = l.invoice_id WHERE i.operator_id = $1 AND i.state = 'open'",
    )
    .bind(OPERATOR)
    .fetch_one(conn)
    .await?;
    Ok(sum)
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
    let invoice = open_invoice(conn, act.now).await?;
    sqlx::query(
        "INSERT INTO invoice_line (invoice_id, purchase_id, text, minutes, net_cents, vat_cents, vat_bp, at, talk_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(invoice)
    .bind(purchase)
    .bind(line_text(serial, offer.minutes))
    .bind(offer.minutes)
    .bind(offer.price.net.get())
    .bind(offer.price.vat.get())
    .bind(offer.vat_bp)
    .bind(act.now.as_ms())
    .bind(offer.minutes * 60_000)
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) fn line_text(serial: &str, minutes: i64) -> String {
    format!("Karte {serial}, {minutes} Minuten")
}

/// The operator's open invoice of the local month, begun if there is none.
pub(super) async fn open_invoice(conn: &mut AnyConnection, now: UnixTime) -> Result<i64, StoreFault> {
    let today = local_date(now, &operator_zone(conn).await?);
    let period = format!("{:04}-{:02}", today.year(), today.month());
    sqlx::query(
        "INSERT INTO invoice (operator_id, period, created_at) VALUES ($1, $2, $3)
         ON CONFLICT (operator_id, period) WHERE state = 'open' DO NOTHING",
    )
    .bind(OPERATOR)
    .bind(&period)
    .bind(now.as_ms())
    .execute(&mut *conn)
    .await?;
    let id = sqlx::query_scalar(
        "SELECT id FROM invoice WHERE operator_id = $1 AND period = $2 AND state = 'open'",
    )
    .bind(OPERATOR)
    .bind(&period)
    .fetch_one(conn)
    .await?;
    Ok(id)
}
