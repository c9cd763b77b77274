//! Two endpoints on one virtual clock, over a link that can lose, double and delay by seed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{Cidr, TrunkConfig};
use crate::ids::LegKey;
use crate::now::{IdSource, Instant, Now, UnixTime};
use crate::sdp::SessionDescription;
use crate::sip::endpoint::{Endpoint, EndpointConfig};
use crate::sip::leg::refresh::SessionLimits;
use crate::sip::{
    Counter, Dial, EndpointInput, EndpointLoad, EndpointOutput, Flow, LegCommand, LegEvent, Reason,
    ReasonProtocol,
};

/// Caller's endpoint (its leg is a B leg), and the answering one (its leg is an A leg).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Caller,
    Answerer,
}

impl Who {
    pub fn other(self) -> Who {
        match self {
            Who::Caller => Who::Answerer,
            Who::Answerer => Who::Caller,
        }
    }

    pub fn address(self) -> SocketAddr {
        match self {
            Who::Caller => "192.0.2.1:5060".parse().unwrap(),
            Who::Answerer => "192.0.2.2:5060".parse().unwrap(),
        }
    }
}

/// How the link treats a datagram, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    pub loss: u64,
    pub double: u64,
    /// Delays by up to 200 ms, so that datagrams overtake each other.
    pub delay: u64,
}

pub struct Pair {
    pub now: Instant,
    endpoints: [Endpoint; 2],
    link: Link,
    chance: IdSource,
    on_the_way: BTreeMap<(Instant, u64), (Who, Vec<u8>)>,
    sent: u64,
    /// Datagrams that begin so are lost, so many times.
    pub lose: Vec<(&'static str, usize)>,
    pub ladder: String,
    pub events: Vec<(Who, LegKey, LegEvent)>,
    pub counts: BTreeMap<Counter, usize>,
    /// The leg at the answerer, once it is there.
    pub leg: [LegKey; 2],
    /// Every datagram that was sent, for the mutation test.
    pub record: Vec<Vec<u8>>,
}

pub fn trunk(peers: &str) -> TrunkConfig {
    TrunkConfig {
        name: "peer".into(),
        peers: vec![Cidr::parse(peers).unwrap()],
        proxy: None,
        number_format: Default::default(),
        called_from: Default::default(),
        trust_pai: true,
        country_code: "49".into(),
        username: None,
        password_file: None,
        inbound: true,
    }
}

pub fn config(listen: SocketAddr, peers: &str) -> EndpointConfig {
    EndpointConfig {
        trunks: vec![trunk(peers)],
        listen: vec![listen],
        advertise: None,
        session: SessionLimits {
            expires_s: 1800,
            min_se_s: 90,
        },
        max_legs: 10,
        max_transactions: 100,
        retry_after_s: 10,
    }
}

pub fn sdp(port: u16) -> SessionDescription {
    let text = format!(
        "v=0\r\no=- 7 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\na=sendrecv\r\n"
    );
    SessionDescription::parse(text.as_bytes()).unwrap()
}

pub fn cause(protocol: ReasonProtocol, cause: u16) -> Reason {
    Reason {
        protocol,
        cause,
        text: None,
    }
}

pub fn dial_to(destination: SocketAddr) -> Dial {
    Dial {
        uri: format!("sip:+493023125101@{destination}"),
        destination,
        from_user: "+491701234567".into(),
        from_display: Some("Karte \"7\"".into()),
        offer: sdp(4000),
        credentials: None,
        max_forwards: 69,
    }
}

impl Pair {
    pub fn new(seed: u64, link: Link) -> Pair {
        Pair::with(seed, link, |_, _| {})
    }

    pub fn with(seed: u64, link: Link, change: fn(Who, &mut EndpointConfig)) -> Pair {
        let endpoint = |who: Who, seed: u64| {
            let mut config = config(who.address(), &who.other().address().ip().to_string());
            change(who, &mut config);
            Endpoint::new(config, IdSource::from_number(seed))
        };
        Pair {
            now: Instant::default(),
            endpoints: [
                endpoint(Who::Caller, 2 * seed),
                endpoint(Who::Answerer, 2 * seed + 1),
            ],
            link,
            chance: IdSource::from_number(seed ^ 0xfeed),
            on_the_way: BTreeMap::new(),
            sent: 0,
            lose: Vec::new(),
            ladder: String::new(),
            events: Vec::new(),
            counts: BTreeMap::new(),
            leg: [LegKey(1), LegKey(0)],
            record: Vec::new(),
        }
    }

