use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::*;
use crate::card::ledger::Reservation;
use crate::card::{LedgerReply, Settlement};
use crate::ids::{CallKey, CardId, OpId, ProjectId};
use crate::units::{E164, TalkTime};

const LIMIT: Duration = Duration::from_secs(20);

fn settle(call: u64) -> LedgerRequest {
    LedgerRequest::Settle(Settlement {
        call: CallKey::new(call),
        card: CardId::new(3),
        raw: TalkTime::ZERO,
        billed: TalkTime::ZERO,
    })
}

fn reserve(call: u64) -> LedgerRequest {
    LedgerRequest::Reserve {
        op: OpId(1),
        call: CallKey::new(call),
        card: CardId::new(3),
        want: TalkTime::from_secs(120),
        floor: TalkTime::ZERO,
    }
}

fn done(requests: Vec<LedgerRequest>) -> Vec<Answered> {
    let answer = |request: LedgerRequest| {
        let LedgerRequest::Reserve { call, card, want, .. } = request else {
            return Ok(LedgerReply::Done);
        };
        Ok(LedgerReply::Reserved(Reservation::granted(
            call, card, want, false,
        )))
    };
    requests.into_iter().map(answer).collect()
}

fn nobody_alone() -> Ask {
    Box::new(|request| panic!("{request:?} goes with others"))
}

/// A store that notes the size of each batch and answers the first only when it is let go.
fn slow(sizes: &Arc<Mutex<Vec<usize>>>, go: &Arc<Notify>, began: &Arc<Notify>) -> AskAll {
    let (sizes, go, began) = (Arc::clone(sizes), Arc::clone(go), Arc::clone(began));
    Box::new(move |requests| {
        let first = {
            let mut sizes = sizes.lock().unwrap();
            sizes.push(requests.len());
            sizes.len() == 1
        };
        let (go, began) = (Arc::clone(&go), Arc::clone(&began));
        Box::pin(async move {
            if first {
                began.notify_one();
                go.notified().await;
            }
            done(requests)
        })
    })
}

#[tokio::test]
async fn what_comes_while_the_store_is_busy_goes_together() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let (go, began) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let ask = gather(
        slow(&sizes, &go, &began),
        nobody_alone(),
        Handle::current(),
        LIMIT,
        1,
    );
    let mut answers = JoinSet::new();
    answers.spawn(ask(settle(1)));
    began.notified().await;
    for call in 2..=200 {
        answers.spawn(ask(settle(call)));
    }
    go.notify_one();
    let mut count = 0;
    while let Some(answer) = answers.join_next().await {
        answer.unwrap().unwrap().forgo();
        count += 1;
    }
    assert_eq!(count, 200);
    assert_eq!(*sizes.lock().unwrap(), [1, MOST_IN_BATCH, 199 - MOST_IN_BATCH]);
}

#[tokio::test]
async fn a_grant_that_nobody_waits_for_any_more_is_let_go() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let (go, began) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let ask = gather(
        slow(&sizes, &go, &began),
        nobody_alone(),
        Handle::current(),
        LIMIT,
        1,
    );
    let impatient = ask(reserve(1));
    began.notified().await;
    drop(impatient);
    go.notify_one();
    // The token's drop would panic in the worker, and this would have no answer.
    ask(settle(2)).await.unwrap().forgo();
}

#[tokio::test]
async fn a_batch_that_panics_or_hangs_fails_and_the_next_goes_on() {
    for hangs in [false, true] {
        let tried = AtomicBool::new(false);
        let ask_all: AskAll = Box::new(move |requests| {
            if tried.swap(true, Ordering::SeqCst) {
                return Box::pin(async move { done(requests) });
            }
            assert!(hangs, "planted");
            Box::pin(std::future::pending())
        });
        let limit = if hangs { Duration::from_millis(20) } else { LIMIT };
        let ask = gather(ask_all, nobody_alone(), Handle::current(), limit, 1);
        let fault = ask(settle(1)).await.unwrap_err();
        assert!(matches!(*fault, StoreFault::Unknown { .. }), "{fault}");
        ask(settle(1)).await.unwrap().forgo();
    }
}

#[tokio::test]
async fn a_question_that_only_reads_goes_alone() {
    let ask_all: AskAll = Box::new(|requests| panic!("{requests:?} go alone"));
    let alone: Ask = Box::new(|_| Box::pin(async { Ok(LedgerReply::Done) }));
    let ask = gather(ask_all, alone, Handle::current(), LIMIT, 1);
    let question = LedgerRequest::FindLine {
        project: ProjectId::new(1),
        line: E164::parse("+4930123456").unwrap(),
    };
    ask(question).await.unwrap().forgo();
}
