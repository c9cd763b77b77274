//! The store on real databases: what a caller's and an operator's requests do, that repeats do
//! nothing, and that nothing can be rewritten. `store_model` compares it with the reference model.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "any other answer fails the test and is printed"
)]

use cardline::call::cdr::{Cdr, EndCause};
use cardline::call::directory::Role;
use cardline::card::ledger::Adopted;
use cardline::card::{
    BindVerdict, CardState, CdrOpening, LedgerReply, LedgerRequest, LineVerdict, PinVerdict, ReserveRefusal,
    Settlement,
};
use cardline::ids::{CallKey, CardId, NumberId, OpId, ProjectId};
use cardline::now::{Instant, Now, UnixTime};
use cardline::secret::Pin;
use cardline::store::{
    Act, AdminError, CardFilter, CardRow, NewCard, NewNumber, NewTarget, PinKey, ProjectEdit, Refusal, Store,
    StoreFault, StoreOptions,
};
use cardline::units::{E164, TalkTime};

use crate::database::{Database, Kind, on_each_database};

/// 2025-11-25T08:00:00Z.
const START_MS: i64 = 1_764_057_600_000;

struct Bench {
    store: Store,
    /// Closed after the store.
    database: Database,
}

fn act(key: Option<&str>) -> Act {
    Act {
        now: UnixTime::from_ms(START_MS),
        actor: "uid:0".to_owned(),
        key: key.map(str::to_owned),
    }
}

fn now(after_s: i64) -> Now {
    let mono_s = u64::try_from(1_000_000 + after_s).unwrap_or(0);
    Now {
        mono: Instant::from_nanos(mono_s * 1_000_000_000),
        wall: UnixTime::from_ms(START_MS + after_s * 1000),
    }
}

fn options(url: &str) -> StoreOptions {
    StoreOptions {
        durable: false,
        ..StoreOptions::new(url, PinKey::from_bytes([7; 32]))
    }
}

/// A fresh database with project `test1`, one number and one target.
async fn bench(on: Kind) -> Bench {
    let database = Database::new(on).await;
    let store = Store::open(options(&database.url)).await.unwrap();
    store
        .project_new(&act(None), "test1", &ProjectEdit::default())
        .await
        .unwrap();
    let number = NewNumber {
        e164: E164::parse("+493023125101").unwrap(),
        project: "test1".to_owned(),
        role: Role::Both,
    };
    store.number_add(&act(None), &number).await.unwrap();
    let target = NewTarget {
        project: "test1".to_owned(),
        address: "sip:berater@127.0.0.1:5070".to_owned(),
        order: None,
        ring_s: None,
    };
    store.target_add(&act(None), &target).await.unwrap();
    Bench { store, database }
}

impl Bench {
    async fn buy(&self, minutes: i64) -> CardRow {
        let new = NewCard {
            project: "test1".to_owned(),
            minutes,
            note: None,
            quote: None,
        };
        self.store.card_buy(&act(None), &new).await.unwrap()
    }

    /// A card that a PIN call has activated.
    async fn active(&self, minutes: i64, call: u64) -> CardRow {
        let card = self.buy(minutes).await;
        self.open(call, Some("+491701234567")).await;
        let bind = LedgerRequest::Bind {
            op: OpId(u128::from(call) << 64),
            call: CallKey::new(call),
            card: card.id,
            line: None,
        };
        self.ask(0, &bind).await;
        card
    }

    async fn open(&self, call: u64, caller: Option<&str>) {
        let opening = CdrOpening {
            call: CallKey::new(call),
            project: Some(ProjectId::new(1)),
            number: Some(NumberId::new(1)),
            trunk: "carrier".to_owned(),
            called: Some(E164::parse("+493023125101").unwrap()),
            caller: caller.map(|n| E164::parse(n).unwrap()),
            sip_call_id: "abc@192.0.2.1".to_owned(),
            invited_at: UnixTime::from_ms(START_MS),
        };
        self.ask(0, &LedgerRequest::OpenCdr(Box::new(opening))).await;
    }

    async fn ask(&self, after_s: i64, request: &LedgerRequest) -> LedgerReply {
        self.store.ledger(now(after_s), request).await.unwrap()
    }

    /// `Ok((granted, last))`; the token itself is given back.
    async fn reserve(
        &self,
        op: u128,
        call: u64,
        card: CardId,
        want_s: u32,
    ) -> Result<(i64, bool), ReserveRefusal> {
        let request = LedgerRequest::Reserve {
            op: OpId(op),
            call: CallKey::new(call),
            card,
            want: TalkTime::from_secs(want_s),
            floor: TalkTime::from_secs(10),
        };
        granted(self.ask(0, &request).await)
    }

    async fn settle(&self, call: u64, card: CardId, billed_ms: i64) -> i64 {
        let settlement = Settlement {
            call: CallKey::new(call),
            card,
            raw: TalkTime::from_ms(billed_ms),
            billed: TalkTime::from_ms(billed_ms),
        };
        match self.ask(1, &LedgerRequest::Settle(settlement)).await {
            LedgerReply::Settled { balance } => balance.as_ms(),
            other => panic!("{other:?}"),
        }
    }

    async fn close(&self, call: u64, card: CardId, billed_ms: i64) {
        let bridged = billed_ms > 0;
        let cdr = Cdr {
            call: CallKey::new(call),
            card: Some(card),
            target: None,
            answered_at: Some(UnixTime::from_ms(START_MS)),
            ringing_at: None,
            advisor_answered_at: None,
            bridged_at: bridged.then_some(UnixTime::from_ms(START_MS + 1)),
            ended_at: UnixTime::from_ms(START_MS + 1 + billed_ms),
            hold: TalkTime::ZERO,
            raw: TalkTime::from_ms(billed_ms),
            billed: TalkTime::from_ms(billed_ms),
            end_cause: EndCause::CallerBye,
            warnings_s: vec![60, 10],
            codec: None,
            stats_a: cardline::media::LegStats::default(),
            stats_b: cardline::media::LegStats::default(),
            tariff_version: None,
            attempts: Vec::new(),
        };
        self.ask(2, &LedgerRequest::CloseCdr(Box::new(cdr))).await;
    }

    /// After a right PIN; whether the line is remembered.
    async fn bind(&self, call: u64, card: CardId, line: Option<&str>) -> bool {
        self.open(call, line).await;
        let request = LedgerRequest::Bind {
            op: OpId(u128::from(call)),
            call: CallKey::new(call),
            card,
            line: line.map(|line| E164::parse(line).unwrap()),
        };
        match self.ask(i64::try_from(call).unwrap(), &request).await {
            LedgerReply::Bound(verdict) => verdict == BindVerdict::Bound,
            other => panic!("{other:?}"),
        }
    }

