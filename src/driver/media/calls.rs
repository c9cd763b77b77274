//! The calls of one media thread: their machines, sockets and deadlines.
//!
//! In the steady state a packet costs no allocation: one receive buffer, one output buffer, and a
//! flat list of deadlines that is looked through as a whole (8 bytes a call, a microsecond for
//! thousands). A panic in one machine ends that call's media and nothing else.
//!
//! Deliberately absent: waiting.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};

use super::sockets::SocketPair;
use super::{KeepAudio, Rebound, Reporting};
use crate::driver::{Event, Inbox, PostFault};
use crate::ids::{CallKey, Side};
use crate::media::audio::{AudioInput, AudioOut, AudioOutput, CallAudio};
use crate::media::bank::PromptBank;
use crate::media::{LegStats, MediaCommand, MediaEvent, MediaLimits, MediaOrder, MediaReport};
use crate::now::{IdSource, Instant};
use crate::switch::Input;

pub(super) struct Calls {
    poll: Poll,
    events: Events,
    limits: MediaLimits,
    bank: Arc<PromptBank>,
    ids: IdSource,
    slots: Vec<Option<Slot>>,
    /// When each slot wants its next timeout; [`NEVER`] for none and for empty slots.
    deadlines: Vec<Instant>,
    free: Vec<usize>,
    by_key: BTreeMap<CallKey, usize>,
    /// Sockets whose budget ended before their queue: no new edge will tell of the rest.
    unfinished: Vec<Token>,
    buffer: Vec<u8>,
    out: AudioOut,
    reports: Reports,
    keep: KeepAudio,
    /// Planted by a test: this call's machine panics at its next input.
    #[cfg(test)]
    pub(super) breaks: Option<CallKey>,
}

struct Slot {
    call: CallKey,
    audio: CallAudio,
    a: Option<SocketPair>,
    b: Option<SocketPair>,
}

impl Slot {
    fn sockets(&mut self, side: Side) -> &mut Option<SocketPair> {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    fn socket(&self, side: Side, stream: Stream) -> Option<&UdpSocket> {
        let pair = match side {
            Side::A => self.a.as_ref(),
            Side::B => self.b.as_ref(),
        };
        pair.map(|pair| match stream {
            Stream::Rtp => &pair.rtp,
            Stream::Rtcp => &pair.rtcp,
        })
    }
}

#[derive(Clone, Copy)]
enum Stream {
    Rtp,
    Rtcp,
}

impl Calls {
    pub(super) fn new(
        poll: Poll,
        limits: MediaLimits,
        bank: Arc<PromptBank>,
        reporting: Reporting,
        ids: IdSource,
    ) -> Calls {
        Calls {
            poll,
            events: Events::with_capacity(EVENTS_A_LOOK),
            limits,
            bank,
            ids,
            slots: Vec::new(),
            deadlines: Vec::new(),
            free: Vec::new(),
            by_key: BTreeMap::new(),
            unfinished: Vec::new(),
            buffer: vec![0; LONGEST_PACKET + 1],
            out: AudioOut::new(),
            reports: Reports {
                inbox: reporting.inbox,
                waiting: VecDeque::new(),
            },
            keep: reporting.keep,
            #[cfg(test)]
            breaks: None,
        }
    }

    /// Nothing will happen until the next order.
    pub(super) fn need_no_look(&self) -> bool {
        self.by_key.is_empty() && self.reports.waiting.is_empty()
    }

    /// An order other than `Open`.
    pub(super) fn order(&mut self, now: Instant, order: &MediaOrder) {
        let place = self.place(order.call);
        self.feed(
            now,
            place,
            AudioInput::Order {
                side: order.side,
                command: &order.command,
            },
        );
        self.tidy(place);
    }

    /// `Open` with its sockets.
    pub(super) fn open(&mut self, now: Instant, order: &MediaOrder, sockets: SocketPair) {
        let (side, place) = (order.side, self.place(order.call));
        let occupied = self.slot(place).is_some_and(|slot| slot.sockets(side).is_some());
        if occupied {
            let command = &MediaCommand::Close;
            self.feed(now, place, AudioInput::Order { side, command });
        }
        self.install(place, side, sockets);
        let command = &order.command;
        self.feed(now, place, AudioInput::Order { side, command });
    }

    /// Takes up a call of an earlier process.
    pub(super) fn resume(&mut self, now: Instant, rebound: Rebound) {
        let Rebound { call, audio, a, b } = rebound;
        let place = self.place(call);
        let ids = IdSource::from_number(self.ids.next_u64());
        let audio = CallAudio::restore(now, call, &audio, (a.0, b.0), self.limits, ids, &mut self.out);
        if let Some(slot) = self.slot(place) {
            slot.audio = audio;
        }
        self.install(place, Side::A, a.1);
        self.install(place, Side::B, b.1);
        self.carry_out(place);
        self.feed(now, place, AudioInput::Timeout);
    }

