//! The simulated world: one queue of events, one clock, one switch, everyone around it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cardline::card::{LedgerReply, LedgerRequest};
use cardline::ids::{CallKey, CardId, LedgerId, ReplyToken, Side};
use cardline::media::{MediaEvent, MediaPort, MediaReport};
use cardline::now::{IdSource, Instant, Now, UnixTime};
use cardline::secret::Digit;
use cardline::switch::{AdminAsk, AdminReply, Input, Output, Switch, SwitchStatus};

use super::books::Books;
use super::cast::{Cast, Fingers, SAFETY, WALL_START_MS};
use super::desk::{Desk, Lane, Mood, Visit};
use super::link::Link;
use super::log::Log;
use super::media::Plane;
use super::phone::{Act, MS, Nanos, Phone, SECOND};

mod people;
mod wire;

pub const SWITCH: ([u8; 4], u16) = ([192, 0, 2, 1], 5060);
/// Nothing takes longer than this after the faults have ended.
const LIVENESS: Nanos = 700 * SECOND;
const MOST_EVENTS: u64 = 400_000;

pub enum Event {
    ToSwitch {
        phone: usize,
        bytes: Vec<u8>,
        damaged: bool,
    },
    ToPhone {
        addr: SocketAddr,
        bytes: Vec<u8>,
    },
    Wake(usize),
    Dial,
    Report(MediaReport),
    PlayEnd {
        call: CallKey,
        side: Side,
        id: cardline::ids::PlayId,
    },
    Silence {
        call: CallKey,
        side: Side,
        last: Nanos,
    },
    Sound {
        call: CallKey,
        side: Side,
    },
    Key {
        call: CallKey,
        side: Side,
        digit: Digit,
    },
    Port(MediaPort),
    Visit(Lane),
    Reply(LedgerId, LedgerReply),
    Operator(Operation),
    Mood(Mood),
    CardChanged(CardId),
    Heal,
    /// A wake-up for nothing.
    Spurious,
}

#[derive(Clone, Copy, Debug)]
pub enum Operation {
    Recharge(CardId, i64),
    Block(CardId),
    Unblock(CardId),
    HangUp,
    Drain,
    Refresh,
    MoveWall(i64),
}

pub struct World {
    pub now: Nanos,
    pub wall_shift_ms: i64,
    pub rng: IdSource,
    pub switch: Switch,
    queue: BTreeMap<(Nanos, u64), Event>,
    sequence: u64,
    events: u64,
    pub link: Link,
    pub phones: Vec<Phone>,
    dialogs: BTreeMap<(SocketAddr, String), Vec<usize>>,
    fingers: BTreeMap<usize, Fingers>,
    pub plane: Plane,
    pub desk: Desk,
    pub books: Books,
    pub cast: Cast,
    pub log: Log,
    pub bounds: Bounds,
    /// Every input and output as `Debug` prints it, if somebody wants to read them.
    pub spied: Option<Vec<String>>,
    last_status: Option<SwitchStatus>,
    /// How late the switch's deadlines are served.
    lateness: Nanos,
    out: Vec<Output>,
}

/// How often something may happen in this run.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub ports: u32,
}

impl World {
    pub fn assemble(seed: u64, cast: Cast, desk: Desk, switch: Switch, log: Log) -> World {
        World {
            now: SECOND,
            wall_shift_ms: WALL_START_MS,
            rng: IdSource::from_number(seed),
            switch,
            queue: BTreeMap::new(),
            sequence: 0,
            events: 0,
            link: Link::new(seed),
            phones: Vec::new(),
            dialogs: BTreeMap::new(),
            fingers: BTreeMap::new(),
            plane: Plane::new(seed),
            desk,
            books: Books::default(),
            cast,
            log,
            bounds: Bounds { ports: 64 },
            spied: None,
            last_status: None,
            lateness: 0,
            out: Vec::new(),
        }
    }

