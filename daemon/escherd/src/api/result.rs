//! Results: finished executions with their output up to the configured limit.

use std::collections::VecDeque;

use escher_protocol::{
    ApiError, ErrorCode, ExecutionRecord, ExecutionResult, Omission, OutputChunk, OutputGap,
    OutputStream, Status, StreamSelection, Target,
};

use super::ExecutionEngine;
use super::output::{ensure_log_kept, open_log};
use crate::output::{Excerpt, ExcerptPart};

/// Reads a result part by part: all of stdout before all of stderr, then what is missing.
#[derive(Debug)]
pub struct ResultReader {
    record: ExecutionRecord,
    excerpts: VecDeque<(OutputStream, Excerpt)>,
    /// The omissions of streams that are left out as a whole.
    omitted: VecDeque<Omission>,
    /// Where the log lacks output.
    gaps: VecDeque<OutputGap>,
}

/// One part of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultPart {
    /// The next chunk of output.
    Output(OutputChunk),
    /// Output that is left out in this place.
    Omitted(Omission),
    /// Output of either stream that is missing from the log.
    Gap(OutputGap),
}

impl ExecutionEngine {
    /// Waits until an execution is finished and returns its record and output.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_status`]; `output-unavailable` if the log cannot be read or was removed;
    /// `overloaded`.
    pub async fn get_result(&self, target: impl Into<Target>) -> Result<ExecutionResult, ApiError> {
        let mut reader = self.read_result(target).await?;
        let mut result = ExecutionResult::new(reader.record.clone());
        while let Some(part) = reader.next().await? {
            match part {
                ResultPart::Output(chunk) => result.push(&chunk),
                ResultPart::Omitted(omission) => result.omit(omission),
                ResultPart::Gap(gap) => result.gaps.push(gap),
            }
        }
        Ok(result)
    }

    /// Returns the same as [`ExecutionEngine::get_result`] part by part, so that the output need
    /// not fit in memory.
    ///
    /// # Errors
    /// As [`ExecutionEngine::get_result`].
    pub async fn read_result(&self, target: impl Into<Target>) -> Result<ResultReader, ApiError> {
        let record = self.wait_for_completion(target).await?;
        ensure_log_kept(&record)?;
        // The log is opened for both streams before the first is read, so that its removal in the
        // meantime does no harm.
        let resources = self.reserve_open_logs(2)?;
        let mut reader = ResultReader {
            excerpts: VecDeque::new(),
            omitted: VecDeque::new(),
            gaps: VecDeque::new(),
            record,
        };
        let record = &reader.record;
        let Some(outcome) = &record.outcome else {
            return Ok(reader);
        };
        let error = outcome.error.as_ref().map(|error| error.code);
        for (stream, total) in [
            (OutputStream::Stdout, outcome.output.stdout_bytes),
            (OutputStream::Stderr, outcome.output.stderr_bytes),
        ] {
            // Lost executions have no byte count.
            let is_lost = record.status == Status::Lost;
            if total == 0 && !is_lost {
                continue;
            }
            if error == Some(ErrorCode::OVERSIZED_OUTPUT) {
                reader.omitted.push_back(Omission {
                    stream,
                    bytes: total,
                    mark: "".into(),
                });
                continue;
            }
            let selection = StreamSelection::Only(stream);
            let (mut log, length_now) = open_log(record, selection, resources.clone()).await?;
            let (log_bytes, total, dropped) = if is_lost {
                (length_now, None, None)
            } else {
                let output = outcome.output;
                (output.log_bytes, Some(total), Some(output.dropped_bytes))
            };
            // Once for both streams.
            if reader.excerpts.is_empty() {
                reader.gaps = log.gaps(log_bytes, dropped).await?.into();
            }
            let excerpt = Excerpt::new(log, log_bytes, total, self.settings().output);
            reader.excerpts.push_back((stream, excerpt));
        }
        Ok(reader)
    }
}

impl ResultReader {
    /// Returns the record of the execution.
    #[must_use]
    pub fn record(&self) -> &ExecutionRecord {
        &self.record
    }

    /// Returns whether the next part has to be read into memory first.
    pub(crate) fn must_read(&self) -> bool {
        let next = self.excerpts.front();
        self.omitted.is_empty() && next.is_some_and(|(_, excerpt)| excerpt.must_read())
    }

    /// Returns the next part; `None` at the end.
    ///
    /// # Errors
    /// `output-unavailable`.
    pub async fn next(&mut self) -> Result<Option<ResultPart>, ApiError> {
        if let Some(omission) = self.omitted.pop_front() {
            return Ok(Some(ResultPart::Omitted(omission)));
        }
        while let Some((stream, excerpt)) = self.excerpts.front_mut() {
            let stream = *stream;
            match excerpt.next().await? {
                Some(ExcerptPart::Output(chunk)) => return Ok(Some(ResultPart::Output(chunk))),
                Some(ExcerptPart::Omitted { bytes, marker }) => {
                    return Ok(Some(ResultPart::Omitted(Omission {
                        stream,
                        bytes,
                        mark: marker.into(),
                    })));
                }
                None => drop(self.excerpts.pop_front()),
            }
        }
        Ok(self.gaps.pop_front().map(ResultPart::Gap))
    }
}
