//! What comes in on one leg: whom to believe (the latch), and how good the stream is (RFC 3550
//! appendix A.1 sequence validity, A.3 loss, A.8 jitter).
//!
//! The latch, ranks from best to worst: the address of the SDP; the same host with another port
//! (a translator in between); another host, and that only if the SDP names a private address.
//! The SDP address wins with its first valid packet, at any time. Others need
//! [`PROBATION_PACKETS`] consecutive packets of one SSRC over at least [`PROBATION_SPAN`], and only
//! displace a worse rank. So an attacker who speaks first loses to the true party within one
//! packet (reliability.md F5, T8). Only an offer/answer opens the latch again.
//!
//! Deliberately absent: a jitter buffer, since nothing here plays audio; re-latching on silence.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::media::LegStats;
use crate::media::rtp::{self, RtpPacket, RtpTime, SeqNo};
use crate::now::Instant;
use crate::sdp::AudioParams;

/// Comfort noise (RFC 3389).
const COMFORT_NOISE: u8 = 13;
/// Bytes of a payload that can be audio: 5 to 120 ms.
const AUDIO_BYTES: std::ops::RangeInclusive<usize> = 40..=960;
/// Consecutive packets of one SSRC that an address other than the SDP's has to show.
pub const PROBATION_PACKETS: u8 = 5;
/// And the least time they take, so that a burst squeezed between two true packets is none.
pub const PROBATION_SPAN: Duration = Duration::from_millis(60);
/// Consecutive packets that a new SSRC from the latched address has to show.
pub const SSRC_PACKETS: u8 = 3;
/// RFC 3550 A.1.
const MAX_DROPOUT: u16 = 3000;
const MAX_MISORDER: u16 = 100;

/// One leg's receiving half.
#[derive(Debug)]
pub struct Receiver {
    remote: SocketAddr,
    payload_type: u8,
    event_type: Option<u8>,
    latched: Option<SocketAddr>,
    /// The latched address of before an Update that named the same remote; it needs no probation.
    favourite: Option<SocketAddr>,
    candidate: Option<Candidate>,
    stream: Option<Stream>,
    new_ssrc: Option<NewSsrc>,
    /// Counts of streams that a new SSRC has replaced.
    earlier: Totals,
    last_packet: Option<Instant>,
    foreign: u64,
}

/// What was learned about a peer, as a successor of this process needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSnapshot {
    /// Where its packets come from; proved.
    pub latched: Option<SocketAddr>,
    pub favourite: Option<SocketAddr>,
    pub received: u64,
    pub lost: u64,
    pub foreign: u64,
    pub last_packet_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    received: u64,
    lost: u64,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    from: SocketAddr,
    ssrc: u32,
    last_seq: SeqNo,
    seen: u8,
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
struct NewSsrc {
    ssrc: u32,
    last_seq: SeqNo,
    seen: u8,
}

/// What a datagram turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival<'a> {
    Audio {
        ssrc: u32,
        time: RtpTime,
        payload: &'a [u8],
    },
    Event {
        ssrc: u32,
        time: RtpTime,
        payload: &'a [u8],
    },
    /// Comfort noise: the peer lives and says nothing.
    Noise,
    /// Junk, a foreign sender, or one still on probation.
    Rejected,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Audio,
    Event,
    Noise,
}

impl Receiver {
    pub fn new(audio: &AudioParams) -> Receiver {
        Receiver {
            remote: audio.remote,
            payload_type: audio.receive_pt,
            event_type: audio.dtmf.map(|types| types.receive_pt),
            latched: None,
            favourite: None,
            candidate: None,
            stream: None,
            new_ssrc: None,
            earlier: Totals::default(),
            last_packet: None,
            foreign: 0,
        }
    }

    pub fn snapshot(&self) -> PeerSnapshot {
        let stats = self.stats(0);
        PeerSnapshot {
            latched: self.latched,
            favourite: self.favourite,
            received: stats.received,
            lost: stats.lost,
            foreign: stats.foreign,
            last_packet_ns: stats.last_packet.map(Instant::as_nanos),
        }
    }

