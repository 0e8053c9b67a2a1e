//! Opening a store: as it is, made anew, or set aside and made anew from what can be read of it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use rusqlite::Connection;

use super::error::{DatabaseError, StoreError};
use super::quarantine::{self, Damage, FILE_MODE};
use super::schema::{self, SCHEMA, Schema};
use super::totals::WriterState;
use super::{LoadedState, StoreSettings, connection, load, salvage};

/// A database up to this size is checked whole at every start, which takes some tens of milliseconds. What is
/// wrong in a bigger one is found where it is met.
const CHECKED_BYTES: u64 = 8 * 1024 * 1024;

/// What every SQLite database begins with (sqlite.org/fileformat2.html, 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Bytes of a database's header, and where in it the application id is.
const HEADER_BYTES: usize = 100;
const VERSION_AT: usize = 60;
const APPLICATION_ID_AT: usize = 68;

/// A file that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedFile {
    /// Where it was.
    pub from: PathBuf,
    /// Where it is.
    pub to: PathBuf,
    /// What is wrong with it.
    pub reason: String,
    /// How many executions the new store has from it.
    pub salvaged: u64,
}

/// A store that is open, for its writer.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) state: WriterState,
    pub(super) loaded: LoadedState,
}

/// Why a file is not the store.
enum Obstacle {
    /// It goes aside.
    Unfit(String),
    /// Nothing may be done about it.
    Final(StoreError),
}

impl From<StoreError> for Obstacle {
    fn from(error: StoreError) -> Self {
        Obstacle::Final(error)
    }
}

/// Opens the store at `path`, making it where there is none.
pub(super) fn open(
    path: &Path,
    settings: StoreSettings,
) -> Result<(Opened, Vec<QuarantinedFile>), StoreError> {
    open_as(path, settings, SCHEMA)
}

/// As [`open`], with this `schema`.
pub(super) fn open_as(
    path: &Path,
    settings: StoreSettings,
    schema: Schema,
) -> Result<(Opened, Vec<QuarantinedFile>), StoreError> {
    let mut notices = Vec::new();
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => return Err(StoreError::NotAFile(path.to_owned())),
        Ok(_) => match open_existing(path, settings, schema) {
            Ok(opened) => return Ok((opened, notices)),
            Err(Obstacle::Final(error)) => return Err(error),
            Err(Obstacle::Unfit(reason)) => notices.push(replace(path, reason, schema)?),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::symlink_metadata(quarantine::wal(path)).is_ok() {
                let reason = "its database is gone, and only the write-ahead log is left";
                notices.push(replace(path, reason.to_owned(), schema)?);
            } else {
                make(path, None, schema)?;
            }
        }
        Err(error) => return Err(StoreError::io(path, "it cannot be looked at")(error)),
    }
    match open_existing(path, settings, schema) {
        Ok(opened) => Ok((opened, notices)),
        Err(Obstacle::Final(error)) => Err(error),
        Err(Obstacle::Unfit(reason)) => Err(StoreError::Unreliable {
            path: path.to_owned(),
            reason,
        }),
    }
}

fn open_existing(path: &Path, settings: StoreSettings, schema: Schema) -> Result<Opened, Obstacle> {
    let bytes = look_at(path, schema)?;
    if let Ok(found) = fs::read_to_string(Damage::mark(path)) {
        let found = found.trim();
        return Err(Obstacle::Unfit(format!("damage was found in it: {found}")));
    }
    let fault = |fault: DatabaseError| match fault {
        fault if fault.is_damage() => Obstacle::Unfit(format!("it is damaged: {fault}")),
        fault => Obstacle::Final(unusable(path, fault)),
    };
    let mut connection = connection::writer(path, settings.durability).map_err(fault)?;
    let found = schema::version(&connection).map_err(fault)?;
    if found < schema.oldest || found > schema.newest() {
        return Err(unsupported(path, found, schema));
    }
    let read = |connection: &mut Connection| {
        if bytes <= CHECKED_BYTES {
            check(connection)?;
        }
        schema.migrate(connection)?;
        let loaded = load::load(connection, settings.max_events)?;
        let state = WriterState::read(connection)?;
        connection::keeps_tidy(connection)?;
        Ok((loaded, state))
    };
    let (loaded, state) = read(&mut connection).map_err(fault)?;
    Ok(Opened {
        connection,
        state,
        loaded,
    })
}

