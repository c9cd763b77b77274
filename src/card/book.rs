//! The reference model of the ledger: (book, command) -> entries or a refusal. The stores and the
//! simulator's books are compared with it.

use std::collections::BTreeMap;

use crate::card::ledger::{GRACE, VALIDITY};
use crate::card::tariff::Tariff;
use crate::card::{CardState, ReserveRefusal, Settlement};
use crate::fault::{self, Fault};
use crate::ids::{CallKey, CardId, OpId};
use crate::now::UnixTime;
use crate::units::TalkTime;

/// Why an entry was written; the word in the ledger is the store's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    Purchase,
    Recharge,
    Usage,
    Storno,
}

/// An immutable row. A balance is the sum of its card's entries (I1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub card: CardId,
    pub kind: EntryKind,
    pub delta: TalkTime,
    pub call: Option<CallKey>,
}

/// What can be asked of the book; the calls' requests and the operator's verbs.
#[derive(Clone, Debug)]
pub enum Command {
    Buy {
        card: CardId,
        amount: TalkTime,
        max_parallel: u32,
        expires_at: Option<UnixTime>,
    },
    Recharge {
        card: CardId,
        amount: TalkTime,
    },
    Activate {
        card: CardId,
    },
    Block {
        card: CardId,
    },
    Unblock {
        card: CardId,
    },
    Cancel {
        card: CardId,
    },
    Reserve {
        op: OpId,
        call: CallKey,
        card: CardId,
        want: TalkTime,
        floor: TalkTime,
    },
    Renew {
        op: OpId,
        call: CallKey,
        card: CardId,
        want: TalkTime,
    },
    Checkpoint {
        call: CallKey,
        card: CardId,
        used: TalkTime,
    },
    Settle(Settlement),
    /// Ends what is past its validity.
    Expire,
    /// A new life of the node: ends everything but the reservations of these calls.
    Recover {
        restorable: Vec<CallKey>,
    },
}

/// What a call goes on with after a new life of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Terms {
    pub call: CallKey,
    pub card: CardId,
    pub total: TalkTime,
    /// At the last checkpoint.
    pub used: TalkTime,
    pub last: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// By (call, card).
    Adopted(Vec<Terms>),
    /// All slices of the call on this card; `last`: nothing is available beyond them.
    Granted {
        total: TalkTime,
        last: bool,
    },
    NotReserved(ReserveRefusal),
    Settled {
        balance: TalkTime,
    },
    /// The card's state forbids the verb.
    WrongState,
    /// A call is on (I9).
    InUse,
    NoCard,
}

/// A card as the book sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookCard {
    pub state: CardState,
    before_block: CardState,
    pub balance: TalkTime,
    pub reserved: TalkTime,
    pub open_calls: u32,
    pub max_parallel: u32,
    pub expires_at: Option<UnixTime>,
}

#[derive(Clone, Debug)]
struct BookReservation {
    /// Order of opening, which is the order of ending.
    nth: usize,
    amount: TalkTime,
    used: TalkTime,
    valid_until: i64,
    open: bool,
}

/// Cards, entries and reservations of one operator, charged by one tariff.
#[derive(Clone, Debug, Default)]
pub struct Book {
    pub tariff: Tariff,
    pub cards: BTreeMap<CardId, BookCard>,
    pub entries: Vec<Entry>,
    reservations: BTreeMap<(CallKey, CardId), BookReservation>,
    /// First answers, by op id.
    answers: BTreeMap<OpId, Outcome>,
}

impl Book {
    /// Applies one command; a repeated op id gets the first grant again.
    pub fn apply(&mut self, now: UnixTime, command: &Command) -> Outcome {
        match command {
            Command::Buy {
                card,
                amount,
                max_parallel,
                expires_at,
            } => {
                let fresh = BookCard {
                    state: CardState::New,
                    before_block: CardState::New,
                    balance: TalkTime::ZERO,
                    reserved: TalkTime::ZERO,
                    open_calls: 0,
                    max_parallel: *max_parallel,
                    expires_at: *expires_at,
                };
                self.cards.insert(*card, fresh);
                self.enter(*card, EntryKind::Purchase, *amount, None);
                Outcome::Done
            }
            Command::Recharge { card, amount } => match self.state(*card) {
                None => Outcome::NoCard,
                Some(CardState::Cancelled) => Outcome::WrongState,
                Some(_) => {
                    self.enter(*card, EntryKind::Recharge, *amount, None);
                    Outcome::Done
                }
            },
            Command::Activate { card } => self.activate(now, *card),
            Command::Block { card } => self.block(*card),
            Command::Unblock { card } => self.unblock(*card),
            Command::Cancel { card } => self.cancel(*card),
            Command::Reserve {
                op,
                call,
                card,
                want,
                floor,
            } => self.reserve(now, *op, (*call, *card), *want, *floor),
            Command::Renew { op, call, card, want } => self.renew(now, *op, (*call, *card), *want),
            Command::Checkpoint { call, card, used } => self.checkpoint(now, (*call, *card), *used),
            Command::Settle(settlement) => self.settle(settlement),
            Command::Expire => {
                self.end_left(|_, left| left.valid_until.saturating_add(GRACE.as_ms()) < now.as_ms());
                Outcome::Done
            }
            Command::Recover { restorable } => self.recover(now, restorable),
        }
    }

