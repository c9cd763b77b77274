//! A virtual world around the switch: telephones, a media plane of known durations, a store, and a
//! link of 10 ms. Everything that passes is written down as a ladder.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use cardline::call::CallRules;
use cardline::call::directory::{Directory, Number, Project, Role, Target};
use cardline::call::speech::Grammar;
use cardline::card::tariff::Tariff;
use cardline::card::{LedgerReply, LedgerRequest};
use cardline::config::Config;
use cardline::ids::{CardId, LedgerId, NumberId, PlayId, ProjectId, ReplyToken, Side, TargetId};
use cardline::media::{
    LegStats, MediaCommand, MediaEvent, MediaOrder, MediaPort, MediaReport, PortId, PromptSetId,
};
use cardline::now::{IdSource, Instant, Now, UnixTime};
use cardline::secret::Digit;
use cardline::sip::endpoint::EndpointConfig;
use cardline::sip::{EndpointInput, EndpointLoad, EndpointOutput, Flow, LegCommand};
use cardline::switch::{AdminAsk, CallHappening, Input, Output, Switch, SwitchConfig};
use cardline::units::E164;

use super::books::Books;
use super::phone::{Phone, hang_up, trunk};
use super::text;

pub const CONSULTATION: &str = "+493023125100";
pub const ACTIVATION: &str = "+493023125101";
pub const ANNA: &str = "+491701234567";
pub const BERT: &str = "+436641234567";

const LINK: Duration = Duration::from_millis(10);
const STORE: Duration = Duration::from_millis(20);
/// Every prompt of this world lasts this long.
const PROMPT: Duration = Duration::from_secs(1);

/// Something that is on its way.
enum Coming {
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    Reply {
        id: LedgerId,
        request: Box<LedgerRequest>,
        reply: LedgerReply,
    },
    Media(MediaReport),
    Command {
        phone: usize,
        leg: cardline::ids::LegKey,
        command: LegCommand,
    },
}

type Playing = (PlayId, (Instant, u64));

pub struct World {
    stock: usize,
    pub now: Instant,
    pub switch: Switch,
    pub books: Books,
    /// The caller, then the advisors.
    pub phones: Vec<Phone>,
    pub ladder: String,
    /// The store answers nothing but `Unavailable`.
    pub store_down: bool,
    /// The store answers nothing at all.
    pub store_dead: bool,
    /// Extra time that the store takes for reservations.
    pub slow_grants: Duration,
    /// Reservations are made, but the answer is `Unavailable`.
    pub unknown_grants: bool,
    coming: BTreeMap<(Instant, u64), Coming>,
    count: u64,
    call: Option<cardline::ids::CallKey>,
    /// What is playing on each side, and the id of its end among `coming`.
    playing: BTreeMap<(Side, &'static str), Playing>,
    ports: BTreeMap<Side, MediaPort>,
}

impl World {
    pub fn new() -> World {
        World::with(|_| {}, |_| {})
    }

    pub fn with(config: fn(&mut Config), project: fn(&mut Project)) -> World {
        World::with_ports(4, config, project)
    }

    pub fn with_ports(stock: u16, config: fn(&mut Config), project: fn(&mut Project)) -> World {
        let address: SocketAddr = "203.0.113.1:5060".parse().unwrap();
        let mut settings = Config {
            trunks: vec![trunk("198.51.100.1")],
            ..Config::default()
        };
        config(&mut settings);
        let mut switch = Switch::new(switch_config(&settings, address), IdSource::from_number(1));
        let now = wall(Instant::default());
        let mut out = Vec::new();
        let ports = (0..stock).map(port).collect();
        switch.handle(now, Input::Ports(ports), &mut out);
        let mut first = sample_project();
        project(&mut first);
        switch.handle(now, Input::Directory(Arc::new(directory(first))), &mut out);
        let phones = vec![
            Phone::new("A", "198.51.100.1:5060", address, 11),
            Phone::new("B", "192.0.2.77:5060", address, 12),
            Phone::new("B2", "192.0.2.78:5060", address, 13),
        ];
        let mut books = Books::default();
        books.add(1, "1234567890", 720);
        World {
            stock: stock.into(),
            now: Instant::default(),
            switch,
            books,
            phones,
            ladder: String::new(),
            store_down: false,
            store_dead: false,
            slow_grants: Duration::ZERO,
            unknown_grants: false,
            coming: BTreeMap::new(),
            count: 0,
            call: None,
            playing: BTreeMap::new(),
            ports: BTreeMap::new(),
        }
    }

