//! Damage to a store in use: what counts as damage, and the mark that it leaves.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use rusqlite::{ErrorCode, ffi};

use super::connection;
use super::error::{DamageEvidence, DatabaseError};
use super::quarantine::{self, FILE_MODE};

/// How long SQLite's reports are not checked after a check that has confirmed nothing. A check reads
/// the whole file.
const CHECK_PAUSE: Duration = Duration::from_secs(60);

/// Marks a store in which damage was found. The mark is a file beside the store, by which the next
/// start sets the store aside and begins a new one with all that can be read.
#[derive(Debug)]
pub(super) struct DamageMarker {
    path: PathBuf,
    is_marked: AtomicBool,
    /// Locked by the one thread that checks the file. When the next check may begin.
    next_check: Mutex<Option<Instant>>,
}

impl DamageMarker {
    /// Creates a marker for the store at `path`, without marking it.
    pub(super) fn new(path: &Path) -> Self {
        DamageMarker {
            path: path.to_owned(),
            is_marked: AtomicBool::new(false),
            next_check: Mutex::new(None),
        }
    }

    /// Returns whether the store is marked.
    pub(super) fn is_marked(&self) -> bool {
        self.is_marked.load(Ordering::Relaxed)
    }

    /// Marks the store if `error` means damage, once. May read the whole file, so it must not be
    /// called on the event loop.
    pub(super) fn report(&self, error: &DatabaseError) {
        let is_damaged = match error.evidence() {
            DamageEvidence::None => false,
            _ if self.is_marked() => false,
            DamageEvidence::Suspicion => self.confirms(error),
            DamageEvidence::Proof => true,
        };
        if !is_damaged || self.is_marked.swap(true, Ordering::Relaxed) {
            return;
        }
        let path = self.path.display();
        tracing::error!(
            "{path} is damaged: {error}. The next start of escherd sets it aside and begins a new \
             store with all that can be read"
        );
        let mark = quarantine::damage_mark_path(&self.path);
        let written = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&mark)
            .and_then(|mut file| writeln!(file, "{error}"));
        if let Err(error) = written {
            let mark = mark.display();
            tracing::error!("{mark} cannot be written, so the next start may not know: {error}");
        }
    }

    /// Checks the file, unless another thread does, or one has lately.
    fn confirms(&self, error: &DatabaseError) -> bool {
        let Ok(mut next_check) = self.next_check.try_lock() else {
            return false;
        };
        if next_check.is_some_and(|time| Instant::now() < time) {
            return false;
        }
        let is_confirmed = is_confirmed(&self.path, error);
        if !is_confirmed {
            *next_check = Some(Instant::now() + CHECK_PAUSE);
            let path = self.path.display();
            tracing::error!(
                "{path}: SQLite reports \"{error}\", but a check of the file finds no damage. Check \
                 the memory and the disk of this host"
            );
        }
        is_confirmed
    }
}

/// Returns whether SQLite, which has reported `error`, finds the file damaged on another connection,
/// without what is in the memory of the first.
pub(super) fn is_confirmed(path: &Path, error: &DatabaseError) -> bool {
    let sql = match error {
        // The quick check does not compare indexes with their tables.
        DatabaseError::Sqlite(rusqlite::Error::SqliteFailure(failure, _))
            if failure.extended_code == ffi::SQLITE_CORRUPT_INDEX =>
        {
            "PRAGMA integrity_check(1)"
        }
        _ => "PRAGMA quick_check(1)",
    };
    let check = || -> Result<String, DatabaseError> {
        let connection = connection::reader(path)?;
        Ok(connection.query_row(sql, [], |row| row.get(0))?)
    };
    match check() {
        Ok(result) => result != "ok",
        // The statement is right. What SQLite refuses is the file.
        Err(DatabaseError::Sqlite(error)) => matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    | ErrorCode::Unknown
                    | ErrorCode::TooBig
            )
        ),
        Err(_) => true,
    }
}