    async fn remembered(&self, serial: &str) -> Vec<String> {
        let card = self
            .store
            .card_show(UnixTime::from_ms(START_MS), serial)
            .await
            .unwrap();
        card.lines.into_iter().map(|line| line.e164).collect()
    }

    async fn max_lines(&self, max_lines: i64) {
        let edit = ProjectEdit {
            max_lines: Some(max_lines),
            ..ProjectEdit::default()
        };
        self.store.project_edit(&act(None), "test1", &edit).await.unwrap();
    }

    /// WAL included.
    fn bytes_of_files(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in std::fs::read_dir(self.database.dir.path()).unwrap() {
            bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
        }
        bytes
    }

    async fn bytes_of_rows(&self) -> Vec<u8> {
        let mut raw = self.database.raw().await;
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT CAST(table_name AS TEXT) FROM information_schema.tables WHERE table_schema = 'public'",
        )
        .fetch_all(&mut raw)
        .await
        .unwrap();
        let mut bytes = Vec::new();
        for table in tables {
            let rows = format!("SELECT CAST(x AS TEXT) FROM \"{table}\" x");
            let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(rows))
                .fetch_all(&mut raw)
                .await
                .unwrap();
            bytes.extend(rows.join("\n").into_bytes());
        }
        bytes
    }

    async fn clean(&self) {
        let report = self
            .store
            .check(UnixTime::from_ms(START_MS + 3_000))
            .await
            .unwrap();
        assert!(report.clean, "{:#?}", report.offenders);
    }
}

/// What a grant's answer says, without the token.
fn granted(reply: LedgerReply) -> Result<(i64, bool), ReserveRefusal> {
    match reply {
        LedgerReply::Reserved(reservation) => {
            let told = (reservation.total().as_ms(), reservation.is_last());
            reservation.release();
            Ok(told)
        }
        LedgerReply::Renewed { granted, last } => Ok((granted.as_ms(), last)),
        LedgerReply::NotReserved(why) => Err(why),
        other => panic!("{other:?}"),
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, AdminError>) -> String {
    match result {
        Err(AdminError::Refused(refusal)) => {
            assert!(!refusal.german().is_empty());
            refusal.code()
        }
        other => panic!("{other:?}"),
    }
}

on_each_database!(a_card_is_bought_used_and_settled_to_zero);
async fn a_card_is_bought_used_and_settled_to_zero(on: Kind) {
    let bench = bench(on).await;
    let card = bench.active(2, 1).await;
    assert_eq!(card.state, "neu");
    assert_eq!((card.balance_ms, card.price_cents), (120_000, Some(0)));
    assert_eq!(card.pin.as_ref().map(String::len), Some(10));
    assert_eq!(bench.reserve(1, 1, card.id, 90).await, Ok((90_000, false)));
    let during = bench
        .store
        .card_show(UnixTime::from_ms(START_MS), &card.serial)
        .await
        .unwrap();
    assert_eq!(
        (during.state, during.reserved_ms, during.available_ms),
        ("freigeschaltet", 90_000, 30_000)
    );
    let renew = LedgerRequest::Renew {
        op: OpId(2),
        call: CallKey::new(1),
        card: card.id,
        want: TalkTime::from_secs(120),
    };
    assert_eq!(granted(bench.ask(1, &renew).await), Ok((120_000, true)));
    assert_eq!(bench.settle(1, card.id, 120_000).await, 0);
    bench.close(1, card.id, 120_000).await;
    let after = bench
        .store
        .card_show(UnixTime::from_ms(START_MS), &card.serial)
        .await
        .unwrap();
    assert_eq!(
        (after.state, after.balance_ms, after.reserved_ms, after.used_ms),
        ("leer", 0, 0, 120_000)
    );
    let entries = bench.store.card_entries(&card.serial).await.unwrap();
    let kinds: Vec<(&str, i64)> = entries.iter().map(|e| (e.kind.as_str(), e.delta_ms)).collect();
    assert_eq!(kinds, [("purchase", 120_000), ("usage", -120_000)]);
    bench.clean().await;
}

on_each_database!(each_refusal_has_its_reason);
async fn each_refusal_has_its_reason(on: Kind) {
    let bench = bench(on).await;
    let fresh = bench.buy(1).await;
    let active = bench.active(1, 1).await;
    let blocked = bench.active(1, 2).await;
    let short = bench.active(1, 3).await;
    bench.store.card_block(&act(None), &blocked.serial).await.unwrap();
    assert_eq!(bench.reserve(30, 30, short.id, 55).await, Ok((55_000, false)));
    assert_eq!(bench.settle(30, short.id, 55_000).await, 5_000);
    assert_eq!(bench.reserve(10, 10, active.id, 30).await, Ok((30_000, false)));
    for (what, call, card, want) in [
        (
            "no such card",
            90,
            CardId::new(99),
            ReserveRefusal::State(CardState::Cancelled),
        ),
        (
            "never activated",
            91,
            fresh.id,
            ReserveRefusal::State(CardState::New),
        ),
        (
            "blocked",
            92,
            blocked.id,
            ReserveRefusal::State(CardState::Blocked),
        ),
        ("another call is on", 93, active.id, ReserveRefusal::InUse),
        ("the same call, another op", 10, active.id, ReserveRefusal::InUse),
        ("below the floor", 94, short.id, ReserveRefusal::Empty),
        (
            "settled in this call already",
            30,
            short.id,
            ReserveRefusal::Empty,
        ),
    ] {
        assert_eq!(
            bench.reserve(u128::from(call) << 8, call, card, 30).await,
            Err(want),
            "{what}"
        );
    }
    renewals_are_refused(&bench, active.id, short.id, blocked.id).await;
    let late = LedgerRequest::Reserve {
        op: OpId(901),
        call: CallKey::new(97),
        card: active.id,
        want: TalkTime::from_secs(10),
        floor: TalkTime::from_secs(10),
    };
    let four_years = 4 * 366 * 86_400;
    assert_eq!(
        granted(bench.ask(four_years, &late).await),
        Err(ReserveRefusal::State(CardState::Expired))
    );
}

async fn renewals_are_refused(bench: &Bench, active: CardId, short: CardId, blocked: CardId) {
    let renew = |call, card| LedgerRequest::Renew {
        op: OpId(900),
        call: CallKey::new(call),
        card,
        want: TalkTime::from_secs(10),
    };
    for (what, call, card, want) in [
        ("no reservation", 95, active, ReserveRefusal::Empty),
        ("settled", 30, short, ReserveRefusal::Empty),
        ("blocked", 96, blocked, ReserveRefusal::State(CardState::Blocked)),
    ] {
        assert_eq!(
            granted(bench.ask(0, &renew(call, card)).await),
            Err(want),
            "{what}"
        );
    }
}

on_each_database!(a_repeated_order_gets_the_first_answer_and_does_nothing);
async fn a_repeated_order_gets_the_first_answer_and_does_nothing(on: Kind) {
    let bench = bench(on).await;
    let card = bench.active(5, 1).await;
    let facts = || async {
        let read = LedgerRequest::ReadCard {
            call: CallKey::new(1),
            card: card.id,
        };
        match bench.ask(0, &read).await {
            LedgerReply::Card(facts) => (facts.balance.as_ms(), facts.reserved.as_ms(), facts.open_calls),
            other => panic!("{other:?}"),
        }
    };
    for _ in 0..3 {
        assert_eq!(bench.reserve(1, 1, card.id, 60).await, Ok((60_000, false)));
        assert_eq!(facts().await, (300_000, 60_000, 1));
    }
    let renew = LedgerRequest::Renew {
        op: OpId(2),
        call: CallKey::new(1),
        card: card.id,
        want: TalkTime::from_secs(60),
    };
    for _ in 0..3 {
        assert_eq!(granted(bench.ask(0, &renew).await), Ok((120_000, false)));
        assert_eq!(facts().await, (300_000, 120_000, 1));
    }
    for (used_s, billed) in [(30, 42_000), (20, 1), (99, 99_000)] {
        let checkpoint = LedgerRequest::Checkpoint {
            call: CallKey::new(1),
            card: card.id,
            used: TalkTime::from_secs(used_s),
        };
        bench.ask(0, &checkpoint).await;
        assert_eq!(bench.settle(1, card.id, billed).await, 258_000);
        assert_eq!(facts().await, (258_000, 0, 0));
    }
    // A settlement above the grants is cut to them; a settlement of nothing leaves no entry.
    assert_eq!(bench.reserve(3, 2, card.id, 60).await, Ok((60_000, false)));
    assert_eq!(bench.settle(2, card.id, 61_000).await, 198_000);
    assert_eq!(bench.reserve(4, 3, card.id, 60).await, Ok((60_000, false)));
    assert_eq!(bench.settle(3, card.id, 0).await, 198_000);
    assert_eq!(bench.store.card_entries(&card.serial).await.unwrap().len(), 3);
    for _ in 0..2 {
        bench.close(1, card.id, 42_000).await;
    }
}

on_each_database!(calls_at_one_instant_never_get_more_than_there_is);
async fn calls_at_one_instant_never_get_more_than_there_is(on: Kind) {
    let bench = bench(on).await;
    let edit = ProjectEdit {
        max_parallel: Some(7),
        ..ProjectEdit::default()
    };
    bench
        .store
        .project_edit(&act(None), "test1", &edit)
        .await
        .unwrap();
    let card = bench.active(5, 999).await;
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(30));
    let mut tasks = tokio::task::JoinSet::new();
    for call in 0..30u64 {
        let (store, barrier, card) = (bench.store.clone(), barrier.clone(), card.id);
        tasks.spawn(async move {
            barrier.wait().await;
            let request = LedgerRequest::Reserve {
                op: OpId(u128::from(call) + 1),
                call: CallKey::new(call + 1),
                card,
                want: TalkTime::from_secs(120),
                floor: TalkTime::from_secs(10),
            };
            granted(store.ledger(now(0), &request).await.unwrap())
        });
    }
    let mut grants = Vec::new();
    let mut refusals = Vec::new();
    while let Some(result) = tasks.join_next().await {
        match result.unwrap() {
            Ok((amount, _)) => grants.push(amount),
            Err(why) => refusals.push(why),
        }
    }
    grants.sort_unstable();
    assert_eq!(grants, [60_000, 120_000, 120_000]);
    assert!(refusals.iter().all(|why| *why == ReserveRefusal::Empty));
}

