//! Exit records: the reports that shims write to disk when no escherd takes them.
//!
//! `<state dir>/exits/<id>.<attempt>.exit` holds one encoded [`ExitReport`] behind a magic number
//! and a checksum. It appears under its name only when it is whole and on disk: it is written under
//! another name, synced, renamed, and the directory synced.
//!
//! ```text
//! magic "eschexi\x0a" (8 bytes)   CRC-32 of magic and report (u32, little endian)   the report
//! ```
//!
//! Both have the same place and meaning in every version, so that damage to the version byte is
//! not mistaken for another version: such a record would be kept for an escherd that never comes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use escher_protocol::codec::{self, CodecError};
use escher_protocol::{ExecutionId, UnsupportedPart};
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::ipc::wire::{ExitReport, KNOWN_PARTS};

/// Name of the directory of the exit records, inside the state directory.
pub const DIRECTORY: &str = "exits";

/// Version of the format, the last byte of the magic number.
pub const FORMAT_VERSION: u8 = 10;

/// The first bytes of an exit record.
pub const MAGIC: [u8; 8] = *b"eschexi\x0a";

/// Longest exit record that is read, in bytes. Without parts of later versions it has a few
/// hundred.
pub const MAX_BYTES: u64 = 128 * 1024;

/// Returns the file name of the record of an attempt.
#[must_use]
pub fn file_name(id: ExecutionId, attempt: u32) -> String {
    format!("{id}.{attempt}.exit")
}

/// Returns the name under which the record of an attempt is written before it is whole.
#[must_use]
pub fn draft_name(id: ExecutionId, attempt: u32) -> String {
    format!("{id}.{attempt}.exit.new")
}

/// Returns the execution and the attempt whose record has this file name.
#[must_use]
pub fn parse_file_name(name: &str) -> Option<(ExecutionId, u32)> {
    let (id, attempt) = name.strip_suffix(".exit")?.split_once('.')?;
    let (id, attempt) = (id.parse().ok()?, attempt.parse().ok()?);
    (file_name(id, attempt) == name).then_some((id, attempt))
}

/// A file that does not yield a report.
#[derive(Debug, thiserror::Error)]
pub enum ExitRecordError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is too long, too short, no exit record, or damaged.
    #[error("{path} is not an exit record: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// It is whole but not decodable.
    #[error("{path} does not hold a report that this version understands: {source}")]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// Where decoding stopped.
        source: CodecError,
    },
    /// Another version has written it.
    #[error(
        "{path} is an exit record of format version {found}; this version reads {FORMAT_VERSION}"
    )]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u8,
    },
    /// Its report has a part that must be understood and is not.
    #[error("{path} cannot be used: {source}")]
    UnsupportedPart {
        /// The file.
        path: PathBuf,
        /// Which part.
        source: UnsupportedPart,
    },
}

impl ExitRecordError {
    /// Whether the file may be a valid record that another version of this program can read.
    #[must_use]
    pub fn is_of_another_version(&self) -> bool {
        matches!(
            self,
            ExitRecordError::OtherVersion { .. } | ExitRecordError::UnsupportedPart { .. }
        )
    }
}

