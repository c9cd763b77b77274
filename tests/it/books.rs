//! The books' own defence: the check and what it does to a broken card, another key for PINs, and
//! databases that are not ours or not whole.

use std::path::Path;

use cardline::call::directory::Role;
use cardline::now::UnixTime;
use cardline::store::{
    Act, CardRow, CheckReport, NewCard, NewNumber, PinKey, ProjectEdit, Store, StoreFault, StoreOptions,
};
use cardline::units::E164;

use crate::database::{Database, Kind, on_each_database};

/// 2025-11-25T08:00:00Z.
const START_MS: i64 = 1_764_057_600_000;

fn act() -> Act {
    Act {
        now: UnixTime::from_ms(START_MS),
        actor: "uid:0".to_owned(),
        key: None,
    }
}

fn options(url: &str) -> StoreOptions {
    StoreOptions {
        durable: false,
        ..StoreOptions::new(url, PinKey::from_bytes([7; 32]))
    }
}

/// Three cards of project `test1`.
async fn sold(url: &str, key: PinKey) -> (Store, Vec<CardRow>) {
    let store = Store::open(StoreOptions {
        pin_key: key,
        ..options(url)
    })
    .await
    .unwrap();
    store
        .project_new(&act(), "test1", &ProjectEdit::default())
        .await
        .unwrap();
    let number = NewNumber {
        e164: E164::parse("+493023125101").unwrap(),
        project: "test1".to_owned(),
        role: Role::Both,
    };
    store.number_add(&act(), &number).await.unwrap();
    let mut cards = Vec::new();
    for minutes in [5, 10, 20] {
        let new = NewCard {
            project: "test1".to_owned(),
            minutes,
            note: None,
            quote: None,
        };
        cards.push(store.card_buy(&act(), &new).await.unwrap());
    }
    (store, cards)
}

/// Changes one entry behind the program's back.
async fn tamper(database: &Database, sql: &[&str]) {
    let mut raw = database.raw().await;
    let drop = match database.kind {
        Kind::Sqlite => "DROP TRIGGER ledger_no_update",
        Kind::Postgres => "DROP TRIGGER ledger_append_only ON ledger",
    };
    for sql in [drop].iter().chain(sql) {
        sqlx::query(sqlx::AssertSqlSafe(*sql))
            .execute(&mut raw)
            .await
            .unwrap();
    }
}

fn rules(report: &CheckReport) -> Vec<(&str, Option<&str>)> {
    report
        .offenders
        .iter()
        .map(|o| (o.id.as_str(), o.card.as_deref()))
        .collect()
}

on_each_database!(a_corrupted_entry_is_named_and_its_card_blocked_and_no_other);
async fn a_corrupted_entry_is_named_and_its_card_blocked_and_no_other(on: Kind) {
    let database = Database::new(on).await;
    let (store, cards) = sold(&database.url, PinKey::from_bytes([7; 32])).await;
    let before = store.check_and_keep(&act()).await.unwrap();
    assert!(before.clean, "{:?}", before.offenders);
    assert!(store.last_check().await.unwrap().unwrap().clean);
    tamper(
        &database,
        &["UPDATE ledger SET delta_ms = delta_ms + 60000 WHERE card_id = 2"],
    )
    .await;

    let report = store.check_and_keep(&act()).await.unwrap();
    let broken = Some(cards[1].serial.as_str());
    assert!(!report.clean);
    for (rule, card) in [("I1", broken), ("I10", broken), ("L9", broken), ("L14", None)] {
        assert!(
            rules(&report).contains(&(rule, card)),
            "{rule}: {:#?}",
            report.offenders
        );
    }
    let entry = report
        .offenders
        .iter()
        .find(|o| o.id == "L9" && o.card.is_some())
        .unwrap();
    assert_eq!(entry.row, Some(2), "{entry:?}");
    assert_eq!(report.blocked, [cards[1].serial.clone()]);
    let states: Vec<String> = state_of(&store, &cards).await;
    assert_eq!(states, ["neu", "gesperrt", "neu"]);
    let last = store.last_check().await.unwrap().unwrap();
    assert!(!last.clean && last.first_offence.unwrap().contains(&cards[1].serial));
    let audit = store.audit_tail(1).await.unwrap();
    assert_eq!(
        (audit[0].actor.as_str(), audit[0].action.as_str()),
        ("check", "card.block")
    );
    assert!(
        audit[0].after.as_ref().unwrap().contains("I1 balance"),
        "{audit:?}"
    );
    // It is blocked already: a second check blocks nobody.
    assert!(store.check_and_keep(&act()).await.unwrap().blocked.is_empty());
}

