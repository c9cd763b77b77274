//! One call's script, from INVITE to CDR, as a state machine (product.md 3.1).
//!
//! Alphabet: [`CallInput`] in, [`CallOutput`] out. What legs, media plane and ledger report is
//! first reduced to the few things a script must know (`step.rs`); then the state decides. This
//! table is normative, and `tests/it/ladders/` walks its rows. A is the caller, B the advisor.
//!
//! | State    | Waits for                      | Then                                                      |
//! |----------|--------------------------------|-----------------------------------------------------------|
//! | Answer   | ACK (the 200 is out)           | FindLine; withheld: Pin                                   |
//! | FindLine | the ledger on the line         | known: CHECK; unknown: Pin; locked: Farewell              |
//! | Pin      | digits, then the ledger        | right: CHECK; wrong: again after 1, 2, 4 s; 3 wrong or    |
//! |          |                                | 3 silences: Farewell                                      |
//! | (CHECK)  | nothing: state, expiry, balance| fresh PIN: Bind; known line: Announce; empty: Pin again   |
//! | Bind     | the ledger on the binding      | Announce                                                  |
//! | Announce | end of prompt, or any digit    | activation number and fresh PIN: Offer; else Reserve;     |
//! |          |                                | `*`: Pin                                                  |
//! | Offer    | 1 within 6 s                   | Reserve; else Farewell (activated)                        |
//! | Reserve  | the ledger on the first slice  | Dial; refused: Farewell, or Pin for another card          |
//! | Dial     | the targets in their order     | answered: Bridge, or Accept; nobody: Farewell             |
//! | Accept   | B presses 1 within 10 s        | Bridge; else the next target                              |
//! | Bridge   | the end (HOLD: paused clock)   | zero: Pin for another card (FINAL); B leaves: Farewell;   |
//! |          |                                | A leaves, media lost: Ending                              |
//! | (FINAL)  | as Pin, or a recharge          | recharge: Dial; else as Pin                               |
//! | Farewell | end of the last words          | Ending                                                    |
//! | Ending   | legs, figures, books, late     | Over                                                      |
//! |          | grants                         |                                                           |
//!
//! In every state: A leaves: Ending (caller_bye), everything of B hung up, the reservation given
//! back or settled; the operator hangs up: the same (admin_kill). A late answer of the ledger is
//! ignored unless it is a grant, which is given back.
//!
//! Deliberately absent: SIP headers, audio samples, SQL; early answer (`183` with announcement);
//! call-back requests; opening hours.

pub mod cdr;
pub mod directory;
pub mod feed;
pub mod refusal;
pub mod speech;

mod books;
mod connect;
mod cx;
mod dial;
mod ending;
mod entry;
mod guard;
mod kept;
mod pin;
mod step;
mod stream;
mod talk;

use std::fmt;
use std::sync::Arc;

use crate::call::books::Books;
use crate::call::cdr::EndCause;
use crate::call::connect::{Announce, Bind, Offer, Reserve};
use crate::call::cx::{Cx, Facts, Record};
use crate::call::dial::{Accept, Dial};
use crate::call::directory::{Number, Project};
use crate::call::ending::{Ending, Farewell};
use crate::call::entry::{Answer, FindLine};
use crate::call::feed::{CallHappening, LiveCall};
use crate::call::pin::Pin;
use crate::call::refusal::Refusal;
use crate::call::step::Step;
use crate::call::stream::Stream;
use crate::call::talk::Bridge;
use crate::card::ledger::Reservation;
use crate::card::{CdrOpening, LedgerReply, LedgerRequest};
use crate::fault::{self, Fault};
use crate::ids::{CallKey, CardId, LedgerId, LegKey, Side};
use crate::media::{MediaCommand, MediaEvent};
use crate::now::{Instant, Now};
use crate::sip::{self, Caller, Incoming, LegCommand, LegEvent};
use crate::units::{E164, TalkTime};

pub use cx::{CallRules, Env, PortStock};
pub use guard::PinGuard;

