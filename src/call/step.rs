//! From what legs, media plane and ledger report to what the script needs to know: offers are
//! answered, streams opened and paper work filed here, the same in every state.

use crate::call::CallInput;
use crate::call::cdr::EndCause;
use crate::call::cx::Cx;
use crate::call::refusal;
use crate::card::LedgerReply;
use crate::ids::{CardId, LedgerId, LegKey, PlayId, Side};
use crate::media::{MediaCommand, MediaEvent};
use crate::now::Instant;
use crate::sdp::SessionDescription;
use crate::secret::Digit;
use crate::sip::{LegCommand, LegEnd, LegEvent};

/// The alphabet of the states.
pub(super) enum Step {
    /// ACK to our 200, and the caller's audio is open.
    CallerReady,
    /// The caller's leg is over.
    CallerGone(LegEnd),
    /// 18x of the current target.
    Ringing,
    /// 200 of the current target, and its audio is open.
    AdvisorAnswered,
    /// The current target refused, with this final status.
    AdvisorRefused(u16),
    /// The advisor's established leg is over.
    AdvisorGone(LegEnd),
    /// A re-INVITE was answered: a side may have put the call on hold, or taken it off.
    Direction,
    /// A silent peer answered our OPTIONS.
    ProbeAnswered(Side),
    Digit(Side, Digit),
    PlayEnded(PlayId),
    FirstPacket,
    /// Nothing arrives from this side; the last packet came then.
    Lost(Side, Instant),
    Back(Side),
    /// An answer to a question of a state.
    Ledger(LedgerId, LedgerReply),
    CardChanged(CardId),
    /// The operator ends the call.
    HangUp,
    /// Some paper work, an old leg or a stream is done with.
    Cleared,
    Timeout,
}

impl Step {
    pub fn name(&self) -> &'static str {
        match self {
            Step::CallerReady => "caller_ready",
            Step::CallerGone(_) => "caller_gone",
            Step::Ringing => "ringing",
            Step::AdvisorAnswered => "advisor_answered",
            Step::AdvisorRefused(_) => "advisor_refused",
            Step::AdvisorGone(_) => "advisor_gone",
            Step::Direction => "direction",
            Step::ProbeAnswered(_) => "probe_answered",
            Step::Digit(..) => "digit",
            Step::PlayEnded(_) => "play_ended",
            Step::FirstPacket => "first_packet",
            Step::Lost(..) => "lost",
            Step::Back(_) => "back",
            Step::Ledger(..) => "ledger",
            Step::CardChanged(_) => "card_changed",
            Step::HangUp => "hang_up",
            Step::Cleared => "cleared",
            Step::Timeout => "timeout",
        }
    }
}

/// `None`: nothing that concerns the script.
pub(super) fn digest(cx: &mut Cx<'_>, input: CallInput) -> Option<Step> {
    match input {
        CallInput::Leg(leg, event) if cx.facts.a == Some(leg) => caller(cx, leg, event),
        CallInput::Leg(leg, event) if cx.facts.b == Some(leg) => advisor(cx, leg, event),
        CallInput::Leg(leg, event) => past(cx, leg, event),
        CallInput::Media(side, event) => media(cx, side, event),
        CallInput::Ledger(id, reply) => match cx.facts.books.take(cx.now.mono, id, reply) {
            Some(reply) => Some(Step::Ledger(id, reply)),
            None => Some(Step::Cleared),
        },
        CallInput::CardChanged(card) => Some(Step::CardChanged(card)),
        CallInput::HangUp => Some(Step::HangUp),
        CallInput::Timeout => {
            cx.retry_books();
            Some(Step::Timeout)
        }
    }
}

