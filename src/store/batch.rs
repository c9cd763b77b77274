//! Requests of many calls in one `db_tx` (group commit): the wait for the disk is shared.
//!
//! A fault of one request does not hold back the others: the batch is rolled back and its requests
//! are carried out one by one. Since each is idempotent, a batch whose result is unknown is simply
//! given again.
//!
//! Deliberately absent: who waits for whom (the driver's desk keeps each call's order).

use std::sync::Arc;

use super::ledger::Ask;
use super::{DbTx, Store, StoreFault};
use crate::card::{LedgerReply, LedgerRequest};
use crate::now::Now;

/// Of a request that collides with others: deadlocks, serialization failures, two first inserts.
const TRIES: u32 = 3;

/// One request's share of a batch.
pub type Answered = Result<LedgerReply, Arc<StoreFault>>;

impl Store {
    /// Carries out one request of a call in one `db_tx`. It may be repeated after an unknown
    /// result: the answer is the first one's.
    ///
    /// # Errors
    /// The database's; then nothing may have happened, or everything.
    pub async fn ledger(&self, now: Now, request: &LedgerRequest) -> Result<LedgerReply, StoreFault> {
        let wall = now.wall;
        match request {
            LedgerRequest::FindLine { project, line } => self.find_line(now, *project, line).await,
            LedgerRequest::CheckPin {
                call,
                project,
                number: _,
                pin,
                line,
            } => self.check_pin(now, *call, *project, pin, line.as_ref()).await,
            LedgerRequest::Bind { op, call, card, line } => {
                self.bind(now, *op, *call, *card, line.as_ref()).await
            }
            LedgerRequest::ReadCard { call, card } => self.read_card(wall, *call, *card).await,
            LedgerRequest::OpenCdr(_)
            | LedgerRequest::Reserve { .. }
            | LedgerRequest::Renew { .. }
            | LedgerRequest::Checkpoint { .. }
            | LedgerRequest::Settle(_)
            | LedgerRequest::CloseCdr(_) => {
                let mut replies = self.again(now, request).await?.take();
                replies
                    .pop()
                    .ok_or_else(|| StoreFault::damaged("a batch of one without an answer"))
            }
        }
    }

    /// Carries out requests of different calls, those that write in one `db_tx` if all goes well.
    /// Gives an answer for each, in their order. No two may be of one call: their order is not kept.
    pub async fn ledger_all(&self, now: Now, requests: &[LedgerRequest]) -> Vec<Answered> {
        let mut order: Vec<usize> = (0..requests.len()).filter(|n| shares(&requests[*n])).collect();
        // Card rows are locked in one order, so that two nodes' batches cannot wait for each other.
        order.sort_by_key(|n| card_of(&requests[*n]));
        let together: Vec<&LedgerRequest> = order.iter().map(|n| &requests[*n]).collect();
        let mut answers: Vec<Option<Answered>> = requests.iter().map(|_| None).collect();
        if together.len() > 1 {
            match self.in_one(now, &together).await {
                Ok(replies) => {
                    for (n, reply) in order.iter().zip(replies.take()) {
                        answers[*n] = Some(Ok(reply));
                    }
                }
                Err(fault) if fault.is_away() => {
                    let fault = Arc::new(fault);
                    for n in order {
                        answers[n] = Some(Err(Arc::clone(&fault)));
                    }
                }
                Err(fault) => tracing::debug!(%fault, "a batch is carried out one by one"),
            }
        }
        let mut all = Vec::with_capacity(requests.len());
        for (request, answer) in requests.iter().zip(answers) {
            all.push(match answer {
                Some(answer) => answer,
                None => self.ledger(now, request).await.map_err(Arc::new),
            });
        }
        all
    }

    /// One request; once more if it only met others on its way.
    async fn again(&self, now: Now, request: &LedgerRequest) -> Result<Replies, StoreFault> {
        for _ in 1..TRIES {
            match self.in_one(now, &[request]).await {
                Err(fault) if fault.is_collision() => {
                    tracing::debug!(%fault, "a request is carried out once more");
                }
                done => return done,
            }
        }
        self.in_one(now, &[request]).await
    }

    async fn in_one(&self, now: Now, requests: &[&LedgerRequest]) -> Result<Replies, StoreFault> {
        let mut replies = Replies(Vec::with_capacity(requests.len()));
        let mut db = self.begin().await?;
        self.fence(db.conn(), now).await?;
        for request in requests {
            let reply = self.carry_out(&mut db, now, request).await?;
            replies.0.push(reply);
        }
        db.commit().await?;
        Ok(replies)
    }

    async fn carry_out(
        &self,
        db: &mut DbTx,
        now: Now,
        request: &LedgerRequest,
    ) -> Result<LedgerReply, StoreFault> {
        match request {
            LedgerRequest::OpenCdr(opening) => self.open_cdr(db, opening).await,
            LedgerRequest::Reserve {
                op,
                call,
                card,
                want,
                floor,
            } => {
                let ask = Ask::new(*op, *call, *card, *want);
                self.reserve(db, now, &ask, *floor).await
            }
            LedgerRequest::Renew { op, call, card, want } => {
                self.renew(db, now, &Ask::new(*op, *call, *card, *want)).await
            }
            LedgerRequest::Checkpoint { call, card, used } => {
                self.checkpoint(db, now, *call, *card, *used).await
            }
            LedgerRequest::Settle(settlement) => self.settle(db, now, settlement).await,
            LedgerRequest::CloseCdr(cdr) => self.close_cdr(db, cdr).await,
            LedgerRequest::FindLine { .. }
            | LedgerRequest::CheckPin { .. }
            | LedgerRequest::Bind { .. }
            | LedgerRequest::ReadCard { .. } => unreachable!("it shares no db_tx"),
        }
    }
}

/// Answers that are not committed yet. A grant among them that is not, or whose asker is gone, is
/// nobody's: the token ends here, and the row by its op id, or by its validity.
struct Replies(Vec<LedgerReply>);

impl Replies {
    fn take(mut self) -> Vec<LedgerReply> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        for reply in self.0.drain(..) {
            reply.forgo();
        }
    }
}

/// Whether the request writes and may do so in the `db_tx` of others. PIN tries do not: what they
/// count must stand whatever happens to their neighbours.
pub fn shares(request: &LedgerRequest) -> bool {
    match request {
        LedgerRequest::OpenCdr(_)
        | LedgerRequest::Reserve { .. }
        | LedgerRequest::Renew { .. }
        | LedgerRequest::Checkpoint { .. }
        | LedgerRequest::Settle(_)
        | LedgerRequest::CloseCdr(_) => true,
        LedgerRequest::FindLine { .. }
        | LedgerRequest::CheckPin { .. }
        | LedgerRequest::Bind { .. }
        | LedgerRequest::ReadCard { .. } => false,
    }
}

/// The card whose row a request locks; 0 for none.
fn card_of(request: &LedgerRequest) -> i64 {
    match request {
        LedgerRequest::Reserve { card, .. }
        | LedgerRequest::Renew { card, .. }
        | LedgerRequest::Checkpoint { card, .. } => card.get(),
        LedgerRequest::Settle(settlement) => settlement.card.get(),
        LedgerRequest::CloseCdr(cdr) => cdr.card.map_or(0, |card| card.get()),
        LedgerRequest::OpenCdr(_)
        | LedgerRequest::FindLine { .. }
        | LedgerRequest::CheckPin { .. }
        | LedgerRequest::Bind { .. }
        | LedgerRequest::ReadCard { .. } => 0,
    }
}
