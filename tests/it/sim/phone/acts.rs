//! What a phone does of its own will.

use super::{Act, Nanos, Phone, PhoneState};
use crate::sim::text::{description, finish};

impl Phone {
    pub fn act(&mut self, act: Act, now: Nanos, out: &mut Vec<Vec<u8>>) {
        let early = self.state == PhoneState::Early;
        match act {
            Act::Ring(status) if early => self.reply_invite(status, out),
            Act::Answer if early => self.answer(now, out),
            Act::AnswerAgain if self.answered => {
                out.extend(self.replies.get("INVITE").cloned());
            }
            Act::Refuse(status) if early => {
                self.state = PhoneState::Over;
                self.final_reply(status, now, out);
            }
            Act::Cancel if early => self.cancel(now, out),
            Act::Bye => self.hang_up(now, out),
            Act::Reinvite(direction) if self.state == PhoneState::Up && !self.reinviting => {
                self.direction = direction;
                self.version += 1;
                self.reinviting = true;
                self.cseq += 1;
                let body = description(self.addr, self.version, self.audio, direction);
                let branch = self.branch();
                let bytes = self.request("INVITE", self.cseq, &branch, "", &body);
                self.repeat("re-INVITE", bytes, now, out);
            }
            Act::StaleRequest if self.state == PhoneState::Up => {
                let branch = self.branch();
                out.push(self.request("INFO", 0, &branch, "", ""));
            }
            Act::Options if self.state == PhoneState::Up => {
                self.cseq += 1;
                let branch = self.branch();
                let bytes = self.request("OPTIONS", self.cseq, &branch, "", "");
                self.repeat("OPTIONS", bytes, now, out);
            }
            Act::Stray => {
                let via = format!("SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bK{}nothing", self.tag);
                let lines = format!(
                    "SIP/2.0 200 OK\r\nVia: {via}\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: 77 BYE\r\n",
                    self.local, self.remote, self.call_id
                );
                out.push(finish(lines, ""));
            }
            Act::SameBranch if self.state == PhoneState::Up => {
                self.cseq += 1;
                let branch = self.invite_branch.clone();
                out.push(self.request("INFO", self.cseq, &branch, "", ""));
            }
            Act::Vanish => {
                self.state = PhoneState::Vanished;
                self.pending.clear();
                self.due.clear();
            }
            // It does not fit any more.
            Act::Ring(_)
            | Act::Answer
            | Act::AnswerAgain
            | Act::Refuse(_)
            | Act::Cancel
            | Act::Reinvite(_)
            | Act::StaleRequest
            | Act::Options
            | Act::SameBranch
            | Act::Fork => {}
        }
    }

    /// 200 to the INVITE, repeated until ACK.
    pub(super) fn answer(&mut self, now: Nanos, out: &mut Vec<Vec<u8>>) {
        self.state = PhoneState::Up;
        self.answered = true;
        let body = description(self.addr, 1, self.audio, "sendrecv");
        let bytes = self.to_invite(200, &body);
        self.replies.insert("INVITE".into(), bytes.clone());
        self.repeat("200", bytes, now, out);
    }
}