    pub fn bind(&mut self, card: i64, line: &str) {
        let card = self.books.card(card);
        card.state = cardline::card::CardState::Active;
        card.lines.insert(line.to_owned());
    }

    pub fn dials(&mut self, caller: &str, called: &str) {
        let offer = self.phones[0].offer();
        self.dials_with(caller, called, offer);
    }

    pub fn dials_with(&mut self, caller: &str, called: &str, offer: cardline::sdp::SessionDescription) {
        let input = self.phones[0].dial(SWITCH.parse().unwrap(), called, caller, offer);
        self.phone(0, input);
    }

    /// Presses keys, 200 ms apart.
    pub fn types(&mut self, side: Side, keys: &str) {
        for key in keys.chars() {
            self.press(side, key);
            self.run_ms(200);
        }
    }

    pub fn press(&mut self, side: Side, key: char) {
        let digit = match key {
            '*' => Digit::Star,
            '#' => Digit::Hash,
            number => Digit::Number(u8::try_from(number.to_digit(10).unwrap()).unwrap()),
        };
        self.media(side, MediaEvent::Digit(digit));
    }

    pub fn hangs_up(&mut self, phone: usize) {
        let leg = self.phones[phone].leg.expect("a call");
        let command = hang_up();
        self.phone(phone, EndpointInput::Command { leg, command });
    }

    pub fn media(&mut self, side: Side, event: MediaEvent) {
        let call = self.call.expect("a call");
        self.note(&format!("media {side} > {}", text::media_event(&event)));
        self.give(Input::Media(MediaReport { call, side, event }));
    }

    /// The operator ends the call.
    pub fn kills(&mut self) {
        let ask = AdminAsk::HangUp(self.call.expect("a call"));
        self.note("admin   > hang up");
        self.give(Input::Admin {
            token: ReplyToken(1),
            ask,
        });
    }

    pub fn drains(&mut self) {
        self.note("admin   > drain");
        self.give(Input::Admin {
            token: ReplyToken(1),
            ask: AdminAsk::Drain,
        });
    }

    pub fn recharges(&mut self, card: i64, seconds: i64) {
        self.books.card(card).balance_ms += seconds * 1000;
        self.note(&format!("admin   > card #{card} +{seconds}s"));
        self.give(Input::CardChanged(CardId::new(card)));
    }

    /// A datagram from a telephone's address, written by hand.
    pub fn sends(&mut self, phone: usize, message: String) {
        let flow = Flow {
            local: SWITCH.parse().unwrap(),
            remote: self.phones[phone].address,
        };
        self.note(&format!(
            "{:<7} > {}",
            self.phones[phone].name,
            text::message(message.as_bytes())
        ));
        self.give(Input::Datagram {
            flow,
            bytes: message.into_bytes(),
        });
    }

    /// The advisor's telephone re-negotiates: `sendonly` is hold.
    pub fn advisor_wants(&mut self, direction: &str) {
        let (invite, ack) = self.phones[1].reinvite(direction);
        self.sends(1, invite);
        self.run_ms(20);
        self.sends(1, ack);
    }

    pub fn run_ms(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        for _ in 0..200_000 {
            let coming = self.coming.first_key_value().map(|((at, _), _)| *at);
            let timer = self.timers().min();
            let Some(next) = coming.into_iter().chain(timer).min().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = next.max(self.now);
            if coming == Some(next) {
                self.arrive();
                continue;
            }
            self.give(Input::Timeout);
            for phone in 0..self.phones.len() {
                self.phone(phone, EndpointInput::Timeout);
            }
        }
        panic!("the world does not come to rest:\n{}", self.ladder);
    }

