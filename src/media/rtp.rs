//! RTP headers (RFC 3550 §5.1): read, build, and numbers that wrap safely.
//!
//! The only file that names rtp-rs. Deliberately absent: header extensions and contributing
//! sources, which are skipped on reading and never written.

use std::time::Duration;

use rtp_rs::{RtpPacketBuilder, RtpReader, Seq};

use crate::now::Instant;

/// Samples per millisecond of every codec of ours.
pub const SAMPLES_PER_MS: u32 = 8;

/// Bytes of the header that is written.
pub const HEADER_LEN: usize = 12;

/// A sequence number; 16 bits, wraps (RFC 3550 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeqNo(u16);

impl SeqNo {
    pub const fn new(value: u16) -> SeqNo {
        SeqNo(value)
    }

    pub const fn get(self) -> u16 {
        self.0
    }

    pub const fn next(self) -> SeqNo {
        SeqNo(self.0.wrapping_add(1))
    }

    pub fn plus(self, steps: u64) -> SeqNo {
        let steps = u16::try_from(steps & u64::from(u16::MAX)).unwrap_or(0);
        SeqNo(self.0.wrapping_add(steps))
    }

    /// Steps forward from `earlier` to this one, modulo 2^16.
    pub const fn steps_after(self, earlier: SeqNo) -> u16 {
        self.0.wrapping_sub(earlier.0)
    }
}

/// An RTP timestamp in samples of 1/8000 s; 32 bits, wraps (RFC 3550 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RtpTime(u32);

impl RtpTime {
    pub const fn new(value: u32) -> RtpTime {
        RtpTime(value)
    }

    pub const fn get(self) -> u32 {
        self.0
    }

    pub const fn plus(self, samples: u32) -> RtpTime {
        RtpTime(self.0.wrapping_add(samples))
    }

    /// Samples from `earlier` to this one; negative if this one is the earlier. Right as long as
    /// the two lie less than 2^31 samples (74 hours) apart.
    pub const fn since(self, earlier: RtpTime) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }

    /// The one that comes later.
    pub const fn later_of(self, other: RtpTime) -> RtpTime {
        if self.since(other) >= 0 { self } else { other }
    }
}

/// A span in samples, rounded down and wrapped to 32 bits.
pub fn samples_in(span: Duration) -> u32 {
    let samples = span.as_nanos() * u128::from(SAMPLES_PER_MS) / 1_000_000;
    u32::try_from(samples & u128::from(u32::MAX)).unwrap_or(0)
}

/// A point of our clock in samples, wrapped; only differences of it mean anything.
pub fn clock_samples(at: Instant) -> u32 {
    samples_in(at.since(Instant::default()))
}

/// A number of samples as a span.
pub fn span_of(samples: u32) -> Duration {
    Duration::from_nanos(u64::from(samples) * 1_000_000 / u64::from(SAMPLES_PER_MS))
}

/// A received packet, its header understood and its payload without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    pub marker: bool,
    /// 0..=127.
    pub payload_type: u8,
    pub seq: SeqNo,
    pub time: RtpTime,
    pub ssrc: u32,
    pub payload: &'a [u8],
}

impl<'a> RtpPacket<'a> {
    /// `None` if this is no RTP of version 2 or is cut short.
    pub fn read(bytes: &'a [u8]) -> Option<RtpPacket<'a>> {
        let reader = RtpReader::new(bytes).ok()?;
        Some(RtpPacket {
            marker: reader.mark(),
            payload_type: reader.payload_type(),
            seq: SeqNo(reader.sequence_number().into()),
            time: RtpTime(reader.timestamp()),
            ssrc: reader.ssrc(),
            payload: reader.payload(),
        })
    }
}

/// Appends a packet without extension, contributing sources or padding.
pub fn write_packet(packet: &RtpPacket<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + HEADER_LEN + packet.payload.len(), 0);
    let builder = RtpPacketBuilder::new()
        .payload_type(packet.payload_type & 0x7f)
        .marked(packet.marker)
        .sequence(Seq::from(packet.seq.0))
        .timestamp(packet.time.0)
        .ssrc(packet.ssrc)
        .payload(packet.payload);
    let written = out
        .get_mut(start..)
        .is_some_and(|target| builder.build_into(target).is_ok());
    debug_assert!(written, "the buffer has just been made large enough");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sequence_numbers_and_timestamps_wrap() {
        assert_eq!(SeqNo::new(0xffff).next(), SeqNo::new(0));
        assert_eq!(SeqNo::new(2).steps_after(SeqNo::new(0xfffe)), 4);
        assert_eq!(RtpTime::new(100).since(RtpTime::new(u32::MAX - 59)), 160);
        assert_eq!(RtpTime::new(u32::MAX - 59).since(RtpTime::new(100)), -160);
        assert_eq!(RtpTime::new(5).later_of(RtpTime::new(u32::MAX)), RtpTime::new(5));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            marker: bool, payload_type in 0u8..128, seq: u16, time: u32, ssrc: u32,
            payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let packet = RtpPacket {
                marker, payload_type, seq: SeqNo::new(seq), time: RtpTime::new(time), ssrc, payload: &payload,
            };
            let mut out = vec![7];
            write_packet(&packet, &mut out);
            prop_assert_eq!(RtpPacket::read(&out[1..]), Some(packet));
        }

        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _seen = RtpPacket::read(&bytes);
        }

        #[test]
        fn distances_survive_any_wrap(start: u32, step in 0i32..i32::MAX) {
            let early = RtpTime::new(start);
            let late = early.plus(step.unsigned_abs());
            prop_assert_eq!(late.since(early), step);
            prop_assert_eq!(early.since(late), -step);
            prop_assert_eq!(early.later_of(late), late);
        }

        #[test]
        fn sequence_steps_survive_any_wrap(start: u16, step: u16) {
            let late = SeqNo::new(start.wrapping_add(step));
            prop_assert_eq!(late.steps_after(SeqNo::new(start)), step);
        }

        #[test]
        fn spans_and_samples_agree(samples in 0u32..1_000_000) {
            prop_assert_eq!(samples_in(span_of(samples)), samples);
        }
    }
}
