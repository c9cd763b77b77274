//! One INVITE usage with one peer: the machine between transactions below and the call above.
//!
//! ```text
//!            Incoming                    Answer
//!  (A leg) ----------> uas ---------------------------.
//!                       | Reject, CANCEL               v   HangUp, no ACK,
//!                       v                         established ----------> bye --.
//!                   (Cancelled)                        ^   expired, 481         | answered
//!  (B leg) ----------> uac ----------------------------'      |                 v
//!            Dial       | refused       200, ACK              | BYE        (aftermath)
//!                       v                                     v                 | 64 x T1
//!                   (Rejected)                             (Ended)            over
//! ```
//!
//! A leg takes [`LegInput`]s and gives [`LegOutput`]s; of the latter the events go up to the call.
//! The aftermath of a B leg still acknowledges late 2xx responses, and ends those of other forks
//! (RFC 3261 §13.2.2.4).
//!
//! Deliberately absent: matching of messages to transactions and legs (`endpoint`), the repetition
//! of anything but the 200 to an INVITE, what an offer means.

pub mod body;
pub mod bye;
pub mod established;
pub mod forks;
pub mod plain;
pub mod refresh;
pub mod reoffer;
pub mod uac;
pub mod uas;

use std::mem;
use std::net::SocketAddr;

use crate::now::{IdSource, Instant};
use crate::sip::dialog::{Outline, Place};
use crate::sip::message::{Headers, Method, Request, RequestBuilder, Response, ResponseBuilder};
use crate::sip::{LegCommand, LegEvent};

use bye::Bye;
use established::Established;
use forks::Forks;
use refresh::SessionLimits;
use uac::Uac;
use uas::Uas;

/// A server transaction, as the endpoint names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerId(pub u64);

/// A request of the peer that we have to answer.
#[derive(Clone, Debug)]
pub struct Asked {
    pub txn: ServerId,
    pub request: Request,
    /// Where it came from.
    pub remote: SocketAddr,
}

impl Asked {
    /// Starts the response; `to_tag` is added unless the request has one.
    pub fn response(&self, status: u16, to_tag: &str) -> ResponseBuilder {
        ResponseBuilder::response_to(&self.request, status, Some(to_tag), self.remote)
    }
}

/// What a request of ours was for; its response comes back under the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The INVITE of a B leg.
    Invite,
    Cancel,
    Bye,
    /// OPTIONS in the dialog.
    Probe,
    /// UPDATE or re-INVITE of the session timer.
    Refresh,
    /// The BYE to a second fork: nobody waits for its answer.
    Orphan,
}

/// What reaches a leg.
#[derive(Debug)]
pub enum LegInput {
    Command(LegCommand),
    /// A request inside the dialog, ACK excepted.
    Request(Asked),
    /// A CANCEL of the INVITE with this transaction; it was answered with 200 already.
    Cancel {
        txn: ServerId,
        cancel: Request,
    },
    /// An ACK that acknowledges a 2xx.
    Ack(Request),
    Response {
        of: Purpose,
        response: Response,
        /// Where it came from.
        remote: SocketAddr,
    },
    /// Timer B or F.
    TimedOut(Purpose),
    Timeout,
}

/// What a leg wants done, in order.
#[derive(Debug)]
pub enum LegOutput {
    /// A response through its server transaction.
    Reply {
        txn: ServerId,
        status: u16,
        bytes: Vec<u8>,
    },
    /// A request through a new client transaction.
    Request {
        of: Purpose,
        method: Method,
        outline: Outline,
        bytes: Vec<u8>,
    },
    /// The ACK of a 2xx, which has no transaction; `again` counts as a retransmission.
    Ack {
        hop: SocketAddr,
        bytes: Vec<u8>,
        again: bool,
    },
    Event(LegEvent),
}

/// What all legs of an endpoint share.
#[derive(Clone, Debug)]
pub struct Rules {
    pub session: SessionLimits,
    /// What our branches start with, so that our own requests are known when they come back.
    pub branch_prefix: String,
    /// The value of [`LOOP_MARKER`] on our INVITEs.
    pub loop_marker: String,
}

/// What a leg has at hand while it handles one input.
#[derive(Debug)]
pub struct Cx<'a> {
    pub now: Instant,
    pub ids: &'a mut IdSource,
    pub rules: &'a Rules,
    pub out: &'a mut Vec<LegOutput>,
}

