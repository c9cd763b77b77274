//! How many calls a second the ledger takes: reserve and settle, as the daemon's desk puts them to the
//! store, beside bare inserts by the same driver in transactions of the same size.
//!
//! ```text
//! cargo bench --bench ledger                       SQLite
//! tests/postgres cargo bench --bench ledger        and PostgreSQL, which then waits for its disk
//! ```
//! `CARDLINE_BENCH_ROWS=10000000` makes the largest ledger of the growth table (default a million);
//! `CARDLINE_BENCH_ROUNDS` (5) and `CARDLINE_BENCH_CALLS` (4000 a round) set its length.
#![expect(clippy::unwrap_used, reason = "a measurement says what it needs by failing")]
#![expect(clippy::disallowed_methods, reason = "a stopwatch is what this is about")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cardline::card::{LedgerReply, LedgerRequest, Settlement};
use cardline::driver::clock::Clock;
use cardline::driver::gather::{AskAll, gather};
use cardline::driver::ledger::Ask;
use cardline::ids::{CallKey, CardId, OpId};
use cardline::now::UnixTime;
use cardline::store::{Act, PinKey, ProjectEdit, Store, StoreOptions};
use cardline::units::TalkTime;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// Calls at the desk at a time.
const AT_A_TIME: u64 = 200;
/// A statement's own limit is shorter; a bench that waits longer is broken.
const LIMIT: Duration = Duration::from_secs(60);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let rows = setting("CARDLINE_BENCH_ROWS", 1_000_000);
    let server = std::env::var("CARDLINE_TEST_POSTGRES").ok();
    if let Some(server) = &server {
        let mut conn = connect(server).await;
        for durable in ["fsync = on", "full_page_writes = on", "synchronous_commit = on"] {
            run(&mut conn, &format!("ALTER SYSTEM SET {durable}")).await;
        }
        run(&mut conn, "SELECT pg_reload_conf()").await;
    }
    println!(
        "database    cards      entries    calls/s  us/call  batch  bare inserts/s  calls per 2 bare inserts"
    );
    // The empty one is SQLite.
    for server in [Some(String::new()), server].into_iter().flatten() {
        for (cards, entries) in [(1_000, 1_000), (1_000, rows), (1_000_000, 1_000_000)] {
            measure(&server, cards, entries).await;
        }
    }
}

async fn connect(url: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    AnyConnection::connect(url).await.unwrap()
}

async fn run(conn: &mut AnyConnection, statement: &str) {
    conn.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
}

