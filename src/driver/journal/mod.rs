//! The local journal: orders that the database did not take, on this machine's own disk, until they
//! are in the books.
//!
//! ```text
//! order fails once -> waiting (a line, on the disk) -> done (a mark) -> emptied with the last one
//!                                                   \-> rejected (kept as evidence in a file beside)
//! ```
//! An order goes in before its second try and is answered `Done` then: its call may end. It is put
//! to the store as long as the process lives, and by the next start otherwise ([`replay`]), before
//! anything is settled at a checkpoint. Applying it twice does nothing: settlements go by
//! (call, card), records by the call.
//!
//! What a crash leaves: before the line, the last checkpoint; within it, a torn line, which nobody
//! was told of and which is dropped; between the database's commit and the mark, an order that is
//! found in the books and marked; after the mark, nothing.
//!
//! The file begins with a megabyte of zeros that lines overwrite, so that a full disk still takes
//! the orders of its own outage. Its first zero byte is its end.
//!
//! Deliberately absent: questions (their callers have hung up by then), PINs, and any SQL.

mod writer;
mod line;
mod replay;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::card::LedgerRequest;
use crate::now::UnixTime;
use line::{Line, What};

pub use replay::{Replayed, replay};
pub use writer::{Counts, Journal};

/// What the journal cannot do, and where.
#[derive(Debug, thiserror::Error)]
pub enum JournalFault {
    #[error("the journal {}: {what}: {source}", path.display())]
    Io {
        path: PathBuf,
        what: &'static str,
        source: io::Error,
    },
    #[error("the journal {} belongs to another cardline; give each its own store.journal", path.display())]
    InUse { path: PathBuf },
    #[error("the journal {} is full ({limit} bytes): {lost} orders are only in memory", path.display())]
    Full { path: PathBuf, limit: u64, lost: usize },
    #[error("there is no journal (a database in memory has none)")]
    None,
}

/// An order that waits, as an earlier life of this node wrote it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: u64,
    pub at: UnixTime,
    /// The node's epoch when it was written.
    pub epoch: i64,
    pub order: LedgerRequest,
}

/// The open journal; dropped, another process may have it.
#[derive(Debug)]
struct Pages {
    path: PathBuf,
    file: File,
    /// Where the next line goes.
    end: u64,
    /// Bytes that are on the disk already, zero or not.
    room: u64,
    limit: u64,
    next_id: u64,
    waiting: BTreeMap<u64, Line>,
    rejected: usize,
    _lock: File,
}

impl Pages {
    /// Opens or makes the journal, and reads what waits in it. `limit`: bytes that it may take.
    fn open(path: &Path, limit: u64) -> Result<Pages, JournalFault> {
        let lock = take_lock(path)?;
        let mut file = private()
            .read(true)
            .write(true)
            .truncate(false)
            .open(path)
            .map_err(fault(
                path,
                "it cannot be opened; create its directory, or set store.journal",
            ))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(fault(path, "it cannot be read"))?;
        let rejected = lines_of(&beside(path, ".rejected"))?;
        let mut journal = Pages {
            path: path.to_owned(),
            file,
            end: 0,
            room: bytes.len() as u64,
            limit,
            next_id: 1,
            waiting: BTreeMap::new(),
            rejected,
            _lock: lock,
        };
        journal.take_in(&bytes)?;
        journal.make_room()?;
        Ok(journal)
    }

