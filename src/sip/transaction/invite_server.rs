//! The INVITE server transaction (RFC 3261 §17.2.1, RFC 6026 §7.1).

use crate::now::Instant;
use crate::sip::timers::{self, Backoff};
use crate::sip::transaction::{Effect, Reply, ServerInput, first_of};

/// The normative table; an empty cell means that the input is dropped.
///
/// | state      | INVITE again   | ACK              | reply 1xx | reply 2xx      | reply 3xx-6xx   | timers           |
/// |------------|----------------|------------------|-----------|----------------|-----------------|------------------|
/// | Proceeding | last 1xx again |                  | send      | send, Accepted | send, Completed |                  |
/// | Completed  | refusal again  | Confirmed        |           |                |                 | G resend; H over |
/// | Confirmed  |                |                  |           |                |                 | I over           |
/// | Accepted   |                | deliver          |           | send           |                 | L over           |
#[derive(Debug, PartialEq, Eq)]
pub enum InviteServer {
    Proceeding {
        /// The last provisional response; empty before the 100.
        last: Vec<u8>,
    },
    Completed {
        refusal: Vec<u8>,
        repeat: Backoff,
        /// Timer H.
        give_up_at: Instant,
    },
    Confirmed {
        /// Timer I.
        over_at: Instant,
    },
    Accepted {
        /// Timer L.
        over_at: Instant,
    },
    Terminated,
}

impl InviteServer {
    pub fn start() -> InviteServer {
        InviteServer::Proceeding { last: Vec::new() }
    }

    pub fn handle(self, now: Instant, input: ServerInput, out: &mut Vec<Effect>) -> InviteServer {
        match self {
            InviteServer::Proceeding { last } => proceeding(now, last, input, out),
            InviteServer::Completed {
                refusal,
                repeat,
                give_up_at,
            } => match input {
                ServerInput::Request => {
                    out.push(Effect::Resend(refusal.clone()));
                    InviteServer::Completed {
                        refusal,
                        repeat,
                        give_up_at,
                    }
                }
                ServerInput::Ack => InviteServer::Confirmed {
                    over_at: now + timers::TIMER_I,
                },
                ServerInput::Timeout if now >= give_up_at => {
                    out.push(Effect::TimedOut);
                    InviteServer::Terminated
                }
                ServerInput::Timeout if now >= repeat.at => {
                    out.push(Effect::Resend(refusal.clone()));
                    InviteServer::Completed {
                        refusal,
                        repeat: repeat.doubled_to_t2(now),
                        give_up_at,
                    }
                }
                ServerInput::Timeout | ServerInput::Reply(_) => InviteServer::Completed {
                    refusal,
                    repeat,
                    give_up_at,
                },
            },
            InviteServer::Confirmed { over_at } => match input {
                ServerInput::Timeout if now >= over_at => InviteServer::Terminated,
                ServerInput::Timeout | ServerInput::Request | ServerInput::Ack | ServerInput::Reply(_) => {
                    InviteServer::Confirmed { over_at }
                }
            },
            InviteServer::Accepted { over_at } => accepted(now, over_at, input, out),
            InviteServer::Terminated => InviteServer::Terminated,
        }
    }

    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        match self {
            InviteServer::Completed {
                repeat, give_up_at, ..
            } => first_of(*repeat, timers::G, *give_up_at, timers::H),
            InviteServer::Confirmed { over_at } => Some((*over_at, timers::I)),
            InviteServer::Accepted { over_at } => Some((*over_at, timers::L)),
            InviteServer::Proceeding { .. } | InviteServer::Terminated => None,
        }
    }
}

fn proceeding(now: Instant, last: Vec<u8>, input: ServerInput, out: &mut Vec<Effect>) -> InviteServer {
    match input {
        ServerInput::Request => {
            if !last.is_empty() {
                out.push(Effect::Resend(last.clone()));
            }
            InviteServer::Proceeding { last }
        }
        ServerInput::Reply(Reply::Provisional(bytes)) => {
            out.push(Effect::Send(bytes.clone()));
            InviteServer::Proceeding { last: bytes }
        }
        ServerInput::Reply(Reply::Success(bytes)) => {
            out.push(Effect::Send(bytes));
            InviteServer::Accepted {
                over_at: now + timers::TIMER_L,
            }
        }
        ServerInput::Reply(Reply::Failure(bytes)) => {
            out.push(Effect::Send(bytes.clone()));
            InviteServer::Completed {
                refusal: bytes,
                repeat: Backoff::start(now),
                give_up_at: now + timers::TIMER_H,
            }
        }
        ServerInput::Ack | ServerInput::Timeout => InviteServer::Proceeding { last },
    }
}

fn accepted(now: Instant, over_at: Instant, input: ServerInput, out: &mut Vec<Effect>) -> InviteServer {
    match input {
        // The leg repeats its 200 until the ACK is there (RFC 3261 §13.3.1.4).
        ServerInput::Reply(Reply::Success(bytes)) => out.push(Effect::Resend(bytes)),
        // A peer that sends the ACK of a 200 under the branch of its INVITE.
        ServerInput::Ack => out.push(Effect::Deliver),
        ServerInput::Timeout if now >= over_at => return InviteServer::Terminated,
        ServerInput::Timeout
        | ServerInput::Request
        | ServerInput::Reply(Reply::Provisional(_) | Reply::Failure(_)) => {}
    }
    InviteServer::Accepted { over_at }
}
