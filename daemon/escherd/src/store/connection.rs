//! Connections to the database, each set up for its purpose.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::Durability;
use super::error::DatabaseError;
use super::schema::APPLICATION_ID;

/// How long a connection waits for a lock on the file, such as one of an operator's sqlite3.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// KiB of pages that the writer caches.
const WRITER_CACHE_KIB: i64 = 8 * 1024;

/// KiB of pages that a reader caches.
const READER_CACHE_KIB: i64 = 4 * 1024;

/// Prepared statements that a connection caches; lists have some dozens of shapes.
const STATEMENT_CACHE_CAPACITY: usize = 128;

/// Bytes of a page. A commit writes every page that it changes, one per table and index, and most
/// of a large page would be unchanged.
const PAGE_BYTES: i64 = 1024;

/// Bytes to which the write-ahead log is truncated once its content is in the database.
const WAL_SIZE_LIMIT_BYTES: i64 = 16 * 1024 * 1024;

/// Pages in the write-ahead log that trigger a checkpoint: 8 MiB. A checkpoint syncs both files, so
/// it should be rare.
const CHECKPOINT_PAGES: i64 = 8 * 1024;

/// Opens the connection that writes. Until [`checkpoint_on_close`] it leaves the file as it is when
/// it is closed, so that a file that proves damaged is set aside untouched.
pub(super) fn writer(path: &Path, durability: Durability) -> Result<Connection, DatabaseError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    let synchronous = match durability {
        Durability::Crash => "NORMAL",
        Durability::Power => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    connection
        .pragma_update_and_check(None, "journal_size_limit", WAL_SIZE_LIMIT_BYTES, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |_| Ok(()))?;
    // The environment of a finished command is overwritten with zeros, not only unlinked.
    connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    Ok(connection)
}

/// Has the writer move the write-ahead log into the database when it is closed.
pub(super) fn checkpoint_on_close(writer: &Connection) -> Result<(), DatabaseError> {
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(())
}

/// Opens a connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    Ok(connection)
}

/// Opens the connection that fills a new file, which nothing else uses yet. A crash makes the file
/// worthless, so nothing in it has to be durable before the end.
pub(super) fn creator(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    Ok(connection)
}

/// Opens a connection that reads what it can from a damaged file and leaves the file as it is.
pub(super) fn salvager(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // With this SQLite reads a file that is shorter than its header says.
    connection.pragma_update(None, "writable_schema", true)?;
    Ok(connection)
}

/// Opens a connection that overwrites values in a damaged file.
pub(super) fn eraser(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "writable_schema", true)?;
    Ok(connection)
}

fn open(path: &Path, access: OpenFlags) -> Result<Connection, DatabaseError> {
    let flags = access | OpenFlags::SQLITE_OPEN_NOFOLLOW | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE_CAPACITY);
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Pages and schema of a damaged file are checked before they are trusted.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}
