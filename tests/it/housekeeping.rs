//! What is past its time is removed, and nothing else.

use cardline::card::LedgerRequest;
use cardline::ids::{CallKey, NumberId, ProjectId};
use cardline::now::{Instant, Now, UnixTime};
use cardline::secret::Pin;
use cardline::store::{Act, NewCard, PinKey, ProjectEdit, Removed, Store, StoreOptions};
use cardline::units::E164;
use sqlx::Row as _;

use crate::database::{Database, Kind, on_each_database};

const START_MS: i64 = 1_764_057_600_000;
const DAY_MS: i64 = 86_400_000;

fn on_day(day: i64) -> Now {
    Now {
        mono: Instant::from_nanos(0),
        wall: UnixTime::from_ms(START_MS + day * DAY_MS),
    }
}

fn act(day: i64, key: Option<&str>) -> Act {
    Act {
        now: on_day(day).wall,
        actor: "uid:0".to_owned(),
        key: key.map(str::to_owned),
    }
}

/// A key, a quote that was bought by, one that was not, and a wrong PIN.
async fn a_day_of_trade(store: &Store, day: i64) {
    let mut quotes = Vec::new();
    for _ in 0..2 {
        quotes.push(store.card_quote(on_day(day).wall, "test1", 20).await.unwrap());
    }
    let new = NewCard {
        project: "test1".to_owned(),
        minutes: 20,
        note: None,
        quote: Some(quotes[0].quote.clone()),
    };
    let key = format!("key-{day}");
    store.card_buy(&act(day, Some(&key)), &new).await.unwrap();
    let wrong = LedgerRequest::CheckPin {
        call: CallKey::new(day.unsigned_abs() + 1),
        project: ProjectId::new(1),
        number: NumberId::new(1),
        pin: Pin::parse("12345678").unwrap(),
        line: Some(E164::parse("+4930123456").unwrap()),
    };
    store.ledger(on_day(day), &wrong).await.unwrap().forgo();
}

/// Tries are stamped by the database's own clock; this one was made on that day.
async fn tried_on(database: &Database, day: i64) {
    let mut conn = database.raw().await;
    let moved = sqlx::query("UPDATE pin_attempt SET at = $1 WHERE call = $2")
        .bind(on_day(day).wall.as_ms())
        .bind(CallKey::new(day.unsigned_abs() + 1).to_string())
        .execute(&mut conn)
        .await
        .unwrap();
    assert_eq!(moved.rows_affected(), 1);
}

async fn rows(database: &Database) -> [i64; 4] {
    let mut conn = database.raw().await;
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM idempotency), (SELECT COUNT(*) FROM quote),
            (SELECT COUNT(*) FROM pin_attempt), (SELECT COUNT(*) FROM purchase)",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    [0, 1, 2, 3].map(|at| row.get::<i64, _>(at))
}

on_each_database!(what_is_past_its_time_is_removed_and_nothing_else);
async fn what_is_past_its_time_is_removed_and_nothing_else(on: Kind) {
    let database = Database::new(on).await;
    let options = StoreOptions::new(&database.url, PinKey::from_bytes([7; 32]));
    let store = Store::open(options).await.unwrap();
    store
        .project_new(&act(0, None), "test1", &ProjectEdit::default())
        .await
        .unwrap();
    for day in [0, 10] {
        a_day_of_trade(&store, day).await;
        tried_on(&database, day).await;
    }
    assert_eq!(rows(&database).await, [2, 4, 2, 2]);
    assert_eq!(store.clean_up(on_day(7)).await.unwrap(), Removed::default());
    let quote = Removed {
        quotes: 1,
        ..Removed::default()
    };
    assert_eq!(store.clean_up(on_day(8)).await.unwrap(), quote);
    let rest = Removed {
        keys: 1,
        quotes: 1,
        pin_tries: 1,
    };
    assert_eq!(store.clean_up(on_day(31)).await.unwrap(), rest);
    assert_eq!(rows(&database).await, [1, 2, 1, 2]);
    let check = store.check(on_day(31).wall).await.unwrap();
    assert!(check.clean, "{:#?}", check.offenders);
    store.close().await;
}
