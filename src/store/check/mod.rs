//! The self-check: every invariant of product.md section 4 (and of reliability.md section 4) that the
//! data can show. Each rule is one question whose answers are the offenders.
//!
//! It reads one snapshot, some thousand rows at a time: calls go on beside it, in the books and in
//! the memory that they need. What rows cannot show stands in `rules::ELSEWHERE` with its proof.

mod chains;
mod money;
mod rules;

use sqlx::AnyConnection;

use self::chains::Anchor;
use super::audit::NewAudit;
use super::{
    Act, AdminError, AnchorRow, CheckReport, Dialect, LastCheck, Offender, Proof, Store, StoreFault, rfc3339,
};
use crate::now::UnixTime;

/// Offenders that are told per rule; more are as bad.
const TOLD: i64 = 50;
/// Rows that one question is asked about at a time.
const STEP: i64 = 10_000;
/// Earlier anchors that are looked at again.
const ANCHORS: i64 = 8;
/// On PostgreSQL an entry is numbered before its commit: those of the last minute may still come.
const SETTLED_MS: i64 = 60_000;
/// Who blocks a card whose entries are broken.
const ACTOR: &str = "check";

struct Rule {
    /// As in the two documents: `I1`, `L9`.
    id: &'static str,
    says: &'static str,
    span: Span,
    /// A card that breaks it takes no more calls until somebody has looked at it.
    blocks: bool,
    sql: &'static str,
}

/// The rows that a rule goes through, step by step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Span {
    /// A question that an index answers, or one sum.
    Whole,
    Cards,
    Entries,
    Reservations,
    Bindings,
    Purchases,
    /// Their keys are text.
    Calls,
}

impl Span {
    const fn table(self) -> Option<&'static str> {
        match self {
            Span::Whole | Span::Calls => None,
            Span::Cards => Some("card"),
            Span::Entries => Some("ledger"),
            Span::Reservations => Some("reservation"),
            Span::Bindings => Some("line_binding"),
            Span::Purchases => Some("purchase"),
        }
    }
}

/// What one answer of a rule says.
struct Found {
    what: String,
    card: Option<String>,
    call: Option<String>,
    row: Option<i64>,
}

impl Found {
    fn row(what: String, row: i64) -> Found {
        Found {
            what,
            card: None,
            call: None,
            row: Some(row),
        }
    }
}

type Answer = (String, Option<String>, Option<String>, Option<i64>);

/// The rules that were tried and who broke them.
#[derive(Default)]
struct Offences {
    rules: Vec<String>,
    offenders: Vec<Offender>,
    /// Serials of cards that must be blocked, with the first reason.
    blocked: Vec<(String, String)>,
}

impl Offences {
    fn tried(&mut self, (id, says): (&str, &str)) {
        self.rules.push(format!("{id} {says}"));
    }

    fn add(&mut self, (id, says): (&str, &str), blocks: bool, found: Found) {
        let rule = format!("{id} {says}");
        if let Some(card) = found.card.as_ref().filter(|_| blocks)
            && !self.blocked.iter().any(|(serial, _)| serial == card)
        {
            self.blocked
                .push((card.clone(), format!("{rule}: {}", found.what)));
        }
        let told = self
            .offenders
            .iter()
            .filter(|offender| offender.rule == rule)
            .count();
        if i64::try_from(told).unwrap_or(TOLD) >= TOLD {
            return;
        }
        let names = [
            found.card.as_ref().map(|serial| format!("card {serial}")),
            found.call.as_ref().map(|call| format!("call {call}")),
            found.row.map(|row| format!("row {row}")),
        ];
        let names: Vec<String> = names.into_iter().flatten().collect();
        let what = match names.is_empty() {
            true => found.what,
            false => format!("{}: {}", names.join(", "), found.what),
        };
        self.offenders.push(Offender {
            id: id.to_owned(),
            rule,
            what,
            card: found.card,
            call: found.call,
            row: found.row,
        });
    }
}

impl Store {
    /// Reads everything and changes nothing.
    ///
    /// # Errors
    /// The database's.
    pub async fn check(&self, now: UnixTime) -> Result<CheckReport, AdminError> {
        Ok(self.examined(now).await?.0)
    }