    /// Each bridged call's last snapshot; the sockets close with the thread, and nobody gets a BYE.
    pub(super) fn hand_over(mut self, now: Instant) {
        for slot in self.slots.drain(..).flatten() {
            if let Some(snapshot) = slot.audio.snapshot(now) {
                (self.keep)(slot.call, snapshot);
            }
        }
    }

    /// Reads what has come and runs what is due.
    pub(super) fn look(&mut self, now: Instant) {
        self.read_all(now);
        for place in 0..self.deadlines.len() {
            if self.deadlines.get(place).is_some_and(|due| *due <= now) {
                self.feed(now, place, AudioInput::Timeout);
            }
        }
        self.reports.flush();
    }

    /// Ends every leg, so that each peer gets its RTCP BYE.
    pub(super) fn close_all(&mut self, now: Instant) {
        for place in 0..self.slots.len() {
            for side in [Side::A, Side::B] {
                let open = self.slot(place).is_some_and(|slot| slot.sockets(side).is_some());
                if open {
                    let command = &MediaCommand::Close;
                    self.feed(now, place, AudioInput::Order { side, command });
                }
            }
        }
    }

    fn read_all(&mut self, now: Instant) {
        let mut unfinished = std::mem::take(&mut self.unfinished);
        for token in unfinished.drain(..) {
            self.read(now, token);
        }
        if self.unfinished.is_empty() {
            self.unfinished = unfinished;
        }
        if let Err(fault) = self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            if fault.kind() != io::ErrorKind::Interrupted {
                tracing::error!(%fault, "cannot look at the media sockets");
            }
            return;
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            self.read(now, event.token());
        }
        self.events = events;
    }

    /// Reads one socket until it is empty or its budget is used up.
    fn read(&mut self, now: Instant, token: Token) {
        let (place, side, stream) = parts(token);
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut left = PACKETS_A_LOOK;
        while let Some(slot) = self.slots.get(place).and_then(Option::as_ref)
            && let Some(socket) = slot.socket(side, stream)
        {
            if left == 0 {
                self.unfinished.push(token);
                break;
            }
            left -= 1;
            let (length, from) = match socket.recv_from(&mut buffer) {
                Ok(packet) => packet,
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error of an earlier send: the socket lives on.
                Err(_) => continue,
            };
            // Whatever fills the buffer was longer and is cut off: no voice packet is.
            let Some(bytes) = buffer.get(..length).filter(|bytes| bytes.len() <= LONGEST_PACKET) else {
                continue;
            };
            let input = match stream {
                Stream::Rtp => AudioInput::Rtp { side, from, bytes },
                Stream::Rtcp => AudioInput::Rtcp { side, from, bytes },
            };
            self.feed(now, place, input);
        }
        self.buffer = buffer;
    }

    /// Runs one machine and carries out what it orders.
    fn feed(&mut self, now: Instant, place: usize, input: AudioInput<'_>) {
        let Some(slot) = self.slots.get_mut(place).and_then(Option::as_mut) else {
            return;
        };
        let (bank, out) = (&*self.bank, &mut self.out);
        #[cfg(test)]
        let breaks = self.breaks.take_if(|call| *call == slot.call).is_some();
        let ran = catch_unwind(AssertUnwindSafe(|| {
            #[cfg(test)]
            assert!(!breaks, "a panic planted by a test");
            slot.audio.handle(now, input, bank, out);
        }));
        if ran.is_err() {
            tracing::error!(call = %slot.call, "the media of a call panicked; its media ends, other calls go on");
            self.abandon(place);
            return;
        }
        if let Some(due) = self.deadlines.get_mut(place) {
            *due = slot.audio.next_timeout().map_or(NEVER, |(due, _)| due);
        }
        if !self.out.is_empty() {
            self.carry_out(place);
        }
    }

    fn carry_out(&mut self, place: usize) {
        let Some(slot) = self.slots.get_mut(place).and_then(Option::as_mut) else {
            self.out.clear();
            return;
        };
        for item in self.out.items() {
            match item {
                AudioOutput::SendRtp { side, to, packet } => {
                    send(slot.socket(*side, Stream::Rtp), self.out.bytes(packet), *to);
                }
                AudioOutput::SendRtcp { side, to, packet } => {
                    send(slot.socket(*side, Stream::Rtcp), self.out.bytes(packet), *to);
                }
                AudioOutput::Report(report) => {
                    self.reports.push(Event::Input(Input::Media(report.clone())));
                }
                AudioOutput::Release(port) => {
                    for sockets in [&mut slot.a, &mut slot.b] {
                        if sockets.as_ref().is_some_and(|pair| pair.port == port.rtp.port()) {
                            // Dropping the sockets also takes them out of the poll.
                            *sockets = None;
                        }
                    }
                    self.reports.push(Event::PortFreed(port.rtp.port()));
                }
                AudioOutput::Keep(snapshot) => (self.keep)(slot.call, snapshot.as_ref().clone()),
            }
        }
        self.out.clear();
        self.tidy(place);
    }

