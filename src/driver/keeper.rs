//! Keeps what each bridged call needs to outlive this process: a file per call, always whole.
//!
//! ```text
//! loop: keep, forget --.
//!                      +--> one waiting place per call --> the keeper's thread --> CALL.new -> CALL.call
//! media threads: hear -'      (the newest wins)
//! ```
//! A file is a line (`cardline-call`, format, checksum) and a JSON document. It is written beside its
//! place and moved into it, without a sync: the page cache outlives `kill -9`, and after a loss of
//! power there is no call to go on with. The folder is private and locked by its daemon.
//!
//! Deliberately absent: what is in the documents, and whether a call goes on; `serve` decides that.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::clock::{BootId, Clock};
use crate::ids::CallKey;
use crate::media::audio::snapshot::AudioSnapshot;
use crate::now::Instant;

/// The folder of the calls' files, held by this process.
#[derive(Debug)]
pub struct CallFolder {
    dir: PathBuf,
    boot: BootId,
    clock: Clock,
    /// Locked as long as it is open.
    _lock: File,
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderFault {
    #[error("another cardline keeps its calls in {0}; stop it, or set restart.dir to another folder")]
    Held(PathBuf),
    #[error("restart.dir {}: {source}", dir.display())]
    System { dir: PathBuf, source: io::Error },
}

/// A call of an earlier process, as its file tells.
#[derive(Debug)]
pub struct Found<C> {
    pub key: CallKey,
    pub call: C,
    /// `Err`: why the call cannot go on; its legs can be told so.
    pub audio: Result<AudioSnapshot, Unfit>,
}

/// Why a call of an earlier process cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("the machine was started anew since then")]
    OtherBoot,
    #[error("its snapshot is {0:?} old")]
    Old(Duration),
    #[error("nothing is known of its audio")]
    NoAudio,
    #[error("its ports cannot be bound: {0}")]
    Ports(#[source] io::Error),
}

/// Why a file is of no use at all.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("it is longer than {LONGEST_FILE} bytes")]
    Long,
    #[error("it is no file of ours")]
    Foreign,
    #[error("its format is {0}, this cardline reads {FORMAT}")]
    Format(String),
    #[error("it is damaged")]
    Damaged,
    #[error("{0}")]
    Content(#[from] serde_json::Error),
}

/// The document in a file.
#[derive(Serialize, Deserialize)]
struct Document<C> {
    boot: String,
    /// When this was written, on the machine's monotonic clock.
    saved_ns: u64,
    audio: Option<AudioSnapshot>,
    call: C,
}

impl CallFolder {
    /// Makes the folder if need be, and takes it for this process.
    ///
    /// # Errors
    /// [`FolderFault`]; nothing was changed but that the folder may exist by now.
    pub fn take(dir: &Path, clock: Clock) -> Result<CallFolder, FolderFault> {
        let system = |source| FolderFault::System {
            dir: dir.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(system)?;
        let boot = BootId::read().map_err(system)?;
        let mut open = OpenOptions::new();
        let open = open.write(true).create(true).truncate(false).mode(PRIVATE);
        let lock = open.open(dir.join("lock")).map_err(system)?;
        match lock.try_lock() {
            Ok(()) => Ok(CallFolder {
                dir: dir.to_owned(),
                boot,
                clock,
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(FolderFault::Held(dir.to_owned())),
            Err(TryLockError::Error(source)) => Err(system(source)),
        }
    }

    /// Every call that an earlier process left, in the order of their keys. Files that tell nothing
    /// are named in the log and removed.
    pub fn read<C: DeserializeOwned>(&self) -> Vec<Found<C>> {
        let mut found: Vec<Found<C>> = Vec::new();
        for (path, name) in self.files() {
            match self.read_one(&path, &name) {
                Ok(call) => found.push(call),
                Err(why) => {
                    tracing::error!(file = %path.display(), %why, "a call of an earlier life is lost");
                    remove(&path);
                }
            }
        }
        found.sort_by_key(|call| call.key);
        found
    }

    fn files(&self) -> Vec<(PathBuf, String)> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(fault) => {
                tracing::error!(dir = %self.dir.display(), %fault, "cannot look for calls of an earlier life");
                return Vec::new();
            }
        };
        let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let mut files = Vec::new();
        for path in paths {
            let name = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default();
            match path.extension().and_then(|ending| ending.to_str()) {
                Some("call") => files.push((path.clone(), name.to_owned())),
                // Death came between writing and moving.
                Some("new") => remove(&path),
                Some(_) | None => {}
            }
        }
        files
    }

    fn read_one<C: DeserializeOwned>(&self, path: &Path, name: &str) -> Result<Found<C>, Unreadable> {
        let key = CallKey::parse(name).ok_or(Unreadable::Foreign)?;
        let mut text = String::new();
        let limit = LONGEST_FILE + 1;
        if File::open(path)?.take(limit).read_to_string(&mut text)? as u64 == limit {
            return Err(Unreadable::Long);
        }
        let (head, body) = text.split_once('\n').ok_or(Unreadable::Foreign)?;
        let words: Vec<&str> = head.split(' ').collect();
        let [MAGIC, format, sum] = *words.as_slice() else {
            return Err(Unreadable::Foreign);
        };
        if format != FORMAT.to_string() {
            return Err(Unreadable::Format(format.to_owned()));
        }
        if sum != checksum(body) {
            return Err(Unreadable::Damaged);
        }
        let document: Document<C> = serde_json::from_str(body)?;
        let age = self.clock.mono().since(Instant::from_nanos(document.saved_ns));
        let audio = if document.boot != self.boot.as_str() {
            Err(Unfit::OtherBoot)
        } else if age > RESTORABLE {
            Err(Unfit::Old(age))
        } else {
            document.audio.ok_or(Unfit::NoAudio)
        };
        let call = document.call;
        Ok(Found { key, call, audio })
    }

    fn path(&self, key: CallKey, ending: &str) -> PathBuf {
        self.dir.join(format!("{key}.{ending}"))
    }

    fn write<C: Serialize>(&self, key: CallKey, call: &C, audio: Option<&AudioSnapshot>) -> io::Result<()> {
        let body = serde_json::to_string(&Document {
            boot: self.boot.as_str().to_owned(),
            saved_ns: self.clock.mono().as_nanos(),
            audio: audio.cloned(),
            call,
        })?;
        let fresh = self.path(key, "new");
        let mut open = OpenOptions::new();
        let mut file = open
            .write(true)
            .create(true)
            .truncate(true)
            .mode(PRIVATE)
            .open(&fresh)?;
        let text = format!("{MAGIC} {FORMAT} {}\n{body}", checksum(&body));
        file.write_all(text.as_bytes())?;
        fs::rename(&fresh, self.path(key, "call"))
    }
}

/// Takes snapshots from any thread and writes them on one of its own; clones share it. Nothing here
/// waits but [`Keeper::flush`].
pub struct Keeper<C>(Arc<Shared<C>>);

struct Shared<C> {
    desk: Mutex<Desk<C>>,
    /// Told when something was left on the desk, and when it is empty again.
    told: Condvar,
}

/// At most one entry per call waits, so the desk is as large as the switch is.
struct Desk<C> {
    waiting: BTreeMap<CallKey, News<C>>,
    writing: bool,
    over: bool,
}

/// What is new of one call.
struct News<C> {
    forget: bool,
    call: Option<Box<C>>,
    audio: Option<AudioSnapshot>,
}

impl<C> Clone for Keeper<C> {
    fn clone(&self) -> Keeper<C> {
        Keeper(Arc::clone(&self.0))
    }
}

impl<C> fmt::Debug for Keeper<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl<C: Serialize + Send + 'static> Keeper<C> {
    /// Starts the thread. Calls that were read from the folder stay there until they are kept anew or
    /// forgotten. The thread gives the folder back when it has ended, after [`Keeper::end`].
    ///
    /// # Errors
    /// The system has no thread for us.
    pub fn start(folder: CallFolder) -> io::Result<(Keeper<C>, JoinHandle<CallFolder>)> {
        let shared = Arc::new(Shared {
            desk: Mutex::new(Desk {
                waiting: BTreeMap::new(),
                writing: false,
                over: false,
            }),
            told: Condvar::new(),
        });
        let keeper = Keeper(Arc::clone(&shared));
        let writer = Writer {
            folder,
            shared,
            known: BTreeMap::new(),
            failed: false,
        };
        let thread = Builder::new()
            .name("keeper".to_owned())
            .spawn(move || writer.run())?;
        Ok((keeper, thread))
    }
}

impl<C> Keeper<C> {
    /// The call's own part is new; its file is written once its audio is known too.
    pub fn keep(&self, key: CallKey, call: Box<C>) {
        self.leave(key, |news| news.call = Some(call));
    }

