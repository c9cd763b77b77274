//! Gathers what many calls ask of the store at about the same time into one batch: those that come
//! while the database is busy with the last batch go together with the next.
//!
//! Nobody waits for company: a request that comes alone goes alone, at once.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::ledger::Ask;
use crate::card::LedgerRequest;
use crate::store::{Answered, StoreFault, shares};

/// Puts a batch to the store; gives an answer for each request, in their order.
pub type AskAll = Box<dyn Fn(Vec<LedgerRequest>) -> Answers + Send + Sync>;
/// The store's answers, to be awaited.
pub type Answers = Pin<Box<dyn Future<Output = Vec<Answered>> + Send>>;

struct Gatherer {
    ask_all: AskAll,
    runtime: Handle,
    /// For one batch; one that takes longer is rolled back.
    limit: Duration,
    /// Batches at the store at a time.
    most_at_work: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    waiting: VecDeque<Waiting>,
    at_work: usize,
}

struct Waiting {
    request: LedgerRequest,
    tell: oneshot::Sender<Answered>,
}

/// An [`Ask`] that puts requests which may share a database transaction to the store by the batch,
/// `most_at_work` batches at a time, and all others to `alone`.
pub fn gather(ask_all: AskAll, alone: Ask, runtime: Handle, limit: Duration, most_at_work: usize) -> Ask {
    let gatherer = Arc::new(Gatherer {
        ask_all,
        runtime,
        limit,
        most_at_work,
        table: Mutex::new(Table::default()),
    });
    Box::new(move |request| {
        if !shares(&request) {
            return alone(request);
        }
        let told = gatherer.enter(request);
        Box::pin(async move { told.await.unwrap_or_else(|_| Err(Arc::new(cut_off()))) })
    })
}

impl Gatherer {
    fn enter(self: &Arc<Self>, request: LedgerRequest) -> oneshot::Receiver<Answered> {
        let (tell, told) = oneshot::channel();
        let mut table = self.table();
        table.waiting.push_back(Waiting { request, tell });
        if table.at_work < self.most_at_work {
            table.at_work += 1;
            let own = Arc::clone(self);
            self.runtime.spawn(async move { own.work().await });
        }
        told
    }

    async fn work(&self) {
        while let Some((requests, tells)) = self.next_batch() {
            let count = requests.len();
            let asked = unpanicked(move || (self.ask_all)(requests));
            let answers = match timeout(self.limit, asked).await {
                Ok(Some(answers)) => answers,
                Ok(None) => all_failed(count, "the store panicked"),
                Err(_) => all_failed(count, "the batch took too long"),
            };
            for (tell, answer) in tells.into_iter().zip(answers) {
                // Who asked may have lost patience.
                if let Err(Ok(reply)) = tell.send(answer) {
                    reply.forgo();
                }
            }
        }
    }

    /// What waits by now; `None` ends the worker.
    fn next_batch(&self) -> Option<(Vec<LedgerRequest>, Vec<oneshot::Sender<Answered>>)> {
        let mut table = self.table();
        let count = table.waiting.len().min(MOST_IN_BATCH);
        let batch: Vec<Waiting> = table.waiting.drain(..count).collect();
        if batch.is_empty() {
            table.at_work -= 1;
            return None;
        }
        drop(table);
        let wanted = batch.into_iter().filter(|waiting| !waiting.tell.is_closed());
        Some(wanted.map(|waiting| (waiting.request, waiting.tell)).unzip())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing that holds the lock can panic halfway.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Awaits what `make` makes; `None` if either panicked. One request's bug must not end the task
/// that others depend on.
pub(super) async fn unpanicked<T>(
    make: impl FnOnce() -> Pin<Box<dyn Future<Output = T> + Send>>,
) -> Option<T> {
    let mut asked = catch_unwind(AssertUnwindSafe(make)).ok()?;
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| asked.as_mut().poll(cx))) {
            Ok(Poll::Ready(answer)) => Poll::Ready(Some(answer)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(None),
        },
    )
    .await
}

fn all_failed(count: usize, what: &str) -> Vec<Answered> {
    let fault = Arc::new(StoreFault::Unknown {
        what: what.to_owned(),
    });
    (0..count).map(|_| Err(Arc::clone(&fault))).collect()
}

fn cut_off() -> StoreFault {
    StoreFault::Unknown {
        what: "the daemon is ending".to_owned(),
    }
}

/// Requests in one database transaction; more wait for the next.
const MOST_IN_BATCH: usize = 128;

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
