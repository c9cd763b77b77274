//! An A leg before its answer: an INVITE of the peer waits for the call (RFC 3261 §13.3).

use std::time::Duration;

use crate::now::Instant;
use crate::sdp::SessionDescription;
use crate::sip::dialog::{Dialog, Place};
use crate::sip::leg::established::{Established, Start};
use crate::sip::leg::refresh::{Agreed, Turn};
use crate::sip::leg::{ALLOW, Asked, Cx, LegInput, LegOutput, Next, SUPPORTED, body, plain};
use crate::sip::message::{Method, ResponseBuilder};
use crate::sip::{Incoming, LegCommand, LegEnd, LegEvent, Reason, Rejection};

/// The INVITE is not answered yet.
#[derive(Debug)]
pub struct Uas {
    pub dialog: Dialog,
    invite: Asked,
    /// What our 200 says about the session timer.
    agreed: Agreed,
    offer: Option<SessionDescription>,
    progress: Option<Progress>,
}

/// The last provisional response but 100: sent again each minute, so that no proxy on the way
/// cancels (RFC 3261 §13.3.1.1).
#[derive(Debug)]
struct Progress {
    status: u16,
    bytes: Vec<u8>,
    repeat_at: Instant,
}

impl Uas {
    /// Sends 100 and reports the call. `local_tag` goes into all responses but the 100.
    pub fn start(
        cx: &mut Cx<'_>,
        invite: Asked,
        place: Place,
        local_tag: String,
        agreed: Agreed,
        incoming: Incoming,
    ) -> Next {
        let trying = ResponseBuilder::response_to(&invite.request, 100, None, invite.remote);
        cx.reply(&invite, 100, trying);
        let offer = incoming.offer.clone();
        cx.event(LegEvent::Incoming(Box::new(incoming)));
        let dialog = Dialog::from_invite(&invite.request, local_tag, place);
        Next::Uas(Box::new(Uas {
            dialog,
            invite,
            agreed,
            offer,
            progress: None,
        }))
    }

    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        self.progress
            .as_ref()
            .map(|progress| (progress.repeat_at, "progress"))
    }

    pub fn handle(mut self: Box<Uas>, cx: &mut Cx<'_>, input: LegInput) -> Next {
        match input {
            LegInput::Command(command) => self.command(cx, command),
            LegInput::Cancel { txn, cancel } if txn == self.invite.txn => {
                self.cancelled(cx, cancel.reasons())
            }
            LegInput::Request(asked) => self.request(cx, &asked),
            LegInput::Timeout => {
                self.repeat_progress(cx);
                Next::Uas(self)
            }
            // Nothing of ours is under way, and an ACK comes after the answer.
            LegInput::Cancel { .. }
            | LegInput::Ack(_)
            | LegInput::Response { .. }
            | LegInput::TimedOut(_) => Next::Uas(self),
        }
    }

    fn command(mut self: Box<Uas>, cx: &mut Cx<'_>, command: LegCommand) -> Next {
        match command {
            LegCommand::Progress { status, sdp } => {
                self.send_progress(cx, status, sdp.as_ref());
                Next::Uas(self)
            }
            LegCommand::Answer { sdp } => self.answer(cx, sdp),
            LegCommand::Reject(rejection) => self.reject(cx, &rejection),
            LegCommand::HangUp(reasons) => self.reject(
                cx,
                &Rejection {
                    status: 603,
                    reasons,
                    retry_after_s: None,
                },
            ),
            LegCommand::AnswerReoffer { .. } | LegCommand::Probe => Next::Uas(self),
        }
    }

    fn send_progress(&mut self, cx: &mut Cx<'_>, status: u16, sdp: Option<&SessionDescription>) {
        let status = status.clamp(180, 199);
        let mut response = self.response(status).header("Allow", ALLOW);
        if let Some(sdp) = sdp {
            response = response.body(body::SDP_TYPE, body::print(sdp));
        }
        let bytes = response.build();
        cx.out.push(LegOutput::Reply {
            txn: self.invite.txn,
            status,
            bytes: bytes.clone(),
        });
        self.progress = Some(Progress {
            status,
            bytes,
            repeat_at: cx.now + REPEAT_PROGRESS,
        });
    }

    fn repeat_progress(&mut self, cx: &mut Cx<'_>) {
        let Some(progress) = self.progress.as_mut().filter(|p| cx.now >= p.repeat_at) else {
            return;
        };
        progress.repeat_at = cx.now + REPEAT_PROGRESS;
        let (txn, status, bytes) = (self.invite.txn, progress.status, progress.bytes.clone());
        cx.out.push(LegOutput::Reply { txn, status, bytes });
    }

    fn answer(self: Box<Uas>, cx: &mut Cx<'_>, sdp: SessionDescription) -> Next {
        let mut response = self
            .response(200)
            .header("Allow", ALLOW)
            .header("Supported", SUPPORTED)
            .header("Session-Expires", &self.agreed.as_uas_header());
        if self.agreed.turn == Turn::Peer {
            response = response.header("Require", SUPPORTED);
        }
        let bytes = response.body(body::SDP_TYPE, body::print(&sdp)).build();
        cx.out.push(LegOutput::Reply {
            txn: self.invite.txn,
            status: 200,
            bytes: bytes.clone(),
        });
        let Uas {
            dialog,
            invite,
            agreed,
            offer,
            progress: _,
        } = *self;
        Established::answered(
            cx,
            dialog,
            Start {
                ours: sdp,
                theirs: offer,
                agreed,
                update: invite.request.allows(&Method::Update),
                forks: None,
            },
            (&invite, bytes),
        )
    }

    fn reject(self: Box<Uas>, cx: &mut Cx<'_>, rejection: &Rejection) -> Next {
        let status = rejection.status.clamp(400, 699);
        let mut response = self
            .invite
            .response(status, &self.dialog.local_tag)
            .reasons(&rejection.reasons);
        if let Some(wait_s) = rejection.retry_after_s {
            response = response.header("Retry-After", &wait_s.to_string());
        }
        cx.reply(&self.invite, status, response);
        cx.event(LegEvent::Ended(LegEnd::ByUs));
        Next::Done(None)
    }

    fn cancelled(self: Box<Uas>, cx: &mut Cx<'_>, reasons: Vec<Reason>) -> Next {
        cx.reply(
            &self.invite,
            487,
            self.invite.response(487, &self.dialog.local_tag),
        );
        cx.event(LegEvent::Cancelled { reasons });
        Next::Done(None)
    }

    /// A request in the early dialog.
    fn request(mut self: Box<Uas>, cx: &mut Cx<'_>, asked: &Asked) -> Next {
        let tag = self.dialog.local_tag.clone();
        if !self.dialog.take_cseq(&asked.request) {
            plain::refuse(cx, asked, 500);
            return Next::Uas(self);
        }
        match asked.request.method {
            // A caller may end its own early dialog by BYE (RFC 3261 §15).
            Method::Bye => {
                cx.reply(asked, 200, asked.response(200, &tag));
                return self.cancelled(cx, asked.request.reasons());
            }
            Method::Update if asked.request.body().is_empty() => {
                self.dialog.refresh_target(&asked.request);
                let response = asked
                    .response(200, &tag)
                    .header("Contact", &self.dialog.place().contact());
                cx.reply(asked, 200, response);
            }
            // No second offer while the first has no answer (RFC 3311 §5.2, RFC 3261 §14.2).
            Method::Update | Method::Invite => plain::not_now(cx, asked),
            Method::Ack
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
            | Method::Other(_) => plain::answer(cx, asked, &tag),
        }
        Next::Uas(self)
    }

    /// A response that makes or confirms the dialog.
    fn response(&self, status: u16) -> ResponseBuilder {
        self.invite
            .response(status, &self.dialog.local_tag)
            .header("Contact", &self.dialog.place().contact())
    }
}

const REPEAT_PROGRESS: Duration = Duration::from_secs(60);
