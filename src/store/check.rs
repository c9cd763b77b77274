//! The self-check: every invariant of product.md section 4 (and of reliability.md section 4) that the
//! data can show. Each rule is one question whose answers are the offenders.
//!
//! Not to be seen in rows, and proved by tests instead: I13 (types), I17 (PINs in logs), I20 (there
//! are no recordings).

use sqlx::AnyConnection;

use super::audit;
use super::ledger::{NewEntry, entry_hash};
use super::{AdminError, CheckReport, Offender, Store, StoreFault};
use crate::now::UnixTime;

/// Offenders that are told per rule; more are as bad.
const TOLD: i64 = 50;

/// `$1` is now, `$2` the most rows.
const RULES: [(&str, &str); 21] = [
    (
        "I1 balance is the sum of entries",
        "SELECT 'card ' || c.serial || ': balance ' || c.balance_ms || ', entries '
            || COALESCE((SELECT SUM(delta_ms) FROM ledger l WHERE l.card_id = c.id), 0)
         FROM card c WHERE c.balance_ms <> COALESCE((SELECT SUM(delta_ms) FROM ledger l WHERE l.card_id = c.id), 0)",
    ),
    (
        "I2 available is never below zero",
        "SELECT 'card ' || serial || ': balance ' || balance_ms || ', reserved ' || reserved_ms
         FROM card WHERE balance_ms < reserved_ms OR reserved_ms < 0",
    ),
    (
        "L1 reserved is the sum of open reservations",
        "SELECT 'card ' || c.serial || ': reserved ' || c.reserved_ms || ', open '
            || COALESCE((SELECT SUM(amount_ms) FROM reservation r WHERE r.card_id = c.id AND r.state = 'open'), 0)
         FROM card c WHERE c.reserved_ms
            <> COALESCE((SELECT SUM(amount_ms) FROM reservation r WHERE r.card_id = c.id AND r.state = 'open'), 0)",
    ),
    (
        "L1 open calls are the open reservations",
        "SELECT 'card ' || c.serial || ': open calls ' || c.open_calls FROM card c
         WHERE c.open_calls <> (SELECT COUNT(*) FROM reservation r WHERE r.card_id = c.id AND r.state = 'open')",
    ),
    (
        "L3 a reservation is the sum of its slices",
        "SELECT 'call ' || r.call || ': amount ' || r.amount_ms FROM reservation r
         WHERE r.amount_ms <> COALESCE((SELECT SUM(amount_ms) FROM slice s WHERE s.reservation_id = r.id), 0)",
    ),
    (
        "I3 a call is charged once per card",
        "SELECT 'call ' || l.call || ': ' || COUNT(*) || ' usage entries' FROM ledger l
         WHERE l.kind = 'usage' GROUP BY l.call, l.card_id HAVING COUNT(*) > 1",
    ),
    (
        "I4 usage is what its reservation was settled at, within the grants",
        "SELECT 'call ' || r.call || ': granted ' || r.amount_ms || ', billed ' || r.billed_ms FROM reservation r
         WHERE r.state <> 'open' AND (r.billed_ms > r.amount_ms OR r.billed_ms <> -COALESCE(
            (SELECT SUM(l.delta_ms) FROM ledger l WHERE l.kind = 'usage' AND l.call = r.call AND l.card_id = r.card_id), 0))",
    ),
    (
        "L2 a usage entry has its reservation",
        "SELECT 'entry ' || l.id || ' of call ' || COALESCE(l.call, '-') FROM ledger l WHERE l.kind = 'usage'
         AND NOT EXISTS (SELECT 1 FROM reservation r WHERE r.call = l.call AND r.card_id = l.card_id AND r.state <> 'open')",
    ),
    (
        "I5 no reservation is open beyond its validity",
        "SELECT 'call ' || call || ': valid until ' || valid_until FROM reservation
         WHERE state = 'open' AND valid_until + 30000 < $1",
    ),
    (
        "L6 no reservation is open after its call ended",
        "SELECT 'call ' || r.call FROM reservation r JOIN call k ON k.id = r.call
         WHERE r.state = 'open' AND k.ended_at + 2000 < $1",
    ),
    (
        "I6 a PIN names one live card",
        "SELECT 'cards ' || MIN(serial) || ' and ' || MAX(serial) FROM card
         WHERE state <> 'storniert' GROUP BY pin_hash HAVING COUNT(*) > 1",
    ),
    (
        "I7 a line is bound once per project",
        "SELECT 'line of bindings ' || MIN(id) || ' and ' || MAX(id) FROM line_binding WHERE removed_at IS NULL
         GROUP BY project_id, e164 HAVING COUNT(*) > 1",
    ),
    (
        "I7 a binding is in its card's project",
        "SELECT 'binding ' || b.id FROM line_binding b JOIN card c ON c.id = b.card_id
         WHERE b.project_id <> c.project_id",
    ),
    (
        "I8 no own, premium or short line is bound",
        "SELECT 'binding ' || b.id || ' of card ' || c.serial FROM line_binding b JOIN card c ON c.id = b.card_id
         WHERE b.removed_at IS NULL AND (b.e164 LIKE '+49900%' OR b.e164 LIKE '+49137%' OR b.e164 LIKE '+49118%'
            OR LENGTH(b.e164) < 9 OR c.state = 'storniert'
            OR EXISTS (SELECT 1 FROM number n WHERE n.e164 = b.e164 AND n.removed_at IS NULL AND n.added_at < b.bound_at))",
    ),
    (
        "I10 a purchase has one entry and one invoice line that agree",
        "SELECT 'purchase ' || p.id FROM purchase p WHERE
            (SELECT COUNT(*) FROM ledger l WHERE l.purchase_id = p.id AND l.card_id = p.card_id
                AND l.kind = p.kind AND l.delta_ms = p.minutes * 60000) <> 1
            OR (SELECT COUNT(*) FROM invoice_line i WHERE i.purchase_id = p.id AND i.net_cents = p.net_cents
                AND i.vat_cents = p.vat_cents AND i.minutes = p.minutes) <> 1",
    ),
    (
        "I11 a CDR's times are in order",
        "SELECT 'call ' || id FROM call WHERE ended_at < invited_at OR answered_at < invited_at
            OR bridged_at < advisor_answered_at OR bridged_at < answered_at OR ended_at < bridged_at
            OR ended_at < answered_at",
    ),
    (
        "I11 every charged or reserved call has its CDR",
        "SELECT 'call ' || r.call FROM reservation r WHERE NOT EXISTS (SELECT 1 FROM call k WHERE k.id = r.call)",
    ),
    (
        "I12 no bridge, no charge",
        "SELECT 'call ' || id || ': billed ' || billed_ms FROM call WHERE bridged_at IS NULL AND billed_ms <> 0",
    ),
    (
        "L3 a CDR's billed time is what its cards were charged",
        "SELECT 'call ' || k.id || ': billed ' || k.billed_ms FROM call k WHERE k.ended_at IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM reservation r WHERE r.call = k.id AND r.state = 'open')
         AND k.billed_ms <> -COALESCE((SELECT SUM(l.delta_ms) FROM ledger l WHERE l.call = k.id AND l.kind = 'usage'), 0)",
    ),
    (
        "I15 a card's calls are of its project",
        "SELECT 'call ' || k.id FROM call k JOIN card c ON c.id = k.card_id WHERE k.project_id <> c.project_id",
    ),
    (
        "I16 a purchase, a binding and a cancellation have their audit rows",
        "SELECT 'card ' || c.serial FROM card c WHERE
            NOT EXISTS (SELECT 1 FROM audit a WHERE a.subject = c.serial AND a.action = 'card.buy')
            OR (c.activated_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM audit a WHERE a.subject = c.serial
                AND a.action IN ('card.activate', 'card.bind')))
            OR (c.state = 'storniert' AND NOT EXISTS (SELECT 1 FROM audit a WHERE a.subject = c.serial
                AND a.action = 'card.cancel'))",
    ),
];

