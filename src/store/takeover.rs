//! What dead nodes left open, settled by any living one (reliability.md R15): at the last checkpoint,
//! in chunks, once. A second taker, or one that died halfway, does no harm.

use sqlx::AssertSqlSafe;

use super::node::{MARGIN, millis};
use super::recovery::{Left, Recovered, close_cdrs};
use super::{Dialect, Store, StoreFault};
use crate::now::Now;

/// Reservations of one `db_tx`.
const CHUNK: i64 = 100;

impl Store {
    /// Fences every node whose lease is over by 2 s, and settles what it left. Every few seconds, on
    /// each node; gives what this call has ended.
    ///
    /// # Errors
    /// The database's; the next call goes on where this one stopped.
    pub async fn take_over(&self, now: Now) -> Result<Recovered, StoreFault> {
        let mut all = Recovered::default();
        if !self.is_leased() {
            return Ok(all);
        }
        self.fence_dead().await?;
        loop {
            let (done, found) = self.end_chunk(now).await?;
            all.reservations += done.reservations;
            all.calls += done.calls;
            all.billed_ms = all.billed_ms.saturating_add(done.billed_ms);
            if found < CHUNK {
                break;
            }
        }
        all.calls += self.close_left(now).await?;
        Ok(all)
    }

    /// From here on a dead node that wakes up is told that its epoch is over.
    async fn fence_dead(&self) -> Result<(), StoreFault> {
        let fenced: Vec<(String, i64)> = sqlx::query_as(self.timed(
            "UPDATE node SET epoch = epoch + 1, expires_at = 0
             WHERE name <> $1 AND expires_at > 0 AND expires_at + $2 < {clock} RETURNING name, epoch",
        ))
        .bind(&self.inner.node)
        .bind(millis(MARGIN))
        .fetch_all(self.pool())
        .await?;
        for (node, epoch) in fenced {
            tracing::warn!(node, epoch, "a node is dead: its calls are settled here");
        }
        Ok(())
    }

    /// Ends a chunk of what is open below the epoch of a node without a lease; a node that has come
    /// back looks after its own.
    async fn end_chunk(&self, now: Now) -> Result<(Recovered, i64), StoreFault> {
        let skip = match self.inner.dialect {
            Dialect::Sqlite => "",
            Dialect::Postgres => " FOR UPDATE OF r SKIP LOCKED",
        };
        let mut db = self.begin().await?;
        let left: Vec<Left> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT r.id, r.call, r.card_id, c.project_id, r.amount_ms, r.used_ms
             FROM reservation r JOIN card c ON c.id = r.card_id JOIN node n ON n.name = r.node
             WHERE r.state = 'open' AND r.node <> $1 AND {DEAD} ORDER BY r.card_id, r.id LIMIT $2{skip}"
        )))
        .bind(&self.inner.node)
        .bind(CHUNK)
        .fetch_all(db.conn())
        .await?;
        let found = i64::try_from(left.len()).unwrap_or(CHUNK);
        let calls: Vec<String> = left.iter().map(|left| left.1.clone()).collect();
        let mut done = self.end_all(db.conn(), left, now.wall, "takeover").await?;
        for call in calls {
            let closed = sqlx::query(close_cdrs(
                "id = $2 AND NOT EXISTS (SELECT 1 FROM reservation r WHERE r.call = $2 AND r.state = 'open')",
            ))
            .bind(now.wall.as_ms())
            .bind(call)
            .execute(db.conn())
            .await?;
            done.calls += closed.rows_affected();
        }
        db.commit().await?;
        Ok((done, found))
    }

    /// CDRs of calls that had nothing open (any more).
    async fn close_left(&self, now: Now) -> Result<u64, StoreFault> {
        let mut db = self.begin().await?;
        let closed = sqlx::query(close_cdrs(
            "node <> $2 AND EXISTS (SELECT 1 FROM node n WHERE n.name = call.node
                AND call.epoch < n.epoch AND n.expires_at = 0)
             AND NOT EXISTS (SELECT 1 FROM reservation r WHERE r.call = call.id AND r.state = 'open')",
        ))
        .bind(now.wall.as_ms())
        .bind(&self.inner.node)
        .execute(db.conn())
        .await?;
        db.commit().await?;
        Ok(closed.rows_affected())
    }
}

/// The row's epoch is over and nobody holds the node's lease.
const DEAD: &str = "r.epoch < n.epoch AND n.expires_at = 0";