on_each_database!(a_repeat_that_overtakes_its_first_try_gets_the_same_answer);
async fn a_repeat_that_overtakes_its_first_try_gets_the_same_answer(on: Kind) {
    let bench = bench(on).await;
    let card = bench.active(5, 1).await;
    for (n, request) in [
        LedgerRequest::Reserve {
            op: OpId(1),
            call: CallKey::new(1),
            card: card.id,
            want: TalkTime::from_secs(60),
            floor: TalkTime::from_secs(10),
        },
        LedgerRequest::Renew {
            op: OpId(2),
            call: CallKey::new(1),
            card: card.id,
            want: TalkTime::from_secs(60),
        },
    ]
    .into_iter()
    .enumerate()
    {
        let mut tries = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (store, request) = (bench.store.clone(), request.clone());
            tries.spawn(async move { granted(store.ledger(now(0), &request).await.unwrap()) });
        }
        let total = 60_000 * i64::try_from(n + 1).unwrap();
        while let Some(answer) = tries.join_next().await {
            assert_eq!(answer.unwrap(), Ok((total, false)));
        }
    }
    assert_eq!(bench.settle(1, card.id, 120_000).await, 180_000);
    bench.clean().await;
}

on_each_database!(what_a_killed_process_left_open_ends_at_its_checkpoint);
async fn what_a_killed_process_left_open_ends_at_its_checkpoint(on: Kind) {
    let bench = bench(on).await;
    let card = bench.active(5, 1).await;
    let other = bench.active(5, 2).await;
    assert_eq!(bench.reserve(1, 1, card.id, 120).await, Ok((120_000, false)));
    assert_eq!(bench.reserve(2, 2, other.id, 120).await, Ok((120_000, false)));
    let checkpoint = LedgerRequest::Checkpoint {
        call: CallKey::new(1),
        card: card.id,
        used: TalkTime::from_ms(20_400),
    };
    bench.ask(21, &checkpoint).await;
    // The process dies here; the next one opens the same file.
    let again = Store::open(options(&bench.database.url)).await.unwrap();
    let first = again.recover(now(60), &[]).await.unwrap().ended;
    assert_eq!((first.reservations, first.calls, first.billed_ms), (2, 2, 20_400));
    let second = again.recover(now(61), &[]).await.unwrap().ended;
    assert_eq!((second.reservations, second.calls, second.billed_ms), (0, 0, 0));
    let call = again.call_show(CallKey::new(1)).await.unwrap();
    assert_eq!(call.end_cause.as_deref(), Some("crash_recovered"));
    assert_eq!((call.raw_ms, call.billed_ms), (20_400, 20_400));
    assert_eq!(call.card.as_deref(), Some(card.serial.as_str()));
    assert!(call.bridged_at.is_some());
    let silent = again.call_show(CallKey::new(2)).await.unwrap();
    assert_eq!((silent.billed_ms, silent.bridged_at), (0, None));
    // A settlement that comes after all changes nothing.
    assert_eq!(bench.settle(1, card.id, 50_000).await, 279_600);
    // The card is free again.
    assert_eq!(bench.reserve(9, 9, card.id, 30).await, Ok((30_000, false)));
    bench.settle(9, card.id, 0).await;
    bench.open(9, None).await;
    bench.clean().await;
}