    fn state(&self, card: CardId) -> Option<CardState> {
        self.cards.get(&card).map(|card| card.state)
    }

    fn activate(&mut self, now: UnixTime, id: CardId) -> Outcome {
        let Some(card) = self.cards.get_mut(&id) else {
            return Outcome::NoCard;
        };
        let over = card.expires_at.is_some_and(|at| at <= now);
        if card.state == CardState::New && !over && card.balance > TalkTime::ZERO {
            card.state = CardState::Active;
        }
        Outcome::Done
    }

    fn block(&mut self, id: CardId) -> Outcome {
        let Some(card) = self.cards.get_mut(&id) else {
            return Outcome::NoCard;
        };
        match card.state {
            CardState::Blocked | CardState::Cancelled => Outcome::WrongState,
            CardState::New | CardState::Active | CardState::Expired => {
                card.before_block = card.state;
                card.state = CardState::Blocked;
                Outcome::Done
            }
        }
    }

    fn unblock(&mut self, id: CardId) -> Outcome {
        match self.cards.get_mut(&id) {
            None => Outcome::NoCard,
            Some(card) if card.state == CardState::Blocked => {
                card.state = card.before_block;
                Outcome::Done
            }
            Some(_) => Outcome::WrongState,
        }
    }

    fn cancel(&mut self, id: CardId) -> Outcome {
        let Some(card) = self.cards.get_mut(&id) else {
            return Outcome::NoCard;
        };
        if card.state == CardState::Cancelled {
            return Outcome::WrongState;
        }
        if card.open_calls > 0 {
            return Outcome::InUse;
        }
        card.state = CardState::Cancelled;
        let rest = card.balance;
        if rest > TalkTime::ZERO {
            self.enter(id, EntryKind::Storno, TalkTime::ZERO.saturating_sub(rest), None);
        }
        Outcome::Done
    }

    fn reserve(
        &mut self,
        now: UnixTime,
        op: OpId,
        key: (CallKey, CardId),
        want: TalkTime,
        floor: TalkTime,
    ) -> Outcome {
        if let Some(first) = self.answers.get(&op) {
            return first.clone();
        }
        let nth = self.reservations.len();
        let Some(card) = self.cards.get_mut(&key.1) else {
            return Outcome::NotReserved(ReserveRefusal::State(CardState::Cancelled));
        };
        let over = card.expires_at.is_some_and(|at| at <= now);
        match card.state {
            CardState::New | CardState::Active if over => {
                return Outcome::NotReserved(ReserveRefusal::State(CardState::Expired));
            }
            CardState::Active => {}
            CardState::New | CardState::Expired | CardState::Blocked | CardState::Cancelled => {
                return Outcome::NotReserved(ReserveRefusal::State(card.state));
            }
        }
        // One usage entry per call and card (I3): what has ended is not opened again.
        match self.reservations.get(&key) {
            Some(earlier) if earlier.open => return Outcome::NotReserved(ReserveRefusal::InUse),
            Some(_) => return Outcome::NotReserved(ReserveRefusal::Empty),
            None => {}
        }
        if card.open_calls >= card.max_parallel {
            return Outcome::NotReserved(ReserveRefusal::InUse);
        }
        let available = card.balance.saturating_sub(card.reserved);
        if available < floor.max(TalkTime::from_ms(1)) {
            return Outcome::NotReserved(ReserveRefusal::Empty);
        }
        let amount = want.max(TalkTime::from_ms(1)).min(available);
        card.reserved = card.reserved.saturating_add(amount);
        card.open_calls += 1;
        let fresh = BookReservation {
            nth,
            amount,
            used: TalkTime::ZERO,
            valid_until: valid_until(now, amount),
            open: true,
        };
        self.reservations.insert(key, fresh);
        let outcome = Outcome::Granted {
            total: amount,
            last: amount == available,
        };
        self.answers.insert(op, outcome.clone());
        outcome
    }

