//! Who did what: an append-only list, chained by SHA-256 (I16).

use sqlx::AnyConnection;

use super::bulk::{self, Cell};
use super::pin_key::sha256;
use super::{Act, AdminError, AuditRow, Store, StoreFault, rfc3339};
use crate::now::UnixTime;

/// The one tenant, until the tenants' own version.
pub(super) const OPERATOR: i64 = 1;

/// A row to be written; JSON texts never hold a PIN.
pub(super) struct NewAudit<'a> {
    pub at: UnixTime,
    pub actor: &'a str,
    pub action: &'a str,
    pub subject: &'a str,
    pub before: Option<String>,
    pub after: Option<String>,
    pub op_key: Option<&'a str>,
}

impl Store {
    /// Within the `db_tx` of what it tells about.
    pub(super) async fn audit(&self, conn: &mut AnyConnection, new: NewAudit<'_>) -> Result<(), StoreFault> {
        let head: String =
            sqlx::query_scalar(self.locking("SELECT value FROM meta WHERE key = 'audit_head'"))
                .fetch_one(&mut *conn)
                .await?;
        let hash = row_hash(
            &head,
            new.at.as_ms(),
            new.actor,
            new.action,
            new.subject,
            new.before.as_deref(),
            new.after.as_deref(),
        );
        sqlx::query(
            "INSERT INTO audit (operator_id, at, actor, action, subject, before, after, op_key, prev_hash, row_hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(OPERATOR)
        .bind(new.at.as_ms())
        .bind(new.actor)
        .bind(new.action)
        .bind(new.subject)
        .bind(new.before)
        .bind(new.after)
        .bind(new.op_key)
        .bind(&head)
        .bind(&hash)
        .execute(&mut *conn)
        .await?;
        sqlx::query("UPDATE meta SET value = $1 WHERE key = 'audit_head'")
            .bind(&hash)
            .execute(&mut *conn)
            .await?;
        Ok(())
    }

    /// Many rows at once, chained as if one came after the other.
    pub(super) async fn audit_many(
        &self,
        conn: &mut AnyConnection,
        rows: &[NewAudit<'_>],
    ) -> Result<(), StoreFault> {
        let mut head: String =
            sqlx::query_scalar(self.locking("SELECT value FROM meta WHERE key = 'audit_head'"))
                .fetch_one(&mut *conn)
                .await?;
        let text = |text: Option<&str>| text.map_or(Cell::NoText, |text| Cell::Text(text.to_owned()));
        let mut cells = Vec::with_capacity(rows.len());
        for new in rows {
            let (before, after) = (new.before.as_deref(), new.after.as_deref());
            let at = new.at.as_ms();
            let hash = row_hash(&head, at, new.actor, new.action, new.subject, before, after);
            cells.push(vec![
                Cell::Int(OPERATOR),
                Cell::Int(at),
                Cell::Text(new.actor.to_owned()),
                Cell::Text(new.action.to_owned()),
                Cell::Text(new.subject.to_owned()),
                text(before),
                text(after),
                text(new.op_key),
                Cell::Text(std::mem::replace(&mut head, hash.clone())),
                Cell::Text(hash),
            ]);
        }
        bulk::insert::<(i64,)>(
            conn,
            "INSERT INTO audit (operator_id, at, actor, action, subject, before, after, op_key, prev_hash, row_hash)",
            "RETURNING id",
            &cells,
        )
        .await?;
        sqlx::query("UPDATE meta SET value = $1 WHERE key = 'audit_head'")
            .bind(&head)
            .execute(&mut *conn)
            .await?;
        Ok(())
    }

    /// One audit row for an act that writes nothing else: hang-up, drain, reload.
    ///
    /// # Errors
    /// The database's.
    pub async fn audit_add(&self, act: &Act, action: &str, subject: &str) -> Result<(), AdminError> {
        let mut db = self.begin().await?;
        let new = NewAudit {
            at: act.now,
            actor: &act.actor,
            action,
            subject,
            before: None,
            after: None,
            op_key: None,
        };
        self.audit(db.conn(), new).await?;
        db.commit().await?;
        Ok(())
    }

    /// The newest rows, newest first; at most 1000.
    ///
    /// # Errors
    /// The database's.
    pub async fn audit_tail(&self, limit: i64) -> Result<Vec<AuditRow>, AdminError> {
        type Row = (i64, i64, String, String, String, Option<String>, Option<String>);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, at, actor, action, subject, before, after FROM audit
             WHERE operator_id = $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(OPERATOR)
        .bind(limit.clamp(1, 1000))
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .map(|(id, at, actor, action, subject, before, after)| AuditRow {
                id,
                at: rfc3339(UnixTime::from_ms(at)),
                actor,
                action,
                subject,
                before,
                after,
            })
            .collect())
    }
}

/// Chains a row to the one before it; the texts are separated by a byte that none of them holds.
pub(super) fn row_hash(
    prev: &str,
    at: i64,
    actor: &str,
    action: &str,
    subject: &str,
    before: Option<&str>,
    after: Option<&str>,
) -> String {
    let at = at.to_string();
    let parts = [
        prev,
        &at,
        actor,
        action,
        subject,
        before.unwrap_or(""),
        after.unwrap_or(""),
    ];
    sha256(&parts.join("\u{1f}"))
}
