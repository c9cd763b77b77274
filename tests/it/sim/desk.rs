//! One node's way to the store, by the contract of `driver/ledger.rs`: a lane per call, two tries of
//! 2 s for a question, then `Unavailable`; an order is tried until it is done, with growing pauses,
//! and from its first failure on it stands in the node's journal, with all that its call ordered
//! since: it is answered then, and outlives a crash.
//!
//! Delays, failures before and after the commit, spells in which the store is away, cut off or
//! read-only: all drawn from the seed.

use std::collections::{BTreeMap, VecDeque};

use cardline::card::{LedgerReply, LedgerRequest};
use cardline::ids::{CallKey, LedgerId};
use cardline::now::IdSource;

use super::phone::{MS, Nanos, SECOND};
use super::store::{Clerk, Store};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    Call(CallKey),
    Alone(u64),
}

struct Job {
    id: LedgerId,
    /// Older checkpoints that this one overtook; they are answered with it.
    overtaken: Vec<LedgerId>,
    request: LedgerRequest,
    tries: u32,
    given_up_at: Nanos,
    journaled: bool,
}

#[derive(Default)]
struct Work {
    jobs: VecDeque<Job>,
    /// The attempt that is under way takes longer than a try may.
    late: bool,
}

/// How the store behaves for a while, as one node sees it.
#[derive(Clone, Copy, Debug)]
pub struct Mood {
    pub latency: Nanos,
    /// Per cent of attempts that fail before the commit.
    pub fails: u64,
    /// Per cent of attempts whose answer is lost after the commit.
    pub loses: u64,
    pub away: Away,
}

/// Why nothing can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    No,
    /// No answer at all: each try runs into its limit.
    Mute,
    /// It refuses connections, as while it restarts: each try fails at once.
    Refused,
    /// A standby, or a full disk: it reads, and writes nothing.
    ReadOnly,
}

impl Mood {
    pub const HEALTHY: Mood = Mood {
        latency: 20 * MS,
        fails: 0,
        loses: 0,
        away: Away::No,
    };
}

pub struct Desk {
    pub mood: Mood,
    lanes: BTreeMap<Lane, Work>,
    /// What an earlier life of the node left in its journal, in the order of writing.
    pub journal: Vec<LedgerRequest>,
    rng: IdSource,
    /// When an attempt last failed.
    pub trouble_at: Nanos,
    /// Requests that may wait.
    pub most_waiting: usize,
    /// Per cent of checkpoints that are never put down.
    pub skips: u64,
}

/// When the head of a lane is tried next.
pub struct Visit {
    pub at: Nanos,
    pub lane: Lane,
}

/// What a try came to.
enum Tried {
    Answered(LedgerReply),
    /// Nothing happened, or nobody will ever know.
    Failed,
}

impl Desk {
    pub fn new(seed: u64) -> Desk {
        Desk {
            mood: Mood::HEALTHY,
            lanes: BTreeMap::new(),
            journal: Vec::new(),
            rng: IdSource::from_number(seed ^ 0xde5c),
            trouble_at: 0,
            most_waiting: usize::MAX,
            skips: 0,
        }
    }

    /// Takes a request; `Err` when too many wait: then the answer is `Unavailable`, at once. Of
    /// orders only checkpoints are turned away here: the driver's limit is far out of their reach.
    pub fn submit(&mut self, now: Nanos, id: LedgerId, request: LedgerRequest) -> Result<Option<Visit>, ()> {
        if matches!(request, LedgerRequest::Checkpoint { .. }) && self.rng.below(100) < self.skips {
            return Ok(None);
        }
        let waiting: usize = self.lanes.values().map(|work| work.jobs.len()).sum();
        let dear = is_order(&request) && !matches!(request, LedgerRequest::Checkpoint { .. });
        if waiting >= self.most_waiting && !dear {
            self.trouble_at = now;
            return Err(());
        }
        let lane = call_of(&request).map_or(Lane::Alone(id.0), Lane::Call);
        let work = self.lanes.entry(lane).or_default();
        let job = Job {
            id,
            overtaken: Vec::new(),
            request,
            tries: 0,
            given_up_at: now + 2 * TRY,
            journaled: false,
        };
        push(&mut work.jobs, job);
        let first = work.jobs.len() == 1;
        Ok(first.then(|| self.next_visit(now, lane, 0)))
    }

    pub fn is_idle(&self) -> bool {
        self.lanes.is_empty() && self.journal.is_empty()
    }

    fn next_visit(&mut self, now: Nanos, lane: Lane, pause: Nanos) -> Visit {
        let usual = match self.rng.below(100) {
            0..=4 => self.mood.latency * 10,
            _ => self.mood.latency,
        };
        let takes = match self.mood.away {
            Away::Mute => 2 * TRY,
            Away::Refused => MS,
            Away::No | Away::ReadOnly => MS + self.rng.below(usual.max(MS)),
        };
        if let Some(work) = self.lanes.get_mut(&lane) {
            work.late = takes > TRY;
        }
        Visit {
            at: now + pause + takes.min(TRY),
            lane,
        }
    }