/// Puts an adopted reservation's terms in numbers and ends it in the test's stead.
fn terms(adopted: Adopted) -> (CallKey, i64, i64, bool, Settlement) {
    let (call, total) = (adopted.reservation.call(), adopted.reservation.total().as_ms());
    let (used, last) = (adopted.used.as_ms(), adopted.reservation.is_last());
    assert_eq!(adopted.card.card, adopted.reservation.card());
    (call, total, used, last, adopted.settle())
}

on_each_database!(a_call_that_can_be_restored_keeps_its_reservation);
async fn a_call_that_can_be_restored_keeps_its_reservation(on: Kind) {
    let bench = bench(on).await;
    let card = bench.active(5, 1).await;
    let other = bench.active(5, 2).await;
    assert_eq!(bench.reserve(1, 1, card.id, 120).await, Ok((120_000, false)));
    assert_eq!(bench.reserve(2, 2, other.id, 300).await, Ok((300_000, true)));
    let checkpoint = |call, card, used_s| LedgerRequest::Checkpoint {
        call: CallKey::new(call),
        card,
        used: TalkTime::from_secs(used_s),
    };
    bench.ask(20, &checkpoint(1, card.id, 20)).await;
    bench.ask(20, &checkpoint(2, other.id, 10)).await;
    let again = Store::open(options(&bench.database.url)).await.unwrap();
    // 7 is nobody's call.
    let (first, nobody) = (CallKey::new(1), CallKey::new(7));
    let mut found = again.recover(now(400), &[first, nobody]).await.unwrap();
    assert_eq!((found.ended.reservations, found.ended.calls), (1, 1));
    let adopted = found.adopted.pop().unwrap();
    assert!(found.adopted.is_empty());
    let facts = adopted.card.clone();
    assert_eq!(
        (facts.reserved.as_ms(), facts.open_calls, facts.bound),
        (120_000, 1, false)
    );
    let (call, total, used, last, at_checkpoint) = terms(adopted);
    assert_eq!((call, total, used, last), (first, 120_000, 20_000, false));
    assert_eq!(
        (at_checkpoint.raw.as_ms(), at_checkpoint.billed.as_ms()),
        (20_000, 20_000)
    );
    // It stands as if just checkpointed: 100 s of talk, 90 s validity, 30 s grace.
    assert_eq!(again.expire(now(400 + 220)).await.unwrap().reservations, 0);
    let live = again.call_show(first).await.unwrap();
    assert_eq!((live.end_cause, live.ended_at), (None, None));
    // The call goes on in the new life, and ends there by itself.
    let renew = LedgerRequest::Renew {
        op: OpId(3),
        call: first,
        card: card.id,
        want: TalkTime::from_secs(60),
    };
    assert_eq!(
        granted(again.ledger(now(401), &renew).await.unwrap()),
        Ok((180_000, false))
    );
    assert_eq!(bench.settle(1, card.id, 150_000).await, 150_000);
    bench.close(1, card.id, 150_000).await;
    let ended = again.call_show(first).await.unwrap();
    assert_eq!(
        (ended.billed_ms, ended.end_cause.as_deref()),
        (150_000, Some("caller_bye"))
    );
    bench.clean().await;
}

on_each_database!(an_adopted_call_that_cannot_go_on_ends_at_its_checkpoint);
async fn an_adopted_call_that_cannot_go_on_ends_at_its_checkpoint(on: Kind) {
    let bench = bench(on).await;
    let card = bench.active(5, 1).await;
    assert_eq!(bench.reserve(1, 1, card.id, 120).await, Ok((120_000, false)));
    let checkpoint = LedgerRequest::Checkpoint {
        call: CallKey::new(1),
        card: card.id,
        used: TalkTime::from_ms(20_400),
    };
    bench.ask(21, &checkpoint).await;
    let again = Store::open(options(&bench.database.url)).await.unwrap();
    let found = again.recover(now(30), &[CallKey::new(1)]).await.unwrap();
    assert_eq!(found.ended.calls, 0);
    let ended = again.give_up(now(31), found.adopted).await.unwrap();
    assert_eq!((ended.reservations, ended.calls, ended.billed_ms), (1, 1, 20_400));
    let call = again.call_show(CallKey::new(1)).await.unwrap();
    assert_eq!(
        (call.end_cause.as_deref(), call.billed_ms),
        (Some("crash_recovered"), 20_400)
    );
    bench.clean().await;
}

on_each_database!(a_call_whose_reservation_has_ended_is_not_adopted);
async fn a_call_whose_reservation_has_ended_is_not_adopted(on: Kind) {
    let bench = bench(on).await;
    let card = bench.active(5, 1).await;
    // One was ended by the sweeper, of the other the CDR is closed.
    let other = bench.active(5, 2).await;
    assert_eq!(bench.reserve(1, 1, card.id, 60).await, Ok((60_000, false)));
    assert_eq!(bench.store.expire(now(400)).await.unwrap().reservations, 1);
    assert_eq!(bench.reserve(2, 2, other.id, 60).await, Ok((60_000, false)));
    bench.close(2, other.id, 0).await;
    let again = Store::open(options(&bench.database.url)).await.unwrap();
    let both = [CallKey::new(1), CallKey::new(2)];
    let found = again.recover(now(401), &both).await.unwrap();
    assert!(found.adopted.is_empty());
    assert_eq!((found.ended.reservations, found.ended.calls), (1, 1));
    bench.clean().await;
}

on_each_database!(a_late_settlement_does_not_make_the_cdr_differ_from_the_books);
/// The database was away for longer than the reservation lasted, and the sweeper was faster.
async fn a_late_settlement_does_not_make_the_cdr_differ_from_the_books(on: Kind) {
    let bench = bench(on).await;
    let card = bench.active(5, 1).await;
    assert_eq!(bench.reserve(1, 1, card.id, 60).await, Ok((60_000, false)));
    let checkpoint = LedgerRequest::Checkpoint {
        call: CallKey::new(1),
        card: card.id,
        used: TalkTime::from_secs(20),
    };
    bench.ask(20, &checkpoint).await;
    assert_eq!(bench.store.expire(now(400)).await.unwrap().billed_ms, 20_000);
    assert_eq!(bench.settle(1, card.id, 60_000).await, 280_000);
    bench.close(1, card.id, 60_000).await;
    let row = bench.store.call_show(CallKey::new(1)).await.unwrap();
    assert_eq!((row.raw_ms, row.billed_ms), (60_000, 20_000));
    bench.clean().await;
}

