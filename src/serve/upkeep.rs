//! `cardline migrate` and `cardline backup`: what is done to a database without a daemon.

use std::path::Path;

use serde_json::{Value, json};

use super::{StartFault, open_store};
use crate::config::Config;
use crate::driver::clock::Clock;
use crate::store::{self, CheckReport, CopyProgress, Hold, Schema, Store};

/// How an upkeep verb ended, for people and for programs.
#[derive(Clone, Debug)]
pub struct Upkeep {
    pub passed: bool,
    pub text: String,
    pub document: Value,
}

/// Which version the schema has; writes nothing.
///
/// # Errors
/// The database cannot be used, in words.
pub async fn migrate_status(config: &Config) -> Result<Upkeep, StartFault> {
    Ok(told(&store::inspect(&config.store.url).await?))
}

/// Brings the schema up.
///
/// # Errors
/// The database cannot be used, or a daemon serves it.
pub async fn migrate_up(config: &Config) -> Result<Upkeep, StartFault> {
    let _held = Hold::take(&config.store.url)?;
    open_store(config).await?.close().await;
    migrate_status(config).await
}

/// Copies everything from one database into another, empty one.
///
/// # Errors
/// [`store::copy`]'s; or the copy's books cannot be read.
pub async fn migrate_copy(from: &str, to: &str, progress: CopyProgress<'_>) -> Result<Upkeep, StartFault> {
    let copied = store::copy(from, to, progress).await?;
    let report = books(&copied.store).await?;
    let rows: u64 = copied.tables.iter().map(|(_, rows)| rows).sum();
    let tables = copied
        .tables
        .iter()
        .map(|(table, rows)| (table.clone(), json!(rows)));
    Ok(Upkeep {
        passed: report.clean,
        text: format!(
            "{rows} rows in {} tables copied. {}\nThe PIN key is not in the database: give the new \
             daemon the same one (store.pin_key_file).",
            copied.tables.len(),
            verdict(&report)
        ),
        document: json!({
            "ok": report.clean,
            "rows": rows,
            "tables": tables.collect::<serde_json::Map<_, _>>(),
            "check": report,
        }),
    })
}

/// Copies the database to `file` while it may be served, and checks the copy's books.
///
/// # Errors
/// [`store::backup`]'s; or the copy's books cannot be read.
pub async fn backup(config: &Config, file: &Path) -> Result<Upkeep, StartFault> {
    let copy = store::backup(&config.store.url, file).await?;
    let report = books(&copy).await?;
    Ok(Upkeep {
        passed: report.clean,
        text: format!(
            "{} is a copy as of now. {}\nThe PIN key is not in it: keep that file too, elsewhere.",
            file.display(),
            verdict(&report)
        ),
        document: json!({ "ok": report.clean, "file": file, "check": report }),
    })
}

/// Checks a copy's books and closes it.
async fn books(copy: &Store) -> Result<CheckReport, StartFault> {
    let report = copy.check(Clock::start().wall()).await;
    copy.close().await;
    report.map_err(|fault| StartFault::Books(fault.to_string()))
}

fn verdict(report: &CheckReport) -> String {
    let held = format!(
        "{} cards, {} entries, {} calls",
        report.cards, report.entries, report.calls
    );
    if report.clean {
        return format!("Its books are right: {held}.");
    }
    let mut text = format!("Its books are NOT right ({held}):");
    for offender in &report.offenders {
        text.push_str(&format!("\n  {}: {}", offender.rule, offender.what));
    }
    text
}

fn told(schema: &Schema) -> Upkeep {
    let pending: Vec<Value> = schema
        .pending
        .iter()
        .map(|(version, name)| json!({ "version": version, "name": name }))
        .collect();
    let mut text = format!("schema {}, this program knows {}", schema.found, schema.known);
    for (version, name) in &schema.pending {
        text.push_str(&format!("\n  would apply {version} {name}"));
    }
    Upkeep {
        passed: true,
        text,
        document: json!({ "schema": schema.found, "known": schema.known, "pending": pending }),
    }
}