impl Store {
    /// Reads everything and changes nothing.
    ///
    /// # Errors
    /// The database's.
    pub async fn check(&self, now: UnixTime) -> Result<CheckReport, AdminError> {
        // One view of the data for all rules, and nobody writes in between.
        let mut db = self.begin().await?;
        let conn = db.conn();
        let mut rules = Vec::with_capacity(RULES.len() + 3);
        let mut offenders = Vec::new();
        for (rule, sql) in RULES {
            rules.push(rule.to_owned());
            let limited = sqlx::AssertSqlSafe(format!(
                "WITH found(what) AS ({sql}) SELECT what FROM found WHERE $1 = $1 LIMIT $2"
            ));
            let found: Vec<(String,)> = sqlx::query_as(limited)
                .bind(now.as_ms())
                .bind(TOLD)
                .fetch_all(&mut *conn)
                .await?;
            offenders.extend(found.into_iter().map(|(what,)| Offender {
                rule: rule.to_owned(),
                what,
            }));
        }
        for (rule, found) in [
            (
                "L9 each card's entries are one unbroken chain",
                broken_chains(conn).await?,
            ),
            ("I16 the audit is one unbroken chain", broken_audit(conn).await?),
            (
                "I19 purchases, usage and corrections add up to the balances",
                sums(conn).await?,
            ),
        ] {
            rules.push(rule.to_owned());
            offenders.extend(found.into_iter().map(|what| Offender {
                rule: rule.to_owned(),
                what,
            }));
        }
        let count = |sql: &'static str| sqlx::query_scalar::<_, i64>(sql);
        let cards = count("SELECT COUNT(*) FROM card").fetch_one(&mut *conn).await?;
        let entries = count("SELECT COUNT(*) FROM ledger").fetch_one(&mut *conn).await?;
        let calls = count("SELECT COUNT(*) FROM call").fetch_one(&mut *conn).await?;
        Ok(CheckReport {
            clean: offenders.is_empty(),
            rules,
            offenders,
            cards,
            entries,
            calls,
        })
    }
}

