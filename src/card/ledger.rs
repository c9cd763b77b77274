//! The ledger's pure rules. [`Book`] is the reference model that the stores are tested against; a
//! call carries the [`Reservation`] token.
//!
//! Life of a reservation: open -> settled | released (by its call) | expired (by the sweeper or by
//! recovery, at the last checkpoint). It ends once; later orders about it change nothing. A call that
//! outlives its process goes on with the one it had ([`Adopted`]).

pub use crate::card::book::{Book, BookCard, Command, Entry, EntryKind, Outcome, Terms};

use crate::card::tariff::Tariff;
use crate::card::{CardFacts, Settlement};
use crate::fault::{self, Fault};
use crate::ids::{CallKey, CardId};
use crate::units::TalkTime;

/// How long a reservation stands beyond the talk time that it still grants (product.md 3.2), and
/// how much later it is ended by others (I5).
pub const VALIDITY: TalkTime = TalkTime::from_secs(90);
pub const GRACE: TalkTime = TalkTime::from_secs(30);

/// Talk time set aside for a call on one card. Not `Clone`: it moves from state to state, and only
/// `settle` or `release` consume it; dropping one is a bug that `Drop` makes loud.
#[derive(Debug)]
pub struct Reservation {
    call: CallKey,
    card: CardId,
    granted: TalkTime,
    last: bool,
    spent: bool,
}

impl Reservation {
    /// Made by the store (or its model) when the first slice is committed. `last`: nothing is
    /// available beyond this grant.
    pub fn granted(call: CallKey, card: CardId, granted: TalkTime, last: bool) -> Reservation {
        Reservation {
            call,
            card,
            granted,
            last,
            spent: false,
        }
    }

    pub fn call(&self) -> CallKey {
        self.call
    }

    pub fn card(&self) -> CardId {
        self.card
    }

    /// All slices of this call on this card together.
    pub fn total(&self) -> TalkTime {
        self.granted
    }

    /// Whether the last answer said that nothing is available beyond it.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Takes in the answer to a renewal: the grants' new sum, which never falls.
    pub fn renewed(&mut self, granted: TalkTime, last: bool) {
        self.granted = self.granted.max(granted);
        self.last = last;
    }

    /// Charges `billed`, capped at the grants, and gives back the rest.
    pub fn settle(mut self, raw: TalkTime, billed: TalkTime) -> Settlement {
        self.spent = true;
        if fault::planted(Fault::ChargedPastGrant) {
            self.granted = billed;
        }
        Settlement {
            call: self.call,
            card: self.card,
            raw,
            billed: billed.min(self.granted).max(TalkTime::ZERO),
        }
    }

    /// Gives everything back.
    pub fn release(self) -> Settlement {
        self.settle(TalkTime::ZERO, TalkTime::ZERO)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.spent {
            tracing::error!(call = %self.call, card = %self.card, "a reservation was dropped without settlement");
            debug_assert!(
                std::thread::panicking(),
                "a reservation was dropped without settlement"
            );
        }
    }
}

/// A reservation of an earlier life of this node, still open: what its call needs to go on with it.
/// One call may have several, each on a card of its own.
#[derive(Debug)]
pub struct Adopted {
    /// The sum of all grants; `last` as of now.
    pub reservation: Reservation,
    /// At the last checkpoint. More may have been talked, less has not.
    pub used: TalkTime,
    /// The card as it is now: it may have been recharged or blocked in between.
    pub card: Box<CardFacts>,
    /// What the card's project charges by now.
    pub tariff: Tariff,
}

impl Adopted {
    /// For a call that cannot go on after all: charges the last checkpoint and never more, not even
    /// by rounding.
    pub fn settle(self) -> Settlement {
        let total = self.reservation.total();
        let billed = self.tariff.bill(self.used, total).min(self.used);
        self.reservation.settle(self.used, billed)
    }
}
