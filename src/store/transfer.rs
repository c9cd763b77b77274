//! Talk time goes from one card to another of the same project: some of it, or all with the lines.
//! Only what is available goes (I9); what was paid for it goes along, so that a later storno finds it.

use sqlx::AnyConnection;

use super::audit::OPERATOR;
use super::cards::{CardSql, about, card, row, wrong_state};
use super::ledger::{NewEntry, write_entry};
use super::lines::{NewBinding, activate, card_state};
use super::purchase::{remember_answer, replay, valid_minutes};
use super::storno::{available, move_paid, taken};
use super::{Act, AdminError, DbTx, MovedRow, Refusal, Store, StoreFault};
use crate::card::CardState;
use crate::card::binding::Placement;
use crate::units::E164;

impl Store {
    /// Moves `minutes` of the available talk time. The receiving card keeps the later expiry of the
    /// two. Afterwards post `CardChanged` for both.
    ///
    /// # Errors
    /// `card_not_found`, `invalid_to` for the same card, `other_project`, `card_state`,
    /// `invalid_minutes`, `not_available`, `idempotency_key_reused`.
    pub async fn card_transfer(
        &self,
        act: &Act,
        from: &str,
        to: &str,
        minutes: i64,
    ) -> Result<MovedRow, AdminError> {
        valid_minutes(minutes)?;
        let request = format!("{from} {to} {minutes}");
        let mut db = self.begin().await?;
        if let Some(answer) = replay(db.conn(), act, "card.transfer", &request).await? {
            return self.moved_again(db, act, &answer).await;
        }
        let (giver, taker) = self.lock_pair(db.conn(), act, from, to).await?;
        let amount_ms = minutes * 60_000;
        available(&giver, amount_ms)?;
        self.shift(db.conn(), act, &giver, &taker, amount_ms).await?;
        self.tell(db.conn(), act, "card.transfer", (&giver, &taker), amount_ms)
            .await?;
        let answer = format!("{from} {to} {amount_ms}");
        remember_answer(db.conn(), act, &answer).await?;
        self.moved_again(db, act, &answer).await
    }

    /// Moves all that is available, and the remembered lines if asked. The giving card stays, with
    /// its history and what a call has reserved.
    ///
    /// # Errors
    /// As `card_transfer`; `not_available` if there is nothing to move; `lines_full`.
    pub async fn card_merge(
        &self,
        act: &Act,
        from: &str,
        into: &str,
        lines: bool,
    ) -> Result<MovedRow, AdminError> {
        let request = format!("{from} {into} {lines}");
        let mut db = self.begin().await?;
        if let Some(answer) = replay(db.conn(), act, "card.merge", &request).await? {
            return self.moved_again(db, act, &answer).await;
        }
        let (giver, taker) = self.lock_pair(db.conn(), act, from, into).await?;
        let amount_ms = giver.balance_ms - giver.reserved_ms;
        if amount_ms > 0 {
            self.shift(db.conn(), act, &giver, &taker, amount_ms).await?;
        } else if !lines {
            available(&giver, 1)?;
        }
        if lines {
            self.move_lines(db.conn(), act, &giver, &taker).await?;
        }
        self.tell(db.conn(), act, "card.merge", (&giver, &taker), amount_ms)
            .await?;
        let answer = format!("{from} {into} {amount_ms}");
        remember_answer(db.conn(), act, &answer).await?;
        self.moved_again(db, act, &answer).await
    }

    /// Both cards, their rows locked in one order, if talk time may go from the one to the other.
    async fn lock_pair(
        &self,
        conn: &mut AnyConnection,
        act: &Act,
        from: &str,
        to: &str,
    ) -> Result<(CardSql, CardSql), AdminError> {
        sqlx::query(self.locking("SELECT id FROM card WHERE serial IN ($1, $2) ORDER BY id"))
            .bind(from)
            .bind(to)
            .fetch_all(&mut *conn)
            .await?;
        let giver = card(conn, from).await?;
        let taker = card(conn, to).await?;
        if giver.id == taker.id {
            return Err(
                super::projects::invalid("to", to, "the same card", "Beide Karten sind dieselbe.").into(),
            );
        }
        if giver.project_id != taker.project_id {
            return Err(Refusal::OtherProject {
                from: giver.project,
                to: taker.project,
            }
            .into());
        }
        for card in [&giver, &taker] {
            match card_state(&card.state, card.expires_at, act.now)? {
                // A blocked card is what a lost one mostly is by then.
                CardState::New | CardState::Active | CardState::Blocked => {}
                CardState::Expired | CardState::Cancelled => {
                    return Err(wrong_state(card, act.now)?.into());
                }
            }
        }
        Ok((giver, taker))
    }

