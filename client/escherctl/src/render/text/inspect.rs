//! The details of an execution.

use std::time::Duration;

use escher_client::protocol::{Leftovers, Usage, missing_measurements};
use escher_client::{
    ApiError, CurrentUsage, ExecutionRecord, Measurements, ResourceLimits, SentSignal,
};

use super::end_reason::{end_reason, exit, signal_name};
use super::fields::Fields;
use super::wait_reason::wait_reason;
use crate::render::quantity::{count, size};
use crate::render::running_time::running_time;
use crate::render::view::View;
use crate::render::{escape, resource_usage};
use crate::time::{self, Zone};

/// Returns one line per fact. `usage_now`: what a running execution uses at the moment, or why that is not known.
/// `is_log_closed`: whether this user may not read the log.
pub(crate) fn inspect(
    record: &ExecutionRecord,
    usage_now: Option<&Result<CurrentUsage, ApiError>>,
    view: &View,
    is_log_closed: bool,
) -> String {
    let now = view.now;
    let at = |time| time::shown_with_age(time, &view.zone, now);
    let resources = &record.resources;
    let argv = record.command.to_argv();
    let mut fields = Fields::default();
    fields.add("id", record.id);
    fields.add("number", record.number);
    fields.add_some("name", record.name.as_ref());
    fields.add_some("key", record.key.as_ref());
    fields.add("status", record.status);
    fields.add_some("waits for", record.waits_for.map(wait_reason));
    fields.add_some("paused", resources.paused.then_some("yes"));
    fields.add_some(
        "exit",
        record.outcome.as_ref().map(|outcome| exit(outcome.exit)),
    );
    fields.add_some("end reason", end_reason(record));
    let mut command = escape::command_line(argv.iter().map(|word| &word[..]));
    if record.command_cut {
        command.push(' ');
        command.push_str(view.style.ellipsis());
    }
    fields.add_escaped("command", &command);
    fields.add_escaped("working dir", &escape::bytes(&record.working_dir));
    fields.add("user", &record.user);
    if record.submitted_by != record.user {
        fields.add("submitted by", &record.submitted_by);
    }
    for (key, value) in &record.labels {
        fields.add("label", format!("{key}={value}"));
    }
    fields.add("submitted", at(record.submitted_at));
    fields.add_some("started", record.started_at.map(at));
    fields.add_some("completed", record.completed_at.map(at));
    let set_back = "was set back meanwhile, so the times are out of order";
    fields.add_some("clock", record.was_clock_set_back().then_some(set_back));
    fields.add_some("duration", running_time(record, now).map(time::duration));
    let timeout = |ms| time::duration(Duration::from_millis(ms));
    fields.add(
        "timeout",
        record.timeout_ms.map_or_else(|| "none".to_owned(), timeout),
    );
    fields.add_some("limits", resource_usage::limits(resources));
    fields.add_some("pid", record.pid);
    match usage_now {
        Some(Ok(usage)) => add_usage_now(&mut fields, usage, &resources.limits),
        Some(Err(error)) => fields.add("usage now", format!("not known: {}", error.message)),
        None => {}
    }
    fields.add_some("cancelled by", record.cancelled_by.as_ref());
    for sent in &record.signals {
        fields.add("signal", sent_signal(sent, &view.zone));
    }
    if let Some(outcome) = &record.outcome {
        let (usage, output) = (outcome.usage, outcome.output);
        let seconds = |micros| time::duration(Duration::from_micros(micros));
        fields.add(
            "cpu",
            format!(
                "{} user, {} system",
                seconds(usage.user_us),
                seconds(usage.system_us)
            ),
        );
        fields.add_some(
            "peak memory",
            missing_measurements::peak_memory(&usage).map(size),
        );
        // A command that never ran has no measurements.
        if record.started_at.is_some() {
            let measured = resources.measured.unwrap_or_default();
            add_measured(&mut fields, &usage, &measured);
        }
        fields.add(
            "output",
            format!(
                "{} stdout, {} stderr",
                size(output.stdout_bytes),
                size(output.stderr_bytes)
            ),
        );
        if output.dropped_bytes > 0 {
            let bytes = count(output.dropped_bytes, "byte");
            fields.add("dropped", format!("{bytes}, missing from the log"));
        }
        if output.forgotten_bytes > 0 {
            let bytes = size(output.forgotten_bytes);
            fields.add("forgotten", format!("the first {bytes} of the log"));
        }
        if outcome.leftovers != Leftovers::None {
            fields.add("leftovers", outcome.leftovers.name());
        }
    }
    fields.add_escaped("log", &escape::bytes(&record.log_path));
    let closed = "this user may not read the file; `escherctl logs` shows the output";
    fields.add_some("log access", is_log_closed.then_some(closed));
    let removed = "the log was removed by the limits of the history";
    fields.add_some("output removed", record.log_removed.then_some(removed));
    fields.finish()
}