on_each_database!(a_reservation_past_its_validity_is_ended_by_the_sweeper);
async fn a_reservation_past_its_validity_is_ended_by_the_sweeper(on: Kind) {
    let bench = bench(on).await;
    let card = bench.active(5, 1).await;
    assert_eq!(bench.reserve(1, 1, card.id, 60).await, Ok((60_000, false)));
    // 60 s slice, 90 s validity, 30 s grace.
    let checkpoint = |used_s| LedgerRequest::Checkpoint {
        call: CallKey::new(1),
        card: card.id,
        used: TalkTime::from_secs(used_s),
    };
    assert_eq!(bench.store.expire(now(180)).await.unwrap().reservations, 0);
    // A hold: time passes, usage does not, the checkpoint keeps it alive.
    bench.ask(150, &checkpoint(3)).await;
    assert_eq!(bench.store.expire(now(181)).await.unwrap().reservations, 0);
    bench.ask(151, &checkpoint(2)).await;
    let ended = bench.store.expire(now(151 + 57 + 121)).await.unwrap();
    // 3 s of talk is below the tariff's free 5 s.
    assert_eq!((ended.reservations, ended.billed_ms), (1, 0));
    assert_eq!(
        bench.store.expire(now(1000)).await.unwrap().reservations,
        0,
        "once"
    );
}

on_each_database!(a_line_is_asked_for_the_pin_once_and_then_known);
async fn a_line_is_asked_for_the_pin_once_and_then_known(on: Kind) {
    let bench = bench(on).await;
    let card = bench.buy(10).await;
    let line = E164::parse("+491701234567").unwrap();
    let pin = Pin::parse(card.pin.as_deref().unwrap()).unwrap();
    let find = LedgerRequest::FindLine {
        project: ProjectId::new(1),
        line: line.clone(),
    };
    assert!(matches!(
        bench.ask(0, &find).await,
        LedgerReply::Line(LineVerdict::Unknown)
    ));
    bench.open(1, Some(line.as_str())).await;
    let check = |project, pin: &Pin| LedgerRequest::CheckPin {
        call: CallKey::new(1),
        project: ProjectId::new(project),
        number: NumberId::new(1),
        pin: pin.clone(),
        line: Some(line.clone()),
    };
    match bench.ask(0, &check(1, &pin)).await {
        LedgerReply::Pin(PinVerdict::Right(facts)) => {
            assert_eq!(
                (facts.card, facts.state, facts.bound),
                (card.id, CardState::New, false)
            );
        }
        other => panic!("{other:?}"),
    }
    let bind = LedgerRequest::Bind {
        op: OpId(5),
        call: CallKey::new(1),
        card: card.id,
        line: Some(line.clone()),
    };
    for _ in 0..2 {
        assert!(matches!(
            bench.ask(1, &bind).await,
            LedgerReply::Bound(BindVerdict::Bound)
        ));
    }
    match bench.ask(2, &find).await {
        LedgerReply::Line(LineVerdict::Known(facts)) => {
            assert_eq!(
                (facts.card, facts.state, facts.bound),
                (card.id, CardState::Active, true)
            );
        }
        other => panic!("{other:?}"),
    }
    let shown = bench
        .store
        .card_show(UnixTime::from_ms(START_MS), &card.serial)
        .await
        .unwrap();
    assert_eq!(shown.lines.len(), 1);
    assert_eq!(shown.lines[0].source, "pin");
    assert_eq!(shown.activated_at.as_deref(), Some("2025-11-25T08:00:01.000Z"));
    let audit = bench.store.audit_tail(100).await.unwrap();
    assert_eq!(
        audit.iter().filter(|row| row.action == "card.activate").count(),
        1
    );
    bench.clean().await;
}

on_each_database!(six_wrong_pins_lock_a_line_but_not_its_bound_card);
async fn six_wrong_pins_lock_a_line_but_not_its_bound_card(on: Kind) {
    let bench = bench(on).await;
    let other = bench
        .store
        .project_new(&act(None), "test2", &ProjectEdit::default())
        .await
        .unwrap();
    assert_eq!(other.pin_length, 10);
    let foreign = NewCard {
        project: "test2".to_owned(),
        minutes: 1,
        note: None,
        quote: None,
    };
    let foreign = bench.store.card_buy(&act(None), &foreign).await.unwrap();
    let line = E164::parse("+491701234567").unwrap();
    let try_pin = |call: u64, pin: String| LedgerRequest::CheckPin {
        call: CallKey::new(call),
        project: ProjectId::new(1),
        number: NumberId::new(1),
        pin: Pin::parse(&pin).unwrap(),
        line: Some(line.clone()),
    };
    // Repeating one try of one call counts once; a foreign project's PIN is just wrong (S25).
    for pin in [
        foreign.pin.clone().unwrap(),
        "11".to_owned(),
        "11".to_owned(),
        "12".to_owned(),
    ] {
        assert!(matches!(
            bench.ask(0, &try_pin(1, pin)).await,
            LedgerReply::Pin(PinVerdict::Wrong)
        ));
    }
    for pin in ["13", "14"] {
        assert!(matches!(
            bench.ask(10, &try_pin(2, pin.to_owned())).await,
            LedgerReply::Pin(PinVerdict::Wrong)
        ));
    }
    assert!(matches!(
        bench.ask(20, &try_pin(2, "15".to_owned())).await,
        LedgerReply::Pin(PinVerdict::Locked)
    ));
    the_locked_line_is_served_by_its_card(&bench, &line, try_pin).await;
}

async fn the_locked_line_is_served_by_its_card(
    bench: &Bench,
    line: &E164,
    try_pin: impl Fn(u64, String) -> LedgerRequest,
) {
    let card = bench.buy(1).await;
    let right = card.pin.clone().unwrap();
    assert!(matches!(
        bench.ask(30, &try_pin(3, right.clone())).await,
        LedgerReply::Pin(PinVerdict::Locked)
    ));
    let find = LedgerRequest::FindLine {
        project: ProjectId::new(1),
        line: line.clone(),
    };
    assert!(matches!(
        bench.ask(40, &find).await,
        LedgerReply::Line(LineVerdict::Locked)
    ));
    bench
        .store
        .card_bind(&act(None), &card.serial, line, false)
        .await
        .unwrap();
    assert!(matches!(
        bench.ask(50, &find).await,
        LedgerReply::Line(LineVerdict::Known(_))
    ));
    assert!(matches!(
        bench.ask(3700, &try_pin(4, right)).await,
        LedgerReply::Pin(PinVerdict::Right(_))
    ));
}

