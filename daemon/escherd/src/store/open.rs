//! Opening a store: as it is, newly created, or set aside and recreated from what can be read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use rusqlite::Connection;

use super::error::{DamageEvidence, DatabaseError, StoreError, is_lack_of_space};
use super::journal::{ChangeJournal, replay};
use super::number_mark::NumberMark;
use super::quarantine::{self, FILE_MODE};
use super::salvage::{self, Salvaged};
use super::schema::{self, SCHEMA, Schema};
use super::totals::{Totals, WriterState};
use super::user_totals::UserTotals;
use super::{Durability, LoadedState, apply, connection, damage, erasure, load};

/// The largest database that is checked completely at every start, which takes some tens of
/// milliseconds. In a larger one, damage is noticed where it is read.
const MAX_CHECKED_BYTES: u64 = 8 * 1024 * 1024;

/// The first bytes of every SQLite database (sqlite.org/fileformat2.html, 1.3).
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Size of a database's header, and the position of the application id in it.
const HEADER_BYTES: usize = 100;
const APPLICATION_ID_OFFSET: usize = 68;

/// Settings of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSettings {
    /// What a commit survives.
    pub durability: Durability,
    /// Free bytes of the disk below which submissions are refused.
    pub min_free_bytes: u64,
}

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

/// An open store, for its writer.
#[derive(Debug)]
pub(super) struct OpenStore {
    pub(super) connection: Connection,
    pub(super) state: WriterState,
    pub(super) users: UserTotals,
    pub(super) loaded: LoadedState,
    pub(super) numbers: NumberMark,
    /// The journal; `None` if changes are to survive more than it does.
    pub(super) journal: Option<ChangeJournal>,
}

/// Why an existing file cannot be used as the store.
enum OpenFailure {
    /// It is damaged or not a store: it is to be set aside and replaced.
    Unfit(String),
    /// It must be left alone.
    Fatal(StoreError),
}

impl From<StoreError> for OpenFailure {
    fn from(error: StoreError) -> Self {
        OpenFailure::Fatal(error)
    }
}

/// Opens the store at `path`, and creates it if there is none.
pub(super) fn open(
    path: &Path,
    settings: StoreSettings,
) -> Result<(OpenStore, Vec<QuarantinedFile>), StoreError> {
    open_with_schema(path, settings, SCHEMA)
}

/// As [`open`], with a given schema.
pub(super) fn open_with_schema(
    path: &Path,
    settings: StoreSettings,
    schema: Schema,
) -> Result<(OpenStore, Vec<QuarantinedFile>), StoreError> {
    let mut quarantined = Vec::new();
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => return Err(StoreError::NotAFile(path.to_owned())),
        Ok(_) => match open_existing(path, settings, schema) {
            Ok(opened) => return Ok((opened, quarantined)),
            Err(OpenFailure::Fatal(error)) => return Err(error),
            Err(OpenFailure::Unfit(reason)) => quarantined.push(replace(path, reason, schema)?),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::symlink_metadata(quarantine::wal_path(path)).is_ok() {
                let reason = "its database is missing, and only the write-ahead log is left";
                quarantined.push(replace(path, reason.to_owned(), schema)?);
            } else {
                create(path, None, schema)?;
            }
        }
        Err(error) => return Err(StoreError::io(path, "it cannot be inspected")(error)),
    }
    match open_existing(path, settings, schema) {
        Ok(mut opened) => {
            // What the file lacks had numbers, too.
            let last_number = &mut opened.state.totals.last_number;
            *last_number = opened.numbers.get().max(*last_number);
            opened.loaded.last_number = *last_number;
            Ok((opened, quarantined))
        }
        Err(OpenFailure::Fatal(error)) => Err(error),
        Err(OpenFailure::Unfit(reason)) => Err(StoreError::Unreliable {
            path: path.to_owned(),
            reason,
        }),
    }
}

fn open_existing(
    path: &Path,
    settings: StoreSettings,
    schema: Schema,
) -> Result<OpenStore, OpenFailure> {
    let bytes = inspect(path)?;
    if let Ok(found) = fs::read_to_string(quarantine::damage_mark_path(path)) {
        let found = found.trim();
        return Err(OpenFailure::Unfit(format!(
            "damage was found in it: {found}"
        )));
    }
    let failure = |error: DatabaseError| {
        // Nothing can be said about a file that SQLite has no space to open.
        if is_lack_of_space(path, &error) {
            return OpenFailure::Fatal(StoreError::no_space(path));
        }
        // No request has led to these statements. So if one fails, and a check does too, for whatever
        // reason, then the file is not one that SQLite can use.
        if error.evidence() == DamageEvidence::Proof || damage::is_confirmed(path) {
            OpenFailure::Unfit(format!("it is damaged: {error}"))
        } else {
            OpenFailure::Fatal(store_error(path, error))
        }
    };
    let mut connection = connection::writer(path, settings.durability).map_err(failure)?;
    let version = schema::version(&connection).map_err(failure)?;
    if version < schema.oldest || version > schema.newest() {
        return Err(unsupported_version(path, version, schema));
    }
    let prepare = |connection: &mut Connection| {
        if bytes <= MAX_CHECKED_BYTES {
            damage::check_integrity(connection)?;
        }
        schema.migrate(connection)?;
        schema.check(connection)?;
        Totals::read(connection)
    };
    let totals = prepare(&mut connection).map_err(failure)?;
    let missing = replay::read_missing(path, totals.store_id, totals.journal_sequence)?;
    let read = |connection: &mut Connection| {
        apply::apply_missing(connection, &missing)?;
        let loaded = load::load(connection)?;
        let state = WriterState::read(connection)?;
        let users = UserTotals::read(connection, state.totals.history)?;
        connection::checkpoint_on_close(connection)?;
        Ok((loaded, state, users))
    };
    let (loaded, state, users) = read(&mut connection).map_err(failure)?;
    let journal = open_journal(path, settings.durability, state.totals)?;
    Ok(OpenStore {
        connection,
        numbers: NumberMark::read(path),
        journal,
        state,
        users,
        loaded,
    })
}

