//! What a state may touch while it handles an input: the call's facts, the time, chance, the
//! switch's stock of ports, and the list of orders.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::call::CallOutput;
use crate::call::books::Books;
use crate::call::cdr::{CallAttempt, EndCause};
use crate::call::directory::{Number, Project};
use crate::call::feed::CallHappening;
use crate::call::guard::PinGuard;
use crate::call::speech::Grammar;
use crate::call::stream::Stream;
use crate::card::LedgerRequest;
use crate::config::CallConfig;
use crate::ids::{CallKey, CardId, LedgerId, LegKey, PlayId, Side, TargetId};
use crate::media::{LegStats, MediaCommand, MediaPort, PromptId, PromptSetId, Utterance};
use crate::now::{IdSource, Instant, Now, UnixTime};
use crate::sip::{Caller, Credentials, LegCommand, Reason};
use crate::units::{E164, TalkTime};

/// What all calls share and none changes.
#[derive(Clone, Debug)]
pub struct CallRules {
    pub config: CallConfig,
    /// No packet at all from one side for this long after the bridge is dead air.
    pub no_media: Duration,
    /// How often a silent peer is asked whether it is still there.
    pub probe_again: Duration,
    /// How each prompt set speaks numbers.
    pub grammars: BTreeMap<PromptSetId, Grammar>,
    /// Digest credentials by where the INVITE goes.
    pub credentials: BTreeMap<std::net::SocketAddr, Credentials>,
}

/// Socket pairs that are bound and free. A pair that a leg opened comes back through the driver.
#[derive(Debug, Default)]
pub struct PortStock {
    free: Vec<MediaPort>,
}

impl PortStock {
    pub fn add(&mut self, ports: Vec<MediaPort>) {
        self.free.extend(ports);
    }

    pub fn take(&mut self) -> Option<MediaPort> {
        self.free.pop()
    }

    /// Takes back a pair that was never opened.
    pub fn put(&mut self, port: MediaPort) {
        self.free.push(port);
    }

    pub fn len(&self) -> usize {
        self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }
}

/// What the switch lends a call for one input.
#[derive(Debug)]
pub struct Env<'a> {
    pub now: Now,
    pub ids: &'a mut IdSource,
    pub ports: &'a mut PortStock,
    pub guard: &'a mut PinGuard,
    pub rules: &'a CallRules,
    /// The last ledger id given out, over all calls.
    pub last_ledger: &'a mut u64,
}

/// What is known of a call in every state. It outlives a panic of the state that was running.
pub(super) struct Facts {
    pub key: CallKey,
    pub number: Number,
    pub project: Arc<Project>,
    pub called: E164,
    pub caller: Caller,
    pub max_forwards: u8,
    /// The caller's leg, until it is over or hung up by us.
    pub a: Option<LegKey>,
    /// The advisor's leg of the moment, until it is over or hung up by us.
    pub b: Option<LegKey>,
    /// Legs that were hung up by us and have not said `Ended` or `Rejected` yet.
    pub past: BTreeSet<LegKey>,
    pub stream_a: Option<Stream>,
    pub stream_b: Option<Stream>,
    /// `Closed` reports still to come.
    pub closing_a: u32,
    pub closing_b: u32,
    pub books: Books,
    pub record: Record,
    pub last_play: u32,
    /// Wrong PINs in this call.
    pub wrong_pins: u32,
    /// Everything before the bridge that is not dialling ends here.
    pub ivr_until: Instant,
    /// The longest call ends here.
    pub max_until: Instant,
    /// One card was used up in this call: whatever follows, that is why it ends.
    pub used_up: bool,
    /// The card that is in use, as of the last checkpoint: what is charged if a state panics.
    pub open: Option<OpenCard>,
}

/// A reservation's shadow. The reservation itself is lost with the state that panics.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenCard {
    pub card: CardId,
    pub granted: TalkTime,
    pub used: TalkTime,
    /// The charge if both sides are not heard now: for talk before a recharge at zero.
    pub owed: TalkTime,
}

/// What the CDR will say.
pub(super) struct Record {
    pub started_at: UnixTime,
    pub answered_at: Option<UnixTime>,
    pub ringing_at: Option<UnixTime>,
    pub advisor_answered_at: Option<UnixTime>,
    pub bridged_at: Option<UnixTime>,
    pub ended_at: Option<UnixTime>,
    pub card: Option<CardId>,
    /// „Hinweis" of the card, for the advisor's display where the project shows it.
    pub card_note: Option<String>,
    pub target: Option<TargetId>,
    pub target_uri: Option<String>,
    /// The first cause wins; later ones are logged.
    pub end_cause: Option<EndCause>,
    pub paused: TalkTime,
    pub raw: TalkTime,
    pub billed: TalkTime,
    pub warnings_s: Vec<u32>,
    pub codec: Option<crate::sdp::Codec>,
    pub stats_a: LegStats,
    pub stats_b: LegStats,
    pub attempts: Vec<CallAttempt>,
}

impl Record {
    pub fn new(started_at: UnixTime) -> Record {
        Record {
            started_at,
            answered_at: None,
            ringing_at: None,
            advisor_answered_at: None,
            bridged_at: None,
            ended_at: None,
            card: None,
            card_note: None,
            target: None,
            target_uri: None,
            end_cause: None,
            paused: TalkTime::ZERO,
            raw: TalkTime::ZERO,
            billed: TalkTime::ZERO,
            warnings_s: Vec::new(),
            codec: None,
            stats_a: LegStats::default(),
            stats_b: LegStats::default(),
            attempts: Vec::new(),
        }
    }
}

