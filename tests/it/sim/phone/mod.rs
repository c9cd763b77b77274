//! One dialog of a telephone: the caller's or an advisor's, polite or not.
//!
//! A phone takes datagrams and wake-ups, and gives datagrams. What it does of its own will are
//! [`Act`]s with a time, drawn beforehand.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cardline::ids::Side;

use super::text::{Audio, Text, description, response};

mod acts;
mod words;

/// Nanoseconds of the simulated clock.
pub type Nanos = u64;
pub const MS: Nanos = 1_000_000;
pub const SECOND: Nanos = 1000 * MS;
const T1: Nanos = 500 * MS;
const GIVE_UP: Nanos = 64 * T1;

/// What a phone does of its own will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// 18x.
    Ring(u16),
    /// 200 to the INVITE.
    Answer,
    /// A second 200 to the same INVITE from another device.
    Fork,
    /// The 200 once more, long after.
    AnswerAgain,
    Refuse(u16),
    Cancel,
    Bye,
    /// A re-INVITE with this direction.
    Reinvite(&'static str),
    /// An in-dialog request whose CSeq is lower than the last.
    StaleRequest,
    /// OPTIONS inside the dialog.
    Options,
    /// A response that answers nothing.
    Stray,
    /// A new INVITE in the dialog under the branch of the first.
    SameBranch,
    /// Power cut: neither sends nor answers any more.
    Vanish,
}

/// Lasting bad habits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habits {
    pub never_ack: bool,
    /// Everything three times.
    pub storm: bool,
    /// Answers although CANCEL came.
    pub deaf_to_cancel: bool,
    /// Requests of the switch inside the dialog get no answer.
    pub mute: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhoneState {
    /// INVITE sent or received, no final response.
    Early,
    Up,
    Over,
    Vanished,
}

/// A datagram that is repeated until something answers it.
struct Pending {
    key: String,
    bytes: Vec<u8>,
    at: Nanos,
    interval: Nanos,
    until: Nanos,
}

pub struct Phone {
    pub addr: SocketAddr,
    pub role: Side,
    pub call_id: String,
    pub tag: String,
    pub state: PhoneState,
    pub habits: Habits,
    pub audio: Audio,
    /// The audio port in the switch's description for this dialog.
    pub switch_port: Option<u16>,
    /// When this phone last could send audio.
    pub on_up: Vec<(Nanos, Act)>,
    /// Its own 200 went out (advisor).
    pub answered: bool,
    /// This phone's 200 was acknowledged, or it acknowledged one.
    pub confirmed: bool,
    /// Whom it talks to: the value of the other end's From or To with the tag.
    remote: String,
    local: String,
    target: String,
    cseq: u32,
    version: u32,
    direction: &'static str,
    invite: Vec<u8>,
    invite_branch: String,
    cancel_wanted: bool,
    cancelled: bool,
    reinviting: bool,
    pending: Vec<Pending>,
    replies: BTreeMap<String, Vec<u8>>,
    due: BTreeMap<(Nanos, u32), Act>,
    acts: u32,
    branches: u32,
    pub armed: Option<Nanos>,
    /// The switch left a request of this phone, or its 200, without an answer to the end.
    pub gave_up: bool,
    /// BYE came from the switch.
    pub dismissed: bool,
}

/// What a new phone needs.
pub struct Setup {
    pub addr: SocketAddr,
    pub role: Side,
    pub call_id: String,
    pub tag: String,
    pub habits: Habits,
    pub audio: Audio,
    pub on_up: Vec<(Nanos, Act)>,
}

impl Phone {
    fn new(setup: Setup) -> Phone {
        Phone {
            addr: setup.addr,
            role: setup.role,
            call_id: setup.call_id,
            tag: setup.tag,
            state: PhoneState::Early,
            habits: setup.habits,
            audio: setup.audio,
            switch_port: None,
            on_up: setup.on_up,
            answered: false,
            confirmed: false,
            remote: String::new(),
            local: String::new(),
            target: String::new(),
            cseq: 1,
            version: 1,
            direction: "sendrecv",
            invite: Vec::new(),
            invite_branch: String::new(),
            cancel_wanted: false,
            cancelled: false,
            reinviting: false,
            pending: Vec::new(),
            replies: BTreeMap::new(),
            due: BTreeMap::new(),
            acts: 0,
            branches: 0,
            armed: None,
            gave_up: false,
            dismissed: false,
        }
    }

