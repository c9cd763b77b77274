//! Lines and PINs: who is known, which PIN is right, which line is remembered.

use sqlx::AnyConnection;

use super::audit::NewAudit;
use super::guard::locked;
use super::{Store, StoreFault};
use crate::card::binding::{self, Placement};
use crate::card::{BindVerdict, CardFacts, CardState, LedgerReply, LineVerdict, PinVerdict};
use crate::ids::{CallKey, CardId, OpId, ProjectId};
use crate::now::{Now, UnixTime};
use crate::secret::Pin;
use crate::units::{E164, TalkTime};

/// Talk time of a column.
pub(super) fn talk(ms: i64) -> TalkTime {
    TalkTime::from_ms(ms)
}

/// The state of a stored word; a card whose day has ended is expired without anyone writing it.
pub(super) fn card_state(
    word: &str,
    expires_at: Option<i64>,
    now: UnixTime,
) -> Result<CardState, StoreFault> {
    let over = expires_at.is_some_and(|at| at <= now.as_ms());
    match word {
        "neu" | "freigeschaltet" if over => Ok(CardState::Expired),
        "neu" => Ok(CardState::New),
        "freigeschaltet" => Ok(CardState::Active),
        "abgelaufen" => Ok(CardState::Expired),
        "gesperrt" => Ok(CardState::Blocked),
        "storniert" => Ok(CardState::Cancelled),
        other => Err(StoreFault::damaged(format!("card state {other:?}"))),
    }
}

/// A line to be remembered for a card.
pub(super) struct NewBinding<'a> {
    pub card: i64,
    pub project: i64,
    pub line: &'a E164,
    pub source: &'static str,
    pub actor: &'a str,
    /// First use, if the line is on the phone right now.
    pub used_at: Option<i64>,
    pub at: UnixTime,
}

impl Store {
    pub(super) async fn find_line(
        &self,
        now: Now,
        project: ProjectId,
        line: &E164,
    ) -> Result<LedgerReply, StoreFault> {
        let steady = self.steady(now).await?;
        let now = now.wall;
        let mut conn = self.pool().acquire().await?;
        let card: Option<i64> = sqlx::query_scalar(
            "SELECT card_id FROM line_binding WHERE project_id = $1 AND e164 = $2 AND removed_at IS NULL",
        )
        .bind(project.get())
        .bind(line.as_str())
        .fetch_optional(&mut *conn)
        .await?;
        // A bound line stays served even while guesses from it are locked out.
        let verdict = match card {
            Some(card) => LineVerdict::Known(Box::new(facts(&mut conn, card, Some(line), now).await?)),
            None => {
                let hash = self.inner.pin_key.line(line.as_str());
                match locked(&mut conn, &hash, steady).await? {
                    true => LineVerdict::Locked,
                    false => LineVerdict::Unknown,
                }
            }
        };
        Ok(LedgerReply::Line(verdict))
    }

    /// A wrong PIN that is asked about twice in a call counts once. Under alarm a stranger's try out of
    /// turn is not looked at: it sounds locked, right or wrong.
    pub(super) async fn check_pin(
        &self,
        now: Now,
        call: CallKey,
        project: ProjectId,
        pin: &Pin,
        line: Option<&E164>,
    ) -> Result<LedgerReply, StoreFault> {
        let steady = self.steady(now).await?;
        let now = now.wall;
        let key = &self.inner.pin_key;
        let call = call.to_string();
        let line_hash = line.map(|line| key.line(line.as_str()));
        let guess = key.guess(&call, pin);
        let mut db = self.begin().await?;
        // Looked up in any case, so that the answer takes as long.
        let card: Option<i64> = sqlx::query_scalar(
            "SELECT id FROM card WHERE pin_hash = $1 AND project_id = $2 AND state <> 'storniert'",
        )
        .bind(key.look_up(pin))
        .bind(project.get())
        .fetch_optional(db.conn())
        .await?;
        let earlier: Option<String> =
            sqlx::query_scalar("SELECT outcome FROM pin_attempt WHERE call = $1 AND guess_hash = $2")
                .bind(&call)
                .bind(&guess)
                .fetch_optional(db.conn())
                .await?;
        let mut shut = match &line_hash {
            Some(hash) => locked(db.conn(), hash, steady).await?,
            None => false,
        };
        if earlier.is_none() && !shut && self.capped(db.conn(), project.get(), line, steady).await? {
            return Ok(LedgerReply::Pin(PinVerdict::Locked));
        }
        let outcome = match (earlier.as_deref(), shut, card) {
            (Some("right"), _, Some(_)) => "right",
            (_, true, _) => "locked",
            (_, false, Some(_)) => "right",
            (_, false, None) => "wrong",
        };
        sqlx::query(
            "INSERT INTO pin_attempt (project_id, call, line_hash, guess_hash, outcome, at)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (call, guess_hash) DO NOTHING",
        )
        .bind(project.get())
        .bind(&call)
        .bind(&line_hash)
        .bind(&guess)
        .bind(outcome)
        .bind(steady.as_ms())
        .execute(db.conn())
        .await?;
        if outcome == "wrong" {
            self.count_wrong(db.conn(), project.get(), steady).await?;
            if let Some(hash) = &line_hash {
                shut = locked(db.conn(), hash, steady).await?;
            }
        }
        let verdict = match card {
            Some(card) if outcome == "right" => {
                PinVerdict::Right(Box::new(facts(db.conn(), card, line, now).await?))
            }
            _ if shut => PinVerdict::Locked,
            _ => PinVerdict::Wrong,
        };
        db.commit().await?;
        Ok(LedgerReply::Pin(verdict))
    }

