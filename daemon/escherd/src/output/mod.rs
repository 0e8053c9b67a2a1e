//! Reading logs: ranges, tails, and following a command that still writes.
//!
//! [`log`] reads the bytes and [`index`] whose they are, and both block; [`OutputReader`] takes them off the event
//! loop, and [`Excerpt`] reads with it what a result carries ([`OutputRules`]). Bytes are trusted as far as the
//! log is long: the index names the stream of each before it is there (see [`escher_launcher::ipc::log_index`]).

mod cut;
mod excerpt;
mod index;
mod log;
mod rules;
#[cfg(test)]
mod sample;

pub use excerpt::{Excerpt, Piece};
pub use rules::{OutputRules, OversizedOutput};

use std::io;
use std::path::PathBuf;

use escher_protocol::{ApiError, ErrorCode, OutputChunk, OutputStart, StreamSelection};
use nix::unistd::geteuid;

use self::log::LogFiles;

/// A reader of one execution's output.
#[derive(Debug)]
pub struct OutputReader {
    path: PathBuf,
    streams: StreamSelection,
    /// `None` until there is a log.
    files: Option<LogFiles>,
    offset: u64,
}

/// Consecutive chunks, and where to go on.
#[derive(Debug, Default)]
pub struct Batch {
    /// Chunks of the selected streams; empty where there are none before `next`.
    pub chunks: Vec<OutputChunk>,
    /// The offset up to which the log was looked at.
    pub next: u64,
}

impl OutputReader {
    /// A reader of the log at `path`, which need not be there yet, from its beginning.
    #[must_use]
    pub fn new(path: PathBuf, streams: StreamSelection) -> Self {
        OutputReader {
            path,
            streams,
            files: None,
            offset: 0,
        }
    }

    /// Where the next [`OutputReader::read`] begins.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes to `start`; the last lines are those before `end`. Cancel-safe, like the other calls: one that
    /// is dropped has not moved the reader.
    ///
    /// # Errors
    /// `output-unavailable` when the log cannot be read.
    pub async fn seek(&mut self, start: OutputStart, end: u64) -> Result<(), ApiError> {
        self.offset = match start {
            OutputStart::Offset(offset) => offset,
            OutputStart::LastLines(lines) => {
                let streams = self.streams;
                self.blocking(move |files| {
                    let end = end.min(files.length()?);
                    files.last_lines(streams, lines, end)
                })
                .await?
                .unwrap_or(0)
            }
        };
        Ok(())
    }

    /// Opens the log, if it is there: removing it no longer cuts this reader off. Returns its length.
    ///
    /// # Errors
    /// As [`OutputReader::seek`].
    pub async fn open(&mut self) -> Result<u64, ApiError> {
        self.length().await
    }

    /// How long the log is now; 0 where there is none.
    ///
    /// # Errors
    /// As [`OutputReader::seek`].
    pub async fn length(&mut self) -> Result<u64, ApiError> {
        let length = self.blocking(LogFiles::length).await?;
        Ok(length.unwrap_or(0))
    }

    /// Some of the output before `end`, which must not be past the end of the log.
    ///
    /// # Errors
    /// `output-unavailable` when the log is gone, shorter than `end`, or damaged.
    pub async fn read(&mut self, end: u64) -> Result<Batch, ApiError> {
        let (streams, offset) = (self.streams, self.offset);
        if offset >= end {
            return Ok(Batch {
                chunks: Vec::new(),
                next: offset,
            });
        }
        let batch = self
            .blocking(move |files| files.read(streams, offset, end))
            .await?;
        let batch = batch.ok_or_else(|| self.unavailable(&io::ErrorKind::NotFound.into()))?;
        self.offset = batch.next;
        Ok(batch)
    }

    /// Runs `work` on the files; `None` when there are none.
    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut LogFiles) -> io::Result<T> + Send + 'static,
    ) -> Result<Option<T>, ApiError> {
        let (files, path) = (self.files.take(), self.path.clone());
        let task = tokio::task::spawn_blocking(move || {
            let mut files = match files {
                Some(files) => files,
                None => match LogFiles::open(&path)? {
                    Some(files) => files,
                    None => return Ok((None, None)),
                },
            };
            let result = work(&mut files)?;
            Ok((Some(files), Some(result)))
        });
        let done = task
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
                "escherd, which is user {}, may not read it: see to mode and group of the log (0640) and of the \
                 directories that it is in, which have to be escherd's or of its group",
                geteuid()
            ),
            _ => "it was removed, moved or damaged from outside of escher".to_owned(),
        };
        ApiError::new(ErrorCode::OUTPUT_UNAVAILABLE, message).with_hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_escherd_may_not_read_is_not_said_to_be_damaged() {
        let reader = OutputReader::new("/x.log".into(), StreamSelection::Both);
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
