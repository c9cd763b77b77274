//! The shell that runs the core: what the loop waits for, and the parts around it.
//!
//! ```text
//! sip_udp threads --.                         .--> sip_udp: send
//! media threads ----+--> Inbox --> run -------+--> media: orders
//! ledger tasks -----+        (Switch::handle) +--> ledger: requests
//! admin, signals ---'                         '--> admin: answers, event feed
//! ```
//! A datagram is dropped when too many wait; everything else has room of its own in the queue.
//!
//! An order that the database does not take goes to the journal, a file of our own.
//!
//! Deliberately absent: every decision. What a call does is the switch's matter.

pub mod clock;
pub mod gather;
pub mod jobs;
pub mod journal;
pub mod keeper;
pub mod lease;
pub mod ledger;
pub mod media;
pub mod night;
mod order;
pub mod prompts;
pub mod run;
pub mod shutdown;
pub mod sip_udp;
pub mod store_watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::sip::Flow;
use crate::switch::Input;

/// What the loop waits for.
#[derive(Debug)]
pub enum Event {
    Input(Input),
    /// A media thread has closed the pair with this RTP port.
    PortFreed(u16),
    /// Take no new calls; end when the last one has ended.
    Drain,
    /// End now.
    Stop,
}

/// The way into the loop; clones share it. Nothing here ever waits.
#[derive(Clone, Debug)]
pub struct Inbox {
    events: SyncSender<Event>,
    datagrams: Arc<AtomicUsize>,
}

/// Why an event was not taken; it is given back.
#[derive(Debug)]
pub enum PostFault<T> {
    /// The queue is full; try again in a moment.
    Full(T),
    /// The loop has ended.
    Gone(T),
}

/// The loop's end of the [`Inbox`].
#[derive(Debug)]
pub struct Queue {
    events: Receiver<Event>,
    datagrams: Arc<AtomicUsize>,
}

/// A queue and the way into it.
pub fn inbox() -> (Inbox, Queue) {
    let (sender, receiver) = sync_channel(EVENTS_WAITING);
    let datagrams = Arc::new(AtomicUsize::new(0));
    let inbox = Inbox {
        events: sender,
        datagrams: Arc::clone(&datagrams),
    };
    let queue = Queue {
        events: receiver,
        datagrams,
    };
    (inbox, queue)
}

impl Inbox {
    /// # Errors
    /// Gives the event back when it could not be queued.
    pub fn event(&self, event: Event) -> Result<(), PostFault<Event>> {
        self.events.try_send(event).map_err(|fault| match fault {
            TrySendError::Full(event) => PostFault::Full(event),
            TrySendError::Disconnected(event) => PostFault::Gone(event),
        })
    }

    /// Queues anything but a datagram.
    ///
    /// # Errors
    /// Gives the input back when it could not be queued.
    pub fn post(&self, input: Input) -> Result<(), PostFault<Input>> {
        self.events
            .try_send(Event::Input(input))
            .map_err(|fault| match fault {
                TrySendError::Full(Event::Input(input)) => PostFault::Full(input),
                TrySendError::Disconnected(Event::Input(input)) => PostFault::Gone(input),
                TrySendError::Full(_) | TrySendError::Disconnected(_) => {
                    unreachable!("what comes back is what was sent")
                }
            })
    }

    /// Queues a datagram unless [`DATAGRAMS_WAITING`] wait already; false: it is dropped.
    pub fn datagram(&self, flow: Flow, bytes: Vec<u8>) -> bool {
        if self.datagrams.fetch_add(1, Ordering::Relaxed) < DATAGRAMS_WAITING
            && self.post(Input::Datagram { flow, bytes }).is_ok()
        {
            return true;
        }
        self.datagrams.fetch_sub(1, Ordering::Relaxed);
        false
    }
}

impl Queue {
    /// Waits for the next event, `limit` at most; `None` when that is over.
    pub fn next(&self, limit: Option<Duration>) -> Option<Event> {
        let event = match limit {
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(limit) => self.events.recv_timeout(limit),
        };
        match event {
            Ok(event) => Some(self.counted(event)),
            Err(RecvTimeoutError::Timeout) => None,
            // Every sender is gone: nothing can happen any more.
            Err(RecvTimeoutError::Disconnected) => Some(Event::Stop),
        }
    }

    /// The next event if one waits already.
    pub fn next_waiting(&self) -> Option<Event> {
        self.events.try_recv().ok().map(|event| self.counted(event))
    }

    fn counted(&self, event: Event) -> Event {
        if matches!(event, Event::Input(Input::Datagram { .. })) {
            self.datagrams.fetch_sub(1, Ordering::Relaxed);
        }
        event
    }
}

/// Room for everything; datagrams may take only a part of it.
const EVENTS_WAITING: usize = 4096;
const DATAGRAMS_WAITING: usize = 1024;
