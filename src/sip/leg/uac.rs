//! A B leg before its answer: our INVITE is out (RFC 3261 §13.2).
//!
//! | state      | HangUp                | 1xx                   | 2xx                   | 3xx-6xx, timer B |
//! |------------|-----------------------|-----------------------|-----------------------|------------------|
//! | Calling    | CANCEL with first 1xx | Proceeding            | ACK, established      | Rejected         |
//! | Proceeding | CANCEL, Cancelling    | Ringing               | ACK, established      | Rejected         |
//! | Cancelling |                       |                       | ACK, BYE              | Rejected 487     |

use std::net::SocketAddr;

use crate::now::Instant;
use crate::sdp::SessionDescription;
use crate::sip::dialog::{Outline, Place};
use crate::sip::leg::body::{self, Body};
use crate::sip::leg::bye::Bye;
use crate::sip::leg::established::{Established, Start};
use crate::sip::leg::forks::Forks;
use crate::sip::leg::refresh::{Agreed, TimerHeaders};
use crate::sip::leg::{ACCEPT, ALLOW, Asked, Cx, LOOP_MARKER, LegInput, Next, Purpose, SUPPORTED, plain};
use crate::sip::message::{Headers, Method, Response, Uri, name_addr};
use crate::sip::{Dial, LegCommand, LegEnd, LegEvent, Reason, ReasonProtocol, auth, timers};

/// Our INVITE has no final answer yet.
#[derive(Debug)]
pub struct Uac {
    dial: Box<Dial>,
    place: Place,
    local_tag: String,
    invite: Outline,
    phase: Phase,
    /// The descriptions of provisional responses by To tag: a peer may leave it out of its 200.
    early: Vec<(String, SessionDescription)>,
    /// Session-Expires and Min-SE of the INVITE, seconds.
    expires_s: u32,
    min_se_s: u32,
    challenged: bool,
    too_small: bool,
}

#[derive(Debug)]
enum Phase {
    Calling,
    /// Hung up before any response: CANCEL must wait for one (RFC 3261 §9.1).
    CallingToCancel(Vec<Reason>),
    Proceeding,
    /// CANCEL is out; a peer that never ends its INVITE is not waited for (RFC 3261 §9.1).
    Cancelling {
        give_up_at: Instant,
    },
}

impl Uac {
    pub fn start(cx: &mut Cx<'_>, dial: Box<Dial>, place: Place) -> (String, String, Next) {
        let local_tag = cx.ids.token();
        let call_id = format!("{}{}", cx.ids.token(), cx.ids.token());
        let from_uri = match dial.from_user.as_str() {
            // RFC 3323 §4.1.1.3.
            "anonymous" => "sip:anonymous@anonymous.invalid".to_owned(),
            user => Uri::at(Some(user), place.advertised).to_string(),
        };
        let from = name_addr(dial.from_display.as_deref(), &from_uri);
        let invite = Outline {
            uri: dial.uri.clone(),
            hop: dial.destination,
            sent_by: place.advertised,
            branch: cx.branch(),
            from: format!("{from};tag={local_tag}"),
            to: name_addr(None, &dial.uri),
            call_id: call_id.clone(),
            cseq: 1 + u32::from(cx.ids.next_u32().to_le_bytes()[0]),
            routes: Vec::new(),
            max_forwards: dial.max_forwards,
        };
        let uac = Uac {
            dial,
            place,
            local_tag: local_tag.clone(),
            invite,
            phase: Phase::Calling,
            early: Vec::new(),
            expires_s: cx.rules.session.expires_s,
            min_se_s: cx.rules.session.min_se_s,
            challenged: false,
            too_small: false,
        };
        uac.send_invite(cx, &[]);
        (call_id, local_tag, Next::Uac(Box::new(uac)))
    }

