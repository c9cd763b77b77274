//! What a phone puts on the wire, and what it says again until something answers.

use super::{GIVE_UP, Nanos, Pending, Phone, T1};
use crate::sim::text::{Text, finish, response};

impl Phone {
    pub(super) fn to_invite(&self, status: u16, body: &str) -> Vec<u8> {
        let invite = self.invite.clone();
        let text = Text::parse(&invite).expect("it was read before");
        let extra = match status {
            401 => "WWW-Authenticate: Digest realm=\"x\", nonce=\"y\", algorithm=MD5\r\n".to_owned(),
            422 => "Min-SE: 3600\r\n".to_owned(),
            302 => "Contact: <sip:elsewhere@203.0.113.77>\r\n".to_owned(),
            _ => format!("Contact: <sip:advisor@{}>\r\n", self.addr),
        };
        let tag = if status == 100 { "" } else { &self.tag };
        response(text, status, tag, &extra, body)
    }

    pub(super) fn ack(&self, to: Text<'_>, branch: &str, cseq: u32, body: &str) -> Vec<u8> {
        let remote = to.get("To");
        let head = format!(
            "ACK {} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch={branch}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {remote}\r\nCall-ID: {}\r\nCSeq: {cseq} ACK\r\n",
            self.target, self.addr, self.local, self.call_id
        );
        finish(head, body)
    }

    pub(super) fn request(&self, method: &str, cseq: u32, branch: &str, extra: &str, body: &str) -> Vec<u8> {
        let head = format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch={branch};rport\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\nContact: <sip:phone@{}>\r\n{extra}",
            self.target, self.addr, self.local, self.remote, self.call_id, self.addr
        );
        finish(head, body)
    }

    pub(super) fn branch(&mut self) -> String {
        self.branches += 1;
        format!("z9hG4bK{}x{}", self.tag, self.branches)
    }

    pub(super) fn repeat(&mut self, key: &str, bytes: Vec<u8>, now: Nanos, out: &mut Vec<Vec<u8>>) {
        out.push(bytes.clone());
        self.pending.push(Pending {
            key: key.to_owned(),
            bytes,
            at: now + T1,
            interval: T1,
            until: now + GIVE_UP,
        });
    }

    /// Whether something was being repeated under this key.
    pub(super) fn stop(&mut self, key: &str) -> bool {
        let before = self.pending.len();
        self.pending.retain(|p| p.key != key);
        self.pending.len() < before
    }
}
