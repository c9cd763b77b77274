//! Guessers of PINs, over all nodes of a database: the lock of a line, the alarm of a project and the
//! cap on tries from lines that no card knows (product.md 3.2, reliability.md T2).
//!
//! Times here are *steady*: they begin as the wall clock's and go on with the monotonic one, so that
//! neither a lock nor an alarm ends or lasts longer because somebody set a clock (R17).

use std::sync::atomic::Ordering;

use sqlx::AnyConnection;

use super::{Dialect, Store, StoreFault};
use crate::card::pin;
use crate::now::{Now, UnixTime};
use crate::units::E164;

/// Names this boot of the machine: as long as it is the same, monotonic time goes on across processes.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A project that somebody seems to guess PINs of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PinAttack {
    pub project: String,
    pub since: String,
}

/// What a round of [`Store::watch_pins`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinWatch {
    pub attacked: Vec<PinAttack>,
    /// Projects whose alarm has just ended.
    pub ended: Vec<String>,
}

impl Store {
    /// The steady time; set going at the first question.
    pub(super) async fn steady(&self, now: Now) -> Result<UnixTime, StoreFault> {
        let mono = i64::try_from(now.mono.since(crate::now::Instant::from_nanos(0)).as_millis());
        let mono = mono.unwrap_or(i64::MAX);
        let known = self.inner.steady.load(Ordering::SeqCst);
        if known != UNSET {
            return Ok(UnixTime::from_ms(known.saturating_add(mono)));
        }
        let mut conn = self.pool().acquire().await?;
        let offset = self.begin_steady(&mut conn, now.wall.as_ms(), mono).await?;
        // Two first questions at once: one of them counts.
        let kept = self
            .inner
            .steady
            .compare_exchange(UNSET, offset, Ordering::SeqCst, Ordering::SeqCst);
        let offset = kept.map_or_else(|other| other, |_| offset);
        Ok(UnixTime::from_ms(offset.saturating_add(mono)))
    }

    /// What to add to the monotonic time: as an earlier process of this boot did, else so that it is
    /// the wall clock now (the database's, where nodes share one), and never behind the newest try.
    async fn begin_steady(&self, conn: &mut AnyConnection, wall: i64, mono: i64) -> Result<i64, StoreFault> {
        let newest: Option<i64> = sqlx::query_scalar("SELECT MAX(at) FROM pin_attempt")
            .fetch_one(&mut *conn)
            .await?;
        let begin = match self.inner.dialect {
            Dialect::Postgres => {
                sqlx::query_scalar("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)")
                    .fetch_one(&mut *conn)
                    .await?
            }
            Dialect::Sqlite => {
                if let Some(offset) = kept_steady(conn).await? {
                    return Ok(offset);
                }
                wall
            }
        };
        let offset = begin.max(newest.unwrap_or(begin)).saturating_sub(mono);
        if self.inner.dialect == Dialect::Sqlite {
            sqlx::query(
                "INSERT INTO meta (key, value) VALUES ('steady', $1)
                 ON CONFLICT (key) DO UPDATE SET value = $1",
            )
            .bind(format!("{} {offset}", boot()))
            .execute(conn)
            .await?;
        }
        Ok(offset)
    }

    /// Whether this try may not be answered now: under alarm, lines that no card knows share one try
    /// in ten seconds. A try that may, takes its turn.
    pub(super) async fn capped(
        &self,
        conn: &mut AnyConnection,
        project: i64,
        line: Option<&E164>,
        now: UnixTime,
    ) -> Result<bool, StoreFault> {
        if !pin::alarm(wrong_lately(conn, project, now).await?) {
            return Ok(false);
        }
        if let Some(line) = line {
            let bound: Option<i64> = sqlx::query_scalar(
                "SELECT id FROM line_binding WHERE project_id = $1 AND e164 = $2 AND removed_at IS NULL",
            )
            .bind(project)
            .bind(line.as_str())
            .fetch_optional(&mut *conn)
            .await?;
            if bound.is_some() {
                return Ok(false);
            }
        }
        // One guarded statement: of two nodes that ask at once, one gets the turn.
        let turn = sqlx::query(
            "INSERT INTO pin_guard (project_id, next_try_at) VALUES ($1, $2)
             ON CONFLICT (project_id) DO UPDATE SET next_try_at = $2 WHERE pin_guard.next_try_at <= $3",
        )
        .bind(project)
        .bind(pin::next_turn(now).as_ms())
        .bind(now.as_ms())
        .execute(conn)
        .await?;
        Ok(turn.rows_affected() == 0)
    }

