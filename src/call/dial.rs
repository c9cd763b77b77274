//! DIAL and ACCEPT: hunting over the targets, ringback, the advisor's consent.

use crate::call::cdr::CallAttempt;
use crate::call::connect::Paid;
use crate::call::cx::Cx;
use crate::call::directory::Target;
use crate::call::ending::{Ending, refuse};
use crate::call::refusal::{self, Refusal};
use crate::call::speech::fixed;
use crate::call::step::Step;
use crate::call::stream::Stream;
use crate::call::talk::Bridge;
use crate::call::{CallOutput, Deadline, State};
use crate::fault::{self, Fault};
use crate::ids::{LegKey, PlayId, Side};
use crate::media::{MediaCommand, PromptId};
use crate::now::Instant;
use crate::secret::Digit;
use crate::sip::{self, Caller};

/// More targets than this are not tried in one call.
const MOST_TARGETS: usize = 20;

/// Which targets are left, and why the others are out.
struct Hunt {
    next: usize,
    /// In the order of [`rank`], the best reason to tell the caller.
    why: Option<Refusal>,
    by: Instant,
}

/// A target was dialled; the caller hears ringback.
pub(super) struct Dial {
    paid: Paid,
    hunt: Hunt,
    /// „One moment please"; ringback follows when it is over.
    connecting: Option<PlayId>,
    /// No 18x until then, or no answer.
    by: Instant,
    ringing: bool,
}

impl Dial {
    pub fn into_paid(self) -> Paid {
        self.paid
    }

    pub fn start(cx: &mut Cx<'_>, paid: Paid) -> State {
        Dial::begin(cx, paid, vec![fixed::CONNECTING])
    }

    /// The card was recharged while its caller waited at zero.
    pub fn recharged(cx: &mut Cx<'_>, paid: Paid) -> State {
        Dial::begin(cx, paid, vec![fixed::TOPUP_LIVE, fixed::CONNECTING])
    }

    fn begin(cx: &mut Cx<'_>, paid: Paid, words: Vec<PromptId>) -> State {
        cx.facts.open = Some(paid.shadow());
        let connecting = Some(cx.play(Side::A, words));
        let hunt = Hunt {
            next: 0,
            why: None,
            by: cx.mono() + cx.config().hunting,
        };
        Dial::next(cx, paid, hunt, connecting)
    }

    pub fn next_timeout(&self) -> Option<Deadline> {
        let name = if self.ringing { "ring" } else { "no_ringing" };
        Some((self.by, name).min((self.hunt.by, "hunting")))
    }

    pub fn handle(self, cx: &mut Cx<'_>, step: Step) -> State {
        match step {
            Step::AdvisorAnswered if cx.facts.project.accept_key => Accept::start(cx, self.paid, self.hunt),
            Step::AdvisorAnswered => {
                attempt_ended(cx, 200);
                Bridge::start(cx, self.paid)
            }
            Step::Ringing => self.ringing(cx),
            Step::AdvisorRefused(status) => self.refused(cx, status),
            // The endpoint says `Rejected` before the answer; either way there is no advisor.
            Step::AdvisorGone(_) => self.refused(cx, 480),
            Step::PlayEnded(id) if self.connecting == Some(id) => {
                cx.media(Side::A, MediaCommand::Ringback);
                Dial {
                    connecting: None,
                    ..self
                }
                .into()
            }
            Step::Timeout => self.timeout(cx),
            Step::CallerGone(end) => {
                attempt_ended(cx, 487);
                cx.drop_advisor(refusal::caller_left());
                if fault::planted(Fault::KeptOnLeave) {
                    std::mem::forget(self.paid);
                } else {
                    self.paid.end(cx);
                }
                Ending::caller_gone(cx, &end)
            }
            Step::HangUp => {
                attempt_ended(cx, 487);
                cx.drop_advisor(refusal::normal());
                self.paid.end(cx);
                Ending::killed(cx)
            }
            Step::Ledger(_, reply) => {
                cx.late(reply);
                self.into()
            }
            // A recharge is seen by the bridge, a skipped prompt does not speed up the advisor.
            Step::CallerReady
            | Step::Direction
            | Step::ProbeAnswered(_)
            | Step::Digit(..)
            | Step::PlayEnded(_)
            | Step::FirstPacket
            | Step::Lost(..)
            | Step::Back(_)
            | Step::CardChanged(_)
            | Step::Cleared => self.into(),
        }
    }