on_each_database!(the_line_policy_adds_replaces_or_forgets);
async fn the_line_policy_adds_replaces_or_forgets(on: Kind) {
    let bench = bench(on).await;
    let lines: Vec<String> = (0..5).map(|n| format!("+49170123456{n}")).collect();
    let card = bench.buy(1).await;
    for (n, (line, want)) in [
        (Some(lines[0].as_str()), true),
        (None, false),
        (Some("+493023125101"), false),
        (Some("+499001234567"), false),
        (Some(lines[1].as_str()), true),
        (Some(lines[0].as_str()), true),
        (Some(lines[2].as_str()), true),
        (Some(lines[3].as_str()), false),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(bench.bind(100 + n as u64, card.id, line).await, want, "{line:?}");
    }
    assert_eq!(bench.remembered(&card.serial).await, lines[..3]);
    // A fresh PIN of another card moves the line (I7).
    let second = bench.buy(1).await;
    assert!(bench.bind(200, second.id, Some(&lines[1])).await);
    assert_eq!(bench.remembered(&second.serial).await, lines[1..2]);
    assert_eq!(
        bench.remembered(&card.serial).await,
        [lines[0].clone(), lines[2].clone()]
    );
    bench.max_lines(1).await;
    assert!(bench.bind(300, second.id, Some(&lines[4])).await);
    assert_eq!(bench.remembered(&second.serial).await, lines[4..5]);
    bench.max_lines(0).await;
    let third = bench.buy(1).await;
    assert!(!bench.bind(400, third.id, Some(&lines[3])).await);
    let shown = bench
        .store
        .card_show(UnixTime::from_ms(START_MS), &third.serial)
        .await
        .unwrap();
    assert_eq!(
        (shown.state, shown.lines.len()),
        ("freigeschaltet", 0),
        "the PIN counts once"
    );
    bench.clean().await;
}

on_each_database!(an_operator_binds_only_lines_that_can_call);
async fn an_operator_binds_only_lines_that_can_call(on: Kind) {
    let bench = bench(on).await;
    let (card, other) = (bench.buy(1).await, bench.buy(1).await);
    let bind = async |serial: &str, line: &str, take| {
        bench
            .store
            .card_bind(&act(None), serial, &E164::parse(line).unwrap(), take)
            .await
    };
    let bound = bind(&card.serial, "+491701234567", false).await.unwrap();
    assert_eq!(
        (bound.state, bound.lines[0].source.as_str()),
        ("freigeschaltet", "operator")
    );
    for (what, serial, line, want) in [
        ("own", &card.serial, "+493023125101", "line_refused"),
        ("premium", &card.serial, "+499001234567", "line_refused"),
        ("short", &card.serial, "+49115", "line_refused"),
        ("taken", &other.serial, "+491701234567", "line_taken"),
        ("no card", &"K0".to_owned(), "+491701234567", "card_not_found"),
    ] {
        assert_eq!(refused(bind(serial, line, false).await), want, "{what}");
    }
    for line in ["+4366412345", "+4366412346"] {
        bind(&card.serial, line, false).await.unwrap();
    }
    assert_eq!(
        refused(bind(&card.serial, "+4366412347", false).await),
        "lines_full"
    );
    assert_eq!(
        bind(&other.serial, "+491701234567", true)
            .await
            .unwrap()
            .lines
            .len(),
        1
    );
    let line = E164::parse("+4366412345").unwrap();
    let left = bench
        .store
        .card_unbind(&act(None), &card.serial, &line)
        .await
        .unwrap();
    assert_eq!(left.lines.len(), 1);
    assert_eq!(
        refused(bench.store.card_unbind(&act(None), &card.serial, &line).await),
        "line_not_found"
    );
    bench.clean().await;
}

on_each_database!(a_purchase_happens_once_per_key);
async fn a_purchase_happens_once_per_key(on: Kind) {
    let bench = bench(on).await;
    let edit = ProjectEdit {
        price_per_minute_millicents: Some(199_000),
        ..ProjectEdit::default()
    };
    bench
        .store
        .project_edit(&act(None), "test1", &edit)
        .await
        .unwrap();
    let new = |minutes, note: &str| NewCard {
        project: "test1".to_owned(),
        minutes,
        note: Some(note.to_owned()),
        quote: None,
    };
    let key = act(Some("click-1"));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (store, key, new) = (bench.store.clone(), key.clone(), new(10, "Frau Müller 🙂"));
        tasks.spawn(async move { store.card_buy(&key, &new).await.unwrap() });
    }
    let rows = tasks.join_all().await;
    assert!(rows.iter().all(|row| *row == rows[0]), "{rows:?}");
    assert_eq!(rows[0].price_cents, Some(1990 + 378));
    assert_eq!(rows[0].pin.as_ref().map(String::len), Some(10));
    assert_eq!(
        refused(bench.store.card_buy(&key, &new(11, "Frau Müller 🙂")).await),
        "idempotency_key_reused"
    );
    let serial = &rows[0].serial;
    let key = act(Some("click-2"));
    for _ in 0..3 {
        let row = bench.store.card_topup(&key, serial, 5).await.unwrap();
        assert_eq!((row.balance_ms, row.price_cents), (900_000, Some(995 + 189)));
        assert_eq!(row.pin, None);
    }
    let all = bench
        .store
        .card_list(UnixTime::from_ms(START_MS), &CardFilter::default())
        .await
        .unwrap();
    assert_eq!(all.len(), 1);
    bench.clean().await;
}

on_each_database!(purchases_are_refused_in_words);
async fn purchases_are_refused_in_words(on: Kind) {
    let bench = bench(on).await;
    let buy = async |minutes, note: &str, quote: Option<&str>| {
        let new = NewCard {
            project: "test1".to_owned(),
            minutes,
            note: Some(note.to_owned()),
            quote: quote.map(str::to_owned),
        };
        bench.store.card_buy(&act(None), &new).await
    };
    let long = "ä".repeat(201);
    for (what, minutes, note, quote, want) in [
        ("zero", 0, "", None, "invalid_minutes"),
        ("negative", -1, "", None, "invalid_minutes"),
        ("too many", 10_000, "", None, "invalid_minutes"),
        ("long note", 1, long.as_str(), None, "invalid_note"),
        ("control character", 1, "a\u{1b}[2J", None, "invalid_note"),
        ("no such quote", 1, "", Some("Q1"), "quote_not_found"),
    ] {
        assert_eq!(refused(buy(minutes, note, quote).await), want, "{what}");
    }
    assert_eq!(
        buy(9999, &"ä".repeat(200), None).await.unwrap().balance_ms,
        599_940_000
    );
    let quote = bench
        .store
        .card_quote(UnixTime::from_ms(START_MS), "test1", 5)
        .await
        .unwrap();
    assert!(quote.free);
    assert_eq!(quote.valid_until, "2025-11-25T08:15:00.000Z");
    assert_eq!(
        refused(buy(6, "", Some(&quote.quote)).await),
        "quote_mismatch",
        "another amount"
    );
    buy(5, "", Some(&quote.quote)).await.unwrap();
    let old = bench
        .store
        .card_quote(UnixTime::from_ms(START_MS - 16 * 60_000), "test1", 5)
        .await
        .unwrap();
    assert_eq!(refused(buy(5, "", Some(&old.quote)).await), "quote_expired");
    assert_eq!(
        refused(
            bench
                .store
                .card_quote(UnixTime::from_ms(START_MS), "nobody", 5)
                .await
        ),
        "project_not_found"
    );
    bench.clean().await;
}

