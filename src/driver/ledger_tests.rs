use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::card::Settlement;
use crate::card::ledger::Reservation;
use crate::driver::{Event, Queue, inbox};
use crate::ids::{CardId, NumberId, OpId, ProjectId};
use crate::secret::Pin;
use crate::units::{E164, TalkTime};

const CALL: CallKey = CallKey::new(7);
const CARD: CardId = CardId::new(3);

/// What the store does with one try.
#[derive(Clone, Copy, Debug)]
enum Try {
    Answers,
    Fails,
    Hangs,
}

/// One try of a question; real time, since nothing is asserted about it.
const TIMEOUT: Duration = Duration::from_millis(40);
/// A wait that long is a failure; nothing waits for it when all is well.
const FAILED: Duration = Duration::from_secs(20);

/// A desk whose store follows a script of tries, one after the other, then answers.
struct Bench {
    desk: Desk,
    queue: Queue,
    asked: Receiver<&'static str>,
}

fn bench(script: &[Try]) -> Bench {
    let (inbox, queue) = inbox();
    let (log, asked) = channel();
    let script = Mutex::new(VecDeque::from(script.to_vec()));
    let ask: Ask = Box::new(move |request| {
        log.send(name(&request)).ok();
        let next = script.lock().unwrap().pop_front().unwrap_or(Try::Answers);
        Box::pin(async move {
            match next {
                Try::Answers => Ok(answer(&request)),
                Try::Fails => Err(StoreFault::Damaged {
                    what: "test".to_owned(),
                }),
                Try::Hangs => std::future::pending().await,
            }
        })
    });
    Bench {
        desk: Desk::new(ask, inbox, Handle::current(), TIMEOUT),
        queue,
        asked,
    }
}

fn answer(request: &LedgerRequest) -> LedgerReply {
    if matches!(request, LedgerRequest::Reserve { .. }) {
        LedgerReply::Reserved(Reservation::granted(CALL, CARD, TalkTime::from_secs(120), false))
    } else {
        LedgerReply::Done
    }
}

impl Bench {
    fn submit(&self, id: u64, request: LedgerRequest) {
        assert!(self.desk.submit(LedgerId(id), request));
    }

    /// The next `N` answers, in order.
    fn answers<const N: usize>(&self) -> [(u64, &'static str); N] {
        std::array::from_fn(|_| match self.queue.next(Some(FAILED)) {
            Some(Event::Input(Input::Ledger { id, reply })) => (id.0, word(reply)),
            other => panic!("{other:?}"),
        })
    }

    fn asked(&self) -> Vec<&'static str> {
        self.asked.try_iter().collect()
    }
}

fn word(reply: LedgerReply) -> &'static str {
    let said = format!("{reply:?}");
    match reply {
        LedgerReply::Done => "done",
        LedgerReply::Unavailable => "unavailable",
        LedgerReply::Reserved(reservation) => {
            reservation.release();
            "reserved"
        }
        LedgerReply::Line(_)
        | LedgerReply::Pin(_)
        | LedgerReply::Bound(_)
        | LedgerReply::Renewed { .. }
        | LedgerReply::NotReserved(_)
        | LedgerReply::Settled { .. }
        | LedgerReply::Card(_) => panic!("no question of these tests: {said}"),
    }
}

fn check_pin() -> LedgerRequest {
    LedgerRequest::CheckPin {
        call: CALL,
        project: ProjectId::new(1),
        number: NumberId::new(1),
        pin: Pin::parse("12345678").unwrap(),
        line: None,
    }
}

fn reserve() -> LedgerRequest {
    LedgerRequest::Reserve {
        op: OpId(1),
        call: CALL,
        card: CARD,
        want: TalkTime::from_secs(120),
        floor: TalkTime::from_secs(10),
    }
}

fn settle() -> LedgerRequest {
    LedgerRequest::Settle(Settlement {
        call: CALL,
        card: CARD,
        raw: TalkTime::ZERO,
        billed: TalkTime::ZERO,
    })
}