    fn renew(&mut self, now: UnixTime, op: OpId, key: (CallKey, CardId), want: TalkTime) -> Outcome {
        if let Some(first) = self.answers.get(&op) {
            return first.clone();
        }
        let Some(card) = self.cards.get_mut(&key.1) else {
            return Outcome::NotReserved(ReserveRefusal::State(CardState::Cancelled));
        };
        if card.state != CardState::Active {
            return Outcome::NotReserved(ReserveRefusal::State(card.state));
        }
        let Some(kept) = self.reservations.get_mut(&key).filter(|kept| kept.open) else {
            return Outcome::NotReserved(ReserveRefusal::Empty);
        };
        let available = card.balance.saturating_sub(card.reserved);
        let amount = want.max(TalkTime::ZERO).min(available);
        card.reserved = card.reserved.saturating_add(amount);
        kept.amount = kept.amount.saturating_add(amount);
        kept.valid_until = valid_until(now, kept.amount.saturating_sub(kept.used));
        let outcome = Outcome::Granted {
            total: kept.amount,
            last: amount == available,
        };
        self.answers.insert(op, outcome.clone());
        outcome
    }

    fn checkpoint(&mut self, now: UnixTime, key: (CallKey, CardId), used: TalkTime) -> Outcome {
        if let Some(kept) = self.reservations.get_mut(&key).filter(|kept| kept.open) {
            kept.used = used.max(kept.used).min(kept.amount);
            kept.valid_until = valid_until(now, kept.amount.saturating_sub(kept.used));
        }
        Outcome::Done
    }

    fn settle(&mut self, settlement: &Settlement) -> Outcome {
        self.end((settlement.call, settlement.card), settlement.billed);
        let balance = self.cards.get(&settlement.card).map(|card| card.balance);
        Outcome::Settled {
            balance: balance.unwrap_or_default(),
        }
    }

    /// Ends reservations that nobody else will, at their checkpoints and never past them.
    fn end_left(&mut self, left: impl Fn(CallKey, &BookReservation) -> bool) {
        let mut due: Vec<(usize, (CallKey, CardId), TalkTime)> = self
            .reservations
            .iter()
            .filter(|((call, _), kept)| kept.open && left(*call, kept))
            .map(|(key, kept)| {
                let billed = self.tariff.bill(kept.used, kept.amount).min(kept.used);
                (kept.nth, *key, billed)
            })
            .collect();
        due.sort_unstable_by_key(|(nth, ..)| *nth);
        for (_, key, billed) in due {
            self.end(key, billed);
            let card = self.cards.get_mut(&key.1);
            if let Some(card) = card.filter(|_| fault::planted(Fault::OpenCallKept)) {
                card.open_calls += 1;
            }
        }
    }

    fn recover(&mut self, now: UnixTime, restorable: &[CallKey]) -> Outcome {
        self.end_left(|call, _| !restorable.contains(&call));
        let mut adopted = Vec::new();
        for (&(call, card), kept) in self.reservations.iter_mut().filter(|(_, kept)| kept.open) {
            kept.valid_until = valid_until(now, kept.amount.saturating_sub(kept.used));
            adopted.push(Terms {
                call,
                card,
                total: kept.amount,
                used: kept.used,
                last: self
                    .cards
                    .get(&card)
                    .is_some_and(|card| card.balance == card.reserved),
            });
        }
        Outcome::Adopted(adopted)
    }

    /// Ends an open reservation, once: charges at most its grants and gives back the rest.
    fn end(&mut self, key: (CallKey, CardId), billed: TalkTime) {
        let kept = self.reservations.get_mut(&key);
        let Some(kept) = kept.filter(|kept| kept.open || fault::planted(Fault::SettledFromMemory)) else {
            return;
        };
        kept.open = false;
        let amount = kept.amount;
        if let Some(card) = self.cards.get_mut(&key.1) {
            card.reserved = card.reserved.saturating_sub(amount);
            card.open_calls = card.open_calls.saturating_sub(1);
        }
        let billed = billed.max(TalkTime::ZERO).min(amount);
        if billed > TalkTime::ZERO {
            let delta = TalkTime::ZERO.saturating_sub(billed);
            self.enter(key.1, EntryKind::Usage, delta, Some(key.0));
        }
    }

    /// Writes an entry and moves the balance with it.
    fn enter(&mut self, card: CardId, kind: EntryKind, delta: TalkTime, call: Option<CallKey>) {
        self.entries.push(Entry {
            card,
            kind,
            delta,
            call,
        });
        if let Some(card) = self.cards.get_mut(&card) {
            card.balance = card.balance.saturating_add(delta);
        }
    }
}

fn valid_until(now: UnixTime, granted: TalkTime) -> i64 {
    granted
        .saturating_add(VALIDITY)
        .as_ms()
        .saturating_add(now.as_ms())
}
