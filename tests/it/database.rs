//! Databases for tests: SQLite always, PostgreSQL where `CARDLINE_TEST_POSTGRES` names a server that
//! may create and drop them (`tests/postgres COMMAND` starts one).

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::Connection as _;
use tempfile::TempDir;

/// Makes a test of `async fn $name(on: Kind)` on each kind of database.
macro_rules! on_each_database {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn on_sqlite() {
                super::$name(crate::database::Kind::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn on_postgres() {
                if crate::database::server().is_some() {
                    super::$name(crate::database::Kind::Postgres).await;
                }
            }
        })*
    };
}
pub(crate) use on_each_database;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// The URL of the server that tests may use, with a database to connect to.
pub fn server() -> Option<String> {
    std::env::var("CARDLINE_TEST_POSTGRES")
        .ok()
        .filter(|url| !url.is_empty())
}

/// An empty database of the test's own; gone when it is dropped.
#[derive(Debug)]
pub struct Database {
    pub kind: Kind,
    pub url: String,
    /// Private files of the test; those of SQLite among them.
    pub dir: TempDir,
    name: String,
}

impl Database {
    pub async fn new(kind: Kind) -> Database {
        let dir = tempfile::tempdir().unwrap();
        let n = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("cardline_test_{}_{n}", std::process::id());
        let url = match kind {
            Kind::Sqlite => format!("sqlite://{}", dir.path().join("cardline.db").display()),
            Kind::Postgres => {
                let server = server().expect("the test looks for the server first");
                order(&server, format!("CREATE DATABASE {name}")).await;
                with_database(&server, &name)
            }
        };
        Database { kind, url, dir, name }
    }

    /// What PostgreSQL calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection beside the store's own.
    pub async fn raw(&self) -> sqlx::AnyConnection {
        sqlx::any::install_default_drivers();
        sqlx::AnyConnection::connect(&self.url).await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (Kind::Postgres, Some(server)) = (self.kind, server()) else {
            return;
        };
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        // A thread of its own, since the test's runtime cannot be waited for from within.
        let done = std::thread::Builder::new().spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(order(&server, drop));
        });
        let done = done.map(|thread| thread.join().is_ok());
        assert!(
            done.is_ok_and(|done| done) || std::thread::panicking(),
            "{} stays",
            self.name
        );
    }
}

async fn order(server: &str, sql: String) {
    sqlx::any::install_default_drivers();
    let mut conn = sqlx::AnyConnection::connect(server).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
}

/// `postgres://user@host/other?host=/dir` with another database.
fn with_database(server: &str, name: &str) -> String {
    let (place, options) = server.split_once('?').unwrap_or((server, ""));
    let host = place.rsplit_once('/').expect("the URL names a database").0;
    format!("{host}/{name}?{options}")
}

static MADE: AtomicU32 = AtomicU32::new(0);
