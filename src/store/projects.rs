//! Projects and their tariffs. A tariff version never changes: an edit makes a new one (I18).

use sqlx::AnyConnection;

use super::audit::{NewAudit, OPERATOR};
use super::{Act, AdminError, ProjectEdit, ProjectRow, Refusal, Store, StoreFault, TariffRow, rfc3339};
use crate::card::{pin, tariff::Tariff};
use crate::now::UnixTime;
use crate::units::TalkTime;

/// Columns of a tariff version, in the order of [`tariff`].
pub(super) const TARIFF_COLUMNS: &str = "v.id, v.price_per_minute_millicents, v.vat_bp, v.first_increment_ms,
    v.next_increment_ms, v.minimum_ms, v.free_under_ms, v.connect_fee_ms";

pub(super) type TariffSql = (i64, i64, i64, i64, i64, i64, i64, i64);

/// What an edit changes; validated as a whole.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Settings {
    pub id: i64,
    pub name: String,
    pub language: String,
    pub prompt_set: String,
    pub enabled: i64,
    pub max_lines: i64,
    pub pin_length: Option<i64>,
    pub accept_key: i64,
    pub hold_pause_ms: Option<i64>,
    pub show_caller: i64,
    pub show_note: i64,
    pub max_parallel: i64,
    pub created_at: i64,
    tariff_id: i64,
}

impl Store {
    /// Makes a project: free of charge, by the second, German, three lines a card; `edit` changes that.
    ///
    /// # Errors
    /// `project_exists`, `invalid_…`.
    pub async fn project_new(
        &self,
        act: &Act,
        name: &str,
        edit: &ProjectEdit,
    ) -> Result<ProjectRow, AdminError> {
        let mut fresh = Settings {
            id: 0,
            name: valid_name(name)?,
            language: "de".to_owned(),
            prompt_set: "de".to_owned(),
            enabled: 1,
            max_lines: i64::from(crate::card::binding::DEFAULT_MAX_LINES),
            pin_length: None,
            accept_key: 0,
            hold_pause_ms: Some(600_000),
            show_caller: 0,
            show_note: 0,
            max_parallel: 1,
            created_at: act.now.as_ms(),
            tariff_id: 0,
        };
        let mut tariff = Tariff::default();
        apply(edit, &mut fresh, &mut tariff)?;
        let mut db = self.begin().await?;
        name_is_free(db.conn(), &fresh.name, 0).await?;
        fresh.tariff_id = sqlx::query_scalar(
            "INSERT INTO tariff (operator_id, name, created_at) VALUES ($1, $2, $3) RETURNING id",
        )
        .bind(OPERATOR)
        .bind(&fresh.name)
        .bind(act.now.as_ms())
        .fetch_one(db.conn())
        .await?;
        let version = insert_version(db.conn(), fresh.tariff_id, &tariff, act.now).await?;
        fresh.id = sqlx::query_scalar(
            "INSERT INTO project (operator_id, name, language, prompt_set, tariff_id, tariff_version_id, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
        )
        .bind(OPERATOR)
        .bind(&fresh.name)
        .bind(&fresh.language)
        .bind(&fresh.prompt_set)
        .bind(fresh.tariff_id)
        .bind(version)
        .bind(act.now.as_ms())
        .fetch_one(db.conn())
        .await?;
        save(db.conn(), &fresh, version).await?;
        self.audit(db.conn(), note(act, "project.new", &fresh.name, None, edit))
            .await?;
        let row = row(db.conn(), &fresh).await?;
        db.commit().await?;
        Ok(row)
    }

    /// # Errors
    /// The database's.
    pub async fn project_list(&self) -> Result<Vec<ProjectRow>, AdminError> {
        let mut conn = self.pool().acquire().await?;
        let all: Vec<Settings> = sqlx::query_as("SELECT * FROM project WHERE operator_id = $1 ORDER BY name")
            .bind(OPERATOR)
            .fetch_all(&mut *conn)
            .await?;
        let mut rows = Vec::with_capacity(all.len());
        for settings in &all {
            rows.push(row(&mut conn, settings).await?);
        }
        Ok(rows)
    }

