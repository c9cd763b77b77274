//! Cards as the operator sees and changes them. Money is in `purchase`.

use sqlx::AnyConnection;

use super::audit::{NewAudit, OPERATOR};
use super::ledger::{NewEntry, write_entry};
use super::lines::{NewBinding, activate, card_state, own_number};
use super::projects::invalid;
use super::{Act, AdminError, CardFilter, CardRow, EntryRow, LineRow, Refusal, Store, StoreFault, rfc3339};
use crate::card::CardState;
use crate::card::binding::{self, Placement};
use crate::ids::CardId;
use crate::now::UnixTime;
use crate::units::E164;

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
    used_ms: i64,
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

    /// # Errors
    /// `card_not_found`, `invalid_note`.
    pub async fn card_note(&self, act: &Act, serial: &str, note: &str) -> Result<CardRow, AdminError> {
        let note = valid_note(note)?;
        let mut db = self.begin().await?;
        let before = self.lock_card(db.conn(), serial).await?;
        sqlx::query("UPDATE card SET note = $1 WHERE id = $2")
            .bind(&note)
            .bind(before.id)
            .execute(db.conn())
            .await?;
        let (was, is) = (
            serde_json::json!({ "note": before.note }),
            serde_json::json!({ "note": note }),
        );
        self.audit(db.conn(), about(act, "card.note", serial, Some(was), Some(is)))
            .await?;
        self.answer(db, act.now, serial).await
    }

    /// A call in progress keeps its slice; `CardChanged(row.id)` tells it.
    ///
    /// # Errors
    /// `card_not_found`, `card_state` if it is cancelled or blocked already.
    pub async fn card_block(&self, act: &Act, serial: &str) -> Result<CardRow, AdminError> {
        let mut db = self.begin().await?;
        let before = self.lock_card(db.conn(), serial).await?;
        if before.state == "gesperrt" || before.state == "storniert" {
            return Err(wrong_state(&before, act.now)?.into());
        }
        sqlx::query("UPDATE card SET state = 'gesperrt', state_before = state WHERE id = $1")
            .bind(before.id)
            .execute(db.conn())
            .await?;
        let was = serde_json::json!({ "state": before.state });
        self.audit(db.conn(), about(act, "card.block", serial, Some(was), None))
            .await?;
        self.answer(db, act.now, serial).await
    }

    /// Back to what it was before the block.
    ///
    /// # Errors
    /// `card_not_found`, `card_state` if it is not blocked.
    pub async fn card_unblock(&self, act: &Act, serial: &str) -> Result<CardRow, AdminError> {
        let mut db = self.begin().await?;
        let before = self.lock_card(db.conn(), serial).await?;
        if before.state != "gesperrt" {
            return Err(wrong_state(&before, act.now)?.into());
        }
        sqlx::query(
            "UPDATE card SET state = COALESCE(state_before, 'neu'), state_before = NULL WHERE id = $1",
        )
        .bind(before.id)
        .execute(db.conn())
        .await?;
        self.audit(db.conn(), about(act, "card.unblock", serial, None, None))
            .await?;
        self.answer(db, act.now, serial).await
    }

    /// Books out what is left (storno), forgets the lines and frees the PIN. Refused while a call
    /// is on, because only what is available may be taken away (I9).
    ///
    /// # Errors
    /// `card_not_found`, `card_in_use`, `card_state` if it is cancelled already.
    pub async fn card_cancel(&self, act: &Act, serial: &str) -> Result<CardRow, AdminError> {
        let mut db = self.begin().await?;
        let before = self.lock_card(db.conn(), serial).await?;
        if before.state == "storniert" {
            return Err(wrong_state(&before, act.now)?.into());
        }
        if before.open_calls > 0 || before.reserved_ms > 0 {
            return Err(Refusal::CardInUse {
                serial: serial.to_owned(),
            }
            .into());
        }
        if before.balance_ms > 0 {
            let entry = NewEntry {
                card: before.id,
                kind: "storno",
                delta_ms: -before.balance_ms,
                call: None,
                purchase: None,
                op_key: &format!("storno:{}", before.id),
                actor: &act.actor,
                at: act.now,
            };
            write_entry(db.conn(), &entry).await?;
        }
        sqlx::query("UPDATE card SET state = 'storniert', state_before = NULL WHERE id = $1")
            .bind(before.id)
            .execute(db.conn())
            .await?;
        sqlx::query(
            "UPDATE line_binding SET removed_at = $1, removed_by = $2 WHERE card_id = $3 AND removed_at IS NULL",
        )
        .bind(act.now.as_ms())
        .bind(&act.actor)
        .bind(before.id)
        .execute(db.conn())
        .await?;
        let was = serde_json::json!({ "state": before.state, "balance_ms": before.balance_ms });
        self.audit(db.conn(), about(act, "card.cancel", serial, Some(was), None))
            .await?;
        self.answer(db, act.now, serial).await
    }

    /// The row with the PIN; every reveal leaves an audit row (I16).
    ///
    /// # Errors
    /// `card_not_found`, `card_state` if it is cancelled.
    pub async fn card_pin(&self, act: &Act, serial: &str) -> Result<CardRow, AdminError> {
        let mut db = self.begin().await?;
        let card = self.lock_card(db.conn(), serial).await?;
        if card.state == "storniert" {
            return Err(wrong_state(&card, act.now)?.into());
        }
        let pin = self.inner.pin_key.reveal(&card.serial, &card.pin_sealed)?;
        self.audit(db.conn(), about(act, "card.pin", serial, None, None))
            .await?;
        let mut row = self.answer(db, act.now, serial).await?;
        row.pin = Some(pin.expose().to_owned());
        Ok(row)
    }

    /// Activation by the operator (S20): the line is connected directly at its first call. `take`
    /// moves a line that another card of the project has.
    ///
    /// # Errors
    /// `card_not_found`, `card_state`, `line_refused` (I8), `line_taken`, `lines_full`, `lines_off`.
    pub async fn card_bind(
        &self,
        act: &Act,
        serial: &str,
        line: &E164,
        take: bool,
    ) -> Result<CardRow, AdminError> {
        let mut db = self.begin().await?;
        let card = self.lock_card(db.conn(), serial).await?;
        let state = card_state(&card.state, card.expires_at, act.now)?;
        if !matches!(state, CardState::New | CardState::Active) {
            return Err(wrong_state(&card, act.now)?.into());
        }
        let own = own_number(db.conn(), line).await?;
        binding::may_bind(Some(line), own.as_ref()).map_err(Refusal::Line)?;
        let other: Option<String> = sqlx::query_scalar(
            "SELECT c.serial FROM line_binding b JOIN card c ON c.id = b.card_id
             WHERE b.project_id = $1 AND b.e164 = $2 AND b.removed_at IS NULL AND b.card_id <> $3",
        )
        .bind(card.project_id)
        .bind(line.as_str())
        .bind(card.id)
        .fetch_optional(db.conn())
        .await?;
        if let Some(serial) = other.filter(|_| !take) {
            return Err(Refusal::LineTaken { serial }.into());
        }
        let new = NewBinding {
            card: card.id,
            project: card.project_id,
            line,
            source: "operator",
            actor: &act.actor,
            used_at: None,
            at: act.now,
        };
        match self.remember(db.conn(), &new).await? {
            Placement::Off => return Err(Refusal::LinesOff.into()),
            Placement::Full => {
                let limit: i64 = sqlx::query_scalar("SELECT max_lines FROM project WHERE id = $1")
                    .bind(card.project_id)
                    .fetch_one(db.conn())
                    .await?;
                return Err(Refusal::LinesFull {
                    limit: u32::try_from(limit).unwrap_or(0),
                }
                .into());
            }
            Placement::Kept | Placement::Added | Placement::Replaced => {}
        }
        activate(db.conn(), card.id, act.now).await?;
        let is = serde_json::json!({ "line": line.as_str() });
        self.audit(db.conn(), about(act, "card.bind", serial, None, Some(is)))
            .await?;
        self.answer(db, act.now, serial).await
    }

    /// # Errors
    /// `card_not_found`, `line_not_found`.
    pub async fn card_unbind(&self, act: &Act, serial: &str, line: &E164) -> Result<CardRow, AdminError> {
        let mut db = self.begin().await?;
        let card = self.lock_card(db.conn(), serial).await?;
        let gone = sqlx::query(
            "UPDATE line_binding SET removed_at = $1, removed_by = $2
             WHERE card_id = $3 AND e164 = $4 AND removed_at IS NULL",
        )
        .bind(act.now.as_ms())
        .bind(&act.actor)
        .bind(card.id)
        .bind(line.as_str())
        .execute(db.conn())
        .await?;
        if gone.rows_affected() == 0 {
            return Err(Refusal::not_found("line", line.as_str()).into());
        }
        let was = serde_json::json!({ "line": line.as_str() });
        self.audit(db.conn(), about(act, "card.unbind", serial, Some(was), None))
            .await?;
        self.answer(db, act.now, serial).await
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

    /// Commits, with the card as it is now.
    async fn answer(&self, mut db: super::DbTx, now: UnixTime, serial: &str) -> Result<CardRow, AdminError> {
        let card = card(db.conn(), serial).await?;
        let row = row(db.conn(), card, now).await?;
        db.commit().await?;
        Ok(row)
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
