//! Answers for people.

use std::fmt::Write;
use std::time::Duration;

use escher_client::protocol::{Exit, Leftovers};
use escher_client::{
    CancelOutcome, DaemonInfo, ErrorCode, Event, EventKind, ExecutionRecord, Measurements,
    Reloaded, Removed, Status, Timestamp, Welcome,
};

use super::table::running_time;
use super::{escape, resources, time};
use crate::args::values::signal_name;
use crate::failure::Failure;

/// A failure and what to do about it.
pub(crate) fn failure(failure: &Failure) -> String {
    let description = failure.describe();
    let mut shown = format!("escherctl: {}\n", escape::text(&description.message));
    if let Some(hint) = &description.hint {
        shown.push_str(&format!("  hint: {}\n", escape::text(hint)));
    }
    shown
}

/// How escher, not the command itself, ended a command or could not start it; one line.
pub(crate) fn verdict(record: &ExecutionRecord) -> Option<String> {
    let outcome = record.outcome.as_ref();
    let by_signal = outcome
        .and_then(|outcome| outcome.ended_by_signal)
        .map(|signal| format!(" ({})", signal_name(signal)))
        .unwrap_or_default();
    let error = outcome.and_then(|outcome| outcome.error.as_ref());
    let message = error.map_or_else(String::new, |error| match &error.hint {
        Some(hint) => format!("{}; {hint}", error.message),
        None => error.message.to_string(),
    });
    match record.status {
        Status::Timeout => {
            let after = record.timeout_ms.map_or_else(String::new, |ms| {
                format!(" after {}", time::duration(Duration::from_millis(ms)))
            });
            Some(format!("timed out{after}{by_signal}"))
        }
        Status::Cancelled => {
            let by = record
                .cancelled_by
                .as_ref()
                .map_or_else(String::new, |by| format!(" by {by}"));
            Some(format!("cancelled{by}{by_signal}"))
        }
        Status::Lost => Some(format!("lost: {message}")),
        Status::Failed if error.map(|error| error.code) == Some(ErrorCode::OVERSIZED_OUTPUT) => {
            Some(format!("ended for too much output: {message}{by_signal}"))
        }
        Status::Failed if error.map(|error| error.code) == Some(ErrorCode::LOG_FULL) => {
            Some(format!("ended for a full log: {message}{by_signal}"))
        }
        Status::Failed if error.map(|error| error.code) == Some(ErrorCode::OOM_KILLED) => {
            Some(format!("out of memory: {message}"))
        }
        Status::Failed if matches!(outcome.map(|o| o.exit), Some(Exit::NotStarted { .. })) => {
            Some(message)
        }
        _ => None,
    }
}

/// That output is missing from a log, one line.
pub(crate) fn lacking(record: &ExecutionRecord) -> Option<String> {
    let dropped = record.outcome.as_ref()?.output.dropped_bytes;
    (dropped > 0).then(|| {
        let bytes = count(dropped, "byte");
        format!("the log lacks {bytes} of the output: there was no room for more")
    })
}

/// What has been forgotten, one line.
pub(crate) fn removed(removed: Removed) -> String {
    let executions = count(removed.executions, "execution");
    let size = size(removed.log_bytes);
    format!("removed {executions}, {size} of logs\n")
}

/// What came of reading the configuration again, one line for each setting that has changed.
pub(crate) fn reloaded(reloaded: &Reloaded) -> String {
    let applied = reloaded.applied.iter().map(|name| (name, "applied"));
    let waiting = reloaded.need_restart.iter();
    let waiting = waiting.map(|name| (name, "waits for a restart of escherd"));
    let lines: String = applied
        .chain(waiting)
        .map(|(name, outcome)| format!("{}: {outcome}\n", escape::text(name)))
        .collect();
    if lines.is_empty() {
        return "nothing has changed\n".to_owned();
    }
    lines
}

/// That `ps` shows only the newest, one line.
pub(crate) fn cut_at(limit: u32) -> String {
    let newest = count(limit.into(), "execution");
    format!("only the newest {newest} of those that fit; --limit 0 shows all")
}

