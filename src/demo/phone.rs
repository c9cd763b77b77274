//! A simulated phone: real SIP and RTP over loopback, on a thread of its own.
//!
//! Alphabet: [`PhoneCommand`] in, [`PhoneEvent`] out. SIP runs on `sip::endpoint`; sound is
//! [`super::talk`]. Deliberately absent: registration, several calls at a time.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

use crate::driver::clock::Clock;
use crate::ids::LegKey;
use crate::now::{IdSource, Instant, Now};
use crate::sdp::negotiate::{self, LocalMedia};
use crate::sdp::{AudioParams, Direction, SessionDescription};
use crate::secret::{Digit, Secret};
use crate::sip::endpoint::Endpoint;
use crate::sip::{
    Dial, EndpointInput, EndpointOutput, Flow, LegCommand, LegEnd, LegEvent, Reason, Rejection,
};

use super::recording::Ear;
use super::talk::Talk;

/// What a scene tells a phone to do.
#[derive(Debug)]
pub enum PhoneCommand {
    /// Calls `number` at the daemon; `from` is the caller number, `None` withholds it.
    Call {
        number: String,
        from: Option<String>,
    },
    Press(Secret<Vec<Digit>>),
    /// Answers calls after this long, or refuses them with 486.
    Behave(Behaviour),
    HangUp,
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    AnswerAfter(Duration),
    Busy,
}

/// What a phone reports.
#[derive(Clone, Debug)]
pub enum PhoneEvent {
    /// A call has come in and the phone rings.
    Ringing,
    /// A call has come in and was refused as busy.
    Refused,
    Answered {
        at: Instant,
    },
    Ended {
        at: Instant,
        reasons: Vec<Reason>,
    },
    /// Our call was refused.
    Rejected,
}

/// A running phone.
#[derive(Debug)]
pub struct Phone {
    pub sip: SocketAddr,
    pub commands: mpsc::Sender<PhoneCommand>,
    pub events: mpsc::Receiver<PhoneEvent>,
    thread: std::thread::JoinHandle<Heard>,
}

/// What a phone has heard in its life.
#[derive(Debug, Default)]
pub struct Heard {
    pub ear: Ear,
    pub pacing_us: Vec<u64>,
    pub received: u64,
    pub missing: u64,
}

/// How a phone is made.
#[derive(Debug)]
pub struct PhoneSpec {
    pub name: &'static str,
    /// The daemon's SIP address: the only peer.
    pub peer: SocketAddr,
    pub tone_hz: u32,
    pub seed: u64,
    /// Reads the demo's one clock.
    pub clock: Clock,
    /// Begin of the recording.
    pub epoch: Instant,
}

impl Phone {
    /// # Errors
    /// No loopback socket can be bound.
    pub fn start(spec: PhoneSpec) -> io::Result<Phone> {
        let sip = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let rtp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        for socket in [&sip, &rtp] {
            socket.set_nonblocking(true)?;
        }
        let address = sip.local_addr()?;
        let (commands, inbox) = mpsc::channel();
        let (outbox, events) = mpsc::channel();
        let name = spec.name.to_owned();
        let machine = Machine::new(spec, sip, rtp, address, outbox)?;
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || machine.run(&inbox))?;
        Ok(Phone {
            sip: address,
            commands,
            events,
            thread,
        })
    }

    pub fn tell(&self, command: PhoneCommand) {
        // A phone that is gone has reported its end; the scene sees that.
        self.commands.send(command).ok();
    }

    /// Waits for the next event.
    pub fn next(&self, patience: Duration) -> Option<PhoneEvent> {
        self.events.recv_timeout(patience).ok()
    }

    /// Stops the phone and takes what it heard.
    pub fn stop(self) -> Heard {
        self.tell(PhoneCommand::Stop);
        self.thread.join().unwrap_or_default()
    }
}

struct Machine {
    spec: PhoneSpec,
    sip: UdpSocket,
    rtp: UdpSocket,
    flow: Flow,
    rtp_address: SocketAddr,
    endpoint: Endpoint,
    ids: IdSource,
    outbox: mpsc::Sender<PhoneEvent>,
    behaviour: Behaviour,
    leg: Option<Leg>,
    talk: Option<Talk>,
    heard: Heard,
}

