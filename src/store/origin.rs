//! What a database is, before anything is written to it: ours, fresh, newer than this program,
//! damaged, or somebody else's.
//!
//! A SQLite file is looked at without taking a lock and without changing a byte.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sqlx::{AnyConnection, Connection as _};

use super::{StoreFault, files, sqlite_path, without_password};

/// How the first bytes of each SQLite file read (sqlite.org/fileformat2.html, section 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER: usize = 100;
/// Tables without which a migrated database is not ours.
const OURS: [&str; 4] = ["meta", "card", "ledger", "audit"];

/// What the file itself tells about its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Right,
    /// Shorter than it says, or no whole number of pages.
    Wrong,
}

/// Looks at the file of a SQLite URL; a missing one is fine, since it will be made. `newest` is the
/// newest schema that this program knows.
///
/// # Errors
/// [`StoreFault::Newer`], or in words what the file is instead.
pub(super) async fn look_at_file(url: &str, newest: i64) -> Result<(), StoreFault> {
    let Some(path) = sqlite_path(url).filter(|path| path.exists()) else {
        return Ok(());
    };
    if path.metadata().is_ok_and(|meta| meta.len() == 0) && files::is_first_start(&path) {
        return Ok(());
    }
    let fault = |problem: String, cure| StoreFault::Open {
        url: url.to_owned(),
        problem,
        cure,
    };
    let size = measure(&path).map_err(|problem| {
        fault(
            problem,
            "name another file in store.url, or restore the last backup",
        )
    })?;
    let journal = beside(&path, "-wal").metadata().is_ok_and(|meta| meta.len() > 0);
    let cut = || {
        fault(
            "the file was cut off: it is shorter than it says".to_owned(),
            "restore the last backup; nothing was written to it",
        )
    };
    // What a dead daemon left in its journal may make the file whole again.
    if size == Size::Wrong && !journal {
        return Err(cut());
    }
    let base = url.split('?').next().unwrap_or(url);
    let read_only = match journal {
        true => format!("{base}?mode=ro"),
        false => format!("{base}?mode=ro&immutable=true"),
    };
    let damaged = |error: sqlx::Error| {
        fault(
            format!("it cannot be read as a SQLite database: {error}"),
            "restore the last backup; nothing was written to it",
        )
    };
    let mut conn = AnyConnection::connect(&read_only).await.map_err(damaged)?;
    if size == Size::Wrong {
        let whole: String = sqlx::query_scalar("PRAGMA quick_check(1)")
            .fetch_one(&mut conn)
            .await
            .map_err(damaged)?;
        if whole != "ok" {
            return Err(cut());
        }
    }
    let tables: Vec<String> = sqlx::query_scalar(TABLES_SQLITE)
        .fetch_all(&mut conn)
        .await
        .map_err(damaged)?;
    let judged = judge(&mut conn, url, &tables, newest).await;
    conn.close().await.map_err(damaged)?;
    judged
}

/// The same for the schema that a PostgreSQL connection works in.
///
/// # Errors
/// As [`look_at_file`].
pub(super) async fn look_at_schema(
    conn: &mut AnyConnection,
    url: &str,
    newest: i64,
) -> Result<(), StoreFault> {
    let tables: Vec<String> = sqlx::query_scalar(TABLES_POSTGRES).fetch_all(&mut *conn).await?;
    judge(conn, url, &tables, newest).await
}

const TABLES_SQLITE: &str = "SELECT CAST(name AS TEXT) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name";
const TABLES_POSTGRES: &str = "SELECT CAST(table_name AS TEXT) FROM information_schema.tables
     WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' ORDER BY table_name";

async fn judge(
    conn: &mut AnyConnection,
    url: &str,
    tables: &[String],
    newest: i64,
) -> Result<(), StoreFault> {
    if tables.is_empty() {
        return Ok(());
    }
    let foreign = || StoreFault::Open {
        url: without_password(url),
        problem: format!("it belongs to another program (it has a table {:?})", tables[0]),
        cure: "give Cardline a database of its own in store.url; nothing was written to this one",
    };
    let has = |name: &str| tables.iter().any(|table| table == name);
    if !has("_sqlx_migrations") {
        return Err(foreign());
    }
    let found: Option<i64> = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
        .fetch_one(conn)
        .await
        .map_err(|_| foreign())?;
    match found {
        Some(found) if !OURS.iter().all(|name| has(name)) && found <= newest => Err(foreign()),
        Some(found) if found > newest && has("card") && has("ledger") => Err(StoreFault::Newer {
            url: without_password(url),
            found,
            known: newest,
        }),
        Some(found) if found > newest => Err(foreign()),
        // A first start that was interrupted.
        None if tables.len() > 1 => Err(foreign()),
        Some(_) | None => Ok(()),
    }
}

/// Reads the header, if it is one.
fn measure(path: &Path) -> Result<Size, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    if length == 0 {
        return Err("the file is empty: it was cut off".to_owned());
    }
    let mut header = [0; HEADER];
    let whole = file.read_exact(&mut header).is_ok();
    if !whole || !header.starts_with(MAGIC) {
        return Err("the file is no SQLite database".to_owned());
    }
    let field = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u64::from(u32::from_be_bytes(bytes.unwrap_or_default()))
    };
    let page = match u64::from(u16::from_be_bytes([header[16], header[17]])) {
        1 => 65_536,
        size => size,
    };
    if page < 512 {
        return Err("the file's header is damaged".to_owned());
    }
    // Programs older than 3.7.0 do not keep the count of pages (section 1.3.8).
    let counted = field(24) == field(92);
    let short = counted && length < page.saturating_mul(field(28));
    Ok(match short || !length.is_multiple_of(page) {
        true => Size::Wrong,
        false => Size::Right,
    })
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
