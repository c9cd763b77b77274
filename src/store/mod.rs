//! Cards, calls and money at rest: SQLite or PostgreSQL through sqlx's `Any` driver, one SQL text
//! for both; the only module that names sqlx.
//!
//! Every write is one database transaction (`db_tx`). SQLite begins it with `BEGIN IMMEDIATE` behind
//! a gate in the process, so writers queue fairly; PostgreSQL locks the card's row. Balances move
//! only by a guarded one-row UPDATE, in the `db_tx` that inserts the entry.
//!
//! Deliberately absent: retries and timeouts (the driver's), rights and rendering (the admin's).

mod audit;
mod backup;
mod batch;
mod bulk;
mod bulk_sale;
mod calls;
mod card_batch;
mod card_edit;
mod cards;
mod cdr;
mod changes;
mod check;
mod copy;
mod correction;
mod directory;
mod expiry;
mod fault;
mod files;
mod guard;
mod housekeeping;
mod lapse;
mod late;
mod ledger;
mod lines;
mod money_rows;
mod node;
mod numbers;
mod operator;
mod origin;
mod pin_key;
mod probe;
mod projects;
mod purchase;
mod recovery;
mod rotation;
mod rows;
mod sale;
mod schema;
mod storno;
mod takeover;
mod tariffs;
mod terms;
mod transfer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, Connection, Executor, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::now::IdSource;

pub use backup::backup;
pub use batch::{Answered, shares};
pub use card_batch::BATCH_MAX;
pub use changes::Changes;
pub use copy::{Copied, CopyProgress, copy};
pub use fault::{AdminError, Refusal, RefusalClass, StoreFault};
pub use files::{Hold, beside_sqlite};
pub use guard::{PinAttack, PinWatch};
pub use housekeeping::Removed;
pub use lapse::Lapsed;
pub use late::Applied;
pub use money_rows::*;
pub use node::{MARGIN, NodeRow, TTL};
pub use pin_key::PinKey;
pub use recovery::{Recovered, Recovery};
pub use rows::*;
pub use schema::{Schema, inspect};

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// Where the two databases differ; everything else is one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// SQLite takes the write lock at once: a later upgrade could fail and would have to be retried.
    const fn begin(self) -> &'static str {
        match self {
            Dialect::Sqlite => "BEGIN IMMEDIATE",
            Dialect::Postgres => "BEGIN",
        }
    }

    fn migrator(self) -> &'static Migrator {
        match self {
            Dialect::Sqlite => &SQLITE,
            Dialect::Postgres => &POSTGRES,
        }
    }

    /// One view of the data for many questions; nobody waits for it.
    const fn snapshot(self) -> &'static str {
        match self {
            Dialect::Sqlite => "BEGIN",
            Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// Stands at the end of a SELECT whose row the same `db_tx` will change.
    const fn row_lock(self) -> &'static str {
        match self {
            Dialect::Sqlite => "",
            Dialect::Postgres => " FOR UPDATE",
        }
    }
}

/// What `Store::open` needs to know.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// `sqlite:///absolute/path.db` or `postgres://user@host/database`.
    pub url: String,
    pub pin_key: PinKey,
    /// This process's name in reservations; `main` by default.
    pub node: String,
    /// Waits for the disk at each commit. Off only in tests.
    pub durable: bool,
    /// Database transactions at a time, on PostgreSQL. SQLite has one writer.
    pub writers: u32,
}

impl StoreOptions {
    pub fn new(url: &str, pin_key: PinKey) -> StoreOptions {
        StoreOptions {
            url: url.to_owned(),
            pin_key,
            node: "main".to_owned(),
            durable: true,
            writers: 8,
        }
    }
}

/// The open database. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
    /// Nothing is kept: see [`Store::rehearsal`].
    rehearsal: bool,
}

#[derive(Debug)]
struct Inner {
    pool: AnyPool,
    dialect: Dialect,
    pin_key: PinKey,
    node: String,
    /// One writer at a time on SQLite; busy waiting in the file would be slow and unfair.
    gate: Arc<Semaphore>,
    ids: Mutex<IdSource>,
    epoch: std::sync::atomic::AtomicI64,
    lease: node::LeaseState,
    /// What to add to the monotonic time for the steady one.
    steady: std::sync::atomic::AtomicI64,
}

/// A database transaction with its place at the gate; dropped without `commit`, it rolls back.
struct DbTx {
    tx: Transaction<'static, Any>,
    _permit: OwnedSemaphorePermit,
    rehearsal: bool,
}

impl DbTx {
    fn conn(&mut self) -> &mut AnyConnection {
        &mut self.tx
    }

    async fn commit(self) -> Result<(), sqlx::Error> {
        match self.rehearsal {
            true => self.tx.rollback().await,
            false => self.tx.commit().await,
        }
    }
}

