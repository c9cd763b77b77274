//! Datagrams between the switch and the phones of the world.

use std::net::SocketAddr;

use cardline::ids::Side;
use cardline::sip::Flow;
use cardline::switch::Input;

use super::{Event, Local, World, address, head};
use crate::sim::phone::{Act, Phone, SECOND, Setup};
use crate::sim::text::Text;

impl World {
    pub(super) fn send(&mut self, node: usize, addr: SocketAddr, bytes: Vec<u8>) {
        let Some(phone) = Text::parse(&bytes).and_then(|text| {
            let phone = self.find(addr, text);
            if let Some(phone) = phone {
                self.books.towards_phone(self.now, phone, text);
                crate::sim::verdict::at_send(self, phone, text);
            }
            phone.or(Some(usize::from(addr.port())))
        }) else {
            return;
        };
        for arrival in self.link.carry(self.now, phone, false, bytes) {
            self.at(
                arrival.at,
                Event::ToPhone {
                    node,
                    addr,
                    bytes: arrival.bytes,
                },
            );
        }
    }

    /// The dialog of a phone that a message of the switch belongs to.
    pub(super) fn find(&self, addr: SocketAddr, text: Text<'_>) -> Option<usize> {
        let phones = self.dialogs.get(&(addr, text.call_id().to_owned()))?;
        let tag = if text.status().is_some() {
            text.tag("From")
        } else {
            text.tag("To")
        };
        let exact = phones.iter().find(|phone| self.phones[**phone].tag == tag);
        exact
            .or_else(|| phones.first().filter(|_| tag.is_empty()))
            .copied()
    }

    pub(super) fn reach_switch(&mut self, phone: usize, bytes: Vec<u8>, damaged: bool) {
        let (addr, role) = (self.phones[phone].addr, self.phones[phone].role);
        self.log.note(self.now, 8, &bytes, || {
            format!(
                "<- {addr} {}{}",
                head(&bytes),
                if damaged { " (damaged)" } else { "" }
            )
        });
        self.books.towards_switch(self.now, phone, role, &bytes, damaged);
        let node = self.homes[phone];
        let flow = Flow {
            local: address(node),
            remote: addr,
        };
        let stray = !damaged && Text::parse(&bytes).is_some_and(|text| text.branch().ends_with("nothing"));
        if stray {
            // Whatever is due anyway is no answer to it.
            self.input(node, Input::Timeout);
        }
        let answered = self.handled(node, Input::Datagram { flow, bytes });
        assert!(!stray || !answered, "a response was answered");
    }

    pub(super) fn reach_phone(&mut self, node: usize, addr: SocketAddr, bytes: &[u8]) {
        let Some(text) = Text::parse(bytes) else { return };
        let mut sent = Vec::new();
        let phone = match self.find(addr, text) {
            Some(phone) => phone,
            None if text.status().is_none() && text.method() == "INVITE" && text.tag("To").is_empty() => {
                self.ring(node, addr, text, bytes)
            }
            None => return,
        };
        self.phones[phone].receive(text, self.now, &mut sent);
        self.speak(phone, sent);
    }

    /// A new INVITE has reached an advisor's telephone.
    pub(super) fn ring(&mut self, node: usize, addr: SocketAddr, text: Text<'_>, bytes: &[u8]) -> usize {
        let plan = self.cast.advisor();
        let setup = Setup {
            addr,
            role: Side::B,
            call_id: text.call_id().to_owned(),
            tag: format!("b{}", self.phones.len()),
            habits: plan.habits,
            audio: plan.audio,
            on_up: plan.on_up,
        };
        let mut phone = Phone::advisor(setup, text, bytes);
        for (after, act) in plan.acts {
            phone.plan(self.now + after, act);
        }
        if self.link.clean && !self.cast.polite {
            // The time of bad manners is over.
            phone.habits = crate::sim::phone::Habits::default();
            phone.plan(self.now + 60 * SECOND, Act::Bye);
        }
        self.add(node, phone)
    }

