//! What can go wrong with the database, and whether that is damage.

use std::path::{Path, PathBuf};

use escher_protocol::codec::CodecError;
use rusqlite::ErrorCode;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something else than a file is in its place. A link is never followed.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Another escherd wrote it, newer or older than this one can read. It is neither guessed at nor
    /// hidden by a new store.
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
    /// A file or directory could not be used.
    #[error("{}: {doing}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What was to be done with it.
        doing: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// SQLite could not use the file, for another reason than damage.
    #[error("{}: the store cannot be opened", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// A store that was just made cannot be read back.
    #[error("{}: the store was just made and is unreadable: {reason}", .path.display())]
    Unreliable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl StoreError {
    /// For `map_err` on I/O with `path`.
    pub(super) fn io(path: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| StoreError::Io {
            path,
            doing,
            source,
        }
    }
}

/// Why something could not be read from the database or written to it.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseError {
    /// SQLite says so.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// A row does not hold what was written to it.
    #[error("{what} {place} is damaged")]
    Damaged {
        /// What the row is.
        what: &'static str,
        /// Its number.
        place: u64,
    },
    /// SQLite's own check has found something.
    #[error("the check of its structure found: {0}")]
    Unsound(String),
    /// The value has no encoding.
    #[error(transparent)]
    Unencodable(#[from] CodecError),
}

impl DatabaseError {
    /// Whether the file itself is at fault, not its surroundings: no later attempt can go better.
    pub(super) fn is_damage(&self) -> bool {
        use rusqlite::Error;
        match self {
            DatabaseError::Damaged { .. } | DatabaseError::Unsound(_) => true,
            DatabaseError::Unencodable(_) => false,
            // The statements are fixed: one that makes no sense, or a value of another type than what was
            // written, means that tables and rows are not what they were made as.
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

    /// Whether one statement or value was refused, and the transaction can go on without it.
    pub(super) fn is_about_the_row(&self) -> bool {
        match self {
            DatabaseError::Sqlite(error) => {
                error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
            }
            DatabaseError::Unencodable(_) => true,
            DatabaseError::Damaged { .. } | DatabaseError::Unsound(_) => false,
        }
    }
}