fn checkpoint(secs: u32) -> LedgerRequest {
    LedgerRequest::Checkpoint {
        call: CALL,
        card: CARD,
        used: TalkTime::from_secs(secs),
    }
}

fn find_line() -> LedgerRequest {
    LedgerRequest::FindLine {
        project: ProjectId::new(1),
        line: E164::parse("+4930123456").unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_tried_twice_and_then_unavailable() {
    for (script, word, tries) in [
        (vec![Try::Answers], "done", 1),
        (vec![Try::Fails], "done", 2),
        (vec![Try::Hangs], "done", 2),
        (vec![Try::Fails, Try::Fails], "unavailable", 2),
        (vec![Try::Hangs, Try::Hangs], "unavailable", 2),
        (vec![Try::Hangs, Try::Fails], "unavailable", 2),
    ] {
        let bench = bench(&script);
        bench.submit(1, check_pin());
        assert_eq!(bench.answers(), [(1, word)], "{script:?}");
        assert_eq!(bench.asked().len(), tries, "{script:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_tried_until_it_is_done() {
    let bench = bench(&[Try::Fails, Try::Hangs, Try::Fails, Try::Fails, Try::Hangs]);
    bench.submit(1, settle());
    assert_eq!(bench.answers(), [(1, "done")]);
    assert_eq!(bench.asked(), ["settle"; 6]);
    assert_eq!(bench.desk.flush(FAILED).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_of_one_call_keep_their_order() {
    let bench = bench(&[Try::Hangs, Try::Answers, Try::Fails]);
    bench.submit(1, reserve());
    bench.submit(2, settle());
    bench.submit(3, check_pin());
    assert_eq!(bench.answers(), [(1, "reserved"), (2, "done"), (3, "done")]);
    assert_eq!(
        bench.asked(),
        ["reserve", "reserve", "settle", "settle", "check_pin"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_call_does_not_keep_others_waiting() {
    let bench = bench(&[Try::Hangs]);
    bench.submit(1, settle());
    assert_eq!(bench.asked.recv_timeout(FAILED), Ok("settle"));
    bench.submit(2, find_line());
    assert_eq!(bench.answers(), [(2, "done"), (1, "done")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_behind_an_order_that_is_stuck_is_given_up() {
    let bench = bench(&[Try::Hangs; 1000]);
    bench.submit(1, settle());
    bench.submit(2, check_pin());
    assert_eq!(bench.answers(), [(2, "unavailable")]);
    assert_eq!(bench.desk.waiting(), 1, "the order stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_checkpoint_is_overtaken_by_a_newer_one() {
    let bench = bench(&[Try::Hangs]);
    for (id, secs) in [(1, 10), (2, 20), (3, 30), (4, 40)] {
        bench.submit(id, checkpoint(secs));
    }
    assert_eq!(bench.desk.waiting(), 2, "the first is at the store");
    assert_eq!(
        bench.answers(),
        [(1, "done"), (2, "done"), (3, "done"), (4, "done")]
    );
    assert_eq!(bench.asked(), ["checkpoint"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn flush_waits_for_the_last_answer_or_says_what_is_left() {
    let done = bench(&[Try::Fails, Try::Fails]);
    done.submit(1, settle());
    assert_eq!(done.desk.flush(FAILED).await, 0);
    let stuck = bench(&[Try::Hangs; 1000]);
    stuck.submit(1, settle());
    assert_eq!(stuck.desk.flush(TIMEOUT).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_comes_when_the_switch_is_gone_is_given_back() {
    let bench = bench(&[]);
    drop(bench.queue);
    assert!(bench.desk.submit(LedgerId(1), reserve()));
    assert_eq!(bench.asked.recv_timeout(FAILED), Ok("reserve"));
    assert_eq!(bench.asked.recv_timeout(FAILED), Ok("settle"));
}
