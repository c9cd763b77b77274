//! Several nodes on one PostgreSQL (`CARDLINE_TEST_POSTGRES`, as `tests/postgres` sets it): nothing is
//! oversold, a fenced node writes nothing, a dead one is settled once, and clocks do not matter.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "any other answer fails the test and is printed"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cardline::card::{CdrOpening, LedgerReply, LedgerRequest, ReserveRefusal, Settlement};
use cardline::ids::{CallKey, CardId, OpId, ProjectId};
use cardline::now::{Instant, Now, UnixTime};
use cardline::store::{
    Act, CardFilter, Hold, NewCard, PinKey, ProjectEdit, Recovered, Store, StoreFault, StoreOptions,
};
use cardline::units::TalkTime;
use tokio::task::JoinSet;

use crate::database::{Database, Kind, server};

/// 2025-11-25T08:00:00Z.
const START_MS: i64 = 1_764_057_600_000;
const PARALLEL: i64 = 3;

/// `mono_s` seconds after the clocks began; `skew_s`: how wrong the wall clock is.
fn at(mono_s: u64, skew_s: i64) -> Now {
    Now {
        mono: Instant::from_nanos(mono_s * 1_000_000_000),
        wall: UnixTime::from_ms(START_MS + (i64::try_from(mono_s).unwrap() + skew_s) * 1000),
    }
}

fn act() -> Act {
    Act {
        now: UnixTime::from_ms(START_MS),
        actor: "uid:0".to_owned(),
        key: None,
    }
}

/// A database with project `test1`; `None` where there is no server.
async fn database() -> Option<Database> {
    server()?;
    let database = Database::new(Kind::Postgres).await;
    let store = unclaimed(&database, "setup").await;
    let edit = ProjectEdit {
        max_parallel: Some(PARALLEL),
        ..ProjectEdit::default()
    };
    store.project_new(&act(), "test1", &edit).await.unwrap();
    store.close().await;
    Some(database)
}

async fn unclaimed(database: &Database, node: &str) -> Store {
    let options = StoreOptions {
        node: node.to_owned(),
        ..StoreOptions::new(&database.url, PinKey::from_bytes([7; 32]))
    };
    Store::open(options).await.unwrap()
}

/// A node with a lease as of second 0 of its monotonic clock.
async fn node(database: &Database, name: &str) -> Store {
    let store = unclaimed(database, name).await;
    store.claim(at(0, 0), name).await.unwrap();
    store.recover(at(0, 0), &[]).await.unwrap();
    live_long(database, name).await;
    store
}

/// A slow machine must not let a lease end in the middle of a test.
async fn live_long(database: &Database, name: &str) {
    lease_until(database, name, "expires_at + 3600000").await;
}

async fn lease_until(database: &Database, name: &str, when: &str) {
    let mut raw = database.raw().await;
    let set = format!("UPDATE node SET expires_at = {when} WHERE name = $1");
    let set = sqlx::query(sqlx::AssertSqlSafe(set))
        .bind(name)
        .execute(&mut raw)
        .await;
    assert_eq!(set.unwrap().rows_affected(), 1);
}

async fn cards(store: &Store, count: usize, minutes: i64) -> Vec<CardId> {
    let mut cards = Vec::new();
    for _ in 0..count {
        let new = NewCard {
            project: "test1".to_owned(),
            minutes,
            note: None,
            quote: None,
        };
        let card = store.card_buy(&act(), &new).await.unwrap();
        let bind = LedgerRequest::Bind {
            op: OpId((1 << 100) + u128::try_from(card.id.get()).unwrap()),
            call: CallKey::new(0),
            card: card.id,
            line: None,
        };
        store.ledger(at(0, 0), &bind).await.unwrap();
        cards.push(card.id);
    }
    cards
}

