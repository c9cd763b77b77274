//! One leg's unbroken line: a single SSRC, sequence numbers that rise by one per packet, and
//! timestamps that never go back, across prompts, ringback, relay, mixing and hold.
//!
//! Two ways lead onto the line. *Scheduled* frames: the n-th one is due at start + n frames,
//! computed from the anchor and not from the one before, so nothing adds up over an hour. *Relayed*
//! packets: stamped with the other side's own spacing, shifted onto our line.
//!
//! ```text
//!  scheduled  |s0 |s1 |s2 |                         |s9 |        due on the schedule
//!  relayed                 |r0 |r1 |r2 |   lost |        |r7 |   at once, as they come
//!  timestamp   0   160 320  480 640 800             1440  1600
//! ```
//!
//! Deliberately absent: joining short packets to longer ones. The relay splits what is longer than
//! our frame and passes shorter packets as they come.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::media::rtp::{self, RtpPacket, RtpTime, SeqNo};
use crate::now::{IdSource, Instant};

/// A wake-up later than this many frames drops the schedule's arrears but for so many frames.
const CATCH_UP_FRAMES: u64 = 3;
/// A relayed packet this far behind our clock, though nothing overlaps it, is anchored anew: the
/// peer's clock is slow. Samples; 200 ms.
const BEHIND_LIMIT: i32 = 1_600;
/// How far the line may run ahead of our clock before a relayed packet is dropped: a peer with a
/// fast clock loses one packet now and then, a flood loses all that is too much. Samples; 200 ms.
const AHEAD_LIMIT: i32 = 1_600;
/// Timestamps further off than these are a new line of the source. Samples; 400 ms and 10 s.
const JUMP_AHEAD: i32 = 3_200;
const JUMP_BACK: i32 = 80_000;
/// A packet after a pause may be put behind the frames that filled it, if it comes at most this much
/// too late for its own place; the sides get no further out of step. Samples; 60 ms.
const FILL_OVERLAP: i32 = 480;
/// A source that has been late for so long has a longer path now.
const LATE_LIMIT: Duration = Duration::from_millis(100);
/// Samples of the shortest audio packet; 5 ms.
const FRAME_LEAST: u32 = 40;
/// More sequence numbers than a successor of this process passes over for the time since the
/// snapshot, and every tenth of those: packets come in bursts.
const SPARE_STEPS: u64 = 5;
/// No call goes on after longer than this; sequence numbers wrap after so many steps and twice that.
const MOST_STEPS: u64 = 30_000;

/// See the module.
#[derive(Debug)]
pub struct Sender {
    ssrc: u32,
    next_seq: SeqNo,
    /// Slot 0 of the schedule, on our clock and on the line.
    anchor: Instant,
    anchor_time: RtpTime,
    frame_ms: u32,
    next_slot: u64,
    /// The first sample after everything that was sent.
    end: RtpTime,
    relay: Option<RelayMap>,
    /// The next packet begins a spurt and carries the marker bit (RFC 3551 §4.1).
    mark: bool,
    /// Samples of the shortest packet of the relayed source, a frame at most.
    shortest: u32,
    packets: u64,
    octets: u64,
}

/// A line as a successor of this process takes it up; see [`Sender::restore`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineSnapshot {
    pub ssrc: u32,
    pub next_seq: u16,
    pub anchor_ns: u64,
    pub anchor_time: u32,
    pub frame_ms: u32,
    pub end: u32,
    /// SSRC and offset of the relayed source.
    pub relay: Option<(u32, u32)>,
    pub shortest: u32,
    pub packets: u64,
    pub octets: u64,
}

/// How the other side's timestamps lie on our line.
#[derive(Clone, Copy, Debug)]
struct RelayMap {
    ssrc: u32,
    offset: u32,
    /// Scheduled frames went out since the last relayed packet.
    filled: bool,
    /// Every packet since then came too late.
    late_since: Option<Instant>,
}

/// What an RTCP sender report tells of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineCounts {
    pub packets: u64,
    pub octets: u64,
}

impl Sender {
    /// Starts the line at `now` with random SSRC, sequence and timestamp (RFC 3550 §5.1). `frame_ms`
    /// is 5..=20.
    pub fn new(now: Instant, frame_ms: u32, ids: &mut IdSource) -> Sender {
        let [_, _, high, low] = ids.next_u32().to_be_bytes();
        let start = RtpTime::new(ids.next_u32());
        Sender {
            ssrc: ids.next_u32(),
            next_seq: SeqNo::new(u16::from_be_bytes([high, low])),
            anchor: now,
            anchor_time: start,
            frame_ms,
            next_slot: 0,
            end: start,
            relay: None,
            mark: true,
            shortest: frame_ms * rtp::SAMPLES_PER_MS,
            packets: 0,
            octets: 0,
        }
    }

