//! The non-INVITE client transaction (RFC 3261 §17.1.2).

use crate::now::Instant;
use crate::sip::timers::{self, Backoff};
use crate::sip::transaction::{ClientInput, Effect, ResponseClass, first_of};

/// The normative table; an empty cell means that the input is dropped.
///
/// | state      | 1xx                 | 2xx-6xx            | timers             |
/// |------------|---------------------|--------------------|--------------------|
/// | Trying     | deliver, Proceeding | deliver, Completed | E resend; F over   |
/// | Proceeding | deliver             | deliver, Completed | E resend; F over   |
/// | Completed  |                     |                    | K over             |
#[derive(Debug, PartialEq, Eq)]
pub enum Client {
    Trying(Pending),
    Proceeding(Pending),
    Completed {
        /// Timer K.
        over_at: Instant,
    },
    Terminated,
}

/// A request without a final response.
#[derive(Debug, PartialEq, Eq)]
pub struct Pending {
    request: Vec<u8>,
    repeat: Backoff,
    /// Timer F.
    give_up_at: Instant,
}

impl Client {
    /// Sends the request.
    pub fn start(now: Instant, request: Vec<u8>, out: &mut Vec<Effect>) -> Client {
        out.push(Effect::Send(request.clone()));
        Client::Trying(Pending {
            request,
            repeat: Backoff::start(now),
            give_up_at: now + timers::TIMER_F,
        })
    }

    pub fn handle(self, now: Instant, input: ClientInput, out: &mut Vec<Effect>) -> Client {
        match (self, input) {
            (Client::Trying(pending), ClientInput::Timeout) => {
                let next = pending.repeat.doubled_to_t2(now);
                pending
                    .repeated(now, next, out)
                    .map_or(Client::Terminated, Client::Trying)
            }
            (Client::Proceeding(pending), ClientInput::Timeout) => {
                let next = pending.repeat.at_t2(now);
                pending
                    .repeated(now, next, out)
                    .map_or(Client::Terminated, Client::Proceeding)
            }
            (
                Client::Trying(pending) | Client::Proceeding(pending),
                ClientInput::Response(ResponseClass::Provisional),
            ) => {
                out.push(Effect::Deliver);
                Client::Proceeding(pending)
            }
            (
                Client::Trying(_) | Client::Proceeding(_),
                ClientInput::Response(ResponseClass::Success | ResponseClass::Failure { .. }),
            ) => {
                out.push(Effect::Deliver);
                Client::Completed {
                    over_at: now + timers::TIMER_K,
                }
            }
            (Client::Completed { over_at }, ClientInput::Timeout) if now >= over_at => Client::Terminated,
            (state @ Client::Completed { .. }, ClientInput::Response(_) | ClientInput::Timeout)
            | (state @ Client::Terminated, ClientInput::Response(_) | ClientInput::Timeout) => state,
        }
    }

    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        match self {
            Client::Trying(pending) | Client::Proceeding(pending) => {
                first_of(pending.repeat, timers::E, pending.give_up_at, timers::F)
            }
            Client::Completed { over_at } => Some((*over_at, timers::K)),
            Client::Terminated => None,
        }
    }
}

impl Pending {
    /// A deadline of E or F: `None` once F has passed.
    fn repeated(self, now: Instant, next: Backoff, out: &mut Vec<Effect>) -> Option<Pending> {
        if now >= self.give_up_at {
            out.push(Effect::TimedOut);
            return None;
        }
        if now < self.repeat.at {
            return Some(self);
        }
        out.push(Effect::Resend(self.request.clone()));
        Some(Pending { repeat: next, ..self })
    }
}
