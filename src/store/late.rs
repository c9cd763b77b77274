//! Orders that come late, out of a node's journal: applied once, or told to be evidence.
//!
//! While the database was away another node may have taken this one over, or the sweeper may have
//! ended the reservation at its checkpoint. Then the books stay as they are, and the order is given
//! back with the reason.

use super::{Store, StoreFault};
use crate::card::{LedgerReply, LedgerRequest, Settlement};
use crate::now::Now;

/// What became of a late order.
#[derive(Debug)]
pub enum Applied {
    Done(LedgerReply),
    /// It was carried out before; only its answer was lost.
    Known,
    /// The books say otherwise and stay so; the reason in words.
    Rejected(String),
}

/// A reservation: state, raw, billed.
type Ended = (String, Option<i64>, Option<i64>);

impl Store {
    /// Carries out an order that was written down in `epoch` of this node. As long as nobody has ended
    /// its reservation, what was measured counts, whichever epoch it is now.
    ///
    /// # Errors
    /// The database's; then nothing may have happened, or everything.
    pub async fn apply(&self, now: Now, epoch: i64, order: &LedgerRequest) -> Result<Applied, StoreFault> {
        let LedgerRequest::Settle(settlement) = order else {
            // A record names no money that a reservation does not; a checkpoint of what has ended is void.
            return Ok(Applied::Done(self.ledger(now, order).await?));
        };
        let mut db = self.begin().await?;
        self.fence(db.conn(), now).await?;
        let row: Option<Ended> = sqlx::query_as(
            self.locking("SELECT state, raw_ms, billed_ms FROM reservation WHERE call = $1 AND card_id = $2"),
        )
        .bind(settlement.call.to_string())
        .bind(settlement.card.get())
        .fetch_optional(db.conn())
        .await?;
        let applied = match row {
            // Given back on suspicion: the grant's own fate was unknown, and it never came to be.
            None if settlement.billed.as_ms() == 0 => Applied::Known,
            None => Applied::Rejected(format!(
                "there is no such reservation; {}",
                measured(epoch, settlement)
            )),
            Some((state, _, _)) if state == "open" => {
                Applied::Done(self.settle(&mut db, now, settlement).await?)
            }
            Some((_, raw, billed)) if same(settlement, raw, billed) => Applied::Known,
            Some((state, raw, billed)) => Applied::Rejected(format!(
                "it is {state} already: raw {} ms, billed {} ms; {}",
                raw.unwrap_or(0),
                billed.unwrap_or(0),
                measured(epoch, settlement)
            )),
        };
        db.commit().await?;
        Ok(applied)
    }
}

fn same(settlement: &Settlement, raw: Option<i64>, billed: Option<i64>) -> bool {
    raw == Some(settlement.raw.as_ms().max(0)) && billed == Some(settlement.billed.as_ms().max(0))
}

fn measured(epoch: i64, settlement: &Settlement) -> String {
    format!(
        "call {} on card {} in epoch {epoch} measured raw {} ms, billed {} ms",
        settlement.call,
        settlement.card,
        settlement.raw.as_ms(),
        settlement.billed.as_ms()
    )
}
