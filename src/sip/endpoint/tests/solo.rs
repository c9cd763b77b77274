//! One endpoint against a peer whose messages the test writes by hand.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use super::pair::{config, dial_to, first_line, name};
use crate::ids::LegKey;
use crate::now::{IdSource, Instant, Now, UnixTime};
use crate::sip::endpoint::{Endpoint, EndpointConfig};
use crate::sip::message::{Headers, Message, Request};
use crate::sip::{Counter, Dial, EndpointInput, EndpointLoad, EndpointOutput, Flow, LegCommand, LegEvent};

pub struct Solo {
    pub now: Instant,
    pub endpoint: Endpoint,
    pub ladder: String,
    /// What it sent, and where to.
    pub sent: Vec<(SocketAddr, Vec<u8>)>,
    pub counts: Vec<Counter>,
    pub events: Vec<LegEvent>,
    pub leg: LegKey,
    /// Every leg there has been.
    pub legs: Vec<LegKey>,
}

pub const PEER: &str = "192.0.2.1:5060";
pub const OURS: &str = "192.0.2.2:5060";

/// Headers worth a look; Allow and Contact are shortened to their presence.
const SHOWN: [&str; 12] = [
    "Accept",
    "Authorization",
    "Min-SE",
    "Proxy-Authorization",
    "Reason",
    "Record-Route",
    "Require",
    "Retry-After",
    "Route",
    "Session-Expires",
    "Supported",
    "Unsupported",
];

impl Solo {
    pub fn new() -> Solo {
        Solo::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut EndpointConfig)) -> Solo {
        let mut config = config(OURS.parse().unwrap(), "192.0.2.1");
        change(&mut config);
        Solo {
            now: Instant::default(),
            endpoint: Endpoint::new(config, IdSource::from_number(7)),
            ladder: String::new(),
            sent: Vec::new(),
            counts: Vec::new(),
            events: Vec::new(),
            leg: LegKey(1),
            legs: Vec::new(),
        }
    }

    pub fn give(&mut self, input: EndpointInput) {
        let now = Now {
            mono: self.now,
            wall: UnixTime::default(),
        };
        let mut out = Vec::new();
        self.endpoint.handle(now, input, &mut out);
        for output in out {
            match output {
                EndpointOutput::Send { flow, bytes } => {
                    self.note(&format!("> {}", describe(&bytes)));
                    self.sent.push((flow.remote, bytes));
                }
                EndpointOutput::Leg { leg, event } => {
                    if matches!(event, LegEvent::Incoming(_)) {
                        self.leg = leg;
                        self.legs.push(leg);
                    }
                    self.note(&format!("* {}", name(&event)));
                    self.events.push(event);
                }
                EndpointOutput::Count(Counter::Retransmission) => self.note("(again)"),
                EndpointOutput::Count(counter) => {
                    self.note(&format!("# {counter:?}"));
                    self.counts.push(counter);
                }
            }
        }
    }

    fn note(&mut self, text: &str) {
        writeln!(self.ladder, "{text}").unwrap();
    }

    /// A datagram of the peer; lines end as they should.
    pub fn say(&mut self, text: &str) {
        self.say_from(PEER, text);
    }

    pub fn say_from(&mut self, remote: &str, text: &str) {
        let bytes = text.replace("\r\n", "\n").replace('\n', "\r\n").into_bytes();
        self.note(&format!("< {}", first_line(&bytes)));
        self.datagram(remote, bytes);
    }

    pub fn datagram(&mut self, remote: &str, bytes: Vec<u8>) {
        let flow = Flow {
            local: OURS.parse().unwrap(),
            remote: remote.parse().unwrap(),
        };
        self.give(EndpointInput::Datagram { flow, bytes });
    }

    pub fn command(&mut self, command: LegCommand) {
        let leg = self.leg;
        self.give(EndpointInput::Command { leg, command });
    }

    pub fn dial(&mut self) -> Request {
        self.dial_with(dial_to(PEER.parse().unwrap()))
    }

    /// The INVITE that goes out.
    pub fn dial_with(&mut self, dial: Dial) -> Request {
        let leg = self.leg;
        self.legs.push(leg);
        let dial = Box::new(dial);
        self.give(EndpointInput::Dial { leg, dial });
        self.last_request("INVITE")
    }

    /// The last request of that method that was sent.
    pub fn last_request(&self, method: &str) -> Request {
        let found =
            self.sent.iter().rev().find_map(|(_, bytes)| {
                Request::parse(bytes).filter(|request| request.method.as_str() == method)
            });
        found.unwrap_or_else(|| panic!("no {method} in:\n{}", self.ladder))
    }

    /// The last message that was sent, whatever it is.
    pub fn last(&self) -> Message {
        Message::parse(&self.sent.last().unwrap().1).unwrap()
    }

    pub fn run_ms(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while let Some((at, _)) = self.endpoint.next_timeout().filter(|(at, _)| *at <= end) {
            self.now = at.max(self.now);
            self.give(EndpointInput::Timeout);
        }
        self.now = end;
    }

    /// Nothing may be left once 64 x T1 have passed.
    pub fn settle(&mut self) {
        self.run_ms(70_000);
        assert_eq!(self.endpoint.load(), EndpointLoad::default(), "{}", self.ladder);
    }
}