on_each_database!(a_card_is_blocked_revived_and_cancelled);
async fn a_card_is_blocked_revived_and_cancelled(on: Kind) {
    let bench = bench(on).await;
    let card = bench.active(2, 1).await;
    let serial = card.serial.as_str();
    let store = &bench.store;
    assert_eq!(
        refused(store.card_unblock(&act(None), serial).await),
        "card_state"
    );
    assert_eq!(
        store.card_block(&act(None), serial).await.unwrap().state,
        "gesperrt"
    );
    assert_eq!(refused(store.card_block(&act(None), serial).await), "card_state");
    assert_eq!(
        store.card_unblock(&act(None), serial).await.unwrap().state,
        "freigeschaltet"
    );
    assert_eq!(bench.reserve(1, 1, card.id, 120).await, Ok((120_000, true)));
    // During the call (S23): the next slice comes from the recharge.
    let extended = store
        .call_extend(&act(Some("more")), CallKey::new(1), 1)
        .await
        .unwrap();
    assert_eq!((extended.id, extended.available_ms), (card.id, 60_000));
    assert_eq!(
        store
            .card_topup(&act(None), serial, 1)
            .await
            .unwrap()
            .available_ms,
        120_000
    );
    assert_eq!(
        refused(store.card_cancel(&act(None), serial).await),
        "card_in_use"
    );
    assert_eq!(bench.settle(1, card.id, 120_000).await, 120_000);
    bench.close(1, card.id, 120_000).await;
    assert_eq!(
        refused(store.call_extend(&act(None), CallKey::new(1), 1).await),
        "call_over"
    );
    let gone = store.card_cancel(&act(None), serial).await.unwrap();
    assert_eq!((gone.state, gone.balance_ms), ("storniert", 0));
    for refusal in [
        refused(store.card_topup(&act(None), serial, 1).await),
        refused(store.card_pin(&act(None), serial).await),
        refused(store.card_block(&act(None), serial).await),
        refused(store.card_cancel(&act(None), serial).await),
    ] {
        assert_eq!(refusal, "card_state");
    }
    let entries = store.card_entries(serial).await.unwrap();
    let kinds: Vec<(&str, i64)> = entries.iter().map(|e| (e.kind.as_str(), e.delta_ms)).collect();
    assert_eq!(
        kinds,
        [
            ("purchase", 120_000),
            ("goodwill", 60_000),
            ("topup", 60_000),
            ("usage", -120_000),
            ("storno", -120_000)
        ]
    );
    bench.clean().await;
}

on_each_database!(cards_are_found_by_note_line_and_state);
async fn cards_are_found_by_note_line_and_state(on: Kind) {
    let bench = bench(on).await;
    let buy = async |note: &str| {
        let new = NewCard {
            project: "test1".to_owned(),
            minutes: 1,
            note: Some(note.to_owned()),
            quote: None,
        };
        bench.store.card_buy(&act(None), &new).await.unwrap()
    };
    let (first, _, third) = (buy("Frau ÄRGER").await, buy("Herr Ohm").await, buy("").await);
    let line = E164::parse("+491701234567").unwrap();
    bench
        .store
        .card_bind(&act(None), &third.serial, &line, false)
        .await
        .unwrap();
    let found = async |filter: CardFilter| {
        let rows = bench
            .store
            .card_list(UnixTime::from_ms(START_MS), &filter)
            .await
            .unwrap();
        assert!(rows.iter().all(|row| row.pin.is_none()));
        rows.into_iter().map(|row| row.serial).collect::<Vec<_>>()
    };
    let filter = CardFilter {
        project: Some("test1".to_owned()),
        ..CardFilter::default()
    };
    assert_eq!(found(filter.clone()).await.len(), 3);
    let note = CardFilter {
        note: Some("ärger".to_owned()),
        ..filter.clone()
    };
    assert_eq!(found(note).await, [first.serial]);
    let by_line = CardFilter {
        line: Some("234567".to_owned()),
        ..filter.clone()
    };
    assert_eq!(found(by_line).await, [third.serial.as_str()]);
    let state = CardFilter {
        state: Some("freigeschaltet".to_owned()),
        ..filter.clone()
    };
    assert_eq!(found(state).await, [third.serial]);
    let odd = CardFilter {
        state: Some("kaputt".to_owned()),
        ..filter
    };
    let odd = bench.store.card_list(UnixTime::from_ms(START_MS), &odd).await;
    assert_eq!(refused(odd), "invalid_state");
}

on_each_database!(the_ledger_cannot_be_rewritten_and_tampering_is_named);
async fn the_ledger_cannot_be_rewritten_and_tampering_is_named(on: Kind) {
    let bench = bench(on).await;
    let card = bench.buy(5).await;
    bench.clean().await;
    let mut raw = bench.database.raw().await;
    for sql in [
        "UPDATE ledger SET delta_ms = 1",
        "DELETE FROM ledger",
        "UPDATE audit SET actor = 'nobody'",
        "DELETE FROM audit",
        "UPDATE tariff_version SET vat_bp = 0",
        "UPDATE card SET reserved_ms = balance_ms + 1",
        "UPDATE card SET open_calls = -1",
        "UPDATE card SET state = 'leer'",
    ] {
        assert!(sqlx::query(sql).execute(&mut raw).await.is_err(), "{sql}");
    }
    for sql in [
        match on {
            Kind::Sqlite => "DROP TRIGGER ledger_no_update",
            Kind::Postgres => "DROP TRIGGER ledger_append_only ON ledger",
        },
        "UPDATE ledger SET delta_ms = delta_ms + 60000",
        "UPDATE card SET balance_ms = balance_ms + 60000",
    ] {
        sqlx::query(sql).execute(&mut raw).await.unwrap();
    }
    let report = bench.store.check(UnixTime::from_ms(START_MS)).await.unwrap();
    assert!(!report.clean);
    let rules: Vec<&str> = report.offenders.iter().map(|o| o.id.as_str()).collect();
    assert_eq!(rules, ["I10", "I19", "L9", "L9"], "{:?}", report.offenders);
    assert!(report.offenders[2].what.contains("entry 1"), "{}", card.serial);
}

