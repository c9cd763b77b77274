//! A leg with a confirmed dialog, from the 2xx to the first BYE.
//!
//! The exchange under way is one value, [`Exchanging`]: a request of the peer that waits for the
//! call, our 200 that waits for its ACK, or our own refresh.

use std::mem;
use std::net::SocketAddr;

use crate::now::Instant;
use crate::sdp::SessionDescription;
use crate::sip::dialog::Dialog;
use crate::sip::leg::body::Body;
use crate::sip::leg::bye::Bye;
use crate::sip::leg::forks::Forks;
use crate::sip::leg::refresh::{Agreed, SessionTimer};
use crate::sip::leg::{Asked, Cx, LegInput, LegOutput, Next, Purpose, ServerId, plain};
use crate::sip::message::{Method, Request, Response};
use crate::sip::offer_answer::Exchange;
use crate::sip::timers::{self, Backoff};
use crate::sip::{LegCommand, LegEnd, LegEvent, Reason};

/// Both sides have agreed; talk is possible.
#[derive(Debug)]
pub struct Established {
    pub dialog: Dialog,
    pub(super) ours: SessionDescription,
    pub(super) theirs: Option<SessionDescription>,
    pub(super) timer: SessionTimer,
    /// The peer's Allow names UPDATE, the lighter refresh.
    pub(super) update: bool,
    pub(super) exchanging: Exchanging,
    /// The ACK to our last re-INVITE: its 200 may come again.
    pub(super) refresh_ack: Option<RefreshAck>,
    probing: bool,
    /// B leg: other forks may still answer.
    forks: Option<Box<Forks>>,
}

/// The ACK of a re-INVITE of ours.
#[derive(Debug)]
pub struct RefreshAck {
    pub cseq: u32,
    pub hop: SocketAddr,
    pub bytes: Vec<u8>,
}

/// The one exchange that may be under way.
#[derive(Debug)]
pub enum Exchanging {
    Nothing,
    /// A re-INVITE or UPDATE waits for `AnswerReoffer`.
    Asked {
        asked: Box<Asked>,
        agreed: Agreed,
    },
    /// Our 200 is repeated until its ACK comes (RFC 3261 §13.3.1.4).
    AwaitAck(AwaitAck),
    /// Our UPDATE or re-INVITE is out; the Session-Expires that it asks for.
    Refresh {
        asked_s: u32,
    },
}

/// Our 200 to an INVITE, unacknowledged.
#[derive(Debug)]
pub struct AwaitAck {
    pub txn: ServerId,
    pub bytes: Vec<u8>,
    /// CSeq of the INVITE, and of its ACK.
    pub cseq: u32,
    pub repeat: Backoff,
    pub give_up_at: Instant,
    /// Our 200 holds the offer, so the ACK must hold the answer.
    pub answer_due: bool,
    pub which: Which,
}

/// Which INVITE it is that we have answered.
#[derive(Debug)]
pub enum Which {
    /// The first; a BYE has to wait until it is acknowledged (RFC 3261 §15), so a HangUp is kept.
    First {
        hang_up: Option<Vec<Reason>>,
    },
    Again,
}

/// What the state before hands over.
#[derive(Debug)]
pub struct Start {
    pub ours: SessionDescription,
    pub theirs: Option<SessionDescription>,
    pub agreed: Agreed,
    pub update: bool,
    pub forks: Option<Box<Forks>>,
}

impl Established {
    /// A B leg whose 200 has been acknowledged.
    pub fn start(cx: &mut Cx<'_>, dialog: Dialog, start: Start) -> Next {
        Next::Established(Box::new(Established::new(cx, dialog, start)))
    }

    /// An A leg whose 200 has just been sent: `invite` and the bytes of the 200.
    pub fn answered(cx: &mut Cx<'_>, dialog: Dialog, start: Start, invite: (&Asked, Vec<u8>)) -> Next {
        let answer_due = start.theirs.is_none();
        let mut leg = Established::new(cx, dialog, start);
        let which = Which::First { hang_up: None };
        leg.exchanging = Exchanging::AwaitAck(AwaitAck::start(cx.now, invite.0, invite.1, answer_due, which));
        Next::Established(Box::new(leg))
    }

