//! From one database to another, SQLite to PostgreSQL or back: `migrate copy`.
//!
//! The tables, their columns and their order come from the schema's own catalogue, so that a table of
//! a later migration cannot be forgotten. The source is read in one snapshot and never written; the
//! destination takes everything in one `db_tx`, which commits after its books were checked.

use std::collections::BTreeMap;

use sqlx::any::AnyArguments;
use sqlx::query::{Query, QueryScalar};
use sqlx::{Any, AnyConnection, AssertSqlSafe, Connection as _, Row as _};

use super::{CheckReport, Dialect, Hold, StoreFault, check, connect_url, origin, prepare, without_password};
use crate::now::UnixTime;

/// Rows that are in memory at a time; times the columns, below what a statement may bind.
const PAGE: i64 = 500;
/// Tables that a migration puts rows into; those make way.
const SEEDED: [&str; 2] = ["meta", "operator"];

/// What was copied.
#[derive(Clone, Debug)]
pub struct Copied {
    /// Rows by table, in the order in which they were written.
    pub tables: Vec<(String, i64)>,
    /// Of the destination, before its commit.
    pub report: CheckReport,
}

/// A table as both databases describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Table {
    name: String,
    columns: Vec<(String, Kind)>,
    /// Places of the key's columns, in the key's order.
    key: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Int,
    Text,
    Bytes,
}

enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

/// `progress` hears a table's name, the rows that are done and those that there are.
///
/// # Errors
/// A source that is served by a daemon or is not at this program's schema, a destination that is not
/// empty, or the databases' own; then nothing was changed.
pub async fn copy(
    from: &str,
    to: &str,
    now: UnixTime,
    progress: &mut (dyn FnMut(&str, i64, i64) + Send),
) -> Result<Copied, StoreFault> {
    sqlx::any::install_default_drivers();
    if from == to {
        return Err(refusal(to, "it is the source as well".to_owned(), "name another database with --to"));
    }
    let _hold = Hold::take(from)?;
    let _other = Hold::take(to)?;
    let (from_kind, mut source) = open_source(from).await?;
    let (to_kind, mut target) = open_target(to).await?;
    let mut reading = source.begin_with(from_kind.snapshot()).await?;
    let mut writing = target.begin_with(to_kind.begin()).await?;
    if to_kind == Dialect::Postgres {
        sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *writing).await?;
    }
    let tables = tables(&mut reading, from_kind).await?;
    let theirs = self::tables(&mut writing, to_kind).await?;
    if let Some(odd) = tables.iter().find(|table| !theirs.contains(table)) {
        return Err(StoreFault::damaged(format!("table {} is not the same in both databases", odd.name)));
    }
    must_be_empty(&mut writing, to, &theirs).await?;
    let order = in_order(&mut reading, from_kind, tables).await?;
    let mut copied = Vec::with_capacity(order.len());
    for table in &order {
        let rows = copy_table(&mut reading, &mut writing, table, progress).await?;
        copied.push((table.name.clone(), rows));
    }
    if to_kind == Dialect::Postgres {
        renumber(&mut writing, &order).await?;
    }
    let report = verify(&mut reading, from_kind, &mut writing, to_kind, &copied, now).await?;
    reading.rollback().await?;
    writing.commit().await?;
    source.close().await?;
    target.close().await?;
    Ok(Copied {
        tables: copied,
        report,
    })
}

/// Versions of the schema that a database has and that this program knows.
///
/// # Errors
/// The database is not there, or not ours.
pub async fn schema_versions(url: &str) -> Result<(Vec<i64>, Vec<i64>), StoreFault> {
    sqlx::any::install_default_drivers();
    let (dialect, mut conn) = connect_to_read(url).await?;
    let known: Vec<i64> = dialect.migrator().iter().map(|step| step.version).collect();
    let names: Vec<String> = sqlx::query_scalar(origin::tables_of(dialect)).fetch_all(&mut conn).await?;
    let found: Vec<i64> = match names.iter().any(|name| name == "_sqlx_migrations") {
        true => {
            sqlx::query_scalar("SELECT version FROM _sqlx_migrations ORDER BY version")
                .fetch_all(&mut conn)
                .await?
        }
        false => Vec::new(),
    };
    conn.close().await?;
    Ok((found, known))
}

fn refusal(url: &str, problem: String, cure: &'static str) -> StoreFault {
    StoreFault::Open {
        url: without_password(url),
        problem,
        cure,
    }
}