    pub(super) async fn bind(
        &self,
        now: Now,
        op: OpId,
        call: CallKey,
        card: CardId,
        line: Option<&E164>,
    ) -> Result<LedgerReply, StoreFault> {
        let op = op.to_string();
        let mut db = self.begin().await?;
        self.fence(db.conn(), now).await?;
        let now = now.wall;
        type Row = (i64, String, String, i64, Option<i64>);
        let row: Option<Row> = sqlx::query_as(
            self.locking("SELECT project_id, serial, state, balance_ms, expires_at FROM card WHERE id = $1"),
        )
        .bind(card.get())
        .fetch_optional(db.conn())
        .await?;
        let Some((project, serial, word, balance, expires_at)) = row else {
            return Ok(LedgerReply::Bound(BindVerdict::NotBound));
        };
        // Behind the lock: the first try may still be at work when the second comes.
        let stored: Option<Option<String>> = sqlx::query_scalar("SELECT after FROM audit WHERE op_key = $1")
            .bind(&op)
            .fetch_optional(db.conn())
            .await?;
        if let Some(after) = stored {
            let bound = after.is_some_and(|json| json.contains("\"bound\":true"));
            return Ok(LedgerReply::Bound(verdict(bound)));
        }
        // Nothing is remembered for a card that would not have passed CHECK (I8).
        let state = card_state(&word, expires_at, now)?;
        if !matches!(state, CardState::New | CardState::Active) || balance <= 0 {
            return Ok(LedgerReply::Bound(BindVerdict::NotBound));
        }
        activate(db.conn(), card.get(), now).await?;
        let actor = format!("call:{call}");
        let placed = match line {
            Some(line) => {
                let new = NewBinding {
                    card: card.get(),
                    project,
                    line,
                    source: "pin",
                    actor: &actor,
                    used_at: Some(now.as_ms()),
                    at: now,
                };
                self.remember(db.conn(), &new).await?
            }
            None => Placement::Off,
        };
        let bound = !matches!(placed, Placement::Off | Placement::Full);
        self.audit(
            db.conn(),
            NewAudit {
                at: now,
                actor: &actor,
                action: "card.activate",
                subject: &serial,
                before: Some(serde_json::json!({ "state": word }).to_string()),
                after: Some(
                    serde_json::json!({ "bound": bound, "line": line.filter(|_| bound).map(E164::as_str) })
                        .to_string(),
                ),
                op_key: Some(&op),
            },
        )
        .await?;
        db.commit().await?;
        Ok(LedgerReply::Bound(verdict(bound)))
    }

    /// Remembers the line under policy A3. A line that the rules forbid is `Off`.
    pub(super) async fn remember(
        &self,
        conn: &mut AnyConnection,
        new: &NewBinding<'_>,
    ) -> Result<Placement, StoreFault> {
        let own = own_number(conn, new.line).await?;
        if binding::may_bind(Some(new.line), own.as_ref()).is_err() {
            return Ok(Placement::Off);
        }
        let (limit,): (i64,) = sqlx::query_as("SELECT max_lines FROM project WHERE id = $1")
            .bind(new.project)
            .fetch_one(&mut *conn)
            .await?;
        let lines: Vec<(String,)> =
            sqlx::query_as("SELECT e164 FROM line_binding WHERE card_id = $1 AND removed_at IS NULL")
                .bind(new.card)
                .fetch_all(&mut *conn)
                .await?;
        let bound_already = lines.iter().any(|(e164,)| e164 == new.line.as_str());
        let placed = binding::place(
            u32::try_from(limit).unwrap_or(0),
            u32::try_from(lines.len()).unwrap_or(u32::MAX),
            bound_already,
        );
        match placed {
            Placement::Off | Placement::Full => return Ok(placed),
            Placement::Kept => {
                if let Some(used_at) = new.used_at {
                    touch(conn, new, used_at).await?;
                }
                return Ok(placed);
            }
            Placement::Replaced => {
                sqlx::query(
                    "UPDATE line_binding SET removed_at = $1, removed_by = $2
                     WHERE card_id = $3 AND removed_at IS NULL",
                )
                .bind(new.at.as_ms())
                .bind(new.actor)
                .bind(new.card)
                .execute(&mut *conn)
                .await?;
            }
            Placement::Added => {}
        }
        insert_binding(conn, new).await?;
        Ok(placed)
    }

