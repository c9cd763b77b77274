//! BIND, ANNOUNCE, OFFER and RESERVE: from the card to the granted talk time.

use std::time::Duration;

use crate::call::cdr::EndCause;
use crate::call::cx::{Cx, OpenCard};
use crate::call::dial::Dial;
use crate::call::directory::Role;
use crate::call::ending::{Ending, Farewell, refuse};
use crate::call::entry::{ANSWER_WITHIN, contradicted, empty};
use crate::call::feed::CallHappening;
use crate::call::pin::Pin;
use crate::call::refusal::Refusal;
use crate::call::speech::fixed;
use crate::call::step::Step;
use crate::call::{Deadline, State};
use crate::card::ledger::Reservation;
use crate::card::{
    BindVerdict, CardFacts, CardState, LedgerReply, LedgerRequest, ReserveRefusal, Settlement,
};
use crate::fault::{self, Fault};
use crate::ids::{LedgerId, PlayId, Side};
use crate::media::{MediaCommand, PromptId};
use crate::now::Instant;
use crate::secret::Digit;
use crate::sip::Caller;
use crate::units::TalkTime;

/// The ledger remembers the line, after the card passed CHECK (I8).
pub(super) struct Bind {
    card: Box<CardFacts>,
    asked: LedgerId,
    by: Instant,
}

impl Bind {
    pub fn start(cx: &mut Cx<'_>, card: Box<CardFacts>) -> State {
        let line = cx.facts.line().filter(|_| !contradicted(&cx.facts.caller));
        let op = cx.ids.op_id();
        let asked = cx.ask(LedgerRequest::Bind {
            op,
            call: cx.facts.key,
            card: card.card,
            line,
        });
        let by = cx.mono() + ANSWER_WITHIN;
        Bind { card, asked, by }.into()
    }

    pub fn next_timeout(&self) -> Option<Deadline> {
        Some((self.by, "bind"))
    }

    pub fn handle(self, cx: &mut Cx<'_>, step: Step) -> State {
        match step {
            Step::Ledger(id, reply) if id == self.asked => self.answered(cx, reply),
            Step::Ledger(_, reply) => {
                cx.late(reply);
                self.into()
            }
            Step::Timeout if cx.mono() >= self.by => refuse(cx, Refusal::StoreDown),
            Step::CallerGone(end) => Ending::caller_gone(cx, &end),
            Step::HangUp => Ending::killed(cx),
            Step::CallerReady
            | Step::Ringing
            | Step::AdvisorAnswered
            | Step::AdvisorRefused(_)
            | Step::AdvisorGone(_)
            | Step::Direction
            | Step::ProbeAnswered(_)
            | Step::Digit(..)
            | Step::PlayEnded(_)
            | Step::FirstPacket
            | Step::Lost(..)
            | Step::Back(_)
            | Step::CardChanged(_)
            | Step::Cleared
            | Step::Timeout => self.into(),
        }
    }

    fn answered(self, cx: &mut Cx<'_>, reply: LedgerReply) -> State {
        match reply {
            LedgerReply::Bound(verdict) => {
                let card = self.card.card;
                cx.event(CallHappening::Activated { card });
                Announce::fresh(cx, self.card, &verdict)
            }
            other @ (LedgerReply::Done
            | LedgerReply::Line(_)
            | LedgerReply::Pin(_)
            | LedgerReply::Reserved(_)
            | LedgerReply::Renewed { .. }
            | LedgerReply::NotReserved(_)
            | LedgerReply::Settled { .. }
            | LedgerReply::Card(_)
            | LedgerReply::Unavailable) => {
                cx.late(other);
                refuse(cx, Refusal::StoreDown)
            }
        }
    }
}

/// The caller hears how long the card lasts; any digit skips, `*` asks for another PIN.
pub(super) struct Announce {
    card: Box<CardFacts>,
    /// A PIN was entered in this call.
    fresh: bool,
    play: PlayId,
}

