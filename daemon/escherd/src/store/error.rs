//! Errors of the database, and which of them mean damage.

use std::path::{Path, PathBuf};

use escher_protocol::codec::CodecError;
use rusqlite::ErrorCode;

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
        move |source| StoreError::Io {
            path,
            problem,
            source,
        }
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
    /// SQLite's integrity check found this.
    #[error("the integrity check found: {0}")]
    CheckFailed(String),
    /// A value cannot be encoded.
    #[error(transparent)]
    Unencodable(#[from] CodecError),
}

impl DatabaseError {
    /// Returns whether the file itself is damaged, so that no retry can succeed.
    pub(super) fn is_damage(&self) -> bool {
        use rusqlite::Error;
        match self {
            DatabaseError::Damaged { .. } | DatabaseError::CheckFailed(_) => true,
            DatabaseError::Unencodable(_) => false,
            // The statements are fixed: a senseless one, or a value of another type than was
            // written, means that tables and rows are not as they were made.
            DatabaseError::Sqlite(error) => match error {
                Error::SqliteFailure(failure, _) => matches!(
                    failure.code,
                    ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown
                ),
                Error::SqlInputError { .. } => true,
                Error::FromSqlConversionFailure(..)
                | Error::IntegralValueOutOfRange(..)
                | Error::Utf8Error(..)
                | Error::InvalidColumnType(..)
                | Error::InvalidColumnIndex(_) => true,
                _ => false,
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