    /// Dials the next target, or tells the caller why there is none.
    fn next(cx: &mut Cx<'_>, paid: Paid, mut hunt: Hunt, connecting: Option<PlayId>) -> State {
        // The port of the target before, if that one did not get so far as to open it.
        cx.close_stream(Side::B);
        let target = cx.facts.project.targets.get(hunt.next).cloned();
        let Some(target) = target.filter(|_| hunt.next < MOST_TARGETS && cx.mono() < hunt.by) else {
            return give_up(cx, paid, &hunt);
        };
        if !dial(cx, &target) {
            hunt.why = Some(Refusal::Capacity);
            return give_up(cx, paid, &hunt);
        }
        hunt.next += 1;
        let by = cx.mono() + cx.config().no_ringing;
        Dial {
            paid,
            hunt,
            connecting,
            by,
            ringing: false,
        }
        .into()
    }

    fn ringing(mut self, cx: &mut Cx<'_>) -> State {
        if !self.ringing {
            let ring = current(cx, &self.hunt).map_or(cx.config().no_ringing, |target| target.ring);
            self.ringing = true;
            self.by = cx.mono() + ring;
        }
        self.into()
    }

    fn refused(mut self, cx: &mut Cx<'_>, status: u16) -> State {
        attempt_ended(cx, status);
        // The next target gets a port of its own.
        cx.close_stream(Side::B);
        self.hunt.note(cx, refusal::of_target(status));
        Dial::next(cx, self.paid, self.hunt, self.connecting)
    }

    fn timeout(mut self, cx: &mut Cx<'_>) -> State {
        if cx.mono() < self.by.min(self.hunt.by) {
            return self.into();
        }
        attempt_ended(cx, 487);
        self.hunt.note(cx, Refusal::NoAnswer);
        cx.drop_advisor(refusal::unanswered());
        Dial::next(cx, self.paid, self.hunt, self.connecting)
    }
}

/// The advisor answered and must press 1, so that no mailbox is charged for.
pub(super) struct Accept {
    paid: Paid,
    hunt: Hunt,
    whisper: PlayId,
    /// `None` while the whisper is still being spoken.
    by: Option<Instant>,
}

impl Accept {
    pub fn into_paid(self) -> Paid {
        self.paid
    }

    fn start(cx: &mut Cx<'_>, paid: Paid, hunt: Hunt) -> State {
        attempt_ended(cx, 200);
        cx.media(Side::A, MediaCommand::Ringback);
        let mut prompts = vec![fixed::WHISPER_CARD];
        prompts.extend(cx.say_span(paid.card.available()));
        prompts.push(fixed::WHISPER_KEY);
        let whisper = cx.play(Side::B, prompts);
        Accept {
            paid,
            hunt,
            whisper,
            by: None,
        }
        .into()
    }

    pub fn next_timeout(&self) -> Option<Deadline> {
        Some((self.by.unwrap_or(self.hunt.by).min(self.hunt.by), "accept"))
    }

