//! SIP as machines: one [`endpoint::Endpoint`] takes datagrams and leg commands, and gives
//! datagrams and leg events. This file is its whole alphabet; no header passes it.
//!
//! Deliberately absent: cards, talk time, audio; sockets and clocks; REGISTER as a server,
//! forking proxies, presence.

pub mod wire;
pub mod message;
pub mod identity;
pub mod auth;
pub mod timers;
pub mod transaction;
pub mod offer_answer;
pub mod dialog;
pub mod leg;
pub mod endpoint;

use std::net::SocketAddr;

use crate::ids::{LegKey, TrunkId};
use crate::sdp::SessionDescription;
use crate::secret::Secret;
use crate::units::E164;

/// Where a datagram came from or goes to. `local` names the listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// Input of the endpoint.
#[derive(Clone, Debug)]
pub enum EndpointInput {
    Datagram {
        flow: Flow,
        bytes: Vec<u8>,
    },
    /// Starts a B leg under a key that the caller made (`LegKey` from its own `IdSource`).
    Dial {
        leg: LegKey,
        dial: Box<Dial>,
    },
    Command {
        leg: LegKey,
        command: LegCommand,
    },
    /// A drained endpoint answers OPTIONS with 503 and Retry-After; INVITEs are the switch's matter.
    Drain(bool),
    /// A deadline given by `next_timeout` has passed.
    Timeout,
}

/// Output of the endpoint, to be carried out in order.
#[derive(Clone, Debug)]
pub enum EndpointOutput {
    Send { flow: Flow, bytes: Vec<u8> },
    Leg { leg: LegKey, event: LegEvent },
    Count(Counter),
}

/// Things that are counted and otherwise met with silence or a plain answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    /// From an address that is no trunk's and no target's: dropped unread.
    Stranger,
    /// No SIP message, or one that cannot even be answered: dropped.
    Junk,
    /// Malformed but answerable: 400.
    Malformed,
    /// Response that matches no transaction: dropped.
    StrayResponse,
    /// To-tagged request without a dialog: 481.
    NoDialog,
    /// Max-Forwards reached zero: 483. Our own loop marker: 482.
    Loop,
    /// A table was full: 503.
    Full,
    /// A message was sent again by a timer.
    Retransmission,
}

/// What a call orders from one of its legs. An order that no longer fits (the peer was faster) is
/// ignored by the leg: its `Ended` is already on the way or was delivered.
#[derive(Clone, Debug)]
pub enum LegCommand {
    /// A leg, before Answer: 180, or 183 with a description (early media).
    Progress {
        status: u16,
        sdp: Option<SessionDescription>,
    },
    /// A leg: 200. With an offer in the INVITE this is the answer, without one it is our offer.
    Answer { sdp: SessionDescription },
    /// A leg, before Answer: a final code of 400..=699.
    Reject(Rejection),
    /// Answers a `Reoffer` (200), or refuses it (488; the dialog lives on as it was).
    AnswerReoffer { sdp: Option<SessionDescription> },
    /// In-dialog OPTIONS: is the peer still there? Answered by `ProbeAnswered` or `Ended`.
    Probe,
    /// Ends the leg in any state: CANCEL, BYE, or a 487/603 where nothing was sent yet.
    HangUp(Vec<Reason>),
}

/// A final refusal of an INVITE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub status: u16,
    pub reasons: Vec<Reason>,
    pub retry_after_s: Option<u32>,
}

/// One value of a Reason header (RFC 3326).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub protocol: ReasonProtocol,
    pub cause: u16,
    /// Without quotes; escaped by the writer.
    pub text: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasonProtocol {
    Q850,
    Sip,
}

