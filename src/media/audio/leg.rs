//! One side of a call's media: its line, its latch, its sources.

use std::net::SocketAddr;
use std::time::Duration;

use super::AudioOut;
use super::life::Life;
use super::reports::Reports;
use super::voice::{Mix, Ringing, Voice};
use crate::ids::{CallKey, PlayId, Side};
use crate::media::bank::PromptBank;
use crate::media::codec::{self, pcma};
use crate::media::dtmf::{KeyNews, KeyReader, KeyTrain};
use crate::media::receiver::{Arrival, Receiver};
use crate::media::rtcp;
use crate::media::rtp::{self, RtpTime};
use crate::media::sender::Sender;
use crate::media::{Duck, MediaEvent, MediaLimits, MediaPort, Utterance};
use crate::now::{IdSource, Instant};
use crate::sdp::{AudioParams, Codec, Direction};

/// The longest frame that is sent, in samples: 20 ms.
pub(super) const FRAME_LIMIT: usize = 160;
/// How long a relayed source may be silent beyond its own packet length before the schedule fills
/// in: with 20 ms packets 60 ms in all.
const RELAY_PATIENCE: Duration = Duration::from_millis(40);

/// See the module.
#[derive(Debug)]
pub(super) struct Leg {
    call: CallKey,
    side: Side,
    pub port: MediaPort,
    pub audio: AudioParams,
    pub opened: Instant,
    pub sender: Sender,
    pub receiver: Receiver,
    pub keys: KeyReader,
    train: KeyTrain,
    bridged: bool,
    source: Source,
    pace: Pace,
    mix: Option<Mix>,
    life: Life,
    pub reports: Reports,
    /// Where the peer was, and how short packets on the line were, when that was last asked.
    known: (SocketAddr, u32),
    /// The description changed since then.
    updated: bool,
}

/// What the side hears.
#[derive(Debug)]
enum Source {
    Silence,
    Ringback(Ringing),
    Play(Voice),
    /// The other side.
    Relay,
}

/// What drives the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Schedule,
    /// Relayed packets, until none has come by then.
    Relay {
        until: Instant,
    },
}

impl Leg {
    pub fn open(
        now: Instant,
        (call, side): (CallKey, Side),
        port: MediaPort,
        audio: &AudioParams,
        limits: MediaLimits,
        ids: &mut IdSource,
    ) -> Leg {
        Leg {
            call,
            side,
            port,
            audio: audio.clone(),
            opened: now,
            sender: Sender::new(now, frame_ms(audio), ids),
            receiver: Receiver::new(audio),
            keys: KeyReader::default(),
            train: KeyTrain::default(),
            bridged: false,
            source: Source::Silence,
            pace: Pace::Schedule,
            mix: None,
            life: Life::new(now, limits.rtp_lost),
            reports: Reports::new(now, ids),
            known: (audio.remote, u32::MAX),
            updated: false,
        }
    }

    pub fn update(&mut self, now: Instant, audio: &AudioParams) {
        let ticked = self.ticks();
        if !self.may_receive() {
            self.life.wait_from(now);
        }
        self.receiver.update(audio);
        if audio.remote_rtcp != self.audio.remote_rtcp {
            self.reports.forget_peer();
        }
        self.sender.set_frame_ms(frame_ms(audio));
        self.audio = audio.clone();
        self.updated = true;
        self.restart_schedule(now, ticked);
    }

    pub fn close(mut self, now: Instant, out: &mut AudioOut) {
        self.end_source(out);
        self.stop_mix(out);
        self.send_report(now, true, out);
        let stats = self.receiver.stats(self.sender.counts().packets);
        out.report(self.call, self.side, MediaEvent::Closed(stats));
        out.items.push(super::AudioOutput::Release(self.port));
    }

    pub fn play(
        &mut self,
        now: Instant,
        id: PlayId,
        what: &Utterance,
        bank: &PromptBank,
        out: &mut AudioOut,
    ) {
        self.set_source(now, Source::Play(Voice::new(id, what, bank)), out);
    }

