//! What listeners and the operator do in the world: fingers on keys, audio that starts and stops,
//! recharges, blocks, hang-ups.

use std::sync::Arc;

use cardline::ids::{CallKey, CardId, ReplyToken, Side};
use cardline::media::{MediaCommand, MediaEvent, MediaOrder, MediaPort, MediaReport};
use cardline::secret::Digit;
use cardline::switch::{AdminAsk, Input};

use super::{Local, Operation, World};
use crate::sim::cast::Keys;
use crate::sim::media::{KeyPacket, Later};
use crate::sim::phone::{MS, Nanos, Phone, SECOND};

impl World {
    pub fn media(&mut self, node: usize, order: MediaOrder) {
        self.log.note(self.now, 9, &order.call.get().to_le_bytes(), || {
            format!("{order:?}")
        });
        let (call, side) = (order.call, order.side);
        match &order.command {
            MediaCommand::Open { port, .. } => self.opened(node, call, side, *port),
            MediaCommand::Bridge => {
                let book = self.books.calls.entry(call).or_default();
                book.bridges.push(self.now);
            }
            MediaCommand::Update { .. }
            | MediaCommand::Play { .. }
            | MediaCommand::Ringback
            | MediaCommand::Silence
            | MediaCommand::Unbridge
            | MediaCommand::Mix { .. }
            | MediaCommand::StopMix
            | MediaCommand::Close => {}
        }
        let mut later = Vec::new();
        self.nodes[node].plane.order(self.now, order, &mut later);
        for later in later {
            self.later(node, Some(later));
        }
    }

    fn opened(&mut self, node: usize, call: CallKey, side: Side, port: MediaPort) {
        if side == Side::B {
            let now = self.now;
            let wires = &self.books.wires;
            let just = |place: usize| wires.get(&place).is_some_and(|wire| wire.ok_in == Some(now));
            let answered = |phone: &Phone| {
                phone.role == Side::B && phone.switch_port == Some(port.rtp.port()) && phone.answered
            };
            let exact = self
                .phones
                .iter()
                .enumerate()
                .rposition(|(place, phone)| answered(phone) && just(place));
            if let Some(phone) = exact.or_else(|| self.phones.iter().rposition(answered)) {
                self.books.calls.entry(call).or_default().b.push(phone);
            }
        }
        self.books.opened(call, side);
        let mute = self.rng.below(100) < 3 && !self.cast.polite;
        let at = self.now + MS + self.rng.below(300 * MS);
        if !mute {
            let plane = &mut self.nodes[node].plane;
            let later = plane.report(call, side, MediaEvent::FirstPacket, at);
            self.later(node, Some(later));
        }
        if self.rng.below(100) < 4 && !self.link.clean {
            let at = self.now + 21 * SECOND + self.rng.below(60 * SECOND);
            let last = at - 20 * SECOND;
            self.local(at, node, Local::Silence { call, side, last });
            if self.rng.below(2) == 0 {
                let back = at + self.rng.below(10 * SECOND);
                self.local(back, node, Local::Sound { call, side });
            }
        }
        // Its telephone may be gone before the audio is up.
        let book = self.books.calls.entry(call).or_default();
        let phone = if side == Side::A {
            book.a
        } else {
            book.b.last().copied()
        };
        if let Some(phone) = phone.filter(|phone| self.phones[*phone].is_done()) {
            self.hush(phone);
        }
    }

    pub fn later(&mut self, node: usize, later: Option<Later>) {
        match later {
            Some(Later::Report {
                at,
                call,
                side,
                event,
            }) => {
                self.local(at, node, Local::Report(MediaReport { call, side, event }));
            }
            Some(Later::PlayEnd { at, call, side, id }) => {
                self.local(at, node, Local::PlayEnd { call, side, id });
            }
            Some(Later::Port { at, port }) => self.local(at, node, Local::Port(port)),
            Some(Later::Heard {
                call,
                side,
                utterance,
                length,
            }) => {
                let said = |name: &str| utterance.prompts.iter().any(|prompt| prompt.as_str() == name);
                let pin = ["pin_enter", "pin_wrong", "pin_none", "other_pin"]
                    .into_iter()
                    .any(said);
                self.listen(
                    (node, call, side),
                    Ear {
                        pin: pin && !said("pin_fail"),
                        offer: said("offer_connect"),
                        accept: said("whisper_key"),
                    },
                    length,
                );
            }
            None => {}
        }
    }