fn opening(call: u64) -> LedgerRequest {
    LedgerRequest::OpenCdr(Box::new(CdrOpening {
        call: CallKey::new(call),
        project: Some(ProjectId::new(1)),
        number: None,
        trunk: "carrier".to_owned(),
        called: None,
        caller: None,
        sip_call_id: "x".to_owned(),
        invited_at: UnixTime::from_ms(START_MS),
    }))
}

fn reserve(call: u64, card: CardId, want_s: u32) -> LedgerRequest {
    LedgerRequest::Reserve {
        op: OpId(call.into()),
        call: CallKey::new(call),
        card,
        want: TalkTime::from_secs(want_s),
        floor: TalkTime::from_secs(10),
    }
}

fn checkpoint(call: u64, card: CardId, used_s: u32) -> LedgerRequest {
    LedgerRequest::Checkpoint {
        call: CallKey::new(call),
        card,
        used: TalkTime::from_secs(used_s),
    }
}

fn settle(call: u64, card: CardId, used_s: u32) -> LedgerRequest {
    LedgerRequest::Settle(Settlement {
        call: CallKey::new(call),
        card,
        raw: TalkTime::from_secs(used_s),
        billed: TalkTime::from_secs(used_s),
    })
}

/// What was granted, in milliseconds.
fn granted(reply: LedgerReply) -> Result<i64, ReserveRefusal> {
    match reply {
        LedgerReply::Reserved(reservation) => {
            let total = reservation.total().as_ms();
            reservation.release();
            Ok(total)
        }
        LedgerReply::NotReserved(why) => Err(why),
        other => panic!("{other:?}"),
    }
}

/// A call with an open reservation and a checkpoint at 20 s.
async fn talk(store: &Store, call: u64, card: CardId) {
    store.ledger(at(1, 0), &opening(call)).await.unwrap();
    let reply = store.ledger(at(1, 0), &reserve(call, card, 120)).await.unwrap();
    assert_eq!(granted(reply), Ok(120_000));
    store.ledger(at(2, 0), &checkpoint(call, card, 20)).await.unwrap();
}

/// The node's lease has been over for long, by the database's clock.
async fn die(database: &Database, name: &str) {
    lease_until(database, name, "1").await;
}

async fn clean(store: &Store) {
    let report = store.check(UnixTime::from_ms(START_MS)).await.unwrap();
    assert!(report.clean, "{:#?}", report.offenders);
}

fn fenced(result: Result<LedgerReply, StoreFault>) -> bool {
    match result {
        Err(StoreFault::Fenced) => true,
        Err(fault) => panic!("{fault}"),
        Ok(reply) => {
            reply.forgo();
            false
        }
    }
}

/// Cards on which more is set aside, or more calls are on, than may be.
async fn oversold(raw: &mut sqlx::AnyConnection) -> i64 {
    sqlx::query_scalar(
        "SELECT COUNT(*) FROM card c WHERE c.reserved_ms > c.balance_ms OR c.open_calls > c.max_parallel
            OR (SELECT COUNT(*) FROM reservation r WHERE r.card_id = c.id AND r.state = 'open') > c.max_parallel
            OR (SELECT COALESCE(SUM(r.amount_ms), 0) FROM reservation r
                WHERE r.card_id = c.id AND r.state = 'open') > c.balance_ms",
    )
    .fetch_one(raw)
    .await
    .unwrap()
}

