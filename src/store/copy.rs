//! `cardline migrate copy`: everything from one database into an empty one of either kind, in one
//! transaction, from one view of the source.
//!
//! The tables, their columns and their order come from the catalogue, so that a new table is copied
//! without a line here. The destination is whole or empty, never in between.
//!
//! Deliberately absent: merging into a database that is in use.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, Connection as _, Executor as _, Row as _};

use super::schema::{Schema, composed, connect_to_read, inspect, quoted};
use super::{Dialect, Hold, Store, StoreFault, connect_url, without_password};

/// Rows copied so far, of all rows; called now and then.
pub type CopyProgress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

/// What was copied.
#[derive(Clone, Debug)]
pub struct Copied {
    /// Rows by table, in the order in which they were written.
    pub tables: Vec<(String, u64)>,
    /// The destination, open: its books want checking.
    pub store: Store,
}

/// Copies every row. No daemon may serve either database meanwhile.
///
/// # Errors
/// One of the two cannot be opened or is being served; their schemas differ; the destination holds
/// something already; a row that does not fit. Nothing was written then.
pub async fn copy(from: &str, to: &str, progress: CopyProgress<'_>) -> Result<Copied, StoreFault> {
    if from == to {
        return Err(refused(to, "source and destination are the same database"));
    }
    let _held = (Hold::take(from)?, Hold::take(to)?);
    let source = inspect(from).await?;
    whole_schema(from, &source)?;
    // The key is not needed: what was sealed and hashed with it is copied as it is.
    let store = Store::without_key(to).await?;
    let (dialect, _) = connect_url(from)?;
    let mut reader = connect_to_read(from, dialect).await?;
    reader.execute(dialect.snapshot()).await?;
    nobody_serves(&mut reader, dialect, from).await?;
    let mut writer = store.begin().await?;
    nobody_serves(writer.conn(), store.inner.dialect, to).await?;
    if store.inner.dialect == Dialect::Postgres {
        writer.conn().execute("SET LOCAL statement_timeout = 0").await?;
    }
    let tables = empty_tables(writer.conn(), store.inner.dialect, to).await?;
    let mut job = Job {
        rows: 0,
        all: count_all(&mut reader, &tables).await?,
        progress,
    };
    let mut copied = Vec::with_capacity(tables.len());
    for table in &tables {
        let rows = job.table(&mut reader, dialect, writer.conn(), table).await?;
        copied.push((table.name.clone(), rows));
    }
    if store.inner.dialect == Dialect::Postgres {
        go_on_counting(writer.conn(), &tables).await?;
    }
    writer.commit().await?;
    reader.close().await.ok();
    Ok(Copied {
        tables: copied,
        store,
    })
}

/// A table as the destination knows it.
#[derive(Debug)]
struct Table {
    name: String,
    columns: Vec<Column>,
    /// Columns of the primary key, in its order.
    key: Vec<String>,
}

#[derive(Clone, Debug)]
struct Column {
    name: String,
    is_integer: bool,
}

struct Job<'a> {
    rows: u64,
    all: u64,
    progress: CopyProgress<'a>,
}

impl Job<'_> {
    /// Copies one table in the order of its primary key, some rows at a time.
    async fn table(
        &mut self,
        reader: &mut AnyConnection,
        dialect: Dialect,
        writer: &mut AnyConnection,
        table: &Table,
    ) -> Result<u64, StoreFault> {
        let theirs = columns(reader, dialect, &table.name).await?;
        let ours: BTreeSet<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
        if theirs.iter().map(|c| c.name.as_str()).collect::<BTreeSet<_>>() != ours {
            return Err(StoreFault::damaged(format!(
                "the columns of {} differ in the two databases",
                table.name
            )));
        }
        let mut copied = 0;
        let mut last: Option<AnyRow> = None;
        loop {
            let text = select_after(table, last.is_some());
            let mut query = sqlx::query(composed(text));
            if let Some(row) = &last {
                for key in &table.key {
                    query = bind(query, row, table.column(key)?)?;
                }
            }
            let rows = query.fetch_all(&mut *reader).await?;
            if rows.is_empty() {
                return Ok(copied);
            }
            insert(writer, table, &rows).await?;
            let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
            copied += count;
            self.rows += count;
            (self.progress)(self.rows, self.all);
            last = rows.into_iter().next_back();
        }
    }
}

impl Table {
    fn column(&self, name: &str) -> Result<&Column, StoreFault> {
        let found = self.columns.iter().find(|column| column.name == name);
        found.ok_or_else(|| StoreFault::damaged(format!("{} has no column {name}", self.name)))
    }

    fn column_list(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|c| quoted(&c.name)).collect();
        names.join(", ")
    }
}