    pub(super) async fn read_card(
        &self,
        now: UnixTime,
        call: CallKey,
        card: CardId,
    ) -> Result<LedgerReply, StoreFault> {
        let mut conn = self.pool().acquire().await?;
        let facts = self.card_for_call(&mut conn, now, call, card).await?;
        Ok(LedgerReply::Card(Box::new(facts)))
    }

    /// The card as the call may see it: whether its own line is bound.
    pub(super) async fn card_for_call(
        &self,
        conn: &mut AnyConnection,
        now: UnixTime,
        call: CallKey,
        card: CardId,
    ) -> Result<CardFacts, StoreFault> {
        let caller: Option<Option<String>> = sqlx::query_scalar("SELECT caller FROM call WHERE id = $1")
            .bind(call.to_string())
            .fetch_optional(&mut *conn)
            .await?;
        let line = caller.flatten().and_then(|text| E164::parse(&text).ok());
        facts(conn, card.get(), line.as_ref(), now).await
    }
}

fn verdict(bound: bool) -> BindVerdict {
    match bound {
        true => BindVerdict::Bound,
        false => BindVerdict::NotBound,
    }
}

/// A line may be bound once per project (I7): another card's binding makes way.
async fn insert_binding(conn: &mut AnyConnection, new: &NewBinding<'_>) -> Result<(), StoreFault> {
    sqlx::query(
        "UPDATE line_binding SET removed_at = $1, removed_by = $2
         WHERE project_id = $3 AND e164 = $4 AND removed_at IS NULL",
    )
    .bind(new.at.as_ms())
    .bind(new.actor)
    .bind(new.project)
    .bind(new.line.as_str())
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "INSERT INTO line_binding (card_id, project_id, e164, source, bound_at, first_use_at, last_use_at)
         VALUES ($1, $2, $3, $4, $5, $6, $6)",
    )
    .bind(new.card)
    .bind(new.project)
    .bind(new.line.as_str())
    .bind(new.source)
    .bind(new.at.as_ms())
    .bind(new.used_at)
    .execute(conn)
    .await?;
    Ok(())
}

async fn touch(conn: &mut AnyConnection, new: &NewBinding<'_>, used_at: i64) -> Result<(), StoreFault> {
    sqlx::query(
        "UPDATE line_binding SET first_use_at = COALESCE(first_use_at, $1), last_use_at = $1
         WHERE card_id = $2 AND e164 = $3 AND removed_at IS NULL",
    )
    .bind(used_at)
    .bind(new.card)
    .bind(new.line.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes a new card an active one; an active one stays so.
pub(super) async fn activate(conn: &mut AnyConnection, card: i64, now: UnixTime) -> Result<(), StoreFault> {
    sqlx::query(
        "UPDATE card SET state = 'freigeschaltet', activated_at = COALESCE(activated_at, $1)
         WHERE id = $2 AND state = 'neu'",
    )
    .bind(now.as_ms())
    .bind(card)
    .execute(conn)
    .await?;
    Ok(())
}

/// `line`, if it is one that our trunks deliver.
pub(super) async fn own_number(conn: &mut AnyConnection, line: &E164) -> Result<Option<E164>, StoreFault> {
    let own: Option<i64> = sqlx::query_scalar("SELECT id FROM number WHERE e164 = $1 AND removed_at IS NULL")
        .bind(line.as_str())
        .fetch_optional(conn)
        .await?;
    Ok(own.map(|_| line.clone()))
}

/// What a call needs to know of a card.
async fn facts(
    conn: &mut AnyConnection,
    card: i64,
    line: Option<&E164>,
    now: UnixTime,
) -> Result<CardFacts, StoreFault> {
    type Row = (i64, String, String, String, i64, i64, Option<i64>, i64, i64, i64);
    let row: Option<Row> = sqlx::query_as(
        "SELECT project_id, serial, note, state, balance_ms, reserved_ms, expires_at, max_parallel, open_calls,
            (SELECT COUNT(*) FROM line_binding b
             WHERE b.card_id = card.id AND b.e164 = $2 AND b.removed_at IS NULL)
         FROM card WHERE id = $1",
    )
    .bind(card)
    .bind(line.map(E164::as_str))
    .fetch_optional(conn)
    .await?;
    let Some((project, serial, note, word, balance, reserved, expires_at, max_parallel, open_calls, bound)) =
        row
    else {
        return Err(StoreFault::damaged(format!("no card with id {card}")));
    };
    Ok(CardFacts {
        card: CardId::new(card),
        project: ProjectId::new(project),
        serial,
        note,
        state: card_state(&word, expires_at, now)?,
        balance: talk(balance),
        reserved: talk(reserved),
        expires_at: expires_at.map(UnixTime::from_ms),
        max_parallel: u32::try_from(max_parallel).unwrap_or(1),
        open_calls: u32::try_from(open_calls).unwrap_or(u32::MAX),
        bound: bound > 0,
    })
}
