//! The database goes away in the middle of a call of the real daemon, which is killed or lives on:
//! what was measured is in the books afterwards, once; new callers are told; health says so.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _};
use tokio::net::UnixStream;

use crate::admin::desk::ask;
use crate::daemon::{Phone, a_bound_card, connect, get, hang_up, post, ring, stopwatch};
use crate::database::{Database, Kind, on_each_database, server};

/// A wait that long is a failure; nothing waits for it when all is well.
const FAILED: Duration = Duration::from_secs(60);

on_each_database!(
    an_outage_ends_and_the_journal_goes_into_the_books,
    a_daemon_killed_in_an_outage_charges_what_was_measured,
);

async fn an_outage_ends_and_the_journal_goes_into_the_books(on: Kind) {
    let scene = Scene::through_an_outage(on).await;
    scene.outage.end().await;
    until(&scene.socket, "the books are told", |status| {
        status["journal"]["entries"] == 0 && status["store"] == "up"
    })
    .await;
    assert_eq!(ready(&scene.socket).await, 200);
    check_books(&scene.socket, &scene.serial, scene.measured_ms).await;
}

async fn a_daemon_killed_in_an_outage_charges_what_was_measured(on: Kind) {
    let scene = Scene::through_an_outage(on).await;
    drop(scene.daemon);
    scene.outage.end().await;
    let next = Daemon::start(&scene.config).await;
    // The marks follow the books, by the journal's own thread.
    until(&scene.socket, "the journal is empty", |status| {
        status["journal"]["entries"] == 0
    })
    .await;
    let status = get(&scene.socket, "/api/v1/status").await;
    assert_eq!(status["journal"]["rejected"], 0, "{status}");
    check_books(&scene.socket, &scene.serial, scene.measured_ms).await;
    drop(next);
}

/// After a call that ended while the database was away, and one that found it away.
struct Scene {
    _database: Database,
    config: PathBuf,
    socket: PathBuf,
    daemon: Daemon,
    outage: Outage,
    serial: String,
    measured_ms: i64,
}

impl Scene {
    async fn through_an_outage(on: Kind) -> Scene {
        let database = Database::new(on).await;
        let config = config(&database);
        let socket = database.dir.path().join("admin.sock");
        let daemon = Daemon::start(&config).await;
        let (caller, advisor) = (Phone::new(daemon.sip), Phone::new(daemon.sip));
        let serial = a_bound_card(&socket, advisor.sip_port()).await;
        assert_eq!(ready(&socket).await, 200);
        let (caller, advisor, dialog, begin) = blocking(move || {
            let (dialog, begin) = connect(&caller, &advisor);
            (caller, advisor, dialog, begin)
        })
        .await;

        let outage = Outage::begin(&database).await;
        let gone = stopwatch();
        while ready(&socket).await != 503 {
            assert!(gone.elapsed() < FAILED, "health stays green");
        }
        let status = get(&socket, "/api/v1/status").await;
        assert_eq!(status["store"], "down", "{status}");
        assert!(status["store_away_since"].is_string(), "{status}");
        let measured = blocking(move || hang_up(&caller, &advisor, &dialog, begin)).await;
        // Settlement and record of the first call.
        until(&socket, "the call's end is on the disk", |status| {
            status["journal"]["entries"].as_i64() >= Some(2) && status["journal"]["oldest_at"].is_string()
        })
        .await;

        let sip = daemon.sip;
        let bye = blocking(move || {
            let late = Phone::new(sip);
            let (_, _) = ring(&late);
            let bye = late.hears("BYE ");
            late.respond(&bye, "200 OK", "");
            bye
        })
        .await;
        assert!(bye.contains("cause=41"), "{bye}");
        // Its record's beginning and end.
        until(&socket, "the second call's end is on the disk", |status| {
            status["journal"]["entries"].as_i64() >= Some(4) && status["calls"] == 0
        })
        .await;
        Scene {
            _database: database,
            config,
            socket,
            daemon,
            outage,
            serial,
            measured_ms: i64::try_from(measured.as_millis()).unwrap(),
        }
    }
}