impl Facts {
    /// The caller's number for the ledger; `None` if withheld.
    pub fn line(&self) -> Option<E164> {
        match &self.caller {
            Caller::Withheld => None,
            Caller::Line { number, .. } => Some(number.clone()),
        }
    }

    /// Whether the caller's telephone can send digits.
    pub fn caller_has_digits(&self) -> bool {
        self.stream_a.as_ref().is_some_and(Stream::has_digits)
    }

    pub fn stream(&mut self, side: Side) -> &mut Option<Stream> {
        match side {
            Side::A => &mut self.stream_a,
            Side::B => &mut self.stream_b,
        }
    }

    pub fn heard(&self, side: Side) -> bool {
        match side {
            Side::A => self.stream_a.as_ref(),
            Side::B => self.stream_b.as_ref(),
        }
        .is_some_and(|stream| stream.heard)
    }

    /// Whether the peer on this side has put the call on hold: it wants nothing from us.
    pub fn on_hold(&self, side: Side) -> bool {
        match side {
            Side::A => self.stream_a.as_ref(),
            Side::B => self.stream_b.as_ref(),
        }
        .is_some_and(Stream::is_on_hold)
    }
}

/// One input's workplace.
pub(super) struct Cx<'a> {
    pub now: Now,
    pub ids: &'a mut IdSource,
    pub ports: &'a mut PortStock,
    pub guard: &'a mut PinGuard,
    pub rules: &'a CallRules,
    pub last_ledger: &'a mut u64,
    pub facts: &'a mut Facts,
    pub out: &'a mut Vec<CallOutput>,
}

impl Cx<'_> {
    pub fn mono(&self) -> Instant {
        self.now.mono
    }

    pub fn config(&self) -> &CallConfig {
        &self.rules.config
    }

    pub fn ask(&mut self, request: LedgerRequest) -> LedgerId {
        *self.last_ledger += 1;
        let id = LedgerId(*self.last_ledger);
        self.out.push(CallOutput::Ledger { id, request });
        id
    }

    pub fn command(&mut self, leg: LegKey, command: LegCommand) {
        self.out.push(CallOutput::Command { leg, command });
    }

    pub fn media(&mut self, side: Side, command: MediaCommand) {
        self.out.push(CallOutput::Media { side, command });
    }

    pub fn event(&mut self, happening: CallHappening) {
        self.out.push(CallOutput::Event(happening));
    }

    pub fn next_play(&mut self) -> PlayId {
        self.facts.last_play += 1;
        PlayId(self.facts.last_play)
    }

    pub fn utterance(&self, prompts: Vec<PromptId>) -> Utterance {
        Utterance {
            set: self.facts.project.prompts,
            prompts,
        }
    }

    /// Speaks to one side; whatever it was hearing stops.
    pub fn play(&mut self, side: Side, prompts: Vec<PromptId>) -> PlayId {
        let id = self.next_play();
        self.tell(side, &prompts);
        let utterance = self.utterance(prompts);
        self.media(side, MediaCommand::Play { id, utterance });
        id
    }

    /// Tells the feed what one side hears.
    pub fn tell(&mut self, side: Side, prompts: &[PromptId]) {
        let words: Vec<&str> = prompts.iter().map(PromptId::as_str).collect();
        let prompts = words.join(" ");
        self.event(CallHappening::Playing { side, prompts });
    }

    /// The sentence that says how much talk time is left; empty if there is none to speak of.
    pub fn say_rest(&self, rest: TalkTime) -> Vec<PromptId> {
        self.grammar().map(|g| g.remaining_time(rest)).unwrap_or_default()
    }

    /// The bare time, for the advisor.
    pub fn say_span(&self, rest: TalkTime) -> Vec<PromptId> {
        self.grammar().map(|g| g.talk_time(rest)).unwrap_or_default()
    }

    pub fn say_number(&self, number: &E164) -> Vec<PromptId> {
        self.grammar().map(|g| g.telephone(number)).unwrap_or_default()
    }

    fn grammar(&self) -> Option<&Grammar> {
        self.rules.grammars.get(&self.facts.project.prompts)
    }

    /// Hangs up the advisor's leg, whatever it is doing, and gives back its audio.
    pub fn drop_advisor(&mut self, reasons: Vec<Reason>) {
        if let Some(leg) = self.facts.b.take() {
            self.facts.past.insert(leg);
            self.command(leg, LegCommand::HangUp(reasons));
        }
        self.close_stream(Side::B);
    }

    pub fn drop_caller(&mut self, reasons: Vec<Reason>) {
        if let Some(leg) = self.facts.a.take() {
            self.facts.past.insert(leg);
            self.command(leg, LegCommand::HangUp(reasons));
        }
        self.close_stream(Side::A);
    }

    /// Closes a side's audio, or returns its port if it was never opened.
    pub fn close_stream(&mut self, side: Side) {
        let Some(stream) = self.facts.stream(side).take() else {
            return;
        };
        if stream.audio.is_none() {
            self.ports.put(stream.port);
            return;
        }
        match side {
            Side::A => self.facts.closing_a += 1,
            Side::B => self.facts.closing_b += 1,
        }
        self.media(side, MediaCommand::Close);
    }
}
