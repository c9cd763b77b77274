//! CDR rows as the operator reads them.

use sqlx::AnyConnection;

use super::audit::OPERATOR;
use super::{AdminError, AttemptRow, CallFilter, CallRow, Refusal, Store, StoreFault, rfc3339};
use crate::ids::CallKey;
use crate::now::UnixTime;

/// Rows of one answer.
const LIST_MAX: i64 = 1000;

#[derive(Debug, sqlx::FromRow)]
struct CallSql {
    id: String,
    project: Option<String>,
    card: Option<String>,
    caller: Option<String>,
    called: Option<String>,
    target: Option<String>,
    trunk: String,
    invited_at: i64,
    answered_at: Option<i64>,
    ringing_at: Option<i64>,
    advisor_answered_at: Option<i64>,
    bridged_at: Option<i64>,
    ended_at: Option<i64>,
    hold_ms: i64,
    raw_ms: i64,
    billed_ms: i64,
    end_cause: Option<String>,
    warnings: String,
    codec: Option<String>,
    stats_a: Option<String>,
    stats_b: Option<String>,
    tariff_version_id: Option<i64>,
}

/// A call without a project (an unknown number) is the platform's, which is operator 1.
const CALL: &str = "SELECT k.id, p.name AS project, c.serial AS card, k.caller, k.called, t.address AS target,
    k.trunk, k.invited_at, k.answered_at, k.ringing_at, k.advisor_answered_at, k.bridged_at, k.ended_at,
    k.hold_ms, k.raw_ms, k.billed_ms, k.end_cause, k.warnings, k.codec, k.stats_a, k.stats_b, k.tariff_version_id
    FROM call k LEFT JOIN project p ON p.id = k.project_id LEFT JOIN card c ON c.id = k.card_id
    LEFT JOIN target t ON t.id = k.target_id WHERE COALESCE(p.operator_id, 1) = $1";

impl Store {
    /// Newest first.
    ///
    /// # Errors
    /// `project_not_found`, `card_not_found`.
    pub async fn call_list(&self, filter: &CallFilter) -> Result<Vec<CallRow>, AdminError> {
        let mut conn = self.pool().acquire().await?;
        if let Some(name) = &filter.project {
            super::projects::project(&mut conn, name).await?;
        }
        if let Some(serial) = &filter.card {
            super::cards::card(&mut conn, serial).await?;
        }
        let limit = match filter.limit {
            ..=0 => LIST_MAX,
            limit => limit.min(LIST_MAX),
        };
        let sql = sqlx::AssertSqlSafe(format!(
            "{CALL} AND ($2 IS NULL OR p.name = $2) AND ($3 IS NULL OR c.serial = $3)
             AND ($4 = 0 OR k.ended_at IS NULL) ORDER BY k.invited_at DESC, k.id LIMIT $5"
        ));
        let rows: Vec<CallSql> = sqlx::query_as(sql)
            .bind(OPERATOR)
            .bind(&filter.project)
            .bind(&filter.card)
            .bind(i64::from(filter.open))
            .bind(limit)
            .fetch_all(&mut *conn)
            .await?;
        let mut calls = Vec::with_capacity(rows.len());
        for row in rows {
            let attempts = attempts(&mut conn, &row.id).await?;
            calls.push(shown(row, attempts));
        }
        Ok(calls)
    }

    /// # Errors
    /// `call_not_found`.
    pub async fn call_show(&self, call: CallKey) -> Result<CallRow, AdminError> {
        let id = call.to_string();
        let mut conn = self.pool().acquire().await?;
        let row: Option<CallSql> = sqlx::query_as(sqlx::AssertSqlSafe(format!("{CALL} AND k.id = $2")))
            .bind(OPERATOR)
            .bind(&id)
            .fetch_optional(&mut *conn)
            .await?;
        let row = row.ok_or_else(|| Refusal::not_found("call", &id))?;
        let attempts = attempts(&mut conn, &id).await?;
        Ok(shown(row, attempts))
    }
}

async fn attempts(conn: &mut AnyConnection, call: &str) -> Result<Vec<AttemptRow>, StoreFault> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT t.address, a.dialled_at, a.status FROM call_attempt a JOIN target t ON t.id = a.target_id
         WHERE a.call = $1 ORDER BY a.n",
    )
    .bind(call)
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(target, dialled_at, status)| AttemptRow {
            target,
            dialled_at: rfc3339(UnixTime::from_ms(dialled_at)),
            status,
        })
        .collect())
}

fn shown(row: CallSql, attempts: Vec<AttemptRow>) -> CallRow {
    let time = |at: Option<i64>| at.map(|at| rfc3339(UnixTime::from_ms(at)));
    let json = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok());
    CallRow {
        state: if row.ended_at.is_some() { "ended" } else { "open" }.to_owned(),
        started_at: rfc3339(UnixTime::from_ms(row.invited_at)),
        answered_at: time(row.answered_at),
        ringing_at: time(row.ringing_at),
        advisor_answered_at: time(row.advisor_answered_at),
        bridged_at: time(row.bridged_at),
        ended_at: time(row.ended_at),
        warnings_s: row
            .warnings
            .split(',')
            .filter_map(|seconds| seconds.parse().ok())
            .collect(),
        stats_a: json(row.stats_a),
        stats_b: json(row.stats_b),
        result: row.end_cause.clone(),
        id: row.id,
        project: row.project,
        card: row.card,
        caller: row.caller,
        called: row.called,
        target: row.target,
        hold_ms: row.hold_ms,
        raw_ms: row.raw_ms,
        billed_ms: row.billed_ms,
        end_cause: row.end_cause,
        trunk: row.trunk,
        codec: row.codec,
        tariff_version: row.tariff_version_id,
        attempts,
    }
}
