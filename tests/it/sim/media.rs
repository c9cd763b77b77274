//! The media plane as flow states: who plays what, who hears whom. No packets.

use std::collections::{BTreeMap, BTreeSet};

use cardline::ids::{CallKey, PlayId, Side};
use cardline::media::dtmf::{EventPayload, KeyNews, KeyReader};
use cardline::media::rtp::RtpTime;
use cardline::media::{LegStats, MediaCommand, MediaEvent, MediaOrder, MediaPort, PortId, Utterance};
use cardline::now::{IdSource, Instant};
use cardline::sdp::Direction;
use cardline::secret::Digit;

use super::phone::{MS, Nanos, SECOND};

/// One opened leg.
pub struct Stream {
    pub opened_at: Nanos,
    /// Whether the peer may send.
    pub receives: bool,
    playing: Option<PlayId>,
    mixing: Option<PlayId>,
    pub lost: bool,
    keys: KeyReader,
    /// Presses of which packets came, by their timestamps, and those that were reported.
    pressed: BTreeSet<u32>,
    reported: usize,
}

/// One telephone-event packet of a phone (RFC 4733).
#[derive(Clone, Copy)]
pub struct KeyPacket {
    pub call: CallKey,
    pub side: Side,
    pub sent_at: Nanos,
    /// RTP time of the press.
    time: u32,
    payload: [u8; 4],
}

impl KeyPacket {
    /// A press of 60 ms: an update every 20 ms, the end three times.
    pub fn train(call: CallKey, side: Side, at: Nanos, digit: Digit) -> Vec<KeyPacket> {
        // 8 samples per millisecond; a run is far shorter than their 32 bits.
        let time = u32::try_from(at / MS * 8).unwrap_or(0);
        let packet = |after: u64, end: bool| KeyPacket {
            call,
            side,
            sent_at: at + after * MS,
            time,
            payload: EventPayload {
                event: digit.event(),
                end,
                volume: 10,
                duration: u16::try_from(8 * after.min(60)).unwrap_or(0),
            }
            .to_bytes(),
        };
        let updates = [20, 40].map(|after| packet(after, false));
        let ends = [60, 61, 62].map(|after| packet(after, true));
        updates.into_iter().chain(ends).collect()
    }
}

/// Something that comes later.
pub enum Later {
    /// A report, unless the stream was closed before and it is no `Closed`.
    Report {
        at: Nanos,
        call: CallKey,
        side: Side,
        event: MediaEvent,
    },
    /// An utterance is at its end, if it still plays.
    PlayEnd {
        at: Nanos,
        call: CallKey,
        side: Side,
        id: PlayId,
    },
    /// Ears: this side hears these prompts from now on.
    Heard {
        call: CallKey,
        side: Side,
        utterance: Utterance,
        length: Nanos,
    },
    /// The driver has bound a new pair.
    Port { at: Nanos, port: MediaPort },
}

pub struct Plane {
    pub streams: BTreeMap<(CallKey, Side), Stream>,
    /// Pairs that the switch was given and has not opened.
    pub stock: BTreeSet<PortId>,
    pub opened: u64,
    pub closed: u64,
    next_port: u32,
    /// Reports of a call keep their order.
    last_report: BTreeMap<CallKey, Nanos>,
    rng: IdSource,
    pub slow: bool,
}

impl Plane {
    pub fn new(seed: u64, node: usize) -> Plane {
        Plane {
            streams: BTreeMap::new(),
            stock: BTreeSet::new(),
            opened: 0,
            closed: 0,
            next_port: u32::try_from(node * 5000).unwrap_or(0),
            last_report: BTreeMap::new(),
            rng: IdSource::from_number(seed ^ 0x3ed1a),
            slow: false,
        }
    }

    pub fn bind(&mut self) -> MediaPort {
        self.next_port += 1;
        let id = PortId(self.next_port);
        self.stock.insert(id);
        let port = u16::try_from(10_000 + 2 * self.next_port).expect("a run needs few ports");
        MediaPort {
            id,
            rtp: ([198, 51, 100, 1], port).into(),
        }
    }

    /// When a report that happens at `at` reaches the switch.
    fn arrival(&mut self, call: CallKey, at: Nanos) -> Nanos {
        let slow = self.slow && self.rng.below(10) == 0;
        let delay = if slow {
            self.rng.below(SECOND)
        } else {
            self.rng.below(5 * MS)
        };
        let last = self.last_report.entry(call).or_default();
        *last = (at + delay).max(*last);
        *last
    }

    pub fn report(&mut self, call: CallKey, side: Side, event: MediaEvent, at: Nanos) -> Later {
        let at = self.arrival(call, at);
        Later::Report {
            at,
            call,
            side,
            event,
        }
    }

