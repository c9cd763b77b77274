//! The bench: two phones' addresses, a bank, a clock, and the rules that hold for every line.

use std::net::SocketAddr;
use std::time::Duration;

use crate::ids::{CallKey, PlayId, Side};
use crate::media::audio::snapshot::AudioSnapshot;
use crate::media::audio::{AudioInput, AudioOut, AudioOutput, CallAudio};
use crate::media::bank::PromptBank;
use crate::media::codec;
use crate::media::rtp::{RtpPacket, RtpTime, SeqNo, write_packet};
use crate::media::{
    Duck, MediaCommand, MediaEvent, MediaLimits, MediaPort, PortId, PromptId, PromptSetId, Utterance,
};
use crate::now::{IdSource, Instant};
use crate::sdp::{AudioParams, Codec, Direction, DtmfTypes};

pub const SET: PromptSetId = PromptSetId(0);

/// One packet that left on a side.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at: Instant,
    pub to: SocketAddr,
    pub marker: bool,
    pub payload_type: u8,
    pub seq: SeqNo,
    pub time: RtpTime,
    pub ssrc: u32,
    pub payload: Vec<u8>,
}

pub struct Bench {
    pub audio: CallAudio,
    pub bank: PromptBank,
    pub now: Instant,
    pub sent: Vec<(Side, Sent)>,
    pub rtcp: Vec<(Side, SocketAddr, Vec<u8>)>,
    pub events: Vec<(Side, Instant, MediaEvent)>,
    pub released: Vec<MediaPort>,
    pub kept: Vec<AudioSnapshot>,
    out: AudioOut,
}

/// The phone of a side, as an RTP source.
pub struct Phone {
    pub side: Side,
    pub from: SocketAddr,
    pub ssrc: u32,
    pub seq: u16,
    pub time: u32,
    pub payload_type: u8,
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn remote(side: Side) -> SocketAddr {
    address(match side {
        Side::A => "198.51.100.1:4000",
        Side::B => "198.51.100.2:5000",
    })
}

pub fn params(side: Side, codec: Codec) -> AudioParams {
    let payload_type = codec::row(codec).payload_type;
    let dtmf = match side {
        Side::A => DtmfTypes {
            send_pt: 101,
            receive_pt: 101,
        },
        Side::B => DtmfTypes {
            send_pt: 96,
            receive_pt: 97,
        },
    };
    let mut remote_rtcp = remote(side);
    remote_rtcp.set_port(remote_rtcp.port() + 1);
    AudioParams {
        codec,
        send_pt: payload_type,
        receive_pt: payload_type,
        dtmf: Some(dtmf),
        remote: remote(side),
        remote_rtcp,
        direction: Direction::SendRecv,
        ptime_ms: 20,
    }
}

pub fn prompt(name: &'static str) -> Utterance {
    Utterance {
        set: SET,
        prompts: vec![PromptId::fixed(name)],
    }
}

pub fn port(side: Side) -> MediaPort {
    match side {
        Side::A => MediaPort {
            id: PortId(1),
            rtp: address("127.0.0.1:20000"),
        },
        Side::B => MediaPort {
            id: PortId(2),
            rtp: address("127.0.0.1:20002"),
        },
    }
}

impl Bench {
    pub fn new() -> Bench {
        let mut builder = PromptBank::builder();
        builder.name_set(SET, "de");
        let loud: Vec<i16> = (0..8_000)
            .map(|n| if n % 2 == 0 { 8_000 } else { -8_000 })
            .collect();
        builder.add(SET, PromptId::fixed("second"), &loud);
        builder.add(SET, PromptId::fixed("short"), &loud[..500]);
        let limits = MediaLimits {
            rtp_lost: Duration::from_secs(20),
        };
        Bench {
            audio: CallAudio::new(CallKey::new(7), limits, IdSource::from_number(1)),
            bank: builder.build(),
            now: Instant::from_nanos(5_000_000_000),
            sent: Vec::new(),
            rtcp: Vec::new(),
            events: Vec::new(),
            released: Vec::new(),
            kept: Vec::new(),
            out: AudioOut::new(),
        }
    }

    /// Both legs open, A in A-law, B in `codec`.
    pub fn opened(codec: Codec) -> Bench {
        let mut bench = Bench::new();
        bench.open(Side::A, params(Side::A, Codec::Pcma));
        bench.open(Side::B, params(Side::B, codec));
        bench
    }

    pub fn open(&mut self, side: Side, audio: AudioParams) {
        self.order(
            side,
            &MediaCommand::Open {
                port: port(side),
                audio,
            },
        );
    }

    pub fn order(&mut self, side: Side, command: &MediaCommand) {
        self.feed(AudioInput::Order { side, command });
    }

    pub fn play(&mut self, side: Side, id: u32, name: &'static str) {
        self.order(
            side,
            &MediaCommand::Play {
                id: PlayId(id),
                utterance: prompt(name),
            },
        );
    }

    pub fn mix(&mut self, side: Side, id: u32, name: &'static str, duck: Duck) {
        self.order(
            side,
            &MediaCommand::Mix {
                id: PlayId(id),
                utterance: prompt(name),
                duck,
            },
        );
    }