impl Announce {
    pub fn known(cx: &mut Cx<'_>, card: Box<CardFacts>) -> State {
        Announce::start(cx, card, false, Vec::new())
    }

    pub fn fresh(cx: &mut Cx<'_>, card: Box<CardFacts>, verdict: &BindVerdict) -> State {
        let mut prompts = vec![fixed::PIN_OK];
        match verdict {
            BindVerdict::Bound => prompts.push(fixed::BOUND),
            // Said only where it is true: a policy of not remembering is nobody's withheld number.
            BindVerdict::NotBound if cx.facts.caller == Caller::Withheld => prompts.push(fixed::NOT_BOUND),
            BindVerdict::NotBound => {}
        }
        Announce::start(cx, card, true, prompts)
    }

    fn start(cx: &mut Cx<'_>, card: Box<CardFacts>, fresh: bool, mut prompts: Vec<PromptId>) -> State {
        prompts.extend(cx.say_rest(card.available()));
        if prompts.is_empty() {
            // All of it is reserved by another call, or it is less than what is spoken.
            return Reserve::start(cx, card);
        }
        let play = cx.play(Side::A, prompts);
        Announce { card, fresh, play }.into()
    }

    pub fn next_timeout(&self, ivr_until: Instant) -> Option<Deadline> {
        Some((ivr_until, "ivr"))
    }

    pub fn handle(self, cx: &mut Cx<'_>, step: Step) -> State {
        match step {
            Step::PlayEnded(id) if id == self.play => self.go_on(cx),
            Step::Digit(Side::A, Digit::Star) => Pin::again(cx),
            // Some callers end their PIN with `#`, although it was complete.
            Step::Digit(Side::A, Digit::Hash) if self.fresh => self.into(),
            Step::Digit(Side::A, _) => {
                cx.media(Side::A, MediaCommand::Silence);
                self.go_on(cx)
            }
            Step::Ledger(_, reply) => {
                cx.late(reply);
                self.into()
            }
            Step::Timeout if cx.mono() >= cx.facts.ivr_until => refuse(cx, Refusal::PinNone),
            Step::CallerGone(end) => Ending::caller_gone(cx, &end),
            Step::HangUp => Ending::killed(cx),
            Step::CallerReady
            | Step::Ringing
            | Step::AdvisorAnswered
            | Step::AdvisorRefused(_)
            | Step::AdvisorGone(_)
            | Step::Direction
            | Step::ProbeAnswered(_)
            | Step::Digit(Side::B, _)
            | Step::PlayEnded(_)
            | Step::FirstPacket
            | Step::Lost(..)
            | Step::Back(_)
            | Step::CardChanged(_)
            | Step::Cleared
            | Step::Timeout => self.into(),
        }
    }

    fn go_on(self, cx: &mut Cx<'_>) -> State {
        match cx.facts.number.role {
            Role::Activation if self.fresh => Offer::start(cx, self.card),
            Role::Activation | Role::Consultation | Role::Both => Reserve::start(cx, self.card),
        }
    }
}

/// „Press 1 to be connected now", on the activation number after a fresh PIN (A2).
pub(super) struct Offer {
    card: Box<CardFacts>,
    play: PlayId,
    /// `None` while the offer is still being spoken.
    by: Option<Instant>,
}

impl Offer {
    fn start(cx: &mut Cx<'_>, card: Box<CardFacts>) -> State {
        let mut prompts = Vec::new();
        if let Some(number) = cx.facts.project.consultation.clone() {
            prompts.push(fixed::BERATUNG_NR);
            prompts.extend(cx.say_number(&number));
        }
        prompts.push(fixed::OFFER_CONNECT);
        let play = cx.play(Side::A, prompts);
        Offer { card, play, by: None }.into()
    }

    pub fn next_timeout(&self, ivr_until: Instant) -> Option<Deadline> {
        Some((self.by.unwrap_or(ivr_until).min(ivr_until), "offer"))
    }