    /// Two entries, the paid part, and the later expiry.
    async fn shift(
        &self,
        conn: &mut AnyConnection,
        act: &Act,
        giver: &CardSql,
        taker: &CardSql,
        amount_ms: i64,
    ) -> Result<(), StoreFault> {
        let parts = taken(conn, giver, amount_ms).await?;
        let op = self.draw(|ids| ids.op_id().to_string());
        for (card, kind, delta_ms) in [
            (giver, "transfer_out", -amount_ms),
            (taker, "transfer_in", amount_ms),
        ] {
            let entry = NewEntry {
                card: card.id,
                kind,
                delta_ms,
                call: None,
                purchase: None,
                op_key: &format!("{kind}:{op}"),
                actor: &act.actor,
                at: act.now,
            };
            write_entry(conn, &entry).await?;
            for part in &parts {
                move_paid(conn, card.id, part, kind, act).await?;
            }
        }
        let later = match (giver.expires_at, taker.expires_at) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (None, _) | (_, None) => None,
        };
        sqlx::query("UPDATE card SET expires_at = $1 WHERE id = $2")
            .bind(later)
            .bind(taker.id)
            .execute(conn)
            .await?;
        Ok(())
    }

    async fn move_lines(
        &self,
        conn: &mut AnyConnection,
        act: &Act,
        giver: &CardSql,
        taker: &CardSql,
    ) -> Result<(), AdminError> {
        let lines: Vec<(String,)> = sqlx::query_as(
            "SELECT e164 FROM line_binding WHERE card_id = $1 AND removed_at IS NULL ORDER BY id",
        )
        .bind(giver.id)
        .fetch_all(&mut *conn)
        .await?;
        for (e164,) in lines {
            let line = E164::parse(&e164).map_err(|_| StoreFault::damaged(format!("line {e164:?}")))?;
            let new = NewBinding {
                card: taker.id,
                project: taker.project_id,
                line: &line,
                source: "operator",
                actor: &act.actor,
                used_at: None,
                at: act.now,
            };
            match self.remember(conn, &new).await? {
                Placement::Off => return Err(Refusal::LinesOff.into()),
                Placement::Full => return Err(self.lines_full(conn, taker.project_id).await?.into()),
                Placement::Kept | Placement::Added | Placement::Replaced => {}
            }
            let is = serde_json::json!({ "line": line.as_str(), "from": giver.serial });
            self.audit(conn, about(act, "card.bind", &taker.serial, None, Some(is)))
                .await?;
            activate(conn, taker.id, act.now).await?;
        }
        Ok(())
    }

    /// One audit row on each card.
    async fn tell(
        &self,
        conn: &mut AnyConnection,
        act: &Act,
        action: &'static str,
        (giver, taker): (&CardSql, &CardSql),
        amount_ms: i64,
    ) -> Result<(), StoreFault> {
        for (card, key, other) in [(giver, "to", taker), (taker, "from", giver)] {
            let was = serde_json::json!({ "balance_ms": card.balance_ms });
            let is = serde_json::json!({ key: other.serial, "moved_ms": amount_ms });
            self.audit(conn, about(act, action, &card.serial, Some(was), Some(is)))
                .await?;
        }
        Ok(())
    }

    /// Commits, with both cards as they are now.
    async fn moved_again(&self, mut db: DbTx, act: &Act, answer: &str) -> Result<MovedRow, AdminError> {
        let mut words = answer.split(' ');
        let (Some(from), Some(to), Some(Ok(moved_ms))) =
            (words.next(), words.next(), words.next().map(str::parse))
        else {
            return Err(StoreFault::damaged(format!("kept answer {answer:?}")).into());
        };
        let from = card(db.conn(), from).await?;
        let to = card(db.conn(), to).await?;
        let rows = MovedRow {
            moved_ms,
            from: row(db.conn(), from, act.now).await?,
            to: row(db.conn(), to, act.now).await?,
        };
        db.commit().await?;
        Ok(rows)
    }

    pub(super) async fn lines_full(
        &self,
        conn: &mut AnyConnection,
        project: i64,
    ) -> Result<Refusal, StoreFault> {
        let limit: i64 =
            sqlx::query_scalar("SELECT max_lines FROM project WHERE id = $1 AND operator_id = $2")
                .bind(project)
                .bind(OPERATOR)
                .fetch_one(conn)
                .await?;
        Ok(Refusal::LinesFull {
            limit: u32::try_from(limit).unwrap_or(0),
        })
    }
}
