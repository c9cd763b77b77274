//! Tariffs: `tariff new|list|show|edit`. An edit makes a new version; purchases and calls that began
//! keep the one they began with (I18).

use sqlx::AnyConnection;

use super::audit::{NewAudit, OPERATOR};
use super::projects::{invalid, ranged, valid_name};
use super::terms::{self, Expiry, Terms};
use super::{
    Act, AdminError, Refusal, StepRow, Store, StoreFault, TariffEdit, TariffRow, TariffSheet, rfc3339,
};
use crate::card::price::PriceStep;
use crate::now::UnixTime;
use crate::units::TalkTime;

/// Steps of one price list.
const STEPS_MAX: usize = 20;

impl Store {
    /// A tariff without projects: free of charge, by the second; `edit` changes that.
    ///
    /// # Errors
    /// `tariff_exists`, `short_expiry`, `invalid_…`.
    pub async fn tariff_new(
        &self,
        act: &Act,
        name: &str,
        edit: &TariffEdit,
    ) -> Result<TariffSheet, AdminError> {
        let name = valid_name(name)?;
        let mut fresh = Terms::default();
        apply(edit, &mut fresh)?;
        let mut db = self.begin().await?;
        name_is_free(db.conn(), &name, 0).await?;
        let tariff = insert_tariff(db.conn(), &name, act.now).await?;
        terms::insert(db.conn(), tariff, &fresh, act.now).await?;
        self.audit(db.conn(), note(act, "tariff.new", &name, None, edit))
            .await?;
        let sheet = sheet(db.conn(), tariff).await?;
        db.commit().await?;
        Ok(sheet)
    }

    /// # Errors
    /// The database's.
    pub async fn tariff_list(&self) -> Result<Vec<TariffSheet>, AdminError> {
        let mut conn = self.pool().acquire().await?;
        let all: Vec<(i64,)> =
            sqlx::query_as("SELECT id FROM tariff WHERE operator_id = $1 ORDER BY name, id")
                .bind(OPERATOR)
                .fetch_all(&mut *conn)
                .await?;
        let mut sheets = Vec::with_capacity(all.len());
        for (tariff,) in all {
            sheets.push(sheet(&mut conn, tariff).await?);
        }
        Ok(sheets)
    }

    /// With all its versions, newest first.
    ///
    /// # Errors
    /// `tariff_not_found`.
    pub async fn tariff_show(&self, name: &str) -> Result<TariffSheet, AdminError> {
        let mut conn = self.pool().acquire().await?;
        let tariff = tariff_named(&mut conn, name).await?;
        Ok(sheet(&mut conn, tariff).await?)
    }

    /// Makes a new version, from which the next purchase and the next call of each of its projects
    /// go. An edit that changes nothing makes none.
    ///
    /// # Errors
    /// `tariff_not_found`, `tariff_exists` for a new name that is taken, `short_expiry`, `invalid_…`.
    pub async fn tariff_edit(
        &self,
        act: &Act,
        name: &str,
        edit: &TariffEdit,
    ) -> Result<TariffSheet, AdminError> {
        let mut db = self.begin().await?;
        let tariff = tariff_named(db.conn(), name).await?;
        self.lock_tariff(db.conn(), tariff).await?;
        if let Some(fresh) = &edit.name {
            let fresh = valid_name(fresh)?;
            name_is_free(db.conn(), &fresh, tariff).await?;
            sqlx::query("UPDATE tariff SET name = $1 WHERE id = $2")
                .bind(&fresh)
                .bind(tariff)
                .execute(db.conn())
                .await?;
        }
        let newest = newest_version(db.conn(), tariff).await?;
        let before = terms::version(db.conn(), newest).await?;
        let mut after = before.clone();
        apply(edit, &mut after)?;
        if after != before {
            let version = terms::insert(db.conn(), tariff, &after, act.now).await?;
            sqlx::query("UPDATE project SET tariff_version_id = $1 WHERE tariff_id = $2")
                .bind(version)
                .bind(tariff)
                .execute(db.conn())
                .await?;
        }
        let was = format!("version {newest}");
        self.audit(db.conn(), note(act, "tariff.edit", name, Some(was), edit))
            .await?;
        let sheet = sheet(db.conn(), tariff).await?;
        db.commit().await?;
        Ok(sheet)
    }

    /// Edits of one tariff take turns.
    pub(super) async fn lock_tariff(&self, conn: &mut AnyConnection, tariff: i64) -> Result<(), StoreFault> {
        sqlx::query_scalar::<_, i64>(self.locking("SELECT id FROM tariff WHERE id = $1"))
            .bind(tariff)
            .fetch_one(conn)
            .await?;
        Ok(())
    }
}

