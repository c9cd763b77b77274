//! One call's media as a machine: prompts, silence, relay, and relay with a mixed warning.
//!
//! Alphabet: [`AudioInput`] in, [`AudioOutput`] out through an [`AudioOut`], which the media thread
//! empties in order after each `handle` and uses again. A side's sources, in the order in which
//! they take the line:
//!
//! | source | fed by | line is driven by | ends with |
//! |---|---|---|---|
//! | key train (B, bridged) | A's telephone-events | its own 20 ms steps | third end packet |
//! | relay | the other side's packets | their arrival; after a pause of about 60 ms the schedule fills with silence | Unbridge, another order |
//! | play, ringback, silence | bank, tone | the 20 ms schedule | its samples, another order |
//!
//! A mix is added to whatever the side hears, whichever way the line is driven. While a direction
//! forbids sending, the schedule runs on unheard, so that each `PlayEnded` comes at its time.
//!
//! Deliberately absent: sockets, threads, files; jitter buffers and loss concealment; recording.

mod fuzz;
mod leg;
mod life;
mod reports;
pub mod snapshot;
mod voice;

use std::net::SocketAddr;
use std::ops::Range;

use crate::ids::{CallKey, Side};
use crate::media::bank::PromptBank;
use crate::media::receiver::Arrival;
use crate::media::{MediaCommand, MediaEvent, MediaLimits, MediaPort, MediaReport};
use crate::now::{IdSource, Instant};
pub use fuzz::fuzz;
use leg::Leg;
use snapshot::AudioSnapshot;

/// What the media thread feeds in.
#[derive(Clone, Copy, Debug)]
pub enum AudioInput<'a> {
    Order {
        side: Side,
        command: &'a MediaCommand,
    },
    /// A datagram on the side's RTP socket.
    Rtp {
        side: Side,
        from: SocketAddr,
        bytes: &'a [u8],
    },
    /// A datagram on the side's RTCP socket.
    Rtcp {
        side: Side,
        from: SocketAddr,
        bytes: &'a [u8],
    },
    /// The time named by [`CallAudio::next_timeout`] has come, or some time.
    Timeout,
}

/// What the media thread carries out, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AudioOutput {
    SendRtp {
        side: Side,
        to: SocketAddr,
        packet: PacketSpan,
    },
    SendRtcp {
        side: Side,
        to: SocketAddr,
        packet: PacketSpan,
    },
    Report(MediaReport),
    /// The side's sockets are no longer used.
    Release(MediaPort),
    /// What a successor of this process needs, as of now; it replaces the one before.
    Keep(Box<AudioSnapshot>),
}

/// Where a packet's bytes lie; [`AudioOut::bytes`] gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketSpan(Range<usize>);

/// Collects outputs and packet bytes; kept by the media thread, so that a packet costs no allocation.
#[derive(Debug, Default)]
pub struct AudioOut {
    bytes: Vec<u8>,
    items: Vec<AudioOutput>,
}

impl AudioOut {
    pub fn new() -> AudioOut {
        AudioOut::default()
    }

    /// The outputs in order. Carry them out, then [`AudioOut::clear`].
    pub fn items(&self) -> &[AudioOutput] {
        &self.items
    }

    pub fn bytes(&self, packet: &PacketSpan) -> &[u8] {
        self.bytes.get(packet.0.clone()).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
    }

    fn report(&mut self, call: CallKey, side: Side, event: MediaEvent) {
        self.items
            .push(AudioOutput::Report(MediaReport { call, side, event }));
    }

    fn send_rtp(&mut self, side: Side, to: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) {
        let packet = self.packet(write);
        self.items.push(AudioOutput::SendRtp { side, to, packet });
    }

    fn send_rtcp(&mut self, side: Side, to: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) {
        let packet = self.packet(write);
        self.items.push(AudioOutput::SendRtcp { side, to, packet });
    }

    fn packet(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> PacketSpan {
        let start = self.bytes.len();
        write(&mut self.bytes);
        PacketSpan(start..self.bytes.len())
    }
}

/// See the module.
#[derive(Debug)]
pub struct CallAudio {
    call: CallKey,
    limits: MediaLimits,
    ids: IdSource,
    bridged: bool,
    /// When the next snapshot is due; `None` without a bridge.
    keep_at: Option<Instant>,
    a: Option<Leg>,
    b: Option<Leg>,
}

impl CallAudio {
    /// `ids` gives SSRCs and the like; seed it per call.
    pub fn new(call: CallKey, limits: MediaLimits, ids: IdSource) -> CallAudio {
        CallAudio {
            call,
            limits,
            ids,
            bridged: false,
            keep_at: None,
            a: None,
            b: None,
        }
    }

    /// No leg is open: this machine may be dropped.
    pub fn is_idle(&self) -> bool {
        self.a.is_none() && self.b.is_none()
    }

    /// When to call again with [`AudioInput::Timeout`], and what for.
    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        let legs = self.a.iter().chain(self.b.iter());
        let keep = self.keep_at.map(|at| (at, "snapshot"));
        legs.filter_map(Leg::next_timeout).chain(keep).min()
    }

