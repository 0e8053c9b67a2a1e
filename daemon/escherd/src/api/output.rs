//! What commands have written, from their logs.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use escher_protocol::output::OutputRange;
use escher_protocol::{
    ApiError, Blob, ErrorCode, ExecutionId, ExecutionRecord, OutputChunk, Target,
};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::locate::Place;
use super::{ExecutionEngine, stopping};
use crate::output::OutputReader;
use crate::scheduler::{Progress, Scheduler};

/// Pieces of a command's output, in the order of arrival.
#[derive(Debug)]
pub struct Output {
    engine: ExecutionEngine,
    id: ExecutionId,
    reader: OutputReader,
    progress: watch::Receiver<Progress>,
    known: Progress,
    /// The offset at which it ends in any case.
    stop: u64,
    /// Whether it goes on until the execution is finished.
    follow: bool,
    chunks: VecDeque<OutputChunk>,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

impl ExecutionEngine {
    /// The output that is there now.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`]; `output-unavailable` when the log cannot be read; `output-held` while
    /// it runs, where output is served only at the end; `overloaded`.
    pub async fn read_logs(
        &self,
        target: impl Into<Target>,
        range: OutputRange,
    ) -> Result<Output, ApiError> {
        self.output(target.into(), range, false).await
    }

    /// The output that is there and what will come, until the execution is finished. Where output is served
    /// only at the end, it comes then.
    ///
    /// # Errors
    /// As [`ExecutionEngine::read_logs`].
    pub async fn follow(
        &self,
        target: impl Into<Target>,
        range: OutputRange,
    ) -> Result<Output, ApiError> {
        self.output(target.into(), range, true).await
    }

    /// The file that holds an execution's output. It is there once the command has written something.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`].
    pub async fn get_log_path(&self, target: impl Into<Target>) -> Result<PathBuf, ApiError> {
        Ok(path(&self.get_status(target).await?.log_path))
    }

    pub(crate) async fn output(
        &self,
        target: Target,
        range: OutputRange,
        follow: bool,
    ) -> Result<Output, ApiError> {
        let (record, mut progress) = self.progress_of(target).await?;
        let place = self.reserve_logs(1)?;
        if !self.settings().output.stream {
            if !follow && !progress.borrow().finished {
                return Err(held(&record));
            }
            let finished = |now: &Progress| now.finished;
            progress.wait_for(finished).await.map_err(stopping)?;
        }
        let mut reader = OutputReader::new(path(&record.log_path), range.streams);
        let there = reader.open().await?;
        let mut known = *progress.borrow_and_update();
        if !known.finished || known.log_bytes == u64::MAX {
            // Nobody has said how long the log is: it is as long as it is.
            known.log_bytes = there;
        }
        reader.seek(range.start, known.log_bytes).await?;
        let length = range.length.unwrap_or(u64::MAX);
        Ok(Output {
            engine: self.clone(),
            id: record.id,
            stop: reader.offset().saturating_add(length),
            reader,
            progress,
            known,
            follow,
            chunks: VecDeque::new(),
            is_over: false,
            _place: place,
        })
    }

    /// The record of an execution, and how far its output is from now on.
    async fn progress_of(
        &self,
        target: Target,
    ) -> Result<(ExecutionRecord, watch::Receiver<Progress>), ApiError> {
        let follow = |engine: &mut Scheduler, number| engine.follow(number);
        match self.at(target, follow).await? {
            Place::Scheduler(Some(followed)) => Ok(followed),
            Place::Scheduler(None) => Err(stopping(())),
            Place::Store(record) => {
                let progress = Progress::for_finished(&record);
                Ok((*record, watch::Sender::new(progress).subscribe()))
            }
        }
    }

    /// Leave to have so many logs open. Each takes descriptors.
    pub(super) fn reserve_logs(&self, count: u32) -> Result<OwnedSemaphorePermit, ApiError> {
        let places = self.core.shares.open_logs();
        places.try_acquire_many_owned(count).map_err(|_| {
            let message = "as many logs are being read as escherd has descriptors for";
            ApiError::new(ErrorCode::OVERLOADED, message).with_hint("try again later")
        })
    }
}

impl Output {
    /// The next piece; `None` at the end. An error is the last that it gives. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<OutputChunk, ApiError>> {
        if self.is_over {
            return None;
        }
        let next = self.advance().await;
        self.is_over = !matches!(next, Ok(Some(_)));
        next.transpose()
    }

    async fn advance(&mut self) -> Result<Option<OutputChunk>, ApiError> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Ok(Some(chunk));
            }
            let end = self.known.log_bytes.min(self.stop);
            if self.reader.offset() < end {
                self.chunks = self.reader.read(end).await?.chunks.into();
                continue;
            }
            if !self.follow || self.known.finished || self.reader.offset() >= self.stop {
                return Ok(None);
            }
            self.wait_for_more().await?;
        }
    }

    async fn wait_for_more(&mut self) -> Result<(), ApiError> {
        let (id, seen) = (self.id, self.known.log_bytes);
        let want = move |engine: &mut Scheduler| engine.watch_output(id, seen);
        self.engine.core.engine.post(want).await?;
        let news = |now: &Progress| now.finished || now.log_bytes > seen;
        let mut now = *self.progress.wait_for(news).await.map_err(stopping)?;
        if now.log_bytes == u64::MAX {
            now.log_bytes = self.reader.length().await?;
        }
        self.known = now;
        Ok(())
    }
}

fn held(record: &ExecutionRecord) -> ApiError {
    let message = format!(
        "the output of execution {} is served once it is finished",
        record.number
    );
    ApiError::new(ErrorCode::OUTPUT_HELD, message).with_hint(
        "stream_output is off in escherd's configuration; `escherctl logs -f` waits for the end",
    )
}

pub(super) fn path(bytes: &Blob) -> PathBuf {
    OsString::from_vec(bytes.to_vec()).into()
}
