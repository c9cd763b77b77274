//! The account's pure rules: (account, command) -> entries or a refusal.

use crate::card::Settlement;
use crate::ids::{CallKey, CardId};
use crate::units::TalkTime;

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
