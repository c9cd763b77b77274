use super::*;

/// Money must outlive a power failure: every connection waits for the disk at each commit.
#[tokio::test]
async fn every_connection_to_sqlite_writes_ahead_and_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("cardline.db").display());
    let options = StoreOptions::new(&url, PinKey::from_bytes([7; 32]));
    let store = Store::open(options).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..store.pool().options().get_max_connections() {
        held.push(store.pool().acquire().await.unwrap());
    }
    assert!(held.len() > 1, "more than one connection is to be seen");
    for conn in &mut held {
        let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
            .fetch_one(&mut **conn)
            .await
            .unwrap();
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
            .fetch_one(&mut **conn)
            .await
            .unwrap();
        // 2 is FULL (sqlite.org/pragma.html).
        assert_eq!((journal.as_str(), synchronous), ("wal", 2));
    }
}

/// SQLite rolls back by itself when the disk is full; what sqlx then counts as an open transaction
/// would refuse every later one on that connection.
#[tokio::test]
async fn a_full_disk_is_forgotten_as_soon_as_there_is_space_again() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("cardline.db").display());
    let options = StoreOptions::new(&url, PinKey::from_bytes([7; 32]));
    let store = Store::open(options).await.unwrap();
    let fill = |value: String| {
        let store = store.clone();
        async move {
            let mut db = store.begin().await?;
            sqlx::query(
                "INSERT INTO meta (key, value) VALUES ('filling', $1)
                 ON CONFLICT (key) DO UPDATE SET value = $1",
            )
            .bind(value)
            .execute(db.conn())
            .await?;
            db.commit().await.map_err(StoreFault::from)
        }
    };
    let mut held = Vec::new();
    for _ in 0..store.pool().options().get_max_connections() {
        let mut conn = store.pool().acquire().await.unwrap();
        // No page more than there is: what a full disk answers, to this connection alone.
        sqlx::query("PRAGMA max_page_count = 1")
            .execute(&mut *conn)
            .await
            .unwrap();
        held.push(conn);
    }
    let connections = held.len();
    drop(held);
    let full = fill("x".repeat(1 << 20)).await.unwrap_err();
    assert!(full.to_string().contains("full"), "{full}");
    for _ in 0..connections {
        fill("x".to_owned()).await.unwrap();
    }
}

#[test]
fn a_fault_tells_no_password() {
    for (url, want) in [
        ("postgres://joe:secret@db/cards", "postgres://joe@db/cards"),
        ("postgres://joe@db/cards", "postgres://joe@db/cards"),
        ("postgres://db/cards", "postgres://db/cards"),
        ("sqlite:///var/x.db", "sqlite:///var/x.db"),
    ] {
        assert_eq!(without_password(url), want);
    }
}
