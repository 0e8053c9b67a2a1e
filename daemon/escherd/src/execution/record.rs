//! The record of an execution, and short forms of its command.

use escher_protocol::execution::{KEPT_COMMAND_BYTES, LISTED_COMMAND_BYTES};
use escher_protocol::invisible::is_invisible;
use escher_protocol::{Blob, Command, ExecutionRecord, Resources};

use super::state::CancelRequest;
use super::{Execution, State};

/// Most characters of a command in one line of text: in the view for operators and in the journal.
const SHOWN_COMMAND_CHARS: usize = 200;

impl Execution {
    /// Returns the record: with the full command as long as the execution is not finished, and then with
    /// at most [`KEPT_COMMAND_BYTES`] of it. It is cut as well if the store alone has all of it.
    #[must_use]
    pub fn record(&self, resources: Resources) -> ExecutionRecord {
        let command = &self.submission.request.command;
        let (command, cut) = match self.state.final_state() {
            Some(_) => kept_command(command),
            None => (recorded_command(command), false),
        };
        self.describe(command, cut || self.extent.is_command_cut(), resources)
    }

    /// Returns the record with a command of at most [`LISTED_COMMAND_BYTES`], for lists.
    #[must_use]
    pub fn listed_record(&self, resources: Resources) -> ExecutionRecord {
        let (command, cut) = shorten(&self.submission.request.command, LISTED_COMMAND_BYTES);
        self.describe(command, cut || self.extent.is_command_cut(), resources)
    }

    fn describe(
        &self,
        command: Command,
        command_cut: bool,
        resources: Resources,
    ) -> ExecutionRecord {
        let submission = &self.submission;
        let request = &submission.request;
        let finished = self.state.final_state();
        let by = |cancel: &Option<CancelRequest>| cancel.as_ref().map(|cancel| cancel.by.clone());
        let (pid, cancelled_by) = match &self.state {
            State::Queued => (None, None),
            State::Admitted { cancel } => (None, by(cancel)),
            State::Running { pid, cancel, .. } => (Some(*pid), by(cancel)),
            State::Finished(finished) => (None, finished.cancelled_by.clone()),
        };
        ExecutionRecord {
            id: submission.id,
            number: submission.number,
            name: request.name.clone(),
            key: request.key.clone(),
            status: self.state.status(),
            waits_for: None,
            user: submission.account.user.clone(),
            submitted_by: submission.submitter.clone(),
            command,
            command_cut,
            working_dir: request
                .working_dir
                .clone()
                .unwrap_or_else(|| submission.account.home.clone()),
            stdin: request.stdin,
            labels: request.labels.clone(),
            timeout_ms: submission.timeouts.timeout_ms,
            kill_grace_ms: submission.timeouts.kill_grace_ms,
            drain_ms: submission.timeouts.drain_ms,
            kill_mode: request.kill_mode,
            submitted_at: submission.submitted_at,
            started_at: self.state.started_at(),
            completed_at: finished.map(|finished| finished.completed_at),
            pid,
            cancelled_by,
            signals: self.signals.clone(),
            log_path: submission.log_path.clone(),
            log_removed: false,
            outcome: finished.map(|finished| finished.outcome.clone()),
            resources,
            parts: request.parts.clone(),
        }
    }
}

/// Returns a command as records have it: a script as the argument list that is executed.
#[must_use]
pub fn recorded_command(command: &Command) -> Command {
    match command {
        Command::Script { .. } => Command::Exec {
            argv: command.to_argv(),
        },
        command => command.clone(),
    }
}

/// Memory with which a page of a list is full.
pub const MAX_PAGE_BYTES: usize = 64 * 1024;

/// Returns about how much memory a record takes: that of the texts in it whose length users choose.
#[must_use]
pub fn memory_of(record: &ExecutionRecord) -> usize {
    let command = match &record.command {
        Command::Exec { argv } => argv.iter().map(|argument| argument.len()).sum(),
        Command::Shell { text, .. } => text.len(),
        Command::Script { path, .. } => path.len(),
    };
    let labels = record.labels.iter();
    let labels: usize = labels.map(|(key, value)| key.len() + value.len()).sum();
    let parts: usize = record.parts.iter().map(|part| part.bytes.len()).sum();
    size_of::<ExecutionRecord>() + command + labels + record.working_dir.len() + parts
}

/// Shortens the command of a record, for lists.
#[must_use]
pub fn listed(mut record: ExecutionRecord) -> ExecutionRecord {
    let (command, cut) = shorten(&record.command, LISTED_COMMAND_BYTES);
    record.command = command;
    record.command_cut |= cut;
    record
}

/// Shortens a command to what the record of a finished execution keeps of it. Returns whether
/// something was cut.
#[must_use]
pub fn kept_command(command: &Command) -> (Command, bool) {
    shorten(command, KEPT_COMMAND_BYTES)
}

