//! Media as machines: one [`audio::CallAudio`] per call, driven by packets and 20 ms ticks.
//!
//! This file is the whole alphabet that control and media planes share. RTP never passes the
//! switch; the switch never touches an audio sample.

#![deny(clippy::indexing_slicing)]
#![cfg_attr(
    test,
    expect(clippy::indexing_slicing, reason = "tests index what they have just laid out")
)]

pub mod rtp;
pub mod codec;
pub mod tone;
pub mod bank;
pub mod sender;
pub mod receiver;
pub mod dtmf;
pub mod rtcp;
pub mod audio;

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::ids::{CallKey, PlayId, Side};
use crate::now::Instant;
use crate::sdp::AudioParams;
use crate::secret::Digit;

/// The name of one prompt, such as `pin_enter` or `rest_012`; a WAV file per language.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PromptId(Cow<'static, str>);

impl PromptId {
    pub const fn fixed(name: &'static str) -> PromptId {
        PromptId(Cow::Borrowed(name))
    }

    pub fn named(name: String) -> PromptId {
        PromptId(Cow::Owned(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PromptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A prompt set's place in the loaded bank (one per language, later per project).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PromptSetId(pub u16);

/// An ordered list of prompts, spoken without a gap on one RTP clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Utterance {
    pub set: PromptSetId,
    pub prompts: Vec<PromptId>,
}

/// A UDP socket pair (RTP and RTCP) that the driver bound ahead, so that the 200 never names a dead port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u32);

/// See [`PortId`]. `rtp` is the address to advertise; RTCP is the next port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaPort {
    pub id: PortId,
    pub rtp: SocketAddr,
}

/// What a call orders from the media plane. Orders for one call are carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaCommand {
    /// Starts a leg: silence flows at once (if the direction lets us send) until something else is ordered.
    Open { port: MediaPort, audio: AudioParams },
    /// After a re-INVITE or a late answer: new remote, direction, payload types; the latch opens
    /// again; SSRC, sequence and timestamp go on unbroken.
    Update { audio: AudioParams },
    /// Plays to this leg; replaces whatever it was playing (barge-in). Ends with `PlayEnded`, once,
    /// also when it was replaced or stopped (`finished: false`).
    Play { id: PlayId, utterance: Utterance },
    /// German ringback, 425 Hz 1 s on 4 s off, until replaced by another order.
    Ringback,
    /// Back to silence.
    Silence,
    /// Joins this leg with the other one of the call: packets are relayed both ways; on A also
    /// digits, as telephone-events at B's payload type. Given once, on either side.
    Bridge,
    /// Parts them again; both send silence.
    Unbridge,
    /// Sums an utterance or tone into what this leg hears, over the relayed talk.
    Mix {
        id: PlayId,
        utterance: Utterance,
        duck: Duck,
    },
    /// Withdraws a mix that still plays.
    StopMix,
    /// Ends the leg; the port goes back to the driver, which binds a new pair in its place.
    Close,
}

/// How much the relayed talk is lowered under a mixed utterance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duck {
    /// -12 dB: speech to the caller.
    Db12,
    /// Not at all: soft tones.
    None,
}

/// An order with its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaOrder {
    pub call: CallKey,
    pub side: Side,
    pub command: MediaCommand,
}

/// What the media plane reports. Reports about a leg may cross its `Close` and are then ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaEvent {
    /// One key press, at its first packet (RFC 4733; product.md 3.2), never while bridged on B.
    Digit(Digit),
    PlayEnded {
        id: PlayId,
        finished: bool,
    },
    /// The first valid RTP or RTCP packet of this leg (comfort noise counts).
    FirstPacket,
    /// Nothing at all arrived for the configured span (`media.rtp_lost_s`), although the peer may
    /// send; reported once until something arrives again.
    Lost {
        last_packet: Instant,
    },
    /// Packets again after `Lost`.
    Back,
    /// Sent after `Close`.
    Closed(LegStats),
}

/// A report with its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaReport {
    pub call: CallKey,
    pub side: Side,
    pub event: MediaEvent,
}

/// What a leg's stream was like, for the CDR.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LegStats {
    pub received: u64,
    /// Packets missing in sequence (RFC 3550 A.3), never negative.
    pub lost: u64,
    pub sent: u64,
    /// Interarrival jitter at the end (RFC 3550 A.8), in microseconds.
    pub jitter_us: u32,
    pub last_packet: Option<Instant>,
    /// Packets from addresses that are not the latched peer, dropped.
    pub foreign: u64,
}

/// Watch times of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaLimits {
    /// Silence on the wire that counts as lost; 20 s by default.
    pub rtp_lost: Duration,
}
