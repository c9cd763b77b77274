//! The stage: a running daemon, two phones and an operator, and the means to wait for what happens.

use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::call::cdr::EndCause;
use crate::driver::clock::Clock;
use crate::now::Instant;
use crate::secret::{Digit, Secret};
use crate::switch::{CallEvent, CallHappening};
use crate::units::TalkTime;

use super::operator::Operator;
use super::phone::{Behaviour, Phone, PhoneCommand, PhoneEvent};
use super::screen::Screen;

/// The consultation line of the demo; the operator's guide calls it -5101.
pub const NUMBER: &str = "+493023125101";
/// The customer's line.
pub const LINE: &str = "+493045678901";

/// Everything a scene works with.
#[derive(Debug)]
pub struct Stage {
    pub caller: Phone,
    pub advisor: Phone,
    pub operator: Operator,
    pub feed: mpsc::Receiver<CallEvent>,
    pub screen: Screen,
    pub clock: Clock,
    /// When both sides should hear one another: from, to.
    pub talks: Vec<(Instant, Instant)>,
}

/// A scene went another way than it must.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Flop(pub String);

/// How a call ended, in the switch's words.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    pub cause: EndCause,
    pub raw: TalkTime,
    pub billed: TalkTime,
}

impl Stage {
    pub fn now(&self) -> Instant {
        self.clock.mono()
    }

    /// Shows what happens until `wanted` says that it has seen enough.
    pub fn until<T>(
        &self,
        what: &str,
        patience: Duration,
        mut wanted: impl FnMut(&CallHappening) -> Option<T>,
    ) -> Result<T, Flop> {
        let limit = self.now() + patience;
        loop {
            let left = limit.since(self.now());
            let event = self
                .feed
                .recv_timeout(left)
                .map_err(|_| Flop(format!("waited in vain for: {what}")))?;
            self.screen.happening(self.now(), &event.what);
            if let Some(found) = wanted(&event.what) {
                return Ok(found);
            }
        }
    }

    /// Waits until a prompt whose name begins so is played.
    pub fn until_prompt(&self, prefix: &str) -> Result<(), Flop> {
        self.until(&format!("prompt {prefix}"), SOON, |what| match what {
            CallHappening::Playing { prompts, .. } => {
                prompts.split(' ').any(|p| p.starts_with(prefix)).then_some(())
            }
            CallHappening::Started
            | CallHappening::State(_)
            | CallHappening::Activated { .. }
            | CallHappening::Bridged { .. }
            | CallHappening::Warned { .. }
            | CallHappening::Extended { .. }
            | CallHappening::Ended { .. } => None,
        })
    }

    /// Waits for the bridge; with `no_pin`, a PIN prompt on the way is a flop.
    pub fn until_bridge(&self, no_pin: bool) -> Result<TalkTime, Flop> {
        let mut asked = false;
        let granted = self.until("the bridge", SOON, |what| match what {
            CallHappening::Bridged { granted, .. } => Some(Ok(*granted)),
            CallHappening::Ended { cause, .. } => {
                Some(Err(Flop(format!("ended before the bridge: {}", cause.as_str()))))
            }
            CallHappening::Playing { prompts, .. } => {
                asked |= prompts.split(' ').any(|p| p == "pin_enter");
                None
            }
            CallHappening::Started
            | CallHappening::State(_)
            | CallHappening::Activated { .. }
            | CallHappening::Warned { .. }
            | CallHappening::Extended { .. } => None,
        })??;
        if no_pin && asked {
            return Err(Flop("a known line was asked for its PIN".into()));
        }
        Ok(granted)
    }

    /// Waits until the call has ended and its books are closed.
    pub fn until_ended(&self, patience: Duration) -> Result<Ending, Flop> {
        let mut ending = None;
        self.until("the end of the call", patience, |what| match what {
            CallHappening::Ended { cause, raw, billed } => {
                ending = Some(Ending {
                    cause: *cause,
                    raw: *raw,
                    billed: *billed,
                });
                None
            }
            CallHappening::State("over") => ending,
            CallHappening::Started
            | CallHappening::State(_)
            | CallHappening::Playing { .. }
            | CallHappening::Activated { .. }
            | CallHappening::Bridged { .. }
            | CallHappening::Warned { .. }
            | CallHappening::Extended { .. } => None,
        })
    }