/// Both calls have ended in the books, one charged as the telephones measured it.
async fn check_books(socket: &Path, serial: &str, measured_ms: i64) {
    let calls = get(socket, "/api/v1/calls").await;
    let rows = calls["calls"].as_array().unwrap();
    let of = |cause: &str| rows.iter().find(|row| row["end_cause"] == cause);
    let (first, second) = (of("caller_bye"), of("store_down"));
    let (Some(first), Some(second), 2) = (first, second, rows.len()) else {
        panic!("{calls}");
    };
    let (raw, billed) = (
        first["raw_ms"].as_i64().unwrap(),
        first["billed_ms"].as_i64().unwrap(),
    );
    assert!(
        (raw - measured_ms).abs() <= 1000,
        "measured {measured_ms}: {first}"
    );
    assert!(billed >= raw, "{first}");
    assert_eq!(second["billed_ms"], 0, "{second}");
    let card = get(socket, &format!("/api/v1/cards/{serial}")).await;
    assert_eq!(
        (&card["balance_ms"], &card["reserved_ms"]),
        (&json!(600_000 - billed), &json!(0)),
        "{card}"
    );
    let check = post(socket, "/api/v1/ledger/check", json!({})).await;
    assert_eq!(check["clean"], true, "{check}");
}

/// The database takes no writes: a foreign lock on the file, or every connection shut.
struct Outage {
    conn: AnyConnection,
    /// Lets PostgreSQL take connections again.
    end: String,
}

impl Outage {
    async fn begin(database: &Database) -> Outage {
        match database.kind {
            Kind::Sqlite => {
                let mut conn = database.raw().await;
                conn.execute("PRAGMA busy_timeout = 10000").await.unwrap();
                conn.execute("BEGIN IMMEDIATE").await.unwrap();
                Outage {
                    conn,
                    end: "ROLLBACK".to_owned(),
                }
            }
            Kind::Postgres => {
                let name = database.name();
                let mut conn = AnyConnection::connect(&server().unwrap()).await.unwrap();
                let shut = [
                    format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
                    format!(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
                    ),
                ];
                for statement in shut {
                    conn.execute(AssertSqlSafe(statement)).await.unwrap();
                }
                let end = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
                Outage { conn, end }
            }
        }
    }

    async fn end(mut self) {
        self.conn.execute(AssertSqlSafe(self.end)).await.unwrap();
        self.conn.close().await.unwrap();
    }
}

/// The binary; killed when it is dropped.
struct Daemon {
    child: Child,
    sip: SocketAddr,
}

impl Daemon {
    async fn start(config: &Path) -> Daemon {
        let config = config.to_owned();
        blocking(move || {
            let mut child = Command::new(env!("CARGO_BIN_EXE_cardline"))
                .args(["serve", "--config"])
                .arg(config)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            let out = child.stdout.take().unwrap();
            BufReader::new(out).read_line(&mut line).unwrap();
            let sip = line
                .split_once("udp://")
                .and_then(|(_, rest)| rest.split_once(','));
            let sip = sip
                .unwrap_or_else(|| panic!("not ready: {line:?}"))
                .0
                .parse()
                .unwrap();
            Daemon { child, sip }
        })
        .await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn config(database: &Database) -> PathBuf {
    let dir = database.dir.path();
    let folder = dir.display();
    let text = format!(
        r#"
        [sip]
        listen = ["udp://127.0.0.1:0"]
        [media]
        listen = "127.0.0.1"
        ports = "44000-44999"
        stock = 4
        [store]
        url = "{}"
        pin_key_file = "{folder}/pin.key"
        journal = "{folder}/cardline.journal"
        timeout_s = 1
        [admin]
        socket = "{folder}/admin.sock"
        http = ""
        [[trunk]]
        name = "carrier"
        peers = ["127.0.0.1"]
        "#,
        database.url
    );
    let path = dir.join("cardline.toml");
    std::fs::write(&path, text).unwrap();
    path
}

async fn until(socket: &Path, what: &str, holds: impl Fn(&Value) -> bool) {
    let begin = stopwatch();
    loop {
        let status = get(socket, "/api/v1/status").await;
        if holds(&status) {
            return;
        }
        assert!(begin.elapsed() < FAILED, "{what}: {status}");
    }
}

async fn ready(socket: &Path) -> u16 {
    let stream = UnixStream::connect(socket).await.unwrap();
    ask(TokioIo::new(stream), "GET", "/health/ready", "", &[])
        .await
        .status
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}
