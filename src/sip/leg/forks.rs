//! 2xx responses to the INVITE of a B leg: the first makes the leg, the same once more is
//! acknowledged once more, another fork's is acknowledged and ended (RFC 3261 §13.2.2.4).

use crate::fault::{self, Fault};
use crate::now::Instant;
use crate::sip::dialog::{Dialog, Outline, Place};
use crate::sip::leg::{Cx, LegOutput, Purpose};
use crate::sip::message::{Method, Response};
use crate::sip::timers;
use crate::sip::{LegEvent, Reason};

/// The dialogs that 2xx responses have made so far, each with its ACK.
#[derive(Debug)]
pub struct Forks {
    invite: Outline,
    local_tag: String,
    place: Place,
    acks: Vec<SentAck>,
    /// Until then 2xx responses may still come (timer M).
    pub until: Instant,
}

#[derive(Debug)]
struct SentAck {
    remote_tag: String,
    outline: Outline,
    bytes: Vec<u8>,
}

impl Forks {
    /// Acknowledges the first 2xx; the second value is its dialog.
    pub fn first_2xx(
        cx: &mut Cx<'_>,
        invite: Outline,
        local_tag: String,
        response: &Response,
        place: Place,
    ) -> (Forks, Dialog) {
        let until = cx.now + timers::TIMER_M;
        let mut forks = Forks {
            invite,
            local_tag,
            place,
            acks: Vec::new(),
            until,
        };
        let dialog = forks.acknowledge(cx, response);
        (forks, dialog)
    }

    /// A 2xx after the first.
    pub fn late_2xx(&mut self, cx: &mut Cx<'_>, response: &Response) {
        if !(200..=299).contains(&response.status) {
            return;
        }
        let tag = response.to().tag.as_deref().unwrap_or_default();
        if let Some(sent) = self.acks.iter().find(|sent| sent.remote_tag == tag) {
            cx.out.push(LegOutput::Ack {
                hop: sent.outline.hop,
                bytes: sent.bytes.clone(),
                again: true,
            });
            if fault::planted(Fault::AnswerChargedTwice) {
                cx.event(LegEvent::Ringing {
                    status: response.status,
                    sdp: None,
                });
            }
            return;
        }
        if self.acks.len() >= MAX_FORKS {
            return;
        }
        let mut dialog = self.acknowledge(cx, response);
        if fault::planted(Fault::SecondAnswerKept) {
            return;
        }
        let branch = cx.branch();
        let outline = dialog.next_request(branch);
        let request = outline.request(&Method::Bye).reasons(&[Reason {
            protocol: crate::sip::ReasonProtocol::Sip,
            cause: 487,
            text: None,
        }]);
        cx.request(Purpose::Orphan, Method::Bye, outline, request);
    }

    fn acknowledge(&mut self, cx: &mut Cx<'_>, response: &Response) -> Dialog {
        let dialog = Dialog::from_response(&self.invite, &self.local_tag, response, self.place);
        let branch = cx.branch();
        let outline = dialog.ack(self.invite.cseq, branch);
        let bytes = cx.ack(&outline);
        self.acks.push(SentAck {
            remote_tag: dialog.remote_tag.clone(),
            outline,
            bytes,
        });
        dialog
    }
}

/// More answers than this to one INVITE are ignored.
const MAX_FORKS: usize = 8;