fn caller(cx: &mut Cx<'_>, leg: LegKey, event: LegEvent) -> Option<Step> {
    match event {
        LegEvent::Acked { answer } => acked(cx, answer),
        LegEvent::Cancelled { reasons } => {
            cx.facts.a = None;
            Some(Step::CallerGone(LegEnd::ByPeer { reasons }))
        }
        LegEvent::Reoffer { offer } => reoffer(cx, Side::A, leg, offer),
        LegEvent::ReofferAnswered { answer } => reoffer_answered(cx, Side::A, &answer),
        LegEvent::ProbeAnswered => Some(Step::ProbeAnswered(Side::A)),
        LegEvent::Ended(end) => {
            cx.facts.a = None;
            Some(Step::CallerGone(end))
        }
        // `Incoming` made this call; the others are a B leg's.
        LegEvent::Incoming(_)
        | LegEvent::Ringing { .. }
        | LegEvent::Answered { .. }
        | LegEvent::Rejected { .. } => None,
    }
}

fn advisor(cx: &mut Cx<'_>, leg: LegKey, event: LegEvent) -> Option<Step> {
    match event {
        LegEvent::Ringing { .. } => {
            if cx.facts.record.bridged_at.is_none() {
                cx.facts.record.ringing_at.get_or_insert(cx.now.wall);
            }
            Some(Step::Ringing)
        }
        LegEvent::Answered { answer } => Some(answered(cx, &answer)),
        LegEvent::Rejected { status, .. } => {
            cx.facts.b = None;
            Some(Step::AdvisorRefused(status))
        }
        LegEvent::Reoffer { offer } => reoffer(cx, Side::B, leg, offer),
        LegEvent::ReofferAnswered { answer } => reoffer_answered(cx, Side::B, &answer),
        LegEvent::ProbeAnswered => Some(Step::ProbeAnswered(Side::B)),
        LegEvent::Ended(end) => {
            cx.facts.b = None;
            Some(Step::AdvisorGone(end))
        }
        // An A leg's.
        LegEvent::Incoming(_) | LegEvent::Acked { .. } | LegEvent::Cancelled { .. } => None,
    }
}

/// Legs that we hung up: only their end matters. A 200 that crossed our CANCEL is the endpoint's
/// to acknowledge and end (RFC 3261 §9.1); should it be told up, it is ended again.
fn past(cx: &mut Cx<'_>, leg: LegKey, event: LegEvent) -> Option<Step> {
    match event {
        LegEvent::Rejected { .. } | LegEvent::Ended(_) | LegEvent::Cancelled { .. } => {
            cx.facts.past.remove(&leg).then_some(Step::Cleared)
        }
        LegEvent::Answered { .. } => {
            cx.command(leg, LegCommand::HangUp(refusal::normal()));
            None
        }
        LegEvent::Incoming(_)
        | LegEvent::Acked { .. }
        | LegEvent::Ringing { .. }
        | LegEvent::Reoffer { .. }
        | LegEvent::ReofferAnswered { .. }
        | LegEvent::ProbeAnswered => None,
    }
}

fn media(cx: &mut Cx<'_>, side: Side, event: MediaEvent) -> Option<Step> {
    let closing = match side {
        Side::A => cx.facts.closing_a,
        Side::B => cx.facts.closing_b,
    };
    let old = closing > 0 || cx.facts.stream(side).is_none();
    match event {
        // Not by our order: the media plane has lost the stream, and nobody hears anything any more.
        MediaEvent::Closed(stats) if !old => {
            cx.facts.stream(side).take();
            match side {
                Side::A => cx.facts.record.stats_a = stats,
                Side::B => cx.facts.record.stats_b = stats,
            }
            tracing::error!(call = %cx.facts.key, %side, "the media of a call broke; the call ends");
            cx.facts.record.end_cause.get_or_insert(EndCause::Internal);
            Some(Step::HangUp)
        }
        MediaEvent::Closed(stats) => {
            match side {
                Side::A => {
                    cx.facts.closing_a = closing.saturating_sub(1);
                    cx.facts.record.stats_a = stats;
                }
                Side::B => {
                    cx.facts.closing_b = closing.saturating_sub(1);
                    cx.facts.record.stats_b = stats;
                }
            }
            Some(Step::Cleared)
        }
        // These crossed our `Close`; they are of a stream that is no more.
        MediaEvent::Digit(_)
        | MediaEvent::PlayEnded { .. }
        | MediaEvent::FirstPacket
        | MediaEvent::Lost { .. }
        | MediaEvent::Back
            if old =>
        {
            None
        }
        MediaEvent::Digit(digit) => Some(Step::Digit(side, digit)),
        MediaEvent::PlayEnded { id, .. } => Some(Step::PlayEnded(id)),
        MediaEvent::FirstPacket => {
            if let Some(stream) = cx.facts.stream(side) {
                stream.heard = true;
            }
            Some(Step::FirstPacket)
        }
        MediaEvent::Lost { last_packet } => {
            silent(cx, side, Some(last_packet));
            Some(Step::Lost(side, last_packet))
        }
        MediaEvent::Back => {
            silent(cx, side, None);
            Some(Step::Back(side))
        }
    }
}