    pub fn handle(self, cx: &mut Cx<'_>, step: Step) -> State {
        match step {
            Step::Digit(Side::B, Digit::Number(1)) => Bridge::start(cx, self.paid),
            Step::PlayEnded(id) if id == self.whisper => {
                let by = Some(cx.mono() + cx.config().accept);
                Accept { by, ..self }.into()
            }
            Step::Timeout if self.next_timeout().is_some_and(|(at, _)| at <= cx.mono()) => {
                cx.drop_advisor(refusal::normal());
                self.not_accepted(cx)
            }
            Step::AdvisorGone(_) | Step::AdvisorRefused(_) => {
                cx.drop_advisor(refusal::normal());
                self.not_accepted(cx)
            }
            Step::CallerGone(end) => {
                cx.drop_advisor(refusal::normal());
                self.paid.end(cx);
                Ending::caller_gone(cx, &end)
            }
            Step::HangUp => {
                cx.drop_advisor(refusal::normal());
                self.paid.end(cx);
                Ending::killed(cx)
            }
            Step::Ledger(_, reply) => {
                cx.late(reply);
                self.into()
            }
            Step::CallerReady
            | Step::Ringing
            | Step::AdvisorAnswered
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

    fn not_accepted(mut self, cx: &mut Cx<'_>) -> State {
        self.hunt.note(cx, Refusal::NotAccepted);
        Dial::next(cx, self.paid, self.hunt, None)
    }
}

impl Hunt {
    fn note(&mut self, cx: &Cx<'_>, why: Refusal) {
        if why == Refusal::BadTarget || why == Refusal::TrunkDown {
            let target = self
                .next
                .checked_sub(1)
                .and_then(|i| cx.facts.project.targets.get(i));
            tracing::warn!(call = %cx.facts.key, target = ?target.map(|t| t.id), ?why, "a target cannot be reached");
        }
        self.why = Some(match self.why {
            Some(before) if rank(before) <= rank(why) => before,
            Some(_) | None => why,
        });
    }
}

/// Which of several reasons the caller hears: „busy" only if nobody was called in vain.
const fn rank(why: Refusal) -> u8 {
    match why {
        Refusal::NotAccepted => 0,
        Refusal::NoAnswer => 1,
        Refusal::Declined => 2,
        Refusal::Busy => 3,
        Refusal::BadTarget => 4,
        Refusal::TrunkDown => 5,
        Refusal::NoNumber
        | Refusal::Forbidden
        | Refusal::Off
        | Refusal::Capacity
        | Refusal::Codec
        | Refusal::NoDtmf
        | Refusal::PinNone
        | Refusal::PinFailed
        | Refusal::Locked
        | Refusal::CardEmpty
        | Refusal::CardExpired
        | Refusal::CardBlocked
        | Refusal::CardInUse
        | Refusal::StoreDown => 6,
    }
}

fn give_up(cx: &mut Cx<'_>, paid: Paid, hunt: &Hunt) -> State {
    paid.end(cx);
    refuse(cx, hunt.why.unwrap_or(Refusal::NoAnswer))
}

fn current(cx: &Cx<'_>, hunt: &Hunt) -> Option<Target> {
    let place = hunt.next.checked_sub(1)?;
    cx.facts.project.targets.get(place).cloned()
}

/// Sends the INVITE; `false` if there is no port for its audio.
fn dial(cx: &mut Cx<'_>, target: &Target) -> bool {
    let Some(port) = cx.ports.take() else {
        return false;
    };
    // 31 bits: some peers read the session id into a signed word.
    let session_id = u64::from(cx.ids.next_u32() >> 1);
    let mut stream = Stream::new(port, session_id);
    let offer = stream.offer();
    cx.facts.stream_b = Some(stream);
    let leg = LegKey(cx.ids.next_u64());
    cx.facts.b = Some(leg);
    if cx.facts.record.bridged_at.is_none() {
        // The row's times are those of the target it names.
        cx.facts.record.ringing_at = None;
        cx.facts.record.advisor_answered_at = None;
    }
    cx.facts.record.target = Some(target.id);
    cx.facts.record.target_uri = Some(target.uri.clone());
    cx.facts.record.attempts.push(CallAttempt {
        target: target.id,
        dialled_at: cx.now.wall,
        status: 0,
    });
    let dial = Box::new(sip::Dial {
        uri: target.uri.clone(),
        destination: target.destination,
        from_user: from_user(cx),
        from_display: from_display(cx),
        offer,
        credentials: cx.rules.credentials.get(&target.destination).cloned(),
        max_forwards: cx.facts.max_forwards,
    });
    cx.out.push(CallOutput::Dial { leg, dial });
    true
}

/// The project's number, or the caller's where the project shows it and it is not withheld.
fn from_user(cx: &Cx<'_>) -> String {
    match &cx.facts.caller {
        Caller::Line { number, .. } if cx.facts.project.show_caller => number.as_str().to_owned(),
        Caller::Line { .. } | Caller::Withheld => {
            let ours = cx.facts.project.consultation.as_ref();
            ours.unwrap_or(&cx.facts.called).as_str().to_owned()
        }
    }
}

/// „Karte <Hinweis>", where the project shows it.
fn from_display(cx: &Cx<'_>) -> Option<String> {
    let note = cx.facts.record.card_note.as_ref()?;
    cx.facts
        .project
        .show_note
        .then(|| format!("Karte {note}").trim_end().to_owned())
}

fn attempt_ended(cx: &mut Cx<'_>, status: u16) {
    if let Some(attempt) = cx.facts.record.attempts.last_mut() {
        attempt.status = status;
    }
}