    /// Checks, blocks the cards whose entries are broken, and keeps the verdict: what `ledger check`
    /// and the night do.
    ///
    /// # Errors
    /// The database's.
    pub async fn check_and_keep(&self, act: &Act) -> Result<CheckReport, AdminError> {
        let (mut report, to_block) = self.examined(act.now).await?;
        for (serial, reason) in to_block {
            // A card that cannot be written to must not keep the others from being blocked.
            match self.block_broken(act.now, &serial, &reason).await {
                Ok(true) => report.blocked.push(serial),
                Ok(false) => {}
                Err(fault) => tracing::error!(%serial, %fault, "a broken card cannot be blocked"),
            }
        }
        self.keep_verdict(act, &report).await?;
        Ok(report)
    }

    /// The newest verdict; `None` before the first check.
    ///
    /// # Errors
    /// The database's.
    pub async fn last_check(&self) -> Result<Option<LastCheck>, StoreFault> {
        type Row = (i64, i64, i64, i64, Option<String>, i64, String);
        let row: Option<Row> = sqlx::query_as(
            "SELECT started_at, took_ms, clean, offenders, first_offence, anchor_upto, anchor
             FROM book_check ORDER BY id DESC LIMIT 1",
        )
        .fetch_optional(self.pool())
        .await?;
        let last = row.map(
            |(at, took_ms, clean, offenders, first_offence, upto, anchor)| LastCheck {
                at: rfc3339(UnixTime::from_ms(at)),
                took_ms,
                clean: clean == 1,
                offenders,
                first_offence,
                anchor_upto: upto,
                anchor,
            },
        );
        Ok(last)
    }

    /// Whether a check of this actor began after `since` (milliseconds since 1970).
    ///
    /// # Errors
    /// The database's.
    pub async fn checked_since(&self, since: i64, actor: &str) -> Result<bool, StoreFault> {
        let found: Option<i64> =
            sqlx::query_scalar("SELECT id FROM book_check WHERE started_at > $1 AND actor = $2 LIMIT 1")
                .bind(since)
                .bind(actor)
                .fetch_optional(self.pool())
                .await?;
        Ok(found.is_some())
    }

    async fn examined(&self, now: UnixTime) -> Result<(CheckReport, Vec<(String, String)>), StoreFault> {
        let dialect = self.inner.dialect;
        let mut snapshot = self.pool().begin_with(dialect.snapshot()).await?;
        if dialect == Dialect::Postgres {
            sqlx::query("SET LOCAL statement_timeout = '120s'")
                .execute(&mut *snapshot)
                .await?;
        }
        let now = UnixTime::from_ms(self.database_ms(&mut snapshot, now.as_ms()).await?);
        let examined = examine(&mut snapshot, dialect, now).await?;
        snapshot.rollback().await?;
        Ok(examined)
    }

    /// `false` if the card takes no calls anyway.
    async fn block_broken(&self, now: UnixTime, serial: &str, reason: &str) -> Result<bool, StoreFault> {
        let mut db = self.begin().await?;
        let state: Option<String> =
            sqlx::query_scalar(self.locking("SELECT state FROM card WHERE serial = $1"))
                .bind(serial)
                .fetch_optional(db.conn())
                .await?;
        let Some(state) = state.filter(|state| state != "gesperrt" && state != "storniert") else {
            return Ok(false);
        };
        sqlx::query("UPDATE card SET state = 'gesperrt', state_before = state WHERE serial = $1")
            .bind(serial)
            .execute(db.conn())
            .await?;
        let new = NewAudit {
            at: now,
            actor: ACTOR,
            action: "card.block",
            subject: serial,
            before: Some(serde_json::json!({ "state": state }).to_string()),
            after: Some(serde_json::json!({ "state": "gesperrt", "reason": reason }).to_string()),
            op_key: None,
        };
        self.audit(db.conn(), new).await?;
        db.commit().await?;
        Ok(true)
    }