    /// # Errors
    /// `project_not_found`.
    pub async fn project_show(&self, name: &str) -> Result<ProjectRow, AdminError> {
        let mut conn = self.pool().acquire().await?;
        let settings = project(&mut conn, name).await?;
        Ok(row(&mut conn, &settings).await?)
    }

    /// Changes what `edit` names; tariff values make a new version, from which the next purchase and
    /// the next call go.
    ///
    /// # Errors
    /// `project_not_found`, `project_exists` for a new name that is taken, `invalid_…`.
    pub async fn project_edit(
        &self,
        act: &Act,
        name: &str,
        edit: &ProjectEdit,
    ) -> Result<ProjectRow, AdminError> {
        let mut db = self.begin().await?;
        let before = project(db.conn(), name).await?;
        let old = tariff_of_project(db.conn(), before.id).await?;
        let (mut after, mut tariff) = (before.clone(), old.clone());
        apply(edit, &mut after, &mut tariff)?;
        name_is_free(db.conn(), &after.name, after.id).await?;
        let version = if tariff == old {
            old.version
        } else {
            insert_version(db.conn(), after.tariff_id, &tariff, act.now).await?
        };
        save(db.conn(), &after, version).await?;
        let was = format!("{before:?}, tariff version {}", old.version);
        self.audit(db.conn(), note(act, "project.edit", name, Some(was), edit))
            .await?;
        let row = row(db.conn(), &after).await?;
        db.commit().await?;
        Ok(row)
    }
}

fn note<'a>(
    act: &'a Act,
    action: &'static str,
    subject: &'a str,
    before: Option<String>,
    edit: &ProjectEdit,
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

/// The project of this name.
pub(super) async fn project(conn: &mut AnyConnection, name: &str) -> Result<Settings, AdminError> {
    sqlx::query_as("SELECT * FROM project WHERE operator_id = $1 AND name = $2")
        .bind(OPERATOR)
        .bind(name)
        .fetch_optional(conn)
        .await?
        .ok_or_else(|| Refusal::not_found("project", name).into())
}

/// The rules that a project charges by now.
pub(super) async fn tariff_of_project(conn: &mut AnyConnection, project: i64) -> Result<Tariff, StoreFault> {
    let sql = sqlx::AssertSqlSafe(format!(
        "SELECT {TARIFF_COLUMNS} FROM project p JOIN tariff_version v ON v.id = p.tariff_version_id WHERE p.id = $1"
    ));
    let row: TariffSql = sqlx::query_as(sql).bind(project).fetch_one(conn).await?;
    Ok(tariff(row))
}

pub(super) fn tariff((version, price, vat_bp, first, next, minimum, free_under, fee): TariffSql) -> Tariff {
    Tariff {
        version,
        price_per_minute_millicents: price,
        vat_basis_points: u32::try_from(vat_bp).unwrap_or(0),
        first_increment: TalkTime::from_ms(first),
        next_increment: TalkTime::from_ms(next),
        minimum: TalkTime::from_ms(minimum),
        free_under: TalkTime::from_ms(free_under),
        connect_fee: TalkTime::from_ms(fee),
    }
}

async fn insert_version(
    conn: &mut AnyConnection,
    tariff_id: i64,
    tariff: &Tariff,
    now: UnixTime,
) -> Result<i64, StoreFault> {
    let id = sqlx::query_scalar(
        "INSERT INTO tariff_version (tariff_id, price_per_minute_millicents, vat_bp, first_increment_ms,
            next_increment_ms, minimum_ms, free_under_ms, connect_fee_ms, expiry_years, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id",
    )
    .bind(tariff_id)
    .bind(tariff.price_per_minute_millicents)
    .bind(i64::from(tariff.vat_basis_points))
    .bind(tariff.first_increment.as_ms())
    .bind(tariff.next_increment.as_ms())
    .bind(tariff.minimum.as_ms())
    .bind(tariff.free_under.as_ms())
    .bind(tariff.connect_fee.as_ms())
    .bind(super::sale::EXPIRY_YEARS)
    .bind(now.as_ms())
    .fetch_one(conn)
    .await?;
    Ok(id)
}

