//! What operators have changed, through whichever node: each of their writes leaves an audit row in
//! its `db_tx`, and the rows come in one order. So the audit is read on from where it was left.

use super::{Store, StoreFault};
use crate::ids::CardId;

/// Changes since a place in the audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The place to go on from.
    pub upto: i64,
    /// Projects, numbers or targets among them.
    pub directory: bool,
    /// Cards that were recharged, blocked or otherwise touched, each once.
    pub cards: Vec<CardId>,
}

impl Store {
    /// The place of the newest change.
    ///
    /// # Errors
    /// The database's.
    pub async fn newest_change(&self) -> Result<i64, StoreFault> {
        let newest: Option<i64> = sqlx::query_scalar("SELECT MAX(id) FROM audit")
            .fetch_one(self.pool())
            .await?;
        Ok(newest.unwrap_or(0))
    }

    /// What changed after `since`; what calls did themselves is none.
    ///
    /// # Errors
    /// The database's.
    pub async fn changes(&self, since: i64) -> Result<Changes, StoreFault> {
        let rows: Vec<(i64, String, Option<i64>)> = sqlx::query_as(
            "SELECT a.id, CASE WHEN a.actor LIKE 'call:%' THEN '' ELSE a.action END, c.id
             FROM audit a LEFT JOIN card c ON c.serial = a.subject
             WHERE a.id > $1 ORDER BY a.id LIMIT $2",
        )
        .bind(since)
        .bind(AT_A_TIME)
        .fetch_all(self.pool())
        .await?;
        let mut changes = Changes {
            upto: since,
            ..Changes::default()
        };
        for (id, action, card) in rows {
            changes.upto = id;
            match action.split('.').next() {
                Some("project" | "number" | "target" | "tariff" | "system") => changes.directory = true,
                Some("card" | "line" | "call") => changes.cards.extend(card.map(CardId::new)),
                Some(_) | None => {}
            }
        }
        changes.cards.sort_unstable();
        changes.cards.dedup();
        Ok(changes)
    }
}

/// Audit rows that are read at a time.
const AT_A_TIME: i64 = 1000;
