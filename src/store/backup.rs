//! `cardline backup`: a copy of a SQLite database that may be served meanwhile, checked before it is
//! called one.

use std::path::Path;

use sqlx::Connection as _;

use super::schema::{connect_to_read, inspect};
use super::{Dialect, Store, StoreFault, connect_url, without_password};

/// Writes a copy as of one moment to `file`, which must not exist, and opens it.
///
/// # Errors
/// The database cannot be read; it is a PostgreSQL one; `file` exists or cannot be written.
pub async fn backup(url: &str, file: &Path) -> Result<Store, StoreFault> {
    let refused = |problem: String, cure| StoreFault::Open {
        url: without_password(url),
        problem,
        cure,
    };
    let (dialect, _) = connect_url(url)?;
    if dialect == Dialect::Postgres {
        return Err(refused(
            "Cardline does not back up PostgreSQL".to_owned(),
            "use pg_dump, or base backups with WAL archiving for a point in time",
        ));
    }
    if file.exists() {
        return Err(refused(
            format!("{} exists", file.display()),
            "name a file that does not exist yet",
        ));
    }
    let schema = inspect(url).await?;
    if schema.found == 0 {
        return Err(refused(
            "there is nothing to back up".to_owned(),
            "check store.url",
        ));
    }
    let mut conn = connect_to_read(url, dialect).await?;
    sqlx::query("VACUUM INTO $1")
        .bind(file.display().to_string())
        .execute(&mut conn)
        .await?;
    conn.close().await.ok();
    let copy = format!("sqlite://{}", file.display());
    super::files::keep_private(&copy);
    Store::without_key(&copy).await
}