    pub fn dial(&mut self) {
        let dial = dial_to(Who::Answerer.address());
        self.dial_with(dial);
    }

    pub fn dial_with(&mut self, dial: Dial) {
        let input = EndpointInput::Dial {
            leg: LegKey(1),
            dial: Box::new(dial),
        };
        self.give(Who::Caller, input);
    }

    /// Orders something from that side's leg.
    pub fn command(&mut self, who: Who, command: LegCommand) {
        let leg = self.leg[who as usize];
        self.give(who, EndpointInput::Command { leg, command });
    }

    pub fn answer(&mut self) {
        self.command(Who::Answerer, LegCommand::Answer { sdp: sdp(5000) });
    }

    pub fn hang_up(&mut self, who: Who) {
        self.command(who, LegCommand::HangUp(vec![cause(ReasonProtocol::Q850, 16)]));
    }

    /// Dials, answers and waits until all is quiet.
    pub fn connect(&mut self) {
        self.dial();
        self.run_ms(100);
        self.answer();
        self.run_ms(100);
    }

    pub fn give(&mut self, who: Who, input: EndpointInput) {
        let now = Now {
            mono: self.now,
            wall: UnixTime::default(),
        };
        let mut out = Vec::new();
        self.endpoints[who as usize].handle(now, input, &mut out);
        for output in out {
            self.carry_out(who, output);
        }
    }

    fn carry_out(&mut self, who: Who, output: EndpointOutput) {
        match output {
            EndpointOutput::Send { flow, bytes } => {
                assert_eq!(flow.local, who.address());
                self.send(who, flow.remote, bytes);
            }
            EndpointOutput::Leg { leg, event } => {
                if matches!(event, LegEvent::Incoming(_)) {
                    self.leg[who as usize] = leg;
                }
                self.note(who, &format!("* {}", name(&event)));
                self.events.push((who, leg, event));
            }
            EndpointOutput::Count(counter) => *self.counts.entry(counter).or_default() += 1,
        }
    }

    fn send(&mut self, who: Who, to: SocketAddr, bytes: Vec<u8>) {
        self.record.push(bytes.clone());
        let line = first_line(&bytes);
        let rule = self
            .lose
            .iter_mut()
            .find(|(prefix, times)| *times > 0 && line.starts_with(prefix));
        let ordered = rule.is_some();
        if let Some((_, times)) = rule {
            *times -= 1;
        }
        let lost = ordered || self.chance.below(100) < self.link.loss;
        let stray = to != who.other().address();
        let mark = match (lost, stray) {
            (true, _) => " (lost)",
            (false, true) => " (to nobody)",
            (false, false) => "",
        };
        self.note(who, &format!("> {line}{mark}"));
        if lost || stray {
            return;
        }
        let copies = 1 + u64::from(self.chance.below(100) < self.link.double);
        for _ in 0..copies {
            let mut delay = Duration::from_millis(10);
            if self.chance.below(100) < self.link.delay {
                delay += Duration::from_millis(self.chance.below(200));
            }
            self.sent += 1;
            self.on_the_way
                .insert((self.now + delay, self.sent), (who.other(), bytes.clone()));
        }
    }

    fn note(&mut self, who: Who, text: &str) {
        let ms = self.now.as_nanos() / 1_000_000;
        let name = match who {
            Who::Caller => "caller  ",
            Who::Answerer => "answerer",
        };
        writeln!(self.ladder, "{}.{:03} {name} {text}", ms / 1000, ms % 1000).unwrap();
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.run_until(self.now + Duration::from_millis(ms));
    }

    pub fn run_s(&mut self, s: u64) {
        self.run_ms(s * 1000);
    }

