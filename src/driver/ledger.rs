//! Carries the switch's ledger requests to the store and the answers back.
//!
//! A *question* (a caller waits) gets two tries of `timeout` each, then `Unavailable`. An *order*
//! (CDR, checkpoint, settlement) is tried until it is done, with pauses that grow from a twentieth of
//! `timeout` to all of it: what was measured must reach the books.
//! An order whose first try failed goes into the journal with all that its call ordered since, and is
//! answered then; the lane keeps it at its head until the database has it.
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

use super::clock::Clock;
use super::gather::unpanicked;
use super::journal::Journal;
use super::order::{call_of, is_order, name};
use super::store_watch::StoreWatch;
use super::{Inbox, PostFault};
use crate::card::{LedgerReply, LedgerRequest};
use crate::ids::{CallKey, LedgerId};
use crate::store::{Answered, Applied, StoreFault};
use crate::switch::Input;

/// Puts one request to the store.
pub type Ask = Box<dyn Fn(LedgerRequest) -> Answer + Send + Sync>;
/// The store's answer, to be awaited.
pub type Answer = Pin<Box<dyn Future<Output = Answered> + Send>>;
/// Puts an order out of the journal to the store, with the node's epoch of then.
pub type Apply = Box<dyn Fn(i64, LedgerRequest) -> Applying + Send + Sync>;
/// What became of it, to be awaited.
pub type Applying = Pin<Box<dyn Future<Output = Result<Applied, StoreFault>> + Send>>;

/// What the desk works with.
pub struct Tools {
    pub ask: Ask,
    pub apply: Apply,
    /// The node's epoch now.
    pub epoch: Box<dyn Fn() -> i64 + Send + Sync>,
    pub journal: Journal,
    pub watch: StoreWatch,
    pub clock: Clock,
    /// One try of a question.
    pub timeout: Duration,
}

/// The store's side of the driver; clones share it.
#[derive(Clone)]
pub struct Desk(Arc<Shared>);

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tools")
            .field("journal", &self.journal)
            .finish_non_exhaustive()
    }
}

struct Shared {
    tools: Tools,
    inbox: Inbox,
    runtime: Handle,
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
    /// Where it stands in the journal; it is answered then.
    kept: Option<Kept>,
    /// When a question is given up.
    patience: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    entry: u64,
    epoch: i64,
}

