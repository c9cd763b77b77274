//! The rules of one tariff version as rows: how talk is charged, what minutes cost, when a card
//! expires. Written once, never changed (I18).

use sqlx::AnyConnection;

use super::StoreFault;
use crate::card::price::{PriceList, PriceStep};
use crate::card::tariff::Tariff;
use crate::now::UnixTime;
use crate::units::TalkTime;

/// Everything that one tariff version says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// How calls are charged; it carries the version.
    pub rules: Tariff,
    pub prices: PriceList,
    pub expiry: Expiry,
}

/// When a card ends that is bought or recharged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    Never,
    /// With the local year, so many years after that of the purchase.
    Years(i64),
    /// With the local day, so many days after that of the purchase.
    Days(i64),
}

impl Expiry {
    /// A card expires with the third year after its purchase, which is how long a claim stands
    /// anyway (§§ 195, 199 BGB).
    pub const DEFAULT: Expiry = Expiry::Years(3);

    /// Whether a card bought on some day of the year would end before the claim does.
    pub const fn is_short(self) -> bool {
        match self {
            Expiry::Never => false,
            Expiry::Years(years) => years < 3,
            // Bought on 1 January, the claim stands for four years.
            Expiry::Days(days) => days < 4 * 365 + 1,
        }
    }

    pub const fn years(self) -> i64 {
        match self {
            Expiry::Years(years) => years,
            Expiry::Never | Expiry::Days(_) => 0,
        }
    }

    pub const fn days(self) -> Option<i64> {
        match self {
            Expiry::Days(days) => Some(days),
            Expiry::Never | Expiry::Years(_) => None,
        }
    }

    const fn of_columns(years: i64, days: Option<i64>) -> Expiry {
        match (days, years) {
            (Some(days), _) => Expiry::Days(days),
            (None, 0) => Expiry::Never,
            (None, years) => Expiry::Years(years),
        }
    }
}

/// What a new tariff says: free of charge, 19 % VAT, by the second, three years.
impl Default for Terms {
    fn default() -> Terms {
        Terms {
            rules: Tariff::default(),
            prices: PriceList {
                vat_basis_points: 1900,
                ..PriceList::default()
            },
            expiry: Expiry::DEFAULT,
        }
    }
}

#[derive(sqlx::FromRow)]
struct VersionSql {
    id: i64,
    price_per_minute_millicents: i64,
    vat_bp: i64,
    first_increment_ms: i64,
    next_increment_ms: i64,
    minimum_ms: i64,
    free_under_ms: i64,
    connect_fee_ms: i64,
    expiry_years: i64,
    free_minutes: i64,
    expiry_days: Option<i64>,
}

/// The version with this id.
pub(super) async fn version(conn: &mut AnyConnection, id: i64) -> Result<Terms, StoreFault> {
    let row: VersionSql = sqlx::query_as(
        "SELECT id, price_per_minute_millicents, vat_bp, first_increment_ms, next_increment_ms, minimum_ms,
            free_under_ms, connect_fee_ms, expiry_years, free_minutes, expiry_days
         FROM tariff_version WHERE id = $1",
    )
    .bind(id)
    .fetch_one(&mut *conn)
    .await?;
    let steps: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT after_minutes, price_per_minute_millicents FROM tariff_step
         WHERE tariff_version_id = $1 ORDER BY after_minutes",
    )
    .bind(id)
    .fetch_all(conn)
    .await?;
    Ok(Terms {
        rules: Tariff {
            version: row.id,
            first_increment: TalkTime::from_ms(row.first_increment_ms),
            next_increment: TalkTime::from_ms(row.next_increment_ms),
            minimum: TalkTime::from_ms(row.minimum_ms),
            free_under: TalkTime::from_ms(row.free_under_ms),
            connect_fee: TalkTime::from_ms(row.connect_fee_ms),
        },
        prices: PriceList {
            per_minute_millicents: row.price_per_minute_millicents,
            steps: steps
                .into_iter()
                .map(|(after, price)| PriceStep {
                    after_minutes: count(after),
                    per_minute_millicents: price,
                })
                .collect(),
            free_minutes: count(row.free_minutes),
            vat_basis_points: count(row.vat_bp),
        },
        expiry: Expiry::of_columns(row.expiry_years, row.expiry_days),
    })
}

/// The version that a project sells and charges by now.
pub(super) async fn of_project(conn: &mut AnyConnection, project: i64) -> Result<Terms, StoreFault> {
    let id: i64 = sqlx::query_scalar("SELECT tariff_version_id FROM project WHERE id = $1")
        .bind(project)
        .fetch_one(&mut *conn)
        .await?;
    version(conn, id).await
}

/// A new version of the tariff; gives its id.
pub(super) async fn insert(
    conn: &mut AnyConnection,
    tariff: i64,
    terms: &Terms,
    now: UnixTime,
) -> Result<i64, StoreFault> {
    let (rules, prices) = (&terms.rules, &terms.prices);
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO tariff_version (tariff_id, price_per_minute_millicents, vat_bp, first_increment_ms,
            next_increment_ms, minimum_ms, free_under_ms, connect_fee_ms, expiry_years, created_at, free_minutes,
            expiry_days)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING id",
    )
    .bind(tariff)
    .bind(prices.per_minute_millicents)
    .bind(i64::from(prices.vat_basis_points))
    .bind(rules.first_increment.as_ms())
    .bind(rules.next_increment.as_ms())
    .bind(rules.minimum.as_ms())
    .bind(rules.free_under.as_ms())
    .bind(rules.connect_fee.as_ms())
    .bind(terms.expiry.years())
    .bind(now.as_ms())
    .bind(i64::from(prices.free_minutes))
    .bind(terms.expiry.days())
    .fetch_one(&mut *conn)
    .await?;
    for step in &prices.steps {
        sqlx::query(
            "INSERT INTO tariff_step (tariff_version_id, after_minutes, price_per_minute_millicents)
             VALUES ($1, $2, $3)",
        )
        .bind(id)
        .bind(i64::from(step.after_minutes))
        .bind(step.per_minute_millicents)
        .execute(&mut *conn)
        .await?;
    }
    Ok(id)
}

/// A column that is not negative by its CHECK.
fn count(column: i64) -> u32 {
    u32::try_from(column).unwrap_or(0)
}

/// The rules that a call is charged by: those in force at its INVITE, whatever the project has now.
pub(super) async fn of_call(
    conn: &mut AnyConnection,
    call: &str,
    project: i64,
) -> Result<Tariff, StoreFault> {
    let id: i64 = sqlx::query_scalar(
        "SELECT COALESCE((SELECT k.tariff_version_id FROM call k WHERE k.id = $1), p.tariff_version_id)
         FROM project p WHERE p.id = $2",
    )
    .bind(call)
    .bind(project)
    .fetch_one(&mut *conn)
    .await?;
    Ok(version(conn, id).await?.rules)
}