/// Kept for the bridge, since the media plane says it only once.
fn silent(cx: &mut Cx<'_>, side: Side, since: Option<Instant>) {
    if let Some(stream) = cx.facts.stream(side) {
        stream.silent_since = since;
    }
}

fn acked(cx: &mut Cx<'_>, answer: Option<SessionDescription>) -> Option<Step> {
    let stream = cx.facts.stream_a.as_mut()?;
    if stream.audio.is_some() {
        return Some(Step::CallerReady);
    }
    let taken = answer.map(|answer| stream.accept(&answer));
    if !matches!(taken, Some(Ok(()))) {
        cx.drop_caller(refusal::normal());
        return Some(Step::CallerGone(LegEnd::BadAnswer));
    }
    open(cx, Side::A);
    Some(Step::CallerReady)
}

fn answered(cx: &mut Cx<'_>, answer: &SessionDescription) -> Step {
    let taken = cx.facts.stream_b.as_mut().map(|stream| stream.accept(answer));
    if !matches!(taken, Some(Ok(()))) {
        cx.drop_advisor(refusal::normal());
        return Step::AdvisorRefused(488);
    }
    // A second card in the same call brings a second advisor; the row tells of the first talk.
    if cx.facts.record.bridged_at.is_none() {
        // The first one, as with `ringing_at` and `bridged_at`: the row's times stay in their order.
        cx.facts.record.advisor_answered_at.get_or_insert(cx.now.wall);
    }
    open(cx, Side::B);
    Step::AdvisorAnswered
}

/// Tells the media plane to open a stream that was just agreed on.
pub(super) fn open(cx: &mut Cx<'_>, side: Side) {
    let Some(stream) = cx.facts.stream(side).as_ref() else {
        return;
    };
    let Some(audio) = stream.audio.clone() else {
        return;
    };
    let port = stream.port;
    if side == Side::A {
        cx.facts.record.codec = Some(audio.codec);
    }
    cx.media(side, MediaCommand::Open { port, audio });
}

/// A re-INVITE concerns its own leg only: hold, refresh, another address or codec.
fn reoffer(cx: &mut Cx<'_>, side: Side, leg: LegKey, offer: Option<SessionDescription>) -> Option<Step> {
    let Some(stream) = cx.facts.stream(side).as_mut() else {
        cx.command(leg, LegCommand::AnswerReoffer { sdp: None });
        return None;
    };
    let Some(offer) = offer else {
        let sdp = Some(stream.offer());
        cx.command(leg, LegCommand::AnswerReoffer { sdp });
        return None;
    };
    // 488 leaves the dialog as it was (RFC 3261 §14.2).
    let sdp = stream.answer(&offer).ok();
    let agreed = sdp.is_some();
    cx.command(leg, LegCommand::AnswerReoffer { sdp });
    agreed.then(|| update(cx, side)).flatten()
}

fn reoffer_answered(cx: &mut Cx<'_>, side: Side, answer: &SessionDescription) -> Option<Step> {
    let stream = cx.facts.stream(side).as_mut()?;
    // An answer that we cannot use leaves the stream as it was.
    stream.accept(answer).ok()?;
    update(cx, side)
}

fn update(cx: &mut Cx<'_>, side: Side) -> Option<Step> {
    let audio = cx.facts.stream(side).as_ref()?.audio.clone()?;
    cx.media(side, MediaCommand::Update { audio });
    Some(Step::Direction)
}
