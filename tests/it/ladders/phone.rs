//! A telephone at the far end: a SIP endpoint of its own and a manner of answering.

use std::net::SocketAddr;
use std::time::Duration;

use cardline::config::{Cidr, TrunkConfig};
use cardline::ids::LegKey;
use cardline::now::{IdSource, Now};
use cardline::sdp::{Direction, SessionDescription, negotiate};
use cardline::sip::endpoint::{Endpoint, EndpointConfig};
use cardline::sip::{
    Dial, EndpointInput, EndpointOutput, LegCommand, LegEvent, Reason, ReasonProtocol, Rejection,
};

/// What a telephone does with an INVITE, after so many milliseconds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// 180 at once, 200 later.
    Answer(u64),
    /// 180 at once, then nothing.
    Ring,
    Reject(u16),
    /// No response at all above 100.
    Mute,
}

pub struct Phone {
    pub name: &'static str,
    pub address: SocketAddr,
    pub endpoint: Endpoint,
    pub manner: Manner,
    /// Whether it sends audio once it is connected.
    pub talks: bool,
    pub leg: Option<LegKey>,
    pub ended: bool,
    calls: u64,
    /// Vanished: hears nothing and says nothing.
    pub gone: bool,
    /// The last INVITE that it got and the 200 it gave, for messages written by hand.
    pub invite: String,
    pub answer: String,
    /// The last 200 to an INVITE that it got.
    pub heard: String,
}

impl Phone {
    pub fn new(name: &'static str, address: &str, switch: SocketAddr, seed: u64) -> Phone {
        let address: SocketAddr = address.parse().expect("an address");
        let config = cardline::config::Config {
            trunks: vec![trunk(&switch.ip().to_string())],
            ..Default::default()
        };
        Phone {
            name,
            address,
            endpoint: Endpoint::new(
                EndpointConfig::new(&config, vec![address]),
                IdSource::from_number(seed),
            ),
            manner: Manner::Answer(3000),
            talks: true,
            leg: None,
            ended: false,
            calls: 0,
            gone: false,
            invite: String::new(),
            answer: String::new(),
            heard: String::new(),
        }
    }

    /// An INVITE to a number behind the switch.
    pub fn dial(
        &mut self,
        switch: SocketAddr,
        called: &str,
        caller: &str,
        offer: SessionDescription,
    ) -> EndpointInput {
        self.calls += 1;
        let leg = LegKey(self.calls);
        self.leg = Some(leg);
        self.ended = false;
        EndpointInput::Dial {
            leg,
            dial: Box::new(Dial {
                uri: format!("sip:{called}@{switch}"),
                destination: switch,
                from_user: caller.to_owned(),
                from_display: None,
                offer,
                credentials: None,
                max_forwards: 70,
            }),
        }
    }

    /// Reacts to what its leg reports; gives what it wants to do, and when.
    pub fn hears(&mut self, leg: LegKey, event: &LegEvent) -> Vec<(Duration, LegCommand)> {
        match event {
            LegEvent::Incoming(incoming) => {
                self.leg = Some(leg);
                self.ended = false;
                self.incoming(incoming.offer.as_ref())
            }
            LegEvent::Ended(_) | LegEvent::Rejected { .. } | LegEvent::Cancelled { .. } => {
                self.ended = true;
                Vec::new()
            }
            LegEvent::Acked { .. }
            | LegEvent::Ringing { .. }
            | LegEvent::Answered { .. }
            | LegEvent::Reoffer { .. }
            | LegEvent::ReofferAnswered { .. }
            | LegEvent::ProbeAnswered => Vec::new(),
        }
    }

    /// A re-INVITE of this telephone, written by hand, and the ACK that follows its 200.
    pub fn reinvite(&mut self, direction: &str) -> (String, String) {
        self.calls += 1;
        let cseq = self.calls;
        let (host, ip) = (self.address, self.address.ip());
        let body = format!(
            "v=0\r\no=- 7 {cseq} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
             m=audio 40000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\n\
             a=rtpmap:101 telephone-event/8000\r\na={direction}\r\n"
        );
        let head = |method: &str| {
            let contact = header(&self.invite, "Contact").trim_matches(['<', '>']);
            let (from, to) = (header(&self.answer, "To"), header(&self.answer, "From"));
            let call_id = header(&self.answer, "Call-ID");
            format!(
                "{method} {contact} SIP/2.0\r\n\
                 Via: SIP/2.0/UDP {host};branch=z9hG4bK{method}{cseq}\r\n\
                 Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
                 CSeq: {cseq} {method}\r\nContact: <sip:{host}>\r\n"
            )
        };
        let invite = format!(
            "{}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            head("INVITE"),
            body.len()
        );
        (invite, format!("{}Content-Length: 0\r\n\r\n", head("ACK")))
    }

    /// Keeps the INVITE that opens a dialog, and this telephone's 200 to it.
    pub fn hears_bytes(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if text.starts_with("INVITE ") {
            self.invite = text.into_owned();
        } else if text.starts_with("SIP/2.0 200") && header(&text, "CSeq").ends_with("INVITE") {
            self.heard = text.into_owned();
        }
    }

    pub fn says_bytes(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if text.starts_with("SIP/2.0 200") && header(&text, "CSeq").ends_with("INVITE") {
            self.answer = text.into_owned();
        }
    }

    fn incoming(&self, offer: Option<&SessionDescription>) -> Vec<(Duration, LegCommand)> {
        let ms = Duration::from_millis;
        let ringing = LegCommand::Progress {
            status: 180,
            sdp: None,
        };
        match self.manner {
            Manner::Answer(after) => {
                let (sdp, _) = negotiate::answer(offer.expect("an offer"), &self.local()).expect("a codec");
                vec![(ms(10), ringing), (ms(after), LegCommand::Answer { sdp })]
            }
            Manner::Ring => vec![(ms(10), ringing)],
            Manner::Reject(status) => vec![(
                ms(500),
                LegCommand::Reject(Rejection {
                    status,
                    reasons: Vec::new(),
                    retry_after_s: None,
                }),
            )],
            Manner::Mute => Vec::new(),
        }
    }

    pub fn offer(&self) -> SessionDescription {
        negotiate::offer(&self.local())
    }

    fn local(&self) -> negotiate::LocalMedia {
        negotiate::LocalMedia {
            rtp: SocketAddr::new(self.address.ip(), 40_000),
            session_id: 7,
            version: 1,
            direction: Direction::SendRecv,
        }
    }

    pub fn give(&mut self, now: Now, input: EndpointInput) -> Vec<EndpointOutput> {
        let mut out = Vec::new();
        self.endpoint.handle(now, input, &mut out);
        out
    }
}

pub fn hang_up() -> LegCommand {
    LegCommand::HangUp(vec![Reason {
        protocol: ReasonProtocol::Q850,
        cause: 16,
        text: None,
    }])
}

pub fn trunk(peers: &str) -> TrunkConfig {
    TrunkConfig {
        name: "carrier".to_owned(),
        peers: vec![Cidr::parse(peers).expect("an address")],
        proxy: None,
        number_format: Default::default(),
        called_from: Default::default(),
        trust_pai: true,
        country_code: "49".to_owned(),
        username: None,
        password_file: None,
        inbound: true,
    }
}

/// A header's value.
pub fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let mut lines = message.split("\r\n");
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.unwrap_or_default()
}
