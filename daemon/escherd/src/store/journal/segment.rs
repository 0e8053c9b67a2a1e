//! A file of the journal: a header, then records.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use super::{SEGMENT_BYTES, StoreId};
use crate::store::quarantine::FILE_MODE;

/// The first bytes of a journal. The last one is the version of the format.
const MAGIC: [u8; 8] = *b"eschejn\x0a";

/// Bytes of the header: the magic number and the id of the store.
const HEADER_BYTES: u64 = 24;

/// A file that is written.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: File,
    /// Where the next record begins.
    end: u64,
    last_sequence: u64,
    has_secrets: bool,
}

impl Segment {
    /// Creates the file at `path`, or overwrites it.
    pub(super) fn create(path: &Path, id: StoreId) -> io::Result<Self> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(path)?;
        let mut segment = Segment {
            end: file.metadata()?.len(),
            file,
            last_sequence: 0,
            has_secrets: true,
        };
        segment.reset()?;
        let header = [MAGIC.as_slice(), &id].concat();
        segment.file.write_all_at(&header, 0)?;
        Ok(segment)
    }

    /// Appends whole records. After an error it has none of them.
    pub(super) fn append(
        &mut self,
        records: &[u8],
        last_sequence: u64,
        has_secrets: bool,
    ) -> io::Result<()> {
        if let Err(error) = self.file.write_all_at(records, self.end) {
            // A record that was written all the same would be applied by the next escherd.
            self.file.set_len(self.end)?;
            return Err(error);
        }
        self.end += records.len() as u64;
        self.last_sequence = last_sequence;
        self.has_secrets |= has_secrets;
        Ok(())
    }

    /// Begins again if all records are among those up to `sequence`.
    pub(super) fn reset_if_applied(&mut self, sequence: u64) -> io::Result<()> {
        if self.is_empty() || self.last_sequence > sequence {
            return Ok(());
        }
        self.reset()
    }

    /// Begins again. Overwrites what may have had secrets in it.
    fn reset(&mut self) -> io::Result<()> {
        if self.has_secrets {
            let begin = HEADER_BYTES.min(self.end);
            zero(&self.file, begin, self.end)?;
        }
        self.has_secrets = false;
        self.end = HEADER_BYTES;
        if self.file.metadata()?.len() > SEGMENT_BYTES {
            self.file.set_len(SEGMENT_BYTES)?;
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end == HEADER_BYTES
    }

    /// Returns the bytes of the header and the records.
    pub(super) fn bytes(&self) -> u64 {
        self.end
    }
}

/// Overwrites a part of a file with zeros.
fn zero(file: &File, begin: u64, end: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut at = begin;
    while at < end {
        let rest = usize::try_from(end - at).unwrap_or(usize::MAX);
        let zeros = &ZEROS[..rest.min(ZEROS.len())];
        file.write_all_at(zeros, at)?;
        at += zeros.len() as u64;
    }
    Ok(())
}

/// Returns the bytes of the records in the file at `path`, with whatever follows them: none if there is no file, or it is
/// not of the journal of the store `id`, which is logged.
pub(super) fn read(path: &Path, id: StoreId) -> io::Result<Vec<u8>> {
    let file = File::options()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path);
    let mut bytes = Vec::new();
    match file {
        Ok(mut file) => file.read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(bytes),
        Err(error) => return Err(error),
    };
    if let Some(records) = bytes.strip_prefix([MAGIC.as_slice(), &id].concat().as_slice()) {
        return Ok(records.to_owned());
    }
    if !bytes.is_empty() {
        let path = path.display();
        tracing::error!("{path} is not of this store: the changes in it are ignored");
    }
    Ok(Vec::new())
}
