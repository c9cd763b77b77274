//! Money over the store, on both databases: tariffs, quotes, stornos, transfers, expiry, batches, and the books of a day.

mod batch;
mod expiry;
mod sale;
mod storno;
mod tariff;

use cardline::card::{CdrOpening, LedgerReply, LedgerRequest, Settlement};
use cardline::ids::{CallKey, CardId, OpId, ProjectId};
use cardline::now::{Instant, Now, UnixTime};
use cardline::store::{
    Act, AdminError, CardRow, NewCard, PinKey, ProjectEdit, Store, StoreOptions, TariffEdit,
};
use cardline::units::TalkTime;

use crate::database::{Database, Kind, on_each_database};

/// 2025-11-25T08:00:00Z.
pub const START_MS: i64 = 1_764_057_600_000;
pub const DAY_MS: i64 = 86_400_000;

/// A database with project `test1`, whose minutes cost 1,99 € net.
pub struct Till {
    pub store: Store,
    pub database: Database,
}

pub async fn till(on: Kind) -> Till {
    let database = Database::new(on).await;
    let store = Store::open(StoreOptions {
        durable: false,
        ..StoreOptions::new(&database.url, PinKey::from_bytes([7; 32]))
    })
    .await
    .unwrap();
    let edit = ProjectEdit {
        price_per_minute_millicents: Some(199_000),
        max_parallel: Some(2),
        ..ProjectEdit::default()
    };
    store.project_new(&act(0, None), "test1", &edit).await.unwrap();
    Till { store, database }
}

pub fn at(after_ms: i64) -> UnixTime {
    UnixTime::from_ms(START_MS + after_ms)
}

pub fn act(after_ms: i64, key: Option<&str>) -> Act {
    Act {
        now: at(after_ms),
        actor: "uid:0".to_owned(),
        key: key.map(str::to_owned),
    }
}

pub fn refused<T: std::fmt::Debug>(result: Result<T, AdminError>) -> String {
    match result {
        Err(AdminError::Refused(refusal)) => {
            assert!(!refusal.german().is_empty() && !refusal.to_string().is_empty());
            refusal.code()
        }
        other => panic!("{other:?}"),
    }
}

impl Till {
    pub async fn buy(&self, minutes: i64) -> CardRow {
        self.order(0, minutes, None).await.unwrap()
    }

    pub async fn order(
        &self,
        after_ms: i64,
        minutes: i64,
        quote: Option<&str>,
    ) -> Result<CardRow, AdminError> {
        let new = NewCard {
            project: "test1".to_owned(),
            minutes,
            note: None,
            quote: quote.map(str::to_owned),
        };
        self.store.card_buy(&act(after_ms, None), &new).await
    }

    pub async fn tariff(&self, edit: TariffEdit) {
        self.store
            .tariff_edit(&act(0, None), "test1", &edit)
            .await
            .unwrap();
    }

    pub async fn show(&self, after_ms: i64, serial: &str) -> CardRow {
        self.store.card_show(at(after_ms), serial).await.unwrap()
    }

    pub async fn kinds(&self, serial: &str) -> Vec<(String, i64)> {
        let entries = self.store.card_entries(serial).await.unwrap();
        entries.into_iter().map(|e| (e.kind, e.delta_ms)).collect()
    }

    pub async fn ask(&self, after_ms: i64, request: &LedgerRequest) -> LedgerReply {
        let now = Now {
            mono: Instant::from_nanos(0),
            wall: at(after_ms),
        };
        self.store.ledger(now, request).await.unwrap()
    }

    /// A call on the card that has talk time set aside.
    pub async fn call(&self, after_ms: i64, call: u64, card: CardId, want_s: u32) -> i64 {
        let opening = CdrOpening {
            call: CallKey::new(call),
            project: Some(ProjectId::new(1)),
            number: None,
            trunk: "carrier".to_owned(),
            called: None,
            caller: None,
            sip_call_id: "x".to_owned(),
            invited_at: at(after_ms),
        };
        self.ask(after_ms, &LedgerRequest::OpenCdr(Box::new(opening)))
            .await;
        let bind = LedgerRequest::Bind {
            op: OpId(u128::from(call) << 64),
            call: CallKey::new(call),
            card,
            line: None,
        };
        self.ask(after_ms, &bind).await;
        let reserve = LedgerRequest::Reserve {
            op: OpId(u128::from(call)),
            call: CallKey::new(call),
            card,
            want: TalkTime::from_secs(want_s),
            floor: TalkTime::from_secs(1),
        };
        let reply = self.ask(after_ms, &reserve).await;
        let LedgerReply::Reserved(reservation) = reply else {
            panic!("{reply:?}");
        };
        let granted = reservation.total().as_ms();
        reservation.release();
        granted
    }

    pub async fn settle(&self, after_ms: i64, call: u64, card: CardId, billed_s: u32) {
        let settlement = Settlement {
            call: CallKey::new(call),
            card,
            raw: TalkTime::from_secs(billed_s),
            billed: TalkTime::from_secs(billed_s),
        };
        self.ask(after_ms, &LedgerRequest::Settle(settlement)).await;
    }

    /// Net and VAT of all invoice lines, and how many there are.
    pub async fn invoiced(&self) -> (i64, i64, i64) {
        sqlx::query_as(
            "SELECT CAST(COALESCE(SUM(net_cents), 0) AS BIGINT), CAST(COALESCE(SUM(vat_cents), 0) AS BIGINT), COUNT(*)
             FROM invoice_line",
        )
        .fetch_one(&mut self.database.raw().await)
        .await
        .unwrap()
    }

    pub async fn clean(&self, after_ms: i64) {
        let report = self.store.check(at(after_ms)).await.unwrap();
        let offenders: Vec<_> = report
            .offenders
            .iter()
            // The calls of these tests write no end into their CDR.
            .filter(|offender| !offender.rule.contains("CDR"))
            .collect();
        assert!(offenders.is_empty(), "{offenders:#?}");
    }
}
