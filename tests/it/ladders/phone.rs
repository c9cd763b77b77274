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
    /// Commands to be given, by when.
    pub later: Vec<(Duration, LegKey, LegCommand)>,
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
            later: Vec::new(),
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