impl Cx<'_> {
    pub fn branch(&mut self) -> String {
        format!("{}{}", self.rules.branch_prefix, self.ids.token())
    }

    pub fn event(&mut self, event: LegEvent) {
        self.out.push(LegOutput::Event(event));
    }

    pub fn reply(&mut self, asked: &Asked, status: u16, response: ResponseBuilder) {
        self.out.push(LegOutput::Reply {
            txn: asked.txn,
            status,
            bytes: response.build(),
        });
    }

    pub fn request(&mut self, of: Purpose, method: Method, outline: Outline, request: RequestBuilder) {
        self.out.push(LegOutput::Request {
            of,
            method,
            outline,
            bytes: request.build(),
        });
    }

    pub fn ack(&mut self, outline: &Outline) -> Vec<u8> {
        let bytes = outline.request(&Method::Ack).build();
        self.out.push(LegOutput::Ack {
            hop: outline.hop,
            bytes: bytes.clone(),
            again: false,
        });
        bytes
    }
}

/// One leg.
#[derive(Debug)]
pub struct Leg {
    pub place: Place,
    state: State,
}

#[derive(Debug)]
enum State {
    Uas(Box<Uas>),
    Uac(Box<Uac>),
    Established(Box<Established>),
    Bye(Box<Bye>),
    Aftermath(Box<Forks>),
    Over,
}

/// What a state hands over to the next; only [`Leg::handle`] makes a [`State`] of it.
#[derive(Debug)]
pub enum Next {
    Uas(Box<Uas>),
    Uac(Box<Uac>),
    Established(Box<Established>),
    Bye(Box<Bye>),
    /// The terminal event is out.
    Done(Option<Box<Forks>>),
}

impl Leg {
    pub fn new(place: Place, next: Next) -> Leg {
        Leg {
            place,
            state: State::from(next),
        }
    }

    pub fn handle(&mut self, cx: &mut Cx<'_>, input: LegInput) {
        let state = mem::replace(&mut self.state, State::Over);
        self.state = match state {
            State::Uas(state) => state.handle(cx, input).into(),
            State::Uac(state) => state.handle(cx, input).into(),
            State::Established(state) => state.handle(cx, input).into(),
            State::Bye(state) => state.handle(cx, input).into(),
            State::Aftermath(forks) => aftermath(cx, forks, input),
            State::Over => State::Over,
        };
    }

    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::Uas(state) => state.next_timeout(),
            State::Uac(state) => state.next_timeout(),
            State::Established(state) => state.next_timeout(),
            State::Bye(_) => None,
            State::Aftermath(forks) => Some((forks.until, "aftermath")),
            State::Over => None,
        }
    }

    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether a To-tagged request with this From tag is for the dialog of this leg.
    pub fn takes(&self, request: &Headers) -> bool {
        match &self.state {
            State::Uas(state) => state.dialog.is_from(request),
            State::Uac(state) => state.takes(request),
            State::Established(state) => state.dialog.is_from(request),
            State::Bye(state) => state.dialog.is_from(request),
            State::Aftermath(_) | State::Over => false,
        }
    }

    /// Where this leg's next in-dialog request would go: such an address is no stranger.
    pub fn hop(&self) -> SocketAddr {
        match &self.state {
            State::Uas(state) => state.dialog.hop(),
            State::Established(state) => state.dialog.hop(),
            State::Bye(state) => state.dialog.hop(),
            State::Uac(_) | State::Aftermath(_) | State::Over => self.place.flow.remote,
        }
    }

    /// The state's name, for logs and failed tests.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Uas(_) => "uas",
            State::Uac(_) => "uac",
            State::Established(_) => "established",
            State::Bye(_) => "bye",
            State::Aftermath(_) => "aftermath",
            State::Over => "over",
        }
    }
}

impl From<Next> for State {
    fn from(next: Next) -> State {
        match next {
            Next::Uas(state) => State::Uas(state),
            Next::Uac(state) => State::Uac(state),
            Next::Established(state) => State::Established(state),
            Next::Bye(state) => State::Bye(state),
            Next::Done(Some(forks)) => State::Aftermath(forks),
            Next::Done(None) => State::Over,
        }
    }
}

/// The leg is over for the call; only late 2xx responses to its INVITE still need an answer.
fn aftermath(cx: &mut Cx<'_>, mut forks: Box<Forks>, input: LegInput) -> State {
    match input {
        LegInput::Response {
            of: Purpose::Invite,
            response,
            ..
        } => forks.late_2xx(cx, &response),
        LegInput::Timeout if cx.now >= forks.until => return State::Over,
        LegInput::Request(asked) => plain::no_dialog(cx, &asked),
        LegInput::Timeout
        | LegInput::Response { .. }
        | LegInput::Command(_)
        | LegInput::Cancel { .. }
        | LegInput::Ack(_)
        | LegInput::TimedOut(_) => {}
    }
    State::Aftermath(forks)
}

/// The methods that we take.
pub const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO";
/// The option tags that we know (RFC 4028).
pub const SUPPORTED: &str = "timer";
/// The bodies that we read.
pub const ACCEPT: &str = "application/sdp";
/// Marks our INVITEs; one that comes back with it has run in a circle.
pub const LOOP_MARKER: &str = "X-Cardline-Loop";
