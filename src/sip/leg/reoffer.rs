//! Offers inside an established dialog: re-INVITE and UPDATE of the peer (RFC 3261 §14,
//! RFC 3311), and the refreshes of ours (RFC 4028 §7.4).

use std::mem;
use std::time::Duration;

use crate::sdp::SessionDescription;
use crate::sip::LegEvent;
use crate::sip::leg::body::{self, Body};
use crate::sip::leg::established::{AwaitAck, Established, Exchanging, RefreshAck, Which};
use crate::sip::leg::refresh::{Agreed, SessionTimer, TimerHeaders, Turn};
use crate::sip::leg::{ACCEPT, ALLOW, Asked, Cx, LegOutput, Next, Purpose, SUPPORTED, ServerId, plain};
use crate::sip::message::{Method, Response, ResponseBuilder};
use crate::sip::offer_answer::NotNow;

impl Established {
    /// A re-INVITE or UPDATE: answered at once if it offers nothing, else it waits for the call.
    pub(super) fn reoffered(&mut self, cx: &mut Cx<'_>, asked: Asked) {
        let tag = self.dialog.local_tag.clone();
        if plain::refuses_options(cx, &asked, &tag) {
            return;
        }
        let bare_update = asked.request.method == Method::Update && asked.request.body().is_empty();
        if !bare_update {
            match self.exchanging.turn().offered_by_peer() {
                Ok(_) => {}
                Err(NotNow::Glare) => return cx.reply(&asked, 491, asked.response(491, &tag)),
                Err(NotNow::Unanswered) => return plain::not_now(cx, &asked),
            }
        }
        let Ok(agreed) = Agreed::as_uas(TimerHeaders::of(&asked.request), cx.rules.session) else {
            let least = cx.rules.session.min_se_s.to_string();
            return cx.reply(&asked, 422, asked.response(422, &tag).header("Min-SE", &least));
        };
        let offer = match Body::of(&asked.request) {
            Body::Empty => None,
            Body::Description(offer) => Some(offer),
            Body::Unreadable => return cx.reply(&asked, 488, asked.response(488, &tag)),
            Body::Foreign => {
                return cx.reply(&asked, 415, asked.response(415, &tag).header("Accept", ACCEPT));
            }
        };
        self.dialog.refresh_target(&asked.request);
        self.update |= asked.request.allows(&Method::Update);
        if bare_update {
            cx.reply(&asked, 200, self.agreeing(&asked, agreed));
            self.timer = SessionTimer::start(cx.now, agreed);
            return;
        }
        self.exchanging = Exchanging::Asked {
            asked: Box::new(asked),
            agreed,
        };
        cx.event(LegEvent::Reoffer { offer });
    }

    /// The call's answer to a `Reoffer`; without one waiting it is late and ignored.
    pub(super) fn answer_reoffer(&mut self, cx: &mut Cx<'_>, sdp: Option<SessionDescription>) {
        let (asked, agreed) = match mem::replace(&mut self.exchanging, Exchanging::Nothing) {
            Exchanging::Asked { asked, agreed } => (asked, agreed),
            other @ (Exchanging::Nothing | Exchanging::AwaitAck(_) | Exchanging::Refresh { .. }) => {
                self.exchanging = other;
                return;
            }
        };
        let Some(sdp) = sdp else {
            return cx.reply(&asked, 488, asked.response(488, &self.dialog.local_tag));
        };
        let offer = Body::of(&asked.request).description();
        let response = self
            .agreeing(&asked, agreed)
            .body(body::SDP_TYPE, body::print(&sdp));
        let bytes = response.build();
        cx.out.push(LegOutput::Reply {
            txn: asked.txn,
            status: 200,
            bytes: bytes.clone(),
        });
        self.ours = sdp;
        self.timer = SessionTimer::start(cx.now, agreed);
        let answer_due = offer.is_none();
        if offer.is_some() {
            self.theirs = offer;
        }
        if asked.request.method == Method::Invite {
            let waiting = AwaitAck::start(cx.now, &asked, bytes, answer_due, Which::Again);
            self.exchanging = Exchanging::AwaitAck(waiting);
        }
    }

    /// CANCEL of a re-INVITE that we have not answered; the dialog lives on as it was.
    pub(super) fn cancelled(&mut self, cx: &mut Cx<'_>, txn: ServerId) {
        match mem::replace(&mut self.exchanging, Exchanging::Nothing) {
            Exchanging::Asked { asked, .. } if asked.txn == txn => {
                cx.reply(&asked, 487, asked.response(487, &self.dialog.local_tag));
            }
            other @ (Exchanging::Asked { .. }
            | Exchanging::Nothing
            | Exchanging::AwaitAck(_)
            | Exchanging::Refresh { .. }) => self.exchanging = other,
        }
    }

    /// A 200 with Contact and the session timer (RFC 4028 §9).
    fn agreeing(&self, asked: &Asked, agreed: Agreed) -> ResponseBuilder {
        let response = asked
            .response(200, &self.dialog.local_tag)
            .header("Contact", &self.dialog.place().contact())
            .header("Allow", ALLOW)
            .header("Supported", SUPPORTED)
            .header("Session-Expires", &agreed.as_uas_header());
        match agreed.turn {
            Turn::Us => response,
            Turn::Peer => response.header("Require", SUPPORTED),
        }
    }