    /// Reads the lines up to the first zero. What was damaged is kept as evidence; a line without its
    /// end was torn by a crash before anybody was told of it.
    fn take_in(&mut self, bytes: &[u8]) -> Result<(), JournalFault> {
        let written = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let whole = written
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let (lines, torn) = written.split_at(whole);
        if !torn.is_empty() {
            tracing::warn!(bytes = torn.len(), "the journal's last line was torn by a crash");
        }
        for text in lines.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()) {
            let text = String::from_utf8_lossy(text);
            match Line::parse(&text) {
                Some(Line {
                    id, what: What::Done, ..
                }) => {
                    self.waiting.remove(&id);
                }
                Some(line) => {
                    self.next_id = self.next_id.max(line.id + 1);
                    self.waiting.insert(line.id, line);
                }
                None => self.keep_evidence(UnixTime::from_ms(0), "the line is damaged", &text)?,
            }
        }
        self.end = lines.len() as u64;
        if self.waiting.is_empty() {
            self.clear()?;
        } else if !torn.is_empty() {
            self.write_at(self.end, &vec![0; torn.len()])?;
        }
        Ok(())
    }

    /// Takes space on the disk while there is some.
    fn make_room(&mut self) -> Result<(), JournalFault> {
        if self.room < ROOM {
            let missing = usize::try_from(ROOM - self.room).unwrap_or(0);
            self.write_at(self.room, &vec![0; missing])?;
            self.room = ROOM;
        }
        Ok(())
    }

    /// Puts orders on the disk; they are there when this returns. Gives their ids.
    fn append(
        &mut self,
        at: UnixTime,
        epoch: i64,
        orders: &[LedgerRequest],
    ) -> Result<Vec<u64>, JournalFault> {
        let mut text = String::new();
        let mut lines = Vec::new();
        for what in orders.iter().filter_map(What::of) {
            let line = Line {
                id: self.next_id + lines.len() as u64,
                at: at.as_ms(),
                epoch,
                what,
            };
            text.push_str(&line.text());
            lines.push(line);
        }
        if self.end + text.len() as u64 > self.limit {
            self.rewrite()?;
        }
        if self.end + text.len() as u64 > self.limit {
            return Err(JournalFault::Full {
                path: self.path.clone(),
                limit: self.limit,
                lost: orders.len(),
            });
        }
        self.write_at(self.end, text.as_bytes())?;
        self.end += text.len() as u64;
        self.room = self.room.max(self.end);
        self.next_id += lines.len() as u64;
        let ids = lines.iter().map(|line| line.id).collect();
        self.waiting.extend(lines.into_iter().map(|line| (line.id, line)));
        Ok(ids)
    }

    /// The order is in the books. A mark that a crash loses does no harm, so nobody waits for it.
    fn done(&mut self, id: u64) -> Result<(), JournalFault> {
        let Some(line) = self.waiting.remove(&id) else {
            return Ok(());
        };
        if self.waiting.is_empty() {
            return self.clear();
        }
        let mark = Line {
            what: What::Done,
            ..line
        };
        let text = mark.text();
        if self.end + text.len() as u64 > self.limit {
            return self.rewrite();
        }
        self.seek(self.end)?;
        self.file
            .write_all(text.as_bytes())
            .map_err(fault(&self.path, "it cannot be written"))?;
        self.end += text.len() as u64;
        self.room = self.room.max(self.end);
        Ok(())
    }

    /// The books say otherwise, or will never take it: it is moved to the file of evidence.
    fn reject(&mut self, id: u64, at: UnixTime, why: &str) -> Result<(), JournalFault> {
        let Some(line) = self.waiting.get(&id) else {
            return Ok(());
        };
        let text = line.text();
        self.keep_evidence(at, why, text.trim_end())?;
        self.done(id)
    }

    fn keep_evidence(&mut self, at: UnixTime, why: &str, line: &str) -> Result<(), JournalFault> {
        let path = beside(&self.path, ".rejected");
        let record = serde_json::json!({ "rejected_at": at.as_ms(), "why": why, "line": line });
        tracing::error!(%why, file = %path.display(), "an order of the journal is not in the books; it is kept as evidence");
        let taken = path.metadata().map_or(0, |meta| meta.len());
        if taken > self.limit {
            tracing::error!(file = %path.display(), "the file of rejected orders is full");
            return Ok(());
        }
        let mut file = private()
            .append(true)
            .open(&path)
            .map_err(fault(&path, "it cannot be opened"))?;
        file.write_all(format!("{record}\n").as_bytes())
            .and_then(|()| file.sync_data())
            .map_err(fault(&path, "it cannot be written"))?;
        self.rejected += 1;
        Ok(())
    }

    /// Nothing waits: the next line is the first again.
    fn clear(&mut self) -> Result<(), JournalFault> {
        let used = usize::try_from(self.end.min(ROOM)).unwrap_or(0);
        if self.end > ROOM {
            self.file
                .set_len(ROOM)
                .map_err(fault(&self.path, "it cannot be shortened"))?;
            self.room = ROOM;
        }
        self.write_at(0, &vec![0; used])?;
        self.end = 0;
        Ok(())
    }

    /// A new file with the orders that wait takes the old one's place.
    fn rewrite(&mut self) -> Result<(), JournalFault> {
        let path = beside(&self.path, ".new");
        let text: String = self.waiting.values().map(Line::text).collect();
        let written = || -> io::Result<File> {
            let mut file = private().read(true).write(true).truncate(true).open(&path)?;
            file.write_all(text.as_bytes())?;
            let rest = usize::try_from(ROOM).unwrap_or(0).saturating_sub(text.len());
            file.write_all(&vec![0; rest])?;
            file.sync_all()?;
            std::fs::rename(&path, &self.path)?;
            File::open(parent(&self.path))?.sync_all()?;
            Ok(file)
        };
        self.file = written().map_err(fault(&self.path, "it cannot be written anew"))?;
        self.end = text.len() as u64;
        self.room = self.end.max(ROOM);
        Ok(())
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> Result<(), JournalFault> {
        self.seek(at)?;
        self.file
            .write_all(bytes)
            .and_then(|()| self.file.sync_data())
            .map_err(fault(&self.path, "it cannot be written"))
    }

    fn seek(&mut self, at: u64) -> Result<(), JournalFault> {
        let moved = self.file.seek(SeekFrom::Start(at));
        moved.map(drop).map_err(fault(&self.path, "it cannot be written"))
    }
}

/// The right to write the journal, which ends with the process at the latest.
fn take_lock(path: &Path) -> Result<File, JournalFault> {
    let beside = beside(path, ".lock");
    let lock = private()
        .write(true)
        .truncate(false)
        .open(&beside)
        .map_err(fault(
            &beside,
            "it cannot be made; create its directory, or set store.journal",
        ))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(JournalFault::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(JournalFault::Io {
            path: beside,
            what: "it cannot be locked",
            source,
        }),
    }
}

/// Callers' numbers are in there.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    options
}

fn lines_of(path: &Path) -> Result<usize, JournalFault> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(bytes.iter().filter(|byte| **byte == b'\n').count()),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(fault(path, "it cannot be read")(source)),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn fault(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> JournalFault {
    let path = path.to_owned();
    move |source| JournalFault::Io { path, what, source }
}

/// Taken on the disk at the start: some 3000 orders.
const ROOM: u64 = 1 << 20;

#[cfg(test)]
#[path = "../journal_tests.rs"]
mod tests;
