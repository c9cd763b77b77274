//! The catalogue of a database: its tables, and which versions of the schema it has.
//!
//! Deliberately absent: repair. What is damaged comes back from a backup.

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};

use super::{Dialect, StoreFault, connect_url, open_fault, origin, sqlite_path};

/// The versions of the schema at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The newest version that was applied; 0: the database is empty or not made yet.
    pub found: i64,
    /// The newest version that this program knows.
    pub known: i64,
    /// Versions that [`Store::open`](super::Store::open) would apply, with their names.
    pub pending: Vec<(i64, String)>,
}

impl Dialect {
    /// Database transactions at a time, of the wanted ones.
    pub(super) fn writers(self, wanted: u32) -> u32 {
        match self {
            Dialect::Sqlite => 1,
            Dialect::Postgres => wanted.max(1),
        }
    }

    /// Names of the tables there are.
    pub(super) const fn tables(self) -> &'static str {
        match self {
            Dialect::Sqlite => {
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
            }
            Dialect::Postgres => {
                "SELECT CAST(table_name AS TEXT) FROM information_schema.tables
                 WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' ORDER BY table_name"
            }
        }
    }
}

/// Looks at the database and writes nothing, not even a file.
///
/// # Errors
/// It cannot be read, was written by a newer Cardline, is cut off, or belongs to another program.
pub async fn inspect(url: &str) -> Result<Schema, StoreFault> {
    sqlx::any::install_default_drivers();
    let (dialect, _) = connect_url(url)?;
    let migrator = dialect.migrator();
    let known = migrator.iter().map(|m| m.version).max().unwrap_or(0);
    let found = match sqlite_path(url) {
        Some(path) if !path.exists() => 0,
        Some(_) | None => newest_applied(url, dialect, known).await?,
    };
    let pending = migrator.iter().filter(|m| m.version > found);
    Ok(Schema {
        found,
        known,
        pending: pending.map(|m| (m.version, m.description.to_string())).collect(),
    })
}

async fn newest_applied(url: &str, dialect: Dialect, known: i64) -> Result<i64, StoreFault> {
    if dialect == Dialect::Sqlite {
        origin::look_at_file(url, known).await?;
    }
    let mut conn = connect_to_read(url, dialect).await?;
    if dialect == Dialect::Postgres {
        origin::look_at_schema(&mut conn, url, known).await?;
    }
    let tables: Vec<String> = sqlx::query_scalar(dialect.tables()).fetch_all(&mut conn).await?;
    let mut found = None;
    if !tables.is_empty() {
        found = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
            .fetch_one(&mut conn)
            .await?;
    }
    conn.close().await.ok();
    Ok(found.unwrap_or(0))
}

/// A connection that can only read.
pub(super) async fn connect_to_read(url: &str, dialect: Dialect) -> Result<AnyConnection, StoreFault> {
    let read_only = match (dialect, sqlite_path(url)) {
        (Dialect::Sqlite, Some(path)) => format!("sqlite://{}?mode=ro", path.display()),
        (Dialect::Sqlite, None) | (Dialect::Postgres, _) => url.to_owned(),
    };
    AnyConnection::connect(&read_only)
        .await
        .map_err(|error| open_fault(url, &error))
}

/// A statement about one table or column of the catalogue; the name is quoted.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Text that was put together from names of the catalogue only.
pub(super) fn composed(text: String) -> AssertSqlSafe<String> {
    AssertSqlSafe(text)
}