    /// The process is stopped and goes on; what came meanwhile waits for it.
    pub fn stands_still_s(&mut self, seconds: u64) {
        let from = self.now;
        self.now = from + Duration::from_secs(seconds);
        self.switch.stood_still(from, self.now);
    }

    pub fn run_s(&mut self, seconds: u64) {
        self.run_ms(seconds * 1000);
    }

    /// Runs from event to event until the ladder has this line, and not beyond.
    pub fn until_exactly(&mut self, words: &str) {
        let from = self.ladder.len();
        for _ in 0..600_000 {
            if self.ladder[from..].contains(words) {
                return;
            }
            self.run_ms(1);
        }
        panic!("never saw {words:?}:\n{}", self.ladder);
    }

    /// What the store was about to answer is lost.
    pub fn forget_replies(&mut self) {
        self.coming
            .retain(|_, coming| !matches!(coming, Coming::Reply { .. }));
    }

    /// Runs until the ladder has this line, or fails after ten minutes.
    pub fn until(&mut self, words: &str) {
        let from = self.ladder.len();
        for _ in 0..60_000 {
            if self.ladder[from..].contains(words) {
                return;
            }
            self.run_ms(10);
        }
        panic!("never saw {words:?}:\n{}", self.ladder);
    }

    /// Everything is over: nothing is left, and the books are right.
    pub fn ends(&mut self) {
        self.run_s(180);
        assert!(self.switch.is_idle(), "calls are left:\n{}", self.ladder);
        assert_eq!(
            self.switch.endpoint_load(),
            EndpointLoad::default(),
            "{}",
            self.ladder
        );
        assert_eq!(
            self.switch.status(wall(self.now)).free_ports,
            self.stock,
            "{}",
            self.ladder
        );
        assert!(self.coming.is_empty());
        self.books.check_closed();
    }

    fn timers(&self) -> impl Iterator<Item = Instant> {
        let phones = self
            .phones
            .iter()
            .filter_map(|phone| phone.endpoint.next_timeout());
        phones.chain(self.switch.next_timeout()).map(|(at, _)| at)
    }

    fn arrive(&mut self) {
        let Some((key, coming)) = self.coming.pop_first() else {
            return;
        };
        match coming {
            Coming::Datagram { from, to, bytes } if to.to_string() == SWITCH => {
                let name = self
                    .phones
                    .iter()
                    .find(|p| p.address == from)
                    .map_or("?", |p| p.name);
                self.note(&format!("{name:<7} > {}", text::message(&bytes)));
                self.give(Input::Datagram {
                    flow: Flow {
                        local: to,
                        remote: from,
                    },
                    bytes,
                });
            }
            Coming::Datagram { from, to, bytes } => {
                let Some(phone) = self.phones.iter().position(|phone| phone.address == to) else {
                    return;
                };
                if self.phones[phone].gone {
                    return;
                }
                self.phones[phone].hears_bytes(&bytes);
                let flow = Flow {
                    local: to,
                    remote: from,
                };
                self.phone(phone, EndpointInput::Datagram { flow, bytes });
            }
            Coming::Reply { id, request, reply } => {
                if let Some(words) = text::reply(&request, &reply) {
                    self.note(&format!("ledger  > {words}"));
                }
                self.give(Input::Ledger { id, reply });
            }
            Coming::Media(report) => {
                self.playing.retain(|_, (_, end)| *end != key);
                self.give(Input::Media(report));
            }
            Coming::Command { phone, leg, command } => {
                if self.phones[phone].leg == Some(leg) && !self.phones[phone].ended {
                    self.phone(phone, EndpointInput::Command { leg, command });
                }
            }
        }
    }

    fn phone(&mut self, phone: usize, input: EndpointInput) {
        for output in self.phones[phone].give(wall(self.now), input) {
            match output {
                EndpointOutput::Send { flow, bytes } => {
                    let (from, to) = (flow.local, flow.remote);
                    self.phones[phone].says_bytes(&bytes);
                    if !self.phones[phone].gone {
                        self.later(LINK, Coming::Datagram { from, to, bytes });
                    }
                }
                EndpointOutput::Leg { leg, event } => {
                    for (after, command) in self.phones[phone].hears(leg, &event) {
                        self.later(after, Coming::Command { phone, leg, command });
                    }
                }
                EndpointOutput::Count(_) => {}
            }
        }
    }

