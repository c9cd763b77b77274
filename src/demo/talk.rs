//! The sound side of a demo phone: sends a tone and key presses, keeps what it hears.
//!
//! Written apart from `media::audio` on purpose: what Cardline sends is judged by other code.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::media::codec;
use crate::now::Instant;
use crate::sdp::AudioParams;
use crate::secret::Digit;

use super::recording::Ear;

/// One call's stream at a phone.
#[derive(Debug)]
pub struct Talk {
    audio: AudioParams,
    started: Instant,
    /// Packets sent so far: the n-th is due at `started + n * 20 ms`.
    sent: u64,
    sequence: u16,
    ssrc: u32,
    tone_hz: Option<u32>,
    /// Packets of key presses still to be sent, one per 20 ms in place of the tone.
    keys: std::collections::VecDeque<KeyPacket>,
    /// Timestamp of the key that is being pressed.
    key_timestamp: u32,
    last_heard: Option<(Instant, u16)>,
    /// |interval - 20 ms| between packets that follow one another, in microseconds.
    pub pacing_us: Vec<u64>,
    pub received: u64,
    pub missing: u64,
}

#[derive(Clone, Copy, Debug)]
enum KeyPacket {
    Event {
        digit: Digit,
        first: bool,
        duration: u16,
        end: bool,
    },
    Pause,
}

const PACKET: Duration = Duration::from_millis(20);

impl Talk {
    pub fn new(now: Instant, audio: AudioParams, seed: u64, tone_hz: Option<u32>) -> Talk {
        let bytes = seed.to_le_bytes();
        Talk {
            audio,
            started: now,
            sent: 0,
            sequence: u16::from_le_bytes([bytes[0], bytes[1]]),
            ssrc: u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]),
            tone_hz,
            keys: std::collections::VecDeque::new(),
            key_timestamp: 0,
            last_heard: None,
            pacing_us: Vec::new(),
            received: 0,
            missing: 0,
        }
    }

    /// Presses keys: 100 ms each, 80 ms apart, the last packet of each sent three times (RFC 4733 §2.5.1).
    pub fn press(&mut self, digits: impl Iterator<Item = Digit>) {
        for digit in digits.take(32) {
            for n in 1..=5u16 {
                self.keys.push_back(KeyPacket::Event {
                    digit,
                    first: n == 1,
                    duration: n * 160,
                    end: false,
                });
            }
            for _ in 0..3 {
                self.keys.push_back(KeyPacket::Event {
                    digit,
                    first: false,
                    duration: 800,
                    end: true,
                });
            }
            self.keys.extend([KeyPacket::Pause; 4]);
        }
    }

    pub fn due(&self) -> Instant {
        self.started + PACKET * u32::try_from(self.sent).unwrap_or(u32::MAX)
    }

    /// Sends everything that is due.
    pub fn send_due(&mut self, now: Instant, socket: &UdpSocket) {
        while self.due() <= now {
            let packet = self.next_packet();
            // A refused datagram is a packet lost on the way; RTP has no other answer to it.
            socket.send_to(&packet, self.audio.remote).ok();
            self.sent += 1;
            self.sequence = self.sequence.wrapping_add(1);
        }
    }

    fn next_packet(&mut self) -> Vec<u8> {
        let clock = u32::try_from(self.sent % (1 << 24))
            .unwrap_or(0)
            .wrapping_mul(160);
        let key = self.keys.pop_front();
        let (
            Some(KeyPacket::Event {
                digit,
                first,
                duration,
                end,
            }),
            Some(dtmf),
        ) = (key, self.audio.dtmf)
        else {
            return self.packet(self.audio.send_pt, false, clock, &self.tone());
        };
        if first {
            self.key_timestamp = clock;
        }
        let [high, low] = duration.to_be_bytes();
        let payload = [digit.event(), if end { 0x8a } else { 0x0a }, high, low];
        self.packet(dtmf.send_pt, first, self.key_timestamp, &payload)
    }

    fn packet(&self, payload_type: u8, marker: bool, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x80, payload_type | u8::from(marker) << 7];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn tone(&self) -> Vec<u8> {
        let start = self.sent.wrapping_mul(160);
        (0..160u64)
            .map(|n| codec::encode(self.audio.codec, self.sample(start.wrapping_add(n))))
            .collect()
    }

    fn sample(&self, n: u64) -> i16 {
        let Some(hz) = self.tone_hz else { return 0 };
        let phase = f64::from(u32::try_from(n % 8000).unwrap_or(0)) * f64::from(hz) / 8000.0;
        #[expect(clippy::cast_possible_truncation, reason = "a sine of 4000 fits into i16")]
        let sample = (4000.0 * (phase * std::f64::consts::TAU).sin()) as i16;
        sample
    }

    /// Takes in one datagram at `at_ms` of the recording.
    pub fn hear(&mut self, now: Instant, at_ms: u64, from: SocketAddr, packet: &[u8], ear: &mut Ear) {
        let [first, second, high, low, _, _, _, _, _, _, _, _, payload @ ..] = packet else {
            return;
        };
        if from != self.audio.remote || first >> 6 != 2 || second & 0x7f != self.audio.receive_pt {
            return;
        }
        let sequence = u16::from_be_bytes([*high, *low]);
        if let Some((last, before)) = self.last_heard {
            match sequence.wrapping_sub(before) {
                0 => return,
                1 => {
                    let off = now.since(last).abs_diff(PACKET).as_micros();
                    self.pacing_us.push(u64::try_from(off).unwrap_or(u64::MAX));
                }
                gap @ 2..=100 => self.missing += u64::from(gap) - 1,
                _ => {}
            }
        }
        self.last_heard = Some((now, sequence));
        self.received += 1;
        let samples: Vec<i16> = payload
            .iter()
            .map(|byte| codec::decode(self.audio.codec, *byte))
            .collect();
        ear.put(at_ms, &samples);
    }
}
