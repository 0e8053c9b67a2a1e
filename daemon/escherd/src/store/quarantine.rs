//! Damaged and foreign files: set aside under a name that never replaces another file, and kept for a
//! while.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use escher_protocol::Timestamp;

use super::error::StoreError;

/// The owner's alone: commands and their environments are in the files.
pub(super) const FILE_MODE: u32 = 0o600;

/// What separates the name of a store from the time at which it was set aside.
const SET_ASIDE: &str = ".set-aside-";

/// Format of that time, and the length of what it formats.
const TIME_FORMAT: &str = "%Y%m%dT%H%M%SZ";
const TIME_BYTES: usize = "20260102T030405Z".len();

/// How many names are tried within the same second.
const MAX_NAMES: u32 = 1000;

/// Returns `path` with `suffix`, as SQLite names the files that belong to a database.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Suffixes of the files that belong to a database.
const SIDE_SUFFIXES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Returns the path of the write-ahead log of the database at `path`.
pub(super) fn wal_path(path: &Path) -> PathBuf {
    with_suffix(path, "-wal")
}

/// Gives the database at `path`, or what remains of it, a second name with all that belongs to it,
/// and returns the name. The first name stays, so that a crash before the new store is complete
/// changes nothing.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let now = jiff::Timestamp::now().strftime(TIME_FORMAT);
    let stem = with_suffix(path, &format!("{SET_ASIDE}{now}"));
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
    /// The databases that were set aside, in order.
    pub set_aside: Vec<SetAsideStore>,
    /// Whether damage was found since the last start.
    pub is_damaged: bool,
}

/// A database that was set aside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetAsideStore {
    /// The name of the file.
    pub name: String,
    /// When it was set aside; `None` if its name does not say so.
    pub since: Option<Timestamp>,
}

/// Looks for signs of damage beside the store at `path`.
///
/// # Errors
/// When its directory cannot be read.
pub fn damage_report(path: &Path) -> io::Result<DamageReport> {
    let mut set_aside = files_set_aside(path)?;
    set_aside.retain(|file| !is_side_file(&file.name));
    set_aside.sort_unstable();
    Ok(DamageReport {
        set_aside,
        is_damaged: fs::symlink_metadata(damage_mark_path(path)).is_ok(),
    })
}

/// Deletes what was set aside of the store at `path` longer than `age` ago, and returns the names of
/// the files.
///
/// # Errors
/// When the directory cannot be read, or a file cannot be deleted. The others are deleted.
pub(super) fn delete_expired(
    path: &Path,
    age: Duration,
    now: Timestamp,
) -> io::Result<Vec<String>> {
    let directory = directory(path);
    let (mut deleted, mut failure) = (Vec::new(), None);
    for file in files_set_aside(path)? {
        let is_expired = |since: Timestamp| since.saturating_add(age) <= now;
        if !file.since.is_some_and(is_expired) {
            continue;
        }
        match fs::remove_file(directory.join(&file.name)) {
            Ok(()) => deleted.push(file.name),
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(deleted), Err)
}

/// Returns all files that were set aside, with those that belong to a database.
fn files_set_aside(path: &Path) -> io::Result<Vec<SetAsideStore>> {
    let head = path.file_name().unwrap_or_default().to_string_lossy() + SET_ASIDE;
    let mut files = Vec::new();
    for entry in fs::read_dir(directory(path))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(rest) = name.strip_prefix(&*head) {
            let since = rest.get(..TIME_BYTES).and_then(parse_time);
            files.push(SetAsideStore { name, since });
        }
    }
    Ok(files)
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let time = jiff::civil::DateTime::strptime(TIME_FORMAT, text).ok()?;
    let time = jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?;
    Some(Timestamp::from_micros(time.as_microsecond()))
}

/// Returns whether a file of this name belongs to a database.
fn is_side_file(name: &str) -> bool {
    SIDE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
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
    for suffix in SIDE_SUFFIXES {
        remove(&with_suffix(path, suffix))?;
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

/// Returns the path of the mark by which the next start sets the store at `path` aside.
pub(super) fn damage_mark_path(path: &Path) -> PathBuf {
    with_suffix(path, ".damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_were_set_aside_are_deleted_when_their_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("escher.db");
        let old = "escher.db.set-aside-20260102T003000Z";
        let names = [
            old.to_owned(),
            format!("{old}-wal"),
            format!("{old}-2"),
            "escher.db.set-aside-20260102T003001Z".to_owned(),
            "escher.db.set-aside-long-ago".to_owned(),
            "escher.db".to_owned(),
        ];
        for name in &names {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let since = Timestamp::from_micros(1_767_313_800_000_000);
        let report = damage_report(&path).unwrap();
        let first = report.set_aside.first().unwrap();
        assert_eq!((first.name.as_str(), first.since), (old, Some(since)));
        assert_eq!(report.set_aside.len(), 4, "without the -wal");
        let day = Duration::from_secs(24 * 60 * 60);
        let just_before = Timestamp::from_micros(since.as_micros() + 86_399_999_999);
        assert_eq!(delete_expired(&path, day, just_before).unwrap(), [""; 0]);
        assert_eq!(
            delete_expired(&path, Duration::MAX, just_before).unwrap(),
            [""; 0]
        );
        let mut deleted = delete_expired(&path, day, since.saturating_add(day)).unwrap();
        deleted.sort_unstable();
        assert_eq!(deleted, [&*names[0], &names[2], &names[1]]);
        assert!(names[3..].iter().all(|name| dir.path().join(name).exists()));
    }
}
