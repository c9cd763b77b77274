//! The books behind all nodes: cards, lines, reservations and CDR rows, by the rules of
//! reliability.md §4 in their shortest form. `card/book.rs`, the model that the real stores are
//! tested against, gets every command too, and the two must agree.

use std::collections::BTreeMap;

use cardline::call::cdr::{Cdr, EndCause};
use cardline::card::ledger::{Book, Command, Outcome, Reservation};
use cardline::card::{
    BindVerdict, CardFacts, CardState, CdrOpening, LedgerReply, LedgerRequest, LineVerdict, PinVerdict,
    ReserveRefusal, Settlement,
};
use cardline::ids::{CallKey, CardId, OpId, ProjectId};
use cardline::now::UnixTime;
use cardline::units::{E164, TalkTime};

use super::lease::Lease;
use super::phone::Nanos;

/// Who asks, and when: by true time, and by the clock on that node's wall.
#[derive(Clone, Copy, Debug)]
pub struct Clerk {
    pub at: Nanos,
    pub wall: UnixTime,
    pub node: usize,
    /// The life of its lease that it believes in, and until when it believes so.
    pub epoch: u32,
    pub grant_until: Nanos,
}

/// One card and its entries.
#[derive(Debug)]
pub struct Card {
    pub project: ProjectId,
    pub pin: String,
    pub state: CardState,
    pub before_block: CardState,
    pub expires_at: Option<UnixTime>,
    pub max_parallel: u32,
    /// (call, delta); purchases and recharges name no call.
    pub entries: Vec<(Option<CallKey>, i64)>,
    /// The cached sum.
    pub balance: i64,
}

/// Everything that one call has set aside on one card.
#[derive(Debug, Default)]
pub struct Row {
    pub granted: i64,
    pub used: i64,
    /// The talk at each renewal of a row that was used up.
    pub resumed: Vec<i64>,
    /// First answers by their keys, so that a repetition changes nothing.
    ops: BTreeMap<OpId, (i64, bool)>,
    pub settled: Option<Settlement>,
    /// Whose it is.
    pub node: usize,
    /// Ended at its checkpoint, by another than its call.
    pub recovered: bool,
}

#[derive(Debug, Default)]
pub struct CdrRow {
    pub node: usize,
    pub opening: Option<CdrOpening>,
    pub closing: Option<Cdr>,
}

#[derive(Debug, Default)]
pub struct Store {
    pub cards: BTreeMap<CardId, Card>,
    pub lines: BTreeMap<(ProjectId, E164), CardId>,
    pub rows: BTreeMap<(CallKey, CardId), Row>,
    pub cdrs: BTreeMap<CallKey, CdrRow>,
    wrong: BTreeMap<Option<E164>, u32>,
    binds: BTreeMap<OpId, bool>,
    pub(super) model: Book,
    pub(super) now: UnixTime,
    /// Whose request is carried out.
    node: usize,
    /// By node; empty where there is only one.
    pub leases: Vec<Lease>,
}

impl Store {
    /// Carries out one request, if its node may; `None`: it is fenced.
    ///
    /// # Panics
    /// On what no right caller may ask.
    pub fn ask(&mut self, clerk: Clerk, request: &LedgerRequest) -> Option<LedgerReply> {
        if self.is_fenced(clerk, request) {
            return None;
        }
        if matches!(
            request,
            LedgerRequest::Reserve { .. } | LedgerRequest::Renew { .. }
        ) {
            self.grants(clerk);
        }
        Some(self.commit(clerk, request))
    }