    fn new(cx: &mut Cx<'_>, dialog: Dialog, start: Start) -> Established {
        Established {
            dialog,
            ours: start.ours,
            theirs: start.theirs,
            timer: SessionTimer::start(cx.now, start.agreed),
            update: start.update,
            exchanging: Exchanging::Nothing,
            refresh_ack: None,
            probing: false,
            forks: start.forks,
        }
    }

    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        timers::earlier(self.timer.next_timeout(), self.exchanging.next_timeout())
    }

    pub fn handle(mut self: Box<Established>, cx: &mut Cx<'_>, input: LegInput) -> Next {
        match input {
            LegInput::Command(command) => self.command(cx, command),
            LegInput::Request(asked) => self.request(cx, asked),
            LegInput::Cancel { txn, .. } => {
                self.cancelled(cx, txn);
                Next::Established(self)
            }
            LegInput::Ack(ack) => self.acked(cx, &ack),
            LegInput::Response { of, response, .. } => self.response(cx, of, &response),
            LegInput::TimedOut(Purpose::Refresh | Purpose::Probe) => self.gone(cx, 408),
            LegInput::TimedOut(Purpose::Invite | Purpose::Cancel | Purpose::Bye | Purpose::Orphan) => {
                Next::Established(self)
            }
            LegInput::Timeout => self.timeout(cx),
        }
    }

    fn command(mut self: Box<Established>, cx: &mut Cx<'_>, command: LegCommand) -> Next {
        match command {
            LegCommand::HangUp(reasons) => return self.hang_up(cx, reasons),
            LegCommand::AnswerReoffer { sdp } => self.answer_reoffer(cx, sdp),
            LegCommand::Probe => self.probe(cx),
            LegCommand::Progress { .. } | LegCommand::Answer { .. } | LegCommand::Reject(_) => {}
        }
        Next::Established(self)
    }

    fn hang_up(mut self: Box<Established>, cx: &mut Cx<'_>, reasons: Vec<Reason>) -> Next {
        if let Exchanging::AwaitAck(AwaitAck {
            which: Which::First { hang_up },
            ..
        }) = &mut self.exchanging
        {
            hang_up.get_or_insert(reasons);
            return Next::Established(self);
        }
        self.end_exchange(cx);
        Bye::hang_up(cx, self.dialog, &reasons, self.forks)
    }

    fn probe(&mut self, cx: &mut Cx<'_>) {
        if self.probing {
            return;
        }
        self.probing = true;
        let branch = cx.branch();
        let outline = self.dialog.next_request(branch);
        let request = outline
            .request(&Method::Options)
            .header("Contact", &self.dialog.place().contact());
        cx.request(Purpose::Probe, Method::Options, outline, request);
    }

    fn request(mut self: Box<Established>, cx: &mut Cx<'_>, asked: Asked) -> Next {
        let tag = self.dialog.local_tag.clone();
        if !self.dialog.take_cseq(&asked.request) {
            cx.reply(&asked, 500, asked.response(500, &tag));
            return Next::Established(self);
        }
        match asked.request.method {
            Method::Bye => {
                cx.reply(&asked, 200, asked.response(200, &tag));
                self.end_exchange(cx);
                cx.event(LegEvent::Ended(LegEnd::ByPeer {
                    reasons: asked.request.reasons(),
                }));
                return Next::Done(self.forks);
            }
            Method::Invite | Method::Update => self.reoffered(cx, asked),
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
            | Method::Other(_) => plain::answer(cx, &asked, &tag),
        }
        Next::Established(self)
    }

    fn acked(mut self: Box<Established>, cx: &mut Cx<'_>, ack: &Request) -> Next {
        let waiting = match mem::replace(&mut self.exchanging, Exchanging::Nothing) {
            Exchanging::AwaitAck(waiting) if waiting.cseq == ack.cseq().0 => waiting,
            other @ (Exchanging::AwaitAck(_)
            | Exchanging::Nothing
            | Exchanging::Asked { .. }
            | Exchanging::Refresh { .. }) => {
                self.exchanging = other;
                return Next::Established(self);
            }
        };
        let answer = if waiting.answer_due {
            Body::of(ack).description()
        } else {
            None
        };
        let broken = waiting.answer_due && answer.is_none();
        if answer.is_some() {
            self.theirs.clone_from(&answer);
        }
        match waiting.which {
            Which::First {
                hang_up: Some(reasons),
            } => Bye::hang_up(cx, self.dialog, &reasons, self.forks),
            Which::First { hang_up: None } | Which::Again if broken => {
                Bye::give_up(cx, self.dialog, LegEnd::BadAnswer, self.forks)
            }
            Which::First { hang_up: None } => {
                cx.event(LegEvent::Acked { answer });
                Next::Established(self)
            }
            Which::Again => {
                if let Some(answer) = answer {
                    cx.event(LegEvent::ReofferAnswered { answer });
                }
                Next::Established(self)
            }
        }
    }

    fn response(mut self: Box<Established>, cx: &mut Cx<'_>, of: Purpose, response: &Response) -> Next {
        match of {
            Purpose::Invite => {
                if let Some(forks) = &mut self.forks {
                    forks.late_2xx(cx, response);
                }
                Next::Established(self)
            }
            Purpose::Probe if response.status >= 200 => {
                self.probing = false;
                if matches!(response.status, 408 | 481) {
                    return self.gone(cx, response.status);
                }
                cx.event(LegEvent::ProbeAnswered);
                Next::Established(self)
            }
            Purpose::Refresh if response.status >= 200 => self.refreshed(cx, response),
            Purpose::Probe | Purpose::Refresh | Purpose::Cancel | Purpose::Bye | Purpose::Orphan => {
                Next::Established(self)
            }
        }
    }

    /// Whether the Call-ID is ours (RFC 3261 §14.1).
    pub(super) fn made_call_id(&self) -> bool {
        self.forks.is_some()
    }

    /// The peer does not know the dialog, or does not answer. After a 481 there is nobody to hear
    /// a BYE (RFC 5057 §5.1).
    pub(super) fn gone(mut self: Box<Established>, cx: &mut Cx<'_>, status: u16) -> Next {
        self.end_exchange(cx);
        if status == 481 {
            cx.event(LegEvent::Ended(LegEnd::Gone));
            return Next::Done(self.forks);
        }
        Bye::give_up(cx, self.dialog, LegEnd::Gone, self.forks)
    }

    fn timeout(mut self: Box<Established>, cx: &mut Cx<'_>) -> Next {
        if let Exchanging::AwaitAck(waiting) = &mut self.exchanging {
            if cx.now >= waiting.give_up_at {
                let Exchanging::AwaitAck(AwaitAck { which, .. }) =
                    mem::replace(&mut self.exchanging, Exchanging::Nothing)
                else {
                    return Next::Established(self);
                };
                return match which {
                    Which::First {
                        hang_up: Some(reasons),
                    } => Bye::hang_up(cx, self.dialog, &reasons, self.forks),
                    Which::First { hang_up: None } | Which::Again => {
                        Bye::give_up(cx, self.dialog, LegEnd::NoAck, self.forks)
                    }
                };
            }
            waiting.repeat_if_due(cx);
        }
        if cx.now >= self.timer.expires_at {
            self.end_exchange(cx);
            return Bye::give_up(cx, self.dialog, LegEnd::SessionExpired, self.forks);
        }
        if self.timer.refresh_at.is_some_and(|at| cx.now >= at) {
            self.refresh(cx);
        }
        Next::Established(self)
    }

    /// A request of the peer that is still unanswered when the dialog ends gets 487
    /// (RFC 3261 §15.1.2).
    fn end_exchange(&mut self, cx: &mut Cx<'_>) {
        if let Exchanging::Asked { asked, .. } = mem::replace(&mut self.exchanging, Exchanging::Nothing) {
            cx.reply(&asked, 487, asked.response(487, &self.dialog.local_tag));
        }
    }
}

