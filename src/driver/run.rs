//! The loop: one thread waits for one event, reads the clock once, lets the switch handle a batch,
//! and carries out what it orders, in order.
//!
//! It waits for nothing but its inbox and the switch's next deadline. A panic in a call is caught
//! here, and the switch tears that call down.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::clock::Clock;
use super::ledger::Desk;
use super::media::MediaPlane;
use super::sip_udp::SipSockets;
use super::{Event, Inbox, Queue};
use crate::card::LedgerReply;
use crate::ids::ReplyToken;
use crate::media::MediaPort;
use crate::now::{Instant, Now, UnixTime};
use crate::switch::{AdminAsk, AdminReply, CallEvent, Input, Output, Switch};

/// Everything that the loop works with.
pub struct Parts {
    pub clock: Clock,
    pub switch: Switch,
    pub sip: SipSockets,
    pub media: MediaPlane,
    /// The plane's first stock.
    pub ports: Vec<MediaPort>,
    pub ledger: Desk,
    pub answer: Answer,
    pub publish: Publish,
}

/// Called for each `Output::AdminReply`; must not wait.
pub type Answer = Box<dyn FnMut(ReplyToken, AdminReply) + Send>;
/// Called for each `Output::Event`; must not wait.
pub type Publish = Box<dyn FnMut(UnixTime, &CallEvent) + Send>;

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("sip", &self.sip)
            .finish_non_exhaustive()
    }
}

/// Starts the loop on a thread of its own. `ended` is called as the last thing it does.
///
/// # Errors
/// The system has no thread for us.
pub fn start(
    parts: Parts,
    inbox: &Inbox,
    queue: Queue,
    ended: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let stop = Arc::new(AtomicBool::new(false));
    let receivers = parts.sip.receive(inbox, &stop)?;
    let mut running = Loop::new(parts, queue);
    Builder::new().name("switch".to_owned()).spawn(move || {
        running.run();
        stop.store(true, Ordering::Relaxed);
        running.parts.media.stop();
        for receiver in receivers {
            if receiver.join().is_err() {
                tracing::error!("a SIP receiver had panicked");
            }
        }
        ended();
    })
}

struct Loop {
    parts: Parts,
    queue: Queue,
    out: Vec<Output>,
    /// What carrying out an output tells the switch: fresh ports, a ledger that is full.
    feedback: VecDeque<Input>,
    ending: Ending,
    /// Panics that were no call's.
    broken: u32,
    /// The last reading of the clock.
    looked_at: Instant,
}

/// How near the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    /// With the last call.
    Drained,
    /// All calls were hung up; at this time at the latest.
    Stopped(Instant),
    Now,
}

impl Loop {
    fn new(parts: Parts, queue: Queue) -> Loop {
        let looked_at = parts.clock.mono();
        Loop {
            parts,
            queue,
            out: Vec::new(),
            feedback: VecDeque::new(),
            ending: Ending::No,
            broken: 0,
            looked_at,
        }
    }

    fn run(&mut self) {
        self.begin();
        while !self.over() {
            self.turn();
        }
    }

    fn begin(&mut self) {
        let ports = std::mem::take(&mut self.parts.ports);
        self.handle(self.parts.clock.now(), Input::Ports(ports));
    }

    /// One wait, one reading of the clock, one batch.
    fn turn(&mut self) {
        let mut next = self.wait();
        let now = self.parts.clock.now();
        self.look_back(now.mono);
        let mut budget = EVENTS_A_TURN;
        while let Some(event) = next.take() {
            self.take(now, event);
            budget -= 1;
            if budget > 0 {
                next = self.queue.next_waiting();
            }
        }
        if self.due(now) {
            self.handle(now, Input::Timeout);
        }
    }

    fn over(&self) -> bool {
        match self.ending {
            Ending::No => false,
            Ending::Drained => self.parts.switch.is_idle(),
            Ending::Stopped(at) => self.parts.switch.is_idle() || at <= self.parts.clock.mono(),
            Ending::Now => true,
        }
    }

    /// While there are calls the loop looks up every [`PULSE`]; if it did not for long, the process
    /// or the machine was stopped (SIGSTOP, a paused virtual machine), and the calls' audio with it.
    fn look_back(&mut self, now: Instant) {
        let still = now.since(self.looked_at);
        if still >= STOOD_STILL && !self.parts.switch.is_idle() {
            tracing::warn!(
                still_ms = still.as_millis(),
                "the process stood still; nobody is charged for it"
            );
            self.parts.switch.stood_still(self.looked_at, now);
        }
        self.looked_at = now;
    }

