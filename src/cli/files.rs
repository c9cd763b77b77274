//! Verbs with files: `card batch|import|export`. The file for the PINs is made before the order is
//! given, so that no order is carried out whose answer has no place.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::args::CardVerb;
use super::client::Client;
use super::render::View;
use super::{ClientVerb, Exit, Global, answered, complain, fail, verbs};

/// Largest file that the daemon takes, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// What to read, what to write, and whether the order needs a place for PINs.
struct Files {
    read: Option<PathBuf>,
    write: Option<PathBuf>,
    must_write: bool,
}

/// `None` for verbs without files.
fn files(verb: &CardVerb) -> Option<Files> {
    let files = match verb {
        CardVerb::Batch(flags) => Files {
            read: None,
            write: flags.file.out.clone(),
            must_write: !flags.order.dry_run,
        },
        CardVerb::Import(flags) => Files {
            read: Some(flags.csv.clone()),
            write: flags.file.out.clone(),
            must_write: !flags.order.dry_run,
        },
        CardVerb::Export(flags) => Files {
            read: None,
            write: flags.out.clone(),
            must_write: false,
        },
        CardVerb::Quote { .. }
        | CardVerb::Buy { .. }
        | CardVerb::List(_)
        | CardVerb::Show { .. }
        | CardVerb::Topup { .. }
        | CardVerb::Storno { .. }
        | CardVerb::Transfer { .. }
        | CardVerb::Merge { .. }
        | CardVerb::ReplacePin { .. }
        | CardVerb::Correct { .. }
        | CardVerb::Block { .. }
        | CardVerb::Unblock { .. }
        | CardVerb::Cancel { .. }
        | CardVerb::Note { .. }
        | CardVerb::Pin { .. }
        | CardVerb::Entries { .. }
        | CardVerb::Bind { .. }
        | CardVerb::Unbind { .. } => return None,
    };
    Some(files)
}

/// Whether `verb` is one of these.
pub fn has_files(verb: &CardVerb) -> bool {
    files(verb).is_some()
}

pub async fn run(client: &Client, global: &Global, verb: &ClientVerb) -> Exit {
    let ClientVerb::Card(card) = verb else {
        return Exit::Usage;
    };
    let (Some(files), Some(mut plan)) = (files(card), verbs::plan(verb, global.lang)) else {
        return Exit::Usage;
    };
    if files.must_write && files.write.is_none() && !global.json {
        complain(
            global,
            "usage",
            "--out FILE is needed: the PINs are told only once",
        );
        return Exit::Usage;
    }
    if let Some(path) = &files.read {
        match read(path) {
            Ok(text) => plan.request.raw = Some(text),
            Err(why) => {
                complain(global, "file_unreadable", &format!("{}: {why}", path.display()));
                return Exit::Failed;
            }
        }
    }
    let place = match files.write.as_deref().map(create).transpose() {
        Ok(place) => place,
        Err(why) => {
            let path = files.write.unwrap_or_default();
            complain(global, "file_refused", &format!("{}: {why}", path.display()));
            return Exit::Failed;
        }
    };
    let reply = client.send(&plan.request).await;
    let table = match &reply {
        Ok(reply) if (200..300).contains(&reply.status) => reply
            .document
            .get("csv")
            .and_then(Value::as_str)
            .map(str::to_owned),
        Ok(_) | Err(_) => None,
    };
    let kept = match (place, &files.write) {
        (Some(place), Some(path)) => keep(place, path, table.as_deref()),
        (_, _) => Ok(()),
    };
    match reply {
        Ok(mut reply) => {
            if files.write.is_some() && plan.view == View::Table {
                plan.view = View::Done;
            }
            if let Err(why) = kept {
                // The answer is all that is left of the PINs.
                plan.view = View::Json;
                complain(global, "file_lost", &why.to_string());
            } else if files.write.is_some()
                && let Some(fields) = reply.document.as_object_mut()
            {
                fields.remove("csv");
            }
            answered(global, &plan, &reply)
        }
        Err(fault) => fail(global, &fault),
    }
}

/// At most one byte more than the daemon takes: it says no in its own words.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A new file for its owner only: what is there already may be the PINs of another day.
fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Without a table the file goes again.
fn keep(mut place: File, path: &Path, table: Option<&str>) -> std::io::Result<()> {
    match table {
        // The mark lets spreadsheets see UTF-8.
        Some(table) => place
            .write_all(format!("\u{feff}{table}").as_bytes())
            .and_then(|()| place.sync_all()),
        None => std::fs::remove_file(path),
    }
}
