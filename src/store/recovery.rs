//! What an earlier life of this node, or a lost call, left open: ended at its last checkpoint, in
//! the caller's favour (reliability.md R1, section 4).

use std::sync::atomic::Ordering;

use sqlx::{AnyConnection, AssertSqlSafe};

use super::ledger::{Ending, VALIDITY_MS};
use super::lines::talk;
use super::{Store, StoreFault, terms};
use crate::card::ledger::{Adopted, Reservation};
use crate::card::tariff::Tariff;
use crate::card::{CardFacts, Settlement};
use crate::ids::{CallKey, CardId};
use crate::now::{Now, UnixTime};
use crate::units::TalkTime;

/// Beyond `valid_until` no reservation may stay open for longer (I5).
const GRACE_MS: i64 = crate::card::ledger::GRACE.as_ms();

/// What `recover` or `expire` ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub reservations: u64,
    /// CDRs closed as `crash_recovered`.
    pub calls: u64,
    /// Charged, in milliseconds.
    pub billed_ms: i64,
}

/// What `recover` found.
#[derive(Debug)]
pub struct Recovery {
    pub ended: Recovered,
    /// What calls may go on with. Each must be put to use or ended ([`Store::give_up`], or settled).
    pub adopted: Vec<Adopted>,
}

/// An adopted reservation before the commit: a token would have to be settled if that failed.
struct Kept {
    call: CallKey,
    amount: i64,
    used: i64,
    card: CardFacts,
    tariff: Tariff,
}

impl Kept {
    fn into_adopted(self) -> Adopted {
        let last = self.card.available() <= TalkTime::ZERO;
        Adopted {
            reservation: Reservation::granted(self.call, self.card.card, talk(self.amount), last),
            used: talk(self.used),
            card: Box::new(self.card),
            tariff: self.tariff,
        }
    }
}

/// A reservation that nobody will end any more: row, call, card, project, amount, used.
pub(super) type Left = (i64, String, i64, i64, i64, i64);

impl Store {
    /// The epoch that this node's rows carry; raised by `recover`.
    pub(super) async fn read_epoch(&self) -> Result<(), StoreFault> {
        let epoch: Option<i64> = sqlx::query_scalar("SELECT epoch FROM node WHERE name = $1")
            .bind(&self.inner.node)
            .fetch_optional(self.pool())
            .await?;
        self.inner.epoch.store(epoch.unwrap_or(0), Ordering::SeqCst);
        Ok(())
    }

    /// Once at start, after `claim`, before the first call and only by the process that serves calls
    /// (without a claim it begins a new epoch of this node itself). Reservations of an earlier one go over to it if their calls are among
    /// `restorable`, and stay open; all others are settled at their last checkpoint, and their CDRs
    /// closed. A call that has no open reservation or whose CDR is closed is not adopted. A second run
    /// finds nothing.
    ///
    /// # Errors
    /// The database's; then nothing was changed.
    pub async fn recover(&self, now: Now, restorable: &[CallKey]) -> Result<Recovery, StoreFault> {
        let mut db = self.begin().await?;
        self.fence(db.conn(), now).await?;
        let epoch = self.new_epoch(db.conn(), now.wall).await?;
        let mut kept = Vec::new();
        for call in restorable {
            kept.extend(self.adopt(db.conn(), now, epoch, *call).await?);
        }
        let now = now.wall;
        let left: Vec<Left> = sqlx::query_as(self.locking(
            "SELECT r.id, r.call, r.card_id, c.project_id, r.amount_ms, r.used_ms
             FROM reservation r JOIN card c ON c.id = r.card_id
             WHERE r.state = 'open' AND r.node = $1 AND r.epoch < $2 ORDER BY r.id",
        ))
        .bind(&self.inner.node)
        .bind(epoch)
        .fetch_all(db.conn())
        .await?;
        let mut ended = self.end_all(db.conn(), left, now, "recovery").await?;
        let closed = sqlx::query(close_cdrs("node = $2 AND epoch < $3"))
            .bind(now.as_ms())
            .bind(&self.inner.node)
            .bind(epoch)
            .execute(db.conn())
            .await?;
        ended.calls = closed.rows_affected();
        db.commit().await?;
        self.inner.epoch.store(epoch, Ordering::SeqCst);
        let adopted = kept.into_iter().map(Kept::into_adopted).collect();
        Ok(Recovery { ended, adopted })
    }