fn count(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// A size for people: in the largest unit of which there is one.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = None;
    let mut tenths = u128::from(bytes) * 10;
    for name in UNITS {
        if tenths < 10_240 {
            break;
        }
        (unit, tenths) = (Some(name), tenths / 1_024);
    }
    match unit {
        None => count(bytes, "byte"),
        Some(unit) => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

/// Everything about an execution, one fact per line.
pub(crate) fn inspect(record: &ExecutionRecord, now: Timestamp) -> String {
    let resources = &record.resources;
    let argv = record.command.to_argv();
    let mut facts = Facts::default();
    facts.add("id", record.id);
    facts.add("number", record.number);
    facts.add_some("name", record.name.as_ref());
    facts.add_some("key", record.key.as_ref());
    facts.add("status", record.status);
    facts.add_some("paused", resources.paused.then_some("yes"));
    facts.add_some(
        "exit",
        record.outcome.as_ref().map(|outcome| exit(outcome.exit)),
    );
    facts.add_some("verdict", verdict(record));
    facts.add_escaped(
        "command",
        &escape::command_line(argv.iter().map(|word| &word[..])),
    );
    facts.add_escaped("working dir", &escape::bytes(&record.working_dir));
    facts.add("user", &record.user);
    if record.submitted_by != record.user {
        facts.add("submitted by", &record.submitted_by);
    }
    for (key, value) in &record.labels {
        facts.add("label", format!("{key}={value}"));
    }
    facts.add("submitted", time::rfc3339(record.submitted_at));
    facts.add_some("started", record.started_at.map(time::rfc3339));
    facts.add_some("completed", record.completed_at.map(time::rfc3339));
    facts.add_some("time", running_time(record, now).map(time::duration));
    let timeout = |ms| time::duration(Duration::from_millis(ms));
    facts.add(
        "timeout",
        record.timeout_ms.map_or_else(|| "none".to_owned(), timeout),
    );
    facts.add_some("limits", resources::limits(&resources.limits));
    facts.add_some("pid", record.pid);
    facts.add_some("cancelled by", record.cancelled_by.as_ref());
    if let Some(outcome) = &record.outcome {
        let (usage, output) = (outcome.usage, outcome.output);
        let seconds = |micros| time::duration(Duration::from_micros(micros));
        facts.add(
            "cpu",
            format!(
                "{} user, {} system",
                seconds(usage.user_us),
                seconds(usage.system_us)
            ),
        );
        facts.add(
            "peak memory",
            format!("{} KiB", usage.peak_memory_bytes / 1024),
        );
        // Of what never ran there is nothing to measure.
        if record.started_at.is_some() {
            add_measured(&mut facts, &resources.measured.unwrap_or_default());
        }
        facts.add(
            "output",
            format!(
                "{} bytes to stdout, {} to stderr",
                output.stdout_bytes, output.stderr_bytes
            ),
        );
        if output.dropped_bytes > 0 {
            facts.add(
                "dropped",
                format!("{}, not in the log", count(output.dropped_bytes, "byte")),
            );
        }
        if outcome.leftovers != Leftovers::None {
            facts.add("leftovers", outcome.leftovers.name());
        }
    }
    facts.add_escaped("log", &escape::bytes(&record.log_path));
    facts.finish()
}

fn add_measured(facts: &mut Facts, measured: &Measurements) {
    facts.add_some("read", measured.io_read_bytes.map(size));
    facts.add_some("written", measured.io_written_bytes.map(size));
    facts.add_some("peak tasks", measured.peak_tasks);
    let kills = measured.oom_kills.filter(|kills| *kills > 0);
    let killed = kills.map(|kills| format!("{kills} killed for want of memory"));
    facts.add_some("processes", killed);
    let lacking: Vec<&str> = resources::not_measured(measured)
        .map(|figure| figure.name)
        .collect();
    facts.add_some(
        "not measured",
        (!lacking.is_empty()).then(|| lacking.join(", ")),
    );
}

/// About escherd, one fact per line.
pub(crate) fn info(info: &DaemonInfo, welcome: &Welcome) -> String {
    let time_limit = |ms| match ms {
        0 => "none".to_owned(),
        ms => time::duration(Duration::from_millis(ms)),
    };
    let mut facts = Facts::default();
    facts.add("version", &info.version);
    facts.add("protocol", welcome.version);
    facts.add("instance", info.instance);
    facts.add("pid", info.pid);
    facts.add_some("launcher pid", info.launcher_pid);
    facts.add("started", time::rfc3339(info.started_at));
    facts.add(
        "serves",
        if info.serves_all_users {
            "all users".to_owned()
        } else {
            format!("its own user (uid {}) alone", info.uid)
        },
    );
    facts.add(
        "pending",
        format!(
            "{} of at most {}",
            info.pending, info.max_pending_executions
        ),
    );
    facts.add(
        "running",
        format!(
            "{} of at most {}",
            info.running, info.max_concurrent_executions
        ),
    );
    facts.add("finished", info.finished);
    facts.add("timeout", time_limit(info.default_timeout_ms));
    facts.add("longest timeout", time_limit(info.max_timeout_ms));
    facts.add(
        "result limit",
        format!("{} bytes per output", info.max_output_size_bytes),
    );
    facts.add_escaped("log dir", &escape::bytes(&info.log_dir));
    facts.add_escaped("state dir", &escape::bytes(&info.state_dir));
    facts.finish()
}

/// An event, one line.
pub(crate) fn event(event: &Event) -> String {
    let detail = match &event.kind {
        EventKind::Finished(status) => format!(" {status}"),
        EventKind::CancelRequested(by) => format!(" by {by}"),
        EventKind::Submitted | EventKind::Started => String::new(),
    };
    let name = event
        .name
        .as_deref()
        .map_or_else(String::new, |name| format!(" {name}"));
    let line = format!(
        "{} {} {} {}{name} {}{detail}",
        time::rfc3339(event.time),
        event.number,
        event.id,
        event.user,
        event.kind.name(),
    );
    escape::text(&line) + "\n"
}

/// What came of a cancel, one line.
pub(crate) fn cancel(reference: &str, outcome: CancelOutcome) -> String {
    let outcome = match outcome {
        CancelOutcome::Withdrawn => "withdrawn before it started".to_owned(),
        CancelOutcome::Ending => "ending".to_owned(),
        CancelOutcome::AlreadyEnding => "ending already".to_owned(),
        CancelOutcome::AlreadyFinished(status) => format!("finished already ({status})"),
    };
    format!("{}: {outcome}\n", escape::text(reference))
}

/// That an execution stands still, or goes on; one line.
pub(crate) fn paused(reference: &str, paused: bool) -> String {
    let now = if paused { "paused" } else { "goes on" };
    format!("{}: {now}\n", escape::text(reference))
}

fn exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("status {code}"),
        Exit::Signal {
            signal,
            core_dumped,
        } => {
            let dumped = if core_dumped { ", core dumped" } else { "" };
            format!("{}{dumped}", signal_name(signal))
        }
        Exit::NotStarted { stage, .. } => format!("not started (at {})", stage.name()),
        Exit::Withdrawn => "withdrawn before it started".to_owned(),
        Exit::Unknown => "unknown".to_owned(),
    }
}

