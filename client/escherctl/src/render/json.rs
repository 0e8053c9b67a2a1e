//! Answers for programs: one object per line, every field always there, `null` where it has no value.

mod diagnostic;
mod execution;
mod settings;

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use escher_client::{
    CancelOutcome, DaemonInfo, Event, EventKind, OutputChunk, Removed, Text, Welcome,
};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::escape::is_unsafe;
use super::time::rfc3339;
use crate::failure::Failure;
pub(crate) use diagnostic::diagnostic;
pub(crate) use execution::Execution;
pub(crate) use settings::{checked, reloaded, setting};

/// One object as one line.
pub(crate) fn line(value: &impl Serialize) -> String {
    let mut line = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut line, TerminalSafe);
    // The objects below have nothing that JSON cannot say, and memory does not fail to be written.
    let _ = value.serialize(&mut serializer);
    line.push(b'\n');
    String::from_utf8_lossy(&line).into_owned()
}

/// Writes JSON on one line and escapes, beyond what JSON demands, what a terminal would act on.
struct TerminalSafe;

impl Formatter for TerminalSafe {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_unsafe(*c)) {
            // All of them lie in the basic plane, so four digits do.
            write!(writer, "{}\\u{:04x}", &rest[..at], u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// A failure of escherctl, or a refusal by escherd.
pub(crate) fn failure(failure: &Failure) -> String {
    #[derive(Serialize)]
    struct Line {
        error: Error,
    }
    #[derive(Serialize)]
    struct Error {
        code: String,
        number: Option<u16>,
        message: String,
        hint: Option<String>,
        retry: bool,
    }
    let description = failure.describe();
    line(&Line {
        error: Error {
            code: description.code,
            number: description.number,
            message: description.message,
            hint: description.hint,
            retry: description.retry,
        },
    })
}

/// A piece of output from the log.
pub(crate) fn chunk(chunk: OutputChunk) -> String {
    #[derive(Serialize)]
    struct Line {
        stream: &'static str,
        offset: u64,
        time_us: u64,
        text: Option<String>,
        base64: Option<String>,
    }
    let (text, base64) = text_or_base64(chunk.data.into_vec());
    line(&Line {
        stream: chunk.stream.name(),
        offset: chunk.offset,
        time_us: chunk.time_us,
        text,
        base64,
    })
}

/// An event.
pub(crate) fn event(event: &Event) -> String {
    #[derive(Serialize)]
    struct Line {
        sequence: u64,
        time: String,
        kind: &'static str,
        id: String,
        number: u64,
        name: Option<String>,
        user: String,
        uid: u32,
        /// Of `finished`.
        status: Option<&'static str>,
        /// Of `cancel-requested`.
        cancelled_by: Option<String>,
    }
    let (status, cancelled_by) = match &event.kind {
        EventKind::Finished(status) => (Some(status.name()), None),
        EventKind::CancelRequested(by) => (None, Some(by.to_string())),
        EventKind::Submitted | EventKind::Started => (None, None),
    };
    line(&Line {
        sequence: event.sequence,
        time: rfc3339(event.time),
        kind: event.kind.name(),
        id: event.id.to_string(),
        number: event.number,
        name: text(event.name.as_ref()),
        user: event.user.to_string(),
        uid: event.user.uid,
        status,
        cancelled_by,
    })
}

/// What came of a cancel of the execution that was called `reference`.
pub(crate) fn cancel(reference: &str, outcome: CancelOutcome) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        target: &'a str,
        outcome: &'static str,
        status: Option<&'static str>,
    }
    let (outcome, status) = match outcome {
        CancelOutcome::Withdrawn => ("withdrawn", None),
        CancelOutcome::Ending => ("ending", None),
        CancelOutcome::AlreadyEnding => ("already-ending", None),
        CancelOutcome::AlreadyFinished(status) => ("already-finished", Some(status.name())),
    };
    line(&Line {
        target: reference,
        outcome,
        status,
    })
}

/// That the execution called `reference` stands still, or goes on.
pub(crate) fn paused(reference: &str, paused: bool) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        target: &'a str,
        paused: bool,
    }
    line(&Line {
        target: reference,
        paused,
    })
}

/// That the execution called `reference` got a signal.
pub(crate) fn signalled(reference: &str, signal: i32) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        target: &'a str,
        signal: i32,
    }
    line(&Line {
        target: reference,
        signal,
    })
}

/// That the execution called `reference` has been forgotten.
pub(crate) fn forgotten(reference: &str, removed: Removed) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        target: &'a str,
        executions: u64,
        log_bytes: u64,
    }
    line(&Line {
        target: reference,
        executions: removed.executions,
        log_bytes: removed.log_bytes,
    })
}

/// What has been forgotten.
pub(crate) fn removed(removed: Removed) -> String {
    #[derive(Serialize)]
    struct Line {
        executions: u64,
        log_bytes: u64,
    }
    line(&Line {
        executions: removed.executions,
        log_bytes: removed.log_bytes,
    })
}

/// What escherd counts: OpenMetrics text inside of an object.
pub(crate) fn metrics(text: &str) -> String {
    #[derive(Serialize)]
    struct Line<'t> {
        metrics: &'t str,
    }
    line(&Line { metrics: text })
}

/// About escherd.
pub(crate) fn info(info: &DaemonInfo, welcome: &Welcome) -> String {
    #[derive(Serialize)]
    struct Line {
        version: String,
        daemon: String,
        protocol_version: u16,
        features: Vec<String>,
        instance: String,
        pid: u32,
        uid: u32,
        started_at: String,
        serves_all_users: bool,
        launcher_pid: Option<u32>,
        log_dir: String,
        state_dir: String,
        pending: u64,
        running: u64,
        finished: u64,
        max_concurrent_executions: u64,
        max_pending_executions: u64,
        default_timeout_ms: u64,
        max_timeout_ms: u64,
        max_output_size_bytes: u64,
    }
    line(&Line {
        version: info.version.to_string(),
        daemon: welcome.daemon.to_string(),
        protocol_version: welcome.version,
        features: welcome.features.iter().map(ToString::to_string).collect(),
        instance: info.instance.to_string(),
        pid: info.pid,
        uid: info.uid,
        started_at: rfc3339(info.started_at),
        serves_all_users: info.serves_all_users,
        launcher_pid: info.launcher_pid,
        log_dir: info.log_dir.to_string_lossy().into_owned(),
        state_dir: info.state_dir.to_string_lossy().into_owned(),
        pending: info.pending,
        running: info.running,
        finished: info.finished,
        max_concurrent_executions: info.max_concurrent_executions,
        max_pending_executions: info.max_pending_executions,
        default_timeout_ms: info.default_timeout_ms,
        max_timeout_ms: info.max_timeout_ms,
        max_output_size_bytes: info.max_output_size_bytes,
    })
}

fn text(text: Option<&Text>) -> Option<String> {
    text.map(ToString::to_string)
}

fn text_or_base64(bytes: Vec<u8>) -> (Option<String>, Option<String>) {
    match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(BASE64.encode(error.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_beyond_what_json_demands() {
        let shown = line(&["\u{9b}31m\x7f\u{202e}\x1b\"é"]);
        assert_eq!(shown, "[\"\\u009b31m\\u007f\\u202e\\u001b\\\"é\"]\n");
        let back: Vec<String> = serde_json::from_str(&shown).unwrap();
        assert_eq!(back, ["\u{9b}31m\x7f\u{202e}\x1b\"é"]);
    }
}