impl Store {
    /// Opens the database, creates the SQLite file if it is missing, and brings the schema up.
    ///
    /// # Errors
    /// [`StoreFault`], which says what, where and what to do.
    pub async fn open(options: StoreOptions) -> Result<Store, StoreFault> {
        let (pool, dialect) = connect(&options).await?;
        let pin_key = proven_key(&pool, dialect, &options).await?;
        let store = Store::on(pool, dialect, StoreOptions { pin_key, ..options })?;
        store.read_epoch().await?;
        Ok(store)
    }

    /// Opens without a look at the PIN key, for what needs no PIN: copies and backups.
    async fn without_key(url: &str) -> Result<Store, StoreFault> {
        let options = StoreOptions::new(url, PinKey::from_bytes([0; 32]));
        let (pool, dialect) = connect(&options).await?;
        Store::on(pool, dialect, options)
    }

    fn on(pool: AnyPool, dialect: Dialect, options: StoreOptions) -> Result<Store, StoreFault> {
        Ok(Store {
            inner: Arc::new(Inner {
                pool,
                dialect,
                pin_key: options.pin_key,
                node: options.node,
                gate: Arc::new(Semaphore::new(dialect.writers(options.writers) as usize)),
                ids: Mutex::new(IdSource::from_seed(pin_key::random_bytes()?)),
                epoch: std::sync::atomic::AtomicI64::new(0),
                lease: node::LeaseState::default(),
                steady: std::sync::atomic::AtomicI64::new(guard::UNSET),
            }),
            rehearsal: false,
        })
    }

    /// The same database, but every write is taken back at its end: for a dry run, which gives the
    /// answer that the order would get now.
    #[must_use]
    pub fn rehearsal(&self) -> Store {
        Store {
            rehearsal: true,
            ..self.clone()
        }
    }

    /// Waits for running statements and closes the file.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }

    /// Whether the database answers, and lets this node write for calls.
    ///
    /// # Errors
    /// What the database says; [`StoreFault::Fenced`] without a living lease.
    pub async fn ping(&self) -> Result<(), StoreFault> {
        if self.is_leased() {
            return self.has_lease().await;
        }
        sqlx::query("SELECT 1").execute(&self.inner.pool).await?;
        Ok(())
    }

    async fn begin(&self) -> Result<DbTx, StoreFault> {
        let permit = Arc::clone(&self.inner.gate)
            .acquire_owned()
            .await
            .map_err(|_| StoreFault::Sql(sqlx::Error::PoolClosed))?;
        let tx = self.inner.pool.begin_with(self.inner.dialect.begin()).await?;
        Ok(DbTx {
            tx,
            _permit: permit,
            rehearsal: self.rehearsal,
        })
    }

    fn pool(&self) -> &AnyPool {
        &self.inner.pool
    }

    /// The statement, with the row lock of the dialect at its end.
    fn locking(&self, select: &'static str) -> AssertSqlSafe<String> {
        AssertSqlSafe(format!("{select}{}", self.inner.dialect.row_lock()))
    }

    /// The same for a join: only the rows of one of its tables are locked.
    fn locking_of(&self, select: &'static str, table: &'static str) -> AssertSqlSafe<String> {
        AssertSqlSafe(match self.inner.dialect {
            Dialect::Sqlite => select.to_owned(),
            Dialect::Postgres => format!("{select} FOR UPDATE OF {table}"),
        })
    }

