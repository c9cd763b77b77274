//! ENDING: the last words, both legs hung up, every card settled, the record closed.
//!
//! One cause wins: the first. Whatever triggers an end after that is only logged.

use std::time::Duration;

use crate::call::cdr::{Cdr, EndCause};
use crate::call::cx::Cx;
use crate::call::feed::CallHappening;
use crate::call::refusal::{self, Refusal};
use crate::call::step::Step;
use crate::call::{Deadline, State};
use crate::card::LedgerReply;
use crate::ids::{CardId, LedgerId, PlayId, Side};
use crate::media::PromptId;
use crate::now::Instant;
use crate::sip::LegEnd;

/// The longest sentence that ends a call has some 10 s.
const LAST_WORDS: Duration = Duration::from_secs(15);
/// The media plane closes a stream within one tick; a record does not wait longer for its figures.
const FIGURES_WITHIN: Duration = Duration::from_secs(2);
/// The endpoint gives up after 64 x T1 each on a first response, on what follows a CANCEL, and on
/// a BYE; a leg that has not reported its end by then is forgotten.
const LEGS_WITHIN: Duration = Duration::from_secs(100);
/// A late grant is given back by its key if its answer never comes.
const GRANT_WITHIN: Duration = Duration::from_secs(10);

/// The caller hears why, then the call ends.
pub(super) struct Farewell {
    cause: EndCause,
    play: PlayId,
    by: Instant,
}

/// Says a "no" and ends the call.
pub(super) fn refuse(cx: &mut Cx<'_>, refusal: Refusal) -> State {
    Farewell::start(cx, refusal.cause(), refusal.prompts())
}

impl Farewell {
    pub fn start(cx: &mut Cx<'_>, cause: EndCause, prompts: Vec<PromptId>) -> State {
        let cause = decide(cx, cause);
        if cx.facts.a.is_none() || cx.facts.stream_a.is_none() || prompts.is_empty() {
            return Ending::start(cx, cause);
        }
        let words = if cx.facts.used_up {
            cx.config().end_prompt
        } else {
            LAST_WORDS
        };
        let by = cx.mono() + words;
        let play = cx.play(Side::A, prompts);
        Farewell { cause, play, by }.into()
    }

    pub fn next_timeout(&self) -> Option<Deadline> {
        Some((self.by, "last_words"))
    }

