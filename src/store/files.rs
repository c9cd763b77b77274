//! The files of a SQLite database: private to their owner, and held by one daemon at a time.
//!
//! Deliberately absent: a lease between machines; PostgreSQL is for those.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
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
}

impl Hold {
    /// Takes the database for this process, before anything is recovered in it: two daemons would
    /// end each other's reservations. `cardline.db` is held by a lock on `cardline.db.lock`.
    ///
    /// # Errors
    /// Another process has it, or the file beside it cannot be made.
    pub fn take(url: &str) -> Result<Hold, StoreFault> {
        let Some(path) = sqlite_path(url) else {
            return Ok(Hold { _file: None });
        };
        let beside = beside(&path, ".lock");
        let fault = |problem: String, cure| StoreFault::Open {
            url: url.to_owned(),
            problem,
            cure,
        };
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE)
            .open(&beside);
        let file = opened.map_err(|error| {
            fault(
                format!("{}: {error}", beside.display()),
                "create the directory and give it to the user that runs cardline",
            )
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Hold { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(fault(
                format!("another cardline is serving it ({} is locked)", beside.display()),
                "stop that one, or give this one a database of its own in store.url",
            )),
            Err(TryLockError::Error(error)) => Err(fault(
                format!("{} cannot be locked: {error}", beside.display()),
                "put the database on a file system with locks",
            )),
        }
    }
}

/// Makes the file of a URL that asks for it to be made, since SQLite would make one that all may
/// read; the files of its journal get the same mode from SQLite.
pub(super) fn make_private(url: &str) -> io::Result<()> {
    // An escaped name is SQLite's to read; its file is closed after it was made.
    let Some(path) = sqlite_path(url).filter(|_| url.contains("mode=rwc") && !url.contains('%')) else {
        return Ok(());
    };
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE)
        .open(path)
        .map(drop)
}

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

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
