//! The simulated world: one queue of events, one clock, one switch, everyone around it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cardline::card::{LedgerReply, LedgerRequest};
use cardline::ids::{CallKey, CardId, LedgerId, ReplyToken, Side};
use cardline::media::{MediaPort, MediaReport};
use cardline::now::{IdSource, Instant};
use cardline::switch::{AdminAsk, AdminReply, Input, Output, Switch, SwitchStatus};

use super::books::Books;
use super::cast::{Cast, Fingers, SAFETY};
use super::desk::{Away, Lane, Mood, Visit};
use super::lease::Lease;
use super::link::Link;
use super::log::Log;
use super::media::KeyPacket;
use super::phone::{Act, MS, Nanos, Phone, SECOND};
use super::store::Store;

mod node;
mod people;
mod wire;

pub use node::{Node, Place};

/// Where a node listens.
pub fn address(node: usize) -> SocketAddr {
    let host = u8::try_from(1 + node).unwrap_or(u8::MAX);
    ([192, 0, 2, host], 5060).into()
}

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
        /// Who sent it.
        node: usize,
        addr: SocketAddr,
        bytes: Vec<u8>,
    },
    Wake(usize),
    Dial,
    Of(Place, Local),
    Operator(Operation),
    /// `None`: every node sees the store so.
    Mood(Option<usize>, Mood),
    Heal,
    Crash(usize),
    Start(usize),
    Freeze(usize, Nanos),
    /// The clock on a node's wall jumps.
    MoveWall(usize, i64),
}

/// What happens inside one life of a node.
pub enum Local {
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
    Key(KeyPacket),
    Port(MediaPort),
    Visit(Lane),
    Reply(LedgerId, LedgerReply),
    CardChanged(CardId),
    /// The lease is to be renewed.
    Round,
    /// A fenced node comes back.
    Rejoin,
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
}

pub struct World {
    pub seed: u64,
    pub now: Nanos,
    pub rng: IdSource,
    pub nodes: Vec<Node>,
    /// One for all nodes.
    pub store: Store,
    queue: BTreeMap<(Nanos, u64), Event>,
    sequence: u64,
    pub events: u64,
    pub link: Link,
    pub phones: Vec<Phone>,
    /// The node that each phone talks to.
    pub homes: Vec<usize>,
    dialogs: BTreeMap<(SocketAddr, String), Vec<usize>>,
    fingers: BTreeMap<usize, Fingers>,
    pub books: Books,
    pub cast: Cast,
    pub log: Log,
    pub bounds: Bounds,
    /// Renewals of leases in the queue; they alone keep no run going.
    rounds: usize,
    /// Every input and output as `Debug` prints it, if somebody wants to read them.
    pub spied: Option<Vec<String>>,
    out: Vec<Output>,
}

/// How often something may happen in this run.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub ports: u32,
    /// Between two checkpoints of a talk.
    pub checkpoint: Nanos,
}

impl World {
    pub fn assemble(seed: u64, (cast, store): (Cast, Store), nodes: Vec<Node>, log: Log) -> World {
        World {
            seed,
            now: SECOND,
            rng: IdSource::from_number(seed),
            nodes,
            store,
            queue: BTreeMap::new(),
            sequence: 0,
            events: 0,
            link: Link::new(seed),
            phones: Vec::new(),
            homes: Vec::new(),
            dialogs: BTreeMap::new(),
            fingers: BTreeMap::new(),
            books: Books::default(),
            cast,
            log,
            bounds: Bounds {
                ports: 64,
                checkpoint: 10 * SECOND,
            },
            rounds: 0,
            spied: None,
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
        if self.nodes.len() > 1 {
            self.store.leases = vec![Lease::default(); self.nodes.len()];
        }
        for node in 0..self.nodes.len() {
            self.join(node);
            self.stock(node);
            let lateness = if faults { self.rng.below(3) * MS } else { 0 };
            self.nodes[node].lateness = lateness;
        }
        let calls = 5 + self.rng.below(8);
        for _ in 0..calls {
            let at = SECOND + self.rng.below(SAFETY - 40 * SECOND);
            self.at(at, Event::Dial);
        }
        self.at(SAFETY, Event::Heal);
        self.link.clean = !faults;
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
            assert!(at_one_time < 5000, "time stands still: {:?}", self.deadlines());
            self.events += 1;
            assert!(self.events < MOST_EVENTS, "too much happens");
            self.now = self.now.max(at);
            self.step();
            // A status holds numbers, in which a reader could see digits.
            if self.events.is_multiple_of(100) && self.spied.is_none() {
                super::verdict::at_times(self);
            }
        }
        super::verdict::judge(self);
    }

