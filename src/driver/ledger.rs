//! Carries the switch's ledger requests to the store and the answers back.
//!
//! A *question* (a caller waits) gets two tries of `timeout` each, then `Unavailable`. An *order*
//! (CDR, checkpoint, settlement) is tried until it is done, with pauses that grow from a twentieth of
//! `timeout` to all of it: what was measured must reach the books.
//! The requests of one call keep their order in a lane of their own; lanes run side by side.
//!
//! ```text
//! submit -> lane of the call: [job, job, ...] -> one worker task per lane that is not empty
//! ```
//! A question behind an order that the store does not take is answered `Unavailable` when its two
//! tries would be over: the caller hears that, and the order stays.
//!
//! Deliberately absent: SQL, and any rule about talk time.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use super::{Inbox, PostFault};
use crate::card::{LedgerReply, LedgerRequest};
use crate::ids::{CallKey, LedgerId};
use crate::store::StoreFault;
use crate::switch::Input;

/// Puts one request to the store.
pub type Ask = Box<dyn Fn(LedgerRequest) -> Answer + Send + Sync>;
/// The store's answer, to be awaited.
pub type Answer = Pin<Box<dyn Future<Output = Result<LedgerReply, StoreFault>> + Send>>;

/// The store's side of the driver; clones share it.
#[derive(Clone)]
pub struct Desk(Arc<Shared>);

struct Shared {
    ask: Ask,
    inbox: Inbox,
    runtime: Handle,
    timeout: Duration,
    lanes: Mutex<Lanes>,
    /// Requests at the store at a time.
    permits: Semaphore,
    /// Told when the last lane has ended.
    idle: Notify,
}

#[derive(Default)]
struct Lanes {
    by_key: BTreeMap<LaneKey, VecDeque<Job>>,
    waiting: usize,
}

/// Requests without a call have a lane each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LaneKey {
    Call(CallKey),
    Alone(LedgerId),
}

struct Job {
    id: LedgerId,
    /// Older checkpoints that this one overtook; they are answered with it.
    overtaken: Vec<LedgerId>,
    request: LedgerRequest,
    /// When a question is given up.
    patience: Instant,
}

impl Desk {
    /// `runtime` runs the workers; `timeout` is one try of a question.
    pub fn new(ask: Ask, inbox: Inbox, runtime: Handle, timeout: Duration) -> Desk {
        Desk(Arc::new(Shared {
            ask,
            inbox,
            runtime,
            timeout,
            lanes: Mutex::new(Lanes::default()),
            permits: Semaphore::new(AT_THE_STORE),
            idle: Notify::new(),
        }))
    }

    /// Takes a request; false when [`MOST_WAITING`] wait already (the store is away), and then the
    /// answer is `Unavailable`, at once.
    pub fn submit(&self, id: LedgerId, request: LedgerRequest) -> bool {
        let key = call_of(&request).map_or(LaneKey::Alone(id), LaneKey::Call);
        let job = Job {
            id,
            overtaken: Vec::new(),
            request,
            patience: Instant::now() + self.0.timeout * 2,
        };
        let mut lanes = self.0.lanes();
        if lanes.waiting >= MOST_WAITING {
            tracing::error!(waiting = lanes.waiting, "too many requests wait for the store");
            return false;
        }
        if let Some(lane) = lanes.by_key.get_mut(&key) {
            if push(lane, job) {
                lanes.waiting += 1;
            }
            return true;
        }
        lanes.by_key.insert(key, VecDeque::from([job]));
        lanes.waiting += 1;
        drop(lanes);
        let shared = Arc::clone(&self.0);
        self.0.runtime.spawn(async move { shared.work(key).await });
        true
    }

    /// Requests that are not answered yet.
    pub fn waiting(&self) -> usize {
        self.0.lanes().waiting
    }

