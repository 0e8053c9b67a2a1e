//! Results: finished executions with their output.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::blob::Text;
use crate::error::ApiError;
use crate::execution::{ExecutionRecord, Exit, Status};
use crate::id::ExecutionId;
use crate::output::{OutputChunk, OutputGap, OutputStream};
use crate::time::Timestamp;

/// Output that is left out of a result, at most once for each stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Omission {
    /// The stream.
    pub stream: OutputStream,
    /// Number of bytes that are left out.
    pub bytes: u64,
    /// Text that replaces them in the result; may be empty.
    pub mark: Text,
}

/// A finished execution with its output, up to the configured limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionResult {
    /// The record, which has the full lengths of the output.
    pub record: ExecutionRecord,
    /// Standard output, with a mark where output is left out.
    pub stdout: Vec<u8>,
    /// Standard error, likewise.
    pub stderr: Vec<u8>,
    /// Output that is left out of the two.
    pub omissions: Vec<Omission>,
    /// Where the log lacks output, in order. An omission counts the missing bytes of its stream,
    /// too.
    pub gaps: Vec<OutputGap>,
}

impl ExecutionResult {
    /// Creates a result without output.
    #[must_use]
    pub fn new(record: ExecutionRecord) -> Self {
        ExecutionResult {
            record,
            stdout: Vec::new(),
            stderr: Vec::new(),
            omissions: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// Appends a chunk to its stream.
    pub fn push(&mut self, chunk: &OutputChunk) {
        self.stream(chunk.stream).extend_from_slice(&chunk.data);
    }

    /// Appends the mark of an omission to its stream.
    pub fn omit(&mut self, omission: Omission) {
        self.stream(omission.stream)
            .extend_from_slice(omission.mark.as_bytes());
        self.omissions.push(omission);
    }

    fn stream(&mut self, stream: OutputStream) -> &mut Vec<u8> {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }

    /// Returns the execution's id.
    #[must_use]
    pub fn id(&self) -> ExecutionId {
        self.record.id
    }

    /// Returns the final state.
    #[must_use]
    pub fn status(&self) -> Status {
        self.record.status
    }

    /// Returns whether the execution is [`Status::Completed`]: the command exited with status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.record.status == Status::Completed
    }

    /// Returns the command's exit status, 0 to 255; `None` if a signal killed it or it never ran.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self.record.outcome.as_ref()?.exit {
            Exit::Code(code) => Some(code),
            _ => None,
        }
    }

    /// Returns the time from start to end, by the monotonic clock; zero if the command never ran.
    #[must_use]
    pub fn duration(&self) -> Duration {
        let outcome = self.record.outcome.as_ref();
        Duration::from_micros(outcome.map_or(0, |outcome| outcome.duration_us))
    }

    /// Returns when the program was started, if it was.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        self.record.started_at
    }

    /// Returns when the execution ended.
    #[must_use]
    pub fn completed_at(&self) -> Option<Timestamp> {
        self.record.completed_at
    }

    /// Returns why the execution is not `completed`; `None` exactly if it is.
    #[must_use]
    pub fn error(&self) -> Option<&ApiError> {
        self.record.outcome.as_ref()?.error.as_ref()
    }

    /// Returns the log, if it has more of the output than the result.
    #[must_use]
    pub fn output_file(&self) -> Option<&Path> {
        let path = Path::new(OsStr::from_bytes(&self.record.log_path));
        (!self.omissions.is_empty()).then_some(path)
    }

    /// Returns whether the output is incomplete: some is left out, or missing from the log.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        !self.omissions.is_empty() || !self.gaps.is_empty()
    }
}
