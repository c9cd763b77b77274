//! From one database to another, to a backup, and what is refused before anything is written.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "any other answer fails the test and is printed"
)]

use std::path::{Path, PathBuf};

use cardline::card::{CdrOpening, LedgerReply, LedgerRequest, Settlement};
use cardline::ids::{CallKey, OpId, ProjectId};
use cardline::now::{Instant, Now, UnixTime};
use cardline::store::{self, Act, Hold, NewCard, PinKey, ProjectEdit, Store, StoreFault, StoreOptions};
use cardline::units::{E164, TalkTime};
use sqlx::{Connection as _, Row as _};

use crate::database::{Database, Kind, on_each_database, server};

const START_MS: i64 = 1_764_057_600_000;
/// More than one reading of the copy takes at a time.
const CARDS: u64 = 560;

fn act() -> Act {
    Act {
        now: UnixTime::from_ms(START_MS),
        actor: "uid:0".to_owned(),
        key: None,
    }
}

async fn open(url: &str) -> Store {
    let options = StoreOptions {
        durable: false,
        ..StoreOptions::new(url, PinKey::from_bytes([7; 32]))
    };
    Store::open(options).await.unwrap()
}

async fn buy(store: &Store, minutes: i64) -> cardline::store::CardRow {
    let new = NewCard {
        project: "test1".to_owned(),
        minutes,
        note: Some("für Zoë 🙂".to_owned()),
        quote: None,
    };
    store.card_buy(&act(), &new).await.unwrap()
}

async fn ask(store: &Store, request: &LedgerRequest) -> LedgerReply {
    let now = Now {
        mono: Instant::from_nanos(0),
        wall: UnixTime::from_ms(START_MS),
    };
    store.ledger(now, request).await.unwrap()
}

/// Cards, a call that was charged, and one that still talks.
async fn fill(url: &str) {
    let store = open(url).await;
    let edit = ProjectEdit::default();
    store.project_new(&act(), "test1", &edit).await.unwrap();
    for n in 0..CARDS {
        buy(&store, 1 + i64::try_from(n % 9).unwrap()).await;
    }
    for call in [1, 2] {
        let card = buy(&store, 30).await;
        let opening = CdrOpening {
            call: CallKey::new(call),
            project: Some(ProjectId::new(1)),
            number: None,
            trunk: "carrier".to_owned(),
            called: None,
            caller: Some(E164::parse("+491701234567").unwrap()),
            sip_call_id: "abc@192.0.2.1".to_owned(),
            invited_at: UnixTime::from_ms(START_MS),
        };
        ask(&store, &LedgerRequest::OpenCdr(Box::new(opening))).await;
        let bind = LedgerRequest::Bind {
            op: OpId(u128::from(call) << 64),
            call: CallKey::new(call),
            card: card.id,
            line: None,
        };
        ask(&store, &bind).await;
        let reserve = LedgerRequest::Reserve {
            op: OpId(call.into()),
            call: CallKey::new(call),
            card: card.id,
            want: TalkTime::from_secs(120),
            floor: TalkTime::from_secs(10),
        };
        match ask(&store, &reserve).await {
            LedgerReply::Reserved(reservation) if call == 1 => {
                let used = TalkTime::from_secs(61);
                let settlement: Settlement = reservation.settle(used, used);
                ask(&store, &LedgerRequest::Settle(settlement)).await;
            }
            // Left open: the copy must hold it as it is. A token that is dropped is a complaint.
            LedgerReply::Reserved(reservation) => drop(reservation.release()),
            other => panic!("{other:?}"),
        }
    }
    store.close().await;
}

/// Every row of every table as text, in a fixed order.
async fn all_rows(database: &Database) -> Vec<String> {
    let mut conn = database.raw().await;
    let names = match database.kind {
        Kind::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        Kind::Postgres => {
            "SELECT CAST(table_name AS TEXT) FROM information_schema.tables WHERE table_schema = current_schema()"
        }
    };
    let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&mut conn).await.unwrap();
    let mut all = Vec::new();
    for name in names.iter().filter(|name| *name != "_sqlx_migrations") {
        let text = match database.kind {
            Kind::Sqlite => "SELECT name FROM pragma_table_info($1) ORDER BY name",
            Kind::Postgres => {
                "SELECT CAST(column_name AS TEXT) FROM information_schema.columns
                 WHERE table_schema = current_schema() AND table_name = $1 ORDER BY column_name"
            }
        };
        let columns: Vec<String> = sqlx::query_scalar(text)
            .bind(name)
            .fetch_all(&mut conn)
            .await
            .unwrap();
        let shown: Vec<String> = columns
            .iter()
            .map(|column| format!("COALESCE(CAST({column} AS TEXT), '-')"))
            .collect();
        let text = format!("SELECT {} AS shown FROM {name}", shown.join(" || '|' || "));
        let rows = sqlx::query(sqlx::AssertSqlSafe(text))
            .fetch_all(&mut conn)
            .await
            .unwrap();
        all.extend(
            rows.iter()
                .map(|row| format!("{name}: {}", row.get::<String, _>(0))),
        );
    }
    conn.close().await.unwrap();
    all.sort();
    all
}

