//! The store on real SQLite files: what a caller's and an operator's requests do, that repeats do
//! nothing, and that it agrees with the reference model of `card::ledger`.

use cardline::call::cdr::{Cdr, EndCause};
use cardline::call::directory::Role;
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

/// 2025-11-25T08:00:00Z.
const START_MS: i64 = 1_764_057_600_000;

struct Bench {
    store: Store,
    url: String,
    dir: tempfile::TempDir,
}

fn act(key: Option<&str>) -> Act {
    Act {
        now: UnixTime::from_ms(START_MS),
        actor: "uid:0".to_owned(),
        key: key.map(str::to_owned),
    }
}

fn now(after_s: i64) -> Now {
    Now {
        mono: Instant::from_nanos(0),
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
async fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("cardline.db").display());
    let store = Store::open(options(&url)).await.unwrap();
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
    Bench { store, url, dir }
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

#[tokio::test]
async fn a_card_is_bought_used_and_settled_to_zero() {
    let bench = bench().await;
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