    /// Tries the head of a lane; gives the answers to deliver and the next visit.
    pub fn visit(
        &mut self,
        store: &mut Store,
        clerk: Clerk,
        lane: Lane,
    ) -> (Vec<(LedgerId, LedgerReply)>, Option<Visit>) {
        let now = clerk.at;
        let mut answers = Vec::new();
        let tried = self.attempt(store, clerk, lane);
        let work = self
            .lanes
            .get_mut(&lane)
            .expect("only lanes with jobs are visited");
        let head = work.jobs.front_mut().expect("only lanes with jobs are visited");
        let mut pause = 0;
        match tried {
            Tried::Answered(reply) => {
                if head.journaled {
                    forgo(reply);
                } else {
                    answers.extend(head.overtaken.iter().map(|older| (*older, LedgerReply::Done)));
                    answers.push((head.id, reply));
                }
                work.jobs.pop_front();
            }
            Tried::Failed => {
                self.trouble_at = now;
                if is_order(&head.request) {
                    pause = ((TRY / 20) << head.tries.min(6).saturating_sub(1)).min(TRY);
                    write_down(&mut work.jobs, &mut answers);
                }
                give_up(&mut work.jobs, now, &mut answers);
            }
        }
        if work.jobs.is_empty() {
            self.lanes.remove(&lane);
            return (answers, None);
        }
        (answers, Some(self.next_visit(now, lane, pause)))
    }

    fn attempt(&mut self, store: &mut Store, clerk: Clerk, lane: Lane) -> Tried {
        let roll = self.rng.below(100);
        let work = self
            .lanes
            .get_mut(&lane)
            .expect("only lanes with jobs are visited");
        let head = work.jobs.front_mut().expect("only lanes with jobs are visited");
        head.tries += 1;
        let fails = match self.mood.away {
            Away::Mute | Away::Refused => true,
            Away::ReadOnly => !is_reading(&head.request),
            Away::No => roll < self.mood.fails || work.late && roll < 50,
        };
        if fails {
            return Tried::Failed;
        }
        let Some(reply) = store.ask(clerk, &head.request) else {
            return Tried::Failed;
        };
        store.check();
        if roll < 100 - self.mood.loses.min(100) && !work.late {
            return Tried::Answered(reply);
        }
        // The answer is lost, what was done stands.
        forgo(reply);
        Tried::Failed
    }

    /// The process is gone: what it had written to its journal stays.
    pub fn crash(&mut self) {
        for work in std::mem::take(&mut self.lanes).into_values() {
            let kept = work.jobs.into_iter().filter(|job| job.journaled);
            self.journal.extend(kept.map(|job| job.request));
        }
    }

    /// Whether the store would take anything from this node now.
    pub fn reaches_store(&self) -> bool {
        self.mood.away == Away::No
    }
}

/// One try of a request.
const TRY: Nanos = 2 * SECOND;

/// A checkpoint takes the place of an older one that still waits at the end of the lane.
fn push(jobs: &mut VecDeque<Job>, mut job: Job) {
    if jobs.len() > 1
        && let Some(last) = jobs.back_mut()
        && let LedgerRequest::Checkpoint { card: newer, .. } = &job.request
        && let LedgerRequest::Checkpoint { card: older, .. } = &last.request
        && newer == older
        && !last.journaled
    {
        job.overtaken = std::mem::take(&mut last.overtaken);
        job.overtaken.push(last.id);
        *last = job;
        return;
    }
    jobs.push_back(job);
}

/// The journal takes all orders of a lane whose head the store does not take, and answers for it.
fn write_down(jobs: &mut VecDeque<Job>, answers: &mut Vec<(LedgerId, LedgerReply)>) {
    for job in jobs
        .iter_mut()
        .filter(|job| is_order(&job.request) && !job.journaled)
    {
        job.journaled = true;
        let ids = job.overtaken.drain(..).chain([job.id]);
        answers.extend(ids.map(|id| (id, LedgerReply::Done)));
    }
}

/// Questions whose patience is over, the head among them.
fn give_up(jobs: &mut VecDeque<Job>, now: Nanos, answers: &mut Vec<(LedgerId, LedgerReply)>) {
    jobs.retain(|job| {
        let over = !is_order(&job.request) && (job.tries >= 2 || job.given_up_at <= now);
        if over {
            answers.push((job.id, LedgerReply::Unavailable));
        }
        !over
    });
}

/// Lets go of an answer that nobody gets: a grant in it stands in the store.
pub fn forgo(reply: LedgerReply) {
    if let LedgerReply::Reserved(reservation) = reply {
        assert!(reservation.release().billed.is_zero());
    }
}

pub fn call_of(request: &LedgerRequest) -> Option<CallKey> {
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

pub fn is_order(request: &LedgerRequest) -> bool {
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

/// Whether this writes nothing.
fn is_reading(request: &LedgerRequest) -> bool {
    matches!(
        request,
        LedgerRequest::FindLine { .. } | LedgerRequest::ReadCard { .. }
    )
}