fn encode(report: &ExitReport) -> Result<Vec<u8>, CodecError> {
    let body = codec::encode(report)?;
    let mut bytes = Vec::with_capacity(MAGIC.len() + 4 + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&checksum(&MAGIC, &body).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

fn checksum(magic: &[u8; 8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(magic);
    hasher.update(body);
    hasher.finalize()
}

/// Writes the record of `report` into `directory`, durably. A record that is already there is
/// replaced: it can only be the same.
///
/// # Errors
/// Those of the file system. Under the record's name there is then nothing or all of it, and no
/// draft.
pub fn write(directory: impl AsFd, report: &ExitReport) -> io::Result<()> {
    let directory = directory.as_fd();
    let (id, attempt) = (report.id, report.attempt);
    let (name, draft) = (file_name(id, attempt), draft_name(id, attempt));
    let bytes = encode(report).map_err(io::Error::other)?;

    // A draft may be left by a shim that was killed. What is there is never opened: escherd, which
    // can write to the directory, could have put a link or a fifo there.
    let _ = unlinkat(directory, draft.as_str(), UnlinkatFlags::NoRemoveDir);
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // For the group of the directory, which is escherd's where it is another user.
    let mode = Mode::from_bits_truncate(0o640);
    let mut file = File::from(openat(directory, draft.as_str(), flags, mode)?);
    let renamed = file
        .write_all(&bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| {
            Ok(renameat(
                directory,
                draft.as_str(),
                directory,
                name.as_str(),
            )?)
        });
    if renamed.is_err() {
        let _ = unlinkat(directory, draft.as_str(), UnlinkatFlags::NoRemoveDir);
    }
    renamed?;
    nix::unistd::fsync(directory)?;
    Ok(())
}

/// Reads the record at `path`.
///
/// # Errors
/// When the file is no whole record, or of another version; it is left as it is.
pub fn read(path: &Path) -> Result<ExitReport, ExitRecordError> {
    let report = decode(&read_bytes(path)?, path)?;
    let understood = report.parts.ensure_understood(KNOWN_PARTS);
    understood.map_err(|source| ExitRecordError::UnsupportedPart {
        path: path.to_owned(),
        source,
    })?;
    Ok(report)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, ExitRecordError> {
    let unreadable = |source| ExitRecordError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Ok(bytes)
}

fn decode(bytes: &[u8], path: &Path) -> Result<ExitReport, ExitRecordError> {
    let damaged = |reason| ExitRecordError::Damaged {
        path: path.to_owned(),
        reason,
    };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(damaged("it is too long"));
    }
    let Some((magic, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(damaged("it is too short"));
    };
    if magic[..7] != MAGIC[..7] {
        return Err(damaged("it does not begin with the magic number"));
    }
    let Some((sum, body)) = rest.split_first_chunk::<4>() else {
        return Err(damaged("it is too short"));
    };
    if checksum(magic, body) != u32::from_le_bytes(*sum) {
        return Err(damaged("its checksum is wrong"));
    }
    if magic[7] != FORMAT_VERSION {
        return Err(ExitRecordError::OtherVersion {
            path: path.to_owned(),
            found: magic[7],
        });
    }
    codec::decode(body).map_err(|source| ExitRecordError::Undecodable {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::wire::EndCause;
    use escher_protocol::{Exit, Leftovers, Measurements, Part, Parts, Timestamp};

    const ID: ExecutionId = ExecutionId::from_bytes([7; 16]);

    fn reports() -> [ExitReport; 2] {
        let measurements = Measurements {
            peak_memory_bytes: Some(4096),
            ..Measurements::default()
        };
        [None, Some(measurements)].map(|measured| ExitReport {
            cause: EndCause::TimedOut,
            ladder_signal: Some(15),
            started_at: Some(Timestamp::from_micros(1)),
            leftovers: Leftovers::Killed,
            measured,
            ..ExitReport::new(ID, 2, Exit::Code(3), Timestamp::from_micros(2))
        })
    }

    #[test]
    fn reads_what_it_writes_and_leaves_no_draft() {
        let dir = tempfile::tempdir().unwrap();
        for report in reports() {
            write(File::open(dir.path()).unwrap(), &report).unwrap();
            let path = dir.path().join(file_name(ID, 2));
            assert_eq!(read(&path).unwrap(), report);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    /// A shim that wrote into the file of a hard link wrote over it; at a fifo it waited for ever.
    #[test]
    fn does_not_open_what_has_the_name_of_the_draft() {
        let dir = tempfile::tempdir().unwrap();
        let draft = dir.path().join(draft_name(ID, 2));
        let other = dir.path().join("other");
        std::fs::write(&other, "untouched").unwrap();
        let plant: [&dyn Fn(); 4] = [
            &|| std::fs::hard_link(&other, &draft).unwrap(),
            &|| std::os::unix::fs::symlink(&other, &draft).unwrap(),
            &|| nix::unistd::mkfifo(&draft, Mode::S_IRWXU).unwrap(),
            &|| std::fs::write(&draft, "half a rec").unwrap(),
        ];
        for plant in plant {
            plant();
            write(File::open(dir.path()).unwrap(), &reports()[0]).unwrap();
            assert_eq!(
                read(&dir.path().join(file_name(ID, 2))).unwrap(),
                reports()[0]
            );
            assert_eq!(std::fs::read(&other).unwrap(), b"untouched");
            assert!(!draft.exists());
        }
        // A directory cannot be removed this way, and stays.
        std::fs::create_dir(&draft).unwrap();
        let error = write(File::open(dir.path()).unwrap(), &reports()[0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn detects_every_truncation_and_every_flipped_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.exit");
        for report in reports() {
            let whole = encode(&report).unwrap();
            for length in 0..whole.len() {
                std::fs::write(&path, &whole[..length]).unwrap();
                let error = read(&path).unwrap_err();
                assert!(!error.is_of_another_version(), "cut at {length}: {error}");
            }
            for bit in 0..whole.len() * 8 {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                std::fs::write(&path, &bytes).unwrap();
                let error = read(&path).unwrap_err();
                assert!(
                    matches!(error, ExitRecordError::Damaged { .. }),
                    "bit {bit}: {error}"
                );
            }
        }
    }

    /// Such a record was taken for one of another version and kept, and its execution stayed
    /// running for ever.
    #[test]
    fn a_flipped_bit_in_the_version_is_damage_and_no_other_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.exit");
        let whole = encode(&reports()[0]).unwrap();
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[7] ^= 1 << bit;
            std::fs::write(&path, &bytes).unwrap();
            let error = read(&path).unwrap_err();
            assert!(matches!(error, ExitRecordError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn follows_no_symbolic_link() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        std::fs::write(&real, encode(&reports()[0]).unwrap()).unwrap();
        let link = dir.path().join("link.exit");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(matches!(
            read(&link),
            Err(ExitRecordError::Unreadable { .. })
        ));
    }

    #[test]
    fn a_record_of_another_version_is_refused_by_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.exit");
        for version in [1, 2, 11] {
            let magic = [&MAGIC[..7], &[version]].concat().try_into().unwrap();
            let body = b"anything";
            let sum = checksum(&magic, body).to_le_bytes();
            std::fs::write(&path, [&magic[..], &sum, body].concat()).unwrap();
            let error = read(&path).unwrap_err();
            assert!(error.is_of_another_version());
            let message = error.to_string();
            let named = [format!("version {version};"), "reads 10".to_owned()];
            assert!(named.iter().all(|name| message.contains(name)), "{message}");
        }
    }

    #[test]
    fn an_unknown_part_is_kept_and_refused_only_if_it_must_be_understood() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(file_name(ID, 2));
        let with = |tag| ExitReport {
            parts: Parts::try_from(vec![Part::new(tag, "later")]).unwrap(),
            ..reports()[0].clone()
        };
        write(File::open(dir.path()).unwrap(), &with(4_710)).unwrap();
        assert_eq!(read(&path).unwrap(), with(4_710));
        write(File::open(dir.path()).unwrap(), &with(4_711)).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.is_of_another_version());
        assert!(error.to_string().contains("part 4711"), "{error}");
    }

    #[test]
    fn file_names_are_read_as_they_are_written() {
        assert_eq!(parse_file_name(&file_name(ID, 12)), Some((ID, 12)));
        for name in [
            format!("{ID}.exit"),
            format!("{ID}.01.exit"),
            format!("{ID}.+1.exit"),
            format!("{ID}..exit"),
            draft_name(ID, 1),
        ] {
            assert_eq!(parse_file_name(&name), None, "{name}");
        }
    }
}