/// When something is due, and what.
pub type Deadline = (Instant, &'static str);

/// Everything that can happen to a call after its INVITE.
#[derive(Debug)]
pub enum CallInput {
    Leg(LegKey, LegEvent),
    Media(Side, MediaEvent),
    Ledger(LedgerId, LedgerReply),
    /// A card's balance or state was changed from outside; perhaps this call's.
    CardChanged(CardId),
    /// The operator ends the call.
    HangUp,
    Timeout,
}

/// Everything a call orders, to be carried out in order.
#[derive(Debug)]
pub enum CallOutput {
    Dial { leg: LegKey, dial: Box<sip::Dial> },
    Command { leg: LegKey, command: LegCommand },
    Media { side: Side, command: MediaCommand },
    Ledger { id: LedgerId, request: LedgerRequest },
    Event(CallHappening),
}

/// An INVITE that was found to be for a project of ours.
#[derive(Debug)]
pub struct Admission {
    pub key: CallKey,
    pub leg: LegKey,
    pub number: Number,
    pub project: Arc<Project>,
    pub called: E164,
    pub trunk: String,
    pub incoming: Box<Incoming>,
}

/// One call. Its facts outlive a panic of the state that is running, so that it can be torn down.
pub struct Call {
    facts: Facts,
    /// `None` only while a state runs, or after it panicked.
    state: Option<State>,
    /// Planted by a test: the script panics at its next input.
    #[cfg(test)]
    breaks: bool,
}

enum State {
    Answer(Answer),
    FindLine(FindLine),
    Pin(Pin),
    Bind(Bind),
    Announce(Announce),
    Offer(Offer),
    Reserve(Reserve),
    Dial(Dial),
    Accept(Accept),
    Bridge(Bridge),
    Farewell(Farewell),
    Ending(Ending),
    Over,
}

impl Call {
    /// ADMIT and ANSWER: opens the caller's audio and sends the 200.
    ///
    /// # Errors
    /// No port is free, or there is no codec that both know; nothing was ordered then.
    pub fn admit(
        env: &mut Env<'_>,
        admission: Admission,
        out: &mut Vec<CallOutput>,
    ) -> Result<Call, Refusal> {
        let port = env.ports.take().ok_or(Refusal::Capacity)?;
        // 31 bits: some peers read the session id into a signed word.
        let mut stream = Stream::new(port, u64::from(env.ids.next_u32() >> 1));
        let sdp = match &admission.incoming.offer {
            Some(offer) => stream.answer(offer),
            None => Ok(stream.offer()),
        };
        let Ok(sdp) = sdp else {
            if !fault::planted(Fault::PortKept) {
                env.ports.put(port);
            }
            return Err(Refusal::Codec);
        };
        let opening = opening(&admission, env.now);
        let leg = admission.leg;
        let mut call = Call {
            facts: facts(admission, stream, env),
            state: Some(State::Answer(Answer)),
            #[cfg(test)]
            breaks: false,
        };
        let mut cx = call.workplace(env, out);
        cx.open_cdr(opening);
        cx.event(CallHappening::Started);
        cx.event(CallHappening::State("answer"));
        step::open(&mut cx, Side::A);
        cx.command(leg, LegCommand::Answer { sdp });
        tracing::info!(
            call = %cx.facts.key,
            caller = ?cx.facts.line(),
            called = ?cx.facts.called,
            "admitted"
        );
        Ok(call)
    }

    /// Handles one input; the call is over when [`Call::is_over`] says so.
    pub fn handle(&mut self, env: &mut Env<'_>, input: CallInput, out: &mut Vec<CallOutput>) {
        let Some(before) = self.state.take() else {
            return;
        };
        #[cfg(test)]
        assert!(!std::mem::take(&mut self.breaks), "a panic planted by a test");
        let old = before.name();
        let mut cx = self.workplace(env, out);
        let Some(step) = step::digest(&mut cx, input) else {
            self.state = Some(before);
            return;
        };
        let what = step.name();
        let after = before.handle(&mut cx, step);
        let new = after.name();
        if new != old {
            if old == "pin" {
                let project = cx.facts.project.id;
                cx.guard.leave(project, cx.facts.key);
            }
            cx.event(CallHappening::State(new));
            tracing::debug!(call = %cx.facts.key, old, input = what, new, "transition");
        }
        self.state = Some(after);
    }

    /// A state panicked: the legs are hung up, and what was used up to the last checkpoint is
    /// settled.
    pub fn abort(&mut self, env: &mut Env<'_>, out: &mut Vec<CallOutput>) {
        let paid = self.state.take().and_then(State::into_paid);
        let mut cx = self.workplace(env, out);
        let project = cx.facts.project.id;
        cx.guard.leave(project, cx.facts.key);
        tracing::error!(call = %cx.facts.key, "a call's script panicked; the call is torn down");
        let heard = cx.facts.heard(Side::A) && cx.facts.heard(Side::B);
        if let Some(open) = cx.facts.open.take() {
            let tariff = &cx.facts.project.tariff;
            let billed = if heard {
                tariff.bill(open.used, open.granted)
            } else {
                open.owed
            };
            // The reservation itself went down with the state, unless that was not to blame.
            let reservation =
                paid.unwrap_or_else(|| Reservation::granted(cx.facts.key, open.card, open.granted, true));
            cx.settle(reservation, open.used, billed);
        }
        let state = Ending::start(&mut cx, EndCause::Internal);
        self.state = Some(state);
    }

    /// The process ran nothing between these moments: a talk's clock leaves them out.
    pub fn stood_still(&mut self, from: Instant, until: Instant) {
        if let Some(State::Bridge(bridge)) = &mut self.state {
            bridge.stood_still(from, until);
        }
    }

    /// Lets the script panic at its next input.
    #[cfg(test)]
    pub fn break_next(&mut self) {
        self.breaks = true;
    }

    /// The next deadline of the state or of the paper work.
    pub fn next_timeout(&self, rules: &CallRules) -> Option<Deadline> {
        let facts = &self.facts;
        let ivr = facts.ivr_until;
        let own = self.state.as_ref().and_then(|state| match state {
            State::Answer(state) => state.next_timeout(),
            State::FindLine(state) => state.next_timeout(),
            State::Pin(state) => state.next_timeout(ivr),
            State::Bind(state) => state.next_timeout(),
            State::Announce(state) => state.next_timeout(ivr),
            State::Offer(state) => state.next_timeout(ivr),
            State::Reserve(state) => state.next_timeout(),
            State::Dial(state) => state.next_timeout(),
            State::Accept(state) => state.next_timeout(),
            State::Bridge(state) => state.next_timeout(rules.config.renew_lead, facts.max_until),
            State::Farewell(state) => state.next_timeout(),
            State::Ending(state) => state.next_timeout(),
            State::Over => None,
        });
        let books = facts.books.next_timeout().map(|at| (at, "books"));
        own.into_iter().chain(books).min()
    }

    pub fn is_over(&self) -> bool {
        matches!(self.state, Some(State::Over))
    }

    /// Whether this call stands on that card.
    pub fn uses(&self, card: CardId) -> bool {
        self.facts.record.card == Some(card)
    }

    /// Whether both sides are joined now.
    pub fn is_bridged(&self) -> bool {
        matches!(self.state, Some(State::Bridge(_)))
    }

    pub fn live(&self, now: Now) -> LiveCall {
        let facts = &self.facts;
        let talk = match &self.state {
            Some(State::Bridge(bridge)) => Some(bridge.talk(now.mono)),
            Some(_) | None => None,
        };
        LiveCall {
            call: facts.key,
            state: self.state.as_ref().map_or("ending", State::name),
            caller: facts.line(),
            called: Some(facts.called.clone()),
            card: facts.record.card,
            target: facts.record.target_uri.clone(),
            started_at: facts.record.started_at,
            answered_at: facts.record.answered_at,
            bridged_at: facts.record.bridged_at,
            used: talk.as_ref().map_or(TalkTime::ZERO, |talk| talk.used),
            rest: talk.as_ref().map_or(TalkTime::ZERO, |talk| talk.rest),
        }
    }

    fn workplace<'a>(&'a mut self, env: &'a mut Env<'_>, out: &'a mut Vec<CallOutput>) -> Cx<'a> {
        Cx {
            now: env.now,
            ids: &mut *env.ids,
            ports: &mut *env.ports,
            guard: &mut *env.guard,
            rules: env.rules,
            last_ledger: &mut *env.last_ledger,
            facts: &mut self.facts,
            out,
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.as_ref().map_or("running", State::name);
        write!(f, "Call {{ {} {state} }}", self.facts.key)
    }
}

impl State {
    /// The state's word in events and logs (product.md 3.1, lower case).
    fn name(&self) -> &'static str {
        match self {
            State::Answer(_) => "answer",
            State::FindLine(_) => "identify",
            State::Pin(pin) => pin.name(),
            State::Bind(_) => "bind",
            State::Announce(_) => "announce",
            State::Offer(_) => "offer",
            State::Reserve(_) => "reserve",
            State::Dial(_) => "dial",
            State::Accept(_) => "accept",
            State::Bridge(bridge) => bridge.name(),
            State::Farewell(_) | State::Ending(_) => "ending",
            State::Over => "over",
        }
    }

    /// The reservation that this state holds.
    fn into_paid(self) -> Option<Reservation> {
        match self {
            State::Dial(state) => Some(state.into_paid().reservation),
            State::Accept(state) => Some(state.into_paid().reservation),
            State::Bridge(state) => Some(state.into_paid().reservation),
            State::Pin(state) => state.into_paid().map(|paid| paid.reservation),
            State::Answer(_)
            | State::FindLine(_)
            | State::Bind(_)
            | State::Announce(_)
            | State::Offer(_)
            | State::Reserve(_)
            | State::Farewell(_)
            | State::Ending(_)
            | State::Over => None,
        }
    }

    fn handle(self, cx: &mut Cx<'_>, step: Step) -> State {
        match self {
            State::Answer(state) => state.handle(cx, step),
            State::FindLine(state) => state.handle(cx, step),
            State::Pin(state) => state.handle(cx, step),
            State::Bind(state) => state.handle(cx, step),
            State::Announce(state) => state.handle(cx, step),
            State::Offer(state) => state.handle(cx, step),
            State::Reserve(state) => state.handle(cx, step),
            State::Dial(state) => state.handle(cx, step),
            State::Accept(state) => state.handle(cx, step),
            State::Bridge(state) => state.handle(cx, step),
            State::Farewell(state) => state.handle(cx, step),
            State::Ending(state) => state.handle(cx, step),
            State::Over => {
                if let Step::Ledger(_, reply) = step {
                    cx.late(reply);
                }
                State::Over
            }
        }
    }
}

macro_rules! states {
    ($($name:ident),* $(,)?) => {$(
        impl From<$name> for State {
            fn from(state: $name) -> State {
                State::$name(state)
            }
        }
    )*};
}

states!(
    Answer, FindLine, Pin, Bind, Announce, Offer, Reserve, Dial, Accept, Bridge, Farewell, Ending
);

fn facts(admission: Admission, stream: Stream, env: &Env<'_>) -> Facts {
    let config = &env.rules.config;
    let mut record = Record::new(env.now.wall);
    record.answered_at = Some(env.now.wall);
    Facts {
        key: admission.key,
        number: admission.number,
        project: admission.project,
        called: admission.called,
        caller: admission.incoming.caller,
        max_forwards: admission.incoming.max_forwards,
        a: Some(admission.leg),
        b: None,
        past: std::collections::BTreeSet::new(),
        stream_a: Some(stream),
        stream_b: None,
        closing_a: 0,
        closing_b: 0,
        books: Books::new(),
        record,
        last_play: 0,
        wrong_pins: 0,
        ivr_until: env.now.mono + config.before_bridge,
        max_until: env.now.mono + config.max_call,
        used_up: false,
        open: None,
    }
}

fn opening(admission: &Admission, now: Now) -> CdrOpening {
    CdrOpening {
        call: admission.key,
        project: Some(admission.project.id),
        number: Some(admission.number.id),
        trunk: admission.trunk.clone(),
        called: Some(admission.called.clone()),
        caller: match &admission.incoming.caller {
            Caller::Withheld => None,
            Caller::Line { number, .. } => Some(number.clone()),
        },
        sip_call_id: admission.incoming.sip_call_id.clone(),
        invited_at: now.wall,
    }
}