    fn give(&mut self, input: Input) {
        let mut out = Vec::new();
        let now = wall(self.now);
        let run = AssertUnwindSafe(|| self.switch.handle(now, input, &mut out));
        if catch_unwind(run).is_err() {
            self.note("call    = panicked");
            assert!(self.switch.abort_call(now, &mut out));
        }
        for output in out {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send { flow, bytes } => {
                let name = self
                    .phones
                    .iter()
                    .find(|p| p.address == flow.remote)
                    .map_or("?", |p| p.name);
                self.note(&format!("{name:<7} < {}", text::message(&bytes)));
                let (from, to) = (flow.local, flow.remote);
                self.later(LINK, Coming::Datagram { from, to, bytes });
            }
            Output::Media(order) => self.order(order),
            Output::Ledger { id, request } => self.ask(id, request),
            Output::Event(event) => {
                self.call = Some(event.call);
                match event.what {
                    CallHappening::State(name) => self.note(&format!("call    = {name}")),
                    CallHappening::Ended { cause, raw, billed } => self.note(&format!(
                        "call    = ended {} raw={} billed={}",
                        cause.as_str(),
                        text::seconds(raw),
                        text::seconds(billed)
                    )),
                    CallHappening::Warned { seconds } => self.note(&format!("call    = warned {seconds}s")),
                    CallHappening::Started
                    | CallHappening::Playing { .. }
                    | CallHappening::Activated { .. }
                    | CallHappening::Bridged { .. }
                    | CallHappening::Extended { .. } => {}
                }
            }
            Output::AdminReply { .. } | Output::Count(_) => {}
        }
    }

    fn ask(&mut self, id: LedgerId, request: LedgerRequest) {
        let slow = matches!(request, LedgerRequest::Reserve { .. });
        let wait = if slow { STORE + self.slow_grants } else { STORE };
        if let Some(words) = text::request(&request) {
            self.note(&format!("ledger  < {words}"));
        }
        if self.store_dead {
            return;
        }
        let reply = if self.store_down {
            LedgerReply::Unavailable
        } else {
            self.books.answer(&request)
        };
        let reply = if self.unknown_grants && matches!(reply, LedgerReply::Reserved(_)) {
            lose(reply)
        } else {
            reply
        };
        let request = Box::new(request);
        self.later(wait, Coming::Reply { id, request, reply });
    }

    fn order(&mut self, order: MediaOrder) {
        let side = order.side;
        self.note(&format!("media {side} < {}", text::media_command(&order.command)));
        match order.command {
            MediaCommand::Open { port, .. } => {
                self.ports.insert(side, port);
                let talks = match side {
                    Side::A => self.phones[0].talks,
                    Side::B => self.phones[1].talks,
                };
                if talks {
                    self.report(LINK * 2, order.call, side, MediaEvent::FirstPacket);
                }
            }
            MediaCommand::Play { id, utterance } => {
                self.stop(order.call, side, "play");
                let length = PROMPT * u32::try_from(utterance.prompts.len()).unwrap();
                let end = MediaEvent::PlayEnded { id, finished: true };
                let key = self.report(length, order.call, side, end);
                self.playing.insert((side, "play"), (id, key));
            }
            MediaCommand::Mix { id, .. } => {
                self.stop(order.call, side, "mix");
                let end = MediaEvent::PlayEnded { id, finished: true };
                let key = self.report(PROMPT, order.call, side, end);
                self.playing.insert((side, "mix"), (id, key));
            }
            MediaCommand::Ringback | MediaCommand::Silence | MediaCommand::Bridge => {
                self.stop(order.call, side, "play");
            }
            MediaCommand::StopMix => self.stop(order.call, side, "mix"),
            MediaCommand::Close => {
                self.stop(order.call, side, "play");
                self.stop(order.call, side, "mix");
                self.report(LINK, order.call, side, MediaEvent::Closed(LegStats::default()));
                let freed = self.ports.remove(&side).expect("opened before closed");
                self.give(Input::Ports(vec![freed]));
            }
            MediaCommand::Unbridge | MediaCommand::Update { .. } => {}
        }
    }

