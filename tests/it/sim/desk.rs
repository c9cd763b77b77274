//! The way to the store: a lane per call as in the driver, seeded delays, failures before and
//! after the commit, outages. A question gets two tries within 4 s, then `Unavailable`; an order
//! is tried until it is done.

use std::collections::{BTreeMap, VecDeque};

use cardline::card::{LedgerReply, LedgerRequest};
use cardline::ids::{CallKey, LedgerId};
use cardline::now::{IdSource, Now};

use super::phone::{MS, Nanos, SECOND};
use super::store::Store;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    Call(CallKey),
    Alone(u64),
}

struct Job {
    id: LedgerId,
    request: LedgerRequest,
    tries: u32,
    given_up_at: Nanos,
}

/// How the store behaves for a while.
#[derive(Clone, Copy, Debug)]
pub struct Mood {
    pub latency: Nanos,
    /// Per cent of attempts that fail before the commit.
    pub fails: u64,
    /// Per cent of attempts whose answer is lost after the commit.
    pub loses: u64,
    pub down: bool,
}

impl Mood {
    pub const HEALTHY: Mood = Mood {
        latency: 20 * MS,
        fails: 0,
        loses: 0,
        down: false,
    };
}

pub struct Desk {
    pub store: Store,
    pub mood: Mood,
    lanes: BTreeMap<Lane, VecDeque<Job>>,
    rng: IdSource,
    /// When an attempt last failed.
    pub trouble_at: Nanos,
}

/// When the head of a lane is tried next.
pub struct Visit {
    pub at: Nanos,
    pub lane: Lane,
}

impl Desk {
    pub fn new(store: Store, seed: u64) -> Desk {
        Desk {
            store,
            mood: Mood::HEALTHY,
            lanes: BTreeMap::new(),
            rng: IdSource::from_number(seed ^ 0xde5c),
            trouble_at: 0,
        }
    }

    pub fn submit(&mut self, now: Nanos, id: LedgerId, request: LedgerRequest) -> Option<Visit> {
        let lane = call_of(&request).map_or(Lane::Alone(id.0), Lane::Call);
        let jobs = self.lanes.entry(lane).or_default();
        jobs.push_back(Job {
            id,
            request,
            tries: 0,
            given_up_at: now + 4 * SECOND,
        });
        (jobs.len() == 1).then(|| self.next_visit(now, lane))
    }

    pub fn is_idle(&self) -> bool {
        self.lanes.is_empty()
    }

    fn next_visit(&mut self, now: Nanos, lane: Lane) -> Visit {
        let latency = match self.rng.below(100) {
            _ if self.mood.down => 2 * SECOND,
            0..=4 => self.mood.latency * 10,
            _ => self.mood.latency,
        };
        let span = MS + self.rng.below(latency.max(MS));
        let at = now
            + if self.mood.down {
                latency
            } else {
                span.min(2 * SECOND)
            };
        Visit { at, lane }
    }

    /// Tries the head of a lane; gives the answers to deliver and the next visit.
    pub fn visit(&mut self, now: Now, lane: Lane) -> (Vec<(LedgerId, LedgerReply)>, Option<Visit>) {
        let (wall, now) = (now.wall, now.mono.as_nanos());
        let mut answers = Vec::new();
        let roll = self.rng.below(100);
        let fails = self.mood.down || roll < self.mood.fails;
        let loses = roll >= 100 - self.mood.loses.min(100);
        let jobs = self
            .lanes
            .get_mut(&lane)
            .expect("only lanes with jobs are visited");
        let head = jobs.front_mut().expect("only lanes with jobs are visited");
        head.tries += 1;
        let reply = if fails {
            None
        } else {
            Some(self.store.commit(wall, &head.request))
        };
        if !fails {
            self.store.check();
        }
        match reply {
            Some(reply) if !loses => {
                answers.push((head.id, reply));
                jobs.pop_front();
            }
            lost => {
                self.trouble_at = now;
                if let Some(LedgerReply::Reserved(reservation)) = lost {
                    // The answer is lost, the grant stands.
                    assert!(reservation.release().billed.is_zero());
                }
                give_up(jobs, now, &mut answers);
            }
        }
        if jobs.is_empty() {
            self.lanes.remove(&lane);
            return (answers, None);
        }
        (answers, Some(self.next_visit(now, lane)))
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
