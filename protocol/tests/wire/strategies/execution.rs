//! Requests and records of executions.

use escher_protocol::{
    Command, ExecutionRecord, ExecutionRequest, Exit, KillMode, Leftovers, Measurements, Outcome,
    OutputTotals, ProcessLimits, ResourceLimits, Resources, Rlimit, RlimitResource, RunAs,
    StartStage, Timeout, Usage,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::values::{
    api_error, blob, canceller, execution_id, labels, number, number32, parts, sent_signals,
    signed, status, stdin_lost, stdin_mode, text, timestamp, user, wait_reason,
};

pub(super) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        vec(blob(), 0..4).prop_map(|argv| Command::Exec { argv }),
        (blob(), option::of(blob())).prop_map(|(text, shell)| Command::Shell { text, shell }),
        (blob(), option::of(blob()), vec(blob(), 0..3)).prop_map(
            |(path, interpreter, arguments)| Command::Script {
                path,
                interpreter,
                arguments
            }
        ),
    ]
}

pub(super) fn run_as() -> impl Strategy<Value = RunAs> {
    prop_oneof![
        Just(RunAs::Caller),
        text().prop_map(RunAs::Name),
        number32().prop_map(RunAs::Uid),
    ]
}

fn timeout() -> impl Strategy<Value = Timeout> {
    prop_oneof![
        Just(Timeout::Default),
        number().prop_map(|ms| Timeout::After { ms }),
        Just(Timeout::Unlimited),
    ]
}

fn kill_mode() -> impl Strategy<Value = KillMode> {
    select(KillMode::TABLE.map(|(mode, _)| mode).to_vec())
}

prop_compose! {
    pub(super) fn execution_request()(
        (key, name) in (option::of(text()), option::of(text())),
        command in command().boxed(),
        (inherited, environment) in (vec((blob(), blob()), 0..3), vec((blob(), blob()), 0..3)),
        umask in option::of(number32()),
        working_dir in option::of(blob()),
        run_as in run_as(),
        (stdin, stdin_lost, merges_output) in (stdin_mode(), stdin_lost(), any::<bool>()),
        (timeout, kill_grace_ms) in (timeout(), option::of(number())),
        (drain_ms, kill_mode) in (option::of(number()), kill_mode()),
        (limits, process) in (resource_limits(), process_limits()),
        (labels, parts) in (labels(), parts()),
    ) -> ExecutionRequest {
        ExecutionRequest {
            key, name, command, inherited, environment, umask, working_dir, run_as, stdin,
            merges_output, stdin_lost, timeout, kill_grace_ms, drain_ms, kill_mode, limits, process,
            labels, parts,
        }
    }
}

prop_compose! {
    pub(super) fn execution_record()(
        (id, number) in (execution_id(), number()),
        (name, key) in (option::of(text()), option::of(text())),
        (status, waits_for) in (status(), option::of(wait_reason())),
        (user, submitted_by) in (user(), user()),
        (command, command_cut) in (command().boxed(), any::<bool>()),
        (working_dir, log_path, log_removed) in (blob(), blob(), any::<bool>()),
        (stdin, resources) in (stdin_mode(), resources()),
        (labels, parts) in (labels(), parts()),
        (timeout_ms, kill_grace_ms) in (option::of(number()), number()),
        (drain_ms, kill_mode) in (number(), kill_mode()),
        submitted_at in timestamp(),
        (started_at, completed_at) in (option::of(timestamp()), option::of(timestamp())),
        (pid, cancelled_by, signals, outcome) in (
            option::of(number32()), option::of(canceller()), sent_signals(),
            option::of(outcome().boxed()),
        ),
    ) -> ExecutionRecord {
        ExecutionRecord {
            id, number, name, key, status, waits_for, user, submitted_by, command, command_cut,
            working_dir, stdin, labels, timeout_ms, kill_grace_ms, drain_ms, kill_mode, submitted_at,
            started_at, completed_at, pid, cancelled_by, signals, log_path, log_removed, outcome,
            resources, parts,
        }
    }
}

prop_compose! {
    fn resource_limits()(
        (memory_max, memory_high) in (option::of(number()), option::of(number())),
        (cpu_quota, cpu_weight) in (option::of(number32()), option::of(number32())),
        io_weight in option::of(number32()),
        tasks_max in option::of(number()),
    ) -> ResourceLimits {
        ResourceLimits { memory_max, memory_high, cpu_quota, cpu_weight, io_weight, tasks_max }
    }
}

prop_compose! {
    fn process_limits()(
        (nice, oom_score_adjust) in (option::of(signed()), option::of(signed())),
        rlimits in vec(rlimit(), 0..3),
    ) -> ProcessLimits {
        ProcessLimits { nice, oom_score_adjust, rlimits }
    }
}

prop_compose! {
    fn rlimit()(
        resource in select(RlimitResource::TABLE.map(|(resource, _)| resource).to_vec()),
        (soft, hard) in (number(), number()),
    ) -> Rlimit {
        Rlimit { resource, soft, hard }
    }
}

prop_compose! {
    fn resources()(
        (limits, process) in (resource_limits(), process_limits()),
        paused in any::<bool>(),
        measured in option::of(measurements()),
    ) -> Resources {
        Resources { limits, process, paused, measured }
    }
}

prop_compose! {
    fn measurements()(
        (user_us, system_us) in (option::of(number()), option::of(number())),
        (peak_memory_bytes, oom_kills) in (option::of(number()), option::of(number())),
        (io_read_bytes, io_written_bytes) in (option::of(number()), option::of(number())),
        peak_tasks in option::of(number()),
    ) -> Measurements {
        Measurements {
            user_us, system_us, peak_memory_bytes, io_read_bytes, io_written_bytes, peak_tasks,
            oom_kills,
        }
    }
}

prop_compose! {
    fn outcome()(
        exit in exit(),
        error in option::of(api_error()),
        ended_by_signal in option::of(signed()),
        (duration_us, user_us, system_us, peak_memory_bytes) in
            (number(), number(), number(), number()),
        (stdout_bytes, stderr_bytes, log_bytes, dropped_bytes, forgotten_bytes, reserved_bytes) in
            (number(), number(), number(), number(), number(), number()),
        leftovers in leftovers(),
    ) -> Outcome {
        Outcome {
            exit, error, ended_by_signal, duration_us, leftovers,
            usage: Usage { user_us, system_us, peak_memory_bytes },
            output: OutputTotals {
                stdout_bytes, stderr_bytes, log_bytes, dropped_bytes, forgotten_bytes,
                reserved_bytes,
            },
        }
    }
}

fn exit() -> impl Strategy<Value = Exit> {
    prop_oneof![
        signed().prop_map(Exit::Code),
        (signed(), any::<bool>()).prop_map(|(signal, core_dumped)| Exit::Signal {
            signal,
            core_dumped
        }),
        (0..StartStage::TABLE.len(), signed()).prop_map(|(row, errno)| Exit::NotStarted {
            stage: StartStage::TABLE[row].0,
            errno,
        }),
        Just(Exit::Withdrawn),
        Just(Exit::Unknown),
    ]
}

fn leftovers() -> impl Strategy<Value = Leftovers> {
    prop_oneof![
        Just(Leftovers::None),
        Just(Leftovers::Killed),
        Just(Leftovers::Unkillable),
        Just(Leftovers::Unknown),
        Just(Leftovers::Left),
    ]
}
