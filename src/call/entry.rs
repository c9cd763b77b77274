//! ANSWER, IDENTIFY and CHECK: from the 200 to the card.

use std::time::Duration;

use crate::call::connect::{Announce, Bind};
use crate::call::cx::Cx;
use crate::call::ending::{Ending, refuse};
use crate::call::pin::Pin;
use crate::call::refusal::Refusal;
use crate::call::speech::fixed;
use crate::call::step::Step;
use crate::call::{Deadline, State};
use crate::card::{CardFacts, CardState, LedgerReply, LedgerRequest, LineVerdict};
use crate::ids::LedgerId;
use crate::now::Instant;
use crate::sip::{Caller, Screening};

/// The driver answers within twice its own timeout; a question that stays open for this long is
/// taken for `Unavailable`.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(6);

/// The 200 is sent; the ACK brings the audio up. The endpoint gives up on it (`LegEnd::NoAck`).
pub(super) struct Answer;

impl Answer {
    pub fn next_timeout(&self) -> Option<Deadline> {
        None
    }

    pub fn handle(self, cx: &mut Cx<'_>, step: Step) -> State {
        match step {
            Step::CallerReady => identify(cx),
            Step::CallerGone(end) => Ending::caller_gone(cx, &end),
            Step::HangUp => Ending::killed(cx),
            Step::Ledger(_, reply) => {
                cx.late(reply);
                self.into()
            }
            Step::Ringing
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
}

/// A line that may be known is looked up; who withholds it enters a PIN.
fn identify(cx: &mut Cx<'_>) -> State {
    let Some(line) = cx.facts.line() else {
        return Pin::welcome(cx);
    };
    let project = cx.facts.project.id;
    let asked = cx.ask(LedgerRequest::FindLine { project, line });
    let by = cx.mono() + ANSWER_WITHIN;
    FindLine { asked, by }.into()
}

/// The ledger looks the line up.
pub(super) struct FindLine {
    asked: LedgerId,
    by: Instant,
}

impl FindLine {
    pub fn next_timeout(&self) -> Option<Deadline> {
        Some((self.by, "line"))
    }

    pub fn handle(self, cx: &mut Cx<'_>, step: Step) -> State {
        match step {
            Step::Ledger(id, reply) if id == self.asked => found(cx, reply),
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
}

fn found(cx: &mut Cx<'_>, reply: LedgerReply) -> State {
    match reply {
        LedgerReply::Line(LineVerdict::Unknown) => Pin::welcome(cx),
        LedgerReply::Line(LineVerdict::Locked) => refuse(cx, Refusal::Locked),
        // Two headers name two lines: neither is believed, the PIN decides.
        LedgerReply::Line(LineVerdict::Known(_)) if contradicted(&cx.facts.caller) => Pin::welcome(cx),
        LedgerReply::Line(LineVerdict::Known(card)) => check(cx, card, Proof::Line),
        other @ (LedgerReply::Done
        | LedgerReply::Pin(_)
        | LedgerReply::Bound(_)
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

pub(super) fn contradicted(caller: &Caller) -> bool {
    match caller {
        Caller::Withheld => false,
        Caller::Line { screening, .. } => *screening == Screening::Contradicted,
    }
}

/// How the card was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// Its line is calling.
    Line,
    /// Its PIN was entered in this call.
    Pin,
}

/// CHECK: state, expiry, balance; the balance, not what is available: a card in use is not empty.
pub(super) fn check(cx: &mut Cx<'_>, card: Box<CardFacts>, proof: Proof) -> State {
    cx.facts.record.card = Some(card.card);
    cx.facts.record.card_note = Some(card.note.clone());
    let expired = card.expires_at.is_some_and(|at| at <= cx.now.wall);
    match card.state {
        CardState::Blocked | CardState::Cancelled => refuse(cx, Refusal::CardBlocked),
        CardState::Expired => refuse(cx, Refusal::CardExpired),
        CardState::New | CardState::Active if expired => refuse(cx, Refusal::CardExpired),
        CardState::New | CardState::Active if card.balance.as_ms() <= 0 => empty(cx),
        CardState::New | CardState::Active => match proof {
            Proof::Line => Announce::known(cx, card),
            Proof::Pin => Bind::start(cx, card),
        },
    }
}

/// Nothing is left on this card; the caller may have another.
pub(super) fn empty(cx: &mut Cx<'_>) -> State {
    if cx.facts.caller_has_digits() {
        let prompts = vec![fixed::CARD_EMPTY, fixed::OTHER_PIN];
        Pin::another(cx, prompts, Refusal::CardEmpty.cause())
    } else {
        refuse(cx, Refusal::CardEmpty)
    }
}