    /// Draws from the store's own randomness.
    fn draw<T>(&self, draw: impl FnOnce(&mut IdSource) -> T) -> T {
        draw(&mut self.inner.ids.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Looks at the database, opens it, makes the SQLite file if it is missing, and brings the schema up.
async fn connect(options: &StoreOptions) -> Result<(AnyPool, Dialect), StoreFault> {
    sqlx::any::install_default_drivers();
    let (dialect, url) = connect_url(&options.url)?;
    let durable = options.durable;
    let migrator = dialect.migrator();
    let newest = migrator.iter().map(|step| step.version).max().unwrap_or(0);
    if dialect == Dialect::Sqlite {
        origin::look_at_file(&options.url, newest).await?;
        files::make_private(&url).map_err(|error| open_fault(&options.url, &error))?;
    }
    let connections = match dialect {
        Dialect::Sqlite if url.contains(":memory:") => 1,
        Dialect::Sqlite => 4,
        // A lease is renewed and an operator answered while all writers write.
        Dialect::Postgres => dialect.writers(options.writers) + 2,
    };
    let pool = AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        .after_connect(move |conn, _| Box::pin(async move { prepare(conn, dialect, durable).await }))
        // One that SQLite has rolled back by itself (a full disk) would refuse every later db_tx.
        .before_acquire(move |conn, _| {
            Box::pin(async move { Ok(connections == 1 || !conn.is_in_transaction()) })
        })
        .connect(&url)
        .await
        .map_err(|error| open_fault(&options.url, &error))?;
    if dialect == Dialect::Postgres {
        let mut conn = pool.acquire().await?;
        origin::look_at_schema(&mut conn, &options.url, newest).await?;
    }
    migrator
        .run(&pool)
        .await
        .map_err(|error| migrate_fault(&options.url, migrator, &error))?;
    if dialect == Dialect::Sqlite {
        files::keep_private(&options.url);
        files::end_first_start(&options.url);
    }
    Ok((pool, dialect))
}

/// The key that this database's PINs were hashed with: the first start writes a proof, each later one
/// compares.
async fn proven_key(pool: &AnyPool, dialect: Dialect, options: &StoreOptions) -> Result<PinKey, StoreFault> {
    let mut tx = pool.begin_with(dialect.begin()).await?;
    let kept: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'pin_key_proof'")
        .fetch_optional(&mut *tx)
        .await?;
    let key = options.pin_key.clone().for_proof(&options.url, kept.as_deref())?;
    if kept.is_none() {
        sqlx::query("INSERT INTO meta (key, value) VALUES ('pin_key_proof', $1)")
            .bind(key.proof())
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(key)
}

/// Splits off the dialect and completes the URL.
fn connect_url(url: &str) -> Result<(Dialect, String), StoreFault> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok((Dialect::Postgres, url.to_owned()));
    }
    if !url.starts_with("sqlite:") {
        return Err(StoreFault::Open {
            url: url.to_owned(),
            problem: "unknown kind of database".to_owned(),
            cure: "write sqlite:///absolute/path.db or postgres://user@host/database in store.url",
        });
    }
    if let Some(dir) = sqlite_path(url).and_then(|path| path.parent().map(PathBuf::from))
        && !dir.as_os_str().is_empty()
        && !dir.is_dir()
    {
        return Err(StoreFault::Open {
            url: url.to_owned(),
            problem: format!("the directory {} does not exist", dir.display()),
            cure: "create it and give it to the user that runs cardline",
        });
    }
    let full = match (url.contains("mode="), url.contains('?')) {
        (true, _) => url.to_owned(),
        (false, true) => format!("{url}&mode=rwc"),
        (false, false) => format!("{url}?mode=rwc"),
    };
    Ok((Dialect::Sqlite, full))
}

/// The file of a SQLite URL; `None` for PostgreSQL and for memory.
fn sqlite_path(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("sqlite:")?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let path = rest.split('?').next().unwrap_or(rest);
    (!path.is_empty() && path != ":memory:").then(|| PathBuf::from(path))
}

/// Settings of each connection; SQLite keeps none of them but the journal mode in the file.
async fn prepare(conn: &mut AnyConnection, dialect: Dialect, durable: bool) -> Result<(), sqlx::Error> {
    let settings: &[&'static str] = match (dialect, durable) {
        (Dialect::Sqlite, true) => &[
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "PRAGMA busy_timeout = 1000",
            "PRAGMA foreign_keys = ON",
        ],
        (Dialect::Sqlite, false) => &[
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = OFF",
            "PRAGMA busy_timeout = 1000",
            "PRAGMA foreign_keys = ON",
        ],
        (Dialect::Postgres, _) => &[
            "SET statement_timeout = '5s'",
            "SET lock_timeout = '1s'",
            // A frozen process must not keep rows locked for longer than its lease.
            "SET idle_in_transaction_session_timeout = '5s'",
            "SET TIME ZONE 'UTC'",
        ],
    };
    for setting in settings {
        conn.execute(*setting).await?;
    }
    Ok(())
}

fn open_fault(url: &str, error: &impl ToString) -> StoreFault {
    StoreFault::Open {
        // A password in the URL is nobody's business in a log.
        url: without_password(url),
        problem: error.to_string(),
        cure: "check store.url, that the database runs, and that this user may read and write it",
    }
}

fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((login, host)) => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{host}")
        }
        None => url.to_owned(),
    }
}

fn migrate_fault(url: &str, migrator: &Migrator, error: &MigrateError) -> StoreFault {
    if let MigrateError::VersionMissing(found) | MigrateError::VersionTooNew(found, _) = error {
        return StoreFault::Newer {
            url: without_password(url),
            found: *found,
            known: migrator.iter().map(|m| m.version).max().unwrap_or(0),
        };
    }
    StoreFault::Open {
        url: without_password(url),
        problem: format!("the schema could not be brought up: {error}"),
        cure: "restore the last backup, or ask for help with this message",
    }
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