    /// The caller dials the line; `from` is `None` for a withheld number.
    pub fn dial(&self, from: Option<&str>) {
        self.screen.caller(
            self.now(),
            &format!("☎ {} → {NUMBER}", from.unwrap_or("anonymous")),
        );
        self.caller.tell(PhoneCommand::Call {
            number: NUMBER.to_owned(),
            from: from.map(str::to_owned),
        });
    }

    /// The caller types digits; the screen shows that, not which.
    pub fn press(&self, digits: &str) {
        self.screen
            .caller(self.now(), &format!("⌨ {}", "•".repeat(digits.len())));
        let keys = digits
            .bytes()
            .filter_map(|b| b.checked_sub(b'0'))
            .filter_map(Digit::from_event)
            .collect();
        self.caller.tell(PhoneCommand::Press(Secret::new(keys)));
    }

    pub fn advisor_will(&self, behaviour: Behaviour) {
        self.advisor.tell(PhoneCommand::Behave(behaviour));
    }

    pub fn hang_up(&self) {
        self.screen.caller(self.now(), "☎ ✕");
        self.caller.tell(PhoneCommand::HangUp);
    }

    /// Waits for a phone's event, past others.
    pub fn phone_until<T>(
        &self,
        phone: &Phone,
        what: &str,
        mut wanted: impl FnMut(&PhoneEvent) -> Option<T>,
    ) -> Result<T, Flop> {
        let limit = self.now() + SOON;
        loop {
            let event = phone
                .next(limit.since(self.now()))
                .ok_or_else(|| Flop(format!("{what}: no such event")))?;
            if let Some(found) = wanted(&event) {
                return Ok(found);
            }
        }
    }

    /// When a phone's call was answered.
    pub fn answered(&self, phone: &Phone) -> Result<Instant, Flop> {
        self.phone_until(phone, "a phone is answered", |event| match event {
            PhoneEvent::Answered { at } => Some(*at),
            PhoneEvent::Ringing | PhoneEvent::Refused | PhoneEvent::Ended { .. } | PhoneEvent::Rejected => {
                None
            }
        })
    }

    /// When a phone's call ended, and the causes it was given.
    pub fn ended(&self, phone: &Phone) -> Result<(Instant, Vec<u16>), Flop> {
        self.phone_until(phone, "a phone's call ends", |event| match event {
            PhoneEvent::Ended { at, reasons, .. } => Some((*at, reasons.iter().map(|r| r.cause).collect())),
            PhoneEvent::Ringing
            | PhoneEvent::Refused
            | PhoneEvent::Answered { .. }
            | PhoneEvent::Rejected => None,
        })
    }

    /// The operator's words, shown like a command.
    pub fn operate(&self, shown: &str, method: &str, path: &str, body: Option<Value>) -> Result<Value, Flop> {
        self.screen.line(&format!("{:>8}  $ cardline {shown}", ""));
        self.operator.ask(method, path, body).map_err(Flop)
    }

    pub fn card(&self, serial: &str) -> Result<Value, Flop> {
        self.operate(
            &format!("card show {serial}"),
            "GET",
            &format!("/api/v1/cards/{serial}"),
            None,
        )
    }

    pub fn recharge(&self, serial: &str, minutes: u32) -> Result<Value, Flop> {
        let path = format!("/api/v1/cards/{serial}/topup");
        let shown = format!("card topup {serial} --minutes {minutes}");
        self.operate(&shown, "POST", &path, Some(json!({ "minutes": minutes })))
    }

    /// Lets the talk go on for a while, showing what happens.
    pub fn talk(&self, span: Duration) -> Result<(), Flop> {
        let limit = self.now() + span;
        loop {
            match self.feed.recv_timeout(limit.since(self.now())) {
                Ok(event) => self.screen.happening(self.now(), &event.what),
                Err(mpsc::RecvTimeoutError::Timeout) => return Ok(()),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Flop("the daemon is gone".into())),
            }
        }
    }
}

/// Longer than any prompt, ring or answer in the scenes.
pub const SOON: Duration = Duration::from_secs(30);

/// Fails with words unless it holds.
pub fn must(holds: bool, words: impl FnOnce() -> String) -> Result<(), Flop> {
    if holds { Ok(()) } else { Err(Flop(words())) }
}