    pub fn ringback(&mut self, now: Instant, bank: &PromptBank, out: &mut AudioOut) {
        self.set_source(now, Source::Ringback(Ringing::new(bank)), out);
    }

    pub fn silence(&mut self, now: Instant, out: &mut AudioOut) {
        self.set_source(now, Source::Silence, out);
    }

    pub fn bridge(&mut self, now: Instant, out: &mut AudioOut) {
        self.bridged = true;
        match self.source {
            Source::Relay => {}
            Source::Silence | Source::Ringback(_) | Source::Play(_) => {
                self.set_source(now, Source::Relay, out)
            }
        }
    }

    pub fn unbridge(&mut self, now: Instant, out: &mut AudioOut) {
        self.bridged = false;
        self.train.abort();
        self.sender.part();
        match self.source {
            Source::Relay => self.set_source(now, Source::Silence, out),
            // A prompt that was ordered over the bridge is no part of it.
            Source::Silence | Source::Ringback(_) | Source::Play(_) => {}
        }
    }

    pub fn mix(
        &mut self,
        now: Instant,
        id: PlayId,
        what: &Utterance,
        duck: Duck,
        bank: &PromptBank,
        out: &mut AudioOut,
    ) {
        self.stop_mix(out);
        let ticked = self.ticks();
        self.mix = Some(Mix {
            voice: Voice::new(id, what, bank),
            duck,
        });
        self.restart_schedule(now, ticked);
    }

    pub fn stop_mix(&mut self, out: &mut AudioOut) {
        if let Some(mix) = self.mix.take() {
            self.report_ended(mix.voice.id, mix.voice.is_done(), out);
        }
    }