/// Names and values below each other.
#[derive(Default)]
struct Facts {
    lines: Vec<(&'static str, String)>,
}

impl Facts {
    fn add(&mut self, name: &'static str, value: impl ToString) {
        self.add_escaped(name, &escape::text(&value.to_string()));
    }

    fn add_some(&mut self, name: &'static str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    fn add_escaped(&mut self, name: &'static str, value: &str) {
        self.lines.push((name, value.to_owned()));
    }

    fn finish(self) -> String {
        let width = self
            .lines
            .iter()
            .map(|line| line.0.len())
            .max()
            .unwrap_or(0)
            + 1;
        let mut shown = String::new();
        for (name, value) in self.lines {
            // Writing to a String does not fail.
            let _ = writeln!(shown, "{:width$} {value}", format!("{name}:"));
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;
    use escher_client::ApiError;

    #[test]
    fn a_verdict_is_given_only_where_escher_ended_it() {
        let verdict_of = |status, exit, code, message: &str, signal| {
            let error = Some(ApiError::new(code, message));
            verdict(&sample::finished(status, exit, error, signal))
        };
        let killed = Exit::Signal {
            signal: 9,
            core_dumped: false,
        };
        assert_eq!(
            verdict_of(
                Status::Failed,
                Exit::Code(7),
                ErrorCode::EXIT_STATUS,
                "",
                None
            ),
            None
        );
        assert_eq!(
            verdict_of(Status::Failed, killed, ErrorCode::SIGNALLED, "", None),
            None
        );
        assert_eq!(
            verdict_of(Status::Timeout, killed, ErrorCode::TIMED_OUT, "", Some(9)).as_deref(),
            Some("timed out after 5.0s (SIGKILL)")
        );
        assert_eq!(
            verdict_of(
                Status::Cancelled,
                killed,
                ErrorCode::CANCELLED,
                "",
                Some(15)
            )
            .as_deref(),
            Some("cancelled by alice (SIGTERM)")
        );
        let exit = Exit::NotStarted {
            stage: escher_client::protocol::StartStage::Exec,
            errno: 2,
        };
        assert_eq!(
            verdict_of(
                Status::Failed,
                exit,
                ErrorCode::PROGRAM_NOT_FOUND,
                "no x",
                None
            )
            .as_deref(),
            Some("no x")
        );
    }

    #[test]
    fn a_full_log_is_told_of() {
        let error = ApiError::new(ErrorCode::LOG_FULL, "no space left on device");
        let killed = Exit::Signal {
            signal: 15,
            core_dumped: false,
        };
        let mut record = sample::finished(Status::Failed, killed, Some(error), Some(15));
        assert_eq!(
            verdict(&record).as_deref(),
            Some("ended for a full log: no space left on device (SIGTERM)")
        );
        assert_eq!(lacking(&record), None);
        if let Some(outcome) = &mut record.outcome {
            outcome.output.dropped_bytes = 1;
        }
        assert!(
            lacking(&record)
                .unwrap()
                .starts_with("the log lacks 1 byte of")
        );
        let shown = inspect(&record, record.submitted_at);
        assert!(shown.contains("1 byte, not in the log"), "{shown}");
    }

    #[test]
    fn an_end_for_want_of_memory_is_told_of() {
        let error = ApiError::new(
            ErrorCode::OOM_KILLED,
            "the kernel has killed a process of it",
        );
        let record = sample::finished(Status::Failed, Exit::Code(1), Some(error), None);
        assert_eq!(
            verdict(&record).as_deref(),
            Some("out of memory: the kernel has killed a process of it")
        );
    }

    #[test]
    fn what_may_be_used_was_used_and_was_not_measured_is_shown() {
        let mut record = sample::finished(Status::Completed, Exit::Code(0), None, None);
        let shown = |record: &ExecutionRecord| {
            let shown = inspect(record, record.submitted_at);
            let words = shown.split_ascii_whitespace().collect::<Vec<_>>();
            words.join(" ")
        };
        assert!(!shown(&record).contains("limits"));
        record.resources = sample::resources();
        let measured = shown(&record);
        for fact in [
            "limits: MemoryMax=64M CPUQuota=150%",
            "read: 4.0 KiB written: 0 bytes",
            "not measured: peak tasks",
        ] {
            assert!(measured.contains(fact), "{measured}");
        }
        record.resources.measured = None;
        let nothing = "not measured: bytes read, bytes written, peak tasks, processes killed";
        assert!(shown(&record).contains(nothing));
        let mut running = sample::running();
        running.resources.paused = true;
        assert!(shown(&running).contains("status: running paused: yes"));
    }

    #[test]
    fn sizes_are_in_the_largest_unit_of_which_there_is_one() {
        let shown = |executions, log_bytes| {
            removed(Removed {
                executions,
                log_bytes,
            })
        };
        assert_eq!(shown(0, 0), "removed 0 executions, 0 bytes of logs\n");
        assert_eq!(shown(1, 1), "removed 1 execution, 1 byte of logs\n");
        for (bytes, expected) in [
            (1_023, "1023 bytes"),
            (1_024, "1.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1_048_576, "1.0 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn a_reload_tells_of_each_setting_that_has_changed() {
        let mut settings = Reloaded::default();
        assert_eq!(reloaded(&settings), "nothing has changed\n");
        settings.need_restart = vec!["daemon.socket_mode".into()];
        settings.applied = vec!["execution.max_timeout_ms".into()];
        assert_eq!(
            reloaded(&settings),
            "execution.max_timeout_ms: applied\n\
             daemon.socket_mode: waits for a restart of escherd\n"
        );
    }

    #[test]
    fn what_a_user_chose_is_escaped_in_facts() {
        let mut record = sample::running();
        record.key = Some("k\x1b]0;".into());
        record.working_dir = b"/a\nb\xff"[..].into();
        let shown = inspect(&record, record.submitted_at);
        assert!(
            shown.contains(r"k\x1b]0;") && shown.contains(r"/a\nb\xff"),
            "{shown}"
        );
        assert!(shown.lines().all(|line| line.contains(": ")), "{shown}");
    }
}