fn kinds() -> Vec<Kind> {
    match server() {
        Some(_) => vec![Kind::Sqlite, Kind::Postgres],
        None => vec![Kind::Sqlite],
    }
}

async fn a_copy_holds_every_row_and_goes_on(on: Kind) {
    let source = Database::new(on).await;
    fill(&source.url).await;
    let before = all_rows(&source).await;
    for kind in kinds() {
        let copy = Database::new(kind).await;
        let mut seen = Vec::new();
        let copied = store::copy(&source.url, &copy.url, &mut |done, all| seen.push((done, all)))
            .await
            .unwrap();
        let rows: u64 = copied.tables.iter().map(|(_, rows)| rows).sum();
        assert_eq!(seen.last(), Some(&(rows, rows)), "the bar ends where it says");
        let report = copied.store.check(UnixTime::from_ms(START_MS)).await.unwrap();
        assert!(report.clean, "{:?}", report.offenders);
        copied.store.close().await;
        assert_eq!(all_rows(&copy).await, before);
        assert_eq!(usize::try_from(rows).unwrap(), before.len());
        // The same key opens it, and new rows get new numbers.
        let opened = open(&copy.url).await;
        let card = buy(&opened, 5).await;
        assert_eq!(card.balance_ms, 300_000);
        let report = opened.check(UnixTime::from_ms(START_MS)).await.unwrap();
        assert!(report.clean, "{:?}", report.offenders);
        opened.close().await;
    }
    assert_eq!(all_rows(&source).await, before, "the source is as it was");
}

async fn a_copy_goes_into_an_empty_database_only(on: Kind) {
    let source = Database::new(on).await;
    fill(&source.url).await;
    for kind in kinds() {
        let used = Database::new(kind).await;
        let other = open(&used.url).await;
        other
            .project_new(&act(), "theirs", &ProjectEdit::default())
            .await
            .unwrap();
        other.close().await;
        let before = all_rows(&used).await;
        let said = copy_fault(&source.url, &used.url).await;
        assert!(said.contains("copy into an empty database"), "{said}");
        assert_eq!(all_rows(&used).await, before);
    }
    let empty = Database::new(on).await;
    let target = Database::new(Kind::Sqlite).await;
    let said = copy_fault(&empty.url, &target.url).await;
    assert!(said.contains("nothing to copy"), "{said}");
    let said = copy_fault(&source.url, &source.url).await;
    assert!(said.contains("the same database"), "{said}");
}

on_each_database!(
    a_copy_holds_every_row_and_goes_on,
    a_copy_goes_into_an_empty_database_only,
);

async fn copy_fault(from: &str, to: &str) -> String {
    match store::copy(from, to, &mut |_, _| {}).await {
        Err(fault) => fault.to_string(),
        Ok(copied) => panic!("copied {:?}", copied.tables),
    }
}

#[tokio::test]
async fn a_database_that_is_served_is_not_copied() {
    let source = Database::new(Kind::Sqlite).await;
    fill(&source.url).await;
    let target = Database::new(Kind::Sqlite).await;
    let held = Hold::take(&source.url).unwrap();
    let said = copy_fault(&source.url, &target.url).await;
    assert!(said.contains("another cardline is serving it"), "{said}");
    drop(held);
}

#[tokio::test]
async fn a_node_with_a_lease_keeps_its_database_from_being_copied() {
    if server().is_none() {
        return;
    }
    let source = Database::new(Kind::Postgres).await;
    fill(&source.url).await;
    let mut raw = source.raw().await;
    sqlx::query(
        "INSERT INTO node (name, epoch, started_at, expires_at) VALUES ('berlin', 1, 0, 9999999999999)",
    )
    .execute(&mut raw)
    .await
    .unwrap();
    raw.close().await.unwrap();
    let target = Database::new(Kind::Sqlite).await;
    let said = copy_fault(&source.url, &target.url).await;
    assert!(said.contains("served by berlin"), "{said}");
}

