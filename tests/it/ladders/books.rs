//! The store as the ladders see it: a few cards in memory, and every rule that must hold of them.

use std::collections::{BTreeMap, BTreeSet};

use cardline::card::ledger::Reservation;
use cardline::card::{
    BindVerdict, CardFacts, CardState, LedgerReply, LedgerRequest, LineVerdict, PinVerdict, ReserveRefusal,
};
use cardline::ids::{CallKey, CardId, ProjectId};
use cardline::now::UnixTime;
use cardline::units::TalkTime;

pub struct Card {
    pub pin: &'static str,
    pub state: CardState,
    pub balance_ms: i64,
    pub lines: BTreeSet<String>,
    pub expires_ms: Option<i64>,
    open: BTreeMap<CallKey, i64>,
    settled: BTreeMap<CallKey, i64>,
    /// The last checkpoint of any call on this card.
    pub checkpoint_ms: i64,
}

/// The model. It checks itself with every order.
#[derive(Default)]
pub struct Books {
    pub cards: BTreeMap<CardId, Card>,
    pub locked: BTreeSet<String>,
    pub rows_opened: BTreeMap<CallKey, u32>,
    pub rows_closed: BTreeMap<CallKey, cardline::call::cdr::Cdr>,
    answers: BTreeMap<u128, (i64, bool)>,
}

impl Books {
    pub fn add(&mut self, card: i64, pin: &'static str, seconds: i64) {
        self.cards.insert(
            CardId::new(card),
            Card {
                pin,
                state: CardState::New,
                balance_ms: seconds * 1000,
                lines: BTreeSet::new(),
                expires_ms: None,
                open: BTreeMap::new(),
                settled: BTreeMap::new(),
                checkpoint_ms: 0,
            },
        );
    }

    pub fn card(&mut self, card: i64) -> &mut Card {
        self.cards
            .get_mut(&CardId::new(card))
            .expect("the ladder laid it")
    }

    /// What is left when all is over: nothing open, every row opened and closed once.
    pub fn check_closed(&self) {
        for (id, card) in &self.cards {
            assert!(card.open.is_empty(), "card {id} has open reservations");
            assert!(card.balance_ms >= 0, "card {id} is below zero");
        }
        for (call, times) in &self.rows_opened {
            assert_eq!(*times, 1, "row of {call} was opened {times} times");
            assert!(
                self.rows_closed.contains_key(call),
                "row of {call} was not closed"
            );
        }
        for (call, cdr) in &self.rows_closed {
            assert!(self.rows_opened.contains_key(call));
            let posted: i64 = self
                .cards
                .values()
                .filter_map(|card| card.settled.get(call))
                .sum();
            assert_eq!(
                posted,
                cdr.billed.as_ms(),
                "row and entries of {call} say the same"
            );
        }
    }

    pub fn answer(&mut self, request: &LedgerRequest) -> LedgerReply {
        match request {
            LedgerRequest::OpenCdr(opening) => {
                *self.rows_opened.entry(opening.call).or_default() += 1;
                LedgerReply::Done
            }
            LedgerRequest::FindLine { line, .. } => LedgerReply::Line(self.find(line.as_str())),
            LedgerRequest::CheckPin { pin, line, .. } => {
                let line = line.as_ref().map(|line| line.as_str().to_owned());
                LedgerReply::Pin(self.check_pin(pin.expose(), line))
            }
            LedgerRequest::Bind { card, line, .. } => self.bind(*card, line.as_ref().map(|l| l.as_str())),
            LedgerRequest::Reserve {
                op,
                call,
                card,
                want,
                floor,
            } => match self.reserve(op.0, *call, *card, want.as_ms(), floor.as_ms()) {
                Ok((granted, last)) => LedgerReply::Reserved(Reservation::granted(
                    *call,
                    *card,
                    TalkTime::from_ms(granted),
                    last,
                )),
                Err(why) => LedgerReply::NotReserved(why),
            },
            LedgerRequest::Renew { op, call, card, want } => self.renew(op.0, *call, *card, want.as_ms()),
            LedgerRequest::Checkpoint { call, card, used } => {
                let open = self.cards[card].open.get(call).copied().unwrap_or(0);
                assert!(used.as_ms() <= open, "used within the grants");
                self.cards
                    .entry(*card)
                    .and_modify(|card| card.checkpoint_ms = used.as_ms());
                LedgerReply::Done
            }
            LedgerRequest::Settle(settlement) => {
                let card = self.cards.get_mut(&settlement.card).expect("a card of ours");
                if let Some(open) = card.open.remove(&settlement.call) {
                    assert!(settlement.billed.as_ms() <= open, "billed within the grants");
                    assert!(
                        card.settled
                            .insert(settlement.call, settlement.billed.as_ms())
                            .is_none()
                    );
                    card.balance_ms -= settlement.billed.as_ms();
                }
                LedgerReply::Settled {
                    balance: TalkTime::from_ms(card.balance_ms),
                }
            }
            LedgerRequest::ReadCard { call, card } => {
                LedgerReply::Card(Box::new(self.facts(*card, Some(*call))))
            }
            LedgerRequest::CloseCdr(cdr) => {
                assert!(self.rows_opened.contains_key(&cdr.call), "opened before closed");
                assert!(self.rows_closed.insert(cdr.call, (**cdr).clone()).is_none());
                LedgerReply::Done
            }
        }
    }

