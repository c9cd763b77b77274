//! Cards as the operator sees them. Changes are in `card_edit`, money is in `purchase`.

use sqlx::AnyConnection;

use super::audit::{NewAudit, OPERATOR};
use super::lines::card_state;
use super::projects::invalid;
use super::{Act, AdminError, CardFilter, CardRow, EntryRow, LineRow, Refusal, Store, StoreFault, rfc3339};
use crate::card::CardState;
use crate::ids::CardId;
use crate::now::UnixTime;

/// Characters of a note (S7).
const NOTE_MAX: usize = 200;
/// Cards of one answer.
const LIST_MAX: usize = 10_000;

/// A card's row, as far as the operator's verbs need it.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct CardSql {
    pub id: i64,
    pub project_id: i64,
    pub project: String,
    pub serial: String,
    pub note: String,
    pub state: String,
    pub pin_sealed: String,
    pub balance_ms: i64,
    pub reserved_ms: i64,
    pub open_calls: i64,
    pub expires_at: Option<i64>,
    pub created_at: i64,
    pub activated_at: Option<i64>,
    pub last_use_at: Option<i64>,
    bought_ms: i64,
    pub used_ms: i64,
}

const CARD: &str = "SELECT c.id, c.project_id, p.name AS project, c.serial, c.note, c.state, c.pin_sealed,
    c.balance_ms, c.reserved_ms, c.open_calls, c.expires_at, c.created_at, c.activated_at, c.last_use_at,
    CAST(COALESCE((SELECT SUM(l.delta_ms) FROM ledger l WHERE l.card_id = c.id AND l.delta_ms > 0), 0) AS BIGINT)
        AS bought_ms,
    CAST(COALESCE((SELECT -SUM(l.delta_ms) FROM ledger l WHERE l.card_id = c.id AND l.kind = 'usage'), 0) AS BIGINT)
        AS used_ms
    FROM card c JOIN project p ON p.id = c.project_id WHERE p.operator_id = $1";

impl Store {
    /// Newest first. The note is compared without case, beyond ASCII too.
    ///
    /// # Errors
    /// `project_not_found`, `invalid_state`.
    pub async fn card_list(&self, now: UnixTime, filter: &CardFilter) -> Result<Vec<CardRow>, AdminError> {
        let words = [
            "neu",
            "freigeschaltet",
            "leer",
            "abgelaufen",
            "gesperrt",
            "storniert",
        ];
        if let Some(state) = filter.state.as_deref()
            && !words.contains(&state)
        {
            return Err(invalid(
                "state",
                state,
                "neu, freigeschaltet, leer, abgelaufen, gesperrt or storniert",
                "Zustand: neu, freigeschaltet, leer, abgelaufen, gesperrt oder storniert.",
            )
            .into());
        }
        let mut conn = self.pool().acquire().await?;
        if let Some(name) = &filter.project {
            super::projects::project(&mut conn, name).await?;
        }
        let sql = sqlx::AssertSqlSafe(format!(
            "{CARD} AND ($2 IS NULL OR p.name = $2) AND ($3 IS NULL OR EXISTS (SELECT 1 FROM line_binding b
                WHERE b.card_id = c.id AND b.removed_at IS NULL AND b.e164 LIKE $3))
             ORDER BY c.id DESC"
        ));
        let like = filter.line.as_ref().map(|part| format!("%{}%", plain(part)));
        let cards: Vec<CardSql> = sqlx::query_as(sql)
            .bind(OPERATOR)
            .bind(&filter.project)
            .bind(like)
            .fetch_all(&mut *conn)
            .await?;
        let note = filter.note.as_ref().map(|note| note.to_lowercase());
        let limit = match usize::try_from(filter.limit) {
            Ok(0) | Err(_) => LIST_MAX,
            Ok(limit) => limit.min(LIST_MAX),
        };
        let mut rows = Vec::new();
        for card in cards {
            let fits = note
                .as_ref()
                .is_none_or(|part| card.note.to_lowercase().contains(part));
            let word = german_state(&card, now)?;
            if fits && filter.state.as_deref().is_none_or(|state| state == word) {
                rows.push(card);
            }
        }
        let skip = usize::try_from(filter.offset).unwrap_or(0);
        let mut lines = all_lines(&mut conn, filter.project.as_deref()).await?;
        rows.into_iter()
            .skip(skip)
            .take(limit)
            .map(|card| {
                let own = lines.remove(&card.id).unwrap_or_default();
                Ok(shown(card, own, now)?)
            })
            .collect()
    }

    /// # Errors
    /// `card_not_found`.
    pub async fn card_show(&self, now: UnixTime, serial: &str) -> Result<CardRow, AdminError> {
        let mut conn = self.pool().acquire().await?;
        let card = card(&mut conn, serial).await?;
        Ok(row(&mut conn, card, now).await?)
    }

    /// The card's ledger, oldest first.
    ///
    /// # Errors
    /// `card_not_found`.
    pub async fn card_entries(&self, serial: &str) -> Result<Vec<EntryRow>, AdminError> {
        let mut conn = self.pool().acquire().await?;
        let card = card(&mut conn, serial).await?;
        type Row = (i64, String, i64, Option<String>, Option<i64>, String, i64, String);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT seq, kind, delta_ms, call, purchase_id, actor, at, row_hash FROM ledger
             WHERE card_id = $1 ORDER BY seq",
        )
        .bind(card.id)
        .fetch_all(&mut *conn)
        .await?;
        Ok(rows
            .into_iter()
            .map(
                |(seq, kind, delta_ms, call, purchase, actor, at, row_hash)| EntryRow {
                    seq,
                    kind,
                    delta_ms,
                    call,
                    purchase,
                    actor,
                    at: rfc3339(UnixTime::from_ms(at)),
                    row_hash,
                },
            )
            .collect())
    }

    /// The card, its row locked for this `db_tx`.
    pub(super) async fn lock_card(
        &self,
        conn: &mut AnyConnection,
        serial: &str,
    ) -> Result<CardSql, AdminError> {
        sqlx::query_scalar::<_, i64>(self.locking("SELECT id FROM card WHERE serial = $1"))
            .bind(serial)
            .fetch_optional(&mut *conn)
            .await?;
        card(conn, serial).await
    }
}

