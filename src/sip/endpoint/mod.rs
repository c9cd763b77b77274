//! The one door: datagrams find their transaction and leg, leg commands find the wire.
//!
//! ```text
//!  datagram -> peer known? -> parsed? -> transaction? -> dialog? -> a new leg, or a plain answer
//!                 | no: silence          | once more: it answers    (`requests`)
//! ```
//!
//! Deliberately absent: sockets, clocks, name resolution, calls. Each table has a bound.

pub mod deadlines;
mod requests;
mod transactions;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::config::{Config, TrunkConfig};
use crate::fault::{self, Fault};
use crate::ids::{LegKey, TrunkId};
use crate::now::{IdSource, Instant, Now};
use crate::sip::dialog::Place;
use crate::sip::leg::refresh::SessionLimits;
use crate::sip::leg::uac::Uac;
use crate::sip::leg::{Cx, Leg, LegInput, LegOutput, Rules};
use crate::sip::message::{Message, Method, Response, ResponseBuilder, WireFault};
use crate::sip::transaction::{ClientInput, ClientKey, MAGIC_COOKIE, Reply, ResponseClass, ServerInput};
use crate::sip::{Counter, Dial, EndpointInput, EndpointLoad, EndpointOutput, Flow, LegEvent};

use deadlines::{Deadlines, Owner};
use transactions::{News, Transactions};

/// What an endpoint needs to know.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// A trunk's place here is its `TrunkId`.
    pub trunks: Vec<TrunkConfig>,
    /// The bound listening addresses; a B leg uses the first of its destination's family.
    pub listen: Vec<SocketAddr>,
    /// Address in our Via and Contact; default: the listening address.
    pub advertise: Option<IpAddr>,
    pub session: SessionLimits,
    /// Legs at a time, those in their aftermath included.
    pub max_legs: usize,
    /// Transactions at a time; requests inside dialogs get a quarter on top.
    pub max_transactions: usize,
    /// Seconds in the Retry-After of a 503.
    pub retry_after_s: u32,
}

impl EndpointConfig {
    /// `listen` holds the addresses as bound, since port 0 means any.
    pub fn new(config: &Config, listen: Vec<SocketAddr>) -> EndpointConfig {
        let seconds = |span: std::time::Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        EndpointConfig {
            trunks: config.trunks.clone(),
            listen,
            advertise: config.sip.advertise,
            session: SessionLimits {
                expires_s: seconds(config.sip.session_expires),
                min_se_s: seconds(config.sip.min_se),
            },
            // Two connected legs per call, others dialled or in their aftermath.
            max_legs: config.limits.calls.saturating_mul(4),
            max_transactions: config.limits.transactions,
            retry_after_s: config.limits.retry_after_s,
        }
    }
}

/// Our SIP stack.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    rules: Rules,
    ids: IdSource,
    draining: bool,
    transactions: Transactions,
    legs: BTreeMap<LegKey, LegEntry>,
    /// By Call-ID and our tag.
    dialogs: BTreeMap<(String, String), LegKey>,
    /// How many legs talk to each address.
    peers: BTreeMap<IpAddr, usize>,
    deadlines: Deadlines,
}

#[derive(Debug)]
struct LegEntry {
    leg: Leg,
    dialog: (String, String),
    /// The addresses that count in `peers` for this leg: where it began and where it goes now.
    peers: [IpAddr; 2],
}

impl Endpoint {
    pub fn new(config: EndpointConfig, mut ids: IdSource) -> Endpoint {
        let process = ids.token();
        let rules = Rules {
            session: config.session,
            branch_prefix: format!("{MAGIC_COOKIE}{process}"),
            loop_marker: ids.token(),
        };
        Endpoint {
            config,
            rules,
            ids,
            draining: false,
            transactions: Transactions::default(),
            legs: BTreeMap::new(),
            dialogs: BTreeMap::new(),
            peers: BTreeMap::new(),
            deadlines: Deadlines::default(),
        }
    }