async fn connect_to_read(url: &str) -> Result<(Dialect, AnyConnection), StoreFault> {
    let (dialect, full) = connect_url(url)?;
    let newest = dialect.migrator().iter().map(|step| step.version).max().unwrap_or(0);
    let full = match dialect {
        Dialect::Sqlite => {
            origin::look_at_file(url, newest).await?;
            format!("{}?mode=ro", url.split('?').next().unwrap_or(url))
        }
        Dialect::Postgres => full,
    };
    let mut conn = AnyConnection::connect(&full)
        .await
        .map_err(|error| super::open_fault(url, &error))?;
    if dialect == Dialect::Postgres {
        origin::look_at_schema(&mut conn, url, newest).await?;
    }
    Ok((dialect, conn))
}

async fn open_source(url: &str) -> Result<(Dialect, AnyConnection), StoreFault> {
    let (found, known) = schema_versions(url).await?;
    if found != known {
        return Err(refusal(
            url,
            format!("its schema is {:?}, this program's is {:?}", found.last(), known.last()),
            "bring it up with: cardline migrate up",
        ));
    }
    let (dialect, mut conn) = connect_to_read(url).await?;
    if dialect == Dialect::Postgres {
        nobody_serves(&mut conn, url).await?;
    }
    Ok((dialect, conn))
}

/// Refuses while a node's lease lives.
async fn nobody_serves(conn: &mut AnyConnection, url: &str) -> Result<(), StoreFault> {
    let leases: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.columns
         WHERE table_schema = current_schema() AND table_name = 'node' AND column_name = 'expires_at'",
    )
    .fetch_one(&mut *conn)
    .await?;
    if leases == 0 {
        return Ok(());
    }
    let living: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM node WHERE expires_at > CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
    )
    .fetch_all(conn)
    .await?;
    match living.is_empty() {
        true => Ok(()),
        false => Err(refusal(
            url,
            format!("node {} serves it", living.join(", ")),
            "stop every cardline on it first",
        )),
    }
}

/// With its schema brought up.
async fn open_target(url: &str) -> Result<(Dialect, AnyConnection), StoreFault> {
    super::bring_up(url).await?;
    let (dialect, full) = connect_url(url)?;
    let mut conn = AnyConnection::connect(&full)
        .await
        .map_err(|error| super::open_fault(url, &error))?;
    prepare(&mut conn, dialect, true).await?;
    Ok((dialect, conn))
}

async fn tables(conn: &mut AnyConnection, dialect: Dialect) -> Result<Vec<Table>, StoreFault> {
    let names: Vec<String> = sqlx::query_scalar(origin::tables_of(dialect)).fetch_all(&mut *conn).await?;
    let mut tables = Vec::with_capacity(names.len());
    for name in names.into_iter().filter(|name| name != "_sqlx_migrations") {
        // Name, type, place in the key (0: not of the key).
        let sql = match dialect {
            Dialect::Sqlite => {
                "SELECT CAST(name AS TEXT), CAST(type AS TEXT), CAST(pk AS BIGINT) FROM pragma_table_info($1) ORDER BY name"
            }
            Dialect::Postgres => {
                "SELECT CAST(c.column_name AS TEXT), CAST(c.data_type AS TEXT),
                    CAST(COALESCE((SELECT k.ordinal_position FROM information_schema.table_constraints t
                        JOIN information_schema.key_column_usage k ON k.constraint_name = t.constraint_name
                            AND k.table_schema = t.table_schema AND k.table_name = t.table_name
                        WHERE t.constraint_type = 'PRIMARY KEY' AND t.table_schema = c.table_schema
                            AND t.table_name = c.table_name AND k.column_name = c.column_name), 0) AS BIGINT)
                 FROM information_schema.columns c
                 WHERE c.table_schema = current_schema() AND c.table_name = $1
                 ORDER BY c.column_name COLLATE \"C\""
            }
        };
        let rows: Vec<(String, String, i64)> = sqlx::query_as(sql).bind(&name).fetch_all(&mut *conn).await?;
        let mut key: Vec<(i64, usize)> = Vec::new();
        let mut columns = Vec::with_capacity(rows.len());
        for (place, (column, word, in_key)) in rows.into_iter().enumerate() {
            if in_key > 0 {
                key.push((in_key, place));
            }
            columns.push((column, kind(&name, &word)?));
        }
        if key.is_empty() {
            return Err(StoreFault::damaged(format!("table {name} has no primary key")));
        }
        key.sort_unstable();
        tables.push(Table {
            name,
            columns,
            key: key.into_iter().map(|(_, place)| place).collect(),
        });
    }
    Ok(tables)
}