/// The one leg, and what it still owes.
struct Leg {
    key: LegKey,
    /// Our offer, while its answer is outstanding.
    offer: Option<SessionDescription>,
    /// The advisor lifts the receiver then.
    answer_at: Option<(Instant, SessionDescription, AudioParams)>,
}

impl Machine {
    fn new(
        spec: PhoneSpec,
        sip: UdpSocket,
        rtp: UdpSocket,
        address: SocketAddr,
        outbox: mpsc::Sender<PhoneEvent>,
    ) -> io::Result<Machine> {
        let rtp_address = rtp.local_addr()?;
        let mut ids = IdSource::from_number(spec.seed);
        let endpoint = super::phone_endpoint(address, spec.peer, IdSource::from_number(ids.next_u64()));
        Ok(Machine {
            flow: Flow {
                local: address,
                remote: spec.peer,
            },
            spec,
            sip,
            rtp,
            rtp_address,
            endpoint,
            ids,
            outbox,
            behaviour: Behaviour::AnswerAfter(Duration::from_secs(1)),
            leg: None,
            talk: None,
            heard: Heard::default(),
        })
    }

    fn run(mut self, inbox: &mpsc::Receiver<PhoneCommand>) -> Heard {
        let mut buffer = vec![0; 65_536];
        loop {
            // One millisecond is fine enough for a phone, and a command is never later than that.
            match inbox.recv_timeout(Duration::from_millis(1)) {
                Ok(PhoneCommand::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Ok(command) => self.command(command),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            self.receive(&mut buffer);
            self.timers();
        }
        self.close_talk();
        self.heard
    }

    fn now(&self) -> Now {
        self.spec.clock.now()
    }

    fn command(&mut self, command: PhoneCommand) {
        match command {
            PhoneCommand::Call { number, from } => self.call(&number, from),
            PhoneCommand::Press(digits) => {
                if let Some(talk) = &mut self.talk {
                    talk.press(digits.expose().iter().copied());
                }
            }
            PhoneCommand::Behave(behaviour) => self.behaviour = behaviour,
            PhoneCommand::HangUp => self.order(LegCommand::HangUp(Vec::new())),
            PhoneCommand::Stop => {}
        }
    }

    fn call(&mut self, number: &str, from: Option<String>) {
        let key = LegKey(self.ids.next_u64());
        let offer = negotiate::offer(&self.local_media());
        let dial = Dial {
            uri: format!("sip:{number}@{}", self.spec.peer),
            destination: self.spec.peer,
            from_user: from.unwrap_or_else(|| "anonymous".to_owned()),
            from_display: None,
            offer: offer.clone(),
            credentials: None,
            max_forwards: 70,
        };
        self.leg = Some(Leg {
            key,
            offer: Some(offer),
            answer_at: None,
        });
        self.feed(EndpointInput::Dial {
            leg: key,
            dial: Box::new(dial),
        });
    }

    fn local_media(&mut self) -> LocalMedia {
        LocalMedia {
            rtp: self.rtp_address,
            session_id: self.ids.next_u64() >> 16,
            version: 1,
            direction: Direction::SendRecv,
        }
    }

    fn order(&mut self, command: LegCommand) {
        if let Some(leg) = self.leg.as_ref().map(|leg| leg.key) {
            self.feed(EndpointInput::Command { leg, command });
        }
    }

    fn feed(&mut self, input: EndpointInput) {
        let mut out = Vec::new();
        self.endpoint.handle(self.now(), input, &mut out);
        for output in out {
            match output {
                EndpointOutput::Send { flow, bytes } => {
                    // Loopback refuses a datagram when the other side is gone; SIP's timers notice.
                    self.sip.send_to(&bytes, flow.remote).ok();
                }
                EndpointOutput::Leg { leg, event } => self.leg_event(leg, event),
                EndpointOutput::Count(_) => {}
            }
        }
    }

    fn leg_event(&mut self, key: LegKey, event: LegEvent) {
        let at = self.now().mono;
        match event {
            LegEvent::Incoming(incoming) => self.incoming(key, incoming.offer),
            LegEvent::Answered { answer } => {
                let ours = self.leg.as_mut().and_then(|leg| leg.offer.take());
                match ours.map(|offer| negotiate::accept(&offer, &answer)) {
                    Some(Ok(audio)) => self.open_talk(audio),
                    Some(Err(_)) | None => self.order(LegCommand::HangUp(Vec::new())),
                }
                self.report(PhoneEvent::Answered { at });
            }
            LegEvent::Rejected { .. } => {
                self.leg = None;
                self.report(PhoneEvent::Rejected);
            }
            LegEvent::Cancelled { reasons } => self.over(PhoneEvent::Ended { at, reasons }),
            LegEvent::Ended(LegEnd::ByPeer { reasons }) => {
                self.over(PhoneEvent::Ended { at, reasons });
            }
            LegEvent::Ended(_) => self.over(PhoneEvent::Ended {
                at,
                reasons: Vec::new(),
            }),
            LegEvent::Reoffer { .. } => self.order(LegCommand::AnswerReoffer { sdp: None }),
            LegEvent::Acked { .. }
            | LegEvent::Ringing { .. }
            | LegEvent::ReofferAnswered { .. }
            | LegEvent::ProbeAnswered => {}
        }
    }

    fn incoming(&mut self, key: LegKey, offer: Option<SessionDescription>) {
        let busy = self.behaviour == Behaviour::Busy || self.leg.is_some();
        let local = self.local_media();
        let answer = offer.and_then(|offer| negotiate::answer(&offer, &local).ok());
        let command = match (self.behaviour, answer) {
            (Behaviour::AnswerAfter(ring), Some((sdp, audio))) if !busy => {
                self.leg = Some(Leg {
                    key,
                    offer: None,
                    answer_at: Some((self.now().mono + ring, sdp, audio)),
                });
                self.report(PhoneEvent::Ringing);
                LegCommand::Progress {
                    status: 180,
                    sdp: None,
                }
            }
            (Behaviour::AnswerAfter(_) | Behaviour::Busy, _) => {
                self.report(PhoneEvent::Refused);
                LegCommand::Reject(Rejection {
                    status: 486,
                    reasons: Vec::new(),
                    retry_after_s: None,
                })
            }
        };
        self.feed(EndpointInput::Command { leg: key, command });
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        while let Ok((length, from)) = self.sip.recv_from(buffer) {
            let bytes = buffer.get(..length).unwrap_or_default().to_vec();
            let flow = Flow {
                local: self.flow.local,
                remote: from,
            };
            self.feed(EndpointInput::Datagram { flow, bytes });
        }
        while let Ok((length, from)) = self.rtp.recv_from(buffer) {
            let now = self.now().mono;
            let at_ms = u64::try_from(now.since(self.spec.epoch).as_millis()).unwrap_or(u64::MAX);
            if let Some(talk) = &mut self.talk {
                talk.hear(
                    now,
                    at_ms,
                    from,
                    buffer.get(..length).unwrap_or_default(),
                    &mut self.heard.ear,
                );
            }
        }
    }

    fn timers(&mut self) {
        let now = self.now().mono;
        let due = self
            .leg
            .as_ref()
            .and_then(|leg| leg.answer_at.as_ref())
            .is_some_and(|(at, ..)| *at <= now);
        if let Some((_, sdp, audio)) = self
            .leg
            .as_mut()
            .filter(|_| due)
            .and_then(|leg| leg.answer_at.take())
        {
            self.open_talk(audio);
            self.order(LegCommand::Answer { sdp });
            self.report(PhoneEvent::Answered { at: now });
        }
        if let Some(talk) = &mut self.talk {
            talk.send_due(now, &self.rtp);
        }
        if self.endpoint.next_timeout().is_some_and(|(at, _)| at <= now) {
            self.feed(EndpointInput::Timeout);
        }
    }

    fn open_talk(&mut self, audio: AudioParams) {
        let seed = self.ids.next_u64();
        self.talk = Some(Talk::new(self.now().mono, audio, seed, Some(self.spec.tone_hz)));
    }

    fn close_talk(&mut self) {
        if let Some(talk) = self.talk.take() {
            self.heard.pacing_us.extend(talk.pacing_us);
            self.heard.received += talk.received;
            self.heard.missing += talk.missing;
        }
    }

    fn over(&mut self, event: PhoneEvent) {
        self.leg = None;
        self.close_talk();
        self.report(event);
    }

    fn report(&self, event: PhoneEvent) {
        // Nobody listens any more only when the demo is over.
        self.outbox.send(event).ok();
    }
}