    pub fn at(&mut self, at: Nanos, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    pub fn start(&mut self, faults: bool) {
        if faults {
            super::trouble::plan(self);
        }
        let count = self.bounds.ports;
        let ports = (0..count).map(|_| self.plane.bind()).collect();
        self.input(Input::Ports(ports));
        let calls = 5 + self.rng.below(8);
        for _ in 0..calls {
            let at = SECOND + self.rng.below(SAFETY - 40 * SECOND);
            self.at(at, Event::Dial);
        }
        self.at(SAFETY, Event::Heal);
        self.link.clean = !faults;
        self.lateness = if faults { self.rng.below(3) * MS } else { 0 };
    }

    /// Runs until nothing is left to happen.
    ///
    /// # Panics
    /// When anything is not as it must be.
    pub fn run(&mut self) {
        let mut at_one_time = 0;
        while let Some(at) = self.next() {
            assert!(
                at < SAFETY + LIVENESS,
                "at {at} ns something still goes on: {}",
                self.who_is_left()
            );
            at_one_time = if at == self.now { at_one_time + 1 } else { 0 };
            assert!(
                at_one_time < 5000,
                "time stands still: {:?}",
                self.switch.next_timeout()
            );
            self.events += 1;
            assert!(self.events < MOST_EVENTS, "too much happens");
            self.now = self.now.max(at);
            self.step();
        }
        super::verdict::judge(self);
    }

    fn due(&self) -> Option<Nanos> {
        let (at, _) = self.switch.next_timeout()?;
        Some(at.as_nanos() + self.lateness)
    }

    fn next(&self) -> Option<Nanos> {
        let queued = self.queue.keys().next().map(|(at, _)| *at);
        queued.into_iter().chain(self.due()).min()
    }

    fn step(&mut self) {
        let first = self.queue.keys().next().copied();
        let due = self.due().is_some_and(|at| at <= self.now);
        if due && first.is_none_or(|(at, _)| at > self.now || self.rng.below(2) == 0) {
            self.log.note(self.now, 1, &[], || "timeout".to_owned());
            return self.input(Input::Timeout);
        }
        if let Some(key) = first {
            let event = self.queue.remove(&key).expect("it is the first");
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::ToSwitch {
                phone,
                bytes,
                damaged,
            } => self.reach_switch(phone, bytes, damaged),
            Event::ToPhone { addr, bytes } => self.reach_phone(addr, &bytes),
            Event::Wake(phone) => self.wake(phone),
            Event::Dial => self.dial(),
            Event::Report(report) => {
                self.log.note(self.now, 4, &[], || format!("{report:?}"));
                self.input(Input::Media(report));
            }
            Event::PlayEnd { call, side, id } => {
                let later = self.plane.play_end(self.now, (call, side), id);
                self.later(later);
            }
            Event::Silence { call, side, last } => {
                let later = self.plane.silence(self.now, (call, side), last);
                if later.is_some() {
                    self.books.calls.entry(call).or_default().lost = true;
                }
                self.later(later);
            }
            Event::Sound { call, side } => {
                let later = self.plane.sound(self.now, (call, side));
                self.later(later);
            }
            Event::Key { call, side, digit } => {
                if self.plane.streams.contains_key(&(call, side)) {
                    let later = self.plane.report(call, side, MediaEvent::Digit(digit), self.now);
                    self.later(Some(later));
                }
            }
            Event::Port(port) => self.input(Input::Ports(vec![port])),
            Event::Visit(lane) => {
                let (answers, visit) = self.desk.visit(self.now(), lane);
                for (id, reply) in answers {
                    let delay = self.rng.below(5 * MS);
                    self.at(self.now + delay, Event::Reply(id, reply));
                }
                self.visit(visit);
            }
            Event::Reply(id, reply) => {
                if !matches!(reply, LedgerReply::Unavailable) {
                    self.books.renewing.retain(|_, (asked, _)| *asked != id);
                }
                self.log.note(self.now, 5, &id.0.to_le_bytes(), || {
                    format!("ledger #{} > {reply:?}", id.0)
                });
                self.input(Input::Ledger { id, reply });
            }
            Event::Operator(operation) => self.operate(operation),
            Event::Mood(mood) => self.desk.mood = mood,
            Event::CardChanged(card) => self.input(Input::CardChanged(card)),
            Event::Heal => self.heal(),
            Event::Spurious => self.input(Input::Timeout),
        }
    }

    fn now(&self) -> Now {
        let ms = i64::try_from(self.now / MS).unwrap_or(i64::MAX);
        Now {
            mono: Instant::from_nanos(self.now),
            wall: UnixTime::from_ms(self.wall_shift_ms + ms),
        }
    }

    /// Lets the switch handle one input and carries out what it orders.
    pub fn input(&mut self, input: Input) {
        let mut out = std::mem::take(&mut self.out);
        if let Some(spied) = &mut self.spied {
            spied.push(format!("{input:?}"));
        }
        self.switch.handle(self.now(), input, &mut out);
        if let Some(spied) = &mut self.spied {
            spied.extend(out.iter().map(|output| format!("{output:?}")));
        }
        for output in out.drain(..) {
            self.carry_out(output);
        }
        self.out = out;
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send { flow, bytes } => {
                self.log.note(self.now, 2, &bytes, || {
                    format!("-> {} {}", flow.remote, head(&bytes))
                });
                self.send(flow.remote, bytes);
            }
            Output::Media(order) => self.media(order),
            Output::Ledger { id, request } => {
                self.log.note(self.now, 3, &id.0.to_le_bytes(), || {
                    format!("ledger #{} < {request:?}", id.0)
                });
                self.ledger(id, request);
            }
            Output::AdminReply { token, reply } => self.admin(token, reply),
            Output::Count(counter) => self.log.note(self.now, 6, &[], || format!("count {counter:?}")),
            Output::Event(event) => self.log.note(self.now, 7, &[], || format!("{event:?}")),
        }
    }

