//! Slices: more talk time is asked for ahead of need, and the card is looked at again while the
//! last grant runs.

use crate::call::connect::slice;
use crate::call::cx::Cx;
use crate::call::entry::ANSWER_WITHIN;
use crate::call::feed::CallHappening;
use crate::call::talk::Bridge;
use crate::card::{CardFacts, CardState, LedgerReply, LedgerRequest, ReserveRefusal};
use crate::fault::{self, Fault};
use crate::ids::{LedgerId, OpId};
use crate::now::Instant;
use crate::units::TalkTime;

/// What is being asked of the ledger.
pub(super) enum Slices {
    Idle,
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
    Reading {
        id: LedgerId,
        by: Instant,
    },
}

impl Bridge {
    /// When the next slice must be asked for, or the answer is overdue.
    pub(super) fn slice_timeout(&self, cx_lead: std::time::Duration) -> Option<Instant> {
        match self.slices {
            Slices::Renewing { by, .. } | Slices::Reading { by, .. } => Some(by),
            Slices::Again { at, .. } => Some(at),
            Slices::Idle => {
                let lead = self.end()? - cx_lead;
                // The last grant cannot be renewed, but a recharge may be found.
                if self.paid.reservation.is_last() {
                    Some(lead.max(self.look_at))
                } else {
                    Some(lead)
                }
            }
        }
    }

    pub(super) fn slice_due(&mut self, cx: &mut Cx<'_>) {
        let now = cx.mono();
        let due = self
            .slice_timeout(cx.config().renew_lead)
            .is_some_and(|at| at <= now);
        if !due {
            return;
        }
        match self.slices {
            Slices::Idle if self.paid.reservation.is_last() => self.read_card(cx),
            Slices::Idle => {
                let op = cx.ids.op_id();
                self.renew(cx, op);
            }
            Slices::Again { op, .. } => {
                let again = fault::planted(Fault::NewKeyPerRetry).then(|| cx.ids.op_id());
                self.renew(cx, again.unwrap_or(op));
            }
            Slices::Renewing { op, .. } => self.renew_again(cx, op),
            Slices::Reading { .. } => self.slices = Slices::Idle,
        }
    }

    /// The operator or another call touched the card.
    pub(super) fn card_changed(&mut self, cx: &mut Cx<'_>) {
        match self.slices {
            Slices::Idle | Slices::Reading { .. } => self.read_card(cx),
            // The renewal that is under way will tell.
            Slices::Renewing { .. } | Slices::Again { .. } => {}
        }
    }

    pub(super) fn slice_answered(&mut self, cx: &mut Cx<'_>, id: LedgerId, reply: LedgerReply) {
        match (&self.slices, reply) {
            (Slices::Renewing { id: asked, .. }, LedgerReply::Renewed { granted, last }) if *asked == id => {
                self.slices = Slices::Idle;
                // A slice of nothing is the end, whatever else it says.
                let nothing = granted <= self.paid.reservation.total();
                self.granted(cx, granted, last || nothing);
            }
            // Blocked, expired or empty: the granted slice is used up, then the call ends.
            (Slices::Renewing { id: asked, .. }, LedgerReply::NotReserved(why)) if *asked == id => {
                self.slices = Slices::Idle;
                self.forbidden = matches!(why, ReserveRefusal::State(_));
                let total = self.paid.reservation.total();
                self.granted(cx, total, true);
            }
            (Slices::Renewing { id: asked, op, .. }, LedgerReply::Unavailable) if *asked == id => {
                let op = *op;
                self.renew_again(cx, op);
            }
            (Slices::Reading { id: asked, .. }, LedgerReply::Card(card)) if *asked == id => {
                self.slices = Slices::Idle;
                self.looked(cx, card);
            }
            (Slices::Reading { id: asked, .. }, LedgerReply::Unavailable) if *asked == id => {
                self.slices = Slices::Idle;
            }
            (
                Slices::Idle | Slices::Renewing { .. } | Slices::Again { .. } | Slices::Reading { .. },
                reply,
            ) => cx.late(reply),
        }
    }

    fn read_card(&mut self, cx: &mut Cx<'_>) {
        let id = cx.ask(LedgerRequest::ReadCard {
            call: cx.facts.key,
            card: self.paid.card.card,
        });
        let now = cx.mono();
        self.look_at = now + cx.config().retry;
        let by = now + ANSWER_WITHIN;
        self.slices = Slices::Reading { id, by };
    }

    fn renew(&mut self, cx: &mut Cx<'_>, op: OpId) {
        let id = cx.ask(LedgerRequest::Renew {
            op,
            call: cx.facts.key,
            card: self.paid.card.card,
            want: slice(cx),
        });
        let by = cx.mono() + ANSWER_WITHIN;
        self.slices = Slices::Renewing { id, op, by };
    }

    fn renew_again(&mut self, cx: &mut Cx<'_>, op: OpId) {
        let at = cx.mono() + cx.config().retry;
        self.slices = Slices::Again { op, at };
    }

    /// The card as it is now: is there more than this call's grants, and may it be used?
    fn looked(&mut self, cx: &mut Cx<'_>, card: Box<CardFacts>) {
        let usable = match card.state {
            // Who began to talk in time may talk on after the card's day has ended.
            CardState::New | CardState::Active | CardState::Expired => true,
            CardState::Blocked | CardState::Cancelled => false,
        };
        self.forbidden = !usable;
        let usable = usable && !fault::planted(Fault::RechargeLost);
        let last = !usable || card.available().as_ms() <= 0;
        // What another call on this card gave back is no recharge.
        let recharged = card.balance > self.paid.card.balance;
        self.paid.card = card;
        if self.paid.reservation.is_last() && !last {
            self.warnings.withdraw(cx, recharged);
        }
        let total = self.paid.reservation.total();
        self.granted(cx, total, last);
    }

    /// Takes in the sum of the grants.
    fn granted(&mut self, cx: &mut Cx<'_>, granted: TalkTime, last: bool) {
        let before = self.paid.reservation.total();
        self.paid.reservation.renewed(granted, last);
        let total = self.paid.reservation.total();
        if total > before {
            self.checkpointed(cx);
            cx.event(CallHappening::Extended { granted: total });
        }
    }
}