/// The next rows of a table, behind the key of the last one.
fn select_after(table: &Table, goes_on: bool) -> String {
    let key: Vec<String> = table.key.iter().map(|name| quoted(name)).collect();
    let behind = if goes_on {
        let marks: Vec<String> = (1..=key.len()).map(|n| format!("${n}")).collect();
        format!("WHERE ({}) > ({})", key.join(", "), marks.join(", "))
    } else {
        String::new()
    };
    format!(
        "SELECT {} FROM {} {behind} ORDER BY {} LIMIT {ROWS_AT_ONCE}",
        table.column_list(),
        quoted(&table.name),
        key.join(", ")
    )
}

async fn insert(writer: &mut AnyConnection, table: &Table, rows: &[AnyRow]) -> Result<(), StoreFault> {
    let width = table.columns.len();
    let marks = |row: usize| {
        let marks: Vec<String> = (1..=width).map(|n| format!("${}", row * width + n)).collect();
        format!("({})", marks.join(", "))
    };
    let values: Vec<String> = (0..rows.len()).map(marks).collect();
    let text = format!(
        "INSERT INTO {} ({}) VALUES {}",
        quoted(&table.name),
        table.column_list(),
        values.join(", ")
    );
    let mut query = sqlx::query(composed(text));
    for row in rows {
        for column in &table.columns {
            query = bind(query, row, column)?;
        }
    }
    query.execute(writer).await?;
    Ok(())
}

fn bind<'q>(
    query: Query<'q, Any, AnyArguments>,
    row: &AnyRow,
    column: &Column,
) -> Result<Query<'q, Any, AnyArguments>, StoreFault> {
    let name = column.name.as_str();
    Ok(if column.is_integer {
        query.bind(row.try_get::<Option<i64>, _>(name)?)
    } else {
        query.bind(row.try_get::<Option<String>, _>(name)?)
    })
}

/// The destination's tables, those that others refer to first, with the rows of a fresh schema taken
/// out.
async fn empty_tables(
    conn: &mut AnyConnection,
    dialect: Dialect,
    url: &str,
) -> Result<Vec<Table>, StoreFault> {
    let names: Vec<String> = sqlx::query_scalar(dialect.tables()).fetch_all(&mut *conn).await?;
    let names: Vec<String> = names
        .into_iter()
        .filter(|name| name != "_sqlx_migrations")
        .collect();
    let refers = references(conn, dialect, &names).await?;
    let mut tables = Vec::with_capacity(names.len());
    for name in in_order(names, &refers)? {
        tables.push(Table {
            columns: columns(conn, dialect, &name).await?,
            key: primary_key(conn, dialect, &name).await?,
            name,
        });
    }
    for table in tables.iter().rev() {
        let rows = count(conn, &table.name).await?;
        if rows > 0 && !FRESH.contains(&table.name.as_str()) {
            return Err(refused(
                url,
                "it holds cards or calls already; copy into an empty database",
            ));
        }
        if rows > 0 {
            let text = format!("DELETE FROM {}", quoted(&table.name));
            sqlx::query(composed(text)).execute(&mut *conn).await?;
        }
    }
    Ok(tables)
}

/// Sorts so that a table comes behind those it refers to.
fn in_order(
    mut names: Vec<String>,
    refers: &BTreeMap<String, BTreeSet<String>>,
) -> Result<Vec<String>, StoreFault> {
    let mut sorted: Vec<String> = Vec::with_capacity(names.len());
    while !names.is_empty() {
        let (ready, waiting): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| {
            let needs = refers.get(name).into_iter().flatten();
            needs
                .into_iter()
                .all(|other| other == name || sorted.contains(other))
        });
        if ready.is_empty() {
            return Err(StoreFault::damaged(format!(
                "tables refer to each other in a ring: {waiting:?}"
            )));
        }
        sorted.extend(ready);
        names = waiting;
    }
    Ok(sorted)
}

/// Which tables each table refers to.
async fn references(
    conn: &mut AnyConnection,
    dialect: Dialect,
    names: &[String],
) -> Result<BTreeMap<String, BTreeSet<String>>, StoreFault> {
    let mut refers = BTreeMap::new();
    for name in names {
        let text = match dialect {
            Dialect::Sqlite => "SELECT DISTINCT \"table\" FROM pragma_foreign_key_list($1)",
            Dialect::Postgres => {
                "SELECT DISTINCT CAST(f.relname AS TEXT) FROM pg_constraint c
                 JOIN pg_class t ON t.oid = c.conrelid JOIN pg_class f ON f.oid = c.confrelid
                 WHERE c.contype = 'f' AND t.relname = $1 AND t.relnamespace = current_schema()::regnamespace"
            }
        };
        let others: Vec<String> = sqlx::query_scalar(text).bind(name).fetch_all(&mut *conn).await?;
        refers.insert(name.clone(), others.into_iter().collect());
    }
    Ok(refers)
}

