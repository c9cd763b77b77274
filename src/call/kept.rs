//! A card that is used up while its caller is still on the line (FINAL): a recharge goes on with
//! it. Its reservation stays open, all of it used, because a call is charged once per card (I3).

use crate::call::connect::{Paid, slice};
use crate::call::cx::Cx;
use crate::call::entry::ANSWER_WITHIN;
use crate::card::{CardFacts, CardState, LedgerReply, LedgerRequest};
use crate::ids::{CardId, LedgerId, OpId};
use crate::now::Instant;

pub(super) struct Kept {
    paid: Paid,
    look: Look,
}

/// What is being asked of the ledger.
enum Look {
    Idle {
        at: Instant,
    },
    Reading {
        id: LedgerId,
        by: Instant,
    },
    Renewing {
        id: LedgerId,
        op: OpId,
        by: Instant,
    },
    /// The store was away; the same order again, by the same key.
    Again {
        op: OpId,
        at: Instant,
    },
}

impl Kept {
    pub fn new(cx: &Cx<'_>, paid: Paid) -> Kept {
        let look = Look::Idle { at: next_look(cx) };
        Kept { paid, look }
    }

    pub fn card(&self) -> CardId {
        self.paid.card.card
    }

    pub fn into_paid(self) -> Paid {
        self.paid
    }

    pub fn next_timeout(&self) -> Instant {
        match self.look {
            Look::Idle { at } | Look::Again { at, .. } => at,
            Look::Reading { by, .. } | Look::Renewing { by, .. } => by,
        }
    }

    pub fn timeout(&mut self, cx: &mut Cx<'_>) {
        if cx.mono() < self.next_timeout() {
            return;
        }
        match self.look {
            Look::Idle { .. } => self.read(cx),
            Look::Reading { .. } => self.look = Look::Idle { at: next_look(cx) },
            Look::Again { op, .. } => self.renew_as(cx, op),
            Look::Renewing { op, .. } => {
                self.look = Look::Again {
                    op,
                    at: next_look(cx),
                }
            }
        }
    }

    /// The operator touched a card.
    pub fn changed(&mut self, cx: &mut Cx<'_>, card: CardId) {
        match self.look {
            Look::Idle { .. } | Look::Reading { .. } if card == self.card() => self.read(cx),
            Look::Idle { .. } | Look::Reading { .. } | Look::Renewing { .. } | Look::Again { .. } => {}
        }
    }

    /// The card as it was just seen; asks for talk time if it has any.
    pub fn seen(&mut self, cx: &mut Cx<'_>, card: Box<CardFacts>) {
        let usable = match card.state {
            // As in a talk, the end of the card's day does not matter any more.
            CardState::New | CardState::Active | CardState::Expired => true,
            CardState::Blocked | CardState::Cancelled => false,
        };
        let more = usable && card.available().as_ms() > 0;
        self.paid.card = card;
        match self.look {
            Look::Idle { .. } | Look::Reading { .. } if more => {
                let op = cx.ids.op_id();
                self.renew_as(cx, op);
            }
            Look::Idle { .. } | Look::Reading { .. } => self.look = Look::Idle { at: next_look(cx) },
            Look::Renewing { .. } | Look::Again { .. } => {}
        }
    }

    /// Whether there is talk time again.
    ///
    /// # Errors
    /// Gives back what is no answer to this.
    pub fn answered(
        &mut self,
        cx: &mut Cx<'_>,
        id: LedgerId,
        reply: LedgerReply,
    ) -> Result<bool, LedgerReply> {
        match (&self.look, reply) {
            (Look::Reading { id: asked, .. }, LedgerReply::Card(card)) if *asked == id => {
                self.seen(cx, card);
            }
            (Look::Renewing { id: asked, .. }, LedgerReply::Renewed { granted, last }) if *asked == id => {
                self.look = Look::Idle { at: next_look(cx) };
                let more = granted > self.paid.reservation.total();
                self.paid.reservation.renewed(granted, last);
                return Ok(more);
            }
            (Look::Renewing { id: asked, op, .. }, LedgerReply::Unavailable) if *asked == id => {
                self.look = Look::Again {
                    op: *op,
                    at: next_look(cx),
                };
            }
            (
                Look::Reading { id: asked, .. } | Look::Renewing { id: asked, .. },
                LedgerReply::NotReserved(_) | LedgerReply::Unavailable,
            ) if *asked == id => self.look = Look::Idle { at: next_look(cx) },
            (
                Look::Idle { .. } | Look::Reading { .. } | Look::Renewing { .. } | Look::Again { .. },
                reply,
            ) => return Err(reply),
        }
        Ok(false)
    }

    fn read(&mut self, cx: &mut Cx<'_>) {
        let id = cx.ask(LedgerRequest::ReadCard {
            call: cx.facts.key,
            card: self.card(),
        });
        let by = cx.mono() + ANSWER_WITHIN;
        self.look = Look::Reading { id, by };
    }

    fn renew_as(&mut self, cx: &mut Cx<'_>, op: OpId) {
        let id = cx.ask(LedgerRequest::Renew {
            op,
            call: cx.facts.key,
            card: self.card(),
            want: slice(cx),
        });
        let by = cx.mono() + ANSWER_WITHIN;
        self.look = Look::Renewing { id, op, by };
    }
}

fn next_look(cx: &Cx<'_>) -> Instant {
    cx.mono() + cx.config().retry
}