    async fn keep_verdict(&self, act: &Act, report: &CheckReport) -> Result<(), StoreFault> {
        let offenders = i64::try_from(report.offenders.len()).unwrap_or(i64::MAX);
        let first = report.offenders.first();
        let first = first.map(|offender| format!("{}: {}", offender.rule, offender.what));
        let mut db = self.begin().await?;
        sqlx::query(
            "INSERT INTO book_check (node, actor, started_at, took_ms, clean, offenders, first_offence, cards,
                entries, calls, anchor_upto, anchor)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(&self.inner.node)
        .bind(&act.actor)
        .bind(act.now.as_ms())
        .bind(report.took_ms)
        .bind(i64::from(report.clean))
        .bind(offenders)
        .bind(first)
        .bind(report.cards)
        .bind(report.entries)
        .bind(report.calls)
        .bind(report.anchor.upto)
        .bind(&report.anchor.hash)
        .execute(db.conn())
        .await?;
        db.commit().await?;
        Ok(())
    }
}

/// All rules on what this connection sees.
async fn examine(
    conn: &mut AnyConnection,
    dialect: Dialect,
    now: UnixTime,
) -> Result<(CheckReport, Vec<(String, String)>), StoreFault> {
    let began = tokio::time::Instant::now();
    let mut found = Offences::default();
    let steps = call_steps(conn).await?;
    let own: &[Rule] = match dialect {
        Dialect::Sqlite => &rules::SQLITE_RULES,
        Dialect::Postgres => &rules::POSTGRES_RULES,
    };
    for rule in rules::RULES.iter().chain(&money::RULES).chain(own) {
        found.tried((rule.id, rule.says));
        let sql = rule.sql.replace("{clock}", dialect.clock());
        ask(conn, rule, &sql, (now, &steps), &mut found).await?;
    }
    let anchor = walk_chains(conn, dialect, now, &mut found).await?;
    in_place(conn, dialect, &mut found).await?;
    let count = |sql: &'static str| sqlx::query_scalar::<_, i64>(sql);
    let cards = count("SELECT COUNT(*) FROM card").fetch_one(&mut *conn).await?;
    let entries = count("SELECT COUNT(*) FROM ledger").fetch_one(&mut *conn).await?;
    let calls = count("SELECT COUNT(*) FROM call").fetch_one(&mut *conn).await?;
    let report = CheckReport {
        clean: found.offenders.is_empty(),
        rules: found.rules,
        elsewhere: rules::ELSEWHERE
            .map(|(rule, proof)| Proof { rule, proof })
            .to_vec(),
        offenders: found.offenders,
        blocked: Vec::new(),
        cards,
        entries,
        calls,
        took_ms: i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX),
        anchor: AnchorRow {
            upto: anchor.upto,
            entries: anchor.entries,
            hash: anchor.hex(),
        },
    };
    Ok((report, found.blocked))
}

/// Asks one rule, a step of rows at a time.
async fn ask(
    conn: &mut AnyConnection,
    rule: &Rule,
    sql: &str,
    (now, call_steps): (UnixTime, &[String]),
    found: &mut Offences,
) -> Result<(), StoreFault> {
    let sql = format!(
        "WITH found(what, card, call, row_id) AS ({sql}) SELECT what, card, call, CAST(row_id AS BIGINT) FROM found
         WHERE $1 = $1 AND $2 = $2 AND $3 = $3 LIMIT $4"
    );
    let mut answers: Vec<Answer> = Vec::new();
    if rule.span == Span::Calls {
        for step in call_steps.windows(2) {
            let [low, high] = step else { continue };
            let asked = sqlx::query_as(sqlx::AssertSqlSafe(sql.as_str()))
                .bind(now.as_ms())
                .bind(low)
                .bind(high)
                .bind(TOLD);
            answers.extend(asked.fetch_all(&mut *conn).await?);
        }
    } else {
        for (low, high) in int_steps(conn, rule.span).await? {
            let asked = sqlx::query_as(sqlx::AssertSqlSafe(sql.as_str()))
                .bind(now.as_ms())
                .bind(low)
                .bind(high)
                .bind(TOLD);
            answers.extend(asked.fetch_all(&mut *conn).await?);
        }
    }
    for (what, card, call, row) in answers {
        found.add(
            (rule.id, rule.says),
            rule.blocks,
            Found {
                what,
                card,
                call,
                row,
            },
        );
    }
    Ok(())
}