fn kind(table: &str, word: &str) -> Result<Kind, StoreFault> {
    match word.to_ascii_lowercase().as_str() {
        "integer" | "bigint" => Ok(Kind::Int),
        "text" => Ok(Kind::Text),
        "blob" | "bytea" => Ok(Kind::Bytes),
        other => Err(StoreFault::damaged(format!("table {table} has a column of type {other}"))),
    }
}

async fn count(conn: &mut AnyConnection, table: &str) -> Result<i64, StoreFault> {
    let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM \"{table}\""));
    Ok(sqlx::query_scalar(sql).fetch_one(conn).await?)
}

async fn must_be_empty(conn: &mut AnyConnection, url: &str, tables: &[Table]) -> Result<(), StoreFault> {
    for table in tables {
        if SEEDED.contains(&table.name.as_str()) {
            let sql = AssertSqlSafe(format!("DELETE FROM \"{}\"", table.name));
            match sqlx::query(sql).execute(&mut *conn).await {
                Ok(_) => continue,
                Err(error) => tracing::debug!(%error, table = table.name, "rows that others need"),
            }
        } else if count(conn, &table.name).await? == 0 {
            continue;
        }
        return Err(refusal(
            url,
            format!("it is not empty (table {} has rows)", table.name),
            "name an empty database with --to; nothing was written to this one",
        ));
    }
    Ok(())
}

/// Each table after those that its rows refer to.
async fn in_order(conn: &mut AnyConnection, dialect: Dialect, tables: Vec<Table>) -> Result<Vec<Table>, StoreFault> {
    let sql = match dialect {
        Dialect::Sqlite => {
            "SELECT DISTINCT CAST(m.name AS TEXT), CAST(f.\"table\" AS TEXT)
             FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table'"
        }
        Dialect::Postgres => {
            "SELECT DISTINCT CAST(c.conrelid::regclass AS TEXT), CAST(c.confrelid::regclass AS TEXT)
             FROM pg_constraint c WHERE c.contype = 'f' AND c.connamespace = current_schema()::regnamespace"
        }
    };
    let mut needs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (table, other) in sqlx::query_as::<_, (String, String)>(sql).fetch_all(conn).await? {
        if table != other {
            needs.entry(table).or_default().push(other);
        }
    }
    let mut left = tables;
    let mut order: Vec<Table> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let ready = left.iter().position(|table| {
            let mut others = needs.get(&table.name).into_iter().flatten();
            others.all(|other| order.iter().any(|done| done.name == *other))
        });
        let Some(place) = ready else {
            return Err(StoreFault::damaged("tables that refer to each other in a circle"));
        };
        order.push(left.remove(place));
    }
    Ok(order)
}

/// Page by page in the order of the key; gives how many rows.
async fn copy_table(
    reading: &mut AnyConnection,
    writing: &mut AnyConnection,
    table: &Table,
    progress: &mut (dyn FnMut(&str, i64, i64) + Send),
) -> Result<i64, StoreFault> {
    let total = count(reading, &table.name).await?;
    let mut done = 0;
    let mut after: Option<Vec<Value>> = None;
    progress(&table.name, 0, total);
    loop {
        let sql = table.page_sql(after.is_some());
        let mut asked = sqlx::query(AssertSqlSafe(sql));
        for value in after.into_iter().flatten() {
            asked = bind(asked, value);
        }
        let rows = asked.fetch_all(&mut *reading).await?;
        let Some(last) = rows.last() else { break };
        after = Some(table.key.iter().map(|place| table.value(last, *place)).collect::<Result<_, _>>()?);
        let mut insert = sqlx::query(AssertSqlSafe(table.insert_sql(rows.len())));
        for row in &rows {
            for place in 0..table.columns.len() {
                insert = bind(insert, table.value(row, place)?);
            }
        }
        insert.execute(&mut *writing).await?;
        done += i64::try_from(rows.len()).unwrap_or(PAGE);
        progress(&table.name, done, total);
        if i64::try_from(rows.len()).unwrap_or(PAGE) < PAGE {
            break;
        }
    }
    Ok(done)
}