    /// A caller, about to dial; `extra` are header lines of its INVITE.
    pub fn caller(
        setup: Setup,
        uri: &str,
        from: &str,
        extra: &str,
        now: Nanos,
        out: &mut Vec<Vec<u8>>,
    ) -> Phone {
        let mut phone = Phone::new(setup);
        phone.local = format!("{from};tag={}", phone.tag);
        phone.remote = format!("<{uri}>");
        phone.target = uri.to_owned();
        let body = description(phone.addr, 1, phone.audio, "sendrecv");
        let branch = phone.branch();
        let invite = phone.request("INVITE", 1, &branch, extra, &body);
        phone.invite_branch = branch;
        phone.invite = invite.clone();
        phone.repeat("INVITE", invite, now, out);
        phone
    }

    /// An advisor whose telephone has just got this INVITE.
    pub fn advisor(setup: Setup, invite: Text<'_>, bytes: &[u8]) -> Phone {
        let mut phone = Phone::new(setup);
        phone.local = format!("{};tag={}", invite.get("To"), phone.tag);
        phone.remote = invite.get("From").to_owned();
        phone.target = invite.contact().to_owned();
        phone.switch_port = invite.audio_port();
        phone.invite = bytes.to_vec();
        phone.invite_branch = invite.branch().to_owned();
        phone
    }

    /// Another device that got the same INVITE.
    pub fn forked(&self, tag: String) -> Phone {
        let setup = Setup {
            addr: self.addr,
            role: self.role,
            call_id: self.call_id.clone(),
            tag: tag.clone(),
            habits: Habits::default(),
            audio: self.audio,
            on_up: Vec::new(),
        };
        let text = Text::parse(&self.invite).expect("it was read before");
        let mut phone = Phone::advisor(setup, text, &self.invite);
        phone.local = format!("{};tag={tag}", text.get("To"));
        phone
    }

    pub fn plan(&mut self, at: Nanos, act: Act) {
        self.acts += 1;
        self.due.insert((at, self.acts), act);
    }

    pub fn next_wake(&self) -> Option<Nanos> {
        if self.state == PhoneState::Vanished {
            return None;
        }
        let due = self.due.keys().next().map(|(at, _)| *at);
        let pending = self.pending.iter().map(|p| p.at).min();
        due.into_iter().chain(pending).min()
    }

    /// Whether this phone believes that nobody is at the other end any more.
    pub fn is_done(&self) -> bool {
        matches!(self.state, PhoneState::Over | PhoneState::Vanished)
    }

    /// Does what is due. An [`Act::Fork`] is given back: it needs another phone.
    pub fn wake(&mut self, now: Nanos, out: &mut Vec<Vec<u8>>) -> Option<Act> {
        if self.state == PhoneState::Vanished {
            return None;
        }
        self.resend(now, out);
        let mut fork = None;
        while let Some((&key, &act)) = self.due.iter().next() {
            if key.0 > now {
                break;
            }
            self.due.remove(&key);
            if act == Act::Fork {
                fork = Some(act);
            } else {
                self.act(act, now, out);
            }
        }
        fork
    }

    fn resend(&mut self, now: Nanos, out: &mut Vec<Vec<u8>>) {
        let mut given_up = Vec::new();
        for pending in &mut self.pending {
            if pending.at > now {
                continue;
            }
            if now >= pending.until {
                given_up.push(pending.key.clone());
                continue;
            }
            out.push(pending.bytes.clone());
            pending.interval = (pending.interval * 2).min(8 * T1);
            pending.at = now + pending.interval;
        }
        for key in given_up {
            self.stop(&key);
            let device = self.tag.starts_with('f') && key == "200";
            let unanswered = self.role == Side::A && (key == "BYE" || key == "CANCEL");
            self.gave_up |= device || unanswered;
            match key.as_str() {
                // No ACK to our 200 (RFC 3261 §13.3.1.4), or nobody answers at all.
                "200" => self.act(Act::Bye, now, out),
                "INVITE" | "BYE" | "final" => self.state = PhoneState::Over,
                "re-INVITE" => self.reinviting = false,
                _ => {}
            }
        }
    }