    pub fn snapshot(&self) -> LineSnapshot {
        LineSnapshot {
            ssrc: self.ssrc,
            next_seq: self.next_seq.get(),
            anchor_ns: self.anchor.as_nanos(),
            anchor_time: self.anchor_time.get(),
            frame_ms: self.frame_ms,
            end: self.end.get(),
            relay: self.relay.map(|relay| (relay.ssrc, relay.offset)),
            shortest: self.shortest,
            packets: self.packets,
            octets: self.octets,
        }
    }

    /// Takes a line up that was saved at `saved`, on the same clock. What was sent since then is not
    /// known: the sequence jumps over as many packets as can have been, and the timestamps go on
    /// with the clock, so that the peer sees a gap on the line it knows, and nothing twice.
    pub fn restore(now: Instant, saved: Instant, line: &LineSnapshot) -> Sender {
        let frame_ms = line.frame_ms.clamp(5, 20);
        let passed = now.since(saved);
        let shortest = line.shortest.clamp(FRAME_LEAST, frame_ms * rtp::SAMPLES_PER_MS);
        let step = rtp::span_of(shortest).as_nanos().max(1);
        let steps = u64::try_from(passed.as_nanos() / step).unwrap_or(MOST_STEPS);
        let steps = (steps + steps / 10 + SPARE_STEPS).min(MOST_STEPS);
        let anchor = Instant::from_nanos(line.anchor_ns);
        let anchor_time = RtpTime::new(line.anchor_time);
        let clock = anchor_time.plus(rtp::samples_in(now.since(anchor)));
        // A source with a fast clock may have run ahead of ours.
        let run_on = rtp::samples_in(passed).wrapping_sub(FILL_OVERLAP.unsigned_abs());
        let end = RtpTime::new(line.end);
        let mut sender = Sender {
            ssrc: line.ssrc,
            next_seq: SeqNo::new(line.next_seq).plus(steps),
            anchor,
            anchor_time,
            frame_ms,
            next_slot: 0,
            end: end.later_of(end.plus(run_on)).later_of(clock),
            relay: line.relay.map(|(ssrc, offset)| RelayMap {
                ssrc,
                offset,
                filled: true,
                late_since: None,
            }),
            mark: true,
            shortest,
            packets: line.packets.saturating_add(steps),
            octets: line.octets.saturating_add(steps.saturating_mul(shortest.into())),
        };
        sender.resume(now);
        sender
    }

    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    pub fn counts(&self) -> LineCounts {
        LineCounts {
            packets: self.packets,
            octets: self.octets,
        }
    }

    /// Samples of the shortest packet that is to be reckoned with.
    pub fn shortest(&self) -> u32 {
        self.shortest
    }

    /// Samples of one scheduled frame.
    pub fn frame_samples(&self) -> u32 {
        self.frame_ms * rtp::SAMPLES_PER_MS
    }

    /// When the next scheduled frame is due.
    pub fn due(&self) -> Instant {
        self.slot_at(self.next_slot)
    }

    /// Where our clock stands on the line.
    pub fn time_at(&self, now: Instant) -> RtpTime {
        self.anchor_time.plus(rtp::samples_in(now.since(self.anchor)))
    }

    /// Changes the frame length from the next frame on.
    pub fn set_frame_ms(&mut self, frame_ms: u32) {
        if frame_ms == self.frame_ms {
            return;
        }
        let due = self.due();
        self.anchor_time = self.time_at(due);
        self.anchor = due;
        self.next_slot = 0;
        self.frame_ms = frame_ms;
    }

    /// Takes the schedule up again after a time without it: the next frame is the first one due
    /// at `now` or later.
    pub fn resume(&mut self, now: Instant) {
        let frame = self.frame().as_nanos();
        let slots = now.since(self.anchor).as_nanos().div_ceil(frame);
        self.next_slot = u64::try_from(slots).unwrap_or(u64::MAX).max(self.next_slot);
    }

    /// The timestamp of the frame that is due, or `None` if none is. Called until `None`; what is
    /// long overdue is left out, and the timestamps show the gap.
    pub fn take_slot(&mut self, now: Instant) -> Option<RtpTime> {
        if self.due() > now {
            return None;
        }
        let frame = self.frame().as_nanos();
        let newest = u64::try_from(now.since(self.anchor).as_nanos() / frame).unwrap_or(u64::MAX);
        if newest - self.next_slot >= CATCH_UP_FRAMES {
            self.next_slot = newest + 1 - CATCH_UP_FRAMES;
        }
        let time = self.time_at(self.due()).later_of(self.end);
        self.next_slot += 1;
        if let Some(relay) = &mut self.relay {
            relay.filled = true;
        }
        Some(time)
    }

