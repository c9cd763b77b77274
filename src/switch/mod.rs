//! All calls, and the routing of inputs to them: the one machine that the driver knows.
//!
//! Endpoint and calls hand each other events as values: a work queue runs between them, without
//! recursion, until nothing is left to be told. What is due by now comes before the input at hand,
//! so the order of things depends on their times only. A state that panics takes its input with
//! it, but not the call: [`Switch::abort_call`] tears that down and settles it.
//!
//! Deliberately absent: what a call does (`call`), how a message looks (`sip`), sockets, clocks.

mod admin;
mod admission;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::call::directory::Directory;
use crate::call::{Call, CallInput, CallOutput, CallRules, Env, PinGuard, PortStock};
use crate::card::{LedgerReply, LedgerRequest};
use crate::ids::{CallKey, CardId, LedgerId, LegKey, ReplyToken};
use crate::media::{MediaOrder, MediaPort, MediaReport};
use crate::now::{IdSource, Instant, Now};
use crate::sip::endpoint::{Endpoint, EndpointConfig};
use crate::sip::{Counter, EndpointInput, EndpointLoad, EndpointOutput, Flow, Incoming, LegEvent};
use crate::units::TalkTime;

pub use crate::call::feed::{CallEvent, CallHappening, LiveCall};

/// Everything that can happen to the switch.
#[derive(Debug)]
pub enum Input {
    Datagram {
        flow: Flow,
        bytes: Vec<u8>,
    },
    Media(MediaReport),
    Ledger {
        id: LedgerId,
        reply: LedgerReply,
    },
    /// Freshly bound socket pairs for the stock.
    Ports(Vec<MediaPort>),
    /// The operator changed numbers, projects or targets.
    Directory(Arc<Directory>),
    /// A card's balance or state was changed from outside a call.
    CardChanged(CardId),
    Admin {
        token: ReplyToken,
        ask: AdminAsk,
    },
    /// A deadline given by `next_timeout` has passed.
    Timeout,
}

/// Everything the switch orders, to be carried out in order.
#[derive(Debug)]
pub enum Output {
    Send {
        flow: Flow,
        bytes: Vec<u8>,
    },
    Media(MediaOrder),
    Ledger {
        id: LedgerId,
        request: LedgerRequest,
    },
    AdminReply {
        token: ReplyToken,
        reply: AdminReply,
    },
    Count(Counter),
    /// For the event feed: what the operator's page and the demo's ladder show.
    Event(CallEvent),
}

/// Admin questions that touch live calls.
#[derive(Clone, Debug)]
pub enum AdminAsk {
    Status,
    LiveCalls,
    HangUp(CallKey),
    Drain,
}

#[derive(Clone, Debug)]
pub enum AdminReply {
    Status(Box<SwitchStatus>),
    LiveCalls(Vec<LiveCall>),
    Done,
    NoSuchCall,
}

#[derive(Clone, Debug, Default)]
pub struct SwitchStatus {
    pub calls: usize,
    pub bridged: usize,
    pub draining: bool,
    pub free_ports: usize,
    pub endpoint: EndpointLoad,
    pub counters: Vec<(Counter, u64)>,
    /// How long the longest live card could still talk: the ETA of a drain.
    pub longest_rest: TalkTime,
}

/// How the switch is set up; lives as long as the process.
#[derive(Clone, Debug)]
pub struct SwitchConfig {
    pub endpoint: EndpointConfig,
    pub rules: CallRules,
    /// Calls at a time; further ones get 503.
    pub max_calls: usize,
    /// Seconds in the Retry-After of that 503.
    pub retry_after_s: u32,
}

/// All calls of this process, and the SIP endpoint under them.
#[derive(Debug)]
pub struct Switch {
    config: SwitchConfig,
    endpoint: Endpoint,
    ids: IdSource,
    directory: Arc<Directory>,
    ports: PortStock,
    guard: PinGuard,
    draining: bool,
    calls: BTreeMap<CallKey, Call>,
    legs: BTreeMap<LegKey, CallKey>,
    /// Questions to the ledger whose answers a call waits for.
    asked: BTreeMap<LedgerId, CallKey>,
    last_ledger: u64,
    deadlines: BTreeSet<(Instant, CallKey)>,
    /// Each call's place in `deadlines`.
    due: BTreeMap<CallKey, Instant>,
    counters: BTreeMap<Counter, u64>,
    queue: VecDeque<Work>,
    /// The orders of the call that is running; they survive its panic.
    orders: Vec<CallOutput>,
    running: Option<CallKey>,
}

/// What is still to be told to whom.
#[derive(Debug)]
enum Work {
    Endpoint(EndpointInput),
    Incoming(LegKey, Box<Incoming>),
    Call(CallKey, CallInput),
}

/// Endpoint and calls are done with each other in far fewer rounds; more is a bug of ours.
const MOST_ROUNDS: usize = 64;