    /// Lets everything happen that is due until then.
    pub fn run_until(&mut self, end: Instant) {
        for _ in 0..100_000 {
            let datagram = self.on_the_way.first_key_value().map(|((at, _), _)| *at);
            let timer = self
                .endpoints
                .iter()
                .filter_map(|e| e.next_timeout().map(|(at, _)| at))
                .min();
            let next = datagram.into_iter().chain(timer).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = next.max(self.now);
            if datagram == Some(next)
                && let Some((_, (to, bytes))) = self.on_the_way.pop_first()
            {
                let flow = Flow {
                    local: to.address(),
                    remote: to.other().address(),
                };
                self.give(to, EndpointInput::Datagram { flow, bytes });
                continue;
            }
            for who in [Who::Caller, Who::Answerer] {
                self.give(who, EndpointInput::Timeout);
            }
        }
        panic!("the pair does not come to rest:\n{}", self.ladder);
    }

    pub fn load(&self) -> [EndpointLoad; 2] {
        [self.endpoints[0].load(), self.endpoints[1].load()]
    }

    /// What that side's leg reported, by name.
    pub fn heard(&self, who: Who) -> Vec<String> {
        let own = self.events.iter().filter(|(by, _, _)| *by == who);
        own.map(|(_, _, event)| name(event)).collect()
    }

    /// After 64 x T1 nothing may be left, and each leg has ended exactly once.
    pub fn settle(&mut self) {
        self.run_s(70);
        assert_eq!(
            self.load(),
            [EndpointLoad::default(); 2],
            "left over:\n{}",
            self.ladder
        );
        let mut ends: BTreeMap<(Who, LegKey), usize> = BTreeMap::new();
        for (who, leg, event) in &self.events {
            let end = ends.entry((*who, *leg)).or_default();
            assert_eq!(*end, 0, "{who:?} heard {event:?} after its end:\n{}", self.ladder);
            *end += usize::from(is_end(event));
        }
        for ((who, leg), count) in ends {
            assert_eq!(count, 1, "{who:?} {leg:?} has not ended:\n{}", self.ladder);
        }
    }
}

pub fn is_end(event: &LegEvent) -> bool {
    matches!(
        event,
        LegEvent::Ended(_) | LegEvent::Rejected { .. } | LegEvent::Cancelled { .. }
    )
}

/// `INVITE`, or `200 INVITE`.
pub fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let start = text.lines().next().unwrap_or_default();
    match start.strip_prefix("SIP/2.0 ") {
        None => start.split(' ').next().unwrap_or_default().to_owned(),
        Some(status) => {
            let method = text
                .lines()
                .find_map(|line| line.strip_prefix("CSeq: ")?.split(' ').nth(1))
                .unwrap_or_default();
            format!("{} {method}", status.split(' ').next().unwrap_or_default())
        }
    }
}

/// An event in a word or two.
pub fn name(event: &LegEvent) -> String {
    match event {
        LegEvent::Incoming(incoming) if incoming.offer.is_none() => "Incoming without offer".into(),
        LegEvent::Incoming(_) => "Incoming".into(),
        LegEvent::Acked { answer: None } => "Acked".into(),
        LegEvent::Acked { answer: Some(_) } => "Acked with answer".into(),
        LegEvent::Cancelled { reasons } => format!("Cancelled{}", causes(reasons)),
        LegEvent::Ringing { status, sdp } => {
            format!("Ringing {status}{}", if sdp.is_some() { " sdp" } else { "" })
        }
        LegEvent::Answered { .. } => "Answered".into(),
        LegEvent::Rejected { status, reasons, .. } => format!("Rejected {status}{}", causes(reasons)),
        LegEvent::Reoffer { offer: None } => "Reoffer without offer".into(),
        LegEvent::Reoffer { offer: Some(_) } => "Reoffer".into(),
        LegEvent::ReofferAnswered { .. } => "ReofferAnswered".into(),
        LegEvent::ProbeAnswered => "ProbeAnswered".into(),
        LegEvent::Ended(crate::sip::LegEnd::ByPeer { reasons }) => format!("Ended ByPeer{}", causes(reasons)),
        LegEvent::Ended(end) => format!("Ended {end:?}"),
    }
}

fn causes(reasons: &[Reason]) -> String {
    reasons
        .iter()
        .map(|reason| format!(" {:?} {}", reason.protocol, reason.cause))
        .collect()
}