    pub(super) fn add(&mut self, node: usize, phone: Phone) -> usize {
        let place = self.phones.len();
        self.homes.push(node);
        let key = (phone.addr, phone.call_id.clone());
        self.dialogs.entry(key).or_default().push(place);
        self.phones.push(phone);
        place
    }

    pub(super) fn dial(&mut self) {
        let plan = self.cast.caller();
        let place = self.phones.len();
        let host = u8::try_from(10 + place % 200).unwrap_or(10);
        let port = u16::try_from(5060 + place).unwrap_or(5060);
        let addr: SocketAddr = ([198, 51, 100, host], port).into();
        let setup = Setup {
            addr,
            role: Side::A,
            call_id: format!("call{place}@phone"),
            tag: format!("a{place}"),
            habits: plan.habits,
            audio: plan.audio,
            on_up: plan.on_up,
        };
        let node = self.a_node();
        let uri = format!("sip:{}@{}", plan.called, address(node).ip());
        let user = plan.line.as_deref().unwrap_or("anonymous");
        let from = format!("<sip:{user}@198.51.100.{host}>");
        let mut sent = Vec::new();
        let mut phone = Phone::caller(setup, &uri, &from, &plan.extra, self.now, &mut sent);
        for (after, act) in plan.acts {
            phone.plan(self.now + after, act);
        }
        let place = self.add(node, phone);
        self.fingers.insert(place, plan.fingers);
        self.speak(place, sent);
    }

    pub(super) fn wake(&mut self, phone: usize) {
        if self.phones[phone].armed.take_if(|at| *at <= self.now).is_none() {
            return;
        }
        let mut sent = Vec::new();
        let fork = self.phones[phone].wake(self.now, &mut sent);
        self.speak(phone, sent);
        let up = self.phones[phone].answered;
        if fork.is_some() && up {
            let tag = format!("f{}", self.phones.len());
            let fork = self.phones[phone].forked(tag);
            let place = self.add(self.homes[phone], fork);
            let mut sent = Vec::new();
            self.phones[place].act(Act::Answer, self.now, &mut sent);
            self.speak(place, sent);
        }
    }

    /// Carries what a phone says, and remembers when it wants to be woken.
    pub(super) fn speak(&mut self, phone: usize, sent: Vec<Vec<u8>>) {
        let copies = if self.phones[phone].habits.storm && !self.link.clean {
            3
        } else {
            1
        };
        for bytes in sent {
            for _ in 0..copies {
                for arrival in self.link.carry(self.now, phone, true, bytes.clone()) {
                    let damaged = arrival.damaged;
                    self.at(
                        arrival.at,
                        Event::ToSwitch {
                            phone,
                            bytes: arrival.bytes,
                            damaged,
                        },
                    );
                }
            }
        }
        let wake = self.phones[phone].next_wake();
        if let Some(at) = wake.filter(|at| self.phones[phone].armed.is_none_or(|armed| *at < armed)) {
            self.phones[phone].armed = Some(at);
            self.at(at, Event::Wake(phone));
        }
        if self.phones[phone].is_done() {
            self.hush(phone);
        }
    }

    /// A phone that is gone sends no audio either.
    pub(super) fn hush(&mut self, phone: usize) {
        let books = self.books.calls.iter();
        let mut found = Vec::new();
        for (call, book) in books {
            if book.a == Some(phone) {
                found.push((*call, Side::A));
            } else if book.b.last() == Some(&phone) {
                found.push((*call, Side::B));
            }
        }
        let (at, last, node) = (self.now + 20 * SECOND, self.now, self.homes[phone]);
        for (call, side) in found {
            self.local(at, node, Local::Silence { call, side, last });
        }
    }

    /// The carrier spreads calls over all nodes.
    pub fn a_node(&mut self) -> usize {
        let count = self.nodes.len() as u64;
        usize::try_from(self.rng.below(count)).unwrap_or(0)
    }
}
