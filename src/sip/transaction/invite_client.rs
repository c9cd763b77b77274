//! The INVITE client transaction (RFC 3261 §17.1.1, RFC 6026 §7.2).

use crate::now::Instant;
use crate::sip::timers::{self, Backoff};
use crate::sip::transaction::{ClientInput, Effect, ResponseClass, first_of};

/// The normative table; an empty cell means that the input is dropped.
///
/// | state      | 1xx                  | 2xx                 | 3xx-6xx                     | timers            |
/// |------------|----------------------|---------------------|-----------------------------|-------------------|
/// | Calling    | deliver, Proceeding  | deliver, Accepted   | ACK, deliver, Completed     | A resend; B over  |
/// | Proceeding | deliver              | deliver, Accepted   | ACK, deliver, Completed     |                   |
/// | Completed  |                      |                     | ACK again                   | D over            |
/// | Accepted   |                      | deliver             |                             | M over            |
#[derive(Debug, PartialEq, Eq)]
pub enum InviteClient {
    Calling {
        request: Vec<u8>,
        repeat: Backoff,
        /// Timer B.
        give_up_at: Instant,
    },
    Proceeding,
    Completed {
        ack: Vec<u8>,
        /// Timer D.
        over_at: Instant,
    },
    Accepted {
        /// Timer M.
        over_at: Instant,
    },
    Terminated,
}

impl InviteClient {
    /// Sends the INVITE.
    pub fn start(now: Instant, request: Vec<u8>, out: &mut Vec<Effect>) -> InviteClient {
        out.push(Effect::Send(request.clone()));
        InviteClient::Calling {
            request,
            repeat: Backoff::start(now),
            give_up_at: now + timers::TIMER_B,
        }
    }

    pub fn handle(self, now: Instant, input: ClientInput, out: &mut Vec<Effect>) -> InviteClient {
        match (self, input) {
            (
                InviteClient::Calling {
                    request,
                    repeat,
                    give_up_at,
                },
                ClientInput::Timeout,
            ) => {
                if now >= give_up_at {
                    out.push(Effect::TimedOut);
                    return InviteClient::Terminated;
                }
                if now < repeat.at {
                    return InviteClient::Calling {
                        request,
                        repeat,
                        give_up_at,
                    };
                }
                out.push(Effect::Resend(request.clone()));
                InviteClient::Calling {
                    request,
                    repeat: repeat.doubled(now),
                    give_up_at,
                }
            }
            (InviteClient::Calling { .. } | InviteClient::Proceeding, ClientInput::Response(class)) => {
                out_of_proceeding(now, class, out)
            }
            (
                InviteClient::Completed { ack, over_at },
                ClientInput::Response(ResponseClass::Failure { .. }),
            ) => {
                out.push(Effect::Resend(ack.clone()));
                InviteClient::Completed { ack, over_at }
            }
            (InviteClient::Accepted { over_at }, ClientInput::Response(ResponseClass::Success)) => {
                out.push(Effect::Deliver);
                InviteClient::Accepted { over_at }
            }
            (
                InviteClient::Completed { over_at, .. } | InviteClient::Accepted { over_at },
                ClientInput::Timeout,
            ) if now >= over_at => InviteClient::Terminated,
            (
                state @ InviteClient::Completed { .. },
                ClientInput::Response(ResponseClass::Provisional | ResponseClass::Success)
                | ClientInput::Timeout,
            )
            | (
                state @ InviteClient::Accepted { .. },
                ClientInput::Response(ResponseClass::Provisional | ResponseClass::Failure { .. })
                | ClientInput::Timeout,
            )
            | (state @ InviteClient::Proceeding, ClientInput::Timeout)
            | (state @ InviteClient::Terminated, ClientInput::Response(_) | ClientInput::Timeout) => state,
        }
    }

    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        match self {
            InviteClient::Calling {
                repeat, give_up_at, ..
            } => first_of(*repeat, timers::A, *give_up_at, timers::B),
            InviteClient::Completed { over_at, .. } => Some((*over_at, timers::D)),
            InviteClient::Accepted { over_at } => Some((*over_at, timers::M)),
            InviteClient::Proceeding | InviteClient::Terminated => None,
        }
    }
}

fn out_of_proceeding(now: Instant, class: ResponseClass, out: &mut Vec<Effect>) -> InviteClient {
    match class {
        ResponseClass::Provisional => {
            out.push(Effect::Deliver);
            InviteClient::Proceeding
        }
        ResponseClass::Success => {
            out.push(Effect::Deliver);
            InviteClient::Accepted {
                over_at: now + timers::TIMER_M,
            }
        }
        ResponseClass::Failure { ack } => {
            out.push(Effect::Send(ack.clone()));
            out.push(Effect::Deliver);
            InviteClient::Completed {
                ack,
                over_at: now + timers::TIMER_D,
            }
        }
    }
}