    /// Carries out one committed request.
    ///
    /// # Panics
    /// On what no right caller may ask.
    pub fn commit(&mut self, clerk: Clerk, request: &LedgerRequest) -> LedgerReply {
        self.now = clerk.wall;
        self.node = clerk.node;
        match request {
            LedgerRequest::OpenCdr(opening) => self.open_cdr(opening),
            LedgerRequest::FindLine { project, line } => {
                LedgerReply::Line(match self.lines.get(&(*project, line.clone())) {
                    Some(card) => LineVerdict::Known(Box::new(self.facts(*card, None, true))),
                    None if self.is_locked(Some(line)) => LineVerdict::Locked,
                    None => LineVerdict::Unknown,
                })
            }
            LedgerRequest::CheckPin {
                project, pin, line, ..
            } => LedgerReply::Pin(self.check_pin(*project, pin.expose(), line.as_ref())),
            LedgerRequest::Bind { op, card, line, .. } => {
                LedgerReply::Bound(self.bind(*op, *card, line.as_ref()))
            }
            LedgerRequest::Reserve {
                op,
                call,
                card,
                want,
                floor,
            } => self.reserve(*op, (*call, *card), want.as_ms(), floor.as_ms()),
            LedgerRequest::Renew { op, call, card, want } => self.renew(*op, (*call, *card), want.as_ms()),
            LedgerRequest::Checkpoint { call, card, used } => self.checkpoint((*call, *card), used.as_ms()),
            LedgerRequest::Settle(settlement) => {
                let reply = self.settle(settlement);
                self.agree(&Command::Settle(settlement.clone()), &reply);
                reply
            }
            LedgerRequest::ReadCard { call, card } => {
                LedgerReply::Card(Box::new(self.facts(*card, Some(*call), false)))
            }
            LedgerRequest::CloseCdr(cdr) => self.close_cdr(cdr),
        }
    }

    pub fn reserved(&self, card: CardId) -> i64 {
        let open = self
            .rows
            .iter()
            .filter(|(key, row)| key.1 == card && row.settled.is_none());
        open.map(|(_, row)| row.granted).sum()
    }

    pub fn available(&self, card: CardId) -> i64 {
        self.cards.get(&card).map_or(0, |c| c.balance) - self.reserved(card)
    }

    fn open_calls(&self, card: CardId) -> u32 {
        let open = self
            .rows
            .iter()
            .filter(|(key, row)| key.1 == card && row.settled.is_none() && row.granted > 0);
        u32::try_from(open.count()).unwrap_or(u32::MAX)
    }

    fn facts(&self, id: CardId, _call: Option<CallKey>, bound: bool) -> CardFacts {
        let card = &self.cards[&id];
        CardFacts {
            card: id,
            project: card.project,
            serial: format!("S{id}"),
            note: String::new(),
            state: card.state,
            balance: TalkTime::from_ms(card.balance),
            reserved: TalkTime::from_ms(self.reserved(id)),
            expires_at: card.expires_at,
            max_parallel: card.max_parallel,
            open_calls: self.open_calls(id),
            bound,
        }
    }

    fn is_locked(&self, line: Option<&E164>) -> bool {
        line.is_some() && self.wrong.get(&line.cloned()).is_some_and(|wrong| *wrong >= 6)
    }

    fn check_pin(&mut self, project: ProjectId, pin: &str, line: Option<&E164>) -> PinVerdict {
        if self.is_locked(line) {
            return PinVerdict::Locked;
        }
        let found = self
            .cards
            .iter()
            .find(|(_, c)| c.project == project && c.pin == pin);
        let found = found.map(|(id, _)| *id);
        if let Some(id) = found {
            return PinVerdict::Right(Box::new(self.facts(id, None, false)));
        }
        *self.wrong.entry(line.cloned()).or_default() += 1;
        if self.is_locked(line) {
            PinVerdict::Locked
        } else {
            PinVerdict::Wrong
        }
    }

    fn bind(&mut self, op: OpId, id: CardId, line: Option<&E164>) -> BindVerdict {
        let card = self.cards.get_mut(&id).expect("cards are never removed");
        let over = card.expires_at.is_some_and(|at| at <= self.now);
        if card.state == CardState::New && !over && card.balance > 0 {
            card.state = CardState::Active;
        }
        self.model.apply(self.now, &Command::Activate { card: id });
        if let Some(line) = line {
            self.lines.insert((card.project, line.clone()), id);
        }
        let bound = *self.binds.entry(op).or_insert(line.is_some());
        if bound {
            BindVerdict::Bound
        } else {
            BindVerdict::NotBound
        }
    }

    fn reserve(&mut self, op: OpId, key: (CallKey, CardId), want: i64, floor: i64) -> LedgerReply {
        let reply = self.decide(op, key, want, floor);
        let command = Command::Reserve {
            op,
            call: key.0,
            card: key.1,
            want: TalkTime::from_ms(want),
            floor: TalkTime::from_ms(floor),
        };
        self.agree(&command, &reply);
        reply
    }