pub(super) async fn insert_tariff(
    conn: &mut AnyConnection,
    name: &str,
    now: UnixTime,
) -> Result<i64, StoreFault> {
    let id = sqlx::query_scalar(
        "INSERT INTO tariff (operator_id, name, created_at) VALUES ($1, $2, $3) RETURNING id",
    )
    .bind(OPERATOR)
    .bind(name)
    .bind(now.as_ms())
    .fetch_one(conn)
    .await?;
    Ok(id)
}

pub(super) async fn tariff_named(conn: &mut AnyConnection, name: &str) -> Result<i64, AdminError> {
    sqlx::query_scalar("SELECT MIN(id) FROM tariff WHERE operator_id = $1 AND name = $2 HAVING COUNT(*) > 0")
        .bind(OPERATOR)
        .bind(name)
        .fetch_optional(conn)
        .await?
        .ok_or_else(|| Refusal::not_found("tariff", name).into())
}

pub(super) async fn newest_version(conn: &mut AnyConnection, tariff: i64) -> Result<i64, StoreFault> {
    let id = sqlx::query_scalar("SELECT MAX(id) FROM tariff_version WHERE tariff_id = $1")
        .bind(tariff)
        .fetch_one(conn)
        .await?;
    Ok(id)
}

/// Whether no other tariff than `but` has this name.
pub(super) async fn is_free(conn: &mut AnyConnection, name: &str, but: i64) -> Result<bool, StoreFault> {
    let taken: Option<i64> =
        sqlx::query_scalar("SELECT id FROM tariff WHERE operator_id = $1 AND name = $2 AND id <> $3 LIMIT 1")
            .bind(OPERATOR)
            .bind(name)
            .bind(but)
            .fetch_optional(conn)
            .await?;
    Ok(taken.is_none())
}

async fn name_is_free(conn: &mut AnyConnection, name: &str, but: i64) -> Result<(), AdminError> {
    if is_free(conn, name, but).await? {
        return Ok(());
    }
    Err(Refusal::Exists {
        kind: "tariff",
        name: name.to_owned(),
    }
    .into())
}

async fn sheet(conn: &mut AnyConnection, tariff: i64) -> Result<TariffSheet, StoreFault> {
    let versions: Vec<(i64,)> =
        sqlx::query_as("SELECT id FROM tariff_version WHERE tariff_id = $1 ORDER BY id DESC")
            .bind(tariff)
            .fetch_all(&mut *conn)
            .await?;
    let mut rows = Vec::with_capacity(versions.len());
    for (id,) in versions {
        rows.push(row(conn, id).await?);
    }
    let projects: Vec<(String,)> =
        sqlx::query_as("SELECT name FROM project WHERE tariff_id = $1 ORDER BY name")
            .bind(tariff)
            .fetch_all(conn)
            .await?;
    let now = rows
        .first()
        .cloned()
        .ok_or_else(|| StoreFault::damaged(format!("tariff {tariff} has no version")))?;
    Ok(TariffSheet {
        now,
        projects: projects.into_iter().map(|(name,)| name).collect(),
        versions: rows,
    })
}

/// One version as the operator reads it.
pub(super) async fn row(conn: &mut AnyConnection, version: i64) -> Result<TariffRow, StoreFault> {
    let (name, since): (String, i64) = sqlx::query_as(
        "SELECT t.name, v.created_at FROM tariff_version v JOIN tariff t ON t.id = v.tariff_id WHERE v.id = $1",
    )
    .bind(version)
    .fetch_one(&mut *conn)
    .await?;
    let Terms {
        rules,
        prices,
        expiry,
    } = terms::version(conn, version).await?;
    Ok(TariffRow {
        name,
        version,
        since: rfc3339(UnixTime::from_ms(since)),
        price_per_minute_millicents: prices.per_minute_millicents,
        steps: prices
            .steps
            .iter()
            .map(|step| StepRow {
                after_minutes: i64::from(step.after_minutes),
                price_per_minute_millicents: step.per_minute_millicents,
            })
            .collect(),
        free_minutes: i64::from(prices.free_minutes),
        vat_basis_points: i64::from(prices.vat_basis_points),
        first_increment_ms: rules.first_increment.as_ms(),
        next_increment_ms: rules.next_increment.as_ms(),
        minimum_ms: rules.minimum.as_ms(),
        free_under_ms: rules.free_under.as_ms(),
        connect_fee_ms: rules.connect_fee.as_ms(),
        expiry_years: match expiry {
            Expiry::Years(years) => Some(years),
            Expiry::Never | Expiry::Days(_) => None,
        },
        expiry_days: expiry.days(),
        short_expiry: expiry.is_short(),
        free: prices.millicents(9999) == 0,
    })
}