    /// Knows the peer again. Its first packet begins a new count, so that what came while nobody
    /// listened is not taken for lost on the way.
    pub fn restore(audio: &AudioParams, peer: &PeerSnapshot) -> Receiver {
        Receiver {
            latched: peer.latched,
            favourite: peer.favourite,
            earlier: Totals {
                received: peer.received,
                lost: peer.lost,
            },
            last_packet: peer.last_packet_ns.map(Instant::from_nanos),
            foreign: peer.foreign,
            ..Receiver::new(audio)
        }
    }

    /// Takes over new parameters and opens the latch again. An address that is already proved for
    /// the same remote keeps its place, so that an attacker gains nothing by a re-INVITE.
    pub fn update(&mut self, audio: &AudioParams) {
        if audio.remote != self.remote {
            self.latched = None;
            self.favourite = None;
        } else if self.latched.is_some_and(|latched| latched != self.remote) {
            self.favourite = self.latched.take();
        }
        self.remote = audio.remote;
        self.candidate = None;
        self.payload_type = audio.receive_pt;
        self.event_type = audio.dtmf.map(|types| types.receive_pt);
    }

    /// Where to send: the proved source, before that what the SDP says.
    pub fn destination(&self) -> SocketAddr {
        self.latched.or(self.favourite).unwrap_or(self.remote)
    }

    pub fn last_packet(&self) -> Option<Instant> {
        self.last_packet
    }