/// Opens the journal of a store that has everything in it.
fn open_journal(
    path: &Path,
    durability: Durability,
    totals: Totals,
) -> Result<Option<ChangeJournal>, StoreError> {
    let failure = StoreError::io(path, "its journal cannot be created");
    let journal = ChangeJournal::create(path, totals.store_id, totals.journal_sequence);
    match durability {
        Durability::Crash => journal.map(Some).map_err(failure),
        // What an escherd with another setting has left is overwritten.
        Durability::Power => journal.map(|_| None).map_err(failure),
    }
}

/// Inspects a file before SQLite opens it, so that foreign files are not touched. Returns its size.
fn inspect(path: &Path) -> Result<u64, OpenFailure> {
    let mut file = File::options()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)
        .map_err(StoreError::io(path, "it cannot be opened"))?;
    let metadata = file
        .metadata()
        .map_err(StoreError::io(path, "it cannot be inspected"))?;
    if metadata.permissions().mode() & 0o777 != FILE_MODE {
        file.set_permissions(fs::Permissions::from_mode(FILE_MODE))
            .map_err(StoreError::io(path, "its mode cannot be set"))?;
    }
    if metadata.len() == 0 {
        return Err(OpenFailure::Unfit("it is empty".to_owned()));
    }
    let mut header = [0; HEADER_BYTES];
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(OpenFailure::Unfit(
                "it is too short for a database".to_owned(),
            ));
        }
        read => read.map_err(StoreError::io(path, "it cannot be read"))?,
    }
    if !header.starts_with(SQLITE_MAGIC) {
        return Err(OpenFailure::Unfit(
            "it is not an SQLite database".to_owned(),
        ));
    }
    let application_id = header[APPLICATION_ID_OFFSET..]
        .iter()
        .take(4)
        .fold(0, |id, byte| id << 8 | u32::from(*byte));
    if application_id == schema::APPLICATION_ID {
        Ok(metadata.len())
    } else {
        Err(OpenFailure::Unfit(
            "it is a database of another program".to_owned(),
        ))
    }
}

fn unsupported_version(path: &Path, found: i64, schema: Schema) -> OpenFailure {
    OpenFailure::Fatal(StoreError::UnsupportedVersion {
        path: path.to_owned(),
        found,
        oldest: schema.oldest,
        newest: schema.newest(),
    })
}

/// Sets the file at `path` aside and creates a new store with what can be read of it.
fn replace(path: &Path, reason: String, schema: Schema) -> Result<QuarantinedFile, StoreError> {
    let to = quarantine::set_aside(path)?;
    let salvaged = create(path, Some(&to), schema)?;
    // The new store is on the disk and has these requests.
    if let Err(error) = erasure::erase_requests(&to, &salvaged.requests) {
        let to = to.display();
        tracing::error!(
            "{to} still has environments of commands, because it cannot be changed: {error}. Delete \
             it if it need not be examined"
        );
    }
    let salvaged = salvaged.executions;
    quarantine::remove(&quarantine::with_suffix(&to, "-shm"))?;
    quarantine::remove(&quarantine::damage_mark_path(path))?;
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

/// Creates a store at `path`, with what can be read of the one at `from`. The file appears when it
/// is complete. Returns what was read.
fn create(path: &Path, from: Option<&Path>, schema: Schema) -> Result<Salvaged, StoreError> {
    let new = quarantine::with_suffix(path, ".new");
    quarantine::remove(&new)?;
    quarantine::remove_side_files(&new)?;
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(&new)
        .map_err(StoreError::io(&new, "it cannot be created"))?;
    let fill = || {
        let mut connection = connection::creator(&new)?;
        schema.migrate(&mut connection)?;
        match from {
            Some(from) => salvage::salvage(from, &mut connection),
            None => Ok(Salvaged::default()),
        }
    };
    let salvaged = fill().map_err(|error| store_error(&new, error))?;
    file.sync_all()
        .map_err(StoreError::io(&new, "it cannot be synced"))?;
    quarantine::remove_side_files(path)?;
    fs::rename(&new, path).map_err(StoreError::io(&new, "it cannot be renamed"))?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(StoreError::io(parent, "it cannot be synced"))?;
    Ok(salvaged)
}

fn store_error(path: &Path, error: DatabaseError) -> StoreError {
    if is_lack_of_space(path, &error) {
        return StoreError::no_space(path);
    }
    let path = path.to_owned();
    match error {
        DatabaseError::Sqlite(source) => StoreError::Unusable { path, source },
        other => StoreError::Unreliable {
            path,
            reason: other.to_string(),
        },
    }
}