    /// Places a packet of the other side on the line; `None` if it is of no use: a repeat, too late
    /// (its time went out as silence or as the packets after it), or too far ahead.
    ///
    /// The spacing of the source is kept. It is anchored anew, at our clock, when the source
    /// changes, when its timestamps jump, when scheduled frames have filled a pause and the packet
    /// would overlap them by no more than 60 ms, and when it has been late for
    /// [`LATE_LIMIT`] without a break (a burst after a stall never is, a longer path always).
    pub fn place_relayed(&mut self, now: Instant, ssrc: u32, time: RtpTime, samples: u32) -> Option<RtpTime> {
        let clock = self.time_at(now);
        let Some(relay) = self.relay.filter(|relay| relay.ssrc == ssrc) else {
            return Some(self.anchor_relay(ssrc, time, clock));
        };
        let placed = time.plus(relay.offset);
        let ahead = placed.since(clock);
        let line_ahead = self.end.since(clock);
        if !(-JUMP_BACK..=JUMP_AHEAD).contains(&ahead) {
            return (line_ahead <= AHEAD_LIMIT).then(|| self.anchor_relay(ssrc, time, clock));
        }
        if ahead > AHEAD_LIMIT {
            let offset = relay.offset.wrapping_sub(samples);
            self.relay = Some(RelayMap { offset, ..relay });
            return None;
        }
        let overlap = self.end.since(placed);
        if overlap <= 0 && ahead >= -BEHIND_LIMIT {
            self.relay = Some(RelayMap {
                filled: false,
                late_since: None,
                ..relay
            });
            return Some(placed);
        }
        let touches_fill = relay.filled && overlap <= FILL_OVERLAP;
        let late_since = relay.late_since.unwrap_or(now);
        if overlap <= 0 || touches_fill || now.since(late_since) >= LATE_LIMIT {
            return Some(self.anchor_relay(ssrc, time, clock));
        }
        self.relay = Some(RelayMap {
            late_since: Some(late_since),
            ..relay
        });
        None
    }

    fn anchor_relay(&mut self, ssrc: u32, time: RtpTime, clock: RtpTime) -> RtpTime {
        let placed = clock.later_of(self.end);
        let offset = placed.get().wrapping_sub(time.get());
        if self.relay.is_none_or(|before| before.ssrc != ssrc) {
            self.shortest = self.frame_samples();
        }
        self.relay = Some(RelayMap {
            ssrc,
            offset,
            filled: false,
            late_since: None,
        });
        self.mark = true;
        placed
    }

    /// Forgets how the other side lay on the line; the next relayed packet is anchored anew.
    pub fn part(&mut self) {
        self.relay = None;
    }

    /// Appends an audio packet; `time` comes from [`Sender::take_slot`] or [`Sender::place_relayed`],
    /// and a byte of `payload` is a sample.
    pub fn write_audio(&mut self, payload_type: u8, time: RtpTime, payload: &[u8], out: &mut Vec<u8>) {
        let marker = std::mem::take(&mut self.mark);
        self.write(marker, payload_type, time, payload, out);
        let samples = u32::try_from(payload.len()).unwrap_or(0);
        self.end = self.end.later_of(time.plus(samples));
        self.shortest = self.shortest.min(samples);
    }

    /// Appends a telephone-event packet (RFC 4733 §2.5); `time` is the start of the event.
    pub fn write_event(
        &mut self,
        marker: bool,
        payload_type: u8,
        time: RtpTime,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) {
        self.write(marker, payload_type, time, payload, out);
        self.end = self.end.later_of(time);
    }

    /// Where an event that begins now stands on the line.
    pub fn event_start(&self, now: Instant) -> RtpTime {
        self.time_at(now).later_of(self.end)
    }

    /// Closes the span of an event, so that what follows does not overlap it.
    pub fn end_event(&mut self, start: RtpTime, samples: u32) {
        self.end = self.end.later_of(start.plus(samples));
        self.mark = true;
    }

    fn write(&mut self, marker: bool, payload_type: u8, time: RtpTime, payload: &[u8], out: &mut Vec<u8>) {
        let seq = self.next_seq;
        let ssrc = self.ssrc;
        rtp::write_packet(
            &RtpPacket {
                marker,
                payload_type,
                seq,
                time,
                ssrc,
                payload,
            },
            out,
        );
        self.next_seq = seq.next();
        self.packets += 1;
        self.octets += u64::try_from(payload.len()).unwrap_or(0);
    }

    fn frame(&self) -> Duration {
        Duration::from_millis(u64::from(self.frame_ms))
    }

    fn slot_at(&self, slot: u64) -> Instant {
        self.anchor + Duration::from_millis(slot.saturating_mul(u64::from(self.frame_ms)))
    }
}

#[cfg(test)]
#[path = "sender_tests.rs"]
mod tests;