    /// The audio's part is new.
    pub fn hear(&self, key: CallKey, audio: AudioSnapshot) {
        self.leave(key, |news| news.audio = Some(audio));
    }

    /// The call is over, or cannot go on elsewhere.
    pub fn forget(&self, key: CallKey) {
        self.leave(key, |news| {
            *news = News {
                forget: true,
                call: None,
                audio: None,
            }
        });
    }

    /// Waits until all that was left so far is in the files, `limit` at most; whether it is.
    pub fn flush(&self, limit: Duration) -> bool {
        let desk = self.0.desk();
        let (_desk, waited) = self
            .0
            .told
            .wait_timeout_while(desk, limit, |desk| desk.writing || !desk.waiting.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out()
    }

    /// Lets the thread write what is left, and end.
    pub fn end(&self) {
        self.0.desk().over = true;
        self.0.told.notify_all();
    }

    fn leave(&self, key: CallKey, put: impl FnOnce(&mut News<C>)) {
        let mut desk = self.0.desk();
        put(desk.waiting.entry(key).or_insert(News {
            forget: false,
            call: None,
            audio: None,
        }));
        drop(desk);
        self.0.told.notify_all();
    }
}

impl<C> Shared<C> {
    fn desk(&self) -> MutexGuard<'_, Desk<C>> {
        // Nothing that holds the lock can panic halfway.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer<C> {
    folder: CallFolder,
    shared: Arc<Shared<C>>,
    /// The newest of each call.
    known: BTreeMap<CallKey, Known<C>>,
    /// The last file could not be written, and that was said.
    failed: bool,
}

struct Known<C> {
    call: Option<Box<C>>,
    audio: Option<AudioSnapshot>,
}

impl<C: Serialize> Writer<C> {
    fn run(mut self) -> CallFolder {
        while let Some(batch) = self.next_batch() {
            for (key, news) in batch {
                self.take(key, news);
            }
            self.drop_orphans();
        }
        self.folder
    }