pub(super) fn about<'a>(
    act: &'a Act,
    action: &'static str,
    serial: &'a str,
    before: Option<serde_json::Value>,
    after: Option<serde_json::Value>,
) -> NewAudit<'a> {
    NewAudit {
        at: act.now,
        actor: &act.actor,
        action,
        subject: serial,
        before: before.map(|json| json.to_string()),
        after: after.map(|json| json.to_string()),
        op_key: None,
    }
}

pub(super) async fn card(conn: &mut AnyConnection, serial: &str) -> Result<CardSql, AdminError> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!("{CARD} AND c.serial = $2")))
        .bind(OPERATOR)
        .bind(serial)
        .fetch_optional(conn)
        .await?
        .ok_or_else(|| Refusal::not_found("card", serial).into())
}

pub(super) async fn row(
    conn: &mut AnyConnection,
    card: CardSql,
    now: UnixTime,
) -> Result<CardRow, StoreFault> {
    type Row = (String, String, Option<i64>, Option<i64>);
    let lines: Vec<Row> = sqlx::query_as(
        "SELECT e164, source, first_use_at, last_use_at FROM line_binding
         WHERE card_id = $1 AND removed_at IS NULL ORDER BY id",
    )
    .bind(card.id)
    .fetch_all(conn)
    .await?;
    shown(card, lines.into_iter().map(line_row).collect(), now)
}

fn line_row((e164, source, first, last): (String, String, Option<i64>, Option<i64>)) -> LineRow {
    LineRow {
        e164,
        source,
        first_use: first.map(|at| rfc3339(UnixTime::from_ms(at))),
        last_use: last.map(|at| rfc3339(UnixTime::from_ms(at))),
    }
}

/// The lines of all cards of a list, in one question.
async fn all_lines(
    conn: &mut AnyConnection,
    project: Option<&str>,
) -> Result<std::collections::BTreeMap<i64, Vec<LineRow>>, StoreFault> {
    type Row = (i64, String, String, Option<i64>, Option<i64>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT b.card_id, b.e164, b.source, b.first_use_at, b.last_use_at
         FROM line_binding b JOIN project p ON p.id = b.project_id
         WHERE p.operator_id = $1 AND b.removed_at IS NULL AND ($2 IS NULL OR p.name = $2) ORDER BY b.id",
    )
    .bind(OPERATOR)
    .bind(project)
    .fetch_all(conn)
    .await?;
    let mut lines = std::collections::BTreeMap::<i64, Vec<LineRow>>::new();
    for (card, e164, source, first, last) in rows {
        lines
            .entry(card)
            .or_default()
            .push(line_row((e164, source, first, last)));
    }
    Ok(lines)
}

fn shown(card: CardSql, lines: Vec<LineRow>, now: UnixTime) -> Result<CardRow, StoreFault> {
    let state = german_state(&card, now)?;
    let time = |at: Option<i64>| at.map(|at| rfc3339(UnixTime::from_ms(at)));
    Ok(CardRow {
        id: CardId::new(card.id),
        state,
        balance_ms: card.balance_ms,
        reserved_ms: card.reserved_ms,
        available_ms: card.balance_ms - card.reserved_ms,
        lines,
        created_at: rfc3339(UnixTime::from_ms(card.created_at)),
        activated_at: time(card.activated_at),
        expires_at: time(card.expires_at),
        last_use_at: time(card.last_use_at),
        bought_ms: card.bought_ms,
        used_ms: card.used_ms,
        pin: None,
        price_cents: None,
        serial: card.serial,
        project: card.project,
        note: card.note,
    })
}

/// The operator's word: `leer` follows from the balance, `abgelaufen` from the day.
fn german_state(card: &CardSql, now: UnixTime) -> Result<&'static str, StoreFault> {
    Ok(match card_state(&card.state, card.expires_at, now)? {
        CardState::New | CardState::Active if card.balance_ms == 0 => "leer",
        CardState::New => "neu",
        CardState::Active => "freigeschaltet",
        CardState::Expired => "abgelaufen",
        CardState::Blocked => "gesperrt",
        CardState::Cancelled => "storniert",
    })
}

pub(super) fn wrong_state(card: &CardSql, now: UnixTime) -> Result<Refusal, StoreFault> {
    Ok(Refusal::CardState {
        serial: card.serial.clone(),
        state: german_state(card, now)?,
    })
}

/// # Errors
/// `invalid_note`: more than 200 characters, or control characters.
pub(super) fn valid_note(note: &str) -> Result<String, Refusal> {
    let note = note.trim();
    if note.chars().count() > NOTE_MAX {
        return Err(invalid(
            "note",
            note,
            "at most 200 characters",
            "Hinweis: höchstens 200 Zeichen.",
        ));
    }
    if note.chars().any(|c| c.is_control()) {
        return Err(invalid(
            "note",
            note,
            "no control characters",
            "Hinweis: keine Steuerzeichen.",
        ));
    }
    Ok(note.to_owned())
}

/// What may stand in a LIKE as it is: a line has digits and a plus.
fn plain(part: &str) -> String {
    part.chars().filter(|c| c.is_ascii_digit() || *c == '+').collect()
}