    fn reply_invite(&mut self, status: u16, out: &mut Vec<Vec<u8>>) {
        let body = if status == 183 {
            description(self.addr, 1, self.audio, "sendrecv")
        } else {
            String::new()
        };
        let bytes = self.to_invite(status, &body);
        self.replies.insert("INVITE".into(), bytes.clone());
        out.push(bytes);
    }

    fn final_reply(&mut self, status: u16, now: Nanos, out: &mut Vec<Vec<u8>>) {
        let bytes = self.to_invite(status, "");
        self.replies.insert("INVITE".into(), bytes.clone());
        self.repeat("final", bytes, now, out);
    }

    fn cancel(&mut self, now: Nanos, out: &mut Vec<Vec<u8>>) {
        // Only after a provisional response (RFC 3261 §9.1).
        if !self.cancel_wanted && self.pending.iter().any(|p| p.key == "INVITE") {
            self.cancel_wanted = true;
            return;
        }
        if self.cancelled {
            return;
        }
        self.cancelled = true;
        let remote = std::mem::take(&mut self.remote);
        self.remote = remote.split(";tag=").next().unwrap_or("").to_owned();
        let branch = self.invite_branch.clone();
        let bytes = self.request("CANCEL", 1, &branch, "", "");
        self.remote = remote;
        self.repeat("CANCEL", bytes, now, out);
        // Whatever comes, this phone gives up some time.
        self.plan(now + GIVE_UP, Act::Bye);
    }

    fn hang_up(&mut self, now: Nanos, out: &mut Vec<Vec<u8>>) {
        match self.state {
            PhoneState::Early if self.role == Side::A && !self.cancelled => self.cancel(now, out),
            PhoneState::Early if self.role == Side::B => self.act(Act::Refuse(480), now, out),
            PhoneState::Early => self.state = PhoneState::Over,
            PhoneState::Up => {
                self.stop("200");
                self.stop("re-INVITE");
                self.state = PhoneState::Over;
                self.cseq += 1;
                let branch = self.branch();
                let bytes = self.request("BYE", self.cseq, &branch, "", "");
                self.repeat("BYE", bytes, now, out);
            }
            PhoneState::Over | PhoneState::Vanished => {}
        }
    }

    pub fn receive(&mut self, text: Text<'_>, now: Nanos, out: &mut Vec<Vec<u8>>) {
        if self.state == PhoneState::Vanished {
            return;
        }
        match text.status() {
            Some(status) => self.on_response(status, text, now, out),
            None => self.on_request(text, now, out),
        }
    }

    fn on_response(&mut self, status: u16, text: Text<'_>, now: Nanos, out: &mut Vec<Vec<u8>>) {
        let first = text.branch() == self.invite_branch;
        match (text.method(), status) {
            ("INVITE", 100..=199) if first => {
                self.stop("INVITE");
                if self.cancel_wanted && !self.cancelled {
                    self.cancel(now, out);
                }
            }
            ("INVITE", 200..=299) if first => self.on_ok(text, now, out),
            ("INVITE", 300..) if first => {
                self.stop("INVITE");
                out.push(self.ack(text, text.branch(), 1, ""));
                if self.state == PhoneState::Early {
                    self.state = PhoneState::Over;
                }
            }
            ("INVITE", 200..) => {
                let accepted = status < 300;
                if self.stop("re-INVITE") || accepted {
                    self.reinviting = false;
                    let branch = if accepted {
                        self.branch()
                    } else {
                        text.branch().to_owned()
                    };
                    out.push(self.ack(text, &branch, text.cseq(), ""));
                }
            }
            ("BYE", 200..) => {
                self.stop("BYE");
            }
            ("CANCEL", _) => {
                self.stop("CANCEL");
            }
            ("OPTIONS", _) => {
                self.stop("OPTIONS");
            }
            _ => {}
        }
    }