/// Entries whose hash does not follow from the row and the one before it; cards whose head differs.
async fn broken_chains(conn: &mut AnyConnection) -> Result<Vec<String>, StoreFault> {
    type Row = (
        i64,
        i64,
        String,
        i64,
        Option<String>,
        Option<i64>,
        String,
        String,
        i64,
        String,
        String,
    );
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT card_id, seq, kind, delta_ms, call, purchase_id, op_key, actor, at, prev_hash, row_hash
         FROM ledger ORDER BY card_id, seq",
    )
    .fetch_all(&mut *conn)
    .await?;
    let heads: Vec<(i64, String, i64, String)> =
        sqlx::query_as("SELECT id, serial, last_seq, last_hash FROM card ORDER BY id")
            .fetch_all(conn)
            .await?;
    let mut broken = Vec::new();
    let mut last = std::collections::BTreeMap::<i64, (i64, String)>::new();
    for (card, seq, kind, delta_ms, call, purchase, op_key, actor, at, prev, hash) in rows {
        let (before, head) = last.remove(&card).unwrap_or_default();
        let entry = NewEntry {
            card,
            kind: &kind,
            delta_ms,
            call: call.as_deref(),
            purchase,
            op_key: &op_key,
            actor: &actor,
            at: UnixTime::from_ms(at),
        };
        if seq != before + 1 || prev != head || hash != entry_hash(&prev, seq, &entry) {
            broken.push(format!("entry {seq} of card {card}"));
        }
        last.insert(card, (seq, hash));
    }
    for (card, serial, seq, hash) in heads {
        if last.remove(&card).unwrap_or_default() != (seq, hash) {
            broken.push(format!("card {serial}: its last entry is missing or changed"));
        }
    }
    Ok(broken)
}

async fn broken_audit(conn: &mut AnyConnection) -> Result<Vec<String>, StoreFault> {
    type Row = (
        i64,
        i64,
        String,
        String,
        String,
        Option<String>,
        Option<String>,
        String,
        String,
    );
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, at, actor, action, subject, before, after, prev_hash, row_hash FROM audit ORDER BY id",
    )
    .fetch_all(&mut *conn)
    .await?;
    let kept: String = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'audit_head'")
        .fetch_one(conn)
        .await?;
    let mut broken = Vec::new();
    let mut head = String::new();
    for (id, at, actor, action, subject, before, after, prev, hash) in rows {
        let want = audit::row_hash(
            &prev,
            at,
            &actor,
            &action,
            &subject,
            before.as_deref(),
            after.as_deref(),
        );
        if prev != head || hash != want {
            broken.push(format!("audit row {id}"));
        }
        head = hash;
    }
    if head != kept {
        broken.push("the newest audit row is missing or changed".to_owned());
    }
    Ok(broken)
}

/// Conservation over everything (L14).
async fn sums(conn: &mut AnyConnection) -> Result<Vec<String>, StoreFault> {
    let (balances, entries, bought, sold): (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT CAST(COALESCE((SELECT SUM(balance_ms) FROM card), 0) AS BIGINT),
            CAST(COALESCE((SELECT SUM(delta_ms) FROM ledger), 0) AS BIGINT),
            CAST(COALESCE((SELECT SUM(delta_ms) FROM ledger WHERE purchase_id IS NOT NULL), 0) AS BIGINT),
            CAST(COALESCE((SELECT SUM(minutes * 60000) FROM purchase), 0) AS BIGINT)",
    )
    .fetch_one(conn)
    .await?;
    let mut wrong = Vec::new();
    if balances != entries {
        wrong.push(format!("balances {balances}, entries {entries}"));
    }
    if bought != sold {
        wrong.push(format!("bought {bought}, sold {sold}"));
    }
    Ok(wrong)
}