    /// Waits for an event or for the next deadline, which gives `None`.
    fn wait(&self) -> Option<Event> {
        let due = self.parts.switch.next_timeout().map(|(due, _)| due);
        let end = match self.ending {
            Ending::Stopped(at) => Some(at),
            Ending::No | Ending::Drained | Ending::Now => None,
        };
        let pulse = (!self.parts.switch.is_idle()).then(|| self.looked_at + PULSE);
        let first = due.into_iter().chain(end).chain(pulse).min();
        self.queue.next(first.map(|at| self.parts.clock.until(at)))
    }

    fn due(&self, now: Now) -> bool {
        let next = self.parts.switch.next_timeout();
        next.is_some_and(|(due, _)| due <= now.mono)
    }

    fn take(&mut self, now: Now, event: Event) {
        match event {
            Event::Input(input) => self.handle(now, input),
            Event::PortFreed(port) => {
                if let Some(input) = self.parts.media.freed(port) {
                    self.handle(now, input);
                }
            }
            Event::Drain => {
                self.ask(now, AdminAsk::Drain);
                if self.ending == Ending::No {
                    self.ending = Ending::Drained;
                }
            }
            Event::Stop => {
                self.ask(now, AdminAsk::Drain);
                for live in self.parts.switch.live_calls(now) {
                    self.ask(now, AdminAsk::HangUp(live.call));
                }
                self.ending = match self.ending {
                    Ending::No | Ending::Drained => Ending::Stopped(now.mono + GRACE),
                    Ending::Stopped(_) | Ending::Now => Ending::Now,
                };
            }
        }
    }

    fn ask(&mut self, now: Now, ask: AdminAsk) {
        self.handle(now, Input::Admin { token: OURS, ask });
    }

    /// One input and everything that follows from it at once.
    fn handle(&mut self, now: Now, input: Input) {
        self.feedback.push_back(input);
        while let Some(input) = self.feedback.pop_front() {
            let (switch, out) = (&mut self.parts.switch, &mut self.out);
            let ran = catch_unwind(AssertUnwindSafe(|| switch.handle(now, input, out)));
            if ran.is_err() {
                self.tear_down(now);
            }
            let mut out = std::mem::take(&mut self.out);
            for output in out.drain(..) {
                self.carry_out(now, output);
            }
            self.out = out;
        }
    }

    /// `handle` has panicked. A call's panic ends that call; what is no call's is borne a few
    /// times, since other calls depend on this process, and then ends it.
    fn tear_down(&mut self, now: Now) {
        let (switch, out) = (&mut self.parts.switch, &mut self.out);
        let mended = catch_unwind(AssertUnwindSafe(|| switch.abort_call(now, out)));
        if mended.is_ok_and(|mended| mended) {
            tracing::error!("a call panicked and was torn down; other calls go on");
            return;
        }
        self.broken += 1;
        tracing::error!(times = self.broken, "the switch panicked outside of any call");
        if self.broken >= MOST_BROKEN {
            tracing::error!("giving up: the switch cannot be trusted any more");
            self.ending = Ending::Now;
        }
    }

    fn carry_out(&mut self, now: Now, output: Output) {
        match output {
            Output::Send { flow, bytes } => self.parts.sip.send(flow, &bytes),
            Output::Media(order) => self.feedback.extend(self.parts.media.carry_out(order)),
            Output::Ledger { id, request } => {
                if !self.parts.ledger.submit(id, request) {
                    let reply = LedgerReply::Unavailable;
                    self.feedback.push_back(Input::Ledger { id, reply });
                }
            }
            Output::AdminReply { token, reply } => {
                if token != OURS {
                    (self.parts.answer)(token, reply);
                }
            }
            // The switch keeps its own counts for `Status`.
            Output::Count(counter) => tracing::trace!(?counter, "counted"),
            Output::Event(event) => (self.parts.publish)(now.wall, &event),
        }
    }
}

/// Token of the loop's own requests; nobody waits for the answer.
const OURS: ReplyToken = ReplyToken(u64::MAX);
/// Events that are handled with one reading of the clock.
const EVENTS_A_TURN: u32 = 64;
/// What calls get to end in after a stop: their BYEs and settlements.
const GRACE: Duration = Duration::from_secs(3);
/// The loop's longest wait while there are calls.
const PULSE: Duration = Duration::from_millis(250);
/// Longer than a busy machine lets a thread wait.
const STOOD_STILL: Duration = Duration::from_secs(2);
/// Panics outside of any call that are borne in one life.
const MOST_BROKEN: u32 = 16;

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