    pub fn handle(self, cx: &mut Cx<'_>, step: Step) -> State {
        match step {
            Step::Digit(Side::A, Digit::Number(1)) => {
                cx.media(Side::A, MediaCommand::Silence);
                Reserve::start(cx, self.card)
            }
            Step::PlayEnded(id) if id == self.play => {
                let by = Some(cx.mono() + cx.config().offer);
                Offer { by, ..self }.into()
            }
            Step::Timeout if self.is_due(cx) => Farewell::start(cx, EndCause::Activated, vec![fixed::BYE]),
            Step::Ledger(_, reply) => {
                cx.late(reply);
                self.into()
            }
            Step::CallerGone(end) => Ending::caller_gone(cx, &end),
            Step::HangUp => Ending::killed(cx),
            Step::CallerReady
            | Step::Ringing
            | Step::AdvisorAnswered
            | Step::AdvisorRefused(_)
            | Step::AdvisorGone(_)
            | Step::Direction
            | Step::ProbeAnswered(_)
            | Step::Digit(..)
            | Step::PlayEnded(_)
            | Step::FirstPacket
            | Step::Lost(..)
            | Step::Back(_)
            | Step::CardChanged(_)
            | Step::Cleared
            | Step::Timeout => self.into(),
        }
    }

    fn is_due(&self, cx: &Cx<'_>) -> bool {
        self.next_timeout(cx.facts.ivr_until)
            .is_some_and(|(at, _)| at <= cx.mono())
    }
}

/// A card with talk time set aside for this call. It moves from state to state and ends in
/// `settle` or `release`, nowhere else.
pub(super) struct Paid {
    pub card: Box<CardFacts>,
    pub reservation: Reservation,
    /// Earlier talk on the same reservation; the card was recharged at zero.
    pub talked: Talked,
}

/// Talk that is over but not settled yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Talked {
    pub raw: TalkTime,
    pub billed: TalkTime,
    /// What the pauses of the clock have taken of their limit.
    pub paused: Duration,
}

impl Paid {
    /// Ends the use of the card: charges what was talked before, which mostly is nothing.
    pub fn end(self, cx: &mut Cx<'_>) {
        cx.settle(self.reservation, self.talked.raw, self.talked.billed);
    }

    /// What would be charged if the call broke now.
    pub fn shadow(&self) -> OpenCard {
        OpenCard {
            card: self.card.card,
            granted: self.reservation.total(),
            used: self.talked.raw,
            owed: self.talked.billed,
        }
    }
}

/// The ledger is deciding on the first slice; the caller may leave first.
pub(super) struct Reserve {
    card: Box<CardFacts>,
    asked: LedgerId,
    by: Instant,
}

impl Reserve {
    pub fn start(cx: &mut Cx<'_>, card: Box<CardFacts>) -> State {
        let tariff = &cx.facts.project.tariff;
        let minimum = TalkTime::from_duration(cx.config().start_minimum);
        let floor = minimum.max(tariff.start_minimum());
        let want = slice(cx);
        let op = cx.ids.op_id();
        let asked = cx.ask(LedgerRequest::Reserve {
            op,
            call: cx.facts.key,
            card: card.card,
            want,
            floor,
        });
        let by = cx.mono() + ANSWER_WITHIN;
        Reserve { card, asked, by }.into()
    }

    pub fn next_timeout(&self) -> Option<Deadline> {
        Some((self.by, "reserve"))
    }

