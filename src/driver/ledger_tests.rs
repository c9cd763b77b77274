use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::card::Settlement;
use crate::card::ledger::Reservation;
use crate::driver::order::name;
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
    Panics,
}

/// One try of a question; real time, since nothing is asserted about it.
const TIMEOUT: Duration = Duration::from_millis(100);
/// A wait that long is a failure; nothing waits for it when all is well.
const FAILED: Duration = Duration::from_secs(20);

/// A desk whose store follows a script of tries, one after the other, then answers.
struct Bench {
    desk: Desk,
    queue: Queue,
    asked: Receiver<&'static str>,
    watch: StoreWatch,
}

/// Without a journal.
fn bench(script: &[Try]) -> Bench {
    let none: Apply = Box::new(|_, order| panic!("{order:?} was in no journal"));
    bench_with(script, Journal::without_file(), none)
}

fn bench_with(script: &[Try], journal: Journal, apply: Apply) -> Bench {
    let (inbox, queue) = inbox();
    let (log, asked) = channel();
    let script = Mutex::new(VecDeque::from(script.to_vec()));
    let ask: Ask = Box::new(move |request| {
        log.send(name(&request)).ok();
        let next = script.lock().unwrap().pop_front().unwrap_or(Try::Answers);
        Box::pin(async move {
            match next {
                Try::Answers => Ok(answer(&request)),
                Try::Fails => Err(Arc::new(fault())),
                Try::Hangs => std::future::pending().await,
                Try::Panics => panic!("planted"),
            }
        })
    });
    let watch = StoreWatch::default();
    let tools = Tools {
        ask,
        apply,
        epoch: Box::new(|| 5),
        journal,
        watch: watch.clone(),
        clock: Clock::start(),
        timeout: TIMEOUT,
    };
    Bench {
        desk: Desk::new(tools, inbox, Handle::current()),
        queue,
        asked,
        watch,
    }
}

fn fault() -> StoreFault {
    StoreFault::Damaged {
        what: "test".to_owned(),
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

#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_panics_is_a_try_that_failed() {
    let bench = bench(&[Try::Panics, Try::Panics, Try::Panics]);
    bench.submit(1, settle());
    bench.submit(2, checkpoint(10));
    assert_eq!(bench.answers(), [(1, "done"), (2, "done")], "the lane goes on");
    // Only now: printing three panics may take longer than a question waits.
    bench.submit(3, check_pin());
    assert_eq!(bench.answers(), [(3, "done")]);
    assert_eq!(bench.watch.away_since(), None, "the database is not to blame");
}

/// A journal in a folder, and a store out of the journal that follows a script of its own.
fn journal(dir: &tempfile::TempDir) -> Journal {
    Journal::open(&dir.path().join("journal"), 1 << 20).unwrap()
}

fn applies(script: Vec<Result<Applied, StoreFault>>) -> (Apply, Receiver<(i64, &'static str)>) {
    let (log, applied) = channel();
    let script = Mutex::new(VecDeque::from(script));
    let apply: Apply = Box::new(move |epoch, order| {
        log.send((epoch, name(&order))).ok();
        let next = script.lock().unwrap().pop_front();
        let next = next.unwrap_or(Ok(Applied::Done(LedgerReply::Done)));
        Box::pin(async move { next })
    });
    (apply, applied)
}

fn away() -> StoreFault {
    StoreFault::Unknown {
        what: "away".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_failed_is_written_down_and_answered_before_the_database_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let hangs_on: Apply = Box::new(|_, _| Box::pin(std::future::pending()));
    let desk = journal(&dir);
    let bench = bench_with(&[Try::Hangs], desk.clone(), hangs_on);
    for (id, order) in [(1, checkpoint(10)), (2, settle())] {
        bench.submit(id, order);
    }
    assert_eq!(bench.answers(), [(1, "done"), (2, "done")]);
    assert_eq!(desk.counts().entries, 2, "both wait on the disk");
    assert!(bench.watch.away_since().is_some());
    // A later order of the call goes the same way, behind them; a question does not wait for ever.
    bench.submit(3, settle());
    bench.submit(4, check_pin());
    let mut later: [(u64, &str); 2] = bench.answers();
    later.sort_unstable();
    assert_eq!(later, [(3, "done"), (4, "unavailable")]);
    assert_eq!(bench.asked(), ["checkpoint"], "from the journal on another way");
    // A killed daemon leaves them to the next one.
    desk.close();
    let left = journal(&dir).take_left();
    let names: Vec<&str> = left.iter().map(|entry| name(&entry.order)).collect();
    assert_eq!(names, ["checkpoint", "settle", "settle"]);
    assert!(left.iter().all(|entry| entry.epoch == 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_goes_into_the_books_in_order_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let (apply, applied) = applies(vec![Err(away()), Ok(Applied::Known), Err(away())]);
    let desk = journal(&dir);
    let bench = bench_with(&[Try::Hangs, Try::Fails], desk.clone(), apply);
    bench.submit(1, checkpoint(10));
    bench.submit(2, settle());
    assert_eq!(bench.answers(), [(1, "done"), (2, "done")]);
    assert_eq!(bench.desk.flush(FAILED).await, 0);
    let found: Vec<(i64, &str)> = applied.try_iter().collect();
    let (checkpoint, settle) = ((5, "checkpoint"), (5, "settle"));
    assert_eq!(found, [checkpoint, checkpoint, settle, settle]);
    desk.close();
    assert_eq!(desk.counts(), crate::driver::journal::Counts::default());
    assert_eq!(
        bench.queue.next_waiting().map(|_| ()),
        None,
        "each was answered once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_books_refuse_is_kept_as_evidence_and_holds_nobody_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut script = vec![Ok(Applied::Rejected("it is expired already".to_owned()))];
    script.extend((0..MOST_REFUSED).map(|_| Err(fault())));
    let (apply, _applied) = applies(script);
    let desk = journal(&dir);
    let bench = bench_with(&[Try::Hangs, Try::Fails], desk.clone(), apply);
    bench.submit(1, settle());
    bench.submit(2, checkpoint(10));
    assert_eq!(bench.answers(), [(1, "done"), (2, "done")]);
    assert_eq!(bench.desk.flush(FAILED).await, 0);
    desk.close();
    let counts = desk.counts();
    assert_eq!((counts.entries, counts.rejected), (0, 2));
    let evidence = std::fs::read_to_string(dir.path().join("journal.rejected")).unwrap();
    assert!(evidence.contains("it is expired already"), "{evidence}");
    assert!(evidence.contains("damaged: test"), "{evidence}");
}
