//! Projects. Each begins with a tariff of its own name; it may sell by another one later.

use sqlx::AnyConnection;

use super::audit::{NewAudit, OPERATOR};
use super::terms::{self, Terms};
use super::{Act, AdminError, ProjectEdit, ProjectRow, Refusal, Store, StoreFault, rfc3339, tariffs};
use crate::card::{pin, tariff::Tariff};
use crate::now::UnixTime;

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
    pub tariff_id: i64,
    pub tariff_version_id: i64,
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
            tariff_version_id: 0,
        };
        apply(edit, &mut fresh)?;
        let mut db = self.begin().await?;
        name_is_free(db.conn(), &fresh.name, 0).await?;
        match &edit.tariff {
            Some(name) => {
                fresh.tariff_id = tariffs::tariff_named(db.conn(), name).await?;
                fresh.tariff_version_id = tariffs::newest_version(db.conn(), fresh.tariff_id).await?;
                self.own_terms(db.conn(), &mut fresh, edit, act.now).await?;
            }
            None => {
                let mut terms = Terms::default();
                tariffs::apply(&edit.of_tariff(), &mut terms)?;
                let name = own_tariff_name(db.conn(), &fresh.name).await?;
                fresh.tariff_id = tariffs::insert_tariff(db.conn(), &name, act.now).await?;
                fresh.tariff_version_id = terms::insert(db.conn(), fresh.tariff_id, &terms, act.now).await?;
            }
        }
        fresh.id = sqlx::query_scalar(
            "INSERT INTO project (operator_id, name, language, prompt_set, tariff_id, tariff_version_id, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
        )
        .bind(OPERATOR)
        .bind(&fresh.name)
        .bind(&fresh.language)
        .bind(&fresh.prompt_set)
        .bind(fresh.tariff_id)
        .bind(fresh.tariff_version_id)
        .bind(act.now.as_ms())
        .fetch_one(db.conn())
        .await?;
        save(db.conn(), &fresh).await?;
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
    /// `project_not_found`, `project_exists` for a new name that is taken, `tariff_not_found`,
    /// `tariff_shared` for tariff values while other projects have the same tariff, `invalid_…`.
    pub async fn project_edit(
        &self,
        act: &Act,
        name: &str,
        edit: &ProjectEdit,
    ) -> Result<ProjectRow, AdminError> {
        let mut db = self.begin().await?;
        let before = project(db.conn(), name).await?;
        let mut after = before.clone();
        apply(edit, &mut after)?;
        name_is_free(db.conn(), &after.name, after.id).await?;
        if let Some(tariff) = &edit.tariff {
            after.tariff_id = tariffs::tariff_named(db.conn(), tariff).await?;
            after.tariff_version_id = tariffs::newest_version(db.conn(), after.tariff_id).await?;
        }
        self.own_terms(db.conn(), &mut after, edit, act.now).await?;
        save(db.conn(), &after).await?;
        let was = format!("{before:?}");
        self.audit(db.conn(), note(act, "project.edit", name, Some(was), edit))
            .await?;
        let row = row(db.conn(), &after).await?;
        db.commit().await?;
        Ok(row)
    }

    /// Tariff values of a project's edit: a new version of its tariff, unless others would get it too.
    async fn own_terms(
        &self,
        conn: &mut AnyConnection,
        project: &mut Settings,
        edit: &ProjectEdit,
        now: UnixTime,
    ) -> Result<(), AdminError> {
        self.lock_tariff(conn, project.tariff_id).await?;
        let before = terms::version(conn, project.tariff_version_id).await?;
        let mut after = before.clone();
        tariffs::apply(&edit.of_tariff(), &mut after)?;
        if after == before {
            return Ok(());
        }
        let others: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM project WHERE tariff_id = $1 AND id <> $2")
                .bind(project.tariff_id)
                .bind(project.id)
                .fetch_one(&mut *conn)
                .await?;
        if others > 0 {
            return Err(Refusal::TariffShared { projects: others + 1 }.into());
        }
        project.tariff_version_id = terms::insert(conn, project.tariff_id, &after, now).await?;
        Ok(())
    }
}

/// The project's own name, or the next one with a number behind it.
async fn own_tariff_name(conn: &mut AnyConnection, project: &str) -> Result<String, StoreFault> {
    for n in 1..10_000 {
        let name = match n {
            1 => project.to_owned(),
            n => format!("{project} {n}"),
        };
        if tariffs::is_free(conn, &name, 0).await? {
            return Ok(name);
        }
    }
    Err(StoreFault::damaged(format!(
        "no free name for the tariff of {project:?}"
    )))
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
    Ok(terms::of_project(conn, project).await?.rules)
}

async fn save(conn: &mut AnyConnection, new: &Settings) -> Result<(), StoreFault> {
    sqlx::query(
        "UPDATE project SET name = $1, language = $2, prompt_set = $3, enabled = $4, max_lines = $5,
            pin_length = $6, accept_key = $7, hold_pause_ms = $8, show_caller = $9, show_note = $10,
            max_parallel = $11, tariff_id = $12, tariff_version_id = $13
         WHERE id = $14",
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
    .bind(new.tariff_id)
    .bind(new.tariff_version_id)
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
    let tariff = tariffs::row(conn, settings.tariff_version_id).await?;
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
        tariff,
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
fn apply(edit: &ProjectEdit, to: &mut Settings) -> Result<(), Refusal> {
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
    Ok(())
}

pub(super) fn ranged(field: &'static str, value: i64, least: i64, most: i64) -> Result<i64, Refusal> {
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

pub(super) fn valid_name(name: &str) -> Result<String, Refusal> {
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
