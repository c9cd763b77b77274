//! The media plane's shell: threads of its own, a socket pair per leg, one `CallAudio` per call.
//!
//! Both legs of a call live on one thread, so a relayed packet goes in and out in one hop. Orders
//! come from the driver's loop, reports go back to it; neither waits for the other.
//!
//! Deliberately absent: what to play and when; that is the call's matter, and the machine's.

mod calls;
mod sockets;
mod thread;

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
use crate::ids::CallKey;
use crate::media::bank::PromptBank;
use crate::media::{LegStats, MediaCommand, MediaEvent, MediaLimits, MediaOrder, MediaPort, MediaReport};
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
        inbox: &Inbox,
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
                inbox.clone(),
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
        for worker in &self.workers {
            // A thread that is gone already needs no order to go.
            worker.send(Task::Stop).ok();
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