    /// Waits until every request is answered, `limit` at most; gives how many are left.
    pub async fn flush(&self, limit: Duration) -> usize {
        let done = async {
            loop {
                let told = self.0.idle.notified();
                if self.waiting() == 0 {
                    return;
                }
                told.await;
            }
        };
        match timeout(limit, done).await {
            Ok(()) => 0,
            Err(_) => self.waiting(),
        }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

/// Appends a job; a checkpoint takes the place of an older one that still waits at the end of the
/// lane, since usage never falls. Gives whether the lane grew.
fn push(lane: &mut VecDeque<Job>, mut job: Job) -> bool {
    // The first job is the one that the worker is busy with.
    if lane.len() > 1
        && let Some(last) = lane.back_mut()
        && let LedgerRequest::Checkpoint { card: newer, .. } = &job.request
        && let LedgerRequest::Checkpoint { card: older, .. } = &last.request
        && newer == older
    {
        job.overtaken = std::mem::take(&mut last.overtaken);
        job.overtaken.push(last.id);
        *last = job;
        return false;
    }
    lane.push_back(job);
    true
}

impl Shared {
    /// Works one lane off; ends when it is empty.
    async fn work(self: Arc<Shared>, key: LaneKey) {
        while let Some((id, request, patience)) = self.first(key) {
            let reply = if is_order(&request) {
                self.carry_out(key, &request).await
            } else {
                self.question(&request, patience).await
            };
            self.finish(key, id, reply).await;
        }
    }

    /// The head of the lane, which stays there while it is worked on; ends an empty lane.
    fn first(&self, key: LaneKey) -> Option<(LedgerId, LedgerRequest, Instant)> {
        let mut lanes = self.lanes();
        let head = lanes.by_key.get(&key).and_then(VecDeque::front);
        let found = head.map(|job| (job.id, job.request.clone(), job.patience));
        if found.is_none() {
            lanes.by_key.remove(&key);
            if lanes.waiting == 0 {
                self.idle.notify_waiters();
            }
        }
        found
    }

    /// Takes the head off and answers it.
    async fn finish(&self, key: LaneKey, id: LedgerId, reply: LedgerReply) {
        let overtaken = {
            let mut lanes = self.lanes();
            let job = lanes.by_key.get_mut(&key).and_then(VecDeque::pop_front);
            lanes.waiting = lanes.waiting.saturating_sub(1);
            job.map_or_else(Vec::new, |job| job.overtaken)
        };
        for older in overtaken {
            self.deliver(older, LedgerReply::Done).await;
        }
        self.deliver(id, reply).await;
    }

    async fn question(&self, request: &LedgerRequest, patience: Instant) -> LedgerReply {
        for _ in 0..TRIES {
            if Instant::now() >= patience {
                break;
            }
            match self.attempt(request).await {
                Ok(reply) => return reply,
                Err(fault) => tracing::warn!(%fault, request = name(request), "the store did not answer"),
            }
        }
        LedgerReply::Unavailable
    }

    async fn carry_out(&self, key: LaneKey, request: &LedgerRequest) -> LedgerReply {
        let mut pause = self.timeout / 20;
        loop {
            match self.attempt(request).await {
                Ok(reply) => return reply,
                Err(fault) => {
                    tracing::error!(%fault, request = name(request), ?key, "an order is not in the books yet");
                }
            }
            self.give_up_questions(key).await;
            sleep(pause).await;
            pause = (pause * 2).min(self.timeout);
        }
    }

    async fn attempt(&self, request: &LedgerRequest) -> Result<LedgerReply, Unanswered> {
        let asked = async {
            // Never closed; if it were, asking without a permit is the lesser harm.
            let _permit = self.permits.acquire().await.ok();
            (self.ask)(request.clone()).await
        };
        match timeout(self.timeout, asked).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(fault)) => Err(Unanswered::Fault(fault)),
            Err(_) => Err(Unanswered::Late(self.timeout)),
        }
    }

