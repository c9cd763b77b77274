//! PIN: prompts with barge-in, collection, tries. Also what follows a used-up card, where another
//! PIN may be entered (FINAL).
//!
//! Digits live in [`Typed`] and leave it only towards the ledger.

use std::time::Duration;

use crate::call::cdr::EndCause;
use crate::call::connect::Paid;
use crate::call::cx::Cx;
use crate::call::dial::Dial;
use crate::call::ending::{Ending, Farewell, refuse};
use crate::call::entry::{ANSWER_WITHIN, Proof, check};
use crate::call::guard::Care;
use crate::call::kept::Kept;
use crate::call::refusal::Refusal;
use crate::call::speech::fixed;
use crate::call::step::Step;
use crate::call::{Deadline, State};
use crate::card::pin::retry_delay;
use crate::card::{CardFacts, CardState, LedgerReply, LedgerRequest, PinVerdict};
use crate::ids::{LedgerId, PlayId, Side};
use crate::media::{MediaCommand, PromptId};
use crate::now::Instant;
use crate::secret::{self, Digit};
use crate::sip::Caller;

/// Silences at the first PIN prompt after which the call is given up: the prompt, then two repeats.
const SILENCES: u32 = 3;

/// The caller is asked for a PIN.
pub(super) struct Pin {
    purpose: Purpose,
    typed: Typed,
    phase: Phase,
    silences: u32,
    /// The card that was used up in this call; a recharge goes on with it.
    kept: Option<Kept>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Without a PIN there is no call.
    Entry,
    /// A card is used up; silence ends the call with this cause.
    Another(EndCause),
}

enum Phase {
    /// The prompt is playing; the first digit stops it.
    Prompt(PlayId),
    Listen {
        digit_by: Instant,
        try_by: Instant,
    },
    /// The ledger looks the PIN up.
    Asked {
        id: LedgerId,
        by: Instant,
    },
    /// After a wrong PIN, before the next prompt.
    Delay {
        until: Instant,
    },
}

/// What was typed so far. No formatter knows it.
struct Typed(String);

impl Pin {
    /// The first words of a call from a line that is not known.
    pub fn welcome(cx: &mut Cx<'_>) -> State {
        Pin::entry(cx, vec![fixed::WELCOME, fixed::PIN_ENTER])
    }

    /// The caller pressed `*` on the announcement: another card, please.
    pub fn again(cx: &mut Cx<'_>) -> State {
        Pin::entry(cx, vec![fixed::PIN_ENTER])
    }

    /// After a card that is used up.
    pub fn another(cx: &mut Cx<'_>, prompts: Vec<PromptId>, silence: EndCause) -> State {
        Pin::ask(cx, prompts, Purpose::Another(silence))
    }

    /// Zero: `exhausted`, and the reservation waits for a recharge.
    pub fn used_up(cx: &mut Cx<'_>, paid: Paid) -> State {
        cx.facts.open = Some(paid.shadow());
        // All of it is used: whoever ends the reservation after a crash charges that.
        cx.ask(LedgerRequest::Checkpoint {
            call: cx.facts.key,
            card: paid.card.card,
            used: paid.talked.raw,
        });
        let prompts = vec![fixed::EXHAUSTED, fixed::OTHER_PIN];
        let mut pin = Pin::asking(cx, prompts, Purpose::Another(EndCause::CreditEnd));
        pin.kept = Some(Kept::new(cx, paid));
        pin.into()
    }

    pub fn into_paid(self) -> Option<Paid> {
        self.kept.map(Kept::into_paid)
    }

