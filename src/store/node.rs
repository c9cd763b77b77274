//! Node leases (reliability.md section 5): which process may write for calls. A lease stands in the
//! node's row, by the database's clock; the node itself stops earlier, by its monotonic clock. On
//! SQLite the lock on the file is the lease, and the row only counts epochs.
//!
//! ```text
//! claim -> renew every 3 s -> give back
//!            |  0 rows, or no answer until the deadline: fenced, nothing is granted any more
//! ```

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe};

use super::{Dialect, Store, StoreFault};
use crate::now::{Instant, Now};

/// How long a lease lives without renewal, by the database's clock.
pub const TTL: Duration = Duration::from_secs(10);
/// A node stops this much before its lease ends, and others wait as long after it has.
pub const MARGIN: Duration = Duration::from_secs(2);

/// What this process knows of its lease.
#[derive(Debug, Default)]
pub(super) struct LeaseState {
    /// From the first claim on; before it (tests, tools) nothing is fenced.
    claimed: AtomicBool,
    /// Monotonic nanoseconds after which nothing is granted.
    deadline: AtomicU64,
    /// The database's clock minus the monotonic one, in milliseconds.
    offset: AtomicI64,
}

/// A node as its row shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct NodeRow {
    pub node: String,
    pub epoch: i64,
    /// Milliseconds that its lease lives on; below zero: dead since, `None`: given back.
    pub lease_ms: Option<i64>,
    /// Open reservations.
    pub calls: i64,
}

impl Dialect {
    /// The database's own clock in milliseconds since 1970.
    pub(super) const fn clock(self) -> &'static str {
        match self {
            Dialect::Sqlite => "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS BIGINT)",
            Dialect::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// Stands at the end of a SELECT of a row whose key must not change in this `db_tx`.
    const fn key_lock(self) -> &'static str {
        match self {
            Dialect::Sqlite => "",
            Dialect::Postgres => " FOR KEY SHARE",
        }
    }
}

impl Store {
    /// Takes the lease of this node's name and begins a new epoch. `instance`: the secret of this
    /// machine's lock file, which proves that an earlier process with the same one is dead.
    ///
    /// # Errors
    /// [`StoreFault::NodeHeld`] while another machine's lease on the name lives; the database's.
    pub async fn claim(&self, sent: Now, instance: &str) -> Result<i64, StoreFault> {
        let dialect = self.inner.dialect;
        // Nobody else can have the file's lock.
        let alone = i64::from(dialect == Dialect::Sqlite);
        let mut db = self.begin().await?;
        let row: Option<(i64, i64)> = sqlx::query_as(self.timed(
            "INSERT INTO node (name, epoch, started_at, expires_at, instance)
             VALUES ($1, 1, $2, {clock} + $3, $4)
             ON CONFLICT (name) DO UPDATE SET
                epoch = node.epoch + 1, started_at = $2, expires_at = {clock} + $3, instance = $4
             WHERE node.expires_at < {clock} OR node.instance = $4 OR $5 = 1
             RETURNING epoch, {clock}",
        ))
        .bind(&self.inner.node)
        .bind(sent.wall.as_ms())
        .bind(millis(TTL))
        .bind(instance)
        .bind(alone)
        .fetch_optional(db.conn())
        .await?;
        let Some((epoch, clock)) = row else {
            let left: i64 =
                sqlx::query_scalar(self.timed("SELECT expires_at - {clock} FROM node WHERE name = $1"))
                    .bind(&self.inner.node)
                    .fetch_one(db.conn())
                    .await?;
            return Err(StoreFault::NodeHeld {
                node: self.inner.node.clone(),
                seconds: left.max(0) / 1000 + 1,
            });
        };
        db.commit().await?;
        self.inner.epoch.store(epoch, Ordering::SeqCst);
        self.inner.lease.granted(sent.mono, clock);
        Ok(epoch)
    }

    /// Renews the lease; `sent` was read before.
    ///
    /// # Errors
    /// [`StoreFault::Fenced`]: another node has taken it, and this epoch is over. The database's:
    /// the lease lives until its deadline.
    pub async fn renew_lease(&self, sent: Now) -> Result<(), StoreFault> {
        if self.inner.dialect == Dialect::Sqlite {
            return Ok(());
        }
        let clock: Option<i64> = sqlx::query_scalar(self.timed(
            "UPDATE node SET expires_at = {clock} + $1 WHERE name = $2 AND epoch = $3 RETURNING {clock}",
        ))
        .bind(millis(TTL))
        .bind(&self.inner.node)
        .bind(self.epoch())
        .fetch_optional(self.pool())
        .await?;
        match clock {
            Some(clock) => {
                self.inner.lease.granted(sent.mono, clock);
                Ok(())
            }
            None => {
                self.inner.lease.deadline.store(0, Ordering::SeqCst);
                Err(StoreFault::Fenced)
            }
        }
    }