    /// After a wrong try: raises the project's alarm if it is one too many.
    pub(super) async fn count_wrong(
        &self,
        conn: &mut AnyConnection,
        project: i64,
        now: UnixTime,
    ) -> Result<(), StoreFault> {
        if !pin::alarm(wrong_lately(conn, project, now).await?) {
            return Ok(());
        }
        let raised = sqlx::query(
            "INSERT INTO pin_guard (project_id, alarm_since, next_try_at) VALUES ($1, $2, $3)
             ON CONFLICT (project_id) DO UPDATE SET alarm_since = $2 WHERE pin_guard.alarm_since IS NULL",
        )
        .bind(project)
        .bind(now.as_ms())
        .bind(pin::next_turn(now).as_ms())
        .execute(conn)
        .await?;
        if raised.rows_affected() > 0 {
            tracing::warn!(
                project,
                "many wrong PINs: somebody may be guessing; strangers are slowed down"
            );
        }
        Ok(())
    }

    /// Every round or so: ends alarms that nothing keeps up, and names those that stand.
    ///
    /// # Errors
    /// The database's.
    pub async fn watch_pins(&self, now: Now) -> Result<PinWatch, StoreFault> {
        if self.pin_attacks().await?.is_empty() {
            return Ok(PinWatch::default());
        }
        let steady = self.steady(now).await?;
        let mut db = self.begin().await?;
        let alarmed: Vec<(i64, String)> = sqlx::query_as(
            "SELECT g.project_id, p.name FROM pin_guard g JOIN project p ON p.id = g.project_id
             WHERE g.alarm_since IS NOT NULL",
        )
        .fetch_all(db.conn())
        .await?;
        let mut watch = PinWatch::default();
        for (project, name) in alarmed {
            if wrong_lately(db.conn(), project, steady).await? >= pin::ALARM_ENDS_BELOW {
                continue;
            }
            sqlx::query("UPDATE pin_guard SET alarm_since = NULL WHERE project_id = $1")
                .bind(project)
                .execute(db.conn())
                .await?;
            tracing::info!(project, "no more wrong PINs than usual");
            watch.ended.push(name);
        }
        db.commit().await?;
        watch.attacked = self.pin_attacks().await?;
        Ok(watch)
    }

    /// The projects under alarm.
    ///
    /// # Errors
    /// The database's.
    pub async fn pin_attacks(&self) -> Result<Vec<PinAttack>, StoreFault> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT p.name, g.alarm_since FROM pin_guard g JOIN project p ON p.id = g.project_id
             WHERE g.alarm_since IS NOT NULL ORDER BY p.id",
        )
        .fetch_all(self.pool())
        .await?;
        let attack = |(project, since)| PinAttack {
            project,
            since: super::rfc3339(UnixTime::from_ms(since)),
        };
        Ok(rows.into_iter().map(attack).collect())
    }
}

/// Until the first question.
pub(super) const UNSET: i64 = i64::MIN;

async fn kept_steady(conn: &mut AnyConnection) -> Result<Option<i64>, StoreFault> {
    let kept: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'steady'")
        .fetch_optional(conn)
        .await?;
    let offset = kept.as_deref().and_then(|kept| kept.split_once(' '));
    let offset = offset.filter(|(name, _)| *name == boot());
    Ok(offset.and_then(|(_, offset)| offset.parse().ok()))
}

fn boot() -> String {
    let text = std::fs::read_to_string(BOOT).unwrap_or_default();
    text.trim().to_owned()
}

/// Wrong tries of a project that the alarm counts.
async fn wrong_lately(conn: &mut AnyConnection, project: i64, now: UnixTime) -> Result<i64, StoreFault> {
    let wrong = sqlx::query_scalar(
        "SELECT COUNT(*) FROM pin_attempt WHERE project_id = $1 AND at > $2 AND outcome = 'wrong'",
    )
    .bind(project)
    .bind(now.as_ms().saturating_sub(pin::ALARM_WINDOW_MS))
    .fetch_one(conn)
    .await?;
    Ok(wrong)
}

/// Whether too many wrong PINs came from this line.
pub(super) async fn locked(
    conn: &mut AnyConnection,
    line_hash: &str,
    now: UnixTime,
) -> Result<bool, StoreFault> {
    let since = now.as_ms().saturating_sub(pin::WRONG_WINDOW_MS + pin::LOCK_MS);
    let wrong: Vec<(i64,)> = sqlx::query_as(
        "SELECT at FROM pin_attempt WHERE line_hash = $1 AND outcome = 'wrong' AND at > $2
         ORDER BY at DESC LIMIT 100",
    )
    .bind(line_hash)
    .bind(since)
    .fetch_all(conn)
    .await?;
    let wrong: Vec<UnixTime> = wrong.into_iter().map(|(at,)| UnixTime::from_ms(at)).collect();
    Ok(pin::locked_until(&wrong, now).is_some())
}