async fn columns(conn: &mut AnyConnection, dialect: Dialect, table: &str) -> Result<Vec<Column>, StoreFault> {
    let text = match dialect {
        Dialect::Sqlite => "SELECT name, LOWER(type) FROM pragma_table_info($1) ORDER BY cid",
        Dialect::Postgres => {
            "SELECT CAST(column_name AS TEXT), CAST(data_type AS TEXT) FROM information_schema.columns
             WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position"
        }
    };
    let rows: Vec<(String, String)> = sqlx::query_as(text).bind(table).fetch_all(conn).await?;
    let column = |(name, kind): (String, String)| match kind.as_str() {
        "integer" | "bigint" => Ok(Column {
            name,
            is_integer: true,
        }),
        "text" => Ok(Column {
            name,
            is_integer: false,
        }),
        other => Err(StoreFault::damaged(format!("{table}.{name} is of type {other}"))),
    };
    rows.into_iter().map(column).collect()
}

async fn primary_key(
    conn: &mut AnyConnection,
    dialect: Dialect,
    table: &str,
) -> Result<Vec<String>, StoreFault> {
    let text = match dialect {
        Dialect::Sqlite => "SELECT name FROM pragma_table_info($1) WHERE pk > 0 ORDER BY pk",
        Dialect::Postgres => {
            "SELECT CAST(k.column_name AS TEXT) FROM information_schema.table_constraints c
             JOIN information_schema.key_column_usage k USING (constraint_schema, constraint_name)
             WHERE c.table_schema = current_schema() AND c.table_name = $1
             AND c.constraint_type = 'PRIMARY KEY' ORDER BY k.ordinal_position"
        }
    };
    let key: Vec<String> = sqlx::query_scalar(text).bind(table).fetch_all(conn).await?;
    if key.is_empty() {
        return Err(StoreFault::damaged(format!("{table} has no primary key")));
    }
    Ok(key)
}

/// No node has a lease that lives. A SQLite file is held instead.
async fn nobody_serves(conn: &mut AnyConnection, dialect: Dialect, url: &str) -> Result<(), StoreFault> {
    if dialect == Dialect::Sqlite {
        return Ok(());
    }
    let text = format!(
        "SELECT name FROM node WHERE expires_at > {} ORDER BY name",
        dialect.clock()
    );
    let nodes: Vec<String> = sqlx::query_scalar(composed(text)).fetch_all(conn).await?;
    match nodes.is_empty() {
        true => Ok(()),
        false => Err(refused(
            url,
            &format!("it is being served by {}; stop that first", nodes.join(", ")),
        )),
    }
}

/// New rows get numbers behind the copied ones.
async fn go_on_counting(conn: &mut AnyConnection, tables: &[Table]) -> Result<(), StoreFault> {
    for table in tables {
        if !table.key.iter().eq(["id"]) || !table.column("id")?.is_integer {
            continue;
        }
        let name = quoted(&table.name);
        let text = format!(
            "SELECT setval(pg_get_serial_sequence($1, 'id'), (SELECT COALESCE(MAX(id), 0) + 1 FROM {name}), false)"
        );
        sqlx::query(composed(text))
            .bind(&name)
            .fetch_one(&mut *conn)
            .await?;
    }
    Ok(())
}

async fn count(conn: &mut AnyConnection, table: &str) -> Result<u64, StoreFault> {
    let text = format!("SELECT COUNT(*) FROM {}", quoted(table));
    let rows: i64 = sqlx::query_scalar(composed(text)).fetch_one(conn).await?;
    Ok(u64::try_from(rows).unwrap_or(0))
}

async fn count_all(conn: &mut AnyConnection, tables: &[Table]) -> Result<u64, StoreFault> {
    let mut all = 0;
    for table in tables {
        all += count(conn, &table.name).await?;
    }
    Ok(all)
}

fn whole_schema(url: &str, schema: &Schema) -> Result<(), StoreFault> {
    if schema.found == 0 {
        return Err(refused(url, "there is nothing to copy: the database is empty"));
    }
    if !schema.pending.is_empty() {
        return Err(refused(
            url,
            "its schema is older than this program's; run `cardline migrate up` on it first",
        ));
    }
    Ok(())
}

fn refused(url: &str, problem: &str) -> StoreFault {
    StoreFault::Open {
        url: without_password(url),
        problem: problem.to_owned(),
        cure: "nothing was written",
    }
}

/// Tables that a fresh schema fills by itself.
const FRESH: &[&str] = &["meta", "operator"];
/// Few enough for the most columns and SQLite's 32 766 values of one statement.
const ROWS_AT_ONCE: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_come_behind_those_they_refer_to() {
        let refers: BTreeMap<String, BTreeSet<String>> =
            [("a", vec!["b", "c"]), ("b", vec!["c", "b"]), ("c", vec![])]
                .into_iter()
                .map(|(name, others)| (name.to_owned(), others.into_iter().map(str::to_owned).collect()))
                .collect();
        let names = || ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(in_order(names(), &refers).unwrap(), ["c", "b", "a"]);
        let ring = [
            ("a".to_owned(), BTreeSet::from(["b".to_owned()])),
            ("b".to_owned(), BTreeSet::from(["a".to_owned()])),
        ];
        assert!(in_order(names(), &ring.into()).is_err());
    }
}