    /// Answers the questions of this lane whose patience is over, behind its stuck head.
    async fn give_up_questions(&self, key: LaneKey) {
        let mut given_up = Vec::new();
        {
            let mut lanes = self.lanes();
            let now = Instant::now();
            if let Some(lane) = lanes.by_key.get_mut(&key) {
                lane.retain(|job| {
                    let over = !is_order(&job.request) && job.patience <= now;
                    if over {
                        given_up.push(job.id);
                    }
                    !over
                });
            }
            lanes.waiting = lanes.waiting.saturating_sub(given_up.len());
        }
        for id in given_up {
            self.deliver(id, LedgerReply::Unavailable).await;
        }
    }

    async fn deliver(&self, id: LedgerId, reply: LedgerReply) {
        let mut input = Input::Ledger { id, reply };
        loop {
            match self.inbox.post(input) {
                Ok(()) => return,
                Err(PostFault::Full(back)) => {
                    input = back;
                    sleep(QUEUE_PAUSE).await;
                }
                Err(PostFault::Gone(back)) => return self.release_orphan(back).await,
            }
        }
    }

    /// Talk time that was granted while the switch went away is given back at once; should that
    /// fail, the reservation expires by itself.
    async fn release_orphan(&self, input: Input) {
        if let Input::Ledger {
            reply: LedgerReply::Reserved(reservation),
            ..
        } = input
            && let Err(fault) = self.attempt(&LedgerRequest::Settle(reservation.release())).await
        {
            tracing::error!(%fault, "a reservation outlives its call until it expires");
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        // Nothing that holds the lock can panic halfway.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Fault(StoreFault),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

fn call_of(request: &LedgerRequest) -> Option<CallKey> {
    match request {
        LedgerRequest::OpenCdr(opening) => Some(opening.call),
        LedgerRequest::CloseCdr(cdr) => Some(cdr.call),
        LedgerRequest::Settle(settlement) => Some(settlement.call),
        LedgerRequest::CheckPin { call, .. }
        | LedgerRequest::Bind { call, .. }
        | LedgerRequest::Reserve { call, .. }
        | LedgerRequest::Renew { call, .. }
        | LedgerRequest::Checkpoint { call, .. }
        | LedgerRequest::ReadCard { call, .. } => Some(*call),
        LedgerRequest::FindLine { .. } => None,
    }
}

/// Whether this must reach the books, however long it takes.
fn is_order(request: &LedgerRequest) -> bool {
    match request {
        LedgerRequest::OpenCdr(_)
        | LedgerRequest::Checkpoint { .. }
        | LedgerRequest::Settle(_)
        | LedgerRequest::CloseCdr(_) => true,
        LedgerRequest::FindLine { .. }
        | LedgerRequest::CheckPin { .. }
        | LedgerRequest::Bind { .. }
        | LedgerRequest::Reserve { .. }
        | LedgerRequest::Renew { .. }
        | LedgerRequest::ReadCard { .. } => false,
    }
}

/// For logs: a request's content may be a PIN.
fn name(request: &LedgerRequest) -> &'static str {
    match request {
        LedgerRequest::OpenCdr(_) => "open_cdr",
        LedgerRequest::FindLine { .. } => "find_line",
        LedgerRequest::CheckPin { .. } => "check_pin",
        LedgerRequest::Bind { .. } => "bind",
        LedgerRequest::Reserve { .. } => "reserve",
        LedgerRequest::Renew { .. } => "renew",
        LedgerRequest::Checkpoint { .. } => "checkpoint",
        LedgerRequest::Settle(_) => "settle",
        LedgerRequest::ReadCard { .. } => "read_card",
        LedgerRequest::CloseCdr(_) => "close_cdr",
    }
}

const TRIES: u32 = 2;
/// Requests at the store at a time; its own pool may be smaller.
const AT_THE_STORE: usize = 32;
/// Requests that wait in all lanes together.
const MOST_WAITING: usize = 100_000;
/// Until the driver's queue has room again.
const QUEUE_PAUSE: Duration = Duration::from_millis(2);

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
