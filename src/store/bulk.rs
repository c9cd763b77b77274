//! Many rows in one statement: a batch of cards must not hold the writers' gate for seconds.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, FromRow};

use super::StoreFault;

/// A value of a row.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    Int(i64),
    Text(String),
    NoInt,
    NoText,
}

/// Rows of one statement: both databases take some ten thousand values.
const CHUNK: usize = 500;

/// `head` is the statement up to VALUES, `tail` its RETURNING. Gives what is returned, in no order.
pub(super) async fn insert<T>(
    conn: &mut AnyConnection,
    head: &str,
    tail: &str,
    rows: &[Vec<Cell>],
) -> Result<Vec<T>, StoreFault>
where
    T: for<'r> FromRow<'r, AnyRow> + Send + Unpin,
{
    let mut returned = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(CHUNK) {
        let mut next = 0;
        let groups: Vec<String> = chunk.iter().map(|row| group(row.len(), &mut next)).collect();
        let sql = format!("{head} VALUES {} {tail}", groups.join(", "));
        let mut query = sqlx::query_as(AssertSqlSafe(sql));
        for cell in chunk.iter().flatten() {
            query = match cell {
                Cell::Int(value) => query.bind(*value),
                Cell::Text(value) => query.bind(value.clone()),
                Cell::NoInt => query.bind(None::<i64>),
                Cell::NoText => query.bind(None::<String>),
            };
        }
        returned.extend(query.fetch_all(&mut *conn).await?);
    }
    Ok(returned)
}

/// `($4, $5, $6)`
fn group(width: usize, next: &mut usize) -> String {
    let places: Vec<String> = (0..width)
        .map(|_| {
            *next += 1;
            format!("${next}")
        })
        .collect();
    format!("({})", places.join(", "))
}