on_each_database!(no_pin_stands_in_the_database);
async fn no_pin_stands_in_the_database(on: Kind) {
    let bench = bench(on).await;
    let mut pins = Vec::new();
    for n in 0..20u32 {
        let new = NewCard {
            project: "test1".to_owned(),
            minutes: 1,
            note: None,
            quote: None,
        };
        let row = bench
            .store
            .card_buy(&act(Some(&format!("k{n}"))), &new)
            .await
            .unwrap();
        let shown = bench.store.card_pin(&act(None), &row.serial).await.unwrap();
        assert_eq!(shown.pin, row.pin);
        pins.push(row.pin.unwrap());
    }
    for pin in &pins {
        let check = LedgerRequest::CheckPin {
            call: CallKey::new(1),
            project: ProjectId::new(1),
            number: NumberId::new(1),
            pin: Pin::parse(pin).unwrap(),
            line: None,
        };
        assert!(matches!(
            bench.ask(0, &check).await,
            LedgerReply::Pin(PinVerdict::Right(_))
        ));
    }
    let bytes = match on {
        Kind::Sqlite => bench.bytes_of_files(),
        Kind::Postgres => bench.bytes_of_rows().await,
    };
    assert!(bytes.len() > 20_000, "all of it: {}", bytes.len());
    for pin in pins {
        assert!(!bytes.windows(pin.len()).any(|window| window == pin.as_bytes()));
    }
    let reveals = bench.store.audit_tail(1000).await.unwrap();
    assert_eq!(reveals.iter().filter(|row| row.action == "card.pin").count(), 20);
}

#[tokio::test]
async fn nobody_else_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = bench(Kind::Sqlite).await;
    bench.buy(5).await;
    let mode = |name: &str| {
        let path = bench.database.dir.path().join(name);
        path.metadata().unwrap().permissions().mode() & 0o777
    };
    let all = ["cardline.db", "cardline.db-wal", "cardline.db-shm"];
    assert_eq!(all.map(mode), [0o600; 3]);
    // Files of an older version, which all could read.
    for name in all {
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(bench.database.dir.path().join(name), open).unwrap();
    }
    Store::open(options(&bench.database.url)).await.unwrap();
    assert_eq!(all.map(mode), [0o600; 3]);
}

on_each_database!(a_database_that_cannot_be_used_says_why);
async fn a_database_that_cannot_be_used_says_why(on: Kind) {
    let bench = bench(on).await;
    let fault = async |options: StoreOptions| match Store::open(options).await {
        Err(fault) => (
            format!("{fault:?}").split([' ', '(']).next().unwrap().to_owned(),
            fault,
        ),
        Ok(_) => panic!("it opened"),
    };
    let other_key = StoreOptions::new(&bench.database.url, PinKey::from_bytes([8; 32]));
    assert_eq!(fault(other_key).await.0, "PinKey");
    let (kind, said) = fault(options("sqlite:///nowhere/at/all/x.db")).await;
    assert_eq!(kind, "Open");
    assert!(
        said.to_string().contains("/nowhere/at/all does not exist"),
        "{said}"
    );
    assert_eq!(fault(options("mysql://x")).await.0, "Open");
    let mut raw = bench.database.raw().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         SELECT 9999, 'of tomorrow', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
    )
    .execute(&mut raw)
    .await
    .unwrap();
    let (kind, said) = fault(options(&bench.database.url)).await;
    assert_eq!(kind, "Newer", "{said}");
    assert!(matches!(said, StoreFault::Newer { found: 9999, .. }));
}

on_each_database!(the_directory_holds_what_calls_need);
async fn the_directory_holds_what_calls_need(on: Kind) {
    let bench = bench(on).await;
    let target = NewTarget {
        project: "test1".to_owned(),
        address: "+493099999".to_owned(),
        order: Some(1),
        ring_s: Some(30),
    };
    let sets = [("de".to_owned(), cardline::media::PromptSetId(0))].into();
    bench.store.target_add(&act(None), &target).await.unwrap();
    let trunks: Vec<cardline::config::TrunkConfig> = cardline::config::parse(
        "x",
        "[[trunk]]\nname = \"carrier\"\npeers = [\"198.51.100.0/24\"]\nproxy = \"sip:198.51.100.1:5062\"\nnumber_format = \"national\"\n",
    )
    .unwrap()
    .trunks;
    let directory = bench.store.directory(&sets, &trunks).await.unwrap();
    let number = &directory.numbers[&E164::parse("+493023125101").unwrap()];
    assert_eq!(number.role, Role::Both);
    let project = &directory.projects[&number.project];
    assert_eq!(project.name, "test1");
    assert_eq!(
        (project.pin_length, project.enabled, project.accept_key),
        (10, true, false)
    );
    assert_eq!(
        project.consultation.as_ref().map(E164::as_str),
        Some("+493023125101")
    );
    let targets: Vec<(&str, String, u64)> = project
        .targets
        .iter()
        .map(|t| (t.uri.as_str(), t.destination.to_string(), t.ring.as_secs()))
        .collect();
    assert_eq!(
        targets,
        [
            ("sip:berater@127.0.0.1:5070", "127.0.0.1:5070".to_owned(), 25),
            (
                "sip:03099999@198.51.100.1:5062;user=phone",
                "198.51.100.1:5062".to_owned(),
                30
            ),
        ]
    );
    assert!(project.tariff.version > 0);
    let none = bench.store.directory(&sets, &[]).await.unwrap();
    assert_eq!(none.projects[&number.project].targets.len(), 1);
    let english = [("en".to_owned(), cardline::media::PromptSetId(1))].into();
    assert!(bench.store.directory(&english, &[]).await.is_err());
}

on_each_database!(numbers_and_targets_are_added_once_and_removed);
async fn numbers_and_targets_are_added_once_and_removed(on: Kind) {
    let bench = bench(on).await;
    let number = E164::parse("+493023125101").unwrap();
    let again = NewNumber {
        e164: number.clone(),
        project: "test1".to_owned(),
        role: Role::Activation,
    };
    assert_eq!(
        refused(bench.store.number_add(&act(None), &again).await),
        "number_exists"
    );
    bench.store.number_remove(&act(None), &number).await.unwrap();
    assert_eq!(
        refused(bench.store.number_remove(&act(None), &number).await),
        "number_not_found"
    );
    let row = bench.store.number_add(&act(None), &again).await.unwrap();
    assert_eq!(row.national.as_deref(), Some("030 23125101"));
    let targets = bench.store.target_list(Some("test1")).await.unwrap();
    assert_eq!(targets.len(), 1);
    bench
        .store
        .target_remove(&act(None), targets[0].id)
        .await
        .unwrap();
    assert_eq!(
        refused(bench.store.target_remove(&act(None), targets[0].id).await),
        "target_not_found"
    );
    let same = bench
        .store
        .project_new(&act(None), "test1", &ProjectEdit::default())
        .await;
    assert!(matches!(
        same,
        Err(AdminError::Refused(Refusal::Exists { kind: "project", .. }))
    ));
    let edit = ProjectEdit {
        pin_length: Some(13),
        ..ProjectEdit::default()
    };
    assert_eq!(
        refused(bench.store.project_edit(&act(None), "test1", &edit).await),
        "invalid_pin_length"
    );
}
