//! Connections to the database, each set up for what it is for.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::Durability;
use super::error::DatabaseError;
use super::schema::APPLICATION_ID;

/// How long a connection waits for one that has locked the file, such as an operator's sqlite3.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Pages that the writer keeps in memory, in KiB.
const WRITER_CACHE_KIB: i64 = 8 * 1024;

/// Pages that a reader keeps in memory, in KiB.
const READER_CACHE_KIB: i64 = 4 * 1024;

/// Prepared statements that a connection keeps; a list has some dozens of shapes.
const KEPT_STATEMENTS: usize = 128;

/// Bytes of a page. A commit writes every page that it has touched, one for each table and index, and most of
/// a large one would be what has not changed.
const PAGE_BYTES: i64 = 1024;

/// Bytes that the write-ahead log may keep of the disk once its content is in the database.
const KEPT_WAL_BYTES: i64 = 16 * 1024 * 1024;

/// Pages in the write-ahead log after which they are moved into the database: 8 MiB. Moving them syncs both
/// files, so it is not done too often.
const CHECKPOINT_PAGES: i64 = 8 * 1024;

/// The connection that writes. Until [`keeps_tidy`] it leaves the file as it is when it is closed, so that
/// one that proves damaged is set aside untouched.
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
    connection.pragma_update_and_check(None, "journal_size_limit", KEPT_WAL_BYTES, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |_| Ok(()))?;
    // A finished command's environment is overwritten with zeros, not only forgotten.
    connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    Ok(connection)
}

/// Has a writer move the write-ahead log into the database when it is closed.
pub(super) fn keeps_tidy(writer: &Connection) -> Result<(), DatabaseError> {
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(())
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    Ok(connection)
}

/// The connection that fills a file that nobody else knows of yet. A crash leaves it worthless, so nothing
/// in it need be safe before the end.
pub(super) fn maker(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    Ok(connection)
}

/// A connection that reads what it can from a damaged file and leaves it as it is.
pub(super) fn salvager(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // With this SQLite reads a file that is shorter than its header says.
    connection.pragma_update(None, "writable_schema", true)?;
    Ok(connection)
}

fn open(path: &Path, access: OpenFlags) -> Result<Connection, DatabaseError> {
    let flags = access | OpenFlags::SQLITE_OPEN_NOFOLLOW | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(KEPT_STATEMENTS);
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // What a damaged file says of itself is checked before it is believed.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}