    pub fn handle(self, cx: &mut Cx<'_>, step: Step) -> State {
        match step {
            Step::Ledger(id, reply) if id == self.asked => self.answered(cx, reply),
            Step::Ledger(_, reply) => {
                cx.late(reply);
                self.into()
            }
            Step::Timeout if cx.mono() >= self.by => self.unknown(cx),
            // The grant may be on its way: Ending waits for it and gives it back.
            Step::CallerGone(end) => Ending::abandoned(cx, &end, self.asked, self.card.card),
            Step::HangUp => Ending::killed_while_asking(cx, self.asked, self.card.card),
            Step::CallerReady
            | Step::Ringing
            | Step::AdvisorAnswered
            | Step::AdvisorRefused(_)
            | Step::AdvisorGone(_)
            | Step::Direction
            | Step::ProbeAnswered(_)
            | Step::Digit(..)
            | Step::PlayEnded(_)
            | Step::FirstPacket
            | Step::Lost(..)
            | Step::Back(_)
            | Step::CardChanged(_)
            | Step::Cleared
            | Step::Timeout => self.into(),
        }
    }

    fn answered(self, cx: &mut Cx<'_>, reply: LedgerReply) -> State {
        match reply {
            LedgerReply::Reserved(reservation) => {
                let (card, talked) = (self.card, Talked::default());
                Dial::start(
                    cx,
                    Paid {
                        card,
                        reservation,
                        talked,
                    },
                )
            }
            LedgerReply::NotReserved(ReserveRefusal::InUse) => refuse(cx, Refusal::CardInUse),
            LedgerReply::NotReserved(ReserveRefusal::Empty) => empty(cx),
            LedgerReply::NotReserved(ReserveRefusal::State(CardState::Expired)) => {
                refuse(cx, Refusal::CardExpired)
            }
            LedgerReply::NotReserved(ReserveRefusal::State(
                CardState::New | CardState::Active | CardState::Blocked | CardState::Cancelled,
            )) => refuse(cx, Refusal::CardBlocked),
            other @ (LedgerReply::Done
            | LedgerReply::Line(_)
            | LedgerReply::Pin(_)
            | LedgerReply::Bound(_)
            | LedgerReply::Renewed { .. }
            | LedgerReply::Settled { .. }
            | LedgerReply::Card(_)
            | LedgerReply::Unavailable) => {
                cx.late(other);
                self.unknown(cx)
            }
        }
    }

    /// No answer says nothing: the slice may have been granted, so it is given back by its key.
    fn unknown(self, cx: &mut Cx<'_>) -> State {
        if !fault::planted(Fault::UnknownGrantKept) {
            cx.release_unknown(self.card.card);
        }
        refuse(cx, Refusal::StoreDown)
    }
}

/// How much is set aside at a time: the configured slice in whole increments of the tariff.
pub(super) fn slice(cx: &Cx<'_>) -> TalkTime {
    let want = TalkTime::from_duration(cx.config().slice);
    cx.facts.project.tariff.slice(want)
}

impl Cx<'_> {
    /// Settles a card's use: `billed` by the tariff, never above the grants.
    pub fn settle(&mut self, reservation: Reservation, raw: TalkTime, billed: TalkTime) {
        let settlement = reservation.settle(raw, billed);
        self.facts.record.raw = self.facts.record.raw.saturating_add(settlement.raw);
        self.facts.record.billed = self.facts.record.billed.saturating_add(settlement.billed);
        self.facts.open = None;
        self.file_settlement(settlement);
    }

    /// Whether a slice was granted is not known; if one was, it is given back.
    pub fn release_unknown(&mut self, card: crate::ids::CardId) {
        let call = self.facts.key;
        self.file_settlement(Settlement {
            call,
            card,
            raw: TalkTime::ZERO,
            billed: TalkTime::ZERO,
        });
    }

    /// An answer that no state waits for any more. Only a grant matters: it is given back.
    pub fn late(&mut self, reply: LedgerReply) {
        match reply {
            LedgerReply::Reserved(reservation) => {
                let settlement = reservation.release();
                self.file_settlement(settlement);
            }
            LedgerReply::Done
            | LedgerReply::Line(_)
            | LedgerReply::Pin(_)
            | LedgerReply::Bound(_)
            | LedgerReply::Renewed { .. }
            | LedgerReply::NotReserved(_)
            | LedgerReply::Settled { .. }
            | LedgerReply::Card(_)
            | LedgerReply::Unavailable => {}
        }
    }
}
