//! The one thread that writes the journal: what many calls hand in while it waits for the disk goes
//! to the disk together.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use tokio::sync::oneshot;

use super::{Entry, JournalFault, Pages};
use crate::card::LedgerRequest;
use crate::now::UnixTime;

/// What an operator sees of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Orders that wait for the database.
    pub entries: usize,
    pub oldest_at: Option<UnixTime>,
    /// Orders kept as evidence, since the books say otherwise.
    pub rejected: usize,
}

/// The way to the journal; clones share it.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

struct Shared {
    /// `None`: there is no journal, or it was closed.
    door: Mutex<Option<Sender<Word>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    counts: Arc<Mutex<Counts>>,
    /// What an earlier life left, until it is taken.
    left: Mutex<Vec<Entry>>,
}

enum Word {
    Append {
        at: UnixTime,
        epoch: i64,
        orders: Vec<LedgerRequest>,
        tell: oneshot::Sender<Result<Vec<u64>, JournalFault>>,
    },
    Done(u64),
    Reject {
        id: u64,
        at: UnixTime,
        why: String,
    },
}

impl Journal {
    /// Opens the journal at `path`, which may grow to `limit` bytes.
    ///
    /// # Errors
    /// It cannot be used, or another process has it.
    pub fn open(path: &Path, limit: u64) -> Result<Journal, JournalFault> {
        let journal = Pages::open(path, limit)?;
        let left = left(&journal);
        let counts = Arc::new(Mutex::new(count(&journal)));
        let (door, words) = channel();
        let told = Arc::clone(&counts);
        let thread = Builder::new()
            .name("journal".to_owned())
            .spawn(move || keep(journal, &words, &told))
            .map_err(super::fault(path, "there is no thread for it"))?;
        Ok(Journal(Arc::new(Shared {
            door: Mutex::new(Some(door)),
            thread: Mutex::new(Some(thread)),
            counts,
            left: Mutex::new(left),
        })))
    }

    /// For a database in memory, which nothing survives: refuses every order.
    pub fn without_file() -> Journal {
        Journal(Arc::new(Shared {
            door: Mutex::new(None),
            thread: Mutex::new(None),
            counts: Arc::default(),
            left: Mutex::default(),
        }))
    }

    /// The orders that an earlier life left, oldest first; once.
    pub fn take_left(&self) -> Vec<Entry> {
        std::mem::take(&mut lock(&self.0.left))
    }

    /// Writes orders down; they are on the disk when this returns. Gives their ids.
    ///
    /// # Errors
    /// They are not on the disk.
    pub async fn append(
        &self,
        at: UnixTime,
        epoch: i64,
        orders: Vec<LedgerRequest>,
    ) -> Result<Vec<u64>, JournalFault> {
        let (tell, told) = oneshot::channel();
        self.say(Word::Append {
            at,
            epoch,
            orders,
            tell,
        });
        told.await.unwrap_or(Err(JournalFault::None))
    }

    /// The order is in the books.
    pub fn done(&self, id: u64) {
        self.say(Word::Done(id));
    }

    /// The books say otherwise: the order is kept as evidence.
    pub fn reject(&self, id: u64, at: UnixTime, why: String) {
        self.say(Word::Reject { id, at, why });
    }

    pub fn counts(&self) -> Counts {
        *lock(&self.0.counts)
    }

    /// Waits until everything said is written, and gives the file free for another process.
    pub fn close(&self) {
        drop(lock(&self.0.door).take());
        let thread = lock(&self.0.thread).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the journal's thread had panicked");
        }
    }

    fn say(&self, word: Word) {
        // Without a journal the word falls, and with it the sender of its answer.
        if let Some(door) = &*lock(&self.0.door) {
            door.send(word).ok();
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Journal").field(&self.counts()).finish()
    }
}

fn keep(mut journal: Pages, words: &Receiver<Word>, told: &Mutex<Counts>) {
    while let Ok(first) = words.recv() {
        let batch: Vec<Word> = std::iter::once(first)
            .chain(words.try_iter().take(MOST_AT_ONCE))
            .collect();
        let mut appends = Vec::new();
        for word in batch {
            match word {
                Word::Append {
                    at,
                    epoch,
                    orders,
                    tell,
                } => appends.push((at, epoch, orders, tell)),
                Word::Done(id) => loud(journal.done(id)),
                Word::Reject { id, at, why } => loud(journal.reject(id, at, &why)),
            }
        }
        write(&mut journal, appends, told);
        *lock(told) = count(&journal);
    }
}

type Append = (
    UnixTime,
    i64,
    Vec<LedgerRequest>,
    oneshot::Sender<Result<Vec<u64>, JournalFault>>,
);

/// One wait for the disk for all of one epoch; they are told when the counts are.
fn write(journal: &mut Pages, appends: Vec<Append>, told: &Mutex<Counts>) {
    let mut rest = appends.into_iter().peekable();
    while let Some((at, epoch, mut orders, tell)) = rest.next() {
        let mut tells = vec![(orders.len(), tell)];
        while let Some((_, _, more, tell)) = rest.next_if(|next| next.1 == epoch) {
            tells.push((more.len(), tell));
            orders.extend(more);
        }
        let written = journal.append(at, epoch, &orders);
        *lock(told) = count(journal);
        let mut ids = written.as_ref().map_or(Vec::new(), Clone::clone).into_iter();
        for (count, tell) in tells {
            let answer = match &written {
                Ok(_) => Ok(ids.by_ref().take(count).collect()),
                Err(fault) => Err(again(fault)),
            };
            // A task that is gone needs no answer.
            tell.send(answer).ok();
        }
    }
}

/// The same fault for another asker.
fn again(fault: &JournalFault) -> JournalFault {
    match fault {
        JournalFault::Io { path, what, source } => JournalFault::Io {
            path: path.clone(),
            what,
            source: io::Error::new(source.kind(), source.to_string()),
        },
        JournalFault::InUse { path } => JournalFault::InUse { path: path.clone() },
        JournalFault::Full { path, limit, lost } => JournalFault::Full {
            path: path.clone(),
            limit: *limit,
            lost: *lost,
        },
        JournalFault::None => JournalFault::None,
    }
}

fn loud(result: Result<(), JournalFault>) {
    if let Err(fault) = result {
        tracing::error!(%fault, "the journal does not take a mark; the order is applied again, which does nothing");
    }
}

fn left(journal: &Pages) -> Vec<Entry> {
    let entry = |line: &super::Line| {
        Some(Entry {
            id: line.id,
            at: UnixTime::from_ms(line.at),
            epoch: line.epoch,
            order: line.what.order()?,
        })
    };
    journal.waiting.values().filter_map(entry).collect()
}

fn count(journal: &Pages) -> Counts {
    Counts {
        entries: journal.waiting.len(),
        oldest_at: journal
            .waiting
            .values()
            .next()
            .map(|line| UnixTime::from_ms(line.at)),
        rejected: journal.rejected,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds these locks can panic halfway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Words that share one wait for the disk.
const MOST_AT_ONCE: usize = 1000;