impl Exchanging {
    /// Whose turn it is.
    pub fn turn(&self) -> Exchange {
        match self {
            Exchanging::Nothing => Exchange::Settled,
            Exchanging::Asked { .. } | Exchanging::AwaitAck(_) => Exchange::Theirs,
            Exchanging::Refresh { .. } => Exchange::Ours,
        }
    }

    fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        match self {
            Exchanging::AwaitAck(waiting) => timers::earlier(
                Some((waiting.give_up_at, "no ACK")),
                Some((waiting.repeat.at, "200 again")),
            ),
            Exchanging::Nothing | Exchanging::Asked { .. } | Exchanging::Refresh { .. } => None,
        }
    }
}

impl AwaitAck {
    pub fn start(now: Instant, invite: &Asked, bytes: Vec<u8>, answer_due: bool, which: Which) -> AwaitAck {
        AwaitAck {
            txn: invite.txn,
            bytes,
            cseq: invite.request.cseq().0,
            repeat: Backoff::start(now),
            give_up_at: now + timers::GIVE_UP,
            answer_due,
            which,
        }
    }

    fn repeat_if_due(&mut self, cx: &mut Cx<'_>) {
        if cx.now < self.repeat.at {
            return;
        }
        self.repeat = self.repeat.doubled_to_t2(cx.now);
        cx.out.push(LegOutput::Reply {
            txn: self.txn,
            status: 200,
            bytes: self.bytes.clone(),
        });
    }
}
