//! The non-INVITE server transaction (RFC 3261 §17.2.2).

use crate::now::Instant;
use crate::sip::timers;
use crate::sip::transaction::{Effect, Reply, ServerInput};

/// The normative table; an empty cell means that the input is dropped.
///
/// | state      | request again    | reply 1xx        | reply 2xx-6xx   | timers |
/// |------------|------------------|------------------|-----------------|--------|
/// | Trying     |                  | send, Proceeding | send, Completed |        |
/// | Proceeding | last 1xx again   | send             | send, Completed |        |
/// | Completed  | final again      |                  |                 | J over |
#[derive(Debug, PartialEq, Eq)]
pub enum Server {
    Trying,
    Proceeding {
        last: Vec<u8>,
    },
    Completed {
        last: Vec<u8>,
        /// Timer J.
        over_at: Instant,
    },
    Terminated,
}

impl Server {
    pub fn start() -> Server {
        Server::Trying
    }

    pub fn handle(self, now: Instant, input: ServerInput, out: &mut Vec<Effect>) -> Server {
        match (self, input) {
            (Server::Trying | Server::Proceeding { .. }, ServerInput::Reply(Reply::Provisional(bytes))) => {
                out.push(Effect::Send(bytes.clone()));
                Server::Proceeding { last: bytes }
            }
            (
                Server::Trying | Server::Proceeding { .. },
                ServerInput::Reply(Reply::Success(bytes) | Reply::Failure(bytes)),
            ) => {
                out.push(Effect::Send(bytes.clone()));
                Server::Completed {
                    last: bytes,
                    over_at: now + timers::TIMER_J,
                }
            }
            (Server::Proceeding { last }, ServerInput::Request) => {
                out.push(Effect::Resend(last.clone()));
                Server::Proceeding { last }
            }
            (Server::Completed { last, over_at }, ServerInput::Request) => {
                out.push(Effect::Resend(last.clone()));
                Server::Completed { last, over_at }
            }
            (Server::Completed { over_at, .. }, ServerInput::Timeout) if now >= over_at => Server::Terminated,
            (state @ Server::Trying, ServerInput::Request | ServerInput::Ack | ServerInput::Timeout)
            | (state @ Server::Proceeding { .. }, ServerInput::Ack | ServerInput::Timeout)
            | (
                state @ Server::Completed { .. },
                ServerInput::Ack | ServerInput::Reply(_) | ServerInput::Timeout,
            )
            | (
                state @ Server::Terminated,
                ServerInput::Request | ServerInput::Ack | ServerInput::Reply(_) | ServerInput::Timeout,
            ) => state,
        }
    }

    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        match self {
            Server::Completed { over_at, .. } => Some((*over_at, timers::J)),
            Server::Trying | Server::Proceeding { .. } | Server::Terminated => None,
        }
    }
}
