//! Reading logs: ranges, last lines, and the output of a command that is still writing.
//!
//! [`log`] reads the bytes and [`index`] the streams to which they belong; both block.
//! [`OutputReader`] takes them off the event loop, and [`Excerpt`] uses it to read what a result
//! carries by the [`OutputRules`]. All bytes up to the length of the log are trusted: the index
//! names the stream of each before it is written (see [`escher_launcher::ipc::log_index`]). Where
//! some are missing, it is said ([`OutputGap`]).

mod excerpt;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod gap_tests;
mod gaps;
mod index;
mod log;
#[cfg(test)]
mod log_tests;
#[cfg(test)]
mod sample;
mod selection;
mod truncation;

pub use excerpt::{Excerpt, ExcerptPart};
pub use selection::OutputTimes;
pub use truncation::{OutputRules, OversizedOutput};

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use escher_protocol::message::MAX_RESULT_GAPS;
use escher_protocol::{
    ApiError, ErrorCode, GapReason, OutputGap, OutputItem, OutputStart, StreamSelection, Timestamp,
};
use nix::unistd::geteuid;
use tokio::sync::OwnedSemaphorePermit;

use self::gaps::dropped_gap;
use self::log::{LogFiles, ReadRange};
use self::selection::OutputSelection;
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
    selection: OutputSelection,
    /// `None` until there is a log.
    files: Option<LogFiles>,
    offset: u64,
}

/// The log was deleted while it was read.
#[derive(Debug, thiserror::Error)]
#[error("it was deleted meanwhile")]
struct DeletedLog;

/// Consecutive items, and where to continue.
#[derive(Debug, Default)]
pub struct OutputBatch {
    /// Chunks of the selected streams, and gaps; empty if there are none before `next_offset`.
    pub items: Vec<OutputItem>,
    /// The offset up to which the log was read.
    pub next_offset: u64,
}

impl OutputBatch {
    fn empty(next_offset: u64) -> Self {
        OutputBatch {
            items: Vec::new(),
            next_offset,
        }
    }

    /// Drops what lies before `start`.
    fn begin_at(&mut self, start: u64) {
        self.items.retain_mut(|item| match item {
            OutputItem::Gap(gap) => gap.offset >= start,
            OutputItem::Chunk(chunk) => {
                let before = start.saturating_sub(chunk.offset);
                let before = usize::try_from(before).unwrap_or(usize::MAX);
                if before == 0 {
                    return true;
                }
                let Some(rest) = chunk.data.get(before..).filter(|rest| !rest.is_empty()) else {
                    return false;
                };
                chunk.data = rest.into();
                chunk.offset = start;
                true
            }
        });
        self.next_offset = self.next_offset.max(start);
    }
}

impl OutputReader {
    /// Creates a reader of the log at `path`, from its beginning. The log need not exist yet.
    #[must_use]
    pub(crate) fn new(path: PathBuf, streams: StreamSelection, resources: ReaderResources) -> Self {
        OutputReader {
            resources,
            path,
            selection: streams.into(),
            files: None,
            offset: 0,
        }
    }

    /// Has the reader read what arrived between `times` alone, for a command that was started at `start`.
    pub(crate) fn select_times(&mut self, times: OutputTimes, start: Timestamp) {
        self.selection.select_times(times, start);
    }

    /// Returns the offset at which the next [`OutputReader::read`] begins.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Moves to `start`; last lines are counted back from `end`. Returns the gap before them, if
    /// some of them were forgotten. Cancel-safe, as the other methods are: a dropped call does not
    /// move the reader.
    ///
    /// # Errors
    /// `output-unavailable` when the log cannot be read.
    pub async fn seek(
        &mut self,
        start: OutputStart,
        end: u64,
    ) -> Result<Option<OutputGap>, ApiError> {
        let lines = match start {
            OutputStart::Offset(offset) => {
                self.offset = offset;
                return Ok(None);
            }
            OutputStart::LastLines(lines) => lines,
        };
        let selection = self.selection;
        let found = self
            .run_blocking(move |files| files.start_of_last_lines(selection, lines, end))
            .await?;
        self.offset = found.map_or(0, |found| found.offset);
        let lacks_lines = found.is_some_and(|found| found.lacks_lines);
        Ok(lacks_lines.then_some(OutputGap {
            offset: 0,
            bytes: Some(self.offset),
            reason: GapReason::Forgotten,
        }))
    }

    /// Opens the log if it exists. Returns how much has been written of it, as
    /// [`OutputReader::written_length`].
    ///
    /// # Errors
    /// As [`OutputReader::seek`].
    pub async fn open(&mut self) -> Result<u64, ApiError> {
        self.written_length().await
    }

    /// Returns how much has been written of the log, which is its length unless it was cut from
    /// outside; 0 if there is none.
    ///
    /// # Errors
    /// As [`OutputReader::seek`].
    pub async fn written_length(&mut self) -> Result<u64, ApiError> {
        let length = self.run_blocking(LogFiles::written_length).await?;
        Ok(length.unwrap_or(0))
    }

