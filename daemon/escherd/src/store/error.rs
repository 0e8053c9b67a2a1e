//! Errors of the database, and which of them mean damage.

use std::path::{Path, PathBuf};

use escher_protocol::codec::CodecError;
use nix::sys::statvfs::statvfs;
use rusqlite::ErrorCode;

use crate::host::free_space::free_bytes;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its path is not that of a regular file. Links are never followed.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// It was written by an escherd that is newer, or older than any this one can read. It is
    /// neither misread nor hidden by a new store.
    #[error(
        "{} has version {found}, and this escherd reads versions {oldest} to {newest}: install the \
         escherd that wrote it, or move the file away to begin without its history",
        .path.display()
    )]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The oldest version that is supported.
        oldest: i64,
        /// The newest version that is supported.
        newest: i64,
    },
    /// A file or directory cannot be used.
    #[error("{}: {problem}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What failed.
        problem: &'static str,
        /// The reason.
        source: std::io::Error,
    },
    /// The disk of this directory is full.
    #[error("no space left on {}", .0.display())]
    NoSpace(PathBuf),
    /// SQLite cannot use the file, for a reason other than damage.
    #[error("{}: the store cannot be opened", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: rusqlite::Error,
    },
    /// A newly created store cannot be read back.
    #[error("{}: the store was just created and is unreadable: {reason}", .path.display())]
    Unreliable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl StoreError {
    /// Returns a conversion for `map_err` on I/O with `path`.
    pub(super) fn io(path: &Path, problem: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull => StoreError::no_space(&path),
            _ => StoreError::Io {
                path,
                problem,
                source,
            },
        }
    }

    /// Returns the error for a full disk under the file `path`.
    pub(super) fn no_space(path: &Path) -> Self {
        StoreError::NoSpace(path.parent().unwrap_or(Path::new("/")).to_owned())
    }
}

/// Why the database cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseError {
    /// SQLite reports an error.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// A row does not hold what was written to it.
    #[error("{what} {number} is damaged")]
    Damaged {
        /// What the row holds.
        what: &'static str,
        /// Its number.
        number: u64,
    },
    /// A check of the whole file found this.
    #[error("a check found: {0}")]
    CheckFailed(String),
    /// A value cannot be encoded.
    #[error(transparent)]
    Unencodable(#[from] CodecError),
}

/// Free space below which a failure of the system under SQLite means that the disk is full. To open
/// a database it needs 32 KiB, and it does not say which error the system has given.
const FULL_BELOW: u64 = 128 * 1024;

/// Returns whether `error` means that the disk of the file `path` is full.
pub(super) fn is_lack_of_space(path: &Path, error: &DatabaseError) -> bool {
    let DatabaseError::Sqlite(error) = error else {
        return false;
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => true,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
            let stat = statvfs(path.parent().unwrap_or(Path::new("/")));
            stat.is_ok_and(|stat| free_bytes(&stat) < FULL_BELOW)
        }
        _ => false,
    }
}

/// What an error says about the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DamageEvidence {
    /// Nothing.
    None,
    /// SQLite has met something that makes no sense. A check shows whether it is on the disk.
    Suspicion,
    /// The file does not hold what was written to it. SQLite cannot see that, so no check of its
    /// can confirm it.
    Proof,
}

impl DatabaseError {
    /// Returns what the error says about the file.
    pub(super) fn evidence(&self) -> DamageEvidence {
        use rusqlite::Error;
        match self {
            DatabaseError::Damaged { .. } | DatabaseError::CheckFailed(_) => DamageEvidence::Proof,
            DatabaseError::Unencodable(_) => DamageEvidence::None,
            DatabaseError::Sqlite(error) => match error {
                // The row has a value of another type than was written.
                Error::FromSqlConversionFailure(..)
                | Error::IntegralValueOutOfRange(..)
                | Error::Utf8Error(..)
                | Error::InvalidColumnType(..) => DamageEvidence::Proof,
                error => match error.sqlite_error_code() {
                    Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                        DamageEvidence::Suspicion
                    }
                    // SQLite refuses a statement for many reasons, which a request may lead to. The
                    // file is as it was.
                    _ => DamageEvidence::None,
                },
            },
        }
    }

    /// Returns whether one statement or value was rejected, and the transaction can go on without.
    pub(super) fn is_row_rejected(&self) -> bool {
        match self {
            DatabaseError::Sqlite(error) => {
                error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
            }
            DatabaseError::Unencodable(_) => true,
            DatabaseError::Damaged { .. } | DatabaseError::CheckFailed(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    fn evidence(code: i32) -> DamageEvidence {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        DatabaseError::from(error).evidence()
    }

    #[test]
    fn a_statement_that_sqlite_refuses_is_not_taken_for_damage() {
        let corrupt = [
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_CORRUPT_VTAB,
            ffi::SQLITE_CORRUPT_SEQUENCE,
            ffi::SQLITE_CORRUPT_INDEX,
            ffi::SQLITE_NOTADB,
        ];
        // All codes, and all extended ones of the codes: sqlite.org/rescode.html.
        for code in (1..=28).chain([100, 101]) {
            for extension in 0..=34 {
                let extended = code | extension << 8;
                let is_corrupt = corrupt.contains(&(extended & 0xff));
                let expected = if is_corrupt {
                    DamageEvidence::Suspicion
                } else {
                    DamageEvidence::None
                };
                assert_eq!(evidence(extended), expected, "{extended}");
            }
        }
        for code in corrupt {
            assert_eq!(evidence(code), DamageEvidence::Suspicion, "{code}");
        }
    }

    #[test]
    fn a_row_that_is_not_as_it_was_written_proves_damage() {
        let database = rusqlite::Connection::open_in_memory().unwrap();
        let error = database
            .query_row("SELECT 'text'", [], |row| row.get::<_, Vec<u8>>(0))
            .unwrap_err();
        for error in [
            DatabaseError::from(error),
            DatabaseError::CheckFailed("a page".to_owned()),
            DatabaseError::Damaged {
                what: "event",
                number: 1,
            },
        ] {
            assert_eq!(error.evidence(), DamageEvidence::Proof, "{error}");
        }
    }
}