    /// Judges a datagram; what it means for the other side is the caller's.
    pub fn on_rtp<'a>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &'a [u8],
        out: &mut AudioOut,
    ) -> Arrival<'a> {
        let arrival = self.receiver.accept(now, from, bytes);
        match arrival {
            Arrival::Audio { .. } | Arrival::Event { .. } | Arrival::Noise => self.note_life(now, out),
            Arrival::Rejected => {}
        }
        arrival
    }

    pub fn on_rtcp(&mut self, now: Instant, from: SocketAddr, bytes: &[u8], out: &mut AudioOut) {
        if !self.receiver.trusts_host(from.ip(), self.audio.remote_rtcp) {
            return;
        }
        let Some(report) = rtcp::read_compound(bytes) else {
            return;
        };
        self.reports.note_peer(now, from, report);
        self.receiver.note_rtcp(now);
        self.note_life(now, out);
    }

    pub fn report_key(&mut self, news: KeyNews, out: &mut AudioOut) {
        match news {
            KeyNews::Pressed(digit) => out.report(self.call, self.side, MediaEvent::Digit(digit)),
            KeyNews::Released | KeyNews::Nothing => {}
        }
    }

    /// Passes a key of the other side on to this one's peer, if it takes telephone-events.
    pub fn relay_key(&mut self, now: Instant, news: KeyNews, out: &mut AudioOut) {
        match self.source {
            Source::Relay => self.note_key(news),
            // The other side is not heard here just now.
            Source::Silence | Source::Ringback(_) | Source::Play(_) => {}
        }
        self.run_train(now, out);
    }

    pub fn note_key(&mut self, news: KeyNews) {
        match news {
            KeyNews::Pressed(digit) => {
                if self.audio.dtmf.is_some() && self.may_send() {
                    self.train.press(digit);
                }
            }
            KeyNews::Released => self.train.release(),
            KeyNews::Nothing => {}
        }
    }

    /// Sends a packet of the other side on, at once.
    pub fn relay(
        &mut self,
        now: Instant,
        codec: Codec,
        (ssrc, time): (u32, RtpTime),
        payload: &[u8],
        out: &mut AudioOut,
    ) {
        match self.source {
            Source::Relay if self.may_send() => {}
            Source::Relay | Source::Silence | Source::Ringback(_) | Source::Play(_) => return,
        }
        let samples = u32::try_from(payload.len()).unwrap_or(0);
        self.pace = Pace::Relay {
            until: now + RELAY_PATIENCE + rtp::span_of(samples),
        };
        if self.train.is_sending() {
            return;
        }
        let Some(mut at) = self.sender.place_relayed(now, ssrc, time, samples) else {
            return;
        };
        let frame = usize::try_from(self.sender.frame_samples()).unwrap_or(FRAME_LIMIT);
        for piece in payload.chunks(frame.clamp(1, FRAME_LIMIT)) {
            let mut buffer = [0; FRAME_LIMIT];
            let samples = buffer.get_mut(..piece.len()).unwrap_or_default();
            samples.copy_from_slice(piece);
            codec::transcode(codec, self.audio.codec, samples);
            self.apply_mix(samples, out);
            self.send_audio(at, samples, out);
            at = at.plus(u32::try_from(piece.len()).unwrap_or(0));
        }
    }

    pub fn on_timeout(&mut self, now: Instant, out: &mut AudioOut) {
        self.run_train(now, out);
        match self.pace {
            Pace::Relay { until } if until <= now => {
                self.pace = Pace::Schedule;
                self.sender.resume(now);
            }
            Pace::Relay { .. } | Pace::Schedule => {}
        }
        while self.ticks() {
            let Some(at) = self.sender.take_slot(now) else {
                break;
            };
            if !self.train.is_sending() {
                self.send_frame(at, out);
            }
        }
        if self.reports.due <= now {
            self.reports.due = now + rtcp::INTERVAL;
            self.send_report(now, false, out);
        }
        self.watch(now, out);
    }

    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        let pace = match self.pace {
            Pace::Relay { until } => Some((until, "relay pause")),
            Pace::Schedule => self.ticks().then(|| (self.sender.due(), "audio frame")),
        };
        let others = [
            self.train.due().map(|at| (at, "key train")),
            self.keys.let_go_at().map(|at| (at, "key let go")),
            self.lost_at().map(|at| (at, "media lost")),
            pace,
        ];
        let report = (self.reports.due, "rtcp report");
        others.into_iter().flatten().chain([report]).min()
    }

    pub fn may_receive(&self) -> bool {
        matches!(self.audio.direction, Direction::SendRecv | Direction::RecvOnly)
    }

    /// Whether the peer has another address, the leg another description, or the line shorter
    /// packets, than when this was last asked.
    pub fn has_moved(&mut self) -> bool {
        let now = (self.receiver.destination(), self.sender.shortest());
        let before = std::mem::replace(&mut self.known, now);
        std::mem::take(&mut self.updated) || before.0 != now.0 || now.1 < before.1
    }

    pub fn codec(&self) -> Codec {
        self.audio.codec
    }

    fn may_send(&self) -> bool {
        let allowed = matches!(self.audio.direction, Direction::SendRecv | Direction::SendOnly);
        // A connection address of zero was hold, before directions had attributes (RFC 3264 §8.4).
        allowed && can_be_reached(self.receiver.destination())
    }

    /// Whether frames go out, or pass unheard, on the schedule.
    fn ticks(&self) -> bool {
        let something_runs =
            self.mix.is_some() || matches!(self.source, Source::Play(_) | Source::Ringback(_));
        match self.pace {
            Pace::Schedule => self.may_send() || something_runs,
            Pace::Relay { .. } => false,
        }
    }

    fn set_source(&mut self, now: Instant, source: Source, out: &mut AudioOut) {
        self.end_source(out);
        let ticked = self.ticks();
        self.source = source;
        self.pace = Pace::Schedule;
        self.restart_schedule(now, ticked);
    }

    /// After a time without frames the schedule goes on from now, and makes up for nothing.
    fn restart_schedule(&mut self, now: Instant, ticked: bool) {
        if !ticked && self.ticks() {
            self.sender.resume(now);
        }
    }

    fn end_source(&mut self, out: &mut AudioOut) {
        if let Source::Play(voice) = std::mem::replace(&mut self.source, Source::Silence) {
            self.report_ended(voice.id, voice.is_done(), out);
        }
    }

    fn send_frame(&mut self, at: RtpTime, out: &mut AudioOut) {
        let mut buffer = [pcma::SILENCE; FRAME_LIMIT];
        let frame = usize::try_from(self.sender.frame_samples()).unwrap_or(FRAME_LIMIT);
        let samples = buffer.get_mut(..frame.min(FRAME_LIMIT)).unwrap_or_default();
        let mut from = Codec::Pcma;
        match &mut self.source {
            Source::Silence | Source::Relay => {
                from = self.audio.codec;
                samples.fill(codec::row(from).silence);
            }
            Source::Ringback(ringing) => ringing.fill(samples),
            Source::Play(voice) if voice.is_done() => {
                // The last sample has now had its time.
                let id = voice.id;
                self.source = if self.bridged {
                    Source::Relay
                } else {
                    Source::Silence
                };
                self.report_ended(id, true, out);
            }
            Source::Play(voice) => {
                voice.fill(samples);
            }
        }
        codec::transcode(from, self.audio.codec, samples);
        self.apply_mix(samples, out);
        if self.may_send() {
            self.send_audio(at, samples, out);
        }
    }

    fn apply_mix(&mut self, samples: &mut [u8], out: &mut AudioOut) {
        let Some(mix) = &mut self.mix else {
            return;
        };
        mix.apply(self.audio.codec, samples);
        if mix.voice.is_done() {
            self.stop_mix(out);
        }
    }

    fn send_audio(&mut self, at: RtpTime, samples: &[u8], out: &mut AudioOut) {
        let to = self.receiver.destination();
        let payload_type = self.audio.send_pt;
        out.send_rtp(self.side, to, |bytes| {
            self.sender.write_audio(payload_type, at, samples, bytes)
        });
    }

    fn run_train(&mut self, now: Instant, out: &mut AudioOut) {
        while let Some(packet) = self.train.step(now, self.sender.event_start(now)) {
            let duration = u32::from(packet.payload.duration);
            if let Some(types) = self.audio.dtmf.filter(|_| self.may_send()) {
                let to = self.receiver.destination();
                let payload = packet.payload.to_bytes();
                out.send_rtp(self.side, to, |bytes| {
                    self.sender
                        .write_event(packet.marker, types.send_pt, packet.start, &payload, bytes);
                });
            }
            if packet.last {
                self.sender.end_event(packet.start, duration);
            }
        }
    }

    fn note_life(&mut self, now: Instant, out: &mut AudioOut) {
        for event in self.life.note(now).into_iter().flatten() {
            out.report(self.call, self.side, event);
        }
    }

    fn lost_at(&self) -> Option<Instant> {
        self.life.lost_at().filter(|_| self.may_receive())
    }

    fn watch(&mut self, now: Instant, out: &mut AudioOut) {
        if self.lost_at().is_none_or(|at| at > now) {
            return;
        }
        self.life.lose();
        let last_packet = self.receiver.last_packet().unwrap_or(self.opened);
        out.report(self.call, self.side, MediaEvent::Lost { last_packet });
    }

    fn send_report(&mut self, now: Instant, bye: bool, out: &mut AudioOut) {
        let latched = self.receiver.destination();
        let to = self.reports.destination(latched, &self.audio);
        if can_be_reached(to) {
            let reception = self.receiver.report();
            out.send_rtcp(self.side, to, |bytes| {
                self.reports.write(now, &self.sender, reception, bye, bytes)
            });
        }
    }

    fn report_ended(&self, id: PlayId, finished: bool, out: &mut AudioOut) {
        out.report(self.call, self.side, MediaEvent::PlayEnded { id, finished });
    }
}

/// The frame length we send; a peer with a low maxptime gets shorter ones.
fn frame_ms(audio: &AudioParams) -> u32 {
    audio.ptime_ms.clamp(5, 20)
}

fn can_be_reached(to: SocketAddr) -> bool {
    to.port() != 0 && !to.ip().is_unspecified()
}
