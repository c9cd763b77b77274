//! Cards whose day has ended: they are expired at that moment without anyone writing it, and their
//! balance stays visible. After a grace it is booked out by an `expiry` entry; a recharge revives it.

use sqlx::AnyConnection;

use super::cards::CardSql;
use super::ledger::{NewEntry, write_entry};
use super::{Act, DbTx, Store, StoreFault};
use crate::now::UnixTime;

/// How long an expired card keeps its balance: a recharge within it leaves no trace in the books,
/// and a wall clock that was wrong for a while has lapsed nothing.
const GRACE_MS: i64 = 30 * 86_400_000;
/// Cards of one `db_tx`; more wait for the next.
const AT_ONCE: i64 = 200;

/// What `lapse` booked out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lapsed {
    pub cards: u64,
    pub lapsed_ms: i64,
}

impl Store {
    /// Books out what is left on cards that expired 30 days ago, once per card and expiry. A card
    /// that a call still has reserved waits for its end.
    ///
    /// # Errors
    /// The database's; what was booked before stays booked.
    pub async fn lapse(&self, now: UnixTime) -> Result<Lapsed, StoreFault> {
        let mut all = Lapsed::default();
        loop {
            let some = self.lapse_some(now).await?;
            all.cards += some.cards;
            all.lapsed_ms = all.lapsed_ms.saturating_add(some.lapsed_ms);
            if some.cards < AT_ONCE.unsigned_abs() {
                return Ok(all);
            }
        }
    }

    async fn lapse_some(&self, now: UnixTime) -> Result<Lapsed, StoreFault> {
        let mut db: DbTx = self.begin().await?;
        let over: Vec<(i64, i64, i64)> = sqlx::query_as(self.locking(
            "SELECT id, expires_at, balance_ms FROM card
             WHERE expires_at <= $1 AND balance_ms > 0 AND open_calls = 0 AND reserved_ms = 0
                AND state <> 'storniert'
                AND NOT EXISTS (SELECT 1 FROM ledger l WHERE l.op_key = 'expiry:' || card.id || ':' || card.expires_at)
             ORDER BY id LIMIT 200",
        ))
        .bind(now.as_ms().saturating_sub(GRACE_MS))
        .fetch_all(db.conn())
        .await?;
        let mut done = Lapsed::default();
        for (card, expires_at, balance_ms) in over {
            let entry = NewEntry {
                card,
                kind: "expiry",
                delta_ms: -balance_ms,
                call: None,
                purchase: None,
                op_key: &expiry_key(card, expires_at),
                actor: "expiry",
                at: now,
            };
            write_entry(db.conn(), &entry).await?;
            done.cards += 1;
            done.lapsed_ms = done.lapsed_ms.saturating_add(balance_ms);
        }
        db.commit().await?;
        Ok(done)
    }
}

/// Gives back what the card's last expiry booked out, by a `correction` entry, once (A6). The card's
/// row is locked; gives how much it was.
pub(super) async fn revive(conn: &mut AnyConnection, act: &Act, card: &CardSql) -> Result<i64, StoreFault> {
    let Some(expires_at) = card.expires_at.filter(|at| *at <= act.now.as_ms()) else {
        return Ok(0);
    };
    let lapsed: Option<i64> = sqlx::query_scalar("SELECT -delta_ms FROM ledger WHERE op_key = $1")
        .bind(expiry_key(card.id, expires_at))
        .fetch_optional(&mut *conn)
        .await?;
    let Some(lapsed_ms) = lapsed else {
        return Ok(0);
    };
    let entry = NewEntry {
        card: card.id,
        kind: "correction",
        delta_ms: lapsed_ms,
        call: None,
        purchase: None,
        op_key: &format!("revival:{}:{expires_at}", card.id),
        actor: &act.actor,
        at: act.now,
    };
    write_entry(conn, &entry).await?;
    Ok(lapsed_ms)
}

fn expiry_key(card: i64, expires_at: i64) -> String {
    format!("expiry:{card}:{expires_at}")
}