async fn state_of(store: &Store, cards: &[CardRow]) -> Vec<String> {
    let mut states = Vec::new();
    for card in cards {
        let row = store
            .card_show(UnixTime::from_ms(START_MS), &card.serial)
            .await
            .unwrap();
        states.push(row.state.to_string());
    }
    states
}

on_each_database!(who_rewrites_a_whole_chain_is_found_by_the_anchor);
async fn who_rewrites_a_whole_chain_is_found_by_the_anchor(on: Kind) {
    let database = Database::new(on).await;
    let (store, _) = sold(&database.url, PinKey::from_bytes([7; 32])).await;
    let later = Act {
        now: UnixTime::from_ms(START_MS + 3_600_000),
        ..act()
    };
    let first = store.check_and_keep(&later).await.unwrap();
    assert_eq!((first.anchor.upto, first.anchor.entries), (3, 3));
    let again = store.check_and_keep(&later).await.unwrap();
    assert!(again.clean);
    assert_eq!(again.anchor, first.anchor, "the same books, the same anchor");
    // Another actor in the row, with head and hash made to fit.
    tamper(
        &database,
        &[
            "UPDATE ledger SET actor = 'uid:1', row_hash = 'ff' WHERE id = 3",
            "UPDATE card SET last_hash = 'ff' WHERE id = 3",
        ],
    )
    .await;
    let report = store.check(later.now).await.unwrap();
    assert!(rules(&report).contains(&("T18", None)), "{:#?}", report.offenders);
}

#[tokio::test]
async fn a_value_of_another_type_is_an_offence_and_not_the_end_of_the_check() {
    let database = Database::new(Kind::Sqlite).await;
    let (store, cards) = sold(&database.url, PinKey::from_bytes([7; 32])).await;
    tamper(
        &database,
        &["UPDATE ledger SET delta_ms = 'much' WHERE card_id = 1"],
    )
    .await;
    let report = store.check(UnixTime::from_ms(START_MS)).await.unwrap();
    let card = Some(cards[0].serial.as_str());
    assert!(rules(&report).contains(&("I13", card)), "{:#?}", report.offenders);
    assert!(rules(&report).contains(&("L9", card)), "{:#?}", report.offenders);
}

#[tokio::test]
async fn every_invariant_is_checked_or_has_its_proof_elsewhere() {
    let database = Database::new(Kind::Sqlite).await;
    let (store, _) = sold(&database.url, PinKey::from_bytes([7; 32])).await;
    let report = store.check(UnixTime::from_ms(START_MS)).await.unwrap();
    let elsewhere = report.elsewhere.iter().map(|proof| proof.rule.to_owned());
    let named: Vec<String> = report.rules.iter().cloned().chain(elsewhere).collect();
    let ids: Vec<&str> = named
        .iter()
        .flat_map(|rule| rule.split([' ', ',']))
        .filter(|word| !word.is_empty())
        .collect();
    for wanted in (1..=20)
        .map(|n| format!("I{n}"))
        .chain((1..=14).map(|n| format!("L{n}")))
    {
        assert!(ids.contains(&wanted.as_str()), "{wanted}: {named:#?}");
    }
}

on_each_database!(another_pin_key_leaves_every_pin_as_it_was);
async fn another_pin_key_leaves_every_pin_as_it_was(on: Kind) {
    let database = Database::new(on).await;
    let file = database.dir.path().join("keys.key");
    let find = || PinKey::find(&database.url, Some(&file)).unwrap();
    let (store, cards) = sold(&database.url, find()).await;
    let next = find().next().unwrap();
    assert_eq!(store.rotate_pin_key(&act(), &next).await.unwrap(), 3);
    store.close().await;
    // The commit is done, the files are not: the start finishes what broke off.
    let store = Store::open(StoreOptions {
        pin_key: find(),
        ..options(&database.url)
    })
    .await
    .unwrap();
    for card in &cards {
        let shown = store.card_pin(&act(), &card.serial).await.unwrap();
        assert_eq!(shown.pin, card.pin);
    }
    assert!(store.check(act().now).await.unwrap().clean);
    store.close().await;
    let old = std::fs::read_to_string(database.dir.path().join("keys.key.old")).unwrap();
    assert_ne!(old, std::fs::read_to_string(&file).unwrap());
    // The old key is refused, and so is none.
    std::fs::write(&file, old).unwrap();
    let wrong = Store::open(StoreOptions {
        pin_key: find(),
        ..options(&database.url)
    });
    let why = wrong.await.unwrap_err().to_string();
    assert!(why.contains("another PIN key"), "{why}");
    std::fs::remove_file(&file).unwrap();
    let missing = Store::open(StoreOptions {
        pin_key: find(),
        ..options(&database.url)
    });
    let why = missing.await.unwrap_err().to_string();
    assert!(why.contains("keys.key") && why.contains("missing"), "{why}");
    assert!(!file.exists());
}

