//! Reading output from logs.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use escher_protocol::output::OutputRange;
use escher_protocol::{
    ApiError, Blob, ErrorCode, ExecutionId, ExecutionRecord, GapReason, OutputGap, OutputItem,
    StreamSelection, Target,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::target::ActionResult;
use super::{ExecutionEngine, scheduler_stopped};
use crate::authz::Scope;
use crate::output::{OutputReader, OutputTimes, ReaderResources};
use crate::scheduler::{OutputProgress, Scheduler};

/// A command's output, item by item, in the order of arrival. It says where output is missing.
#[derive(Debug)]
pub struct OutputItems {
    engine: ExecutionEngine,
    id: ExecutionId,
    reader: OutputReader,
    /// The times between which to read, while the command has not started and they cannot be counted from that.
    times: Option<OutputTimes>,
    progress: watch::Receiver<OutputProgress>,
    /// The progress up to which the log may be read.
    known: OutputProgress,
    /// The offset at which the requested range ends.
    stop: u64,
    /// Whether to continue until the execution is finished.
    follow: bool,
    items: VecDeque<OutputItem>,
    /// A gap that may go on. It is reported with what follows it, or at the end.
    gap: Option<OutputGap>,
    /// Whether it was asked what is missing at the end of the log.
    has_final_gap: bool,
    is_over: bool,
}

impl ExecutionEngine {
    /// Reads the output that exists now.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`]; `output-unavailable` if the log cannot be read;
    /// `output-held` if the execution runs and `stream_output` is off; `overloaded`.
    pub async fn read_logs(
        &self,
        target: impl Into<Target>,
        range: OutputRange,
    ) -> Result<OutputItems, ApiError> {
        self.read_output(target.into(), range, false).await
    }

    /// Reads the output that exists and new output, until the execution is finished. If
    /// `stream_output` is off, everything comes at the end.
    ///
    /// # Errors
    /// As [`ExecutionEngine::read_logs`].
    pub async fn follow(
        &self,
        target: impl Into<Target>,
        range: OutputRange,
    ) -> Result<OutputItems, ApiError> {
        self.read_output(target.into(), range, true).await
    }

    /// Returns the path of an execution's log. The file exists once the command has written
    /// something.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`].
    pub async fn get_log_path(&self, target: impl Into<Target>) -> Result<PathBuf, ApiError> {
        Ok(to_path(&self.get_status(target).await?.log_path))
    }

    /// Reads output: with `follow` as [`ExecutionEngine::follow`], without as
    /// [`ExecutionEngine::read_logs`].
    pub(crate) async fn read_output(
        &self,
        target: Target,
        range: OutputRange,
        follow: bool,
    ) -> Result<OutputItems, ApiError> {
        let (record, mut progress) = self.watch_progress(target).await?;
        ensure_log_kept(&record)?;
        let resources = self.reserve_open_logs(1)?;
        if !self.settings().output.stream {
            if !follow && !progress.borrow().finished {
                return Err(output_held(&record));
            }
            let is_finished = |progress: &OutputProgress| progress.finished;
            progress
                .wait_for(is_finished)
                .await
                .map_err(scheduler_stopped)?;
        }
        let (mut reader, length_now) = open_log(&record, range.streams, resources).await?;
        let mut known = *progress.borrow_and_update();
        if known.log_bytes == u64::MAX {
            // It is lost, or what it has left still writes. It may have ended since the log was opened, so the
            // length of before would lack its last output, or all.
            known.log_bytes = reader.written_length().await?;
        } else if !known.finished {
            // The log may be longer than reported.
            known.log_bytes = length_now;
        }
        let times = OutputTimes {
            since: range.since,
            until: range.until,
        };
        if let Some(start) = record.started_at {
            reader.select_times(times, start);
        }
        let gap = reader.seek(range.start, known.log_bytes).await?;
        let length = range.length.unwrap_or(u64::MAX);
        Ok(OutputItems {
            engine: self.clone(),
            id: record.id,
            stop: reader.offset().saturating_add(length),
            reader,
            times: record.started_at.is_none().then_some(times),
            progress,
            known,
            follow,
            items: VecDeque::new(),
            gap,
            has_final_gap: false,
            is_over: false,
        })
    }

    /// Returns the record of an execution and a watch of its progress.
    async fn watch_progress(
        &self,
        target: Target,
    ) -> Result<(ExecutionRecord, watch::Receiver<OutputProgress>), ApiError> {
        let watch = |scheduler: &mut Scheduler, number| scheduler.subscribe_progress(number);
        match self.act_on(target, watch).await? {
            ActionResult::Done(Some(record_and_watch)) => Ok(record_and_watch),
            ActionResult::Done(None) => Err(scheduler_stopped(())),
            ActionResult::OnlyInStore(record) => {
                let progress = OutputProgress::for_finished(&record);
                Ok((*record, watch::Sender::new(progress).subscribe()))
            }
        }
    }

    /// Returns what this user's readers of `count` logs need. Each log takes descriptors.
    ///
    /// # Errors
    /// `overloaded`.
    pub(super) fn reserve_open_logs(&self, count: u32) -> Result<ReaderResources, ApiError> {
        let permit = acquire_logs(self.core.fd_shares.open_logs(), count)?;
        Ok(ReaderResources {
            threads: self.core.log_threads.clone(),
            uid: self.uid(),
            open_log: Arc::new(permit),
        })
    }
}

/// Acquires the descriptors of `count` logs.
fn acquire_logs(permits: Arc<Semaphore>, count: u32) -> Result<OwnedSemaphorePermit, ApiError> {
    permits.try_acquire_many_owned(count).map_err(|_| {
        let message = "escherd has too few descriptors to read another log";
        ApiError::new(ErrorCode::OVERLOADED, message).with_hint("try again later")
    })
}

impl OutputItems {
    /// Returns the next item; `None` at the end. Nothing comes after an error. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<OutputItem, ApiError>> {
        if self.is_over {
            return None;
        }
        let next = self.advance().await;
        self.is_over = !matches!(next, Ok(Some(_)));
        next.transpose()
    }

    /// Returns the execution.
    pub(crate) fn id(&self) -> ExecutionId {
        self.id
    }

    /// Returns the offset at which reading begins, or goes on.
    pub(crate) fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// Returns the offset up to which the request can be answered now; `None` if it follows.
    pub(crate) fn end(&self) -> Option<u64> {
        let end = self.known.log_bytes.min(self.stop);
        (!self.follow).then_some(end)
    }

    /// Returns the length of the log; `None` while it grows.
    pub(crate) fn total(&self) -> Option<u64> {
        self.known.finished.then_some(self.known.log_bytes)
    }

    /// Returns whether the next item has to be read into memory first.
    pub(crate) fn must_read(&self) -> bool {
        self.items.is_empty()
    }

    /// Waits until [`OutputItems::next`] need not wait for the command. Cancel-safe.
    pub(crate) async fn wait_until_readable(&mut self) -> Result<(), ApiError> {
        while !self.is_over
            && self.items.is_empty()
            && self.unread_end().is_none()
            && !self.is_at_end()
        {
            self.wait_for_more().await?;
        }
        Ok(())
    }

    /// Returns the offset up to which the log can be read now; `None` if it was read so far.
    fn unread_end(&self) -> Option<u64> {
        let end = self.known.log_bytes.min(self.stop);
        (self.reader.offset() < end).then_some(end)
    }

    /// Returns whether nothing follows what can be read now.
    fn is_at_end(&self) -> bool {
        !self.follow || self.known.finished || self.reader.offset() >= self.stop
    }

    async fn advance(&mut self) -> Result<Option<OutputItem>, ApiError> {
        loop {
            self.wait_until_readable().await?;
            match self.items.front() {
                Some(OutputItem::Gap(gap)) => {
                    let gap = *gap;
                    self.items.pop_front();
                    if let Some(before) = self.add_gap(gap) {
                        return Ok(Some(OutputItem::Gap(before)));
                    }
                }
                Some(OutputItem::Chunk(_)) => {
                    let gap = self.gap.take().map(OutputItem::Gap);
                    return Ok(gap.or_else(|| self.items.pop_front()));
                }
                None => {
                    if let Some(end) = self.unread_end() {
                        self.select_times().await?;
                        self.items = self.reader.read(end, self.stop).await?.items.into();
                    } else if self.has_final_gap {
                        return Ok(self.gap.take().map(OutputItem::Gap));
                    } else {
                        let gap = self.read_final_gap().await?;
                        self.has_final_gap = true;
                        self.items.extend(gap.map(OutputItem::Gap));
                    }
                }
            }
        }
    }

    /// Selects the times, now that there is output and the command has been started.
    async fn select_times(&mut self) -> Result<(), ApiError> {
        if let Some(times) = self.times {
            let record = self.engine.get_status(self.id).await?;
            let start = record.started_at.unwrap_or(record.submitted_at);
            self.reader.select_times(times, start);
            self.times = None;
        }
        Ok(())
    }

    /// Adds a gap to the one before it, if they are one. Otherwise returns the one before.
    fn add_gap(&mut self, gap: OutputGap) -> Option<OutputGap> {
        let before = self.gap.replace(gap)?;
        let bytes = before.bytes.zip(gap.bytes);
        let (before_bytes, bytes) = bytes?;
        let is_one = before.reason == gap.reason
            && gap.reason != GapReason::Dropped
            && before.end() == gap.offset;
        if !is_one {
            return Some(before);
        }
        self.gap = Some(OutputGap {
            bytes: Some(before_bytes.saturating_add(bytes)),
            ..before
        });
        None
    }

    /// Returns the output that was dropped at the end of the log, if the range includes that.
    async fn read_final_gap(&mut self) -> Result<Option<OutputGap>, ApiError> {
        let (end, offset) = (self.known.log_bytes, self.reader.offset());
        if offset >= self.stop || offset > end {
            return Ok(None);
        }
        self.reader.final_gap(end, self.known.dropped_bytes).await
    }

    /// Waits until the log has grown or the execution is finished.
    async fn wait_for_more(&mut self) -> Result<(), ApiError> {
        let (id, seen) = (self.id, self.known.log_bytes);
        let watch = move |scheduler: &mut Scheduler, _: &Scope| scheduler.watch_output(id, seen);
        self.engine.call(watch).await?;
        let has_grown = |progress: &OutputProgress| progress.finished || progress.log_bytes > seen;
        let grown = self.progress.wait_for(has_grown).await;
        let mut known = *grown.map_err(scheduler_stopped)?;
        if known.log_bytes == u64::MAX {
            known.log_bytes = self.reader.written_length().await?;
        }
        self.known = known;
        Ok(())
    }
}

