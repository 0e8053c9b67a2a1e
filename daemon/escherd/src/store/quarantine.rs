//! Setting a file aside: under another name, never over an existing one, and left as it is.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::OFlag;
use rusqlite::Connection;

use super::error::{DatabaseError, StoreError};

/// Owner alone: commands and their environments are in it.
pub(super) const FILE_MODE: u32 = 0o600;

/// What stands between a store's name and the time at which it was set aside.
const SET_ASIDE: &str = ".set-aside-";

/// Names that are tried for one file within the same second.
const MAX_NAMES: u32 = 1000;

/// `path` with `suffix` at its end, as SQLite names what belongs to a database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The write-ahead log of the database at `path`.
pub(super) fn wal(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

/// Gives the database at `path`, or what there is of it, a second name with all that belongs to it, and
/// returns the name. The first name is still there then, so that a crash before its successor is whole
/// changes nothing.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let stem = beside(path, &format!("{SET_ASIDE}{}", utc_now(path)?));
    for attempt in 1..=MAX_NAMES {
        let to = match attempt {
            1 => stem.clone(),
            more => beside(&stem, &format!("-{more}")),
        };
        if fs::symlink_metadata(wal(&to)).is_ok() {
            continue;
        }
        match also_named(path, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(StoreError::io(path, "it cannot be set aside")(error)),
        }
        let (from_wal, to_wal) = (wal(path), wal(&to));
        also_named(&from_wal, &to_wal)
            .map_err(StoreError::io(&from_wal, "it cannot be set aside"))?;
        return Ok(to);
    }
    let error = io::Error::from(io::ErrorKind::AlreadyExists);
    Err(StoreError::io(&stem, "every name to set it aside is taken")(error))
}

/// What damage has left beside a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamageReport {
    /// Names of files that were set aside, in order, without what belongs to them.
    pub set_aside: Vec<String>,
    /// Whether damage was found since the last start.
    pub is_damaged: bool,
}

/// Looks for what damage has left beside the store at `path`.
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
        is_damaged: fs::symlink_metadata(Damage::mark(path)).is_ok(),
    })
}

/// A second name for a file, if it is there; the only one where the file system has no links.
fn also_named(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) if fs::symlink_metadata(to).is_err() => fs::rename(from, to),
        done => done,
    }
}

/// Removes what belongs to a database: left behind, it would be taken for its successor's.
pub(super) fn remove_side_files(path: &Path) -> Result<(), StoreError> {
    for side in [wal(path), beside(path, "-shm"), beside(path, "-journal")] {
        remove(&side)?;
    }
    Ok(())
}

/// Removes a file that may not be there.
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

/// Whether damage was found while a store was in use. A file beside the store remembers it for the next start,
/// which sets the store aside and begins anew with what can be read.
#[derive(Debug)]
pub(super) struct Damage {
    path: PathBuf,
    is_noted: AtomicBool,
}

impl Damage {
    /// None so far, in the store at `path`.
    pub(super) fn none(path: &Path) -> Self {
        Damage {
            path: path.to_owned(),
            is_noted: AtomicBool::new(false),
        }
    }

    /// Where the store at `path` has the mark of damage.
    pub(super) fn mark(path: &Path) -> PathBuf {
        beside(path, ".damaged")
    }

    /// Notes `fault` if it is damage. Only the first is of any use.
    pub(super) fn note(&self, fault: &DatabaseError) {
        if !fault.is_damage() || self.is_noted.swap(true, Ordering::Relaxed) {
            return;
        }
        let path = self.path.display();
        tracing::error!(
            "{path} is damaged: {fault}. The next start of escherd sets it aside and begins a new one with \
             all that can be read"
        );
        let mark = Self::mark(&self.path);
        let written = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&mark)
            .and_then(|mut file| writeln!(file, "{fault}"));
        if let Err(error) = written {
            let mark = mark.display();
            tracing::error!("{mark} cannot be written, so the next start may not know: {error}");
        }
    }
}