    /// Half of the interval is over: UPDATE without an offer if the peer takes it, else a
    /// re-INVITE that offers what is agreed already, under the same version.
    pub(super) fn refresh(&mut self, cx: &mut Cx<'_>) {
        if !self.exchanging.turn().may_offer() {
            self.timer.refresh_at = Some(cx.now + BUSY);
            return;
        }
        self.timer.refresh_at = None;
        let asked_s = self.timer.agreed.interval_s;
        let method = if self.update {
            Method::Update
        } else {
            Method::Invite
        };
        let branch = cx.branch();
        let outline = self.dialog.next_request(branch);
        let mut request = outline
            .request(&method)
            .header("Contact", &self.dialog.place().contact())
            .header("Allow", ALLOW)
            .header("Supported", SUPPORTED)
            .header("Session-Expires", &format!("{asked_s};refresher=uac"))
            .header("Min-SE", &cx.rules.session.min_se_s.to_string());
        if method == Method::Invite {
            request = request.body(body::SDP_TYPE, body::print(&self.ours));
        }
        cx.request(Purpose::Refresh, method, outline, request);
        self.exchanging = Exchanging::Refresh { asked_s };
    }

    /// A final response to our refresh.
    pub(super) fn refreshed(mut self: Box<Established>, cx: &mut Cx<'_>, response: &Response) -> Next {
        let (cseq, method) = response.cseq();
        let by_invite = *method == Method::Invite;
        let asked_s = match mem::replace(&mut self.exchanging, Exchanging::Nothing) {
            Exchanging::Refresh { asked_s } => asked_s,
            other @ (Exchanging::Nothing | Exchanging::Asked { .. } | Exchanging::AwaitAck(_)) => {
                self.exchanging = other;
                self.ack_again(cx, cseq);
                return Next::Established(self);
            }
        };
        match response.status {
            0..=299 => self.refresh_taken(cx, response, asked_s),
            408 | 481 => return self.gone(cx, response.status),
            422 => match response
                .min_se()
                .filter(|least| *least > asked_s && *least <= MOST_S)
            {
                Some(least) => {
                    self.timer.agreed.interval_s = least;
                    self.refresh(cx);
                }
                None => self.timer.refresh_at = Some(cx.now + LATER),
            },
            // Who made the Call-ID waits longer, so that the second try does not meet again
            // (RFC 3261 §14.1).
            491 => {
                let (from_ms, span_ms) = if self.made_call_id() {
                    (2_100, 1_900)
                } else {
                    (0, 2_000)
                };
                let wait = Duration::from_millis(from_ms + cx.ids.below(span_ms));
                self.timer.refresh_at = Some(cx.now + wait);
            }
            405 | 501 if !by_invite => {
                self.update = false;
                self.refresh(cx);
            }
            // The dialog lives until its timer ends; there is time for another try.
            300.. => {
                let wait = response
                    .retry_after()
                    .map_or(LATER, |wait_s| Duration::from_secs(wait_s.into()));
                self.timer.refresh_at = Some(cx.now + wait.clamp(BUSY, MOST_WAIT));
            }
        }
        Next::Established(self)
    }

    fn refresh_taken(&mut self, cx: &mut Cx<'_>, response: &Response, asked_s: u32) {
        self.dialog.refresh_target(response);
        self.timer = SessionTimer::start(cx.now, Agreed::as_uac(TimerHeaders::of(response), asked_s));
        let (cseq, method) = response.cseq();
        if *method != Method::Invite {
            return;
        }
        let branch = cx.branch();
        let outline = self.dialog.ack(cseq, branch);
        let bytes = cx.ack(&outline);
        self.refresh_ack = Some(RefreshAck {
            cseq,
            hop: outline.hop,
            bytes,
        });
        // The peer may have taken the occasion to change its own side.
        if let Some(answer) = Body::of(response).description()
            && self.theirs.as_ref() != Some(&answer)
        {
            self.theirs = Some(answer.clone());
            cx.event(LegEvent::ReofferAnswered { answer });
        }
    }

    /// The 200 to our re-INVITE once more.
    fn ack_again(&self, cx: &mut Cx<'_>, cseq: u32) {
        if let Some(ack) = self.refresh_ack.as_ref().filter(|ack| ack.cseq == cseq) {
            let (hop, bytes) = (ack.hop, ack.bytes.clone());
            cx.out.push(LegOutput::Ack {
                hop,
                bytes,
                again: true,
            });
        }
    }
}

/// Another exchange is under way: look again after this.
const BUSY: Duration = Duration::from_secs(2);
/// A refresh that was refused is tried again after this, unless the peer says when.
const LATER: Duration = Duration::from_secs(10);
const MOST_WAIT: Duration = Duration::from_secs(120);
/// No peer may raise the interval above this, seconds.
const MOST_S: u32 = 86_400;