/// Looks at a file before SQLite does: something foreign is not to be touched. Returns its size.
fn look_at(path: &Path, schema: Schema) -> Result<u64, Obstacle> {
    let mut file = File::options()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)
        .map_err(StoreError::io(path, "it cannot be opened"))?;
    let found = file
        .metadata()
        .map_err(StoreError::io(path, "it cannot be looked at"))?;
    if found.permissions().mode() & 0o777 != FILE_MODE {
        file.set_permissions(fs::Permissions::from_mode(FILE_MODE))
            .map_err(StoreError::io(path, "its mode cannot be set"))?;
    }
    if found.len() == 0 {
        return Err(Obstacle::Unfit("it is empty".to_owned()));
    }
    let mut header = [0; HEADER_BYTES];
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(Obstacle::Unfit("it is too short for a database".to_owned()));
        }
        read => read.map_err(StoreError::io(path, "it cannot be read"))?,
    }
    if !header.starts_with(MAGIC) {
        return Err(Obstacle::Unfit("it is not an SQLite database".to_owned()));
    }
    let number_at = |place: usize| {
        let bytes = &header[place..place + 4];
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte))
    };
    match number_at(APPLICATION_ID_AT) {
        schema::APPLICATION_ID => Ok(found.len()),
        schema::EARLIER_APPLICATION_ID => {
            Err(unsupported(path, number_at(VERSION_AT).into(), schema))
        }
        _ => Err(Obstacle::Unfit(
            "it is a database of something else".to_owned(),
        )),
    }
}

fn unsupported(path: &Path, found: i64, schema: Schema) -> Obstacle {
    Obstacle::Final(StoreError::UnsupportedVersion {
        path: path.to_owned(),
        found,
        oldest: schema.oldest,
        newest: schema.newest(),
    })
}

/// SQLite's own check of structure, and that the indexes have what the tables have.
fn check(connection: &Connection) -> Result<(), DatabaseError> {
    let sql = "PRAGMA integrity_check(1)";
    let outcome: String = connection.query_row(sql, [], |row| row.get(0))?;
    match outcome.as_str() {
        "ok" => Ok(()),
        _ => Err(DatabaseError::Unsound(outcome.replace('\n', " "))),
    }
}

/// Sets what is at `path` aside and makes a new store with what can be read of it.
fn replace(path: &Path, reason: String, schema: Schema) -> Result<QuarantinedFile, StoreError> {
    let to = quarantine::set_aside(path)?;
    let salvaged = make(path, Some(&to), schema)?;
    quarantine::remove(&quarantine::beside(&to, "-shm"))?;
    quarantine::remove(&Damage::mark(path))?;
    let (from, name) = (path.display(), to.display());
    tracing::error!(
        "{from} was set aside as {name}: {reason}. The new store has {salvaged} executions from it"
    );
    Ok(QuarantinedFile {
        from: path.to_owned(),
        to,
        reason,
        salvaged,
    })
}

/// Makes a store at `path`, with what can be read `from` another one. It is there once it is whole. Returns
/// how many executions it has.
fn make(path: &Path, from: Option<&Path>, schema: Schema) -> Result<u64, StoreError> {
    let new = quarantine::beside(path, ".new");
    quarantine::remove(&new)?;
    quarantine::remove_side_files(&new)?;
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(&new)
        .map_err(StoreError::io(&new, "it cannot be made"))?;
    let fill = || {
        let mut connection = connection::maker(&new)?;
        schema.migrate(&mut connection)?;
        match from {
            Some(from) => salvage::salvage(from, &mut connection),
            None => Ok(0),
        }
    };
    let executions = fill().map_err(|fault| unusable(&new, fault))?;
    file.sync_all()
        .map_err(StoreError::io(&new, "it cannot be synced"))?;
    quarantine::remove_side_files(path)?;
    fs::rename(&new, path).map_err(StoreError::io(&new, "it cannot be renamed"))?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(StoreError::io(parent, "it cannot be synced"))?;
    Ok(executions)
}

fn unusable(path: &Path, fault: DatabaseError) -> StoreError {
    let path = path.to_owned();
    match fault {
        DatabaseError::Sqlite(source) => StoreError::Unusable { path, source },
        other => StoreError::Unreliable {
            path,
            reason: other.to_string(),
        },
    }
}
