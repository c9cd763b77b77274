//! CDR rows: written at the INVITE, completed at the end (I11).

use super::{DbTx, Store, StoreFault};
use crate::call::cdr::Cdr;
use crate::card::{CdrOpening, LedgerReply};
use crate::media::LegStats;
use crate::now::UnixTime;
use crate::sdp::Codec;

impl Store {
    pub(super) async fn open_cdr(
        &self,
        db: &mut DbTx,
        opening: &CdrOpening,
    ) -> Result<LedgerReply, StoreFault> {
        sqlx::query(
            "INSERT INTO call (id, project_id, number_id, node, epoch, trunk, called, caller, sip_call_id, invited_at,
                tariff_version_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
                (SELECT p.tariff_version_id FROM project p WHERE p.id = $2)) ON CONFLICT (id) DO NOTHING",
        )
        .bind(opening.call.to_string())
        .bind(opening.project.map(|id| id.get()))
        .bind(opening.number.map(|id| id.get()))
        .bind(&self.inner.node)
        .bind(self.epoch())
        .bind(&opening.trunk)
        .bind(opening.called.as_ref().map(|n| n.as_str()))
        .bind(opening.caller.as_ref().map(|n| n.as_str()))
        .bind(without_nul(&opening.sip_call_id))
        .bind(opening.invited_at.as_ms())
        .execute(db.conn())
        .await?;
        Ok(LedgerReply::Done)
    }

    /// A row that was closed already (by recovery, or by the first try) stays as it is. What was
    /// charged is what the books say: a reservation may have expired at its checkpoint while the
    /// database was away, before the call's own settlement came through.
    pub(super) async fn close_cdr(&self, db: &mut DbTx, cdr: &Cdr) -> Result<LedgerReply, StoreFault> {
        let call = cdr.call.to_string();
        // The opening may have been lost while the database was away: better half a row than none.
        sqlx::query(
            "INSERT INTO call (id, node, epoch, trunk, sip_call_id, invited_at)
             VALUES ($1, $2, $3, '', '', $4) ON CONFLICT (id) DO NOTHING",
        )
        .bind(&call)
        .bind(&self.inner.node)
        .bind(self.epoch())
        .bind(cdr.answered_at.unwrap_or(cdr.ended_at).as_ms())
        .execute(db.conn())
        .await?;
        let warnings: Vec<String> = cdr.warnings_s.iter().map(u32::to_string).collect();
        let closed = sqlx::query(
            "UPDATE call SET card_id = $1, target_id = $2, answered_at = $3, ringing_at = $4,
                advisor_answered_at = $5, bridged_at = $6, ended_at = $7, hold_ms = $8, raw_ms = $9,
                billed_ms = COALESCE((SELECT CASE WHEN SUM(CASE WHEN r.state = 'open' THEN 1 ELSE 0 END) = 0
                    THEN CAST(SUM(r.billed_ms) AS BIGINT) END FROM reservation r WHERE r.call = $17), $10),
                end_cause = $11, warnings = $12, codec = $13, stats_a = $14, stats_b = $15,
                tariff_version_id = $16
             WHERE id = $17 AND ended_at IS NULL",
        )
        .bind(cdr.card.map(|id| id.get()))
        .bind(cdr.target.map(|id| id.get()))
        .bind(cdr.answered_at.map(UnixTime::as_ms))
        .bind(cdr.ringing_at.map(UnixTime::as_ms))
        .bind(cdr.advisor_answered_at.map(UnixTime::as_ms))
        .bind(cdr.bridged_at.map(UnixTime::as_ms))
        .bind(cdr.ended_at.as_ms())
        .bind(cdr.hold.as_ms().max(0))
        .bind(cdr.raw.as_ms().max(0))
        .bind(cdr.billed.as_ms().max(0))
        .bind(cdr.end_cause.as_str())
        .bind(warnings.join(","))
        .bind(cdr.codec.map(codec_name))
        .bind(stats_json(&cdr.stats_a))
        .bind(stats_json(&cdr.stats_b))
        // Version 0 is the built-in one, which has no row.
        .bind(cdr.tariff_version.filter(|version| *version > 0))
        .bind(&call)
        .execute(db.conn())
        .await?;
        if closed.rows_affected() == 1 {
            for (n, attempt) in (1i64..).zip(&cdr.attempts) {
                sqlx::query(
                    "INSERT INTO call_attempt (call, n, target_id, dialled_at, status) VALUES ($1, $2, $3, $4, $5)",
                )
                .bind(&call)
                .bind(n)
                .bind(attempt.target.get())
                .bind(attempt.dialled_at.as_ms())
                .bind(i64::from(attempt.status))
                .execute(db.conn())
                .await?;
            }
        }
        Ok(LedgerReply::Done)
    }
}

/// PostgreSQL takes no NUL in a text, and a peer chose this one.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Pcma => "PCMA",
        Codec::Pcmu => "PCMU",
    }
}

fn stats_json(stats: &LegStats) -> String {
    serde_json::json!({
        "received": stats.received,
        "lost": stats.lost,
        "sent": stats.sent,
        "jitter_us": stats.jitter_us,
        "foreign": stats.foreign,
    })
    .to_string()
}