#[tokio::test]
async fn a_backup_is_made_while_the_database_is_in_use() {
    let source = Database::new(Kind::Sqlite).await;
    fill(&source.url).await;
    let serving = open(&source.url).await;
    let file = source.dir.path().join("copy.db");
    let copy = store::backup(&source.url, &file).await.unwrap();
    buy(&serving, 1).await;
    let report = copy.check(UnixTime::from_ms(START_MS)).await.unwrap();
    assert!(report.clean, "{:?}", report.offenders);
    assert_eq!(u64::try_from(report.cards).unwrap(), CARDS + 2);
    copy.close().await;
    serving.close().await;
    let said = match store::backup(&source.url, &file).await {
        Err(fault) => fault.to_string(),
        Ok(_) => panic!("it wrote over a file"),
    };
    assert!(said.contains("exists"), "{said}");
}

/// Every file below a directory, with its bytes.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(&path).unwrap()))
        .collect();
    found.sort();
    found
}

async fn refused_untouched(dir: &Path, file: &str, because: &str) {
    let before = files(dir);
    let url = format!("sqlite://{}", dir.join(file).display());
    let options = StoreOptions::new(&url, PinKey::from_bytes([7; 32]));
    let said = match Store::open(options).await {
        Err(fault) => fault.to_string(),
        Ok(_) => panic!("{file} opened"),
    };
    assert!(said.contains(because), "{said}");
    let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    let after = files(dir);
    assert_eq!(names(&after), names(&before), "{file}");
    assert!(after == before, "{file} was written to");
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = |file: &str| dir.path().join(file);
    std::fs::write(
        path("picture.db"),
        [b"\x89PNG\r\n\x1a\n".as_slice(), &[0; 4096]].concat(),
    )
    .unwrap();
    refused_untouched(dir.path(), "picture.db", "no SQLite database").await;
    std::fs::write(path("short.db"), b"SQLite format 3\0").unwrap();
    refused_untouched(dir.path(), "short.db", "no SQLite database").await;

    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}?mode=rwc", path("theirs.db").display());
    let mut theirs = sqlx::AnyConnection::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE moz_places (id INTEGER PRIMARY KEY)")
        .execute(&mut theirs)
        .await
        .unwrap();
    theirs.close().await.unwrap();
    refused_untouched(dir.path(), "theirs.db", "belongs to another program").await;

    let source = Database::new(Kind::Sqlite).await;
    fill(&source.url).await;
    let whole = std::fs::read(source.dir.path().join("cardline.db")).unwrap();
    std::fs::write(path("cut.db"), &whole[..whole.len() / 2 + 100]).unwrap();
    refused_untouched(dir.path(), "cut.db", "cut off").await;
}

async fn a_newer_schema_is_refused_and_left_as_it_is(on: Kind) {
    let database = Database::new(on).await;
    open(&database.url).await.close().await;
    let mut raw = database.raw().await;
    let checksum = match on {
        Kind::Sqlite => "x'00'",
        Kind::Postgres => "'\\x00'::bytea",
    };
    let text = format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'of tomorrow', TRUE, {checksum}, 0)"
    );
    sqlx::query(sqlx::AssertSqlSafe(text))
        .execute(&mut raw)
        .await
        .unwrap();
    raw.close().await.unwrap();
    let before = all_rows(&database).await;
    let fault = Store::open(StoreOptions::new(&database.url, PinKey::from_bytes([7; 32]))).await;
    assert!(
        matches!(fault, Err(StoreFault::Newer { found: 9999, .. })),
        "{fault:?}"
    );
    assert_eq!(all_rows(&database).await, before);
    if on == Kind::Sqlite {
        refused_untouched(database.dir.path(), "cardline.db", "written by a newer Cardline").await;
    }
}

on_each_database!(a_newer_schema_is_refused_and_left_as_it_is);

#[tokio::test]
async fn a_postgres_database_of_another_program_is_refused() {
    if server().is_none() {
        return;
    }
    let database = Database::new(Kind::Postgres).await;
    let mut raw = database.raw().await;
    sqlx::query("CREATE TABLE invoices (id INTEGER)")
        .execute(&mut raw)
        .await
        .unwrap();
    raw.close().await.unwrap();
    let said = match Store::open(StoreOptions::new(&database.url, PinKey::from_bytes([7; 32]))).await {
        Err(fault) => fault.to_string(),
        Ok(_) => panic!("it opened"),
    };
    assert!(
        said.contains("belongs to another program (it has a table \"invoices\")"),
        "{said}"
    );
}