    /// 200 to the caller's INVITE, first or repeated.
    fn on_ok(&mut self, text: Text<'_>, now: Nanos, out: &mut Vec<Vec<u8>>) {
        self.stop("INVITE");
        self.remote = text.get("To").to_owned();
        if !text.contact().is_empty() {
            self.target = text.contact().to_owned();
        }
        if !self.habits.never_ack {
            let body = if self.audio == Audio::None {
                description(self.addr, 1, Audio::Good, "sendrecv")
            } else {
                String::new()
            };
            let branch = self.branch();
            out.push(self.ack(text, &branch, 1, &body));
            self.confirmed = true;
        }
        match self.state {
            PhoneState::Early => {
                self.state = PhoneState::Up;
                self.switch_port = text.audio_port();
                self.start_talk(now);
                if self.cancelled || self.cancel_wanted {
                    self.hang_up(now, out);
                }
            }
            PhoneState::Over if !self.pending.iter().any(|p| p.key == "BYE") => {
                self.state = PhoneState::Up;
                self.hang_up(now, out);
            }
            PhoneState::Up | PhoneState::Over | PhoneState::Vanished => {}
        }
    }

    fn start_talk(&mut self, now: Nanos) {
        for (after, act) in std::mem::take(&mut self.on_up) {
            self.plan(now + after, act);
        }
    }

    fn on_request(&mut self, text: Text<'_>, now: Nanos, out: &mut Vec<Vec<u8>>) {
        let method = text.method();
        let key = format!("{method} {}", text.branch());
        if method == "INVITE" && text.tag("To").is_empty() {
            out.extend(self.replies.get("INVITE").cloned());
            return;
        }
        if let Some(again) = self.replies.get(&key) {
            out.push(again.clone());
            return;
        }
        match method {
            "ACK" => self.on_ack(now),
            "CANCEL" => self.on_cancel(text, now, out),
            _ if self.habits.mute && method != "BYE" => {}
            "BYE" => {
                self.dismissed = true;
                let status = if self.state == PhoneState::Over { 481 } else { 200 };
                self.state = PhoneState::Over;
                self.confirmed = true;
                self.pending.retain(|p| p.key == "BYE" || p.key == "final");
                self.reply(key, text, status, "", out);
            }
            _ if self.state != PhoneState::Up => self.reply(key, text, 481, "", out),
            "INVITE" if self.reinviting => self.reply(key, text, 491, "", out),
            "INVITE" | "UPDATE" => {
                let audio = if self.audio == Audio::None {
                    Audio::Good
                } else {
                    self.audio
                };
                let body = if method == "INVITE" || !text.body.is_empty() {
                    description(self.addr, self.version, audio, self.direction)
                } else {
                    String::new()
                };
                self.reply(key, text, 200, &body, out);
            }
            _ => self.reply(key, text, 200, "", out),
        }
    }

    fn reply(&mut self, key: String, text: Text<'_>, status: u16, body: &str, out: &mut Vec<Vec<u8>>) {
        let contact = format!("Contact: <sip:phone@{}>\r\n", self.addr);
        let bytes = response(text, status, &self.tag, &contact, body);
        self.replies.insert(key, bytes.clone());
        out.push(bytes);
    }

    fn on_ack(&mut self, now: Nanos) {
        self.stop("final");
        if self.stop("200") {
            self.confirmed = true;
            self.start_talk(now);
        }
    }

    fn on_cancel(&mut self, text: Text<'_>, now: Nanos, out: &mut Vec<Vec<u8>>) {
        let key = format!("CANCEL {}", text.branch());
        self.reply(key, text, 200, "", out);
        if self.state == PhoneState::Early && !self.habits.deaf_to_cancel {
            self.act(Act::Refuse(487), now, out);
        }
    }
}