    /// Judges a datagram and counts it.
    pub fn accept<'a>(&mut self, now: Instant, from: SocketAddr, bytes: &'a [u8]) -> Arrival<'a> {
        let valid = RtpPacket::read(bytes).and_then(|packet| Some((packet, self.kind_of(&packet)?)));
        let Some((packet, kind)) = valid else {
            // Junk from the peer itself harms nobody and is no stranger's.
            if self.latched.unwrap_or(self.remote) != from {
                self.foreign += 1;
            }
            return Arrival::Rejected;
        };
        if !self.believes(now, from, &packet) {
            self.foreign += 1;
            return Arrival::Rejected;
        }
        if !self.counts(&packet) {
            return Arrival::Rejected;
        }
        self.last_packet = Some(now);
        let RtpPacket {
            ssrc, time, payload, ..
        } = packet;
        match kind {
            Kind::Audio => {
                if let Some(stream) = &mut self.stream {
                    stream.measure_jitter(now, time);
                }
                Arrival::Audio { ssrc, time, payload }
            }
            Kind::Event => Arrival::Event { ssrc, time, payload },
            Kind::Noise => Arrival::Noise,
        }
    }

    /// Whether an RTCP packet from this address can be the peer's.
    pub fn trusts_host(&self, host: IpAddr, remote_rtcp: SocketAddr) -> bool {
        self.destination().ip() == host || remote_rtcp.ip() == host
    }

    /// Notes RTCP of the peer, which is a sign of life.
    pub fn note_rtcp(&mut self, now: Instant) {
        self.last_packet = Some(now);
    }

    pub fn stats(&self, sent: u64) -> LegStats {
        let stream = self.stream.as_ref().map(Stream::totals).unwrap_or_default();
        LegStats {
            received: self.earlier.received + stream.received,
            lost: self.earlier.lost + stream.lost,
            sent,
            jitter_us: self.stream.as_ref().map_or(0, Stream::jitter_us),
            last_packet: self.last_packet,
            foreign: self.foreign,
        }
    }

    /// The reception report's numbers about the present stream; advances its interval.
    pub fn report(&mut self) -> Option<Reception> {
        self.stream.as_mut().map(Stream::report)
    }

    fn kind_of(&self, packet: &RtpPacket<'_>) -> Option<Kind> {
        if packet.payload_type == self.payload_type {
            AUDIO_BYTES.contains(&packet.payload.len()).then_some(Kind::Audio)
        } else if Some(packet.payload_type) == self.event_type {
            (packet.payload.len() >= 4).then_some(Kind::Event)
        } else {
            (packet.payload_type == COMFORT_NOISE).then_some(Kind::Noise)
        }
    }

    /// The latch: whether `from` is the peer, by now.
    fn believes(&mut self, now: Instant, from: SocketAddr, packet: &RtpPacket<'_>) -> bool {
        if self.latched == Some(from) {
            self.candidate = None;
            return true;
        }
        if from == self.remote || self.favourite == Some(from) {
            self.latch_to(from);
            return true;
        }
        let Some(rank) = self.rank(from) else {
            return false;
        };
        let held = self.latched.and_then(|latched| self.rank(latched));
        if held.is_some_and(|held| held <= rank) || !self.on_probation(now, from, packet) {
            return false;
        }
        self.latch_to(from);
        true
    }

    fn latch_to(&mut self, from: SocketAddr) {
        self.latched = Some(from);
        self.favourite = None;
        self.candidate = None;
        // Another sender is another stream, whatever its SSRC; it needs no second probation.
        self.close_stream();
    }

    /// 0 is the SDP's own address; `None` is never believed.
    fn rank(&self, from: SocketAddr) -> Option<u8> {
        if from == self.remote {
            Some(0)
        } else if from.ip() == self.remote.ip() {
            Some(1)
        } else {
            is_private(self.remote.ip()).then_some(2)
        }
    }

    fn on_probation(&mut self, now: Instant, from: SocketAddr, packet: &RtpPacket<'_>) -> bool {
        let follows = self.candidate.filter(|candidate| {
            candidate.from == from && candidate.ssrc == packet.ssrc && candidate.last_seq.next() == packet.seq
        });
        let seen = follows.map_or(1, |candidate| candidate.seen.saturating_add(1));
        let since = follows.map_or(now, |candidate| candidate.since);
        self.candidate = Some(Candidate {
            from,
            ssrc: packet.ssrc,
            last_seq: packet.seq,
            seen,
            since,
        });
        seen >= PROBATION_PACKETS && now.since(since) >= PROBATION_SPAN
    }

    /// Sequence validity, and the probation of a new SSRC from the latched address.
    fn counts(&mut self, packet: &RtpPacket<'_>) -> bool {
        let Some(stream) = &mut self.stream else {
            self.stream = Some(Stream::new(packet));
            return true;
        };
        if stream.ssrc == packet.ssrc {
            self.new_ssrc = None;
            return stream.update_seq(packet.seq);
        }
        let follows = self
            .new_ssrc
            .filter(|new| new.ssrc == packet.ssrc && new.last_seq.next() == packet.seq);
        let seen = follows.map_or(1, |new| new.seen.saturating_add(1));
        self.new_ssrc = Some(NewSsrc {
            ssrc: packet.ssrc,
            last_seq: packet.seq,
            seen,
        });
        if seen < SSRC_PACKETS {
            return false;
        }
        self.close_stream();
        self.stream = Some(Stream::new(packet));
        true
    }

    fn close_stream(&mut self) {
        if let Some(stream) = self.stream.take() {
            let totals = stream.totals();
            self.earlier.received += totals.received;
            self.earlier.lost += totals.lost;
        }
        self.new_ssrc = None;
    }
}