    pub fn handle(&mut self, now: Instant, input: AudioInput<'_>, bank: &PromptBank, out: &mut AudioOut) {
        match input {
            AudioInput::Order { side, command } => self.on_order(now, side, command, bank, out),
            AudioInput::Rtp { side, from, bytes } => self.on_rtp(now, side, from, bytes, out),
            AudioInput::Rtcp { side, from, bytes } => {
                if let Some(leg) = self.leg(side) {
                    leg.on_rtcp(now, from, bytes, out);
                }
            }
            AudioInput::Timeout => {
                for leg in self.a.iter_mut().chain(self.b.iter_mut()) {
                    leg.on_timeout(now, out);
                }
                self.relay_let_go(now);
            }
        }
        self.keep(now, out);
    }

    fn on_order(
        &mut self,
        now: Instant,
        side: Side,
        command: &MediaCommand,
        bank: &PromptBank,
        out: &mut AudioOut,
    ) {
        match command {
            MediaCommand::Open { port, audio } => {
                self.close(now, side, out);
                let leg = Leg::open(now, (self.call, side), *port, audio, self.limits, &mut self.ids);
                *self.slot(side) = Some(leg);
                if self.bridged {
                    self.bridge(now, out);
                }
            }
            MediaCommand::Bridge => self.bridge(now, out),
            MediaCommand::Unbridge => self.unbridge(now, out),
            MediaCommand::Close => self.close(now, side, out),
            MediaCommand::Update { audio } => {
                if let Some(leg) = self.leg(side) {
                    leg.update(now, audio);
                }
            }
            MediaCommand::Play { id, utterance } => match self.leg(side) {
                Some(leg) => leg.play(now, *id, utterance, bank, out),
                None => out.report(
                    self.call,
                    side,
                    MediaEvent::PlayEnded {
                        id: *id,
                        finished: false,
                    },
                ),
            },
            MediaCommand::Mix { id, utterance, duck } => match self.leg(side) {
                Some(leg) => leg.mix(now, *id, utterance, *duck, bank, out),
                None => out.report(
                    self.call,
                    side,
                    MediaEvent::PlayEnded {
                        id: *id,
                        finished: false,
                    },
                ),
            },
            MediaCommand::Ringback => {
                if let Some(leg) = self.leg(side) {
                    leg.ringback(now, bank, out);
                }
            }
            MediaCommand::Silence => {
                if let Some(leg) = self.leg(side) {
                    leg.silence(now, out);
                }
            }
            MediaCommand::StopMix => {
                if let Some(leg) = self.leg(side) {
                    leg.stop_mix(out);
                }
            }
        }
        // What is due with the order goes out with it: the first packet of a leg above all.
        if let Some(leg) = self.leg(side) {
            leg.on_timeout(now, out);
        }
    }

    fn on_rtp(&mut self, now: Instant, side: Side, from: SocketAddr, bytes: &[u8], out: &mut AudioOut) {
        let (near, far) = match side {
            Side::A => (&mut self.a, &mut self.b),
            Side::B => (&mut self.b, &mut self.a),
        };
        let Some(near) = near else {
            return;
        };
        match near.on_rtp(now, from, bytes, out) {
            Arrival::Audio { ssrc, time, payload } => {
                if let Some(far) = far.as_mut().filter(|_| self.bridged && near.may_receive()) {
                    far.relay(now, near.codec(), (ssrc, time), payload, out);
                }
            }
            Arrival::Event { ssrc, time, payload } => {
                let news = near.keys.read(now, ssrc, time, payload);
                if !self.bridged {
                    near.report_key(news, out);
                } else if let (Side::A, Some(far)) = (side, far) {
                    far.relay_key(now, news, out);
                }
            }
            Arrival::Noise | Arrival::Rejected => {}
        }
    }

    /// A key of A whose end packets were lost is let go, also towards B.
    fn relay_let_go(&mut self, now: Instant) {
        let news = self.a.as_mut().map(|leg| leg.keys.let_go(now));
        if let Some(leg) = &mut self.b {
            leg.keys.let_go(now);
            if let Some(news) = news {
                leg.note_key(news);
            }
        }
    }

    fn bridge(&mut self, now: Instant, out: &mut AudioOut) {
        self.bridged = true;
        self.keep_at = Some(now);
        for leg in self.a.iter_mut().chain(self.b.iter_mut()) {
            leg.bridge(now, out);
        }
    }

    fn unbridge(&mut self, now: Instant, out: &mut AudioOut) {
        if !std::mem::take(&mut self.bridged) {
            return;
        }
        self.keep_at = None;
        for leg in self.a.iter_mut().chain(self.b.iter_mut()) {
            leg.unbridge(now, out);
        }
    }

    fn close(&mut self, now: Instant, side: Side, out: &mut AudioOut) {
        if let Some(leg) = self.slot(side).take() {
            leg.close(now, out);
            self.unbridge(now, out);
        }
    }

    fn leg(&mut self, side: Side) -> Option<&mut Leg> {
        self.slot(side).as_mut()
    }

    fn slot(&mut self, side: Side) -> &mut Option<Leg> {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }
}

#[cfg(test)]
mod tests;