    pub fn feed(&mut self, input: AudioInput<'_>) {
        self.audio.handle(self.now, input, &self.bank, &mut self.out);
        let at = self.now;
        for item in self.out.items() {
            match item {
                AudioOutput::SendRtp { side, to, packet } => {
                    let packet = RtpPacket::read(self.out.bytes(packet)).unwrap();
                    let RtpPacket {
                        marker,
                        payload_type,
                        seq,
                        time,
                        ssrc,
                        payload,
                    } = packet;
                    let payload = payload.to_vec();
                    let sent = Sent {
                        at,
                        to: *to,
                        marker,
                        payload_type,
                        seq,
                        time,
                        ssrc,
                        payload,
                    };
                    self.sent.push((*side, sent));
                }
                AudioOutput::SendRtcp { side, to, packet } => {
                    self.rtcp.push((*side, *to, self.out.bytes(packet).to_vec()));
                }
                AudioOutput::Report(report) => self.events.push((report.side, at, report.event.clone())),
                AudioOutput::Release(port) => self.released.push(*port),
                AudioOutput::Keep(snapshot) => self.kept.push(snapshot.as_ref().clone()),
            }
        }
        self.out.clear();
        if let Some((due, _)) = self.audio.next_timeout() {
            assert!(
                self.now - Duration::from_secs(1) < due,
                "a deadline is left behind"
            );
        }
    }

    /// Lets the time pass, waking up exactly when asked for.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some((due, _)) = self.audio.next_timeout().filter(|(due, _)| *due <= end) {
            self.now = self.now.max(due);
            self.feed(AudioInput::Timeout);
        }
        self.now = end;
    }

    pub fn pass_ms(&mut self, ms: u64) {
        self.pass(Duration::from_millis(ms));
    }

    pub fn rtp(&mut self, side: Side, from: SocketAddr, bytes: &[u8]) {
        self.feed(AudioInput::Rtp { side, from, bytes });
    }

    /// `count` packets of 20 ms from `phone`, 20 ms apart, each followed by its 20 ms.
    pub fn talk(&mut self, phone: &mut Phone, byte: u8, count: usize) {
        for _ in 0..count {
            phone.speak(self, &[byte; 160]);
            self.pass_ms(20);
        }
    }

    pub fn line(&self, side: Side) -> Vec<&Sent> {
        self.sent
            .iter()
            .filter(|(of, _)| *of == side)
            .map(|(_, sent)| sent)
            .collect()
    }

    pub fn events_of(&self, side: Side) -> Vec<&MediaEvent> {
        self.events
            .iter()
            .filter(|(of, ..)| *of == side)
            .map(|(_, _, event)| event)
            .collect()
    }

    /// What holds for every line: one SSRC, sequence numbers without a step left out, timestamps
    /// that never overlap or go back, and never far from the time that has passed.
    pub fn check_line(&self, side: Side) {
        let line = self.line(side);
        let first = line.first().expect("something was sent");
        let mut end = first.time;
        let mut event_start = None;
        for (n, sent) in line.iter().enumerate() {
            assert_eq!(sent.ssrc, first.ssrc, "packet {n}");
            assert_eq!(
                usize::from(sent.seq.steps_after(first.seq)),
                n % 65_536,
                "packet {n}"
            );
            let is_event = sent.payload_type >= 96;
            if is_event && event_start == Some(sent.time) {
                let duration = u16::from_be_bytes([sent.payload[2], sent.payload[3]]);
                end = end.later_of(sent.time.plus(u32::from(duration)));
                continue;
            }
            assert!(
                sent.time.since(end) >= 0,
                "packet {n} overlaps by {}",
                end.since(sent.time)
            );
            event_start = is_event.then_some(sent.time);
            let samples = if is_event {
                160
            } else {
                u32::try_from(sent.payload.len()).unwrap()
            };
            end = sent.time.plus(samples);
            let passed = i64::try_from(sent.at.since(first.at).as_nanos() / 125_000).unwrap();
            let stamped = i64::from(sent.time.since(first.time));
            assert!(
                (stamped - passed).abs() <= 1_760,
                "packet {n}: {stamped} samples after {passed}"
            );
        }
    }

    /// The longest time without a packet on the line.
    pub fn longest_gap(&self, side: Side) -> Duration {
        let line = self.line(side);
        let gaps = line.windows(2).map(|pair| pair[1].at.since(pair[0].at));
        gaps.max().unwrap_or_default()
    }
}

impl Phone {
    pub fn new(side: Side, codec: Codec) -> Phone {
        Phone {
            side,
            from: remote(side),
            ssrc: 0x1000 + u32::from(side == Side::B),
            seq: 65_530,
            time: u32::MAX - 400,
            payload_type: codec::row(codec).payload_type,
        }
    }

    pub fn packet(&mut self, payload_type: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (seq, time, ssrc) = (SeqNo::new(self.seq), RtpTime::new(self.time), self.ssrc);
        write_packet(
            &RtpPacket {
                marker: false,
                payload_type,
                seq,
                time,
                ssrc,
                payload,
            },
            &mut bytes,
        );
        self.seq = self.seq.wrapping_add(1);
        bytes
    }

    /// Sends audio and moves the phone's clock on by its length.
    pub fn speak(&mut self, bench: &mut Bench, payload: &[u8]) {
        let bytes = self.packet(self.payload_type, payload);
        self.time = self.time.wrapping_add(u32::try_from(payload.len()).unwrap());
        bench.rtp(self.side, self.from, &bytes);
    }

    /// A packet that is lost on its way.
    pub fn lose(&mut self, samples: u32) {
        self.seq = self.seq.wrapping_add(1);
        self.time = self.time.wrapping_add(samples);
    }
}