    /// Reads some output before `end`, up to which the log is known to have been written, and says
    /// what is missing before `stop`, which may be further.
    ///
    /// # Errors
    /// `output-unavailable` when the log is missing or damaged.
    pub async fn read(&mut self, end: u64, stop: u64) -> Result<OutputBatch, ApiError> {
        let (selection, offset) = (self.selection, self.offset);
        if offset >= end {
            return Ok(OutputBatch::empty(offset));
        }
        let range = ReadRange { offset, end, stop };
        let batch = self
            .run_blocking(move |files| files.read(selection, range))
            .await?;
        let batch = batch.ok_or_else(|| self.unavailable(&io::ErrorKind::NotFound.into()))?;
        self.offset = batch.next_offset;
        Ok(batch)
    }

    /// Returns the output that was dropped at the end of the log, which is at `end`. `dropped` counts
    /// all bytes that were dropped; `None` while that is not known.
    ///
    /// # Errors
    /// `output-unavailable` when the index is damaged.
    pub async fn final_gap(
        &mut self,
        end: u64,
        dropped: Option<u64>,
    ) -> Result<Option<OutputGap>, ApiError> {
        let found = self
            .run_blocking(move |files| files.final_gap(end, dropped))
            .await?;
        Ok(found.unwrap_or_else(|| dropped_gap(end, dropped.unwrap_or(0))))
    }

    /// Returns where the log of a finished execution lacks output, at most [`MAX_RESULT_GAPS`] places:
    /// the last stands for all that follow. `end` and `dropped` are as for
    /// [`OutputReader::final_gap`].
    ///
    /// # Errors
    /// `output-unavailable` when the index is damaged.
    pub async fn gaps(
        &mut self,
        end: u64,
        dropped: Option<u64>,
    ) -> Result<Vec<OutputGap>, ApiError> {
        let found = self
            .run_blocking(move |files| files.gaps(end, dropped, MAX_RESULT_GAPS))
            .await?;
        let without_log = || dropped_gap(0, dropped.unwrap_or(0));
        Ok(found.unwrap_or_else(|| without_log().into_iter().collect()))
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
            let result = work(&mut files);
            // What was read of it may be from before or after that.
            if files.is_deleted()? {
                return Err(io::Error::other(DeletedLog));
            }
            Ok((Some(files), Some(result?)))
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
        // Errors that no system call has reported have no text for people.
        let reason = match error.kind() {
            io::ErrorKind::NotFound if error.raw_os_error().is_none() => {
                "there is no such file".to_owned()
            }
            io::ErrorKind::UnexpectedEof => "it or its index is too short".to_owned(),
            _ => error.to_string(),
        };
        let message = format!("the log {} cannot be read: {reason}", self.path.display());
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => format!(
                "escherd, which is user {}, has no permission to read it: check the mode (0640) and \
                 group of the log and of its directories, which must belong to escherd or its group",
                geteuid()
            ),
            _ if error
                .get_ref()
                .is_some_and(|error| error.is::<DeletedLog>()) =>
            {
                "it went with its execution, or by the limits of the history".to_owned()
            }
            _ => "something other than escher removed, moved or damaged it".to_owned(),
        };
        ApiError::new(ErrorCode::OUTPUT_UNAVAILABLE, message).with_hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample::SampleLog;
    use escher_protocol::OutputStream;
    use std::fs::{self, File};

    #[tokio::test]
    async fn a_log_that_is_deleted_while_it_is_read_is_an_error() {
        let sample = SampleLog::new([(OutputStream::Stdout, "abc"), (OutputStream::Stderr, "XY")]);
        let mut reader = sample::reader(sample.log(), StreamSelection::Both);
        assert_eq!(reader.open().await, Ok(5));
        assert_eq!(reader.read(3, 5).await.unwrap().items.len(), 1);
        let log = File::options().write(true).open(sample.log()).unwrap();
        fs::remove_file(sample.log()).unwrap();
        log.set_len(0).unwrap();
        let error = reader.read(5, 5).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::OUTPUT_UNAVAILABLE);
        assert!(
            error.message.ends_with("it was deleted meanwhile"),
            "{error}"
        );
        assert!(error.hint.unwrap().contains("history"));
    }

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

    #[test]
    fn a_log_that_is_missing_or_short_is_said_to_be_so() {
        let reader = sample::reader("/x.log".into(), StreamSelection::Both);
        for (kind, expected) in [
            (io::ErrorKind::NotFound, "read: there is no such file"),
            (
                io::ErrorKind::UnexpectedEof,
                "read: it or its index is too short",
            ),
        ] {
            let error = reader.unavailable(&kind.into());
            assert!(error.message.ends_with(expected), "{error}");
        }
    }
}