    /// The model must say the same.
    fn agree(&mut self, command: &Command, reply: &LedgerReply) {
        let model = self.model.apply(self.now, command);
        let same = match (reply, model.clone()) {
            (LedgerReply::Reserved(mine), Outcome::Granted { total, last }) => {
                (mine.total(), mine.is_last()) == (total, last)
            }
            (LedgerReply::Renewed { granted, last: mine }, Outcome::Granted { total, last }) => {
                (*granted, *mine) == (total, last)
            }
            (LedgerReply::NotReserved(mine), Outcome::NotReserved(other)) => *mine == other,
            (LedgerReply::Settled { balance: mine }, Outcome::Settled { balance }) => *mine == balance,
            _ => false,
        };
        assert!(
            same,
            "the books say {reply:?}, the model {model:?} to {command:?}"
        );
    }

    fn decide(&mut self, op: OpId, key: (CallKey, CardId), want: i64, floor: i64) -> LedgerReply {
        assert!(want > 0 && floor >= 0, "a call wants {want} ms, at least {floor}");
        let card = &self.cards[&key.1];
        let over = card.expires_at.is_some_and(|at| at <= self.now);
        let state = match card.state {
            CardState::New | CardState::Active if over => CardState::Expired,
            CardState::New
            | CardState::Active
            | CardState::Expired
            | CardState::Blocked
            | CardState::Cancelled => card.state,
        };
        if let Some(row) = self.rows.get(&key) {
            if let (Some((granted, last)), None) = (row.ops.get(&op), &row.settled) {
                let granted = TalkTime::from_ms(*granted);
                return LedgerReply::Reserved(Reservation::granted(key.0, key.1, granted, *last));
            }
            assert!(
                row.settled.is_some(),
                "call {} reserves on card {} twice under two keys",
                key.0,
                key.1
            );
        }
        if state != CardState::Active {
            return LedgerReply::NotReserved(ReserveRefusal::State(state));
        }
        if self.rows.contains_key(&key) {
            // One usage entry per call and card (I3): what was settled is not opened again.
            return LedgerReply::NotReserved(ReserveRefusal::Empty);
        }
        if self.open_calls(key.1) >= card.max_parallel {
            return LedgerReply::NotReserved(ReserveRefusal::InUse);
        }
        let available = self.available(key.1);
        if available < floor || available <= 0 {
            return LedgerReply::NotReserved(ReserveRefusal::Empty);
        }
        let granted = want.min(available);
        let last = granted == available;
        let row = self.rows.entry(key).or_default();
        row.node = self.node;
        row.granted = granted;
        row.ops.insert(op, (granted, last));
        LedgerReply::Reserved(Reservation::granted(
            key.0,
            key.1,
            TalkTime::from_ms(granted),
            last,
        ))
    }

    fn renew(&mut self, op: OpId, key: (CallKey, CardId), want: i64) -> LedgerReply {
        let reply = self.extend(op, key, want);
        let (call, card) = key;
        let want = TalkTime::from_ms(want);
        self.agree(&Command::Renew { op, call, card, want }, &reply);
        reply
    }

    fn extend(&mut self, op: OpId, key: (CallKey, CardId), want: i64) -> LedgerReply {
        assert!(want > 0, "a renewal wants {want} ms");
        let available = self.available(key.1);
        let state = self.cards[&key.1].state;
        let Some(row) = self.rows.get_mut(&key).filter(|row| row.settled.is_none()) else {
            // Others have ended it meanwhile.
            let why = match state {
                CardState::Active => ReserveRefusal::Empty,
                CardState::New | CardState::Expired | CardState::Blocked | CardState::Cancelled => {
                    ReserveRefusal::State(state)
                }
            };
            return LedgerReply::NotReserved(why);
        };
        if let Some((granted, last)) = row.ops.get(&op) {
            return LedgerReply::Renewed {
                granted: TalkTime::from_ms(*granted),
                last: *last,
            };
        }
        if state != CardState::Active {
            return LedgerReply::NotReserved(ReserveRefusal::State(state));
        }
        let slice = want.min(available);
        if slice > 0 && row.used >= row.granted {
            row.resumed.push(row.used);
        }
        row.granted += slice;
        let last = slice == available;
        row.ops.insert(op, (row.granted, last));
        LedgerReply::Renewed {
            granted: TalkTime::from_ms(row.granted),
            last,
        }
    }