/// Keys (from, to] of some thousand rows each.
async fn int_steps(conn: &mut AnyConnection, span: Span) -> Result<Vec<(i64, i64)>, StoreFault> {
    let Some(table) = span.table() else {
        return Ok(vec![(0, 0)]);
    };
    let ends: (Option<i64>, Option<i64>) = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "SELECT MIN(id), MAX(id) FROM {table}"
    )))
    .fetch_one(conn)
    .await?;
    let (Some(first), Some(last)) = ends else {
        return Ok(Vec::new());
    };
    let mut steps = Vec::new();
    let mut low = first - 1;
    while low < last {
        steps.push((low, low.saturating_add(STEP)));
        low = low.saturating_add(STEP);
    }
    Ok(steps)
}

/// The keys of calls, one of some thousand: two neighbours bound a step.
async fn call_steps(conn: &mut AnyConnection) -> Result<Vec<String>, StoreFault> {
    let mut steps = vec![String::new()];
    loop {
        let low = steps.last().cloned().unwrap_or_default();
        let next: Option<String> =
            sqlx::query_scalar("SELECT id FROM call WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2")
                .bind(&low)
                .bind(STEP)
                .fetch_optional(&mut *conn)
                .await?;
        match next {
            Some(next) => steps.push(next),
            None => break,
        }
    }
    let last: Option<String> = sqlx::query_scalar("SELECT MAX(id) FROM call")
        .fetch_one(conn)
        .await?;
    steps.extend(last);
    Ok(steps)
}

/// The chains of entries and of the audit; the anchor of this check, and those of earlier ones again.
async fn walk_chains(
    conn: &mut AnyConnection,
    dialect: Dialect,
    now: UnixTime,
    found: &mut Offences,
) -> Result<Anchor, StoreFault> {
    let before = match dialect {
        Dialect::Sqlite => i64::MAX,
        Dialect::Postgres => now.as_ms().saturating_sub(SETTLED_MS),
    };
    let upto: Option<i64> =
        sqlx::query_scalar("SELECT id FROM ledger WHERE at <= $1 ORDER BY id DESC LIMIT 1")
            .bind(before)
            .fetch_optional(&mut *conn)
            .await?;
    // A broken book's anchor proves nothing.
    let earlier: Vec<(i64, i64, String)> = sqlx::query_as(
        "SELECT id, anchor_upto, anchor FROM book_check WHERE clean = 1 ORDER BY id DESC LIMIT $1",
    )
    .bind(ANCHORS)
    .fetch_all(&mut *conn)
    .await?;
    let mut anchors = vec![Anchor::new(upto.unwrap_or(0))];
    anchors.extend(earlier.iter().map(|(_, upto, _)| Anchor::new(*upto)));
    found.tried(chains::CHAIN);
    chains::entries(conn, &mut anchors, found).await?;
    found.tried(chains::AUDIT);
    chains::audit_rows(conn, found).await?;
    found.tried(chains::ANCHOR);
    let own = anchors.remove(0);
    for (anchor, (check, upto, hash)) in anchors.iter().zip(&earlier) {
        if anchor.hex() != *hash {
            let what = format!("entries up to {upto} were rewritten since check {check}");
            found.add(chains::ANCHOR, false, Found::row(what, *check));
        }
    }
    Ok(own)
}

/// The triggers that keep what was written (L9, I18).
async fn in_place(
    conn: &mut AnyConnection,
    dialect: Dialect,
    found: &mut Offences,
) -> Result<(), StoreFault> {
    let rule = ("L9", "what was written is kept from change");
    found.tried(rule);
    let sql = match dialect {
        Dialect::Sqlite => "SELECT CAST(tbl_name AS TEXT) FROM sqlite_master WHERE type = 'trigger'",
        Dialect::Postgres => {
            "SELECT CAST(c.relname AS TEXT) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
             WHERE t.tgenabled <> 'D' AND NOT t.tgisinternal"
        }
    };
    let guarded: Vec<String> = sqlx::query_scalar(sql).fetch_all(conn).await?;
    let least = match dialect {
        Dialect::Sqlite => 2,
        Dialect::Postgres => 1,
    };
    for table in ["ledger", "audit", "tariff_version"] {
        if guarded.iter().filter(|name| *name == table).count() < least {
            let what = format!("table {table} has lost its append-only trigger");
            found.add(
                rule,
                false,
                Found {
                    what,
                    card: None,
                    call: None,
                    row: None,
                },
            );
        }
    }
    Ok(())
}