    fn next_batch(&self) -> Option<BTreeMap<CallKey, News<C>>> {
        let mut desk = self.shared.desk();
        desk.writing = false;
        self.shared.told.notify_all();
        let mut desk = self
            .shared
            .told
            .wait_while(desk, |desk| desk.waiting.is_empty() && !desk.over)
            .unwrap_or_else(PoisonError::into_inner);
        let batch = std::mem::take(&mut desk.waiting);
        desk.writing = !batch.is_empty();
        desk.writing.then_some(batch)
    }

    fn take(&mut self, key: CallKey, news: News<C>) {
        if news.forget {
            self.known.remove(&key);
            remove(&self.folder.path(key, "call"));
        }
        if news.call.is_none() && news.audio.is_none() {
            return;
        }
        let known = self.known.entry(key).or_insert(Known {
            call: None,
            audio: None,
        });
        known.call = news.call.or(known.call.take());
        known.audio = news.audio.or(known.audio.take());
        let Known {
            call: Some(call),
            audio: Some(audio),
        } = known
        else {
            return;
        };
        let written = self.folder.write(key, call, Some(audio));
        if let Err(fault) = &written
            && !self.failed
        {
            tracing::error!(%fault, dir = %self.folder.dir.display(),
                "calls cannot be kept: they would not outlive this process");
        }
        self.failed = written.is_err();
    }

    /// A media thread may speak of a call once more after it was forgotten.
    fn drop_orphans(&mut self) {
        let now = self.folder.clock.mono();
        self.known.retain(|_, known| {
            let saved = known
                .audio
                .as_ref()
                .map(|audio| Instant::from_nanos(audio.saved_ns));
            known.call.is_some() || saved.is_some_and(|saved| now.since(saved) < ORPHAN)
        });
    }
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {}
        Err(fault) => tracing::error!(file = %path.display(), %fault, "a call's file cannot be removed"),
    }
}

/// Finds what was torn or changed by hand; it is no proof of origin.
fn checksum(body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

const MAGIC: &str = "cardline-call";
/// Raised when a document of before cannot be read any more.
const FORMAT: u32 = 1;
/// Read and write for the owner, nothing for anybody else: callers' numbers are in there.
const PRIVATE: u32 = 0o600;
/// A call whose last sign of life is older is not taken up again (reliability.md R5).
pub const RESTORABLE: Duration = Duration::from_secs(30);
/// A call's file has some 5 kB.
const LONGEST_FILE: u64 = 256 << 10;
/// Audio whose call said nothing for so long belongs to none.
const ORPHAN: Duration = Duration::from_secs(10);

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