    pub fn handle(&mut self, now: Now, input: EndpointInput, out: &mut Vec<EndpointOutput>) {
        let now = now.mono;
        match input {
            EndpointInput::Datagram { flow, bytes } => self.datagram(now, flow, &bytes, out),
            EndpointInput::Dial { leg, dial } => self.dial(now, leg, dial, out),
            EndpointInput::Command { leg, command } => {
                self.run_leg(now, leg, LegInput::Command(command), out);
            }
            EndpointInput::Drain(draining) => self.draining = draining,
            EndpointInput::Timeout => self.timeout(now, out),
        }
    }

    /// The earliest deadline, under its timer's name.
    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        let (at, owner) = self.deadlines.first()?;
        let name = match owner {
            Owner::Leg(key) => self
                .legs
                .get(&key)
                .and_then(|entry| entry.leg.next_timeout())
                .map(|(_, name)| name),
            Owner::Server(_) | Owner::Client(_) => self.transactions.timeout_name(owner),
        };
        Some((at, name.unwrap_or("none")))
    }

    pub fn load(&self) -> EndpointLoad {
        EndpointLoad {
            legs: self.legs.len(),
            transactions: self.transactions.len(),
        }
    }

    fn timeout(&mut self, now: Instant, out: &mut Vec<EndpointOutput>) {
        for owner in self.deadlines.due(now) {
            match owner {
                Owner::Leg(key) => self.run_leg(now, key, LegInput::Timeout, out),
                Owner::Server(id) => {
                    let deadlines = &mut self.deadlines;
                    self.transactions
                        .drive_server(now, id, ServerInput::Timeout, deadlines, out);
                }
                Owner::Client(id) => {
                    let Some((leg, of)) = self.transactions.client(id).map(|txn| (txn.leg, txn.of)) else {
                        continue;
                    };
                    let deadlines = &mut self.deadlines;
                    let news = self
                        .transactions
                        .drive_client(now, id, ClientInput::Timeout, deadlines, out);
                    if news.contains(&News::TimedOut) {
                        self.run_leg(now, leg, LegInput::TimedOut(of), out);
                    }
                }
            }
        }
    }

    fn datagram(&mut self, now: Instant, flow: Flow, bytes: &[u8], out: &mut Vec<EndpointOutput>) {
        let ip = flow.remote.ip();
        let trunk = self
            .config
            .trunks
            .iter()
            .position(|trunk| trunk.peers.iter().any(|peers| peers.contains(ip)));
        let known = trunk.is_some() || self.peers.contains_key(&ip) || self.transactions.talks_to(ip);
        if !known || flow.remote.port() == 0 {
            return out.push(EndpointOutput::Count(Counter::Stranger));
        }
        let message = Message::parse(bytes);
        log_in(flow, &message);
        match message {
            Ok(Message::Request(request)) => self.request(now, flow, trunk.map(TrunkId), request, out),
            Ok(Message::Response(response)) => self.response(now, flow, response, out),
            Err(WireFault::Malformed(broken)) => {
                let tag = self.ids.token();
                let bytes = ResponseBuilder::malformed(&broken, &tag, flow.remote).build();
                out.push(EndpointOutput::Count(Counter::Malformed));
                out.push(EndpointOutput::Send { flow, bytes });
            }
            // Keep-alives are no junk (RFC 5626 §4.4.1).
            Err(WireFault::Junk) if bytes.iter().all(|b| matches!(b, b'\r' | b'\n' | 0)) => {}
            Err(WireFault::Junk | WireFault::BadResponse) => {
                out.push(EndpointOutput::Count(Counter::Junk));
            }
        }
    }

    fn response(&mut self, now: Instant, flow: Flow, response: Response, out: &mut Vec<EndpointOutput>) {
        // With a second Via it was meant for somebody else (RFC 3261 §8.1.3.3).
        let ours = response.vias_raw().nth(1).is_none();
        let id = ClientKey::of(&response)
            .filter(|_| ours)
            .and_then(|key| self.transactions.find_client(&key));
        let Some((id, txn)) = id.and_then(|id| Some((id, self.transactions.client(id)?))) else {
            if fault::planted(Fault::ResponseAnswered) {
                let bytes = b"SIP/2.0 481 Call/Transaction Does Not Exist\r\n\r\n".to_vec();
                out.push(EndpointOutput::Send { flow, bytes });
            }
            return out.push(EndpointOutput::Count(Counter::StrayResponse));
        };
        let (leg, of) = (txn.leg, txn.of);
        let class = match response.status {
            0..=199 => ResponseClass::Provisional,
            200..=299 => ResponseClass::Success,
            300.. if *response.cseq().1 == Method::Invite => ResponseClass::Failure {
                ack: txn.outline.ack_of_refusal(&response),
            },
            300.. => ResponseClass::Failure { ack: Vec::new() },
        };
        let input = ClientInput::Response(class);
        let news = self
            .transactions
            .drive_client(now, id, input, &mut self.deadlines, out);
        if response.status == 491 && fault::planted(Fault::GlareKept) {
            self.deadlines.set(Owner::Client(id), None);
        }
        if news.contains(&News::Response) {
            let remote = flow.remote;
            self.run_leg(now, leg, LegInput::Response { of, response, remote }, out);
        }
    }

    fn dial(&mut self, now: Instant, key: LegKey, dial: Box<Dial>, out: &mut Vec<EndpointOutput>) {
        if self.legs.contains_key(&key) {
            tracing::error!(
                leg = key.0,
                "a leg under this key exists; keys must be made afresh"
            );
            return;
        }
        let family = |local: &&SocketAddr| local.is_ipv4() == dial.destination.is_ipv4();
        let local = self.config.listen.iter().find(family).copied();
        let full = self.is_full();
        let Some(local) = local.filter(|_| !full) else {
            if full {
                out.push(EndpointOutput::Count(Counter::Full));
            }
            let event = LegEvent::Rejected {
                status: 503,
                reasons: Vec::new(),
                retry_after_s: None,
            };
            return out.push(EndpointOutput::Leg { leg: key, event });
        };
        let place = self.place(Flow {
            local,
            remote: dial.destination,
        });
        let mut outputs = Vec::new();
        let mut cx = Cx {
            now,
            ids: &mut self.ids,
            rules: &self.rules,
            out: &mut outputs,
        };
        let (call_id, tag, next) = Uac::start(&mut cx, dial, place);
        self.add_leg(key, Leg::new(place, next), (call_id, tag));
        self.after_leg(now, key, outputs, out);
    }

    /// Whether no new leg may start.
    fn is_full(&self) -> bool {
        self.legs.len() >= self.config.max_legs || self.transactions.len() >= self.config.max_transactions
    }

    fn place(&self, flow: Flow) -> Place {
        let ip = self
            .config
            .advertise
            .filter(|ip| ip.is_ipv4() == flow.local.is_ipv4());
        let advertised = SocketAddr::new(ip.unwrap_or(flow.local.ip()), flow.local.port());
        Place { flow, advertised }
    }

    fn add_leg(&mut self, key: LegKey, leg: Leg, dialog: (String, String)) {
        let ip = leg.place.flow.remote.ip();
        self.dialogs.insert(dialog.clone(), key);
        count_up(&mut self.peers, ip);
        count_up(&mut self.peers, ip);
        self.legs.insert(
            key,
            LegEntry {
                leg,
                dialog,
                peers: [ip, ip],
            },
        );
    }

    /// Hands an input to a leg; a leg that is gone hears nothing more.
    fn run_leg(&mut self, now: Instant, key: LegKey, input: LegInput, out: &mut Vec<EndpointOutput>) {
        let Some(entry) = self.legs.get_mut(&key) else {
            return;
        };
        let mut outputs = Vec::new();
        let mut cx = Cx {
            now,
            ids: &mut self.ids,
            rules: &self.rules,
            out: &mut outputs,
        };
        let before = entry.leg.state_name();
        entry.leg.handle(&mut cx, input);
        let after = entry.leg.state_name();
        if before != after {
            tracing::debug!(leg = key.0, from = before, to = after, "leg moved");
        }
        self.after_leg(now, key, outputs, out);
    }

    fn after_leg(
        &mut self,
        now: Instant,
        key: LegKey,
        outputs: Vec<LegOutput>,
        out: &mut Vec<EndpointOutput>,
    ) {
        for output in outputs {
            self.carry_out(now, key, output, out);
        }
        let Some(entry) = self.legs.get_mut(&key) else {
            return;
        };
        if entry.leg.is_over() {
            return self.remove_leg(key);
        }
        let next = entry.leg.next_timeout().map(|(at, _)| at);
        self.deadlines.set(Owner::Leg(key), next);
        let ip = entry.leg.hop().ip();
        let [_, before] = entry.peers;
        if ip != before {
            entry.peers = [entry.leg.place.flow.remote.ip(), ip];
            count_up(&mut self.peers, ip);
            count_down(&mut self.peers, before);
        }
    }

    fn remove_leg(&mut self, key: LegKey) {
        let Some(entry) = self.legs.remove(&key) else {
            return;
        };
        if self.dialogs.get(&entry.dialog) == Some(&key) {
            self.dialogs.remove(&entry.dialog);
        }
        for ip in entry.peers {
            count_down(&mut self.peers, ip);
        }
        self.deadlines.set(Owner::Leg(key), None);
        self.transactions.forget_leg(key, &mut self.deadlines);
    }

    fn carry_out(&mut self, now: Instant, key: LegKey, output: LegOutput, out: &mut Vec<EndpointOutput>) {
        match output {
            LegOutput::Event(event) => out.push(EndpointOutput::Leg { leg: key, event }),
            LegOutput::Reply { txn, status, bytes } => {
                let input = ServerInput::Reply(Reply::new(status, bytes));
                self.transactions
                    .drive_server(now, txn, input, &mut self.deadlines, out);
            }
            LegOutput::Request {
                of,
                method,
                outline,
                bytes,
            } => {
                let Some(flow) = self.flow_to(key, outline.hop) else {
                    return;
                };
                let ours = (of, method, outline, bytes);
                self.transactions
                    .request(now, flow, key, ours, &mut self.deadlines, out);
            }
            LegOutput::Ack { hop, bytes, again } => {
                let Some(flow) = self.flow_to(key, hop) else {
                    return;
                };
                if again {
                    out.push(EndpointOutput::Count(Counter::Retransmission));
                }
                out.push(EndpointOutput::Send { flow, bytes });
            }
        }
    }

    fn flow_to(&self, key: LegKey, remote: SocketAddr) -> Option<Flow> {
        let entry = self.legs.get(&key)?;
        Some(Flow {
            remote,
            ..entry.leg.place.flow
        })
    }
}

/// One line per message; its text may hold numbers and stays out.
fn log_in(flow: Flow, message: &Result<Message, WireFault>) {
    let remote = flow.remote;
    match message {
        Ok(Message::Request(request)) => {
            let (method, sip_call_id) = (request.method.as_str(), request.call_id());
            tracing::debug!(%remote, method, sip_call_id, "request in");
        }
        Ok(Message::Response(response)) => {
            let (status, sip_call_id) = (response.status, response.call_id());
            tracing::debug!(%remote, status, sip_call_id, "response in");
        }
        Err(_) => tracing::debug!(%remote, "unreadable datagram in"),
    }
}

fn count_up(counts: &mut BTreeMap<IpAddr, usize>, ip: IpAddr) {
    *counts.entry(ip).or_default() += 1;
}

fn count_down(counts: &mut BTreeMap<IpAddr, usize>, ip: IpAddr) {
    if let Some(count) = counts.get_mut(&ip) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&ip);
        }
    }
}