    /// The one that was claimed, or, without leases, the next.
    async fn new_epoch(&self, conn: &mut AnyConnection, now: UnixTime) -> Result<i64, StoreFault> {
        if self.is_claimed() {
            return Ok(self.epoch());
        }
        Ok(sqlx::query_scalar(
            "INSERT INTO node (name, epoch, started_at) VALUES ($1, 1, $2)
             ON CONFLICT (name) DO UPDATE SET epoch = node.epoch + 1, started_at = $2 RETURNING epoch",
        )
        .bind(&self.inner.node)
        .bind(now.as_ms())
        .fetch_one(conn)
        .await?)
    }

    /// Moves what a call has open to `epoch`, and its CDR with it.
    async fn adopt(
        &self,
        conn: &mut AnyConnection,
        now: Now,
        epoch: i64,
        key: CallKey,
    ) -> Result<Vec<Kept>, StoreFault> {
        let call = key.to_string();
        let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
            "UPDATE reservation SET epoch = $1, valid_until = $2 + amount_ms - used_ms
             WHERE call = $3 AND state = 'open' AND node = $4 AND epoch < $1
                AND NOT EXISTS (SELECT 1 FROM call k WHERE k.id = $3 AND k.ended_at IS NOT NULL)
             RETURNING card_id, amount_ms, used_ms",
        )
        .bind(epoch)
        .bind(self.clock_ms(now).saturating_add(VALIDITY_MS))
        .bind(&call)
        .bind(&self.inner.node)
        .fetch_all(&mut *conn)
        .await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        sqlx::query("UPDATE call SET epoch = $1 WHERE id = $2")
            .bind(epoch)
            .bind(&call)
            .execute(&mut *conn)
            .await?;
        let mut kept = Vec::with_capacity(rows.len());
        for (card, amount, used) in rows {
            let card = self.card_for_call(conn, now.wall, key, CardId::new(card)).await?;
            let tariff = terms::of_call(conn, &call, card.project.get()).await?;
            kept.push(Kept {
                call: key,
                amount,
                used,
                card,
                tariff,
            });
        }
        Ok(kept)
    }

    /// For adopted calls that cannot go on after all: settles them at their last checkpoint and closes
    /// their CDRs, as `recover` would have done.
    ///
    /// # Errors
    /// The database's; then nothing was changed, and the next `recover` does it.
    pub async fn give_up(&self, now: Now, adopted: Vec<Adopted>) -> Result<Recovered, StoreFault> {
        let now = now.wall;
        // The rows stand for the tokens from here on.
        let orders: Vec<Settlement> = adopted.into_iter().map(Adopted::settle).collect();
        let mut db = self.begin().await?;
        let mut ended = Recovered::default();
        for order in orders {
            let call = order.call.to_string();
            let left: Vec<Left> = sqlx::query_as(self.locking(
                "SELECT r.id, r.call, r.card_id, c.project_id, r.amount_ms, r.used_ms
                 FROM reservation r JOIN card c ON c.id = r.card_id
                 WHERE r.state = 'open' AND r.call = $1 AND r.card_id = $2",
            ))
            .bind(&call)
            .bind(order.card.get())
            .fetch_all(db.conn())
            .await?;
            let done = self.end_all(db.conn(), left, now, "recovery").await?;
            let closed = sqlx::query(close_cdrs(
                "id = $2 AND NOT EXISTS (SELECT 1 FROM reservation r WHERE r.call = $2 AND r.state = 'open')",
            ))
            .bind(now.as_ms())
            .bind(&call)
            .execute(db.conn())
            .await?;
            ended.reservations += done.reservations;
            ended.billed_ms = ended.billed_ms.saturating_add(done.billed_ms);
            ended.calls += closed.rows_affected();
        }
        db.commit().await?;
        Ok(ended)
    }

    /// Every 30 s or so: ends reservations of any node that are past `valid_until` by 30 s, by the
    /// database's clock where there are leases. The CDR
    /// of a call that still lives is left to it.
    ///
    /// # Errors
    /// The database's; then nothing was changed.
    pub async fn expire(&self, now: Now) -> Result<Recovered, StoreFault> {
        let now = now.wall;
        let mut db = self.begin().await?;
        let clock = self.database_ms(db.conn(), now.as_ms()).await?;
        let left: Vec<Left> = sqlx::query_as(self.locking(
            "SELECT r.id, r.call, r.card_id, c.project_id, r.amount_ms, r.used_ms
             FROM reservation r JOIN card c ON c.id = r.card_id
             WHERE r.state = 'open' AND r.id IN (SELECT o.id FROM reservation o
                WHERE o.state = 'open' AND o.valid_until < $1 ORDER BY o.valid_until LIMIT 500)
             ORDER BY r.id",
        ))
        .bind(clock.saturating_sub(GRACE_MS))
        .fetch_all(db.conn())
        .await?;
        let done = self.end_all(db.conn(), left, now, "expiry").await?;
        db.commit().await?;
        Ok(done)
    }

    pub(super) async fn end_all(
        &self,
        conn: &mut AnyConnection,
        left: Vec<Left>,
        now: UnixTime,
        actor: &'static str,
    ) -> Result<Recovered, StoreFault> {
        let mut done = Recovered::default();
        for (reservation, call, card, project, amount, used) in left {
            let tariff = terms::of_call(conn, &call, project).await?;
            // Never past the checkpoint, not even by rounding; short talk stays free.
            let billed = tariff.bill(talk(used), talk(amount)).min(talk(used)).as_ms();
            let ending = Ending {
                reservation,
                call: &call,
                card,
                amount,
                raw: used,
                billed,
                expired: true,
                actor,
                at: now,
            };
            if !self.end_reservation(conn, &ending).await? {
                continue;
            }
            done.reservations += 1;
            done.billed_ms = done.billed_ms.saturating_add(billed);
        }
        Ok(done)
    }
}