    fn deadlines(&self) -> Vec<Option<(Instant, &'static str)>> {
        let switches = self.nodes.iter().map(|node| node.switch.as_ref());
        switches
            .map(|switch| switch.and_then(Switch::next_timeout))
            .collect()
    }

    /// The node whose deadline comes next.
    fn due(&self) -> Option<(Nanos, usize)> {
        let nodes = 0..self.nodes.len();
        nodes.filter_map(|node| Some((self.due_of(node)?, node))).min()
    }

    fn next(&self) -> Option<Nanos> {
        let queued = self.queue.keys().next().map(|(at, _)| *at);
        if self.queue.len() == self.rounds && self.due().is_none() {
            return None;
        }
        queued.into_iter().chain(self.due().map(|(at, _)| at)).min()
    }

    fn step(&mut self) {
        let first = self.queue.keys().next().copied();
        let due = self.due().filter(|(at, _)| *at <= self.now);
        if let Some((_, node)) = due
            && (first.is_none_or(|(at, _)| at > self.now) || self.rng.below(2) == 0)
        {
            self.log
                .note(self.now, 1, &[], || format!("timeout of node {node}"));
            return self.input(node, Input::Timeout);
        }
        if let Some(key) = first {
            let event = self.queue.remove(&key).expect("it is the first");
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::ToSwitch { phone, .. } if self.is_frozen(self.homes[phone]) => {
                let thaw = self.nodes[self.homes[phone]].frozen_until;
                self.at(thaw, event);
            }
            Event::ToSwitch {
                phone,
                bytes,
                damaged,
            } => self.reach_switch(phone, bytes, damaged),
            Event::ToPhone { node, addr, bytes } => self.reach_phone(node, addr, &bytes),
            Event::Wake(phone) => self.wake(phone),
            Event::Dial => self.dial(),
            Event::Of(place, what) if place == self.here(place.node) => {
                if self.is_frozen(place.node) {
                    let thaw = self.nodes[place.node].frozen_until;
                    return self.at(thaw, Event::Of(place, what));
                }
                self.inside(place.node, what);
            }
            // It was for a process that is dead.
            Event::Of(_, Local::Reply(_, reply)) => super::desk::forgo(reply),
            Event::Of(_, Local::Round) => self.rounds -= 1,
            Event::Of(..) => {}
            Event::Operator(operation) => self.operate(operation),
            Event::Mood(node, mood) => {
                let nodes = self.nodes.iter_mut().enumerate();
                nodes
                    .filter(|(place, _)| node.is_none_or(|node| node == *place))
                    .for_each(|(_, node)| node.desk.mood = mood);
            }
            Event::Heal => self.heal(),
            Event::Crash(node) => self.crash(node),
            Event::Start(node) => self.start_again(node),
            Event::Freeze(node, span) => self.freeze(node, span),
            Event::MoveWall(node, ms) => {
                self.books.wall_moved = true;
                self.nodes[node].skew_ms += ms;
            }
        }
    }

    fn inside(&mut self, node: usize, what: Local) {
        match what {
            Local::Report(report) => {
                self.log.note(self.now, 4, &[], || format!("{report:?}"));
                self.books.heard(&report);
                self.input(node, Input::Media(report));
            }
            Local::PlayEnd { call, side, id } => {
                let later = self.nodes[node].plane.play_end(self.now, (call, side), id);
                self.later(node, later);
            }
            Local::Silence { call, side, last } => {
                let later = self.nodes[node].plane.silence(self.now, (call, side), last);
                if later.is_some() {
                    self.books.lost(call, last);
                }
                self.later(node, later);
            }
            Local::Sound { call, side } => {
                let later = self.nodes[node].plane.sound(self.now, (call, side));
                self.later(node, later);
            }
            Local::Key(packet) => {
                let later = self.nodes[node].plane.key(self.now, &packet);
                self.later(node, later);
            }
            Local::Port(port) => self.input(node, Input::Ports(vec![port])),
            Local::Visit(lane) => {
                let clerk = self.clerk(node);
                let (answers, visit) = self.nodes[node].desk.visit(&mut self.store, clerk, lane);
                for (id, reply) in answers {
                    let delay = self.rng.below(5 * MS);
                    self.local(self.now + delay, node, Local::Reply(id, reply));
                }
                self.visit(node, visit);
            }
            Local::Reply(id, reply) => {
                if !matches!(reply, LedgerReply::Unavailable) {
                    let place = self.here(node);
                    self.books.renewing.retain(|_, (asked, _)| *asked != (place, id));
                }
                self.log.note(self.now, 5, &id.0.to_le_bytes(), || {
                    format!("ledger #{} > {reply:?}", id.0)
                });
                self.input(node, Input::Ledger { id, reply });
            }
            Local::Round => self.round(node),
            Local::Rejoin => self.join(node),
            Local::CardChanged(card) => self.input(node, Input::CardChanged(card)),
            Local::Spurious => self.input(node, Input::Timeout),
        }
    }

