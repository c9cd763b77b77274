//! The media plane's shell: threads of its own, a socket pair per leg, one `CallAudio` per call.
//!
//! Both legs of a call live on one thread, so a relayed packet goes in and out in one hop. Orders
//! come from the driver's loop, reports go back to it; neither waits for the other.
//!
//! Deliberately absent: what to play and when; that is the call's matter, and the machine's.

mod calls;
mod sockets;
mod thread;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use mio::Poll;

use super::Inbox;
use super::clock::Clock;
use crate::ids::{CallKey, Side};
use crate::media::audio::snapshot::AudioSnapshot;
use crate::media::bank::PromptBank;
use crate::media::{
    LegStats, MediaCommand, MediaEvent, MediaLimits, MediaOrder, MediaPort, MediaReport, PortId,
};
use crate::now::IdSource;
use crate::switch::Input;
use calls::Calls;
use sockets::{PortPlan, SocketPair, Stock};
use thread::Worker;

/// What the plane is made of.
#[derive(Clone, Debug)]
pub struct MediaPlan {
    /// Address that the sockets are bound to.
    pub listen: IpAddr,
    /// Address that descriptions name.
    pub advertise: IpAddr,
    pub ports: RangeInclusive<u16>,
    /// Socket pairs that wait for a call.
    pub stock: usize,
    /// `None`: one per core.
    pub threads: Option<NonZeroUsize>,
    pub limits: MediaLimits,
}

/// Called by the media threads for each snapshot of a bridged call; must not wait.
pub type KeepAudio = Arc<dyn Fn(CallKey, AudioSnapshot) + Send + Sync>;

/// Where the media threads report to.
#[derive(Clone)]
pub struct Reporting {
    pub inbox: Inbox,
    pub keep: KeepAudio,
}

impl fmt::Debug for Reporting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporting").finish_non_exhaustive()
    }
}

/// A bridged call of an earlier process, with the sockets of its own ports; nothing reads them yet.
/// To be resumed or let go.
#[derive(Debug)]
pub struct Rebound {
    call: CallKey,
    audio: AudioSnapshot,
    a: (PortId, SocketPair),
    b: (PortId, SocketPair),
}

impl Rebound {
    pub fn call(&self) -> CallKey {
        self.call
    }
}

/// The driver's end of the plane.
#[derive(Debug)]
pub struct MediaPlane {
    stock: Stock,
    workers: Vec<SyncSender<Task>>,
    threads: Vec<JoinHandle<()>>,
}

/// What a media thread is told.
#[derive(Debug)]
enum Task {
    Order(MediaOrder),
    /// An `Open` with the sockets of its port.
    Open {
        order: MediaOrder,
        sockets: SocketPair,
    },
    Resume(Box<Rebound>),
    /// Last snapshots, then the end, without a word to the peers.
    HandOver,
    Stop,
    /// A test lets this call's machine panic at its next input.
    #[cfg(test)]
    Break(CallKey),
}

impl MediaPlane {
    /// Starts the threads; `ids` seeds each call's random values and the first port.
    ///
    /// # Errors
    /// The system has no thread or no epoll instance for us.
    pub fn start(
        plan: &MediaPlan,
        bank: &Arc<PromptBank>,
        clock: Clock,
        reporting: &Reporting,
        ids: &mut IdSource,
    ) -> io::Result<MediaPlane> {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let count = plan.threads.unwrap_or_else(cores).get();
        let mut plane = MediaPlane {
            stock: Stock::new(
                PortPlan {
                    listen: plan.listen,
                    advertise: plan.advertise,
                    ports: plan.ports.clone(),
                    stock: plan.stock,
                },
                ids.next_u64(),
            ),
            workers: Vec::with_capacity(count),
            threads: Vec::with_capacity(count),
        };
        for place in 0..count {
            let (tasks, queue) = sync_channel(TASKS_WAITING);
            let calls = Calls::new(
                Poll::new()?,
                plan.limits,
                Arc::clone(bank),
                reporting.clone(),
                IdSource::from_number(ids.next_u64()),
            );
            let worker = Worker::new(clock, queue, calls);
            let thread = Builder::new()
                .name(format!("media-{place}"))
                .spawn(move || worker.run())?;
            plane.workers.push(tasks);
            plane.threads.push(thread);
        }
        Ok(plane)
    }