impl Switch {
    pub fn new(config: SwitchConfig, mut ids: IdSource) -> Switch {
        let mut seed = [0; 32];
        for part in seed.chunks_exact_mut(8) {
            part.copy_from_slice(&ids.next_u64().to_le_bytes());
        }
        Switch {
            endpoint: Endpoint::new(config.endpoint.clone(), IdSource::from_seed(seed)),
            config,
            ids,
            directory: Arc::new(Directory::default()),
            ports: PortStock::default(),
            guard: PinGuard::default(),
            draining: false,
            calls: BTreeMap::new(),
            legs: BTreeMap::new(),
            asked: BTreeMap::new(),
            last_ledger: 0,
            deadlines: BTreeSet::new(),
            due: BTreeMap::new(),
            counters: BTreeMap::new(),
            queue: VecDeque::new(),
            orders: Vec::new(),
            running: None,
        }
    }

    /// Handles one input, after everything that is due by `now`.
    ///
    /// # Panics
    /// A bug in one call's script; [`Switch::abort_call`] then mends the switch.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        self.fire_due(now, out);
        match input {
            Input::Datagram { flow, bytes } => {
                self.push(Work::Endpoint(EndpointInput::Datagram { flow, bytes }));
            }
            Input::Media(report) => {
                self.push(Work::Call(
                    report.call,
                    CallInput::Media(report.side, report.event),
                ));
            }
            Input::Ledger { id, reply } => self.ledger(id, reply, out),
            Input::Ports(ports) => self.ports.add(ports),
            Input::Directory(directory) => self.directory = directory,
            Input::CardChanged(card) => {
                let users = self.calls.iter().filter(|(_, call)| call.uses(card));
                let work = users.map(|(key, _)| Work::Call(*key, CallInput::CardChanged(card)));
                self.queue.extend(work);
            }
            Input::Admin { token, ask } => self.admin(now, token, ask, out),
            Input::Timeout => {}
        }
        self.run(now, out);
    }

    /// The earliest deadline of all calls and the endpoint, and what it is for.
    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        let call = self.deadlines.first().map(|(at, key)| {
            let deadline = self
                .calls
                .get(key)
                .and_then(|call| call.next_timeout(&self.config.rules));
            (*at, deadline.map_or("call", |(_, name)| name))
        });
        call.into_iter().chain(self.endpoint.next_timeout()).min()
    }

    /// After `handle` panicked: ends the call whose script did it, and goes on with what was left
    /// to do. `false` if it was no call's script; the switch is then not to be trusted any more.
    pub fn abort_call(&mut self, now: Now, out: &mut Vec<Output>) -> bool {
        let Some(key) = self.running.take() else {
            return false;
        };
        let Some(call) = self.calls.get_mut(&key) else {
            return false;
        };
        let mut env = Env {
            now,
            ids: &mut self.ids,
            ports: &mut self.ports,
            guard: &mut self.guard,
            rules: &self.config.rules,
            last_ledger: &mut self.last_ledger,
        };
        call.abort(&mut env, &mut self.orders);
        self.carry_out(now, key, out);
        self.after(key);
        self.run(now, out);
        true
    }

    /// The process ran nothing between these moments (it was stopped, or its machine): no audio flowed,
    /// so it is charged to nobody. To be told before anything else is handled.
    pub fn stood_still(&mut self, from: Instant, until: Instant) {
        let keys: Vec<CallKey> = self.calls.keys().copied().collect();
        for key in keys {
            if let Some(call) = self.calls.get_mut(&key) {
                call.stood_still(from, until);
            }
            self.after(key);
        }
    }

    /// No call is up, nothing is left to be done: a drained process may end.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.queue.is_empty()
    }

    pub fn endpoint_load(&self) -> EndpointLoad {
        self.endpoint.load()
    }

    /// Lets a call's script panic at its next input.
    #[cfg(test)]
    pub fn break_call(&mut self, key: CallKey) {
        self.calls.get_mut(&key).expect("a live call").break_next();
    }

    fn push(&mut self, work: Work) {
        self.queue.push_back(work);
    }

    /// Every deadline up to `now`, in the order of their times.
    fn fire_due(&mut self, now: Now, out: &mut Vec<Output>) {
        let mut again = (None, 0);
        loop {
            let call = self.deadlines.first().copied().filter(|(at, _)| *at <= now.mono);
            let endpoint = self.endpoint.next_timeout().map(|(at, _)| at);
            let endpoint = endpoint.filter(|at| *at <= now.mono);
            match (call, endpoint) {
                (Some((at, key)), endpoint) if endpoint.is_none_or(|other| at <= other) => {
                    again = if again.0 == Some((at, key)) {
                        (again.0, again.1 + 1)
                    } else {
                        (Some((at, key)), 0)
                    };
                    self.running = Some(key);
                    assert!(again.1 < MOST_ROUNDS, "a deadline does not move");
                    self.push(Work::Call(key, CallInput::Timeout));
                }
                (_, Some(_)) => self.push(Work::Endpoint(EndpointInput::Timeout)),
                (_, None) => break,
            }
            self.run(now, out);
        }
    }

    /// Works the queue off.
    fn run(&mut self, now: Now, out: &mut Vec<Output>) {
        self.running = None;
        let mut rounds = 0;
        while !self.queue.is_empty() {
            rounds += 1;
            assert!(rounds <= MOST_ROUNDS, "endpoint and calls do not come to an end");
            for _ in 0..self.queue.len() {
                let Some(work) = self.queue.pop_front() else {
                    break;
                };
                match work {
                    Work::Endpoint(input) => self.run_endpoint(now, input, out),
                    Work::Incoming(leg, incoming) => self.admit(now, leg, incoming, out),
                    Work::Call(key, input) => self.run_call(now, key, input, out),
                }
            }
        }
    }

    fn run_endpoint(&mut self, now: Now, input: EndpointInput, out: &mut Vec<Output>) {
        let mut outputs = Vec::new();
        self.endpoint.handle(now, input, &mut outputs);
        for output in outputs {
            match output {
                EndpointOutput::Send { flow, bytes } => out.push(Output::Send { flow, bytes }),
                EndpointOutput::Count(counter) => {
                    *self.counters.entry(counter).or_default() += 1;
                    out.push(Output::Count(counter));
                }
                EndpointOutput::Leg {
                    leg,
                    event: LegEvent::Incoming(incoming),
                } => self.push(Work::Incoming(leg, incoming)),
                EndpointOutput::Leg { leg, event } => {
                    // A leg that was turned away at admission has no call.
                    if let Some(key) = self.legs.get(&leg) {
                        self.push(Work::Call(*key, CallInput::Leg(leg, event)));
                    }
                }
            }
        }
    }

    fn run_call(&mut self, now: Now, key: CallKey, input: CallInput, out: &mut Vec<Output>) {
        let Some(call) = self.calls.get_mut(&key) else {
            // A late grant must not vanish with a call that just ended.
            if let CallInput::Ledger(id, reply) = input {
                self.ledger(id, reply, out);
            }
            return;
        };
        let mut env = Env {
            now,
            ids: &mut self.ids,
            ports: &mut self.ports,
            guard: &mut self.guard,
            rules: &self.config.rules,
            last_ledger: &mut self.last_ledger,
        };
        // From here a panic finds the call in the map, its orders kept, and its name in `running`.
        self.running = Some(key);
        call.handle(&mut env, input, &mut self.orders);
        self.running = None;
        self.carry_out(now, key, out);
        self.after(key);
    }

    /// Orders reach endpoint, media and ledger in the order in which the call gave them; what the
    /// endpoint reports of them waits in the queue.
    fn carry_out(&mut self, now: Now, key: CallKey, out: &mut Vec<Output>) {
        for order in std::mem::take(&mut self.orders) {
            match order {
                CallOutput::Dial { leg, dial } => {
                    self.legs.insert(leg, key);
                    self.run_endpoint(now, EndpointInput::Dial { leg, dial }, out);
                }
                CallOutput::Command { leg, command } => {
                    self.run_endpoint(now, EndpointInput::Command { leg, command }, out);
                }
                CallOutput::Media { side, command } => out.push(Output::Media(MediaOrder {
                    call: key,
                    side,
                    command,
                })),
                CallOutput::Ledger { id, request } => {
                    self.asked.insert(id, key);
                    out.push(Output::Ledger { id, request });
                }
                CallOutput::Event(what) => out.push(Output::Event(CallEvent { call: key, what })),
            }
        }
    }

    /// Puts the call's deadline into the index, or forgets a call that is over.
    fn after(&mut self, key: CallKey) {
        if let Some(at) = self.due.remove(&key) {
            self.deadlines.remove(&(at, key));
        }
        let Some(call) = self.calls.get(&key) else {
            return;
        };
        if call.is_over() {
            self.calls.remove(&key);
            self.legs.retain(|_, of| *of != key);
            self.asked.retain(|_, of| *of != key);
            return;
        }
        if let Some((at, _)) = call.next_timeout(&self.config.rules) {
            self.due.insert(key, at);
            self.deadlines.insert((at, key));
        }
    }

    fn ledger(&mut self, id: LedgerId, reply: LedgerReply, out: &mut Vec<Output>) {
        if let Some(key) = self.asked.remove(&id) {
            return self.push(Work::Call(key, CallInput::Ledger(id, reply)));
        }
        if let LedgerReply::Reserved(reservation) = reply {
            tracing::warn!(card = %reservation.card(), "a grant came after its call's end and is given back");
            let request = LedgerRequest::Settle(reservation.release());
            self.tell_ledger(request, out);
        }
    }

    /// Asks for something whose answer nobody waits for.
    fn tell_ledger(&mut self, request: LedgerRequest, out: &mut Vec<Output>) {
        self.last_ledger += 1;
        let id = LedgerId(self.last_ledger);
        out.push(Output::Ledger { id, request });
    }
}