    fn carry_out(&mut self, node: usize, output: Output) {
        match output {
            Output::Send { flow, bytes } => {
                self.log.note(self.now, 2, &bytes, || {
                    format!("-> {} {}", flow.remote, head(&bytes))
                });
                self.send(node, flow.remote, bytes);
            }
            Output::Media(order) => self.media(node, order),
            Output::Ledger { id, request } => {
                self.log.note(self.now, 3, &id.0.to_le_bytes(), || {
                    format!("ledger #{} < {request:?}", id.0)
                });
                self.ledger(node, id, request);
            }
            Output::AdminReply { token, reply } => self.admin(node, token, reply),
            Output::Count(counter) => self.log.note(self.now, 6, &[], || format!("count {counter:?}")),
            Output::Event(event) => self.log.note(self.now, 7, &[], || format!("{event:?}")),
        }
    }

    fn ledger(&mut self, node: usize, id: LedgerId, request: LedgerRequest) {
        if let LedgerRequest::OpenCdr(opening) = &request {
            let phone = self
                .phones
                .iter()
                .position(|p| p.role == Side::A && p.call_id == opening.sip_call_id);
            let book = self.books.calls.entry(opening.call).or_default();
            (book.a, book.node) = (phone, node);
        }
        super::verdict::at_request(self, node, id, &request);
        match self.nodes[node].desk.submit(self.now, id, request) {
            Ok(visit) => self.visit(node, visit),
            Err(()) => self.local(self.now, node, Local::Reply(id, LedgerReply::Unavailable)),
        }
    }

    fn visit(&mut self, node: usize, visit: Option<Visit>) {
        if let Some(Visit { at, lane }) = visit {
            self.local(at, node, Local::Visit(lane));
        }
    }

    fn heal(&mut self) {
        self.log.note(self.now, 11, &[], || "heal".to_owned());
        self.link.clean = true;
        for node in &mut self.nodes {
            node.desk.mood = Mood::HEALTHY;
            node.desk.most_waiting = usize::MAX;
        }
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

    fn admin(&mut self, node: usize, _token: ReplyToken, reply: AdminReply) {
        match reply {
            AdminReply::Status(status) => self.nodes[node].last_status = Some(*status),
            AdminReply::LiveCalls(_) | AdminReply::Done | AdminReply::NoSuchCall => {}
        }
    }

    /// `None` while the node is down.
    pub fn status(&mut self, node: usize) -> Option<SwitchStatus> {
        self.input(
            node,
            Input::Admin {
                token: ReplyToken(3),
                ask: AdminAsk::Status,
            },
        );
        self.nodes[node].last_status.take()
    }

    pub fn who_is_left(&mut self) -> String {
        let status: Vec<_> = (0..self.nodes.len()).map(|node| self.status(node)).collect();
        let phones: Vec<String> = (self.phones.iter())
            .filter(|p| !p.is_done())
            .map(|p| format!("{} {:?}", p.call_id, p.state))
            .collect();
        format!("{status:?}, next {:?}, phones {phones:?}", self.deadlines())
    }

    /// Whether the store has worked as it should for a while, for this node.
    pub fn is_calm(&self, node: usize) -> bool {
        let desk = &self.nodes[node].desk;
        let quick = desk.mood.latency <= 300 * MS && desk.mood.away == Away::No;
        quick && desk.trouble_at + 15 * SECOND < self.now
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