impl Desk {
    /// `runtime` runs the workers.
    pub fn new(tools: Tools, inbox: Inbox, runtime: Handle) -> Desk {
        Desk(Arc::new(Shared {
            tools,
            inbox,
            runtime,
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
            kept: None,
            patience: Instant::now() + self.0.tools.timeout * 2,
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
        && last.kept.is_none()
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
        while let Some((request, patience)) = self.first(key) {
            let reply = if is_order(&request) {
                self.carry_out(key, &request).await
            } else {
                self.question(&request, patience).await
            };
            self.finish(key, reply).await;
        }
    }

    /// The head of the lane, which stays there while it is worked on; ends an empty lane.
    fn first(&self, key: LaneKey) -> Option<(LedgerRequest, Instant)> {
        let mut lanes = self.lanes();
        let head = lanes.by_key.get(&key).and_then(VecDeque::front);
        let found = head.map(|job| (job.request.clone(), job.patience));
        if found.is_none() {
            lanes.by_key.remove(&key);
            if lanes.waiting == 0 {
                self.idle.notify_waiters();
            }
        }
        found
    }

    /// Takes the head off and answers it, unless that was done when it went into the journal.
    async fn finish(&self, key: LaneKey, reply: LedgerReply) {
        let job = {
            let mut lanes = self.lanes();
            lanes.waiting = lanes.waiting.saturating_sub(1);
            lanes.by_key.get_mut(&key).and_then(VecDeque::pop_front)
        };
        let Some(job) = job else {
            return reply.forgo();
        };
        if job.kept.is_some() {
            return reply.forgo();
        }
        for older in job.overtaken {
            self.deliver(older, LedgerReply::Done).await;
        }
        self.deliver(job.id, reply).await;
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

    /// Tries until it is done. What the database itself refuses, again and again, ends as evidence.
    async fn carry_out(&self, key: LaneKey, request: &LedgerRequest) -> LedgerReply {
        let mut pause = self.tools.timeout / 20;
        let mut refused = 0;
        loop {
            let kept = self.kept(key);
            let tried = match kept {
                None => self.attempt(request).await,
                Some(kept) => self.apply(kept, request).await,
            };
            let fault = match tried {
                Ok(reply) => return reply,
                Err(fault) => fault,
            };
            tracing::error!(%fault, request = name(request), ?key, "an order is not in the books yet");
            refused += u32::from(!fault.is_away());
            if let Some(kept) = kept.filter(|_| refused >= MOST_REFUSED) {
                let (journal, at) = (&self.tools.journal, self.tools.clock.wall());
                journal.reject(kept.entry, at, fault.to_string());
                return LedgerReply::Done;
            }
            self.keep(key).await;
            self.give_up_questions(key).await;
            sleep(pause).await;
            pause = (pause * 2).min(self.tools.timeout);
        }
    }

    async fn attempt(&self, request: &LedgerRequest) -> Result<LedgerReply, Unanswered> {
        let answer = self.in_time(|| (self.tools.ask)(request.clone())).await;
        self.noted(answer.and_then(|answer| answer.map_err(Unanswered::Fault)))
    }

    /// Puts an order of the journal to the store, and marks what became of it.
    async fn apply(&self, kept: Kept, request: &LedgerRequest) -> Result<LedgerReply, Unanswered> {
        let applied = self
            .in_time(|| (self.tools.apply)(kept.epoch, request.clone()))
            .await;
        let fault = |fault| Unanswered::Fault(Arc::new(fault));
        let applied = self.noted(applied.and_then(|applied| applied.map_err(fault)))?;
        let journal = &self.tools.journal;
        match applied {
            Applied::Done(reply) => {
                journal.done(kept.entry);
                return Ok(reply);
            }
            Applied::Known => journal.done(kept.entry),
            Applied::Rejected(why) => journal.reject(kept.entry, self.tools.clock.wall(), why),
        }
        Ok(LedgerReply::Done)
    }

    /// One try, which may take `timeout`; a panic in it is a failure of this try alone.
    async fn in_time<T>(
        &self,
        ask: impl FnOnce() -> Pin<Box<dyn Future<Output = T> + Send>>,
    ) -> Result<T, Unanswered> {
        let asked = async {
            // Never closed; if it were, asking without a permit is the lesser harm.
            let _permit = self.permits.acquire().await.ok();
            unpanicked(ask).await
        };
        match timeout(self.tools.timeout, asked).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Unanswered::Panicked),
            Err(_) => Err(Unanswered::Late(self.tools.timeout)),
        }
    }

    /// Tells the watch when the database is to blame. That it is back only the probe can tell: a
    /// disk that is full answers every question.
    fn noted<T>(&self, tried: Result<T, Unanswered>) -> Result<T, Unanswered> {
        if let Err(fault) = &tried
            && fault.is_away()
        {
            self.tools
                .watch
                .failed(self.tools.clock.wall(), &fault.to_string());
        }
        tried
    }

    fn kept(&self, key: LaneKey) -> Option<Kept> {
        let lanes = self.lanes();
        lanes.by_key.get(&key)?.front()?.kept
    }

    /// Writes the orders of a lane whose head is stuck into the journal and answers them: their call
    /// need not wait for the database.
    async fn keep(&self, key: LaneKey) {
        let orders: Vec<(LedgerId, LedgerRequest)> = {
            let lanes = self.lanes();
            let jobs = lanes.by_key.get(&key).into_iter().flatten();
            jobs.filter(|job| job.kept.is_none() && is_order(&job.request))
                .map(|job| (job.id, job.request.clone()))
                .collect()
        };
        if orders.is_empty() {
            return;
        }
        let (ids, orders): (Vec<LedgerId>, Vec<LedgerRequest>) = orders.into_iter().unzip();
        let (at, epoch) = (self.tools.clock.wall(), (self.tools.epoch)());
        match self.tools.journal.append(at, epoch, orders).await {
            Ok(entries) => {
                for (id, entry) in ids.into_iter().zip(entries) {
                    self.answer_kept(key, id, Kept { entry, epoch }).await;
                }
            }
            Err(fault) => tracing::error!(%fault, ?key, "orders are in memory only"),
        }
    }

    async fn answer_kept(&self, key: LaneKey, id: LedgerId, kept: Kept) {
        let overtaken = {
            let mut lanes = self.lanes();
            let lane = lanes.by_key.get_mut(&key);
            let Some(job) = lane.and_then(|lane| lane.iter_mut().find(|job| job.id == id)) else {
                // A newer checkpoint took its place meanwhile, and will be written in its turn.
                drop(lanes);
                return self.tools.journal.done(kept.entry);
            };
            job.kept = Some(kept);
            std::mem::take(&mut job.overtaken)
        };
        for older in overtaken {
            self.deliver(older, LedgerReply::Done).await;
        }
        self.deliver(id, LedgerReply::Done).await;
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
    #[error("{0}")]
    Fault(Arc<StoreFault>),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("the try panicked")]
    Panicked,
}

impl Unanswered {
    /// Whether the database is to blame, and not the request.
    fn is_away(&self) -> bool {
        match self {
            Unanswered::Fault(fault) => fault.is_away(),
            Unanswered::Late(_) => true,
            Unanswered::Panicked => false,
        }
    }
}

const TRIES: u32 = 2;
/// Refusals of an order by a database that is there, before it is given up as evidence.
const MOST_REFUSED: u32 = 20;
/// Requests at the store at a time: two full batches.
const AT_THE_STORE: usize = 256;
/// Requests that wait in all lanes together.
const MOST_WAITING: usize = 100_000;
/// Until the driver's queue has room again.
const QUEUE_PAUSE: Duration = Duration::from_millis(2);

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
