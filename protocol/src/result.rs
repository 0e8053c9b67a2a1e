//! A finished execution with its output: what both faces of escher, the socket and the library, give for a
//! result.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::blob::Text;
use crate::error::ApiError;
use crate::execution::{ExecutionRecord, Exit, Status};
use crate::id::ExecutionId;
use crate::output::{OutputChunk, OutputStream};
use crate::time::Timestamp;

/// A place in a result where output of a stream was left out. There is at most one for each stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Omission {
    /// Of which output.
    pub stream: OutputStream,
    /// How many bytes.
    pub bytes: u64,
    /// What stands in their place in the result's text; may be empty.
    pub mark: Text,
}

/// A finished execution with its output, as far as escherd's settings have a result carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionResult {
    /// Everything known about it; it has the true lengths of the outputs.
    pub record: ExecutionRecord,
    /// Its standard output, with a mark where some was left out.
    pub stdout: Vec<u8>,
    /// Its standard error, likewise.
    pub stderr: Vec<u8>,
    /// What was left out of the two.
    pub omissions: Vec<Omission>,
}

impl ExecutionResult {
    /// A result without output so far.
    #[must_use]
    pub fn new(record: ExecutionRecord) -> Self {
        ExecutionResult {
            record,
            stdout: Vec::new(),
            stderr: Vec::new(),
            omissions: Vec::new(),
        }
    }

    /// Adds the next piece of one of the outputs.
    pub fn push(&mut self, chunk: &OutputChunk) {
        self.stream(chunk.stream).extend_from_slice(&chunk.data);
    }

    /// Notes that output is left out here.
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

    /// The execution's id.
    #[must_use]
    pub fn id(&self) -> ExecutionId {
        self.record.id
    }

    /// How it ended.
    #[must_use]
    pub fn status(&self) -> Status {
        self.record.status
    }

    /// Whether the command exited with status 0 and nothing else was wrong.
    #[must_use]
    pub fn success(&self) -> bool {
        self.record.status == Status::Completed
    }

    /// The command's exit status, 0 to 255; `None` where it has none: it died of a signal, or never ran.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self.record.outcome.as_ref()?.exit {
            Exit::Code(code) => Some(code),
            _ => None,
        }
    }

    /// From start to end, by the monotonic clock; zero if it never ran.
    #[must_use]
    pub fn duration(&self) -> Duration {
        let outcome = self.record.outcome.as_ref();
        Duration::from_micros(outcome.map_or(0, |outcome| outcome.duration_us))
    }

    /// When its program was started, if it was.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        self.record.started_at
    }

    /// When it was over.
    #[must_use]
    pub fn completed_at(&self) -> Option<Timestamp> {
        self.record.completed_at
    }

    /// Why it is not completed; `None` exactly if it is.
    #[must_use]
    pub fn error(&self) -> Option<&ApiError> {
        self.record.outcome.as_ref()?.error.as_ref()
    }

    /// The file that has all of the output, where the result does not.
    #[must_use]
    pub fn output_file(&self) -> Option<&Path> {
        let path = Path::new(OsStr::from_bytes(&self.record.log_path));
        self.is_cut().then_some(path)
    }

    /// Whether output was left out.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        !self.omissions.is_empty()
    }
}