/// Opens the log of an execution, if there is one. Returns a reader at its beginning, and how much has
/// been written of it. All reading of output begins here.
///
/// # Errors
/// `output-unavailable`.
pub(super) async fn open_log(
    record: &ExecutionRecord,
    streams: StreamSelection,
    resources: ReaderResources,
) -> Result<(OutputReader, u64), ApiError> {
    let mut reader = OutputReader::new(to_path(&record.log_path), streams, resources);
    let length = reader.open().await?;
    Ok((reader, length))
}

fn output_held(record: &ExecutionRecord) -> ApiError {
    let message = format!(
        "the output of execution {} is served once it is finished",
        record.number
    );
    ApiError::new(ErrorCode::OUTPUT_HELD, message).with_hint(
        "stream_output is off in escherd's configuration; `escherctl logs -f` waits for the end",
    )
}

/// Refuses to read a log that was removed to keep the limits of the history. Without this its output
/// would seem empty.
pub(super) fn ensure_log_kept(record: &ExecutionRecord) -> Result<(), ApiError> {
    if !record.log_removed {
        return Ok(());
    }
    let number = record.number;
    let message = format!("the log of execution {number} was removed by the limits of the history");
    Err(
        ApiError::new(ErrorCode::OUTPUT_UNAVAILABLE, message).with_hint(format!(
            "the setting history.max_bytes limits the logs that are kept; `escherctl inspect \
             {number}` shows what else is known"
        )),
    )
}

pub(super) fn to_path(bytes: &Blob) -> PathBuf {
    OsString::from_vec(bytes.to_vec()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_too_many_is_refused_until_another_is_closed() {
        let permits = Arc::new(Semaphore::new(2));
        let open = acquire_logs(Arc::clone(&permits), 2).unwrap();
        let error = acquire_logs(Arc::clone(&permits), 1).unwrap_err();
        assert_eq!(error.code, ErrorCode::OVERLOADED);
        let expected = "escherd has too few descriptors to read another log";
        assert_eq!(&*error.message, expected);
        drop(open);
        assert!(acquire_logs(permits, 1).is_ok());
    }
}