    fn checkpoint(&mut self, key: (CallKey, CardId), used: i64) -> LedgerReply {
        let row = self.rows.get_mut(&key);
        let row = row.unwrap_or_else(|| panic!("checkpoint of call {} without a reservation", key.0));
        assert!(
            used <= row.granted,
            "checkpoint {used} above the grant {}",
            row.granted
        );
        if row.settled.is_none() {
            row.used = row.used.max(used);
        }
        let (call, card) = key;
        let used = TalkTime::from_ms(used);
        self.model
            .apply(self.now, &Command::Checkpoint { call, card, used });
        LedgerReply::Done
    }

    fn settle(&mut self, settlement: &Settlement) -> LedgerReply {
        let key = (settlement.call, settlement.card);
        let billed = settlement.billed.as_ms();
        let card = self.cards.get_mut(&key.1).expect("cards are never removed");
        let balance = TalkTime::from_ms(card.balance);
        let Some(row) = self.rows.get_mut(&key) else {
            // A grant that never was is given back.
            assert_eq!(billed, 0, "call {} is billed without a reservation", key.0);
            return LedgerReply::Settled { balance };
        };
        assert!(
            (0..=row.granted).contains(&billed),
            "call {} is billed {billed} of {} granted",
            key.0,
            row.granted
        );
        match &row.settled {
            // A card that was used up asks once more in the same call; if the answer is lost, what
            // may have been granted is given back, and that must not touch the charge.
            Some(_) if settlement.billed.is_zero() && settlement.raw.is_zero() => {}
            // Others were faster, at the last checkpoint: what comes late changes nothing.
            Some(_) if row.recovered => {}
            Some(before) => assert_eq!(before, settlement, "two settlements of one call and card"),
            None => {
                row.settled = Some(settlement.clone());
                if billed > 0 {
                    card.entries.push((Some(key.0), -billed));
                    card.balance -= billed;
                }
            }
        }
        LedgerReply::Settled {
            balance: TalkTime::from_ms(card.balance),
        }
    }

    /// One usage entry for what a call was charged on a card (I3); none for nothing.
    pub(super) fn enter_usage(&mut self, (call, card): (CallKey, CardId), billed: i64) {
        let card = self.cards.get_mut(&card).expect("cards are never removed");
        if billed > 0 {
            card.entries.push((Some(call), -billed));
            card.balance -= billed;
        }
    }

    pub(super) fn tell_model(&mut self, clerk: Clerk, command: &Command) {
        self.model.apply(clerk.wall, command);
    }

    fn open_cdr(&mut self, opening: &CdrOpening) -> LedgerReply {
        let row = self.cdrs.entry(opening.call).or_default();
        row.node = self.node;
        match &row.opening {
            Some(before) => assert_eq!(before, opening, "two openings of one CDR"),
            None => row.opening = Some(opening.clone()),
        }
        LedgerReply::Done
    }

    fn close_cdr(&mut self, cdr: &Cdr) -> LedgerReply {
        let row = self.cdrs.entry(cdr.call).or_default();
        assert!(
            row.opening.is_some(),
            "the CDR of call {} was never opened",
            cdr.call
        );
        match &row.closing {
            Some(before) if before.end_cause == EndCause::CrashRecovered => {}
            Some(before) => assert_eq!(before, cdr, "two closings of one CDR"),
            None => row.closing = Some(cdr.clone()),
        }
        LedgerReply::Done
    }

    /// What must hold whenever the store is at rest (I1, I2, L1).
    pub fn check(&self) {
        for (id, card) in &self.cards {
            let sum: i64 = card.entries.iter().map(|(_, delta)| delta).sum();
            assert_eq!(
                sum, card.balance,
                "card {id}: balance is not the sum of its entries"
            );
            let available = self.available(*id);
            assert!(available >= 0, "card {id}: available is {available}");
            let open = self.open_calls(*id);
            assert!(
                open <= card.max_parallel,
                "card {id}: {open} calls at a time, {} may be",
                card.max_parallel
            );
            let model = &self.model.cards[id];
            let mine = (card.balance, self.reserved(*id), open);
            let other = (model.balance.as_ms(), model.reserved.as_ms(), model.open_calls);
            assert_eq!(mine, other, "card {id}: the books and the model differ");
        }
    }
}