/// Looks at the cards until `done`; gives how often, and how often too much was set aside.
async fn watch(database: &Database, done: Arc<AtomicBool>) -> (u64, u64) {
    let mut raw = database.raw().await;
    let (mut looks, mut wrong) = (0, 0);
    while !done.load(Ordering::SeqCst) {
        looks += 1;
        wrong += u64::from(oversold(&mut raw).await > 0);
    }
    (looks, wrong)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_calls_on_ten_cards_over_four_nodes_oversell_nothing() {
    let Some(database) = database().await else { return };
    let mut nodes = Vec::new();
    for name in ["a", "b", "c", "d"] {
        nodes.push(node(&database, name).await);
    }
    // Talk time for two and a half slices, so that both limits are met.
    let cards = cards(&nodes[0], 10, 5).await;
    let done = Arc::new(AtomicBool::new(false));
    let (looked, open, refused) = (Arc::clone(&done), AtomicU64::new(0), AtomicU64::new(0));
    let calls = async {
        let mut tasks = JoinSet::new();
        for call in 1..=1000u64 {
            let store = nodes[usize::try_from(call).unwrap() % 4].clone();
            let card = cards[usize::try_from(call / 4).unwrap() % 10];
            tasks.spawn(async move {
                // A hot card makes others wait for longer than a lock may take: the desk asks again.
                for _ in 0..50 {
                    match store.ledger(at(1, 0), &reserve(call, card, 120)).await {
                        Ok(reply) => return (call, card, store, granted(reply)),
                        Err(fault) => assert!(fault.is_away() || fault.to_string().contains("lock timeout")),
                    }
                }
                panic!("call {call} was never answered");
            });
        }
        let mut kept = Vec::new();
        while let Some(one) = tasks.join_next().await {
            let (call, card, store, answer) = one.unwrap();
            match answer {
                Ok(_) => kept.push((call, card, store)),
                Err(ReserveRefusal::InUse | ReserveRefusal::Empty) => {
                    refused.fetch_add(1, Ordering::SeqCst);
                }
                Err(why) => panic!("{why:?}"),
            }
            // Every other one ends at once and makes room.
            if kept.len() > 20 {
                let (call, card, store) = kept.remove(0);
                store.ledger(at(1, 0), &opening(call)).await.unwrap();
                store.ledger(at(1, 0), &settle(call, card, 6)).await.unwrap();
            }
        }
        open.store(kept.len() as u64, Ordering::SeqCst);
        for (call, ..) in &kept {
            nodes[0].ledger(at(1, 0), &opening(*call)).await.unwrap();
        }
        done.store(true, Ordering::SeqCst);
    };
    let ((looks, wrong), ()) = tokio::join!(watch(&database, looked), calls);
    assert_eq!(wrong, 0, "of {looks} looks");
    assert!(looks > 10, "{looks}");
    let (open, refused) = (open.into_inner(), refused.into_inner());
    assert!(open > 0 && refused > 500, "{open} open, {refused} refused");
    clean(&nodes[0]).await;
}

/// The test of the test: who reads and then writes oversells, and the watcher sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reading_and_then_writing_oversells_and_is_seen() {
    let Some(database) = database().await else { return };
    let store = node(&database, "a").await;
    let card = cards(&store, 1, 5).await[0];
    let mut raw = database.raw().await;
    let checks: Vec<String> = sqlx::query_scalar(
        "SELECT CAST(conname AS TEXT) FROM pg_constraint WHERE conrelid = CAST('card' AS REGCLASS) AND contype = 'c'",
    )
    .fetch_all(&mut raw)
    .await
    .unwrap();
    for check in checks {
        let drop = format!("ALTER TABLE card DROP CONSTRAINT {check}");
        sqlx::query(sqlx::AssertSqlSafe(drop))
            .execute(&mut raw)
            .await
            .unwrap();
    }
    assert_eq!(oversold(&mut raw).await, 0);
    // All have read before the first writes.
    let barrier = Arc::new(tokio::sync::Barrier::new(16));
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let (mut raw, barrier) = (database.raw().await, Arc::clone(&barrier));
        tasks.spawn(async move {
            let (available, open): (i64, i64) =
                sqlx::query_as("SELECT balance_ms - reserved_ms, open_calls FROM card WHERE id = $1")
                    .bind(card.get())
                    .fetch_one(&mut raw)
                    .await
                    .unwrap();
            barrier.wait().await;
            if available >= 120_000 && open < PARALLEL {
                sqlx::query("UPDATE card SET reserved_ms = reserved_ms + 120000, open_calls = open_calls + 1 WHERE id = $1")
                    .bind(card.get())
                    .execute(&mut raw)
                    .await
                    .unwrap();
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert_eq!(oversold(&mut raw).await, 1);
}

#[tokio::test]
async fn a_node_whose_lease_was_taken_writes_nothing() {
    let Some(database) = database().await else { return };
    let (a, b) = (node(&database, "a").await, node(&database, "b").await);
    let cards = cards(&a, 2, 5).await;
    talk(&a, 1, cards[0]).await;
    talk(&b, 2, cards[1]).await;
    assert_eq!(
        b.take_over(at(3, 0)).await.unwrap(),
        Recovered::default(),
        "both live"
    );
    die(&database, "a").await;
    let ended = b.take_over(at(4, 0)).await.unwrap();
    assert_eq!((ended.reservations, ended.calls, ended.billed_ms), (1, 1, 20_000));
    b.ping().await.unwrap();
    assert!(matches!(a.ping().await, Err(StoreFault::Fenced)));
    // It wakes up and knows nothing of it.
    for order in [
        checkpoint(1, cards[0], 50),
        settle(1, cards[0], 50),
        reserve(3, cards[0], 60),
        LedgerRequest::Renew {
            op: OpId(4),
            call: CallKey::new(1),
            card: cards[0],
            want: TalkTime::from_secs(60),
        },
        opening(5),
    ] {
        assert!(fenced(a.ledger(at(5, 0), &order).await), "{order:?}");
    }
    assert!(matches!(a.renew_lease(at(5, 0)).await, Err(StoreFault::Fenced)));
    let row = b.call_show(CallKey::new(1)).await.unwrap();
    assert_eq!(
        (row.end_cause.as_deref(), row.billed_ms),
        (Some("crash_recovered"), 20_000)
    );
    // A new epoch: it may grant again, and what its old call still orders changes nothing.
    a.claim(at(40, 0), "a").await.unwrap();
    a.recover(at(40, 0), &[]).await.unwrap();
    live_long(&database, "a").await;
    a.ledger(at(41, 0), &settle(1, cards[0], 50)).await.unwrap();
    talk(&a, 6, cards[0]).await;
    assert_eq!(b.call_show(CallKey::new(1)).await.unwrap().billed_ms, 20_000);
    a.ledger(at(42, 0), &settle(6, cards[0], 30)).await.unwrap();
    b.ledger(at(6, 0), &settle(2, cards[1], 30)).await.unwrap();
    clean(&b).await;
}

/// As after SIGSTOP: the process wakes up, and its own clock alone tells it to stop.
#[tokio::test]
async fn a_frozen_node_spends_nothing_until_its_lease_is_renewed() {
    let Some(database) = database().await else { return };
    let a = node(&database, "a").await;
    let card = cards(&a, 1, 5).await[0];
    talk(&a, 1, card).await;
    assert!(!fenced(a.ledger(at(7, 0), &checkpoint(1, card, 25)).await));
    // The lease lives for 10 s, the node trusts it for 8.
    assert!(a.may_grant(at(7, 0)) && !a.may_grant(at(8, 0)));
    assert!(fenced(a.ledger(at(8, 0), &checkpoint(1, card, 26)).await));
    assert!(fenced(a.ledger(at(60, 0), &reserve(2, card, 60)).await));
    // Nobody has taken it: the same epoch goes on.
    a.renew_lease(at(60, 0)).await.unwrap();
    live_long(&database, "a").await;
    assert!(!fenced(a.ledger(at(61, 0), &checkpoint(1, card, 27)).await));
    a.ledger(at(61, 0), &settle(1, card, 30)).await.unwrap();
    clean(&a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dead_nodes_calls_are_settled_once_by_whoever_comes() {
    let Some(database) = database().await else { return };
    let (a, b) = (node(&database, "a").await, node(&database, "b").await);
    let c = node(&database, "c").await;
    let cards = cards(&a, 100, 30).await;
    for call in 0..250u64 {
        talk(&a, call + 1, cards[usize::try_from(call).unwrap() % 100]).await;
    }
    die(&database, "a").await;
    let mut ended = Recovered::default();
    let now = at(3, 0);
    // Also once more, for what both left to each other.
    for _ in 0..2 {
        let (one, other) = tokio::join!(b.take_over(now), c.take_over(now));
        for done in [one.unwrap(), other.unwrap()] {
            ended.reservations += done.reservations;
            ended.calls += done.calls;
            ended.billed_ms += done.billed_ms;
        }
    }
    assert_eq!(
        (ended.reservations, ended.calls, ended.billed_ms),
        (250, 250, 250 * 20_000)
    );
    clean(&b).await;
}

#[tokio::test]
async fn two_machines_cannot_have_one_name_but_a_restart_need_not_wait() {
    let Some(database) = database().await else { return };
    let dir = database.dir.path();
    let here = Hold::take_seat(&database.url, &dir.join("here")).unwrap();
    let there = Hold::take_seat(&database.url, &dir.join("there")).unwrap();
    assert_ne!(here.instance(), there.instance());
    let first = unclaimed(&database, "x").await;
    let epoch = first.claim(at(0, 0), here.instance()).await.unwrap();
    live_long(&database, "x").await;
    let second = unclaimed(&database, "x").await;
    match second.claim(at(0, 0), there.instance()).await {
        Err(StoreFault::NodeHeld { node, seconds }) => {
            assert_eq!(node, "x");
            assert!(seconds > 3000, "{seconds}");
        }
        other => panic!("{other:?}"),
    }
    // On the same machine the lock tells who is alive.
    let busy = Hold::take_seat(&database.url, &dir.join("here"));
    assert!(busy.unwrap_err().to_string().contains("another cardline"));
    let secret = here.instance().to_owned();
    drop(here);
    let again = Hold::take_seat(&database.url, &dir.join("here")).unwrap();
    assert_eq!(again.instance(), secret);
    let third = unclaimed(&database, "x").await;
    assert_eq!(third.claim(at(0, 0), again.instance()).await.unwrap(), epoch + 1);
    assert!(matches!(
        first.renew_lease(at(1, 0)).await,
        Err(StoreFault::Fenced)
    ));
    // An orderly end leaves the name free, and so does time.
    third.give_back().await.unwrap();
    assert_eq!(second.claim(at(0, 0), there.instance()).await.unwrap(), epoch + 2);
    die(&database, "x").await;
    third.claim(at(0, 0), again.instance()).await.unwrap();
}

#[tokio::test]
async fn a_node_with_calls_keeps_its_lease_for_its_successor() {
    let Some(database) = database().await else { return };
    let (a, b) = (node(&database, "a").await, node(&database, "b").await);
    let card = cards(&a, 1, 5).await[0];
    talk(&a, 1, card).await;
    a.give_back().await.unwrap();
    assert_eq!(b.take_over(at(3, 0)).await.unwrap(), Recovered::default());
    let next = unclaimed(&database, "a").await;
    next.claim(at(0, 0), "a").await.unwrap();
    live_long(&database, "a").await;
    // Between claim and recovery the calls are the successor's.
    assert_eq!(b.take_over(at(3, 0)).await.unwrap(), Recovered::default());
    let found = next.recover(at(0, 0), &[CallKey::new(1)]).await.unwrap();
    assert_eq!(found.adopted.len(), 1);
    assert!(fenced(a.ledger(at(4, 0), &checkpoint(1, card, 30)).await));
    let ended = next.give_up(at(1, 0), found.adopted).await.unwrap();
    assert_eq!((ended.calls, ended.billed_ms), (1, 20_000));
    clean(&b).await;
}

#[tokio::test]
async fn wall_clocks_ten_minutes_apart_end_nobodys_reservation() {
    let Some(database) = database().await else { return };
    let (a, b) = (node(&database, "a").await, node(&database, "b").await);
    let card = cards(&a, 1, 5).await[0];
    for (early, late) in [(-600, 600), (600, -600)] {
        let call = u64::try_from(early + 1000).unwrap();
        a.ledger(at(1, early), &opening(call)).await.unwrap();
        let reply = a.ledger(at(1, early), &reserve(call, card, 60)).await.unwrap();
        assert_eq!(granted(reply), Ok(60_000));
        assert_eq!(b.expire(at(2, late)).await.unwrap(), Recovered::default());
        assert_eq!(b.take_over(at(2, late)).await.unwrap(), Recovered::default());
        a.ledger(at(3, early), &checkpoint(call, card, 2)).await.unwrap();
        assert_eq!(b.expire(at(4, late)).await.unwrap(), Recovered::default());
        a.ledger(at(4, early), &settle(call, card, 10)).await.unwrap();
    }
    // What is really old is ended, by the database's clock.
    a.ledger(at(5, 0), &opening(9)).await.unwrap();
    let reply = a.ledger(at(5, 0), &reserve(9, card, 60)).await.unwrap();
    assert_eq!(granted(reply), Ok(60_000));
    let mut raw = database.raw().await;
    sqlx::query("UPDATE reservation SET valid_until = valid_until - 190000 WHERE state = 'open'")
        .execute(&mut raw)
        .await
        .unwrap();
    assert_eq!(b.expire(at(6, 0)).await.unwrap().reservations, 1);
}

#[tokio::test]
async fn a_grant_in_progress_holds_a_takeover_back() {
    let Some(database) = database().await else { return };
    let (a, b) = (node(&database, "a").await, node(&database, "b").await);
    let card = cards(&a, 1, 5).await[0];
    talk(&a, 1, card).await;
    die(&database, "a").await;
    // As `fence` does it.
    let mut raw = database.raw().await;
    for sql in ["BEGIN", "SELECT epoch FROM node WHERE name = 'a' FOR KEY SHARE"] {
        sqlx::query(sql).execute(&mut raw).await.unwrap();
    }
    let fault = b.take_over(at(3, 0)).await.unwrap_err();
    assert!(fault.to_string().contains("lock timeout"), "{fault}");
    sqlx::query("COMMIT").execute(&mut raw).await.unwrap();
    assert_eq!(b.take_over(at(3, 0)).await.unwrap().reservations, 1);
}

#[tokio::test]
async fn what_operators_change_through_one_node_is_seen_by_another() {
    let Some(database) = database().await else { return };
    let (a, b) = (node(&database, "a").await, node(&database, "b").await);
    let card = cards(&b, 1, 5).await[0];
    let seen = a.newest_change().await.unwrap();
    assert_eq!(a.changes(seen).await.unwrap().upto, seen);
    let serial = b
        .card_list(UnixTime::from_ms(START_MS), &CardFilter::default())
        .await;
    let serial = serial.unwrap().remove(0).serial;
    b.card_topup(&act(), &serial, 5).await.unwrap();
    b.card_block(&act(), &serial).await.unwrap();
    let changes = a.changes(seen).await.unwrap();
    assert_eq!(
        (changes.cards.as_slice(), changes.directory),
        ([card].as_slice(), false)
    );
    b.project_new(&act(), "test2", &ProjectEdit::default())
        .await
        .unwrap();
    let more = a.changes(changes.upto).await.unwrap();
    assert!(more.directory && more.cards.is_empty());
    // What calls do is no change of the operator's.
    b.card_unblock(&act(), &serial).await.unwrap();
    let upto = a.changes(more.upto).await.unwrap().upto;
    let fresh = cards(&b, 1, 5).await;
    assert_eq!(
        a.changes(upto).await.unwrap().cards,
        fresh,
        "bought, not activated"
    );
}