    fn ledger(&mut self, id: LedgerId, request: LedgerRequest) {
        if let LedgerRequest::OpenCdr(opening) = &request {
            let phone = self
                .phones
                .iter()
                .position(|p| p.role == Side::A && p.call_id == opening.sip_call_id);
            self.books.calls.entry(opening.call).or_default().a = phone;
        }
        super::verdict::at_request(self, id, &request);
        let visit = self.desk.submit(self.now, id, request);
        self.visit(visit);
    }

    fn visit(&mut self, visit: Option<Visit>) {
        if let Some(Visit { at, lane }) = visit {
            self.at(at, Event::Visit(lane));
        }
    }

    fn heal(&mut self) {
        self.log.note(self.now, 11, &[], || "heal".to_owned());
        self.link.clean = true;
        self.desk.mood = Mood::HEALTHY;
        for phone in 0..self.phones.len() {
            if self.phones[phone].is_done() {
                continue;
            }
            self.phones[phone].habits = super::phone::Habits::default();
            let at = self.now + self.rng.below(60 * SECOND);
            self.phones[phone].plan(at, Act::Bye);
            self.speak(phone, Vec::new());
        }
    }

    fn admin(&mut self, _token: ReplyToken, reply: AdminReply) {
        match reply {
            AdminReply::Status(status) => self.last_status = Some(*status),
            AdminReply::LiveCalls(_) | AdminReply::Done | AdminReply::NoSuchCall => {}
        }
    }

    pub fn status(&mut self) -> SwitchStatus {
        self.input(Input::Admin {
            token: ReplyToken(3),
            ask: AdminAsk::Status,
        });
        self.last_status.take().expect("the switch answers at once")
    }

    pub fn who_is_left(&mut self) -> String {
        let status = self.status();
        let phones: Vec<String> = (self.phones.iter())
            .filter(|p| !p.is_done())
            .map(|p| format!("{} {:?}", p.call_id, p.state))
            .collect();
        format!(
            "{status:?}, next {:?}, phones {phones:?}",
            self.switch.next_timeout()
        )
    }

    /// Whether the store has worked as it should for a while.
    pub fn is_calm(&self) -> bool {
        let quick = self.desk.mood.latency <= 300 * MS && !self.desk.mood.down;
        quick && self.desk.trouble_at + 15 * SECOND < self.now
    }
}

fn head(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let pick = |name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .unwrap_or("")
            .to_owned()
    };
    let first = text.lines().next().unwrap_or("").to_owned();
    format!(
        "{first} | {} | {} | {}",
        pick("CSeq"),
        pick("Call-ID"),
        pick("To")
    )
}