    fn listen(&mut self, (node, call, side): (usize, CallKey, Side), ear: Ear, length: Nanos) {
        let start = self.now + self.rng.below(length + 2 * SECOND);
        if side == Side::B {
            if ear.accept && (self.cast.polite || self.rng.below(100) < 75) {
                self.press((node, call, side), start, Digit::Number(1));
            }
            return;
        }
        let phone = self.books.calls.get(&call).and_then(|book| book.a);
        let Some(mut fingers) = phone.and_then(|phone| self.fingers.remove(&phone)) else {
            return;
        };
        if ear.pin && !fingers.keys.is_empty() {
            let keys = fingers.keys.remove(0);
            self.key_in((node, call, side), start, &keys);
        } else if ear.offer && fingers.takes_offer {
            self.press((node, call, side), start, Digit::Number(1));
        } else if fingers.skips && !ear.pin {
            let digit = if self.rng.below(3) == 0 {
                Digit::Star
            } else {
                Digit::Number(5)
            };
            self.press((node, call, side), start, digit);
        }
        if let Some(phone) = phone {
            self.fingers.insert(phone, fingers);
        }
    }

    fn key_in(&mut self, stream: (usize, CallKey, Side), start: Nanos, keys: &Keys) {
        let text = match keys {
            Keys::Pin(pin) => pin.clone(),
            Keys::Restart(pin) => format!("123*{pin}"),
            Keys::Short => "1234#".to_owned(),
            Keys::Silence => String::new(),
        };
        let mut at = start;
        for key in text.chars() {
            let digit = match key {
                '*' => Digit::Star,
                '#' => Digit::Hash,
                other => Digit::Number(u8::try_from(other.to_digit(10).unwrap_or(0)).unwrap_or(0)),
            };
            self.press(stream, at, digit);
            let pause = if self.rng.below(100) < 2 && !self.cast.polite {
                5 * SECOND
            } else {
                400 * MS
            };
            at += 160 * MS + self.rng.below(pause);
        }
    }

    /// A key goes down for 60 ms: its telephone-events, over a network that loses, doubles and delays.
    fn press(&mut self, (node, call, side): (usize, CallKey, Side), at: Nanos, digit: Digit) {
        for packet in KeyPacket::train(call, side, at, digit) {
            let (loss, doubles) = if self.link.clean { (0, 0) } else { (5, 3) };
            let copies = 1 + u32::from(self.rng.below(100) < doubles);
            for _ in 0..copies {
                if self.rng.below(100) >= loss {
                    let at = packet.sent_at + self.rng.below(20 * MS);
                    self.local(at, node, Local::Key(packet));
                }
            }
        }
    }

    pub fn operate(&mut self, operation: Operation) {
        self.log
            .note(self.now, 10, &[], || format!("operator: {operation:?}"));
        match operation {
            Operation::Recharge(card, delta) => {
                self.store.recharge(card, delta);
                self.changed(card);
            }
            Operation::Block(card) => {
                self.store.block(card);
                self.changed(card);
            }
            Operation::Unblock(card) => {
                self.store.unblock(card);
                self.changed(card);
            }
            Operation::HangUp => {
                let calls: Vec<(CallKey, usize)> = (self.books.calls.iter())
                    .map(|(key, book)| (*key, book.node))
                    .collect();
                if !calls.is_empty() {
                    let place = self.rng.below(calls.len() as u64);
                    let (call, node) = calls[usize::try_from(place).unwrap_or(0)];
                    self.order(node, AdminAsk::HangUp(call));
                }
            }
            Operation::Drain => {
                let node = self.a_node();
                self.order(node, AdminAsk::Drain);
            }
            Operation::Refresh => self.refresh(),
        }
    }

    fn order(&mut self, node: usize, ask: AdminAsk) {
        if self.is_up(node) {
            let token = ReplyToken(1);
            self.input(node, Input::Admin { token, ask });
        }
    }

    fn refresh(&mut self) {
        let mut directory = self.cast.directory.clone();
        let off = self.rng.below(6);
        for (id, project) in &mut directory.projects {
            let mut next = (**project).clone();
            next.enabled = id.get() != i64::try_from(off).unwrap_or(0);
            *project = Arc::new(next);
        }
        let directory = Arc::new(directory);
        for node in 0..self.nodes.len() {
            if self.is_up(node) {
                self.input(node, Input::Directory(directory.clone()));
            }
        }
    }

    /// The node that the operator works at tells its own calls; the others find it by their polls.
    fn changed(&mut self, card: CardId) {
        self.books.touched.insert(card, self.now);
        // The event may get lost; the poll is the safety net.
        if self.rng.below(10) > 0 {
            let at = self.now + self.rng.below(200 * MS);
            let node = self.a_node();
            self.local(at, node, Local::CardChanged(card));
        }
    }
}

/// What an utterance asks of its listener.
#[derive(Clone, Copy)]
struct Ear {
    pin: bool,
    offer: bool,
    accept: bool,
}