    /// Gives an empty slot back.
    fn tidy(&mut self, place: usize) {
        let idle = self
            .slot(place)
            .is_some_and(|slot| slot.audio.is_idle() && slot.a.is_none() && slot.b.is_none());
        if idle {
            self.remove(place);
        }
    }

    /// A machine panicked: its legs end without statistics.
    fn abandon(&mut self, place: usize) {
        self.out.clear();
        let Some(mut slot) = self.remove(place) else {
            return;
        };
        let call = slot.call;
        for side in [Side::A, Side::B] {
            if let Some(pair) = slot.sockets(side).take() {
                let event = MediaEvent::Closed(LegStats::default());
                self.reports
                    .push(Event::Input(Input::Media(MediaReport { call, side, event })));
                self.reports.push(Event::PortFreed(pair.port));
            }
        }
    }

    /// The call's slot; a new one if it has none.
    fn place(&mut self, call: CallKey) -> usize {
        if let Some(place) = self.by_key.get(&call) {
            return *place;
        }
        let slot = Slot {
            call,
            audio: CallAudio::new(call, self.limits, IdSource::from_number(self.ids.next_u64())),
            a: None,
            b: None,
        };
        let place = self.free.pop().unwrap_or(self.slots.len());
        if place == self.slots.len() {
            self.slots.push(Some(slot));
            self.deadlines.push(NEVER);
        } else if let Some(empty) = self.slots.get_mut(place) {
            *empty = Some(slot);
        }
        self.by_key.insert(call, place);
        place
    }

    fn remove(&mut self, place: usize) -> Option<Slot> {
        let slot = self.slots.get_mut(place).and_then(Option::take)?;
        self.by_key.remove(&slot.call);
        if let Some(due) = self.deadlines.get_mut(place) {
            *due = NEVER;
        }
        self.free.push(place);
        Some(slot)
    }

    fn install(&mut self, place: usize, side: Side, mut pair: SocketPair) {
        let registry = self.poll.registry();
        let rtp = registry.register(&mut pair.rtp, token(place, side, Stream::Rtp), Interest::READABLE);
        let rtcp = registry.register(
            &mut pair.rtcp,
            token(place, side, Stream::Rtcp),
            Interest::READABLE,
        );
        for fault in [rtp, rtcp].into_iter().filter_map(Result::err) {
            tracing::error!(%fault, port = pair.port, "a media socket cannot be watched: the leg is deaf");
        }
        if let Some(slot) = self.slot(place) {
            *slot.sockets(side) = Some(pair);
        }
    }

    fn slot(&mut self, place: usize) -> Option<&mut Slot> {
        self.slots.get_mut(place).and_then(Option::as_mut)
    }
}

/// A packet that cannot be sent is lost, as on any network; the next one is 20 ms away.
fn send(socket: Option<&UdpSocket>, bytes: &[u8], to: std::net::SocketAddr) {
    if let Some(Err(fault)) = socket.map(|socket| socket.send_to(bytes, to)) {
        tracing::trace!(%fault, %to, "a media packet was not sent");
    }
}

/// Reports on their way to the driver; what its queue has no room for waits here, in order.
struct Reports {
    inbox: Inbox,
    waiting: VecDeque<Event>,
}

impl Reports {
    fn push(&mut self, event: Event) {
        self.flush();
        let back = if self.waiting.is_empty() {
            match self.inbox.event(event) {
                Ok(()) => return,
                Err(PostFault::Full(event)) => event,
                // The driver is gone: nobody is left to hear it.
                Err(PostFault::Gone(_)) => return,
            }
        } else {
            event
        };
        if self.waiting.len() < REPORTS_WAITING {
            self.waiting.push_back(back);
        } else {
            tracing::error!("the driver does not take media reports; one is lost");
        }
    }

    fn flush(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            match self.inbox.event(event) {
                Ok(()) => {}
                Err(PostFault::Full(event)) => {
                    self.waiting.push_front(event);
                    return;
                }
                Err(PostFault::Gone(_)) => self.waiting.clear(),
            }
        }
    }
}

fn token(place: usize, side: Side, stream: Stream) -> Token {
    let side = match side {
        Side::A => 0,
        Side::B => 2,
    };
    let stream = match stream {
        Stream::Rtp => 0,
        Stream::Rtcp => 1,
    };
    Token(place * 4 + side + stream)
}

fn parts(token: Token) -> (usize, Side, Stream) {
    let side = if token.0 & 2 == 0 { Side::A } else { Side::B };
    let stream = if token.0 & 1 == 0 {
        Stream::Rtp
    } else {
        Stream::Rtcp
    };
    (token.0 / 4, side, stream)
}

const NEVER: Instant = Instant::from_nanos(u64::MAX);
/// 20 ms of voice are some 172 bytes; nothing longer than an Ethernet frame is ours.
const LONGEST_PACKET: usize = 1500;
/// From one socket in one look; a flood on one leg does not keep the others waiting.
const PACKETS_A_LOOK: usize = 32;
const EVENTS_A_LOOK: usize = 1024;
/// Reports that one thread keeps for a busy driver.
const REPORTS_WAITING: usize = 16_384;