    pub fn name(&self) -> &'static str {
        match self.purpose {
            Purpose::Another(EndCause::CreditEnd) => "final",
            Purpose::Entry | Purpose::Another(_) => "pin",
        }
    }

    pub fn next_timeout(&self, ivr_until: Instant) -> Option<Deadline> {
        let own = match self.phase {
            Phase::Prompt(_) => None,
            Phase::Listen { digit_by, try_by } => Some((digit_by.min(try_by), "digit")),
            Phase::Asked { by, .. } => Some((by, "pin")),
            Phase::Delay { until } => Some((until, "delay")),
        };
        let recharge = self.kept.as_ref().map(|kept| (kept.next_timeout(), "recharge"));
        [own, recharge, Some((ivr_until, "ivr"))]
            .into_iter()
            .flatten()
            .min()
    }

    pub fn handle(mut self, cx: &mut Cx<'_>, step: Step) -> State {
        match step {
            Step::Digit(Side::A, digit) => self.digit(cx, digit),
            Step::PlayEnded(id) => self.play_ended(cx, id),
            Step::Ledger(id, reply) => self.ledger(cx, id, reply),
            Step::Timeout => self.timeout(cx),
            Step::CardChanged(card) => {
                if let Some(kept) = &mut self.kept {
                    kept.changed(cx, card);
                }
                self.into()
            }
            Step::CallerGone(end) => {
                self.end_kept(cx);
                Ending::caller_gone(cx, &end)
            }
            Step::HangUp => {
                self.end_kept(cx);
                Ending::killed(cx)
            }
            Step::CallerReady
            | Step::Ringing
            | Step::AdvisorAnswered
            | Step::AdvisorRefused(_)
            | Step::AdvisorGone(_)
            | Step::Direction
            | Step::ProbeAnswered(_)
            | Step::Digit(Side::B, _)
            | Step::FirstPacket
            | Step::Lost(..)
            | Step::Back(_)
            | Step::Cleared => self.into(),
        }
    }

    fn entry(cx: &mut Cx<'_>, prompts: Vec<PromptId>) -> State {
        if !cx.facts.caller_has_digits() {
            return refuse(cx, Refusal::NoDtmf);
        }
        let (project, call, now) = (cx.facts.project.id, cx.facts.key, cx.mono());
        if cx.facts.caller == Caller::Withheld && !cx.guard.enter(project, call, now) {
            return refuse(cx, Refusal::Locked);
        }
        Pin::ask(cx, prompts, Purpose::Entry)
    }

    fn ask(cx: &mut Cx<'_>, prompts: Vec<PromptId>, purpose: Purpose) -> State {
        Pin::asking(cx, prompts, purpose).into()
    }

    fn asking(cx: &mut Cx<'_>, prompts: Vec<PromptId>, purpose: Purpose) -> Pin {
        let play = cx.play(Side::A, prompts);
        Pin {
            purpose,
            typed: Typed::nothing(),
            phase: Phase::Prompt(play),
            silences: 0,
            kept: None,
        }
    }

    /// The call ends, or goes on with another card.
    fn end_kept(&mut self, cx: &mut Cx<'_>) {
        if let Some(kept) = self.kept.take() {
            kept.into_paid().end(cx);
        }
    }

    /// Says a "no" and ends the call.
    fn refuse(mut self, cx: &mut Cx<'_>, refusal: Refusal) -> State {
        self.end_kept(cx);
        refuse(cx, refusal)
    }

    /// Prompts again, in the same entry.
    fn prompt(mut self, cx: &mut Cx<'_>, prompts: Vec<PromptId>) -> State {
        self.typed = Typed::nothing();
        self.phase = Phase::Prompt(cx.play(Side::A, prompts));
        self.into()
    }

    fn digit(mut self, cx: &mut Cx<'_>, digit: Digit) -> State {
        match self.phase {
            Phase::Prompt(_) => {
                cx.media(Side::A, MediaCommand::Silence);
                let try_by = cx.mono() + cx.config().pin_try;
                self.typed(cx, digit, try_by)
            }
            Phase::Listen { try_by, .. } => self.typed(cx, digit, try_by),
            // A PIN is complete at its last digit; what is typed on top of it is no part of it.
            Phase::Asked { .. } | Phase::Delay { .. } => {
                self.silences = 0;
                self.into()
            }
        }
    }

    fn typed(mut self, cx: &mut Cx<'_>, digit: Digit, try_by: Instant) -> State {
        self.silences = 0;
        let complete = match digit {
            Digit::Number(number) => {
                self.typed.push(number);
                self.typed.len() >= usize::from(cx.facts.project.pin_length)
            }
            Digit::Star => {
                self.typed = Typed::nothing();
                false
            }
            Digit::Hash => true,
        };
        if complete && let Some(pin) = self.typed.pin() {
            return self.submit(cx, pin);
        }
        let wait = if self.typed.is_empty() {
            self.first_digit(cx)
        } else {
            cx.config().next_digit
        };
        let digit_by = cx.mono() + wait;
        self.phase = Phase::Listen { digit_by, try_by };
        self.into()
    }

    fn first_digit(&self, cx: &Cx<'_>) -> Duration {
        match self.purpose {
            Purpose::Entry => cx.config().first_digit,
            Purpose::Another(_) => cx.config().other_pin,
        }
    }

    fn submit(mut self, cx: &mut Cx<'_>, pin: secret::Pin) -> State {
        let id = cx.ask(LedgerRequest::CheckPin {
            call: cx.facts.key,
            project: cx.facts.project.id,
            number: cx.facts.number.id,
            pin,
            line: cx.facts.line(),
        });
        let by = cx.mono() + ANSWER_WITHIN;
        self.typed = Typed::nothing();
        self.phase = Phase::Asked { id, by };
        self.into()
    }

    fn play_ended(mut self, cx: &mut Cx<'_>, ended: PlayId) -> State {
        match self.phase {
            Phase::Prompt(play) if play == ended => {
                let digit_by = cx.mono() + self.first_digit(cx);
                let try_by = cx.mono() + cx.config().pin_try.max(self.first_digit(cx));
                self.phase = Phase::Listen { digit_by, try_by };
                self.into()
            }
            Phase::Prompt(_) | Phase::Listen { .. } | Phase::Asked { .. } | Phase::Delay { .. } => {
                self.into()
            }
        }
    }

    fn ledger(mut self, cx: &mut Cx<'_>, id: LedgerId, reply: LedgerReply) -> State {
        let reply = match &mut self.kept {
            Some(kept) => match kept.answered(cx, id, reply) {
                Ok(true) => return self.recharged(cx),
                Ok(false) => return self.into(),
                Err(reply) => reply,
            },
            None => reply,
        };
        let ours = matches!(self.phase, Phase::Asked { id: asked, .. } if asked == id);
        match reply {
            LedgerReply::Pin(PinVerdict::Right(card)) if ours => self.right(cx, card),
            LedgerReply::Pin(PinVerdict::Wrong) if ours => self.wrong(cx),
            LedgerReply::Pin(PinVerdict::Locked) if ours => self.refuse(cx, Refusal::Locked),
            LedgerReply::Unavailable if ours => self.refuse(cx, Refusal::StoreDown),
            other @ (LedgerReply::Done
            | LedgerReply::Line(_)
            | LedgerReply::Pin(_)
            | LedgerReply::Bound(_)
            | LedgerReply::Reserved(_)
            | LedgerReply::Renewed { .. }
            | LedgerReply::NotReserved(_)
            | LedgerReply::Settled { .. }
            | LedgerReply::Card(_)
            | LedgerReply::Unavailable) => {
                cx.late(other);
                self.into()
            }
        }
    }

    /// There is talk time on the used-up card again: the same talk goes on.
    fn recharged(self, cx: &mut Cx<'_>) -> State {
        match self.kept {
            Some(kept) => Dial::recharged(cx, kept.into_paid()),
            None => self.into(),
        }
    }

    /// Another card, or the used-up one once more.
    fn right(mut self, cx: &mut Cx<'_>, card: Box<CardFacts>) -> State {
        let same = self.kept.as_mut().filter(|kept| kept.card() == card.card);
        let Some(kept) = same.filter(|_| card.state == CardState::Active) else {
            self.end_kept(cx);
            return check(cx, card, Proof::Pin);
        };
        let more = card.available().as_ms() > 0;
        kept.seen(cx, card);
        if more {
            let digit_by = cx.mono() + cx.config().other_pin;
            self.phase = Phase::Listen {
                digit_by,
                try_by: digit_by,
            };
            return self.into();
        }
        self.prompt(cx, vec![fixed::CARD_EMPTY, fixed::OTHER_PIN])
    }

    /// Slows down after each wrong PIN: 1, 2, 4 s, and more for withheld callers under attack.
    fn wrong(mut self, cx: &mut Cx<'_>) -> State {
        cx.facts.wrong_pins += 1;
        let withheld = cx.facts.caller == Caller::Withheld;
        let (project, now) = (cx.facts.project.id, cx.mono());
        if cx.guard.wrong(project, withheld, now) {
            tracing::warn!(%project, "many wrong PINs: somebody may be guessing");
        }
        let care = if withheld {
            cx.guard.care(project, now)
        } else {
            Care::Usual
        };
        if cx.facts.wrong_pins >= cx.config().pin_tries {
            return self.refuse(cx, Refusal::PinFailed);
        }
        if care == Care::Strict {
            // The pause is taken before the goodbye, or a new call would be the faster way.
            cx.facts.wrong_pins = cx.config().pin_tries;
        }
        let until = now + retry_delay(cx.facts.wrong_pins).max(care.delay());
        self.phase = Phase::Delay { until };
        self.into()
    }

    fn timeout(mut self, cx: &mut Cx<'_>) -> State {
        let now = cx.mono();
        if let Some(kept) = &mut self.kept {
            kept.timeout(cx);
        }
        if now >= cx.facts.ivr_until {
            return self.give_up(cx);
        }
        match self.phase {
            Phase::Listen { digit_by, try_by } if now >= digit_by || now >= try_by => {
                match self.typed.pin() {
                    Some(pin) => self.submit(cx, pin),
                    None => self.silent(cx),
                }
            }
            Phase::Asked { by, .. } if now >= by => self.refuse(cx, Refusal::StoreDown),
            Phase::Delay { until } if now >= until => {
                self.silences = 0;
                if cx.facts.wrong_pins >= cx.config().pin_tries {
                    return self.refuse(cx, Refusal::PinFailed);
                }
                self.prompt(cx, vec![fixed::PIN_WRONG, fixed::PIN_ENTER])
            }
            Phase::Prompt(_) | Phase::Listen { .. } | Phase::Asked { .. } | Phase::Delay { .. } => {
                self.into()
            }
        }
    }

    fn silent(mut self, cx: &mut Cx<'_>) -> State {
        self.silences += 1;
        match self.purpose {
            Purpose::Entry if self.silences < SILENCES => {
                self.prompt(cx, vec![fixed::PIN_NONE, fixed::PIN_ENTER])
            }
            Purpose::Entry | Purpose::Another(_) => self.give_up(cx),
        }
    }

    fn give_up(mut self, cx: &mut Cx<'_>) -> State {
        self.end_kept(cx);
        match self.purpose {
            Purpose::Entry if cx.facts.wrong_pins > 0 => refuse(cx, Refusal::PinFailed),
            Purpose::Entry => refuse(cx, Refusal::PinNone),
            Purpose::Another(cause) => Farewell::start(cx, cause, vec![fixed::BYE]),
        }
    }
}

impl Typed {
    fn nothing() -> Typed {
        Typed(String::new())
    }

    fn push(&mut self, number: u8) {
        // The longest PIN has 12 digits; what is typed on top of that is no PIN anyway.
        if self.0.len() < 16 {
            self.0.push(char::from(b'0' + number.min(9)));
        }
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn pin(&self) -> Option<secret::Pin> {
        secret::Pin::parse(&self.0)
    }
}
