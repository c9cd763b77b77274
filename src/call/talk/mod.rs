//! BRIDGE and HOLD: the talk, its clock, its slices, its warnings and the cut.

mod clock;
mod slices;
mod warnings;
mod watch;

use crate::call::cdr::EndCause;
use crate::call::connect::{Paid, Talked};
use crate::call::cx::{Cx, OpenCard};
use crate::call::ending::{Ending, Farewell, refuse};
use crate::call::feed::CallHappening;
use crate::call::pin::Pin;
use crate::call::refusal::{self, Refusal};
use crate::call::speech::fixed;
use crate::call::step::Step;
use crate::call::{Deadline, State};
use crate::card::LedgerRequest;
use crate::fault::{self, Fault};
use crate::ids::Side;
use crate::media::MediaCommand;
use crate::now::Instant;
use crate::sip::{LegEnd, Reason};
use crate::units::TalkTime;

use clock::TalkClock;
use slices::Slices;
use warnings::Warnings;
use watch::Watch;

/// Both sides are joined. HOLD is this state with a clock that stands still.
pub(super) struct Bridge {
    paid: Paid,
    clock: TalkClock,
    slices: Slices,
    /// The card is not looked at before.
    look_at: Instant,
    warnings: Warnings,
    watch: Watch,
    checkpoint_at: Instant,
    /// The card was blocked, or expired, during the talk.
    forbidden: bool,
}

/// What the operator sees of a running talk.
pub(super) struct TalkState {
    pub used: TalkTime,
    pub rest: TalkTime,
}

impl Bridge {
    pub fn into_paid(self) -> Paid {
        self.paid
    }

    /// t0: the charged clock starts here (product.md 3.5).
    pub fn start(cx: &mut Cx<'_>, paid: Paid) -> State {
        let mut now = cx.mono();
        cx.media(Side::A, MediaCommand::Bridge);
        cx.facts.record.bridged_at = cx.facts.record.bridged_at.or(Some(cx.now.wall));
        cx.facts.used_up = false;
        let card = paid.card.card;
        let granted = paid.reservation.total();
        cx.event(CallHappening::Bridged { card, granted });
        tracing::info!(call = %cx.facts.key, %card, granted_ms = granted.as_ms(), "bridged");
        let most_pause = cx
            .facts
            .project
            .hold_pause
            .unwrap_or_default()
            .min(cx.config().hold_max)
            .saturating_sub(paid.talked.paused);
        if fault::planted(Fault::ClockFromInvite) {
            now = cx.facts.max_until - cx.config().max_call;
        }
        let announced = paid.card.available();
        let before = paid.talked.raw.to_duration();
        let mut bridge = Bridge {
            warnings: Warnings::new(cx, announced),
            paid,
            clock: TalkClock::started(now, most_pause, before),
            slices: Slices::Idle,
            look_at: now,
            watch: Watch::armed(now + cx.rules.no_media),
            checkpoint_at: now + cx.config().checkpoint,
            forbidden: false,
        };
        bridge.direction(cx);
        for side in [Side::A, Side::B] {
            // A caller who vanished while it rang is no partner for a talk.
            let silent = cx
                .facts
                .stream(side)
                .as_ref()
                .and_then(|stream| stream.silent_since);
            if let Some(last_packet) = silent {
                bridge.watch.lost(cx, side, last_packet);
            }
        }
        bridge.into()
    }

    pub fn stood_still(&mut self, from: Instant, until: Instant) {
        self.clock.stood_still(from, until);
    }

