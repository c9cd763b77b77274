//! What an earlier life of this node, or a lost call, left open: ended at its last checkpoint, in
//! the caller's favour (reliability.md R1, section 4).

use std::sync::atomic::Ordering;

use sqlx::AnyConnection;

use super::ledger::Ending;
use super::lines::talk;
use super::projects::tariff_of_project;
use super::{Store, StoreFault};
use crate::now::{Now, UnixTime};

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

/// A reservation that nobody will end any more: row, call, card, project, amount, used.
type Left = (i64, String, i64, i64, i64, i64);

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

    /// Once at start, before the first call and only by the process that serves calls: begins a new
    /// epoch of this node, settles every reservation of an earlier one at its last checkpoint and
    /// closes the CDRs. A second run finds nothing.
    ///
    /// # Errors
    /// The database's; then nothing was changed.
    pub async fn recover(&self, now: Now) -> Result<Recovered, StoreFault> {
        let now = now.wall;
        let mut db = self.begin().await?;
        let epoch: i64 = sqlx::query_scalar(
            "INSERT INTO node (name, epoch, started_at) VALUES ($1, 1, $2)
             ON CONFLICT (name) DO UPDATE SET epoch = node.epoch + 1, started_at = $2 RETURNING epoch",
        )
        .bind(&self.inner.node)
        .bind(now.as_ms())
        .fetch_one(db.conn())
        .await?;
        let left: Vec<Left> = sqlx::query_as(self.locking(
            "SELECT r.id, r.call, r.card_id, c.project_id, r.amount_ms, r.used_ms
             FROM reservation r JOIN card c ON c.id = r.card_id
             WHERE r.state = 'open' AND r.node = $1 AND r.epoch < $2 ORDER BY r.id",
        ))
        .bind(&self.inner.node)
        .bind(epoch)
        .fetch_all(db.conn())
        .await?;
        let mut done = self.end_all(db.conn(), left, now, "recovery").await?;
        let closed = sqlx::query(CLOSE_CDRS)
            .bind(now.as_ms())
            .bind(&self.inner.node)
            .bind(epoch)
            .execute(db.conn())
            .await?;
        done.calls = closed.rows_affected();
        db.commit().await?;
        self.inner.epoch.store(epoch, Ordering::SeqCst);
        Ok(done)
    }

    /// Every 30 s or so: ends reservations of any node that are past `valid_until` by 30 s. The CDR
    /// of a call that still lives is left to it.
    ///
    /// # Errors
    /// The database's; then nothing was changed.
    pub async fn expire(&self, now: Now) -> Result<Recovered, StoreFault> {
        let now = now.wall;
        let mut db = self.begin().await?;
        let left: Vec<Left> = sqlx::query_as(self.locking(
            "SELECT r.id, r.call, r.card_id, c.project_id, r.amount_ms, r.used_ms
             FROM reservation r JOIN card c ON c.id = r.card_id
             WHERE r.state = 'open' AND r.valid_until + $1 < $2 ORDER BY r.id LIMIT 500",
        ))
        .bind(GRACE_MS)
        .bind(now.as_ms())
        .fetch_all(db.conn())
        .await?;
        let done = self.end_all(db.conn(), left, now, "expiry").await?;
        db.commit().await?;
        Ok(done)
    }

    async fn end_all(
        &self,
        conn: &mut AnyConnection,
        left: Vec<Left>,
        now: UnixTime,
        actor: &'static str,
    ) -> Result<Recovered, StoreFault> {
        let mut done = Recovered::default();
        for (reservation, call, card, project, amount, used) in left {
            let tariff = tariff_of_project(conn, project).await?;
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
    billed_ms = COALESCE((SELECT CAST(SUM(r.billed_ms) AS BIGINT) FROM reservation r WHERE r.call = call.id), 0)
    WHERE ended_at IS NULL AND node = $2 AND epoch < $3";