async fn save(conn: &mut AnyConnection, new: &Settings, version: i64) -> Result<(), StoreFault> {
    sqlx::query(
        "UPDATE project SET name = $1, language = $2, prompt_set = $3, enabled = $4, max_lines = $5,
            pin_length = $6, accept_key = $7, hold_pause_ms = $8, show_caller = $9, show_note = $10,
            max_parallel = $11, tariff_version_id = $12
         WHERE id = $13",
    )
    .bind(&new.name)
    .bind(&new.language)
    .bind(&new.prompt_set)
    .bind(new.enabled)
    .bind(new.max_lines)
    .bind(new.pin_length)
    .bind(new.accept_key)
    .bind(new.hold_pause_ms)
    .bind(new.show_caller)
    .bind(new.show_note)
    .bind(new.max_parallel)
    .bind(version)
    .bind(new.id)
    .execute(conn)
    .await?;
    Ok(())
}

async fn name_is_free(conn: &mut AnyConnection, name: &str, but: i64) -> Result<(), AdminError> {
    let taken: Option<i64> =
        sqlx::query_scalar("SELECT id FROM project WHERE operator_id = $1 AND name = $2 AND id <> $3")
            .bind(OPERATOR)
            .bind(name)
            .bind(but)
            .fetch_optional(conn)
            .await?;
    match taken {
        Some(_) => Err(Refusal::Exists {
            kind: "project",
            name: name.to_owned(),
        }
        .into()),
        None => Ok(()),
    }
}

async fn row(conn: &mut AnyConnection, settings: &Settings) -> Result<ProjectRow, StoreFault> {
    let rules = tariff_of_project(conn, settings.id).await?;
    let cards = live_cards(conn, settings.id).await?;
    let chosen = settings.pin_length.and_then(|n| u8::try_from(n).ok());
    let live = u64::try_from(cards).unwrap_or(0);
    let pin_length = pin::length(live, chosen);
    Ok(ProjectRow {
        name: settings.name.clone(),
        language: settings.language.clone(),
        prompt_set: settings.prompt_set.clone(),
        enabled: settings.enabled == 1,
        max_lines: settings.max_lines,
        pin_length,
        pin_years_per_hit: pin::years_per_hit(live, pin_length),
        accept_key: settings.accept_key == 1,
        hold_pause_s: settings.hold_pause_ms.map(|ms| ms / 1000),
        show_caller: settings.show_caller == 1,
        show_note: settings.show_note == 1,
        max_parallel: settings.max_parallel,
        tariff: TariffRow {
            version: rules.version,
            price_per_minute_millicents: rules.price_per_minute_millicents,
            vat_basis_points: i64::from(rules.vat_basis_points),
            first_increment_ms: rules.first_increment.as_ms(),
            next_increment_ms: rules.next_increment.as_ms(),
            minimum_ms: rules.minimum.as_ms(),
            free_under_ms: rules.free_under.as_ms(),
            connect_fee_ms: rules.connect_fee.as_ms(),
            free: rules.price_per_minute_millicents == 0,
        },
        cards,
        numbers: super::numbers::numbers_of(conn, Some(&settings.name)).await?,
        created_at: rfc3339(UnixTime::from_ms(settings.created_at)),
    })
}

/// Cards of a project that a PIN can still name.
pub(super) async fn live_cards(conn: &mut AnyConnection, project: i64) -> Result<i64, StoreFault> {
    let count =
        sqlx::query_scalar("SELECT COUNT(*) FROM card WHERE project_id = $1 AND state <> 'storniert'")
            .bind(project)
            .fetch_one(conn)
            .await?;
    Ok(count)
}