    /// What was playing there ends unfinished.
    fn stop(&mut self, call: cardline::ids::CallKey, side: Side, kind: &'static str) {
        if let Some((id, key)) = self.playing.remove(&(side, kind)) {
            self.coming.remove(&key);
            let end = MediaEvent::PlayEnded { id, finished: false };
            self.report(Duration::ZERO, call, side, end);
        }
    }

    fn report(
        &mut self,
        after: Duration,
        call: cardline::ids::CallKey,
        side: Side,
        event: MediaEvent,
    ) -> (Instant, u64) {
        self.later(after, Coming::Media(MediaReport { call, side, event }))
    }

    fn later(&mut self, after: Duration, coming: Coming) -> (Instant, u64) {
        self.count += 1;
        let key = (self.now + after, self.count);
        self.coming.insert(key, coming);
        key
    }

    fn note(&mut self, words: &str) {
        let ms = self.now.as_nanos() / 1_000_000;
        let time = format!("{}.{:03}", ms / 1000, ms % 1000);
        self.ladder += &format!("{time:<8}{words}\n");
    }
}

pub const SWITCH: &str = "203.0.113.1:5060";

fn wall(now: Instant) -> Now {
    // 2026-03-02T09:00:00Z.
    const BEGIN_MS: i64 = 1_772_442_000_000;
    let ms = i64::try_from(now.as_nanos() / 1_000_000).unwrap();
    Now {
        mono: now,
        wall: UnixTime::from_ms(BEGIN_MS + ms),
    }
}

fn port(n: u16) -> MediaPort {
    MediaPort {
        id: PortId(n.into()),
        rtp: SocketAddr::new("203.0.113.1".parse().unwrap(), 20_000 + 2 * n),
    }
}

fn switch_config(config: &Config, address: SocketAddr) -> SwitchConfig {
    let grammar = Grammar::parse(include_str!("../../../prompts/de/grammar.toml")).unwrap();
    SwitchConfig {
        endpoint: EndpointConfig::new(config, vec![address]),
        rules: CallRules {
            config: config.call.clone(),
            no_media: config.media.no_media,
            probe_again: config.media.rtp_lost,
            grammars: BTreeMap::from([(PromptSetId(0), grammar)]),
            credentials: BTreeMap::new(),
        },
        max_calls: config.limits.calls,
        retry_after_s: config.limits.retry_after_s,
    }
}

fn sample_project() -> Project {
    let target = |id: i64, host: &str| Target {
        id: TargetId::new(id),
        uri: format!("sip:advisor@{host}"),
        destination: SocketAddr::new(host.parse().unwrap(), 5060),
        ring: Duration::from_secs(25),
    };
    Project {
        id: ProjectId::new(1),
        name: "test1".to_owned(),
        prompts: PromptSetId(0),
        enabled: true,
        tariff: Tariff::default(),
        pin_length: 10,
        accept_key: false,
        hold_pause: Some(Duration::from_secs(600)),
        show_caller: false,
        show_note: false,
        consultation: Some(E164::parse(CONSULTATION).unwrap()),
        targets: vec![target(1, "192.0.2.77"), target(2, "192.0.2.78")],
    }
}

fn directory(project: Project) -> Directory {
    let number = |id: i64, role: Role| Number {
        id: NumberId::new(id),
        project: project.id,
        role,
    };
    Directory {
        numbers: BTreeMap::from([
            (E164::parse(CONSULTATION).unwrap(), number(1, Role::Consultation)),
            (E164::parse(ACTIVATION).unwrap(), number(2, Role::Activation)),
        ]),
        projects: BTreeMap::from([(project.id, Arc::new(project))]),
    }
}

/// The model's token is given up; what it stands for stays open in the books.
fn lose(reply: LedgerReply) -> LedgerReply {
    if let LedgerReply::Reserved(lost) = reply {
        lost.release();
    }
    LedgerReply::Unavailable
}

pub fn one_target(project: &mut Project) {
    project.targets.truncate(1);
}

pub fn two_targets_with_accept_key(project: &mut Project) {
    project.accept_key = true;
}