/// What `open` says, and that the file and its folder are as they were.
async fn refused_untouched(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let names = |path: &Path| {
        let folder = std::fs::read_dir(path.parent().unwrap()).unwrap();
        let mut names: Vec<_> = folder.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names(path);
    let url = format!("sqlite://{}", path.display());
    let why = Store::open(options(&url)).await.unwrap_err();
    assert_eq!(std::fs::read(path).unwrap(), bytes, "written to");
    assert_eq!(names(path), before, "files were left beside it");
    why.to_string()
}

#[tokio::test]
async fn a_file_that_is_no_whole_database_of_ours_is_refused_and_not_touched() {
    let database = Database::new(Kind::Sqlite).await;
    let (store, _) = sold(&database.url, PinKey::from_bytes([7; 32])).await;
    store.close().await;
    let good = std::fs::read(database.dir.path().join("cardline.db")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cards.db");
    let png = [&b"\x89PNG\r\n\x1a\n"[..], &[0; 4096]].concat();
    for (what, bytes, word) in [
        ("nothing", &good[..0], "empty"),
        ("a picture", &png[..], "no SQLite database"),
        ("half a header", &good[..50], "no SQLite database"),
        ("a page and a half", &good[..6144], "cut off"),
        ("half of its pages", &good[..good.len() / 8192 * 4096], "cut off"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let why = refused_untouched(&path).await;
        assert!(why.contains(word), "{what}: {why}");
        assert!(why.contains("cards.db"), "{what}: {why}");
    }
    std::fs::remove_file(&path).unwrap();
    let url = format!("sqlite://{}?mode=rwc", path.display());
    sqlx::any::install_default_drivers();
    let mut other = <sqlx::AnyConnection as sqlx::Connection>::connect(&url)
        .await
        .unwrap();
    sqlx::query("CREATE TABLE recipe (name TEXT)")
        .execute(&mut other)
        .await
        .unwrap();
    sqlx::Connection::close(other).await.unwrap();
    let why = refused_untouched(&path).await;
    assert!(why.contains("another program") && why.contains("recipe"), "{why}");
}

#[tokio::test]
async fn a_first_start_that_broke_off_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cardline.db");
    let url = format!("sqlite://{}", path.display());
    // As the start leaves them when something else stops it right then.
    std::fs::write(dir.path().join("cardline.db.first"), "").unwrap();
    std::fs::write(&path, "").unwrap();
    Store::open(options(&url)).await.unwrap().close().await;
    assert!(!dir.path().join("cardline.db.first").exists());
    std::fs::write(&path, "").unwrap();
    let why = Store::open(options(&url)).await.unwrap_err().to_string();
    assert!(why.contains("empty"), "{why}");
}

on_each_database!(a_newer_schema_is_refused_and_nothing_is_written);
async fn a_newer_schema_is_refused_and_nothing_is_written(on: Kind) {
    let database = Database::new(on).await;
    let (store, _) = sold(&database.url, PinKey::from_bytes([7; 32])).await;
    store.close().await;
    let mut raw = database.raw().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         SELECT 9999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
    )
    .execute(&mut raw)
    .await
    .unwrap();
    sqlx::Connection::close(raw).await.unwrap();
    match on {
        Kind::Sqlite => {
            let why = refused_untouched(&database.dir.path().join("cardline.db")).await;
            assert!(why.contains("9999") && why.contains("newer"), "{why}");
        }
        Kind::Postgres => {
            let why = Store::open(options(&database.url)).await.unwrap_err();
            assert!(matches!(why, StoreFault::Newer { found: 9999, .. }), "{why}");
        }
    }
}

#[tokio::test]
async fn a_postgresql_database_of_something_else_is_refused() {
    if crate::database::server().is_none() {
        return;
    }
    let database = Database::new(Kind::Postgres).await;
    let mut raw = database.raw().await;
    sqlx::query("CREATE TABLE recipe (name TEXT)")
        .execute(&mut raw)
        .await
        .unwrap();
    let why = Store::open(options(&database.url)).await.unwrap_err().to_string();
    assert!(why.contains("another program") && why.contains("recipe"), "{why}");
    let tables: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = current_schema()",
    )
    .fetch_one(&mut raw)
    .await
    .unwrap();
    assert_eq!(tables, 1, "nothing was made");
}
