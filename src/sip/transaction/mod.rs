//! The four transaction machines of RFC 3261 §17 over UDP, with the Accepted states of RFC 6026.
//!
//! A machine knows a few datagrams and its timers; it takes what has arrived or is to be sent and
//! gives [`Effect`]s. The endpoint matches messages to machines by [`ServerKey`] and
//! [`ClientKey`], and knows where the datagrams go.
//!
//! Deliberately absent: dialogs, legs, header fields, reliable transports (timers D, I, J and K
//! never are zero), the repetition of a 200 (the leg's, RFC 3261 §13.3.1.4).

pub mod client;
pub mod invite_client;
pub mod invite_server;
pub mod server;

#[cfg(test)]
mod tests;

use crate::now::Instant;
use crate::sip::message::{Method, Request, Response};
use crate::sip::timers;

/// What a request is matched to its transaction by (RFC 3261 §17.2.3): the branch alone is not
/// enough, since hostile and careless peers repeat it, so Call-ID and CSeq number must agree too.
/// The method of an ACK counts as INVITE; to a CANCEL belongs the INVITE of the same key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerKey {
    /// The branch; without the magic cookie (RFC 2543) the whole topmost Via.
    pub branch: String,
    /// Host and port of the topmost Via, in lower case.
    pub sent_by: String,
    pub call_id: String,
    pub cseq: u32,
    pub method: Method,
}

impl ServerKey {
    pub fn of(request: &Request) -> ServerKey {
        let via = request.via();
        let branch = via
            .branch
            .as_ref()
            .filter(|branch| branch.starts_with(MAGIC_COOKIE));
        let method = if request.method == Method::Ack {
            Method::Invite
        } else {
            request.method.clone()
        };
        ServerKey {
            branch: branch.unwrap_or(&via.raw).clone(),
            sent_by: via.sent_by().to_ascii_lowercase(),
            call_id: request.call_id().to_owned(),
            cseq: request.cseq().0,
            method,
        }
    }

    /// The INVITE that a CANCEL with this key is for (RFC 3261 §9.2).
    pub fn of_invite(self) -> ServerKey {
        ServerKey {
            method: Method::Invite,
            ..self
        }
    }
}

/// What a response is matched to its transaction by (RFC 3261 §17.1.3): branch and CSeq method.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientKey {
    pub branch: String,
    pub method: Method,
}

impl ClientKey {
    /// `None` for a response that nobody here can have asked for.
    pub fn of(response: &Response) -> Option<ClientKey> {
        Some(ClientKey {
            branch: response.via().branch.clone()?,
            method: response.cseq().1.clone(),
        })
    }
}

/// Branches that are unique begin with it (RFC 3261 §8.1.1.7).
pub const MAGIC_COOKIE: &str = "z9hG4bK";

/// What a machine wants done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Send(Vec<u8>),
    /// The same datagram once more; counted.
    Resend(Vec<u8>),
    /// The message just handed in is news: it goes up to the leg.
    Deliver,
    /// Timer B, F or H ran out.
    TimedOut,
}

/// A response as a client machine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseClass {
    /// 100..=199.
    Provisional,
    /// 200..=299.
    Success,
    /// 300..=699, with the ACK that answers it (used by INVITE only; empty otherwise).
    Failure { ack: Vec<u8> },
}

/// A response of ours, on its way out through a server machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Provisional(Vec<u8>),
    Success(Vec<u8>),
    Failure(Vec<u8>),
}

impl Reply {
    /// Sorts a response by its status.
    pub fn new(status: u16, bytes: Vec<u8>) -> Reply {
        match status {
            0..=199 => Reply::Provisional(bytes),
            200..=299 => Reply::Success(bytes),
            300.. => Reply::Failure(bytes),
        }
    }
}

/// Whichever machine serves a request of the peer.
#[derive(Debug)]
pub enum ServerMachine {
    Invite(invite_server::InviteServer),
    Other(server::Server),
}

/// Input of a server machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerInput {
    /// The request once more.
    Request,
    /// An ACK with this key; INVITE only.
    Ack,
    Reply(Reply),
    Timeout,
}

impl ServerMachine {
    pub fn handle(self, now: Instant, input: ServerInput, out: &mut Vec<Effect>) -> ServerMachine {
        match self {
            ServerMachine::Invite(machine) => ServerMachine::Invite(machine.handle(now, input, out)),
            ServerMachine::Other(machine) => ServerMachine::Other(machine.handle(now, input, out)),
        }
    }

    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        match self {
            ServerMachine::Invite(machine) => machine.next_timeout(),
            ServerMachine::Other(machine) => machine.next_timeout(),
        }
    }

    pub fn is_over(&self) -> bool {
        match self {
            ServerMachine::Invite(machine) => matches!(machine, invite_server::InviteServer::Terminated),
            ServerMachine::Other(machine) => matches!(machine, server::Server::Terminated),
        }
    }
}

/// Whichever machine drives a request of ours.
#[derive(Debug)]
pub enum ClientMachine {
    Invite(invite_client::InviteClient),
    Other(client::Client),
}

/// Input of a client machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientInput {
    Response(ResponseClass),
    Timeout,
}

impl ClientMachine {
    pub fn handle(self, now: Instant, input: ClientInput, out: &mut Vec<Effect>) -> ClientMachine {
        match self {
            ClientMachine::Invite(machine) => ClientMachine::Invite(machine.handle(now, input, out)),
            ClientMachine::Other(machine) => ClientMachine::Other(machine.handle(now, input, out)),
        }
    }

    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        match self {
            ClientMachine::Invite(machine) => machine.next_timeout(),
            ClientMachine::Other(machine) => machine.next_timeout(),
        }
    }

    pub fn is_over(&self) -> bool {
        match self {
            ClientMachine::Invite(machine) => matches!(machine, invite_client::InviteClient::Terminated),
            ClientMachine::Other(machine) => matches!(machine, client::Client::Terminated),
        }
    }
}

/// The earlier of a repetition and of giving up, each under its letter.
fn first_of(
    repeat: timers::Backoff,
    repeat_name: &'static str,
    give_up_at: Instant,
    give_up_name: &'static str,
) -> Option<(Instant, &'static str)> {
    timers::earlier(Some((give_up_at, give_up_name)), Some((repeat.at, repeat_name)))
}