    pub fn name(&self) -> &'static str {
        if self.clock.is_paused() { "hold" } else { "bridge" }
    }

    pub fn talk(&self, now: Instant) -> TalkState {
        let used = TalkTime::from_duration(self.clock.used(now)).min(self.paid.reservation.total());
        TalkState {
            used,
            rest: self.paid.reservation.total().saturating_sub(used),
        }
    }

    pub fn next_timeout(&self, cx_lead: std::time::Duration, max_until: Instant) -> Option<Deadline> {
        let warning = self.last_end().and_then(|end| self.warnings.next(end));
        [
            self.end().map(|at| (at, "cut")),
            self.clock.pause_end().map(|at| (at, "hold")),
            self.slice_timeout(cx_lead).map(|at| (at, "slice")),
            warning.map(|at| (at, "warning")),
            self.watch.next().map(|at| (at, "watch")),
            Some((self.checkpoint_at, "checkpoint")),
            Some((max_until, "max_call")),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub fn handle(mut self, cx: &mut Cx<'_>, step: Step) -> State {
        match step {
            Step::Timeout => return self.timeout(cx),
            Step::CallerGone(end) => return self.caller_gone(cx, &end),
            Step::AdvisorGone(end) => return self.advisor_gone(cx, &end),
            Step::AdvisorRefused(_) => return self.advisor_gone(cx, &LegEnd::Gone),
            Step::HangUp => return self.over(cx, EndCause::AdminKill),
            Step::Direction => self.direction(cx),
            Step::Ledger(id, reply) => self.slice_answered(cx, id, reply),
            Step::CardChanged(card) if card == self.paid.card.card => self.card_changed(cx),
            Step::PlayEnded(id) => self.warnings.ended(id),
            Step::Lost(side, last_packet) => self.watch.lost(cx, side, last_packet),
            Step::Back(side) => self.watch.back(side),
            Step::ProbeAnswered(side) => self.watch.answered(cx, side),
            Step::Ringing if fault::planted(Fault::AnswerChargedTwice) => {
                let used = self.clock.used(cx.mono());
                self.clock = TalkClock::started(cx.mono(), std::time::Duration::ZERO, used + used);
            }
            // Whether a side was heard is among the facts; digits are relayed by the media plane.
            Step::FirstPacket
            | Step::CallerReady
            | Step::Ringing
            | Step::AdvisorAnswered
            | Step::Digit(..)
            | Step::CardChanged(_)
            | Step::Cleared => {}
        }
        self.into()
    }

    /// When all that is granted will be used up.
    fn end(&self) -> Option<Instant> {
        self.clock.end(self.paid.reservation.total())
    }

    /// The same, once it is known that nothing will be added.
    fn last_end(&self) -> Option<Instant> {
        self.end().filter(|_| self.paid.reservation.is_last())
    }

    fn timeout(mut self, cx: &mut Cx<'_>) -> State {
        let now = cx.mono();
        if self.clock.pause_end().is_some_and(|at| at <= now) {
            self.clock.resume(now);
        }
        if self.end().is_some_and(|at| at <= now) {
            return self.cut(cx);
        }
        if cx.facts.max_until <= now {
            return self.over(cx, EndCause::MaxCall);
        }
        if self.watch.is_dead_air(cx) {
            return self.dead_air(cx);
        }
        if let Some(last_packet) = self.watch.due(cx) {
            self.stop(cx, refusal::normal(), Some(last_packet));
            return Ending::start(cx, EndCause::MediaLost);
        }
        if self.checkpoint_at <= now {
            self.checkpoint(cx);
        }
        self.slice_due(cx);
        if let Some(end) = self.last_end() {
            self.warnings.due(cx, end);
        }
        self.into()
    }

    /// Hold by the advisor stops the clock, where the project has it so; hold by the caller does not.
    fn direction(&mut self, cx: &mut Cx<'_>) {
        let now = cx.mono();
        if fault::planted(Fault::RefreshMovesClock) {
            self.clock = TalkClock::started(now, std::time::Duration::ZERO, std::time::Duration::ZERO);
        }
        if cx.facts.on_hold(Side::B) || fault::planted(Fault::CallerHoldIsFree) && cx.facts.on_hold(Side::A) {
            self.clock.pause(now);
        } else {
            self.clock.resume(now);
        }
        let quiet = cx.facts.on_hold(Side::A) || cx.facts.on_hold(Side::B);
        self.watch.hold(quiet, now + cx.rules.no_media);
    }

    fn checkpoint(&mut self, cx: &mut Cx<'_>) {
        let now = cx.mono();
        self.checkpoint_at = now + cx.config().checkpoint;
        self.checkpointed(cx);
        // Nothing is charged where one side was never heard, not even after a crash.
        let heard = cx.facts.heard(Side::A) && cx.facts.heard(Side::B);
        let mut used = if heard {
            self.talk(now).used
        } else {
            self.paid.talked.raw
        };
        if fault::planted(Fault::CheckpointAboveGrant) {
            used = used.saturating_add(TalkTime::from_duration(cx.config().checkpoint));
        }
        cx.ask(LedgerRequest::Checkpoint {
            call: cx.facts.key,
            card: self.paid.card.card,
            used,
        });
    }

    /// Keeps the shadow of the reservation up to date.
    fn checkpointed(&self, cx: &mut Cx<'_>) {
        let now = cx.mono();
        cx.facts.open = Some(OpenCard {
            used: self.talk(now).used,
            ..self.paid.shadow()
        });
    }

    /// Zero: the advisor is released first; the caller may go on with another card, or with this one
    /// if it is recharged.
    fn cut(self, cx: &mut Cx<'_>) -> State {
        if !self.paid.reservation.is_last() {
            // The store was away for longer than the slice lasted. `tech` says that nothing was
            // charged, which is not true here, so it is not played.
            return self.over(cx, EndCause::StoreDown);
        }
        if self.forbidden {
            self.stop(cx, refusal::normal(), None);
            return refuse(cx, Refusal::CardBlocked);
        }
        let paid = self.part(cx, refusal::reasons(EndCause::CreditEnd), None);
        cx.facts.used_up = true;
        if !cx.facts.caller_has_digits() {
            paid.end(cx);
            return Farewell::start(cx, EndCause::CreditEnd, vec![fixed::EXHAUSTED]);
        }
        cx.facts.ivr_until = cx.mono() + cx.config().before_bridge;
        Pin::used_up(cx, paid)
    }

    /// An end that has nothing to do with the media: charged until now.
    fn over(self, cx: &mut Cx<'_>, cause: EndCause) -> State {
        self.stop(cx, refusal::normal(), None);
        Farewell::start(cx, cause, vec![fixed::BYE])
    }

    fn caller_gone(self, cx: &mut Cx<'_>, end: &LegEnd) -> State {
        let lost = self.lost_at(Side::A, end);
        self.stop(cx, refusal::normal(), lost);
        match lost {
            Some(_) => Ending::start(cx, EndCause::MediaLost),
            None => Ending::caller_gone(cx, end),
        }
    }

    fn advisor_gone(self, cx: &mut Cx<'_>, end: &LegEnd) -> State {
        let lost = self.lost_at(Side::B, end);
        self.stop(cx, refusal::normal(), lost);
        match end {
            LegEnd::ByPeer { .. } | LegEnd::ByUs | LegEnd::NoAck => {
                Farewell::start(cx, EndCause::AdvisorBye, vec![fixed::BYE])
            }
            LegEnd::Gone | LegEnd::SessionExpired | LegEnd::BadAnswer => {
                Ending::start(cx, EndCause::MediaLost)
            }
        }
    }

    /// The last audio of a side that vanished; `None` if it said goodbye.
    fn lost_at(&self, side: Side, end: &LegEnd) -> Option<Instant> {
        match end {
            LegEnd::Gone | LegEnd::SessionExpired => self.watch.lost_at(side),
            LegEnd::ByPeer { .. } | LegEnd::ByUs | LegEnd::NoAck | LegEnd::BadAnswer => None,
        }
    }

    fn dead_air(self, cx: &mut Cx<'_>) -> State {
        self.stop(cx, refusal::reasons(EndCause::NoMedia), None);
        Farewell::start(cx, EndCause::NoMedia, vec![fixed::DEAD_AIR])
    }

    /// Releases the advisor, then settles.
    fn stop(self, cx: &mut Cx<'_>, reasons: Vec<Reason>, lost_at: Option<Instant>) {
        self.part(cx, reasons, lost_at).end(cx);
    }

    /// Releases the advisor and works out what was talked until now, or until the last audio.
    /// Nothing is charged if one side was never heard (product.md 3.5).
    fn part(mut self, cx: &mut Cx<'_>, reasons: Vec<Reason>, lost_at: Option<Instant>) -> Paid {
        let until = lost_at.unwrap_or(cx.mono()).min(cx.mono());
        let granted = self.paid.reservation.total();
        let mut raw = self.talk(until).used;
        if let (true, Some(bridged)) = (fault::planted(Fault::WallClock), cx.facts.record.bridged_at) {
            raw = TalkTime::from_ms(cx.now.wall.as_ms() - bridged.as_ms());
        }
        let pauses = self.clock.pauses(until);
        let paused = cx.facts.record.paused;
        cx.facts.record.paused = paused.saturating_add(TalkTime::from_duration(pauses));
        let billed = if cx.facts.heard(Side::A) && cx.facts.heard(Side::B) {
            cx.facts.project.tariff.bill(raw, granted)
        } else {
            self.paid.talked.billed
        };
        cx.drop_advisor(reasons);
        if fault::planted(Fault::SettledTwice) {
            let (call, card) = (cx.facts.key, self.paid.card.card);
            cx.file_settlement(crate::card::Settlement {
                call,
                card,
                raw,
                billed,
            });
        }
        self.paid.talked = Talked {
            raw,
            billed,
            paused: self.paid.talked.paused + pauses,
        };
        self.paid
    }
}