    /// Carries out one order.
    ///
    /// # Panics
    /// If the order breaks the plane's contract.
    pub fn order(&mut self, now: Nanos, order: MediaOrder, later: &mut Vec<Later>) {
        let MediaOrder { call, side, command } = order;
        let key = (call, side);
        if let MediaCommand::Open { port, audio } = &command {
            assert!(self.stock.remove(&port.id), "{port:?} is not in the stock");
            self.opened += 1;
            let stream = Stream {
                opened_at: now,
                receives: receives(audio.direction),
                playing: None,
                mixing: None,
                lost: false,
                keys: KeyReader::default(),
                pressed: BTreeSet::new(),
                reported: 0,
            };
            let before = self.streams.insert(key, stream);
            assert!(before.is_none(), "call {call} opens {side} twice");
            return;
        }
        let stream = self.streams.get_mut(&key);
        let stream = stream.unwrap_or_else(|| panic!("call {call}: {command:?} to a closed {side}"));
        match command {
            MediaCommand::Open { .. } => {}
            MediaCommand::Update { audio } => stream.receives = receives(audio.direction),
            MediaCommand::Play { id, utterance } => {
                let old = stream.playing.replace(id);
                self.ended(now, key, old, later);
                self.start(now, key, id, utterance, later);
            }
            MediaCommand::Ringback | MediaCommand::Silence => {
                let old = stream.playing.take();
                self.ended(now, key, old, later);
            }
            MediaCommand::Bridge | MediaCommand::Unbridge => {
                for side in [Side::A, Side::B] {
                    let old = self.streams.get_mut(&(call, side)).and_then(|s| s.playing.take());
                    self.ended(now, (call, side), old, later);
                }
            }
            MediaCommand::Mix { id, utterance, .. } => {
                let old = stream.mixing.replace(id);
                self.ended(now, key, old, later);
                self.start(now, key, id, utterance, later);
            }
            MediaCommand::StopMix => {
                let old = stream.mixing.take();
                self.ended(now, key, old, later);
            }
            MediaCommand::Close => self.close(now, key, later),
        }
    }

    fn close(&mut self, now: Nanos, key: (CallKey, Side), later: &mut Vec<Later>) {
        let stream = self.streams.remove(&key).expect("it was looked up before");
        self.closed += 1;
        self.ended(now, key, stream.playing, later);
        let stats = LegStats::default();
        later.push(self.report(key.0, key.1, MediaEvent::Closed(stats), now));
        let at = now + self.rng.below(2 * SECOND);
        let port = self.bind();
        later.push(Later::Port { at, port });
    }

    fn ended(&mut self, now: Nanos, key: (CallKey, Side), id: Option<PlayId>, later: &mut Vec<Later>) {
        if let Some(id) = id {
            let event = MediaEvent::PlayEnded { id, finished: false };
            later.push(self.report(key.0, key.1, event, now));
        }
    }

    fn start(
        &mut self,
        now: Nanos,
        key: (CallKey, Side),
        id: PlayId,
        utterance: Utterance,
        later: &mut Vec<Later>,
    ) {
        assert!(
            !utterance.prompts.is_empty(),
            "call {} says nothing at all",
            key.0
        );
        let each = 300 * MS + self.rng.below(1500 * MS);
        let length = each * utterance.prompts.len() as u64;
        let (call, side) = key;
        later.push(Later::PlayEnd {
            at: now + length,
            call,
            side,
            id,
        });
        later.push(Later::Heard {
            call,
            side,
            utterance,
            length,
        });
    }

    /// An utterance has reached its end; a report if it was still playing.
    pub fn play_end(&mut self, now: Nanos, key: (CallKey, Side), id: PlayId) -> Option<Later> {
        let stream = self.streams.get_mut(&key)?;
        let slot = [&mut stream.playing, &mut stream.mixing];
        let slot = slot.into_iter().find(|slot| **slot == Some(id))?;
        *slot = None;
        Some(self.report(key.0, key.1, MediaEvent::PlayEnded { id, finished: true }, now))
    }

    /// Nothing arrives from this side any more, since `last`; `None` if it may be silent.
    pub fn silence(&mut self, now: Nanos, key: (CallKey, Side), last: Nanos) -> Option<Later> {
        let stream = self.streams.get_mut(&key)?;
        if !stream.receives || stream.lost {
            return None;
        }
        stream.lost = true;
        let last_packet = Instant::from_nanos(last.max(stream.opened_at));
        Some(self.report(key.0, key.1, MediaEvent::Lost { last_packet }, now))
    }

    /// A telephone-event arrives; a report if it is news.
    ///
    /// # Panics
    /// If more presses are reported than there were.
    pub fn key(&mut self, now: Nanos, packet: &KeyPacket) -> Option<Later> {
        let key = (packet.call, packet.side);
        let stream = self.streams.get_mut(&key)?;
        stream.pressed.insert(packet.time);
        let time = RtpTime::new(packet.time);
        let KeyNews::Pressed(digit) = (stream.keys).read(Instant::from_nanos(now), 1, time, &packet.payload)
        else {
            return None;
        };
        stream.reported += 1;
        assert!(
            stream.reported <= stream.pressed.len(),
            "call {}: one press counts as two digits",
            packet.call
        );
        Some(self.report(key.0, key.1, MediaEvent::Digit(digit), now))
    }

    /// The process is gone, and its sockets with it.
    pub fn forget(&mut self) {
        self.streams.clear();
        self.stock.clear();
        self.last_report.clear();
        (self.opened, self.closed) = (0, 0);
    }

    pub fn sound(&mut self, now: Nanos, key: (CallKey, Side)) -> Option<Later> {
        let stream = self.streams.get_mut(&key)?;
        let event = std::mem::take(&mut stream.lost).then_some(MediaEvent::Back)?;
        Some(self.report(key.0, key.1, event, now))
    }
}

fn receives(direction: Direction) -> bool {
    match direction {
        Direction::SendRecv | Direction::RecvOnly => true,
        Direction::SendOnly | Direction::Inactive => false,
    }
}