/// CDRs of calls that died with their process, after their reservations were ended: each talked up
/// to its last sign of life (a settlement, else a checkpoint) and is charged what its reservations were.
pub(super) fn close_cdrs(which: &'static str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("{CLOSE_CDRS} WHERE ended_at IS NULL AND {which}"))
}

const CLOSE_CDRS: &str = "UPDATE call SET
    end_cause = 'crash_recovered',
    ended_at = (SELECT CASE
            WHEN MAX(CASE WHEN r.state = 'expired' THEN COALESCE(r.checkpoint_at, r.opened_at)
                ELSE r.ended_at END) >= call.invited_at
            THEN MAX(CASE WHEN r.state = 'expired' THEN COALESCE(r.checkpoint_at, r.opened_at)
                ELSE r.ended_at END)
            WHEN call.invited_at > $1 THEN call.invited_at ELSE $1 END
        FROM reservation r WHERE r.call = call.id),
    card_id = COALESCE(card_id, (SELECT MAX(r.card_id) FROM reservation r WHERE r.call = call.id)),
    bridged_at = COALESCE(bridged_at,
        (SELECT CASE
            WHEN MIN(CASE WHEN r.state = 'expired' THEN COALESCE(r.checkpoint_at, r.opened_at)
                ELSE r.ended_at END - r.raw_ms) >= call.invited_at
            THEN MIN(CASE WHEN r.state = 'expired' THEN COALESCE(r.checkpoint_at, r.opened_at)
                ELSE r.ended_at END - r.raw_ms)
            WHEN COUNT(*) > 0 THEN call.invited_at END
        FROM reservation r WHERE r.call = call.id AND (r.used_ms > 0 OR r.billed_ms > 0))),
    raw_ms = COALESCE((SELECT CAST(SUM(r.raw_ms) AS BIGINT) FROM reservation r WHERE r.call = call.id), 0),
    billed_ms = COALESCE((SELECT CAST(SUM(r.billed_ms) AS BIGINT) FROM reservation r WHERE r.call = call.id), 0)";