    fn find(&self, line: &str) -> LineVerdict {
        if self.locked.contains(line) {
            return LineVerdict::Locked;
        }
        let known = self.cards.iter().find(|(_, card)| card.lines.contains(line));
        known.map_or(LineVerdict::Unknown, |(id, _)| {
            LineVerdict::Known(Box::new(self.facts(*id, None)))
        })
    }

    fn check_pin(&mut self, pin: &str, line: Option<String>) -> PinVerdict {
        if line.is_some_and(|line| self.locked.contains(&line)) {
            return PinVerdict::Locked;
        }
        let found = self.cards.iter().find(|(_, card)| card.pin == pin);
        found.map_or(PinVerdict::Wrong, |(id, _)| {
            PinVerdict::Right(Box::new(self.facts(*id, None)))
        })
    }

    fn bind(&mut self, card: CardId, line: Option<&str>) -> LedgerReply {
        let card = self.cards.get_mut(&card).expect("a card of ours");
        card.state = CardState::Active;
        let verdict = match line {
            Some(line) => {
                card.lines.insert(line.to_owned());
                BindVerdict::Bound
            }
            None => BindVerdict::NotBound,
        };
        LedgerReply::Bound(verdict)
    }

    fn reserve(
        &mut self,
        op: u128,
        call: CallKey,
        id: CardId,
        want: i64,
        floor: i64,
    ) -> Result<(i64, bool), ReserveRefusal> {
        if let Some(answer) = self.answers.get(&op) {
            return Ok(*answer);
        }
        let card = self.cards.get_mut(&id).expect("a card of ours");
        if card.state != CardState::Active {
            return Err(ReserveRefusal::State(card.state));
        }
        if !card.open.is_empty() {
            return Err(ReserveRefusal::InUse);
        }
        let available = card.available();
        if available < floor {
            return Err(ReserveRefusal::Empty);
        }
        let granted = want.min(available);
        card.open.insert(call, granted);
        let answer = (granted, granted == available);
        self.answers.insert(op, answer);
        Ok(answer)
    }

    fn renew(&mut self, op: u128, call: CallKey, id: CardId, want: i64) -> LedgerReply {
        let card = self.cards.get_mut(&id).expect("a card of ours");
        if card.state != CardState::Active {
            return LedgerReply::NotReserved(ReserveRefusal::State(card.state));
        }
        let more = if self.answers.contains_key(&op) {
            0
        } else {
            want.min(card.available())
        };
        let open = card.open.get_mut(&call).expect("renewed while open");
        *open += more;
        let granted = *open;
        let last = card.available() == 0;
        self.answers.insert(op, (granted, last));
        LedgerReply::Renewed {
            granted: TalkTime::from_ms(granted),
            last,
        }
    }

    fn facts(&self, id: CardId, _call: Option<CallKey>) -> CardFacts {
        let card = &self.cards[&id];
        CardFacts {
            card: id,
            project: ProjectId::new(1),
            serial: format!("K{id}"),
            note: String::new(),
            state: card.state,
            balance: TalkTime::from_ms(card.balance_ms),
            reserved: TalkTime::from_ms(card.open.values().sum()),
            expires_at: card.expires_ms.map(UnixTime::from_ms),
            max_parallel: 1,
            open_calls: u32::try_from(card.open.len()).expect("few"),
            bound: false,
        }
    }
}

impl Card {
    pub fn available(&self) -> i64 {
        self.balance_ms - self.open.values().sum::<i64>()
    }

    /// Reserves everything for a call that is none of this world's.
    pub fn use_elsewhere(&mut self) {
        self.open.insert(CallKey::new(7), 1);
    }

    pub fn done_elsewhere(&mut self) {
        self.open.remove(&CallKey::new(7));
    }
}