    fn send_invite(&self, cx: &mut Cx<'_>, authorization: &[(&str, String)]) {
        let mut request = self
            .invite
            .request(&Method::Invite)
            .header("Contact", &self.place.contact())
            .header("Allow", ALLOW)
            .header("Supported", SUPPORTED)
            .header("Accept", ACCEPT)
            .header("Session-Expires", &self.expires_s.to_string())
            .header("Min-SE", &self.min_se_s.to_string())
            .header(LOOP_MARKER, &cx.rules.loop_marker);
        for (name, value) in authorization {
            request = request.header(name, value);
        }
        let request = request.body(body::SDP_TYPE, body::print(&self.dial.offer));
        cx.request(Purpose::Invite, Method::Invite, self.invite.clone(), request);
    }

    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.phase {
            Phase::Cancelling { give_up_at } => Some((give_up_at, "cancel")),
            Phase::Calling | Phase::CallingToCancel(_) | Phase::Proceeding => None,
        }
    }

    /// Whether a request with our tag comes from one of the early dialogs; without a tag of the
    /// peer's to compare, our own must do.
    pub fn takes(&self, request: &Headers) -> bool {
        request.from().tag.is_some()
    }

    pub fn handle(mut self: Box<Uac>, cx: &mut Cx<'_>, input: LegInput) -> Next {
        match input {
            LegInput::Command(LegCommand::HangUp(reasons)) => {
                self.hang_up(cx, reasons);
                Next::Uac(self)
            }
            LegInput::Response {
                of: Purpose::Invite,
                response,
                remote,
            } => self.response(cx, &response, remote),
            LegInput::TimedOut(Purpose::Invite) => self.rejected(cx, 408, None),
            LegInput::Timeout => match self.phase {
                Phase::Cancelling { give_up_at } if cx.now >= give_up_at => self.rejected(cx, 487, None),
                Phase::Calling | Phase::CallingToCancel(_) | Phase::Proceeding | Phase::Cancelling { .. } => {
                    Next::Uac(self)
                }
            },
            LegInput::Request(asked) => {
                self.request(cx, &asked);
                Next::Uac(self)
            }
            LegInput::Command(
                LegCommand::Progress { .. }
                | LegCommand::Answer { .. }
                | LegCommand::Reject(_)
                | LegCommand::AnswerReoffer { .. }
                | LegCommand::Probe,
            )
            | LegInput::Cancel { .. }
            | LegInput::Ack(_)
            | LegInput::Response { .. }
            | LegInput::TimedOut(_) => Next::Uac(self),
        }
    }

    /// A request in an early dialog.
    fn request(&self, cx: &mut Cx<'_>, asked: &Asked) {
        match asked.request.method {
            Method::Update | Method::Invite => plain::not_now(cx, asked),
            Method::Ack
            | Method::Bye
            | Method::Cancel
            | Method::Options
            | Method::Info
            | Method::Prack
            | Method::Refer
            | Method::Subscribe
            | Method::Notify
            | Method::Message
            | Method::Register
            | Method::Publish
            | Method::Other(_) => plain::answer(cx, asked, &self.local_tag),
        }
    }

    fn hang_up(&mut self, cx: &mut Cx<'_>, reasons: Vec<Reason>) {
        match self.phase {
            Phase::Calling => self.phase = Phase::CallingToCancel(reasons),
            Phase::Proceeding => self.cancel(cx, &reasons),
            Phase::CallingToCancel(_) | Phase::Cancelling { .. } => {}
        }
    }

    /// CANCEL repeats the INVITE's branch, so it is a transaction of its own by method only.
    fn cancel(&mut self, cx: &mut Cx<'_>, reasons: &[Reason]) {
        let default = [sip_reason(487)];
        let reasons = if reasons.is_empty() { &default } else { reasons };
        let request = self.invite.request(&Method::Cancel).reasons(reasons);
        cx.request(Purpose::Cancel, Method::Cancel, self.invite.clone(), request);
        self.phase = Phase::Cancelling {
            give_up_at: cx.now + timers::GIVE_UP,
        };
    }

    fn response(mut self: Box<Uac>, cx: &mut Cx<'_>, response: &Response, remote: SocketAddr) -> Next {
        match response.status {
            0..=199 => {
                self.provisional(cx, response);
                Next::Uac(self)
            }
            200..=299 => self.answered(cx, response),
            300.. => self.refused(cx, response, remote),
        }
    }

    fn provisional(&mut self, cx: &mut Cx<'_>, response: &Response) {
        match &self.phase {
            Phase::CallingToCancel(reasons) => {
                let reasons = reasons.clone();
                return self.cancel(cx, &reasons);
            }
            Phase::Cancelling { .. } => return,
            Phase::Calling | Phase::Proceeding => self.phase = Phase::Proceeding,
        }
        if response.status == 100 {
            return;
        }
        let sdp = Body::of(response).description();
        if let Some(sdp) = &sdp {
            self.remember(response.to().tag.clone().unwrap_or_default(), sdp.clone());
        }
        let status = response.status;
        cx.event(LegEvent::Ringing { status, sdp });
    }

    fn remember(&mut self, tag: String, sdp: SessionDescription) {
        self.early.retain(|(known, _)| *known != tag);
        if self.early.len() < MAX_EARLY {
            self.early.push((tag, sdp));
        }
    }

    fn answered(self: Box<Uac>, cx: &mut Cx<'_>, response: &Response) -> Next {
        let Uac {
            dial,
            place,
            local_tag,
            invite,
            phase,
            early,
            expires_s,
            ..
        } = *self;
        let (forks, dialog) = Forks::first_2xx(cx, invite, local_tag, response, place);
        let forks = Some(Box::new(forks));
        match phase {
            // The peer answered while our CANCEL, or our wish for one, was on its way.
            Phase::CallingToCancel(reasons) => return Bye::hang_up(cx, dialog, &reasons, forks),
            Phase::Cancelling { .. } => return Bye::hang_up(cx, dialog, &[sip_reason(487)], forks),
            Phase::Calling | Phase::Proceeding => {}
        }
        let early = early.into_iter().find(|(tag, _)| *tag == dialog.remote_tag);
        let answer = match Body::of(response) {
            Body::Description(answer) => Some(answer),
            Body::Empty => early.map(|(_, answer)| answer),
            Body::Unreadable | Body::Foreign => None,
        };
        let Some(answer) = answer else {
            return Bye::give_up(cx, dialog, LegEnd::BadAnswer, forks);
        };
        cx.event(LegEvent::Answered {
            answer: answer.clone(),
        });
        let start = Start {
            ours: dial.offer,
            theirs: Some(answer),
            agreed: Agreed::as_uac(TimerHeaders::of(response), expires_s),
            update: response.allows(&Method::Update),
            forks,
        };
        Established::start(cx, dialog, start)
    }

    fn refused(mut self: Box<Uac>, cx: &mut Cx<'_>, response: &Response, remote: SocketAddr) -> Next {
        let wanted = match self.phase {
            Phase::Calling | Phase::Proceeding => true,
            Phase::CallingToCancel(_) | Phase::Cancelling { .. } => false,
        };
        match response.status {
            401 | 407 if wanted && !self.challenged => {
                let authorization = self.authorization(cx, response, remote);
                if !authorization.is_empty() {
                    self.challenged = true;
                    self.again(cx, &authorization);
                    return Next::Uac(self);
                }
            }
            422 if wanted && !self.too_small => {
                self.too_small = true;
                let min_se_s = response
                    .min_se()
                    .filter(|asked| (self.min_se_s..=MOST_MIN_SE_S).contains(asked));
                if let Some(min_se_s) = min_se_s {
                    self.min_se_s = min_se_s;
                    self.expires_s = self.expires_s.max(min_se_s);
                    self.again(cx, &[]);
                    return Next::Uac(self);
                }
            }
            _ => {}
        }
        self.rejected(cx, response.status, Some(response))
    }

    /// The same INVITE under the next CSeq and a new branch (RFC 3261 §22.2, RFC 4028 §7.3).
    fn again(&mut self, cx: &mut Cx<'_>, authorization: &[(&str, String)]) {
        self.invite.cseq = self.invite.cseq.saturating_add(1);
        self.invite.branch = cx.branch();
        self.phase = Phase::Calling;
        self.send_invite(cx, authorization);
    }

    /// Only the destination itself may ask for our digest; anyone else would learn it for use
    /// elsewhere.
    fn authorization(
        &self,
        cx: &mut Cx<'_>,
        response: &Response,
        remote: SocketAddr,
    ) -> Vec<(&'static str, String)> {
        let Some(credentials) = self
            .dial
            .credentials
            .as_ref()
            .filter(|_| remote == self.dial.destination)
        else {
            return Vec::new();
        };
        let cnonce = cx.ids.token();
        let attempt = auth::Attempt {
            method: &Method::Invite,
            uri: &self.invite.uri,
            cnonce: &cnonce,
            count: 1,
        };
        auth::challenges(response)
            .iter()
            .map(|asked| (asked.by.answer_header(), asked.authorize(credentials, attempt)))
            .collect()
    }

    fn rejected(self: Box<Uac>, cx: &mut Cx<'_>, status: u16, response: Option<&Response>) -> Next {
        let cancelled = match self.phase {
            Phase::CallingToCancel(_) | Phase::Cancelling { .. } => true,
            Phase::Calling | Phase::Proceeding => false,
        };
        cx.event(LegEvent::Rejected {
            status: if cancelled { 487 } else { status },
            reasons: response.map(|response| response.reasons()).unwrap_or_default(),
            retry_after_s: response.and_then(|response| response.retry_after()),
        });
        Next::Done(None)
    }
}

fn sip_reason(cause: u16) -> Reason {
    Reason {
        protocol: ReasonProtocol::Sip,
        cause,
        text: None,
    }
}

/// Descriptions of so many early dialogs are kept.
const MAX_EARLY: usize = 8;
/// A Min-SE above an hour is no reason to try again.
const MOST_MIN_SE_S: u32 = 3_600;