fn note<'a>(
    act: &'a Act,
    action: &'static str,
    subject: &'a str,
    before: Option<String>,
    edit: &TariffEdit,
) -> NewAudit<'a> {
    NewAudit {
        at: act.now,
        actor: &act.actor,
        action,
        subject,
        before,
        after: serde_json::to_string(edit).ok(),
        op_key: None,
    }
}

/// Takes the edit over, value by value, each in its range.
pub(super) fn apply(edit: &TariffEdit, to: &mut Terms) -> Result<(), Refusal> {
    let prices = &mut to.prices;
    if let Some(price) = edit.price_per_minute_millicents {
        prices.per_minute_millicents = ranged("price_per_minute_millicents", price, 0, MOST_MILLICENTS)?;
    }
    if let Some(steps) = &edit.steps {
        prices.steps = valid_steps(steps)?;
    }
    for (field, wish, most, place) in [
        ("free_minutes", edit.free_minutes, 9999, &mut prices.free_minutes),
        (
            "vat_basis_points",
            edit.vat_basis_points,
            10_000,
            &mut prices.vat_basis_points,
        ),
    ] {
        if let Some(wish) = wish {
            *place = u32::try_from(ranged(field, wish, 0, most)?).expect("the range was checked");
        }
    }
    let rules = &mut to.rules;
    for (field, wish, least, place) in [
        (
            "first_increment_ms",
            edit.first_increment_ms,
            1000,
            &mut rules.first_increment,
        ),
        (
            "next_increment_ms",
            edit.next_increment_ms,
            1000,
            &mut rules.next_increment,
        ),
        ("minimum_ms", edit.minimum_ms, 0, &mut rules.minimum),
        ("free_under_ms", edit.free_under_ms, 0, &mut rules.free_under),
        ("connect_fee_ms", edit.connect_fee_ms, 0, &mut rules.connect_fee),
    ] {
        if let Some(wish) = wish {
            *place = TalkTime::from_ms(ranged(field, wish, least, 600_000)?);
        }
    }
    to.expiry = valid_expiry(edit, to.expiry)?;
    Ok(())
}

fn valid_steps(steps: &[StepRow]) -> Result<Vec<PriceStep>, Refusal> {
    let rising = steps
        .windows(2)
        .all(|pair| matches!(pair, [one, next] if one.after_minutes < next.after_minutes));
    if steps.len() > STEPS_MAX || !rising {
        return Err(invalid(
            "steps",
            &steps.len().to_string(),
            "at most 20 price steps, each after more minutes than the one before",
            "Preisstaffel: höchstens 20 Stufen, jede nach mehr Minuten als die vorige.",
        ));
    }
    steps
        .iter()
        .map(|step| {
            let after = ranged("after_minutes", step.after_minutes, 1, 9998)?;
            let price = step.price_per_minute_millicents;
            Ok(PriceStep {
                after_minutes: u32::try_from(after).expect("the range was checked"),
                per_minute_millicents: ranged("price_per_minute_millicents", price, 0, MOST_MILLICENTS)?,
            })
        })
        .collect()
}

/// A new expiry that ends before the claim does (§§ 195, 199 BGB) needs the operator's word.
fn valid_expiry(edit: &TariffEdit, old: Expiry) -> Result<Expiry, Refusal> {
    let wish = match (edit.expiry_years, edit.expiry_days) {
        (None, None) => return Ok(old),
        (Some(_), Some(days)) => {
            return Err(invalid(
                "expiry_days",
                &days.to_string(),
                "either expiry_years or expiry_days",
                "Ablauf: entweder Jahre (expiry_years) oder Tage (expiry_days).",
            ));
        }
        (Some(0), None) => Expiry::Never,
        (Some(years), None) => Expiry::Years(ranged("expiry_years", years, 0, 30)?),
        (None, Some(days)) => Expiry::Days(ranged("expiry_days", days, 1, 10_957)?),
    };
    if wish.is_short() && wish != old && !edit.accept_short_expiry {
        return Err(Refusal::ShortExpiry);
    }
    Ok(wish)
}

/// 1000 € a minute is a slip of the finger.
const MOST_MILLICENTS: i64 = 100_000_000;