    /// At an orderly end: nobody has to wait for this node. A node that leaves calls behind keeps
    /// its lease, for its successor on the same machine.
    ///
    /// # Errors
    /// The database's; the lease then ends by itself.
    pub async fn give_back(&self) -> Result<(), StoreFault> {
        if !self.is_leased() {
            return Ok(());
        }
        sqlx::query(
            "UPDATE node SET expires_at = 0 WHERE name = $1 AND epoch = $2
                AND NOT EXISTS (SELECT 1 FROM reservation r WHERE r.node = $1 AND r.state = 'open')",
        )
        .bind(&self.inner.node)
        .bind(self.epoch())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// All nodes that ever served calls here.
    ///
    /// # Errors
    /// The database's.
    pub async fn nodes(&self) -> Result<Vec<NodeRow>, StoreFault> {
        let rows: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(self.timed(
            "SELECT name, epoch, expires_at, expires_at - {clock},
                (SELECT COUNT(*) FROM reservation r WHERE r.node = node.name AND r.state = 'open')
             FROM node ORDER BY name",
        ))
        .fetch_all(self.pool())
        .await?;
        let row = |(node, epoch, expires_at, left, calls)| NodeRow {
            node,
            epoch,
            lease_ms: (expires_at > 0).then_some(left),
            calls,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        &self.inner.node
    }

    /// Whether leases of other nodes matter here: PostgreSQL, from the first claim on.
    pub fn is_leased(&self) -> bool {
        self.inner.dialect == Dialect::Postgres && self.is_claimed()
    }

    pub(super) fn is_claimed(&self) -> bool {
        self.inner.lease.claimed.load(Ordering::SeqCst)
    }

    /// Whether this node may grant: its lease has not reached its own deadline.
    pub fn may_grant(&self, now: Now) -> bool {
        let deadline = Instant::from_nanos(self.inner.lease.deadline.load(Ordering::SeqCst));
        !self.is_leased() || now.mono < deadline
    }

    /// As the database sees it.
    pub(super) async fn has_lease(&self) -> Result<(), StoreFault> {
        let ours: Option<i64> = sqlx::query_scalar(
            self.timed("SELECT epoch FROM node WHERE name = $1 AND epoch = $2 AND expires_at > {clock}"),
        )
        .bind(&self.inner.node)
        .bind(self.epoch())
        .fetch_optional(self.pool())
        .await?;
        ours.map(drop).ok_or(StoreFault::Fenced)
    }

    /// Begins each `db_tx` that writes for a call: the lease is ours, and stays so until the commit.
    pub(super) async fn fence(&self, conn: &mut AnyConnection, now: Now) -> Result<(), StoreFault> {
        if !self.is_leased() {
            return Ok(());
        }
        if !self.may_grant(now) {
            return Err(StoreFault::Fenced);
        }
        let lock = self.inner.dialect.key_lock();
        let ours: Option<i64> = sqlx::query_scalar(self.timed(&format!(
            "SELECT epoch FROM node WHERE name = $1 AND epoch = $2 AND expires_at > {{clock}}{lock}"
        )))
        .bind(&self.inner.node)
        .bind(self.epoch())
        .fetch_optional(conn)
        .await?;
        ours.map(drop).ok_or(StoreFault::Fenced)
    }

    /// The time that `valid_until` is written by: the database's, as this node's monotonic clock
    /// goes on from the last renewal. Without a lease the wall clock.
    pub(super) fn clock_ms(&self, now: Now) -> i64 {
        if !self.is_leased() {
            return now.wall.as_ms();
        }
        mono_ms(now.mono).saturating_add(self.inner.lease.offset.load(Ordering::SeqCst))
    }

    /// The time that `valid_until` is compared with: the database's own.
    pub(super) async fn database_ms(
        &self,
        conn: &mut AnyConnection,
        wall_ms: i64,
    ) -> Result<i64, StoreFault> {
        if !self.is_leased() {
            return Ok(wall_ms);
        }
        Ok(sqlx::query_scalar(self.timed("SELECT {clock}"))
            .fetch_one(conn)
            .await?)
    }

    /// The statement with the database's clock in the place of `{clock}`.
    pub(super) fn timed(&self, sql: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(sql.replace("{clock}", self.inner.dialect.clock()))
    }
}

impl LeaseState {
    /// `sent`: before the statement left, so that the deadline is early rather than late.
    fn granted(&self, sent: Instant, clock_ms: i64) {
        let deadline = sent + TTL.saturating_sub(MARGIN);
        self.offset
            .store(clock_ms.saturating_sub(mono_ms(sent)), Ordering::SeqCst);
        self.deadline.store(deadline.as_nanos(), Ordering::SeqCst);
        self.claimed.store(true, Ordering::SeqCst);
    }
}

fn mono_ms(at: Instant) -> i64 {
    i64::try_from(at.as_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