    pub fn handle(self, cx: &mut Cx<'_>, step: Step) -> State {
        match step {
            Step::PlayEnded(id) if id == self.play => Ending::start(cx, self.cause),
            Step::Timeout if self.by <= cx.mono() => Ending::start(cx, self.cause),
            Step::CallerGone(_) | Step::HangUp => Ending::start(cx, self.cause),
            Step::Ledger(_, reply) => {
                cx.late(reply);
                self.into()
            }
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

/// Nothing is left to be said; what is left to be done is among the facts.
pub(super) struct Ending {
    late: Option<LateGrant>,
    figures_by: Instant,
    legs_by: Instant,
    recorded: bool,
}

/// The caller left while the ledger was deciding; if it grants, the grant is given back.
struct LateGrant {
    asked: LedgerId,
    card: CardId,
    by: Instant,
}

impl Ending {
    pub fn start(cx: &mut Cx<'_>, cause: EndCause) -> State {
        Ending::begin(cx, cause, None)
    }

    pub fn caller_gone(cx: &mut Cx<'_>, end: &LegEnd) -> State {
        Ending::start(cx, caller_cause(end))
    }

    pub fn killed(cx: &mut Cx<'_>) -> State {
        Ending::start(cx, EndCause::AdminKill)
    }

    /// The caller left in RESERVE.
    pub fn abandoned(cx: &mut Cx<'_>, end: &LegEnd, asked: LedgerId, card: CardId) -> State {
        let by = cx.mono() + GRANT_WITHIN;
        Ending::begin(cx, caller_cause(end), Some(LateGrant { asked, card, by }))
    }

    pub fn killed_while_asking(cx: &mut Cx<'_>, asked: LedgerId, card: CardId) -> State {
        let by = cx.mono() + GRANT_WITHIN;
        Ending::begin(cx, EndCause::AdminKill, Some(LateGrant { asked, card, by }))
    }

    pub fn next_timeout(&self) -> Option<Deadline> {
        let figures = (!self.recorded).then_some((self.figures_by, "figures"));
        let late = self.late.as_ref().map(|late| (late.by, "grant"));
        [figures, late, Some((self.legs_by, "legs"))]
            .into_iter()
            .flatten()
            .min()
    }

    pub fn handle(mut self, cx: &mut Cx<'_>, step: Step) -> State {
        match step {
            Step::Ledger(id, reply) => {
                if self.late.as_ref().is_some_and(|late| late.asked == id) {
                    self.late_answer(cx, reply);
                } else {
                    cx.late(reply);
                }
            }
            Step::Timeout => self.timeout(cx),
            Step::CallerGone(_)
            | Step::AdvisorGone(_)
            | Step::HangUp
            | Step::CallerReady
            | Step::Ringing
            | Step::AdvisorAnswered
            | Step::AdvisorRefused(_)
            | Step::Direction
            | Step::ProbeAnswered(_)
            | Step::Digit(..)
            | Step::PlayEnded(_)
            | Step::FirstPacket
            | Step::Lost(..)
            | Step::Back(_)
            | Step::CardChanged(_)
            | Step::Cleared => {}
        }
        self.go_on(cx)
    }

    fn begin(cx: &mut Cx<'_>, cause: EndCause, late: Option<LateGrant>) -> State {
        let cause = decide(cx, cause);
        let reasons = refusal::reasons(cause);
        cx.drop_caller(reasons);
        cx.drop_advisor(refusal::normal());
        cx.facts.record.ended_at = Some(cx.now.wall);
        let (raw, billed) = (cx.facts.record.raw, cx.facts.record.billed);
        cx.event(CallHappening::Ended { cause, raw, billed });
        tracing::info!(
            call = %cx.facts.key,
            cause = cause.as_str(),
            raw_ms = raw.as_ms(),
            billed_ms = billed.as_ms(),
            "ended"
        );
        let now = cx.mono();
        let ending = Ending {
            late,
            figures_by: now + FIGURES_WITHIN,
            legs_by: now + LEGS_WITHIN,
            recorded: false,
        };
        ending.go_on(cx)
    }

    fn late_answer(&mut self, cx: &mut Cx<'_>, reply: LedgerReply) {
        let Some(late) = self.late.take() else {
            return;
        };
        match reply {
            LedgerReply::Unavailable => cx.release_unknown(late.card),
            other @ (LedgerReply::Reserved(_)
            | LedgerReply::Done
            | LedgerReply::Line(_)
            | LedgerReply::Pin(_)
            | LedgerReply::Bound(_)
            | LedgerReply::Renewed { .. }
            | LedgerReply::NotReserved(_)
            | LedgerReply::Settled { .. }
            | LedgerReply::Card(_)) => cx.late(other),
        }
    }

    fn timeout(&mut self, cx: &mut Cx<'_>) {
        let now = cx.mono();
        if self.late.as_ref().is_some_and(|late| late.by <= now)
            && let Some(late) = self.late.take()
        {
            cx.release_unknown(late.card);
        }
        if self.legs_by <= now {
            if !cx.facts.past.is_empty() {
                tracing::warn!(call = %cx.facts.key, "a leg did not report its end");
            }
            cx.facts.past.clear();
            cx.facts.closing_a = 0;
            cx.facts.closing_b = 0;
            // From here on only the books keep the call.
            self.legs_by = now + LEGS_WITHIN;
        }
    }

    fn go_on(mut self, cx: &mut Cx<'_>) -> State {
        let closed = cx.facts.closing_a == 0 && cx.facts.closing_b == 0;
        let known = self.late.is_none() && cx.facts.books.is_opened();
        if !self.recorded && known && (closed || self.figures_by <= cx.mono()) {
            let cdr = cdr(cx);
            cx.close_cdr(cdr);
            self.recorded = true;
        }
        let quiet = closed && cx.facts.past.is_empty();
        if self.recorded && quiet && cx.facts.books.are_clear() {
            return State::Over;
        }
        // The row cannot be closed before it is opened; the books have their own deadline.
        if !self.recorded && self.figures_by <= cx.mono() {
            self.figures_by = cx.mono() + FIGURES_WITHIN;
        }
        self.into()
    }
}

/// The first cause stays. A call whose card was used up ended for that, whatever came after.
fn decide(cx: &mut Cx<'_>, cause: EndCause) -> EndCause {
    let cause = if cx.facts.used_up && cause != EndCause::Internal {
        EndCause::CreditEnd
    } else {
        cause
    };
    let first = *cx.facts.record.end_cause.get_or_insert(cause);
    if first != cause {
        tracing::debug!(call = %cx.facts.key, first = first.as_str(), later = cause.as_str(), "ends once");
    }
    first
}

const fn caller_cause(end: &LegEnd) -> EndCause {
    match end {
        LegEnd::ByPeer { .. } | LegEnd::ByUs | LegEnd::NoAck => EndCause::CallerBye,
        LegEnd::Gone | LegEnd::SessionExpired => EndCause::MediaLost,
        LegEnd::BadAnswer => EndCause::Codec,
    }
}

fn cdr(cx: &Cx<'_>) -> Cdr {
    let record = &cx.facts.record;
    Cdr {
        call: cx.facts.key,
        card: record.card,
        target: record.target,
        answered_at: record.answered_at,
        ringing_at: record.ringing_at,
        advisor_answered_at: record.advisor_answered_at,
        bridged_at: record.bridged_at,
        ended_at: record.ended_at.unwrap_or(cx.now.wall),
        hold: record.paused,
        raw: record.raw,
        billed: record.billed,
        end_cause: record.end_cause.unwrap_or(EndCause::Internal),
        warnings_s: record.warnings_s.clone(),
        codec: record.codec,
        stats_a: record.stats_a.clone(),
        stats_b: record.stats_b.clone(),
        tariff_version: record.bridged_at.map(|_| cx.facts.project.tariff.version),
        attempts: record.attempts.clone(),
    }
}