/// Takes the edit over, value by value, each in its range.
fn apply(edit: &ProjectEdit, to: &mut Settings, tariff: &mut Tariff) -> Result<(), Refusal> {
    if let Some(name) = &edit.name {
        to.name = valid_name(name)?;
    }
    if let Some(language) = &edit.language {
        if language != "de" && language != "en" {
            return Err(invalid("language", language, "de or en", "Sprache: de oder en."));
        }
        // The language's own set goes along; a set of the project's own stays.
        if to.prompt_set == to.language {
            to.prompt_set.clone_from(language);
        }
        to.language.clone_from(language);
    }
    if let Some(set) = &edit.prompt_set {
        to.prompt_set = valid_name(set)?;
    }
    if let Some(length) = edit.pin_length {
        to.pin_length = match length {
            0 => None,
            length => Some(ranged("pin_length", length, 8, 12)?),
        };
    }
    if let Some(seconds) = edit.hold_pause_s {
        let ms = ranged("hold_pause_s", seconds, 0, 600)? * 1000;
        to.hold_pause_ms = (ms > 0).then_some(ms);
    }
    for (wish, place) in [
        (edit.enabled, &mut to.enabled),
        (edit.accept_key, &mut to.accept_key),
        (edit.show_caller, &mut to.show_caller),
        (edit.show_note, &mut to.show_note),
    ] {
        if let Some(wish) = wish {
            *place = i64::from(wish);
        }
    }
    if let Some(lines) = edit.max_lines {
        to.max_lines = ranged("max_lines", lines, 0, 100)?;
    }
    if let Some(calls) = edit.max_parallel {
        to.max_parallel = ranged("max_parallel", calls, 1, 1000)?;
    }
    apply_tariff(edit, tariff)
}

fn apply_tariff(edit: &ProjectEdit, tariff: &mut Tariff) -> Result<(), Refusal> {
    if let Some(price) = edit.price_per_minute_millicents {
        tariff.price_per_minute_millicents = ranged("price_per_minute_millicents", price, 0, 100_000_000)?;
    }
    if let Some(vat) = edit.vat_basis_points {
        tariff.vat_basis_points =
            u32::try_from(ranged("vat_basis_points", vat, 0, 10_000)?).expect("the range was checked");
    }
    for (field, wish, least, place) in [
        (
            "first_increment_ms",
            edit.first_increment_ms,
            1000,
            &mut tariff.first_increment,
        ),
        (
            "next_increment_ms",
            edit.next_increment_ms,
            1000,
            &mut tariff.next_increment,
        ),
        ("minimum_ms", edit.minimum_ms, 0, &mut tariff.minimum),
        ("free_under_ms", edit.free_under_ms, 0, &mut tariff.free_under),
        ("connect_fee_ms", edit.connect_fee_ms, 0, &mut tariff.connect_fee),
    ] {
        if let Some(wish) = wish {
            *place = TalkTime::from_ms(ranged(field, wish, least, 600_000)?);
        }
    }
    Ok(())
}

fn ranged(field: &'static str, value: i64, least: i64, most: i64) -> Result<i64, Refusal> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(invalid(
        field,
        &value.to_string(),
        "outside the allowed range",
        "Der Wert liegt außerhalb des erlaubten Bereichs.",
    ))
}

pub(super) fn invalid(
    field: &'static str,
    value: &str,
    problem: &'static str,
    german: &'static str,
) -> Refusal {
    Refusal::Invalid {
        field,
        value: value.to_owned(),
        problem,
        german,
    }
}

fn valid_name(name: &str) -> Result<String, Refusal> {
    let name = name.trim();
    if (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control) && !name.contains('/')
    {
        return Ok(name.to_owned());
    }
    Err(invalid(
        "name",
        name,
        "1 to 64 characters, no slash and no control characters",
        "Name: 1 bis 64 Zeichen, ohne Schrägstrich und Steuerzeichen.",
    ))
}