/// Shortens a command to at most `max_bytes`. Returns whether something was cut.
pub(super) fn shorten(command: &Command, max_bytes: usize) -> (Command, bool) {
    let mut left = max_bytes;
    let mut head = |bytes: &Blob| -> Option<Blob> {
        // Each argument costs a byte of its own, which bounds the number of empty ones.
        left = left.checked_sub(1)?;
        let kept = &bytes[..bytes.len().min(left)];
        left -= kept.len();
        Some(kept.into())
    };
    let whole = recorded_command(command);
    let short = match &whole {
        Command::Shell { text, shell } => Command::Shell {
            shell: shell.as_ref().and_then(&mut head),
            text: head(text).unwrap_or_default(),
        },
        command => Command::Exec {
            argv: command.to_argv().iter().map_while(&mut head).collect(),
        },
    };
    let cut = short != whole;
    (short, cut)
}

/// Returns the beginning of a command as one line of text, of at most [`SHOWN_COMMAND_CHARS`].
#[must_use]
pub fn shown_command(command: &Command) -> String {
    let argv;
    let words = match command {
        Command::Exec { argv } => argv.as_slice(),
        Command::Shell { text, .. } => std::slice::from_ref(text),
        Command::Script { .. } => {
            argv = command.to_argv();
            argv.as_slice()
        }
    };
    let mut shown = String::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            shown.push(' ');
        }
        // A character has at most four bytes.
        let head = &word[..word.len().min(4 * SHOWN_COMMAND_CHARS)];
        shown.push_str(&String::from_utf8_lossy(head));
        if shown.len() > 4 * SHOWN_COMMAND_CHARS {
            break;
        }
    }
    let visible = |c: char| if is_invisible(c) { '\u{fffd}' } else { c };
    shown
        .chars()
        .map(visible)
        .take(SHOWN_COMMAND_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_cut_and_marked() {
        const MAX: usize = 1000;
        let exec = |argv: &[Blob]| Command::Exec {
            argv: argv.to_vec(),
        };
        let small = exec(&["a".into(), "b".into()]);
        assert_eq!(shorten(&small, MAX), (small.clone(), false));
        let (long, cut) = shorten(
            &exec(&["a".into(), vec![b'x'; 10_000].into(), "z".into()]),
            MAX,
        );
        let Command::Exec { argv } = long else {
            panic!()
        };
        assert!(cut && argv.iter().map(|a| a.len()).sum::<usize>() <= MAX);
        let (many, cut) = shorten(&exec(&vec![Blob::default(); 100_000]), MAX);
        let Command::Exec { argv } = many else {
            panic!()
        };
        assert!(cut && argv.len() <= MAX);
        // At the limit itself, with a byte for each argument.
        for (bytes, is_cut) in [(MAX - 1, false), (MAX, true)] {
            let (_, cut) = shorten(&exec(&[vec![b'x'; bytes].into()]), MAX);
            assert_eq!(cut, is_cut, "{bytes} bytes");
        }
        let (Command::Shell { text, .. }, true) = shorten(
            &Command::Shell {
                text: vec![b'x'; 10_000].into(),
                shell: None,
            },
            MAX,
        ) else {
            panic!()
        };
        assert!(text.starts_with(b"xxx") && text.len() <= MAX);
    }

    #[test]
    fn a_shortened_command_stays_as_it_is() {
        let exec = |argv: Vec<Blob>| Command::Exec { argv };
        for command in [
            exec(vec!["a".into(), vec![b'x'; 10_000].into()]),
            exec(vec![Blob::default(); 10_000]),
            exec(vec!["abc".into(); 10_000]),
        ] {
            let (short, cut) = shorten(&command, LISTED_COMMAND_BYTES);
            let again = shorten(&short, LISTED_COMMAND_BYTES);
            assert_eq!((again, cut), ((short, false), true));
        }
    }

    #[test]
    fn commands_are_shown_short_and_on_one_line() {
        let exec = |argv: &[&[u8]]| Command::Exec {
            argv: argv.iter().map(|word| (*word).into()).collect(),
        };
        assert_eq!(shown_command(&exec(&[b"a", b"b c"])), "a b c");
        let shown = shown_command(&exec(&[b"\x1b[1m\n\xff"]));
        assert_eq!(shown, "\u{fffd}[1m\u{fffd}\u{fffd}");
        let long = shown_command(&exec(&[&[b'x'; 10_000], &[b'y'; 10_000]]));
        assert_eq!(long.chars().count(), SHOWN_COMMAND_CHARS);
        let many = shown_command(&exec(&vec![&b""[..]; 100_000]));
        assert_eq!(many.chars().count(), SHOWN_COMMAND_CHARS);
    }
}
