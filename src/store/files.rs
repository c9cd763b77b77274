//! The files of a SQLite database: private to their owner, and held by one daemon at a time. For
//! PostgreSQL the file that tells this machine's processes of a node apart.
//!
//! Deliberately absent: a lease between machines (`node`).

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{StoreFault, sqlite_path};

/// Read and write for the owner, nothing for anybody else: callers' numbers are in there.
const PRIVATE: u32 = 0o600;

/// The right to serve calls on a database. Given back when it is dropped, or when the process dies.
#[derive(Debug)]
pub struct Hold {
    /// `None`: the database is no file, or one in memory.
    _file: Option<File>,
    instance: String,
}

impl Hold {
    /// Takes the database for this process, before anything is recovered in it: two daemons would
    /// end each other's reservations. `cardline.db` is held by a lock on `cardline.db.lock`.
    ///
    /// # Errors
    /// Another process has it, or the file beside it cannot be made.
    pub fn take(url: &str) -> Result<Hold, StoreFault> {
        let Some(path) = sqlite_path(url) else {
            return Ok(Hold {
                _file: None,
                instance: String::new(),
            });
        };
        let file = locked(url, &beside(&path, ".lock"))?;
        Ok(Hold {
            _file: Some(file),
            instance: String::new(),
        })
    }

    /// The same for a database that other machines use too: locks `seat`, a file of this node on this
    /// machine, and reads the secret in it, made at the first start. Whoever has both is the only
    /// living process that ever claimed the node's lease with that secret.
    ///
    /// # Errors
    /// Another process of this machine has it, or the file cannot be made.
    pub fn take_seat(url: &str, seat: &Path) -> Result<Hold, StoreFault> {
        if let Some(folder) = seat.parent() {
            // What cannot be made is told when the file is opened.
            std::fs::create_dir_all(folder).ok();
        }
        let mut file = locked(url, seat)?;
        let fault = |error: io::Error| StoreFault::Open {
            url: url.to_owned(),
            problem: format!("{}: {error}", seat.display()),
            cure: "give the file to the user that runs cardline, or delete it",
        };
        let mut instance = String::new();
        file.read_to_string(&mut instance).map_err(fault)?;
        if instance.is_empty() {
            let secret: [u8; 32] = super::pin_key::random_bytes()?;
            instance = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            file.write_all(instance.as_bytes()).map_err(fault)?;
        }
        Ok(Hold {
            _file: Some(file),
            instance,
        })
    }

    /// The secret for `Store::claim`; empty on SQLite, where the lock alone counts.
    pub fn instance(&self) -> &str {
        &self.instance
    }
}

fn locked(url: &str, beside: &Path) -> Result<File, StoreFault> {
    let fault = |problem: String, cure| StoreFault::Open {
        url: url.to_owned(),
        problem,
        cure,
    };
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE)
        .open(beside);
    let file = opened.map_err(|error| {
        fault(
            format!("{}: {error}", beside.display()),
            "create the directory and give it to the user that runs cardline",
        )
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(fault(
            format!("another cardline is serving it ({} is locked)", beside.display()),
            "stop that one, or give this one a database of its own in store.url",
        )),
        Err(TryLockError::Error(error)) => Err(fault(
            format!("{} cannot be locked: {error}", beside.display()),
            "put it on a file system with locks",
        )),
    }
}

/// Makes the file of a URL that asks for it to be made, since SQLite would make one that all may
/// read; the files of its journal get the same mode from SQLite.
pub(super) fn make_private(url: &str) -> io::Result<()> {
    // An escaped name is SQLite's to read; its file is closed after it was made.
    let Some(path) = sqlite_path(url).filter(|_| url.contains("mode=rwc") && !url.contains('%')) else {
        return Ok(());
    };
    let make = |path: &Path| {
        let made = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE)
            .open(path);
        made.map(drop)
    };
    if !path.exists() {
        make(&beside(&path, FIRST))?;
    }
    make(&path)
}

/// Whether an empty file is one of a first start that broke off, not one that was cut.
pub(super) fn is_first_start(path: &Path) -> bool {
    beside(path, FIRST).exists()
}

/// The schema is there: from now on an empty file is a loss.
pub(super) fn end_first_start(url: &str) {
    let Some(path) = sqlite_path(url) else {
        return;
    };
    match std::fs::remove_file(beside(&path, FIRST)) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), %fault, "the mark of the first start stays");
        }
        Ok(()) | Err(_) => {}
    }
}

/// Stands beside a database whose first start has not come to its end.
const FIRST: &str = ".first";

/// Takes what others may do with the files of an older database away from them.
pub(super) fn keep_private(url: &str) {
    let Some(path) = sqlite_path(url) else {
        return;
    };
    for file in [path.clone(), beside(&path, "-wal"), beside(&path, "-shm")] {
        let open = file
            .metadata()
            .is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
        if open && let Err(fault) = std::fs::set_permissions(&file, Permissions::from_mode(PRIVATE)) {
            tracing::warn!(file = %file.display(), %fault, "others may read the database");
        }
    }
}

/// The file whose name continues that of a SQLite database; `None` for any other.
pub fn beside_sqlite(url: &str, suffix: &str) -> Option<PathBuf> {
    sqlite_path(url).map(|path| beside(&path, suffix))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