/// What a leg reports. Each leg gives exactly one of `Ended`, `Rejected` and `Cancelled`, also where
/// the call itself wanted the end (`Reject` and `HangUp` give `Ended(ByUs)`, a `HangUp` before the
/// answer of a B leg `Rejected` with 487); after it nothing follows for that leg.
#[derive(Clone, Debug)]
pub enum LegEvent {
    /// A new A leg from a trunk; 100 has been sent. Must be answered by Answer, Reject or HangUp.
    Incoming(Box<Incoming>),
    /// A leg: the ACK to our 200. Carries the peer's answer if ours was the offer.
    Acked { answer: Option<SessionDescription> },
    /// A leg: CANCEL before the answer (487 has been sent).
    Cancelled { reasons: Vec<Reason> },
    /// B leg: 180 (or 181..=182); 183 gives the same, with its description where it had one.
    Ringing {
        status: u16,
        sdp: Option<SessionDescription>,
    },
    /// B leg: 200, ACK has been sent. The answer to our offer.
    Answered { answer: SessionDescription },
    /// B leg: a final refusal (ACK has been sent), or 408 made up by timer B, 503 by a transport
    /// error, 487 after our own CANCEL.
    Rejected {
        status: u16,
        reasons: Vec<Reason>,
        retry_after_s: Option<u32>,
    },
    /// Either leg, established: a re-INVITE or UPDATE with this offer waits for `AnswerReoffer`;
    /// `None`: an offerless re-INVITE that wants ours.
    Reoffer { offer: Option<SessionDescription> },
    /// The answer to our offer in the 200 to an offerless re-INVITE.
    ReofferAnswered { answer: SessionDescription },
    /// In-dialog OPTIONS was answered with anything but 408 and 481.
    ProbeAnswered,
    /// Established leg is over.
    Ended(LegEnd),
}

/// Why an established leg is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegEnd {
    /// BYE from the peer (200 has been sent).
    ByPeer { reasons: Vec<Reason> },
    /// Our HangUp is through: BYE answered, or given up after timer F.
    ByUs,
    /// No ACK to our 200 for 64 x T1; BYE has been sent.
    NoAck,
    /// The peer does not know the dialog (481 or 408 to a request of ours).
    Gone,
    /// The session timer ran out without a refresh (RFC 4028); BYE has been sent.
    SessionExpired,
    /// The peer broke offer/answer (no or unusable answer); BYE has been sent.
    BadAnswer,
}

/// An INVITE that passed the endpoint's own checks.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub trunk: TrunkId,
    /// The Call-ID header, for records and traces only.
    pub sip_call_id: String,
    /// The called number as the trunk's rules read it; `None` if it is no number.
    pub called: Option<E164>,
    pub caller: Caller,
    pub offer: Option<SessionDescription>,
    /// Hops left for the B leg (Max-Forwards - 1).
    pub max_forwards: u8,
}

/// The caller number of an INVITE (product.md 3.1 IDENTIFY; interop.md 1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Withheld by Privacy, anonymous, empty or unreadable: neither bound nor shown.
    Withheld,
    Line {
        number: E164,
        screening: Screening,
    },
}

/// Who vouches for the caller number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screening {
    /// P-Asserted-Identity of a trunk that is trusted with it.
    Network,
    /// From only.
    User,
    /// From and P-Asserted-Identity name different numbers: the number is the asserted one, and
    /// the PIN is always asked.
    Contradicted,
}

/// An outgoing INVITE.
#[derive(Clone, Debug)]
pub struct Dial {
    /// Request-URI and To, such as `sip:advisor@192.0.2.7:5060` or `sip:+4930...@trunk;user=phone`.
    pub uri: String,
    /// Where the INVITE goes.
    pub destination: SocketAddr,
    /// From user part: a number of ours in E.164, or `anonymous`.
    pub from_user: String,
    /// From display name, already chosen by the project's rules; quoted by the writer.
    pub from_display: Option<String>,
    pub offer: SessionDescription,
    /// Digest credentials for a 401/407 from `destination` (RFC 8760), tried once.
    pub credentials: Option<Credentials>,
    pub max_forwards: u8,
}

#[derive(Clone, Debug)]
pub struct Credentials {
    pub username: String,
    pub password: Secret<String>,
}

/// How many of each the endpoint holds; all zero when no call is up and 64 x T1 have passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointLoad {
    pub legs: usize,
    pub transactions: usize,
}