/// One line of the table: medians of interleaved rounds. `server`: empty for SQLite.
async fn measure(server: &str, cards: u64, entries: u64) {
    let dir = tempfile::tempdir_in(".").unwrap();
    let url = if server.is_empty() {
        format!("sqlite://{}/cardline.db", dir.path().display())
    } else {
        let mut conn = connect(server).await;
        run(&mut conn, "DROP DATABASE IF EXISTS cardline_bench WITH (FORCE)").await;
        run(&mut conn, "CREATE DATABASE cardline_bench").await;
        server.replacen("/postgres?", "/cardline_bench?", 1)
    };
    let store = Store::open(StoreOptions::new(&url, PinKey::from_bytes([7; 32])))
        .await
        .unwrap();
    fill(&store, &url, !server.is_empty(), cards, entries).await;
    let mut bare = connect(&url).await;
    if server.is_empty() {
        // As the store's own connections (it is set per connection).
        run(&mut bare, "PRAGMA synchronous = FULL").await;
    }
    let desk = Desk::new(&store);
    let calls = setting("CARDLINE_BENCH_CALLS", 4000);
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..setting("CARDLINE_BENCH_ROUNDS", 5) {
        ours.push(desk.round(calls, cards).await);
        floor.push(bare_inserts(&mut bare, calls * 2, desk.group()).await);
    }
    let (ours, floor) = (median(ours), median(floor));
    println!(
        "{:<11} {cards:<10} {entries:<10} {ours:<8.0} {:<8.0} {:<6} {floor:<15.0} {:.2}",
        if server.is_empty() { "SQLite" } else { "PostgreSQL" },
        1e6 / ours,
        desk.group(),
        ours * 2.0 / floor,
    );
    bare.close().await.unwrap();
    store.close().await;
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// The path from the calls to the store, with its batches counted.
struct Desk {
    ask: Arc<Ask>,
    next: AtomicU64,
    batches: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Desk {
    fn new(store: &Store) -> Desk {
        let clock = Clock::start();
        let (batches, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (store, many, all) = (store.clone(), Arc::clone(&batches), Arc::clone(&requests));
        let ask_all: AskAll = Box::new(move |batch| {
            many.fetch_add(1, Ordering::Relaxed);
            all.fetch_add(batch.len(), Ordering::Relaxed);
            let store = store.clone();
            Box::pin(async move { store.ledger_all(clock.now(), &batch).await })
        });
        let alone: Ask = Box::new(|request| panic!("{request:?} goes with others"));
        Desk {
            ask: Arc::new(gather(ask_all, alone, Handle::current(), LIMIT, 1)),
            next: AtomicU64::new(1),
            batches,
            requests,
        }
    }

    /// Requests in a batch, on average.
    fn group(&self) -> usize {
        self.requests.load(Ordering::Relaxed) / self.batches.load(Ordering::Relaxed).max(1)
    }

    /// Calls a second.
    async fn round(&self, calls: u64, cards: u64) -> f64 {
        let begin = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..AT_A_TIME {
            let ask = Arc::clone(&self.ask);
            let first = self.next.fetch_add(calls / AT_A_TIME, Ordering::Relaxed);
            tasks.spawn(async move {
                for call in first..first + calls / AT_A_TIME {
                    one_call(&ask, call, cards).await;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        calls as f64 / begin.elapsed().as_secs_f64()
    }
}

async fn one_call(ask: &Ask, call: u64, cards: u64) {
    // Spreads over the cards without a pattern that an index would like.
    let card = CardId::new(i64::try_from(call.wrapping_mul(0x9e37_79b9_7f4a_7c15) % cards).unwrap() + 1);
    let request = LedgerRequest::Reserve {
        op: OpId(u128::from(call)),
        call: CallKey::new(call),
        card,
        want: TalkTime::from_secs(120),
        floor: TalkTime::from_secs(10),
    };
    let LedgerReply::Reserved(reservation) = ask(request).await.unwrap() else {
        panic!("call {call} is not granted");
    };
    let talked = TalkTime::from_secs(30);
    let settled: Settlement = reservation.settle(talked, talked);
    ask(LedgerRequest::Settle(settled)).await.unwrap().forgo();
}

/// Cards, and entries spread over them, by two statements.
async fn fill(store: &Store, url: &str, postgres: bool, cards: u64, entries: u64) {
    let act = Act {
        now: UnixTime::from_ms(1),
        actor: "bench".to_owned(),
        key: None,
    };
    store
        .project_new(&act, "bench", &ProjectEdit::default())
        .await
        .unwrap();
    let series = |most: u64| match postgres {
        true => format!("generate_series(1, {most}) AS s (n)"),
        false => format!(
            "(WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {most}) SELECT n FROM s) AS s"
        ),
    };
    let each = entries / cards;
    let mut conn = connect(url).await;
    run(&mut conn, &format!(
        "INSERT INTO card (project_id, serial, pin_hash, pin_sealed, pin_length, state, balance_ms, max_parallel,
            last_seq, last_hash, created_at)
         SELECT 1, 'K-' || n, 'h' || n, '', 10, 'freigeschaltet', CAST({each} AS BIGINT) * 1000000000, 1000, {each}, 'x', 0
         FROM {}", series(cards))).await;
    run(
        &mut conn,
        &format!(
            "INSERT INTO ledger (card_id, seq, kind, delta_ms, op_key, actor, at, prev_hash, row_hash)
         SELECT (n - 1) / {each} + 1, (n - 1) % {each} + 1, 'goodwill', 1000000000, 'seed:' || n, 'bench', 0,
            'f2ca1bb6c7e907d06dafe4687e579fce76b37e4e93b7605022da52e6ccc26fd2',
            '6c1bb6c7e907d06dafe4687e579fce76b37e4e93b7605022da52e6ccc26fd2f2'
         FROM {}",
            series(each * cards)
        ),
    )
    .await;
    run(&mut conn, "CREATE TABLE bare (id BIGINT PRIMARY KEY, call TEXT NOT NULL, amount BIGINT NOT NULL, at BIGINT NOT NULL, word TEXT NOT NULL)").await;
    run(&mut conn, if postgres { "VACUUM ANALYZE" } else { "ANALYZE" }).await;
    conn.close().await.unwrap();
}

/// Inserts a second, `group` to a transaction.
async fn bare_inserts(conn: &mut AnyConnection, count: u64, group: usize) -> f64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let begin = Instant::now();
    let mut left = usize::try_from(count).unwrap();
    while left > 0 {
        let now = group.max(1).min(left);
        let mut tx = conn.begin().await.unwrap();
        for _ in 0..now {
            let id = i64::try_from(NEXT.fetch_add(1, Ordering::Relaxed)).unwrap();
            sqlx::query("INSERT INTO bare (id, call, amount, at, word) VALUES ($1, $2, $3, $4, $5)")
                .bind(id)
                .bind(format!("{id:016x}"))
                .bind(30_000_i64)
                .bind(id)
                .bind("usage")
                .execute(&mut *tx)
                .await
                .unwrap();
        }
        tx.commit().await.unwrap();
        left -= now;
    }
    count as f64 / begin.elapsed().as_secs_f64()
}
