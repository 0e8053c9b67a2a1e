//! Exit records: what a shim leaves on disk when there is no escherd to tell.
//!
//! `<state dir>/exits/<id>.exit` holds one encoded [`ExitReport`] behind a magic number and a checksum. It
//! appears under its name only when it is whole and on disk: it is written under another name, synced,
//! renamed, and the directory synced.
//!
//! ```text
//! magic "eschexi\x01" (8 bytes)   CRC-32 of what follows (u32, little endian)   the report
//! magic "eschexi\x02"             the same                                      the report, the measurements
//! ```
//!
//! The second is that of a command which had a cgroup.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use escher_protocol::codec::{self, CodecError};
use escher_protocol::{ExecutionId, Measurements};
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::ipc::wire::ExitReport;

/// Name of the directory of the exit records, inside the state directory.
pub const DIRECTORY: &str = "exits";

/// The first bytes of an exit record without measurements; the last of them is the format's version.
pub const MAGIC: [u8; 8] = *b"eschexi\x01";

/// The first bytes of one with measurements.
pub const MAGIC_MEASURED: [u8; 8] = *b"eschexi\x02";

/// What an exit record holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitRecord {
    /// What became of the command.
    pub report: ExitReport,
    /// What its cgroup has counted, if it had one.
    pub measured: Option<Measurements>,
}

/// Longest exit record that is read, in bytes. A whole one has a few hundred.
pub const MAX_BYTES: u64 = 64 * 1024;

/// The file name of the record of `id`.
#[must_use]
pub fn file_name(id: ExecutionId) -> String {
    format!("{id}.exit")
}

/// The name under which the record of `id` is written before it is whole.
#[must_use]
pub fn draft_name(id: ExecutionId) -> String {
    format!("{id}.exit.new")
}

/// A file that is no whole exit record.
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
    /// It is too long, too short, of another format, or damaged.
    #[error("{path} is no exit record: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// The checksum is right but this version does not understand the report.
    #[error("{path} holds no report that this version understands: {source}")]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Where decoding stopped.
        source: CodecError,
    },
}

fn encode(record: &ExitRecord) -> Result<Vec<u8>, CodecError> {
    let (magic, body) = match &record.measured {
        None => (MAGIC, codec::encode(&record.report)?),
        Some(measured) => (MAGIC_MEASURED, codec::encode(&(&record.report, measured))?),
    };
    let mut bytes = Vec::with_capacity(magic.len() + 4 + body.len());
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Writes `record` into `directory`, durably. One that is already there is replaced: it
/// can only be the same.
///
/// # Errors
/// Those of the file system. Nothing is then there under the record's name, or all of it, and no draft.
pub fn write(directory: impl AsFd, record: &ExitRecord) -> io::Result<()> {
    let directory = directory.as_fd();
    let id = record.report.id;
    let (name, draft) = (file_name(id), draft_name(id));
    let bytes = encode(record).map_err(io::Error::other)?;

    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
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
/// When the file is no whole record; it is left as it is.
pub fn read(path: &Path) -> Result<ExitRecord, ExitRecordError> {
    let unreadable = |source| ExitRecordError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let damaged = |reason| ExitRecordError::Damaged {
        path: path.to_owned(),
        reason,
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
    if bytes.len() as u64 > MAX_BYTES {
        return Err(damaged("it is too long"));
    }
    let Some((magic, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(damaged("it is too short"));
    };
    if ![MAGIC, MAGIC_MEASURED].contains(magic) {
        return Err(damaged("it does not begin with the magic number"));
    }
    let Some((sum, body)) = rest.split_first_chunk::<4>() else {
        return Err(damaged("it is too short"));
    };
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return Err(damaged("its checksum is wrong"));
    }
    let decoded = if *magic != MAGIC_MEASURED {
        codec::decode(body).map(|report| (report, None))
    } else {
        codec::decode(body).map(|(report, measured)| (report, Some(measured)))
    };
    let (report, measured) = decoded.map_err(|source| ExitRecordError::Unknown {
        path: path.to_owned(),
        source,
    })?;
    Ok(ExitRecord { report, measured })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::wire::EndCause;
    use escher_protocol::{Exit, Leftovers, OutputTotals, Timestamp, Usage};

    fn report() -> ExitReport {
        ExitReport {
            id: ExecutionId::from_bytes([7; 16]),
            exit: Exit::Code(3),
            cause: EndCause::TimedOut,
            ended_by_signal: Some(15),
            started_at: Some(Timestamp::from_micros(1)),
            ended_at: Timestamp::from_micros(2),
            duration_us: 1,
            usage: Usage::default(),
            output: OutputTotals::default(),
            leftovers: Leftovers::Killed,
        }
    }

    fn records() -> [ExitRecord; 2] {
        let measurements = Measurements {
            peak_memory_bytes: Some(4096),
            ..Measurements::default()
        };
        [None, Some(measurements)].map(|measured| ExitRecord {
            report: report(),
            measured,
        })
    }

    #[test]
    fn a_record_survives_the_disk_and_leaves_no_draft() {
        let dir = tempfile::tempdir().unwrap();
        for record in records() {
            write(File::open(dir.path()).unwrap(), &record).unwrap();
            let path = dir.path().join(file_name(report().id));
            assert_eq!(read(&path).unwrap(), record);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.exit");
        for record in records() {
            let whole = encode(&record).unwrap();
            for length in 0..whole.len() {
                std::fs::write(&path, &whole[..length]).unwrap();
                assert!(read(&path).is_err(), "cut at {length}");
            }
            for bit in 0..whole.len() * 8 {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                std::fs::write(&path, &bytes).unwrap();
                assert!(read(&path).is_err(), "bit {bit} flipped");
            }
        }
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        std::fs::write(&real, encode(&records()[0]).unwrap()).unwrap();
        let link = dir.path().join("link.exit");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(matches!(
            read(&link),
            Err(ExitRecordError::Unreadable { .. })
        ));
    }
}