fn describe(bytes: &[u8]) -> String {
    let mut text = first_line(bytes);
    // The answer to a broken request lacks what that lacked.
    let Ok(message) = Message::parse(bytes) else {
        return String::from_utf8_lossy(bytes)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
    };
    let headers: &Headers = message.headers();
    for shown in SHOWN {
        for value in headers.headers(shown) {
            write!(text, " | {shown}: {value}").unwrap();
        }
    }
    if headers.header("Allow").is_some() {
        text.push_str(" | Allow");
    }
    if !headers.body().is_empty() {
        text.push_str(" | sdp");
    }
    text
}

/// A request of the peer as the caller of one call.
pub struct Caller {
    pub to_tag: Option<String>,
    pub cseq: u32,
    branches: u32,
}

impl Caller {
    pub fn new() -> Caller {
        Caller {
            to_tag: None,
            cseq: 100,
            branches: 0,
        }
    }

    /// The next request, under a new CSeq and branch; `extra` holds whole header lines.
    pub fn request(&mut self, method: &str, extra: &str, body: &str) -> String {
        if method != "ACK" && method != "CANCEL" {
            self.cseq += 1;
        }
        if method != "CANCEL" {
            self.branches += 1;
        }
        let to_tag = self
            .to_tag
            .as_ref()
            .map(|tag| format!(";tag={tag}"))
            .unwrap_or_default();
        let kind = if body.is_empty() || extra.contains("Content-Type") {
            ""
        } else {
            "Content-Type: application/sdp\n"
        };
        format!(
            "{method} sip:+493023125101@192.0.2.2 SIP/2.0\n\
             Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKpeer{}\n\
             From: <sip:+491701234567@192.0.2.1>;tag=peer\n\
             To: <sip:+493023125101@192.0.2.2>{to_tag}\n\
             Call-ID: call@192.0.2.1\n\
             CSeq: {} {method}\n\
             Contact: <sip:peer@192.0.2.1:5060>\n\
             Max-Forwards: 70\n\
             {extra}{kind}Content-Length: {}\n\n{body}",
            self.branches,
            self.cseq,
            body.replace('\n', "\r\n").len(),
        )
    }

    /// An INVITE with an offer that has been answered and acknowledged.
    pub fn connected(solo: &mut Solo, extra: &str) -> Caller {
        let mut caller = Caller::new();
        let invite = caller.request("INVITE", extra, &offer(4000));
        solo.say(&invite);
        solo.command(LegCommand::Answer {
            sdp: super::pair::sdp(5000),
        });
        caller.learn_tag(solo);
        let ack = caller.request("ACK", "", "");
        solo.say(&ack);
        caller
    }

    /// The ACK of a refusal: the branch of the INVITE just made.
    pub fn ack_refusal(&mut self) -> String {
        self.branches -= 1;
        self.request("ACK", "", "")
    }

    /// The ACK of a refusal to the first INVITE of a caller like this one.
    pub fn ack_refusal_of_first(mut self) -> String {
        self.request("INVITE", "", "");
        self.ack_refusal()
    }

    pub fn learn_tag(&mut self, solo: &Solo) {
        self.to_tag = solo.last().headers().to().tag.clone();
    }
}

/// A description with lines as `say` wants them.
pub fn offer(port: u16) -> String {
    super::pair::sdp(port).to_string().replace("\r\n", "\n")
}

/// The response of a peer to a request of ours.
pub fn response(request: &Request, status: &str, to_tag: &str, extra: &str, body: &str) -> String {
    let vias: String = request.vias_raw().map(|via| format!("Via: {via}\n")).collect();
    let tag = match (&request.to().tag, to_tag) {
        (None, tag) if !tag.is_empty() => format!(";tag={tag}"),
        (_, _) => String::new(),
    };
    let (number, method) = request.cseq();
    let kind = if body.is_empty() {
        ""
    } else {
        "Content-Type: application/sdp\n"
    };
    format!(
        "SIP/2.0 {status}\n{vias}From: {}\nTo: {}{tag}\nCall-ID: {}\nCSeq: {number} {}\n{extra}{kind}Content-Length: {}\n\n{body}",
        request.from().raw,
        request.to().raw,
        request.call_id(),
        method.as_str(),
        body.replace('\n', "\r\n").len(),
    )
}