/// Which signal somebody has sent, and how often.
fn sent_signal(sent: &SentSignal, zone: &Zone) -> String {
    let (name, by) = (signal_name(sent.signal), &sent.by);
    let at = time::shown(sent.last_at, zone);
    match sent.times {
        1 => format!("{name} by {by} at {at}"),
        times => format!("{name} by {by}, {times} times, the last at {at}"),
    }
}

/// Adds each figure with its limits.
fn add_usage_now(fields: &mut Fields, usage: &CurrentUsage, limits: &ResourceLimits) {
    let seconds = |micros| time::duration(Duration::from_micros(micros));
    let with = |figure: String, limits: Option<String>| match limits {
        Some(limits) => format!("{figure} ({limits})"),
        None => figure,
    };
    let memory = usage.memory_bytes.map(size);
    let memory = memory.map(|memory| with(memory, resource_usage::memory_limits(limits)));
    fields.add_some("memory now", memory);
    let tasks = usage.tasks.map(|tasks| tasks.to_string());
    let tasks = tasks.map(|tasks| with(tasks, resource_usage::task_limits(limits)));
    fields.add_some("tasks now", tasks);
    if let (Some(user), Some(system)) = (usage.user_us, usage.system_us) {
        let cpu = format!("{} user, {} system", seconds(user), seconds(system));
        fields.add("cpu so far", with(cpu, resource_usage::cpu_limits(limits)));
    }
    let io = |bytes| with(size(bytes), resource_usage::io_limits(limits));
    fields.add_some("read so far", usage.io_read_bytes.map(io));
    fields.add_some("written so far", usage.io_written_bytes.map(io));
    let missing: Vec<&str> = missing_measurements::not_measured_now(usage)
        .map(|measurement| measurement.name)
        .collect();
    let missing = (!missing.is_empty()).then(|| missing.join(", "));
    fields.add_some("not measured", missing);
}