/// An address that cannot be reached from outside its own network, so that what it names in SDP
/// may arrive from elsewhere (RFC 1918, RFC 6598, RFC 4193, link-local).
fn is_private(host: IpAddr) -> bool {
    match host {
        IpAddr::V4(host) => {
            let [a, b, ..] = host.octets();
            host.is_private() || host.is_link_local() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(host) => host.is_unique_local() || host.is_unicast_link_local(),
    }
}

/// One SSRC's reception state (RFC 3550 A.1).
#[derive(Debug)]
struct Stream {
    ssrc: u32,
    max_seq: SeqNo,
    cycles: u64,
    base_seq: u64,
    /// The sequence number that would confirm a jump; `None` outside one.
    bad_seq: Option<SeqNo>,
    received: u64,
    /// Lost and received before the last jump of the sequence numbers.
    before_jump: Totals,
    expected_prior: u64,
    received_prior: u64,
    transit: Option<u32>,
    /// Sixteenths of a sample (RFC 3550 A.8).
    jitter: u32,
}

/// The numbers of a reception report block (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reception {
    pub ssrc: u32,
    /// Lost since the last report, in 256ths.
    pub fraction_lost: u8,
    pub lost: u64,
    /// Highest sequence number with its cycles.
    pub highest_seq: u32,
    /// Samples.
    pub jitter: u32,
}

impl Stream {
    fn new(packet: &RtpPacket<'_>) -> Stream {
        Stream {
            ssrc: packet.ssrc,
            max_seq: packet.seq,
            cycles: 0,
            base_seq: u64::from(packet.seq.get()),
            bad_seq: None,
            received: 1,
            before_jump: Totals::default(),
            expected_prior: 0,
            received_prior: 0,
            transit: None,
            jitter: 0,
        }
    }

    /// RFC 3550 A.1 `update_seq`; `false` for a packet that belongs to no run yet.
    fn update_seq(&mut self, seq: SeqNo) -> bool {
        let step = seq.steps_after(self.max_seq);
        if step < MAX_DROPOUT {
            if seq.get() < self.max_seq.get() {
                self.cycles += 1 << 16;
            }
            self.max_seq = seq;
            self.bad_seq = None;
        } else if step <= u16::MAX - MAX_MISORDER {
            if self.bad_seq != Some(seq) {
                self.bad_seq = Some(seq.next());
                return false;
            }
            // Two in a row: the sender restarted its numbers without telling.
            self.before_jump = self.totals();
            self.max_seq = seq;
            self.cycles = 0;
            self.base_seq = u64::from(seq.get());
            self.bad_seq = None;
            self.received = 0;
            self.expected_prior = 0;
            self.received_prior = 0;
        }
        // Otherwise a repeat or a late packet, which counts as received.
        self.received += 1;
        true
    }

    fn measure_jitter(&mut self, now: Instant, time: RtpTime) {
        let transit = rtp::clock_samples(now).wrapping_sub(time.get());
        if let Some(before) = self.transit {
            let change = transit.wrapping_sub(before).cast_signed().unsigned_abs();
            // A jump of the sender's timestamps is no jitter.
            if change < rtp::SAMPLES_PER_MS * 10_000 {
                self.jitter = self.jitter + change - ((self.jitter + 8) >> 4);
            }
        }
        self.transit = Some(transit);
    }

    fn expected(&self) -> u64 {
        (self.cycles + u64::from(self.max_seq.get()) + 1).saturating_sub(self.base_seq)
    }

    fn totals(&self) -> Totals {
        Totals {
            received: self.before_jump.received + self.received,
            lost: self.before_jump.lost + self.expected().saturating_sub(self.received),
        }
    }

    fn jitter_us(&self) -> u32 {
        u32::try_from(u64::from(self.jitter >> 4) * 1000 / u64::from(rtp::SAMPLES_PER_MS)).unwrap_or(u32::MAX)
    }

    fn report(&mut self) -> Reception {
        let expected = self.expected();
        let expected_now = expected.saturating_sub(self.expected_prior);
        let received_now = self.received.saturating_sub(self.received_prior);
        self.expected_prior = expected;
        self.received_prior = self.received;
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction = (lost_now << 8).checked_div(expected_now).unwrap_or(0);
        let highest = self.cycles + u64::from(self.max_seq.get());
        Reception {
            ssrc: self.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            lost: self.totals().lost,
            highest_seq: u32::try_from(highest & u64::from(u32::MAX)).unwrap_or(0),
            jitter: self.jitter >> 4,
        }
    }
}

#[cfg(test)]
#[path = "receiver_tests.rs"]
mod tests;