impl Table {
    fn page_sql(&self, goes_on: bool) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|(name, kind)| match kind {
                Kind::Int => format!("CAST(\"{name}\" AS BIGINT)"),
                Kind::Text => format!("CAST(\"{name}\" AS TEXT)"),
                Kind::Bytes => format!("\"{name}\""),
            })
            .collect();
        let key: Vec<String> = self
            .key
            .iter()
            .filter_map(|place| self.columns.get(*place))
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        let (columns, key) = (columns.join(", "), key.join(", "));
        let places: Vec<String> = (1..=self.key.len()).map(|n| format!("${n}")).collect();
        let from = match goes_on {
            true => format!("WHERE ({key}) > ({})", places.join(", ")),
            false => String::new(),
        };
        format!("SELECT {columns} FROM \"{}\" {from} ORDER BY {key} LIMIT {PAGE}", self.name)
    }

    fn insert_sql(&self, rows: usize) -> String {
        let names: Vec<String> = self.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let width = self.columns.len();
        let row = |n: usize| {
            let places: Vec<String> = (1..=width).map(|place| format!("${}", n * width + place)).collect();
            format!("({})", places.join(", "))
        };
        let rows: Vec<String> = (0..rows).map(row).collect();
        format!("INSERT INTO \"{}\" ({}) VALUES {}", self.name, names.join(", "), rows.join(", "))
    }

    fn value(&self, row: &sqlx::any::AnyRow, place: usize) -> Result<Value, StoreFault> {
        let kind = self.columns.get(place).map_or(Kind::Text, |(_, kind)| *kind);
        Ok(match kind {
            Kind::Int => Value::Int(row.try_get(place)?),
            Kind::Text => Value::Text(row.try_get(place)?),
            Kind::Bytes => Value::Bytes(row.try_get(place)?),
        })
    }
}

fn bind<'q>(query: Query<'q, Any, AnyArguments>, value: Value) -> Query<'q, Any, AnyArguments> {
    match value {
        Value::Int(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Bytes(value) => query.bind(value),
    }
}

/// The next row of each table gets a number of its own.
async fn renumber(conn: &mut AnyConnection, tables: &[Table]) -> Result<(), StoreFault> {
    for table in tables {
        let numbered: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = current_schema()
             AND table_name = $1 AND column_name = 'id' AND is_identity = 'YES'",
        )
        .bind(&table.name)
        .fetch_one(&mut *conn)
        .await?;
        if numbered == 1 {
            let name = &table.name;
            let sql = format!(
                "SELECT setval(pg_get_serial_sequence('\"{name}\"', 'id'), GREATEST(MAX(id), 1), MAX(id) IS NOT NULL)
                 FROM \"{name}\""
            );
            sqlx::query(AssertSqlSafe(sql)).execute(&mut *conn).await?;
        }
    }
    Ok(())
}

/// Counts, sums, chains and every other rule: the copy's books are as the source's.
async fn verify(
    reading: &mut AnyConnection,
    from_kind: Dialect,
    writing: &mut AnyConnection,
    to_kind: Dialect,
    copied: &[(String, i64)],
    now: UnixTime,
) -> Result<CheckReport, StoreFault> {
    for (table, rows) in copied {
        let there = count(writing, table).await?;
        if there != *rows {
            return Err(StoreFault::damaged(format!("{table}: {rows} rows were read, {there} arrived")));
        }
    }
    for sql in SUMS {
        let sum = |sql| -> QueryScalar<'static, Any, i64, AnyArguments> { sqlx::query_scalar(sql) };
        let (here, there) = (sum(sql).fetch_one(&mut *reading).await?, sum(sql).fetch_one(&mut *writing).await?);
        if here != there {
            return Err(StoreFault::damaged(format!("{sql}: {here} at the source, {there} at the copy")));
        }
    }
    let report = check::examine(writing, to_kind, now).await?.0;
    if !report.clean {
        // What was broken before is copied as it is, and told; the copy itself breaks nothing.
        let before = check::examine(reading, from_kind, now).await?.0;
        let known = |what: &String| before.offenders.iter().any(|offender| offender.what == *what);
        if let Some(fresh) = report.offenders.iter().find(|offender| !known(&offender.what)) {
            return Err(StoreFault::damaged(format!("the copy is not as the source: {} {}", fresh.rule, fresh.what)));
        }
    }
    Ok(report)
}

const SUMS: [&str; 2] = [
    "SELECT CAST(COALESCE(SUM(balance_ms), 0) AS BIGINT) FROM card",
    "SELECT CAST(COALESCE(SUM(delta_ms), 0) AS BIGINT) FROM ledger",
];