fn add_measured(fields: &mut Fields, usage: &Usage, measured: &Measurements) {
    fields.add_some("read", measured.io_read_bytes.map(size));
    fields.add_some("written", measured.io_written_bytes.map(size));
    fields.add_some("peak tasks", measured.peak_tasks);
    fields.add_some("OOM kills", measured.oom_kills.filter(|kills| *kills > 0));
    let missing: Vec<&str> = missing_measurements::not_measured(usage, measured)
        .map(|measurement| measurement.name)
        .collect();
    fields.add_some(
        "not measured",
        (!missing.is_empty()).then(|| missing.join(", ")),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_client::protocol::{Exit, User};
    use escher_client::{Status, Timestamp};
    use escher_tests::samples;

    fn completed() -> ExecutionRecord {
        samples::finished_execution(Status::Completed, Exit::Code(0), None, None)
    }

    #[test]
    fn says_that_the_clock_was_set_and_what_a_pending_execution_waits_for() {
        let record = completed();
        let shown = |record: &ExecutionRecord| {
            inspect(record, None, &View::plain(record.submitted_at), false)
        };
        assert!(!shown(&record).contains("clock"));
        let ended_before = ExecutionRecord {
            submitted_at: Timestamp::from_micros(2),
            started_at: Some(Timestamp::from_micros(3)),
            completed_at: Some(Timestamp::from_micros(1)),
            ..record.clone()
        };
        assert!(shown(&ended_before).contains("was set back meanwhile"));
        let waiting = ExecutionRecord {
            status: Status::Pending,
            waits_for: Some(escher_client::WaitReason::Launcher),
            ..record
        };
        assert!(shown(&waiting).contains("escherd has no launcher"));
    }

    #[test]
    fn shows_limits_usage_and_what_was_not_measured() {
        let shown = |record: &ExecutionRecord| {
            let shown = inspect(record, None, &View::plain(record.submitted_at), false);
            let words = shown.split_ascii_whitespace().collect::<Vec<_>>();
            words.join(" ")
        };
        let mut record = completed();
        assert!(!shown(&record).contains("limits"));
        record.resources = samples::measured_resources();
        let measured = shown(&record);
        for field in [
            "limits: MemoryMax=64M CPUQuota=150%",
            "read: 4.0 KiB written: 0 bytes",
            "not measured: peak tasks",
        ] {
            assert!(measured.contains(field), "{measured}");
        }
        record.resources.measured = None;
        let nothing = "not measured: bytes read, bytes written, peak tasks, OOM kills";
        assert!(shown(&record).contains(nothing));
        if let Some(outcome) = &mut record.outcome {
            outcome.usage.peak_memory_bytes = 0;
        }
        assert!(shown(&record).contains("not measured: peak memory, bytes read"));
        let mut running = samples::running_execution();
        running.resources.paused = true;
        assert!(shown(&running).contains("status: running paused: yes"));
    }

    #[test]
    fn shows_what_a_running_command_uses_beside_its_limits() {
        let mut running = samples::running_execution();
        running.resources.limits = ResourceLimits {
            memory_max: Some(64 << 20),
            memory_high: Some(48 << 20),
            cpu_quota: Some(150),
            tasks_max: Some(100),
            ..ResourceLimits::default()
        };
        let shown = |usage: Result<CurrentUsage, ApiError>| {
            let shown = inspect(
                &running,
                Some(&usage),
                &View::plain(running.submitted_at),
                false,
            );
            let words = shown.split_ascii_whitespace().collect::<Vec<_>>();
            words.join(" ")
        };
        let usage = CurrentUsage {
            memory_bytes: Some(12 << 20),
            tasks: Some(3),
            user_us: Some(1_500_000),
            system_us: Some(0),
            io_read_bytes: Some(4096),
            io_written_bytes: None,
        };
        let measured = shown(Ok(usage));
        for field in [
            "memory now: 12.0 MiB (MemoryMax=64M MemoryHigh=48M) tasks now: 3 (TasksMax=100)",
            "cpu so far: 1.5s user, 0s system (CPUQuota=150%) read so far: 4.0 KiB",
            "not measured: bytes written",
        ] {
            assert!(measured.contains(field), "{measured}");
        }
        let nothing = shown(Ok(CurrentUsage::default()));
        let all = "not measured: memory, tasks, CPU time in user mode, CPU time in the kernel, \
                   bytes read, bytes written";
        assert!(nothing.contains(all), "{nothing}");
        let error = ApiError::new(escher_client::ErrorCode::OVERLOADED, "no answer");
        let unknown = shown(Err(error));
        assert!(
            unknown.contains("usage now: not known: no answer"),
            "{unknown}"
        );
    }

    #[test]
    fn shows_how_many_bytes_the_log_lacks() {
        let mut record = completed();
        if let Some(outcome) = &mut record.outcome {
            outcome.output.dropped_bytes = 1;
            outcome.output.forgotten_bytes = 2048;
        }
        let shown = inspect(&record, None, &View::plain(record.submitted_at), false);
        assert!(shown.contains("1 byte, missing from the log"), "{shown}");
        assert!(shown.contains("the first 2.0 KiB of the log"), "{shown}");
    }

    #[test]
    fn shows_who_sent_which_signals() {
        let mut record = completed();
        let ada = User {
            uid: 7,
            name: Some("ada".into()),
        };
        let sent_at = record.submitted_at;
        record.signals.add(12, ada.clone(), sent_at);
        record.signals.add(2, ada.clone(), sent_at);
        record.signals.add(2, ada, sent_at);
        let shown = inspect(&record, None, &View::plain(sent_at), false);
        for signals in [
            "SIGUSR2 by ada at 2023-11-14 22:13:20Z\n",
            "SIGINT by ada, 2 times, the last at 2023-11-14 22:13:20Z\n",
        ] {
            assert!(shown.contains(signals), "{shown}");
        }
    }

    #[test]
    fn says_where_the_log_is_closed_to_the_user() {
        let record = completed();
        let shown = |is_log_closed| {
            inspect(
                &record,
                None,
                &View::plain(record.submitted_at),
                is_log_closed,
            )
        };
        assert!(!shown(false).contains("log access"));
        assert!(shown(true).contains("log access: "));
    }

    #[test]
    fn escapes_what_a_user_can_choose() {
        let mut record = samples::running_execution();
        record.key = Some("k\x1b]0;".into());
        record.working_dir = b"/a\nb\xff"[..].into();
        let shown = inspect(&record, None, &View::plain(record.submitted_at), false);
        assert!(
            shown.contains(r"k\x1b]0;") && shown.contains(r"/a\nb\xff"),
            "{shown}"
        );
        assert!(shown.lines().all(|line| line.contains(": ")), "{shown}");
    }
}