    /// Binds what the stock lacks; the switch must be told of it (`Input::Ports`).
    pub fn refill(&mut self) -> Vec<MediaPort> {
        self.stock.refill()
    }

    /// Binds the ports of a call of an earlier process again, before the stock takes any.
    ///
    /// # Errors
    /// One of them is taken; the call cannot go on.
    pub fn rebind(&mut self, call: CallKey, audio: AudioSnapshot) -> io::Result<Rebound> {
        let a = self.stock.claim(audio.leg(Side::A).rtp.port())?;
        match self.stock.claim(audio.leg(Side::B).rtp.port()) {
            Ok(b) => Ok(Rebound { call, audio, a, b }),
            Err(fault) => {
                self.stock.freed(a.1.port);
                Err(fault)
            }
        }
    }

    /// The call's audio flows from now on.
    pub fn resume(&self, rebound: Rebound) {
        let call = rebound.call;
        self.send(call, Task::Resume(Box::new(rebound)));
    }

    /// The call cannot go on for another reason: its ports are free again.
    pub fn let_go(&mut self, rebound: Rebound) {
        for (_, pair) in [rebound.a, rebound.b] {
            self.stock.freed(pair.port);
        }
    }

    /// Hands an order to the call's thread. Gives what the switch must be told: fresh ports for
    /// the one that an `Open` took.
    pub fn carry_out(&mut self, order: MediaOrder) -> Option<Input> {
        let call = order.call;
        let MediaCommand::Open { port, .. } = &order.command else {
            self.send(call, Task::Order(order));
            return None;
        };
        let Some(sockets) = self.stock.take(port.id) else {
            tracing::error!(%call, port = ?port, "a leg was opened on a port that is not in the stock");
            return Some(Input::Media(MediaReport {
                call,
                side: order.side,
                event: MediaEvent::Closed(LegStats::default()),
            }));
        };
        self.send(call, Task::Open { order, sockets });
        let fresh = self.stock.refill();
        (!fresh.is_empty()).then_some(Input::Ports(fresh))
    }

    /// A media thread has closed the pair with this RTP port.
    pub fn freed(&mut self, port: u16) -> Option<Input> {
        self.stock.freed(port);
        let fresh = self.stock.refill();
        (!fresh.is_empty()).then_some(Input::Ports(fresh))
    }

    /// Lets a call's machine panic at its next input.
    #[cfg(test)]
    pub fn break_call(&self, call: CallKey) {
        self.send(call, Task::Break(call));
    }

    /// Ends all legs and threads.
    pub fn stop(self) {
        self.end(|| Task::Stop);
    }

    /// Hands out the last snapshots and closes all sockets, so that a successor can go on. When this
    /// returns, the ports are free.
    pub fn hand_over(self) {
        self.end(|| Task::HandOver);
    }

    fn end(self, task: impl Fn() -> Task) {
        for worker in &self.workers {
            // A thread that is gone already needs no order to go.
            worker.send(task()).ok();
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a media thread had panicked");
            }
        }
    }

    /// Waits while the thread's queue is full: a media thread never waits for the driver, so it
    /// empties its queue within a millisecond or two.
    fn send(&self, call: CallKey, task: Task) {
        let place = usize::try_from(call.get() % self.workers.len().max(1) as u64).unwrap_or(0);
        let worker = self.workers.get(place);
        if worker.is_none_or(|worker| worker.send(task).is_err()) {
            tracing::error!(%call, "a media thread is gone: its calls are silent");
        }
    }
}

/// Orders that may wait for one thread.
const TASKS_WAITING: usize = 1024;

#[cfg(test)]
mod tests;
