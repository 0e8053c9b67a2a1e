//! Reading logs: ranges, last lines, and the output of a command that is still writing.
//!
//! [`log`] reads the bytes and [`index`] the streams to which they belong; both block.
//! [`OutputReader`] takes them off the event loop, and [`Excerpt`] uses it to read what a result
//! carries by the [`OutputRules`]. All bytes up to the length of the log are trusted: the index
//! names the stream of each before it is written (see [`escher_launcher::ipc::log_index`]).

mod excerpt;
mod index;
mod log;
#[cfg(test)]
mod sample;
mod truncation;

pub use excerpt::{Excerpt, ExcerptPart};
pub use truncation::{OutputRules, OversizedOutput};

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use escher_protocol::{ApiError, ErrorCode, OutputChunk, OutputStart, StreamSelection};
use nix::unistd::geteuid;
use tokio::sync::OwnedSemaphorePermit;

use self::log::LogFiles;
use crate::blocking::{Abandoned, BlockingPool};

/// What a reader needs of escherd: threads, in the turn of a user, and descriptors.
#[derive(Debug, Clone)]
pub(crate) struct ReaderResources {
    pub(crate) threads: BlockingPool,
    pub(crate) uid: u32,
    /// The permit to have the log open. Work that goes on after its client has disconnected keeps it.
    pub(crate) open_log: Arc<OwnedSemaphorePermit>,
}

/// A reader of one execution's output.
#[derive(Debug)]
pub struct OutputReader {
    resources: ReaderResources,
    path: PathBuf,
    streams: StreamSelection,
    /// `None` until there is a log.
    files: Option<LogFiles>,
    offset: u64,
}

/// Consecutive chunks, and where to continue.
#[derive(Debug, Default)]
pub struct OutputBatch {
    /// Chunks of the selected streams; empty if there are none before `next_offset`.
    pub chunks: Vec<OutputChunk>,
    /// The offset up to which the log was read.
    pub next_offset: u64,
}

impl OutputReader {
    /// Creates a reader of the log at `path`, from its beginning. The log need not exist yet.
    #[must_use]
    pub(crate) fn new(path: PathBuf, streams: StreamSelection, resources: ReaderResources) -> Self {
        OutputReader {
            resources,
            path,
            streams,
            files: None,
            offset: 0,
        }
    }

    /// Returns the offset at which the next [`OutputReader::read`] begins.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Moves to `start`; last lines are counted back from `end`. Cancel-safe, as the other methods
    /// are: a dropped call does not move the reader.
    ///
    /// # Errors
    /// `output-unavailable` when the log cannot be read.
    pub async fn seek(&mut self, start: OutputStart, end: u64) -> Result<(), ApiError> {
        self.offset = match start {
            OutputStart::Offset(offset) => offset,
            OutputStart::LastLines(lines) => {
                let streams = self.streams;
                self.run_blocking(move |files| {
                    let end = end.min(files.length()?);
                    files.start_of_last_lines(streams, lines, end)
                })
                .await?
                .unwrap_or(0)
            }
        };
        Ok(())
    }

    /// Opens the log if it exists, so that it can be read even if it is removed later. Returns its
    /// length.
    ///
    /// # Errors
    /// As [`OutputReader::seek`].
    pub async fn open(&mut self) -> Result<u64, ApiError> {
        self.length().await
    }

    /// Returns the current length of the log; 0 if there is none.
    ///
    /// # Errors
    /// As [`OutputReader::seek`].
    pub async fn length(&mut self) -> Result<u64, ApiError> {
        let length = self.run_blocking(LogFiles::length).await?;
        Ok(length.unwrap_or(0))
    }

    /// Reads some output before `end`, which must not be past the end of the log.
    ///
    /// # Errors
    /// `output-unavailable` when the log is missing, shorter than `end`, or damaged.
    pub async fn read(&mut self, end: u64) -> Result<OutputBatch, ApiError> {
        let (streams, offset) = (self.streams, self.offset);
        if offset >= end {
            return Ok(OutputBatch {
                chunks: Vec::new(),
                next_offset: offset,
            });
        }
        let batch = self
            .run_blocking(move |files| files.read(streams, offset, end))
            .await?;
        let batch = batch.ok_or_else(|| self.unavailable(&io::ErrorKind::NotFound.into()))?;
        self.offset = batch.next_offset;
        Ok(batch)
    }

    /// Runs `work` on the files, off the event loop; returns `None` if there are none.
    async fn run_blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut LogFiles) -> io::Result<T> + Send + 'static,
    ) -> Result<Option<T>, ApiError> {
        let (files, path) = (self.files.take(), self.path.clone());
        let ReaderResources {
            threads,
            uid,
            open_log,
        } = self.resources.clone();
        let work = move |abandoned: &Abandoned| {
            let _open_log = open_log;
            let mut files = match files {
                Some(files) => files,
                None => match LogFiles::open(&path)? {
                    Some(files) => files,
                    None => return Ok((None, None)),
                },
            };
            files.set_abandoned(abandoned.clone());
            let result = work(&mut files)?;
            Ok((Some(files), Some(result)))
        };
        let done = threads
            .run(uid, work)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        let (files, result) = done.map_err(|error| self.unavailable(&error))?;
        self.files = files;
        Ok(result)
    }

    fn unavailable(&self, error: &io::Error) -> ApiError {
        let message = format!("the log {} cannot be read: {error}", self.path.display());
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => format!(
                "escherd, which is user {}, has no permission to read it: check the mode (0640) and \
                 group of the log and of its directories, which must belong to escherd or its group",
                geteuid()
            ),
            _ => "something other than escher removed, moved or damaged it".to_owned(),
        };
        ApiError::new(ErrorCode::OUTPUT_UNAVAILABLE, message).with_hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_without_read_permission_is_not_called_damaged() {
        let reader = sample::reader("/x.log".into(), StreamSelection::Both);
        for (kind, expected) in [
            (io::ErrorKind::PermissionDenied, "group"),
            (io::ErrorKind::NotFound, "removed, moved or damaged"),
            (io::ErrorKind::InvalidData, "removed, moved or damaged"),
        ] {
            let error = reader.unavailable(&kind.into());
            assert_eq!(error.code, ErrorCode::OUTPUT_UNAVAILABLE);
            let hint = error.hint.unwrap();
            assert!(hint.contains(expected), "{hint}");
        }
    }
}
