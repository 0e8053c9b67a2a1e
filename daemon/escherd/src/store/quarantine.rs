//! Damaged and foreign files: set aside unchanged, under a name that never replaces another file.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::error::StoreError;

/// The owner's alone: commands and their environments are in the files.
pub(super) const FILE_MODE: u32 = 0o600;

/// What separates the name of a store from the time at which it was set aside.
const SET_ASIDE: &str = ".set-aside-";

/// How many names are tried within the same second.
const MAX_NAMES: u32 = 1000;

/// Returns `path` with `suffix`, as SQLite names the files that belong to a database.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Returns the path of the write-ahead log of the database at `path`.
pub(super) fn wal_path(path: &Path) -> PathBuf {
    with_suffix(path, "-wal")
}

/// Gives the database at `path`, or what remains of it, a second name with all that belongs to it,
/// and returns the name. The first name stays, so that a crash before the new store is complete
/// changes nothing.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let stem = with_suffix(path, &format!("{SET_ASIDE}{}", utc_now(path)?));
    for attempt in 1..=MAX_NAMES {
        let to = match attempt {
            1 => stem.clone(),
            more => with_suffix(&stem, &format!("-{more}")),
        };
        if fs::symlink_metadata(wal_path(&to)).is_ok() {
            continue;
        }
        match link_or_rename(path, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(StoreError::io(path, "it cannot be set aside")(error)),
        }
        let (from_wal, to_wal) = (wal_path(path), wal_path(&to));
        link_or_rename(&from_wal, &to_wal)
            .map_err(StoreError::io(&from_wal, "it cannot be set aside"))?;
        return Ok(to);
    }
    let error = io::Error::from(io::ErrorKind::AlreadyExists);
    Err(StoreError::io(&stem, "every name to set it aside is taken")(error))
}

/// The signs of damage beside a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamageReport {
    /// Names of the databases that were set aside, in order.
    pub set_aside: Vec<String>,
    /// Whether damage was found since the last start.
    pub is_damaged: bool,
}

/// Looks for signs of damage beside the store at `path`.
///
/// # Errors
/// When its directory cannot be read.
pub fn damage_report(path: &Path) -> io::Result<DamageReport> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let head = path.file_name().unwrap_or_default().to_string_lossy() + SET_ASIDE;
    let mut set_aside = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(&*head) && !name.ends_with("-wal") {
            set_aside.push(name);
        }
    }
    set_aside.sort_unstable();
    Ok(DamageReport {
        set_aside,
        is_damaged: fs::symlink_metadata(damage_mark_path(path)).is_ok(),
    })
}

/// Gives a file a second name if it exists, or a new one if the file system has no links.
fn link_or_rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) if fs::symlink_metadata(to).is_err() => fs::rename(from, to),
        done => done,
    }
}

/// Removes the files that belong to a database. SQLite would take them for those of its successor.
pub(super) fn remove_side_files(path: &Path) -> Result<(), StoreError> {
    for side in [
        wal_path(path),
        with_suffix(path, "-shm"),
        with_suffix(path, "-journal"),
    ] {
        remove(&side)?;
    }
    Ok(())
}

/// Removes a file if it exists.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io(path, "it cannot be removed")(error))
        }
        _ => Ok(()),
    }
}

fn utc_now(path: &Path) -> Result<String, StoreError> {
    let clock = Connection::open_in_memory();
    let now = clock.and_then(|sqlite| {
        sqlite.query_row("SELECT strftime('%Y%m%dT%H%M%SZ', 'now')", [], |row| {
            row.get(0)
        })
    });
    now.map_err(|source| StoreError::Unusable {
        path: path.to_owned(),
        source,
    })
}

/// Returns the path of the mark by which the next start sets the store at `path` aside.
pub(super) fn damage_mark_path(path: &Path) -> PathBuf {
    with_suffix(path, ".damaged")
}
